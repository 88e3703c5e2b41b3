"""Pictures of predictions of molecules: against what was measured, of all rows, and what the attention looks at."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from flax import nnx
from matplotlib.axes import Axes
from molecule_models import ROWS
from molecule_tables import means
from outputs import try_to_plot

from gatjax import Mixture, attention_weights, plots
from gatjax.attention.mixture import Kernel

# Of the molecule that is drawn: atoms, at least and at most, where there is one.
SMALLEST, LARGEST = 8, 14
PARTS = {"attention": "attention", "distance": "distance", "adjacency": "bonds"}


def example_of(problem: Any, learner: Any, parameters: Any, row: str) -> dict[str, Any]:
    """Of a test molecule the atom, and the layer, with the strongest attention beyond bonds; and its three parts."""
    split = problem.splits[0]
    dummy = int(ROWS[row].options.get("dummy", True))
    sizes = [len(learner.graphs[i].nodes) - dummy for i in split.test]
    fitting = [i for i, n in zip(split.test, sizes, strict=True) if SMALLEST <= n <= LARGEST]
    index = max(fitting or split.test, key=lambda i: abs(problem.scores[i]))
    model, graph = learner.model(parameters), learner.graphs[index]
    n = len(graph.nodes)
    alike = lambda alpha: np.asarray(alpha).mean(axis=1).reshape(n, n)
    attention = nnx.jit(lambda model, graph: model.attention(graph))
    mixed = [alike(alpha) for alpha in attention(model, graph)]
    weights = ROWS[row].options.get("weights", model.layers[0].conv.weights)
    share, *others = weights
    known = {
        name: part * of_part(graph, name, problem.settings.kernel).reshape(n, n)
        for name, part in zip(("distance", "adjacency"), others, strict=True)
    }
    attended = [each - sum(known.values()) for each in mixed]
    near = np.asarray(graph.edges["adjacency"]).reshape(n, n) > 0
    far = [np.where(near, 0, each)[dummy:, dummy:] for each in attended]
    layer = int(np.argmax([each.max() for each in far]))
    atom = int(np.unravel_index(far[layer].argmax(), far[layer].shape)[0])
    parts = {"attention": attended[layer], **known}
    return {
        "smiles": problem.molecules.smiles[index],
        "layer": layer,
        "atom": atom,
        "shares": dict(zip(PARTS, map(float, (share, *others)), strict=True)),
        "parts": {
            name: [round(float(each), 4) for each in part[atom + dummy]]
            for name, part in parts.items()
        },
    }


def of_part(graph: Any, name: str, kernel: Kernel) -> np.ndarray:
    """What the distance, or the adjacency, alone makes of the weights, `[E]`."""
    alone = {"distance": (0, 1, 0), "adjacency": (0, 0, 1)}[name]
    mixed = Mixture(**{name: graph.edges[name]}, weights=alone, kernel=kernel)
    return np.asarray(attention_weights(graph, np.zeros(len(graph.senders), "f"), normalize=mixed))


def against_measured(result: dict[str, Any]) -> Axes:
    """Predictions of the test molecules by the first row, in the unit of the target."""
    with plt.rc_context(dict(plots.STYLE)):
        _, ax = plt.subplots(figsize=(plots.COLUMN, plots.COLUMN))
    key, row = next(iter(result["rows"].items()))
    measured = np.concatenate(result["measured"])
    predicted = result["mean"] + result["std"] * np.concatenate(row["predicted"]).astype(float)
    ends = [min(measured.min(), predicted.min()), max(measured.max(), predicted.max())]
    ax.plot(ends, ends, color="0.6", lw=0.8)
    ax.plot(measured, predicted, "o", ms=2.6, mew=0, alpha=0.6, color=plots.LINES[0])
    ax.set_aspect("equal")
    what = f"{result['target']} ({result['unit']})"
    ax.set(xlabel=f"measured: {what}", ylabel=f"predicted by {ROWS[key].title}")
    return ax


def of_rows(result: dict[str, Any]) -> Axes:
    """The score of every row and split."""
    what = "area under the ROC curve" if result["task"] == "labels" else "error of z-scores"
    groups = {
        ROWS[key].title: np.array(means(row["test"]), float) for key, row in result["rows"].items()
    }
    return plots.seed_strips(groups, xlabel=f"{what}, {result['dataset']}")


def of_example(example: dict[str, Any]) -> Axes:
    """The parts of one atom's weights side by side, on the molecule."""
    with plt.rc_context(dict(plots.STYLE)):
        figure, panels = plt.subplots(1, 3, figsize=(plots.PAGE, 2.4))
        largest = max(max(part) for part in example["parts"].values())
        for ax, (name, title) in zip(panels, PARTS.items(), strict=True):
            plots.attention_molecule(
                example["smiles"],
                example["parts"][name],
                atom=example["atom"],
                largest=largest,
                label=None,
                ax=ax,
            )
            ax.set_title(f"{title} × {example['shares'][name]:.2f}")
        figure.colorbar(panels[0].collections[0], ax=panels, aspect=18, pad=0.01)
        figure.suptitle(
            f"what the ringed atom takes in, layer {example['layer'] + 1}, mean of the heads"
        )
    return panels[0]


def draw(result: dict[str, Any], folder: Path) -> None:
    """All pictures of a run."""
    pictures = {"rows.png": lambda: of_rows(result)}
    if result["task"] == "numbers":
        pictures["predicted.png"] = lambda: against_measured(result)
    if result["example"]:
        pictures["attention.png"] = lambda: of_example(result["example"])
    for name, picture in pictures.items():
        try_to_plot(folder / name, lambda path, picture=picture: plots.save(picture(), path))
