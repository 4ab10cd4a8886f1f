"""Semantic segmentation as the task of a run: the encoder is fine-tuned under a new decoder of
classes (section 4.4), on the classes of the labelled images.

Of the sources that there are, the drawn scenes alone have classes; there is no reader of class maps
yet, and a source without classes is refused before training.
"""

from pathlib import Path

import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from dalib.data.mixture import Batch
from dalib.data.scenes import CLASSES
from dalib.evaluation.segmentation import IGNORE
from dalib.models.segmenter import Segmenter, build_segmenter, restore_segmenter
from dalib.training.tasks import Task


class Segmentation(Task):
    """The class of each pixel: cross-entropy on the labelled images."""

    name = "segmentation"

    def build(self, *, encoder_weights: Path | None) -> Segmenter:
        """See `Task.build`; the decoder has the classes of the drawn scenes."""
        config = self.config
        return build_segmenter(
            config.encoder,
            classes=CLASSES,
            pretrained=config.pretrained,
            layers=config.layers,
            encoder_weights=encoder_weights,
            seed=config.seed,
        )

    def restore(self, path: Path) -> Segmenter:
        """See `Task.restore`."""
        return restore_segmenter(path, expect=self.config.encoder)

    def loss(self, pred: Tensor, batch: Batch) -> Float[Tensor, ""]:
        """See `cross_entropy`."""
        return cross_entropy(pred, batch["semantics"])


def cross_entropy(
    logits: Float[Tensor, "b k h w"], classes: UInt8[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """Mean over the images of the mean cross-entropy over an image's pixels of known class, in
    float32.

    A mean over images, as every loss here, so that parts of a batch and processes add up to the
    whole. An image without any known pixel counts as 0.

    Args:
        logits: of the k classes.
        classes: the true class of each pixel; `IGNORE` where it is unknown.
    """
    error = F.cross_entropy(
        logits.float(), classes.long(), ignore_index=IGNORE, reduction="none"
    )  # (b, h, w), 0 where the class is unknown
    known = (classes != IGNORE).flatten(1).sum(1)
    return (error.flatten(1).sum(1) / known.clamp_min(1)).mean()
