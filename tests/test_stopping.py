"""Requests to stop: signals in one process and in several, children whose parent is gone, and
folders that another job holds."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
from helpers import ROOT
from helpers.commands import main
from helpers.training import TINY, Smooth, quiet

from dalib import paths
from dalib.commands import written_at_the_end
from dalib.errors import Stopped
from dalib.stopping import STOP, Stop, is_alive, listening
from dalib.training import checkpoint, launch, pseudo
from dalib.training.folder import held
from dalib.training.train import train


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The weights of a tiny run that nothing stopped."""
    return train(
        TINY, out=tmp_path_factory.mktemp("whole"), labelled=Smooth(), report=quiet
    ).read_bytes()


def send_at(step, number):
    """A `report` that sends this process a signal when a step is told."""

    def report(line):
        if line.startswith(f"step {step}/"):
            os.kill(os.getpid(), number)

    return report


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_lets_the_step_end_and_saves_the_state(number, tiny, launched, whole):
    """Asked after step 3, noticed by step 4, which is no step of a checkpoint's own here."""
    config, out = tiny.replace(checkpoint_every=100), launch.folder(tiny)
    before = signal.getsignal(number)
    with pytest.raises(
        Stopped, match=r"asked to stop; the state after step 4 of 6 is saved, run again to go on"
    ):
        launch.ensure_weights(config, report=send_at(3, number))
    assert signal.getsignal(number) is before
    assert [p.name for p in checkpoint.found(out)] == ["step-000000004.pt"]
    seen = []
    assert launch.ensure_weights(config, report=seen.append).read_bytes() == whole
    assert seen[0].startswith("step 5/6")


def test_ctrl_c_is_itself_outside_a_step_and_the_second_time():
    stop = Stop()
    with pytest.raises(KeyboardInterrupt):
        stop.note(signal.SIGINT)
    assert stop.reason() is None
    with stop.defer():
        stop.note(signal.SIGINT)
        assert stop.reason() == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            stop.note(signal.SIGINT)


def test_a_signal_in_the_last_step_keeps_what_is_whole(tiny, launched, whole):
    with pytest.raises(Stopped, match="is trained; stopped by SIGTERM"):
        launch.ensure_weights(tiny, report=send_at(6, signal.SIGTERM))
    assert launch.trained(tiny)
    assert (launch.folder(tiny) / launch.WEIGHTS).read_bytes() == whole


@pytest.mark.slow
def test_a_signal_while_labelling_keeps_whole_shards(tiny_student, launched, monkeypatch):
    """It comes while the second of two is written: the first stays, and only the second is written
    again."""
    config = tiny_student.replace(steps=2)
    monkeypatch.setattr(pseudo, "SHARD", 4)
    write, written = pseudo.save_file, []

    def save(maps, path, **options):
        write(maps, path, **options)
        written.append(maps["disparity"].sum().item())
        if len(written) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(pseudo, "save_file", save)
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        launch.ensure_weights(config, report=quiet)
    assert [p.stem for p in paths.runs().glob("*/pseudo-*/*.safetensors")] == ["000000000"]
    launch.ensure_weights(config, report=quiet)
    first, second, again = written
    assert second == again != first


def test_outside_a_step_a_signal_ends_the_command_at_once(monkeypatch, capsys):
    """With the code that the page of exit codes names."""
    monkeypatch.setattr("dabook.__main__._readme", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["readme"]) == Stopped.exit_code == 75
    assert "stopped by SIGTERM" in capsys.readouterr().err


@pytest.mark.parametrize(("stop", "code"), [(Stopped, 75), (KeyboardInterrupt, 130)])
@pytest.mark.parametrize("kept", [True, False])
def test_a_stop_says_whether_anything_is_kept(stop, code, kept, monkeypatch, capsys):
    """A command that writes at its end promises nobody to go on."""

    def stopped(args):
        with contextlib.nullcontext() if kept else written_at_the_end():
            raise stop("what was finished is kept") if stop is Stopped else stop

    monkeypatch.setattr("dalib.cli.export.run", stopped)
    assert main(["export", "w", "o", "--to", "onnx"]) == code
    said = capsys.readouterr().err
    assert ("what was finished is kept" in said) == kept
    assert ("nothing was written yet" in said) != kept


def test_elsewhere_than_in_the_main_thread_nothing_listens():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def listen():
        with listening(Stop()):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]


