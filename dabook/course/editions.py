"""A student's and an instructor's edition of every exercise and lab, made from one source.

A source is a notebook of `course/exercises` or `course/labs`, the instructor's version. What its
cells are for stands in their tags:

- `solution`: of code, holds solutions (`dabook.course.markers`); of Markdown, is an answer, which a
  student gets empty.
- `test`: a test, which students see. The cell's metadata `points` says what it is worth; so they do
  for an answer, which is graded by hand. Its metadata `needs` names the solutions above that it
  cannot do without: see `dabook.course.grading`.
- `instructor`: left out of the student's edition.

Both editions get nbgrader's metadata, so that nbgrader can take the instructor's as it is, and the
name of their source, by which grading knows them under another name.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from dabook.course import markers
from dabook.site.notebooks import read
from dabook.site.pin import REQUIREMENTS, pin, pinned, requirements
from dalib import paths
from dalib.errors import ConfigError
from dalib.writing import nothing_left, refuse_place, whole_files

FOLDERS = ("exercises", "labs")
HANDED = "course/student"
"""Where a handout (`dabook.course.handout`) has the student's notebooks."""
STUDENT, INSTRUCTOR = "student", "instructor"
EDITIONS = (STUDENT, INSTRUCTOR)
SOLUTION, TEST, LECTURER = "solution", "test", "instructor"
"""Tags of cells."""
POINTS, NEEDS = "points", "needs"
"""In a cell's metadata."""
COURSE, SOURCE = "course", "source"
"""In a notebook's metadata: the name of its source, `{"course": {"source": NAME}}`."""
MADE = ".made.json"
"""In an edition's folder: file -> digest of what was written there."""
ANSWER = "*Your answer.*"
TITLE = re.compile(r"# \S")


def _absent(folder: Path) -> str:
    """Why there are no sources here."""
    handed = paths.root() / HANDED
    if handed.is_dir():
        return f"{folder}: not in a handout; the student's notebooks are in {handed}"
    return f"{folder}: no such folder; run from the checkout, or set DALIB_ROOT to it"


@dataclass(frozen=True, kw_only=True)
class Made:
    """What was written.

    Args:
        folders: edition -> its folder.
        names: of the notebooks.
    """

    folders: dict[str, Path]
    names: tuple[str, ...]


def sources() -> list[Path]:
    """The notebooks of the course, exercises first.

    Raises:
        ConfigError: a folder that is missing or holds no notebook, or two notebooks of one name.
    """
    found: list[Path] = []
    for name in FOLDERS:
        folder = paths.root() / "course" / name
        if not folder.is_dir():
            raise ConfigError(_absent(folder))
        here = sorted(folder.glob("*.ipynb"))
        if not here:
            raise ConfigError(f"{folder}: no notebook in this folder; restore it from git")
        found += here
    names = [path.name for path in found]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"two notebooks are called {', '.join(doubled)}; rename one")
    return found


def points(each: NotebookNode) -> int:
    """What a cell is worth."""
    return each.metadata.get(POINTS, 0)


def is_tagged(each: NotebookNode, tag: str) -> bool:
    """Whether a cell has a tag."""
    return tag in each.metadata.get("tags", ())


def is_answer(each: NotebookNode) -> bool:
    """Whether a cell is an answer in words."""
    return is_tagged(each, SOLUTION) and each.cell_type == "markdown"


def needs(each: NotebookNode) -> list[str]:
    """The solutions that a test cannot do without."""
    return each.metadata.get(NEEDS, [])


def source_name(found: NotebookNode) -> str | None:
    """The name of the source that a notebook says it was made from."""
    said = found.metadata.get(COURSE)
    return said.get(SOURCE) if isinstance(said, dict) else None


