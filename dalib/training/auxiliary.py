"""Semantic segmentation as an auxiliary task with a decoder of its own: what the authors tried
before feature alignment (section 3.3).

They labelled their pool with a chain of foundation models. Here the renderer's own classes take
that place, which no labelling could better, so that the row is an upper bound of what the task can
do for us.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dalib.data.scenes import CLASSES
from dalib.models.depth_anything import DepthAnything
from dalib.models.dpt import DPT


class WithSegmentation(nn.Module):
    """A student whose encoder feeds a second DPT decoder as well, for training only.

    Args:
        student: the network that stays when training is over.
        seed: of the new decoder's weights.
    """

    def __init__(self, *, student: DepthAnything, seed: int):
        super().__init__()
        self.student = student
        spec = student.encoder.spec
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.segmentation = DPT(
                channels=student.encoder.channels,
                out_channels=spec.out_channels,
                features=spec.features,
                scales=student.encoder.scales,
                hidden=spec.hidden,
            )
            self.segmentation.head = nn.Conv2d(spec.features // 2, len(CLASSES), 1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, Tensor, Tensor]:
        """Disparity (b, h, w), the encoder's deepest features, and the classes' logits (b, k, h,
        w)."""
        maps = self.student.encoder(images)
        size = tuple(images.shape[-2:])
        logits = self.segmentation.head(self.segmentation.path(maps))
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=True)
        return self.student.decoder(maps, size), maps[-1], logits


def segmentation(
    logits: Float[Tensor, "b k h w"], classes: UInt8[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy over all pixels."""
    return F.cross_entropy(logits.float(), classes.long())