def test_what_asks(tmp_path):
    child = subprocess.Popen(["sleep", "60"])
    stop = Stop(file=tmp_path / STOP, parent=child.pid)
    assert stop.reason() is None
    child.kill()
    # until it has ended, without burying it
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(child.pid)  # before anybody has waited for it, too
    assert "end of the process" in stop.reason()
    child.wait()
    assert "end of the process" in stop.reason()
    (tmp_path / STOP).touch()
    assert "request of the process" in stop.reason()
    with stop.defer(relay=tmp_path / "relay"):
        stop.note(signal.SIGUSR1)
    assert stop.reason() == "SIGUSR1"
    assert (tmp_path / "relay").exists()
    with pytest.raises(Stopped, match="SIGTERM"):
        stop.note(signal.SIGTERM)


# who holds a folder


def test_a_held_folder_is_waited_for_and_its_holder_named(tmp_path):
    out, order, lines = tmp_path / "run", [], []
    inside, leave = threading.Event(), threading.Event()

    def first():
        with held(out, report=quiet):
            inside.set()
            leave.wait(10)
            order.append("first")

    def told(line):
        lines.append(line)
        leave.set()

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(10)
    with held(out, report=told):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert f"{out} is held by process {os.getpid()} on " in lines[0]
    assert "waiting for it" in lines[0]


JOB = """
import json, sys
sys.path.insert(0, {here!r})
from helpers.training import Smooth
from dalib.config import RunConfig
from dalib.data.mixture import Concat
from dalib.training import launch

pool = Concat(Smooth(count=8, seed=1, labelled=False))
launch.sources = lambda config: (Concat(Smooth()), pool if config.pseudo_labels else None)
launch.ensure_weights(RunConfig.from_dict(json.loads({config!r})), report=lambda line: print(line, flush=True))
"""


def job(config):
    text = JOB.format(here=str(ROOT / "tests"), config=json.dumps(config.to_dict()))
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", text], env=env, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_two_jobs_of_one_teacher_train_and_label_once(tiny_student):
    """Side by side: one trains the teacher and labels, the other waits for it; every folder has the
    lines of one run."""
    one, two = (tiny_student.replace(steps=4, align=align) for align in ("none", "unlabelled"))
    told = [process.communicate()[0] for process in [job(one), job(two)]]
    assert sum(text.count("labelling 8 images") for text in told) == 1
    assert sum(text.count("teacher: step 4/4") for text in told) == 1
    for config in (one, two, one.teacher_run()):
        lines = (launch.folder(config) / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_killed_job_leaves_no_lock(tiny):
    config = tiny.replace(steps=50)
    process = job(config)
    for line in process.stdout:
        if line.startswith("step 2/"):
            process.send_signal(signal.SIGKILL)
    process.wait()
    begun = time.monotonic()
    with held(launch.folder(config), report=pytest.fail):
        assert time.monotonic() - begun < 5


WAITS = """
import os, subprocess, sys
if len(sys.argv) == 1:
    child = subprocess.Popen([sys.executable, __file__, str(os.getpid())])
    print(child.pid, flush=True)
    child.wait()
else:
    from dalib import stopping
    from dalib.training.processes import wait_for_launcher
    stopping.GRACE = {grace}
    os.environ |= dict(MASTER_ADDR="127.0.0.1", MASTER_PORT="{port}", RANK="1")
    stop = stopping.Stop(parent=int(sys.argv[1]))
    with stopping.listening(stop):
        print("waits", flush=True)
        {wait}
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="processes of other systems have no such parents")
@pytest.mark.parametrize(
    ("wait", "grace"),
    [("wait_for_launcher(stop)", 600), ("__import__('time').sleep(600)", 0.5)],
    ids=["meeting", "met"],
)
def test_a_process_that_waits_for_others_ends_with_its_parent(tmp_path, wait, grace):
    """Killed while its two processes were meeting, `accelerate launch` left them there for half an
    hour."""
    with socket.socket() as closed:  # a port that nobody listens on
        closed.bind(("127.0.0.1", 0))
        script = tmp_path / "waits.py"
        script.write_text(WAITS.format(port=closed.getsockname()[1], wait=wait, grace=grace))
        parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
        child = int(parent.stdout.readline())
        assert parent.stdout.readline() == "waits\n"
        time.sleep(1.5)
        assert is_alive(child)
        parent.kill()
        parent.wait()
        try:
            deadline = time.monotonic() + 20
            while is_alive(child) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not is_alive(child)
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


LEAVES = """
import os, signal, sys
from dalib.commands import Commands
top = Commands(prog="p", description="d")
top.add("work", lambda args: None)
sys.argv = ["p", "work"]
code = top.main()
os.kill(os.getpid(), signal.{name})
sys.exit(code)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_after_the_work_leaves_its_exit_code(name):
    """A run that was whole ended with -10: the signal came while the interpreter was leaving."""
    assert subprocess.run([sys.executable, "-c", LEAVES.format(name=name)]).returncode == 0
