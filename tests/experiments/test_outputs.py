"""A result is never overwritten in silence, taken for another, or shown where there is none."""

import dataclasses
import errno
import io
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gatjax.training.seeds
from gatjax import load_model
from gatjax.data import load


@pytest.fixture
def stored(tmp_path):
    """A finished result in a folder, with its path and its configuration."""
    from report import describe_run, save_result

    config = {"seeds": 3, "sizes": (1, 2), "output": tmp_path, "progress": False}
    path = tmp_path / "run" / "result.json"
    save_result(path, {"rows": [7], "config": config, **describe_run()})
    return path, config


def test_an_equal_run_finds_its_result(stored):
    from outputs import find_result

    path, config = stored
    found = find_result(path, config | {"progress": True, "output": "x"}, overwrite=False)
    assert found is not None and found["rows"] == [7]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seeds": 4}, "seeds: 3 there, 4 here"),
        ({"sizes": (1,)}, r"sizes: \[1, 2\] there, \[1\] here"),
        ({"new": 1}, "new: absent there, 1 here"),
    ],
)
def test_another_run_is_refused_and_both_remedies_work(stored, change, named):
    from outputs import find_result

    path, config = stored
    before = path.read_bytes()
    with pytest.raises(SystemExit, match=f"{named}.*another --output, or pass --overwrite"):
        find_result(path, config | change, overwrite=False)
    assert path.read_bytes() == before
    assert find_result(path, config | change, overwrite=True) is None
    assert find_result(path.parent / "more" / "result.json", config, overwrite=False) is None


def test_other_versions_make_another_run(stored):
    from outputs import find_result

    path, config = stored
    result = json.loads(path.read_text())
    result["versions"]["jax"] = "0.0.1"
    path.write_text(json.dumps(result))
    with pytest.raises(SystemExit, match="version of jax: 0.0.1 there"):
        find_result(path, config, overwrite=False)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"config": 3, "versions": {}}', "\x00"])
def test_a_damaged_result_is_not_replaced_in_silence(tmp_path, text):
    from outputs import find_result

    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(SystemExit, match="no result that can be read.*--overwrite"):
        find_result(path, {}, overwrite=False)
    assert find_result(path, {}, overwrite=True) is None


def test_an_interrupted_result_is_none(stored):
    from outputs import find_result

    path, config = stored
    path.write_text(json.dumps(json.loads(path.read_text()) | {"interrupted": True}))
    with pytest.raises(SystemExit, match="interrupted run.*--overwrite"):
        find_result(path, config, overwrite=False)
    assert find_result(path, config, overwrite=True) is None


def test_a_folder_that_cannot_be_written_is_said_before_anything_runs(tmp_path):
    from outputs import find_result

    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="nothing can be written to .*choose another --output"):
        find_result(tmp_path / "file" / "run" / "result.json", {}, overwrite=False)
    assert find_result(tmp_path / "other" / "result.json", {}, overwrite=False) is None


def test_a_result_is_written_as_a_whole(tmp_path):
    from report import save_result

    path = save_result(tmp_path / "result.json", {"seeds": 3})
    with pytest.raises(TypeError):
        save_result(path, {(1, 2): 3})
    assert json.loads(path.read_text()) == {"seeds": 3}


