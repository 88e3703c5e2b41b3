"""Write the tables of README.md and of the pages in `docs` from the files in `experiments/results`.

python experiments/tables.py             # rewrite them
python experiments/tables.py --check     # fail if they are not what the results say
"""

import dataclasses
import importlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from report import markdown_table, mean_and_sd, sound

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"


@dataclasses.dataclass(frozen=True)
class Config:
    """Tables of the README and of the documentation."""

    check: bool = False
    """Compare only, and fail where one differs."""


def read(pattern: str, command: str) -> list[dict[str, Any]]:
    """The results whose files match; a table without any would look like one that is meant to be empty."""
    paths = sorted(RESULTS.glob(pattern))
    if not paths:
        raise SystemExit(
            f"a page promises a table of experiments/results/{pattern}, and no such file is there: run "
            f"`{command}` and copy its result.json there"
        )
    return [json.loads(path.read_text(encoding="utf-8")) | {"file": path.name} for path in paths]


def with_error(values: list[float]) -> str:
    """Mean, sample standard deviation, and standard error of the mean, in percent."""
    finished = sound(values)
    error = 100 * np.std(finished, ddof=1) / len(finished) ** 0.5
    return f"{mean_and_sd(values)} (± {error:.2f})"


def citation_table(folder: str, *, beside_a_paper: bool = False) -> str:
    """Ours next to the papers'; `folder` is where the results lie, seen from the page.

    All runs by default, or those that a paper's number stands beside.
    """
    results = read("citation-*.json", "python experiments/citation.py")
    results = [each for each in results if not beside_a_paper or each["paper"] != "-"]
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
            f"[json]({folder}/{result['file']})",
        ]
        for result in results
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


def with_command(result: dict[str, Any], table: str) -> str:
    return f"`{result['command']}`\n\n{table}"


def study_tables() -> str:
    import controls

    tables = []
    for result in read("study-*.json", "python experiments/controls.py --study details"):
        config = controls.Config(
            **{key: result["config"][key] for key in ("study", "dataset", "seeds")}
        )
        tables.append(with_command(result, controls.table(config, result["rows"])))
    return "\n\n".join(tables)


def benchmark_table(name: str) -> str:
    import benchmark

    command = f"python experiments/benchmark.py {(BENCHMARKS | GPU_BENCHMARKS)[name]}"
    results = read(f"benchmark-{name}.json", command)
    return "\n\n".join(with_command(result, benchmark.table(result)) for result in results)


def tables_of(pattern: str, command: str, module: str | None = None) -> str:
    """The results of a script, each with its command and its own table or tables.

    Args:
      pattern: of their files.
      command: of the script, with the options that make the first of them.
      module: where the tables come from, if not from the script.
    """
    script, *options = command.split()
    made = importlib.import_module(module or script)
    table = made.tables if hasattr(made, "tables") else made.table
    results = read(pattern, " ".join(["python", f"experiments/{script}.py", *options]))
    return "\n\n".join(with_command(result, table(result)) for result in results)


def lookup_tables() -> str:
    import dictionary_lookup

    results = read("dictionary-lookup*.json", "python experiments/dictionary_lookup.py")
    return "\n\n".join(
        with_command(result, dictionary_lookup.table(result["rows"])) for result in results
    )


def side_by_side(library: str) -> str:
    import side_by_side as script

    (result,) = read("side-by-side.json", "python experiments/side_by_side.py")
    return with_command(result, script.table(result["lines"][library], library))


def recipes_table() -> str:
    import recipes

    (result,) = read("recipes.json", "python experiments/recipes.py")
    return with_command(result, recipes.table(result["rows"]))


def molecules_table(folder: str) -> str:
    """MAT and forests on the paper's sets; `folder` is where the results lie, seen from the page."""
    import molecule_tables

    results = read("molecules-*.json", "python experiments/molecules.py")
    results = [
        each for each in results if molecule_tables.paper_of(each) and "forest" in each["rows"]
    ]
    header = [
        "data",
        "MAT",
        "MAT, paper",
        "in units",
        "forest, descriptors",
        "forest, Morgan counts",
        "splits x seeds",
        "details",
    ]
    return markdown_table(header, [molecule_tables.line(result, folder) for result in results])


