"""Modules on disk: the constructor by its name, its arguments, and the variables of the module."""

import functools
import inspect
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gatjax.layers.dropout import DropoutRates
from gatjax.models.controls import GCN, MLP
from gatjax.models.gaan import GaAN
from gatjax.models.gat import GAT, ConstGAT, DotProductGAT, GATv2
from gatjax.models.han import HAN
from gatjax.models.hgt import HGT
from gatjax.models.mat import MAT
from gatjax.models.names import decode, encode, is_in, modules_in
from gatjax.models.polynormer import Polynormer
from gatjax.models.transformer import GPS, GraphTransformer
from gatjax.training.checkpoint import CheckpointError, Checkpoints
from gatjax.training.loop import Variables

MANIFEST, VARIABLES = "manifest.json", "parameters"

CONSTRUCTORS: dict[str, Callable[..., nnx.Module]] = {
    build.__name__: build
    for build in (
        *(GAT, GATv2, DotProductGAT, ConstGAT, GaAN, HAN, HGT, MAT),
        *(GraphTransformer, GPS, Polynormer, GCN, MLP),
    )
}


def save_model(
    folder: str | Path,
    constructor: str | Callable[..., nnx.Module],
    arguments: Mapping[str, Any],
    parameters: nnx.State | nnx.Module | Variables,
) -> None:
    """Write a model, or any NNX module, so that `load_model` rebuilds it, and read it back to be sure.

    The file holds the import path of the constructor, its arguments and all variables: no code, no pickle, no state of
    an optimizer.

    Args:
      folder: where; it must not hold a model yet.
      constructor: one of `CONSTRUCTORS` by its name, such as "GAT", or a class or a function, which must stand at the
        top of a module that can be imported. It is called as `constructor(**arguments, rngs=rngs)`, without `rngs` if
        it takes none.
      arguments: JSON values, dtypes, functions, classes, members of an enum, `functools.partial`, and tuples, mappings
        and dataclasses of these. For all else, such as modules, let a function of your own build the module.
      parameters: the module, or all its variables, `nnx.state(model)`; `nnx.state(model, nnx.Param)` will do where it
        has no others, such as the running statistics of a `BatchNorm`.

    Raises:
      ValueError: an unknown constructor, a folder in use, an argument that cannot be found again, or variables that are
        not those of the model. Nothing is written.
      CheckpointError: what was written reads otherwise. Nothing is left.
    """
    run = {
        "constructor": _name_of(constructor),
        "arguments": {name: encode(name, value) for name, value in arguments.items()},
    }
    folder = Path(folder).resolve()
    if (folder / MANIFEST).exists():
        raise ValueError(f"{folder} holds a model already: choose another folder, or delete it")
    modules = tuple(modules_in([run["constructor"], *run["arguments"].values()]))
    variables = _variables(parameters)
    _check_variables(variables, _variables(_build(run, modules)))

    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        checkpoints = Checkpoints(partial, run)
        checkpoints.save(VARIABLES, 0, nnx.to_pure_dict(variables), {})
        checkpoints.close()
        _check_same(variables, _variables(load_model(partial, modules=modules)), partial)
        folder.mkdir(parents=True, exist_ok=True)
        # The manifest comes last: without it there is no model.
        for name in (VARIABLES, MANIFEST):
            (partial / name).replace(folder / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_model(folder: str | Path, *, modules: Sequence[str] = ()) -> Any:
    """Read a model, or any NNX module, written by `save_model`, with its dropout switched off.

    Args:
      folder: where it is.
      modules: those that its constructor and functions may come from, besides the public ones of jax, flax and optax,
        and gatjax. To import a module is to run it.

    Returns:
      The module. Of a model, `model(graph).nodes` are the outputs for any graph with the width of features that it
      was trained on. The graph must have its self-loops, if those of training had.

    Raises:
      CheckpointError: no model there, a damaged one, or one that names another module.

    >>> import tempfile, jax.numpy as jnp
    >>> from gatjax.graph import build_graph
    >>> arguments = {"in_features": 3, "out_features": 2, "num_heads": 4, "activation": jax.nn.relu}
    >>> model = GAT(**arguments, rngs=nnx.Rngs(0))
    >>> folder = tempfile.mkdtemp()
    >>> save_model(folder, "GAT", arguments, model)
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> bool((load_model(folder)(graph).nodes == model(graph).nodes).all())
    True

    A module of one's own, or one of Flax:

    >>> mlp, folder = nnx.Linear(3, 2, rngs=nnx.Rngs(0)), tempfile.mkdtemp()
    >>> save_model(folder, nnx.Linear, {"in_features": 3, "out_features": 2}, mlp)
    >>> load_model(folder)(jnp.ones(3)).shape
    (2,)
    """
    path = Path(folder) / MANIFEST
    try:
        run = json.loads(path.read_text(encoding="utf-8"))["run"]
        known = {"constructor": run["constructor"], "arguments": dict(run["arguments"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is missing or damaged: there is no model to load") from error
    try:
        model = _build(known, modules)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} does not describe a model that can be built ({error}): there is no model to load"
        ) from error
    variables = _variables(model)
    checkpoints = Checkpoints(folder, run)
    stored = checkpoints.restore(VARIABLES, nnx.to_pure_dict(variables))
    checkpoints.close()
    if stored is None:
        raise CheckpointError(f"{folder} has no parameters: there is no model to load")
    nnx.replace_by_pure_dict(variables, jax.tree.map(jnp.asarray, stored[0]))
    nnx.update(model, variables)
    model.eval()
    return model


def _name_of(constructor: str | Callable[..., nnx.Module]) -> Any:
    """What the file holds: the name of one of `CONSTRUCTORS`, else the import path."""
    if isinstance(constructor, str) and constructor not in CONSTRUCTORS:
        raise ValueError(
            f"constructor must be one of {list(CONSTRUCTORS)}, or a class or function of your own, got {constructor!r}"
        )
    known = next((name for name, build in CONSTRUCTORS.items() if build is constructor), None)
    return known or encode("constructor", constructor)


def _build(run: Mapping[str, Any], modules: Sequence[str]) -> nnx.Module:
    """The module without its numbers, which would take seconds to draw; its random keys are new."""
    arguments = {name: decode(value, modules) for name, value in run["arguments"].items()}
    if isinstance(rates := arguments.get("dropout_rate"), list):
        arguments["dropout_rate"] = DropoutRates(*rates)
    constructor = _constructor(run["constructor"], modules)

    def build() -> nnx.Module:
        taken = inspect.signature(constructor).parameters.values()
        takes_rngs = any(each.name == "rngs" or each.kind is each.VAR_KEYWORD for each in taken)
        return constructor(**arguments, **({"rngs": nnx.Rngs(0)} if takes_rngs else {}))

    try:
        model = nnx.eval_shape(build)
        keys = jax.jit(lambda: nnx.state(build(), nnx.RngState))
        nnx.update(model, keys() if nnx.state(model, nnx.RngState) else {})
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError):
        # A constructor that looks at the numbers that it draws.
        model = build()
    return model


def _constructor(encoded: Any, modules: Sequence[str]) -> Callable[..., nnx.Module]:
    """Modules of the trusted libraries, and whatever the modules hold that the caller trusts."""
    if isinstance(encoded, str):
        return CONSTRUCTORS[encoded]
    constructor = decode(encoded, modules)
    called = constructor
    while isinstance(called, functools.partial):
        called = called.func
    is_module = isinstance(called, type) and issubclass(called, nnx.Module)
    named = modules_in(encoded)
    trusted = all(is_in(module, modules) for module in named)
    if not is_module and called not in CONSTRUCTORS.values() and not trusted:
        raise ValueError(
            f"{called!r} is no class of modules: if you trust it, pass modules={sorted(named)}"
        )
    return constructor


def _variables(model: nnx.State | nnx.Module | Variables) -> nnx.State:
    """All that a model is besides its arguments; random keys are made anew."""
    if isinstance(model, Variables):
        return nnx.merge_state(*model)
    state = nnx.state(model) if isinstance(model, nnx.Module) else model
    return nnx.filter_state(state, nnx.Not(nnx.RngState))


def _check_variables(given: nnx.State, needed: nnx.State) -> None:
    """Refuse variables that are not those of a model with these arguments."""
    given_arrays, needed_arrays = (
        {".".join(map(str, path)): _kind(leaf) for path, leaf in nnx.to_flat_state(state)}
        for state in (given, needed)
    )
    differences = [
        f"{name}: {given_arrays.get(name, 'absent')} given, {needed_arrays.get(name, 'absent')} needed"
        for name in sorted({*given_arrays, *needed_arrays})
        if given_arrays.get(name) != needed_arrays.get(name)
    ]
    if differences:
        raise ValueError(
            f"parameters are not those of a model with these arguments ({'; '.join(differences)}): pass the "
            "model itself, and the arguments that it was built with"
        )


def _kind(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}"


def _check_same(given: nnx.State, found: nnx.State, folder: Path) -> None:
    same = jax.tree.map(
        lambda one, other: np.asarray(one).tobytes() == np.asarray(other).tobytes(), given, found
    )
    if not all(jax.tree.leaves(same)):
        raise CheckpointError(
            f"{folder}: what was written reads otherwise; check the disk, or choose another folder"
        )
