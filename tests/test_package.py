"""The package as a whole: what a wheel holds, which file may import which, what the root exports."""

import ast
import graphlib
import importlib
import inspect
import os
import pydoc
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import gatjax

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gatjax"

# Each room may import those above it, and nobody the root.
ROOMS = ["ops", "graph", "attention", "layers", "training", "models", "data", "explain", "plots"]


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imported(path):
    """The modules of the package that a file imports, at its top or inside its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("gatjax"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gatjax"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in FILES else node.module for name in names)


IMPORTS = {name: set(imported(path)) for name, path in FILES.items() if name != "gatjax"}


def room(module):
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_only_those_above_it(name):
    for module in filter(lambda module: room(module) == name, IMPORTS):
        allowed = {*ROOMS[: ROOMS.index(name)], name}
        assert {room(other) for other in IMPORTS[module]} <= allowed, module


def test_every_file_stands_in_a_room():
    assert {room(module) for module in IMPORTS} == set(ROOMS)


def test_no_import_cycle():
    graphlib.TopologicalSorter(IMPORTS).prepare()


ROOM_MODULES = [importlib.import_module(f"gatjax.{name}") for name in ROOMS]


def test_a_room_says_what_it_exports_and_the_root_has_it():
    """Training, data, explain and plots are used by their names."""
    for module in ROOM_MODULES:
        assert sorted(module.__all__) == defined(module), module.__name__
        for public in module.__all__:
            elsewhere = room(module.__name__) in ("training", "data", "explain", "plots")
            assert elsewhere or public in gatjax.__all__, f"{module.__name__}.{public}"
    assert len(gatjax.__all__) == len(set(gatjax.__all__))


def defined(module):
    """What a module, or a file of its room, defines, and the module shows."""
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and (
            getattr(value, "__module__", "").startswith(module.__name__)
            or hasattr(module, "__path__")
        )
    )


def test_completion_and_help_know_every_room_and_name():
    for room, module in zip(ROOMS, ROOM_MODULES, strict=True):
        assert room in dir(gatjax) and getattr(gatjax, room) is module
    for name in gatjax.__all__:
        assert name in dir(gatjax) and name in gatjax.__doc__
    text = pydoc.plain(pydoc.render_doc(gatjax))
    for module in ROOM_MODULES[:-1]:
        assert f"{module.__name__}: {module.__all__[0]}" in text
        assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="no attribute 'GATconv'"):
        gatjax.GATconv  # noqa: B018


def test_every_class_explains_its_methods():
    classes = {
        value
        for module in ROOM_MODULES
        for value in map(vars(module).get, module.__all__)
        if inspect.isclass(value)
    }
    assert len(classes) > 30
    silent = [
        f"{each.__module__}.{each.__qualname__}.{name}"
        for each in classes
        for name, method in vars(each).items()
        if (name[0] != "_" or name == "__call__")
        and (inspect.isfunction(method) or isinstance(method, property))
        and not any(vars(base)[name].__doc__ for base in each.__mro__ if name in vars(base))
    ]
    assert not silent


def test_only_plots_imports_matplotlib():
    users = {path.parent.name for path in PACKAGE.rglob("*.py") if "matplotlib" in path.read_text()}
    assert users == {"plots"}


def test_every_export_is_documented():
    public = {name: getattr(gatjax, name) for name in gatjax.__all__}
    assert {"GATConv", "edge_attention", "build_graph", "GAT", "load_model"} <= set(public)
    undocumented = [name for name, value in public.items() if not inspect.getdoc(value)]
    assert not undocumented


def test_nothing_reaches_for_the_network_on_import():
    code = (
        "import socket, sys; socket.socket.connect = socket.getaddrinfo = None\n"
        "import gatjax, gatjax.data, gatjax.explain, gatjax.training, gatjax.plots\n"
        "assert gatjax.__version__ and 'rdkit' not in sys.modules"
    )
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "gatjax", "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, tracked):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", folder, source], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_data_types_and_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "gatjax/py.typed" in names
    assert "gatjax/data/bundled/citeseer.npz" in names
    assert "gatjax/data/bundled/freesolv.csv" in names
    assert "gatjax/data/bundled/imdb.npz" in names
    assert wheel.stat().st_size < 2_000_000
    assert "gatjax/data/bundled/README.md" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "experiments", "notebooks"))]


def test_the_wheel_installed_elsewhere_loads_its_data(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import gatjax.data, pathlib\n"
        f"assert pathlib.Path(gatjax.__file__).is_relative_to({str(tmp_path)!r}), gatjax.__file__\n"
        "print(gatjax.data.load('citeseer').num_edges)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "GATJAX_DATA"}
    environment |= {"PYTHONPATH": str(tmp_path / "site"), "JAX_PLATFORMS": "cpu"}
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert process.stdout.strip() == "9104", process.stderr


def test_arrays_of_a_shape_are_named_by_what_takes_a_shape():
    """NumPy's own alias of what makes an array is no union of types from Python 3.12 and NumPy 2.5 on."""
    shaped = re.compile(r"\b[A-Z]\w+\[\s*(npt\.)?ArrayLike,")
    for path in sorted((ROOT / "gatjax").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        aliases = set(re.findall(r"^from (\S+) import .*\bArrayLike\b", text, re.MULTILINE))
        if "numpy.typing" in aliases:
            assert not shaped.search(text), path
        assert "[npt.ArrayLike," not in text, path
