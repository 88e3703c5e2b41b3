"""Which nodes train, which validate, which test."""

from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Bool, Int32
from numpy.typing import ArrayLike

from gatjax.graph.links import generator
from gatjax.graph.messages import check_integer, listed, shown


class Splits(NamedTuple):
    """Node ids of the three parts of a data set, each sorted; no node is in two parts.

    Attributes:
      train: ids whose labels a model may learn from, [n_train].
      validation: ids for early stopping and for choosing hyperparameters, [n_validation].
      test: ids that are looked at once, at the end, [n_test].
    """

    train: Int32[np.ndarray, "n_train"]
    validation: Int32[np.ndarray, "n_validation"]
    test: Int32[np.ndarray, "n_test"]


def random_split(
    labels: ArrayLike,
    *,
    seed: int = 0,
    per_class: int = 20,
    validation: int | float | None = None,
    test: int | float | None = None,
    train: int | float | None = None,
) -> Splits:
    """Draw a split by the Planetoid protocol, so many nodes of each class, then two fixed numbers; or by shares.

    With shares, such as `train=0.6, validation=0.2`, each class is split like the whole, and numbers and several
    labels are split together. Nodes without a label (-1, or NaN in every column) are in no part.

    Args:
        labels: class id of each node, -1 where there is none, [N]; with `train` also numbers or
            labels of 0 and 1, [N] or [N, T], NaN where there is none.
        seed: the split is a function of the labels and the seed alone.
        per_class: training nodes drawn from each class.
        validation: validation nodes drawn from the rest, 500 by default; or their share, 0 by default.
        test: test nodes drawn from what then remains, 1000 by default; or their share, by default the rest.
        train: training nodes drawn from all classes together, instead of `per_class`; or their share, a number
            between 0 and 1, which makes shares of the other two.

    Returns:
        Three disjoint sorted arrays of node ids.

    Raises:
        ValueError: the labels are no class ids, there are too few nodes, shares of more than the whole, or a share
            that comes to no node at all.

    >>> labels = [0, 1, 1, 0, 0, 1, -1, 0]
    >>> splits = random_split(labels, per_class=2, validation=1, test=2)
    >>> [len(part) for part in splits]
    [4, 1, 2]
    >>> [len(part) for part in random_split(labels, train=0.5, validation=0.25)]
    [4, 1, 2]

    Yang, Cohen and Salakhutdinov, Revisiting semi-supervised learning with graph embeddings, 2016.
    """
    if isinstance(train, float):
        return _split_by_shares(labels, seed, _checked_shares(train, validation, test))
    for name, value in (("validation", validation), ("test", test)):
        if isinstance(value, float):
            raise TypeError(
                f"{name} must be an integer, got {value}: for shares, train must be one too"
            )
    validation = cast(int, 500 if validation is None else validation)
    test = cast(int, 1000 if test is None else test)
    _check_sizes(per_class=per_class, validation=validation, test=test, train=train or 0)
    if train is None:
        labels = _class_labels(labels)
        drawn, rest = _take_per_class(labels, _shuffled(labels, seed), per_class, "per_class")
    else:
        order = _shuffled(_some_labels(labels), seed)
        if train > len(order):
            raise ValueError(
                f"train={train}, but only {len(order)} nodes have a label; lower train"
            )
        drawn, rest = np.split(order, [train])
    if validation + test > len(rest):
        raise ValueError(
            f"validation={validation} and test={test} ask for {validation + test} nodes, but only "
            f"{len(rest)} labelled nodes remain beside training; lower validation or test, or give all "
            "three as shares, e.g. train=0.6, validation=0.2"
        )
    return _sorted(drawn, rest[:validation], rest[validation : validation + test])


