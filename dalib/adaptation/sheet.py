"""The contact sheet: what the numbers are about, to be looked at.

Maps are shown as the distance sees them, minus their median and divided by their mean absolute
deviation, and all in the colours of the teacher's range: what looks the same is the same.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from dalib.adaptation.compare import Comparison, Eyes, choose, normalised, shown_span
from dalib.data.schema import Source
from dalib.evaluation.run import resize_disparity

WORST, RANDOM = 3, 9
"""Photographs on the sheet."""
WIDTH = 256
"""Pixels of the longer side of a picture on the sheet."""
MOST = 2.0
"""Difference, in the teacher's mean absolute deviations, at the end of the colours."""
# from far to near: dark and cool to bright and warm, in steps of about equal lightness
DEPTH = ((13, 17, 48), (44, 42, 108), (105, 52, 135), (176, 66, 122), (233, 104, 84), (250, 170, 82),
         (251, 238, 164))  # fmt: skip
DIFFERENCE = ((244, 244, 246), (250, 214, 165), (240, 140, 90), (200, 50, 60), (105, 10, 45))
TILES = ("photograph", "teacher", "before", "after", "difference")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One photograph: its tiles as `data:` addresses, and its numbers.

    Attributes:
        index: its place in `Comparison.names`.
        why: "worst" or "random".
        tiles: of `TILES`, each an image that HTML can show.
        before, after: distances.
    """

    index: int
    why: str
    name: str
    tiles: dict[str, str]
    before: float
    after: float


def ramp(
    values: Float[np.ndarray, "h w"], anchors: Sequence[tuple[int, int, int]]
) -> UInt8[np.ndarray, "h w 3"]:
    """Values in 0..1 as colours between anchors; what lies outside takes the end's."""
    places = np.linspace(0, 1, len(anchors))
    columns = np.array(anchors, np.float64).T
    channels = [np.interp(values.clip(0, 1), places, c) for c in columns]
    return np.stack(channels, -1).round().astype(np.uint8)


def css_ramp(anchors: Sequence[tuple[int, int, int]]) -> str:
    """The same colours for a legend."""
    return f"linear-gradient(90deg,{','.join(f'rgb{a}' for a in anchors)})"


def jpeg_address(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """An image that is its own address, as a JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def pick(
    comparison: Comparison, *, worst: int = WORST, random: int = RANDOM
) -> list[tuple[int, str]]:
    """Places of the photographs to show, and why: those where the student is farthest from its
    teacher now, then a seeded choice of the rest in the order of the photographs."""
    after = comparison.per_photograph["distance"]["after"]
    known = [k for k, value in enumerate(after) if value is not None]
    ordered = sorted(known, key=lambda k: (-after[k], k))
    bad = ordered[:worst] if len(known) > worst else []
    rest = sorted(set(known) - set(bad))
    chosen = choose(len(rest), random, seed=comparison.seed + 2) if rest else []
    return [(k, "worst") for k in bad] + [(rest[k], "random") for k in chosen]


def contact_sheet(eyes: Eyes, photographs: Source, comparison: Comparison) -> list[Row]:
    """Look again at some photographs of a comparison.

    Args:
        eyes: the networks that were compared.
        photographs: that they were compared on.
        comparison: of them.
    """
    rows = []
    distances = comparison.per_photograph["distance"]
    for place, why in pick(comparison):
        name = comparison.names[place]
        picture = eyes.picture(photographs[comparison.indices[place]]["image"], name=name)
        maps = {
            "teacher": eyes.teacher(picture, name=name),
            "before": eyes.before(picture, name=name),
            "after": eyes.after(picture, name=name),
        }
        rows.append(
            Row(
                index=place,
                why=why,
                name=name,
                tiles=tiles(picture, **maps),
                before=distances["before"][place],
                after=distances["after"][place],
            )
        )
    return rows


def tiles(
    picture: UInt8[Tensor, "3 h w"],
    *,
    teacher: Float[Tensor, "h w"],
    before: Float[Tensor, "h w"],
    after: Float[Tensor, "h w"],
) -> dict[str, str]:
    """The images of one photograph, by the names in `TILES`."""
    height, width = picture.shape[1:]
    ratio = min(1, WIDTH / max(height, width))
    size = max(1, round(height * ratio)), max(1, round(width * ratio))
    shrunk = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize(size[::-1])
    result = {"photograph": jpeg_address(np.asarray(shrunk))}

    maps = {
        k: normalised(x) for k, x in (("teacher", teacher), ("before", before), ("after", after))
    }
    low, span = shown_span(maps["teacher"])
    apart = (maps["after"] - maps["teacher"]).abs()
    for name, x in maps.items():
        small = resize_disparity(x[None].float(), size)[0].numpy()
        result[name] = jpeg_address(ramp((small - low) / (span or 1), DEPTH))
    small = resize_disparity(apart[None].float(), size)[0].numpy()
    result["difference"] = jpeg_address(ramp(small / MOST, DIFFERENCE))
    return result
