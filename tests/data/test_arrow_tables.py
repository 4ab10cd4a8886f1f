"""Tables on disk: whole or not at all, and rows by number without reading the others."""

import os
import pickle

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dalib.data.tables import Rows, written_table
from dalib.errors import DataError

SCHEMA = pa.schema([("name", pa.large_binary()), ("size", pa.int64())])


def batch(numbers):
    names = pa.array([b"%d" % n for n in numbers], pa.large_binary())
    return pa.record_batch([names, pa.array(numbers, pa.int64())], schema=SCHEMA)


def write(path, *batches, **notes):
    with written_table(path, SCHEMA) as table:
        for numbers in batches:
            table.write(batch(numbers))
        table.notes |= notes
    return Rows(path, SCHEMA)


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(0, 2**60), max_size=5), max_size=6))
def test_every_row_is_found_in_its_batch(tmp_path_factory, batches):
    """Also beside batches without rows."""
    rows = write(tmp_path_factory.mktemp("table") / "a.arrow", *batches, said=["x", 1])
    expected = [(k, n) for k, numbers in enumerate(batches) for n in numbers]
    assert len(rows) == len(expected)
    for index, (number, n) in enumerate(expected):
        assert rows.at(index) == (number, {"name": b"%d" % n, "size": n})
    assert [b["size"].to_pylist() for b in rows.batches()] == batches
    assert rows.notes == {"said": ["x", 1]}
    assert pickle.loads(pickle.dumps(rows)).notes == rows.notes


def test_a_file_that_fails_midway_does_not_appear(tmp_path):
    path = tmp_path / "a.arrow"
    write(path, [1])

    def fails():
        with written_table(path, SCHEMA) as table:
            table.write(batch([2]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert Rows(path, SCHEMA).at(0)[1]["size"] == 1
    assert os.listdir(tmp_path) == ["a.arrow"]


def test_what_a_killed_process_left_goes_after_a_day(tmp_path):
    path = tmp_path / "a.arrow"
    with written_table(path, SCHEMA):
        (partial,) = tmp_path.iterdir()
        name = partial.name
    old, new = (partial.with_name(f"{name}{k}") for k in "01")
    for left in (old, new):
        left.write_bytes(b"half a file")
    os.utime(old, (1, 1))
    write(path, [1])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["a.arrow", new.name])


def test_what_is_no_table(tmp_path):
    path = tmp_path / "a.arrow"
    with pytest.raises(DataError, match=r"a\.arrow: no readable table"):
        Rows(path, SCHEMA)
    whole = write(path, [1, 2, 3])
    data = path.read_bytes()
    other = pa.schema([("name", pa.large_binary())])
    assert Rows.opened(path, other) is None
    for content in (data[:-30], data[: len(data) // 2], b"", b"words"):
        (tmp_path / "b.arrow").write_bytes(content)
        assert Rows.opened(tmp_path / "b.arrow", SCHEMA) is None
    assert whole.at(2)[1]["size"] == 3


def test_a_table_that_was_made_anew_is_not_taken_for_the_first(tmp_path):
    rows = pickle.dumps(write(tmp_path / "a.arrow", [1, 2]))
    write(tmp_path / "a.arrow", [3, 4, 5])
    with pytest.raises(DataError, match=r"a\.arrow: was made anew while it was in use"):
        pickle.loads(rows)
