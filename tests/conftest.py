"""What every test has: a folder of its own for runs; and what is measured to take long comes
first."""

import pytest
from helpers.training import TINY, Smooth, Trained

from dalib import provenance
from dalib.config import RunConfig
from dalib.data.mixture import Concat
from dalib.training import launch
from dalib.training.train import train

LONGEST = (  # files by the time they take, longest first: what a worker begins last should be short
    "lab",
    "every_question",
    "parity_sizes",
    "site",
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
    """Whole files in this order, the others behind them as they were."""
    rank = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    """Runs, caches and local records of a test go to its own temporary folder."""
    monkeypatch.setenv("DALIB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def tiny() -> RunConfig:
    """A labelled-only run of six steps on `Smooth` sources."""
    return TINY


@pytest.fixture
def tiny_student(tiny) -> RunConfig:
    """Its student, with everything switched on."""
    return tiny.replace(
        pseudo_labels=True, perturb=("colour", "blur", "cutmix"), align="unlabelled"
    )


@pytest.fixture
def launched(monkeypatch):
    """`launch` on `Smooth` sources; the list of what it trained, as hashes, and `given`: hash ->
    what `train` was given."""
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
