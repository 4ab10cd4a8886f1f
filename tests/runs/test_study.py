"""The study in the background, on a made-up plan and with runs that only copy a record: in order, in
time, never two on one teacher, and never of another code than the plan's."""

import json
import os
import signal
import sys
import threading
import time

import pytest
from helpers import planned
from helpers.commands import main

from dabook.runs import plan, study
from dalib import paths, provenance
from dalib.errors import ConfigError, Stopped, TrainingError

RUN = """
import os, pathlib, shutil, signal, sys, time
name, log, record, target, seconds, code = sys.argv[1:]
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
def note(what):
    with open(log, "a") as file:
        file.write(f"{what} {name} {os.environ['OMP_NUM_THREADS']}\\n")
note("begin")
end = time.monotonic() + float(seconds)
while time.monotonic() < end and not stopped:
    time.sleep(0.02)
note("stop" if stopped else "end")
if stopped:
    sys.exit(75)
if code == "0":
    pathlib.Path(target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(record, target)
sys.exit(int(code))
"""


class Fake:
    """Starts a script in the place of a run, and knows what was started."""

    def __init__(self, folder):
        self.folder = folder
        self.log = folder / "log"
        self.seconds = "0"
        self.codes = {}  # name of a run -> its exit code

    def __call__(self, job):
        made = planned.record(*job.key, job.config.seed, wall_seconds=1.0)
        prepared = self.folder / f"{job.hash}.json"
        prepared.write_text(json.dumps(made))
        name = f"{job.row.name}.{job.config.seed}"
        target = paths.records() / job.row.experiment / f"{job.hash}.json"
        words = (name, self.log, prepared, target, self.seconds, self.codes.get(name, "0"))
        return [sys.executable, "-I", "-S", "-c", RUN, *map(str, words)]

    @property
    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.log.read_text().splitlines()]

    @property
    def begun(self) -> list[str]:
        return [name for what, name, _ in self.lines if what == "begin"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = planned.write(tmp_path / "root")
    monkeypatch.setenv("DALIB_ROOT", str(folder))
    monkeypatch.setattr(study, "POLL", 0.01)
    plan.freeze()
    planned.commit(folder, "the plan")
    return folder


@pytest.fixture
def fake(root, tmp_path):
    folder = tmp_path / "fake"
    folder.mkdir()
    return Fake(folder)


@pytest.fixture
def unchecked(monkeypatch):
    """Without the look at all files before each start, which has a test of its own."""
    monkeypatch.setattr(study, "_changed", lambda plan, since: [])


@pytest.mark.usefixtures("unchecked")
def test_runs_in_the_plans_order_what_has_no_fresh_record(fake, capsys):
    planned.keep("ideas", "naive", 0)
    planned.keep("ideas", "blurred", 0, training_hash="0" * 12)
    said = []
    study.run(lanes=1, say=said.append, command=fake)
    first = ["labelled_only.0", "blurred.0"]
    assert fake.begun == [*first, "labelled_only.1", "naive.1", "blurred.1", "twice.0"]
    assert {threads for _, _, threads in fake.lines} == {"1"}
    assert said[0].startswith("1 of 7 runs are recorded; ")
    assert said[1].startswith("[2/7] ideas.labelled_only seed 0: ")
    assert said[-1] == "6 runs recorded, 0 left; 0.0 core-hours left, 0.0 h"
    study.run(lanes=1, say=said.append, command=fake)
    assert len(fake.begun) == 6
    assert said[-1].startswith("0 runs recorded, 0 left")


@pytest.mark.usefixtures("unchecked")
def test_one_question_is_run_alone_with_what_it_shares(fake):
    said = []
    study.run(["longer"], lanes=1, say=said.append, command=fake)
    assert fake.begun == ["labelled_only.0", "twice.0"]
    assert said[0].startswith("0 of 2 runs are recorded; ")
    assert said[-1].startswith("2 runs recorded, 0 left; 0.0 core-hours left")
    study.run(["ideas"], lanes=1, say=said.append, command=fake)
    assert "labelled_only.0" not in fake.begun[2:]
    assert len(fake.begun) == 2 + 5


def test_a_question_that_the_plan_does_not_ask_is_refused(root, capsys):
    assert main(["study", "ideas", "moods"]) == 1
    said = capsys.readouterr().err
    assert "unknown question of the plan 'moods'. Known: ideas, longer" in said


@pytest.mark.usefixtures("unchecked")
def test_no_two_runs_train_one_teacher_and_others_go_meanwhile(fake):
    fake.seconds = "0.3"
    study.run(lanes=3, say=str, command=fake)
    at_once, most = set(), 0
    for what, name, _ in fake.lines:
        if what == "begin":
            at_once.add(name)
            row, seed = name.split(".")
            other = {"naive": "blurred", "blurred": "naive"}.get(row)
            assert f"{other}.{seed}" not in at_once
        else:
            at_once.remove(name)
        most = max(most, len(at_once))
    assert len(fake.begun) == 7
    assert most > 1
    assert "labelled_only.1" in fake.begun[:3]  # while blurred.0 waits for the teacher


@pytest.mark.usefixtures("unchecked")
def test_a_failure_is_told_and_the_others_go_on(fake, root):
    fake.codes["naive.0"] = "3"
    said = []
    with pytest.raises(TrainingError) as failed:
        study.run(lanes=1, say=said.append, command=fake)
    log = paths.runs() / "study" / "ideas.naive.0.log"
    assert log.is_file()
    words = f"ideas.naive seed 0: failed (exit code 3), see {log}"
    assert str(failed.value).splitlines() == ["not all went well:", words]
    assert words in said
    assert failed.value.exit_code == 1
    assert len(fake.begun) == 7
    assert said[-1].startswith("6 runs recorded, 1 left")


@pytest.mark.usefixtures("unchecked")
def test_a_run_that_leaves_no_record_has_failed(fake, monkeypatch):
    monkeypatch.setattr(planned, "record", lambda *a, **k: {})
    with pytest.raises(TrainingError, match=r"twice seed 0: failed \(no fresh record\)"):
        study.run(lanes=1, say=str, command=lambda job: ["true"])


@pytest.mark.usefixtures("unchecked")
def test_no_run_begins_that_would_not_end_in_time(fake):
    """Of a seed of 100, 300 and 400 s, the last two with a teacher of as long: 350 s are enough for
    one run and no more, and the next seed does not begin before this one is whole."""
    study.run(lanes=1, hours=350 / 3600, say=str, command=fake)
    assert fake.begun == ["labelled_only.0"]
    study.run(lanes=1, hours=650 / 3600, say=str, command=fake)
    # naive seed 0 takes 600 s by the plan, and one second by its record
    assert fake.begun[1:] == ["naive.0"]


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_when_the_hours_are_over_what_runs_saves_its_state(fake, monkeypatch):
    fake.seconds = "60"
    monkeypatch.setattr(study.Pace, "needed", lambda self, job: 0.0)
    begun = time.monotonic()
    said = []
    study.run(lanes=2, hours=2 / 3600, say=said.append, command=fake)
    assert time.monotonic() - begun < 30
    assert sorted(what for what, *_ in fake.lines) == ["begin", "begin", "stop", "stop"]
    assert sum("goes on next time" in line for line in said) == 2
    assert said[-1].startswith("0 runs recorded, 7 left")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_nothing_running_on(fake, number):
    fake.seconds = "60"

    def ask():
        while not fake.log.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=ask)
    thread.start()
    with pytest.raises(Stopped, match=f"stopped by {number.name}; run it again") as stopped:
        study.run(lanes=1, say=str, command=fake)
    thread.join()
    assert stopped.value.exit_code == 75
    assert [what for what, *_ in fake.lines] == ["begin", "stop"]


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_records_are_committed_and_nothing_else(fake, root, monkeypatch):
    monkeypatch.setattr(study, "COMMIT_EVERY", 0.0)
    (root / "data" / "note.txt").write_text("mine")
    (root / "data" / "records" / ".abc.partial").write_text("half")
    planned.git(root, "add", "data/note.txt")
    study.run(lanes=1, commit=True, say=str, command=fake)
    subjects = planned.git(root, "log", "--reverse", "--format=%s").splitlines()
    assert subjects[0] == "the plan"
    assert len(subjects) > 2
    assert subjects[-1].endswith("; 7 of 7 runs have one")
    assert subjects[-1].startswith("Records: 1 (longer 1)")
    changed = planned.git(root, "log", "--name-only", "--format=", "-n", str(len(subjects) - 1))
    assert len(set(changed.split())) == 7
    assert all(name.startswith("data/records/") for name in changed.split())
    assert planned.git(root, "diff", "--cached", "--name-only") == "data/note.txt"


