"""Any table is a graph: the same rules for files and frames, names kept, nothing read that nobody asked for."""

import sys
import time
from pathlib import Path

import numpy as np
import pandas
import polars
import pyarrow
import pytest
from flax import nnx
from helpers import rejects
from pyarrow import parquet

from gatjax import RelationalGATConv
from gatjax.graph import from_csv, from_named_csv, from_table
from gatjax.graph.edge_lists import ENDS

TRIPS = {
    "src": ["oslo", "rome", "oslo"],
    "dst": ["rome", "bonn", "rome"],
    "fare": [90.5, 40.0, 12.0],
    "km": [2012, 1067, 2012],
    "by": ["air", "rail", "rail"],
}


def text_of(columns, mark):
    rows = zip(*columns.values(), strict=True)
    return "\n".join(mark.join(map(str, row)) for row in [columns, *rows]) + "\n"


def csv(folder, columns):
    (folder / "t.csv").write_text(text_of(columns, ","), encoding="utf-8")
    return str(folder / "t.csv")


def tsv(folder, columns):
    (folder / "t.tsv").write_text(text_of(columns, "\t"), encoding="utf-8")
    return folder / "t.tsv"


def parquet_file(folder, columns):
    parquet.write_table(pyarrow.table(columns), folder / "t.parquet")
    return folder / "t.parquet"


class Stream:
    """Nothing but an Arrow stream, which can be read once."""

    def __init__(self, columns):
        self.stream = pyarrow.RecordBatchReader.from_stream(pyarrow.table(columns))

    def __arrow_c_stream__(self, requested_schema=None):
        return self.stream.__arrow_c_stream__(requested_schema)


TABLES = {
    "csv": csv,
    "tsv": tsv,
    "parquet": parquet_file,
    "dictionary": lambda folder, columns: columns,
    "pandas": lambda folder, columns: pandas.DataFrame(columns),
    "pandas_nullable": lambda folder, columns: pandas.DataFrame(columns).convert_dtypes(),
    "polars": lambda folder, columns: polars.DataFrame(columns),
    "arrow": lambda folder, columns: pyarrow.table(columns),
    "stream": lambda folder, columns: Stream(columns),
    "structured": lambda folder, columns: pandas.DataFrame(columns).to_records(index=False),
}
every_table = pytest.mark.parametrize("kind", TABLES)


@every_table
def test_every_table_is_the_same_graph(kind, tmp_path):
    table = TABLES[kind](tmp_path, TRIPS)
    graph, names, weight, relation, relations = from_table(
        table, weight="fare", relation="by", features=["km"]
    )
    assert names.tolist() == ["bonn", "oslo", "rome"] and names.dtype.kind == "U"
    assert (graph.senders.tolist(), graph.receivers.tolist()) == ([1, 2, 1], [2, 0, 2])
    assert weight.tolist() == [90.5, 40, 12] and graph.edges.tolist() == [[2012], [1067], [2012]]
    assert relation.tolist() == [0, 1, 1] and relations.tolist() == ["air", "rail"]
    assert (weight.dtype, graph.edges.dtype, relation.dtype) == (np.float32, np.float32, np.int32)


@every_table
def test_numbers_name_nodes_and_relations(kind, tmp_path):
    columns = {"A": [10**12, 7], "B": [-7, 10**12], "kind": [4, 2]}
    table = TABLES[kind](tmp_path, columns)
    found = from_table(table, sender="B", receiver="A", relation="kind")
    assert found.names.tolist() == [-7, 7, 10**12] and found.relations.tolist() == [2, 4]
    assert found.graph.senders.tolist() == [0, 2] and found.relation.tolist() == [1, 0]
    assert found.graph.edges is None and found.edge_weight is None


@every_table
@pytest.mark.parametrize(
    "change, message",
    [
        (
            {},
            "nobody asked for column fare, km, by: name it as weight=, as relation= or in features=",
        ),
        ({"weight": "fare", "features": ["km", "by"]}, "column by: 'air' is not a number"),
        ({"weight": "cost"}, "there is no column cost; the columns are src, dst, fare, km, by"),
        ({"weight": "fare", "features": ["fare"]}, "column fare is asked for twice: name it once"),
        ({"sender": "src"}, "say both sender= and receiver=, or neither"),
    ],
)
def test_columns_are_asked_for(kind, change, message, tmp_path):
    with rejects(ValueError, message):
        from_table(TABLES[kind](tmp_path, TRIPS), **change)
    rest = {"ignore": ["fare", "km", "by"]}
    assert from_table(TABLES[kind](tmp_path, TRIPS), **rest).graph.edges is None