def _checked_shares(
    train: float, validation: int | float | None, test: int | float | None
) -> tuple[float, float, float]:
    """The three shares, of which the last is the rest where it is not said."""
    validation = 0.0 if validation is None else validation
    given = {"train": train, "validation": validation, "test": 0.0 if test is None else test}
    for name, share in given.items():
        if not isinstance(share, float) and share != 0 or isinstance(share, bool):
            raise TypeError(
                f"{name} must be a share between 0 and 1 where train={train} is one, got {shown(share)}"
            )
        if not 0 <= share <= 1:
            raise ValueError(f"{name} = {share} must be a share between 0 and 1")
    total = sum(given.values())
    if total > 1 + 1e-9:
        raise ValueError(f"the shares {listed(f'{k}={v}' for k, v in given.items())} exceed 1")
    return train, validation, 1 - total if test is None else test


def _split_by_shares(labels: ArrayLike, seed: int, shares: tuple[float, float, float]) -> Splits:
    """Each class by itself, where there are classes."""
    labels = _some_labels(labels)
    classes = (
        labels if labels.dtype.kind in "iu" and labels.ndim == 1 else np.zeros(len(labels), int)
    )
    order = _shuffled(labels, seed)
    parts: list[list[np.ndarray]] = [[], [], []]
    for members in (order[classes[order] == label] for label in np.unique(classes[order])):
        stops = np.floor(np.cumsum(shares) * len(members) + 0.5).astype(int)
        for part, ids in zip(parts, np.split(members, stops)[:3], strict=True):
            part.append(ids)
        if shares[0] and not stops[0]:
            raise ValueError(
                f"train={shares[0]} comes to no node of class {classes[members[0]]}, which has {len(members)}; "
                "raise train"
            )
    splits = _sorted(*map(np.concatenate, parts))
    for name, share, ids in zip(Splits._fields, shares, splits, strict=True):
        if share > 1e-9 and not len(ids):
            raise ValueError(
                f"{name} comes to no node: a share of {share:.3g} of {len(order)} labelled nodes; raise it, or "
                "give numbers of nodes"
            )
    return splits


def shchur_split(
    labels: ArrayLike,
    *,
    seed: int = 0,
    train_per_class: int = 20,
    validation_per_class: int = 30,
) -> Splits:
    """Draw a split by the protocol of Shchur et al.: so many nodes of each class, the rest is test.

    The protocol also asks for the largest connected component and for features as they are, which
    `load(name, split="shchur", normalize_features=False)` gives. Nodes without a label (-1) are in
    no part.

    Args:
        labels: class id of each node, -1 where there is none, [N].
        seed: the split is a function of the labels and the seed alone.
        train_per_class: training nodes drawn from each class.
        validation_per_class: validation nodes drawn from each class.

    Returns:
        Three disjoint sorted arrays of node ids.

    Raises:
        ValueError: the labels are no class ids, or a class has too few nodes.

    >>> shchur_split([0, 1, 1, 0, 0], train_per_class=1, validation_per_class=1).test.shape
    (1,)

    Shchur, Mumme, Bojchevski and Günnemann, Pitfalls of graph neural network evaluation, 2018.
    """
    labels = _class_labels(labels)
    _check_sizes(train_per_class=train_per_class, validation_per_class=validation_per_class)
    train, rest = _take_per_class(
        labels, _shuffled(labels, seed), train_per_class, "train_per_class"
    )
    validation, test = _take_per_class(labels, rest, validation_per_class, "validation_per_class")
    return _sorted(train, validation, test)


def has_label(labels: ArrayLike) -> Bool[np.ndarray, "N"]:
    """Whether each node has a label: a class id that is not -1, or a number that is not NaN in any column.

    Args:
        labels: class ids [N], or numbers [N] or [N, T].

    >>> has_label([0, -1]).tolist(), has_label([[0.5, np.nan], [np.nan, np.nan]]).tolist()
    ([True, False], [True, False])
    """
    labels = np.asarray(labels)
    if labels.dtype.kind in "iu":
        return labels >= 0 if labels.ndim == 1 else np.ones(len(labels), bool)
    return np.any(~np.isnan(labels if labels.ndim > 1 else labels[:, None]), axis=1)


