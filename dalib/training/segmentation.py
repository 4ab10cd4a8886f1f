"""The loss of semantic segmentation, where that is the task of a run: the encoder is fine-tuned
under a new decoder of classes (section 4.4), on the classes of the labelled images.

Of the sources that there are, the drawn scenes alone have classes; there is no reader of class maps
yet, and a source without classes is refused before training.
"""

import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from dalib.data.schema import IGNORE


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
