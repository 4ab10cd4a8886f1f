"""Anything on any data set: predictions are made, brought to the truth's size, aligned, measured and
put beside floors, image by image, with memory that does not grow with the images."""

import hashlib
import math
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from dalib.config import check_names
from dalib.data.files import read_rgb
from dalib.data.sources import DepthManifest
from dalib.errors import ConfigError, DataError, UserError
from dalib.evaluation.align import ALIGNMENTS
from dalib.evaluation.boundary import boundary_f1
from dalib.evaluation.comparison import refuse_unlike, shared_sets
from dalib.evaluation.floors import FLOORS
from dalib.evaluation.measure import SHIFT, Aligned, aligned_depth, check_kind, measure, one_size
from dalib.evaluation.metrics import ALL_METRICS, LOG_BIAS, PIXELS, by_depth, depth_metrics
from dalib.evaluation.ordinal import ordinal_accuracy
from dalib.evaluation.pairs import judge
from dalib.evaluation.predictions import check_values, direction
from dalib.evaluation.protocols import SCALE, Protocol, scored
from dalib.evaluation.scores import Scorable
from dalib.evaluation.set_results import CORRELATION, Rules, SetResult
from dalib.evaluation.sets import DataSet, truth_hash
from dalib.evaluation.sheet import Worst
from dalib.evaluation.subjects import Subject
from dalib.evaluation.temporal import flicker
from dalib.models.sizes import resize_disparity

PER = ("image", "sequence")
"""What has one fit."""
ALSO = ("boundary", "ordinal", "flicker")
"""What is measured only where it is asked for."""
ORDER = "abs_rel"
"""The metric by which images are called the worst."""
BINNED = ("abs_rel", "delta1")
"""The metrics that are given apart for near and far."""
EVERY = 10.0
"""Seconds between two lines of progress."""
SHAPE = 0.03
"""By how much height / width of a prediction may differ from that of the image: networks see
multiples of 14 or 32 pixels."""
TINY = 1e-12
"""What is shown is held above this, and below its reciprocal."""

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class How:
    """How something is scored, beside a data set's protocol.

    Attributes:
        alignment: for all data sets; None for what fits the subject, else the protocol's own.
        per: one of `PER`.
        also: some of `ALSO`.
        bins: edges of bins of true depth, for error apart for near and far; none by default.
    """

    alignment: str | None = None
    per: str = "image"
    also: tuple[str, ...] = ()
    bins: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.alignment is not None:
            check_names([self.alignment], ALIGNMENTS, what="--align:")
        check_names([self.per], PER, what="--per:")
        check_names(self.also, ALSO, what="--also:")
        if "flicker" in self.also and self.per != "sequence":
            raise ConfigError(
                "--also flicker: needs --per sequence, for a fit to each frame forgives what flickers"
            )
        grows = len(self.bins) != 1 and all(a < b for a, b in pairwise(self.bins))
        if not grows or any(not b >= 0 for b in self.bins):
            raise ConfigError(
                f"--bins: {' '.join(f'{b:g}' for b in self.bins)}; write two or more depths that "
                "grow, such as 0 2 5 10"
            )

    def protocol(self, data: DataSet, subject: Subject) -> Protocol:
        """The protocol that a data set is scored by, with the alignment that is taken."""
        return data.protocol.with_alignment(self.alignment or subject.alignment)

    def rules(self, data: DataSet, subject: Subject) -> Rules:
        """By which a data set is measured."""
        if data.pairs:
            return Rules(data.protocol.name, data.protocol.hash, "none", "image")
        protocol = self.protocol(data, subject)
        return Rules(protocol.name, protocol.hash, protocol.align, self.per)

    def check(self, data: DataSet, subject: Subject) -> None:
        """A `ConfigError` where this cannot be done with such predictions or such data."""
        if data.pairs:
            return
        check_kind(subject.kind, ALIGNMENTS[self.protocol(data, subject).align])
        if self.per == "sequence" and not any(data.sequences):
            raise ConfigError(
                f"--per sequence: {data.name} has no sequences; "
                + _columns_of(data)
                + "say in a column sequence of its manifest which images belong together"
            )


def _columns_of(data: DataSet) -> str:
    """Which columns its manifest has, for a message; "" where it has none."""
    if not isinstance(data.source, DepthManifest):
        return ""
    return f"its manifest has the columns {', '.join(data.source.rows[0])}; "


