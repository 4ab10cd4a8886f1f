"""Reading networks."""

from pathlib import Path

from dalib.models.depth_anything import DepthAnything, restore


def load(source: Path) -> DepthAnything:
    """Read a network that `save` wrote."""
    return restore(source)
