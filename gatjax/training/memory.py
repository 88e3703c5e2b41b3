"""The memory that a compiled program takes, before there is any data."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@dataclasses.dataclass(frozen=True)
class Memory:
    """What XLA sets aside for one compiled program, in bytes.

    Attributes:
      arguments: of what it is given, such as a model's variables and the inputs.
      outputs: of what it returns.
      temporaries: of what it holds in between.
      total: of all three; what two of them share counts once.
    """

    arguments: int
    outputs: int
    temporaries: int
    total: int


def estimate_memory(
    function: Callable[..., Any], *arguments: Any, limit: int | None = None
) -> Memory:
    """The memory of a function's program: XLA's own account of it, compiled and never run.

    Shapes do in place of arrays, so a graph that exists nowhere can be asked about. On a mesh of devices the numbers
    are those of one device. What the process holds besides, such as the compiler's own memory, is not in it.

    Args:
      function: of arrays, as `jax.jit` takes it; one that is jitted already, with donated arguments, counts what they
        share once.
      *arguments: pytrees of arrays or of `jax.ShapeDtypeStruct`.
      limit: of bytes that there are.

    Returns:
      The numbers.

    Raises:
      NotImplementedError: this device's compiler does not tell.
      MemoryError: the program takes more than the limit; it says what takes most, and what to change.
      ValueError: a limit that is not positive.

    >>> import jax.numpy as jnp
    >>> rows = jax.ShapeDtypeStruct((1000, 8), jnp.float32)
    >>> estimate_memory(lambda x: x + 1, rows)
    Memory(arguments=32000, outputs=32000, temporaries=0, total=64000)
    >>> estimate_memory(lambda x: x + 1, rows, limit=50_000)
    Traceback (most recent call last):
    MemoryError: the program takes 62.5 KiB, and there are 48.8 KiB. Its arguments take most, 31.2 KiB: ...
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be positive, a number of bytes, got {limit}")
    jitted = function if hasattr(function, "lower") else jax.jit(function)
    found = jitted.lower(*arguments).compile().memory_analysis()
    if found is None:
        raise NotImplementedError(
            f"the compiler of {jax.default_backend()} does not tell what memory a program takes"
        )
    sizes = (
        found.argument_size_in_bytes,
        found.output_size_in_bytes,
        found.temp_size_in_bytes,
    )
    memory = Memory(*sizes, sum(sizes) - found.alias_size_in_bytes)
    if limit is not None and memory.total > limit:
        raise MemoryError(_too_much(memory, limit))
    return memory


_REMEDIES = {
    "arguments": "keep features in bfloat16, or train on samples of the neighbours (sample_hops)",
    "outputs": "donate what is replaced (jax.jit(..., donate_argnums=...)), or return less",
    "temporaries": "compute in dtype=jnp.bfloat16, wrap layers in nnx.remat, take fewer features or heads, or train on "
    "samples of the neighbours (sample_hops)",
}


def _too_much(memory: Memory, limit: int) -> str:
    sizes = {name: getattr(memory, name) for name in _REMEDIES}
    most = max(sizes, key=lambda name: sizes[name])
    return (
        f"the program takes {readable(memory.total)}, and there are {readable(limit)}. Its {most} take most, "
        f"{readable(sizes[most])}: {_REMEDIES[most]}"
    )


def readable(size: int) -> str:
    """A number of bytes in the unit that suits it.

    >>> readable(1), readable(3 * 2**29)
    ('1 bytes', '1.5 GiB')
    """
    number, unit = float(size), 0
    while number >= 1024 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.0f} {_UNITS[0]}" if unit == 0 else f"{number:.1f} {_UNITS[unit]}"
