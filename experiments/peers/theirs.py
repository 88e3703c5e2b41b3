"""The others' side of every line in `lines.py`, run with their libraries in float64."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jraph
import numpy as np

from peers.lines import Call, Layer, Library, our_names


def names(library: Library, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What their side of a line may name."""
    return {"pyg": _pyg, "dgl": _dgl, "jraph": _jraph}[library](arrays)


def call(line: Call, names: Mapping[str, Any]) -> np.ndarray:
    return _numpy(eval(line.theirs, dict(names)))


def module(line: Layer, names: Mapping[str, Any], seed: int) -> Any:
    """Their module with random weights, biases too."""
    import torch

    made = eval(line.theirs, dict(names)).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(drawn)
    return made


def output(line: Layer, names: Mapping[str, Any], module: Any) -> np.ndarray:
    return _numpy(eval(line.their_call, {**names, "layer": module}))


def state(module: Any) -> dict[str, np.ndarray]:
    return {name: _numpy(value) for name, value in module.state_dict().items()}


def _numpy(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _pyg(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    import torch
    from torch_geometric import nn, utils
    from torch_geometric.data import Batch, Data

    tensors = _tensors(arrays)
    x, edge_index = tensors["x"], tensors["edge_index"]
    data = Data(x=x, edge_index=edge_index)
    dense = lambda edge_index: utils.to_dense_adj(edge_index, max_num_nodes=11)[0]
    return {
        **vars(utils),
        **vars(nn),
        **tensors,
        "torch": torch,
        "ELU": torch.nn.ELU,
        "lonely_node": (torch.arange(11) == 10)[:, None],
        "Batch": Batch,
        "data": data,
        "two": Batch.from_data_list([data, data]),
        "xx": torch.cat([x, x]),
        "batch": torch.arange(2).repeat_interleave(11),
        "adjacency": dense,
    }


def _dgl(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    import dgl
    import torch

    tensors = _tensors(arrays)
    x = tensors["x"]
    g = dgl.graph(tuple(tensors["edge_index"]), num_nodes=11)
    return {
        **vars(dgl.nn),
        **tensors,
        "dgl": dgl,
        "torch": torch,
        "edge_softmax": dgl.nn.functional.edge_softmax,
        "g": g,
        "lonely_g": dgl.graph(tuple(tensors["lonely_index"]), num_nodes=11),
        "gs": dgl.heterograph({("sender", "edge", "receiver"): tuple(tensors["edge_index"])}),
        "gg": dgl.batch([g, g]),
        "both": dgl.to_bidirected(g),
        "xx": torch.cat([x, x]),
        "adjacency": lambda g: g.adj_external(scipy_fmt="coo").toarray(),
    }


def _jraph(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    ours = our_names(arrays)
    receiving, sending = jnp.asarray(arrays["vectors"])
    kernel = jnp.asarray(arrays["kernel6"])
    logit = lambda sent, received, edges: jax.nn.leaky_relu(
        (received * receiving + sent * sending).sum(-1, keepdims=True), 0.2
    )
    graph = ours["graph"]._replace(globals=None)
    return {
        "jraph": jraph,
        "graph": graph,
        "both": ours["both"],
        "pair": ours["pair"],
        "padded": jraph.pad_with_graphs(graph, 13, 40, 2),
        "logits": ours["logits"],
        "receivers": jnp.asarray(graph.receivers),
        "kernel": jnp.asarray(arrays["kernel"]),
        "query": lambda nodes: nodes @ kernel,
        "logit": logit,
    }
