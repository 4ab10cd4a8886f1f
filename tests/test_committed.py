"""What is committed as measured was measured: whole studies' worth of images, by a commit of this
history, with nothing uncommitted."""

import json
import subprocess

import pytest
from helpers import fabricated, planned

from dabook.runs import plan, precedence
from dalib import paths, provenance

REPO = fabricated.REPO
STUDIES = (REPO / "data", REPO / "data" / "first_study")


def runs(study) -> list[dict]:
    """What is committed of a study; nothing where it has not begun."""
    kinds = ("records", "reruns", "robustness", "bugs")
    files = [p for kind in kinds for p in sorted((study / kind).rglob("*.json"))]
    return [json.loads(p.read_text()) for p in files if p.name != "floors.json"]


BY_STUDY = [runs(study) for study in STUDIES]
RUNS = [record for found in BY_STUDY for record in found]


def test_every_record_holds_all_the_images_of_its_configuration():
    short = {
        r["hash"]
        for r in RUNS
        if "images" in r
        for scores in r["images"].values()
        if len(scores["abs_rel"]) != r["config"]["test_images"]
    }
    assert BY_STUDY[1]  # the first study is there, whatever is recorded of the next
    assert short == set()


@pytest.mark.parametrize("found", BY_STUDY, ids=["study", "first study"])
def test_every_record_of_robustness_holds_as_many_images(found):
    seen = {
        len(scores["abs_rel"])
        for r in found
        if "scores" in r
        for by in r["scores"].values()
        for scores in by.values()
    }
    assert len(seen) <= 1


