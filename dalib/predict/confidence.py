"""How far a map may be trusted: where the network disagrees with itself over views of one image, and
what such disagreement has meant on images whose depth is known.

**Disagreement.** The image is shown again mirrored, in other colours, shifted and larger (`VIEWS`).
Each map is brought back and aligned to the plain one by scale and shift. What is left, as a root
mean square over the views and in shares of the map's range (2nd to 98th percentile), is the
disagreement of a pixel. It sees what is *unstable*, never what is stably wrong.

**Score.** Depth is one over disparity, so the same error of disparity is a larger error of depth far
away: score = sqrt(disagreement^2 + common^2) / (nearness + `FLOOR`), where nearness is 0 at the 2nd
and 1 at the 98th percentile of the map, and `common` stands for the error that all views share.

**Calibration.** On images of known depth, which must not be those of a test, `common` is the one that
sorts pixels best, and two monotone tables (isotonic regression over bins of equal weight) say what
a score has meant: the share of pixels within a factor of 1.25 of the true depth, which is the
*confidence*, and the mean relative error of depth, both after alignment. They belong to one network,
one size of its input, and to images like those they were made of.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dalib.data.schema import Sample
from dalib.errors import ConfigError, DataError
from dalib.evaluation.align import least_squares
from dalib.evaluation.protocols import Protocol, scored
from dalib.models.sizes import resize_disparity
from dalib.predict.fingerprint import fingerprint
from dalib.predict.prepare import Prepared
from dalib.predict.run import Predictor
from dalib.writing import write_text

FLOOR = 0.05
"""Of nearness: the farthest things are taken for no farther than this share of the range."""
WITHIN = 1.25
"""The factor of depth that the confidence is about, as in delta1."""
COMMON = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0)
"""What is tried for `common`. With 10 the disagreement says nothing and distance alone decides."""
BINS = 40
PIXELS = 600
"""Of each image, at most, in a calibration: neighbours say the same."""
LEAST_IMAGES = 10

Undo = Callable[[Float[Tensor, "h w"], tuple[int, int]], Float[Tensor, "H W"]]


# ---- views of an image


def _colours(
    image: Float[Tensor, "3 h w"], *, gain: float, gamma: float, saturation: float
) -> Float[Tensor, "3 h w"]:
    grey = image.mean(0, keepdim=True)
    return ((grey + saturation * (image - grey)).clamp(0, 1) ** gamma * gain).clamp(0, 1)


def _shifted(image: Float[Tensor, "3 h w"], *, sign: int) -> Float[Tensor, "3 h w"]:
    """Moved right and down (or left and up) by an eighth of the short side; the edge is repeated."""
    step = _step(image.shape[-2:])
    wide = F.pad(image[None], (step,) * 4, mode="replicate")[0]
    start = 0 if sign > 0 else 2 * step
    height, width = image.shape[-2:]
    return wide[:, start : start + height, start : start + width]


def _step(size: Sequence[int]) -> int:
    return max(1, min(size) // 8)


def _unshifted(disparity: Float[Tensor, "h w"], *, sign: int) -> Float[Tensor, "h w"]:
    """Back to its place; NaN where the view did not reach, and near its own edge, where networks
    err."""
    step = _step(disparity.shape)
    inner = disparity.clone()
    rim = step // 2
    if rim and sign > 0:
        inner[-rim:] = inner[:, -rim:] = torch.nan
    elif rim:
        inner[:rim] = inner[:, :rim] = torch.nan
    result = torch.full_like(disparity, torch.nan)
    if sign > 0:
        result[:-step, :-step] = inner[step:, step:]
    else:
        result[step:, step:] = inner[:-step, :-step]
    return result


def views(
    image: Float[Tensor, "3 h w"], *, multiple: int
) -> dict[str, tuple[Float[Tensor, "3 _ _"], Undo]]:
    """Name -> how the image is shown, and what brings the map back to (h, w), NaN where the view
    did not reach."""
    size = tuple(image.shape[-2:])
    large = tuple(-(-5 * side // (4 * multiple)) * multiple for side in size)
    larger = F.interpolate(image[None], large, mode="bilinear", align_corners=False)[0]
    return {
        "mirrored": (image.flip(-1), lambda m: m.flip(-1)),
        "darker": (_colours(image, gain=0.8, gamma=1.3, saturation=0.6), lambda m: m),
        "lighter": (_colours(image, gain=1.1, gamma=0.75, saturation=1.3), lambda m: m),
        "right": (_shifted(image, sign=1), lambda m: _unshifted(m, sign=1)),
        "left": (_shifted(image, sign=-1), lambda m: _unshifted(m, sign=-1)),
        "larger": (larger, lambda m: resize_disparity(m[None], size)[0]),
    }


VIEWS = ("mirrored", "darker", "lighter", "right", "left", "larger")
"""Each costs as much as the map itself, `larger` 25 % to each side more."""


def disagreement(
    run: Predictor, items: Sequence[Prepared], maps: Sequence[Float[Tensor, "h w"]]
) -> list[Float[Tensor, "h w"]]:
    """For images of one size and their plain maps, at the network's size: the disagreement of each
    pixel over `VIEWS`, in shares of the map's range. 0 where a map is constant.

    Raises:
        ConfigError: a metric network, whose maps are not aligned.
    """
    check_relative(run)
    squares: list[list[Tensor]] = [[] for _ in items]
    shown = [views(item.image, multiple=run.multiple) for item in items]
    for name in VIEWS:
        again = run([replace(item, image=v[name][0]) for item, v in zip(items, shown, strict=True)])
        for k, other in enumerate(again):
            squares[k].append(_apart(maps[k], shown[k][name][1](other)).square())
    result = []
    for disparity, each in zip(maps, squares, strict=True):
        low, high = ends(disparity)
        rms = torch.stack(each).nanmean(0).sqrt()
        flat = torch.zeros_like(rms)
        result.append((rms / (high - low) if high > low else flat).float())
    return result


def check_relative(network: Predictor | nn.Module) -> None:
    """A `ConfigError` for a network whose maps are not relative disparity."""
    if network.kind != "disparity":
        raise ConfigError("confidence: is for networks of relative disparity, not of metres")


def _apart(plain: Float[Tensor, "h w"], other: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """What is left of a view after alignment to the plain map; NaN where it did not reach."""
    there = other.isfinite()
    filled = torch.where(there, other, 0)
    scale, shift = least_squares(filled[None], plain[None], there[None])
    return torch.where(there, scale * filled.double() + shift - plain, torch.nan)


def ends(disparity: Float[Tensor, "*s"]) -> tuple[float, float]:
    """The 2nd and the 98th percentile of a map."""
    low, high = np.quantile(disparity.double().numpy(), (0.02, 0.98))
    return float(low), float(high)


def nearness(disparity: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """0 at the 2nd and 1 at the 98th percentile of the map, clipped; 0 for a constant one."""
    low, high = ends(disparity)
    return ((disparity.double() - low) / ((high - low) or 1)).clamp(0, 1)


# ---- what disagreement has meant


@dataclass(frozen=True, kw_only=True)
class Observations:
    """Pixels of images whose depth is known.

    Args:
        disagreement, nearness: of each pixel, see the module.
        error: |depth - true depth| / true depth after alignment in disparity.
        within: whether the depth is within a factor of `WITHIN`.
        image: the number of its image.
        place: of the pixel in its image, row by row.
        names: of the images.
    """

    disagreement: Float[np.ndarray, " n"]
    nearness: Float[np.ndarray, " n"]
    error: Float[np.ndarray, " n"]
    within: np.ndarray
    image: np.ndarray
    place: np.ndarray
    names: tuple[str, ...]

    @property
    def weight(self) -> Float[np.ndarray, " n"]:
        """Every image weighs the same."""
        counts = np.bincount(self.image, minlength=len(self.names))
        return 1.0 / counts[self.image]

    def score(self, common: float) -> Float[np.ndarray, " n"]:
        """Of each pixel, see the module."""
        return np.sqrt(self.disagreement**2 + common**2) / (self.nearness + FLOOR)


def observe(
    run: Predictor,
    samples: Iterable[Sample],
    protocol: Protocol,
    *,
    pixels: int = PIXELS,
    seed: int = 0,
) -> Observations:
    """Predict images of known depth, and keep some pixels of each that the protocol scores.

    Args:
        run: the network.
        samples: with ground truth, see `dalib.data.schema`.
        protocol: which pixels count, and the cap of depth.
        pixels: of each image at most, drawn at random.
        seed: of that draw.

    Raises:
        DataError: no image has a pixel that counts.
    """
    rng = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("disagreement", "nearness", "error", "within", "image", "place")
    }
    names = []
    for sample, disparity, apart in _seen(run, samples):
        found = _errors(disparity, sample, protocol)
        if found is None:
            continue
        error, within, counts = found
        places = np.flatnonzero(counts.numpy())
        if len(places) > pixels:
            places = np.sort(rng.choice(places, pixels, replace=False))
        for name, values in (
            ("disagreement", apart.double()),
            ("nearness", nearness(disparity)),
            ("error", error),
            ("within", within),
        ):
            parts[name].append(values.flatten().numpy()[places])
        parts["image"].append(np.full(len(places), len(names)))
        parts["place"].append(places)
        names.append(str(sample.get("name", len(names))))
    if not names:
        raise DataError("no image has a pixel whose depth is known and counts")
    return Observations(
        **{name: np.concatenate(each) for name, each in parts.items()}, names=tuple(names)
    )


def _seen(
    run: Predictor, samples: Iterable[Sample]
) -> Iterator[tuple[Sample, Float[Tensor, "H W"], Float[Tensor, "H W"]]]:
    """Each sample with its map and disagreement at its own size, batch by batch."""
    waiting: dict[str, Sample] = {}

    def items() -> Iterator[Prepared]:
        for number, sample in enumerate(samples):
            waiting[str(number)] = sample
            yield run.prepare(sample["image"], name=str(number))

    for group in run.batches(items()):
        maps = run(group)
        for item, *both in zip(group, maps, disagreement(run, group, maps), strict=True):
            yield (
                waiting.pop(item.name),
                *(resize_disparity(each[None], item.size)[0] for each in both),
            )


def _errors(
    disparity: Float[Tensor, "H W"], sample: Sample, protocol: Protocol
) -> tuple[Tensor, Tensor, Tensor] | None:
    """(relative error of depth, within the factor, counts), pixel by pixel, as AbsRel and delta1
    have them; None where nothing counts."""
    target = sample["disparity"][None].double()
    counts = scored(target, sample["valid"][None], protocol)
    if not counts.any():
        return None
    scale, shift = least_squares(disparity[None], target, counts)
    least = 1 / protocol.max_depth if protocol.max_depth else float(target[counts].min())
    aligned = (scale * disparity.double() + shift).clamp_min(least)
    truth = target[0].clamp_min(1e-12)
    error = (truth / aligned - 1).abs()
    ratio = torch.maximum(truth / aligned, aligned / truth)
    return error, ratio < WITHIN, counts[0]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a score has meant; a table with its provenance.

    Args:
        common: see the module.
        scores: (bins,) rising.
        confidence: (bins,) share of pixels within the factor `WITHIN`; falls.
        error: (bins,) mean relative error of depth; rises.
        network: its fingerprint.
        short_side: of its input.
        about: what it was made of: data, protocol, number of images, seed.
    """

    common: float
    scores: tuple[float, ...]
    confidence: tuple[float, ...]
    error: tuple[float, ...]
    network: str
    short_side: int
    about: dict

    @classmethod
    def fit(
        cls, seen: Observations, *, run: Predictor, about: dict | None = None, bins: int = BINS
    ) -> "Calibration":
        """Of observations that are not those of a test.

        Raises:
            DataError: fewer than `LEAST_IMAGES` images.
        """
        if len(seen.names) < LEAST_IMAGES:
            raise DataError(
                f"{len(seen.names)} images with known depth are too few to calibrate by; give at "
                f"least {LEAST_IMAGES}"
            )
        common = min(COMMON, key=lambda c: area(seen.score(c), seen.error, seen.weight))
        score = seen.score(common)
        middle, tables, weights = _binned(
            score, (seen.within.astype(float), seen.error), seen.weight, bins
        )
        within, error = (
            _monotone(values, weights, rising=rising)
            for values, rising in zip(tables, (False, True), strict=True)
        )
        return cls(
            common=common,
            scores=tuple(map(float, middle)),
            confidence=tuple(map(float, within)),
            error=tuple(map(float, error)),
            network=fingerprint(run.model),
            short_side=run.short_side,
            about={"images": len(seen.names), "pixels": len(score)} | (about or {}),
        )

    def score(
        self, disparity: Float[Tensor, "h w"], disagreement: Float[Tensor, "h w"]
    ) -> Float[Tensor, "h w"]:
        """Of each pixel of a map."""
        both = (disagreement.double().square() + self.common**2).sqrt()
        return both / (nearness(disparity) + FLOOR)

    def confidences(
        self, disparity: Float[Tensor, "h w"], disagreement: Float[Tensor, "h w"]
    ) -> Float[Tensor, "h w"]:
        """The share of pixels of such a score that were within a factor of 1.25 of the true depth,
        0..1."""
        return self._read(self.score(disparity, disagreement), self.confidence)

    def errors(
        self, disparity: Float[Tensor, "h w"], disagreement: Float[Tensor, "h w"]
    ) -> Float[Tensor, "h w"]:
        """The mean relative error of depth of pixels of such a score."""
        return self._read(self.score(disparity, disagreement), self.error)

    def _read(self, score: Float[Tensor, "*s"], table: Sequence[float]) -> Float[Tensor, "*s"]:
        """Between the bins in a line, beyond them as at the ends."""
        return torch.from_numpy(np.interp(score.numpy(), self.scores, table)).float()

    def check(self, run: Predictor) -> None:
        """A `ConfigError` unless it belongs to this network at this size."""
        if self.network != fingerprint(run.model):
            raise ConfigError(
                "the calibration is of another network; make one with python -m dalib calibrate"
            )
        self.check_side(run.short_side)

    def check_side(self, short_side: int) -> None:
        """A `ConfigError` unless it belongs to this short side of the network's input."""
        if self.short_side != short_side:
            raise ConfigError(
                f"the calibration is of a short side of {self.short_side}, not {short_side}; "
                f"take --short-side {self.short_side}, or calibrate anew"
            )

    def save(self, path: Path) -> None:
        """As JSON."""
        facts = {"kind": "dalib calibration", "within": WITHIN, "floor": FLOOR, "views": VIEWS}
        write_text(path, json.dumps(facts | vars(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """Of a file that `save` wrote.

        Raises:
            DataError: a file that is missing, damaged, of another version, or no such file.
        """
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(
                f"{path}: no such file; make one with python -m dalib calibrate"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: not readable ({error}); make it anew") from error
        if not isinstance(facts, dict) or facts.pop("kind", None) != "dalib calibration":
            raise DataError(f"{path}: is no calibration; make one with python -m dalib calibrate")
        made = [facts.pop(name, None) for name in ("within", "floor", "views")]
        if made != [WITHIN, FLOOR, list(VIEWS)]:
            raise DataError(f"{path}: was made by another version; calibrate anew")
        try:
            tables = [tuple(map(float, facts.pop(n))) for n in ("scores", "confidence", "error")]
            result = cls(
                **dict(zip(("scores", "confidence", "error"), tables, strict=True)), **facts
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: damaged ({error}); calibrate anew") from error
        lengths = {len(table) for table in tables}
        finite = all(math.isfinite(value) for table in tables for value in table)
        if len(lengths) != 1 or not finite or list(result.scores) != sorted(result.scores):
            raise DataError(f"{path}: damaged tables; calibrate anew")
        return result


def _binned(
    score: np.ndarray, values: Sequence[np.ndarray], weight: np.ndarray, bins: int
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Bins of about equal weight along the score: its mean and those of the values, and the
    weights."""
    order = np.argsort(score, kind="stable")
    share = (np.cumsum(weight[order]) - weight[order] / 2) / weight.sum()
    place = np.minimum((share * bins).astype(int), bins - 1)
    # equal scores belong together
    _, first = np.unique(score[order], return_index=True)
    place = np.repeat(np.maximum.reduceat(place, first), np.diff([*first, len(order)]))
    total = np.bincount(place, weight[order], bins)
    kept = total > 0

    def mean(x: np.ndarray) -> np.ndarray:
        return np.bincount(place, (weight * x)[order], bins)[kept] / total[kept]

    return mean(score), [mean(x) for x in values], total[kept]


def _monotone(values: np.ndarray, weights: np.ndarray, *, rising: bool) -> np.ndarray:
    from scipy.optimize import isotonic_regression

    return isotonic_regression(values, weights=weights, increasing=rising).x


# ---- how good it is


def sparsification(
    score: Float[np.ndarray, " n"],
    error: Float[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"],
    *,
    steps: int = 20,
) -> tuple[np.ndarray, np.ndarray]:
    """(share of pixels left out, mean error of the rest) as the pixels of the largest score go
    first, as shares of the error of all: a falling curve where the score sorts well (Ilg et al.
    2018, section 5)."""
    order = np.argsort(score, kind="stable")
    w = np.cumsum(weight[order])
    e = np.cumsum((weight * error)[order])
    out = np.linspace(0, 0.95, steps)
    last = np.searchsorted(w, (1 - out) * w[-1] - 1e-9 * w[-1]).clip(0, len(w) - 1)
    return out, (e[last] / w[last]) / (e[-1] / w[-1])


def area(
    score: Float[np.ndarray, " n"],
    error: Float[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"],
) -> float:
    """AUSE: the area between the sparsification curve and that of an oracle, which leaves out the
    largest errors first. 0 is perfect."""
    out, mine = sparsification(score, error, weight)
    _, best = sparsification(error, error, weight)
    return float(np.trapezoid(mine - best, out))


def reliability(
    predicted: Float[np.ndarray, " n"],
    observed: np.ndarray,
    weight: Float[np.ndarray, " n"],
    *,
    bins: int = 10,
) -> tuple[np.ndarray, np.ndarray, float]:
    """(mean prediction, mean observation) over bins of about equal weight, and the mean distance between
    both (the expected calibration error)."""
    middle, (seen,), total = _binned(predicted, (observed.astype(float),), weight, bins)
    return middle, seen, float((total * np.abs(middle - seen)).sum() / total.sum())
