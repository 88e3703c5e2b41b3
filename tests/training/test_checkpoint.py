"""Checkpoints: what is saved comes back, and what must not be used is refused."""

import gc
import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import forward
from logistic import ROWS, logistic, split_of

from gatjax import GAT, DropoutRates, build_graph, load_model, save_model
from gatjax.training import CheckpointError, Checkpoints, train

TREE = {"w": jnp.arange(6.0).reshape(2, 3), "epoch": jnp.int32(7), "key": jax.random.key(5)}


@pytest.fixture
def saved(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run", {"rate": 0.1, "model": "gat"})
    checkpoints.save("seed_3", 7, TREE, {"loss": [0.5, float("nan")]})
    return checkpoints


def reopened(saved, **changes):
    return Checkpoints(saved.folder, saved.description | changes)


def as_numbers(tree):
    return jax.tree.map(np.asarray, tree | {"key": jax.random.key_data(tree["key"])})


def test_arrays_keys_and_notes_come_back(saved):
    tree, notes = reopened(saved).restore("seed_3", TREE)
    jax.tree.map(np.testing.assert_array_equal, as_numbers(tree), as_numbers(TREE))
    np.testing.assert_array_equal(notes["loss"], [0.5, np.nan])


def test_the_newest_step_wins_and_older_ones_go(saved):
    saved.save("seed_3", 9, TREE | {"epoch": jnp.int32(9)}, {})
    tree, _ = reopened(saved).restore("seed_3", TREE)
    assert tree["epoch"] == 9
    assert not (saved.folder / "seed_3" / "7").exists()


def test_nothing_saved_is_none(tmp_path, saved):
    assert Checkpoints(tmp_path / "other", {}).restore("seed_0", TREE) is None
    assert reopened(saved).restore("seed_0", TREE) is None


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (TREE | {"w": jnp.zeros((2, 4))}, r"'w'.*float32\[2, 3\] there, float32\[2, 4\] here"),
        (TREE | {"epoch": jnp.float32(0)}, r"'epoch'.*int32\[\] there, float32\[\] here"),
        (TREE | {"more": jnp.zeros(1)}, r"'more'.*absent there"),
        ({"w": TREE["w"]}, r"'epoch'.*absent here"),
    ],
)
def test_other_arrays_are_refused(saved, like, message):
    with pytest.raises(CheckpointError, match=message):
        reopened(saved).restore("seed_3", like)


def test_another_run_is_refused_by_name_and_value(saved):
    with pytest.raises(CheckpointError, match=r"rate: 0.1 there, 0.2 here"):
        reopened(saved, rate=0.2).restore("seed_3", TREE)


def test_settings_are_named_before_the_arrays_that_follow_from_them(saved):
    many = {f"a{i}": jnp.zeros(i + 1) for i in range(9)}
    with pytest.raises(
        CheckpointError, match=r"another run \(rate: 0.1 there, 0.2 here; .*; and 8 more\)"
    ):
        reopened(saved, rate=0.2).restore("seed_3", many)