HOLD = """
import sys, time
from pathlib import Path
from outputs import claimed
with claimed(Path(sys.argv[1])):
    print("here", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_of_one_process_until_it_ends_however_it_ends(tmp_path):
    from outputs import claimed

    folder = Path(__file__).parents[2] / "experiments"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "here\n"
    named = rf"{tmp_path} is in use by process {other.pid} on .* since 20.*another --output"
    with pytest.raises(SystemExit, match=named), claimed(tmp_path):
        pass
    with claimed(tmp_path / "other"):
        pass
    other.kill()
    other.wait()
    with claimed(tmp_path), pytest.raises(SystemExit, match=rf"process {os.getpid()} "):
        with claimed(tmp_path):
            pass


def test_a_full_disk_is_said_before_anything_runs(tmp_path, monkeypatch):
    import outputs

    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(outputs.tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(SystemExit, match="No space left on device.*choose another --output"):
        outputs.check_writable(tmp_path)


def test_a_result_that_cannot_be_written_is_kept_elsewhere(tmp_path, monkeypatch, capsys):
    import report

    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "result.json"
    with pytest.raises(SystemExit, match="could not be written .*the result is kept in ") as stop:
        report.save_result(path, {"seeds": 3})
    kept = Path(str(stop.value).split("kept in ")[1])
    assert json.loads(kept.read_text()) == {"seeds": 3}
    shutil.rmtree(kept.parent)
    monkeypatch.setattr(report.tempfile, "mkdtemp", lambda **_: str(tmp_path / "file"))
    with pytest.raises(SystemExit, match="the result stands above"):
        report.save_result(path, {"seeds": 3})
    assert json.loads(capsys.readouterr().out) == {"seeds": 3}


def test_a_picture_that_cannot_be_drawn_loses_nothing(tmp_path, capsys):
    from outputs import try_to_plot

    def plot(path):
        path.write_text("")

    try_to_plot(tmp_path / "there.png", plot)
    try_to_plot(tmp_path / "none" / "there.png", plot)
    assert "could not be drawn (" in capsys.readouterr().err and (tmp_path / "there.png").exists()


def test_singular_and_plural_agree():
    from citation import table
    from controls import STUDIES

    assert "over 3 seeds" in table(RESULT)
    assert "over 1 seed |" in table(
        RESULT | {"seeds": [4], "test_accuracy": [0.7], "diverged": [None]}
    )
    assert {"1 head of 8", "2 heads of 8"} <= set(STUDIES["heads"])


def test_innermost_lists_stand_on_one_line_and_nothing_is_lost():
    from report import as_text

    result = {"a": "[ b\nc ] d", "rows": [[1, 2], ["x  y", "[z"]], "e": [], "n": [{"m": [1.5]}]}
    text = as_text(result)
    assert json.loads(text) == result
    assert "\n  [1, 2],\n" in text and '"m": [1.5]' in text


# Every script refuses before it trains


def scripts():
    import benchmark
    import controls
    import dictionary_lookup
    import graph_network
    import relations

    return {
        "benchmark": (benchmark, "measure_all", {"runs": 9}),
        "controls": (controls, "run_row", {"seeds": 9}),
        "dictionary_lookup": (dictionary_lookup, "run", {"seeds": 9}),
        "graph_network": (graph_network, "run", {"seeds": 9}),
        "relations": (relations, "make_result", {"seeds": 9}),
    }


@pytest.mark.parametrize(
    "name", ["benchmark", "controls", "dictionary_lookup", "graph_network", "relations"]
)
def test_every_script_keeps_an_earlier_result(name, tmp_path, monkeypatch):
    from report import describe_run, save_result

    script, work, change = scripts()[name]
    config = script.Config(output=tmp_path)
    file = "models-citeseer.json" if name == "controls" else "result.json"
    made_by = script.resolve(config) if name in ("dictionary_lookup", "link_prediction") else config
    path = save_result(
        tmp_path / file, {"config": dataclasses.asdict(made_by), "rows": {}, **describe_run()}
    )
    before = path.read_bytes()

    class Trained(Exception):
        pass

    def trains(*arguments):
        raise Trained

    monkeypatch.setattr(script, work, trains)
    with pytest.raises(SystemExit, match="result of another run .*there, 9 here"):
        script.main(dataclasses.replace(config, **change))
    assert path.read_bytes() == before
    with pytest.raises(Trained):
        script.main(dataclasses.replace(config, **change, overwrite=True))
    with pytest.raises(Trained):
        script.main(dataclasses.replace(config, **change, output=tmp_path / "other"))


# Settings

BAD = [
    ("citation", {"seeds": 0}, "--seeds 0: must be at least 1"),
    ("citation", {"first_seed": -1}, "--first-seed -1: must be at least 0"),
    ("citation", {"max_epochs": 0}, "--max-epochs 0: must be at least 1"),
    ("citation", {"epochs_per_dispatch": 0}, "--epochs-per-dispatch 0: must be at least 1"),
    ("citation", {"patience": 0}, "--patience 0"),
    ("citation", {"seeds_per_device": 0}, "--seeds-per-device 0"),
    ("citation", {"attention_dropout": -0.1}, r"--attention-dropout -0.1: must lie in \[0, 1\)"),
    ("citation", {"input_dropout": 1.0}, r"--input-dropout 1.0: must lie in \[0, 1\)"),
    ("citation", {"learning_rate": 0.0}, "--learning-rate 0.0: must be a number above 0"),
    ("citation", {"learning_rate": math.nan}, "--learning-rate nan: must be a number above 0"),
    ("citation", {"l2": math.nan}, "--l2 nan: must be at least 0"),
    ("citation", {"num_heads": 7}, "--hidden-features 64: must be a multiple of --num-heads 7"),
    ("citation", {"model": "gta"}, "--model gta: must be one of gat, gatv2"),
    ("controls", {"seeds": 0}, "--seeds 0"),
    ("controls", {"max_epochs": 0}, "--max-epochs 0"),
    ("controls", {"study": "head"}, "--study head: must be one of models, heads, details"),
    ("dictionary_lookup", {"heads": (0,)}, "--heads 0: must be at least 1"),
    ("dictionary_lookup", {"heads": (3,)}, "--features 128: must be a multiple of --heads 3"),
    ("dictionary_lookup", {"learning_rates": (-1.0,)}, "--learning-rates -1.0"),
    ("dictionary_lookup", {"dropout_rate": 1.0}, "--dropout-rate 1.0"),
    ("dictionary_lookup", {"layers": ("gta",)}, "--layers gta: must be one of gat, gatv2"),
    ("graph_network", {"updates": 0}, "--updates 0"),
    ("graph_network", {"seeds": 0}, "--seeds 0"),
    ("graph_network", {"probability": 1.5}, "--probability 1.5: must be at most 1"),
    ("graph_network", {"train_nodes": (9, 3)}, "the smallest comes first"),
    ("graph_network", {"num_heads": 5}, "--features 32: must be a multiple of --num-heads 5"),
    ("graph_network", {"aggregations": ()}, "aggregations is empty: give at least one"),
    ("knowledge", {"share": 1.5}, "--share 1.5: must be at most 1"),
    ("relations", {"relations": 1}, "--relations 1: must be at least 2"),
    ("relations", {"num_heads": 5}, "--features 32: must be a multiple of --num-heads 5"),
    ("benchmark", {"libraries": ("foo",)}, "--libraries foo: must be one of gatjax, gatjax plain"),
    ("benchmark", {"runs": 0}, "--runs 0"),
    ("benchmark", {"rounds": 0}, "--rounds 0"),
    ("benchmark", {"suite": "layers"}, "--suite layers: must be one of layer"),
    ("link_prediction", {"dropout": 1.0}, r"--dropout 1.0: must lie in \[0, 1\)"),
    ("link_prediction", {"models": ("gta",)}, "--models gta: must be one of gat, gatv2"),
    ("link_prediction", {"negatives": 0}, "--negatives 0: must be at least 1"),
    ("link_prediction", {"num_heads": 3}, "--hidden-features 32: must be a multiple of"),
    ("kill_and_resume", {"kills": 0}, "--kills 0"),
]


@pytest.mark.parametrize(("script", "change", "message"), BAD, ids=str)
def test_impossible_settings_are_refused_where_they_enter(script, change, message, tmp_path):
    module = __import__(script)
    with pytest.raises(SystemExit, match=message):
        module.main(module.Config(**change, output=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


# The paper's number


@pytest.mark.parametrize(
    ("change", "paper", "named"),
    [
        ({}, "72.5 ± 0.7", {}),
        ({"protocol": "velickovic", "seeds": 3}, "72.5 ± 0.7", {}),
        ({"split": "shchur"}, "71.4 ± 1.9", {}),
        ({"protocol": "shchur"}, "71.4 ± 1.9", {}),
        ({"model": "gcn"}, "70.9 ± 0.5", {}),
        ({"model": "gcn", "num_heads": 4}, "70.9 ± 0.5", {}),
        ({"model": "gcn", "split": "shchur"}, "-", {}),
        ({"split": "random"}, "-", {"split": ("public", "random")}),
        ({"rule": "loss"}, "-", {"rule": ("both", "loss")}),
        ({"normalize": "entmax"}, "-", {"normalize": ("softmax", "entmax")}),
        ({"temperature": 2.0}, "-", {"temperature": (1.0, 2.0)}),
        ({"block_size": 64}, "72.5 ± 0.7", {}),
        (
            {"num_layers": 1, "max_epochs": 5},
            "-",
            {"num_layers": (2, 1), "max_epochs": (100_000, 5)},
        ),
        ({"protocol": "velickovic", "split": "shchur"}, "-", {"split": ("public", "shchur")}),
        ({"protocol": "shchur", "l2": 5e-4}, "-", {"l2": (0.01, 5e-4)}),
    ],
    ids=str,
)
def test_the_papers_number_stands_beside_its_protocol_alone(change, paper, named):
    from citation import Config, resolve
    from protocols import deviations, paper_value

    settings = dataclasses.asdict(resolve(Config(**change)))
    assert paper_value(settings) == paper
    assert deviations(settings) == named


def test_the_recorded_results_follow_the_protocols_that_they_are_shown_beside():
    from protocols import deviations, paper_value, protocol_of

    folder = Path(__file__).parents[2] / "experiments" / "results"
    for path in folder.glob("citation-*.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        config = {"model": "gat", **result["config"]}
        settings = config | {"protocol": protocol_of(config["split"])}
        if path.stem.endswith("-loss"):
            assert deviations(settings) == {"rule": ("both", "loss")}
        else:
            assert paper_value(settings) == result["paper"]


# Seeds that diverged


def test_a_mean_says_how_many_diverged():
    from report import mean_and_sd

    assert mean_and_sd([0.70, None, 0.72, 0.74]) == "72.0 ± 2.0 (1 of 4 diverged)"
    assert mean_and_sd([None, None]) == "- (2 of 2 diverged)"


RESULT = {
    "dataset": "citeseer",
    "model": "gat",
    "protocol": "velickovic",
    "deviations": {},
    "paper": "72.5 ± 0.7",
    "seeds": [4, 5, 6],
    "test_accuracy": [0.7, None, 0.72],
    "train_accuracy": [0.9, None, 0.92],
    "diverged": [None, 17, None],
    "epochs": [300, 17, 310],
    "parameters": 5,
    "seconds": 9.0,
}


def test_the_table_names_the_seeds_that_diverged():
    from citation import table

    text = table(RESULT)
    assert "| 72.5 ± 0.7 | 71.0 ± 1.4 (1 of 3 diverged) over 3 seeds |" in text
    assert "left out of the mean: seed 5 at epoch 17" in text
    assert "iverged" not in table(RESULT | {"test_accuracy": [0.7] * 3, "diverged": [None] * 3})


def test_a_study_compares_the_seeds_that_both_have():
    from controls import describe_row

    other = RESULT | {"test_accuracy": [0.6, 0.5, 0.64], "train_accuracy": [0.8, 0.7, 0.84]}
    test, difference, gap, *_ = describe_row(other, RESULT)
    assert (test, difference) == ("58.0 ± 7.2", "-9.0 ± 1.0")
    assert describe_row(RESULT, other)[:3] == ["71.0 ± 1.4 (1 of 3 diverged)", "+9.0 ± 1.0", "20.0"]


def test_a_rate_that_diverges_is_not_the_best():
    from dictionary_lookup import best_rate, table

    runs = [
        {"learning_rate": rate, "train_accuracy": train, "test_accuracy": train, "step": 7}
        for rate, accuracies in {0.3: (0.9, None), 0.1: (0.6, 0.6), 0.2: (None, None)}.items()
        for train in accuracies
    ]
    assert best_rate({"runs": runs})[0]["learning_rate"] == 0.1
    row = {"k": 4, "layer": "gat", "heads": 1, "runs": runs[:2]}
    assert "90.0 (1 of 2 diverged)" in table([row])


def test_a_lookup_whose_loss_is_not_finite_ends():
    from lookup import Task, make_lookups, train

    task = Task(4, "gat", 1, features=8, batch_size=16, evaluate_every=2)
    found = list(train(task, make_lookups(4), learning_rate=math.nan, seed=0, steps=100))
    assert len(found) == 1 and not np.isfinite(found[0].loss)


def test_margins_leave_out_what_diverged():
    from graph_network import margins

    accuracy = {"sum": {"8": [0.5, None]}, "attention": {"8": [0.7, 0.9]}}
    result = {"results": {name: {"accuracy": each} for name, each in accuracy.items()}}
    assert margins(result) == pytest.approx({"8": 30.0})


# The citation experiment itself

SHORT = {"seeds": 2, "max_epochs": 3, "epochs_per_dispatch": 1, "progress": False}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    import citation

    config = citation.Config(**SHORT, output=tmp_path_factory.mktemp("finished"))
    return config, citation.main(config)


@pytest.mark.slow
def test_a_finished_run_is_found_and_kept(finished, capsys):
    import citation

    config, result = finished
    path = config.output / "result.json"
    before = path.read_bytes()
    assert citation.main(config) == citation.main(dataclasses.replace(config, resume=True))
    out = capsys.readouterr().out
    assert "result of this very run already" in out and citation.table(result) in out
    for change in ({"max_epochs": 2}, {"seeds": 3}, {"num_heads": 4, "resume": True}):
        with pytest.raises(SystemExit, match="result of another run"):
            citation.main(dataclasses.replace(config, **change))
    assert path.read_bytes() == before
    again = citation.main(dataclasses.replace(config, overwrite=True))
    assert path.read_bytes() != before
    assert again["test_accuracy"] == result["test_accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("calls", [1, 3])
def test_ctrl_c_saves_and_promises_what_there_is(finished, calls, tmp_path, monkeypatch, capsys):
    import citation

    original, left = gatjax.training.seeds._last, [calls]

    def interrupted(latest):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return original(latest)

    _, result = finished
    config = citation.Config(**SHORT, output=tmp_path, checkpoint_seconds=1e9)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(gatjax.training.seeds, "_last", interrupted)
        citation.main(config)
    assert stopped.value.code == 130
    assert f"--resume goes on from what is saved in {tmp_path}" in capsys.readouterr().out
    assert not (tmp_path / "result.json").exists()
    with pytest.raises(SystemExit, match="holds an interrupted run: pass --resume"):
        citation.main(config)
    resumed = citation.main(dataclasses.replace(config, resume=True))
    for name in ("test_accuracy", "train_accuracy", "validation_accuracy", "best_epoch"):
        assert resumed[name] == result[name]
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_ctrl_c_before_anything_is_saved_promises_nothing(tmp_path, monkeypatch, capsys):
    import citation

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(gatjax.training.seeds, "advance", interrupted)
    with pytest.raises(SystemExit) as stopped:
        citation.main(citation.Config(**SHORT, output=tmp_path))
    out = capsys.readouterr().out
    assert stopped.value.code == 130
    assert "Nothing has been saved" in out and "--resume" not in out


@pytest.mark.slow
def test_a_run_in_which_all_diverge_has_no_model_and_fails(tmp_path, capsys):
    import citation

    config = citation.Config(**SHORT, learning_rate=1e30, output=tmp_path)
    with pytest.raises(SystemExit, match="Every seed has diverged"):
        citation.main(config)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["test_accuracy"] == [None, None]
    assert all(epoch in (1, 2, 3) for epoch in result["diverged"])
    assert result["epochs"] == result["diverged"]
    assert "- (2 of 2 diverged)" in capsys.readouterr().out
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_a_run_in_which_one_diverges_keeps_the_others(tmp_path, monkeypatch, capsys):
    import citation
    import seed_runs

    train = seed_runs.train

    def one_diverges(*arguments, **options):
        for trained in train(*arguments, **options):
            bad = trained.seed == 0
            yield trained._replace(diverged=bad, diverged_epoch=2 if bad else None)

    monkeypatch.setattr(seed_runs, "train", one_diverges)
    result = citation.main(citation.Config(**SHORT, output=tmp_path))
    assert result["diverged"] == [2, None] and result["test_accuracy"][0] is None
    assert "(1 of 2 diverged)" in capsys.readouterr().out
    model, data = load_model(tmp_path / "model"), load("citeseer")
    assert model.layers[0].projection.kernel.shape[0] == data.num_features


# Studies


def test_a_row_of_other_settings_is_not_reused(tmp_path, monkeypatch, capsys):
    import controls
    from report import describe_run, save_result

    trained = []

    def run(settings):
        trained.append(settings.max_epochs)
        result = RESULT | {"config": dataclasses.asdict(settings), **describe_run()}
        result |= {"validation_accuracy": [0.5] * 3}
        save_result(settings.output / "result.json", result)
        return json.loads((settings.output / "result.json").read_text())

    monkeypatch.setattr(controls.citation, "run", run)
    rows = len(controls.STUDIES["heads"])
    config = controls.Config(study="heads", seeds=3, max_epochs=20, output=tmp_path)
    controls.main(config)
    controls.main(config)
    assert trained == [20] * rows, "the second time nothing is run"
    longer = dataclasses.replace(config, max_epochs=40)
    with pytest.raises(SystemExit, match="max_epochs: 20 there, 40 here"):
        controls.main(longer)
    # Also where the table itself is not there yet, and before any row is run.
    (tmp_path / "heads-citeseer.json").unlink()
    with pytest.raises(SystemExit, match="max_epochs: 20 there, 40 here"):
        controls.main(longer)
    assert trained == [20] * rows
    controls.main(dataclasses.replace(longer, output=tmp_path / "other"))
    assert trained == [20] * rows + [40] * rows
    controls.main(dataclasses.replace(longer, overwrite=True))
    assert trained == [20] * rows + [40] * 2 * rows
    controls.main(longer)
    assert trained == [20] * rows + [40] * 2 * rows
