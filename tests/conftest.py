"""What several tests share: a folder of their own for runs, and small sources in memory."""

import hashlib

import pytest
import torch
import torch.nn.functional as F

from dalib import provenance
from dalib.config import RunConfig
from dalib.data.mixture import Concat
from dalib.data.schema import Source
from dalib.training import launch
from dalib.training.train import train


class Smooth(Source):
    """Random smooth images whose disparity is what one sees: brighter is nearer. Sample i depends on (seed, i) alone.

    Args:
        count, height, width: how many, and how large.
        seed: of the source.
        labelled: with disparity and a valid mask in which one corner is unknown.
    """

    domain = "smooth"

    def __init__(self, *, count: int = 24, height: int = 64, width: int = 96, seed: int = 0, labelled: bool = True):
        self.count, self.shape, self.seed, self.labelled = count, (height, width), seed, labelled
        self.fingerprint = hashlib.sha256(repr((count, height, width, seed, labelled)).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return self.count

    def _sample(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        coarse = torch.rand(1, 3, 4, 5, generator=generator)
        image = F.interpolate(coarse, self.shape, mode="bicubic", align_corners=True)[0].clamp(0, 1)
        sample = {"image": (255 * image).round().to(torch.uint8), "domain": self.domain}
        if self.labelled:
            valid = torch.ones(self.shape, dtype=torch.bool)
            valid[:8, : 8 + index] = False
            sample |= {"disparity": torch.where(valid, 0.1 + image.mean(0), 0), "valid": valid}
        return sample


LONGEST = (  # files by the time they take, longest first: what a worker begins last should be short
    "every_question",
    "parity_sizes",
    "site",
    "export",
    "smoke",
    "bugs",
    "gpu_profile",
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


TINY = RunConfig(height=64, width=96, steps=6, batch=2, checkpoint_every=2, log_every=1, encoder_lr=1e-3)


@pytest.fixture
def tiny() -> RunConfig:
    """A labelled-only run of six steps on `Smooth` sources."""
    return TINY


@pytest.fixture
def tiny_student(tiny) -> RunConfig:
    """Its student, with everything switched on."""
    return tiny.replace(pseudo_labels=True, perturb=("colour", "blur", "cutmix"), align="unlabelled")


def quiet(_):
    """Takes a line of progress and says nothing."""


class Interruption(Exception):  # noqa: N818  (no error: a test's kill)
    pass


def interrupt_at(step):
    """A `report` that ends the run at a step."""

    def report(line):
        if line.startswith(f"step {step}/"):
            raise Interruption

    return report


class Plain:
    """Stands for the student: disparity = the mean colour, features = the colours in cells of 16 pixels."""

    @staticmethod
    def normalise(images):
        return images

    def __call__(self, images):
        return images.mean(1), F.avg_pool2d(images, 16)


class Trained(list):
    def __init__(self):
        super().__init__()
        self.given = {}


@pytest.fixture
def launched(monkeypatch):
    """`launch` on `Smooth` sources; the list of what it trained, as hashes, and `given`: hash -> what `train` was given."""
    trained = Trained()

    def sources(config):
        pool = Concat(Smooth(count=8, seed=1, labelled=config.labelling == "oracle")) if config.pseudo_labels else None
        return Concat(Smooth()), pool

    def spy(config, **options):
        trained.append(config.hash())
        trained.given[config.hash()] = options
        return train(config, **options)

    monkeypatch.setattr(launch, "sources", sources)
    monkeypatch.setattr(launch, "train", spy)
    monkeypatch.setattr(provenance, "code_hash", lambda part: "c0de")
    return trained


def glued(notebook) -> dict[str, str]:
    """Key -> text of everything that an executed notebook glued."""
    outputs = [
        o for c in notebook.cells if c.cell_type == "code" for o in c.outputs if "scrapbook" in o.get("metadata", {})
    ]
    return {o.metadata.scrapbook.name: o.data["application/papermill.record/text/plain"].strip("'") for o in outputs}
