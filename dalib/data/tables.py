"""Tables of millions of rows on disk that cost a process no memory: Arrow files, mapped, whose
pages all processes share."""

import contextlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dalib.errors import DataError
from dalib.writing import partial_of

DAY = 24 * 3600  # seconds
VERSION = "1"
"""Of what lies in such a file; one of another version counts as none."""


class Table:
    """A file that is being written, batch by batch, and what is to be said of the whole."""

    def __init__(self, writer: pa.ipc.RecordBatchFileWriter) -> None:
        self._writer = writer
        self.ends: list[int] = []
        self.notes: dict[str, Any] = {}

    def write(self, batch: pa.RecordBatch) -> None:
        """Add a batch."""
        self._writer.write_batch(batch)
        self.ends.append(batch.num_rows + (self.ends[-1] if self.ends else 0))


@contextmanager
def written_table(path: Path, schema: pa.Schema) -> Iterator[Table]:
    """A new file of rows, which takes its name when the block ends well. Until then it has a hidden
    name of its own, so that two that write the same do no harm; one that a killed process left is
    removed after a day.

    Its last batch is empty and carries the notes, since Arrow wants those of the whole file before
    the first row.

    Raises `OSError` where the disk refuses.
    """
    beginning = f"{partial_of(path).name}-"
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{beginning}*"):
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < time.time() - DAY:
                left.unlink()
    partial = path.with_name(beginning + secrets.token_hex(4))
    try:
        with partial.open("wb") as file:
            with pa.ipc.new_file(file, schema) as writer:
                table = Table(writer)
                yield table
                said = {"version": VERSION, "ends": table.ends, "notes": table.notes}
                empty = pa.record_batch([pa.array([], f.type) for f in schema], schema=schema)
                writer.write_batch(empty, custom_metadata={"dalib": json.dumps(said)})
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


class Rows:
    """The rows of such a file. No column is read before it is asked for, nor kept.

    Args:
        path: a file of `written_table`.
        schema: its columns.

    Raises:
        DataError: no such file, a damaged one, or other columns.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = schema
        try:
            self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
            if not self._reader.schema.equals(schema):
                raise ValueError("other columns")
            last = self._reader.num_record_batches - 1
            _, notes = self._reader.get_batch_with_custom_metadata(last)
            said = json.loads(notes[b"dalib"])
            if said["version"] != VERSION or len(said["ends"]) != last:
                raise ValueError("another version")
        except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
            raise DataError(f"{path}: no readable table ({error}); delete it") from error
        self._mark = _mark(path)
        self._ends = np.array(said["ends"], np.int64)
        self.notes: dict[str, Any] = said["notes"]

    @classmethod
    def opened(cls, path: Path, schema: pa.Schema) -> "Rows | None":
        """None where there is no such file that can be used."""
        try:
            return cls(path, schema)
        except DataError:
            return None

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def batch(self, number: int) -> pa.RecordBatch:
        """One of the batches that were written."""
        return self._reader.get_batch(number)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All of them, one after the other."""
        return map(self.batch, range(len(self._ends)))

    def at(self, index: int) -> tuple[int, dict[str, Any]]:
        """The number of the batch that a row lies in, and its columns."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[number - 1]) if number else 0
        batch = self.batch(number)
        place = index - first
        return number, {name: batch[name][place].as_py() for name in self.schema.names}

    def __reduce__(self):
        return _again, (self.path, self.schema, self._mark)


def _mark(path: Path) -> tuple[int, int]:
    """Size and time of change."""
    look = path.stat()
    return look.st_size, look.st_mtime_ns


def _again(path: Path, schema: pa.Schema, mark: tuple[int, int]) -> Rows:
    """The same rows in another process."""
    rows = Rows(path, schema)
    if rows._mark != mark:
        raise DataError(f"{path}: was made anew while it was in use; run again")
    return rows
