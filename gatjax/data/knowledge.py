"""Knowledge graphs: facts (head, relation, tail), some of them kept back."""

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

import numpy as np
from jaxtyping import Int32
from jraph import GraphsTuple

from gatjax.data.download import check_choice, check_sha256
from gatjax.graph import build_graph
from gatjax.graph.messages import shown

UMLS_SHA256 = "09eedb5d473268fb798636aea6e57550a9842c73ee4347fb5cd313cfe27da65f"
PARTS = {"train": "train.txt", "validation": "valid.txt", "test": "test.txt"}

Facts = Int32[np.ndarray, "_ 3"]


@dataclasses.dataclass(frozen=True, eq=False)
class KnowledgeGraph:
    """Facts about entities; those of validation and test are not in `graph`.

    Attributes:
      name: of the data set.
      entities: the names of the N entities.
      relations: the names of the R relations.
      train, validation, test: facts [n, 3], ids of head, relation and tail.
      provenance: where it is from.
    """

    name: str
    entities: tuple[str, ...]
    relations: tuple[str, ...]
    train: Facts
    validation: Facts
    test: Facts
    provenance: str

    def __repr__(self) -> str:
        sizes = "/".join(str(len(part)) for part in (self.train, self.validation, self.test))
        return (
            f"KnowledgeGraph({self.name!r}: {len(self.entities)} entities, {len(self.relations)} relations, "
            f"facts {sizes})"
        )

    @property
    def num_relations(self) -> int:
        """Of `graph`: each relation, its inverse, and one that joins each entity to itself; 2R + 1."""
        return 2 * len(self.relations) + 1

    def graph(self) -> GraphsTuple:
        """The facts to train on, in both directions, and self-loops, as `RelationalGATConv` reads them.

        Nodes are entities without features; edges are relation ids: r for head -> tail, R + r for tail -> head, and 2R
        for an entity to itself. The first edges are the facts in their order, then their inverses.
        """
        heads, relations, tails = self.train.T
        selves = np.arange(len(self.entities), dtype=np.int32)
        number = len(self.relations)
        ids = [relations, relations + number, np.full_like(selves, 2 * number)]
        return build_graph(
            np.concatenate([heads, tails, selves]),
            np.concatenate([tails, heads, selves]),
            num_nodes=len(selves),
            edges=np.concatenate(ids).astype(np.int32),
        )


def load_knowledge_graph(source: str | Path = "umls") -> KnowledgeGraph:
    """A knowledge graph, by its name or from a folder.

    "umls" is in the package: 135 kinds of things in medicine, such as diseases, drugs and parts of the body, and 46
    relations, such as "causes", "treats" and "part_of".

    Args:
      source: "umls", or a folder with `train.txt`, `valid.txt` and `test.txt`, as WN18RR and FB15k-237 come: one fact a
        line, head, relation and tail with a tab between them.

    Returns:
      The facts; entities and relations are in the order of their names.

    Raises:
      ValueError: an unknown name, a line that is no fact, a fact of validation or test whose entity or relation no fact
        of training has.
      FileNotFoundError: a file is missing.

    >>> umls = load_knowledge_graph("umls")
    >>> umls
    KnowledgeGraph('umls': 135 entities, 46 relations, facts 5216/652/661)
    >>> head, relation, tail = umls.train[0]
    >>> umls.entities[head], umls.relations[relation], umls.entities[tail]
    ('acquired_abnormality', 'location_of', 'experimental_model_of_disease')

    McCray, An upper-level ontology for the biomedical domain, 2003; as a data set Kok and Domingos, Statistical
    predicate invention, ICML 2007, in the split of Dettmers et al., Convolutional 2D knowledge graph embeddings, 2018.
    """
    if isinstance(source, str) and not Path(source).is_dir():
        check_choice("source", source.lower(), ("umls", "a folder"))
        return _number("umls", _bundled(), "bundled with gatjax, from pykeen")
    folder = Path(source)
    texts = {}
    for part, name in PARTS.items():
        path = folder / name
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is missing: a folder needs {', '.join(PARTS.values())}"
            )
        texts[part] = list(_facts(path))
    return _number(folder.name, texts, str(folder))


def _bundled() -> dict[str, list[tuple[str, str, str]]]:
    where = "gatjax/data/bundled/umls.csv"
    data = (resources.files("gatjax.data") / "bundled" / "umls.csv").read_bytes()
    check_sha256(data, UMLS_SHA256, where, "install gatjax anew")
    found: dict[str, list[tuple[str, str, str]]] = {part: [] for part in PARTS}
    for part, head, relation, tail in list(csv.reader(io.StringIO(data.decode("utf-8"))))[1:]:
        found[part].append((head, relation, tail))
    return found


def _facts(path: Path) -> Iterable[tuple[str, str, str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        cells = line.split("\t")
        if len(cells) != 3:
            raise ValueError(
                f"{path}, line {number}: {shown(line)} is no fact: give head, relation and tail with a tab between them"
            )
        yield cells[0], cells[1], cells[2]


def _number(
    name: str, parts: Mapping[str, list[tuple[str, str, str]]], provenance: str
) -> KnowledgeGraph:
    """Ids for names."""
    entities = tuple(sorted({fact[end] for fact in parts["train"] for end in (0, 2)}))
    relations = tuple(sorted({fact[1] for fact in parts["train"]}))
    places = [
        {each: k for k, each in enumerate(names)} for names in (entities, relations, entities)
    ]

    def ids(part: str) -> Facts:
        rows = []
        for fact in parts[part]:
            for known, word in zip(places, fact, strict=True):
                if word not in known:
                    raise ValueError(
                        f"{name}, {part}: {shown(word)} of {fact} is in no fact of training: leave the fact out"
                    )
            rows.append([known[word] for known, word in zip(places, fact, strict=True)])
        return np.array(rows, np.int32).reshape(-1, 3)

    train, validation, test = map(ids, PARTS)
    return KnowledgeGraph(name, entities, relations, train, validation, test, provenance)
