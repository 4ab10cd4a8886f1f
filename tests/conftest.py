"""What every test has: a folder of its own for runs; and what is measured to take long comes
first.

PyTorch is imported in the fixtures that need it: the process that deals files to the workers
reads this file too, before it starts them, and needs none of it.
"""

import gc
import itertools
import os
import random
import shutil
import sys
import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from dalib.config import RunConfig

# jsonschema, which nbformat checks notebooks with, builds 38 grammars for international web
# addresses as soon as it finds this package; without it, it checks all else and none of those
sys.modules.setdefault("rfc3987_syntax", None)

# a slow machine is no fault of the code
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")

ONE_WORKER = ("every_question", "lab")
"""Files that one worker runs, in this order: the notebooks in JupyterLab find the networks that the
questions have trained."""
LONGEST = (  # files by the time they take, longest first: what a worker begins last should be short
    *ONE_WORKER,
    "course",
    "parity_sizes",
    "site",
    "front",
    "examples",
    "engines",
    "export",
    "smoke",
    "bugs",
    "gpu_profile",
    "conventions",
    "adapt",
    "metric",
    "plan",
    "finetune",
    "tasks",
    "conform",
    "measure",
    "validation",
    "scenes",
    "training",
    "distributed",
    "switches",
    "predict",
    "claims",
    "new_question",
    "costs",
)


def pytest_collection_modifyitems(items):
    """Whole files in this order, the others behind them as they were. Where the time is limited, in
    another order each day, so that what is left out is not the same each time."""
    rank = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    if UNTIL in os.environ:
        names = sorted({item.path.name for item in items})
        random.Random(date.today().toordinal()).shuffle(names)
        rank = {name: place for place, name in enumerate(names)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


UNTIL = "DALIB_SLOW_TESTS_UNTIL"
"""A variable with the time, in seconds since 1970, at which slow tests are no longer begun."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Where time is short, as in CI on a slow machine, slow tests are left out, and say so."""
    if "slow" in item.keywords and time.time() > float(os.environ.get(UNTIL, "inf")):
        pytest.skip("a slow test, and the time for slow tests is over")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Files are dealt whole, and those of `ONE_WORKER` as one."""
    from xdist.scheduler import LoadFileScheduling

    if config.getvalue("dist") != "loadfile":
        return None
    together = {f"test_{name}.py" for name in ONE_WORKER}

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "one worker" if Path(file).name in together else file

    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Nothing of what the imports make becomes garbage: it is not searched, then or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def unmade_folders(tmp_path_factory):
    """Paths of folders that nobody has made yet."""
    base = tmp_path_factory.mktemp("runs")
    return (base / str(number) for number in itertools.count())


@pytest.fixture(scope="session")
def smoke_runs(tmp_path_factory):
    """The folder of runs for the files of `ONE_WORKER`, which share teachers and rows."""
    return tmp_path_factory.mktemp("smoke")


@pytest.fixture(autouse=True)
def runs(unmade_folders, monkeypatch, request):
    """Runs, caches and local records of a test go to a temporary folder of its own, which is made
    when it is needed, and kept where the test fails."""
    folder = next(unmade_folders)
    monkeypatch.setenv("DALIB_RUNS", str(folder))
    failed = request.session.testsfailed
    yield folder
    if request.session.testsfailed == failed:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def tiny() -> "RunConfig":
    """A labelled-only run of six steps on `Smooth` sources."""
    from helpers.training import TINY

    return TINY


@pytest.fixture
def tiny_student(tiny) -> "RunConfig":
    """Its student, with everything switched on."""
    return tiny.replace(
        pseudo_labels=True, perturb=("colour", "blur", "cutmix"), align="unlabelled"
    )


@pytest.fixture
def launched(monkeypatch):
    """`launch` on `Smooth` sources; the list of what it trained, as hashes, and `given`: hash ->
    what `train` was given."""
    from helpers.training import Smooth, Trained

    from dalib import provenance
    from dalib.data.mixture import Concat
    from dalib.training import launch
    from dalib.training.train import train

    trained = Trained()

    def sources(config):
        pool = (
            Concat(Smooth(count=8, seed=1, labelled=config.labelling == "oracle"))
            if config.pseudo_labels
            else None
        )
        return Concat(Smooth()) if config.labelled else None, pool

    def spy(config, **options):
        trained.append(config.hash())
        trained.given[config.hash()] = options
        return train(config, **options)

    monkeypatch.setattr(launch, "sources", sources)
    monkeypatch.setattr(launch, "train", spy)
    monkeypatch.setattr(provenance, "code_hash", lambda part: "c0de")
    return trained
