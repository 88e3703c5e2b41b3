"""What sensors on a road network have measured, and windows of it to forecast from.

Shapes: T steps of time, N sensors, W windows, S steps of a day.
"""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float, Int
from jraph import GraphsTuple
from scipy import sparse

from gatjax.data.download import cache_folder, check_choice, obtain, read_verified
from gatjax.data.pickles import load_adjacency
from gatjax.graph.convert import from_scipy
from gatjax.graph.edit import split_weights
from gatjax.graph.ids import first_true
from gatjax.graph.messages import check_at_least, shown

URL = "https://raw.githubusercontent.com/lehaifeng/T-GCN/master/data"
LOS_SHA256 = {
    "los_speed.csv": "7b732d86ae32b2930595becba28aff39dacbfb2197e250fc0332e1744ce2cbf4",
    "los_adj.csv": "7a6eb41e10677992b5af50f5ab187c6c05c5c3a92cb973950cfddbf857361e76",
}
KNOWN = ("los-loop", "metr-la", "pems-bay")

# The file of the series and that of the graph, as published with DCRNN, and the series' key in its HDF5 file.
DCRNN_FILES = {
    "metr-la": ("metr-la.h5", "adj_mx.pkl"),
    "pems-bay": ("pems-bay.h5", "adj_mx_bay.pkl"),
}
DAY_MINUTES = 24 * 60


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Traffic:
    """A series of every sensor, and the graph between the sensors; of your own too.

    Attributes:
      name: what it is called.
      series: what was measured, `[T, N]` float32; NaN where nothing was.
      adjacency: how near sensor i is to sensor j, `[N, N]`, from 0 on; 0 where there is no edge i -> j.
      step_minutes: minutes from one step to the next; a whole number of steps makes a day.
      sensors: what each sensor is called, N.
      unit: of the series.
      start_minute: minutes after midnight of the first step.
      provenance: where it came from.

    Raises:
      ValueError: sizes that disagree, a sensor that has measured nothing or one value only, weights that are negative
        or not finite, steps that do not divide a day.

    >>> series = np.array([[60.0, 55.0], [62.0, np.nan], [61.0, 50.0]])
    >>> Traffic("mine", series, np.eye(2), step_minutes=5)
    Traffic('mine': 2 sensors, 3 steps of 5 minutes, 2 edges, 1 value missing)
    """

    name: str
    series: np.ndarray
    adjacency: np.ndarray
    step_minutes: int = 5
    sensors: tuple[str, ...] = ()
    unit: str = ""
    start_minute: int = 0
    provenance: str = ""

    def __post_init__(self) -> None:
        put = lambda name, value: object.__setattr__(self, name, value)
        series = np.asarray(self.series)
        if series.ndim != 2 or series.dtype.kind not in "iuf" or 0 in series.shape:
            raise ValueError(
                f"series is {series.dtype} of shape {list(series.shape)}: give numbers [T, N], a row per step"
            )
        put("series", series.astype(np.float32))
        sensors = tuple(map(str, self.sensors)) or tuple(map(str, range(series.shape[1])))
        put("sensors", sensors)
        if len(sensors) != series.shape[1]:
            raise ValueError(f"sensors: {len(sensors)} names for {series.shape[1]} columns")
        put("adjacency", np.asarray(self.adjacency, np.float32))
        check_at_least(1, step_minutes=self.step_minutes)
        check_at_least(0, start_minute=self.start_minute)
        if DAY_MINUTES % self.step_minutes:
            raise ValueError(
                f"step_minutes = {self.step_minutes}: a day of {DAY_MINUTES} minutes must be a whole number of steps"
            )
        self._check_series()
        self._check_adjacency()

    def _check_series(self) -> None:
        if np.isinf(self.series).any():
            step, sensor = np.argwhere(np.isinf(self.series))[0]
            raise ValueError(
                f"series[{step}, {sensor}] is not finite: give NaN where sensor {self.sensors[sensor]} "
                "has measured nothing"
            )
        known = ~np.isnan(self.series)
        if (sensor := first_true(np.asarray(~known.any(0)))) is not None:
            raise ValueError(
                f"series: sensor {shown(self.sensors[sensor])} (column {sensor}) has measured nothing; leave it out"
            )
        constant = np.asarray(np.nanmax(self.series, 0) == np.nanmin(self.series, 0))
        if len(self.series) > 1 and (sensor := first_true(constant)) is not None:
            raise ValueError(
                f"series: sensor {shown(self.sensors[sensor])} (column {sensor}) is always "
                f"{self.series[known[:, sensor], sensor][0]}, as of a broken one; leave it out"
            )

    def _check_adjacency(self) -> None:
        sensors = self.num_sensors
        if self.adjacency.shape != (sensors, sensors):
            raise ValueError(
                f"adjacency has shape {list(self.adjacency.shape)}: {sensors} sensors want [{sensors}, {sensors}]"
            )
        wrong = ~(np.isfinite(self.adjacency) & (self.adjacency >= 0))
        if wrong.any():
            i, j = np.argwhere(wrong)[0]
            raise ValueError(
                f"adjacency[{i}, {j}] = {self.adjacency[i, j]}: a weight is finite and from 0 on, 0 for no edge"
            )

    def __repr__(self) -> str:
        missing = int(np.isnan(self.series).sum())
        lacking = f", {missing} value{'s' * (missing != 1)} missing" if missing else ""
        return (
            f"Traffic({self.name!r}: {self.num_sensors} sensors, {self.num_steps} steps of {self.step_minutes} "
            f"minutes, {np.count_nonzero(self.adjacency)} edges{lacking})"
        )

    @property
    def num_steps(self) -> int:
        """T."""
        return self.series.shape[0]

    @property
    def num_sensors(self) -> int:
        """N."""
        return self.series.shape[1]

    @property
    def steps_per_day(self) -> int:
        """S."""
        return DAY_MINUTES // self.step_minutes

    @property
    def step_of_day(self) -> Int[np.ndarray, "T"]:
        """Which step of its day each step is, from 0 at midnight."""
        return (
            self.start_minute // self.step_minutes + np.arange(self.num_steps)
        ) % self.steps_per_day

    def graph(self) -> tuple[GraphsTuple, Float[np.ndarray, "E"]]:
        """The sensors as nodes without features, an edge where a weight is not 0, and these weights.

        Self-loops are those of the adjacency.
        """
        graph, weight = split_weights(
            from_scipy(sparse.csr_array(self.adjacency), edge_weight=True)
        )
        return graph, np.asarray(weight)


