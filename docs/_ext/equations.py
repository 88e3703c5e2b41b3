r"""The docstrings' equations, plain Unicode that a terminal shows well, as LaTeX for the pages.

>>> print(to_latex("e_ij = LeakyReLU(a_r · z_i)"))
\begin{aligned}
e_{ij} &= \operatorname{LeakyReLU} (a_{r} \cdot z_{i})
\end{aligned}

A block of lines is an equation block if `is_equations` says so; what `to_latex` cannot read raises `ValueError`, and
the page then shows the block as it stands in the docstring.

* One equation per line, or several with two spaces or more between them; what has no `=` is a remark on the one
  before, or the label of the first on its line.
* `x_ij`, `x_{...}`, `x^r`, `x^(l)`, `x'`, `x̄`; Greek letters; `Σ_j`, `max_j`, `‖_h`; `·`, `‖`, `->`, `-r->`.
* Words that no bracket follows are prose: "softmax of e_ij over the edges k".
* `1/n` is a fraction; so is `a / b` where it is a whole right-hand side and cannot be read otherwise.
"""

import re
import unicodedata
from typing import NamedTuple

GREEK = {
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "δ": "delta",
    "ε": "epsilon",
    "ζ": "zeta",
    "η": "eta",
    "θ": "theta",
    "κ": "kappa",
    "λ": "lambda",
    "μ": "mu",
    "ν": "nu",
    "ξ": "xi",
    "π": "pi",
    "ρ": "rho",
    "σ": "sigma",
    "τ": "tau",
    "φ": "varphi",
    "χ": "chi",
    "ψ": "psi",
    "ω": "omega",
    "Γ": "Gamma",
    "Δ": "Delta",
    "Θ": "Theta",
    "Λ": "Lambda",
    "Φ": "Phi",
    "Ψ": "Psi",
    "Ω": "Omega",
    "∂": "partial",
    "∞": "infty",
    "∇": "nabla",
    "ℓ": "ell",
}
# Letters that stand with combining marks, after decomposition.
ACCENTS = {"\u0304": "bar", "\u0302": "hat", "\u0303": "tilde", "\u0307": "dot"}
SUPERSCRIPTS = {"⁰": "0", "¹": "1", "²": "2", "³": "3", "⁻": "-", "ᵀ": r"\top", "⊤": r"\top"}
# Signs that bring their own space, longest first.
SIGNS = {
    "...": r"\dots",
    "->": r"\to",
    "<=": r"\le",
    ">=": r"\ge",
    "→": r"\to",
    "·": r"\cdot",
    "‖": r"\mathbin{\Vert}",
    "×": r"\times",
    "⊙": r"\odot",
    "∘": r"\circ",
    "±": r"\pm",
    "≤": r"\le",
    "≥": r"\ge",
    "≠": r"\ne",
    "≈": r"\approx",
    "∈": r"\in",
    "∪": r"\cup",
    "∩": r"\cap",
    "=": "=",
    "+": "+",
    "-": "-",
    "−": "-",
    "*": "*",
    "<": "<",
    ">": ">",
    ",": ",",
    ";": ";",
    ":": ":",
    "!": "!",
    ".": ".",
    "/": "/",
}
NARY = {"Σ": r"\sum", "Π": r"\prod", "∏": r"\prod", "∑": r"\sum", "‖": r"\mathop{\Big\Vert}"}
# Names that never are prose, and how they are set; limits stand below those with a star.
OPERATORS = {
    name: rf"\{name}" for name in ("exp", "log", "max", "min", "sin", "cos", "tanh", "argmax")
} | {
    "argmax": r"\operatorname*{argmax}",
    "softmax": r"\operatorname*{softmax}",
    "hardmax": r"\operatorname*{hardmax}",
    "mean": r"\operatorname*{mean}",
    "LeakyReLU": r"\operatorname{LeakyReLU}",
    "relu": r"\operatorname{relu}",
    "ReLU": r"\operatorname{ReLU}",
    "ELU": r"\operatorname{ELU}",
    "sigmoid": r"\operatorname{sigmoid}",
    "attention_layer": r"\mathtt{attention\_layer}",
}
SCRIPT_WORDS = {"res", "max", "min", "out", "key"}
SCRIPT_INDICES = {"sk": "s_k", "rk": "r_k"}  # sender and receiver of edge k
BRACKETS = {"(": ")", "[": "]", "{": "}", "|": "|", "<": ">"}
DELIMITERS = {"{": r"\{", "}": r"\}", "<": r"\langle ", ">": r"\rangle"}

