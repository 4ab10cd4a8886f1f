"""One bar for everything: what it counts, where it is drawn, how the stop button ends it."""

import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.training import TINY

from dabook.runs import progress
from dabook.runs.experiments import expand
from dalib.errors import Stopped
from dalib.progress import Step, decode, encode, headed
from dalib.training import launch

try:
    import pty
    import termios
except ImportError:  # Windows
    pty = None

LABELLED = TINY.replace(steps=6, batch=4, test_images=3)
STUDENT = LABELLED.replace(pseudo_labels=True, unlabelled_ratio=2, unlabelled_images=30)


def step(config, done):
    """What a training says after a step."""
    return Step(f"step {done}/6", run=config.hash(), done=done, steps=6)


def test_a_step_is_the_line_that_it_prints():
    line = Step("step 3/6  loss 0.5", run="abc", done=3, steps=6)
    assert line == "step 3/6  loss 0.5"
    assert print(line, file=(out := io.StringIO())) is None
    assert out.getvalue() == "step 3/6  loss 0.5\n"
    behind = headed("teacher: ", line)
    assert behind == "teacher: step 3/6  loss 0.5"
    assert (behind.run, behind.done, behind.steps) == ("abc", 3, 6)
    assert type(headed("teacher: ", "set aside")) is str


@pytest.mark.parametrize("line", ["plain", "", "step 3/6", "step [1] of", "line step", "a: [b] c"])
def test_a_line_between_processes_comes_back_as_it_was(line):
    assert decode(encode(line)) == line
    assert type(decode(encode(line))) is str
    sent = Step(line, run="ab[c]", done=1, steps=2)
    back = decode(encode(sent))
    assert back == line
    assert (back.run, back.done, back.steps) == ("ab[c]", 1, 2)


def test_the_work_of_a_row_is_that_of_its_teacher_too(monkeypatch):
    """By hand: 6 steps of 4 images, or of 4 + 8; a third of 30 labels; a third of 3 images in each
    of seven domains."""
    teacher = STUDENT.teacher_run().hash()
    found = progress.work([STUDENT])
    assert list(found) == [teacher, STUDENT.hash()]
    assert found[teacher] == progress.Work(labelling=0, training=24, scoring=0)
    assert found[STUDENT.hash()] == progress.Work(labelling=10, training=72, scoring=7)
    # labelled images alone are a row of their own beside the teacher, which is of another seed
    both = progress.work([LABELLED, STUDENT])
    assert both[LABELLED.hash()] == progress.Work(0, 24, 7)
    assert sum(w.whole for w in both.values()) == 24 + 7 + 24 + 10 + 72 + 7
    # a row that is another row's teacher is trained once, and scored
    both = progress.work([STUDENT.teacher_run(), STUDENT])
    assert both[teacher] == progress.Work(0, 24, 7)
    assert sum(w.whole for w in both.values()) == 24 + 7 + 10 + 72 + 7
    monkeypatch.setattr(launch, "trained", lambda config: True)
    assert sum(w.whole for w in progress.work([LABELLED, STUDENT]).values()) == 14


def test_a_bar_moves_with_the_steps_of_teachers_and_students(monkeypatch, capsys):
    monkeypatch.setattr(progress, "watched", lambda: True)
    with progress.following([STUDENT], title="mine") as shown:
        assert shown.bar.total == 24 + 10 + 72 + 7
        shown.begin("[1/1] mine.full seed 0")
        shown.report(headed("teacher: ", step(STUDENT.teacher_run(), 3)))
        assert shown.bar.n == 12
        shown.report(step(STUDENT.teacher_run(), 6))
        shown.report(step(STUDENT, 1))
        assert shown.bar.n == 24 + 10 + 12
        shown.report("something was set aside")
        shown.report(step(LABELLED.replace(seed=9), 3))  # of a run that was not planned
        shown.end(STUDENT)
        assert shown.bar.n == shown.bar.total
    told = capsys.readouterr()
    assert "something was set aside" in told.out
    assert "step" not in told.out + told.err
    assert "[1/1] mine.full seed 0: 100%" in told.err.splitlines()[-1]


def test_a_kernel_sends_its_progress_and_another_process_draws_the_bar(monkeypatch, tmp_path):
    """Every message as it arrives; a step of the teacher is half of its 24 images."""
    sent = tmp_path / "sent"
    monkeypatch.setenv(progress.LINES, "1")  # as in a kernel
    monkeypatch.setenv(progress.SENT, str(sent))
    receiver, said = progress.Receiver(), []

    def drawn():
        *_, message = sent.read_text().splitlines()
        receiver.take(message)
        return receiver.shown

    with progress.following([STUDENT], title="mine", say=said.append) as sender:
        assert drawn().bar.total == 24 + 10 + 72 + 7
        sender.begin("[1/1] mine.full seed 0")
        assert drawn().bar.desc == "[1/1] mine.full seed 0: "
        sender.report(headed("teacher: ", step(STUDENT.teacher_run(), 3)))
        assert drawn().bar.n == 12
        sender.report("something was set aside\n in two lines")
        sender.end(STUDENT)
        assert drawn().bar.n == 12 + 10 + 72 + 7
        bar = receiver.shown.bar
    assert drawn() is None
    assert bar.disable, "closed"
    assert said == ["something was set aside\n in two lines"]


