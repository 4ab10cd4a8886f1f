"""A contact sheet: each image beside its map in colours, with its name and what was found."""

import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dalib.data.doctor import origin
from dalib.data.schema import Sample, Source
from dalib.errors import DataError

CELL = 240, 180
"""Width and height of a picture on the sheet."""
COLUMNS = 2
"""Pairs beside each other."""
PAD = 6
LINES = 4
SIZE = 12
WORDS = 76
"""Letters to a line under a pair."""
RAMP = np.array([(36, 24, 92), (30, 110, 170), (70, 190, 150), (240, 200, 70), (200, 50, 30)])
"""Far to near."""
HOLE, SKY = (0, 0, 0), (225, 225, 235)


Ends = tuple[float, float]  # disparities at the two ends of the colours


def colours(sample: Sample) -> UInt8[np.ndarray, "H W 3"]:
    """A sample's map as a picture, see `painted`."""
    return painted(sample["disparity"], sample["valid"], ends(sample["disparity"], sample["valid"]))


def ends(disparity: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"]) -> Ends:
    """The 2nd and the 98th percentile of what is valid and no sky; 0 and 0 where nothing is."""
    known = disparity[valid & (disparity > 0)].numpy()
    if not known.size:
        return 0.0, 0.0
    low, high = np.percentile(known, [2, 98])
    return float(low), float(high)


def painted(
    disparity: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"], shown: Ends
) -> UInt8[np.ndarray, "H W 3"]:
    """A map as a picture: blue is far and red is near between the two ends, holes are black, sky is
    nearly white."""
    values = disparity.numpy()
    known = valid.numpy()
    finite = known & (values > 0)
    picture = np.full((*values.shape, 3), HOLE, np.uint8)
    if finite.any():
        low, high = shown
        place = ((values - low) / max(high - low, 1e-12)).clip(0, 1) * (len(RAMP) - 1)
        channels = [np.interp(place, np.arange(len(RAMP)), RAMP[:, c]) for c in range(3)]
        picture[finite] = np.stack(channels, -1).round().astype(np.uint8)[finite]
    picture[known & (values == 0)] = SKY
    return picture


def draw(shown: Sequence[tuple[Source, int, str, str]]) -> Image.Image:
    """The sheet. The images are read once more, one at a time; one that cannot be read is a grey
    cell."""
    width, height = CELL
    pair = 2 * width + PAD, height + LINES * (SIZE + 3)
    rows = max(1, -(-len(shown) // COLUMNS))
    size = COLUMNS * (pair[0] + PAD) + PAD, rows * (pair[1] + PAD) + PAD
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(SIZE)
    for place, (source, index, name, found) in enumerate(shown):
        left = PAD + place % COLUMNS * (pair[0] + PAD)
        top = PAD + place // COLUMNS * (pair[1] + PAD)
        try:
            sample = source[index]
        except DataError:
            pen.rectangle((left, top, left + pair[0], top + height), fill=(150, 150, 150))
        else:
            photograph = sample["image"].permute(1, 2, 0).contiguous().numpy()
            sheet.paste(fitted(photograph, Image.Resampling.BOX), (left, top))
            if "disparity" in sample:
                drawn = fitted(colours(sample), Image.Resampling.NEAREST)
                sheet.paste(drawn, (left + width + PAD, top))
        heading = f"{name}, {origin.label(source, index)}"
        lines = [plain_text(heading), *_wrapped(found or "nothing found", LINES - 1)]
        colour = (170, 20, 20) if found else (60, 60, 60)
        for line, text in enumerate(lines):
            spot = left, top + height + 2 + line * (SIZE + 2)
            pen.text(spot, text, font=font, fill=colour if line else (0, 0, 0))
    return sheet


def fitted(
    picture: UInt8[np.ndarray, "H W 3"],
    how: Image.Resampling,
    cell: tuple[int, int] = CELL,
) -> Image.Image:
    """As large as fits into a cell of this width and height, its aspect kept."""
    height, width = picture.shape[:2]
    ratio = min(cell[0] / width, cell[1] / height)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    return Image.fromarray(picture).resize(size, how)


def plain_text(text: str, most: int = WORDS) -> str:
    """One line, of letters that the font has; the end of a name says more than its beginning."""
    plain = text.encode("latin-1", "replace").decode("latin-1")
    plain = "".join(letter if letter.isprintable() else "?" for letter in plain)
    return plain if len(plain) <= most else f"...{plain[-(most - 3) :]}"


def _wrapped(text: str, lines: int) -> list[str]:
    plain = text.encode("latin-1", "replace").decode("latin-1")
    return textwrap.wrap(plain, WORDS, max_lines=lines, placeholder=" ...")
