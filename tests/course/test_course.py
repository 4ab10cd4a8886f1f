"""The course: what a student and a lecturer get, that no solution is in the first, that every test
fails on a gap and passes on its solution, and that a mistake of an author ends before anything is
written."""

import ast
import csv
import difflib
import itertools
import json
import linecache
import math
import re
import shutil
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from helpers import ROOT
from helpers.commands import main
from helpers.course import run
from IPython.core.inputtransformer2 import TransformerManager

from dabook.course import NotWrittenError, WrongError, agree, bench, check, holds, markers, written
from dabook.course.bench import PLACE
from dabook.course.editions import (
    ANSWER,
    INSTRUCTOR,
    LECTURER,
    SOLUTION,
    STUDENT,
    TEST,
    instructor,
    is_tagged,
    make,
    needs,
    points,
    source_name,
    sources,
    student,
)
from dabook.course.grading import grade, put, source_of
from dabook.site import notebooks
from dabook.site.kernels import forked
from dabook.site.pin import PIN, REQUIREMENTS
from dalib import losses
from dalib.errors import ConfigError, DataError, UserError

SOURCES = sorted((ROOT / "course").glob("*/*.ipynb"))
EXERCISES = [path for path in SOURCES if path.parent.name == "exercises"]
LABS = [path for path in SOURCES if path.parent.name == "labs"]
PAGE = (ROOT / "book" / "course.md").read_text(encoding="utf-8")
each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)


def raw(path):
    """As it is in the file: `notebooks.read` would give cells of one name new ones."""
    return nbformat.v4.reads(path.read_text(encoding="utf-8"))


def editions(path):
    """Both, without the cell that is put in."""
    whole = instructor(notebooks.read(path), where=path.name)
    return whole, student(whole, where=path.name)


def code_of(found) -> list:
    return code_of_cells(found.cells)


def code_of_cells(cells) -> list:
    return [c for c in cells if c.cell_type == "code"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("course"))


# ---- the sources


def test_there_are_seven_exercises_and_four_labs():
    assert [len(EXERCISES), len(LABS)] == [7, 4]
    assert sources() == [*EXERCISES, *LABS]


@each_source
class TestSource:
    def test_is_a_notebook_as_git_keeps_it(self, path):
        found = raw(path)
        nbformat.validate(found)
        assert found.metadata.kernelspec.name == "python3"
        for each in code_of(found):
            assert each.outputs == []
            assert each.execution_count is None

    def test_ids_are_words_and_unique(self, path):
        ids = [each.id for each in raw(path).cells]
        assert len(set(ids)) == len(ids)
        assert all(re.fullmatch(r"[a-z][a-z0-9-]*", i) for i in ids)
        assert PIN not in ids

    def test_begins_with_its_title_and_the_question(self, path):
        first = raw(path).cells[0]
        kind = "Exercise" if path in EXERCISES else "Lab"
        number = path.stem.split("_")[1]
        assert first.source.startswith(f"# {kind} {number}: ")
        assert "**Question.**" in first.source
        if path in EXERCISES:
            assert "At the end you " in first.source or "At the end a " in first.source
            assert re.search(r"^Time: about \d+ minutes.* Chapters?: \*", first.source, re.M)

    def test_headings_are_in_order(self, path):
        text = "\n".join(c.source for c in raw(path).cells if c.cell_type == "markdown")
        levels = [len(m) for m in re.findall(r"^(#+) ", text, re.M)]
        assert levels.count(1) == 1
        assert all(b - a <= 1 for a, b in itertools.pairwise(levels))

    def test_cells_are_short(self, path):
        for each in code_of(raw(path)):
            lines = each.source.splitlines()
            assert max(map(len, lines)) <= 110, each.id
            bare = len(markers.without(each.source, each.id).splitlines())
            assert bare <= 15, each.id
            ast.parse(each.source)

    def test_nothing_leads_out_of_an_edition(self, path):
        """A link to a file of the checkout would be broken where a student has it."""
        text = "\n".join(c.source for c in raw(path).cells if c.cell_type == "markdown")
        assert all(t.startswith("https://") for t in re.findall(r"\]\(([^)]+)\)", text))


def minutes(path) -> int:
    """The time that the page's rule gives."""
    found = 0.0
    for each in raw(path).cells:
        if each.cell_type == "markdown" and not is_tagged(each, LECTURER):
            found += 8 if is_tagged(each, SOLUTION) else len(each.source.split()) / 150
        if each.cell_type == "code" and not is_tagged(each, SOLUTION):
            found += 1
        if each.cell_type == "code":
            for one in markers.solutions(each.source, each.id):
                lines = len(one.code.splitlines())
                found += 5 if not one.indent else 6 if lines <= 3 else 12
    return 5 * math.ceil(found / 5)


def test_times_are_those_of_the_rule_and_of_the_page():
    rows = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| (\d+) \|", PAGE, re.M))
    assert rows.keys() == {path.stem for path in SOURCES}
    for path in EXERCISES:
        said = int(re.search(r"Time: about (\d+) minutes", raw(path).cells[0].source)[1])
        assert said == minutes(path) == int(rows[path.stem]), path.stem
    assert all(rows[path.stem] == "90" and minutes(path) <= 90 for path in LABS)


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
class TestLab:
    def test_its_time_table_is_90_minutes_without_a_gap(self, path):
        text = next(c.source for c in raw(path).cells if c.id == "time-table")
        spans = [(int(a), int(b)) for a, b in re.findall(r"^\| (\d+) to (\d+) \|", text, re.M)]
        assert (spans[0][0], spans[-1][1]) == (0, 90)
        assert all(one[1] == after[0] for one, after in itertools.pairwise(spans))

    def test_its_rubric_adds_up(self, path):
        cells = raw(path).cells
        text = next(c.source for c in cells if c.id == "handin")
        total = int(re.search(r"\*\*Total: (\d+) points", text)[1])
        assert total == sum(map(points, cells))
        one_by_one = [int(n) for n in re.findall(r"(?:^\| | )(\d+)(?=[,.] | \| )", text, re.M)]
        assert sum(one_by_one) == total

    def test_it_has_goals_and_hints_for_the_lecturer(self, path):
        cells = raw(path).cells
        assert {"goals", "time-table", "handin"} <= {c.id for c in cells}
        assert sum(is_tagged(c, LECTURER) for c in cells) >= 2


# ---- both editions


