"""GraphsTuple in, GraphsTuple out, on the host, before `jax.jit`."""

from gatjax.graph.batching import (
    Budget,
    Masks,
    batch,
    budget_for,
    masks_of,
    pad,
    pad_batches,
    unbatch,
    unpad,
)
from gatjax.graph.build import (
    build_graph,
    check_complete,
    fully_connected,
    in_degree,
    isolated_nodes,
)
from gatjax.graph.check import validate
from gatjax.graph.convert import from_networkx, from_scipy, to_networkx, to_scipy
from gatjax.graph.copies import disjoint_copies
from gatjax.graph.edge_lists import EdgeTable, from_csv, from_named_csv, from_table
from gatjax.graph.edit import (
    add_self_loops,
    coalesce,
    remove_self_loops,
    sort_edges,
    split_weights,
    to_undirected,
)
from gatjax.graph.links import (
    EdgeSplit,
    NeighborTable,
    Pairs,
    neighbor_table,
    sample_negative_edges,
    split_edges,
)
from gatjax.graph.merge import Merged, merge_types
from gatjax.graph.names import Named, number_names
from gatjax.graph.paths import PathSize, Step, compose, path_size
from gatjax.graph.peers import Imported, from_dgl, from_pyg, to_dgl, to_pyg
from gatjax.graph.sizes import num_nodes
from gatjax.graph.subgraph import relabel, subgraph
from gatjax.graph.typed import (
    Relation,
    TypedGraph,
    build_typed_graph,
    count_nodes,
    find_relation,
    relation_graph,
    validate_typed,
)
from gatjax.ops.pairs import Slots

__all__ = [
    "Budget",
    "EdgeSplit",
    "EdgeTable",
    "Imported",
    "Masks",
    "Merged",
    "Named",
    "NeighborTable",
    "Pairs",
    "PathSize",
    "Relation",
    "Slots",
    "Step",
    "TypedGraph",
    "add_self_loops",
    "batch",
    "budget_for",
    "build_graph",
    "build_typed_graph",
    "check_complete",
    "coalesce",
    "compose",
    "count_nodes",
    "disjoint_copies",
    "find_relation",
    "from_csv",
    "from_dgl",
    "from_named_csv",
    "from_networkx",
    "from_pyg",
    "from_scipy",
    "from_table",
    "fully_connected",
    "in_degree",
    "isolated_nodes",
    "masks_of",
    "merge_types",
    "neighbor_table",
    "num_nodes",
    "number_names",
    "pad",
    "pad_batches",
    "path_size",
    "relabel",
    "relation_graph",
    "remove_self_loops",
    "sample_negative_edges",
    "sort_edges",
    "split_edges",
    "split_weights",
    "subgraph",
    "to_dgl",
    "to_networkx",
    "to_pyg",
    "to_scipy",
    "to_undirected",
    "unbatch",
    "unpad",
    "validate",
    "validate_typed",
]
