"""Semantic segmentation: the areas of classes in each image, and the mean IoU of a data set.

The IoU of a class is the number of pixels that prediction and truth both give to it (intersection),
divided by the number that either of them does (union), both summed over all images of a data set;
pixels without a true class count nowhere (Cordts et al. 2016, "The Cityscapes Dataset", section
4.1; so do Pascal VOC and ADE20K). mIoU is the mean over the classes. It is therefore no mean over
images, and an image has none of its own.

A class that the truth of a data set does not have is left out of its mean and named in `absent`:
which classes count is then the same for every network that is scored there. Where such a class is
predicted all the same, the class that is missed pays for it. (mmsegmentation's `IoUMetric` and
Keras's `MeanIoU` count it as 0 as soon as one pixel of it is predicted, which takes a tenth off a
mean over nine other classes.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from dalib.data.schema import IGNORE
from dalib.errors import DataError
from dalib.evaluation.run import predict_maps

DRAWS = 2000
PARTS = ("intersection", "union", "truth")
ACCURACY = "accuracy"
"""What of a segmentation is of each image: the share of its pixels that got their true class."""

PredictClasses = Callable[[list[Tensor]], Sequence[Tensor]]
# Images uint8 (3, H, W) of any sizes -> the class of each pixel, uint8 (H, W), each.


def areas(
    pred: UInt8[Tensor, "_ _ _"], truth: UInt8[Tensor, "_ _ _"], *, classes: int
) -> dict[str, Int[Tensor, "b k"]]:
    """How many pixels each class has in each image.

    Args:
        pred: the predicted class of each pixel, below `classes`.
        truth: the true one, below `classes`, or `IGNORE`.
        classes: how many there are, k.

    Returns:
        int64: "intersection" (both say so), "union" (one of them does), "truth" (the truth does).
            Pixels whose true class is `IGNORE` are left out of all three.

    Raises:
        ValueError: maps of different shapes, or a predicted class that does not exist.
        DataError: a true class that does not exist.
    """
    if pred.shape != truth.shape or pred.ndim != 3:
        raise ValueError(
            f"prediction {tuple(pred.shape)} and truth {tuple(truth.shape)}; both are (B, H, W)"
        )
    known = truth != IGNORE
    if (truth[known] >= classes).any():
        raise DataError(
            f"class {int(truth[known].max())} in the truth, where {classes} are known (0 to "
            f"{classes - 1}); {IGNORE} stands for a pixel of unknown class"
        )
    if (pred[known] >= classes).any():
        raise ValueError(f"class {int(pred[known].max())} is predicted, of {classes}")

    # a table of true by predicted class for each image
    image = torch.arange(len(truth), device=truth.device).view(-1, 1, 1).expand_as(truth)
    cells = (image * classes + truth.long()) * classes + pred.long()
    counts = torch.bincount(cells[known], minlength=len(truth) * classes**2)
    table = counts.view(-1, classes, classes)  # (b, true, predicted)
    intersection = table.diagonal(dim1=1, dim2=2)
    true = table.sum(2)
    return {
        "intersection": intersection,
        "union": true + table.sum(1) - intersection,
        "truth": true,
    }


@dataclass(frozen=True, kw_only=True)
class Areas:
    """What a network scored on a data set: the areas of its classes, image by image.

    Args:
        classes: the names of those that the truth has, k of them.
        absent: the names of the others, which are not scored.
        intersection, union, truth: in pixels, image by class, see `areas`.
    """

    classes: tuple[str, ...]
    absent: tuple[str, ...] = ()
    intersection: Int[np.ndarray, "n k"]
    union: Int[np.ndarray, "n k"]
    truth: Int[np.ndarray, "n k"]

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def iou(self) -> dict[str, float]:
        """Class -> its IoU over all images, 0..1."""
        found = self.intersection.sum(0) / self.union.sum(0)
        return dict(zip(self.classes, found.tolist(), strict=True))

    @property
    def miou(self) -> float:
        """The mean of `iou`, 0..1."""
        return float(resampled(np.ones((1, len(self))), self.parts)[0])

    @property
    def accuracy(self) -> float:
        """The share of the pixels that got their true class, 0..1."""
        return float(self.intersection.sum() / self.truth.sum())

    @property
    def parts(self) -> Float[np.ndarray, "3 n k"]:
        """The three tables in the order of `PARTS`."""
        return np.stack([getattr(self, part) for part in PARTS]).astype(np.float64)

    def interval(
        self, *, level: float = 0.95, draws: int = DRAWS, seed: int = 0
    ) -> tuple[float, float]:
        """The percentile bootstrap interval of `miou` over images: whole images are drawn with
        replacement, and in each draw sums are divided as in `miou`. Of the training it says
        nothing."""
        generator = np.random.default_rng((20240119, seed))
        times = generator.multinomial(len(self), np.full(len(self), 1 / len(self)), size=draws)
        found = resampled(times.astype(np.float64), self.parts)
        low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    @property
    def accuracies(self) -> list[float]:
        """The same of each image; NaN for one of which no pixel has a class."""
        with np.errstate(invalid="ignore"):
            return (self.intersection.sum(1) / self.truth.sum(1)).tolist()

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a record: `ACCURACY` of each image; "absent"; and for each of `PARTS`
        class -> a list of one number per image."""
        tables = {
            part: dict(zip(self.classes, getattr(self, part).T.tolist(), strict=True))
            for part in PARTS
        }
        return {ACCURACY: self.accuracies, "absent": list(self.absent)} | tables

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Areas":
        """The inverse of `to_dict`."""
        names = tuple(values["truth"])
        tables = {part: np.array([values[part][name] for name in names]).T for part in PARTS}
        return cls(classes=names, absent=tuple(values["absent"]), **tables)