def test_every_record_was_made_by_a_commit_of_this_history():
    git = ["git", "-C", str(REPO)]
    shallow = subprocess.run(
        [*git, "rev-parse", "--is-shallow-repository"], capture_output=True, text=True
    )
    if shallow.stdout.strip() != "false":
        pytest.skip("the history is not here")
    history = subprocess.run(
        [*git, "rev-list", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.split()
    known = {r["commit"] for r in RUNS if any(commit.startswith(r["commit"]) for commit in history)}
    assert {r["commit"] for r in RUNS} - known == set()
    assert not [r["hash"] for r in RUNS if r["dirty"]]


def test_made_up_records_do_not_go_into_the_checkout(monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(REPO))
    with pytest.raises(RuntimeError, match="DALIB_ROOT"):
        fabricated.write("main_table", {"naive": [0.2]})
    with pytest.raises(RuntimeError, match="DALIB_ROOT"):
        fabricated.write_floors()
    assert paths.records() == REPO / "data" / "records"


# the plan came first


def test_every_record_is_of_the_plan():
    assert precedence.unplanned(plan.read_if_there()) == []


def test_every_record_was_made_after_the_plan():
    if not precedence.has_history():
        pytest.skip("the history is not here")
    assert precedence.early(plan.read_if_there()) == []


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """A checkout in git with a plan that is frozen, and no record."""
    folder = planned.write(tmp_path / "root")
    monkeypatch.setenv("DALIB_ROOT", str(folder))
    planned.commit(folder, "before the plan is frozen")
    plan.freeze()
    planned.commit(folder, "the plan")
    return folder


def wrong() -> list[str]:
    """What is wrong with the records of the scratch checkout, without the records' names."""
    found = plan.read_if_there()
    every = precedence.unplanned(found) + precedence.early(found)
    return [what.partition(": ")[2] for what in every]


def test_records_of_the_plan_that_come_after_it_are_fine(scratch):
    assert wrong() == []
    frozen = planned.git(scratch, "rev-parse", "HEAD")[:12]
    planned.keep("ideas", "naive", 1, commit=frozen)  # the commit that froze it
    later = planned.commit(scratch, "a record")
    planned.keep("ideas", "labelled_only", 0, commit=later)
    planned.keep("longer", "twice", 0, commit=later)
    assert wrong() == []
    planned.commit(scratch, "more records")
    assert wrong() == []


def test_a_record_that_precedes_the_plan_is_found(scratch):
    before = planned.git(scratch, "rev-parse", "HEAD~1")[:12]
    planned.git(scratch, "branch", "aside", before)
    planned.git(scratch, "checkout", "--quiet", "aside")
    aside = planned.commit(scratch, "beside the plan")
    planned.git(scratch, "checkout", "--quiet", "-")
    planned.git(scratch, "merge", "--quiet", "--no-edit", "aside")
    planned.keep("ideas", "naive", 0, commit=before)
    planned.keep("ideas", "naive", 1, commit=aside)
    planned.keep("longer", "twice", 0)  # of a commit that nobody knows
    found = wrong()
    assert len(found) == 3
    for commit in (before, aside, "0123456789ab"):
        assert sum(f"its commit {commit} does not come after" in what for what in found) == 1


def test_rows_that_were_frozen_anew_count_from_then_on(scratch):
    first = planned.git(scratch, "rev-parse", "HEAD")[:12]
    file = scratch / "experiments.yaml"
    file.write_text(file.read_text().replace("steps: 80", "steps: 90"))
    plan.freeze()
    planned.keep("longer", "twice", 0, commit=first)
    planned.keep("ideas", "naive", 0, commit=first)  # a question that stayed as it was
    assert wrong() == ["no commit froze the rows of longer"]
    planned.commit(scratch, "the plan, anew")
    (what,) = wrong()
    assert what.startswith(f"its commit {first} does not come after")
    amendment = "amendments: [{date: 2026-11-30, what: longer has more steps, why: It failed.}]"
    text = paths.plan().read_text()
    paths.plan().write_text(text.replace("cut:", f"{amendment}\ncut:"))
    assert wrong() == []  # which the page tells


@pytest.mark.parametrize(
    ("experiment", "row", "seed", "changes", "words"),
    [
        ("ideas", "naive", 2, {}, "the plan has no such row and seed with its settings"),
        ("ideas", "naive", 0, {"row": "x"}, "the plan has no such row and seed with its settings"),
        ("ideas", "naive", 0, {"experiment": "other"}, "other is no question of the plan"),
        ("ideas", "naive", 0, {"training_hash": "0" * 12}, "its training is 000000000000, frozen"),
        ("ideas", "naive", 0, {"instructions": "X"}, "its instructions is X, the plan's "),
        ("ideas", "naive", 0, {"device_type": "mps"}, "its device_type is mps, the plan's "),
    ],
)
def test_a_record_that_was_not_planned_is_found(scratch, experiment, row, seed, changes, words):
    head = planned.git(scratch, "rev-parse", "HEAD")[:12]
    planned.keep(experiment, row, seed, commit=head, **changes)
    assert [what for what in wrong() if what.startswith(words)]


def test_certified_science_is_the_plans(scratch):
    head = planned.git(scratch, "rev-parse", "HEAD")[:12]
    planned.keep("ideas", "naive", 0, commit=head, training_hash="0" * 12)
    assert len(wrong()) == 1
    (scratch / "data" / "certificates").mkdir()
    certificate = {
        "schema": 1,
        "created": "2026-11-30T00:00:00Z",
        "from": {"training": provenance.code_hash("training")},
        "to": {"training": "0" * 12},
        "equal": ["training"],
    }
    (scratch / "data" / "certificates" / "a.json").write_text(json.dumps(certificate))
    assert wrong() == []


def test_records_without_a_plan_are_found(scratch):
    paths.plan().unlink()
    assert wrong() == []
    planned.keep("ideas", "naive", 0)
    assert wrong() == ["there is no plan (data/plan.yaml)", "no commit froze the rows of ideas"]


def test_without_its_history_the_order_cannot_be_seen(scratch, monkeypatch):
    assert precedence.has_history()
    (scratch / ".git").rename(scratch.parent / "elsewhere")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(scratch.parent))
    assert not precedence.has_history()
