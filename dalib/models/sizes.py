"""At which size a network sees best, where nobody says."""

import json
from pathlib import Path

from torch import nn

PAPER, TOY = 518, 96
"""Default short sides: of DINOv2 encoders as in the paper, and of a CNN, which here learned at 96 x
128."""


def default_short_side(model: nn.Module) -> int:
    """518 for a ViT, else 96, since a small CNN sees best at about the size it was trained at. A
    guess: say it if you know."""
    return PAPER if getattr(getattr(model, "encoder", None), "is_vit", True) else TOY


def training_size(weights: Path) -> int | None:
    """The short side that a run's network learned at, as written beside its weights; None for
    weights from elsewhere."""
    try:
        config = json.loads(weights.with_name("job.json").read_text())["config"]
        return min(config["height"], config["width"])
    except (OSError, ValueError, KeyError):
        return None
