"""The worst images of an evaluation on one sheet: image, truth, prediction and error."""

import heapq
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from dalib.data.doctor.sheet import HOLE, ends, fitted, painted, plain_text

WORST = 10
"""Images on a sheet."""
CELL = 260, 180
"""Width and height of a picture on the sheet, in pixels."""
PAD = 6
SIZE = 13
HEADS = ("image", "truth (red is near)", "prediction, aligned", "error of depth, 0 to 50 %")
ERROR = np.array([(244, 244, 246), (250, 214, 165), (240, 140, 90), (200, 50, 60), (105, 10, 45)])
"""Colours of no error to `MOST`."""
LETTERS = 140
"""On a line of the sheet."""
SPARSE = 0.1
"""Share of pixels with ground truth below which it is drawn thicker."""
MOST = 0.5
"""Error, |prediction - truth| / truth, at the end of the colours."""


@dataclass(order=True)
class _Row:
    error: float
    place: int
    words: str = field(compare=False)
    pictures: tuple[np.ndarray, ...] = field(compare=False)


class Worst:
    """The images with the largest errors seen so far, at the size of the sheet.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int = WORST):
        self.most = most
        self.rows: list[_Row] = []
        self._seen = 0

    def wants(self, error: float) -> bool:
        """Whether an image with this error would be on the sheet; none with NaN is."""
        return error == error and (len(self.rows) < self.most or error > self.rows[0].error)

    def add(
        self,
        error: float,
        words: str,
        *,
        image: UInt8[Tensor, "3 H W"],
        truth: Float[Tensor, "H W"],
        prediction: Float[Tensor, "H W"],
        valid: Bool[Tensor, "H W"],
        counts: Bool[Tensor, "H W"],
    ) -> None:
        """Keep an image, if it belongs on the sheet.

        Args:
            error: by which images are put in order.
            words: for its caption.
            image: the photograph.
            truth: disparity, 0 for sky.
            prediction: disparity, aligned and clamped as it was scored; above 0.
            valid: where there is ground truth.
            counts: where it is scored.
        """
        if not self.wants(error):
            return
        shown = ends(truth, valid)
        everywhere = torch.ones_like(valid)
        thick = _thick(torch.where(valid, truth, -1.0))
        maps = (
            painted(thick.clamp_min(0), thick >= 0, shown),
            painted(prediction, everywhere, shown),
            _error(truth, prediction, counts),
        )
        photograph = image.permute(1, 2, 0).contiguous().numpy()
        pictures = [
            fitted(photograph, Image.Resampling.BOX, CELL),
            *(fitted(each, Image.Resampling.NEAREST, CELL) for each in maps),
        ]
        row = _Row(error, -self._seen, words, tuple(np.asarray(p) for p in pictures))
        self._seen += 1
        if len(self.rows) < self.most:
            heapq.heappush(self.rows, row)
        else:
            heapq.heappushpop(self.rows, row)

    def draw(self, title: str) -> Image.Image:
        """The sheet, worst first."""
        line = SIZE + 5
        rows = sorted(self.rows, reverse=True)
        heights = [max(len(picture) for picture in row.pictures) + line + PAD for row in rows]
        width = len(HEADS) * (CELL[0] + PAD) + PAD
        sheet = Image.new("RGB", (width, 2 * line + sum(heights) + PAD), "white")
        pen = ImageDraw.Draw(sheet)
        font = ImageFont.load_default(SIZE)
        pen.text((PAD, 2), plain_text(title, LETTERS), font=font, fill=(0, 0, 0))
        for column, head in enumerate(HEADS):
            spot = PAD + column * (CELL[0] + PAD), line + 2
            pen.text(spot, head, font=font, fill=(90, 90, 90))
        top = 2 * line
        for row, height in zip(rows, heights, strict=True):
            for column, picture in enumerate(row.pictures):
                sheet.paste(Image.fromarray(picture), (PAD + column * (CELL[0] + PAD), top))
            words = plain_text(row.words, LETTERS)
            pen.text((PAD, top + height - line - PAD + 1), words, font=font, fill=(0, 0, 0))
            top += height
        return sheet


def _thick(values: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """Values below 0 are holes; where there is little else, the rest is made thicker, or nobody
    would see it."""
    if 0 < float((values >= 0).float().mean()) < SPARSE:
        return F.max_pool2d(values[None].float(), 5, stride=1, padding=2)[0]
    return values


def _error(
    truth: Float[Tensor, "H W"], prediction: Float[Tensor, "H W"], counts: Bool[Tensor, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    """|prediction - truth| / truth of depth as colours, black where it is not scored."""
    known = counts & (truth > 0) & (prediction > 0)
    share = torch.where(known, (truth / prediction.clamp_min(1e-12) - 1).abs(), -1.0)
    values = _thick(share).numpy()
    places = np.linspace(0, MOST, len(ERROR))
    channels = [np.interp(values, places, ERROR[:, c]) for c in range(3)]
    picture = np.stack(channels, -1).round().astype(np.uint8)
    picture[values < 0] = HOLE
    return picture
