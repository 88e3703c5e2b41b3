"""Graphs in which it is known which edges a prediction should rest on.

Edges run sender -> receiver, both directions of what is undirected, with a self-loop for each node at the end; truth is
never a self-loop.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
from jraph import GraphsTuple

from gatjax import add_self_loops, build_graph

ROLES = ("customer", "friend", "relative", "campaign", "acquaintance")
RELATIVES, ACQUAINTANCES = 2, 6


class Planted(NamedTuple):
    """A graph, what is to be predicted, and what the predictions should rest on.

    Attributes:
      graph: with self-loops.
      labels: class of each node, -1 where there is none, `[N]`.
      parts: ids of the nodes to train on, to stop by, and to test.
      targets: test nodes whose truth is known.
      truth: for each target the ids of its edges that matter.
      beside: edges that are neither true nor false, left out of the ranking, `[E]`.
      kinds: for each edge what its sender is, `[E]`, or None.
    """

    graph: GraphsTuple
    labels: np.ndarray
    parts: Sequence[np.ndarray]
    targets: np.ndarray
    truth: list[np.ndarray]
    beside: np.ndarray
    kinds: np.ndarray | None = None


def churn(
    seed: int, *, customers: int = 1200, campaign: float = 0.5, broken: bool = False
) -> Planted:
    """Will this customer leave? One friend of ten neighbours decides.

    A customer has one friend, two relatives, six acquaintances, and is in reach of one campaign. Everyone but a
    customer has a role and a mood, of leaving or of staying, which are their features, the mood with noise. The label
    is the mood of the friend, but for one in ten. Relatives share the friend's mood four times of five: redundant.
    Acquaintances have any. The campaign's mood agrees with the label with the chance `campaign`: 1/2 is no news, more
    is spurious, which holds where the data comes from and, where the link is `broken`, not at the test.

    A quarter of those to learn from have no friend, and leave by chance: else a model may take "stays" for granted, and
    rest on no edge where it says so.
    """
    random = np.random.default_rng(seed)
    people = {role: 40 for role in ROLES[1:]}
    moods = {role: np.arange(number) % 2 for role, number in people.items()}
    first = dict(zip(people, customers + np.cumsum([0, *people.values()])[:-1], strict=True))
    friend = random.integers(people["friend"], size=customers)
    mood = moods["friend"][friend]
    parts = np.split(np.arange(customers), [customers // 2, customers * 2 // 3])
    alone = random.random(customers) < 0.25
    alone[parts[2]] = False
    labels = np.where(random.random(customers) < np.where(alone, 0.5, 0.9), mood, 1 - mood)
    shared, trusted = np.where(alone, 0.5, 0.8), np.full(customers, campaign)
    if broken:
        trusted[parts[2]] = 0.5

    def with_mood(role: str, wanted: np.ndarray) -> np.ndarray:
        """Someone of that role in that mood, for each."""
        half = random.integers(people[role] // 2, size=wanted.shape)
        return first[role] + 2 * half + wanted

    like = lambda wanted, chance: np.where(random.random(wanted.shape) < chance, wanted, 1 - wanted)
    table = [
        first["friend"] + friend[:, None],
        with_mood("relative", like(np.tile(mood[:, None], (1, RELATIVES)), shared[:, None])),
        with_mood("campaign", like(labels, trusted))[:, None],
        with_mood("acquaintance", random.integers(2, size=(customers, ACQUAINTANCES))),
    ]
    senders = np.concatenate(table, 1)
    order = random.permuted(np.tile(np.arange(senders.shape[1]), (customers, 1)), axis=1)
    kinds = np.repeat([1, 2, 3, 4], [1, RELATIVES, 1, ACQUAINTANCES])[order]
    senders = np.take_along_axis(senders, order, 1)
    receivers = np.broadcast_to(np.arange(customers)[:, None], senders.shape)
    there = ~(alone[:, None] & (kinds == 1))
    senders, receivers, kinds = senders[there], receivers[there], kinds[there]
    roles = np.concatenate(
        [np.zeros(customers, int), np.repeat([1, 2, 3, 4], list(people.values()))]
    )
    signal = np.concatenate([np.zeros(customers), *(2.0 * mood - 1 for mood in moods.values())])
    signal += 0.3 * random.normal(size=len(signal)) * (roles > 0)
    nodes = np.concatenate([np.eye(len(ROLES))[roles], signal[:, None]], 1).astype(np.float32)
    graph = add_self_loops(build_graph(senders, receivers, nodes))
    kinds = np.concatenate([kinds, np.zeros(len(nodes), int)])
    receivers = np.asarray(graph.receivers)
    truth = [np.flatnonzero((receivers == target) & (kinds == 1)) for target in parts[2]]
    labels = np.concatenate([labels, np.full(len(nodes) - customers, -1)]).astype(np.int32)
    return Planted(graph, labels, parts, parts[2], truth, kinds == 2, kinds)


def ba_shapes(seed: int, *, nodes: int = 300, houses: int = 80) -> Planted:
    """Houses on a preferential-attachment graph: the class of a node is its place in a house, or that it is in none.

    As in the paper 300 nodes with 5 edges each, 80 houses of five, and as many edges more, between any nodes, as a
    tenth of all nodes. The truth of a node of a house are the edges of its house. Features are its degree, one-hot up
    to 10: the paper's are all alike, by which attention, whose weights sum to 1, can tell no node from another.

    Ying et al., GNNExplainer, NeurIPS 2019.
    """
    random = np.random.default_rng(seed)
    graph = nx.barabasi_albert_graph(nodes, 5, seed=seed)
    labels, house = [0] * nodes, [-1] * nodes
    # A square with a roof: 0 and 1 below, 2 and 3 in the middle, 4 on top; it stands by node 0.
    walls = [(0, 1), (1, 2), (2, 3), (3, 0), (2, 4), (3, 4)]
    for index, place in enumerate(random.choice(nodes, houses, replace=False)):
        start = nodes + 5 * index
        graph.add_edges_from((start + a, start + b) for a, b in walls)
        graph.add_edge(start, int(place))
        labels += [3, 3, 2, 2, 1]
        house += [index] * 5
    count = graph.number_of_nodes()
    while graph.number_of_edges() < nodes * 5 - 25 + 7 * houses + count // 10:
        graph.add_edge(*map(int, random.choice(count, 2, replace=False)))
    degree = np.minimum([graph.degree[node] for node in range(count)], 10)
    pairs = np.array(graph.edges)
    ends = np.concatenate([pairs, pairs[:, ::-1]]).T
    features = np.eye(11, dtype=np.float32)[degree]
    built = add_self_loops(build_graph(ends[0], ends[1], features))
    senders, receivers = np.asarray(built.senders), np.asarray(built.receivers)
    home = np.array(house)
    inside = (home[senders] == home[receivers]) & (home[senders] >= 0) & (senders != receivers)
    order = random.permutation(count)
    parts = np.split(order, [count * 6 // 10, count * 8 // 10])
    targets = parts[2][home[parts[2]] >= 0]
    truth = [np.flatnonzero(inside & (home[receivers] == home[target])) for target in targets]
    beside = np.zeros(len(senders), bool)
    return Planted(built, np.array(labels, np.int32), parts, targets, truth, beside)


def infection(seed: int, *, nodes: int = 1000, infected: int = 50, most: int = 4) -> Planted:
    """How many steps from the nearest infected node, along directed edges: 0 ... `most`, which is that many or more.

    The truth of a node is the shortest path to it, where there is but one, from 1 to `most` - 1 steps. Features say who
    is infected.

    Faber, Moghaddam, Wattenhofer, When Comparing to Ground Truth is Wrong, KDD 2021.
    """
    random = np.random.default_rng(seed)
    ends = np.argwhere((random.random((nodes, nodes)) < 0.004) & ~np.eye(nodes, dtype=bool))
    sick = np.zeros(nodes, bool)
    sick[random.choice(nodes, infected, replace=False)] = True
    graph = add_self_loops(
        build_graph(ends[:, 0], ends[:, 1], np.eye(2, dtype=np.float32)[sick.astype(int)])
    )
    senders, receivers = ends.T
    distance = np.where(sick, 0, most)
    # Ways of reaching each node in the fewest steps, and the last edge of one of them.
    ways, last = sick.astype(int), np.full(nodes, -1)
    for step in range(1, most):
        here = (distance[senders] == step - 1) & (distance[receivers] == most)
        reached = np.bincount(receivers[here], weights=ways[senders[here]], minlength=nodes).astype(
            int
        )
        last[receivers[here]] = np.flatnonzero(here)
        ways = np.where(reached > 0, reached, ways)
        distance[reached > 0] = step
    order = random.permutation(nodes)
    parts = np.split(order, [nodes * 6 // 10, nodes * 8 // 10])
    known = (distance > 0) & (distance < most) & (ways == 1)
    targets = parts[2][known[parts[2]]]

    def path(node: Any) -> np.ndarray:
        edges = []
        while not sick[node]:
            edges.append(last[node])
            node = senders[last[node]]
        return np.array(edges)

    beside = np.zeros(len(senders) + nodes, bool)
    truth = [path(target) for target in targets]
    return Planted(graph, distance.astype(np.int32), parts, targets, truth, beside)


GRAPHS = {"churn": churn, "ba_shapes": ba_shapes, "infection": infection}
