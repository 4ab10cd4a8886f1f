"""What tests of training share: small sources in memory, a tiny run, and ways to end one."""

import hashlib

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from dalib.config import RunConfig
from dalib.data.schema import Source


class Smooth(Source):
    """Random smooth images whose disparity is what one sees: brighter is nearer. Sample i depends
    on (seed, i) alone.

    Args:
        count, height, width: how many, and how large.
        seed: of the source.
        labelled: with disparity and a valid mask in which one corner is unknown.
    """

    domain = "smooth"

    def __init__(
        self,
        *,
        count: int = 24,
        height: int = 64,
        width: int = 96,
        seed: int = 0,
        labelled: bool = True,
    ):
        self.count, self.shape, self.seed, self.labelled = count, (height, width), seed, labelled
        self.fingerprint = hashlib.sha256(
            repr((count, height, width, seed, labelled)).encode()
        ).hexdigest()[:16]

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


def pairs(folder, *, count=3, more=(), entries=()):
    """A folder of `Smooth` images with their disparity and a manifest, perhaps with further columns
    and their entries."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [",".join(["image", "depth", "kind", "depth_scale", *more])]
    for k, sample in enumerate(Smooth(count=count, seed=5)):
        Image.fromarray(sample["image"].permute(1, 2, 0).numpy()).save(folder / f"{k}.png")
        np.save(folder / f"{k}.npy", sample["disparity"].numpy())
        rows.append(",".join([f"{k}.png", f"{k}.npy", "disparity", "1", *entries]))
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder


TINY = RunConfig(
    height=64, width=96, steps=6, batch=2, checkpoint_every=2, log_every=1, encoder_lr=1e-3
)


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
    """Stands for the student: disparity = the mean colour, features = the colours in cells of 16
    pixels."""

    @staticmethod
    def normalise(images):
        return images

    def __call__(self, images):
        return images.mean(1), F.avg_pool2d(images, 16)


class Trained(list):
    def __init__(self):
        super().__init__()
        self.given = {}