LABEL = re.compile(r"[\w\"\[\], ]+: \S+")  # `array w: y`, `"paper": g_i`
NAME = re.compile(r"[A-Za-z]+(?:_[A-Za-z]{2,}(?=\())?")
SCRIPT = re.compile(r"[^\W_]+(?:,[^\W_]+)*")
ARROW = re.compile(r"-(\w)->")
WORD = re.compile(r"[A-Za-z]{2,}(?:'s\b|-[a-z]{2,})*")
CODE = re.compile(
    r"\s# |\b[A-Za-z]{2,}_[A-Za-z]{2,}\b|\w=\S|\*\*|>>>|\bdef\b|\bimport\b|\breturn\b"
)


class Item(NamedTuple):
    """One piece of a formula: an "atom", a "sign" or a "word" of prose, and whether a space stands before it."""

    kind: str
    tex: str
    spaced: bool


def is_equations(block: str) -> bool:
    """Whether every line is an equation and none is code.

    >>> is_equations("y_i = Σ_j x_j"), is_equations("logits = attention_logits(graph)  # [E, H]")
    (True, False)
    >>> is_equations("layer(graph) -> GraphsTuple")
    False
    """
    lines = [line for line in block.splitlines() if line.strip()]
    text = block
    for name in OPERATORS:
        text = text.replace(name, "f")
    return bool(lines) and all(" = " in line for line in lines) and not CODE.search(text)


def to_latex(block: str) -> str:
    """The lines of a block, aligned at their equals signs."""
    rows: list[str] = []
    remarks: dict[int, str] = {}
    longest = 0
    for line in block.splitlines():
        cells = _cells(line)
        label = ""
        for index, cell in enumerate(cells):
            if equation := _equation(cell):
                longest = max(longest, len(cell))
                rows.append(label + equation)
                label = ""
            elif index == 0 and len(cells) > 1 and _equation(cells[1]):
                label = rf"{join(read(cell))} \quad "
            elif rows:
                remarks[len(rows) - 1] = cell
            else:
                raise ValueError(f"a remark without an equation: {cell!r}")
    # Remarks stand in a column of their own where there is room, else each after its equation.
    widest = longest + max(map(len, remarks.values()), default=0)
    for row, remark in remarks.items():
        rows[row] += (" && " if widest < 85 else r" \qquad ") + join(read(remark))
    body = " \\\\\n".join(rows)
    return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"


def _cells(line: str) -> list[str]:
    """What stands apart by two spaces or more, other than around `=` and after `:`."""
    line = re.sub(r"\s+=\s+", " = ", re.sub(r":\s+", ": ", line.strip()))
    return re.split(r"\s{2,}", line) if line else []


def _equation(cell: str) -> str:
    """The row of an equation; nothing if the cell is a remark."""
    left, equals, right = cell.partition(" = ")
    items = read(left)
    if not equals or (_is_prose(items) and not LABEL.fullmatch(left)):
        return ""
    return f"{join(_fraction(items))} &= {join(_fraction(read(right)))}"


def _is_prose(items: list[Item]) -> bool:
    """Whether two words follow each other."""
    return any(
        first.kind == second.kind == "word" for first, second in zip(items, items[1:], strict=False)
    )


def join(items: list[Item]) -> str:
    """LaTeX of the pieces: prose in one run, with a space towards its neighbours."""
    out: list[str] = []
    for index, item in enumerate(items):
        before = items[index - 1] if index else None
        if item.kind == "word":
            if before is not None and before.kind == "word":
                out[-1] = out[-1][:-1] + " " * item.spaced + item.tex + "}"
            else:
                space = " " if before is not None and item.spaced else ""
                out.append(rf"\text{{{space}{item.tex}}}")
            continue
        if before is not None and before.kind == "word" and item.spaced:
            out[-1] = out[-1][:-1] + " }"
        elif before is not None and item.spaced and item.tex.startswith(r"(\text"):
            out.append(r"\ ")  # prose in brackets
        out.append(item.tex)
    return " ".join(out)