def test_what_git_refuses_to_commit_is_told_and_fails_at_the_end(fake, root, monkeypatch):
    monkeypatch.setattr(study, "_changed", lambda plan, since: [])
    hook = root / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(TrainingError, match="records are not committed: git commit: no"):
        study.run(lanes=4, commit=True, say=str, command=fake)
    assert len(fake.begun) == 7


# refusals


def refused(command) -> list[str]:
    with pytest.raises(ConfigError) as error:
        study.run(lanes=1, say=str, command=command)
    head, *lines = str(error.value).splitlines()
    assert head == "the study does not start:"
    return lines


def never(job):
    raise AssertionError(f"{job.name} was started")


def test_each_reason_not_to_start_is_said_at_once(root, monkeypatch):
    path = paths.plan()
    whole = path.read_text()
    frozen = whole.index("science:")
    path.write_text(whole[:frozen])
    lines = refused(never)
    assert lines[:3] == [
        "ideas is not frozen",
        "longer is not frozen",
        "the science is not frozen",
    ]
    assert lines[3] == "data/plan.yaml is not committed as it stands; commit it"

    path.write_text(whole)
    experiments = root / "experiments.yaml"
    before = experiments.read_text()
    experiments.write_text(before.replace("steps: 80", "steps: 90"))
    lines = refused(never)
    assert lines == [
        "rows or seeds of longer have changed since they were frozen",
        "tracked files are changed (experiments.yaml); commit them, or undo the changes",
    ]

    experiments.write_text(before)
    monkeypatch.setattr(provenance, "instructions", lambda: "ABACUS")
    wanted = plan.read().processor["instructions"]
    assert refused(never) == [f"instructions is ABACUS here; the plan's records are of {wanted}"]


