"""The settings of `citation.py`: its command line, and what is left open there filled in by the protocol."""

import dataclasses
from pathlib import Path
from typing import Literal

import jax
from protocols import Protocol, preset, protocol_of
from settings import check, check_multiple, fill, required
from weighing import Normalizer, check_weighing

DatasetName = Literal["citeseer", "cora", "pubmed"]
WITH_HEADS = ("gat", "gatv2", "dot", "const")


@dataclasses.dataclass(frozen=True)
class Config:
    """Train a model on a citation graph, once per seed, and compare with the paper.

    What is None is as the protocol has it for this data set. The default is the original protocol: 8 heads of 8
    features, three dropouts of 0.6, a bias in the score, L2 in the loss, and the stopping rule on validation loss and
    accuracy. The paper's number is shown where nothing differs from its protocol.
    """

    dataset: DatasetName = "citeseer"
    """Citation graph."""
    model: Literal["gat", "gatv2", "dot", "const", "gaan", "gcn", "mlp"] = "gat"
    """GAT, GATv2, dot-product attention, uniform attention (Const-GAT), gated attention (GaAN), GCN, or no graph at
    all (MLP)."""
    protocol: Protocol | None = None
    """Veličković et al. (2018) or Shchur et al. (2018). None: that of the split."""
    split: Literal["public", "random", "shchur"] | None = None
    """The public split; one Planetoid split per seed; or the splits of Shchur et al. (2018) per seed."""
    seeds: int = 10
    """Number of seeds."""
    first_seed: int = 0
    """The seeds are first_seed, first_seed + 1, ..."""
    hidden_features: int | None = None
    """Width of the hidden layers, all heads together. Both: 64."""
    num_layers: int | None = None
    """Number of layers. Both: 2."""
    num_heads: int | None = None
    """Attention heads of a hidden layer. Both: 8."""
    out_heads: int | None = None
    """Attention heads of the output layer, averaged. Both: 1, but Veličković on Pubmed 8."""
    input_dropout: float | None = None
    """Dropout of each layer's input. Both: 0.6."""
    input_masks: Literal["per_head", "shared"] | None = None
    """Drop the input anew for each head (Veličković), or once for all (Shchur, PyG and DGL)."""
    projected_dropout: float | None = None
    """Dropout of the projected features: 0.6 in Veličković's code, but not in the paper. Shchur: 0."""
    attention_dropout: float | None = None
    """Dropout of the attention weights. Veličković: 0.6, Shchur: 0.3."""
    score_bias: bool | None = None
    """A bias in GAT's score, in Veličković's code but not in the paper. Shchur: none."""
    normalize: Normalizer | None = None
    """What makes weights of attention's logits. Both: softmax."""
    top_k: int = 8
    """How many edges of a node "top_k" keeps."""
    temperature: float | None = None
    """What the logits are divided by before. Both: 1."""
    block_size: int | None = None
    """Edges that are computed at a time, with the softmax. None: chosen from the sizes."""
    residual: Literal["none", "identity", "linear"] | None = None
    """What a layer adds of its input: nothing (both); the input, projected where the widths differ; or the input
    through a matrix of its own. GaAN has its own, and MLP none."""
    initializer: Literal["per_head", "joint"] | None = None
    """Glorot uniform for each head (both), or for all heads as one matrix (as PyG does)."""
    learning_rate: float | None = None
    """Of Adam. Veličković: 0.005, on Pubmed 0.01; Shchur: 0.01."""
    l2: float | None = None
    """Coefficient of half the squared norm of all parameters. Veličković: 5e-4, on Pubmed 1e-3; Shchur: 0.01."""
    rule: Literal["both", "loss", "either", "last"] | None = None
    """Which validation metric saves parameters: accuracy and loss at once (Veličković), loss (Shchur), either; or keep
    the last of `max_epochs`."""
    patience: int | None = None
    """Epochs without progress before a seed stops. Veličković: 100, Shchur: 50."""
    max_epochs: int | None = None
    """Epochs at most. Both: 100,000."""
    epochs_per_dispatch: int = 25
    """Epochs per call of the compiled program; no influence on results."""
    seeds_per_device: int | None = None
    """Seeds that a device trains side by side. None: 1 on a CPU, which gains nothing from more; else all of them."""
    features: Literal["auto", "dense", "sparse"] = "auto"
    """Node features as a dense or a sparse matrix, by their density or by force."""
    normalize_features: bool | None = None
    """Scale each node's features to sum 1. Veličković does, Shchur does not."""
    checkpoint_seconds: float = 10.0
    """Save each seed this often, and when it stops."""
    resume: bool = False
    """Go on where an interrupted run with the same settings and output folder was."""
    overwrite: bool = False
    """Replace what the output folder holds: an earlier result, or an interrupted run."""
    progress: bool = True
    """Show a progress bar."""
    output: Path | None = None
    """Folder for the result, its curves and picture, and the best model. None: runs/<dataset>-<model>-<split>."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """A `Config` in which nothing is left to a default."""

    protocol: Protocol = required()
    split: Literal["public", "random", "shchur"] = required()
    hidden_features: int = required()
    num_layers: int = required()
    num_heads: int = required()
    out_heads: int = required()
    input_dropout: float = required()
    input_masks: Literal["per_head", "shared"] = required()
    projected_dropout: float = required()
    attention_dropout: float = required()
    score_bias: bool = required()
    normalize: Normalizer = required()
    temperature: float = required()
    residual: Literal["none", "identity", "linear"] = required()
    initializer: Literal["per_head", "joint"] = required()
    learning_rate: float = required()
    l2: float = required()
    rule: Literal["both", "loss", "either", "last"] = required()
    patience: int = required()
    max_epochs: int = required()
    seeds_per_device: int = required()
    normalize_features: bool = required()
    output: Path = required()


def resolve(config: Config) -> Settings:
    """What is None, as the protocol has it for this data set; impossible settings end here."""
    protocol = config.protocol or protocol_of(config.split)
    by_default = preset(protocol, config.dataset)
    split = config.split or by_default["split"]
    by_default |= {
        "protocol": protocol,
        "seeds_per_device": 1 if jax.default_backend() == "cpu" else config.seeds,
        "output": Path("runs") / f"{config.dataset}-{config.model}-{split}",
    }
    settings = fill(Settings, config, by_default)
    counts = (
        "seeds hidden_features num_layers num_heads out_heads patience max_epochs "
        "epochs_per_dispatch seeds_per_device top_k block_size"
    )
    check(
        settings,
        at_least=dict.fromkeys(counts.split(), 1)
        | {"first_seed": 0, "l2": 0, "checkpoint_seconds": 0},
        above_zero=("learning_rate", "temperature"),
        rates=("input_dropout", "projected_dropout", "attention_dropout"),
    )
    if settings.model in (*WITH_HEADS, "gaan"):
        check_multiple(settings, "hidden_features", "num_heads")
    check_weighing(settings, [settings.model])
    return settings