@dataclass(kw_only=True)
class _One:
    """One image, ready to be measured: everything at one size."""

    place: int
    image: UInt8[Tensor, "3 _ _"]
    pred: Float[Tensor, "H W"]
    truth: Float[Tensor, "H W"]
    valid: Bool[Tensor, "H W"]
    counts: Bool[Tensor, "H W"]
    hash: str


@dataclass(kw_only=True)
class _Table:
    """What was found so far on one data set."""

    places: list[int] = field(default_factory=list)
    truths: list[str] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    fitted: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    floors: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: {name: defaultdict(list) for name in FLOORS}
    )

    def add(
        self,
        place: int,
        truth: str,
        *,
        values: Mapping[str, float],
        fitted: Mapping[str, float],
        floors: Mapping[str, Mapping[str, float]],
    ) -> None:
        """A row."""
        self.places.append(place)
        self.truths.append(truth)
        columns = [(self.values, values), (self.fitted, fitted)]
        columns += [(self.floors[name], row) for name, row in floors.items()]
        for table, row in columns:
            for name, value in row.items():
                table[name].append(value)


def evaluate_sets(
    subject: Subject,
    sets: Sequence[DataSet],
    *,
    how: How | None = None,
    worst: Worst | None = None,
    against: Mapping[str, Rules] | None = None,
    report: Report = lambda _: None,
) -> tuple[dict[str, SetResult], str]:
    """Score something on data sets.

    Args:
        subject: what is scored.
        sets: what it is scored on.
        how: alignment and what else is measured.
        worst: receives the images with the largest errors.
        against: data set -> the rules of another result, that what cannot be compared with it is
            refused before it is made.
        report: receives lines of progress, with the time that is left.

    Returns:
        Data set -> what was found; and 16 hex digits over all maps.

    Raises:
        ConfigError: an alignment that this kind of prediction cannot have, or a fit per sequence
            where there are none; a protocol in metres for ground truth of unknown scale.
        DataError: images without ground truth or prediction, maps that cannot be of their kind or
            are not finite where they are scored, a data set of which no pixel counts. The first
            such image is named.
    """
    how = how or How()
    # what can be known before anything is predicted
    for data in sets:
        how.check(data, subject)
    if against is not None:
        mine = {data.name: how.rules(data, subject) for data in sets}
        for name in shared_sets(mine, against):
            refuse_unlike(name, mine[name], against[name])
    chosen = {data.name: subject.chosen(data) for data in sets}

    progress = _Progress(sum(map(len, chosen.values())), report)
    digest = hashlib.blake2b(digest_size=8)
    found = {}
    for data in sets:
        kind = _PairRun if data.pairs else _DepthRun
        run = kind(subject, data, how=how, worst=worst, digest=digest, progress=progress)
        found[data.name] = run.all(chosen[data.name])
    return found, digest.hexdigest()


class _Run(ABC):
    """The scoring of one data set."""

    def __init__(
        self,
        subject: Subject,
        data: DataSet,
        *,
        how: How,
        worst: Worst | None,
        digest: Any,
        progress: "_Progress",
    ):
        self.subject, self.data, self.how = subject, data, how
        self.worst, self.digest, self.progress = worst, digest, progress
        self.table = _Table()

    @abstractmethod
    def all(self, places: Sequence[int]) -> SetResult:
        """Every image that was chosen."""

    def where(self, place: int) -> str:
        """What errors call an image."""
        return f"{self.data.name}, image {self.data.keys[place].name!r}"

    def maps(
        self, images: Sequence[UInt8[Tensor, "3 _ _"]], places: Sequence[int]
    ) -> list[Float[Tensor, "_ _"]]:
        """The predictions, which go into the hash of all."""
        keys = [self.data.keys[place] for place in places]
        found = self.subject.maps(images, keys)
        for key, given in zip(keys, found, strict=True):
            self.digest.update(f"{key.dataset}/{key.name} {tuple(given.shape)}".encode())
            self.digest.update(given.float().contiguous().numpy().tobytes())
        return found

    def result(self, **rules: Any) -> SetResult:
        """What was found, with the rules that it was found by."""
        table = self.table
        return SetResult(
            name=self.data.name,
            images=tuple(self.data.keys[place].name for place in table.places),
            sequences=tuple(self.data.sequences[place] for place in table.places),
            truths=tuple(table.truths),
            values={name: tuple(column) for name, column in table.values.items()},
            fitted={name: tuple(column) for name, column in table.fitted.items()},
            floors={
                floor: {name: tuple(column) for name, column in values.items()}
                for floor, values in table.floors.items()
            },
            notes=tuple(self.notes()),
            **rules,
        )

    def notes(self) -> Iterator[str]:
        """What a reader of the numbers should know."""
        everything = len(self.data.keys)
        if missing := everything - len(self.table.places):
            yield f"{missing} of {everything} images have no prediction and are left out"
        if self.data.left_out:
            yield f"{self.data.left_out} rows of unknown offset are left out"


