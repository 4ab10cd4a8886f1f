"""Maps as files: 16-bit PNG, .npy and coloured PNG, at full size, written in bands of rows and
never left half done; and what goes with them: error bars, confidence, clouds of points.

A band is a few million pixels, so that a map of any size costs little memory; for a PNG see
`dalib.predict.png`. What the values mean stands in the PNG's own text chunks:

- `kind` "disparity": value = minimum + stored * (maximum - minimum) / 65535; `minimum` and
  `maximum` are the map's own.
- `kind` "depth_m": metres = stored / depth_scale. The scale is 1000 (millimetres), or 256 where the
  network reaches beyond 65.535 m, which millimetres in 16 bits cannot say. Where metres come from
  known distances (`fit`), stored 65535 is infinitely far, and what is too far for 16 bits is 65534.
- `kind` "confidence": stored / 65535 is the share of pixels of such a score that were within a
  factor of 1.25 of the true depth (`dalib.predict.confidence`).
- `kind` "disagreement": as "disparity", in shares of the map's range; not calibrated.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dalib.data.files import open_image
from dalib.errors import ConfigError, DataError
from dalib.geometry import Cloud, write_glb, write_ply
from dalib.predict.metres import ScaleShift
from dalib.predict.png import write_png
from dalib.writing import whole

ENDS = {
    "png16": ".png",
    "npy": ".npy",
    "colour": ".colour.png",
    "sigma": ".sigma.npy",
    "confidence": ".confidence.png",
    "ply": ".ply",
    "glb": ".glb",
}
"""Format -> what is put behind the name."""
CLOUDS = ("ply", "glb")
OF_FRAMES = ("png16", "npy", "colour")
"""Formats that a video has, too."""
COLOURS = "Spectral_r"
BAND = 2**22  # pixels
TOP = 65535


def targets(stem: Path, formats: tuple[str, ...]) -> dict[str, Path]:
    """Format -> file. A stem may hold dots."""
    if unknown := ", ".join(sorted(set(formats) - set(ENDS))) or (not formats and "none"):
        raise ConfigError(f"format: {unknown} unknown; choose from {', '.join(ENDS)}")
    return {name: stem.with_name(stem.name + ENDS[name]) for name in formats}


def bands(disparity: Float[Tensor, "h w"], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The map resized as `resize_disparity` does it, as float32 arrays (rows, W) from top to
    bottom."""
    height, width = size
    rows = disparity.shape[0]
    # (h, w) -> (h, W)
    wide = F.interpolate(disparity[None], width, mode="linear", align_corners=False)[0]
    step = max(1, BAND // width)
    for start in range(0, height, step):
        middles = torch.arange(start, min(start + step, height), dtype=torch.float64) + 0.5
        place = (middles * rows / height - 0.5).clamp(0, rows - 1)
        above = place.long()
        share = (place - above).float()[:, None]
        yield torch.lerp(wide[above], wide[(above + 1).clamp(max=rows - 1)], share).numpy()


def save(
    disparity: Float[Tensor, "h w"],
    size: tuple[int, int],
    files: dict[str, Path],
    *,
    kind: str = "disparity",
    max_depth: float | None = None,
    colours: str = COLOURS,
    fit: ScaleShift | None = None,
    cloud: tuple[Cloud, str] | None = None,
    certainty: tuple[Float[Tensor, "h w"], str] | None = None,
) -> None:
    """Write one map, given at the network's size, in each format at the size of its image.

    Args:
        disparity: relative disparity, or depth in metres for kind "depth_m"; finite.
        size: (H, W) of the files.
        files: format -> file, see `targets`. Folders are made.
        kind: "disparity" or "depth_m".
        max_depth: in metres, of a metric network.
        colours: a Matplotlib colour map for the format "colour".
        fit: makes metres of relative disparity: PNG and npy then hold depth, and the format "sigma"
            its standard deviation, as npy in metres. The colours stay those of the disparity.
        cloud: with its unit, for the formats "ply" and "glb".
        certainty: for the format "confidence": a map at the network's size, and its kind,
            "confidence" or "disagreement".
    """
    writers = {
        "png16": _write_png16,
        "npy": _write_npy,
        "colour": _write_colour,
        "sigma": _write_sigma,
        "confidence": _write_certainty,
        "ply": _write_cloud,
        "glb": _write_cloud,
    }
    how = {"kind": kind, "max_depth": max_depth, "colours": colours, "fit": fit}
    how |= {"cloud": cloud, "certainty": certainty, "end": ""}
    for name, path in files.items():
        with whole(path, durable=False) as partial:
            writers[name](partial, disparity, size, **(how | {"end": ENDS[name]}))


def read_png16(path: Path) -> tuple[Float[Tensor, "H W"], str]:
    """(map, kind) out of a 16-bit PNG that `save` wrote: the float map to within 1/131070 of its
    range, or to half a step in metres."""
    picture = open_image(path)
    texts = getattr(picture, "text", {})
    stored = torch.from_numpy(np.asarray(picture).astype(np.float64))
    try:
        if texts["kind"] == "depth_m":
            metres = (stored / float(texts["depth_scale"])).float()
            if "infinite" in texts:
                metres[stored == float(texts["infinite"])] = torch.inf
            return metres, "depth_m"
        if texts["kind"] == "confidence":
            return (stored / TOP).float(), "confidence"
        low = float(texts["minimum"])
        high = float(texts["maximum"])
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{path}: no 16-bit PNG of dalib.predict (text chunk {error}); predict the image again"
        ) from error
    return (low + stored * (high - low) / TOP).float(), texts["kind"]


