"""The reader of CSV files: its fast way says what its careful way says."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatjax.graph.table_files import cells_in, parse, parse_fast
from gatjax.graph.tables import header_of, read_names, read_table

CELLS = (
    ["1", " 1", "2 ", "+3", "-4", "1.0", "1e3", ".5", "5.", "inf", "-Infinity", "nan", "0x10"]
    + ["1_0", "", "٣", "1d3", "1 2", "-0", "007", "2147483648", "9223372036854775808", '"6"']
    + ["#7", "ann", "1e400", "\t8", "1+2j"]
)


@given(
    kinds=st.lists(
        st.sampled_from(["whole", "long", "number", "partial", "text"]), min_size=2, max_size=3
    ),
    data=st.data(),
)
@settings(max_examples=200, deadline=None)
def test_the_fast_way_agrees_with_the_careful_way(tmp_path_factory, kinds, data):
    rows = data.draw(
        st.lists(
            st.lists(st.sampled_from(CELLS), min_size=len(kinds), max_size=len(kinds)), max_size=3
        )
    )
    ending = data.draw(st.sampled_from(["\n", "\r\n", "\n\n"]))
    header = ["a", "b", "c"][: len(kinds)]
    path = tmp_path_factory.getbasetemp() / "table.csv"
    path.write_bytes(ending.join(",".join(row) for row in [header, *rows]).encode())
    fast = parse_fast(path, kinds)
    if fast is None:
        return
    with path.open(newline="") as text:
        lines = csv.reader(text, strict=True)
        next(lines)
        careful = parse(path, cells_in(path, len(kinds), lines), header, kinds, [""] * len(kinds))
    for one, other in zip(fast, careful, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("lines", [10, 1000])
@pytest.mark.parametrize("quote", ["", '"'])
def test_a_bad_cell_is_found_anywhere(tmp_path, lines, quote):
    path = tmp_path / "t.csv"
    rows = [f"{quote}{i}{quote},1" for i in range(lines)]
    for row, cells, message in [
        (lines - 1, "x,1", f"t.csv line {lines + 1}, column a: 'x' is not a whole"),
        (lines // 2, "1", f"t.csv line {lines // 2 + 2}: 1 cells, expected 2"),
        (
            lines // 2,
            "1,2147483648",
            f"t.csv line {lines // 2 + 2}, column b: '2147483648' is not a whole number of 32",
        ),
    ]:
        path.write_text("\n".join(["a,b", *rows[:row], cells, *rows[row + 1 :]]))
        with pytest.raises(ValueError, match=message):
            read_table(path, {"a": "whole", "b": "whole"})
    path.write_text("\n".join(["a,b", *rows, "", " , ", ""]))
    assert read_table(path, {"a": "whole", "b": "whole"}).rows == lines


@pytest.mark.parametrize("rows", [3, 600])
def test_a_gap_in_a_file_of_one_column_is_found(tmp_path, rows):
    path = tmp_path / "t.csv"
    path.write_text("a\n" + "1\n" * rows + "\n" + "1\n")
    with pytest.raises(ValueError, match=f"t.csv line {rows + 2}: the line is blank"):
        read_table(path, {"a": "number"})
    path.write_text("a\n" + "1\n" * rows + "\n\n")
    assert read_table(path, {"a": "number"}).rows == rows


def test_partial_numbers_and_optional_columns(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("b,a\n,1\n2,3\n")
    table = read_table(path, {"a": "whole"}, optional={"b": "partial", "c": "number"})
    np.testing.assert_array_equal(table.columns["b"], [np.nan, 2])
    assert header_of(path) == ["b", "a"]


def test_names_are_numbers_only_together(tmp_path):
    path = tmp_path / "t.csv"
    for text, kind in (
        ("a,b\n1,2\n", "i"),
        ('a,b\n"1",2\n', "i"),
        ("a,b\n1,x\n", "O"),
        ("a,b\n1,2.5\n", "O"),
    ):
        path.write_text(text)
        columns = read_names(path, ["a", "b"]).columns
        assert [column.dtype.kind for column in columns.values()] == [kind, kind]
    path.write_text("a,b\n1,2\n")
    assert read_names(path, ["a", "b"], text=True).columns["a"].tolist() == ["1"]


def test_a_line_of_commas_is_blank_in_a_table_of_words(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\nx,y\n,\n,\n")
    assert read_table(path, {"a": "text", "b": "text"}).rows == 1
