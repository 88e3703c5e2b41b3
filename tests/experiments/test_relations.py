"""The relational experiment: its questions, what each layer sees, and the command with a small budget."""

import dataclasses
import json

import numpy as np
import pytest


def test_an_answer_is_the_value_at_the_end_of_the_edge_that_is_asked_for():
    from relations import Config, Questions

    config = Config(relations=3, classes=5, queries=17)
    questions = Questions(config)
    graph = questions.graph
    for query in range(17):
        node = 5 + query
        asked = int(np.asarray(graph.nodes)[node, 5:].argmax())
        (edge,) = np.flatnonzero((graph.receivers == node) & (questions.relation == asked))
        assert graph.senders[edge] == questions.answers[query]
        assert questions.answers_of(np.array([node])) == [graph.senders[edge]]
    assert np.asarray(graph.nodes)[:5, :5].tolist() == np.eye(5).tolist()
    parts = np.concatenate(questions.parts)
    assert sorted(parts.tolist()) == list(range(5, 22)), "each query is in one part"


def test_layers_differ_in_what_they_know_of_the_relations():
    from relations import Config, variants

    relation = np.array([0, 1, 0], np.int32)
    seen = {name: edges for name, (_, edges) in variants(Config(relations=2), relation).items()}
    assert seen["GAT"] is None
    for name in ("GAT, edge features", "GATv2, edge features"):
        assert seen[name].tolist() == [[1, 0], [0, 1], [1, 0]]
    for name in ("RGAT within", "RGAT across"):
        assert seen[name] is relation


@pytest.mark.slow
def test_only_attention_over_all_relations_chooses_between_them(tmp_path, monkeypatch, capsys):
    import relations

    some = relations.variants
    monkeypatch.setattr(
        relations,
        "variants",
        lambda *given: {name: it for name, it in some(*given).items() if name.startswith("RGAT")},
    )
    config = relations.Config(
        classes=4,
        queries=240,
        seeds=1,
        features=16,
        max_epochs=100,
        progress=False,
        output=tmp_path,
    )
    result = relations.main(config)
    assert json.loads((tmp_path / "result.json").read_text()) == json.loads(
        json.dumps(result, default=str)
    )
    right = {name: row["test_accuracy"][0] for name, row in result["rows"].items()}
    assert right["RGAT across"] > 0.9 and right["RGAT within"] < 0.6
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000
    assert "| RGAT across " in capsys.readouterr().out
    assert relations.main(dataclasses.replace(config)) == json.loads(
        (tmp_path / "result.json").read_text()
    )
