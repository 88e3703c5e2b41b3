"""Every row of the page "What happens when": the situation is brought about, and ends in what stands there."""

import errno
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import gatjax
from gatjax import GATConv, build_graph, load_model, save_model
from gatjax.data import load, load_folder
from gatjax.training import Checkpoints, Labels, Training, node_classification, train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "guides" / "what_happens_when.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith(("|-", "| situation"))
]
SITUATIONS = {}


def situation(name):
    def keep(function):
        SITUATIONS[name] = function
        return function

    return keep


def message_of(function, *arguments, **options):
    """What the error says, its class before it; a script that ends says so too."""
    with pytest.raises((Exception, SystemExit)) as raised:
        function(*arguments, **options)
    return f"{raised.type.__name__}: {raised.value}"


EYE = np.eye(2, dtype=np.float32)
GRAPH = build_graph([0, 1], [1, 0], EYE)


def conv(in_features=2, **options):
    return GATConv(in_features, 3, **options, rngs=nnx.Rngs(0))


def folder_with(path, **files):
    texts = {"edges": "sender,receiver\n0,1\n", "features": "a\n1\n2\n", "labels": "label\na\nb\n"}
    for name, text in (texts | files).items():
        if text is not None:
            (path / f"{name}.csv").write_text(text)
    return path


@situation("NaN among the features of a folder")
def nan_in_data(path):
    return message_of(load_folder, folder_with(path, features="a\n1\nnan\n"))


@situation("labels that count from 1")
def labels_from_one(path):
    return message_of(load_folder, folder_with(path, labels="label\n1\n2\n"))


@situation("an array that claims more than its file has")
def claims(path):
    head = io.BytesIO()
    asked = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 2 * 10**6)}
    np.lib.format.write_array_header_1_0(head, asked)
    (path / "features.npy").write_bytes(head.getvalue() + bytes(1000))
    return message_of(load_folder, folder_with(path, features=None))