def test_both_editions_are_whole_notebooks(made):
    assert made.names == tuple(path.name for path in [*EXERCISES, *LABS])
    for folder in made.folders.values():
        assert {p.name for p in folder.glob("[!.]*")} == {*made.names, REQUIREMENTS}
        for name in made.names:
            found = raw(folder / name)
            nbformat.validate(found)
            assert found.cells[1].id == PIN
            for each in code_of(found):
                ast.parse(TransformerManager().transform_cell(each.source))


@each_source
def test_cells_keep_their_names_and_order(path, made):
    ids = [c.id for c in raw(path).cells]
    whole = [c.id for c in raw(made.folders[INSTRUCTOR] / path.name).cells if c.id != PIN]
    given = [c.id for c in raw(made.folders[STUDENT] / path.name).cells if c.id != PIN]
    assert whole == ids
    assert given == [c.id for c in raw(path).cells if not is_tagged(c, LECTURER)]


@each_source
def test_an_edition_says_what_it_was_made_from(path, made):
    for folder in made.folders.values():
        assert source_name(raw(folder / path.name)) == path.stem


@each_source
def test_an_instructor_gets_the_source(path, made):
    cells = {c.id: c for c in raw(made.folders[INSTRUCTOR] / path.name).cells}
    for each in raw(path).cells:
        assert cells[each.id].source == each.source


@each_source
def test_no_solution_is_in_the_students_edition(path, made):
    """Line by line, which `student` itself does not look at: what stands only in solutions is not
    there."""
    given = raw(made.folders[STUDENT] / path.name)
    text = json.dumps(given, ensure_ascii=False)
    assert "SOLUTION" not in text
    assert not [c.id for c in given.cells if is_tagged(c, LECTURER)]
    shown, hidden = [], []
    for each in raw(path).cells:
        if is_tagged(each, LECTURER) or (is_tagged(each, SOLUTION) and each.cell_type != "code"):
            hidden += each.source.splitlines()
            continue
        shown.append(markers.without(each.source, each.id) if each.cell_type == "code" else "")
        if each.cell_type == "code":
            for one in markers.solutions(each.source, each.id):
                hidden += one.code.splitlines()
    lines = {line.strip() for line in hidden if len(line.strip()) > 12}
    known = "\n".join(shown)
    sources_of_students = "\n".join(c.source for c in given.cells)
    assert lines
    assert not [line for line in lines if line not in known and line in sources_of_students]


@each_source
def test_every_gap_says_what_is_missing(path):
    whole, given = editions(path)
    for each in whole.cells:
        if not is_tagged(each, SOLUTION):
            continue
        own = next(c for c in given.cells if c.id == each.id)
        if each.cell_type == "markdown":
            assert own.source == ANSWER
            continue
        for one in markers.solutions(each.source, each.id):
            said = re.sub(r'"\s+"|\n# ', "", own.source).replace('\\"', '"').replace(" ", "")
            assert one.hint.replace(" ", "") in said


def words(text) -> list[str]:
    """Names, numbers and signs, in their order."""
    return re.findall(r"\w+|[^\w\s]", text)


@each_source
def test_a_hint_does_not_state_the_line(path):
    """It may name what to look up: four signs in a row, such as `np.sort(`, and no more."""
    for each in code_of(raw(path)):
        for one in markers.solutions(each.source, each.id):
            said, code = words(one.hint), words(one.code)
            match = difflib.SequenceMatcher(None, said, code, autojunk=False)
            longest = match.find_longest_match().size
            assert longest <= 4, (each.id, one.hint)


@each_source
def test_what_nbgrader_reads(path, made):
    """A solution is no test; what is graded has points; names are unique."""
    for folder in made.folders.values():
        said = [
            c.metadata.nbgrader for c in raw(folder / path.name).cells if "nbgrader" in c.metadata
        ]
        assert len({s.grade_id for s in said}) == len(said)
        for each in said:
            assert each.schema_version == 3
            assert each.locked is (each.grade and not each.solution)
            assert ("points" in each) is each.grade
        assert sum(s.points for s in said if s.grade) == sum(map(points, raw(path).cells))


# ---- markers


def test_a_solution_in_a_function_becomes_an_error_with_its_hint():
    source = (
        "def f(x):\n    ### BEGIN SOLUTION: add one\n    y = x + 1\n    return y\n"
        "    ### END SOLUTION\n\n\nf(1)"
    )
    assert markers.without(source, "here") == (
        'def f(x):\n    raise NotImplementedError("add one")\n\n\nf(1)'
    )


def test_names_that_a_solution_assigns_become_dots():
    source = "### BEGIN SOLUTION: by hand\na, b = 1, 2\nc = 3\na = 4\n### END SOLUTION\nprint(a)"
    assert markers.without(source, "here") == "# by hand\na = ...\nb = ...\nc = ...\nprint(a)"


def test_other_code_becomes_a_line_of_dots():
    source = "### BEGIN SOLUTION: draw it\nx = 1\nprint(x)\n### END SOLUTION"
    assert markers.without(source, "here") == "# draw it\n..."


def test_a_long_hint_is_said_over_several_lines():
    hint = " ".join(["a hint that is long"] * 8)
    source = f"def f():\n    ### BEGIN SOLUTION: {hint}\n    return 1\n    ### END SOLUTION"
    found = markers.without(source, "here")
    assert max(map(len, found.splitlines())) <= markers.WIDTH
    space = {}
    exec(found, space)
    with pytest.raises(NotImplementedError, match=f"^{hint}$"):
        space["f"]()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("### BEGIN SOLUTION: x\na = 1", "line 1: the solution that begins here has no end"),
        ("a = 1\n### END SOLUTION", "line 2: a solution ends that never began"),
        (
            "### BEGIN SOLUTION: x\na = 1\n### BEGIN SOLUTION: y\n### END SOLUTION",
            "line 3: a solution begins within the one of line 1",
        ),
        ("### BEGIN SOLUTION\na = 1\n### END SOLUTION", "line 1: a solution without a hint"),
        ("### BEGIN SOLUTION: x\n# a\n### END SOLUTION", "line 1: a solution without code"),
        ("### BEGIN SOLUTION: x\na = \n### END SOLUTION", "line 2: the solution is no Python"),
        ("## BEGIN SOLUTION: x\na = 1\n### END SOLUTION", "line 1: .* is almost a marker"),
        ("### BEGIN SOLUTION: x\na = 1\n### End Solution", "line 3: .* is almost a marker"),
        ("###  BEGIN SOLUTION: x\na = 1", "line 1: .* is almost a marker"),
        (
            "if 1:\n    ### BEGIN SOLUTION: x\n    a = 1\n### END SOLUTION",
            "line 4: the solution ends at another indent",
        ),
        (
            "if 1:\n    ### BEGIN SOLUTION: x\na = 1\n    ### END SOLUTION",
            "line 3: stands left of the marker",
        ),
        ("### BEGIN SOLUTION: x\na = 1\n### END SOLUTION here", "line 3: nothing may follow"),
    ],
)
def test_a_mistake_in_the_markers_is_named_with_its_line(source, words):
    with pytest.raises(ConfigError, match=f"^here, {words}"):
        markers.solutions(source, "here")