# ---- ground truth of depth


class _DepthRun(_Run):
    """Of images with ground truth."""

    def __init__(self, subject: Subject, data: DataSet, *, how: How, **rest: Any):
        super().__init__(subject, data, how=how, **rest)
        self.other_shapes: list[str] = []
        self.constant: list[str] = []
        self.protocol = how.protocol(data, subject)
        self.alignment = ALIGNMENTS[self.protocol.align]
        self.source = Scorable(data.source, self.protocol)
        # a floor is disparity without a unit; it needs a scale and a shift to be anything
        in_disparity = self.alignment.space == "disparity"
        self.floors_by = self.alignment.name if in_disparity else "disparity"

    def all(self, places: Sequence[int]) -> SetResult:
        """See `_Run.all`."""
        sequences = self.data.sequences
        for group in _groups(places, sequences, per=self.how.per, batch=self.subject.batch):
            ready = self._ready(group)
            if self.how.per == "sequence":
                self._measure(ready, groups=[_sequence(sequences, one.place) for one in ready])
            else:
                for one in ready:
                    self._measure([one])
            self.progress.step(len(group), self.data.name)
        if not any(self.table.fitted[PIXELS]):
            raise DataError(
                f"{self.data.name}: no pixel lies within protocol {self.protocol.name} (its range "
                "of depth and its crop); correct depth_scale, or take another protocol"
            )
        return self.result(
            protocol=self.protocol.name,
            card=self.protocol.card,
            alignment=self.alignment.name,
            per=self.how.per,
            mean=self.protocol.mean,
            floors_by=self.floors_by,
        )

    # predictions at the size of the truth

    def _ready(self, group: Sequence[int]) -> list[_One]:
        samples = [self.source[place] for place in group]
        maps = self.maps([sample["image"] for sample in samples], group)
        return [
            self._one(place, sample, given)
            for place, sample, given in zip(group, samples, maps, strict=True)
        ]

    def _one(self, place: int, sample: dict[str, Any], given: Float[Tensor, "h w"]) -> _One:
        true = sample["disparity"].float()
        self._look_at_shape(place, tuple(given.shape), tuple(true.shape))
        known = truth_hash(true, sample["valid"])
        brought = one_size(given.float()[None], true[None], sample["valid"][None], self.protocol)
        counts = scored(brought[1], brought[2], self.protocol)
        pred, truth, valid = (x[0] for x in brought)
        kind = self.subject.kind
        free = self.alignment.space == kind and self.alignment.parameters == "scale_shift"
        check_values(pred, counts[0], kind=kind, free=free, where=self.where(place))
        seen = pred[counts[0]]
        if seen.numel() > 1 and bool((seen == seen[0]).all()):
            self.constant.append(self.data.keys[place].name)
        return _One(
            place=place,
            image=sample["image"],
            pred=pred,
            truth=truth,
            valid=valid,
            counts=counts[0],
            hash=known,
        )

    def _look_at_shape(self, place: int, given: tuple[int, int], true: tuple[int, int]) -> None:
        """Refuse a map that lies on its side; remember one of another shape, which may be a crop."""
        (h, w), (height, width) = given, true
        upright = abs(h * width / (w * height) - 1)
        lying = abs(w * width / (h * height) - 1)
        if upright <= SHAPE:
            return
        if lying <= SHAPE:
            raise DataError(
                f"{self.where(place)}: the prediction is {w}x{h} and its ground truth "
                f"{width}x{height}, so that it lies on its side; turn it"
            )
        self.other_shapes.append(f"{w}x{h} for {width}x{height}")

    # measures

    def _measure(self, ready: Sequence[_One], *, groups: Sequence[str] | None = None) -> None:
        """Measure images that share a fit, or one image, and add their rows."""
        sizes = {tuple(one.truth.shape) for one in ready}
        first = self.where(ready[0].place)
        if len(sizes) > 1:
            shown = " and ".join(f"{w}x{h}" for h, w in sorted(sizes)[:2])
            raise DataError(
                f"{first}: its sequence has frames of several sizes ({shown}); one fit for all "
                "needs one size"
            )
        pred = torch.stack([one.pred for one in ready])
        truth = torch.stack([one.truth for one in ready])
        valid = torch.stack([one.valid for one in ready])
        with _named(first if len(ready) == 1 else f"{first} and its sequence"):
            found = aligned_depth(
                pred, truth, valid, self.protocol, kind=self.subject.kind, groups=groups
            )
        names = (*ALL_METRICS, LOG_BIAS)
        metrics = depth_metrics(found.pred, found.target, found.scored, names=names)
        bias = metrics.pop(LOG_BIAS)
        metrics |= self._extra(found, truth, ready)
        floors = self._floors(truth, valid, groups)
        for k, one in enumerate(ready):
            values = {name: column[k].item() for name, column in metrics.items()}
            fitted = {
                SCALE: found.scale[k].item(),
                SHIFT: found.shift[k].item(),
                PIXELS: float(one.counts.sum()),
                LOG_BIAS: bias[k].item(),
                CORRELATION: direction(one.pred, one.truth, one.counts),
            }
            flat = {
                floor: {name: column[k].item() for name, column in columns.items()}
                for floor, columns in floors.items()
            }
            self.table.add(one.place, one.hash, values=values, fitted=fitted, floors=flat)
            self._show(one, values, fitted)

    def _floors(
        self, truth: Tensor, valid: Tensor, groups: Sequence[str] | None
    ) -> dict[str, dict[str, Tensor]]:
        """The floors on the same images, with a fit as generous as any here."""
        result = {}
        names = (*ALL_METRICS, LOG_BIAS)
        for name, floor in FLOORS.items():
            flat = floor(*truth.shape[-2:]).expand(truth.shape)
            how = {"alignment": self.floors_by, "groups": groups}
            found = measure(flat, truth, valid, self.protocol, names=names, **how)
            result[name] = {metric: found[metric] for metric in names}
        return result

    def _extra(self, found: Aligned, truth: Tensor, ready: Sequence[_One]) -> dict[str, Tensor]:
        """What is measured only where it is asked for."""
        result = {}
        if "boundary" in self.how.also:
            result["boundary_f1"] = boundary_f1(found.pred, found.target, found.scored)
        if "ordinal" in self.how.also:
            near = found.pred.reciprocal()
            places = [one.place for one in ready]
            result["ordinal"] = ordinal_accuracy(near, truth, found.scored, indices=places)
        if "flicker" in self.how.also:
            changes = flicker(found.pred, found.target, found.scored)
            result["flicker"] = torch.cat([changes.new_full((1,), torch.nan), changes])
        if self.how.bins:
            edges = self.how.bins
            apart = by_depth(found.pred, found.target, found.scored, edges=edges, names=BINNED)
            for k, (low, high) in enumerate(pairwise(edges)):
                for name in BINNED:
                    result[f"{name}_from_{low:g}_to_{high:g}"] = apart[name][:, k]
        return result

    # what is shown and told

    def _show(self, one: _One, values: dict[str, float], fitted: dict[str, float]) -> None:
        """Keep an image for the sheet of the worst, if it is among them."""
        if self.worst is None or not self.worst.wants(values[ORDER]):
            return
        words = (
            f"{self.data.name}/{self.data.keys[one.place].name}  AbsRel {values[ORDER]:.4f}  "
            f"d<1.25 {values['delta1']:.3f}  scale {fitted[SCALE]:.4g}  shift {fitted[SHIFT]:.4g}"
        )
        self.worst.add(
            values[ORDER],
            words,
            image=one.image,
            truth=one.truth,
            prediction=self._as_disparity(one.pred, fitted[SCALE], fitted[SHIFT]),
            valid=one.valid,
            counts=one.counts,
        )

    def _as_disparity(
        self, pred: Float[Tensor, "H W"], scale: float, shift: float
    ) -> Float[Tensor, "H W"]:
        """A whole map after its fit, for the eye alone: what cannot be inverted is far."""
        kind = self.subject.kind
        space = self.alignment.space or kind
        fitted = scale * _turned(pred.double(), kind, space) + shift
        return _turned(fitted, space, "disparity").clamp(TINY, 1 / TINY).float()

    def notes(self) -> Iterator[str]:
        """See `_Run.notes`."""
        yield from super().notes()
        fitted = self.table.fitted
        if empty := sum(count == 0 for count in fitted[PIXELS]):
            yield f"{empty} images have no pixel that counts and are not in the means"
        if self.other_shapes:
            yield (
                f"{len(self.other_shapes)} predictions have another shape than their images "
                f"({self.other_shapes[0]}) and were stretched: right for a network that sees squares, "
                "wrong for a crop"
            )
        if self.constant:
            yield (
                f"{len(self.constant)} of {len(self.table.places)} predictions have one value wherever "
                f"they are scored, such as that of {self.constant[0]}; see what the model gives there"
            )
        kind = self.subject.kind
        sign = 1 if kind == "disparity" else -1
        seen = [x for x in fitted[CORRELATION] if not math.isnan(x)]
        wrong = sum(sign * x < 0 for x in seen)
        if 2 * wrong > len(seen):
            other = "depth" if kind == "disparity" else "disparity"
            falls = "falls" if kind == "disparity" else "rises"
            doubt = f"is it {other}? (--kind {other})"
            yield (
                f"in {wrong} of {len(seen)} images this {kind.replace('_', ' ')} {falls} where the "
                f"true disparity rises: {doubt if self.subject.declared else 'near is taken for far'}"
            )
        elif wrong:
            yield f"near and far are the wrong way round in {wrong} of {len(seen)} images"


