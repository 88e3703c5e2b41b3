"""Pictures say what the arrays say: widths, heights and lines are read back from the drawing."""

import ast
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import rejects
from matplotlib.colors import to_hex
from matplotlib.text import Annotation

import gatjax
from gatjax import plots
from gatjax.graph import build_graph, build_typed_graph
from gatjax.plots import NO_COLOR, PALETTE
from gatjax.training import History

# Matplotlib's own types are wider than what is read back here.
attention_graph: Any = plots.attention_graph
attention_heads: Any = plots.attention_heads
learning_curves: Any = plots.learning_curves
attention_matrix: Any = plots.attention_matrix
attention_molecule: Any = plots.attention_molecule
confusion_matrix: Any = plots.confusion_matrix
seed_lines: Any = plots.seed_lines
seed_strips: Any = plots.seed_strips

PACKAGE = Path(gatjax.__file__).parent
NAMES = ["Ann", "Bob", "Cat", "Dan", "Eve"]

# 0 -> 1 -> 2 -> 3, 3 -> 2, a loop on 3; node 4 is alone.
SENDERS, RECEIVERS = [0, 1, 2, 3, 3], [1, 2, 3, 2, 3]
ALPHA = np.array([1.0, 0.6, 0.7, 0.4, 0.3])


@pytest.fixture
def graph():
    return build_graph(SENDERS, RECEIVERS, num_nodes=5)


def texts(ax, arrows) -> list[Any]:
    found = [child for child in ax.get_children() if isinstance(child, Annotation)]
    return [text for text in found if (text.arrow_patch is not None) == arrows]


def arrows(ax):
    """(place of the sender, place of the receiver) -> width of the arrow."""
    return {
        (text.xyann, text.xy): text.arrow_patch.get_linewidth() for text in texts(ax, arrows=True)
    }


def labels(ax):
    """Text -> place."""
    return {text.get_text(): text.xy for text in texts(ax, arrows=False)}


def widths(ax):
    """(sender, receiver) -> width, by the labels at the ends of each arrow."""
    names = {place: name for name, place in labels(ax).items()}
    return {(names[start], names[end]): width for (start, end), width in arrows(ax).items()}


def history(epochs, level=0.0):
    steps = np.arange(epochs)
    return History(level + 2 / (1 + steps), level + 3 / (1 + steps), level + steps / 100)


