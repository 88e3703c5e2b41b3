"""API pages: one directive lists the names of a page, and docstrings become pages as they are.

    .. api:: gatjax

       GATConv
       GATv2Conv

gives a table of the names with their first lines, then every one of them in full.
"""

import ast
import inspect
import re
import textwrap
from importlib import import_module
from typing import Any

from docutils import nodes
from equations import is_equations, to_latex
from names import ROOMS, page_names
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)

LONE_LETTER = re.compile(r"^(\s+\w+: )([A-Z]\.)$", re.MULTILINE)  # `num_heads: H.`, no list
NAMES_ON_TWO_LINES = re.compile(r"^(\s+[\w, *]+,)\n\s+([\w, *]+: )", re.MULTILINE)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Api(SphinxDirective):
    """Names of one module: a table, then each in full."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        module = import_module(self.arguments[0])
        names = [line.strip() for line in self.content if line.strip()]
        lines = [
            f".. currentmodule:: {module.__name__}",
            "",
            ".. autosummary::",
            "   :nosignatures:",
            "",
        ]
        lines += [f"   {name}" for name in names]
        for name in names:
            lines += ["", f".. auto{_kind(getattr(module, name))}:: {name}"]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=False)


class LinkNames(SphinxTransform):
    """On every page, notebooks included, a public name in backticks is a link.

    In docstrings it is one already; there, words such as `graph` and `data` mean arguments and no rooms.
    """

    default_priority = 400

    def apply(self, **options: Any) -> None:
        names = page_names()
        for link in list(self.document.findall(pending_xref)):
            if link.get("reftarget") in ROOMS:
                link.replace_self(link.children)
        for literal in list(self.document.findall(nodes.literal)):
            text = literal.astext()
            target = text if text in names else f"gatjax.{text}"
            if target in names and isinstance(
                literal.parent, (nodes.paragraph, nodes.entry, nodes.strong)
            ):
                link = pending_xref(
                    "", refdomain="py", reftype="obj", reftarget=target, refdoc=self.env.docname
                )
                literal.replace_self(link)
                link += literal


def link_to_root(
    app: Sphinx, environment: Any, node: Any, content: nodes.Node
) -> nodes.Node | None:
    """A name of the root in a docstring of another room, unless it is a plain word, such as `batch`."""
    name = node.get("reftarget", "")
    target = f"gatjax.{name}"
    domain = environment.domains.python_domain
    is_plain = name.isalpha() and name.islower()
    if node.get("refdomain") != "py" or is_plain or target not in page_names():
        return None
    return domain.resolve_xref(
        environment, node["refdoc"], app.builder, "obj", target, node, content
    )


def _kind(thing: Any) -> str:
    if inspect.isclass(thing):
        return "class"
    return "function" if inspect.isroutine(thing) else "data"


def typeset_fences(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Markdown's fences in a docstring as code blocks, or as mathematics where they hold equations."""
    if what == "data" and inspect.getdoc(type(thing)) == "\n".join(lines).strip():
        lines.clear()  # that of the constant's type
    text = LONE_LETTER.sub(r"\1\\\2", "\n".join(lines))
    text = NAMES_ON_TWO_LINES.sub(r"\1 \2", text)
    lines[:] = FENCE.sub(_directive, text).split("\n")


def _directive(fence: re.Match[str]) -> str:
    language, block = fence[1] or "text", fence[2]
    head = f".. code-block:: {language}"
    if not fence[1] and is_equations(block):
        try:
            head, block = ".. math::", to_latex(block)
        except ValueError:
            pass  # as it stands
    return f"\n{head}\n\n" + "\n".join(f"   {line}".rstrip() for line in block.splitlines()) + "\n"


def signature_as_written(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str, returns: str
) -> tuple[str, str | None] | None:
    """The annotations of the source, `Float[ArrayLike, "E H"]`, where Python knows only what they stand for."""
    if not (inspect.isclass(thing) or inspect.isroutine(thing)):
        return None
    if "__signature__" in getattr(thing, "__dict__", {}):  # options that the source does not show
        return _options(inspect.signature(thing)), returns
    is_record = inspect.isclass(thing) and (
        hasattr(thing, "_fields") or hasattr(thing, "__dataclass_fields__")
    )
    if inspect.isclass(thing) and not is_record:
        function = thing.__init__
        if not getattr(function, "__module__", "").startswith("gatjax."):
            return ("()", None) if signature else None  # no constructor of its own
    else:
        function = thing
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body[0]
    except (OSError, TypeError):
        return None  # not written in Python
    if isinstance(tree, ast.ClassDef):
        return (
            f"({', '.join(_field(line) for line in tree.body if isinstance(line, ast.AnnAssign))})",
            None,
        )
    assert isinstance(tree, ast.FunctionDef)
    arguments = tree.args
    if what in ("class", "method") and arguments.args[0].arg == "self":
        del arguments.args[0]
    return f"({ast.unparse(arguments)})", tree.returns and ast.unparse(tree.returns)


def _options(signature: inspect.Signature) -> str:
    """Names and defaults; of the types only those that need no explanation."""
    parts: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        simple = parameter.annotation in (bool, int, float, str)
        text = f"{parameter.name}: {parameter.annotation.__name__}" if simple else parameter.name
        if parameter.default is not parameter.empty:
            name = getattr(parameter.default, "__qualname__", repr(parameter.default))
            text += f" = {'...' if '<locals>' in name else name}"
        parts.append(text)
    return f"({', '.join(parts)})"


def _field(line: ast.AnnAssign) -> str:
    """A field of a named tuple or a dataclass, as an argument."""
    default = "" if line.value is None else f" = {ast.unparse(line.value)}"
    return f"{ast.unparse(line.target)}: {ast.unparse(line.annotation)}{default}"


def skip_undocumented(
    app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what Python itself documents: fields of named tuples, calls without a docstring."""
    text = inspect.getdoc(thing) or ""
    return True if text.startswith(("Alias for field number", "Call self as a function")) else None


def check_names(app: Sphinx, environment: Any) -> None:
    """Warn, and so fail under `-W`, where a public name has no entry."""
    entries = environment.domains.python_domain.objects
    for name in sorted(set(page_names()) - set(entries)):
        logger.warning("the public name %s stands on no API page", name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.add_directive("api", Api)
    app.add_transform(LinkNames)
    app.connect("missing-reference", link_to_root)
    app.connect("autodoc-process-docstring", typeset_fences, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", signature_as_written)
    app.connect("autodoc-skip-member", skip_undocumented)
    app.connect("env-check-consistency", check_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