def make(out: Path | None = None) -> Made:
    """Write both editions. Everything is read and looked at before anything is written.

    Args:
        out: the folder; `_build/course` of the checkout by default.

    Raises:
        ConfigError: a source that is not as it should be (see `instructor` and `student`), a place
            that cannot be written, or a notebook there that was changed since it was made.
        DataError: a source that is damaged.
    """
    out = paths.root() / "_build" / "course" if out is None else out
    state = pin()
    files: dict[str, dict[str, str]] = {edition: {} for edition in EDITIONS}
    for path in sources():
        whole = instructor(read(path), where=_shown(path))
        for edition, found in ((INSTRUCTOR, whole), (STUDENT, student(whole, where=_shown(path)))):
            given = pinned(found, state)
            given.metadata[COURSE] = {SOURCE: path.stem}
            nbformat.validate(given)
            files[edition][path.name] = nbformat.writes(given) + "\n"
    for edition in EDITIONS:
        files[edition][REQUIREMENTS] = requirements(state)
    folders = {edition: out / edition for edition in EDITIONS}
    with nothing_left(*folders.values()):
        for edition, folder in folders.items():
            refuse_place(folder, option="--out", folder=True)
            _refuse_changed(folder, files[edition])
        for edition, folder in folders.items():
            _write(folder, files[edition])
    return Made(folders=folders, names=tuple(n for n in files[STUDENT] if n != REQUIREMENTS))


def instructor(source: NotebookNode, *, where: str) -> NotebookNode:
    """The instructor's edition: the source with nbgrader's metadata.

    Args:
        source: the notebook.
        where: what messages begin with.

    Raises:
        ConfigError: a cell that has outputs, an unknown mixture of tags, markers or points where
            none belong, a test that needs what is no solution above it; a notebook without a title,
            a solution or a test.
    """
    found = nbformat.from_dict(source)
    if not found.cells or not TITLE.match(found.cells[0].source):
        raise ConfigError(f"{where}: the first cell is no title, such as '# The loss'")
    above: set[str] = set()
    for each in found.cells:
        _check_cell(each, f"{where}, cell {each.id}")
        _check_needs(each, above, f"{where}, cell {each.id}")
        _grade(each)
        if is_tagged(each, SOLUTION) and each.cell_type == "code":
            above.add(each.id)
    for tag, words in ((SOLUTION, "nothing is left to a student"), (TEST, "nothing is tested")):
        if not any(is_tagged(each, tag) and each.cell_type == "code" for each in found.cells):
            raise ConfigError(f"{where}: no code cell is tagged {tag}: {words}")
    return found


def student(whole: NotebookNode, *, where: str) -> NotebookNode:
    """The student's edition of an instructor's: without solutions, answers and what is for the
    lecturer.

    Raises:
        ConfigError: a solution that would still be in it, as where it stands elsewhere, too.
    """
    found = nbformat.from_dict(whole)
    found.cells = [each for each in found.cells if not is_tagged(each, LECTURER)]
    hidden: list[tuple[str, str]] = []
    for each in found.cells:
        if not is_tagged(each, SOLUTION):
            continue
        place = f"{where}, cell {each.id}"
        if each.cell_type == "markdown":
            hidden.append((place, each.source))
            each.source = ANSWER
            continue
        hidden += [(place, one.code) for one in markers.solutions(each.source, place)]
        each.source = markers.without(each.source, place)
    _refuse_leaks(found, hidden)
    return found


# ---- looking


def _check_cell(each: NotebookNode, where: str) -> None:
    tags = {SOLUTION, TEST, LECTURER} & set(each.metadata.get("tags", ()))
    if len(tags) > 1:
        raise ConfigError(f"{where}: tagged {' and '.join(sorted(tags))}; keep one of them")
    if each.get("outputs") or each.get("execution_count"):
        raise ConfigError(f"{where}: has outputs; strip them (nbstripout)")
    is_code = each.cell_type == "code"
    marked = markers.solutions(each.source, where) if is_code else []
    if not is_code and markers.LIKE.search(each.source):
        raise ConfigError(f"{where}: markers in a cell that is no code; tag it {SOLUTION} instead")
    if marked and SOLUTION not in tags:
        raise ConfigError(f"{where}: holds a solution; tag it {SOLUTION}")
    if is_code and SOLUTION in tags and not marked:
        raise ConfigError(
            f"{where}: tagged {SOLUTION}, but nothing in it is marked, so nothing would be "
            f"replaced; write {markers.BEGIN}: HINT and {markers.END} around it"
        )
    if TEST in tags and not is_code:
        raise ConfigError(f"{where}: tagged {TEST}, but is no code")
    _check_points(each, where, graded=TEST in tags or (SOLUTION in tags and not is_code))


