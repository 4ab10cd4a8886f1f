"""At equal steps and at equal compute: what is declared is checked, what is counted is counted by
hand, and what is shown says at which; learning curves of the same rows."""

import numpy as np
import pytest
import yaml
from helpers import fabricated

from dabook.analysis import budget, curves, verdicts
from dabook.analysis.statistics import recorded
from dabook.pages import claims
from dabook.runs.experiments import expand
from dabook.show import sentences, sweeps, tables
from dalib import paths
from dalib.config import RunConfig
from dalib.errors import ConfigError

STUDENT = {"pseudo_labels": True}
ROWS = {
    "labelled": {"label": "labels", "set": {}},
    "labelled_long": {"label": "labels, longer", "set": {"steps": 1167}},
    "labelled_third": {"label": "labels, a third", "set": {"steps": 83}},
    "student": {"label": "student", "set": STUDENT},
    "student_third": {"label": "student, a third", "set": STUDENT | {"steps": 83}},
}
QUESTION = {
    "question": "?",
    "against": {"student": "labelled", "labelled_long": "labelled"},
    "equal_compute": {"student": "labelled_long"},
    "curves": {
        "labels": ["labelled_third", "labelled"],
        "student": ["student_third", "student"],
    },
    "rows": ROWS,
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = fabricated.root(tmp_path / "root")
    monkeypatch.setenv("DALIB_ROOT", str(folder))
    return folder


def declare(root, **changes):
    """One experiment, `tiny`, beside the others, of 250 steps where a row says nothing else."""
    tree = yaml.safe_load((root / "experiments.yaml").read_text())
    tree["profiles"]["study"]["set"] = {"steps": 250}
    tree["experiments"]["tiny"] = QUESTION | changes
    (root / "experiments.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


def test_compute_is_counted_by_hand():
    """Labelled: 250 steps of 8 images, each a forward and two backward passes: 6000. A student: 24
    images a step, 18000, 4000 images labelled once each, and its teacher's 6000."""
    labelled = RunConfig()
    student = RunConfig(pseudo_labels=True)
    assert (labelled.steps, labelled.batch, student.unlabelled_ratio) == (250, 8, 2)
    assert budget.forward_passes(labelled) == 6000
    assert budget.compute(student, labelled) == pytest.approx(28000 / 6000)
    assert budget.compute(labelled.replace(steps=500), labelled) == 2
    twice = student.replace(rounds=2)  # two students and one teacher
    assert budget.compute(twice, labelled) == pytest.approx((22000 + 28000) / 6000)


def test_a_reading_is_told_from_what_the_runs_cost():
    labelled = RunConfig()
    student = RunConfig(pseudo_labels=True)
    perturbed = student.replace(perturb=("colour", "blur", "cutmix"))
    assert budget.reading(student, labelled) == budget.EQUAL_STEPS
    assert budget.reading(perturbed, student) == budget.EQUAL_BOTH
    assert budget.reading(student, labelled.replace(steps=1167)) == budget.EQUAL_COMPUTE
    assert budget.reading(student, labelled.replace(steps=750)) == budget.EQUAL_PASSES
    assert budget.reading(labelled.replace(steps=500), labelled) == "at 2 times the compute"


@pytest.mark.slow
def test_forward_passes_agree_with_counted_operations():
    """The FLOPs that a real backward pass takes, of a network that is built without data."""
    labelled = RunConfig()
    student = RunConfig(pseudo_labels=True)
    counted = sum(budget.operations(student)) / sum(budget.operations(labelled))
    assert budget.compute(student, labelled) == pytest.approx(counted, rel=0.005)


LEVELS = {
    "labelled": [0.30, 0.32, 0.31],
    "labelled_long": [0.25, 0.27, 0.26],
    "student": [0.27, 0.29, 0.28],
    "labelled_third": [0.40, 0.41, 0.42],
    "student_third": [0.36, 0.37, 0.40],
}


def factor(row, other) -> float:
    return float(100 * np.expm1((np.log(LEVELS[row]) - np.log(LEVELS[other])).mean()))


def test_a_table_shows_both_readings_with_both_intervals(root):
    declare(root)
    fabricated.write("tiny", LEVELS)
    results = recorded("tiny")
    assert results.change("student").mean == pytest.approx(factor("student", "labelled"))
    long = budget.at_equal_compute(results, "student")
    assert long.mean == pytest.approx(factor("student", "labelled_long"))
    assert list(long.named) == ["over seeds", "over seeds and images"]
    assert budget.at_equal_compute(results, "labelled") is None
    steps, compute = tables.change_cell(results, "student"), tables.compute_cell(results, "student")
    assert "−9.7" in steps
    assert steps.endswith("at equal steps</span>")
    assert "+7.7" in compute
    assert compute.count('class="interval"') == 2
    text = repr(tables.main_table(results))
    assert (
        "At equal compute (teacher, labelling and student counted): “student” beside “labels, longer”"
    ) in text
    assert "At equal compute, “student” beside “labels, longer” raises the error by 7.7 %" in (
        sentences.reading(results)
    )


def test_a_table_without_such_a_row_says_so(root):
    results = recorded("dropping")
    assert budget.beside(results) == (
        "At equal compute: no row of equal compute is declared for this table"
    )
    assert tables.compute_cell(results, "pixel") == "–"
    assert sentences.at_compute(results) == ""
    assert "dr_compute" not in sentences.quotes(results, "dr")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["main_table", "drawn_to_real", "real", "real_and_drawn"])
def test_labelled_images_alone_have_the_compute_of_the_recipe(name):
    """In every world the long row is held against each student, and costs what the whole recipe
    does."""
    results = recorded(name)
    students = [row for row, spec in results.rows.items() if spec.configs[0].pseudo_labels]
    assert list(results.equal_compute) == students
    for row, long in results.equal_compute.items():
        budget.check_equal(results, row, long)
    full, long = (results.rows[row].configs[0] for row in ("full", "labelled_long"))
    assert budget.compute(full, long) == pytest.approx(1, abs=budget.TOLERANCE)
    both = {
        row for row, long in results.equal_compute.items() if results.change(row, versus=long).count
    }
    told = sentences.quotes(results, "x")["x_compute"]
    assert told.startswith("At equal compute, ") if both else told == sentences.UNRECORDED


def test_what_passes_and_what_is_read_is_counted(root):
    """250 steps of 8 labelled images; of a student 16 of the pool beside them, 4000 in all."""
    declare(root)
    results = recorded("tiny")
    assert budget.passes(results) == (
        "Image passes in training, without teacher and labelling: 2000 for “labels”; 9336 for "
        "“labels, longer”; 664 for “labels, a third”; 6000 for “student”; 1992 for “student, a third”."
    )
    assert budget.pool_reads(results) == (
        "In training each image of the pool is read 1.0 times for “student”; 0.3 times for “student, a "
        "third”."
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"equal_compute": ["student"]}, "equal_compute: expected for each row that a teacher"),
        ({"equal_compute": {"studnet": "labelled"}}, "row in equal_compute .*'studnet'"),
        ({"equal_compute": {"student": "none"}}, "row in equal_compute .*'none'"),
        ({"equal_compute": {"labelled": "labelled_long"}}, "labelled learns from labelled images"),
        (
            {"equal_compute": {"student": "student_third"}},
            "student_third learns from pseudo labels",
        ),
        ({"curves": ["labelled"]}, "curves: expected a list of rows for each label"),
        ({"curves": {"labels": ["labelled"]}}, "a curve needs two rows at least"),
        ({"curves": {"labels": ["labelled", "long"]}}, "row in .*curves.*'long'"),
        ({"curves": {"labels": ["labelled", "labelled_third"]}}, "do not rise"),
        ({"curves": {"labels": ["labelled_third", "student"]}}, "differ in more than their steps"),
    ],
)
def test_what_is_declared_wrongly_is_named(root, changes, message):
    declare(root, **changes)
    with pytest.raises(ConfigError, match=message):
        expand("tiny", profile="study", seeds=1)


