"""The rows of the tables of molecules: what predicts, and what it sees of a molecule."""

from typing import Any, Literal, NamedTuple

from flax import nnx
from graph_network import EdgeUpdate, NodeUpdate
from jraph import GraphsTuple

from gatjax import (
    GAT,
    GPS,
    MAT,
    EncodeProcessDecode,
    GATv2,
    GraphIndependent,
    GraphNetwork,
    GraphReadout,
    RowMLP,
    Stack,
    add_self_loops,
)
from gatjax.data import bond_graph

Kind = Literal["transformer", "bonds", "forest", "mean"]


class Row(NamedTuple):
    """One row: its title, what kind of predictor it is, and in what it differs from the others of its kind."""

    title: str
    kind: Kind
    options: dict[str, Any] = {}


ROWS: dict[str, Row] = {
    "mat": Row("MAT", "transformer"),
    "no-dummy": Row("MAT, no dummy node", "transformer", {"dummy": False}),
    "no-graph": Row("MAT, no graph", "transformer", {"weights": (0.5, 0.5, 0.0)}),
    "no-distance": Row("MAT, no distance", "transformer", {"weights": (0.5, 0.0, 0.5)}),
    "no-attention": Row("MAT, no attention", "transformer", {"weights": (0.0, 0.5, 0.5)}),
    "attention-only": Row("MAT, attention only", "transformer", {"weights": (1.0, 0.0, 0.0)}),
    "gat": Row("GAT on bonds", "bonds", {"model": "gat"}),
    "gatv2": Row("GATv2 on bonds", "bonds", {"model": "gatv2"}),
    "graph-network": Row("graph network on bonds", "bonds", {"model": "graph-network"}),
    "gps": Row("GPS: GAT on bonds, attention to all atoms", "bonds", {"model": "gps"}),
    "forest": Row("random forest, descriptors", "forest", {"features": "descriptors"}),
    "morgan-forest": Row("random forest, Morgan counts", "forest", {"features": "morgan"}),
    "mean": Row("mean of the training set", "mean"),
}
RowName = Literal[
    "mat",
    "no-dummy",
    "no-graph",
    "no-distance",
    "no-attention",
    "attention-only",
    "gat",
    "gatv2",
    "graph-network",
    "gps",
    "forest",
    "morgan-forest",
    "mean",
]


def is_trained(row: str) -> bool:
    return ROWS[row].kind in ("transformer", "bonds")


def wants_dummy(row: str) -> bool:
    return ROWS[row].options.get("dummy", True)


def seen_by(row: str, graph: GraphsTuple) -> GraphsTuple:
    """A molecule as the row sees it: all pairs of atoms, or the bonds with their features.

    Args:
        row: a trained one.
        graph: of `featurize`, with the features of bonds where the row sees bonds.
    """
    if ROWS[row].kind == "transformer":
        return graph
    bonds: Any = bond_graph(graph)
    bonds = bonds._replace(edges=bonds.edges["features"])
    if ROWS[row].options["model"] == "graph-network":
        return bonds
    return add_self_loops(bonds)


def build_model(row: str, like: Any, settings: Any, rngs: nnx.Rngs) -> nnx.Module:
    """A model of the row, for graphs that have features as wide as these, and no more nodes.

    Args:
        row: a trained one.
        like: the largest graph, as the row sees it.
        settings: with `hidden_features`, `num_layers` and `num_heads`, and of MAT `dense_layers`, `kernel`, `pool` and
            `dropout`.
        rngs: random keys.
    """
    width, options = settings.hidden_features, dict(ROWS[row].options)
    in_features = like.nodes.shape[1]
    sizes = {"num_layers": settings.num_layers, "num_heads": settings.num_heads}
    if ROWS[row].kind == "transformer":
        options.pop("dummy", None)
        return MAT(
            in_features,
            1,
            hidden_features=width,
            dense_layers=settings.dense_layers,
            kernel=settings.kernel,
            pool=settings.pool,
            dropout_rate=settings.dropout,
            **sizes,
            **options,
            rngs=rngs,
        )
    edge_features = like.edges.shape[1]
    if options["model"] == "graph-network":
        return _graph_network(in_features, edge_features, width, settings.num_layers, rngs)
    if options["model"] == "gps":
        bonds = {"edge_features": edge_features, "norm": "layer", "order": "pre"}
        largest = int(like.n_node[0])
        return GPS(
            in_features,
            1,
            hidden_features=width,
            max_nodes=largest,
            pool="mean",
            **bonds,
            **sizes,
            rngs=rngs,
        )
    model = {"gat": GAT, "gatv2": GATv2}[options["model"]]
    attend = model(
        in_features,
        width,
        hidden_features=width,
        edge_features=edge_features,
        norm=nnx.LayerNorm,
        residual="linear",
        out_heads=settings.num_heads,
        **sizes,
        rngs=rngs,
    )
    return Stack([attend, GraphReadout(width, 1, rngs=rngs)], activation=nnx.relu)


def _graph_network(
    in_features: int, edge_features: int, width: int, num_steps: int, rngs: nnx.Rngs
) -> EncodeProcessDecode:
    encoder = GraphIndependent(
        edges=RowMLP([edge_features, width, width], rngs=rngs),
        nodes=RowMLP([in_features, width, width], rngs=rngs),
    )
    core = GraphNetwork(
        EdgeUpdate(width, rngs=rngs), NodeUpdate(width, rngs=rngs), edges_to_nodes="sum"
    )
    readout = GraphReadout(width, 1, rngs=rngs)
    return EncodeProcessDecode(encoder, core, readout, num_steps=num_steps)