# ---- what an author can do wrong


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Two small notebooks of a course."""
    root = tmp_path / "root"
    for folder, name in (("exercises", "one"), ("labs", "two")):
        (root / "course" / folder).mkdir(parents=True)
        cells = [
            nbformat.v4.new_markdown_cell("# One", id="title"),
            nbformat.v4.new_code_cell(
                "### BEGIN SOLUTION: half of four\nx = 4 / 2\n### END SOLUTION",
                id="gap",
                metadata={"tags": [SOLUTION]},
            ),
            nbformat.v4.new_code_cell(
                "assert x", id="test", metadata={"tags": [TEST], "points": 2}
            ),
            nbformat.v4.new_markdown_cell(
                "Because.", id="why", metadata={"tags": [SOLUTION], "points": 1}
            ),
            nbformat.v4.new_markdown_cell("A hint", id="hint", metadata={"tags": [LECTURER]}),
        ]
        nbformat.write(
            nbformat.v4.new_notebook(cells=cells), root / "course" / folder / f"{name}.ipynb"
        )
    (root / "_config.yml").write_text('repository: {url: ""}\n')
    monkeypatch.setenv("DALIB_ROOT", str(root))
    return root


def change(root, edit, name="labs/two"):
    path = root / "course" / f"{name}.ipynb"
    found = nbformat.read(path, as_version=4)
    edit({c.id: c for c in found.cells}, found)
    nbformat.write(found, path)


def put_values(cell_id, **values):
    """An edit of one cell."""

    def edit(cells, _):
        for key, value in values.items():
            cells[cell_id][key] = value

    return edit


def drop(cell_id):
    def edit(cells, found):
        found.cells.remove(cells[cell_id])

    return edit


def tag(cell_id, *tags, **more):
    return put_values(cell_id, metadata={"tags": list(tags), **more})


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            put_values("gap", source="x = 2"),
            "cell gap: tagged solution, but nothing in it is marked",
        ),
        (tag("gap"), "cell gap: holds a solution; tag it solution"),
        (
            put_values("gap", source="### BEGIN SOLUTION: x\nx = 2"),
            "cell gap, line 1: .* has no end",
        ),
        (
            put_values("hint", source="### BEGIN SOLUTION: x", metadata={}),
            "cell hint: markers in a cell that is no code",
        ),
        (
            put_values("hint", source="It is x = 4/2.", metadata={}),
            "cell gap: .* stands in cell hint, too",
        ),
        (
            put_values("hint", source="Be cause.", metadata={}),
            "cell why: .* stands in cell hint, too",
        ),
        (tag("test", TEST), "cell test: is graded, and worth 0"),
        (tag("test", TEST, points=True), "cell test: is graded, and worth True"),
        (tag("why", SOLUTION), "cell why: is graded, and worth 0"),
        (tag("gap", SOLUTION, points=3), "cell gap: has points, but is neither"),
        (tag("hint", TEST, points=1), "cell hint: tagged test, but is no code"),
        (tag("gap", SOLUTION, TEST, points=1), "cell gap: tagged solution and test"),
        (put_values("test", execution_count=3), "cell test: has outputs"),
        (tag("test", TEST, points=2, needs=["why"]), "cell test: needs why, which is no solution"),
        (tag("gap", SOLUTION, needs=["gap"]), "cell gap: has needs, but is no test"),
        (drop("test"), "no code cell is tagged test"),
        (drop("gap"), "no code cell is tagged solution"),
        (drop("title"), "the first cell is no title"),
    ],
)
def test_a_mistake_of_an_author_is_said_before_anything_is_written(checkout, edit, words, tmp_path):
    make(tmp_path / "fine")
    change(checkout, edit)
    with pytest.raises(ConfigError, match=words):
        make(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_missing_or_damaged_is_said_before_anything_is_written(checkout, tmp_path):
    path = checkout / "course" / "exercises" / "one.ipynb"
    text = path.read_text()
    for damage, kind, words in (
        (lambda: path.write_text(text[:40]), DataError, "one.ipynb: damaged"),
        (lambda: path.rename(path.with_name("two.ipynb")), ConfigError, "two.*called two.ipynb"),
        (lambda: path.with_name("two.ipynb").unlink(), ConfigError, "exercises: no notebook"),
        (lambda: shutil.rmtree(path.parent), ConfigError, "exercises: no such folder"),
    ):
        damage()
        with pytest.raises(kind, match=words):
            make(tmp_path / "out")
        if path.exists():
            path.write_text(text)
    assert not (tmp_path / "out").exists()


def test_the_command_writes_both_and_names_what_is_wrong(checkout, tmp_path, capsys):
    assert main(["course", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == (
        f"student: 2 notebooks in {tmp_path}/out/student\n"
        f"instructor: 2 notebooks in {tmp_path}/out/instructor\n"
    )
    assert main(["course"]) == 0
    assert (checkout / "_build" / "course" / STUDENT / "one.ipynb").is_file()
    (tmp_path / "file").touch()
    assert main(["course", "--out", str(tmp_path / "file")]) == 1
    assert "error: --out: " in capsys.readouterr().err


def test_what_somebody_worked_in_is_not_written_over(checkout, tmp_path):
    out = tmp_path / "out"
    first = make(out)
    worked = first.folders[STUDENT] / "one.ipynb"
    untouched = first.folders[INSTRUCTOR] / "two.ipynb"
    make(out)  # what was made is made again
    worked.write_text(worked.read_text().replace("half of four", "my answer"))
    change(checkout, put_values("title", source="# Another title"), "labs/two")
    with pytest.raises(ConfigError, match=r"student/one.ipynb: was changed since it was made"):
        make(out)
    assert "my answer" in worked.read_text()
    assert "Another title" not in untouched.read_text()


def test_what_is_no_longer_a_source_goes(checkout, tmp_path):
    out = tmp_path / "out"
    make(out)
    path = checkout / "course" / "labs" / "two.ipynb"
    path.rename(path.with_name("three.ipynb"))
    made = make(out)
    for folder in made.folders.values():
        names = {p.name for p in folder.glob("*.ipynb")}
        assert names == {"one.ipynb", "three.ipynb"}


# ---- the tests that stand in a notebook


def unwritten(pred, target, valid):
    raise NotImplementedError("take the median")


def a_mean(pred, target, valid):
    def normalised(d):
        d = torch.where(valid, d, 0)
        count = valid.sum((1, 2), keepdim=True).clamp(min=1)
        centred = torch.where(valid, d - d.sum((1, 2), keepdim=True) / count, 0)
        return centred / (centred.abs().sum((1, 2), keepdim=True) / count).clamp(min=1e-5)

    error = (normalised(pred) - normalised(target)).abs()
    return error.sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)


def test_a_function_that_conforms_is_said_to(capsys):
    check(losses.affine_invariant, "affine_invariant", only=("plain", "holes"))
    assert "affine_invariant as affine_invariant: conforms, 2 vectors" in capsys.readouterr().out


def test_a_gap_is_no_fault():
    with pytest.raises(
        NotWrittenError, match=r"^unwritten: not written yet\. Hint: take the median$"
    ):
        check(unwritten, "affine_invariant")


def test_a_fault_is_named_or_only_where_it_shows():
    with pytest.raises(WrongError, match="mean_for_median: the shift is a mean") as named:
        check(a_mean, "affine_invariant")
    assert "to mend" in str(named.value)
    with pytest.raises(WrongError, match=r"13 of 16 vectors fail\n  plain: two maps") as bare:
        check(a_mean, "affine_invariant", named=False)
    assert "median_" not in str(bare.value).replace("median of", "")
    assert "mend" not in str(bare.value)


def test_a_notebook_shows_the_words_alone():
    error = WrongError("one\ntwo")
    assert error._render_traceback_() == ["one", "two"]


def test_what_cannot_be_called_is_wrong():
    with pytest.raises(WrongError, match="no argument 'target'"):
        check(lambda pred: pred, "affine_invariant")
    with pytest.raises(WrongError, match="raises ZeroDivisionError"):
        check(lambda pred, target, valid: 1 / 0, "affine_invariant")


def test_an_unknown_vector_or_kind_is_a_mistake_of_the_author():
    with pytest.raises(ConfigError, match=r"unknown vector of affine_invariant 'plane'.*'plain'"):
        check(a_mean, "affine_invariant", only=("plane",))
    with pytest.raises(ConfigError, match="has no vectors"):
        check(a_mean, "cutmix_box", only=("boxes",))
    with pytest.raises(ConfigError, match="unknown kind"):
        check(a_mean, "affine")


def test_a_law_has_no_vectors(capsys):
    check(lambda height, width: _garg(height, width), "garg_crop")
    assert capsys.readouterr().out.strip().endswith("as garg_crop: conforms")
    with pytest.raises(WrongError, match="crop_unused"):
        check(lambda height, width: np.ones((height, width), bool), "garg_crop")
    with pytest.raises(WrongError, match=r"does not conform\n  375 x 1242: "):
        check(lambda height, width: np.ones((height, width), bool), "garg_crop", named=False)


def _garg(height, width):
    mask = np.zeros((height, width), bool)
    mask[
        int(0.40810811 * height) : int(0.99189189 * height),
        int(0.03594771 * width) : int(0.96405229 * width),
    ] = True
    return mask


def test_a_dictionary_of_metrics_is_checked_metric_by_metric():
    def scores(pred, target, valid):
        error = torch.where(valid, (pred - target).abs() / target, 0)
        return {"abs_rel": error.mean((1, 2))}

    with pytest.raises(WrongError, match="  holes: invalid pixels hold another depth"):
        check(scores, "metric", named=False)


def test_code_that_ends_with_an_error_is_told_in_words_with_its_line():
    source = "def nearest(n):\n    return divmod(n, 'two')\n"
    scope = {}
    exec(compile(source, "ipykernel_1/2.py", "exec"), scope)
    linecache.cache["ipykernel_1/2.py"] = (len(source), None, source.splitlines(True), "")
    words = r"it: ends with TypeError in line 2 of its cell, return divmod\(n, 'two'\): unsupported"
    with pytest.raises(WrongError, match=words):
        agree("it", lambda: scope["nearest"](3), 1)
    with pytest.raises(WrongError, match="it: ends with ZeroDivisionError: "):
        agree("it", lambda: 1 / 0, 1)
    with pytest.raises(NotWrittenError):
        agree("it", lambda: agree("inside", ..., 1), 1)


def test_numbers_agree_or_are_said_to_differ(capsys):
    agree("half", 0.5, torch.tensor([0.5]))
    agree("a map", [[1, 2.0]], torch.tensor([[1, 2.00001]]))
    agree("a large one", 1e6 + 10, 1e6)  # relative to the larger of 1 and it
    agree("nothing", np.nan, np.nan)
    agree("called", lambda: 3, 3)
    assert capsys.readouterr().out.count(": right") == 5
    for given, known, words in (
        (0.6, 0.5, "half: 0.6, which is not what the library finds"),
        ([1, 2, 4], [1, 2, 3], "half: element 2 is 4, which"),
        ([1, 2], [1, 2, 3], r"half: has shape \(2,\), and \(3,\) is meant"),
        (np.nan, 0.5, "half: nan"),
        ("a", 0.5, "half: str is no number"),
        ({}, 0.5, "half: dict is no number"),
    ):
        with pytest.raises(WrongError, match=words):
            agree("half", given, known)


def gap():
    raise NotImplementedError("divide by two")


@pytest.mark.parametrize("given", [..., None, "", "  ", gap])
def test_what_is_missing_is_not_wrong(given):
    with pytest.raises(NotWrittenError, match=r"^it: not written yet"):
        agree("it", given, 1)
    if given is not gap:
        with pytest.raises(NotWrittenError):
            written("it", given)


def test_a_law_holds_or_is_said_not_to(capsys):
    holds("it", [1, 2], lambda x: x.sum() == 3, "does not add up")
    assert capsys.readouterr().out == "it: right\n"
    with pytest.raises(WrongError, match=r"^it: does not add up$"):
        holds("it", [1, 1], lambda x: x.sum() == 3, "does not add up")
    with pytest.raises(NotWrittenError):
        holds("it", ..., lambda x: True, "")


# ---- rows and expectations

ROWS = """
  mine:
    question: Does blur do anything?
    rows:
      one: {label: colour, set: {pseudo_labels: true, perturb: [colour]}}
      two: {label: and blur, set: {pseudo_labels: true, perturb: [colour, blur]}}
