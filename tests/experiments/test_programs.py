"""Compiled programs go from one process to the next, whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

COMPILE = """
import os, sys
from programs import keep_programs
keep_programs()
import jax
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
jax.jit(lambda x: x @ x + 7)(jax.numpy.ones((9, 9)))
print(sum(event.endswith("cache_hits") for event in events))
sys.stdout.flush()
if sys.argv[1:] == ["killed"]:
    os.kill(os.getpid(), 9)
"""


def hits(cache, *arguments, **environment):
    process = subprocess.run(
        [sys.executable, "-c", COMPILE, *arguments],
        cwd=Path(__file__).parents[2] / "experiments",
        env=os.environ
        | {"XDG_CACHE_HOME": str(cache), "JAX_ENABLE_COMPILATION_CACHE": "true"}
        | environment,
        capture_output=True,
        text=True,
    )
    assert process.stdout, process.stderr
    return int(process.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the cache folder is that of Linux")
def test_a_process_finds_what_earlier_ones_compiled_and_killed_ones_leave_nothing(tmp_path):
    assert hits(tmp_path, "killed") == 0
    (shared,) = (tmp_path / "gatjax" / "programs").iterdir()
    assert sum(path.is_dir() for path in shared.glob("process-*")) == 1
    assert hits(tmp_path) == 0, "what a killed process wrote is not used"
    assert hits(tmp_path) > 0
    assert not list(shared.glob("process-*")) and list(shared.glob("*-cache"))


@pytest.mark.skipif(sys.platform != "linux", reason="the cache folder is that of Linux")
def test_the_user_may_have_none(tmp_path):
    assert hits(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false") == 0
    assert not (tmp_path / "gatjax").exists()
