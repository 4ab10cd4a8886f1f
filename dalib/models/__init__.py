"""Networks: an encoder (of timm), a DPT decoder, and the two together."""

from dalib.models.checkpoints import load
from dalib.models.depth_anything import DepthAnything, build, save

__all__ = ["DepthAnything", "build", "load", "save"]
