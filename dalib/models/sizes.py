"""The size of a network's input: at which it sees best where nobody says, and images and maps
brought to it and back."""

import json
from pathlib import Path

from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from dalib.errors import ConfigError

PAPER, TOY = 518, 96
"""Default short sides: of DINOv2 encoders as in the paper, and of a CNN, which here learned at 96 x
128."""


def default_short_side(model: nn.Module) -> int:
    """At which short side a network sees images where nobody says: what its weights say of their
    training (`about`), else 518 for a ViT and 96 for a CNN, since a small CNN sees best at about the
    size it was trained at. The last is a guess: say it if you know."""
    about = getattr(model, "about", None) or {}
    trained = about.get("trained")
    learned = trained.get("short_side") if isinstance(trained, dict) else None
    if type(learned) is int and learned > 0:
        return learned
    return PAPER if getattr(getattr(model, "encoder", None), "is_vit", True) else TOY


def training_size(weights: Path) -> int | None:
    """The short side that a run's network learned at, as written beside its weights; None for
    weights from elsewhere."""
    try:
        config = json.loads(weights.with_name("job.json").read_text())["config"]
        return min(config["height"], config["width"])
    except (OSError, ValueError, KeyError):
        return None


def network_size(height: int, width: int, *, short_side: int, multiple: int) -> tuple[int, int]:
    """The network's input size: aspect kept as far as sides that are multiples of `multiple` allow.

    The short side becomes `short_side`, raised to a multiple; the long side goes to the nearest
    multiple, and is never shorter than the other. The paper's inference has short_side = 518 and
    multiple = 14.
    """
    if min(height, width, short_side, multiple) < 1:
        raise ConfigError(
            f"{height}x{width}, short_side {short_side}, multiple {multiple}: all "
            "must be at least 1"
        )
    ratio = short_side / min(height, width)
    least = -(-short_side // multiple) * multiple
    h, w = (max(least, round(side * ratio / multiple) * multiple) for side in (height, width))
    return h, w


def resize_images(
    images: UInt8[Tensor, "B 3 H W"], size: tuple[int, int]
) -> Float[Tensor, "B 3 h w"]:
    """uint8 to 0..1 and to `size`: bicubic as in the paper's inference; antialiased, as we shrink
    far more than it."""
    pixels = images.float() / 255
    if tuple(images.shape[-2:]) == tuple(size):
        return pixels
    return F.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False).clamp(
        0, 1
    )


def resize_disparity(
    disparity: Float[Tensor, "B h w"], size: tuple[int, int]
) -> Float[Tensor, "B H W"]:
    """Bilinear, align_corners=False; a map that has the size already is returned as it is."""
    if tuple(disparity.shape[-2:]) == tuple(size):
        return disparity
    return F.interpolate(disparity[:, None].float(), size, mode="bilinear", align_corners=False)[
        :, 0
    ]
