"""The experiment on a knowledge graph: its questions, what is known, and the command with a small budget."""

import dataclasses
import json

import numpy as np
import pytest

from gatjax.data import KnowledgeGraph


def test_questions_ask_in_both_directions_and_know_all_right_answers():
    from knowledge import Data

    part = lambda *facts: np.array(facts, np.int32)
    facts = KnowledgeGraph(
        "small", ("a", "b", "c"), ("r", "s"), part([0, 0, 1]), part([0, 0, 2]), part([1, 1, 2]), ""
    )
    data = Data(facts, share=1.0)
    asked = data.questions(facts.validation)
    assert asked.entities.tolist() == [0, 2] and asked.relations.tolist() == [0, 2]
    assert asked.answers.tolist() == [2, 0]
    # a -r-> b is known from training; to (?, r, c) there is one answer.
    assert asked.known.tolist() == [[False, True, True], [True, False, False]]


def test_a_share_of_the_facts_is_used_and_all_are_known():
    from knowledge import Data

    from gatjax.data import load_knowledge_graph

    umls = load_knowledge_graph()
    data = Data(umls, share=0.1)
    used = {tuple(fact) for fact in data.facts.train.tolist()}
    assert len(used) == 522 and used <= {tuple(fact) for fact in umls.train.tolist()}
    whole = Data(umls, share=1.0)
    assert (data.questions(umls.test).known == whole.questions(umls.test).known).all()


@pytest.mark.slow
def test_with_few_facts_attention_is_ahead(tmp_path, monkeypatch, capsys):
    import knowledge

    some = knowledge.variants
    chosen = "DistMult", "RGAT across"
    monkeypatch.setattr(
        knowledge, "variants", lambda *given: {name: some(*given)[name] for name in chosen}
    )
    config = knowledge.Config(
        share=0.1, seeds=1, features=16, max_epochs=120, progress=False, output=tmp_path
    )
    result = knowledge.main(config)
    stored = json.loads((tmp_path / "result.json").read_text())
    assert stored == json.loads(json.dumps(result, default=str))
    mrr = {name: row["mrr"][0] for name, row in result["rows"].items()}
    assert mrr["RGAT across"] > mrr["DistMult"] + 0.1
    assert "| umls, 10% of the facts, 1 seed " in capsys.readouterr().out
    assert knowledge.main(dataclasses.replace(config)) == stored
