"""Knowledge graphs: the one in the package, and folders of facts."""

import numpy as np
from helpers import rejects

from gatjax.data import load_knowledge_graph
from gatjax.graph import validate


def write(folder, **parts):
    for name in ("train", "valid", "test"):
        (folder / f"{name}.txt").write_text("".join(f"{fact}\n" for fact in parts.get(name, ())))
    return folder


def test_the_one_in_the_package_is_what_is_published():
    umls = load_knowledge_graph("UMLS")
    assert (len(umls.entities), len(umls.relations)) == (135, 46)
    assert [len(part) for part in (umls.train, umls.validation, umls.test)] == [5216, 652, 661]
    facts = {tuple(fact) for part in (umls.train, umls.validation, umls.test) for fact in part}
    assert len(facts) == 6529, "no fact is in two parts"
    known = {(umls.entities[h], umls.relations[r], umls.entities[t]) for h, r, t in facts}
    assert ("bacterium", "causes", "disease_or_syndrome") in known


def test_facts_of_a_folder_and_their_graph(tmp_path):
    facts = ["einstein\tborn in\tgermany", "germany\tlocated in\teurope"]
    folder = write(tmp_path, train=facts, valid=["einstein\tlocated in\teurope"])
    found = load_knowledge_graph(folder)
    assert found.entities == ("einstein", "europe", "germany")
    assert found.relations == ("born in", "located in")
    assert found.train.tolist() == [[0, 0, 2], [2, 1, 1]]
    assert found.validation.tolist() == [[0, 1, 1]] and found.test.shape == (0, 3)
    graph = validate(found.graph())
    # Facts, their inverses, and each entity to itself.
    assert np.asarray(graph.senders).tolist() == [0, 2, 2, 1, 0, 1, 2]
    assert np.asarray(graph.receivers).tolist() == [2, 1, 0, 2, 0, 1, 2]
    assert np.asarray(graph.edges).tolist() == [0, 1, 2, 3, 4, 4, 4] and found.num_relations == 5


def test_bad_folders_are_refused(tmp_path, unchecked):
    with rejects(ValueError, "source must be one of"):
        load_knowledge_graph("freebase")
    with rejects(FileNotFoundError, "train.txt is missing"):
        load_knowledge_graph(tmp_path)
    write(tmp_path, train=["einstein born in germany"])
    with rejects(ValueError, "train.txt, line 1: 'einstein born in germany' is no fact"):
        load_knowledge_graph(tmp_path)
    write(tmp_path, train=["a\tr\tb"], test=["a\tr\tc"])
    with rejects(ValueError, "test: 'c' of ('a', 'r', 'c') is in no fact of training"):
        load_knowledge_graph(tmp_path)