# ---- marked pairs


class _PairRun(_Run):
    """Of photographs with marked pairs of points."""

    def all(self, places: Sequence[int]) -> SetResult:
        """See `_Run.all`."""
        rule = self.data.protocol
        for group in _groups(places, (), per="image", batch=self.subject.batch):
            images = [read_rgb(self.data.source[place]) for place in group]
            for place, image, given in zip(group, images, self.maps(images, group), strict=True):
                self._judge(place, resize_disparity(given[None].float(), image.shape[1:])[0])
            self.progress.step(len(group), self.data.name)
        return self.result(
            protocol=rule.name,
            card=rule.card,
            alignment="none",
            per="image",
            mean=rule.mean,
            floors_by="none",
        )

    def _judge(self, place: int, pred: Float[Tensor, "H W"]) -> None:
        pairs = self.data.pairs[place]
        with _named(self.where(place)):
            own = judge(pred, pairs, self.data.protocol, kind=self.subject.kind)
        floors = {
            name: judge(floor(*pred.shape), pairs, self.data.protocol)
            for name, floor in FLOORS.items()
        }
        digest = hashlib.blake2b(pairs.points.numpy().tobytes(), digest_size=6)
        self.table.add(
            place,
            digest.hexdigest(),
            values=_shares(own),
            fitted={"pairs": float(len(pairs)), "hard_pairs": float(own["hard"].sum())},
            floors={name: _shares(judged) for name, judged in floors.items()},
        )


