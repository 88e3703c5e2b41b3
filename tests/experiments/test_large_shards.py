"""A planted graph cut into shards and trained on them; resumed on another number of shards."""

import json

import numpy as np
import pytest
from helpers import rejects
from large_shards import Config, Partition, cut, main

SMALL = {"dataset": "planted", "nodes": 300, "edges": 1500}


def sharded(folder, output, **options):
    options = {"hidden_features": 8, "num_heads": 2, "progress": False, **options}
    return main(Config(folder=folder, output=output, **options))


@pytest.mark.slow
def test_a_run_on_shards_is_resumed_on_another_number_of_them(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    folders = {
        shards: main(Partition(**SMALL, shards=shards, folder=tmp_path / f"{shards}"))
        for shards in (1, 2)
    }
    whole = sharded(folders[1], tmp_path / "whole", epochs=6)
    again = sharded(folders[1], tmp_path / "whole", epochs=6)
    assert again == whole
    stop = {"epochs": 6, "checkpoint_epochs": 3}
    interrupted_after(4, monkeypatch)
    with rejects(KeyboardInterrupt, ""):
        sharded(folders[2], tmp_path / "resumed", **stop)
    monkeypatch.undo()
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    with rejects(SystemExit, "holds an interrupted run: pass --resume to go on with it"):
        sharded(folders[1], tmp_path / "resumed", **stop)
    with rejects(SystemExit, "belong to another run"):
        sharded(folders[1], tmp_path / "resumed", **stop, resume=True, dropout=0.5)
    resumed = sharded(folders[1], tmp_path / "resumed", **stop, resume=True)
    np.testing.assert_allclose(resumed["losses"], whole["losses"], rtol=1e-5)
    assert json.loads((tmp_path / "resumed" / "result.json").read_text()) == resumed
    assert not (tmp_path / "resumed" / "checkpoints").exists()
    assert resumed["losses"][-1] < resumed["losses"][0]


def interrupted_after(epochs, monkeypatch):
    """Ctrl-C while the bar is at work."""
    import large_shards

    class Bar(large_shards.tqdm):
        def update(self, n=1):
            self.done = getattr(self, "done", 0) + 1
            if self.done == epochs:
                raise KeyboardInterrupt
            return super().update(n)

    monkeypatch.setattr(large_shards, "tqdm", Bar)


def test_what_cannot_be_cut_or_trained_is_refused(tmp_path, unchecked):
    with rejects(SystemExit, "--train 0.9 and --validation 0.2 leave no nodes to test"):
        cut(Partition(train=0.9))
    with rejects(SystemExit, "is there already: delete it, or choose another --folder"):
        cut(Partition(folder=tmp_path))
    with rejects(SystemExit, "num_shards=301 are more than the 300 nodes"):
        cut(Partition(**SMALL, shards=301, folder=tmp_path / "many"))
    with rejects(
        SystemExit, "no shards are there; make them, python experiments/large.py partition"
    ):
        main(Config(folder=tmp_path))
    with rejects(SystemExit, "--hidden-features 7: must be a multiple of --num-heads 4"):
        main(Config(hidden_features=7))
