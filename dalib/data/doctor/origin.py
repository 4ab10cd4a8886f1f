"""Where a sample comes from: what it is called, its split and declared kind, and its stored map.

The schema does not carry these. A source that is not known here has a name and an index.
"""

import numpy as np

from dalib.data.hub import HubDataset
from dalib.data.maps import decode_map, decode_mask, read_bytes
from dalib.data.photos import PhotoFolder
from dalib.data.schema import Source
from dalib.data.sources import DepthManifest
from dalib.errors import DataError


def label(source: Source, index: int) -> str:
    """What a person looks a sample up by; nothing is decoded for it."""
    if isinstance(source, DepthManifest):
        return source.rows[index]["image"]
    if isinstance(source, PhotoFolder):
        return source._name(index)
    return f"sample {index}"


def split(source: Source, index: int) -> str:
    """The entry `split` of a manifest's row; "" where there is none."""
    if isinstance(source, DepthManifest):
        return source.rows[index].get("split", "")
    return ""


def kind(source: Source, index: int) -> str | None:
    """ "depth_m" or "disparity", as declared; None where the source does not say."""
    if isinstance(source, DepthManifest):
        return source.rows[index]["kind"]
    if isinstance(source, HubDataset) and source.truth is not None:
        return source.kind
    return None


def has_stored(source: Source) -> bool:
    """Whether `swapped` can be asked of it."""
    return isinstance(source, DepthManifest)


def swapped(source: Source, index: int) -> tuple[float, float] | None:
    """Share of the pixels inside the mask that hold no value, and of those outside that hold one;
    None without a mask or where map and mask cannot be compared."""
    if not isinstance(source, DepthManifest):
        return None
    _, depth, *mask = source._files(source.rows[index])
    if not mask:
        return None
    try:
        values, _ = decode_map(read_bytes(depth), name=str(depth))
        inside, _ = decode_mask(read_bytes(mask[0]), name=str(mask[0]))
    except DataError:  # said when the sample is read
        return None
    if values.shape != inside.shape or inside.all() or not inside.any():
        return None
    held = np.isfinite(values) & (values != 0)
    return float((~held[inside]).mean()), float(held[~inside].mean())
