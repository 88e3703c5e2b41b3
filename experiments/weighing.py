"""What makes weights of logits: the same options in every script that trains models by their names."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from gatjax import TopK

Normalizer = Literal["softmax", "entmax", "sparsemax", "top_k", "straight_through", "hardmax"]
ATTENDING = ("gat", "gatv2", "dot", "gaan")


def weighing(settings: Any, model: str) -> dict[str, Any]:
    """The options of a model's constructor, as far as it has them.

    >>> from types import SimpleNamespace
    >>> settings = SimpleNamespace(normalize="top_k", top_k=3, temperature=0.5, block_size=None)
    >>> weighing(settings, "gat"), weighing(settings, "gcn")
    ({'block_size': 'auto', 'normalize': TopK(k=3), 'temperature': 0.5}, {'block_size': 'auto'})
    """
    size = "auto" if settings.block_size is None else settings.block_size
    options = {} if model == "mlp" else {"block_size": size}
    if model in ATTENDING:
        top_k = TopK(settings.top_k) if settings.normalize == "top_k" else settings.normalize
        options |= {"normalize": top_k, "temperature": settings.temperature}
    return options


def check_weighing(settings: Any, models: Sequence[str], known: Sequence[str] = ATTENDING) -> None:
    """Refuse options of attention that nothing else asks for, and blocks where there cannot be any.

    Args:
      settings: `normalize`, `top_k`, `temperature` and `block_size`.
      models: those of the run.
      known: those with attention that the script knows.

    Raises:
      SystemExit: by option, value and remedy.
    """
    size, normalize = settings.block_size, settings.normalize
    option = f"--model{'s' * hasattr(settings, 'models')} {' '.join(models)}"
    changed = (normalize, settings.temperature) != ("softmax", 1.0)
    if changed and not {*models} & {*ATTENDING}:
        raise SystemExit(
            f"{option}: has no logits to normalise: leave out --normalize and --temperature, or take one of "
            f"{', '.join(known)}"
        )
    by_default = {field.name: field.default for field in dataclasses.fields(settings)}
    if normalize != "top_k" and settings.top_k != by_default["top_k"]:
        raise SystemExit(
            f"--top-k {settings.top_k}: only --normalize top_k keeps so many: pass that too, or leave it out"
        )
    if size is not None and (normalize != "softmax" or {*models} == {"mlp"}):
        raise SystemExit(
            f"--block-size {size}: blocks are those of the softmax over a graph: leave it out with --normalize "
            f"{normalize} and {option}"
        )