@every_table
def test_a_bad_cell_is_placed(kind, tmp_path):
    place = {"csv": "t.csv line 3", "tsv": "t.tsv line 3", "parquet": "t.parquet row 1"}.get(
        kind, "table row 1"
    )
    make = lambda **columns: TABLES[kind](tmp_path, {"src": [3, 4], "dst": [4, 5], **columns})
    with rejects(ValueError, f"{place}, column w: the weight is not finite; fill in"):
        from_table(make(w=[1.0, np.inf]), weight="w")
    with rejects(ValueError, f"{place}, column w: 16777217 has more digits than float32"):
        from_table(make(w=[1, 2**24 + 1]), weight="w")
    with rejects(ValueError, f"{place}, column w: {2**60 + 1} has more digits than float32"):
        from_table(make(w=[1, 2**60 + 1]), features=["w"])
    with rejects(ValueError, f"{place}: dst 5 is no node; it must be one of names"):
        from_table(make(), names=[3, 4])
    if isinstance(make(), str | Path):
        with rejects(ValueError, f"{place}: dst 5 is no node; ids run from 0 to 4"):
            from_csv(make(), num_nodes=5)


@pytest.mark.parametrize(
    "kind", [name for name in TABLES if name not in ("csv", "tsv", "structured")]
)
def test_what_is_missing_is_refused(kind, tmp_path):
    make = lambda **columns: TABLES[kind](
        tmp_path, {"src": ["a", "b"], "dst": ["b", "c"], **columns}
    )
    with rejects(ValueError, "row 1, column w: '' is not a number"):
        from_table(make(w=[1.5, None]), weight="w")
    with rejects(ValueError, "row 0, column by: the name is blank; give one"):
        from_table(make(by=[None, "rail"]), relation="by")
    with rejects(ValueError, "row 1, column dst: the name is blank; give one"):
        from_table(make(dst=["b", None]))


@pytest.mark.parametrize("pair", ENDS)
def test_usual_headers_are_understood(pair, tmp_path):
    sender, receiver = pair
    columns = {receiver.upper(): [2, 0], sender.title(): [1, 1], "w": [0.5, 2.0]}
    for table in (csv(tmp_path, columns), tsv(tmp_path, columns), parquet_file(tmp_path, columns)):
        graph = from_csv(table)
        assert (graph.senders.tolist(), graph.receivers.tolist()) == ([1, 1], [2, 0])
        assert graph.edges.tolist() == [[0.5], [2.0]]
        named, names = from_named_csv(table, ignore=["w"])
        assert names[named.receivers].tolist() == [2, 0] and named.edges is None


def test_ambiguous_headers_are_refused_and_the_remedy_works(tmp_path):
    both = {"source": [0], "target": [1], "from": [1], "to": [0]}
    with rejects(ValueError, "table: source,target and from,to may both be the ends of an edge"):
        from_table(both)
    found = from_table(both, sender="from", receiver="to", ignore=["source", "target"])
    assert found.graph.senders.tolist() == [1]
    with rejects(
        ValueError, "t.csv line 1: the header must be 'sender,receiver' (or source,target"
    ):
        from_table(csv(tmp_path, {"u": [0], "v": [1]}))
    assert from_table(
        csv(tmp_path, {"u": [0], "v": [1]}), sender="u", receiver="v"
    ).names.tolist() == [0, 1]


@pytest.mark.parametrize("mark", ";\t| ")
def test_another_separator_is_named_and_the_remedy_works(mark, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text_of({"src": [0], "dst": [1], "w": [0.5]}, mark))
    with rejects(
        ValueError, f"separated by ',', got {'src' + mark + 'dst' + mark + 'w'!r}: replace {mark!r}"
    ):
        from_csv(path)
    assert from_table(pandas.read_csv(path, sep=mark), weight="w").edge_weight == 0.5