class TimeSplit(NamedTuple):
    """Consecutive steps of time for training, validation and test; the future is never before the past.

    Attributes:
      train, validation, test: each a range of steps.
    """

    train: range
    validation: range
    test: range


def split_in_time(num_steps: int, *, train: float = 0.7, validation: float = 0.1) -> TimeSplit:
    """The first share of the steps to train on, the next to validate, the rest to test.

    Args:
      num_steps: T.
      train, validation: shares in (0, 1) and [0, 1), which leave some for the test.

    Raises:
      ValueError: shares that leave a part of which there must be some without a step.

    >>> split_in_time(10)
    TimeSplit(train=range(0, 7), validation=range(7, 8), test=range(8, 10))
    """
    check_at_least(1, num_steps=num_steps)
    if not (0 < train < 1 and 0 <= validation < 1 and train + validation < 1):
        raise ValueError(
            f"train={train} and validation={validation} must be shares that leave some of the time for the test"
        )
    first = int(num_steps * train)
    second = int(round(num_steps * (train + validation), 6))
    parts = TimeSplit(range(first), range(first, second), range(second, num_steps))
    for name, part in parts._asdict().items():
        if not len(part) and (name != "validation" or validation):
            raise ValueError(f"{num_steps} steps leave none for {name}: take a larger share")
    return parts


def window_starts(part: range, steps_in: int, steps_out: int) -> Int[np.ndarray, "W"]:
    """The first step of every window of `steps_in` steps to see and `steps_out` to forecast, all within a part.

    ```
    window w sees steps w ... w + steps_in - 1 and forecasts w + steps_in ... w + steps_in + steps_out - 1
    ```

    Raises:
      ValueError: no step to see or to forecast, or a part that is shorter than a window.

    >>> window_starts(range(3, 8), 2, 1).tolist()
    [3, 4, 5]
    """
    check_at_least(1, steps_in=steps_in, steps_out=steps_out)
    number = len(part) - steps_in - steps_out + 1
    if number < 1:
        raise ValueError(
            f"steps {part.start} to {part.stop - 1} are {len(part)}, fewer than a window of steps_in={steps_in} and "
            f"steps_out={steps_out}: shorten it, or give this part a larger share"
        )
    return part.start + np.arange(number)


def windows(series: ArrayLike, starts: ArrayLike, first: int, steps: int) -> np.ndarray:
    """What stands `first` to `first + steps - 1` steps after the start of each window.

    >>> windows(np.arange(10.0), np.array([0, 4]), 1, 3).tolist()
    [[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]]
    """
    return np.asarray(series)[np.asarray(starts)[:, None] + first + np.arange(steps)]


class Scaling(NamedTuple):
    """To z-scores and back.

    Attributes:
      mean, std: of what was measured in the part that it was fitted to.
    """

    mean: float
    std: float

    def apply(self, series: Float[ArrayLike, "*rows"]) -> Float[np.ndarray, "*rows"]:
        """(x - mean) / std."""
        return (np.asarray(series) - self.mean) / self.std

    def undo(self, scores: Float[ArrayLike, "*rows"]) -> Float[np.ndarray, "*rows"]:
        """mean + std z."""
        return self.mean + self.std * np.asarray(scores)


