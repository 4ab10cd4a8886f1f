"""Points for a student's notebook: its tests are replaced by those of the course, it is run from
start to end, and each test that ends without an error counts. Answers in words are listed, for a
person to read.

A test that fails is run once more where it says which solutions it needs, with the course's own in
their place: one mistake costs once.

It runs what the student wrote: on a machine where that may do no harm.
"""

import logging
import os
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode

from dabook.course.bench import PLACE
from dabook.course.editions import (
    ANSWER,
    SOLUTION,
    TEST,
    is_answer,
    is_tagged,
    needs,
    points,
    source_name,
)
from dabook.course.editions import sources as all_sources
from dabook.site.notebooks import own_kernel, read
from dalib import paths
from dalib.config import check_names
from dalib.errors import ConfigError, DataError, UserError

SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class Graded:
    """One graded cell.

    Args:
        cell: its id.
        points: what it is worth.
        passed: of a test, whether it counts; None for an answer in words.
        words: of the error, or of the answer.
        note: what whoever gives the grade should know: that the notebook lacked this cell, or that
            its error follows from another one's.
    """

    cell: str
    points: int
    passed: bool | None
    words: str
    note: str = ""

    @property
    def lines(self) -> list[str]:
        """For a terminal: of an error the first line, of an answer all that was written."""
        verdict = {True: "passed", False: "failed", None: "read"}[self.passed]
        first, *more = self.words.strip().splitlines() or [""]
        said = f"({self.note}) {first}" if self.note else first
        answer = [f"      {line}".rstrip() for line in more] if self.passed is None else []
        return [f"  {verdict:7} {self.points:2}  {self.cell}  {said}".rstrip(), *answer]


@dataclass(frozen=True, kw_only=True)
class Grade:
    """A whole notebook.

    Args:
        file: the notebook.
        name: of its source.
        cells: what is graded, in their order.
    """

    file: Path
    name: str
    cells: tuple[Graded, ...]

    @property
    def reached(self) -> int:
        """Points of the tests that passed."""
        return sum(each.points for each in self.cells if each.passed)

    @property
    def tested(self) -> int:
        """Points of all tests."""
        return sum(each.points for each in self.cells if each.passed is not None)

    @property
    def by_hand(self) -> int:
        """Points of the answers that a person has to read."""
        return sum(each.points for each in self.cells if each.passed is None)

    def __str__(self) -> str:
        what = "" if self.file.stem == self.name else f" ({self.name})"
        by_hand = f", {self.by_hand} more by hand" if self.by_hand else ""
        first = f"{self.file}{what}: {self.reached} of {self.tested} points by tests{by_hand}"
        return "\n".join([first, *(line for each in self.cells for line in each.lines)])


def grade(path: Path, *, seconds: int = SECONDS) -> Grade:
    """Grade a notebook that was made by `dabook.course.editions` and worked in.

    Args:
        path: the notebook, see `source_of`.
        seconds: that a cell may take.

    Raises:
        ConfigError: no exercise or lab can be found of which this is one, or two can.
        DataError: a notebook that is damaged, or of another exercise than its name says.
        UserError: its kernel died.
    """
    given = read(path)
    found = source_of(path, given)
    source = read(found)
    asked = graded_cells(source)
    known = set(_by_name(given))
    if not known & {
        each.id for each in source.cells if is_tagged(each, SOLUTION) or is_tagged(each, TEST)
    }:
        raise DataError(f"{path}: has no cell of {found.stem} in which something is to be written")
    put(given, source, [each.id for each in asked if is_tagged(each, TEST)])
    with tempfile.TemporaryDirectory() as place:
        _run(given, path, seconds, place)
        cells = [_graded(each, _by_name(given).get(each.id)) for each in asked]
        for k, each in enumerate(asked):
            if cells[k].passed is False and (needed := needs(each)):
                again = nbformat.from_dict(given)
                put(again, source, needed)
                del again.cells[_place(again, _by_name(again)[each.id]) + 1 :]
                _run(again, path, seconds, place)
                cells[k] = _followed(cells[k], again.cells[-1], needed)
    for k, each in enumerate(asked):
        if each.id not in known:
            cells[k] = _lacking(cells[k])
    return Grade(file=path, name=found.stem, cells=tuple(cells))


# ---- which notebook it is


