"""Trained networks for the pages of the book: weights of a run, made where they are missing, and
what they see in an image."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dabook.runs.experiments import expand
from dabook.runs.progress import following
from dalib import paths
from dalib.config import RunConfig
from dalib.data.scenes import Scenes
from dalib.errors import CheckpointError
from dalib.evaluation.run import predict_images
from dalib.models.checkpoints import load
from dalib.models.depth_anything import DepthAnything, restore
from dalib.models.sizes import default_short_side, training_size
from dalib.training import launch
from dalib.training.train import frozen_encoder


def network(config: RunConfig) -> DepthAnything:
    """The trained network of a run; trains it now if nobody has."""
    ensure(config)
    path = launch.ensure_weights(config, report=_unsaid)
    return _load(path, path.stat().st_mtime, config.encoder)


def ensure(*configs: RunConfig) -> None:
    """Train those runs that nobody has, with one bar for all where somebody watches."""
    missing = [config for config in configs if not launch.trained(config)]
    if not missing:
        return
    with following(missing, title="training", say=_unsaid) as shown:
        for config in missing:
            launch.ensure_weights(config, report=shown.report)
            shown.end(config)


def _unsaid(line: str) -> None:
    """Where lines go that nobody waits for."""


@lru_cache(maxsize=4)
def _load(path: Path, _changed: float, encoder: str | None) -> DepthAnything:
    return restore(path, expect=encoder)


def student(profile: str = "quick") -> Path:
    """Weights that `make book` has trained: the whole recipe's student, else the network of
    labelled images alone.

    Raises `CheckpointError` where neither is there.
    """
    plan = expand("main_table", profile=profile, seeds=1)
    found = [
        launch.folder(plan[row].configs[0]) / launch.WEIGHTS for row in ("full", "labelled_only")
    ]
    if path := next((p for p in found if p.is_file()), None):
        return path
    raise CheckpointError(f"{found[0]}: no student is trained yet; run `make book` first")


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network that a page shows.

    Attributes:
        label: how the page calls it.
        model: the network.
        short_side: of the images that it sees, in pixels.
    """

    label: str
    model: DepthAnything
    short_side: int


SHIPPED = "shipped student"
OWN = "your own run"


def of_the_book(profile: str) -> list[Network]:
    """The networks of the book that pages show, the one that they use first: the shipped student
    where there is one, and the whole recipe's student of a profile. That one is trained now if nobody
    has, unless there is the other to show.

    This is the one place where a page's network is chosen.
    """
    config = expand("main_table", profile=profile, seeds=1)["full"].configs[0]
    shipped = shipped_student()
    found = [] if shipped is None else [shipped]
    if shipped is None or launch.trained(config):
        found.append(Network(label=OWN, model=network(config), short_side=config.short_side))
    return found


def file_of_the_book(profile: str) -> Path:
    """The weights of the first of `of_the_book`."""
    of_the_book(profile)
    shipped = paths.shipped_weights()
    return shipped if shipped.is_file() else student(profile)


def shipped_student() -> Network | None:
    """The student that comes with the library, None while there is none."""
    path = paths.shipped_weights()
    if not path.is_file():
        return None
    model = _load(path, path.stat().st_mtime, None)
    return Network(label=SHIPPED, model=model, short_side=default_short_side(model))


def shown(weights: str, profile: str) -> list[Network]:
    """The network that a reader names, alone; without a name those `of_the_book`."""
    if not weights:
        return of_the_book(profile)
    path = Path(weights)
    model = load(path if path.exists() else weights)
    return [
        Network(
            label="yours",
            model=model,
            short_side=training_size(path) or default_short_side(model),
        )
    ]


def chosen(weights: str, profile: str) -> tuple[DepthAnything, int]:
    """The first of `shown`, with the short side that it sees."""
    first = shown(weights, profile)[0]
    return first.model, first.short_side


def predict(config: RunConfig, samples: Iterable[dict]) -> list[Float[Tensor, "_ _"]]:
    """Disparity of each sample at its own size, seen by the network at the run's size, as in the
    evaluation."""
    images = [sample["image"] for sample in samples]
    return predict_images(network(config), images, short_side=min(config.height, config.width))


def examples(config: RunConfig, split: str, indices: Sequence[int]) -> list[dict]:
    """Scenes of a split at the size that the run sees."""
    source = Scenes(split=split, count=max(indices) + 1, height=config.height, width=config.width)
    return [source[i] for i in indices]


@torch.inference_mode()
def cosines(
    model: DepthAnything, images: UInt8[Tensor, "b 3 h w"], config: RunConfig
) -> Float[Tensor, "b h2 w2"]:
    """Cosine between a network's deepest features and those of the frozen pre-trained encoder,
    token by token."""
    frozen = frozen_encoder(config).eval()
    inputs = model.normalise(images)
    return torch.cosine_similarity(model.encoder(inputs)[-1], frozen(inputs)[-1], dim=1)
