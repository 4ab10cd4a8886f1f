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
HEADS = ("image", "truth", "prediction, aligned", "error of depth")
ERROR = np.array([(244, 244, 246), (250, 214, 165), (240, 140, 90), (200, 50, 60), (105, 10, 45)])
"""Colours of no error to `MOST`."""
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
        holes = torch.ones_like(valid)
        pictures = (
            fitted(image.permute(1, 2, 0).contiguous().numpy(), Image.Resampling.BOX, CELL),
            fitted(painted(truth, valid, shown), Image.Resampling.NEAREST, CELL),
            fitted(painted(prediction, holes, shown), Image.Resampling.NEAREST, CELL),
            fitted(_error(truth, prediction, counts), Image.Resampling.NEAREST, CELL),
        )
        row = _Row(error, -self._seen, words, tuple(np.asarray(p) for p in pictures))
        self._seen += 1
        if len(self.rows) < self.most:
            heapq.heappush(self.rows, row)
        else:
            heapq.heappushpop(self.rows, row)

    def draw(self, title: str) -> Image.Image:
        """The sheet, worst first."""
        line = SIZE + 5
        width = len(HEADS) * (CELL[0] + PAD) + PAD
        height = 2 * line + len(self.rows) * (CELL[1] + line + PAD) + PAD
        sheet = Image.new("RGB", (width, height), "white")
        pen = ImageDraw.Draw(sheet)
        font = ImageFont.load_default(SIZE)
        pen.text((PAD, 2), plain_text(title, 140), font=font, fill=(0, 0, 0))
        for column, head in enumerate(HEADS):
            spot = PAD + column * (CELL[0] + PAD), line + 2
            pen.text(spot, head, font=font, fill=(90, 90, 90))
        for number, row in enumerate(sorted(self.rows, reverse=True)):
            top = 2 * line + number * (CELL[1] + line + PAD)
            for column, picture in enumerate(row.pictures):
                sheet.paste(Image.fromarray(picture), (PAD + column * (CELL[0] + PAD), top))
            words = plain_text(row.words, 140)
            pen.text((PAD, top + CELL[1] + 1), words, font=font, fill=(0, 0, 0))
        return sheet


def _error(
    truth: Float[Tensor, "H W"], prediction: Float[Tensor, "H W"], counts: Bool[Tensor, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    """|prediction - truth| / truth of depth as colours, black where it is not scored. Sparse truth
    is made thicker, or nobody would see it."""
    known = counts & (truth > 0) & (prediction > 0)
    share = torch.where(known, (truth / prediction.clamp_min(1e-12) - 1).abs(), -1.0)
    if 0 < float(known.float().mean()) < 0.1:
        share = F.max_pool2d(share[None].float(), 5, stride=1, padding=2)[0]
    values = share.numpy()
    places = np.linspace(0, MOST, len(ERROR))
    channels = [np.interp(values, places, ERROR[:, c]) for c in range(3)]
    picture = np.stack(channels, -1).round().astype(np.uint8)
    picture[values < 0] = HOLE
    return picture