def shown_range(disparity: Float[Tensor, "h w"], kind: str) -> tuple[float, float]:
    """Disparities at the two ends of the colours: the 2nd and 98th percentile, so that one odd
    pixel changes nothing."""
    low, high = np.quantile(_nearness(disparity.numpy(), kind), (0.02, 0.98))
    return float(low), float(high)


def palette(colours: str) -> np.ndarray:
    """A Matplotlib colour map as uint8 (256, 3)."""
    try:
        from matplotlib import colormaps
    except ImportError as error:
        raise ConfigError("colours need Matplotlib: python -m pip install matplotlib") from error
    if colours not in colormaps:
        raise ConfigError(
            f"colours: {colours!r} is no Matplotlib colour map; try Spectral_r, "
            "inferno, viridis or gray"
        )
    return (255 * colormaps[colours](np.linspace(0, 1, 256))[:, :3]).round().astype(np.uint8)


def indices(values: np.ndarray, kind: str, ends: tuple[float, float]) -> np.ndarray:
    """Values of a map -> uint8 places in a palette; near is high, whatever the kind."""
    low, high = ends
    unit = (_nearness(values, kind) - low) / ((high - low) or 1)
    return (255 * unit.clip(0, 1)).round().astype(np.uint8)


def depth_scale(max_depth: float | None) -> int:
    """Stored steps per metre."""
    return 256 if max_depth is not None and max_depth * 1000 > TOP else 1000


def _nearness(values: np.ndarray, kind: str) -> np.ndarray:
    return 1 / values.clip(1e-3) if kind == "depth_m" else values  # nearer than 1 mm is no depth


def _write_npy(
    path: Path, disparity: Tensor, size: tuple[int, int], *, fit: ScaleShift | None = None, **_
) -> None:
    _write_bands(path, _metres(bands(disparity, size), fit), size)


def _write_sigma(
    path: Path, disparity: Tensor, size: tuple[int, int], *, fit: ScaleShift, **_
) -> None:
    _write_bands(
        path, (fit.error(torch.from_numpy(b)).numpy() for b in bands(disparity, size)), size
    )


