"""Ordinal accuracy on pairs of points that people have marked: which of the two is nearer?

Nothing is aligned and no depth is needed, so that photographs without ground truth can be scored. A
pair is right where the prediction is greater (nearer) at its nearer point. Pairs come from a CSV
with the columns `image, near_x, near_y, far_x, far_y`, as fractions of width and height from the top
left corner, or from DA-2K's `annotations.json`, in pixels (Yang et al. 2024, "Depth Anything V2",
section 6; DepthAnything/Depth-Anything-V2:DA-2K.md).

Whoever takes lower in the image for nearer is right on most pairs, for the ground is below: on *hard*
pairs, whose nearer point is not clearly lower, such a guess is mostly wrong. They are counted apart.

For pairs that are drawn from ground truth, see `dalib.evaluation.ordinal`.
"""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dalib.config import check_names
from dalib.data.manifest import check_columns
from dalib.errors import ConfigError, DataError
from dalib.evaluation.cards import CARDS, Card, sourced
from dalib.evaluation.measure import KINDS

COLUMNS = ("image", "near_x", "near_y", "far_x", "far_y")
PAIR_MEANS = ("pairs", "images")


@dataclass(frozen=True, kw_only=True)
class PairRule:
    """How pairs of points are scored. As text: its card.

    Args:
        name: for records and tables.
        window: a point's disparity is the mean over window x window pixels around it, those outside
            the image left out; an odd number.
        hard: a pair is hard where its nearer point is less than this lower in the image than the
            farther one, as a fraction of the height; None for no such part.
        tie: what a pair of two equal disparities counts: 0, for neither is nearer, or 0.5, what a
            guess would get (so does `dalib.evaluation.ordinal`).
        mean: "pairs", every pair counts the same, or "images", every image.
        resize, truth: in words, as for `dalib.evaluation.protocols.Protocol`.

    Raises:
        ConfigError: an entry of which there is no such value.
    """

    name: str
    window: int = 1
    hard: float | int | None = None
    tie: float | int = 0
    mean: str = "pairs"
    resize: str = "prediction, bilinear"
    truth: str = "marked by hand"

    def __post_init__(self) -> None:
        if self.window < 1 or self.window % 2 == 0:
            raise ConfigError(f"rule {self.name!r}: window {self.window} must be odd, from 1")
        if not 0 <= self.tie <= 1:
            raise ConfigError(f"rule {self.name!r}: tie {self.tie} must lie in 0..1")
        check_names([self.mean], PAIR_MEANS, what=f"mean of rule {self.name!r}:")

    @property
    def card(self) -> Card:
        """What is printed beside a number, see `Protocol.card`."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}
        return sourced(self.name, "pairs", values)

    @property
    def hash(self) -> str:
        """Twelve hex digits of the entries; the name and the sources do not count."""
        return self.card.hash

    def __str__(self) -> str:
        return str(self.card)


PAIR_RULES = {
    card.name: PairRule(name=card.name, **card.values)
    for card in CARDS.values()
    if card.scores == "pairs"
}
"""The rules by name: `da2k` and `marked_pairs`."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The marked pairs of one image.

    Attributes:
        image: its name, as in the file.
        points: float64 (n, 4): near_x, near_y, far_x, far_y.
        fractions: whether they are fractions of width and height; else they are pixels, x the
            column and y the row.
    """

    image: str
    points: Float[Tensor, "n 4"]
    fractions: bool

    def __len__(self) -> int:
        return len(self.points)

    def on(self, height: int, width: int) -> Int[Tensor, "n 2 2"]:
        """Row and column of the nearer and of the farther point, in a map of the image's size.

        Raises:
            DataError: a point in pixels outside the map.
        """
        xy = self.points.reshape(-1, 2, 2)
        sides = torch.tensor([width, height], dtype=torch.float64)
        if self.fractions:
            xy = torch.minimum((xy * sides).floor(), sides - 1)
        elif ((xy < 0) | (xy >= sides)).any():
            raise DataError(
                f"{self.image}: a marked point lies outside of {height} x {width} pixels; pairs in "
                "pixels need a map of the image's own size"
            )
        return xy.floor().long().flip(-1)

    def hard(self, height: int, margin: float | int | None) -> Bool[Tensor, " n"]:
        """Which pairs are hard: the nearer point is less than `margin` of the height lower."""
        if margin is None:
            return torch.zeros(len(self), dtype=torch.bool)
        lower = self.points[:, 1] - self.points[:, 3]
        if not self.fractions:
            lower = lower / height
        return lower < margin


def read_pairs(path: str | Path) -> list[Pairs]:
    """The pairs of a file, by image, in the order in which its images come: a CSV with `COLUMNS`, or
    DA-2K's JSON.

    Raises:
        DataError: a file that cannot be read or is neither, a number that is none, a point outside
            the image, or a pair of twice the same point; it names the file and the line or image.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason})") from error
    found = _of_json(path, text) if path.suffix.lower() == ".json" else _of_csv(path, text)
    if not found:
        raise DataError(f"{path}: no pair of points; mark some, or name another file")
    return found


def _of_csv(path: Path, text: str) -> list[Pairs]:
    rows = csv.DictReader(text.splitlines())
    check_columns(path, rows.fieldnames or (), needed=COLUMNS, optional=())
    by_image: dict[str, list[list[float]]] = {}
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        if not row["image"]:
            raise DataError(f"{where}: names no image")
        point = [_number(where, row, column) for column in COLUMNS[1:]]
        if not all(0 <= p <= 1 for p in point):
            raise DataError(f"{where}: {point} are no fractions of width and height, in 0..1")
        if point[:2] == point[2:]:
            raise DataError(f"{where}: both points are the same")
        by_image.setdefault(row["image"], []).append(point)
    return [_pairs(image, points, fractions=True) for image, points in by_image.items()]