class TestAttentionGraph:
    def test_arrows_run_from_sender_to_receiver_and_widen_with_attention(self, graph):
        found = widths(attention_graph(graph, ALPHA, node_labels=NAMES))
        edges = [(NAMES[s], NAMES[r]) for s, r in zip(SENDERS, RECEIVERS, strict=True)]
        assert set(found) == set(edges)
        drawn = np.array([found[edge] for edge in edges])
        np.testing.assert_array_equal(drawn.argsort(), ALPHA.argsort())
        slopes = np.diff(np.sort(drawn)) / np.diff(np.sort(ALPHA))
        np.testing.assert_allclose(slopes, slopes[0])

    def test_edge_order_does_not_matter(self, graph):
        order = np.array([3, 1, 4, 0, 2])
        mixed = build_graph(np.array(SENDERS)[order], np.array(RECEIVERS)[order], num_nodes=5)
        expected = widths(attention_graph(graph, ALPHA))
        assert widths(attention_graph(mixed, ALPHA[order])) == pytest.approx(expected)

    def test_heads_are_averaged(self, graph):
        heads = np.stack([ALPHA - 0.1, ALPHA, ALPHA + 0.1], axis=1)
        expected = widths(attention_graph(graph, ALPHA))
        assert widths(attention_graph(graph, heads)) == pytest.approx(expected)

    def test_parallel_edges_are_added_up(self):
        twice = build_graph([0, 0, 1], [2, 2, 2], num_nodes=3)
        once = build_graph([0, 1], [2, 2], num_nodes=3)
        expected = widths(attention_graph(once, np.array([0.7, 0.3])))
        assert widths(attention_graph(twice, np.array([0.5, 0.2, 0.3]))) == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("center", "hops", "edges"),
        [
            (1, 1, {("0", "1")}),
            (2, 1, {("1", "2"), ("3", "2")}),
            (2, 2, {("1", "2"), ("3", "2"), ("0", "1"), ("2", "3"), ("3", "3")}),
            (3, 1, {("2", "3"), ("3", "3")}),
            (4, 3, set()),
        ],
    )
    def test_center_draws_what_it_reads(self, graph, center, hops, edges):
        ax = attention_graph(graph, ALPHA, center=center, hops=hops)
        assert set(widths(ax)) == edges
        assert set(labels(ax)) == {str(center)} | {end for edge in edges for end in edge}

    def test_many_nodes_go_unlabelled_but_for_the_center(self):
        star = build_graph(np.arange(1, 24), np.zeros(23, int), num_nodes=24)
        alpha = np.full(23, 1 / 23)
        assert labels(attention_graph(star, alpha)) == {}
        assert set(labels(attention_graph(star, alpha, center=0))) == {"0"}
        assert (
            len(labels(attention_graph(star, alpha, node_labels=[*"abcdefghijklmnopqrstuvwx"])))
            == 24
        )

    def test_layout_is_reproducible(self, graph):
        assert labels(attention_graph(graph, ALPHA)) == labels(attention_graph(graph, ALPHA))

    def test_positions_are_kept(self, graph):
        places = {i: (i / 5, i % 2) for i in range(5)}
        ax = attention_graph(graph, ALPHA, positions=places)
        assert labels(ax) == {str(i): place for i, place in places.items()}

    def test_colors_and_legend(self, graph):
        classes = np.array([1, 0, -1, 1, 3])
        ax = attention_graph(graph, ALPHA, node_colors=classes, color_names=["a", "b", "c", "d"])
        drawn = [to_hex(color).upper() for color in ax.collections[0].get_facecolors()]
        assert drawn == [PALETTE[1], PALETTE[0], NO_COLOR, PALETTE[1], PALETTE[3]]
        legend = ax.get_legend()
        assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "d"]

    def test_color_bar(self, graph):
        ax = attention_graph(graph, 0.5 * ALPHA)
        bar = next(other for other in ax.figure.axes if other is not ax)
        assert bar.get_ylabel() == "attention α"
        assert bar.get_ylim() == (0, 0.5)

    def test_draws_into_given_axes(self, graph):
        _, (left, right) = plt.subplots(1, 2)
        assert attention_graph(graph, ALPHA, ax=right) is right
        assert not left.collections

    def test_no_node_covers_another_however_many_components(self):
        rings = [(5, 0), (4, 5), (3, 9), (2, 12)]
        ends = [(at + i, at + (i + 1) % n) for n, at in rings for i in range(n)]
        batch = build_graph(*np.array(ends).T, num_nodes=21)
        ax = attention_graph(batch, np.ones(len(ends)))
        ax.figure.canvas.draw()
        points = ax.transData.transform(ax.collections[0].get_offsets()) * 72 / ax.figure.dpi
        apart = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(21)
        assert apart.min() > ax.collections[0].get_sizes()[0] ** 0.5
        boxes = [(points[at : at + n].min(0), points[at : at + n].max(0)) for n, at in rings]
        boxes += [(points[i], points[i]) for i in range(14, 21)]
        for i, (low, high) in enumerate(boxes):
            for other_low, other_high in boxes[:i]:
                assert (low > other_high).any() or (other_low > high).any()

    def test_attention_is_written_on_the_edges_of_small_graphs(self, graph):
        written = lambda ax: sorted(text.get_text() for text in ax.texts if "." in text.get_text())
        assert written(attention_graph(graph, ALPHA)) == ["0.30", "0.40", "0.60", "0.70", "1.00"]
        assert written(attention_graph(graph, ALPHA, edge_labels=False)) == []
        star = build_graph(np.arange(1, 14), np.zeros(13, int), num_nodes=14)
        assert written(attention_graph(star, np.full(13, 0.5))) == []
        assert len(written(attention_graph(star, np.full(13, 0.5), edge_labels=True))) == 13

    @pytest.mark.parametrize("total", [0, 1, 2])
    def test_graph_without_edges_is_drawn(self, total):
        ax = attention_graph(build_graph([], [], num_nodes=total), np.zeros((0, 3)))
        ax.figure.savefig(io.BytesIO())
        assert len(ax.collections[0].get_offsets()) == total

    @pytest.mark.parametrize(
        "names", [NAMES, ["a long name indeed", *NAMES[1:4], "Eve of St. Agnes"]]
    )
    def test_everything_stays_inside_the_picture(self, graph, names):
        ax = attention_graph(graph, jnp.asarray(ALPHA), node_labels=names)
        ax.figure.canvas.draw()
        inside = ax.figure.bbox
        for text in [*ax.texts, *ax.figure.axes[-1].get_yticklabels()]:
            box = (getattr(text, "arrow_patch", None) or text).get_window_extent()
            assert inside.x0 <= box.x0 and box.x1 <= inside.x1
            assert inside.y0 <= box.y0 and box.y1 <= inside.y1

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"alpha": ALPHA[:3]}, r"alpha has shape \(3,\).*E = 5"),
            ({"alpha": ALPHA[:, None, None]}, "alpha has shape"),
            ({"center": 5}, "center = 5 is out of range for 5 nodes"),
            ({"center": -1}, "center = -1 is out of range"),
            ({"center": 1, "hops": 0}, "hops = 0 must be at least 1"),
            ({"node_labels": NAMES[:4]}, "node_labels has 4 entries for 5 nodes"),
            ({"node_colors": [0, 1]}, "node_colors is int64 of shape"),
            ({"node_colors": [0.5] * 5}, "node_colors is float64"),
            ({"node_colors": [0, 1, 2, 3, 7]}, "node_colors has 7.*below 7"),
            ({"node_colors": [0, 1, 2, 3, -2]}, "node_colors has -2"),
            (
                {"node_colors": [0, 1, 2, 1, 0], "color_names": ["a", "b"]},
                "node_colors has 2.*below 2.*2 names",
            ),
            ({"positions": {0: (0, 0)}}, "positions has no place for node 1"),
        ],
    )
    def test_bad_input(self, graph, options, message):
        with pytest.raises(ValueError, match=message):
            attention_graph(graph, **{"alpha": ALPHA, **options})
        assert plt.get_fignums() == []