@situation("a data set that is not there, no network")
def no_network(path, monkeypatch):
    monkeypatch.setenv("GATJAX_DATA", str(path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    return message_of(load, "cora")


@situation("names as ids of nodes")
def names():
    return message_of(build_graph, ["ann"], ["bob"], num_nodes=2)


@situation("an id out of range")
def out_of_range():
    assert "senders[1] = 5 is out of range" in message_of(build_graph, [0, 5], [1, 0], EYE)
    return message_of(conv(), GRAPH._replace(senders=np.array([0, 5])))


@situation("an id out of range inside `jax.jit`")
def out_of_range_in_jit():
    run = nnx.jit(lambda layer, graph: layer(graph).nodes)
    wrong = run(conv(), GRAPH._replace(senders=jnp.array([0, 5])))
    np.testing.assert_array_equal(wrong, run(conv(), build_graph([0], [1], EYE)))
    assert "out of range" in message_of(gatjax.validate, GRAPH._replace(senders=jnp.array([0, 5])))
    return "the edge is left out"


@situation("nodes of another width")
def width():
    return message_of(conv(5), GRAPH)


@situation("edge features to a layer built without")
def edge_features():
    graph = GRAPH._replace(edges=np.ones((2, 1), np.float32))
    conv(edge_features=1)(graph)
    bare, weight = gatjax.split_weights(graph)
    conv()(bare, edge_weight=weight)
    return message_of(conv(), graph)


@situation("a mask of numbers")
def mask():
    numbers = np.array([1.0, 0.0])
    conv()(GRAPH, edge_mask=numbers > 0)
    return message_of(conv(), GRAPH, edge_mask=numbers)


@situation("NaN in padding, with a mask")
def padding():
    padded, masks = gatjax.pad(GRAPH, gatjax.budget_for([GRAPH], batch_size=1))
    assert not masks.node.all()

    def gradients(filling):
        nodes = np.where(masks.node[:, None], padded.nodes, np.float32(filling))

        def loss(layer):
            out = layer(padded._replace(nodes=nodes), node_mask=masks.node).nodes
            return (out[:2] ** 2).sum()

        return nnx.grad(loss)(conv())

    for one, other in zip(*map(jax.tree.leaves, (gradients(0), gradients(np.nan))), strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.isfinite(one).all()
    return "the same gradients"


TIMES = np.array([[1577836801], [1577836863]])


@situation("long whole numbers, such as times")
def long_numbers():
    conv(1)(GRAPH._replace(nodes=TIMES - TIMES.min()))
    return message_of(conv(1), GRAPH._replace(nodes=TIMES))


@situation("long whole numbers inside `jax.jit`")
def long_numbers_in_jit():
    run = nnx.jit(lambda layer, nodes: layer(GRAPH._replace(nodes=nodes)).nodes)
    out = run(conv(1), jnp.asarray(TIMES))
    np.testing.assert_array_equal(out[0], out[1])
    return "they are rounded"


@situation("an option that there is not")
def unknown():
    return message_of(gatjax.GAT, 2, 2, num_head=3, rngs=nnx.Rngs(0))


def build(rngs):
    return gatjax.GAT(2, 2, num_heads=1, hidden_features=2, rngs=rngs)


def trained(labels, graph=GRAPH):
    pure = node_classification(build)
    training = Training(pure.initialise, pure.loss, pure.validate, optax.adam(0.1), max_epochs=2)
    ids = lambda values: np.array(values, np.int32)
    labels = Labels(*map(ids, labels))
    return next(train(training, [0], graph, lambda seed: labels, progress=False))


@situation("no validation nodes")
def no_validation():
    return message_of(trained, ([0], [0], [], []))


@situation("a label that is no class")
def no_class():
    return message_of(trained, ([0], [5], [1], [1]))


@situation("NaN in a loss")
def diverged():
    graph = GRAPH._replace(nodes=np.where(EYE, np.nan, EYE).astype(np.float32))
    return f"diverged at epoch {trained(([0], [0], [1], [1]), graph).diverged_epoch}"


def config(path, **changes):
    import citation

    small = {"seeds": 1, "max_epochs": 2, "num_heads": 1, "hidden_features": 1, "progress": False}
    return citation.Config(**small | {"output": path} | changes)


@situation("a setting that no run can have")
def setting(path):
    import citation

    return message_of(citation.main, config(path, max_epochs=0))


@situation("a full disk, before a run")
def full_before(path, monkeypatch):
    import citation
    import outputs

    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(outputs.tempfile, "TemporaryFile", lambda **_: Full())
    return message_of(citation.main, config(path))


TREE = {"w": np.ones(2)}


@situation("a full disk, at a checkpoint")
def full_at_checkpoint(path, monkeypatch):
    checkpoints = Checkpoints(path / "run", {})
    checkpoints.save("seed_0", 1, TREE, {})

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("orbax.checkpoint.CheckpointManager.save", full)
        message = message_of(checkpoints.save, "seed_0", 2, TREE, {})
    assert Checkpoints(path / "run", {}).restore("seed_0", TREE) is not None
    return message


TRAINING = """
import os, signal, sys
import jax, jax.numpy as jnp, optax
from gatjax import GAT, build_graph
from gatjax.training import Checkpoints, Labels, Training, node_classification, train

def build(rngs):
    return GAT(2, 2, num_heads=1, hidden_features=2, dropout_rate=0.5, rngs=rngs)

pure = node_classification(build)
rest = dict(max_epochs=9, epochs_per_dispatch=3)
training = Training(pure.initialise, pure.loss, pure.validate, optax.adam(0.1), **rest)
graph, ids = build_graph([0, 1], [1, 0], jnp.eye(2)), jnp.arange(2)
def parameters(checkpoints):
    labels = lambda seed: Labels(ids[:1], ids[:1], ids[1:], ids[1:])
    (one,) = train(training, [0], graph, labels, checkpoints=checkpoints, progress=False)
    return [leaf.tolist() for leaf in jax.tree.leaves(one.parameters)]

checkpoints = Checkpoints(sys.argv[2], {}, every_seconds=0)
if sys.argv[1] == "kill":
    save = checkpoints.save
    def save_and_die(name, step, *rest):
        save(name, step, *rest)
        if step == 6:
            os.kill(os.getpid(), signal.SIGKILL)
    checkpoints.save = save_and_die
assert checkpoints.exist() == (sys.argv[1] == "resume")
assert parameters(checkpoints) == parameters(None)
"""


@situation("killed (`kill -9`), then resumed")
def killed(path):
    end = lambda what: subprocess.run([sys.executable, "-c", TRAINING, what, path]).returncode
    path = path / "run"
    assert end("kill") == -9 and (path / "manifest.json").exists()
    assert end("resume") == 0
    return "the same bits"


@situation("Ctrl-C")
def interrupted(path, monkeypatch):
    import citation

    def interrupt(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gatjax.training.seeds._last", interrupt)
        message = message_of(citation.main, config(path, progress=True, checkpoint_seconds=1e9))
    assert "pass --resume" in message_of(citation.main, config(path))
    assert citation.main(config(path, resume=True))["epochs"] == [2]
    return message


@situation("a second run while the first still runs")
def two_runs(path):
    import citation
    from outputs import claimed

    with claimed(path):
        return message_of(citation.main, config(path))


@situation("the same command again")
def again(path, capsys):
    import citation

    first = citation.main(config(path))
    capsys.readouterr()
    assert citation.main(config(path)) == first
    return capsys.readouterr().out


@situation("other settings into the same folder")
def other_settings(path):
    import citation

    citation.main(config(path))
    before = (path / "result.json").read_bytes()
    message = message_of(citation.main, config(path, max_epochs=1))
    assert (path / "result.json").read_bytes() == before
    return message


def checkpoints_in(path):
    checkpoints = Checkpoints(path / "run", {"rate": 0.1})
    checkpoints.save("seed_0", 1, TREE, {})
    checkpoints.close()
    return Checkpoints(path / "run", {"rate": 0.1})


@situation("a damaged checkpoint")
def damaged(path):
    checkpoints = checkpoints_in(path)
    for file in checkpoints.folder.glob("seed_0/1/tree/**/d/*"):
        file.write_bytes(file.read_bytes()[:-10])
    return message_of(checkpoints.restore, "seed_0", TREE)


@situation("checkpoints without their manifest")
def no_manifest(path):
    checkpoints = checkpoints_in(path)
    (checkpoints.folder / "manifest.json").unlink()
    assert "steps of an unknown run" in message_of(checkpoints.save, "seed_1", 1, TREE, {})
    return message_of(checkpoints.restore, "seed_0", TREE)


ARGUMENTS = {"in_features": 2, "out_features": 2}


def saved(path):
    save_model(path / "model", "GAT", ARGUMENTS, gatjax.GAT(**ARGUMENTS, rngs=nnx.Rngs(0)))
    return path / "model"


@situation("a damaged folder of a model")
def damaged_model(path):
    folder = saved(path)
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text[: len(text) // 2])
    message_of(load_model, folder)
    shutil.rmtree(folder / "parameters")
    (folder / "manifest.json").write_text(text)
    return message_of(load_model, folder)


@situation("a model into a folder that has one")
def model_there(path):
    saved(path)
    return message_of(saved, path)


@situation("a plot that cannot be drawn")
def no_plot(path, monkeypatch, capsys):
    import citation

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(citation, "draw_curves", fail)
    citation.main(config(path))
    assert (path / "result.json").exists() and load_model(path / "model")
    return capsys.readouterr().err


def test_every_row_has_a_situation_and_every_situation_a_row():
    assert [row[0] for row in ROWS] == list(SITUATIONS)
    assert all(len(row) == 3 and all(row) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_it_ends_in_what_stands_there(row, tmp_path, monkeypatch, capsys, unchecked):
    name, outcome, _ = row
    known = SimpleNamespace(path=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    function = SITUATIONS[name]
    wanted = function.__code__.co_varnames[: function.__code__.co_argcount]
    found = function(*(getattr(known, each) for each in wanted))
    for part in re.findall(r"`([^`]+)`", outcome):
        assert part in found
    if error := re.match(r"(\w+Error):", outcome):
        assert found.startswith(error[0])


SCRIPTS = sorted(
    path.name
    for path in (ROOT / "experiments").glob("*.py")
    if "script.run(" in path.read_text(encoding="utf-8")
)
INTERRUPTED = """
import runpy, sys
import script

original = script.run

def interrupted(settings):
    raise KeyboardInterrupt

script.run = lambda main, config: original(interrupted, config)
for name in sys.argv[1:]:
    sys.argv = [name, *["--dataset=."] * (name == "own_graph.py")]
    try:
        runpy.run_path(name, run_name="__main__")
    except SystemExit as ended:
        print(name, ended.code)
"""


def test_ctrl_c_gives_every_script_its_exit_status():
    assert len(SCRIPTS) > 5
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *SCRIPTS],
        cwd=ROOT / "experiments",
        capture_output=True,
        text=True,
    )
    for name in SCRIPTS:
        assert f"Interrupted: no result has been written.\n{name} 130" in ended.stdout, ended.stderr
