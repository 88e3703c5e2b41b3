"""Trained models on disk: the constructor's name, its arguments and the parameters."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gatjax.layers.parts import DropoutRates
from gatjax.models.controls import GCN, MLP
from gatjax.models.gaan import GaAN
from gatjax.models.gat import GAT, ConstGAT, DotProductGAT, GATv2
from gatjax.models.stack import Stack
from gatjax.training.checkpoint import CheckpointError, Checkpoints

CONSTRUCTORS: dict[str, Callable[..., Stack]] = {
    build.__name__: build for build in (GAT, GATv2, DotProductGAT, ConstGAT, GaAN, GCN, MLP)
}


def save_model(
    folder: str | Path, constructor: str, arguments: Mapping[str, Any], parameters: nnx.State
) -> None:
    """Write a model so that `load_model` rebuilds it.

    Args:
      folder: where; it must not hold a model yet.
      constructor: one of `CONSTRUCTORS`, such as "GAT".
      arguments: its arguments, JSON values and `DropoutRates`, without `rngs`.
      parameters: `nnx.state(model, nnx.Param)`.

    Raises:
      ValueError: an unknown constructor, or a folder in use.
    """
    if constructor not in CONSTRUCTORS:
        raise ValueError(f"constructor must be one of {list(CONSTRUCTORS)}, got {constructor!r}")
    checkpoints = Checkpoints(folder, {"constructor": constructor, "arguments": dict(arguments)})
    if checkpoints.exist():
        raise ValueError(f"{folder} holds a model already: choose another folder, or delete it")
    checkpoints.save("parameters", 0, nnx.to_pure_dict(parameters), {})


def load_model(folder: str | Path) -> Stack:
    """Read a model written by `save_model`, with its dropout switched off.

    Args:
      folder: where it is.

    Returns:
      The model; `model(graph).nodes` are its outputs for any graph with the width of features that it
      was trained on. The graph must have its self-loops, if those of training had.

    Raises:
      CheckpointError: no model there, or a damaged one.

    >>> import tempfile, jax.numpy as jnp
    >>> from gatjax.graph import build_graph
    >>> arguments = {"in_features": 3, "out_features": 2, "num_heads": 4}
    >>> model = GAT(**arguments, rngs=nnx.Rngs(0))
    >>> folder = tempfile.mkdtemp()
    >>> save_model(folder, "GAT", arguments, nnx.state(model, nnx.Param))
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> bool((load_model(folder)(graph).nodes == model(graph).nodes).all())
    True
    """
    path = Path(folder) / "manifest.json"
    try:
        run = json.loads(path.read_text(encoding="utf-8"))["run"]
        build, arguments = CONSTRUCTORS[run["constructor"]], run["arguments"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is missing or damaged: there is no model to load") from error
    rates = arguments.get("dropout_rate", 0.0)
    rates = DropoutRates(*rates) if isinstance(rates, list) else rates
    model = build(**arguments | {"dropout_rate": rates}, rngs=nnx.Rngs(0))
    parameters = nnx.state(model, nnx.Param)
    stored = Checkpoints(folder, run).restore("parameters", nnx.to_pure_dict(parameters))
    if stored is None:
        raise CheckpointError(f"{folder} has no parameters: there is no model to load")
    nnx.replace_by_pure_dict(parameters, jax.tree.map(jnp.asarray, stored[0]))
    nnx.update(model, parameters)
    model.eval()
    return model
