"""From a command line, which may leave values open, to settings, which may not.

An experiment has a frozen dataclass `Config` for its command line, where None stands for "by default"; a subclass
`Settings`, in which these fields are `required()` and have the types that remain; and `resolve(config) -> Settings`,
which knows the defaults.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

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