"""


@pytest.fixture
def folder(monkeypatch, runs):
    monkeypatch.setenv("DALIB_ROOT", str(ROOT))  # put back afterwards
    monkeypatch.setenv("DALIB_RUNS", str(runs))
    monkeypatch.setattr(bench, "_BOOK", [])
    return bench.bench("here")


def test_rows_go_into_a_copy(folder, capsys):
    before = (ROOT / "experiments.yaml").read_text()
    bench.add(folder, ROWS)
    found = bench.one_change("mine")
    assert [row.name for row in found.rows] == ["one", "two"]
    assert "two differs from one in perturb" in capsys.readouterr().out
    bench.add(folder, ROWS.replace("mine:", "other:"))  # in its place
    with pytest.raises(WrongError, match="unknown experiment 'mine'"):
        bench.one_change("mine")
    assert bench.bench("here") == folder
    assert (ROOT / "experiments.yaml").read_text() == before


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (..., NotWrittenError, "the rows: not written yet"),
        (["a"], WrongError, "list; write them as text"),
        ("  mine: {question: why}", WrongError, "rows missing"),
        (ROWS.replace("perturb: [colour]", "pertub: [colour]"), None, "pertub"),
        (ROWS.replace("[colour, blur]", "[colour]"), None, "two has the settings of one"),
        (
            ROWS.replace("[colour, blur]", "[blur], steps: 1000"),
            None,
            "differs .* in perturb, steps",
        ),
        ("\n".join(ROWS.splitlines()[:5]), None, "has 1 row; a comparison needs two"),
    ],
)
def test_rows_that_say_nothing_are_named(folder, text, error, words):
    def put_values():
        bench.add(folder, text)
        bench.one_change("mine")

    with pytest.raises(error or WrongError, match=words):
        put_values()


def test_an_expectation_can_be_changed_until_the_runs_are_there(folder, monkeypatch, capsys):
    bench.add(folder, ROWS)
    found = bench.one_change("mine")
    said = {"lower": "two", "because": "blur takes away the texture of things"}
    choices = {"lower": ("one", "two")}
    for change, error, words in (
        ({"lower": ...}, NotWrittenError, "lower: not written yet"),
        ({"lower": "three"}, WrongError, "lower: 'three' is none of one, two"),
        ({"because": None}, NotWrittenError, "because: not written yet"),
        ({"because": "I think so"}, WrongError, "because: say why, in 5 words"),
    ):
        with pytest.raises(error, match=words):
            bench.expect(found, said | change, choices=choices)
    bench.expect(found, said, choices=choices)
    bench.expect(found, said | {"lower": "one"}, choices=choices)
    assert "note" not in capsys.readouterr().out

    monkeypatch.setattr(bench, "entries", lambda experiment: [SimpleNamespace(record={"a": 1})])
    bench.expect(found, said | {"lower": "one"}, choices=choices)
    assert "before the runs" in capsys.readouterr().out
    with pytest.raises(WrongError, match=r'what you expected on .* was \{"lower": "one"'):
        bench.expect(found, said, choices=choices)


def test_an_expectation_after_the_runs_is_said_to_be_one(folder, monkeypatch, capsys):
    bench.add(folder, ROWS)
    found = bench.one_change("mine")

    monkeypatch.setattr(bench, "entries", lambda experiment: [SimpleNamespace(record={"a": 1})])
    said = {"lower": "two", "because": "blur takes away the texture of things"}
    for words in ("note: some of these runs were there already", "after the runs"):
        bench.expect(found, said, choices={"lower": ("one", "two")})
        assert words in capsys.readouterr().out


# ---- the notebooks run


def given(path) -> dict:
    return {"profile": "smoke"} if path in LABS else {}


@pytest.mark.slow
@each_source
def test_every_test_of_the_students_edition_fails_on_its_gap(path, monkeypatch):
    """By the words of a gap, and not by an accident behind it."""
    monkeypatch.setenv("DALIB_REALDEPTH", "none")
    _, notebook = editions(path)
    found = run(notebook, given(path))
    tests = [c.id for c in notebook.cells if is_tagged(c, TEST)]
    assert tests
    assert {i: type(found[i]) for i in tests} == dict.fromkeys(tests, NotWrittenError)
    assert isinstance(found["setup"], type(None))


@pytest.mark.slow
@each_source
def test_the_instructors_edition_passes(path, made, tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_REALDEPTH", "none")
    monkeypatch.setenv("DALIB_ROOT", str(ROOT))
    out = tmp_path / path.name
    with forked():
        notebooks.execute(made.folders[INSTRUCTOR] / path.name, out, given(path), show=False)
    done = nbformat.read(out, as_version=4)
    assert all(c.execution_count for c in code_of(done) if c.source.strip())


def own_solutions(notebook, test_id) -> set[str]:
    """The solutions that a test is about: those nearest above it, up to another test."""
    found: set[str] = set()
    place = [c.id for c in notebook.cells].index(test_id)
    for each in reversed(code_of_cells(notebook.cells[:place])):
        if is_tagged(each, SOLUTION):
            found.add(each.id)
        elif is_tagged(each, TEST) and found:
            break
    return found


@pytest.mark.slow
@pytest.mark.parametrize("path", [EXERCISES[3], LABS[0]], ids=lambda path: path.stem)
def test_a_test_needs_the_solutions_that_it_says_and_no_other(path, monkeypatch):
    """With one gap left, what fails is the gap's own tests and those that say that they need it."""
    monkeypatch.setenv("DALIB_REALDEPTH", "none")
    whole, stubs = editions(path)
    tests = [c for c in whole.cells if is_tagged(c, TEST)]
    for gap_ in [c for c in stubs.cells if is_tagged(c, SOLUTION) and c.cell_type == "code"]:
        notebook = nbformat.from_dict(whole)
        next(c for c in notebook.cells if c.id == gap_.id).source = gap_.source
        errors = run(notebook, given(path))
        failed = {c.id for c in tests if errors[c.id] is not None}
        said = {c.id for c in tests if gap_.id in own_solutions(whole, c.id) | set(needs(c))}
        assert failed == said, gap_.id


