"""A pool of two GPUs that are none: no two jobs have the same one at a time, and one that is killed
gives it back."""

import os
import signal
import subprocess
import sys
import time

import pytest

from dabook.runs import gpus
from dalib.errors import ConfigError


@pytest.fixture
def job():
    """Starts a command behind the pool, which prints what it sees."""
    started = []

    def start(count, seconds):
        command = ["sh", "-c", f'echo "$CUDA_VISIBLE_DEVICES"; exec sleep {seconds}']
        process = subprocess.Popen(
            [sys.executable, "-m", "dabook.runs.gpus", str(count), *command],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "3,GPU-a"},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_each_job_has_its_own_and_a_killed_one_gives_it_back(job):
    first, second = job(1, 60), job(1, 60)
    assert {process.stdout.readline() for process in (first, second)} == {"3\n", "GPU-a\n"}
    third = job(1, 0)
    time.sleep(1.5)
    assert third.poll() is None  # it waits
    first.send_signal(signal.SIGKILL)
    given = third.stdout.readline()
    assert given in ("3\n", "GPU-a\n")
    assert third.wait(timeout=20) == 0
    both = job(2, 0)
    time.sleep(1)
    assert both.poll() is None  # one of the two is held still
    second.send_signal(signal.SIGKILL)
    assert both.stdout.readline() == "3,GPU-a\n"


def test_more_than_there_are_is_refused_and_none_changes_nothing(monkeypatch):
    with pytest.raises(ConfigError, match="processes: 3 is more than the 2 GPUs"):
        gpus.take(3, ["0", "1"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus.visible() == []
