"""Typed graphs in, typed graphs out: other relations between the same nodes."""

from gatjax.graph.typed import Relation, TypedGraph, arrow, require_typed


def add_reverses(graph: TypedGraph) -> TypedGraph:
    """Every relation between two types in both directions: the reverse of "writes" is called "rev_writes".

    Without them a type that only sends learns nothing of its neighbours. Edge features follow. Relations within a type
    stay as they are.

    Raises:
        ValueError: a relation that is called like the reverse of another.

    >>> from gatjax.graph import build_typed_graph
    >>> graph = build_typed_graph(
    ...     {"author": [[0.5]], "paper": [[1.0], [2.0]]}, {("author", "writes", "paper"): ([0, 0], [0, 1])}
    ... )
    >>> add_reverses(graph)
    TypedGraph of 1 graph
      author                      1 nodes  float32[1]
      paper                       2 nodes  float32[1]
      author -writes-> paper      2 edges
      paper -rev_writes-> author  2 edges
    """
    require_typed(graph)
    reverses = {
        (receiver, f"rev_{name}", sender): (sender, name, receiver)
        for sender, name, receiver in graph.triples
        if sender != receiver
    }
    for triple in reverses:
        if triple in graph.relations:
            raise ValueError(
                f"relations has {arrow(triple)} already: rename it, or add the reverses that are missing by hand"
            )
    turned = {}
    for triple, own in reverses.items():
        edges = graph.relations[own]
        turned[triple] = Relation(edges.receivers, edges.senders, edges.edges)
    n_edge = {triple: graph.n_edge[own] for triple, own in reverses.items()}
    return graph._replace(relations=graph.relations | turned, n_edge=graph.n_edge | n_edge)
