"""GraphsTuple in, GraphsTuple out, on the host, before `jax.jit`."""

from gatjax.graph.batching import Budget as Budget
from gatjax.graph.batching import Masks as Masks
from gatjax.graph.batching import batch as batch
from gatjax.graph.batching import budget_for as budget_for
from gatjax.graph.batching import masks_of as masks_of
from gatjax.graph.batching import pad as pad
from gatjax.graph.batching import pad_batches as pad_batches
from gatjax.graph.batching import unbatch as unbatch
from gatjax.graph.batching import unpad as unpad
from gatjax.graph.build import build_graph as build_graph
from gatjax.graph.build import fully_connected as fully_connected
from gatjax.graph.build import in_degree as in_degree
from gatjax.graph.build import isolated_nodes as isolated_nodes
from gatjax.graph.check import validate as validate
from gatjax.graph.convert import from_csv as from_csv
from gatjax.graph.convert import from_networkx as from_networkx
from gatjax.graph.convert import from_scipy as from_scipy
from gatjax.graph.convert import to_networkx as to_networkx
from gatjax.graph.convert import to_scipy as to_scipy
from gatjax.graph.edit import add_self_loops as add_self_loops
from gatjax.graph.edit import coalesce as coalesce
from gatjax.graph.edit import remove_self_loops as remove_self_loops
from gatjax.graph.edit import sort_edges as sort_edges
from gatjax.graph.edit import to_undirected as to_undirected
from gatjax.graph.sizes import num_nodes as num_nodes
