"""What XLA says of a program's memory, and what a process then takes."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from gatjax.training import estimate_memory

ROWS = jax.ShapeDtypeStruct((1000, 16), jnp.float32)
SIZE = 1000 * 16 * 4


def test_every_part_is_counted():
    both = lambda x, y: (x @ x.T) @ y
    memory = estimate_memory(both, ROWS, ROWS)
    assert (memory.arguments, memory.outputs) == (2 * SIZE, SIZE)
    assert memory.temporaries >= 1000 * 1000 * 4
    assert memory.total == 3 * SIZE + memory.temporaries


def test_what_is_donated_counts_once():
    replace = jax.jit(lambda x: x + 1, donate_argnums=0)
    memory = estimate_memory(replace, ROWS)
    assert memory.total == SIZE


def test_arrays_do_as_well_as_shapes_and_nothing_runs():
    called = []

    def function(x):
        called.append(isinstance(x, jax.core.Tracer))
        return x * 2

    assert estimate_memory(function, jnp.ones((1000, 16))) == estimate_memory(function, ROWS)
    assert all(called)


@pytest.mark.parametrize(
    ("function", "named", "remedy"),
    [
        (lambda x: x.sum(), "arguments", "bfloat16"),
        (lambda x: jnp.tile(x, (50, 1)), "outputs", "donate"),
        (lambda x: (jax.nn.softmax(x @ x.T) @ x).sum(), "temporaries", "nnx.remat"),
    ],
    ids=["arguments", "outputs", "temporaries"],
)
def test_over_the_limit_it_says_what_takes_most(function, named, remedy):
    with pytest.raises(MemoryError, match=f"are 1.0 KiB. Its {named} take most, .*{remedy}"):
        estimate_memory(function, ROWS, limit=1024)
    memory = estimate_memory(function, ROWS, limit=2**30)
    assert memory.total <= 2**30


def test_a_limit_is_positive():
    with pytest.raises(ValueError, match="limit must be positive, .* got 0"):
        estimate_memory(jnp.sin, ROWS, limit=0)


def test_the_remedies_help():
    step = lambda dtype: estimate_memory(
        lambda x: ((x @ x.T) @ x).sum(), jax.ShapeDtypeStruct((1000, 16), dtype)
    )
    half, whole = step(jnp.bfloat16), step(jnp.float32)
    assert half.arguments == whole.arguments / 2


PROCESS = """
import jax, jax.numpy as jnp, numpy as np
from gatjax import GATConv, build_graph
from gatjax.training import estimate_memory, functional

nodes, edges = 100_000, 1_000_000
rng = np.random.default_rng(0)
ids = [np.sort(rng.integers(0, nodes, edges)) for _ in range(2)]
initialise, apply = functional(lambda rngs: GATConv(128, 128, num_heads=8, rngs=rngs))
parameters = initialise(jax.random.key(0))
loss = lambda parameters, graph: apply(parameters, graph).nodes.sum()
step = jax.jit(jax.grad(loss, argnums=0))
graph = jax.device_put(build_graph(*ids, jnp.ones((nodes, 128))))
like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (parameters, graph))
expected = estimate_memory(step, *like)
program = step.lower(*like).compile()
read = lambda name: next(
    int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name)
)
open("/proc/self/clear_refs", "w").write("5")
before = read("VmRSS") - expected.arguments
jax.block_until_ready(program(parameters, graph))
print((read("VmHWM") - before) / expected.total)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_takes_what_was_said():
    out = subprocess.run(
        [sys.executable, "-c", PROCESS], check=True, capture_output=True, text=True
    )
    assert 0.8 < float(out.stdout) < 1.2