def _shares(judged: Mapping[str, Tensor]) -> dict[str, float]:
    """The share of the pairs of one image that are in the right order, and of the hard ones."""
    hard = judged["right"][judged["hard"]]
    return {
        "ordinal": judged["right"].mean().item(),
        "ordinal_hard": hard.mean().item() if len(hard) else math.nan,
    }


def _turned(x: Float[Tensor, "H W"], kind: str, other: str) -> Float[Tensor, "H W"]:
    """A map of one kind as another, whatever its values are."""
    if kind == other:
        return x
    depth = x.exp() if kind == "log_depth" else x
    depth = 1 / x.clamp_min(TINY) if kind == "disparity" else depth
    if other == "disparity":
        return 1 / depth.clamp_min(TINY)
    return depth.clamp_min(TINY).log() if other == "log_depth" else depth


def _groups(
    places: Sequence[int], sequences: Sequence[str], *, per: str, batch: int
) -> Iterator[list[int]]:
    """The images that are read together: some at a time, or whole sequences."""
    if per == "image":
        for start in range(0, len(places), batch):
            yield list(places[start : start + batch])
        return
    members: dict[str, list[int]] = {}
    for place in places:
        members.setdefault(_sequence(sequences, place), []).append(place)
    yield from members.values()


def _sequence(sequences: Sequence[str], place: int) -> str:
    """An image's sequence; an image by itself is one of its own."""
    return f"sequence {sequences[place]}" if sequences[place] else f"image {place}"


@contextmanager
def _named(where: str) -> Iterator[None]:
    """A `ValueError` about maps, as a `DataError` that names the image."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error


class _Progress:
    """Lines that say how far it is and how long it will take.

    Args:
        total: images.
        report: receives a line, at most every `EVERY` seconds.
    """

    def __init__(self, total: int, report: Report):
        self.total, self.report = total, report
        self.done = 0
        self.start = self.last = time.monotonic()

    def step(self, images: int, name: str) -> None:
        """So many images more are done."""
        self.done += images
        now = time.monotonic()
        if now - self.last < EVERY or self.done == self.total:
            return
        self.last = now
        left = (now - self.start) / self.done * (self.total - self.done)
        self.report(f"{name}: {self.done} of {self.total} images, {_duration(left)} left")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