def fit_scaling(series: Float[ArrayLike, "T N"], part: range) -> Scaling:
    """The mean and the standard deviation of one part of the steps, the training part; what is missing is left out.

    Raises:
      ValueError: nothing, or one value only, was measured in this part.

    >>> fit_scaling(np.array([[1.0], [3.0], [100.0]]), range(2))
    Scaling(mean=2.0, std=1.0)
    """
    seen = np.asarray(series, np.float64)[part.start : part.stop]
    if np.isnan(seen).all() or not np.nanstd(seen) > 0:
        raise ValueError(
            f"steps {part.start} to {part.stop - 1} hold no two values that differ: take a larger share to train on"
        )
    return Scaling(float(np.nanmean(seen)), float(np.nanstd(seen)))


def daily_profile(traffic: Traffic, part: range) -> Float[np.ndarray, "S N"]:
    """What each sensor measures at each step of the day, on average over one part of the steps, the training part.

    A step of the day at which a sensor has measured nothing has the sensor's mean.

    >>> series = np.array([[10.0], [20.0], [30.0], [40.0], [99.0]])
    >>> daily_profile(Traffic("two steps a day", series, np.eye(1), step_minutes=720), range(4)).tolist()
    [[20.0], [30.0]]
    """
    known = np.arange(part.start, part.stop)
    series, step = traffic.series[known].astype(np.float64), traffic.step_of_day[known]
    measured = ~np.isnan(series)
    total, number = np.zeros((2, traffic.steps_per_day, traffic.num_sensors))
    np.add.at(total, step, np.where(measured, series, 0))
    np.add.at(number, step, measured)
    overall = total.sum(0) / np.maximum(number.sum(0), 1)
    return np.where(number > 0, total / np.maximum(number, 1), overall)


def load_traffic(name: str) -> Traffic:
    """A known set of traffic, by name.

    * "los-loop": one week of speeds at 207 loop detectors of Los Angeles, as published with T-GCN; gaps are filled in
      already. Fetched, or read from `GATJAX_DATA/t-gcn`.
    * "metr-la", "pems-bay": the four and six months of DCRNN, whose files are read where you have put them, in
      `GATJAX_DATA/dcrnn`: `metr-la.h5` and `adj_mx.pkl`, `pems-bay.h5` and `adj_mx_bay.pkl`. Zeros are missing values.

    Raises:
      FileNotFoundError: the files are nowhere to be had; the message says where they were sought.
      ImportError: h5py is not installed, which the files of DCRNN need.
      ValueError: an unknown name, or files that are damaged.
    """
    check_choice("name", name, KNOWN)
    return _load_los_loop() if name == "los-loop" else _load_dcrnn(name)


def _load_los_loop() -> Traffic:
    folder = obtain("los-loop", "t-gcn", LOS_SHA256, URL, bundled=())
    text = {
        file: read_verified(folder / file, sha256).decode() for file, sha256 in LOS_SHA256.items()
    }
    header, _, rows = text["los_speed.csv"].partition("\n")
    read = lambda rows: np.loadtxt(io.StringIO(rows), delimiter=",", dtype=np.float32, ndmin=2)
    return Traffic(
        "los-loop",
        read(rows),
        read(text["los_adj.csv"]),
        sensors=tuple(header.strip().split(",")),
        unit="mph",
        provenance="T-GCN (Zhao et al., 2019): Los Angeles, 1 to 7 March 2012, gaps filled in linearly",
    )


def _load_dcrnn(name: str) -> Traffic:
    files = DCRNN_FILES[name]
    folder = cache_folder() / "dcrnn"
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise FileNotFoundError(
            f"{name} is read from {folder}, which lacks {' and '.join(missing)}: put the files of DCRNN "
            "(github.com/liyaguang/DCRNN) there, or set GATJAX_DATA to the folder above"
        )
    series, sensors, start = _read_frame(folder / files[0])
    sensors_of_graph, adjacency = load_adjacency((folder / files[1]).read_bytes(), files[1])
    if list(sensors_of_graph) != list(sensors):
        raise ValueError(
            f"{files[1]} names other sensors than {files[0]}: take both from one source"
        )
    return Traffic(
        name,
        np.where(series == 0, np.nan, series),
        adjacency,
        sensors=tuple(sensors),
        unit="mph",
        start_minute=start,
        provenance="DCRNN (Li et al., 2018)",
    )


def _read_frame(file: Path) -> tuple[np.ndarray, Sequence[str], int]:
    """Values, columns and the first minute of the day of the one data frame that pandas has stored in a file."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{file.name} needs h5py: pip install h5py") from error
    with h5py.File(file, "r") as content:
        frames = [group for group in content.values() if "block0_values" in group]
        if len(frames) != 1:
            raise ValueError(
                f"{file.name} holds {len(frames)} data frames in pandas' fixed format, not one"
            )
        frame = frames[0]
        values, sensors = frame["block0_values"][:], frame["axis0"][:]
        nanoseconds = int(frame["axis1"][0])
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in sensors]
    return values, names, nanoseconds // 60_000_000_000 % DAY_MINUTES