def fully_connected_table(study: str) -> str:
    import fully_connected

    (result,) = read(f"fully-connected-{study}.json", "python experiments/fully_connected.py")
    return with_command(result, fully_connected.table(result))


def what_attention_does(notebooks: str) -> str:
    """A question, the answer in numbers, and the notebook that explains it; `notebooks` is seen from the page."""
    (churn,) = read("importance-churn.json", "python experiments/importance.py --graphs churn")
    truth = {row["model"]: row for row in churn["truth"]}
    of = lambda measure, method: " / ".join(
        f"{np.mean(truth[model][measure][method]):.2f}" for model in ("GAT", "GATv2")
    )
    (gat,) = (row for row in churn["campaign"] if row["model"] == "GAT")
    weights = {
        kind: np.mean([each[kind] for each in gat["attention"]]) for kind in gat["attention"][0]
    }
    page = f"[notebook]({notebooks}/06_importance_or_correlation.ipynb)"
    rows = [
        [
            "does attention find the neighbour that decides?",
            f"AUROC {of('auroc', 'mean attention')} of GAT / GATv2 where it is planted; exact deletion "
            f"{of('auroc', 'deletion')}",
            page,
        ],
        [
            "does it rank the others as deletion does?",
            f"rank correlation {of('correlation', 'mean attention')}",
            page,
        ],
        [
            "does it warn of a coincidence?",
            f"no: GAT gives {weights['campaign']:.2f} to the spurious neighbour, {weights['friend']:.2f} to the "
            f"cause; accuracy {mean_and_sd(gat['intact'])} %, and {mean_and_sd(gat['broken'])} % when it ends",
            page,
        ],
    ]
    return markdown_table(["question", "answer", ""], [*rows, *_heads_depth_and_pay(notebooks)])


def _heads_depth_and_pay(notebooks: str) -> list[list[str]]:
    """Heads, depth, and where attention pays."""
    page = lambda name: f"[notebook]({notebooks}/{name}.ipynb)"
    import attention_pays_report

    (heads,) = read("heads-citeseer.json", "python experiments/heads.py")
    gat = next(each["rows"] for each in heads["models"] if each["model"] == "GAT")
    after = lambda change: mean_and_sd([float(np.mean(row["accuracy"][change])) for row in gat])
    (depth,) = read("depth-cora.json", "python experiments/depth.py")
    accuracy = lambda variant, layers: next(
        mean_and_sd([seed["test_accuracy"] for seed in row["end"]])
        for row in depth["rows"]
        if (row["variant"], row["depth"]) == (variant, layers)
    )
    (pays,) = read("attention-pays.json", "python experiments/attention_pays.py")
    known = [mean for mean in attention_pays_report.told_apart(pays, "GATv2") if mean is not None]
    bound = attention_pays_report.threshold(pays)
    return [
        [
            "what do several heads buy?",
            f"Citeseer: {after('as trained')} %, and {after('one head silenced')} % without one of eight",
            page("07_what_heads_buy"),
        ],
        [
            "does it survive depth?",
            f"Cora, 2 and 16 layers: {accuracy('plain', 2)} and {accuracy('plain', 16)} %; "
            f"with balanced weights {accuracy('balanced', 2)} and {accuracy('balanced', 16)} %",
            page("08_when_attention_fails"),
        ],
        [
            "when can it tell neighbours apart?",
            f"GATv2 where classes are {min(known):.1f} to {max(known):.1f} deviations from their middle; "
            f"theory says about √log n = {bound:.1f}; GAT nowhere",
            page("08_when_attention_fails"),
        ],
    ]


def traffic_tables() -> str:
    import traffic_report

    (result,) = read("traffic-los-loop.json", "python experiments/traffic.py --seeds 5")
    tables = (
        traffic_report.table(result),
        traffic_report.differences_table(result),
        traffic_report.step_table(result),
    )
    return with_command(result, "\n\n".join(tables))


