"""Tiny data with known depth in metres, and predictions of it as other software would write them."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 24, 32
"""Rows and columns."""


def true_depth(index: int) -> np.ndarray:
    """Depth of an image in metres, float64: 2 to 6 m, another slope in each image."""
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    wave = np.sin(columns / (4 + index)) * np.cos(rows / (3 + index / 2))
    return 4 + 2 * wave


def rooms(
    folder: Path,
    *,
    count: int = 3,
    more: dict[str, list[str]] | None = None,
    scale_known: bool = True,
) -> Path:
    """A folder of images with depth in metres, `0.png` with `0.npy` and so on below `images` and
    `depth`; the top row has no ground truth. `more` are further columns of the manifest."""
    for name in ("images", "depth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    more = more or {}
    head = ["image", "depth", "kind", "depth_scale", "scale_known", *more]
    lines = [",".join(head)]
    for k in range(count):
        depth = true_depth(k)
        grey = (255 * (depth - 2) / 4).round().astype(np.uint8)
        Image.fromarray(np.stack([grey] * 3, -1)).save(folder / f"images/{k}.png")
        stored = depth.copy()
        stored[0] = 0
        np.save(folder / f"depth/{k}.npy", stored)
        known = "yes" if scale_known else "no"
        entries = [f"images/{k}.png", f"depth/{k}.npy", "depth_m", "1", known]
        lines.append(",".join([*entries, *(column[k] for column in more.values())]))
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


KINDS = {
    "disparity": lambda depth: 1 / depth,
    "depth": lambda depth: depth,
    "log_depth": np.log,
}
"""Kind -> depth in metres as that."""


def perfect(folder: Path, *, kind: str, count: int = 3, scale: float = 1, shift: float = 0) -> Path:
    """A folder of .npy predictions that are right, or right up to a scale and a shift."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        values = scale * KINDS[kind](true_depth(k)) + shift
        np.save(folder / f"{k}.npy", values)
    return folder
