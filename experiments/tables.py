"""Write the tables of both READMEs from the files in `experiments/results`, so that they cannot disagree.

python experiments/tables.py             # rewrite README.md and experiments/README.md
python experiments/tables.py --check     # fail if they are not what the results say
"""

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from report import markdown_table, mean_and_sd

HERE = Path(__file__).parent
RESULTS = HERE / "results"


@dataclasses.dataclass(frozen=True)
class Config:
    """Tables of the READMEs."""

    check: bool = False
    """Compare only, and fail where one differs."""


def read(pattern: str) -> list[dict[str, Any]]:
    paths = sorted(RESULTS.glob(pattern))
    return [json.loads(path.read_text(encoding="utf-8")) | {"file": path.name} for path in paths]


def with_error(values: list[float]) -> str:
    """Mean, sample standard deviation, and standard error of the mean, in percent."""
    return f"{mean_and_sd(values)} (± {100 * np.std(values, ddof=1) / len(values) ** 0.5:.2f})"


def citation_table() -> str:
    rows = [
        [
            result["dataset"],
            result["model"],
            result["split"],
            result["config"]["rule"],
            result["paper"],
            with_error(result["test_accuracy"]),
            str(len(result["seeds"])),
            f"{np.mean(result['epochs']):.0f}",
            f"[{result['file']}](experiments/results/{result['file']})",
        ]
        for result in read("citation-*.json")
    ]
    header = [
        "data",
        "model",
        "split",
        "saved by",
        "paper",
        "ours: mean ± sd (± se)",
        "seeds",
        "epochs",
        "details",
    ]
    return markdown_table(header, rows)


def study_tables() -> str:
    import controls

    tables = []
    for result in read("study-*.json"):
        config = controls.Config(
            **{key: result["config"][key] for key in ("study", "dataset", "seeds")}
        )
        tables.append(f"`{result['command']}`\n\n{controls.table(config, result['rows'])}")
    return "\n\n".join(tables)


def benchmark_tables(pattern: str) -> str:
    import benchmark

    return "\n\n".join(
        f"`{result['command']}`\n\n{benchmark.table(result)}" for result in read(pattern)
    )


def lookup_tables() -> str:
    import dictionary_lookup

    return "\n\n".join(
        f"`{result['command']}`\n\n{dictionary_lookup.table(result['rows'])}"
        for result in read("dictionary-lookup*.json")
    )


def graph_network_tables() -> str:
    import graph_network

    return "\n\n".join(
        f"`{result['command']}`\n\n{graph_network.table(result)}"
        for result in read("graph-network*.json")
    )


PAGES = {
    HERE.parent / "README.md": {
        "citation": citation_table,
        "studies": study_tables,
        "lookup": lookup_tables,
        "graph network": graph_network_tables,
        "benchmark": partial(benchmark_tables, "benchmark-layer.json"),
    },
    HERE / "README.md": {"benchmarks": partial(benchmark_tables, "benchmark-*.json")},
}


def fill(text: str, blocks: dict[str, Callable[[], str]]) -> str:
    """Replace what stands between `<!-- name -->` and `<!-- end name -->` by the table of that name."""
    for name, build in blocks.items():
        start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        if start not in text or end not in text:
            raise SystemExit(f"the marks {start} and {end} are missing")
        before, rest = text.split(start, 1)
        after = rest.split(end, 1)[1]
        text = f"{before}{start}\n{build()}\n{end}{after}"
    return text


def main(config: Config) -> None:
    """Fill the READMEs, or check them."""
    for page, blocks in PAGES.items():
        text = page.read_text(encoding="utf-8")
        filled = fill(text, blocks)
        if config.check and filled != text:
            raise SystemExit(
                f"{page} differs from experiments/results: run python experiments/tables.py"
            )
        if not config.check:
            page.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Config))
