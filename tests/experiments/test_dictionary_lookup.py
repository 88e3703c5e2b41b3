"""DictionaryLookup: its data, its graph, its options, and the command with a small budget."""

import itertools
import json
import math
import re
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jraph import batch
from tqdm import tqdm

from gatjax import build_graph

layers = pytest.mark.parametrize("layer", ["gat", "gatv2"])


def pairs(lookups):
    return {pair for values in lookups.tolist() for pair in enumerate(values)}


@pytest.mark.parametrize("k", [3, 4, 5, 7])
def test_small_dictionaries_are_all_permutations(k):
    from lookup import make_lookups

    train, test = make_lookups(k)
    every = {tuple(row) for part in (train, test) for row in part.tolist()}
    assert len(train) + len(test) == math.factorial(k)
    assert every == set(itertools.permutations(range(k)))


@pytest.mark.parametrize(("k", "lookups"), [(2, 99), (9, 0)])
def test_too_few_of_them_are_refused(k, lookups):
    from lookup import make_lookups

    with pytest.raises(ValueError, match=f"got {k} and {lookups}"):
        make_lookups(k, lookups=lookups)


def test_larger_ones_are_drawn():
    from lookup import make_lookups

    train, test = make_lookups(8, lookups=997)
    assert len(train) + len(test) == 997
    assert (np.sort(np.concatenate([train, test]), axis=1) == np.arange(8)).all()
    same, other = make_lookups(8, lookups=997), make_lookups(8, lookups=997, seed=12)
    np.testing.assert_array_equal(same.train, train)
    assert not np.array_equal(other.train[:100], train[:100])


@pytest.mark.parametrize(("k", "allowed"), [(3, 8), (4, 15), (5, 23), (7, 47), (10, 97)])
def test_every_test_lookup_has_an_unseen_pair(k, allowed):
    """floor(0.8^(1/k) k²) by hand: 0.9283·9, 0.9457·16, 0.9564·25, 0.9686·49, 0.9779·100."""
    from lookup import make_lookups

    train, test = make_lookups(k, lookups=3001)
    seen = pairs(train)
    unseen = pairs(test) - seen
    assert len(seen) == allowed
    assert 0 < len(unseen) <= k * k - allowed
    assert all(unseen & set(enumerate(values)) for values in test.tolist())
    assert len(train) > 0 and len(test) > 0


def lookup_graph(model, values):
    """One lookup as the paper has it: 2k nodes, k queries and then k keys, and k² edges."""
    k = len(values)
    rows = [model.keys(jnp.array(i)) + model.values(jnp.array(k)) for i in range(k)]
    rows += [model.keys(jnp.array(i)) + model.values(jnp.array(values[i])) for i in range(k)]
    edges = [(k + j, i) for i in range(k) for j in range(k)]
    if model.self_loops:
        edges += [(i, i) for i in range(2 * k)]
    return build_graph(*np.array(edges).T, nodes=jnp.maximum(jnp.stack(rows), 0))


@pytest.mark.slow
@layers
def test_sharing_equal_keys_changes_no_answer(layer):
    """The one graph of a batch gives what each lookup gives in a graph of its own."""
    from lookup import Lookup

    k, features = 5, 14
    model = Lookup(k, layer, 2, features, rngs=nnx.Rngs(0))
    values = np.array([[0, 1, 2, 3, 4], [4, 0, 3, 1, 2], [2, 1, 0, 4, 3]])
    shared = model.graph(jnp.asarray(values))
    loops = 3 * k if layer == "gat" else 0
    assert len(shared.senders) == len(shared.receivers) == 3 * k * k + loops
    assert (np.bincount(shared.receivers) == k + (layer == "gat")).all()

    alone = [lookup_graph(model, row) for row in values]
    nodes = model.layer(batch(alone)).nodes.reshape(3, 2 * k, features)[:, :k]
    expected = nodes @ np.asarray(model.out.kernel[...])
    np.testing.assert_allclose(model(jnp.asarray(values)), expected, rtol=1e-4, atol=1e-5)


@layers
def test_the_layers_are_those_of_the_paper(layer):
    from lookup import Lookup

    model = Lookup(4, layer, 2, 10, rngs=nnx.Rngs(0))
    assert model.keys.embedding.shape == model.values.embedding.shape == (5, 10)
    assert model.out.bias is None
    assert model.self_loops == (model.layer.output.bias is not None) == (layer == "gat")
    if layer == "gatv2":
        assert model.layer.receiver_projection is None and model.layer.score_bias is None


def test_dropout_in_evaluation_is_an_option():
    from lookup import Task, accuracy, make_lookups, start

    values = make_lookups(6).train[:200]
    usual = Task(6, "gatv2", 1, features=8, batch_size=64)
    slip = Task(6, "gatv2", 1, features=8, batch_size=64, dropout_rate=0.5, always_dropout=True)
    state = start(usual, 0)
    other = state._replace(key=jax.random.key(99))
    assert accuracy(usual, state, values) == accuracy(usual, other, values)
    assert accuracy(slip, state, values) != accuracy(slip, other, values)


def test_accuracy_counts_every_query_once():
    from lookup import Task, accuracy, make_lookups, start

    values = make_lookups(5).train[:37]
    task = Task(5, "gat", 1, features=8, batch_size=16)
    state = start(task, 0)
    logits = task.logits(state.parameters, jnp.asarray(values), None)
    expected = np.mean(np.asarray(logits).argmax(-1) == values)
    assert accuracy(task, state, values) == pytest.approx(expected)


