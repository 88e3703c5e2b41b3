"""Figures are drawn from the recorded results, and say when they are stale; curves are kept to draw them from."""

import json
from pathlib import Path

import numpy as np
import pytest

from gatjax.training import History, Trained

ROOT = Path(__file__).parents[2]


def test_every_figure_is_of_the_result_that_lies_there_and_stands_on_a_page():
    import figures

    assert figures.stale(redraw=False) == {}
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    for name in figures.FIGURES:
        assert f"figures/{name}.png" in text, name
    known = {f"{name}{suffix}" for name in figures.FIGURES for suffix in figures.SUFFIXES}
    assert {path.name for path in figures.FOLDER.iterdir()} == known | {"figures.json"}


@pytest.mark.slow
def test_every_figure_is_what_would_be_drawn_now():
    import figures

    figures.main(figures.Config(check=True))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """One figure of one result, in a folder of its own."""
    import figures

    (tmp_path / "result.json").write_text(json.dumps({"level": 3.0}))
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    monkeypatch.setattr(figures, "FOLDER", tmp_path / "figures")
    monkeypatch.setattr(figures, "LIST", tmp_path / "figures" / "figures.json")

    def draw(result):
        return figures.plots.seed_lines([1, 2], {"a": [1.0, result["level"]]})

    monkeypatch.setattr(figures, "FIGURES", {"one": figures.Figure("result.json", draw)})
    figures.main(figures.Config())
    return tmp_path


def test_a_figure_that_is_up_to_date_is_not_stale(folder):
    import figures

    assert figures.stale(redraw=True) == {}
    figures.main(figures.Config(check=True))


def edit_result(folder):
    (folder / "result.json").write_text(json.dumps({"level": 4.0}))


def edit_picture(folder):
    with (folder / "figures" / "one.svg").open("a") as file:
        file.write("<!-- -->")


def remove_picture(folder):
    (folder / "figures" / "one.png").unlink()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (edit_result, "one: result.json has changed"),
        (edit_picture, "one: its file has been changed by hand"),
        (remove_picture, "one: it is not there"),
    ],
)
def test_a_stale_figure_is_named_and_the_remedy_works(folder, change, reason):
    import figures

    change(folder)
    with pytest.raises(SystemExit, match=f"{reason}\nrun python experiments/figures.py"):
        figures.main(figures.Config(check=True))
    figures.main(figures.Config())
    figures.main(figures.Config(check=True))


def test_a_figure_drawn_in_another_way_is_stale(folder, monkeypatch):
    import figures

    other = figures.Figure("result.json", lambda result: figures.plots.seed_lines([1], {"b": [2]}))
    monkeypatch.setattr(figures, "FIGURES", {"one": other})
    assert figures.stale(redraw=True) == {"one": "it would be drawn in another way now"}


def run_of(seed, epochs, best):
    steps = np.arange(epochs, dtype=np.float32)
    history = History(2 / (1 + steps), 3 / (1 + steps), steps / 1000)
    return Trained(seed, None, best, epochs, history)


def test_curves_come_back_thinned_with_the_epochs_that_matter(tmp_path):
    from curves import read_curves, save_curves

    runs = [run_of(4, 601, 443), run_of(5, 200, 7)]
    path = save_curves(tmp_path / "curves.json", runs)
    stored = json.loads(path.read_text())
    assert stored["every"] == 5, "601 epochs, about 150 points"
    histories, epochs, best = read_curves(stored)
    assert best == [443, 7] and [one["seed"] for one in stored["curves"]] == [4, 5]
    for run, history, kept in zip(runs, histories, epochs, strict=True):
        assert {1, run.best_epoch, run.epochs} <= set(kept.tolist())
        for whole, thinned in zip(run.history, history, strict=True):
            np.testing.assert_allclose(thinned, np.asarray(whole)[kept - 1], rtol=1e-3)
    assert path.stat().st_size < 20_000


def test_short_curves_are_kept_whole_and_what_is_no_number_is_none(tmp_path):
    from curves import read_curves, save_curves

    run = run_of(0, 9, 3)
    run.history.train_loss[-1] = np.nan
    stored = json.loads(save_curves(tmp_path / "curves.json", [run]).read_text())
    assert stored["curves"][0]["train_loss"][-1] is None
    (history,), (epochs,), _ = read_curves(stored)
    assert epochs.tolist() == list(range(1, 10)) and np.isnan(history.train_loss[-1])