@pytest.mark.slow
def test_the_numbers_of_lab_1_are_those_that_it_computes(monkeypatch, capsys):
    """What the lecturer is told to expect, and what the answers quote."""
    monkeypatch.setenv("DALIB_REALDEPTH", "none")
    whole, _ = editions(LABS[0])
    run(whole, given(LABS[0]))
    out = capsys.readouterr().out
    cells = {c.id: c.source for c in whole.cells}

    table = re.findall(r"^(.+?) +network (\S+) +constant (\S+) +vertical ramp (\S+)$", out, re.M)
    told = re.findall(
        r"^\| (.+?) \| (0.*?) \| (0.*?) \| (0.*?) \|$", cells["lecturer-results"], re.M
    )
    assert [line[0] for line in told] == [line[0] for line in table]
    found = [float(value) for line in table for value in line[1:]]
    assert [float(v) for line in told for v in line[1:]] == pytest.approx(found, abs=0.002)
    quoted = [float(value) for value in re.findall(r"\b0\.\d{3}\b", cells["report"])]
    assert quoted
    assert all(min(abs(value - one) for one in found) <= 0.002 for value in quoted)

    row, column = map(int, re.search(r"row and column \((\d+), (\d+)\)", out).groups())
    said = re.search(r"row (\d+), column (\d+)", cells["lecturer-results"])
    assert [int(x) for x in said.groups()] == pytest.approx([row, column], abs=3)
    network, constant, ramp = zip(*[map(float, line[1:]) for line in table], strict=True)
    left = [n / min(c, r) for n, c, r in zip(network, constant, ramp, strict=True)]
    assert network[0] == min(network)  # the trap: the lowest error and the least lead
    assert left[0] == max(left)
    assert left[0] == pytest.approx(0.75, abs=0.05)
    assert max(left[1:]) < 0.5