def test_a_checkpoint_that_cannot_be_written_says_so_and_the_last_one_stays(saved, monkeypatch):
    checkpoints = reopened(saved)

    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: writing: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._manager("seed_3"), "save", full)
        with pytest.raises(CheckpointError, match="seed_3 could not be saved .*No space left"):
            checkpoints.save("seed_3", 99, TREE, {})
    assert reopened(saved).restore("seed_3", TREE) is not None


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_damage_anywhere_is_found_and_changes_nothing(saved, tmp_path):
    """Every file in turn is cut short, emptied or has a byte flipped; a use of it fails or gives the truth."""
    pristine = tmp_path / "pristine"
    shutil.copytree(saved.folder, pristine)
    refused = 0
    for path in files_of(pristine):
        content = path.read_bytes()
        flipped = bytearray(content)
        for position in (len(content) // 2, -1):
            if content:
                flipped[position] ^= 0x55
        for damaged in {bytes(flipped), content[: len(content) // 2], b""} - {content}:
            folder = tmp_path / "damaged"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(pristine, folder)
            (folder / path.relative_to(pristine)).write_bytes(damaged)
            before = {file: file.read_bytes() for file in files_of(folder)}
            try:
                tree, _ = Checkpoints(folder, saved.description).restore("seed_3", TREE)
            except CheckpointError as error:
                refused += 1
                assert str(folder) in str(error)
            else:
                jax.tree.map(np.testing.assert_array_equal, as_numbers(tree), as_numbers(TREE))
            assert {file: file.read_bytes() for file in files_of(folder)} == before
    assert refused > 5
    gc.collect()


def test_a_manifest_of_something_else_is_refused(saved):
    for content in ("", "[]", '{"format": 1}', json.dumps({"format": 2, "run": {}, "arrays": {}})):
        (saved.folder / "manifest.json").write_text(content)
        with pytest.raises(CheckpointError, match=str(saved.folder)):
            reopened(saved).restore("seed_3", TREE)


def test_a_step_knows_its_run(saved):
    """Without its manifest nobody takes it for theirs, nor with the manifest of another run."""
    manifest = saved.folder / "manifest.json"
    content = manifest.read_text()
    manifest.unlink()
    saved.close()
    for use in (lambda run: run.restore("seed_3", TREE), lambda run: run.save("s", 1, TREE, {})):
        with pytest.raises(CheckpointError, match="manifest.json is missing.*delete"):
            use(reopened(saved, rate=0.2))
    assert not manifest.exists()
    manifest.write_text(content.replace("0.1", "0.2"))
    with pytest.raises(CheckpointError, match="seed_3/7 is damaged"):
        reopened(saved, rate=0.2).restore("seed_3", TREE)
    shutil.rmtree(saved.folder)
    fresh = reopened(saved, rate=0.2)
    assert fresh.restore("seed_3", TREE) is None
    fresh.save("seed_3", 1, TREE, {})
    fresh.remove()
    assert not list(saved.folder.parent.iterdir())


def test_notes_are_sealed(saved):
    (file,) = [path for path in files_of(saved.folder) if b'"loss"' in path.read_bytes()]
    file.write_bytes(file.read_bytes().replace(b"0.5", b"0.4"))
    with pytest.raises(CheckpointError, match="seed_3/7 is damaged"):
        reopened(saved).restore("seed_3", TREE)


# Training


def outcomes(training, checkpoints, seeds=(0, 1, 2), **options):
    options |= {"checkpoints": checkpoints, "progress": False}
    found = train(training, seeds, ROWS, split_of, **options)
    return {trained.seed: jax.tree.map(np.asarray, trained) for trained in found}


class Killed(Exception):
    pass


class DyingCheckpoints(Checkpoints):
    """Saves every dispatch, and dies after a number of saves."""

    saves_left = 10**9

    def is_due(self, name):
        return True

    def save(self, *arguments):
        super().save(*arguments)
        self.saves_left -= 1
        if self.saves_left == 0:
            raise Killed


SLOW = pytest.mark.slow


@pytest.mark.parametrize("saves", [2, *(pytest.param(n, marks=SLOW) for n in (1, 5, 11))])
def test_a_resumed_training_ends_as_if_never_interrupted(tmp_path, saves):
    uninterrupted = outcomes(logistic(), None)
    dying = DyingCheckpoints(tmp_path, {})
    dying.saves_left = saves
    with pytest.raises(Killed):
        outcomes(logistic(), dying)
    resumed = outcomes(logistic(), Checkpoints(tmp_path, {}))
    for seed, trained in uninterrupted.items():
        jax.tree.map(np.testing.assert_array_equal, trained, resumed[seed])


@pytest.mark.slow
def test_seeds_side_by_side_resume_too(tmp_path):
    uninterrupted = outcomes(logistic(), None, range(5))
    dying = DyingCheckpoints(tmp_path, {})
    dying.saves_left = 12
    with pytest.raises(Killed):
        outcomes(logistic(), dying, range(5), seeds_per_device=2)
    resumed = outcomes(logistic(), Checkpoints(tmp_path, {}), range(5), seeds_per_device=2)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    for seed, trained in uninterrupted.items():
        jax.tree.map(close, trained, resumed[seed])


def test_a_finished_seed_is_not_trained_again(tmp_path):
    first = outcomes(logistic(), Checkpoints(tmp_path, {}))
    steps = files_of(tmp_path)
    again = outcomes(logistic(), Checkpoints(tmp_path, {}))
    for seed in first:
        jax.tree.map(np.testing.assert_array_equal, first[seed], again[seed])
    assert files_of(tmp_path) == steps


@pytest.mark.parametrize("name", ["", ".", "..", "../outside", "a/b"])
def test_names_stay_in_the_folder(saved, name):
    with pytest.raises(ValueError, match="name must be that of a folder, such as 'seed_0'"):
        saved.save(name, 1, TREE, {})
    with pytest.raises(ValueError, match="name must be that of a folder"):
        saved.restore(name, TREE)
    saved.save("seed_0", 1, TREE, {})


def test_a_negative_time_is_refused(tmp_path):
    with pytest.raises(ValueError, match="every_seconds must be at least 0, got -1.0"):
        Checkpoints(tmp_path, {}, every_seconds=-1.0)


def test_removed_checkpoints_leave_nothing(saved):
    saved.remove()
    assert not saved.folder.exists()


# Models

ARGUMENTS = {
    "in_features": 5,
    "out_features": 3,
    "hidden_features": 14,
    "num_heads": 7,
    "dropout_rate": DropoutRates(0.1, 0.2, 0.3),
}
GRAPH = build_graph(
    [0, 1, 2, 3], [1, 2, 3, 0], np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
)


def test_a_model_comes_back_ready_to_predict(tmp_path):
    model = GAT(**ARGUMENTS, rngs=nnx.Rngs(3))
    save_model(tmp_path / "model", "GAT", ARGUMENTS, nnx.state(model, nnx.Param))
    loaded = load_model(tmp_path / "model")
    assert loaded.layers[0].dropout.rates == DropoutRates(0.1, 0.2, 0.3)
    expected = forward(model, GRAPH, deterministic=True)
    np.testing.assert_array_equal(forward(loaded, GRAPH), expected)
    attention = nnx.jit(lambda model, graph: model.attention(graph))
    for one, other in zip(attention(loaded, GRAPH), attention(model, GRAPH), strict=True):
        np.testing.assert_array_equal(one, other)


def test_saving_refuses_what_loading_could_not_read(tmp_path):
    model = GAT(**ARGUMENTS, rngs=nnx.Rngs(3))
    parameters = nnx.state(model, nnx.Param)
    with pytest.raises(ValueError, match="one of .*'GAT'"):
        save_model(tmp_path / "model", "Gat", ARGUMENTS, parameters)
    save_model(tmp_path / "model", "GAT", ARGUMENTS, parameters)
    with pytest.raises(ValueError, match="holds a model already"):
        save_model(tmp_path / "model", "GAT", ARGUMENTS, parameters)


def test_loading_nothing_or_damage_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="no model to load"):
        load_model(tmp_path / "nowhere")
    model = GAT(**ARGUMENTS, rngs=nnx.Rngs(3))
    save_model(tmp_path / "model", "GAT", ARGUMENTS, nnx.state(model, nnx.Param))
    shutil.rmtree(tmp_path / "model" / "parameters")
    with pytest.raises(CheckpointError, match="no parameters"):
        load_model(tmp_path / "model")