class TestAttentionHeads:
    alpha = np.array([[1.0, 1.0], [0.6, 0.1], [0.7, 0.2], [0.4, 0.9], [0.3, 0.8]])

    def test_bars_are_the_weights(self, graph):
        ax = attention_heads(graph, self.alpha, 2, node_labels=NAMES)
        heights = [[bar.get_height() for bar in bars] for bars in ax.containers]
        np.testing.assert_allclose(heights, self.alpha[[1, 3]].T)
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["Bob", "Dan"]
        assert ax.get_ylabel() == "attention α of Cat"
        assert {float(y) for line in ax.lines for y in line.get_ydata()} == {0.5}

    def test_bars_do_not_overlap(self, graph):
        ax = attention_heads(graph, self.alpha, 2)
        bars = sorted(ax.patches, key=lambda bar: bar.get_x())
        for left, right in zip(bars, bars[1:], strict=False):
            assert left.get_x() + left.get_width() < right.get_x()

    def test_one_head_may_have_no_axis(self, graph):
        ax = attention_heads(graph, jnp.asarray(ALPHA), 3)
        np.testing.assert_allclose([bar.get_height() for bar in ax.patches], [0.7, 0.3], rtol=1e-6)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"receiver": 5}, "receiver = 5 is out of range for 5 nodes"),
            ({"receiver": 0}, "receiver = 0 has no incoming edges"),
            ({"alpha": ALPHA[:2]}, "alpha has shape"),
            ({"node_labels": []}, "node_labels has 0 entries"),
        ],
    )
    def test_bad_input(self, graph, options, message):
        with pytest.raises(ValueError, match=message):
            attention_heads(graph, **{"alpha": ALPHA, "receiver": 2, **options})


