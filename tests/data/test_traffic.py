"""Series of traffic, their parts in time, and windows of them."""

import os

import numpy as np
import pytest
from helpers import rejects

from gatjax.data import (
    Scaling,
    Traffic,
    daily_profile,
    fit_scaling,
    load_traffic,
    split_in_time,
    window_starts,
    windows,
)

SERIES = np.array([[1.0, 4.0], [2.0, 5.0], [3.0, 7.0]])


def traffic(**changes):
    return Traffic(**{"name": "mine", "series": SERIES, "adjacency": np.eye(2), **changes})


def test_bad_series_and_graphs_are_named():
    broken = SERIES.copy()
    broken[:, 1] = np.nan
    infinite = SERIES.copy()
    infinite[2, 0] = np.inf
    constant = SERIES.copy()
    constant[:, 0] = 7
    said = {
        "series is float64 of shape [3]: give numbers [T, N]": {"series": SERIES[:, 0]},
        "sensor '1' (column 1) has measured nothing; leave it out": {"series": broken},
        "series[2, 0] is not finite: give NaN where sensor 0": {"series": infinite},
        "sensor '0' (column 0) is always 7.0, as of a broken one": {"series": constant},
        "sensors: 1 names for 2 columns": {"sensors": ("a",)},
        "adjacency has shape [3, 3]: 2 sensors want [2, 2]": {"adjacency": np.eye(3)},
        "adjacency[0, 1] = -1.0: a weight is finite and from 0 on": {
            "adjacency": np.array([[1.0, -1.0], [0.0, 1.0]])
        },
        "a day of 1440 minutes must be a whole number of steps": {"step_minutes": 7},
        "step_minutes = 0 must be at least 1": {"step_minutes": 0},
    }
    for message, changes in said.items():
        with rejects(ValueError, message):
            traffic(**changes)
    with rejects(ValueError, "los-loop"):
        load_traffic("los")


def test_parts_of_time_and_windows_by_hand():
    split = split_in_time(20, train=0.5, validation=0.25)
    assert split == (range(10), range(10, 15), range(15, 20))
    assert window_starts(split.validation, 2, 1).tolist() == [10, 11, 12]
    assert windows(np.arange(20), np.array([10, 12]), 2, 1).tolist() == [[12], [14]]
    with rejects(ValueError, "steps 15 to 19 are 5, fewer than a window of steps_in=4"):
        window_starts(split.test, 4, 2)
    with rejects(ValueError, "steps_out = 0 must be at least 1"):
        window_starts(split.test, 4, 0)
    with rejects(ValueError, "3 steps leave none for validation: take a larger share"):
        split_in_time(3)
    with rejects(ValueError, "must be shares that leave some of the time for the test"):
        split_in_time(10, train=0.7, validation=0.3)
    assert split_in_time(5, train=0.8, validation=0.0).validation == range(4, 4)


def test_nothing_of_the_future_enters_the_scaling_and_the_profile():
    series = np.array([[1.0], [3.0], [np.nan], [5.0], [1e6], [1e6]])
    part = range(4)
    assert fit_scaling(series, part) == Scaling(3.0, pytest.approx(np.sqrt(8 / 3)))
    with rejects(ValueError, "steps 0 to 0 hold no two values that differ"):
        fit_scaling(series, range(1))
    own = traffic(series=series, adjacency=np.eye(1), step_minutes=480)
    # Steps 0 and 3 are of one time of day; at step 2 nothing was measured, so that the mean of all stands there.
    assert daily_profile(own, part).tolist() == [[3.0], [3.0], [3.0]]
    later = traffic(series=series, adjacency=np.eye(1), step_minutes=480, start_minute=480)
    assert later.step_of_day.tolist() == [1, 2, 0, 1, 2, 0]


def test_los_loop_is_as_published():
    if "GATJAX_DATA" not in os.environ:
        pytest.skip("reads GATJAX_DATA/t-gcn")
    los = load_traffic("los-loop")
    assert (los.num_steps, los.num_sensors, los.steps_per_day) == (2016, 207, 288)
    assert los.series.mean() == pytest.approx(58.9, abs=0.05) and los.series.max() == 70
    graph, weight = los.graph()
    assert len(graph.senders) == 2833 and weight.min() > 0 and weight.max() == 1