def test_other_science_and_no_history_are_refused(root, monkeypatch):
    path = paths.plan()
    path.write_text(path.read_text().replace(provenance.code_hash("training"), "0" * 12))
    planned.commit(root, "another science")
    (line,) = refused(never)
    assert line.startswith("the science has changed: training is ")
    (root / ".git").rename(root.parent / "elsewhere")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(root.parent))
    assert refused(never)[-1].startswith("records name the commit of their code, which is not")


def test_numbers_that_cannot_be_are_refused(root, capsys):
    assert main(["study", "--hours", "0"]) == 1
    assert main(["study", "--jobs", "0"]) == 1
    said = capsys.readouterr().err
    assert "--hours 0: expected a number above 0" in said
    assert "--jobs 0: expected at least 1" in said


def test_one_study_at_a_time(root):
    with study._alone(), pytest.raises(ConfigError, match=f"already .process {os.getpid()} on"):
        study.run(lanes=1, say=str, command=never)


def commits(root, name, text):
    """What a command does besides: one more commit."""
    (root / name).write_text(text)
    planned.commit(root, name)


def test_nothing_is_started_after_a_file_has_changed(fake, root):
    """Each run is a process that reads the files as they are then."""
    commits(root, "code.py", "a = 1")

    def command(job):
        (root / "code.py").write_text("a = 2")
        return fake(job)

    with pytest.raises(
        TrainingError, match="no run is started any more: tracked files are changed"
    ):
        study.run(lanes=1, say=str, command=command)
    assert fake.begun == ["labelled_only.0"]


def test_a_commit_of_other_things_stops_nothing_and_one_of_the_science_does(
    fake, root, monkeypatch
):
    monkeypatch.setattr(provenance, "science", lambda part: (part,))
    code = {part: provenance.code_hash(part) for part in provenance.ROOTS}
    monkeypatch.setattr(provenance, "files_hash", lambda files: code[files[0]])

    def command(job):
        name = f"{job.row.name}.{job.config.seed}"
        commits(root, "page.md", name)
        if name == "naive.0":
            code["evaluation"] = "0" * 12
        return fake(job)

    with pytest.raises(TrainingError, match="the science has changed: evaluation is 000000000000"):
        study.run(lanes=1, say=str, command=command)
    assert fake.begun == ["labelled_only.0", "naive.0"]


def test_another_plan_stops_it(fake, root, monkeypatch):
    code = {part: provenance.code_hash(part) for part in provenance.ROOTS}
    monkeypatch.setattr(provenance, "science", lambda part: (part,))
    monkeypatch.setattr(provenance, "files_hash", lambda files: code[files[0]])

    def command(job):
        path = paths.plan()
        commits(root, plan.FILE, path.read_text().replace("seconds: 200", "seconds: 201"))
        return fake(job)

    with pytest.raises(TrainingError, match="the plan or its rows have changed"):
        study.run(lanes=1, say=str, command=command)
    assert fake.begun == ["labelled_only.0"]


def test_a_run_is_started_as_a_row_of_the_study(root):
    from dabook.runs import jobs

    job = jobs.jobs(plan.read())[0]
    assert study.command(job)[1:] == (
        ["-m", "dabook", "row", "ideas", "labelled_only", "--profile", "study", "--seed", "0"]
    )