def resampled(
    times: Float[np.ndarray, "d n"], parts: Float[np.ndarray, "3 n k"]
) -> Float[np.ndarray, " d"]:
    """mIoU of draws of images: sums over the images that a draw takes are divided, then averaged
    over the classes.

    A class that the truth of a draw's images does not have is left out of that draw's mean, for
    every network alike.

    Args:
        times: how often each image is taken, in each draw.
        parts: of `Areas`.
    """
    intersection, union, truth = times @ parts  # (3, d, k)
    there = truth > 0
    iou = np.where(there, intersection, 0) / np.where(there, union, 1)
    with np.errstate(invalid="ignore"):  # a draw without any class has no mean
        return iou.sum(-1) / there.sum(-1)


def predict_classes(
    model: nn.Module,
    images: Sequence[UInt8[Tensor, "3 _ _"]],
    *,
    short_side: int,
    batch_size: int = 16,
) -> list[UInt8[Tensor, "_ _"]]:
    """The likeliest class of each pixel of each image, at the image's own size, on the CPU, in the
    order given.

    Args:
        model: a `dalib.models.segmenter.Segmenter`, or any network of logits (B, k, h, w) in the
            form of `dalib.evaluation.run.predict_maps`.
        images, short_side, batch_size: as there.
    """
    return predict_maps(
        model, images, short_side=short_side, batch_size=batch_size, to_size=likeliest
    )


def likeliest(logits: Float[Tensor, "b k h w"], size: tuple[int, int]) -> UInt8[Tensor, "b h2 w2"]:
    """The class of the greatest logit at each pixel of another size: the logits are resampled
    bilinearly, not the classes, of which there is no mean."""
    if tuple(logits.shape[-2:]) != tuple(size):
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    return logits.argmax(1).to(torch.uint8)


def evaluate_classes(
    predict: PredictClasses,
    source: Any,
    names: Sequence[str],
    *,
    batch_size: int = 16,
) -> Areas:
    """Score a network's classes on a whole source that has them.

    Images are read `batch_size` at a time, so that memory does not grow with the source.

    Args:
        predict: images, uint8 (3, H, W) of any sizes -> the class of each pixel, uint8 (H, W).
        source: samples with `semantics`.
        names: of the classes, in the order of their numbers.
        batch_size: images that are predicted at a time.

    Raises:
        DataError: a sample without classes, with one that has no name, or a source of which no
            pixel has a class.
    """
    found: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    for start in range(0, len(source), batch_size):
        samples = [source[i] for i in range(start, min(start + batch_size, len(source)))]
        for i, sample in enumerate(samples, start):
            if "semantics" not in sample:
                raise DataError(
                    f"{sample['domain']}, image {str(sample.get('name', i))!r}: has no classes, so "
                    "segmentation cannot be scored on it"
                )
        maps = predict([sample["image"] for sample in samples])
        for i, (sample, pred) in enumerate(zip(samples, maps, strict=True), start):
            truth = sample["semantics"][None]
            try:
                one = areas(pred[None].to(truth.device), truth, classes=len(names))
            except (DataError, ValueError) as error:
                name = str(sample.get("name", i))
                raise type(error)(f"{sample['domain']}, image {name!r}: {error}") from error
            for part in PARTS:
                found[part].append(one[part].cpu())
    return _present({part: torch.cat(found[part]).numpy() for part in PARTS}, names)


def _present(tables: Mapping[str, Int[np.ndarray, "n k"]], names: Sequence[str]) -> Areas:
    """The areas of the classes that the truth has."""
    there = (tables["truth"].sum(0) > 0).tolist()
    if not any(there):
        raise DataError("no pixel of this data set has a class; there is nothing to score")

    return Areas(
        classes=tuple(name for name, use in zip(names, there, strict=True) if use),
        absent=tuple(name for name, use in zip(names, there, strict=True) if not use),
        **{part: table[:, there] for part, table in tables.items()},
    )