def test_the_budgets():
    from dictionary_lookup import Config, resolve

    quick, paper = resolve(Config()), resolve(Config(budget="paper", sizes=(5,)))
    assert not quick.always_dropout and quick.patience is None
    assert resolve(Config(budget="paper")).sizes == tuple(range(4, 21))
    assert (paper.sizes, paper.batch_size, paper.patience) == ((5,), 1024, 20)
    assert resolve(Config(always_dropout=True)).dropout_rate == 0.5
    with pytest.raises(SystemExit, match="heads is empty"):
        resolve(Config(heads=()))
    with pytest.raises(SystemExit, match="steps = 5 must be at least evaluate_every = 10"):
        resolve(Config(steps=5))


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    import dictionary_lookup

    folder = tmp_path_factory.mktemp("lookup")
    config = dictionary_lookup.Config(
        sizes=(4,),
        heads=(1,),
        learning_rates=(1e-2,),
        steps=60,
        evaluate_every=20,
        features=16,
        progress=False,
        output=folder,
    )
    return folder, config, dictionary_lookup.main(config)


@pytest.mark.slow
def test_the_command_writes_table_json_and_plot(command):
    import dictionary_lookup

    folder, _, result = command
    stored = json.loads((folder / "result.json").read_text())
    assert {"command", "versions", "hardware", "commit", "config"} <= set(stored)
    assert [(row["k"], row["layer"]) for row in stored["rows"]] == [(4, "gat"), (4, "gatv2")]
    assert (folder / "accuracy.png").stat().st_size > 10_000
    table = dictionary_lookup.table(result["rows"])
    assert re.search(r"\| 4 +\| GAT +\| 1 +\|.*\| 85 +\| 45 +\|", table), table
    for run in (run for row in stored["rows"] for run in row["runs"]):
        names = "step", "loss", "train_accuracy", "test_accuracy"
        assert run["history"][-1] == pytest.approx([run[name] for name in names], rel=1e-3)
        losses = [loss for _, loss, *_ in run["history"]]
        assert len(losses) == 1 or losses[-1] < losses[0]


@pytest.mark.slow
def test_a_row_that_is_told_to_stop_gives_nothing(command):
    import dictionary_lookup
    from lookup import make_lookups

    _, config, _ = command
    stop = threading.Event()
    stop.set()
    row = dictionary_lookup.Row(4, "gat", 1)
    settings = dictionary_lookup.resolve(config)
    with tqdm(disable=True) as bar:
        assert dictionary_lookup.train_row(settings, row, make_lookups(4), stop, bar) is None


def test_after_an_interruption_finished_rows_are_kept(monkeypatch, capsys):
    import dictionary_lookup

    def train_row(settings, row, data, stop, bar):
        if row.layer == "gat":
            return row._asdict()
        stop.wait(30)

    def interrupted(futures, **_):
        futures[0].result()
        raise KeyboardInterrupt

    monkeypatch.setattr(dictionary_lookup, "train_row", train_row)
    monkeypatch.setattr(dictionary_lookup, "wait", interrupted)
    config = dictionary_lookup.Config(sizes=(4,), heads=(1,), progress=False)
    assert dictionary_lookup.run(dictionary_lookup.resolve(config)) == [
        {"k": 4, "layer": "gat", "heads": 1}
    ]
    assert "the rows that have finished are kept" in capsys.readouterr().out


def test_the_table_shows_the_rate_that_fits_best():
    import dictionary_lookup

    runs = [
        {
            "learning_rate": rate,
            "seed": seed,
            "train_accuracy": train,
            "test_accuracy": 0.5,
            "step": 7,
        }
        for rate, accuracies in {0.3: (0.4, 0.6), 0.2: (0.7, 0.5), 0.1: (0.6, 0.6)}.items()
        for seed, train in enumerate(accuracies)
    ]
    best = dictionary_lookup.best_rate({"runs": runs})
    assert [(run["learning_rate"], run["seed"]) for run in best] == [(0.2, 0), (0.2, 1)]


def test_the_history_is_thinned_to_its_last_entry():
    from dictionary_lookup import thinned

    history = [[step, step / 7, 0.5, 0.25] for step in range(10, 1001, 10)]
    kept = thinned(history)
    assert 20 <= len(kept) <= 22 and kept[0] == [10, 1.429, 0.5, 0.25]
    assert kept[-1] == [1000, 142.9, 0.5, 0.25]
    assert [step for step, *_ in thinned(history[:7])] == [10, 20, 30, 40, 50, 60, 70]


@pytest.mark.slow
@layers
def test_trained_attention_ranks_the_keys_anew_for_each_query(layer):
    """Agreement of the queries' rankings: 1 for GAT whatever it has learned, and well below 1 for GATv2."""
    from lookup import Lookup, Task, advance, make_lookups, start

    from gatjax.explain import ranking_agreement, shared_pairs

    k = 6
    task = Task(k, layer, heads=1, features=32, evaluate_every=200)
    train = jnp.asarray(make_lookups(k).train)
    state, _ = advance(task, start(task, 0), jnp.float32(0.005), train)
    model = Lookup(k, layer, 1, 32, rngs=nnx.Rngs(0))
    nnx.update(model, state.parameters)
    right = float((model(train[:100]).argmax(-1) == train[:100]).mean())
    graph = model.graph(train[:1])
    (agreement,) = np.asarray(ranking_agreement(model.layer.attention(graph), shared_pairs(graph)))
    if layer == "gat":
        assert agreement == 1 and right < 0.6
    else:
        assert agreement < 0.8 and right > 0.9