def test_a_bar_that_is_received_ends_with_the_process_that_sends(monkeypatch, capsys):
    """What is logged meanwhile stands above it; a kernel that dies leaves no open bar behind."""
    log = logging.getLogger("papermill")
    handler = logging.StreamHandler(sys.stderr)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [handler])
    monkeypatch.setattr(log, "level", logging.INFO)
    with progress.received() as variables:
        sender = progress.Sender(
            progress.work([LABELLED]), title="mine", path=Path(variables[progress.SENT]), say=print
        )
        sender.begin("first")
        wait(lambda: "first" in sys.stderr.getvalue())
        log.info("a table")
        sender.report(step(LABELLED, 3))
        with sender.path.open("a") as file:
            file.write('["report", "cut o')
    assert root.handlers == [handler]
    told = capsys.readouterr().err
    assert "\ra table\n" in told, "on a line of its own, in the place of the bar"
    # half of 24 images of 24 + 7, and the line is left
    assert told.split("\r")[-1].startswith("first:  39%|")
    assert told.endswith("left\n")
    assert not sender.path.exists()


def test_elsewhere_there_are_lines_with_the_time_left(monkeypatch):
    lines, clock = [], iter((0.0, 10.0))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    other = STUDENT.replace(seed=1)
    with progress.following([STUDENT, other], title="mine", report=lines.append) as shown:
        shown.begin("[1/2] a")
        shown.report("teacher: trains")
        for config in (STUDENT.teacher_run(), STUDENT):
            shown.report(step(config, 6))
        shown.end(STUDENT)
        shown.begin("[2/2] b")
    # both have the same work, and the first took ten seconds
    assert lines == [
        "[1/2] a",
        "[1/2] a  teacher: trains",
        "[1/2] a  step 6/6",
        "[1/2] a  step 6/6",
        "[2/2] b  about 10 s left in all",
    ]


def test_a_bar_is_for_people(monkeypatch):
    assert not progress.in_notebook()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert progress.watched()
    monkeypatch.setenv(progress.LINES, "1")
    assert not progress.watched()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Stopped("stopped by SIGINT")])
def test_the_stop_button_is_one_line_in_a_notebook_and_itself_elsewhere(error, monkeypatch):
    monkeypatch.setattr(progress, "watched", lambda: True)
    with pytest.raises(type(error)), progress.following([LABELLED], title="mine"):
        raise error
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    with pytest.raises(progress.Interrupted) as caught:  # noqa: SIM117
        with progress.following([LABELLED], title="mine"):
            raise error
    assert caught.value._render_traceback_() == [
        "Stopped: mine keeps what it has done; run this cell again, and it goes on from there."
    ]


CELL = """
from dabook.runs.runner import run
entries = run("tiny", profile="tiny")
"""
TREE = """
profiles:
  tiny:
    seeds: 1
    record: local
    set: {height: 64, width: 96, labelled_images: 16, test_images: 2, steps: 60, batch: 4,
          log_every: 1, checkpoint_every: 1000}
experiments:
  tiny: {question: "?", rows: {alone: {label: Alone}}}
"""


@pytest.mark.slow
def test_the_stop_button_ends_a_cell_in_a_line_and_the_same_cell_goes_on(tmp_path, monkeypatch):
    """In a real kernel: interrupted as JupyterLab does it, while a run trains."""
    pytest.importorskip("ipykernel")
    from jupyter_client.manager import start_new_kernel

    (tmp_path / "experiments.yaml").write_text(TREE)
    own = {"DALIB_ROOT": str(tmp_path), "DALIB_RUNS": str(tmp_path / "runs")}
    own |= {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path), "DALIB_REALDEPTH": "none"}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        request = client.execute(CELL)
        config = expand("tiny", profile="tiny").rows[0].configs[0]
        metrics = launch.folder(config) / "metrics.jsonl"
        wait(lambda: metrics.is_file() and len(metrics.read_text().splitlines()) >= 3)
        manager.interrupt_kernel()
        reply = answer(client, request)
        assert reply["status"] == "error"
        assert reply["traceback"] == [
            "Stopped: tiny keeps what it has done; run this cell again, and it goes on from there."
        ]
        before = len(metrics.read_text().splitlines())
        assert 3 <= before < 60
        saved = [path.name for path in metrics.parent.rglob("step-*.pt")]
        assert saved == [f"step-{before:09d}.pt"], "the state after the step that it was in"
        assert answer(client, client.execute(CELL))["status"] == "ok"
        assert launch.trained(config)
        steps = [line.split(",")[0] for line in metrics.read_text().splitlines()]
        assert len(steps) == len(set(steps)) == 60, "no step was made twice"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def wait(condition, seconds=120):
    """Return as soon as a condition holds."""
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.02)


