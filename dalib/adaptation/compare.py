"""How near a student is to its teacher on photographs that neither side of the training has seen.

There is no truth here. A teacher's disparity is known up to scale and shift, and so is the
student's; every measure is therefore one that neither scale nor shift can change. This rules out
what one would take first: AbsRel and delta < 1.25 are ratios to the target, and what is added to a
teacher's disparity, which nobody knows, changes them at will. `MEASURES` says what is measured
instead, and each is a number per photograph, so that intervals are over photographs.

How a photograph is seen. It is first shrunk so that its short side is the larger of the two
networks' input sizes (never enlarged). Corruptions act on that picture, and each network sees it at
its own input size. Both maps then return to the size of the picture bilinearly, as they would in
use, and are compared there.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy import stats
from torch import Tensor, nn

from dalib.adaptation.split import names_of
from dalib.data.schema import Source
from dalib.errors import ConfigError, DataError
from dalib.evaluation.align import CONSTANT, least_squares
from dalib.evaluation.boundary import boundary_f1
from dalib.evaluation.corruptions import STRENGTHS, corrupt, to_uint8
from dalib.evaluation.ordinal import draw_pairs
from dalib.models.sizes import default_short_side
from dalib.predict.prepare import prepare
from dalib.predict.run import Predictor

PHOTOGRAPHS, CORRUPTED = 200, 40
"""Photographs that are compared, and of these those that are corrupted too: at most so many."""
CORRUPTIONS = (("blur", 3), ("dark", 3), ("noise", 3))
"""What the photographs undergo, and at which of five strengths."""
CLOSE = 0.05
"""Of the teacher's range: an error that counts as close, and a difference that counts as order."""
RADIUS = 2
"""Pixels within which an edge may be spread or misplaced."""
DRAWS = 2000
LEVEL = 0.95
FLAT = 1.0
"""Distance of a map without any depth."""

