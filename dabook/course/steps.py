"""One step of a student on unlabelled images, in a dozen lines: what a lab compares a student's own
version with. The library's is `dalib.training.step`, which has every switch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dalib.data import perturb
from dalib.losses import cutmix_unlabelled

KINDS = ("colour", "blur", "cutmix")


def unlabelled_loss(
    student: Callable[[Tensor], Tensor],
    images: Tensor,
    target: Tensor,
    keys: Sequence[Sequence[int]],
) -> Tensor:
    """The loss on unlabelled images under strong perturbation, a number (equations 5 to 8).

    Args:
        student: images (B, 3, H, W) in 0..1 -> disparity (B, H, W).
        images: in 0..1, clean; an even number of them.
        target: the teacher's disparity of the clean images.
        keys: of each image, what its random numbers depend on.
    """
    height, width = images.shape[2:]
    drawn = perturb.draw(keys, KINDS, height=height, width=width)
    seen, inside = perturb.apply(images, drawn)
    partner = perturb.partner(len(images))
    return cutmix_unlabelled(
        student(seen), target, target_inside=target[partner], inside=inside
    ).mean()


def brightness(images: Tensor) -> Tensor:
    """Stands for a student where none is trained: (B, 3, H, W) -> (B, H, W)."""
    return torch.einsum("bchw,c->bhw", images, images.new_tensor([0.299, 0.587, 0.114]))
