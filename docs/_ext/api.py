"""API pages: one directive lists the names of a page, and docstrings become pages as they are.

    .. api:: gatjax

       GATConv
       GATv2Conv

gives a table of the names with their first lines, then every one of them in full.
"""

import inspect
import re
from importlib import import_module
from typing import Any

from docutils import nodes
from equations import is_equations, to_latex
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)

ROOMS = ("ops", "graph", "attention", "layers", "training", "models", "data", "plots")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def public_names(module: Any) -> list[str]:
    """What a module exports: its `__all__`, or its names without underscore that are no modules.

    A module that re-exports nothing, such as `gatjax.plots`, exports what it defines.
    """
    names = getattr(module, "__all__", None) or [name for name in vars(module) if name[0] != "_"]
    things = {name: getattr(module, name) for name in names if not inspect.ismodule(getattr(module, name))}
    if not hasattr(module, "__path__"):
        things = {k: v for k, v in things.items() if getattr(v, "__module__", None) == module.__name__}
    return sorted(things)


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


class Api(SphinxDirective):
    """Names of one module: a table, then each in full."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        module = import_module(self.arguments[0])
        names = [line.strip() for line in self.content if line.strip()]
        lines = [f".. currentmodule:: {module.__name__}", "", ".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   {name}" for name in names]
        for name in names:
            lines += ["", f".. auto{_kind(getattr(module, name))}:: {name}"]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=False)


def _kind(thing: Any) -> str:
    if inspect.isclass(thing):
        return "class"
    return "function" if inspect.isroutine(thing) else "data"


def typeset_fences(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Markdown's fences in a docstring as code blocks, or as mathematics where they hold equations."""
    lines[:] = FENCE.sub(_directive, "\n".join(lines)).split("\n")


def _directive(fence: re.Match[str]) -> str:
    language, block = fence[1] or "text", fence[2]
    head = f".. code-block:: {language}"
    if not fence[1] and is_equations(block):
        try:
            head, block = ".. math::", to_latex(block)
        except ValueError:
            pass  # as it stands
    return f"\n{head}\n\n" + "\n".join(f"   {line}".rstrip() for line in block.splitlines()) + "\n"


def skip_fields(app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Fields of named tuples stand in the docstring of their class."""
    return True if (inspect.getdoc(thing) or "").startswith("Alias for field number") else None


def check_names(app: Sphinx, environment: Any) -> None:
    """Warn, and so fail under `-W`, where a public name has no entry."""
    entries = environment.domains.python_domain.objects
    for name in sorted(set(page_names()) - set(entries)):
        logger.warning("the public name %s stands on no API page", name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.add_directive("api", Api)
    app.connect("autodoc-process-docstring", typeset_fences, priority=400)  # before napoleon
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("env-check-consistency", check_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
