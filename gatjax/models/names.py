"""Functions, classes and dtypes by name: what a file or a pickle holds in their place.

A name is `module:qualname`, such as "jax.nn:elu" or "flax.nnx:LayerNorm". What has none, such as a lambda or what
another function has made, cannot be found again, and is refused where it would be written.
"""

import dataclasses
import enum
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

# Where the libraries themselves advise to import from, and a file may; what lies elsewhere is named by its own module.
TRUSTED = ("jax.nn", "jax.numpy", "jax.nn.initializers", "jax.lax", "flax.nnx", "optax", "gatjax")

# The package, whose files may name each other.
OWN = ("gatjax",)

# What of these reads or writes files: a file that names them could run anything.
_ON_FILES = ("jax.numpy:load", "jax.numpy:fromfile", "jax.numpy:save", "jax.numpy:savez")

# Whatever stands in these parts of an encoded value, its keys are the caller's.
_BY_NAME = ("mapping", "fields", "keywords")


def name_of(value: Any) -> str | None:
    """The name under which a function, a class or a member of an enum is found again, or None where there is none.

    >>> import jax
    >>> name_of(jax.nn.elu), name_of(jax.lax.Precision.HIGH), name_of(lambda x: x)
    ('jax.nn:elu', 'jax.lax:Precision.HIGH', None)
    """
    of = type(value) if isinstance(value, enum.Enum) else value
    module, qualname = (getattr(of, name, None) for name in ("__module__", "__qualname__"))
    if isinstance(value, enum.Enum):
        qualname = f"{qualname}.{value.name}"
    if not isinstance(module, str) or not isinstance(qualname, str) or module == "__main__":
        return None
    names = (f"{each}:{qualname}" for each in (*TRUSTED, module))
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

    Numbers of NumPy become Python's; a dtype becomes `{"dtype": ...}`, a function, a class or a member of an enum
    `{"name": ...}`, a tuple `{"tuple": [...], "class": ...}`, a mapping `{"mapping": ...}`, an instance of a dataclass
    `{"fields": ..., "class": ...}`, a `functools.partial` `{"partial": ..., "arguments": ..., "keywords": ...}`.

    Raises:
      ValueError: neither a JSON value nor one of these, by field and value.

    >>> encode("dtype", jnp.bfloat16), encode("num_layers", np.int64(2))
    ({'dtype': 'bfloat16'}, 2)
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (
        isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum)
    ):
        return value
    if isinstance(value, list | tuple):
        items = [encode(f"{field}[{index}]", each) for index, each in enumerate(value)]
        if isinstance(value, list):
            return items
        kind = None if type(value) is tuple else encode(field, type(value))
        return {"tuple": items, "class": kind}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"mapping": {key: encode(f"{field}[{key!r}]", each) for key, each in value.items()}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type | nnx.Pytree):
        fields = [each.name for each in dataclasses.fields(value) if each.init]
        encoded = {name: encode(f"{field}.{name}", getattr(value, name)) for name in fields}
        return {"fields": encoded, "class": encode(field, type(value))}
    if _is_dtype(value):
        return {"dtype": jnp.dtype(cast(Any, value)).name}
    if isinstance(value, functools.partial):
        return {
            "partial": encode(field, value.func),
            "arguments": encode(field, list(value.args)),
            "keywords": {name: encode(name, each) for name, each in value.keywords.items()},
        }
    return _named(field, value)


def _named(field: str, value: Any) -> dict[str, str]:
    name = name_of(value)
    if name is not None:
        return {"name": name}
    remedy = "pass a number, a text, a dtype, or a function or class at the top of a module that can be imported"
    if getattr(value, "__module__", None) == "__main__":
        remedy = "it stands in a script or a notebook: move it to a module, a file of its own, and import it from there"
    elif getattr(value, "__name__", None) == "<lambda>":
        remedy = "give it a name, with def, at the top of a module that can be imported"
    elif isinstance(value, nnx.Module | jax.Array | np.ndarray):
        remedy = (
            "write a function that builds it all, at the top of a module that can be imported, and pass that as the "
            "constructor"
        )
    raise ValueError(f"{field}={_short(value)} cannot be found again by a name: {remedy}")


def _short(value: Any) -> str:
    if isinstance(value, nnx.Module | jax.Array | np.ndarray):
        return f"<{type(value).__name__}>"
    return repr(value)


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
    again = functools.partial(decode, modules=modules)
    if "mapping" in value:
        return {key: again(each) for key, each in value["mapping"].items()}
    if "fields" in value:
        fields = {name: again(each) for name, each in value["fields"].items()}
        return _class(again(value["class"]), dataclasses.is_dataclass)(**fields)
    if "tuple" in value:
        kind, items = again(value["class"]), [again(each) for each in value["tuple"]]
        return tuple(items) if kind is None else _class(kind, _is_tuple)(*items)
    if "partial" in value:
        keywords = {name: again(each) for name, each in value["keywords"].items()}
        return functools.partial(
            again(value["partial"]), *map(again, value["arguments"]), **keywords
        )
    name = value["name"]
    module = name.split(":")[0]
    if not (module in TRUSTED or is_in(module, (*OWN, *modules))) or name in _ON_FILES:
        raise ValueError(
            f"{name} is of a module that a file may not import: if you trust it, pass modules=[{module!r}]"
        )
    return find(name)


def is_in(module: str, packages: Sequence[str]) -> bool:
    """Whether a module is one of these, or lies in one.

    >>> is_in("flax.nnx", ["flax"]), is_in("flaxen", ["flax"])
    (True, False)
    """
    return any(f"{module}.".startswith(f"{each}.") for each in packages)


def _class(kind: Any, is_one: Callable[[Any], bool]) -> Any:
    """Only a class of the kind that is written: a call of anything else could do anything."""
    if not isinstance(kind, type) or not is_one(kind):
        raise ValueError(f"{kind!r} is no class of which a value is written")
    return kind


def _is_tuple(kind: type) -> bool:
    return issubclass(kind, tuple)


def modules_in(value: Any) -> set[str]:
    """The modules of all names in an encoded value."""
    if isinstance(value, list):
        return set().union(*map(modules_in, value))
    if not isinstance(value, Mapping):
        return set()
    if "name" in value:
        return {value["name"].split(":")[0]}
    parts = [
        list(part.values()) if isinstance(part, Mapping) and tag in _BY_NAME else part
        for tag, part in value.items()
    ]
    return modules_in(parts)


def _is_dtype(value: Any) -> bool:
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return True
    # jnp.float32 and its like are no classes of NumPy.
    return isinstance(getattr(value, "dtype", None), np.dtype) and isinstance(value, type)


def _look_up(name: str) -> Any:
    """What has the name, but for what a module has imported from another one: its `os.system` is not its own."""
    module, _, qualname = name.partition(":")
    try:
        found = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
            if inspect.ismodule(found):
                return None
        return found
    except (ImportError, AttributeError, ValueError):
        return None
