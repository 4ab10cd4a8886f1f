"""Which pseudo labels to trust first: ST++'s selective re-training (arXiv:2106.05095), carried over
from classes to disparity.

ST++ ranks unlabelled images by how well the labels of earlier teacher checkpoints agree with the
last one's, trains a student on the better half, lets that student label the rest anew, and trains a
fresh student on everything. Agreement of classes was their mean IoU; for disparity it is the
affine-invariant loss between the maps.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dalib import losses
from dalib.data.mixture import fetch, pool_crop
from dalib.data.schema import Source
from dalib.errors import DataError
from dalib.training.pseudo import Labeller, Labels, PseudoLabels
from dalib.writing import whole

STABILITY = "instability.safetensors"


def instability(
    earlier: Sequence[Labeller],
    source: Source,
    labels: PseudoLabels,
    *,
    height: int,
    width: int,
    seen: tuple[int, int] | None = None,
    batch: int = 32,
) -> Float[Tensor, " n"]:
    """Mean affine-invariant loss of each image between what earlier networks say and its pseudo
    label; low is stable.

    Args:
        earlier: the teacher as it was before the end of its training.
        source: unlabelled images; they are not perturbed.
        labels: the pseudo labels of the teacher at the end.
        height, width: size of the images that the student will see.
        seen: size of those that the networks take; by default the same.
        batch: images at a time.
    """
    rows, columns = seen or (height, width)
    error = torch.empty(len(source))
    for start in range(0, len(source), batch):
        indices = np.arange(start, min(start + batch, len(source)))
        images = fetch(source, indices, height=rows, width=columns, crop=pool_crop)["image"]
        last = labels.get_batch(indices)
        everywhere = torch.ones_like(last, dtype=torch.bool)
        maps = [network.predict(images).cpu() for network in earlier]
        found = [losses.affine_invariant(m, last, everywhere) for m in maps]
        error[indices] = torch.stack(found).mean(0)
    return error


def stable_half(error: Float[Tensor, " n"]) -> Int[np.ndarray, " m"]:
    """Indices of the half with the lower error (rounded up), in ascending order; of equals the
    first ones."""
    count = (len(error) + 1) // 2
    best = error.argsort(stable=True)[:count]
    return np.sort(best.numpy())


def write(path: Path, error: Float[Tensor, " n"]) -> None:
    """Keep the errors, atomically."""
    with whole(path) as partial:
        save_file({"instability": error}, partial)


def read(path: Path) -> Float[Tensor, " n"]:
    """What `write` kept; a damaged file is a `DataError`."""
    try:
        return load_file(path)["instability"]
    except (SafetensorError, OSError, KeyError) as error:
        raise DataError(f"{path}: not readable ({error}); delete it and run again") from error


class Relabelled:
    """Pseudo labels of two networks.

    Args:
        first: labels of the images that are kept.
        later: labels of all others.
        kept: indices of the images whose first label stays.
    """

    def __init__(self, first: Labels, later: Labels, *, kept: Int[np.ndarray, " m"]):
        self.first = first
        self.later = later
        self.kept = kept

    def get_batch(self, indices: np.ndarray) -> Float[Tensor, "b h w"]:
        """Disparity in 0..1 (float32) of the images with these indices."""
        indices = np.asarray(indices)
        stays = np.isin(indices, self.kept)
        maps = self.later.get_batch(indices)
        if stays.any():
            maps[torch.from_numpy(stays)] = self.first.get_batch(indices[stays])
        return maps
