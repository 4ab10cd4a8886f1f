"""Procedural RGB-D scenes with exact disparity: what the study trains on and is tested on, made
from integers.

From bottom to top: `primitives` and `textures` are what scenes are built of; `objects`,
`interiors`, `halls`, `outdoors` and `landscapes` build them; `glance` sorts out the empty ones;
`raycast` casts rays, `shading` lights what they meet, `styles` develops the picture; `splits` says
which scenes there are, and `cache` keeps them on disk.
"""

from dalib.data.scenes.cache import CachedScenes, materialise
from dalib.data.scenes.primitives import CLASSES
from dalib.data.scenes.splits import (
    KINDS,
    SPLITS,
    STYLES,
    TEST_DOMAINS,
    TUNE_DOMAINS,
    Scenes,
    Split,
    describe,
    render,
)

__all__ = [
    "CLASSES",
    "KINDS",
    "SPLITS",
    "STYLES",
    "TEST_DOMAINS",
    "TUNE_DOMAINS",
    "CachedScenes",
    "Scenes",
    "Split",
    "describe",
    "materialise",
    "render",
]