# The benchmarks of docs/speed.md, in its order, and what makes each.
BENCHMARKS = {
    "layer": "--suite layer --phases forward gradient",
    "layer-busy": "--suite layer",
    "layer-narrow": "--suite layer --phases step --nodes 60000 --edges 3000000 --features 8 "
    "--mechanisms gat gatv2 dot gaan",
    "layer-small": "--suite layer --phases step --nodes 6000 --edges 100000 --features 8 "
    "--mechanisms gat gatv2 dot gaan relational",
    "floors": "--suite floors --libraries gatjax --mechanisms gat gatv2 dot gaan relational block "
    "--scaling-edges 100000 300000 1000000 3000000 20000000",
    "graphs": "--suite graphs",
    "hub": "--suite graphs --graphs regular hub",
    "scaling": "--suite scaling",
    "first": "--suite first",
    "epoch": "--suite epoch",
    "seeds": "--suite seeds",
    "options": "--suite options",
    "widths": "--suite widths",
    "blocks": "--suite blocks",
    "scatter": "--suite scatter",
}
# Those of docs/gpus.md.
GPU_BENCHMARKS = {
    "gpu-layer": "--suite layer --device gpu --runs 20 --libraries gatjax pyg --mechanisms gat gatv2 dot gaan",
    "gpu-epoch": "--suite epoch --device gpu --libraries gatjax pyg",
    "gpu-blocks": "--suite blocks --device gpu --mechanisms gat dot --block-numbers 8388608 33554432 134217728",
    "gpu-layer-products": "--suite layer --device gpu --runs 20",
    "gpu-scatter": "--suite scatter --device gpu --runs 20",
}


PAGES = {
    ROOT / "README.md": {
        "citation": partial(citation_table, "experiments/results", beside_a_paper=True),
        "molecules": partial(molecules_table, "experiments/results"),
        "attention does": partial(what_attention_does, "notebooks"),
    },
    ROOT / "docs" / "results.md": {
        "citation": partial(citation_table, "../experiments/results"),
        "studies": study_tables,
        "lookup": lookup_tables,
        "relations": partial(tables_of, "relations*.json", "relations"),
        "knowledge": partial(tables_of, "knowledge-*.json", "knowledge"),
        "hetero": partial(tables_of, "hetero-*.json", "hetero"),
        "graph network": partial(tables_of, "graph-network*.json", "graph_network"),
        "links": partial(tables_of, "links-*.json", "link_prediction"),
        "molecules": partial(tables_of, "molecules-*.json", "molecules", module="molecule_tables"),
        "pairs and bonds: size": partial(fully_connected_table, "size"),
        "pairs and bonds: range": partial(fully_connected_table, "range"),
        "importance": partial(tables_of, "importance-*.json", "importance"),
        "depth": partial(tables_of, "depth-*.json", "depth"),
        "attention pays": partial(tables_of, "attention-pays.json", "attention_pays"),
        "heads": partial(tables_of, "heads-*.json", "heads"),
        "explain speed": partial(tables_of, "explain-speed.json", "explain_speed"),
        "graph transformers": partial(tables_of, "transformers-*.json", "transformers --task csl"),
        "traffic": traffic_tables,
        "large": partial(tables_of, "large-*.json", "large --seeds 10"),
        "inductive": partial(tables_of, "inductive-*.json", "inductive"),
    },
    ROOT / "docs" / "sizes.md": {
        "sampling": partial(tables_of, "sampling.json", "sampling"),
        "shards": partial(tables_of, "shards-*.json", "large sharded", module="large_shards"),
    },
    ROOT / "docs" / "guides" / "recipes.md": {"recipes": recipes_table},
    ROOT / "docs" / "from_pyg.md": {"side by side pyg": partial(side_by_side, "pyg")},
    ROOT / "docs" / "from_dgl_jraph.md": {
        f"side by side {name}": partial(side_by_side, name) for name in ("dgl", "jraph")
    },
    ROOT / "docs" / "gpus.md": {
        f"benchmark {name}": partial(benchmark_table, name) for name in GPU_BENCHMARKS
    },
    ROOT / "docs" / "speed.md": {
        f"benchmark {name}": partial(benchmark_table, name) for name in BENCHMARKS
    }
    | {
        "molecule layer": partial(tables_of, "molecule-layer.json", "molecule_layer"),
        "traffic cell": partial(tables_of, "traffic-cell.json", "traffic_cell"),
    }
    | {
        "gps block": partial(tables_of, "gps-block.json", "gps_block"),
        "all nodes": partial(tables_of, "all-nodes.json", "all_nodes"),
        "relation costs": partial(tables_of, "relation-costs*.json", "relation_costs"),
    },
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
    """Fill the pages, or check them."""
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
