"""The protocols of the papers on citation graphs, and the numbers that they reached by them.

A paper's number stands beside a run that follows its protocol in every setting, and beside no other.
"""

from collections.abc import Mapping
from typing import Any, Literal

Protocol = Literal["velickovic", "shchur"]

# Mean and standard deviation of the test accuracy, in percent: Table 2 of Veličković et al. (2018), the GCN with 64
# hidden features, and for GATv2 Brody et al. (2022); Shchur et al. (2018), for the GAT that they tuned.
PAPER = {
    ("velickovic", "cora", "gat"): "83.0 ± 0.7",
    ("velickovic", "citeseer", "gat"): "72.5 ± 0.7",
    ("velickovic", "pubmed", "gat"): "79.0 ± 0.3",
    ("velickovic", "cora", "gcn"): "81.4 ± 0.5",
    ("velickovic", "citeseer", "gcn"): "70.9 ± 0.5",
    ("velickovic", "pubmed", "gcn"): "79.0 ± 0.3",
    ("velickovic", "pubmed", "gatv2"): "78.5 ± 0.4",
    ("shchur", "cora", "gat"): "81.8 ± 1.3",
    ("shchur", "citeseer", "gat"): "71.4 ± 1.9",
    ("shchur", "pubmed", "gat"): "78.7 ± 2.3",
}

_VELICKOVIC: dict[str, Any] = {
    "split": "public",
    "hidden_features": 64,
    "num_layers": 2,
    "num_heads": 8,
    "out_heads": 1,
    "input_dropout": 0.6,
    "input_masks": "per_head",
    "projected_dropout": 0.6,
    "attention_dropout": 0.6,
    "score_bias": True,
    "normalize": "softmax",
    "temperature": 1.0,
    "residual": "none",
    "initializer": "per_head",
    "learning_rate": 0.005,
    "l2": 5e-4,
    "rule": "both",
    "patience": 100,
    "max_epochs": 100_000,
    "normalize_features": True,
}
# What a run did whose settings were written before there was a choice.
_BEFORE_OPTIONS = {"normalize": "softmax", "temperature": 1.0, "residual": "none"}
_ON_PUBMED = {"out_heads": 8, "learning_rate": 0.01, "l2": 1e-3}
_SHCHUR = _VELICKOVIC | {
    "split": "shchur",
    "input_masks": "shared",
    "projected_dropout": 0.0,
    "attention_dropout": 0.3,
    "score_bias": False,
    "learning_rate": 0.01,
    "l2": 0.01,
    "rule": "loss",
    "patience": 50,
    "normalize_features": False,
}


def protocol_of(split: str | None) -> Protocol:
    """The one that a split belongs to."""
    return "shchur" if split == "shchur" else "velickovic"


def preset(protocol: Protocol, dataset: str) -> dict[str, Any]:
    """Every setting of a protocol.

    >>> preset("velickovic", "pubmed")["out_heads"], preset("shchur", "pubmed")["out_heads"]
    (8, 1)
    """
    if protocol == "shchur":
        return dict(_SHCHUR)
    return _VELICKOVIC | (_ON_PUBMED if dataset == "pubmed" else {})


def deviations(settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs from the protocol: by name, the protocol's value and that of the run.

    Settings of attention count for models with attention alone.
    """
    expected = preset(settings["protocol"], settings["dataset"])
    given = _BEFORE_OPTIONS | dict(settings)
    return {
        name: (value, given[name])
        for name, value in expected.items()
        if given[name] != value and _has(given["model"], name)
    }


def paper_value(settings: Mapping[str, Any]) -> str:
    """The paper's number for a run that follows its protocol, else "-"."""
    key = settings["protocol"], settings["dataset"], settings["model"]
    return "-" if deviations(settings) else PAPER.get(key, "-")


def _has(model: str, setting: str) -> bool:
    if setting == "score_bias":
        return model == "gat"
    if setting == "residual":
        return model not in ("mlp", "gaan")
    return setting not in ("num_heads", "out_heads", "attention_dropout") or model not in (
        "gcn",
        "mlp",
    )
