"""Write the README's tables from the files in `experiments/results`, so that the two cannot disagree.

python experiments/tables.py             # rewrite README.md
python experiments/tables.py --check     # fail if README.md is not what the results say
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from report import markdown_table, mean_and_sd

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
RESULTS = HERE / "results"


@dataclasses.dataclass(frozen=True)
class Config:
    """Tables of the README."""

    check: bool = False
    """Compare only, and fail where README.md differs."""


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


def benchmark_tables() -> str:
    import benchmark

    return "\n\n".join(
        f"`{result['command']}`\n\n{benchmark.table(result['results'])}"
        for result in read("benchmark-*.json")
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


BLOCKS = {
    "citation": citation_table,
    "studies": study_tables,
    "lookup": lookup_tables,
    "graph network": graph_network_tables,
    "benchmarks": benchmark_tables,
}


def fill(text: str) -> str:
    """Replace what stands between `<!-- name -->` and `<!-- end name -->` by the table of that name."""
    for name, build in BLOCKS.items():
        start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        if start not in text or end not in text:
            raise SystemExit(f"README.md lacks the marks {start} and {end}")
        before, rest = text.split(start, 1)
        after = rest.split(end, 1)[1]
        text = f"{before}{start}\n{build()}\n{end}{after}"
    return text


def main(config: Config) -> None:
    """Fill README.md, or check it."""
    text = README.read_text(encoding="utf-8")
    filled = fill(text)
    if config.check and filled != text:
        raise SystemExit(
            "README.md differs from experiments/results: run python experiments/tables.py"
        )
    if not config.check:
        README.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Config))