def _fraction(items: list[Item]) -> list[Item]:
    """`a / b`, where it is all there is and reads one way only, as a fraction."""
    at = [i for i, item in enumerate(items) if item == Item("sign", "/", True)]
    if len(at) != 1:
        return items
    above, below, tail = items[: at[0]], items[at[0] + 1 :], []
    if below and below[-1].tex == ",":
        below, tail = below[:-1], below[-1:]
    texts = [item.tex for item in above + below]
    one_way = len(below) == 1 or below[:1] == [] or below[0].tex.startswith((r"\sum", "d"))
    if any(text in ("+", "-", "=", ",") for text in texts) or not one_way:
        return items
    if any(item.tex.startswith(r"\sum") for item in above):
        return items
    return [Item("atom", rf"\frac{{{join(above)}}}{{{join(below)}}}", False), *tail]


def read(text: str) -> list[Item]:
    """The pieces of a formula."""
    text = unicodedata.normalize("NFD", text)
    items: list[Item] = []
    at = 0
    while at < len(text):
        start = at
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            break
        item, at = _item(text, at, spaced=at > start)
        items.append(item)
    return _settle(_tight_fractions(items))


def _item(text: str, at: int, spaced: bool) -> tuple[Item, int]:
    char, rest = text[at], text[at:]
    if char == '"':
        end = text.index('"', at + 1)
        return Item("word", f"“{text[at + 1 : end]}”", spaced), end + 1
    if rest.startswith("#{"):
        inner, at = _bracket(text, at + 1)
        return Item("atom", rf"\#{inner}", spaced), at
    if arrow := ARROW.match(rest):
        return Item("sign", rf"\xrightarrow{{{arrow[1]}}}", spaced), at + arrow.end()
    if char in NARY and (char != "‖" or rest[1:2] == "_"):
        scripts, at = _scripts(text, at + 1)
        return Item("atom", NARY[char] + scripts, spaced), at
    if char in BRACKETS and (char != "<" or not rest[1:2].isspace()) and not rest.startswith("<="):
        inner, at = _bracket(text, at)
        scripts, at = _scripts(text, at)
        return Item("atom", inner + scripts, spaced), at
    for sign, tex in SIGNS.items():
        if rest.startswith(sign):
            return Item("sign", tex, spaced), at + len(sign)
    if number := re.match(r"\d+(?:\.\d+)?(?:e-?\d+)?", rest):
        scripts, at = _scripts(text, at + number.end())
        return Item("atom", number[0] + scripts, spaced), at
    if char in GREEK:
        return _letter("\\" + GREEK[char], text, at + 1, spaced)
    name = NAME.match(rest)
    if name is None:
        raise ValueError(f"cannot set {char!r} of {text!r} as mathematics")
    return _named(name[0], text, at + name.end(), spaced)


def _named(name: str, text: str, at: int, spaced: bool) -> tuple[Item, int]:
    """A variable, a function, or a word of prose."""
    if len(name) == 1:
        return _letter(name, text, at, spaced)
    if name == "sqrt" and text[at : at + 1] == "(":
        end = _closing(text, at)
        return Item("atom", rf"\sqrt{{{join(read(text[at + 1 : end]))}}}", spaced), end + 1
    word = WORD.match(text, at - len(name))
    assert word is not None
    if word.end() > at:
        return Item("word", word[0], spaced), word.end()
    scripts, end = _scripts(text, at)
    called = text[end : end + 1] in ("(", "[") and end == at
    if name in OPERATORS and not scripts and not called:
        return Item("operator", name, spaced), end  # perhaps prose: `_settle` knows
    if name in OPERATORS:
        return Item("atom", OPERATORS[name] + scripts, spaced), end
    if text[end : end + 1] in ("(", "["):
        return Item("atom", rf"\operatorname{{{name}}}{scripts}", spaced), end
    if scripts or name == "scale":
        return Item("atom", rf"\mathrm{{{name}}}{scripts}", spaced), end
    return Item("word", name, spaced), at


def _letter(tex: str, text: str, at: int, spaced: bool) -> tuple[Item, int]:
    while text[at : at + 1] in ACCENTS and at < len(text):
        tex, at = rf"\{ACCENTS[text[at]]}{{{tex}}}", at + 1
    scripts, at = _scripts(text, at)
    return Item("atom", tex + scripts, spaced), at


