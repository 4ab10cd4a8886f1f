"""Points of a whole class: one notebook after another, and a table of them as CSV that is written
after each, so that what is done is kept."""

import csv
import io
import sys
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from dabook.course.editions import is_answer, sources
from dabook.course.grading import SECONDS, Grade, grade, graded_cells, source_of
from dabook.site.notebooks import read
from dalib.errors import ConfigError, Stopped, UserError
from dalib.writing import check_place, write_text

FILE, NAME, ERROR = "file", "name", "error"
TESTS, OF, HAND, OF_HAND, ALL = "points by tests", "of", "points by hand", "of by hand", "points"
FIRST = (FILE, NAME, TESTS, OF, HAND, OF_HAND, ALL)
BY_HAND = " (by hand)"
"""At the end of the name of a column that a person fills in."""
LAST = ("notes", ERROR)
"""Columns before and after those of the cells."""


def grade_all(
    files: Sequence[Path], *, seconds: int = SECONDS, table: Path | None = None
) -> list[Grade]:
    """Grade notebooks and print the points. One that cannot be graded does not stop the others.

    Args:
        files: the notebooks.
        seconds: that a cell may take.
        table: a CSV file. Notebooks that have a line without an error there are left out; what
            somebody wrote into it stays.

    Raises:
        ConfigError: a table that cannot be written, or is something else.
        UserError: at the end, where some could not be graded.
    """
    kept = None if table is None else Table(table, _columns(files))
    found, failed = [], []
    for file in files:
        if kept is not None and kept.has(file):
            print(f"{file}: has its line in {table}", flush=True)
            continue
        try:
            one = grade(file, seconds=seconds)
        except Stopped:
            raise
        except Exception as error:  # whatever it is, the others are not to wait for it
            words = (
                str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            )
            print(f"error: {words}", file=sys.stderr, flush=True)
            failed.append(file)
            line = {FILE: str(file), ERROR: words}
        else:
            print(one, flush=True)
            found.append(one)
            line = _line(one)
        if kept is not None:
            kept.put(line)
    if kept is not None:
        kept.add_up()
    if failed:
        count = f"{len(failed)} of {len(files)} notebooks"
        raise UserError(f"{count} could not be graded: {', '.join(map(str, failed))}")
    return found


class Table:
    """Lines of a CSV file by their notebook, written whole after each.

    Args:
        path: the file. Lines and columns that it has are kept.
        columns: its heading, as far as it is not there.

    Raises:
        ConfigError: it cannot be written, or is something else.
    """

    def __init__(self, path: Path, columns: Sequence[str]):
        check_place(path)
        self.path, self.columns = path, list(columns)
        self._lines: dict[str, dict[str, str]] = {}
        if path.exists():
            self._read()

    def has(self, file: Path) -> bool:
        """Whether a notebook has a line, and no error in it."""
        line = self._lines.get(str(file))
        return line is not None and not line[ERROR]

    def put(self, line: dict[str, object]) -> None:
        """Add a line, or replace the one of the same notebook."""
        self._lines[str(line[FILE])] = {name: str(line.get(name, "")) for name in self.columns}
        self._write()

    def add_up(self) -> None:
        """Fill in the sums: points by hand of each line whose answers have all been read, and all
        points of each that has points by hand. What cannot be added yet stays as it is."""
        answers = {source.stem: _answers(source) for source in sources()}
        for line in self._lines.values():
            if line[ERROR]:
                continue
            given = [line.get(name, "") for name in answers.get(line[NAME], ())]
            if all(map(_is_number, given)):
                line[HAND] = f"{sum(map(float, given)):g}"
            if _is_number(line[HAND]) and _is_number(line[TESTS]):
                line[ALL] = f"{float(line[HAND]) + float(line[TESTS]):g}"
        self._write()

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._lines.values())
        write_text(self.path, text.getvalue())

    def _read(self) -> None:
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, restval="")
                there = list(reader.fieldnames or ())
                lines = list(reader)
        except (OSError, ValueError, csv.Error) as error:
            raise ConfigError(
                f"{self.path}: cannot be read ({error}); name another file"
            ) from error
        if not {FILE, *LAST} <= set(there):
            raise ConfigError(
                f"{self.path}: is no table of this command, separated by commas; name another file"
            )
        end = there.index(LAST[0])
        more = [name for name in self.columns if name not in there]
        self.columns = there[:end] + more + there[end:]
        self._lines = {line[FILE]: line for line in lines}


def _columns(files: Sequence[Path]) -> list[str]:
    """The heading for these notebooks: a column for each cell that is graded in one of them."""
    cells: dict[str, None] = {}
    for file in files:
        try:
            source = read(source_of(file, read(file)))
        except Exception:
            continue  # it will have a line with its error
        cells |= dict.fromkeys(_column(each.id, is_answer(each)) for each in graded_cells(source))
    return [*FIRST, *cells, *LAST]


def _answers(source: Path) -> list[str]:
    """The columns of a source's answers in words."""
    return [_column(each.id, True) for each in graded_cells(read(source)) if is_answer(each)]


def _is_number(text: str) -> bool:
    """Whether points stand in a cell."""
    try:
        return isfinite(float(text))
    except ValueError:
        return False


def _column(cell: str, by_hand: bool) -> str:
    return f"{cell}{BY_HAND}" if by_hand else cell


def _line(one: Grade) -> dict[str, object]:
    """What stands in the table of a notebook. Points by hand are left empty, to be filled in."""
    counts = (str(one.file), one.name, one.reached, one.tested, "", one.by_hand, "")
    notes = "; ".join(f"{each.cell}: {each.note}" for each in one.cells if each.note)
    tests = {
        _column(each.cell, False): each.points if each.passed else 0
        for each in one.cells
        if each.passed is not None
    }
    return dict(zip(FIRST, counts, strict=True)) | tests | {"notes": notes}
