"""Points for a student's notebook: its tests are replaced by those of the course, it is run from
start to end, and each test that ends without an error counts. Answers in words are listed, for a
person to read.

It runs what the student wrote: on a machine where that may do no harm.
"""

from dataclasses import dataclass
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode

from dabook.course.editions import ANSWER, SOLUTION, TEST, is_tagged, points, sources
from dabook.site.notebooks import own_kernel, read
from dalib import paths
from dalib.config import check_names
from dalib.errors import DataError, UserError

SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class Graded:
    """One graded cell.

    Args:
        cell: its id.
        points: what it is worth.
        passed: of a test, whether it ended without an error; None for an answer in words.
        words: of the error, or of the answer.
    """

    cell: str
    points: int
    passed: bool | None
    words: str


@dataclass(frozen=True, kw_only=True)
class Grade:
    """A whole notebook."""

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
        lines = [
            f"{self.name}: {self.reached} of {self.tested} points by tests"
            + (f", {self.by_hand} more by hand" if self.by_hand else "")
        ]
        for each in self.cells:
            verdict = {True: "passed", False: "failed", None: "read"}[each.passed]
            first = (each.words.strip().splitlines() or [""])[0]
            lines.append(f"  {verdict:7} {each.points:2}  {each.cell}  {first}".rstrip())
        return "\n".join(lines)


def grade(path: Path, *, seconds: int = SECONDS) -> Grade:
    """Grade a notebook that was made by `dabook.course.editions` and worked in.

    Args:
        path: the notebook, called as its source is.
        seconds: that a cell may take.

    Raises:
        ConfigError: no exercise or lab has this name.
        DataError: a notebook that is damaged, or lacks a test.
        UserError: its kernel died.
    """
    known = {source.name: source for source in sources()}
    check_names([path.name], known, what="exercise or lab")
    source, given = read(known[path.name]), read(path)
    asked = [c for c in source.cells if is_tagged(c, TEST) or _is_answer(c)]
    by_id = {each.id: each for each in given.cells}
    if missing := [each.id for each in asked if each.id not in by_id]:
        raise DataError(f"{path}: lacks the cells {', '.join(missing)}; restore them")
    for each in asked:
        if is_tagged(each, TEST):
            by_id[each.id].source = each.source
    _run(given, path, seconds)
    return Grade(name=path.name, cells=tuple(_graded(each, by_id[each.id]) for each in asked))


def _is_answer(each: NotebookNode) -> bool:
    return is_tagged(each, SOLUTION) and each.cell_type == "markdown"


def _run(notebook: NotebookNode, path: Path, seconds: int) -> None:
    """Every cell, whatever errors there are."""
    for each in notebook.cells:
        if each.cell_type == "code":
            each.outputs, each.execution_count = [], None
    client = NotebookClient(
        notebook,
        allow_errors=True,
        timeout=seconds,
        interrupt_on_timeout=True,
        kernel_manager_class=own_kernel(),
        resources={"metadata": {"path": str(paths.root())}},
    )
    try:
        client.execute()
    except (DeadKernelError, RuntimeError) as error:
        raise UserError(f"{path}: its kernel did not go on ({error})") from error


def _graded(asked: NotebookNode, given: NotebookNode) -> Graded:
    if _is_answer(asked):
        words = "empty" if given.source.strip() == ANSWER else given.source
        return Graded(cell=asked.id, points=points(asked), passed=None, words=words)
    errors = [output for output in given.outputs if output.output_type == "error"]
    words = f"{errors[0].ename}: {errors[0].evalue}" if errors else ""
    return Graded(cell=asked.id, points=points(asked), passed=not errors, words=words)