class TestLearningCurves:
    def test_a_line_per_seed_and_their_mean(self):
        runs = [history(5), history(3, level=1.0)]
        loss, accuracy = learning_curves(runs)
        assert len(loss.lines) == 2 * 3 and len(accuracy.lines) == 3
        (mean,) = [line for line in accuracy.lines if not line.get_label().startswith("_")]
        # The shorter one counts with its last value, 102 %, from there on.
        np.testing.assert_array_equal(mean.get_xdata(), [1, 2, 3, 4, 5])
        np.testing.assert_allclose(mean.get_ydata(), [50, 51, 52, 52.5, 53])
        faint = [line for line in accuracy.lines if line is not mean]
        assert [len(line.get_xdata()) for line in faint] == [5, 3]
        assert all(line.get_alpha() < 0.5 for line in faint)

    def test_loss_shows_training_and_validation(self):
        loss, _ = learning_curves([history(5)])
        shown = {line.get_label(): line.get_ydata()[0] for line in loss.lines}
        assert shown["training"] == 2 and shown["validation"] == 3

    def test_best_epochs_are_marked_on_the_validation_curves(self):
        loss, accuracy = learning_curves([history(5), history(7)], best_epochs=[2, 4])
        dots = lambda ax: [line for line in ax.lines if line.get_marker() == "o"]
        marks = lambda ax: [dot.get_xydata()[0] for dot in dots(ax) if len(dot.get_xydata())]
        np.testing.assert_allclose(marks(loss), [[2, 3 / 2], [4, 3 / 4]])
        np.testing.assert_allclose(marks(accuracy), [[2, 1], [4, 3]])

    def test_one_color_and_one_mean_per_name(self):
        runs = [history(5), history(4, 0.5), history(3, 1.0)]
        _, accuracy = learning_curves(runs, names=["GAT", "GCN", "GAT"])
        named = {line.get_label(): line for line in accuracy.lines}
        assert {"GAT, validation", "GCN, validation"} <= set(named)
        np.testing.assert_allclose(named["GAT, validation"].get_ydata(), [50, 51, 52, 52.5, 53])
        np.testing.assert_allclose(named["GCN, validation"].get_ydata(), [50, 51, 52, 53])
        assert len({line.get_color() for line in accuracy.lines}) == 2

    def test_marks_have_a_legend(self):
        for panel in learning_curves([history(5)], best_epochs=[2]):
            assert "kept epoch" in [text.get_text() for text in panel.get_legend().get_texts()]
        for panel in learning_curves([history(5)]):
            assert "kept epoch" not in [text.get_text() for text in panel.get_legend().get_texts()]

    def test_epochs_may_be_thinned(self):
        whole, thinned = history(9), history(9)._asdict()
        kept = np.array([0, 3, 8])
        thinned = History(**{name: column[kept] for name, column in thinned.items()})
        _, accuracy = learning_curves([thinned], epochs=[kept + 1], best_epochs=[4])
        mean = next(line for line in accuracy.lines if line.get_label() == "validation")
        np.testing.assert_array_equal(mean.get_xdata(), [1, 4, 9])
        np.testing.assert_allclose(mean.get_ydata(), 100 * whole.validation_accuracy[kept])
        with pytest.raises(ValueError, match="epochs has 2 for a history of 3"):
            learning_curves([thinned], epochs=[[1, 2]])

    def test_a_seed_that_diverged_leaves_the_mean_of_the_others(self):
        ill = history(3)
        ill.train_loss[-1] = np.nan
        loss, _ = learning_curves([history(3, level=1.0), ill])
        mean = next(line for line in loss.lines if line.get_label() == "training")
        np.testing.assert_allclose(mean.get_ydata(), [2.5, 1.5, (5 / 3 + 1) / 2])

    def test_given_axes_and_axis_labels(self):
        _, pair = plt.subplots(2, 1)
        loss, accuracy = learning_curves([history(5)], ax=pair)
        assert loss is pair[0] and accuracy is pair[1]
        assert (loss.get_xlabel(), loss.get_ylabel()) == ("epoch", "loss")
        assert (accuracy.get_xlabel(), accuracy.get_ylabel()) == ("epoch", "accuracy (%)")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"histories": []}, "histories is empty"),
            ({"names": ["a"]}, "names has 1 entries for 2 histories"),
            ({"best_epochs": [1, 2, 3]}, "best_epochs has 3 entries"),
            ({"best_epochs": [0, 1]}, "best epoch 0 must lie between 1 and the last, 5"),
            ({"best_epochs": [1, 4]}, "best epoch 4 must lie between 1 and the last, 3"),
            ({"ax": np.empty(3, object)}, "ax has 3 axes"),
        ],
    )
    def test_bad_input(self, options, message):
        with pytest.raises(ValueError, match=message):
            learning_curves(**{"histories": [history(5), history(3)], **options})

    def test_more_names_than_colors(self):
        runs = [history(3)] * (len(PALETTE) + 1)
        with pytest.raises(ValueError, match="8 different names"):
            learning_curves(runs, names=[str(i) for i in range(len(runs))])


