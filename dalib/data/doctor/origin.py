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
    return isinstance(source, DepthManifest | HubDataset)


def swapped(source: Source, index: int) -> tuple[float, float] | None:
    """Share of the pixels inside the mask that hold no value, and of those outside that hold one;
    None without a mask or where map and mask cannot be compared."""
    try:
        found = _stored(source, index)
    except DataError:  # said when the sample is read
        return None
    if found is None:
        return None
    values, inside = found
    if values.shape != inside.shape or inside.all() or not inside.any():
        return None
    held = np.isfinite(values) & (values != 0)
    return float((~held[inside]).mean()), float(held[~inside].mean())


def _stored(source: Source, index: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Map and mask of a sample as they are stored; None where there is no mask."""
    if isinstance(source, DepthManifest):
        row = source.rows[index]
        native = "native_" if row.get("native_image") and row.get("native_depth") else ""
        if not (mask := row.get(f"{native}mask")):
            return None
        depth_path, mask_path = (
            source.manifest.parent / name for name in (row[f"{native}depth"], mask)
        )
        values, _ = decode_map(read_bytes(depth_path), name=str(depth_path))
        inside, _ = decode_mask(read_bytes(mask_path), name=str(mask_path))
        return values, inside
    if isinstance(source, HubDataset) and source.truth and source.mask:
        row = source.data[index]
        name = f"{source.name}, sample {index}"
        values, _ = source._read(row, source.truth, decode_map, name=name)
        inside, _ = source._read(row, source.mask, decode_mask, name=name)
        return values, inside != 0
    return None
