"""Strict JAX for the whole suite: two CPU devices, no silent rank promotion, warnings are errors.

Compiling is most of what the tests cost. So one worker takes all tests of a layer, or of a file, which share programs.
"""

import gc
import os
import sys
from importlib.metadata import version

import jax
import jaxtyping
import pytest

# In the environment too, for the processes that tests start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
# No program is kept: what tests compile hardly comes twice, and scripts that they start leave the cache folder alone.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")
jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Code that runs once need not be fast, and compiles much faster with all of these. XLA reads its flags once,
# and ends the process for one that it doesn't know. Processes that tests start do without.
jax.config.update("jax_disable_most_optimizations", True)
COMPILE_FAST = ["--xla_cpu_parallel_codegen_split_count=1"]
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
    COMPILE_FAST.append("--xla_cpu_use_fusion_emitters=false")
flags = os.environ.pop("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = " ".join([flags, *COMPILE_FAST])
jax.devices()
os.environ["XLA_FLAGS"] = flags

# Tracing makes many objects and few cycles, so looking for cycles seldom is enough.
gc.set_threshold(100_000, 50, 100)

LONG_PAGES = {
    "typed_graphs.md",
    "transformers.md",
    "molecules.md",
    "time.md",
    "recipes.md",
    "graphs.md",
    "links.md",
    "index.md",
}
SINCE_CLEARED = pytest.StashKey[int]()


def pytest_collection_modifyitems(items):
    """Tests of one layer or file stand together; what is slow and of no layer goes to whichever worker is free."""
    groups = {}
    for item in items:
        if item.path.name in LONG_PAGES:
            item.add_marker("slow")
        case = item.callspec.params.get("case") if hasattr(item, "callspec") else None
        if hasattr(case, "layer"):
            name = case.layer.__name__
        elif item.get_closest_marker("slow"):
            continue
        else:
            name = str(item.path.relative_to(item.config.rootpath))
        item.add_marker(pytest.mark.xdist_group(name))
        groups.setdefault(name, len(groups))
    items.sort(key=lambda item: groups.get(group_of(item), len(groups)))


def group_of(item):
    mark = item.get_closest_marker("xdist_group")
    return item.nodeid if mark is None else mark.args[0]


def pytest_runtest_teardown(item, nextitem):
    """Let go of programs, of little use to the next layer or file.

    All together they take gigabytes, and more maps of memory than Linux gives a process (65,530), where XLA aborts.
    Figures that a test leaves open are closed: of more than twenty Matplotlib warns, in whatever test is next.
    """
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    stash = item.config.stash
    stash[SINCE_CLEARED] = stash.get(SINCE_CLEARED, 0) + 1
    ends = nextitem is not None and group_of(nextitem) != group_of(item)
    if (ends and stash[SINCE_CLEARED] > 75) or stash[SINCE_CLEARED] > 250:
        jax.clear_caches()
        stash[SINCE_CLEARED] = 0


@pytest.fixture
def unchecked():
    """Switch the shape checker off, so that a test of bad input meets the library's own error."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def x64():
    """Run a test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def optimised():
    """Compile as users do, for tests of what the compiler makes of it."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def blocks(monkeypatch):
    """Force the blocked path, 256 edges at a time, and record that it was taken."""
    import gatjax.attention.attend
    import gatjax.ops.blocks

    taken, original = [], gatjax.attention.attend.blocked_attention
    record = lambda *arguments: taken.append(arguments[-1]) or original(*arguments)
    monkeypatch.setattr(gatjax.ops.blocks, "DIRECT_NUMBERS", 0)
    monkeypatch.setattr(gatjax.ops.blocks, "BLOCK_NUMBERS", 1)
    monkeypatch.setattr(gatjax.ops.blocks, "ACCELERATOR_BLOCK_NUMBERS", 1)
    monkeypatch.setattr(gatjax.attention.attend, "blocked_attention", record)
    return taken


@pytest.fixture
def as_on_a_cpu(monkeypatch):
    """Sizes and formulas as a CPU has them, wherever the tests run."""
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