def test_compute_that_is_not_equal_is_refused_with_the_steps_that_would_be(root):
    """1000 steps for 28000 forward passes, which are 1167 steps of 24."""
    rows = ROWS | {"labelled_long": {"label": "labels, longer", "set": {"steps": 1000}}}
    declare(root, rows=rows)
    fabricated.write("tiny", LEVELS)
    with pytest.raises(ConfigError, match=r"takes 1.167 times its compute. .* 1167 steps"):
        budget.at_equal_compute(recorded("tiny"), "student")
    # quick divides the steps and rounds them: there it is shown as it is
    assert budget.at_equal_compute(recorded("tiny", profile="quick"), "student").count == 0


@pytest.mark.parametrize(
    ("steps", "fits"), [(1140, False), (1150, True), (1300, True), (1350, False)]
)
def test_labelled_images_may_have_somewhat_more(root, steps, fits):
    """28000 forward passes of the student: 1140 steps have 0.977 of them, 1150 have 0.986, 1300 have
    1.114, and 1350 have 1.157."""
    rows = ROWS | {"labelled_long": {"label": "labels, longer", "set": {"steps": steps}}}
    declare(root, rows=rows)
    fabricated.write("tiny", LEVELS)
    results = recorded("tiny")
    if not fits:
        with pytest.raises(ConfigError, match="1167 steps"):
            budget.at_equal_compute(results, "student")
        return
    assert budget.at_equal_compute(results, "student").count > 0
    assert budget.reading_of(results, "student", "labelled_long") == budget.EQUAL_COMPUTE
    assert ("1.11 times its compute" in budget.beside(results)) == (steps == 1300)