RIGHT = {
    "grey": [
        "def grey(image):\n    return sum(channel.float() for channel in image) / 3",
        "def grey(image):\n    return image.numpy().mean(axis=0)",
    ],
    "nearest": [
        "def nearest(disparity):\n    return np.unravel_index(disparity.numpy().argmax(), disparity.shape)",
        "def nearest(disparity):\n    return tuple((disparity == disparity.max()).nonzero()[0].tolist())",
    ],
    "fit": [
        "def fit(p, d):\n"
        "    a = ((p - p.mean()) * (d - d.mean())).sum() / ((p - p.mean()) ** 2).sum()\n"
        "    return a, d.mean() - a * p.mean()",
        "def fit(p, d):\n"
        "    return np.linalg.lstsq(np.stack([p, np.ones_like(p)], 1), d, rcond=None)[0]",
    ],
    "hand": ["by_hand = 0.1 / 3 + 0.25 / 3", "by_hand = 0.117"],
    "absrel": ["def abs_rel(predicted, true):\n    return np.mean(abs(1 - predicted / true))"],
    "table": [
        "def mean_error(predict, views):\n"
        "    total = 0\n"
        "    for view in views:\n"
        "        total += error(predict(view['image']), view)\n"
        "    return total / len(views)"
    ],
}
"""Solutions of lab 1 that are right and not the course's, by the cell that they stand in."""
WRONG = {
    "grey": [
        "def grey(image):\n    return (photo[0].float() + photo[1] + photo[2]) / 3",
        "def grey(image):\n    return (image[0] + image[1] + image[2]) / 3",
        "def grey(image):\n    return image.float().amax(0)",
    ],
    "nearest": [
        "def nearest(disparity):\n    return divmod(int(disparity.argmin()), disparity.shape[1])",
        "def nearest(disparity):\n    return divmod(int(disparity.argmax()), disparity.shape[0])",
        "def nearest(disparity):\n    return divmod(int(disparity.argmax()), disparity.shape[1])[::-1]",
    ],
    "fit": [
        "def fit(p, d):\n    return np.polyfit(d, p, 1)",
        "def fit(p, d):\n    return np.polyfit(p, d, 1)[::-1]",
        "def fit(p, d):\n    return d.std() / p.std(), d.mean() - d.std() / p.std() * p.mean()",
    ],
    "hand": ["by_hand = 0.12", "by_hand = 0.35", "by_hand = (0.2 + 1 + 0) / 3"],
    "absrel": [
        "def abs_rel(predicted, true):\n    return (abs(predicted - true) / predicted).mean()",
        "def abs_rel(predicted, true):\n    return abs(((predicted - true) / true).mean())",
        "def abs_rel(predicted, true):\n    return abs(predicted - true).mean() / true.mean()",
    ],
    "table": [
        "def mean_error(predict, views):\n"
        "    m = predict(views[0]['image'])\n"
        "    return np.mean([error(m, view) for view in views])",
        "def mean_error(predict, views):\n"
        "    ramp = predictors['vertical ramp']\n"
        "    return np.mean([error(ramp(view['image']), view) for view in views])",
        "def mean_error(predict, views):\n"
        "    return np.median([error(predict(view['image']), view) for view in views])",
        "def mean_error(predict, views):\n    return error(predict(views[0]['image']), views[0])",
    ],
}


@pytest.mark.slow
def test_lab_1_takes_what_is_right_and_refuses_what_is_wrong(monkeypatch):
    """Each solution in the place of the course's, and then the gap's own test; all in one run."""
    monkeypatch.setenv("DALIB_REALDEPTH", "none")
    whole, _ = editions(LABS[0])
    given_cells, whole.cells = whole.cells, []
    expected = {}
    for cell in given_cells:
        whole.cells.append(cell)
        if cell.cell_type != "code" or not is_tagged(cell, TEST):
            continue
        (solved,) = own_solutions(SimpleNamespace(cells=given_cells), cell.id)
        course = next(c for c in given_cells if c.id == solved)
        for right, tries in ((True, RIGHT[solved]), (False, WRONG[solved])):
            for source in tries:
                name = f"{cell.id}-{len(expected)}"
                expected[name] = (None if right else WrongError, source)
                whole.cells += [
                    nbformat.v4.new_code_cell(source, id=f"{name}-try"),
                    nbformat.v4.new_code_cell(cell.source, id=name),
                ]
        whole.cells.append(nbformat.v4.new_code_cell(course.source, id=f"{solved}-again"))
    errors = run(whole, given(LABS[0]))
    assert len(expected) == sum(map(len, [*RIGHT.values(), *WRONG.values()]))
    found = {
        name: (None if errors[name] is None else type(errors[name]), source)
        for name, (_, source) in expected.items()
    }
    assert found == expected


