"""The whole road, small: scenes, teacher, pseudo labels, students, scores, records, and what
happens the second time."""

import json
import os
import re
import subprocess
import sys

import pytest

from dabook.runs import experiments, records


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A place of its own for this module's runs, in this process and those it starts."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DALIB_RUNS", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def runs(local):
    """Here all tests share one folder."""
    return local


def run() -> str:
    """Run the main table as a user does, and return what was printed."""
    command = [sys.executable, "-m", "dabook", "run", "main_table", "--profile", "smoke"]
    result = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def first(local):
    """What the first run printed."""
    return run()


@pytest.mark.slow
def test_every_row_has_a_record_with_its_provenance(first):
    found = records.entries(experiments.expand("main_table", profile="smoke"))
    rows = ["labelled_only", "labelled_long", "naive", "perturbed", "full"]
    assert [e.row.name for e in found] == rows
    assert all(e.status == "fresh" for e in found)
    alone, longer, *students = (e.record for e in found)
    assert alone["teacher"] is longer["teacher"] is None
    teacher = found[-1].config.teacher_run()  # one for all of them, of a seed of its own
    assert {s["teacher"] for s in students} == {teacher.hash()} != {alone["hash"]}
    assert len(alone["images"]["validation"]["abs_rel"]) == 4
    assert alone["versions"]["torch"]
    assert alone["wall_seconds"] > 0
    assert len({json.dumps(e.record["images"]) for e in found}) == 5  # five networks, not one


@pytest.mark.slow
def test_only_the_row_whose_record_is_gone_is_scored_again_with_the_same_scores(first, local):
    plan = experiments.expand("main_table", profile="smoke")
    gone = next(e for e in records.entries(plan) if e.row.name == "perturbed")
    path = local / "records" / "main_table" / f"{gone.config.hash()}.json"
    others = {p: p.stat().st_mtime_ns for p in path.parent.glob("*.json") if p != path}
    path.unlink()
    printed = run()
    assert set(re.findall(r"\[\d/\d\] (\S+) seed", printed)) == {"main_table.perturbed"}
    assert "step 4/4" not in printed  # its weights are there, and were not made again
    assert others == {p: p.stat().st_mtime_ns for p in others}
    again = next(e for e in records.entries(plan) if e.row.name == "perturbed")
    assert again.record["images"] == gone.record["images"]
