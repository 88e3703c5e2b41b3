"""The benchmark of sampling, our side of it: both forms draw as many neighbours, and a step learns."""

import numpy as np
import pytest
from peers import gatjax_sampler
from sampling import Config, drawn, main, table

FANOUTS = [3, 2]


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    config = Config(nodes=300, edges=2000, batch_size=16, features=5, classes=4, runs=2)
    with np.load(drawn(config, tmp_path_factory.mktemp("sampling") / "graph.npz")) as file:
        return dict(file)


def test_the_graph_has_no_loops_and_stands_by_receiver(arrays):
    assert (arrays["senders"] != arrays["receivers"]).all()
    assert (np.diff(arrays["receivers"]) >= 0).all()
    assert arrays["batches"].shape == (3, 16)


def test_seeds_have_their_degree_or_the_fan_out(arrays):
    degree = np.bincount(arrays["receivers"], minlength=300)
    expected = np.minimum(degree[arrays["batches"][0]], FANOUTS[0]).sum()
    for sampler in (gatjax_sampler.jitted, gatjax_sampler.in_numpy):
        workload, values = sampler(arrays, FANOUTS)
        assert values() == [expected]
        workload.run()


@pytest.mark.slow
def test_a_step_learns_one_batch_by_heart(arrays):
    again = {**arrays, "batches": arrays["batches"][:1]}
    sizes = {"classes": 4, "width": 32, "heads": 2}
    workload, values = gatjax_sampler.step(again, FANOUTS, sizes)
    losses = [float(workload.run()) for _ in range(60)]
    assert max(losses[-5:]) < 0.9 * min(losses[:3]) and values()[0] > 0


@pytest.mark.slow
def test_the_table_has_a_line_for_each_library(tmp_path):
    config = Config(
        nodes=300,
        edges=2000,
        batch_size=16,
        rounds=1,
        runs=1,
        libraries=("gatjax",),
        output=tmp_path,
    )
    lines = table(main(config)).splitlines()
    assert len(lines) == 5 and "training step, gatjax" in lines[-1]


def test_bad_input():
    for options, message in [
        ({"batch_size": 11, "nodes": 10}, "--batch-size 11: must be at most --nodes 10"),
        ({"heads": 3}, "--width 64: must be a multiple of --heads 3"),
        ({"fanouts": (0,)}, "--fanouts"),
    ]:
        with pytest.raises(SystemExit, match=message):
            main(Config(**options))
