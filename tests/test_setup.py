"""Before anything is set up: what is missing is said in a line, by make and by Snakemake."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

TREE = """
profiles: {tiny: {seeds: 1, record: local, set: {}}}
experiments: {mine: {question: "?", rows: {a: {label: a}}}}
"""


def changed_python(folder: Path, change: str) -> str:
    """A Python in which `change` has happened first: make calls it as `PYTHON -c CODE`."""
    script = folder / "python"
    script.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import sys; {change}; exec(sys.argv[1])' \"$2\"\n"
    )
    script.chmod(0o755)
    return str(script)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "There is no /no/such/python here. Install Python 3.11 or newer"),
        ("sys.version_info = (3, 10, 1)", "Python 3.11 or newer is needed"),
        ('sys.modules["ensurepip"] = None', "has no venv. Install it"),
    ],
)
def test_make_says_what_python_is_needed(change, message, tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = changed_python(tmp_path, change) if change else "/no/such/python"
    result = subprocess.run(
        ["make", f"PYTHON={python}", "test"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode != 0
    assert message in result.stdout + result.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize("target", ["test", "lab"])
def test_make_says_when_the_environments_python_is_gone(target, tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to("/no/such/python")
    (tmp_path / ".venv" / "installed").touch()
    (tmp_path / ".venv" / "lab").touch()
    result = subprocess.run(["make", target], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode != 0
    assert ".venv/bin/python does not start" in result.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_lab_asks_for_less_than_the_tests_and_opens_the_notebooks_with_its_own_kernel(
    tmp_path,
):
    """Where all is set up already, nothing is set up again."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)

    def planned() -> str:
        words = ["make", "-n", f"PYTHON={sys.executable}", "lab"]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True).stdout

    first = planned()
    assert "--editable '.[lab]'" in first
    assert "[dev]" not in first
    assert "default_url=/lab/tree/notebooks" in first
    assert "JUPYTER_PREFER_ENV_PATH=1 .venv/bin/python -m jupyterlab" in first
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "lab").touch()
    assert "pip install" not in planned()


def snakemake(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess:
    """A dry run in a folder of its own, with nothing but the system's programs on the path."""
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "experiments.yaml").write_text(TREE)
    paths = os.pathsep.join([env.pop("PYTHONPATH", ""), str(ROOT)])
    env = (
        os.environ | {"DALIB_ROOT": str(folder), "PATH": "/usr/bin:/bin", "PYTHONPATH": paths} | env
    )
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "-n", "-p", "--config", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.slow
def test_snakemakes_jobs_run_in_its_own_python(tmp_path):
    """`python` on the path may be none, or another one."""
    pytest.importorskip("snakemake")
    result = snakemake(tmp_path, "experiment=mine", "profile=tiny")
    assert result.returncode == 0, result.stderr
    assert (
        f"{sys.executable} -m dabook row mine a --profile tiny --seed 0"
        in result.stdout + result.stderr
    )


@pytest.mark.slow
def test_the_profile_for_slurm_makes_a_plan(tmp_path):
    """A dry run, which needs no cluster; each row asks for a GPU for each of its processes."""
    pytest.importorskip("snakemake_executor_plugin_slurm")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    words = ["experiment=mine", "profile=tiny", "processes=4", "--profile", "configs/slurm"]
    result = snakemake(tmp_path, *words)
    told = result.stdout + result.stderr
    assert result.returncode == 0, told
    assert "gpu=4" in told
    assert "slurm_partition=gpu" in told
    assert f"{sys.executable} -m dabook.runs.gpus 4 {sys.executable} -m dabook row mine a" in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "env", "message"),
    [
        (
            ["experimnt=mine"],
            {},
            "unknown name under --config 'experimnt'. Did you mean 'experiment'?",
        ),
        (
            ["experiment=mine", "profile=tiny"],
            {"PYTHONPATH": "stub"},
            "has no dalib; call .venv/bin/snakemake",
        ),
    ],
)
def test_snakemake_says_what_is_wrong(words, env, message, tmp_path):
    pytest.importorskip("snakemake")
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "dalib.py").write_text("")
    result = snakemake(tmp_path, *words, **env)
    assert result.returncode != 0
    assert message in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
