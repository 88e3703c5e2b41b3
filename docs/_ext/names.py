"""The public names of the package, each of which must stand on an API page. Needs no Sphinx."""

import inspect
from functools import cache
from importlib import import_module
from typing import Any

ROOMS = ("ops", "graph", "attention", "layers", "training", "models", "data", "plots")


def public_names(module: Any) -> list[str]:
    """What a module exports: its `__all__`, or its names without underscore that are no modules.

    A module that re-exports nothing, such as `gatjax.plots`, exports what it defines.
    """
    names = getattr(module, "__all__", None) or [name for name in vars(module) if name[0] != "_"]
    things = {
        name: getattr(module, name) for name in names if not inspect.ismodule(getattr(module, name))
    }
    if not hasattr(module, "__path__"):
        things = {
            k: v for k, v in things.items() if getattr(v, "__module__", None) == module.__name__
        }
    return sorted(things)


@cache
def page_names() -> dict[str, str]:
    """Every public name in full, `gatjax.GATConv`, and its room; a name that the root exports goes by the root."""
    root = import_module("gatjax")
    names = {}
    for room in ROOMS:
        module = import_module(f"gatjax.{room}")
        for name in public_names(module):
            at_root = getattr(root, name, None) is getattr(module, name)
            names[f"gatjax.{name}" if at_root else f"gatjax.{room}.{name}"] = room
    for name in public_names(root):
        names.setdefault(f"gatjax.{name}", "gatjax")
    return names