class TestConfusionMatrix:
    counts = np.array([[6, 2, 0], [1, 3, 4], [0, 0, 0]])

    def test_rows_are_true_classes_and_cells_show_counts(self):
        ax = confusion_matrix(self.counts, class_names=NAMES[:3])
        drawn = {text.get_position(): text.get_text() for text in ax.texts}
        assert len(drawn) == 9
        assert all(drawn[j, i] == str(count) for (i, j), count in np.ndenumerate(self.counts))
        assert [tick.get_text() for tick in ax.get_xticklabels()] == NAMES[:3]
        assert [tick.get_text() for tick in ax.get_yticklabels()] == NAMES[:3]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
        top, bottom = (ax.transData.transform((0, i))[1] for i in (0, 2))
        assert top > bottom

    def test_colors_are_shares_of_the_row(self):
        image = confusion_matrix(jnp.asarray(self.counts)).images[0]
        shares = [[0.75, 0.25, 0], [0.125, 0.375, 0.5], [0, 0, 0]]
        np.testing.assert_allclose(image.get_array(), shares)
        assert image.get_clim() == (0, 1)

    def test_counts_are_legible_on_their_colors(self):
        ax = confusion_matrix(self.counts)
        (image,) = ax.images
        for text in ax.texts:
            j, i = text.get_position()
            red, green, blue, _ = image.to_rgba(image.get_array())[i, j]
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            assert text.get_color() == ("white" if dark else "black")

    @pytest.mark.parametrize(("classes", "shown"), [(1, 1), (20, 400), (21, 0)])
    def test_any_number_of_classes_is_drawn(self, classes, shown):
        ax = confusion_matrix(np.eye(classes, dtype=int))
        ax.figure.savefig(io.BytesIO())
        assert len(ax.texts) == shown

    def test_draws_into_given_axes(self):
        _, (left, right) = plt.subplots(1, 2)
        assert confusion_matrix(self.counts, ax=right) is right
        assert not left.images

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"counts": np.ones((2, 3), int)}, r"counts is int64 of shape \(2, 3\)"),
            ({"counts": np.ones(4, int)}, r"shape \(4,\)"),
            ({"counts": np.zeros((0, 0), int)}, r"shape \(0, 0\)"),
            ({"counts": np.array(3)}, r"shape \(\)"),
            ({"counts": np.eye(2)}, "counts is float64"),
            ({"counts": np.array([[1, 2], [-3, 4]])}, "counts has -3"),
            ({"class_names": ["a", "b"]}, "class_names has 2 entries for 3 classes"),
        ],
    )
    def test_bad_input(self, options, message):
        with pytest.raises(ValueError, match=message):
            confusion_matrix(**{"counts": self.counts, **options})
        assert plt.get_fignums() == []


