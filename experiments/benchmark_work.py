"""How a case of the benchmark becomes something to time, and what memory and floors are measured by."""

import importlib
import resource
from pathlib import Path
from typing import Any

from benchmark_cases import Case, Config
from graphs import features_of, named
from peers import Problem, Workload

Measured = dict[str, Any]


def peer_of(case: Case) -> Any:
    """The file of the case's library, imported here so that a process loads no other."""
    return importlib.import_module(f"peers.{case.library.split()[0]}_peer")


def layer_workload(config: Config, case: Case) -> Workload | None:
    """A layer, or None where the library has nothing of the kind."""
    peer = peer_of(case)
    make = peer.plain_layer if case.library == "gatjax plain" else peer.layer
    return make(problem_of(config, case))


def workload_of_that_name(config: Config, case: Case) -> Workload | None:
    return getattr(peer_of(case), config.suite)(**case.arguments)


def problem_of(config: Config, case: Case) -> Problem:
    settings = {"heads": config.heads, "features": config.features, "device": config.device}
    settings |= case.arguments
    sizes = settings.pop("nodes", config.nodes), settings.pop("edges", config.edges)
    name, layout = settings.pop("graph"), settings.pop("layout", None)
    if layout is not None:
        # The others take dense features only.
        layout = layout if case.library.startswith("gatjax") else "dense"
        settings["inputs"] = features_of(name, layout)
    return Problem(edges=named(name, *sizes), **settings)


def floor_seconds(workload: Workload) -> float | None:
    """The time in which this device's memory can move what the work must, at the speed of a plain copy."""
    if workload.least_bytes is None:
        return None
    return workload.least_bytes / importlib.import_module("peers.gatjax_peer").copy_bandwidth()


def forget_peak() -> int:
    """Resident bytes now, from which the peak is counted anew where the system can do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return peak_memory()


def peak_memory() -> int:
    try:
        return _status("VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
