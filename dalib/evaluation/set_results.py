"""What was found on one data set: a value of each measure for each image, their means with
intervals, and the rules that they were measured by."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from dalib.evaluation.cards import Card
from dalib.evaluation.intervals import LEVEL, Estimate, Values, estimates
from dalib.evaluation.metrics import PIXELS
from dalib.evaluation.protocols import SCALE

CORRELATION = "correlation"
"""Column of the correlation of each prediction with the true disparity."""
WEIGHTS = {"ordinal": "pairs", "ordinal_hard": "hard_pairs"}
"""Measures whose mean is over pairs -> the column that says how many of them an image has."""
HIGHER = ("delta", "boundary_f1", "ordinal")
"""Beginnings of the names of measures of which more is better."""


def higher_is_better(metric: str) -> bool:
    """Whether a measure is better where it is larger."""
    return metric.startswith(HIGHER)


class Rules(NamedTuple):
    """What has to be the same for two numbers to have a difference."""

    protocol: str
    hash: str
    alignment: str
    per: str


@dataclass(frozen=True, kw_only=True)
class SetResult:
    """What was found on one data set.

    Attributes:
        name: of the data set.
        protocol: its name.
        card: of the protocol with this alignment, as printed beside its numbers.
        alignment: how predictions were brought to the truth.
        per: "image" or "sequence": what has one fit.
        mean: how the scores of images become one number, see `dalib.evaluation.metrics.summarise`.
        images: names of the images, in order.
        sequences: of the images, "" for an image by itself.
        truths: a hash of each image's ground truth.
        values: metric -> a value for each image; NaN where no pixel counts.
        fitted: what is no measure of error -> a value for each image: scale and shift of the fit,
            how many pixels count, the mean of ln prediction - ln truth, and the correlation with
            the true disparity; or how many pairs there are.
        floors: floor -> metric -> a value for each image.
        floors_by: the alignment of the floors.
        notes: what a reader of the numbers should know.
    """

    name: str
    protocol: str
    card: Card
    alignment: str
    per: str
    mean: str
    images: tuple[str, ...]
    sequences: tuple[str, ...]
    truths: tuple[str, ...]
    values: dict[str, tuple[float, ...]]
    fitted: dict[str, tuple[float, ...]]
    floors: dict[str, dict[str, tuple[float, ...]]] = field(default_factory=dict)
    floors_by: str = "disparity"
    notes: tuple[str, ...] = ()

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """Metric -> its number over all images, with an interval."""
        return self._estimates(self.values, self.fitted)

    @cached_property
    def floor_estimates(self) -> dict[str, dict[str, Estimate]]:
        """Floor -> the same of it."""
        return {
            floor: self._estimates(
                {name: column for name, column in columns.items() if name in self.values},
                {**self.fitted, **columns},
            )
            for floor, columns in self.floors.items()
        }

    def _estimates(self, values: Values, beside: Values) -> dict[str, Estimate]:
        found = {}
        for names, mean, weights in summed_alike(self.mean, values, beside):
            part = {name: values[name] for name in names}
            found |= estimates(part, self.sequences, mean=mean, beside=weights)
        return found

    @property
    def rules(self) -> Rules:
        """By which it was measured."""
        return Rules(self.protocol, self.card.hash, self.alignment, self.per)

    @property
    def counts(self) -> tuple[float, ...]:
        """How many pixels, or pairs, of each image count."""
        return self.fitted[PIXELS if PIXELS in self.fitted else "pairs"]

    @property
    def scored(self) -> int:
        """Images of which something counts."""
        return sum(count > 0 for count in self.counts)

    @property
    def in_sequences(self) -> bool:
        """Whether intervals are over sequences."""
        return any(self.sequences)

    def about(self) -> dict[str, Any]:
        """What result.json says of it beside the numbers."""
        units = len({s for s in self.sequences if s}) + sum(not s for s in self.sequences)
        return {
            "protocol": self.protocol,
            "card": {k: asdict(entry) for k, entry in self.card.entries.items()},
            "scores": self.card.scores,
            "data": self.card.about,
            "hash": self.card.hash,
            "alignment": self.alignment,
            "per": self.per,
            "mean": self.mean,
            "images": len(self.images),
            "scored": self.scored,
            "inverted": sum(scale < 0 for scale in self.fitted.get(SCALE, ())),
            "interval": {
                "level": LEVEL,
                "over": "sequences" if self.in_sequences else "images",
                "units": units,
            },
            "floors_aligned_by": self.floors_by,
            "columns": list(self.fitted),
            "notes": list(self.notes),
        }


def summed_alike(
    mean: str, values: Values, beside: Values
) -> Iterator[tuple[list[str], str, Values]]:
    """Which measures are summed up alike: their names, by which mean, and what weighs the
    images."""
    if mean != "pairs":
        yield list(values), mean, beside
        return
    for name in values:
        yield [name], "pixels", {PIXELS: beside[WEIGHTS[name]]}
