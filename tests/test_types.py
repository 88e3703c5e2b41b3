"""What a type checker sees: the snippets of README and docs, options that do not exist, an editable install."""

import doctest
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Not those that show the shape of `graph.nodes`: jraph says that it may be anything.
PAGES = [ROOT / "README.md", ROOT / "docs/index.md"]
PAGES += [ROOT / f"docs/guides/{name}.md" for name in ("jit", "training")]

pytestmark = pytest.mark.slow


def check(folder: Path, sources: dict[str, str]) -> list[str]:
    """The errors that pyright finds in files of someone who uses the package."""
    pytest.importorskip("pyright", reason="needs .[dev]")
    for name, source in sources.items():
        (folder / name).write_text(source, encoding="utf-8")
    config = {"extraPaths": [str(ROOT)], "typeCheckingMode": "basic", "include": list(sources)}
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    found = subprocess.run([*command, "-p", folder], capture_output=True, text=True).stdout
    return [
        f"{Path(each['file']).name}:{each['range']['start']['line'] + 1}: {each['message']}"
        for each in json.loads(found)["generalDiagnostics"]
        if each["severity"] == "error"
    ]


def snippets(page: Path) -> str:
    """The doctests of a page as a program, each line where it stands on the page."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * len(text.splitlines())
    for example in doctest.DocTestParser().get_examples(text):
        for index, line in enumerate(example.source.splitlines()):
            lines[example.lineno + index] = line
    return "\n".join(lines) + "\n"


def test_the_snippets_of_the_pages_pass(tmp_path):
    sources = {f"{page.stem}_md.py".lower(): snippets(page) for page in PAGES}
    assert "nnx.Optimizer(model" in sources["readme_md.py"]
    assert not check(tmp_path, sources)


def test_an_option_that_does_not_exist_is_a_type_error_and_names_are_found(tmp_path):
    sources = {
        "model.py": "from flax import nnx\nimport gatjax as g\n"
        "g.GAT(4, 7, hiden_features=32, rngs=nnx.Rngs(0))\n",
        "layer.py": "from flax import nnx\nfrom gatjax import GATConv\n"
        "GATConv(4, 8, dropout_rat=0.5, rngs=nnx.Rngs(0))\n",
        "rooms.py": "import gatjax as g\n"
        "g.training.train, g.plots.save, g.data.load, g.GATConv, g.no_such_name\n",
    }
    assert sorted(check(tmp_path, sources)) == [
        'layer.py:3: No parameter named "dropout_rat"',
        'model.py:3: No parameter named "hiden_features"',
        'rooms.py:2: "no_such_name" is not a known attribute of module "gatjax"',
    ]


def test_an_editable_install_is_a_path_that_type_checkers_follow(tmp_path):
    source = tmp_path / "source"
    for name in ("pyproject.toml", "README.md", "LICENSE", "gatjax/__init__.py", "gatjax/py.typed"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    code = f"from setuptools import build_meta; build_meta.build_editable({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (pth,) = [name for name in archive.namelist() if not name.startswith("gatjax-")]
        assert pth.endswith(".pth") and archive.read(pth).decode().strip() == str(source)