@pytest.mark.slow
def test_a_students_edition_stops_at_its_first_test(made, tmp_path):
    name = "exercise_5_find_the_bug.ipynb"
    with pytest.raises(UserError, match=r"NotWrittenError: mended_1: not written yet"):
        notebooks.execute(made.folders[STUDENT] / name, tmp_path / name, {}, show=False)


@pytest.mark.slow
def test_the_bugs_of_exercise_5_are_what_they_are_meant_to_be():
    """Each twin has one fault, and no other."""
    from dalib.conformance import check as conform

    cells = {c.id: c for c in raw(EXERCISES[4]).cells}
    space = {}
    for name in ("setup", "one-faulty", "two-faulty", "three-faulty", "four-faulty", "five-faulty"):
        exec(cells[name].source, space)
    for name, kind, fault in (
        ("loss_1", "affine_invariant", "zeros_in_median"),
        ("loss_2", "affine_invariant", "int_zero"),
        ("loss_3", "trimmed", "untrimmed"),
        ("loss_4", "feature_alignment", "batch_margin"),
    ):
        assert conform(space[name], kind).faults == [fault], name
    report = conform(space["abs_rel_5"], "evaluator", metric="abs_rel")
    assert report.faults == ["wrong_space"]


@pytest.mark.slow
def test_grading_counts_the_tests_of_the_course(made, tmp_path, capsys):
    name = "exercise_5_find_the_bug.ipynb"
    none = grade(made.folders[STUDENT] / name)
    assert (none.reached, none.tested, none.by_hand) == (0, 10, 3)
    assert "NotWrittenError" in str(none)
    assert [one.words for one in none.cells if one.passed is None] == ["empty"]

    worked = raw(made.folders[STUDENT] / name)
    cells = {c.id: c for c in worked.cells}
    whole = {c.id: c for c in raw(made.folders[INSTRUCTOR] / name).cells}
    for cell_id in ("one", "two", "three", "four"):
        cells[cell_id].source = whole[cell_id].source
    cells["two"].source = cells["two"].source.replace("(0 * pred).sum((1, 2))", "0")
    cells["two-check"].source = "pass"  # the course's own test counts
    cells["rank"].source = "My order is 5, 2, 1."
    nbformat.write(worked, tmp_path / name)
    assert main(["grade", str(tmp_path / name)]) == 0
    said = capsys.readouterr().out
    assert f"{name}: 6 of 10 points by tests, 3 more by hand" in said
    assert re.search(r"failed +2  two-check  WrongError: mended_2 as affine_invariant", said)
    assert re.search(r"read +3  rank  My order is 5, 2, 1\.", said)


# ---- which notebook it is


def named(folder, name, source=None, **metadata):
    """A student's edition under another name."""
    found = raw(source)
    found.metadata.pop("course", None)
    found.metadata |= metadata
    nbformat.write(found, folder / name)
    return folder / name


def without_pin(path):
    """A notebook whose kernel has nothing to load."""
    found = raw(path)
    found.cells = [each for each in found.cells if each.id != PIN]
    nbformat.write(found, path)
    return path


@pytest.fixture
def two(checkout, tmp_path):
    """The student's edition of `two`; `one` has the same cells."""
    path = make(tmp_path / "out").folders[STUDENT] / "two.ipynb"
    return without_pin(path)


@pytest.mark.parametrize(
    ("name", "said", "found"),
    [
        ("two.ipynb", "one", "two"),  # called exactly so
        ("Ada_Two.ipynb", None, "two"),
        ("two-ada (1).ipynb", None, "two"),
        ("homework.ipynb", "one", "one"),
        ("homework.ipynb", "three", None),
    ],
)
def test_a_notebook_is_known_by_its_name_or_its_metadata(two, tmp_path, name, said, found):
    path = named(tmp_path, name, two, **({"course": {"source": said}} if said else {}))
    if found:
        assert source_of(path, raw(path)).stem == found
    else:  # its cells are those of both
        with pytest.raises(
            ConfigError, match=r"homework.ipynb: can be one or two; call it one\.ip"
        ):
            source_of(path, raw(path))


def test_a_name_that_fits_two_is_refused(two, tmp_path):
    for name, said in (("one_two.ipynb", None), ("one_ada.ipynb", {"source": "two"})):
        path = named(tmp_path, name, two, **({"course": said} if said else {}))
        with pytest.raises(ConfigError, match="can be one or two"):
            source_of(path, raw(path))


def new_ids(found, *, colab=False):
    for k, each in enumerate(found.cells):
        if colab:
            each.metadata = nbformat.from_dict({"id": each.id})
        each.id = f"new-{k}"


@each_source
@pytest.mark.parametrize("colab", [False, True])
def test_a_notebook_is_known_by_its_cells(path, made, colab):
    """Under any name, with ids that an editor has changed."""
    found = raw(made.folders[STUDENT] / path.name)
    del found.metadata["course"]
    new_ids(found, colab=colab)
    assert source_of(path.with_name("homework.ipynb"), found) == path


# ---- what a notebook lacks


def test_a_test_is_put_where_it_belongs(checkout, two):
    source = raw(checkout / "course" / "labs" / "two.ipynb")
    test = next(c for c in source.cells if c.id == "test")

    def order(edit):
        found = raw(two)
        edit({c.id: c for c in found.cells}, found)
        put(found, source, ["test"])
        return [c.source if c.id == "test" else c.id for c in found.cells]

    whole = order(lambda cells, found: None)
    assert whole == ["title", "gap", test.source, "why"]
    assert order(drop("test")) == whole
    assert order(put_values("test", source="pass", cell_type="markdown")) == whole
    skipped = put_values("test", metadata={"tags": ["skip-execution"]}, source="pass")
    assert order(skipped) == whole
    assert order(lambda cells, found: new_ids(found))[2] == test.source

    def nothing(cells, found):
        found.cells = [nbformat.v4.new_code_cell("x = 2", id="mine")]

    assert order(nothing) == ["mine", test.source]