def _number(where: str, row: Mapping[str, str | None], column: str) -> float:
    try:
        number = float(row[column] or "")
    except ValueError as error:
        raise DataError(f"{where}: {column} is {row[column]!r}, not a number") from error
    if not math.isfinite(number):
        raise DataError(f"{where}: {column} is {number}")
    return number


def _of_json(path: Path, text: str) -> list[Pairs]:
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(tree, dict):
        raise DataError(f"{path}: not DA-2K's form, which is an object of image: [pairs]")
    return [
        _pairs(image, [_da2k(f"{path}: {image}", pair) for pair in _list(path, image, given)])
        for image, given in tree.items()
        if given
    ]


def _list(path: Path, image: str, given: object) -> list[object]:
    if not isinstance(given, list):
        raise DataError(f"{path}: {image}: not a list of pairs")
    return given


def _da2k(where: str, pair: object) -> list[float]:
    """One pair of DA-2K's, whose points are [row, column]."""
    keys = ("point1", "point2")
    try:
        nearer = pair["closer_point"]
        points = {key: [float(v) for v in pair[key]] for key in keys}
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(
            f"{where}: a pair has point1 and point2, each [row, column], and closer_point"
        ) from error
    if nearer not in keys or any(len(p) != 2 for p in points.values()):
        raise DataError(f"{where}: closer_point is {nearer!r}; it must be point1 or point2")
    if not all(math.isfinite(v) and v >= 0 for p in points.values() for v in p):
        raise DataError(f"{where}: a point lies outside of the image: {points}")
    if points["point1"] == points["point2"]:
        raise DataError(f"{where}: both points are the same")
    near = points[nearer]
    far = points["point2" if nearer == "point1" else "point1"]
    return [near[1], near[0], far[1], far[0]]


def _pairs(image: str, points: list[list[float]], *, fractions: bool = False) -> Pairs:
    return Pairs(image=image, points=torch.tensor(points, dtype=torch.float64), fractions=fractions)


def judge(
    pred: Float[Tensor, "H W"],
    pairs: Pairs,
    rule: PairRule | str = "marked_pairs",
    *,
    kind: str = "disparity",
) -> dict[str, Float[Tensor, " n"] | Bool[Tensor, " n"]]:
    """Which pairs of an image a prediction has in the right order.

    Args:
        pred: of the image's size, of any precision; up to scale and shift.
        pairs: marked on this image.
        rule: its name in `PAIR_RULES`, or your own.
        kind: one of `dalib.evaluation.measure.KINDS`; depth and its logarithm become disparity
            before the mean over the window.

    Returns:
        `right`, float64 (n,), 1, 0, or the rule's `tie`; and `hard`, bool (n,).

    Raises:
        ConfigError: an unknown rule or kind.
        DataError: a point in pixels outside the map.
        ValueError: a window that holds NaN or infinity, or depth that is not above 0.
    """
    if isinstance(rule, str):
        check_names([rule], PAIR_RULES, what="rule for pairs")
        rule = PAIR_RULES[rule]
    check_names([kind], KINDS, what="kind of prediction")
    height, width = pred.shape
    at = pairs.on(height, width)
    means = torch.tensor(
        [[_window(pred, *point, rule.window, kind) for point in pair] for pair in at.tolist()],
        dtype=torch.float64,
    ).reshape(-1, 2)
    near, far = means.unbind(1)
    if not torch.isfinite(means).all():
        bad = (~torch.isfinite(means).all(1)).nonzero().flatten().tolist()
        raise ValueError(f"{pairs.image}: prediction is NaN or infinite at pairs {bad}")
    right = torch.where(near == far, float(rule.tie), (near > far).double())
    return {"right": right, "hard": pairs.hard(height, rule.hard)}


def _window(pred: Float[Tensor, "H W"], row: int, column: int, size: int, kind: str) -> float:
    """The mean disparity around a pixel."""
    reach = size // 2
    part = pred[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
    part = part.double()
    if kind == "depth":
        if (part <= 0).any():
            raise ValueError(f"depth is not above 0 near row {row}, column {column}")
        part = 1 / part
    elif kind == "log_depth":
        part = (-part).exp()
    return float(part.mean())


def pair_accuracy(
    judged: Iterable[Mapping[str, Tensor]], *, mean: str = "pairs"
) -> dict[str, float]:
    """The share of pairs in the right order, over many images.

    Args:
        judged: what `judge` gave for each image.
        mean: one of `PAIR_MEANS`; a rule's own is `PairRule.mean`.

    Returns:
        `ordinal`, over all pairs; `ordinal_hard`, over the hard ones, NaN where there is none; and
        how many there are, `pairs` and `hard_pairs`.

    Raises:
        ConfigError: an unknown mean.
    """
    check_names([mean], PAIR_MEANS, what="mean")
    judged = list(judged)
    every = [each["right"] for each in judged]
    hard = [each["right"][each["hard"]] for each in judged]
    return {
        "ordinal": _share(every, mean),
        "ordinal_hard": _share(hard, mean),
        "pairs": float(sum(map(len, every))),
        "hard_pairs": float(sum(map(len, hard))),
    }


def _share(parts: Sequence[Float[Tensor, " _"]], mean: str) -> float:
    parts = [part for part in parts if len(part)]
    if not parts:
        return math.nan
    if mean == "images":
        return float(torch.stack([part.mean() for part in parts]).mean())
    return float(torch.cat(parts).mean())
