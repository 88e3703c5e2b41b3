"""What the benchmark has measured, as tables and pictures."""

from typing import Any, get_args

from benchmark_cases import Library
from benchmark_work import Measured
from report import markdown_table

# So many times a copy, and rows are added one after the other, or by compare-and-swap.
SLOW_SCATTER = 50


def milliseconds(seconds: float) -> str:
    """Milliseconds to a tenth, of few of them to a hundredth.

    >>> milliseconds(0.01234), milliseconds(0.001234)
    ('12.3', '1.23')
    """
    return f"{1e3 * seconds:.{2 if seconds < 0.01 else 1}f}"


def dataset_table(results: list[Measured]) -> str:
    """Medians, and their ratio to the first gatjax measurement of the same thing."""
    on_gpu = not any("peak_bytes" in result for result in results)
    memory = "run_bytes" if on_gpu else "peak_bytes"
    rows = []
    for result in results:
        same = [other for other in results if other["library"] == "gatjax" and alike(other, result)]
        ratio = result["median_seconds"] / same[0]["median_seconds"]
        rows.append(
            [
                result["name"],
                result["library"],
                milliseconds(result["median_seconds"]),
                f"{ratio:.2f}",
                f"{result[memory] / 2**30:.2f}" if result[memory] else "-",
                f"{result['compile_seconds']:.1f}",
            ]
        )
    header = [
        "what",
        "library",
        "median (ms)",
        "time / gatjax",
        "run (GiB)" if on_gpu else "process peak (GiB)",
        "compile (s)",
    ]
    return markdown_table(header, rows)


def alike(one: Measured, other: Measured) -> bool:
    """Same data set, whatever the layout of features, the dropouts or the number of seeds."""
    return one["arguments"]["dataset"] == other["arguments"]["dataset"]


def scatter_table(results: list[Measured]) -> str:
    """Time per number added, and in units of the copy that moves as many bytes."""
    rows = []
    for result in results:
        numbers = result["arguments"]["rows"] * result["arguments"]["width"]
        per_number = 1e9 * result["median_seconds"] / numbers
        rows.append(
            [
                result["name"],
                milliseconds(result["median_seconds"]),
                f"{per_number:.3f}",
                f"{result['median_seconds'] / result['floor_seconds']:.1f}x",
            ]
        )
    return markdown_table(["rows added", "median (ms)", "ns per number", "over a copy"], rows)


def scatter_advice(results: list[Measured]) -> str | None:
    """What to do where adding rows is out of all proportion to copying them."""
    slow = [one for one in results if one["median_seconds"] > SLOW_SCATTER * one["floor_seconds"]]
    dtypes = {one["arguments"]["dtype"] for one in slow}
    if not slow:
        return None
    told = f"This XLA adds slowly here ({'; '.join(one['name'] for one in slow)})."
    if dtypes == {"bfloat16"}:
        return f"{told} Half precision is for tables and products: gatjax adds rows in float32."
    return (
        f"{told} On an NVIDIA GPU with jaxlib 0.10.2 to 0.11.0, float32 sums are a loop of compare-and-swap:\n"
        "set XLA_FLAGS as docs/gpus.md says, or change the version of jaxlib."
    )


def layer_table(results: list[Measured]) -> str:
    """One row per problem: our time and memory, and those of the others as multiples of ours."""
    libraries = [
        name for name in get_args(Library) if any(one["library"] == name for one in results)
    ]
    others = [name for name in libraries if name != "gatjax"]
    rows = []
    for name in dict.fromkeys(result["name"] for result in results):
        found = {result["library"]: result for result in results if result["name"] == name}
        ours = found.get("gatjax")
        if ours is None:
            continue
        times = [_ratio(found.get(other), ours, "median_seconds") for other in others]
        memories = [_ratio(found.get(other), ours, "run_bytes") for other in others]
        rows.append(
            [
                name,
                milliseconds(ours["median_seconds"]),
                *times,
                f"{ours['median_seconds'] / ours['floor_seconds']:.1f}x",
                f"{ours['run_bytes'] / 2**20:.0f}",
                *memories,
                f"{ours['compile_seconds']:.1f}",
            ]
        )
    header = [
        "layer",
        "gatjax (ms)",
        *(f"{name}: time" for name in others),
        "over the floor",
        "gatjax (MiB)",
        *(f"{name}: memory" for name in others),
        "compile (s)",
    ]
    return markdown_table(header, rows)


def _ratio(other: Measured | None, ours: Measured, field: str) -> str:
    return "-" if other is None or not ours[field] else f"{other[field] / ours[field]:.1f}x"


def scaling(results: list[Measured]) -> Any:
    """Time and memory against the number of edges, one line per library."""
    import matplotlib.pyplot as plt

    from gatjax import plots

    with plt.rc_context(dict(plots.STYLE)):
        _, panels = plt.subplots(1, 2, figsize=(plots.PAGE, 2.4))
        fields = {"median_seconds": ("time (s)", 1), "run_bytes": ("memory (GiB)", 2**30)}
        for axes, (field, (label, unit)) in zip(panels, fields.items(), strict=True):
            for place, library in enumerate(dict.fromkeys(one["library"] for one in results)):
                line = [one for one in results if one["library"] == library]
                edges = [one["arguments"]["edges"] for one in line]
                values = [one[field] / unit for one in line]
                axes.plot(edges, values, marker=plots.MARKERS[place], label=library)
            axes.set(xscale="log", yscale="log", xlabel="edges", ylabel=label)
            axes.grid(linewidth=0.3, color="0.85")
        panels[0].legend()
    return panels[0]


def floors(results: list[Measured]) -> Any:
    """Time as a multiple of the floor against the number of edges, one line per mechanism."""
    import matplotlib.pyplot as plt

    from gatjax import plots

    with plt.rc_context(dict(plots.STYLE)):
        _, axes = plt.subplots(figsize=(plots.PAGE, 2.4))
        for place, name in enumerate(
            dict.fromkeys(one["arguments"]["mechanism"] for one in results)
        ):
            line = [one for one in results if one["arguments"]["mechanism"] == name]
            edges = [one["arguments"]["edges"] for one in line]
            ratios = [one["median_seconds"] / one["floor_seconds"] for one in line]
            axes.plot(edges, ratios, marker=plots.MARKERS[place], label=name)
        axes.axhline(1, color="0.4", linewidth=0.8, linestyle="--")
        axes.set(xscale="log", ylim=(0, None), xlabel="edges", ylabel="time over the floor")
        axes.grid(linewidth=0.3, color="0.85")
        axes.legend(ncols=2)
    return axes