def _scripts(text: str, at: int) -> tuple[str, int]:
    """Primes, subscripts and superscripts."""
    tex = ""
    while at < len(text):
        char = text[at]
        if char == "'":
            tex, at = tex + "'", at + 1
        elif char in SUPERSCRIPTS:
            end = at
            while end < len(text) and text[end] in SUPERSCRIPTS:
                end += 1
            tex, at = tex + f"^{{{''.join(SUPERSCRIPTS[c] for c in text[at:end])}}}", end
        elif char in "_^" and text[at + 1 : at + 2] in ("{", "("):
            end = _closing(text, at + 1)
            inner = join(read(text[at + 2 : end]))
            inner = f"({inner})" if text[at + 1] == "(" else _element_of(inner)
            tex, at = tex + f"{char}{{{inner}}}", end + 1
        elif char in "_^" and (script := SCRIPT.match(text, at + 1)):
            tex, at = tex + f"{char}{{{_script(script[0])}}}", script.end()
        else:
            break
    return tex, at


def _script(text: str) -> str:
    """Indices side by side, or a word.

    >>> _script("ij"), _script("res"), _script("iH")
    ('ij', '\\\\mathrm{res}', 'iH')
    """
    if text in SCRIPT_INDICES:
        return SCRIPT_INDICES[text]
    if text in SCRIPT_WORDS or (len(text) > 3 and text.isascii() and text.isalpha()):
        return rf"\mathrm{{{text}}}"
    return "".join(rf"\{GREEK[char]} " if char in GREEK else char for char in text)


def _element_of(tex: str) -> str:
    return tex.replace(r"\text{ in }", r"\in ")


def _closing(text: str, at: int) -> int:
    """Where the bracket at `at` is closed."""
    opening, closing = text[at], BRACKETS[text[at]]
    depth = 0
    for index in range(at, len(text)):
        is_arrow = closing == ">" and text[index - 1] == "-"
        if text[index] == closing and index > at and not is_arrow:
            depth -= 1
            if depth == 0:
                return index
        elif text[index] == opening:
            depth += 1
    raise ValueError(f"{opening!r} is not closed in {text!r}")


def _bracket(text: str, at: int) -> tuple[str, int]:
    end = _closing(text, at)
    opening, closing = (DELIMITERS.get(char, char) for char in (text[at], text[end]))
    inner = join(read(text[at + 1 : end]))
    if r"\sum" in inner or r"\frac" in inner:
        opening, closing = rf"\left{opening}", rf"\right{closing}"
    return f"{opening}{inner}{closing}", end + 1


def _tight_fractions(items: list[Item]) -> list[Item]:
    """`1/n`, without spaces, as a fraction."""
    items = list(items)
    while Item("sign", "/", False) in items:
        at = items.index(Item("sign", "/", False))
        first, last = at - 1, at + 1
        while first > 0 and not items[first].spaced and items[first - 1].kind == "atom":
            first -= 1
        while (
            last + 1 < len(items) and not items[last + 1].spaced and items[last + 1].kind == "atom"
        ):
            last += 1
        if first < 0 or last >= len(items) or items[last].spaced:
            raise ValueError("a fraction without a numerator or a denominator")
        above, below = items[first:at], items[at + 1 : last + 1]
        tex = rf"\frac{{{join(above)}}}{{{join(below)}}}"
        items[first : last + 1] = [Item("atom", tex, items[first].spaced)]
    return items


def _settle(items: list[Item]) -> list[Item]:
    """Tell prose from mathematics where only the neighbours show it.

    An operator before prose, punctuation or the end is a word, the letter "a" before a word is the article, and
    punctuation after a word is part of it.
    """
    out: list[Item] = []
    for index, item in reversed(list(enumerate(items))):
        after = out[-1] if out else Item("word", "", True)
        before = items[index - 1] if index else None
        if item.kind == "operator":
            is_word = after.kind == "word" or after.tex in ",:;"
            item = (
                Item("word", item.tex, item.spaced)
                if is_word
                else Item("atom", OPERATORS[item.tex], item.spaced)
            )
        elif item.tex == "a" and after.kind == "word" and after.spaced and after.tex:
            item = Item("word", "a", item.spaced)
        elif item.tex in (",", ":", ";") and not item.spaced and before is not None:
            if before.kind in ("word", "operator"):
                item = Item("word", item.tex, False)
        out.append(item)
    return out[::-1]