def test_ignored_columns_may_hold_anything(tmp_path):
    (tmp_path / "t.csv").write_text('src,note,dst\n0,"so, 7",1\n2,x,1\n')
    assert from_csv(tmp_path / "t.csv", ignore=["note"]).senders.tolist() == [0, 2]
    assert from_table(tmp_path / "t.csv", ignore=["note"]).names.tolist() == [0, 1, 2]


def test_nodes_have_their_names():
    trips = {"src": ["oslo"], "dst": ["rome"]}
    people = {"city": ["rome", "bonn", "oslo"], "people": [2.8, 0.3, 0.7]}
    frame = pandas.DataFrame(people)
    found = from_table(trips, names=frame["city"], nodes=frame[["people"]].to_numpy())
    assert found.graph.senders.tolist() == [2] and found.graph.nodes[found.graph.senders] == 0.7
    assert found.names.tolist() == people["city"]
    with rejects(TypeError, "nodes without names: pass names="):
        from_table(trips, nodes=np.ones((2, 1)))
    with rejects(ValueError, "names[2] = 'rome' names another node too"):
        from_table(trips, names=["rome", "oslo", "rome"])


@pytest.mark.slow
def test_relations_go_to_a_relational_layer():
    found = from_table(TRIPS, relation="by", ignore=["fare", "km"])
    graph = found.graph._replace(nodes=np.eye(3, dtype=np.float32), edges=found.relation)
    layer = RelationalGATConv(3, 2, num_relations=len(found.relations), rngs=nnx.Rngs(0))
    assert layer(graph).nodes.shape == (3, 2)


@pytest.mark.parametrize(
    "table, error, message",
    [
        ([(0, 1)], TypeError, "table is a list: pass a path, a frame (pandas, Polars, Arrow), a dictionary"),
        ({"src": [0, 1], "dst": [1]}, ValueError, "the columns have 2, 1 rows: give all as many"),
        ({"src": [[0]], "dst": [[1]]}, ValueError, "row 0, column src: [0] is no name"),
        ({"src": np.eye(1), "dst": [1]}, ValueError, "column src has shape (1, 1): it must have one axis"),
        ({}, ValueError, "table has no columns"),
        (pandas.DataFrame([[0, 1]]), ValueError, "column 0 is called by no text: name the columns"),
        (pandas.DataFrame([[0, 1]], columns=["a", "a"]), ValueError, "names a column twice"),
        ({"src": [0.0], "dst": [1]}, ValueError, "row 0, column src: 0.0 is no name: names are strings or"),
    ],
)  # fmt: skip
def test_bad_tables(table, error, message, unchecked):
    with rejects(error, message):
        from_table(table)


def test_a_string_is_no_list_of_columns():
    with rejects(TypeError, "ignore must be a list of columns, got 'km': pass ['km']"):
        from_table(TRIPS, ignore="km")


def test_bad_parquet_files_and_no_reader(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_text("src,dst\n0,1\n")
    with rejects(ValueError, "t.parquet: cannot be read as Parquet: "):
        from_table(tmp_path / "t.parquet")
    with rejects(FileNotFoundError, "there is no file"):
        from_table(tmp_path / "u.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with rejects(
        ImportError,
        "t.parquet is a Parquet file: reading it needs pyarrow: pip install 'gatjax[tables]'",
    ):
        from_table(tmp_path / "t.parquet")
    assert from_table(polars.DataFrame({"src": [0], "dst": [1]})).names.tolist() == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("kind, prefix", [("csv", ""), ("csv", "n"), ("parquet", "n")])
def test_a_million_edges_in_seconds(kind, prefix, tmp_path):
    ends = np.random.default_rng(0).integers(0, 10**5, (2, 10**6))
    columns = {
        end: [f"{prefix}{i}" for i in ids] if prefix else ids.tolist()
        for end, ids in zip(("src", "dst"), ends.tolist() if prefix else ends, strict=True)
    }
    table = TABLES[kind](tmp_path, {**columns, "w": [0.5] * 10**6})
    start = time.process_time()
    found = from_table(table, weight="w")
    assert time.process_time() - start < 5  # two or three, and what the shape checker takes
    assert [str(name) for name in found.names[found.graph.senders[:5]]] == [
        str(x) for x in columns["src"][:5]
    ]