class TestAttentionMatrix:
    alpha = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]])

    def test_rows_are_queries_and_cells_show_weights(self):
        ax = attention_matrix(self.alpha, row_names=["q", "r"], column_names=NAMES[:3])
        drawn = {text.get_position(): text.get_text() for text in ax.texts}
        assert drawn == {(j, i): f"{weight:.2f}" for (i, j), weight in np.ndenumerate(self.alpha)}
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["q", "r"]
        np.testing.assert_array_equal(ax.images[0].get_array(), self.alpha)

    def test_a_dot_where_a_row_attends_most(self):
        ax = attention_matrix(self.alpha, mark_largest=True)
        assert ax.lines[0].get_xydata().tolist() == [[0, 0], [2, 1]] and not ax.texts

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"alpha": np.ones(3)}, r"alpha has shape \(3,\)"),
            ({"row_names": ["a"]}, "row_names has 1 entries for 2"),
            ({"column_names": ["a"]}, "column_names has 1 entries for 3"),
        ],
    )
    def test_bad_input(self, options, message):
        with pytest.raises(ValueError, match=message):
            attention_matrix(**{"alpha": self.alpha, **options})


class TestAttentionMolecule:
    def test_atoms_are_as_dark_as_their_weights_and_the_dummy_stands_beside(self):
        ax = attention_molecule("CC=O", [0.0, 0.4, 0.1, 0.3], atom=2, largest=0.8, label="α")
        assert [text.get_text() for text in ax.texts] == ["dummy", "C", "C", "O"]
        (discs,) = ax.collections
        np.testing.assert_allclose(discs.norm(discs.get_array()), [0, 0.5, 0.125, 0.375])
        rims = [to_hex(rim) for rim in discs.get_edgecolors()]
        assert [i for i, rim in enumerate(rims) if rim != "#ffffff"] == [3], "the oxygen's ring"
        x = discs.get_offsets()[:, 0]
        assert x[0] < x[1:].min()
        # A single bond is one line, a double bond two.
        assert len(ax.lines) == 3
        assert [axes.get_ylabel() for axes in ax.figure.axes[1:]] == ["α"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("C1C", [0.1, 0.2]), "'C1C' does not parse as SMILES"),
            (("CCO", [0.1, 0.2]), "weights has shape [2]: give one for each of 3 atoms, or 4"),
            (("CCO", [0.1, 0.2, 0.7], 3), "atom = 3 is out of range for 3 nodes"),
        ],
    )
    def test_bad_input(self, arguments, message):
        smiles, weights, *atom = arguments
        with rejects(ValueError, message):
            attention_molecule(smiles, weights, atom=atom[0] if atom else None)


class TestTypedSchema:
    def test_every_type_and_relation_is_there_and_none_lies_on_another(self):
        rows = {"author": np.ones((3, 2)), "paper": np.ones((4, 1))}
        ends = {
            ("author", "writes", "paper"): ([0, 1], [0, 3]),
            ("paper", "by", "author"): ([], []),
        }
        ends |= {("paper", "cites", "paper"): ([0], [1])}
        ax = plots.typed_schema(build_typed_graph(rows, ends))
        texts = {text.get_text(): text.get_position() for text in ax.texts}
        assert set(texts) == {"author\n3", "paper\n4", "writes, 2", "by, 0", "cites, 1"}
        places = np.array(list(texts.values()))
        apart = np.linalg.norm(places[:, None] - places, axis=-1) + 9 * np.eye(5)
        assert len(ax.patches) == 3 and apart.min() > 0.2
        plain = plots.typed_schema(build_typed_graph(rows, ends), counts=False)
        assert {text.get_text() for text in plain.texts} == {
            "author",
            "paper",
            "writes",
            "by",
            "cites",
        }
        assert plots.typed_schema(build_typed_graph(rows, ends), ax=ax) is ax
        with rejects(ValueError, "graph has no types: there is nothing to draw"):
            plots.typed_schema(build_typed_graph({}, {}))