def test_a_claim_is_judged_at_both_readings(root):
    """A gain at equal steps, and a loss at equal compute; both count among the comparisons."""
    declare(root)
    fabricated.write("tiny", LEVELS)
    tree = yaml.safe_load((fabricated.REPO / "data" / "claims.yaml").read_text(encoding="utf8"))
    base = {key: tree["claims"]["naive"][key] for key in ("topic", "claim", "source", "where")}
    test = {"experiment": "tiny", "row": "student", "expect": "lower"}
    tree["claims"] = {"students_help": base | {"tests": [test]}}
    paths.claims().write_text(yaml.safe_dump(tree), encoding="utf8")
    known = verdicts.load()
    results = verdicts.results_of(known)
    (found,) = verdicts.verdicts(known, results)
    assert found.said == "reproduced at equal steps"
    assert found.at_compute.said == "not reproduced at equal compute"
    assert [one.test.versus for one in found.comparisons] == ["labelled", "labelled_long"]
    assert len(claims.adjusted([found])) == 2
    assert claims.intervals([found]) == 2
    text = claims.tables([found], known, results).text
    assert ">reproduced at equal steps</span>" in text
    assert ">not reproduced at equal compute</span>" in text


def test_learning_curves_by_hand(root):
    declare(root)
    fabricated.write("tiny", LEVELS)
    results = recorded("tiny")
    found = curves.of(expand("tiny", profile="study"), results)
    assert {label: [p.steps for p in points] for label, points in found.items()} == {
        "labels": [83, 250],
        "student": [83, 250],
    }
    first, last = found["student"]
    assert first.level.mean == pytest.approx(np.prod(LEVELS["student_third"]) ** (1 / 3))
    assert first.gained.count == found["labels"][1].beside.count == 0
    assert last.gained.mean == pytest.approx(factor("student", "student_third"))
    assert first.beside.mean == pytest.approx(factor("student_third", "labelled_third"))
    assert last.beside.mean == pytest.approx(factor("student", "labelled"))
    table = tables.learning_table(results, found).text
    for number in ("0.376", "0.280", "−25.6", "−9.7", "83 steps"):
        assert number in table
    levels, changes = sweeps.learning(found).axes
    lines = [line.get_xydata() for line in levels.get_lines()]
    assert lines[1] == pytest.approx(np.array([[83, first.level.mean], [250, last.level.mean]]))
    drawn = [line.get_xydata() for line in changes.get_lines() if len(line.get_xdata()) == 2]
    expected = np.array([[83, first.beside.mean], [250, last.beside.mean]])
    assert any(line == pytest.approx(expected) for line in drawn)


def test_curves_without_records_say_so(root):
    declare(root)
    results = recorded("tiny")
    found = curves.of(expand("tiny", profile="study"), results)
    assert "not recorded yet" in tables.learning_table(results, found).text
    assert sweeps.learning(found).axes[0].texts[0].get_text() == "not yet recorded"
