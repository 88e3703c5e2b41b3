"""From a command line, which may leave values open, to settings, which may not.

An experiment has a frozen dataclass `Config` for its command line, where None stands for "by default"; a subclass
`Settings`, in which these fields are `required()` and have the types that remain; and `resolve(config) -> Settings`,
which knows the defaults.
"""

import dataclasses
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Settings = TypeVar("Settings")

# A field without a default, also where the parent class has one.
required = dataclasses.field


def fill(kind: type[Settings], config: Any, by_default: Mapping[str, Any]) -> Settings:
    """The settings of a configuration: its own values, and where one is None, that by default.

    >>> from types import SimpleNamespace
    >>> fill(dict, SimpleNamespace(steps=None, rate=0.1), {"steps": 9, "rate": 0.5})
    {'steps': 9, 'rate': 0.1}
    """
    given = {name: value for name, value in vars(config).items() if value is not None}
    return kind(**{**by_default, **given})


def check(
    config: Any,
    *,
    at_least: Mapping[str, float] = types.MappingProxyType({}),
    above_zero: Sequence[str] = (),
    rates: Sequence[str] = (),
) -> None:
    """Refuse what no run can have; also choices that are not on their list, and tuples without an entry.

    Args:
      config: a dataclass; what is None is left open.
      at_least: the lowest value of fields that are whole numbers, or of each entry of a tuple.
      above_zero: fields that must be positive, and finite.
      rates: fields in [0, 1).

    Raises:
      SystemExit: by option, value and what it may be.

    >>> check(dataclasses.make_dataclass("Config", [("seeds", int)])(0), at_least={"seeds": 1})
    Traceback (most recent call last):
    ...
    SystemExit: --seeds 0: must be at least 1
    """
    for name, value in vars(config).items():
        entries = value if isinstance(value, tuple) else () if value is None else (value,)
        if value == ():
            raise SystemExit(f"--{_option(name)}: {name} is empty: give at least one")
        choices = _choices(get_type_hints(type(config)).get(name))
        for entry in entries:
            problem = None
            if choices and entry not in choices:
                problem = f"must be one of {', '.join(map(str, choices))}"
            elif name in at_least and not entry >= at_least[name]:
                problem = f"must be at least {at_least[name]}"
            elif name in above_zero and not 0 < entry < float("inf"):
                problem = "must be a number above 0"
            elif name in rates and not 0 <= entry < 1:
                problem = "must lie in [0, 1)"
            if problem:
                raise SystemExit(f"--{_option(name)} {entry}: {problem}")


def check_multiple(config: Any, name: str, of: str) -> None:
    """Refuse a width that heads, or any of several numbers of heads, cannot share.

    >>> check_multiple(dataclasses.make_dataclass("Config", [("width", int), ("heads", int)])(7, 2), "width", "heads")
    Traceback (most recent call last):
    ...
    SystemExit: --width 7: must be a multiple of --heads 2
    """
    value, parts = getattr(config, name), getattr(config, of)
    for part in parts if isinstance(parts, tuple) else (parts,):
        if value % part:
            option = _option(of)
            raise SystemExit(f"--{_option(name)} {value}: must be a multiple of --{option} {part}")


def _option(name: str) -> str:
    return name.replace("_", "-")


def _choices(hint: Any) -> tuple[Any, ...]:
    """The values of a `Literal`, also inside a tuple or beside None."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (tuple, Union, types.UnionType):
        return tuple(choice for part in get_args(hint) for choice in _choices(part))
    return ()
