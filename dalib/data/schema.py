"""One schema for all data, and samples of any size brought to the size of a batch.

A sample is a dict: `image` uint8 (3, H, W) and `domain`, always; where there is ground truth,
`disparity` float32 (H, W) in 1/m or proportional to it, 0 = infinitely far, and `valid` bool (H,
W). It may carry `semantics` uint8 (H, W), the class of each pixel or `IGNORE`, `name`,
`scale_known` (disparity is 1/m exactly) and `offset_known` (it is proportional to 1/z, no unknown
offset).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from dalib.errors import DataError

Sample = dict[str, Any]
MAPS = frozenset({"image", "disparity", "valid", "semantics"})
"""The entries of a sample that have a value at each pixel."""
IGNORE = 255
"""In `semantics`, a pixel whose class is unknown: it counts nowhere, neither in a loss nor in a
score."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of the sources that another one joins.

    Args:
        count: of its samples, which lie one after the other.
        weight: how many times an epoch reads each of them.
        fingerprint: its own.
    """

    count: int
    weight: int
    fingerprint: str


class Source(ABC):
    """Samples by index. `fingerprint` is hexadecimal and changes when the content does; `parts` are
    the sources that this one joins, in their order, where it joins some."""

    domain: str
    fingerprint: str
    parts: tuple[Part, ...] = ()

    @abstractmethod
    def __len__(self) -> int:
        """How many samples there are."""

    @abstractmethod
    def _sample(self, index: int) -> Sample:
        """The sample at 0 <= index < len(self)."""

    def name_of(self, index: int) -> str:
        """What a sample is called, said without reading it; by default its number."""
        return str(index)

    @property
    def reads_alike(self) -> bool:
        """Whether `sample_for` gives the same for every size."""
        return True

    def sample_for(self, index: int, *, height: int, width: int) -> Sample:
        """The sample, for a reader that will bring it to this size at once. A source that can read
        large pictures smaller does so where its user allows it; the others give what they have."""
        return self[index]

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(
                f"{type(self).__name__} has {len(self)} samples; there is no sample {index}"
            )
        return self._sample(int(index) % len(self))

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))


def in_metres(sample: Sample) -> bool:
    """Whether the disparity of a sample is 1 / metres itself, not only proportional to it."""
    return bool(sample.get("scale_known", True) and sample.get("offset_known", True))


def without_metres(domains: Iterable[str]) -> str:
    """What to say of labels that are not in metres."""
    return (
        f"the labels of {', '.join(sorted(set(domains)))} are not in metres (their scale or offset is "
        "unknown), and task: metric learns metres; leave them out, or say scale_known where it is known"
    )


def resize_and_crop(
    sample: Sample,
    *,
    height: int,
    width: int,
    flip: bool = False,
    position: Sequence[float | int] = (0.5, 0.5),
) -> Sample:
    """Resize until the image just covers (height, width), keeping its aspect, then crop and perhaps
    mirror it.

    The image is resampled bilinearly with antialiasing; disparity, validity and semantics by
    nearest neighbour, all at
    the same places, so that no value is mixed across an edge or with a hole. Disparity needs no
    rescaling: it is 1/z,
    not an offset in pixels.

    Args:
        sample: one sample of a source; entries that are not maps are passed on.
        height: of the result, pixels.
        width: of the result, pixels.
        flip: mirror left and right.
        position: (row, column) of the crop within the slack, each 0..1; 0.5 is the centre.
    """
    if not all(0 <= p <= 1 for p in position):
        raise DataError(f"position is {position}; both entries must lie in 0..1")
    sample = resized_to_cover(sample, height=height, width=width)
    size = sample["image"].shape[-2:]
    top, left = (
        round(p * (s - t)) for p, s, t in zip(position, size, (height, width), strict=True)
    )
    result = dict(sample)
    for key in MAPS & sample.keys():
        part = sample[key][..., top : top + height, left : left + width]
        result[key] = (part.flip(-1) if flip else part).contiguous()
    return result


def resized_to_cover(sample: Sample, *, height: int, width: int) -> Sample:
    """A sample whose maps are resized, up or down and keeping their aspect, until they just cover
    (height, width), as `resize_and_crop` does before it crops. One that covers it already stays."""
    rows, columns = sample["image"].shape[-2:]
    ratio = max(height / rows, width / columns)
    size = max(height, round(rows * ratio)), max(width, round(columns * ratio))
    if size == (rows, columns):
        return sample

    def resample(x: torch.Tensor, **how: Any) -> torch.Tensor:
        x = x.reshape(1, -1, rows, columns).float()  # (C, H, W) or (H, W) -> (1, C, H, W)
        return F.interpolate(x, size, **how)[0]

    image = resample(sample["image"], mode="bilinear", antialias=True).round().clamp(0, 255)
    result = sample | {"image": image.to(torch.uint8)}
    for key in (MAPS - {"image"}) & sample.keys():
        result[key] = resample(sample[key], mode="nearest-exact")[0].to(sample[key].dtype)
    return result
