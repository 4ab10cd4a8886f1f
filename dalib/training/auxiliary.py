"""What a student has in training only: a decoder for semantic segmentation, which the authors tried
before feature alignment (section 3.3), and a linear layer towards the features of a frozen encoder
of another width.

For segmentation they labelled their pool with a chain of foundation models. Here the renderer's own
classes take that place, which no labelling could better, so that the row is an upper bound of what
the task can do for us.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dalib.data.scenes import CLASSES
from dalib.models.depth_anything import DepthAnything
from dalib.models.dpt import ClassDecoder
from dalib.models.segmenter import class_decoder


class WithAuxiliary(nn.Module):
    """A student with what it needs beside itself while it trains.

    Args:
        student: the network that stays when training is over.
        seed: of the new weights.
        segmentation: its encoder feeds a second DPT decoder as well.
        width: channels of the frozen encoder's features, where they are others than the student's;
            a linear layer takes the student's to that width (Depth-Anything#224).
    """

    def __init__(
        self,
        *,
        student: DepthAnything,
        seed: int,
        segmentation: bool = False,
        width: int | None = None,
    ):
        super().__init__()
        self.student = student
        self.segmentation = _decoder(student, seed=seed) if segmentation else None
        self.projection = None
        if width is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.projection = nn.Conv2d(student.encoder.channels[-1], width, 1)

    @property
    def heads(self) -> list[nn.Module]:
        """What is new here, and learns at the decoder's rate."""
        return [m for m in (self.segmentation, self.projection) if m is not None]

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        """Disparity (b, h, w) and the encoder's deepest features, in the frozen encoder's width;
        with segmentation the classes' logits (b, k, h, w) as well."""
        maps = self.student.encoder(images)
        size = tuple(images.shape[-2:])
        features = maps[-1] if self.projection is None else self.projection(maps[-1])
        found = self.student.decoder(maps, size), features
        if self.segmentation is None:
            return found
        return *found, self.segmentation(maps, size)


def _decoder(student: DepthAnything, *, seed: int) -> ClassDecoder:
    """A second decoder beside the student's, whose head has the classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return class_decoder(student.encoder, classes=len(CLASSES))


def on_grid_of(
    reference: Float[Tensor, "b c h w"], features: Float[Tensor, "b d h2 w2"]
) -> Float[Tensor, "b d h w"]:
    """Features at the places of others, for encoders of different strides."""
    size = tuple(reference.shape[-2:])
    if tuple(features.shape[-2:]) == size:
        return features
    return F.interpolate(features.float(), size, mode="bilinear", align_corners=False)


def segmentation(
    logits: Float[Tensor, "b k h w"], classes: UInt8[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy over all pixels."""
    return F.cross_entropy(logits.float(), classes.long())
