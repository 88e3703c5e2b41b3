"""Strict JAX for the whole suite: two CPU devices, no silent rank promotion, warnings are errors.

Compiling is most of what the tests cost. So the workers of a run share a folder of compiled programs, which is made
for this run and deleted with it, and one worker takes all tests of a layer, or of a file.
"""

import os
import shutil
import tempfile

import jax
import jaxtyping
import pytest

# In the environment too, for the processes that tests start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Code that runs once need not be fast, and compiles twice as fast.
jax.config.update("jax_disable_most_optimizations", True)

PROGRAMS = "GATJAX_TEST_PROGRAMS"


def pytest_configure(config):
    """The first process makes the folder, and the workers that it starts find it in the environment."""
    if not hasattr(config, "workerinput"):
        os.environ[PROGRAMS] = tempfile.mkdtemp(prefix="gatjax-programs-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ[PROGRAMS], ignore_errors=True))
    jax.config.update("jax_compilation_cache_dir", os.environ[PROGRAMS])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_collection_modifyitems(items):
    """Tests that are marked as slow go one by one, but for those of a layer."""
    for item in items:
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")
        if hasattr(case, "layer"):
            item.add_marker(pytest.mark.xdist_group(case.layer.__name__))
        elif not item.get_closest_marker("slow"):
            item.add_marker(
                pytest.mark.xdist_group(str(item.path.relative_to(item.config.rootpath)))
            )


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
def blocks(monkeypatch):
    """Force the blocked path, 256 edges at a time, and record that it was taken."""
    import gatjax.attention.attend
    import gatjax.ops.blocks

    taken, original = [], gatjax.attention.attend.blocked_attention
    record = lambda *arguments: taken.append(arguments[-1]) or original(*arguments)
    monkeypatch.setattr(gatjax.ops.blocks, "DIRECT_NUMBERS", 0)
    monkeypatch.setattr(gatjax.ops.blocks, "BLOCK_NUMBERS", 1)
    monkeypatch.setattr(gatjax.attention.attend, "blocked_attention", record)
    return taken
