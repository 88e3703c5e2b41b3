"""The citation experiment as a user runs it, with a small budget."""

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from flax import nnx

from gatjax import TopK, add_self_loops, load_model
from gatjax.data import load
from gatjax.training import History, start

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "experiments" / "citation.py"
SHORT = ["--seeds", "3", "--first-seed", "4", "--max-epochs", "31", "--epochs-per-dispatch", "10"]


def run_script(*arguments, folder, **environment):
    environment = {
        key: value for key, value in os.environ.items() if key != "XLA_FLAGS"
    } | environment
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def citeseer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("citeseer")
    return folder, run_script(*SHORT, folder=folder)


def test_it_learns_and_reports(citeseer):
    folder, process = citeseer
    assert process.returncode == 0, process.stderr
    output = folder / "runs" / "citeseer-gat-public"
    result = json.loads((output / "result.json").read_text())
    assert result["seeds"] == [4, 5, 6]
    assert result["epochs"] == [31, 31, 31]
    assert len(result["test_accuracy"]) == 3
    assert np.mean(result["test_accuracy"]) > 0.4, "chance is one in six"
    assert result["parameters"] == 3703 * 64 + 3 * 64 + 8 + 64 * 6 + 3 * 6 + 1
    assert result["config"]["learning_rate"] == 0.005
    for key in ("versions", "hardware", "seconds", "command", "commit"):
        assert key in result
    assert (output / "learning_curves.png").stat().st_size > 10_000
    assert "| dataset  | model | paper | ours (mean ± sd)" in process.stdout
    assert "| citeseer | gat   | -     |" in process.stdout
    assert "Not the protocol of velickovic: max_epochs 31 (there 100000)." in process.stdout


def test_the_saved_model_predicts_as_the_readme_says(citeseer):
    folder, _ = citeseer
    result = json.loads((folder / "runs" / "citeseer-gat-public" / "result.json").read_text())
    best = int(np.argmax(result["validation_accuracy"]))
    model = load_model(folder / "runs" / "citeseer-gat-public" / "model")
    data = load("citeseer")
    graph = add_self_loops(data.graph)
    classes = np.asarray(model(graph).nodes.argmax(-1))
    accuracy = (classes == data.labels)[data.splits.test].mean()
    assert accuracy == pytest.approx(result["test_accuracy"][best], abs=1e-6)
    assert [alpha.shape for alpha in model.attention(graph)] == [(12431, 8), (12431, 1)]


def test_a_run_that_was_cut_short_wants_to_be_resumed(tmp_path):
    import citation
    from seed_runs import open_checkpoints

    settings = citation.resolve(citation.Config(output=tmp_path, seeds=1, max_epochs=2))
    checkpoints = open_checkpoints(settings)
    state = start(citation.make_training(citation.Task(settings)), 0)
    checkpoints.save("seed_0", 0, state, dict.fromkeys(History._fields, []))
    with pytest.raises(SystemExit, match="holds an interrupted run: pass --resume"):
        open_checkpoints(settings)
    other = dataclasses.replace(settings, l2=0.1, resume=True)
    with pytest.raises(SystemExit, match=r"l2: 0.0005 there, 0.1 here"):
        citation.run(other)
    open_checkpoints(dataclasses.replace(settings, output=tmp_path / "another"))
    resumed = citation.run(dataclasses.replace(settings, resume=True))
    assert resumed["epochs"] == [2] and not checkpoints.exist()
    checkpoints = open_checkpoints(settings)
    checkpoints.save("seed_0", 0, state, {})
    assert not open_checkpoints(dataclasses.replace(settings, overwrite=True)).exist()


def test_progress_is_visible(citeseer):
    _, process = citeseer
    assert "val_score=" in process.stderr
    assert "3/3" in process.stderr


def test_help_names_every_choice():
    process = run_script("--help", folder=SCRIPT.parent)
    assert process.returncode == 0
    for word in (
        "--dataset",
        "--model",
        "--split",
        "--seeds",
        "--l2",
        "--rule",
        "citeseer",
        "pubmed",
        "gatv2",
    ):
        assert word in process.stdout


def test_a_missing_data_set_says_where_it_was_sought(tmp_path):
    process = run_script(
        "--dataset",
        "cora",
        folder=tmp_path,
        GATJAX_DATA=str(tmp_path),
        https_proxy="http://127.0.0.1:9",
    )
    assert process.returncode != 0
    assert str(tmp_path) in process.stderr
    assert "GATJAX_DATA" in process.stderr


