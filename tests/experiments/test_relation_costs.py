"""What relations cost: the graphs that are timed, and the command with a small budget."""

import dataclasses

import pytest


@pytest.mark.slow
def test_layers_take_turns_on_the_same_edges(tmp_path, capsys):
    from relation_costs import Config, layers, main, make_graph

    config = Config(relations=(1, 3), nodes=35, edges=60, features=8, num_heads=2, repeats=1)
    graph = make_graph(config, 3)
    seen = {name: each for name, (_, each) in layers(config, graph).items()}
    assert seen["HGTConv"] is graph and len(graph.triples) == 3
    assert len(seen["GATConv, no relations"].senders) == 60
    assert sorted(seen["HANConv"].edges.tolist()) == [0] * 20 + [1] * 20 + [2] * 20

    result = main(dataclasses.replace(config, output=tmp_path))
    assert all(row["GATConv, no relations"]["ratio"] == 1 for row in result["rows"].values())
    assert "35 nodes, 60 edges" in capsys.readouterr().out