def source_of(path: Path, given: NotebookNode) -> Path:
    """The exercise or lab that a notebook was made from: the one that it is called like; else one
    that its name begins or ends with, or that its metadata names; else the one to which most of its
    cells belong.

    Raises:
        ConfigError: there is none, or there are two.
    """
    known = {source.stem: source for source in all_sources()}
    if path.stem in known:
        return known[path.stem]
    own = path.stem.casefold()
    called = [name for name in known if own.startswith(name) or own.endswith(name)]
    said = [name for name in known if name == source_name(given)]
    found = set(called + said) or set(_alike(given, known))
    if not found:
        check_names([path.name], [source.name for source in known.values()], what="exercise or lab")
    if len(found) > 1:
        names = sorted(found)
        raise ConfigError(
            f"{path}: can be {' or '.join(names)}; call it {names[0]}.ipynb if it is that one"
        )
    return known[found.pop()]


def _alike(given: NotebookNode, known: dict[str, Path]) -> list[str]:
    """The sources of which a notebook has the most graded cells, and more than half of them."""
    names = set(_by_name(given))
    shares = {}
    for name, source in known.items():
        asked = {each.id for each in graded_cells(read(source))}
        shares[name] = len(asked & names) / len(asked)
    most = max(shares.values())
    return [name for name, share in shares.items() if share == most and share > 0.5]


def graded_cells(source: NotebookNode) -> list[NotebookNode]:
    """The tests and the answers in words of a source, in their order."""
    return [each for each in source.cells if is_tagged(each, TEST) or is_answer(each)]


# ---- its cells


def put(given: NotebookNode, source: NotebookNode, names: Collection[str]) -> None:
    """Put cells of the source into a notebook: in the place of those of their names, and where one
    is missing, after the nearest cell before it that is there; else at the end."""
    before = None
    for each in source.cells:
        own = _by_name(given).get(each.id)
        if each.id in names:
            new = nbformat.from_dict(each)
            if own is not None:
                given.cells[_place(given, own)] = new
            else:
                last = len(given.cells) - 1 if before is None else _place(given, before)
                given.cells.insert(last + 1, new)
            own = new
        before = before if own is None else own


def _by_name(given: NotebookNode) -> dict[str, NotebookNode]:
    """Cells by the names that they have in the source. Some editors give them new ids: nbgrader's
    name stays in the metadata, and Colab keeps the id there."""
    found: dict[str, NotebookNode] = {}
    for name_of in (
        lambda each: each.metadata.get("id"),
        lambda each: each.metadata.get("nbgrader", {}).get("grade_id"),
        lambda each: each.id,
    ):
        found |= {name_of(each): each for each in reversed(given.cells)}
    return found


def _place(given: NotebookNode, cell: NotebookNode) -> int:
    return next(k for k, each in enumerate(given.cells) if each is cell)


# ---- running


def _run(notebook: NotebookNode, path: Path, seconds: int, place: str) -> None:
    """Every cell, whatever errors there are."""
    for each in notebook.cells:
        if each.cell_type == "code":
            each.outputs, each.execution_count = [], None
    logging.getLogger("traitlets").setLevel(logging.WARNING)  # else a line for each kernel
    client = NotebookClient(
        notebook,
        allow_errors=True,
        timeout=seconds,
        interrupt_on_timeout=True,
        kernel_manager_class=own_kernel(),
        resources={"metadata": {"path": str(paths.root())}},
    )
    try:
        client.execute(env=os.environ | {PLACE: place})
    except (DeadKernelError, RuntimeError) as error:
        raise UserError(f"{path}: its kernel did not go on ({error})") from error


def _graded(asked: NotebookNode, given: NotebookNode | None) -> Graded:
    if is_answer(asked):
        text = "" if given is None else given.source.strip()
        words = "empty" if text in ("", ANSWER) else text
        return Graded(cell=asked.id, points=points(asked), passed=None, words=words)
    error = _error(given)
    return Graded(cell=asked.id, points=points(asked), passed=not error, words=error)


def _error(test: NotebookNode) -> str:
    errors = [output for output in test.outputs if output.output_type == "error"]
    return f"{errors[0].ename}: {errors[0].evalue}" if errors else ""


def _followed(failed: Graded, test: NotebookNode, needed: Sequence[str]) -> Graded:
    """A test that failed, after it ran with the course's own solutions of what it needs."""
    if _error(test):
        return failed
    note = f"follows from {' or '.join(needed)}: passes with the course's own"
    return replace(failed, passed=True, note=note)


def _lacking(found: Graded) -> Graded:
    """A cell that the notebook did not have."""
    here = "was missing" if found.passed is None else "was missing, the course's own was put in"
    return replace(found, note=f"{here}; {found.note}" if found.note else here)
