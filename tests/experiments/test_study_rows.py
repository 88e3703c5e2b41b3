"""A study keeps its finished rows: more of them can be asked for, and none is lost in silence."""

import dataclasses
import json
from functools import partial

import pytest
from helpers import rejects

# Of each script what names its rows, what shows them, settings with some of the rows, and with more.
STUDIES = {
    "transformers": (
        "rows_of",
        "table",
        {"task": "csl", "rows": ("gat, none",)},
        {"rows": ("gat, none", "dot, none")},
    ),
    "depth": ("makers", "tables", {"datasets": ("cora",), "depths": (2,)}, {"depths": (2, 3)}),
    "attention_pays": ("makers", "tables", {"datasets": ("cora",)}, {"datasets": ("cora", "actor")}),
    "importance": ("makers", "tables", {"graphs": ("infection",)}, {"graphs": ("churn", "infection")}),
}  # fmt: skip


@pytest.fixture
def study(request, tmp_path, monkeypatch):
    """A script whose rows are their names, settings with some rows, those with more, and what has been made."""
    script, (rows, table, some, more) = __import__(request.param), STUDIES[request.param]
    names, made = getattr(script, rows), []

    def row(name):
        made.append(name)
        return {"name": name}

    monkeypatch.setattr(
        script, rows, lambda config: {name: partial(row, name) for name in names(config)}
    )
    monkeypatch.setattr(script, table, str)
    monkeypatch.setattr(script, "file_of", lambda name: None, raising=False)
    config = script.Config(**some, output=tmp_path / "run")
    return script, config, dataclasses.replace(config, **more), made


def rows_in(result):
    """By name, wherever they stand in it."""
    found = {}
    for value in result.values():
        rows = value.values() if isinstance(value, dict) else value
        if isinstance(rows, list) or isinstance(value, dict):
            found |= {row["name"]: row for row in rows if isinstance(row, dict) and "name" in row}
    return found


@pytest.mark.parametrize("study", STUDIES, indirect=True)
def test_more_rows_are_made_beside_those_that_are_there(study, capsys):
    script, config, more, made = study
    first = rows_in(script.main(config))
    assert list(first) == made
    made.clear()
    result = script.main(more)
    rows = rows_in(result)
    assert result == json.loads((config.output / "result.json").read_text())
    assert set(made) == set(rows) - set(first) and made
    assert {name: rows[name] for name in first} == first
    assert "goes on with" in capsys.readouterr().out
    made.clear()
    assert script.main(more) == result and not made
    assert "result of this very run already" in capsys.readouterr().out


@pytest.mark.parametrize("study", STUDIES, indirect=True)
def test_rows_that_are_not_asked_for_are_in_the_way_and_every_remedy_works(study):
    script, config, more, made = study
    rows = rows_in(script.main(more))
    lost = next(name for name in rows if name not in script_rows(script, config))
    path = config.output / "result.json"
    before = path.read_bytes()
    named = rf"of another run \(.*\) with rows that are not asked for \({lost}.*ask for them too"
    with pytest.raises(SystemExit, match=f"{named}, choose another --output, or pass --overwrite"):
        script.main(config)
    assert path.read_bytes() == before
    made.clear()
    assert rows_in(script.main(more)) == rows and not made
    script.main(dataclasses.replace(config, output=config.output / "other"))
    assert set(made) == set(script_rows(script, config))
    assert path.read_bytes() == before
    assert lost not in rows_in(script.main(dataclasses.replace(config, overwrite=True)))


def script_rows(script, config):
    return getattr(script, STUDIES[script.__name__][0])(config)


@pytest.mark.parametrize("study", ["transformers"], indirect=True)
def test_another_setting_is_another_run_whatever_the_rows(study):
    script, config, more, _ = study
    script.main(config)
    with rejects(SystemExit, "seeds: 1 there, 2 here"):
        script.main(dataclasses.replace(more, seeds=2))


@pytest.mark.parametrize("study", ["transformers"], indirect=True)
def test_a_row_says_which_commit_made_it(study, monkeypatch):
    import report

    script, config, more, _ = study
    commits = iter("abcdef")
    monkeypatch.setattr(report, "_commit", lambda: next(commits))
    (first,) = rows_in(script.main(config)).values()
    rows = rows_in(script.main(more))
    assert rows["gat, none"]["commit"] == first["commit"] == "a"
    assert rows["dot, none"]["commit"] > "a"


@pytest.mark.parametrize("study", ["transformers"], indirect=True)
def test_rows_that_the_folder_does_not_keep_are_not_made_again_in_silence(study):
    script, config, more, made = study
    script.main(config)
    (config.output / "rows" / "gat,_none.json").unlink()
    with rejects(SystemExit, "rows does not keep (gat, none)"):
        script.main(more)
    made.clear()
    assert len(rows_in(script.main(dataclasses.replace(more, overwrite=True)))) == 2 == len(made)


@pytest.mark.parametrize("study", ["transformers"], indirect=True)
def test_a_row_that_is_no_more_is_not_lost(study):
    script, config, more, _ = study
    script.main(config)
    path = config.output / "result.json"
    path.write_text(path.read_text().replace('"rows": ["gat, none"]', '"rows": ["gat, old"]'))
    with rejects(SystemExit, "has rows that there are no more"):
        script.main(more)
