"""Functions, classes and dtypes by name: what a file or a pickle holds in their place.

A name is `module:qualname`, such as "jax.nn:elu" or "flax.nnx:LayerNorm". What has none, such as a lambda or what
another function has made, cannot be found again, and is refused where it would be written.
"""

import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

# Where the libraries themselves advise to import from; what lies elsewhere is named by its own module.
_PUBLIC = (
    "jax.nn",
    "jax.numpy",
    "jax.nn.initializers",
    "jax.lax",
    "flax.nnx",
    "optax",
    "numpy",
    "gatjax",
)

TRUSTED = ("jax", "flax", "optax", "numpy", "gatjax")


def name_of(value: Any) -> str | None:
    """The name under which a function or a class is found again, or None where there is no such name.

    >>> import jax
    >>> name_of(jax.nn.elu), name_of(lambda x: x)
    ('jax.nn:elu', None)
    """
    module, qualname = (getattr(value, name, None) for name in ("__module__", "__qualname__"))
    if not isinstance(module, str) or not isinstance(qualname, str) or module == "__main__":
        return None
    names = (f"{each}:{qualname}" for each in (*_PUBLIC, module))
    return next((name for name in names if _look_up(name) is value), None)


def find(name: str) -> Any:
    """What has a name.

    Raises:
      ValueError: nothing has it.

    >>> find("jax.numpy:tanh") is jnp.tanh
    True
    """
    found = _look_up(name)
    if found is None:
        raise ValueError(f"there is no {name}: install the version of the module that has it")
    return found


def encode(field: str, value: Any) -> Any:
    """A value as JSON, such that `decode` gives an equal one.

    Numbers of NumPy become Python's; a dtype becomes `{"dtype": ...}`, a function or a class `{"name": ...}`, a
    `functools.partial` `{"partial": ..., "arguments": ..., "keywords": ...}`.

    Raises:
      ValueError: neither a JSON value nor one of these, by field and value.

    >>> encode("dtype", jnp.bfloat16), encode("num_layers", np.int64(2))
    ({'dtype': 'bfloat16'}, 2)
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [encode(f"{field}[{index}]", each) for index, each in enumerate(value)]
    if _is_dtype(value):
        return {"dtype": jnp.dtype(value).name}
    if isinstance(value, functools.partial):
        return {
            "partial": encode(field, value.func),
            "arguments": encode(field, value.args),
            "keywords": {name: encode(name, each) for name, each in value.keywords.items()},
        }
    name = name_of(value)
    if name is None:
        raise ValueError(
            f"{field}={value!r} cannot be found again by a name: pass a number, a text, a dtype, or a function or "
            "class that stands at the top of a module that can be imported"
        )
    return {"name": name}


def decode(value: Any, modules: Sequence[str] = ()) -> Any:
    """What `encode` has written, with names from `TRUSTED` modules and the given ones.

    Raises:
      ValueError: a name of another module, or one that nothing has.

    >>> decode({"dtype": "bfloat16"}) == jnp.bfloat16
    True
    """
    if isinstance(value, list):
        return [decode(each, modules) for each in value]
    if not isinstance(value, Mapping):
        return value
    if "dtype" in value:
        return jnp.dtype(value["dtype"])
    if "partial" in value:
        arguments, keywords = value["arguments"], value["keywords"]
        return functools.partial(
            decode(value["partial"], modules),
            *(decode(each, modules) for each in arguments),
            **{name: decode(each, modules) for name, each in keywords.items()},
        )
    module = value["name"].split(":")[0]
    if not any(f"{module}.".startswith(f"{each}.") for each in (*TRUSTED, *modules)):
        raise ValueError(
            f"{value['name']} is of a module that a file may not import: if you trust it, pass modules=[{module!r}]"
        )
    return find(value["name"])


def modules_in(value: Any) -> set[str]:
    """The modules of all names in an encoded value."""
    if isinstance(value, list):
        return set().union(*map(modules_in, value))
    if not isinstance(value, Mapping):
        return set()
    if "name" in value:
        return {value["name"].split(":")[0]}
    return set().union(*map(modules_in, value.values()))


def _is_dtype(value: Any) -> bool:
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return True
    # jnp.float32 and its like are no classes of NumPy.
    return isinstance(getattr(value, "dtype", None), np.dtype) and isinstance(value, type)


def _look_up(name: str) -> Any:
    module, _, qualname = name.partition(":")
    try:
        return functools.reduce(getattr, qualname.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        return None
