"""Trained networks for the pages of the book: weights of a run, made where they are missing, and
what they see in an image."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dabook.runs.experiments import expand
from dabook.runs.progress import following
from dalib.config import RunConfig
from dalib.data.scenes import Scenes
from dalib.errors import CheckpointError
from dalib.evaluation.run import predict_images
from dalib.models.checkpoints import load
from dalib.models.depth_anything import DepthAnything, restore
from dalib.models.sizes import training_size
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
def _load(path: Path, _changed: float, encoder: str) -> DepthAnything:
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


def chosen(weights: str, profile: str) -> tuple[DepthAnything, int | None]:
    """A network that a reader names, or without a name the student of a profile, with the short
    side that it learned at if known."""
    if weights:
        path = Path(weights)
        return load(path if path.exists() else weights), training_size(path)
    config = expand("main_table", profile=profile, seeds=1)["full"].configs[0]
    return network(config), min(config.height, config.width)


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
