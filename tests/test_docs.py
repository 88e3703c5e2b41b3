"""The documentation: equations, names on API pages, tables from results, changelog, and the site as a whole."""

import ast
import doctest
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def extension(name: str) -> ModuleType:
    """A file of `docs/_ext` that needs no Sphinx."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "_ext" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def equations() -> ModuleType:
    return extension("equations")


def body(latex: str) -> str:
    first, *lines, last = latex.splitlines()
    assert (first, last) == (r"\begin{aligned}", r"\end{aligned}")
    return "\n".join(lines)


def test_equations_have_doctests_that_pass(equations):
    result = doctest.testmod(equations)
    assert result.attempted and not result.failed


@pytest.mark.parametrize(
    ("plain", "latex"),
    [
        ("h'_i = W h_i + b", r"h'_{i} &= W h_{i} + b"),
        ("ē_il = Σ_hc ē_ihc w_hcl", r"\bar{e}_{il} &= \sum_{hc} \bar{e}_{ihc} w_{hcl}"),
        ("y = W_res x + W_q,h z", r"y &= W_{\mathrm{res}} x + W_{q,h} z"),
        ("z_i^r = h^(l+1)", r"z_{i}^{r} &= h^{(l + 1)}"),
        (
            "α_ij = exp(e_ij) / Σ_{k -> i} exp(e_ik)",
            r"\alpha_{ij} &= \frac{\exp (e_{ij})}{\sum_{k \to i} \exp (e_{ik})}",
        ),
        ("n_i = 1/|N(i)| Σ_j b_j", r"n_{i} &= \frac{1}{|N (i)|} \sum_{j} b_{j}"),
        ("∂L/∂v = α g", r"\frac{\partial L}{\partial v} &= \alpha g"),
        ("y = a + b / c", "y &= a + b / c"),
        ("y = Σ_j a_j / d", r"y &= \sum_{j} a_{j} / d"),
        ("e = q · k / sqrt(C)", r"e &= \frac{q \cdot k}{\sqrt{C}}"),
        ("x = f(Σ_r Σ_{j -r-> i} z)", r"x &= f \left(\sum_{r} \sum_{j \xrightarrow{r} i} z\right)"),
        (
            "y = x_1 ‖ ... ‖ x_H",
            r"y &= x_{1} \mathbin{\Vert} \dots \mathbin{\Vert} x_{H}",
        ),
        (
            "b = softmax over the edges k of scale · q",
            r"b &= \text{softmax over the edges } k \text{ of } \mathrm{scale} \cdot q",
        ),
        ("y_g = Σ_{i in g} h_i", r"y_{g} &= \sum_{i \in  g} h_{i}"),
        ("a = <g, v>", r"a &= \langle g , v\rangle"),
        (
            "mean: y = x    max:  y = max_h x",
            "\\text{mean: } y &= x \\\\\n\\text{max: } y &= \\max_{h} x",
        ),
        ("y = x      a remark on x", r"y &= x && \text{a remark on } x"),
        ("mean  y = x", r"\text{mean} \quad y &= x"),
    ],
)
def test_an_equation_becomes_mathematics(equations, plain, latex):
    assert equations.is_equations(plain)
    assert body(equations.to_latex(plain)) == latex


@pytest.mark.parametrize(
    "code",
    [
        "logits = attention_logits(graph, score, weights)     # [E, H]",
        "layer(graph, *, edge_mask=None) -> GraphsTuple",
        "edge_update(edges, senders, receivers, globals)     rows [E, ...]",
        "from gatjax import GAT\nmodel = GAT(3, 4)",
        "",
    ],
)
def test_code_is_no_equation(equations, code):
    assert not equations.is_equations(code)


@pytest.mark.parametrize("strange", ["y = x ☃ z", "y = (x", "y = 1/ x"])
def test_what_cannot_be_read_is_an_error_and_no_guess(equations, strange):
    with pytest.raises(ValueError, match=r"set|closed|fraction"):
        equations.to_latex(strange)


def docstrings() -> list[tuple[str, str]]:
    found = []
    for file in sorted((ROOT / "gatjax").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                name = f"{file.relative_to(ROOT)}: {getattr(node, 'name', 'module')}"
                found.append((name, ast.get_docstring(node) or ""))
    return found


def test_every_fence_with_mathematical_signs_is_set_as_mathematics(equations):
    blocks = [(name, block) for name, text in docstrings() for block in FENCE.findall(text)]
    mathematical = [(name, block) for name, block in blocks if re.search("[Σα-ω·‖]", block)]
    assert len(mathematical) > 20
    for name, block in mathematical:
        assert equations.is_equations(block), (
            f"{name}: every line needs ` = `, or name the fence ```text"
        )
        latex = equations.to_latex(block)
        assert latex.count("{") == latex.count("}"), name
        assert latex.count(r"\left") == latex.count(r"\right"), name


def listed(page: Path) -> set[str]:
    """The names that an API page lists, in full."""
    names, module = set(), ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if found := re.fullmatch(r"\.\. api:: (\S+)", line):
            module = found[1]
        elif module and (found := re.fullmatch(r"   (\w+)", line)):
            names.add(f"{module}.{found[1]}")
        elif line:
            module = ""
    return names


def test_every_public_name_stands_on_the_page_of_its_room():
    names = extension("names").page_names()
    assert len(names) > 100 and "gatjax.GATConv" in names and "gatjax.training.train" in names
    for room in extension("names").ROOMS:
        expected = {name for name, home in names.items() if home == room}
        found = listed(DOCS / "api" / f"{room}.rst")
        assert expected and not expected - found, f"missing on docs/api/{room}.rst"
        for name in found - expected:  # the interface of a room, which it does not export
            module, _, name = name.rpartition(".")
            assert getattr(importlib.import_module(module), name).__module__ == module
    assert "gatjax" not in names.values(), "a name of the root that no room has"


def test_every_notebook_and_page_is_in_a_table_of_contents():
    contents = "\n".join(
        page.read_text(encoding="utf-8") for page in (DOCS / "index.md", DOCS / "api" / "index.md")
    )
    pages = [*DOCS.glob("*.md"), *DOCS.glob("guides/*.md"), *DOCS.glob("api/*.rst")]
    pages += (ROOT / "notebooks").glob("*.ipynb")
    for page in pages:
        assert page.name == "index.md" or re.search(
            rf"^(\w+/)?{page.stem}$", contents, re.MULTILINE
        ), page


def test_the_pages_say_what_the_results_say():
    import tables

    assert {page.resolve() for page in tables.PAGES} == {
        ROOT / "README.md",
        DOCS / "results.md",
        DOCS / "from_pyg.md",
        DOCS / "from_dgl_jraph.md",
        DOCS / "speed.md",
        DOCS / "gpus.md",
        DOCS / "sizes.md",
        DOCS / "guides" / "recipes.md",
    }
    for page, blocks in tables.PAGES.items():
        text = page.read_text(encoding="utf-8")
        assert tables.fill(text, blocks) == text, "run python experiments/tables.py"


def test_every_recorded_benchmark_stands_on_the_page_of_speed_or_of_gpus():
    import tables

    files = {
        path.stem.removeprefix("benchmark-") for path in tables.RESULTS.glob("benchmark-*.json")
    }
    assert files == set(tables.BENCHMARKS | tables.GPU_BENCHMARKS)


@pytest.mark.parametrize(
    ("build", "pattern", "script"),
    [
        ("traffic_tables", "traffic-los-loop.json", "traffic.py"),
        ("study_tables", "study-*.json", "controls.py"),
        ("lookup_tables", "dictionary-lookup*.json", "dictionary_lookup.py"),
    ],
)
def test_a_promised_result_that_is_missing_is_an_error(
    tmp_path, monkeypatch, build, pattern, script
):
    import tables

    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    with pytest.raises(SystemExit) as error:
        getattr(tables, build)()
    assert pattern in str(error.value) and f"python experiments/{script}" in str(error.value)


def test_the_version_has_a_heading_in_the_changelog():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    headings = re.findall(
        r"^## (\S+)", (DOCS / "changelog.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert headings[0] == "Unreleased" and version in headings


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 180


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_lists_every_public_name(tmp_path):
    pytest.importorskip("sphinx", reason="needs .[docs]")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    run = subprocess.run([*command, DOCS, tmp_path], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    packed = (tmp_path / "objects.inv").read_bytes().split(b"\n", 4)[4]  # after four lines of head
    entries = {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}
    assert set(extension("names").page_names()) <= entries