def _write_bands(path: Path, rows: Iterator[np.ndarray], size: tuple[int, int]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": size}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for band in rows:
            file.write(band.astype("<f4", copy=False).tobytes())


def _metres(rows: Iterator[np.ndarray], fit: ScaleShift | None) -> Iterator[np.ndarray]:
    """Bands of disparity as depth, or as they are."""
    if fit is None:
        return rows
    return (fit.depth(torch.from_numpy(band)).numpy() for band in rows)


def _write_png16(
    path: Path,
    disparity: Tensor,
    size: tuple[int, int],
    *,
    kind: str,
    max_depth: float | None,
    fit: ScaleShift | None = None,
    **_,
) -> None:
    if fit is not None:
        _write_fitted(path, disparity, size, fit)
        return
    if kind == "depth_m":
        low = 0.0
        steps = float(depth_scale(max_depth))
        texts = {
            "depth_scale": str(depth_scale(max_depth)),
            "Description": "metres = stored / depth_scale",
        }
    else:
        low = float(disparity.min())
        high = float(disparity.max())
        steps = TOP / (high - low) if high > low else 1.0
        texts = {"minimum": repr(low), "maximum": repr(high)}
        what = {"disparity": "relative disparity", "disagreement": "disagreement"}[kind]
        texts["Description"] = f"{what} = minimum + stored * (maximum - minimum) / 65535"
        texts["Description"] += "; larger is nearer" if kind == "disparity" else ""
    stored = (
        ((band - low) * steps).round().clip(0, TOP).astype(np.uint16)
        for band in bands(disparity, size)
    )
    write_png(path, stored, size, depth=16, texts={"kind": kind, **texts})


def _write_fitted(path: Path, disparity: Tensor, size: tuple[int, int], fit: ScaleShift) -> None:
    """Depth out of known distances, in steps of a millimetre or, where something lies beyond 65.534
    m, of 1/256 m."""
    depth = fit.depth(disparity)
    farthest = float(depth[depth.isfinite()].max()) if depth.isfinite().any() else 0.0
    steps = depth_scale(farthest + 1e-3)  # 65535 is infinitely far
    scale_error, shift_error = fit.errors
    texts = {
        "depth_scale": str(steps),
        "infinite": str(TOP),
        "Description": "metres = stored / depth_scale; stored 65535 is infinitely far, and 65534 as "
        "far or farther; scale and shift are those of the disparity, in 1/m, with standard errors",
        "scale": repr(fit.scale),
        "scale_error": repr(scale_error),
        "shift": repr(fit.shift),
        "shift_error": repr(shift_error),
        "scatter": repr(fit.scatter),
    }
    stored = (
        np.where(np.isfinite(band), (band * steps).round().clip(1, TOP - 1), TOP).astype(np.uint16)
        for band in _metres(bands(disparity, size), fit)
    )
    write_png(path, stored, size, depth=16, texts={"kind": "depth_m", **texts})


def _write_certainty(
    path: Path,
    _disparity: Tensor,
    size: tuple[int, int],
    *,
    certainty: tuple[Tensor, str],
    **_,
) -> None:
    values, kind = certainty
    if kind == "disagreement":
        _write_png16(path, values, size, kind=kind, max_depth=None)
        return
    stored = ((band * TOP).round().clip(0, TOP).astype(np.uint16) for band in bands(values, size))
    texts = {
        "kind": kind,
        "Description": "confidence = stored / 65535: of pixels of such a score, the share that was "
        "within a factor of 1.25 of the true depth",
    }
    write_png(path, stored, size, depth=16, texts=texts)


def _write_cloud(
    path: Path,
    _disparity: Tensor,
    _size: tuple[int, int],
    *,
    cloud: tuple[Cloud, str],
    end: str,
    **_,
) -> None:
    points, unit = cloud
    (write_ply if end == ENDS["ply"] else write_glb)(path, points, unit=unit)


def _write_colour(
    path: Path, disparity: Tensor, size: tuple[int, int], *, kind: str, colours: str, **_
) -> None:
    ends = shown_range(disparity, kind)
    places = (indices(band, kind, ends) for band in bands(disparity, size))
    write_png(
        path,
        places,
        size,
        depth=8,
        texts={"kind": kind, "colours": colours},
        table=palette(colours),
    )