def called(node: int, names: np.ndarray | None, item: str = "node") -> str:
    """What an error calls a node."""
    return f"{item} {node if names is None else shown(names[node])}"


def check_splits(
    splits: Splits, num_nodes: int, names: np.ndarray | None = None, *, item: str = "node"
) -> Splits:
    """Return the parts as sorted int32 arrays; refuse ids that are no nodes and shared nodes, by name.

    Where the items are no nodes of a graph, `item` is what the errors call them.
    """
    parts = {}
    for name, ids in zip(Splits._fields, splits, strict=True):
        ids = np.asarray(ids)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise ValueError(
                f"splits: {name} must be a 1-D array of integer {item} ids, "
                f"got {ids.dtype} of shape {ids.shape}"
            )
        outside = ids[(ids < 0) | (ids >= num_nodes)]
        if outside.size:
            raise ValueError(
                f"splits: {name} contains {outside[0]}, which is no {item}; "
                f"there are {num_nodes} {item}s, counted from 0"
            )
        parts[name] = ids.astype(np.int32)
    everything = np.concatenate(list(parts.values()))
    ids, counts = np.unique(everything, return_counts=True)
    if ids.size < everything.size:
        raise ValueError(
            f"splits: {called(int(ids[counts > 1][0]), names, item)} occurs more than once; "
            f"a {item} belongs to one of train, validation and test, once"
        )
    return _sorted(**parts)


def _sorted(train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> Splits:
    return Splits(*(np.sort(part).astype(np.int32) for part in (train, validation, test)))


def _class_labels(labels: ArrayLike) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        remedy = "pass train=, how many nodes to train on"
        if labels.dtype.kind in "US":
            remedy = "number the classes, np.unique(labels, return_inverse=True)[1]"
        raise ValueError(
            "labels must be a 1-D array of integer class ids to draw a split by class, "
            f"got {labels.dtype} of shape {labels.shape}; {remedy}, or give the split yourself"
        )
    if labels.size and labels.min() < -1:
        raise ValueError(f"labels must be class ids or -1 for no label, got {labels.min()}")
    return _some_labels(labels)


def _some_labels(labels: ArrayLike) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iufb" or labels.ndim not in (1, 2):
        raise ValueError(
            f"labels must be numbers of shape [N] or [N, T], got {labels.dtype} of shape {labels.shape}"
        )
    if not np.any(has_label(labels)):
        raise ValueError("labels: no node has a label, so there is nothing to split")
    return labels


def _check_sizes(**sizes: int) -> None:
    check_integer(**sizes)
    for name, size in sizes.items():
        if size < 0:
            raise ValueError(f"{name} must not be negative, got {size}")


def _shuffled(labels: np.ndarray, seed: int) -> np.ndarray:
    """Labelled nodes in random order."""
    return generator(seed).permutation(np.flatnonzero(has_label(labels)))


def _take_per_class(
    labels: np.ndarray, order: np.ndarray, count: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Split `order` into the first `count` nodes of each class and all others."""
    chosen = np.zeros(len(order), bool)
    present = np.bincount(labels[labels >= 0].astype(np.int64))
    for label, total in enumerate(present.tolist()):
        members = np.flatnonzero(labels[order] == label)
        if count and not total:
            raise ValueError(
                f"{name}={count} nodes of each class are asked for, but class {label} has only 0 "
                "labelled nodes; number the classes without a gap, e.g. "
                "np.unique(labels, return_inverse=True)[1] where every node has a label"
            )
        if len(members) < count:
            raise ValueError(
                f"{name}={count} nodes of each class are asked for, but class {label} has only "
                f"{len(members)} labelled nodes to draw from; lower {name}"
            )
        chosen[members[:count]] = True
    return order[chosen], order[~chosen]