class TestSeeds:
    def test_lines_are_means_and_bands_all_seeds(self):
        ax = seed_lines([3, 5], {"a": [[1.0, 3.0], [4.0, np.nan]], "b": [2.0, 7.0]}, ylabel="y")
        a, b = ax.lines
        np.testing.assert_allclose(a.get_xydata(), [[3, 2], [5, 4]])
        np.testing.assert_allclose(b.get_xydata(), [[3, 2], [5, 7]])
        (band,) = ax.collections
        edges = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
        assert edges >= {(3, 1), (3, 3), (5, 4)}
        assert a.get_color() != b.get_color() and a.get_marker() != b.get_marker()

    def test_strips_show_every_seed_and_the_sample_deviation(self):
        ax = seed_strips({"a": [1.0, 2.0, 3.0, np.nan], "b": [5.0], "c": [np.nan]}, xlabel="x")
        points = [
            sorted(line.get_xdata().tolist()) for line in ax.lines if line.get_marker() == "o"
        ]
        assert points == [[1, 2, 3], [5]]
        first, second = (line.get_segments()[0][:, 0].tolist() for line in ax.collections)
        assert (first, second) == ([1, 3], [5, 5])
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b", "c"]

    @pytest.mark.parametrize("groups", [{}, {"a": [1, 2, 3]}, {str(i): [1, 2] for i in range(8)}])
    def test_bad_input(self, groups):
        with pytest.raises(ValueError, match=r"groups is empty|\(3,\) for 2 places|8 groups"):
            seed_lines([3, 5], groups)
        if not groups:
            with pytest.raises(ValueError, match="groups is empty"):
                seed_strips(groups)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_same_figure_gives_the_same_file(graph, tmp_path, suffix):
    files = [tmp_path / f"{i}.{suffix}" for i in range(2)]
    for file in files:
        plots.save(attention_graph(graph, ALPHA), file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_new_figure_is_as_wide_as_a_column_and_other_figures_keep_their_style(graph):
    before = dict(plt.rcParams)
    ax = attention_graph(graph, ALPHA)
    assert ax.figure.get_figwidth() == plots.COLUMN
    assert dict(plt.rcParams) == before


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_only_plots_imports_matplotlib():
    users = {
        path.name
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == "matplotlib" for name in imported(path))
    }
    assert users <= {path.name for path in (PACKAGE / "plots").glob("*.py")}


@pytest.mark.slow
def test_missing_matplotlib_says_what_to_install():
    code = "import sys; sys.modules['matplotlib'] = None; import gatjax.plots"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        "ImportError: gatjax.plots needs matplotlib: pip install 'gatjax[experiments]'"
        in run.stderr
    )


@pytest.mark.slow
def test_missing_networkx_says_what_to_install(graph, monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ImportError, match=r"pip install 'gatjax\[experiments\]'"):
        attention_graph(graph, ALPHA)
    places = {i: (i, i * i) for i in range(5)}
    assert len(arrows(attention_graph(graph, ALPHA, positions=places))) == 5


def test_a_forecast_counts_hours_of_the_day_and_its_band_ends_where_nothing_can_be():
    minutes = np.arange(0, 40 * 60, 60)
    line = np.full(40, 2.0)
    axes = plots.forecast_lines(minutes, line, {"ahead": line}, bands={"ahead": [-5, 5]}, least=0.0)
    shown = [place for place in axes.get_xticks() if 0 <= place <= 39]
    assert shown == [0, 6, 12, 18, 24, 30, 36]
    assert axes.xaxis.get_major_formatter().format_ticks(shown) == "0 6 12 18 0 6 12".split()
    edges = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == (0, 7)