@pytest.mark.parametrize("model", ["gatv2", "dot", "const", "gcn"])
def test_every_model_trains_on_random_splits(model, tmp_path, monkeypatch):
    import citation

    monkeypatch.chdir(tmp_path)
    config = citation.Config(model=model, split="random", seeds=2, max_epochs=3, progress=False)
    result = citation.main(config)
    task = citation.Task(citation.resolve(config))
    first, second = (task.labels(seed).train_nodes for seed in (0, 1))
    assert result["epochs"] == [3, 3]
    assert not np.array_equal(first, second), "each seed has a split of its own"


def test_training_never_holds_a_test_node():
    import citation

    task = citation.Task(citation.resolve(citation.Config()))
    labels = task.labels(0)
    seen = set(labels.train_nodes) | set(labels.validation_nodes)
    assert not seen & set(task.data.splits.test)


def test_what_is_not_given_is_as_the_papers_have_it():
    import citation

    settings = citation.resolve(citation.Config(dataset="pubmed", split="shchur", l2=0.0))
    assert (settings.out_heads, settings.learning_rate, settings.l2) == (1, 0.01, 0.0)
    assert (settings.rule, settings.patience, settings.attention_dropout) == ("loss", 50, 0.3)
    assert settings.normalize_features is False
    original = citation.resolve(citation.Config(dataset="pubmed"))
    assert (original.split, original.out_heads, original.l2) == ("public", 8, 1e-3)
    assert settings.output == Path("runs/pubmed-gat-shchur")
    assert [field.name for field in dataclasses.fields(settings)] == [
        field.name for field in dataclasses.fields(citation.Config)
    ]


def test_the_model_weighs_as_the_options_say():
    from citation import MODELS, Config, resolve
    from weighing import weighing

    for model in MODELS:
        options = weighing(resolve(Config(model=model)), model)
        MODELS[model](5, 3, **options, rngs=nnx.Rngs(0))
    options = {"normalize": "top_k", "top_k": 3, "temperature": 0.5}
    expected = {"normalize": TopK(3), "temperature": 0.5, "block_size": "auto"}
    assert weighing(resolve(Config(**options)), "gat") == expected


@pytest.mark.parametrize("script", ["link_prediction", "own_graph"])
def test_the_same_options_in_every_script(script, tmp_path):
    """A model as the script builds it; what no model of it can do is refused by the same words."""
    module = importlib.import_module(script)
    own = {"dataset": tmp_path} if script == "own_graph" else {"dataset": "cora"}
    of = lambda *models: {"model": models[0]} if script == "own_graph" else {"models": models}
    config = module.Config(**own, **of("gatv2"), normalize="top_k", top_k=3, temperature=0.5)
    task = object.__new__(module.Task)
    task.settings, task.model = module.resolve(config), "gatv2"
    task.data = SimpleNamespace(num_features=5, num_classes=3, edge_weight=None)
    for layer in task.build(nnx.Rngs(0)).layers:
        assert layer.weighing == (TopK(3), 0.5, "auto")
    for model, options, message in (
        ("gat", {"top_k": 3}, "--top-k 3: only --normalize top_k keeps so many"),
        ("gcn", {"normalize": "entmax"}, "gcn: has no logits to normalise: .* one of gat, gatv2$"),
        ("mlp", {"block_size": 8}, "--block-size 8: blocks are those of the softmax"),
        ("gat", {"temperature": 0.0}, "--temperature 0.0: must be a number above 0"),
        ("gat", {"top_k": 0}, "--top-k 0: must be at least 1"),
    ):
        with pytest.raises(SystemExit, match=message):
            module.resolve(module.Config(**own, **of(model), **options))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"model": "gcn", "normalize": "entmax"}, "--model gcn: has no logits to normalise"),
        ({"model": "mlp", "block_size": 8}, "--block-size 8: blocks are those of the softmax"),
        ({"top_k": 3}, "--top-k 3: only --normalize top_k keeps so many"),
        ({"normalize": "entmax", "block_size": 8}, "leave it out with --normalize entmax"),
        ({"block_size": 0}, "--block-size 0: must be at least 1"),
        ({"temperature": 0.0}, "--temperature 0.0: must be a number above 0"),
        ({"normalize": "argmax"}, "--normalize argmax: must be one of softmax, entmax"),
    ],
)
def test_weights_that_no_model_makes(options, message):
    from citation import Config, resolve

    with pytest.raises(SystemExit, match=message):
        resolve(Config(**options))