DisparityMap = Float[Tensor, "h w"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One way to say how near two maps are.

    Attributes:
        label: for people, in a table.
        better: "lower" or "higher".
        perfect: its value for a student that is its teacher.
        percent: whether it is a share, shown in percent.
        meaning: its definition, in a sentence or two.
    """

    label: str
    better: str
    perfect: float
    percent: bool
    meaning: str


MEASURES = {
    "distance": Measure(
        label="Distance to the teacher",
        better="lower",
        perfect=0.0,
        percent=False,
        meaning="The affine-invariant loss of the paper (its equations 1 to 3): both maps minus "
        "their median, divided by their mean absolute deviation from it; then the mean absolute "
        "difference. 0 is the same map up to scale and shift, and 1 is what a map without any "
        "depth gets.",
    ),
    "error": Measure(
        label="Error, of the teacher's range",
        better="lower",
        perfect=0.0,
        percent=True,
        meaning="After the scale (not below 0) and shift that fit best by least squares in "
        "disparity: the mean absolute difference, as a share of the teacher's range from its 2nd "
        "to its 98th percentile.",
    ),
    "close": Measure(
        label="Pixels within 5 % of the range",
        better="higher",
        perfect=1.0,
        percent=True,
        meaning="After the same fit: the share of pixels that are off by less than 5 % of the "
        "teacher's range.",
    ),
    "correlation": Measure(
        label="Correlation",
        better="higher",
        perfect=1.0,
        percent=False,
        meaning="Pearson's correlation of the two disparities over all pixels; 0 for a map without "
        "any depth.",
    ),
    "order": Measure(
        label="Pairs of points in the teacher's order",
        better="higher",
        perfect=1.0,
        percent=True,
        meaning="Of 500 random pairs of points, those that the teacher sets apart by more than 5 % "
        "of its range: the share that the student puts in the same order. A guess gets 50 %.",
    ),
    "edges": Measure(
        label="Edges in the teacher's places (F1)",
        better="higher",
        perfect=1.0,
        percent=False,
        meaning="F1 of the pairs of pixels, up to 2 apart, between which depth steps, by the "
        "definition of MoGe's evaluation (dalib.evaluation.boundary). As ratios have no meaning "
        "here, the exponential of disparity after the fit is compared, in units of the teacher's "
        "range: steps of 5 to 22 % of it. Photographs without an edge in the teacher's map are "
        "left out.",
    ),
}
"""Name -> what it is. `distance` is the one that the report's first sentence is about."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over photographs, or a function of such means, and its bootstrap interval.

    Attributes:
        value: NaN where nothing could be measured.
        low, high: of the interval at level 0.95; equal to the value where all photographs agree.
        n: photographs.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Change:
    """A measure before and after, and after minus before on the same photographs."""

    before: Estimate
    after: Estimate
    difference: Estimate


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Distances to the teacher's map of the clean photograph, of maps of the corrupted one.

    Attributes:
        name: "clean", or a corruption.
        strength: 1 to 5, and 0 for the clean photograph.
        amount: the corruption's value at that strength, see `dalib.evaluation.corruptions`.
        teacher, before, after: distances.
        difference: after minus before.
        behind: after minus the teacher's own.
    """

    name: str
    strength: int
    amount: float
    teacher: Estimate
    before: Estimate
    after: Estimate
    difference: Estimate
    behind: Estimate


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that was compared; `dataclasses.asdict` makes it JSON.

    Attributes:
        nearer: 1 - distance after / distance before: the share of the way to the teacher that was
            gone. Below 0 where the student moved away.
        agreement: measure -> change.
        conditions: the clean photographs that were corrupted, then each corruption.
        names: of the photographs, in their order.
        indices: of them in the source.
        per_photograph: measure -> "before" and "after" -> a value each, None where there is none.
        flat: photographs of which the teacher's map holds no depth; they are left out.
        unread: names of photographs that could not be read, or on which the teacher's map is not
            finite; they are in nothing else.
        sizes: short sides in pixels: "teacher" and "student" (inputs), "picture" (where maps are
            compared).
        seed: of the photographs that were chosen and of the pairs of points.
    """

    nearer: Estimate
    agreement: dict[str, Change]
    conditions: tuple[Condition, ...]
    names: tuple[str, ...]
    indices: tuple[int, ...]
    per_photograph: dict[str, dict[str, tuple[float | None, ...]]]
    flat: int
    unread: tuple[str, ...]
    sizes: dict[str, int]
    seed: int


class Eye:
    """A network that gives disparity of pictures at their own size, metres turned over.

    Args:
        model: of disparity, or of depth in metres, which becomes 1/z (what is nearer than 1 mm is
            taken to be 1 mm away).
        short_side: of its input in pixels.
        device: by default the accelerator where there is one.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        short_side: int | None = None,
        device: str | torch.device | None = None,
    ):
        self.run = Predictor(model=model, short_side=short_side, batch=1, device=device)

    def __call__(self, picture: UInt8[Tensor, "3 h w"], *, name: str = "image") -> DisparityMap:
        """Raises `DataError` for a map that is not finite."""
        found = self.run.full_size([self.run.prepare(picture, name=name)])
        (values,) = found.values()
        return 1 / values.clamp_min(1e-3) if self.run.kind == "depth_m" else values


class Eyes:
    """Teacher, student before and student after, looking at the same pictures.

    Args:
        teacher: any network.
        before, after: networks of one kind with each other: the same student twice.
        teacher_side, student_side: short sides of the inputs; by default what
            `dalib.models.sizes.default_short_side` says.
        device: see `Eye`.
    """

    def __init__(
        self,
        *,
        teacher: nn.Module,
        before: nn.Module,
        after: nn.Module,
        teacher_side: int | None = None,
        student_side: int | None = None,
        device: str | torch.device | None = None,
    ):
        self.sizes = {
            "teacher": teacher_side or default_short_side(teacher),
            "student": student_side or default_short_side(after),
        }
        self.sizes["picture"] = max(self.sizes.values())
        self.teacher = Eye(teacher, short_side=self.sizes["teacher"], device=device)
        self.before = Eye(before, short_side=self.sizes["student"], device=device)
        self.after = Eye(after, short_side=self.sizes["student"], device=device)

    def picture(self, image: UInt8[Tensor, "3 H W"], *, name: str) -> UInt8[Tensor, "3 h w"]:
        """A photograph shrunk to the size at which maps are compared; never enlarged."""
        if min(image.shape[1:]) <= self.sizes["picture"]:
            return image
        side = self.sizes["picture"]
        return to_uint8(prepare(image, name=name, short_side=side, multiple=1).image[None])[0]


def compare(
    teacher: nn.Module,
    before: nn.Module,
    after: nn.Module,
    photographs: Source,
    *,
    teacher_side: int | None = None,
    student_side: int | None = None,
    most: int = PHOTOGRAPHS,
    corrupted: int = CORRUPTED,
    corruptions: Sequence[tuple[str, int]] = CORRUPTIONS,
    seed: int = 0,
    device: str | torch.device | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Compare a student with its teacher, as it started and as it became.

    Args:
        teacher: of disparity or of metres.
        before: the student as training began. One whose decoder is new gives nonsense, and is then
            about as far from its teacher as a map without depth.
        after: the student as it is now.
        photographs: that were kept back.
        teacher_side, student_side: short sides of the inputs in pixels.
        most: photographs to compare; a seeded choice where there are more.
        corrupted: of these, photographs to corrupt as well.
        corruptions: (name, strength) of `dalib.evaluation.corruptions`.
        seed: of the choice, and of the pairs of points.
        device: where the networks run.
        report: receives a line of progress now and then.

    Raises:
        ConfigError: no photographs, or an unknown corruption.
        DataError: no photograph can be read, a student's map is not finite, or the teacher gives no
            depth on any photograph.
    """
    eyes = Eyes(
        teacher=teacher,
        before=before,
        after=after,
        teacher_side=teacher_side,
        student_side=student_side,
        device=device,
    )
    return look(
        eyes,
        photographs,
        most=most,
        corrupted=corrupted,
        corruptions=corruptions,
        seed=seed,
        report=report,
    )


def look(
    eyes: Eyes,
    photographs: Source,
    *,
    most: int = PHOTOGRAPHS,
    corrupted: int = CORRUPTED,
    corruptions: Sequence[tuple[str, int]] = CORRUPTIONS,
    seed: int = 0,
    report: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """`compare`, with networks that are ready to look."""
    if not len(photographs):
        raise ConfigError("photographs: none were kept back; there is nothing to compare on")
    for name, strength in corruptions:
        if name not in STRENGTHS or name == "fog" or strength not in range(1, 6):
            raise ConfigError(
                f"corruptions: {name} {strength!r} is none; take "
                f"{', '.join(k for k in STRENGTHS if k != 'fog')} at a strength of 1 to 5 (fog "
                "needs true depth)"
            )
    chosen = choose(len(photographs), most, seed=seed)
    names = names_of(photographs, chosen)
    worse = set(choose(len(chosen), corrupted, seed=seed + 1)) if corruptions else set()

    # one photograph at a time: a value for each measure, and distances under each condition
    rows: list[dict[str, tuple[float, float]]] = []
    distances: list[list[tuple[float, float, float]]] = []
    seen_names: list[str] = []
    seen_indices: list[int] = []
    unread: list[str] = []
    flat = 0
    for place, (index, name) in enumerate(zip(chosen, names, strict=True)):
        try:
            picture = eyes.picture(photographs[index]["image"], name=name)
            target = eyes.teacher(picture, name=name)
        except DataError as error:  # one photograph does not cost the report
            report(f"left out: {error}")
            unread.append(name)
            continue
        seen_names.append(name)
        seen_indices.append(index)
        if is_flat(target):
            flat += 1
            rows.append(dict.fromkeys(MEASURES, (math.nan, math.nan)))
            continue
        maps = [eye(picture, name=name) for eye in (eyes.before, eyes.after)]
        found = [measures(x, target, index=index, seed=seed) for x in maps]
        rows.append({k: (found[0][k], found[1][k]) for k in MEASURES})
        if place in worse:
            clean = (0.0, found[0]["distance"], found[1]["distance"])
            distances.append([clean])
            for kind, strength in corruptions:
                spoilt = corrupt(picture[None], kind, strength, domain="adapt", indices=[index])[0]
                seen = [eye(spoilt, name=name) for eye in (eyes.teacher, eyes.before, eyes.after)]
                distances[-1].append(tuple(distance(x, target) for x in seen))
        if place % 20 == 19 or place + 1 == len(chosen):
            report(f"compared {place + 1} of {len(chosen)} photographs")
    if not rows:
        raise DataError(f"no photograph that was kept back can be used: {', '.join(unread[:3])}")
    if flat == len(rows):
        raise DataError(
            "the teacher gives a map without any depth on each photograph that was kept back; "
            "look at its weights (python -m dalib predict)"
        )

    # means and intervals
    table = {k: np.array([row[k] for row in rows]) for k in MEASURES}  # (photographs, 2)
    conditions = _conditions(
        np.array(distances).reshape(-1, 1 + len(corruptions), 3), [("clean", 0), *corruptions]
    )
    return Comparison(
        nearer=gain(table["distance"][:, 0], table["distance"][:, 1]),
        agreement={k: change(v[:, 0], v[:, 1]) for k, v in table.items()},
        conditions=conditions if corruptions else (),
        names=tuple(seen_names),
        indices=tuple(seen_indices),
        per_photograph={
            k: {
                side: tuple(None if math.isnan(x) else float(x) for x in v[:, column])
                for column, side in enumerate(("before", "after"))
            }
            for k, v in table.items()
        },
        flat=flat,
        unread=tuple(unread),
        sizes=eyes.sizes,
        seed=seed,
    )


def choose(count: int, most: int, *, seed: int) -> list[int]:
    """At most so many of `count` places, ascending: all, or a choice that the seed makes."""
    if most < 1:
        raise ConfigError(f"{most} photographs: at least 1 is needed")
    if count <= most:
        return list(range(count))
    return sorted(np.random.default_rng([20240119, seed]).choice(count, most, False).tolist())


def measures(
    student: DisparityMap, teacher: DisparityMap, *, index: int = 0, seed: int = 0
) -> dict[str, float]:
    """Each of `MEASURES` for one photograph whose teacher's map is not flat.

    Args:
        student: disparity up to scale and shift.
        teacher: the same, of the same size.
        index: of the photograph, for its random pairs of points.
        seed: of these.
    """
    low, span = shown_span(teacher)
    fitted = aligned(student, teacher)
    off = (fitted - teacher.double()).abs() / span
    whole = torch.ones_like(teacher, dtype=torch.bool)[None]
    units = [((x.double() - low) / span)[None].clamp(-20, 20).exp() for x in (fitted, teacher)]
    edges = (
        boundary_f1(*units, whole, radius=RADIUS)
        if _wide_enough(teacher)
        else torch.tensor([math.nan])
    )
    return {
        "distance": distance(student, teacher),
        "error": off.mean().item(),
        "close": (off < CLOSE).double().mean().item(),
        "correlation": correlation(student, teacher),
        "order": order(student, teacher, span, index=index, seed=seed),
        "edges": edges.item(),
    }


def _wide_enough(x: DisparityMap) -> bool:
    return min(x.shape) > 2 * RADIUS


def is_flat(x: DisparityMap) -> bool:
    """Whether a map holds rounding and no depth: `CONSTANT` says when. Values whose middle 96 % are
    one count as flat too, since they have no range."""
    x = x.double()
    variance = x.var(correction=0)
    return bool(variance <= CONSTANT * (variance + x.mean().square())) or shown_span(x)[1] <= 0


def shown_span(x: DisparityMap) -> tuple[float, float]:
    """The 2nd percentile of a map and the range up to its 98th, so that one odd pixel changes
    nothing."""
    low, high = np.quantile(x.double().numpy(), (0.02, 0.98))
    return float(low), float(high - low)


def normalised(x: DisparityMap) -> Float[Tensor, "h w"]:
    """Minus its median, divided by its mean absolute deviation from it, in float64 (the paper's
    equations 2 and 3); zeros for a flat map."""
    x = x.double()
    centred = x - x.median()
    variance = x.var(correction=0)
    if variance <= CONSTANT * (variance + x.mean().square()):
        return torch.zeros_like(x)
    return centred / centred.abs().mean()


def distance(student: DisparityMap, teacher: DisparityMap) -> float:
    """The affine-invariant distance, see `MEASURES`. 1 for a flat student."""
    return (normalised(student) - normalised(teacher)).abs().mean().item()


def aligned(student: DisparityMap, teacher: DisparityMap) -> Float[Tensor, "h w"]:
    """The student's map at the scale and shift of the least squared difference to the teacher's, in
    float64. A scale below 0 would turn near and far round and flatter a map that is upside down: it
    becomes 0, and the map the teacher's mean."""
    whole = torch.ones_like(teacher, dtype=torch.bool)[None]
    scale, shift = least_squares(student[None], teacher[None], whole)
    if scale.item() <= 0:
        return torch.full_like(teacher, teacher.double().mean().item(), dtype=torch.float64)
    return scale.item() * student.double() + shift.item()


def correlation(student: DisparityMap, teacher: DisparityMap) -> float:
    """Pearson's, in float64; 0 for a flat student."""
    if is_flat(student):
        return 0.0
    a, b = (x.double().flatten() - x.double().mean() for x in (student, teacher))
    return float((a @ b) / (a.norm() * b.norm()))


def order(
    student: DisparityMap, teacher: DisparityMap, span: float, *, index: int, seed: int
) -> float:
    """The share of random pairs of points, more than `CLOSE` of the range apart in the teacher's
    map, that the student puts in the same order; a tie is half. NaN where no pair is."""
    height, width = teacher.shape
    pairs = draw_pairs(height, width, index=index, seed=seed)
    true, seen = (x.double().flatten()[pairs].diff()[:, 0] for x in (teacher, student))
    counts = true.abs() > CLOSE * span
    agree = (1 + torch.sign(true) * torch.sign(seen)) / 2
    return agree[counts].mean().item() if counts.any() else math.nan


def estimate(values: Float[np.ndarray, " n"]) -> Estimate:
    """The mean over photographs and its interval, NaN left out."""
    return _bootstrap(lambda x, axis: x.mean(axis), values)


def gain(before: Float[np.ndarray, " n"], after: Float[np.ndarray, " n"]) -> Estimate:
    """1 - mean after / mean before, photographs drawn in pairs. NaN where nothing was wrong
    before."""
    known = ~(np.isnan(before) | np.isnan(after))
    if not known.any() or before[known].mean() == 0:
        return Estimate(value=math.nan, low=math.nan, high=math.nan, n=int(known.sum()))
    return _bootstrap(lambda x, y, axis: 1 - y.mean(axis) / x.mean(axis), before, after)


def change(before: Float[np.ndarray, " n"], after: Float[np.ndarray, " n"]) -> Change:
    """Both means and the mean of the differences."""
    return Change(
        before=estimate(before), after=estimate(after), difference=estimate(after - before)
    )


def _bootstrap(function: Callable, *samples: Float[np.ndarray, " n"]) -> Estimate:
    """A bootstrap interval over photographs (BCa: Efron 1987, as SciPy has it), the same draws
    every time."""
    known = ~np.isnan(samples).any(0)
    data = [np.asarray(x)[known] for x in samples]
    count = int(known.sum())
    if not count:
        return Estimate(value=math.nan, low=math.nan, high=math.nan, n=0)
    value = float(function(*data, axis=-1))
    if count == 1 or all(np.ptp(x) <= 1e-12 * np.abs(x).max(initial=1e-300) for x in data):
        return Estimate(value=value, low=value, high=value, n=count)

    for method in ("BCa", "percentile"):  # the second where nearly all photographs agree
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            found = stats.bootstrap(
                data,
                function,
                n_resamples=DRAWS,
                confidence_level=LEVEL,
                paired=len(data) > 1,
                vectorized=True,
                method=method,
                rng=np.random.default_rng(20240119),
            ).confidence_interval
        low, high = float(found.low), float(found.high)
        if math.isfinite(low) and math.isfinite(high):
            break
    return Estimate(value=value, low=low, high=high, n=count)


def _conditions(
    distances: Float[np.ndarray, "n conditions 3"], kinds: Sequence[tuple[str, int]]
) -> tuple[Condition, ...]:
    """From distances of teacher, before and after per photograph and condition."""
    if not distances.size:
        return ()
    result = []
    for place, (name, strength) in enumerate(kinds):
        teacher, before, after = distances[:, place].T
        result.append(
            Condition(
                name=name,
                strength=strength,
                amount=float(STRENGTHS[name][strength - 1]) if strength else 0.0,
                teacher=estimate(teacher),
                before=estimate(before),
                after=estimate(after),
                difference=estimate(after - before),
                behind=estimate(after - teacher),
            )
        )
    return tuple(result)
