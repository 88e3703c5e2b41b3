"""The command that times explanations, with a small budget."""

import json

import pytest


def test_a_ratio_stands_beside_what_the_peer_does_too():
    from explain_speed import table

    times = lambda clock, processor: {"clock": clock, "processor": processor}
    seconds = {
        "exact deletion, two hops": times(0.02, 0.01),
        "learned mask, two hops": times(0.1, 0.05),
        "GNNExplainer of PyG, whole graph": times(2.0, 0.5),
    }
    rows = table({"edges": 46, "seconds": seconds}).splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert cells[0][0] == "a node of Cora, 46 edges within two hops"
    assert [row[1:] for row in cells[2:]] == [
        ["20", "", "10", ""],
        ["100", "20.0x", "50", "10.0x"],
        ["2000", "", "500", ""],
    ]


@pytest.mark.slow
def test_a_small_timing_is_kept(tmp_path):
    import os

    import explain_speed

    before = getattr(os, "sched_getaffinity", lambda process: None)(0)
    config = explain_speed.Config(epochs=2, repetitions=1, output=tmp_path)
    result = explain_speed.main(config)
    assert getattr(os, "sched_getaffinity", lambda process: None)(0) == before
    kept = json.loads((tmp_path / "result.json").read_text())
    assert (kept["seconds"], kept["edges"]) == (result["seconds"], result["edges"])
    assert list(result["seconds"])[:3] == [
        "exact deletion, two hops",
        "learned mask, two hops",
        "learned mask, whole graph",
    ]
    assert all(each["clock"] > 0 for each in result["seconds"].values())