def answer(client, request, seconds=180):
    """A kernel's reply to a request."""
    while True:
        message = client.get_shell_msg(timeout=seconds)
        if message["parent_header"].get("msg_id") == request:
            return message["content"]


def in_terminal(*words):
    """A command with a terminal of its own, and the end of it that a person sees."""
    seen, own = pty.openpty()
    termios.tcsetwinsize(own, (40, 120))
    env = os.environ | {"PYTHONPATH": str(ROOT), "DALIB_REALDEPTH": "none"}
    child = subprocess.Popen(
        [sys.executable, "-m", "dabook", *words], env=env, stdin=own, stdout=own, stderr=own
    )
    os.close(own)
    return child, seen


def told(seen):
    """All that a terminal shows until its program has ended."""
    text = b""
    with suppress(OSError):  # how Linux says that nobody writes any more
        while part := os.read(seen, 65536):
            text += part
    os.close(seen)
    return text.decode().replace("\r\n", "\n")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with the experiment `tiny` and its notebook."""
    (tmp_path / "experiments.yaml").write_text(TREE)
    nbformat = pytest.importorskip("nbformat").v4
    first = nbformat.new_code_cell('profile = "tiny"', metadata={"tags": ["parameters"]})
    cells = [first, nbformat.new_code_cell(CELL), nbformat.new_code_cell('print("a table")')]
    (tmp_path / "notebooks").mkdir()
    text = nbformat.writes(nbformat.new_notebook(cells=cells))
    (tmp_path / "notebooks" / "tiny.ipynb").write_text(text)
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    monkeypatch.setenv("DALIB_RUNS", str(tmp_path / "runs"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.skipif(pty is None, reason="no pseudo-terminals on this system")
def test_a_notebook_run_from_a_terminal_has_one_bar_there(checkout):
    pytest.importorskip("papermill")
    child, seen = in_terminal("run", "tiny", "--profile", "tiny")
    shown = told(seen)
    assert child.wait() == 0, shown
    bars = re.findall(r"\[1/1\] tiny\.alone seed 0: +(\d+)%\|.*?, (\S+) left", shown)
    percents = [int(percent) for percent, _ in bars]
    assert percents == sorted(percents)
    assert percents[0] < 50
    assert bars[-1] == ("100", "00:00")
    assert "step " not in shown, "the bar stands for the lines of the steps"
    assert re.search(r"[\r\n]a table\n", shown), "what a cell prints has a line of its own"
    executed = (checkout / "runs" / "notebooks" / "tiny" / "tiny.ipynb").read_text()
    streams = [o for c in json.loads(executed)["cells"] for o in c.get("outputs", ())]
    assert ["".join(o["text"]) for o in streams] == ["a table\n"]


@pytest.mark.slow
@pytest.mark.skipif(pty is None, reason="no pseudo-terminals on this system")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_notebook_in_a_terminal_is_stopped_as_without_a_bar(number, checkout):
    pytest.importorskip("papermill")
    words = ["run", "tiny", "--profile", "tiny"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "DALIB_REALDEPTH": "none"}
    config = expand("tiny", profile="tiny").rows[0].configs[0]
    metrics = launch.folder(config) / "metrics.jsonl"
    ends = []
    for terminal in (True, False):
        if terminal:
            child, seen = in_terminal(*words)
        else:
            child = subprocess.Popen(
                [sys.executable, "-m", "dabook", *words],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        wait(lambda: metrics.is_file() and len(metrics.read_text().splitlines()) >= 3)
        child.send_signal(number)
        shown = told(seen) if terminal else child.communicate()[0]
        said = [line for line in shown.splitlines() if re.match("error: |interrupted: ", line)]
        ends.append((child.wait(), said))
        shutil.rmtree(checkout / "runs")
    assert ends[0] == ends[1]
    assert ends[0][0] in (75, 130)
    assert len(ends[0][1]) == 1, "a line says it"


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_saves_the_step(tmp_path, monkeypatch):
    (tmp_path / "experiments.yaml").write_text(TREE)
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    command = [sys.executable, "-m", "dabook", "row", "tiny", "alone", "--profile", "tiny"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "DALIB_REALDEPTH": "none"}
    child = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    config = expand("tiny", profile="tiny").rows[0].configs[0]
    metrics = launch.folder(config) / "metrics.jsonl"
    wait(lambda: metrics.is_file() and len(metrics.read_text().splitlines()) >= 3)
    child.send_signal(signal.SIGINT)
    told = child.communicate()[1]
    assert child.returncode == Stopped.exit_code == 75, told
    assert "run again to go on" in told
    assert "Traceback" not in told
    assert len(list(metrics.parent.rglob("step-*.pt"))) == 1
