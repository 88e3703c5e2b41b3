"""Every node of a large graph by `embed_nodes`: in memory, and from file to file, each in a process of its own."""

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_work import forget_peak, peak_memory
from flax import nnx
from jraph import GraphsTuple
from report import markdown_table

from gatjax import Neighbors, embed_nodes, neighbors_of
from gatjax.data import FileArray

TITLES = {"memory": "in memory", "files": "from file to file"}
GIB = 2**30


def embed_row(
    graph: GraphsTuple, model: nnx.Module, *, edges_per_chunk: int, progress: bool
) -> dict[str, Any]:
    """What each way takes, and by how much their numbers differ.

    Args:
      graph: without self-loops; every node gets one.
      model: trained or not.
      edges_per_chunk, progress: as in `embed_nodes`.
    """
    neighbors = neighbors_of(graph)
    found: dict[str, Any] = {"edges_per_chunk": edges_per_chunk}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "features.npy", np.asarray(graph.nodes))
        for field in ("starts", "senders"):
            np.save(folder / f"{field}.npy", getattr(neighbors, field))
        if neighbors.edges is not None:
            raise ValueError("the edges must be in the order of their receivers")
        context = multiprocessing.get_context("spawn")
        for way in TITLES:
            with ProcessPoolExecutor(1, mp_context=context) as process:
                measured = process.submit(_measure, way, folder, model, edges_per_chunk, progress)
                found[way] = measured.result()
        outputs = [np.load(folder / f"{way}.npy", mmap_mode="r") for way in TITLES]
        found["largest_difference"] = float(np.abs(outputs[0] - outputs[1]).max())
    return found


def table(measured: dict[str, Any]) -> str:
    """Time and memory of each way."""
    header = ["every node", "CPU s", "memory before (GiB)", "most memory (GiB)"]
    rows = [
        [
            title,
            f"{measured[way]['cpu_seconds']:.1f}",
            *(f"{measured[way][field] / GIB:.2f}" for field in ("bytes_before", "peak_bytes")),
        ]
        for way, title in TITLES.items()
    ]
    return markdown_table(header, rows)


def _measure(
    way: str, folder: Path, model: nnx.Module, edges_per_chunk: int, progress: bool
) -> dict[str, Any]:
    """Time of a second run, after one that compiles, and memory of both."""
    starts = np.load(folder / "starts.npy")
    read = FileArray if way == "files" else np.load
    neighbors = Neighbors(starts, read(folder / "senders.npy"), None, False)
    features, out = read(folder / "features.npy"), folder / f"{way}.npy"
    options: dict[str, Any] = {
        "self_loops": True,
        "edges_per_chunk": edges_per_chunk,
        "progress": progress,
    }
    options["out"] = out if way == "files" else None
    before = forget_peak()
    for _ in range(2):
        out.unlink(missing_ok=True)
        started, cpu = time.perf_counter(), time.process_time()
        found = embed_nodes(model, neighbors, features, **options)
        seconds = time.perf_counter() - started, time.process_time() - cpu
    peak = peak_memory()
    if way == "memory":
        np.save(out, found)
    return {
        "seconds": seconds[0],
        "cpu_seconds": seconds[1],
        "bytes_before": before,
        "peak_bytes": peak,
    }
