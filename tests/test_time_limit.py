"""Where time is short, slow tests are left out, and say so; others are run."""

import subprocess
import sys
import time

import pytest
from helpers import ROOT

TESTS = """
import pytest

@pytest.mark.slow
def test_slow():
    pass

def test_quick():
    pass
"""


@pytest.mark.parametrize(
    ("left", "said"),
    [(-1, "1 passed, 1 skipped"), (600, "2 passed"), (None, "2 passed")],
    ids=["over", "left", "unlimited"],
)
def test_no_slow_test_is_begun_when_the_time_is_over(left, said, tmp_path, monkeypatch):
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow: takes long\n")
    monkeypatch.delenv("DALIB_SLOW_TESTS_UNTIL", raising=False)
    if left is not None:
        monkeypatch.setenv("DALIB_SLOW_TESTS_UNTIL", str(time.time() + left))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:jaxtyping",
            str(tmp_path),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert said in done.stdout
