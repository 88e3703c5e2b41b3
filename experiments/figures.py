"""Draw the figures of README.md and docs from the files in `experiments/results`, as PNG and SVG; nothing is trained.

python experiments/figures.py                # draw them into docs/figures
python experiments/figures.py --check        # say which are stale, and fail if any is
python experiments/figures.py --run runs/citeseer-gat-public      # the learning curves of a run of one's own
"""

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import tyro
from curves import draw_curves, learning_curves
from matplotlib.axes import Axes
from tables import RESULTS, ROOT

from gatjax import plots

matplotlib.use("Agg")
FOLDER = ROOT / "docs" / "figures"
LIST = FOLDER / "figures.json"
SUFFIXES = (".png", ".svg")


@dataclasses.dataclass(frozen=True)
class Config:
    """Figures of the README and of the documentation."""

    check: bool = False
    """Compare only, and fail where one is stale."""
    run: Path | None = None
    """Draw the learning curves of this run of `citation.py` instead, into its folder."""


class Figure(NamedTuple):
    """A result, and what to draw of it."""

    result: str
    draw: Callable[[dict[str, Any]], Axes]


def scaling(result: dict[str, Any]) -> Axes:
    import benchmark_tables

    return benchmark_tables.scaling(result["results"])


def floors(result: dict[str, Any]) -> Axes:
    """How far from the speed of memory every layer is."""
    import benchmark_tables

    return benchmark_tables.floors(result["results"])


def curves(result: dict[str, Any]) -> Axes:
    return learning_curves(result, result["curves"])


def study(result: dict[str, Any]) -> Axes:
    import controls

    return controls.plot(result)


def lookup(result: dict[str, Any]) -> Axes:
    import dictionary_lookup

    return dictionary_lookup.plot(result["rows"])


def relations(result: dict[str, Any]) -> Axes:
    import relations

    return relations.plot(result)


def graph_network(result: dict[str, Any]) -> Axes:
    import graph_network

    return graph_network.plot_accuracy(result)


def molecules_predicted(result: dict[str, Any]) -> Axes:
    import molecule_pictures

    return molecule_pictures.against_measured(result)


def molecules_attention(result: dict[str, Any]) -> Axes:
    import molecule_pictures

    return molecule_pictures.of_example(result["example"])


def molecules_rows(result: dict[str, Any]) -> Axes:
    import molecule_pictures

    return molecule_pictures.of_rows(result)


def fully_connected(result: dict[str, Any]) -> Axes:
    import fully_connected

    return fully_connected.plot(result)


def importance(result: dict[str, Any]) -> Axes:
    import importance

    return importance.plot(result)


def depth(result: dict[str, Any]) -> Axes:
    import depth

    return depth.plot(result)


def attention_pays(result: dict[str, Any]) -> Axes:
    import attention_pays

    return attention_pays.plot(result)


def heads(result: dict[str, Any]) -> Axes:
    import heads

    return heads.plot(result)


def hetero(result: dict[str, Any], row: str) -> Axes:
    import hetero

    return hetero.plot(result, row)


def transformers(result: dict[str, Any]) -> Axes:
    import transformers

    return transformers.plot(result)


def traffic(result: dict[str, Any], picture: str) -> Axes:
    import traffic_report

    return traffic_report.PICTURES[picture](result)


