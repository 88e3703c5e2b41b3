"""Shards in a folder, a file for each, so that a process opens no more than its own."""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from gatjax.training.sharding import Shards
from gatjax.training.sharding_devices import axis_of, check_number

_MANIFEST = "manifest.json"
_AGAIN = "copy it from where it was made, or make the folder again with save_shards"
_FORMAT = 1


def save_shards(folder: str | os.PathLike, shards: Shards) -> None:
    """Write each shard into a file of its own, `shard-00000.npz` and so on, and a manifest, all or nothing.

    Args:
      folder: to make.
      shards: of `shard_graph`, in this process; features and tables are arrays, or dicts of them.

    Raises:
      FileExistsError: the folder is there already.
      TypeError: features in another tree than of dicts.

    Nothing is pickled. See `load_shards`.
    """
    folder = Path(folder).absolute()
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: delete it, or choose another folder")
    arrays = dict(_named(_as_dicts(shards)))
    partition = _partition_of(shards)
    partial = folder.with_name(f".{folder.name}-partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for number in range(shards.num_shards):
        own = {name: np.asarray(array[number]) for name, array in arrays.items()}
        np.savez(partial / _file(number), allow_pickle=False, partition=_bytes(partition), **own)
    manifest = {
        "format": _FORMAT,
        "partition": partition,
        "num_nodes": shards.num_nodes,
        "num_edges": shards.num_edges,
        "arrays": {
            name: [str(array.dtype), list(array.shape[1:])] for name, array in arrays.items()
        },
        "files": {
            _file(number): (partial / _file(number)).stat().st_size
            for number in range(shards.num_shards)
        },
    }
    (partial / _MANIFEST).write_text(json.dumps(manifest, indent=1))
    partial.rename(folder)


def load_shards(folder: str | os.PathLike, mesh: Mesh) -> Shards:
    """The shards that `save_shards` wrote, each on its device; a process reads the files of its own devices only.

    Args:
      folder: as it was given there; on a disk that all processes see, or with its own files for each of them.
      mesh: with a device for each shard, such as that of `cluster()`.

    Raises:
      FileNotFoundError: the folder, its manifest or one of the files is not there.
      ValueError: another number of shards than devices; a file that is truncated, damaged or of another partition.

    >>> import tempfile
    >>> from gatjax.graph import build_graph
    >>> from gatjax.training import cluster, shard_graph
    >>> shards = shard_graph(build_graph([0, 1], [1, 0], np.eye(2)), [0, 0], tables={"labels": [3, 5]})
    >>> with tempfile.TemporaryDirectory() as folder, cluster(num_devices=1) as mesh:
    ...     save_shards(f"{folder}/pair-1", shards)
    ...     load_shards(f"{folder}/pair-1", mesh).tables["labels"].tolist()
    [[3, 5]]
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    check_number(len(manifest["files"]), mesh)
    sharding = NamedSharding(mesh, PartitionSpec(axis_of(mesh)))
    placed: dict[str, list[Array]] = {name: [] for name in manifest["arrays"]}
    for number, device in enumerate(mesh.devices.flat):
        if device.process_index == jax.process_index():
            for name, array in _read(folder, number, manifest).items():
                placed[name].append(jax.device_put(array[None], device))
    whole = {
        name: jax.make_array_from_single_device_arrays(
            (mesh.size, *manifest["arrays"][name][1]), sharding, parts
        )
        for name, parts in placed.items()
    }
    return _from_names(whole, manifest["num_nodes"], manifest["num_edges"])


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: save_shards(folder, shards) makes a folder of shards, or is it another one?"
        )
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {_AGAIN}") from error
    if manifest.get("format") != _FORMAT:
        raise ValueError(
            f"{path} has format {manifest.get('format')}, and this version of gatjax reads {_FORMAT}: {_AGAIN}"
        )
    return manifest


def _read(folder: Path, number: int, manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of one shard, after every check of its file."""
    path = folder / _file(number)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {_AGAIN}")
    size, expected = path.stat().st_size, manifest["files"][path.name]
    try:
        with np.load(path, allow_pickle=False) as file:
            partition = bytes(file["partition"])
            arrays = {name: file[name] for name in file.files if name != "partition"}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is damaged or truncated, {size} bytes of {expected}: {_AGAIN}"
        ) from error
    if partition != bytes(_bytes(manifest["partition"])):
        raise ValueError(f"{path} is of another partition than {folder / _MANIFEST}: {_AGAIN}")
    # NumPy reads the dtypes that are not its own, such as bfloat16, as plain bytes.
    typed = {
        name: array.view(np.dtype(manifest["arrays"][name][0]))
        if array.dtype.kind == "V"
        else array
        for name, array in arrays.items()
        if name in manifest["arrays"]
    }
    if {name: [str(array.dtype), list(array.shape)] for name, array in typed.items()} != manifest[
        "arrays"
    ]:
        raise ValueError(f"{path} holds other features or tables than {_MANIFEST} says: {_AGAIN}")
    return typed


def _as_dicts(shards: Shards) -> dict[str, Any]:
    return {
        "nodes": shards.nodes,
        "edges": shards.edges,
        "globals": shards.globals,
        "tables": shards.tables,
        "ids": {
            name: getattr(shards, name) for name in ("senders", "receivers", "node_ids", "edge_ids")
        },
        "send": {str(by): ids for by, ids in enumerate(shards.send, start=1)},
    }


def _named(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All arrays of a tree of dicts, by the path to each."""
    if isinstance(tree, dict):
        for key, branch in tree.items():
            if not isinstance(key, str) or "/" in key:
                raise TypeError(f"{name[1:]} has the key {key!r}: names without a / can be saved")
            yield from _named(branch, f"{name}/{key}")
    elif hasattr(tree, "dtype"):
        yield name[1:], tree
    elif tree is not None:
        raise TypeError(
            f"{name[1:]} is a {type(tree).__name__}: arrays and dicts of arrays can be saved"
        )


def _from_names(arrays: dict[str, Any], num_nodes: int, num_edges: int) -> Shards:
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *path, last = name.split("/")
        branch = tree
        for key in path:
            branch = branch.setdefault(key, {})
        branch[last] = array
    send = tree.get("send", {})
    return Shards(
        nodes=tree.get("nodes"),
        edges=tree.get("edges"),
        globals=tree.get("globals"),
        **tree["ids"],
        send=tuple(send[str(by)] for by in range(1, len(send) + 1)),
        tables=tree.get("tables", {}),
        num_nodes=num_nodes,
        num_edges=num_edges,
    )


def _partition_of(shards: Shards) -> str:
    """A hash of which nodes and edges are where."""
    found = hashlib.sha256()
    for ids in (shards.node_ids, shards.edge_ids, shards.senders, shards.receivers, *shards.send):
        ids = np.ascontiguousarray(ids)
        found.update(str(ids.shape).encode() + ids.tobytes())
    return found.hexdigest()


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def _file(number: int) -> str:
    return f"shard-{number:05d}.npz"