def test_what_is_missing_is_put_in_and_said(checkout, two, tmp_path):
    change(
        checkout, put_values("test", source=f"import os\nassert x == 2 and os.environ[{PLACE!r}]")
    )
    found = raw(two)
    found.cells = [c for c in found.cells if c.id not in ("test", "why")]
    found.cells[-1].source = "x = 2"
    nbformat.write(found, tmp_path / "two.ipynb")
    said = grade(tmp_path / "two.ipynb")
    assert (said.reached, said.tested, said.by_hand) == (2, 2, 1)
    assert str(said).splitlines()[1:] == [
        "  passed   2  test  (was missing, the course's own was put in)",
        "  read     1  why  (was missing) empty",
    ]
    found.cells = found.cells[:1]
    nbformat.write(found, tmp_path / "two.ipynb")
    with pytest.raises(DataError, match="has no cell of two in which something is to be written"):
        grade(tmp_path / "two.ipynb")


# ---- one mistake costs once


@pytest.fixture
def chained(checkout, tmp_path):
    """`two` with a second test, which needs the solution of the first."""

    def edit(cells, found):
        cells["test"].source = "assert x == 2"
        cells["why"].cell_type = "markdown"
        more = [
            nbformat.v4.new_code_cell(
                "### BEGIN SOLUTION: the sum of x and three\ny = x + 3\n### END SOLUTION",
                id="sum",
                metadata={"tags": [SOLUTION]},
            ),
            nbformat.v4.new_code_cell(
                "assert y == x + 3 and x < 3",
                id="sum-test",
                metadata={"tags": [TEST], "points": 5, "needs": ["gap"]},
            ),
        ]
        found.cells[3:3] = more

    change(checkout, edit)
    folder = make(tmp_path / "out").folders[STUDENT]

    def worked(**sources):
        found = raw(without_pin(folder / "two.ipynb"))
        for each in found.cells:
            each.source = sources.get(each.id, each.source)
        nbformat.write(found, tmp_path / "two.ipynb")
        return grade(tmp_path / "two.ipynb")

    return worked


@pytest.mark.slow
def test_what_follows_from_another_mistake_costs_nothing(chained):
    said = chained(gap="x = 4", sum="y = x + 3")
    assert (said.reached, said.tested) == (5, 7)
    assert [(c.cell, c.passed) for c in said.cells[:2]] == [("test", False), ("sum-test", True)]
    assert "(follows from gap: passes with the course's own) AssertionError" in str(said)
    assert chained(gap="x = 4", sum="y = 0").reached == 0


# ---- a whole class


def test_what_cannot_be_graded_is_said(two, tmp_path, capsys):
    path = tmp_path / "exercise_9.ipynb"
    assert main(["grade", str(path)]) == 1
    assert "exercise_9.ipynb: cannot be read" in capsys.readouterr().err
    nbformat.write(nbformat.v4.new_notebook(), path)
    assert main(["grade", str(path)]) == 1
    said = capsys.readouterr().err
    assert "unknown exercise or lab 'exercise_9.ipynb'" in said
    assert "error: 1 of 1 notebooks could not be graded: " in said


@pytest.mark.slow
def test_a_class_is_graded_into_a_table(two, tmp_path, capsys):
    """One that cannot be read and one that kills its kernel stop nobody."""
    place = tmp_path / "class"
    place.mkdir()
    text = two.read_text()
    (place / "two_ada.ipynb").write_text(text.replace("x = ...", "x = 2"))
    (place / "two_bob.ipynb").write_text(text[:40])
    (place / "two_cyd.ipynb").write_text(text.replace("x = ...", "import os; os._exit(1)"))
    files = sorted(map(str, place.iterdir()))
    table = tmp_path / "points.csv"
    assert main(["grade", *files, "--csv", str(table)]) == 1
    said = capsys.readouterr()
    assert f"{files[0]} (two): 2 of 2 points by tests, 1 more by hand" in said.out
    assert f"3 notebooks could not be graded: {files[1]}, {files[2]}" in said.err
    lines = list(csv.DictReader(table.open(encoding="utf-8")))
    assert [line["file"] for line in lines] == files
    ada, bob, cyd = lines
    assert {k: v for k, v in ada.items() if v} == {
        "file": files[0],
        "name": "two",
        "points by tests": "2",
        "of": "2",
        "of by hand": "1",
        "test": "2",
    }
    assert "why (by hand)" in ada
    assert "damaged or no notebook" in bob["error"]
    assert "its kernel did not go on" in cyd["error"]

    # again: what is there stays, with what somebody wrote into it; what failed is tried again
    heading, first, *more = table.read_text().splitlines(keepends=True)
    cells = dict(zip(heading.strip().split(","), first.strip("\n").split(","), strict=True))
    first = ",".join((cells | {"why (by hand)": "0.5"}).values())
    table.write_text("".join([heading, f"{first}\n", *more]))
    (place / "two_bob.ipynb").write_text(text)
    assert main(["grade", *files[:2], "--csv", str(table)]) == 0
    assert f"{files[0]}: has its line in {table}" in capsys.readouterr().out
    ada, bob, cyd = csv.DictReader(table.open(encoding="utf-8"))
    assert (ada["why (by hand)"], ada["points by hand"], ada["points"]) == ("0.5", "0.5", "2.5")
    assert (bob["points by tests"], bob["points"], bob["error"]) == ("2", "", "")
    assert cyd["error"]

    # points by hand that somebody has added up are taken as they are
    table.write_text(table.read_text().replace(",2,2,,1,", ",2,2,1,1,"))
    assert main(["grade", *files[:2], "--csv", str(table)]) == 0
    ada, bob, _ = csv.DictReader(table.open(encoding="utf-8"))
    assert (ada["points"], bob["points by hand"], bob["points"]) == ("2.5", "1", "3")


def test_a_table_that_is_something_else_is_refused(two, tmp_path, capsys):
    table = tmp_path / "points.csv"
    table.write_text("file;name\n")
    assert main(["grade", str(two), "--csv", str(table)]) == 1
    assert "points.csv: is no table of this command" in capsys.readouterr().err
    assert main(["grade", str(two), "--csv", str(tmp_path)]) == 1
    assert "a folder where a file is to be written" in capsys.readouterr().err
    assert table.read_text() == "file;name\n"


def test_notebooks_that_are_graded_do_not_see_each_others_expectations(
    folder, monkeypatch, tmp_path
):
    choices = {"lower": ("one", "two")}
    monkeypatch.setattr(bench, "entries", lambda experiment: [SimpleNamespace(record={"a": 1})])
    for student_, row in (("ada", "one"), ("bob", "two")):
        monkeypatch.setenv(PLACE, str(tmp_path / student_))
        bench.add(bench.bench("here"), ROWS)
        said = {"lower": row, "because": "blur takes away the texture of things"}
        bench.expect(bench.one_change("mine"), said, choices=choices)
