"""What is committed as measured was measured: whole studies' worth of images, by a commit of this
history, with nothing uncommitted."""

import json
import subprocess

import pytest
from helpers import fabricated

from dalib import paths

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
