"""The graph network experiment with a small budget, and the answers that it trains on."""

import dataclasses
import json

import jax
import numpy as np
import pytest


@pytest.fixture(scope="module")
def experiment():
    import graph_network

    return graph_network


@pytest.mark.parametrize("seed", range(5))
def test_the_next_hop_leads_along_a_shortest_path(experiment, seed):
    """Against the distances of Floyd and Warshall, worked out here."""
    paths = experiment.make_paths(np.random.default_rng(seed), 11, 0.3)
    graph, goal = paths.graph, int(paths.graph.nodes[:, 0].argmax())
    weight = np.full((11, 11), np.inf)
    weight[graph.receivers, graph.senders] = graph.edges[:, 0]
    distance = np.where(np.eye(11, dtype=bool), 0, weight)
    for k in range(11):
        distance = np.minimum(distance, distance[:, k, None] + distance[None, k])
    assert np.isfinite(distance).all(), "the graph is connected"
    assert graph.nodes.sum() == 1 and paths.next_hop.sum() == 10
    for j, i in zip(graph.senders[paths.next_hop], graph.receivers[paths.next_hop], strict=True):
        assert i != goal
        np.testing.assert_allclose(weight[i, j] + distance[j, goal], distance[i, goal], rtol=1e-6)


def test_batches_come_from_their_key_alone(experiment):
    config = experiment.Config(train_nodes=(4, 7), batches=2, batch_size=3)
    first, _ = experiment.labels_of(config, seed=0)
    again, _ = experiment.labels_of(dataclasses.replace(config, aggregations=("mean",)), seed=0)
    other, _ = experiment.labels_of(config, seed=1)
    np.testing.assert_array_equal(first.graph.edges, again.graph.edges)
    assert first.graph.edges.shape[0] == 2
    assert first.graph.edges.shape != other.graph.edges.shape or np.any(
        first.graph.edges != other.graph.edges
    )
    assert not first.next_hop[~first.edge_mask].any()
    targets = first.graph.n_node[:, :3].sum() - 2 * 3
    assert first.next_hop.sum() == targets, "one for every node but the goals, none for padding"


def test_the_score_of_an_untrained_model_is_finite(experiment):
    config = experiment.Config(train_nodes=(4, 7), batches=1, batch_size=3, features=4, num_steps=1)
    task = experiment.Task(config, "sum")
    _, paths = experiment.labels_of(config, seed=0)
    metrics = jax.jit(task.score)(task.initialise(jax.random.key(0)), paths)
    assert np.isfinite(metrics.loss) and 0 <= metrics.accuracy <= 1


@pytest.mark.slow
def test_it_trains_and_reports(experiment, tmp_path, capsys):
    config = experiment.Config(
        seeds=1,
        train_nodes=(4, 6),
        test_nodes=(6, 9),
        test_graphs=16,
        features=16,
        num_steps=2,
        num_heads=2,
        updates=60,
        batch_size=16,
        batches=8,
        progress=False,
        output=tmp_path,
    )
    experiment.main(config)
    result = json.loads((tmp_path / "result.json").read_text())
    assert {"command", "versions", "hardware", "commit", "config", "seconds"} <= set(result)
    for name in ("sum", "attention"):
        accuracy = result["results"][name]["accuracy"]
        assert list(accuracy) == ["6", "9"] and all(len(each) == 1 for each in accuracy.values())
        assert min(accuracy["6"]) > 0.6, "a guess is right for half of the nodes"
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000
    assert (tmp_path / "attention.png").stat().st_size > 10_000
    out = capsys.readouterr().out
    assert "| aggregation | parameters | 6 nodes" in out
    lead = 100 * np.subtract(
        *(np.mean(result["results"][n]["accuracy"]["9"]) for n in ("attention", "sum"))
    )
    assert f"{lead:+.1f} at 9 nodes" in out