def _check_points(each: NotebookNode, where: str, *, graded: bool) -> None:
    worth = points(each)
    if graded and (isinstance(worth, bool) or not isinstance(worth, int) or worth < 1):
        raise ConfigError(
            f"{where}: is graded, and worth {worth!r}; set its metadata {POINTS} to a whole number "
            "from 1"
        )
    if not graded and POINTS in each.metadata:
        raise ConfigError(f"{where}: has {POINTS}, but is neither a test nor an answer")


def _check_needs(each: NotebookNode, above: set[str], where: str) -> None:
    if needs(each) and not is_tagged(each, TEST):
        raise ConfigError(f"{where}: has {NEEDS}, but is no test")
    if unknown := [name for name in needs(each) if name not in above]:
        raise ConfigError(
            f"{where}: needs {', '.join(unknown)}, which is no solution in code above it"
        )


def _refuse_leaks(found: NotebookNode, hidden: Sequence[tuple[str, str]]) -> None:
    """A `ConfigError` where a solution still stands in the student's edition, whatever its spaces
    and comments."""
    texts = {each.id: _bare(each.source) for each in found.cells}
    for where, solution in hidden:
        for cell_id, text in texts.items():
            if (bare := _bare(solution)) and bare in text:
                raise ConfigError(
                    f"{where}: its solution stands in cell {cell_id}, too, where students see it"
                )
    for each in found.cells:
        if markers.LIKE.search(each.source):
            raise ConfigError(f"cell {each.id}: a marker would be left in the student's edition")


def _bare(text: str) -> str:
    lines = (line.partition("  #")[0].strip() for line in text.splitlines())
    return "".join("".join(line.split()) for line in lines if not line.startswith("#"))


# ---- nbgrader


def _grade(each: NotebookNode) -> None:
    """Say to nbgrader what a cell is."""
    is_solution = is_tagged(each, SOLUTION)
    is_test = is_tagged(each, TEST)
    if not (is_solution or is_test):
        return
    by_hand = is_answer(each)
    said = {
        "schema_version": 3,
        "grade_id": each.id,
        "solution": is_solution,
        "grade": is_test or by_hand,
        "locked": is_test,
        "task": False,
    }
    if said["grade"]:
        said[POINTS] = points(each)
    each.metadata["nbgrader"] = said


# ---- writing


def _refuse_changed(folder: Path, files: dict[str, str]) -> None:
    """A `ConfigError` where a file that would be replaced is not as it was made: somebody worked in
    it."""
    made = _made(folder)
    for name in (*files, *made):
        path = folder / name
        if path.is_file() and _digest(path.read_bytes()) != made.get(name):
            raise ConfigError(
                f"{path}: was changed since it was made, or made by something else; move it away, "
                "or name another folder (--out)"
            )


def _write(folder: Path, files: dict[str, str]) -> None:
    gone = [folder / name for name in _made(folder) if name not in files]
    digests = {name: _digest(text.encode()) for name, text in files.items()}
    with whole_files(folder, error=ConfigError) as partial:
        for name, text in (files | {MADE: json.dumps(digests, indent=1) + "\n"}).items():
            (partial / name).write_text(text, encoding="utf-8")
    for path in gone:
        path.unlink(missing_ok=True)


def _made(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / MADE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(digest) for name, digest in found.items()} if found else {}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _shown(path: Path) -> str:
    """A path as messages have it: from the checkout."""
    return os.path.relpath(path, paths.root())