FIGURES = {
    "scaling": Figure("benchmark-scaling.json", scaling),
    "floors": Figure("benchmark-floors.json", floors),
    "learning-curves": Figure("curves-citeseer-gat-public.json", curves),
    "study-models": Figure("study-models-citeseer.json", study),
    "study-heads": Figure("study-heads-citeseer.json", study),
    "study-details": Figure("study-details-citeseer.json", study),
    "lookup": Figure("dictionary-lookup.json", lookup),
    "relations": Figure("relations.json", relations),
    "hetero-betas": Figure("hetero-dblp.json", partial(hetero, row="han")),
    "traffic-errors": Figure("traffic-los-loop.json", partial(traffic, picture="errors")),
    "traffic-day": Figure("traffic-los-loop.json", partial(traffic, picture="day")),
    "traffic-attention": Figure("traffic-los-loop.json", partial(traffic, picture="attention")),
    "graph-network": Figure("graph-network.json", graph_network),
    "molecules-predicted": Figure("molecules-freesolv.json", molecules_predicted),
    "molecules-attention": Figure("molecules-freesolv.json", molecules_attention),
    "molecules-rows": Figure("molecules-freesolv.json", molecules_rows),
    "pairs-size": Figure("fully-connected-size.json", fully_connected),
    "pairs-range": Figure("fully-connected-range.json", fully_connected),
    "importance": Figure("importance-churn.json", importance),
    "importance-published": Figure("importance-published.json", importance),
    "depth-cora": Figure("depth-cora.json", depth),
    "depth-citeseer": Figure("depth-citeseer.json", depth),
    "attention-pays": Figure("attention-pays.json", attention_pays),
    "heads": Figure("heads-citeseer.json", heads),
    "transformers-pattern": Figure("transformers-pattern.json", transformers),
}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def result_of(figure: Figure) -> Path:
    path = RESULTS / figure.result
    if not path.exists():
        raise SystemExit(f"a figure is promised of {path}, and no such file is there")
    return path


def draw(figure: Figure, path: Path) -> None:
    """Write PNG and SVG beside each other."""
    result = json.loads(result_of(figure).read_text(encoding="utf-8"))
    for suffix in SUFFIXES:
        plots.save(figure.draw(result), path.with_suffix(suffix), dpi=200)


def describe(name: str, figure: Figure, folder: Path) -> dict[str, Any]:
    """What a figure was drawn from, and what came of it."""
    return {
        "result": figure.result,
        "result_digest": digest(result_of(figure)),
        "matplotlib": matplotlib.__version__,
        **{suffix[1:]: digest(folder / f"{name}{suffix}") for suffix in SUFFIXES},
    }


def listed() -> Mapping[str, Any]:
    return json.loads(LIST.read_text(encoding="utf-8")) if LIST.exists() else {}


def stale(*, redraw: bool) -> dict[str, str]:
    """The figures that are not what the results say, and why.

    Args:
      redraw: whether to compare with what would be drawn now too, where the version of Matplotlib is the same.
    """
    found, known = {}, listed()
    for name, figure in FIGURES.items():
        there = known.get(name)
        files = [FOLDER / f"{name}{suffix}" for suffix in SUFFIXES]
        if there is None or not all(map(Path.exists, files)):
            found[name] = "it is not there"
        elif there["result_digest"] != digest(result_of(figure)):
            found[name] = f"{figure.result} has changed"
        elif describe(name, figure, FOLDER) | {"matplotlib": there["matplotlib"]} != there:
            found[name] = "its file has been changed by hand"
        elif redraw and there["matplotlib"] == matplotlib.__version__:
            with tempfile.TemporaryDirectory() as folder:
                draw(figure, Path(folder) / name)
                if digest(Path(folder) / f"{name}.svg") != there["svg"]:
                    found[name] = "it would be drawn in another way now"
    return found


def main(config: Config) -> None:
    """Draw all figures, or check them."""
    if config.run is not None:
        draw_curves(config.run, config.run / "learning_curves.png")
        draw_curves(config.run, config.run / "learning_curves.svg")
        return
    if config.check:
        if reasons := stale(redraw=True):
            lines = [f"{name}: {reason}" for name, reason in reasons.items()]
            raise SystemExit("\n".join([*lines, "run python experiments/figures.py"]))
        return
    for name, figure in FIGURES.items():
        draw(figure, FOLDER / name)
    entries = {name: describe(name, figure, FOLDER) for name, figure in FIGURES.items()}
    LIST.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Config))
