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
from gatjax.graph.encodings import (
    degree_encoding,
    flip_signs,
    laplacian_encoding,
    random_walk_encoding,
    relative_random_walk,
    shortest_paths,
)
from gatjax.graph.halo import Halo
from gatjax.graph.ids import validate
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
from gatjax.graph.neighbors import Neighbors, neighbors_of
from gatjax.graph.paths import PathSize, Step, compose, meta_paths, path_size
from gatjax.graph.peers import Imported, from_dgl, from_pyg, to_dgl, to_pyg
from gatjax.graph.sample import Hops, Sampled, hop_sizes, sample_hops, sample_neighbors
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
from gatjax.graph.typed_batching import (
    TypedBudget,
    TypedMasks,
    batch_typed,
    pad_typed,
    typed_budget_for,
    unbatch_typed,
    unpad_typed,
)
from gatjax.graph.typed_convert import (
    from_typed_dgl,
    from_typed_networkx,
    from_typed_pyg,
    to_typed_dgl,
    to_typed_networkx,
    to_typed_pyg,
)
from gatjax.graph.typed_edit import add_reverses
from gatjax.graph.typed_sample import TypedHops, sample_typed_hops, typed_neighbors_of
from gatjax.graph.typed_tables import TypedImport, from_tables
from gatjax.graph.views import First, View
from gatjax.graph.virtual import (
    EDGE_TYPES,
    add_expander,
    add_virtual_nodes,
    connect_all,
    edge_types,
)
from gatjax.ops.pairs import Slots

__all__ = [
    "EDGE_TYPES",
    "Budget",
    "EdgeSplit",
    "EdgeTable",
    "First",
    "Halo",
    "Hops",
    "Imported",
    "Masks",
    "Merged",
    "Named",
    "NeighborTable",
    "Neighbors",
    "Pairs",
    "PathSize",
    "Relation",
    "Sampled",
    "Slots",
    "Step",
    "TypedBudget",
    "TypedGraph",
    "TypedHops",
    "TypedImport",
    "TypedMasks",
    "View",
    "add_expander",
    "add_reverses",
    "add_self_loops",
    "add_virtual_nodes",
    "batch",
    "batch_typed",
    "budget_for",
    "build_graph",
    "build_typed_graph",
    "check_complete",
    "coalesce",
    "compose",
    "connect_all",
    "count_nodes",
    "degree_encoding",
    "disjoint_copies",
    "edge_types",
    "find_relation",
    "flip_signs",
    "from_csv",
    "from_dgl",
    "from_named_csv",
    "from_networkx",
    "from_pyg",
    "from_scipy",
    "from_table",
    "from_tables",
    "from_typed_dgl",
    "from_typed_networkx",
    "from_typed_pyg",
    "fully_connected",
    "hop_sizes",
    "in_degree",
    "isolated_nodes",
    "laplacian_encoding",
    "masks_of",
    "merge_types",
    "meta_paths",
    "neighbor_table",
    "neighbors_of",
    "num_nodes",
    "number_names",
    "pad",
    "pad_batches",
    "pad_typed",
    "path_size",
    "random_walk_encoding",
    "relabel",
    "relation_graph",
    "relative_random_walk",
    "remove_self_loops",
    "sample_hops",
    "sample_negative_edges",
    "sample_neighbors",
    "sample_typed_hops",
    "shortest_paths",
    "sort_edges",
    "split_edges",
    "split_weights",
    "subgraph",
    "to_dgl",
    "to_networkx",
    "to_pyg",
    "to_scipy",
    "to_typed_dgl",
    "to_typed_networkx",
    "to_typed_pyg",
    "to_undirected",
    "typed_budget_for",
    "typed_neighbors_of",
    "unbatch",
    "unbatch_typed",
    "unpad",
    "unpad_typed",
    "validate",
    "validate_typed",
]
