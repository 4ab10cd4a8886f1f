"""Why two AbsRel of one network differ: the conventions of the field with their sources, the price
of each, and a finder that explains a gap.

A convention is a decision between a prediction and its score that a paper may leave unsaid. Each of
`CONVENTIONS` changes one decision of a reference, which is a protocol of
`dalib.evaluation.protocols`. Most are a matter of choice. Some give even a perfect prediction an
error, and which of them do depends on what is predicted: score a perfect one to see it.

Two numbers alone say nothing about their cause. With the predictions and the truth, `explain` tries
the conventions, one at a time and in pairs, and lists those that lead from one number to the
other::

    found = explain(predictions, source, mine="0.0744", theirs="0.0512", protocol="nyuv2_eigen")
    print(found)
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from dalib.config import check_names
from dalib.errors import ConfigError, DataError
from dalib.evaluation.align import ALIGNMENTS
from dalib.evaluation.measure import KINDS
from dalib.evaluation.protocols import PROTOCOLS, Protocol
from dalib.evaluation.recipes import METRICS, Recipe, Samples, Scores, of_protocol, score_recipes


@dataclass(frozen=True, kw_only=True)
class Convention:
    """One decision, made differently.

    Args:
        name: for the command line and for records.
        question: which decision it is; of one question only one answer can be taken.
        words: what it does, short enough for a chart.
        changes: entries of a `Recipe` -> their values.
        source: who scores so, or where somebody met it: a paper, a script as owner/repository:path,
            an issue as owner/repository#number, or "ours".
        metric: only of use for these metrics; all where empty.
        kinds: the predictions that it can be applied to.
    """

    name: str
    question: str
    words: str
    changes: Mapping[str, Any]
    source: str
    metric: tuple[str, ...] = ()
    kinds: tuple[str, ...] = KINDS

    def __hash__(self) -> int:
        return hash(self.name)


MARIGOLD = "prs-eth/Marigold:script/depth/eval.py"
MONODEPTH2 = "nianticlabs/monodepth2:evaluate_depth.py"
BTS = "cleinc/bts:pytorch/bts_eval.py"
MOGE = "microsoft/MoGe:moge/test/metrics.py"
V1, V2 = "LiheYoung/Depth-Anything", "DepthAnything/Depth-Anything-V2"
SPACE, PIXELS, CLAMP = "fit", "pixels of the fit", "clamp after the fit"
DISPARITY = ("disparity",)
CONVENTIONS = {
    c.name: c
    for c in (
        # in which space, and how, scale and shift are fitted
        Convention(
            name="fit_disparity",
            question=SPACE,
            words="fit in disparity",
            changes={"fit": "disparity"},
            source=f"{ALIGNMENTS['disparity'].source}; EnVision-Research/Lotus-2#13 asks which",
        ),
        Convention(
            name="fit_depth",
            question=SPACE,
            words="fit in depth (inverted first)",
            changes={"fit": "depth"},
            source=f"{MARIGOLD} (least_square); EnVision-Research/Lotus-2#13",
        ),
        Convention(
            name="fit_log_depth",
            question=SPACE,
            words="fit in log depth",
            changes={"fit": "log_depth"},
            source=ALIGNMENTS["log_depth"].source,
        ),
        Convention(
            name="fit_mixed",
            question=SPACE,
            words="disparity fitted to depth",
            changes={"fit": "mixed"},
            source="PyPI depth-estimation 0.1.3, run beside ours; refused by measure",
            kinds=("disparity", "depth"),
        ),
        Convention(
            name="median",
            question=SPACE,
            words="median scaling, no shift",
            changes={"fit": "median"},
            source=f"{MONODEPTH2}; {V1}#43",
        ),
        Convention(
            name="scale",
            question=SPACE,
            words="scale alone, in depth",
            changes={"fit": "scale"},
            source=ALIGNMENTS["scale"].source,
        ),
        Convention(
            name="scale_disparity",
            question=SPACE,
            words="scale alone, in disparity",
            changes={"fit": "disparity_scale"},
            source="Junyi42/monst3r#7",
        ),
        Convention(
            name="no_alignment",
            question=SPACE,
            words="no alignment",
            changes={"fit": "none"},
            source=f"for metric depth {BTS}; for relative depth {V2}#289",
        ),
        Convention(
            name="trimmed",
            question=SPACE,
            words="fit without the worst 20 %",
            changes={"fit": "robust"},
            source=ALIGNMENTS["robust"].source,
        ),
        Convention(
            name="absolute",
            question=SPACE,
            words="fit of absolute errors",
            changes={"fit": "absolute"},
            source="Junyi42/monst3r:dust3r/depth_eval.py; Junyi42/monst3r#26, #33",
        ),
        Convention(
            name="ends",
            question=SPACE,
            words="ends brought to those of the truth",
            changes={"fit": "ends"},
            source=f"SoccerNet/sn-depth#2; {V1}#174 asks for 0..1",
        ),
        # over which pixels
        Convention(
            name="fit_valid",
            question=PIXELS,
            words="fit before crop and cap",
            changes={"fit_over": "valid"},
            source="ours; aligners that are called before the mask is cut",
        ),
        Convention(
            name="fit_positive",
            question=PIXELS,
            words="fit where the prediction is above 0",
            changes={"fit_over": "positive"},
            source=f"{MARIGOLD} (least_square_disparity)",
        ),
        Convention(
            name="fit_coarse",
            question=PIXELS,
            words="fit on a coarse grid",
            changes={"fit_over": "coarse"},
            source=f"prs-eth/Marigold:src/util/alignment.py (max_resolution); {MOGE} (64 x 64)",
        ),
        Convention(
            name="fit_sequence",
            question="images of a fit",
            words="one fit for a sequence",
            changes={"fit_scope": "sequence"},
            source="Tencent/DepthCrafter:benchmark/eval/eval.py",
        ),
        Convention(
            name="fit_set",
            question="images of a fit",
            words="one fit for the data set",
            changes={"fit_scope": "set"},
            source="sniklaus/3d-ken-burns#34 (of DIW)",
        ),
        # after the fit
        Convention(
            name="clamp_far",
            question=CLAMP,
            words="clamped at the cap",
            changes={"clamp": "far"},
            source="isl-org/MiDaS#29 (1 / cap)",
        ),
        Convention(
            name="clamp_farthest",
            question=CLAMP,
            words="clamped at the farthest truth",
            changes={"clamp": "farthest"},
            source=MOGE,
        ),
        Convention(
            name="clamp_both",
            question=CLAMP,
            words="clamped at both ends",
            changes={"clamp": "both"},
            source=f"{MARIGOLD}; {MONODEPTH2}; {BTS}",
        ),
        Convention(
            name="no_clamp",
            question=CLAMP,
            words="no clamp",
            changes={"clamp": "none"},
            source=f"{V2}#280",
        ),
        # which truth counts
        Convention(
            name="cap_10",
            question="cap",
            words="cap 10 m",
            changes={"max_depth": 10.0},
            source=f"{BTS} and prs-eth/Marigold:src/dataset/nyu_dataset.py, of NYUv2",
        ),
        Convention(
            name="cap_50",
            question="cap",
            words="cap 50 m",
            changes={"max_depth": 50.0},
            source="kmatzen/plumbline:docs/D29_DIODE_TABLE2_HANDOFF.md, of DIODE",
        ),
        Convention(
            name="cap_70",
            question="cap",
            words="cap 70 m",
            changes={"max_depth": 70.0},
            source="Tencent/DepthCrafter:benchmark/eval/eval.py, of Sintel",
        ),
        Convention(
            name="cap_80",
            question="cap",
            words="cap 80 m",
            changes={"max_depth": 80.0},
            source=f"{MONODEPTH2} and {BTS}, of KITTI",
        ),
        Convention(
            name="no_cap",
            question="cap",
            words="no cap",
            changes={"max_depth": None},
            source=f"{MOGE}; prs-eth/Marigold:src/dataset/eth3d_dataset.py",
        ),
        Convention(
            name="near_0.6",
            question="nearest",
            words="nearest 0.6 m",
            changes={"min_depth": 0.6},
            source="prs-eth/Marigold:src/dataset/diode_dataset.py",
        ),
        Convention(
            name="near_0.001",
            question="nearest",
            words="nearest 1 mm",
            changes={"min_depth": 1e-3},
            source=f"{MONODEPTH2}; {BTS}",
        ),
        Convention(
            name="open_range",
            question="ends of the range",
            words="the ends of the range do not count",
            changes={"bounds": "open"},
            source=f"{MONODEPTH2}; {BTS}",
        ),
        Convention(
            name="closed_range",
            question="ends of the range",
            words="the ends of the range count",
            changes={"bounds": "closed"},
            source=f"{V2}:metric_depth/train.py",
        ),
        Convention(
            name="beyond_at_cap",
            question="truth beyond the cap",
            words="truth beyond the cap, and sky, count at it",
            changes={"beyond": "at cap"},
            source="SysCV/idisc#9 (clips DIODE at 100 m)",
        ),
        Convention(
            name="holes_near",
            question="pixels without truth",
            words="holes count as near",
            changes={"unknown": "nearest"},
            source="TencentARC/ViT-Lens#9 (clips a stored 0 to the near end)",
        ),
        # crop
        Convention(
            name="no_crop",
            question="crop",
            words="no crop",
            changes={"crop": "none"},
            source="mrharicot/monodepth#110; prs-eth/Marigold:src/dataset/eth3d_dataset.py",
        ),
        Convention(
            name="crop_eigen",
            question="crop",
            words="Eigen crop of NYUv2, on any image",
            changes={"crop": "eigen", "frame": None},
            source=f"{BTS} (45:471, 41:601)",
        ),
        Convention(
            name="crop_eigen_matlab",
            question="crop",
            words="Eigen crop, counted from 1",
            changes={"crop": "eigen_matlab", "frame": None},
            source="cleinc/bts#61 (44:471, 40:601)",
        ),
        Convention(
            name="crop_monodepth2",
            question="crop",
            words="monodepth2's crop of NYUv2",
            changes={"crop": "nyu_monodepth2", "frame": None},
            source=f"{MONODEPTH2} (20:459, 24:615)",
        ),
        Convention(
            name="crop_garg",
            question="crop",
            words="Garg crop of KITTI",
            changes={"crop": "garg", "frame": None},
            source=f"{MONODEPTH2}; shariqfarooq123/AdaBins#10",
        ),
        Convention(
            name="crop_eigen_kitti",
            question="crop",
            words="Eigen crop of KITTI",
            changes={"crop": "eigen_kitti", "frame": None},
            source=f"{BTS}; mrharicot/monodepth#110",
        ),
        Convention(
            name="border",
            question="crop",
            words="border of 5 % left out",
            changes={"crop": "border", "frame": None},
            source="ours; after the white border of NYUv2",
        ),
        # sizes
        Convention(
            name="nearest",
            question="resize",
            words="prediction resized, nearest",
            changes={"resize": "nearest"},
            source="ours; the default of several image libraries for maps",
        ),
        Convention(
            name="bilinear",
            question="resize",
            words="prediction resized, bilinear",
            changes={"resize": "bilinear"},
            source=MONODEPTH2,
        ),
        Convention(
            name="align_corners",
            question="resize",
            words="bilinear, corners aligned",
            changes={"resize": "align_corners"},
            source=f"{V2}:metric_depth/train.py",
        ),
        Convention(
            name="bicubic",
            question="resize",
            words="prediction resized, bicubic",
            changes={"resize": "bicubic"},
            source="ours; isl-org/MiDaS:run.py resizes its maps so",
        ),
        Convention(
            name="depth_resized",
            question="resize",
            words="depth resized in place of disparity",
            changes={"resize": "other_kind"},
            source="ours; inverted before the resize",
        ),
        Convention(
            name="truth_resized",
            question="resize",
            words="truth to the prediction's size",
            changes={"resize": "truth"},
            source=f"{V2}#281",
        ),
        Convention(
            name="half",
            question="resolution",
            words="scored at half the size",
            changes={"resolution": "half"},
            source=f"ours; of other fixed sizes {V2}#281",
        ),
        # what is compared
        Convention(
            name="disparity_error",
            question="quantity",
            words="error of disparity",
            changes={"quantity": "disparity", "clamp": "none"},
            source=f"{V1}#174 (the author), #165",
        ),
        Convention(
            name="disparity_error_clamped",
            question="quantity",
            words="error of disparity, clamped",
            changes={"quantity": "disparity"},
            source=f"ours; {V1}#174 says nothing of a clamp. For AbsRel it is the error of depth "
            "divided by the prediction, as where the two are handed over the wrong way round",
        ),
        Convention(
            name="inclusive",
            question="threshold",
            words="ratio of exactly 1.25 counts as good",
            changes={"inclusive": True},
            source="ours; all scripts cited here have <",
            metric=("delta05", "delta1", "delta2", "delta3"),
        ),
        # means
        Convention(
            name="mean_images",
            question="mean",
            words="mean over images",
            changes={"mean": "images"},
            source=f"{MARIGOLD}; {MONODEPTH2}",
        ),
        Convention(
            name="mean_pixels",
            question="mean",
            words="mean over all pixels",
            changes={"mean": "pixels"},
            source="ultralytics/ultralytics#25648 (until then)",
        ),
        Convention(
            name="median_images",
            question="mean",
            words="median over images",
            changes={"mean": "median"},
            source="ours",
        ),
        Convention(
            name="mean_sequences",
            question="mean",
            words="mean over sequences",
            changes={"mean": "sequences"},
            source="Tencent/DepthCrafter:benchmark/eval/eval.py",
        ),
        # what the network gave
        Convention(
            name="flip",
            question="flip",
            words="mean with the mirrored image",
            changes={"flip": True},
            source=f"{MONODEPTH2} (post_process); Godard et al. 2017, section 4.1",
        ),
        Convention(
            name="stored_8_bit",
            question="storage",
            words="prediction kept in 8 bits",
            changes={"stored": "8 bit"},
            source=f"{V2}:run.py",
        ),
        Convention(
            name="stored_16_bit",
            question="storage",
            words="prediction kept in 16 bits",
            changes={"stored": "16 bit"},
            source="SoccerNet/sn-depth#2",
        ),
    )
}
"""The conventions, by name."""


def usable(
    reference: Recipe,
    *,
    kind: str = "disparity",
    metric: str = "abs_rel",
    flip: bool = False,
    sequences: bool = False,
    metres: bool = True,
    conventions: Iterable[str] | None = None,
) -> list[Convention]:
    """The conventions that change a reference and that can be tried.

    Args:
        reference: what they are tried against.
        kind: of the predictions.
        metric: the one that is looked at.
        flip: whether there are predictions for the mirrored images.
        sequences: whether it is known which images belong together.
        metres: whether truth is in metres; without, no cap in metres makes sense.
        conventions: names to choose from; all by default.

    Raises:
        ConfigError: an unknown name.
    """
    names = list(CONVENTIONS) if conventions is None else list(conventions)
    check_names(names, CONVENTIONS, what="convention")
    found = []
    for name in names:
        c = CONVENTIONS[name]
        wanted = (
            kind in c.kinds
            and (not c.metric or metric in c.metric)
            and (flip or "flip" not in c.changes)
            and (sequences or "sequence" not in str(c.changes))
            and (metres or not {"min_depth", "max_depth"} & c.changes.keys())
        )
        if wanted and changed(reference, (c,)) not in (None, reference):
            found.append(c)
    return found


def changed(reference: Recipe, combination: Sequence[Convention]) -> Recipe | None:
    """The reference with several conventions at once, None where two of them contradict each other
    or no such fit exists."""
    changes: dict[str, Any] = {}
    questions = set()
    for c in combination:
        if c.question in questions or changes.keys() & c.changes.keys():
            return None
        questions.add(c.question)
        changes |= c.changes
    result = reference.with_(changes)
    return result if result.possible else None


def rescore(
    predictions: Sequence[Any],
    source: Samples,
    *,
    protocol: Protocol | str,
    conventions: Sequence[str] = (),
    names: Sequence[str] = ("abs_rel",),
    kind: str = "disparity",
    alignment: str | None = None,
    mirrored: Sequence[Any] | None = None,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, float]:
    """What a network is given under a protocol that some conventions change.

    Args:
        predictions, source, names, kind, mirrored, groups: as for
            `dalib.evaluation.recipes.score_recipes`.
        protocol: the reference, by name or your own.
        conventions: names of `CONVENTIONS`, together; none for the protocol itself.
        alignment: in place of the protocol's own.

    Returns:
        Metric -> number.

    Raises:
        ConfigError: an unknown name, conventions that contradict each other, and as
            `score_recipes`.
        DataError: as `score_recipes`.
    """
    check_names(conventions, CONVENTIONS, what="convention")
    reference = of_protocol(protocol, alignment=alignment)
    recipe = changed(reference, [CONVENTIONS[name] for name in conventions])
    if recipe is None:
        raise ConfigError(
            f"conventions: {', '.join(conventions)} cannot hold at once: two of them answer one "
            "question, or the fit cannot be shared between images"
        )
    scores = score_recipes(
        predictions,
        source,
        [recipe],
        kind=kind,
        names=names,
        mirrored=mirrored,
        groups=groups,
    )
    return {name: scores.number(0, name) for name in names}


# ---- the price of each


@dataclass(frozen=True, kw_only=True)
class Price:
    """What one convention does to a number.

    Attributes:
        convention: which one.
        reference: the number by the reference.
        value: the number by the convention.
        low, high: the 95 % interval of `change` over images, NaN where there are too few of them.
        images: how many are scored.
    """

    convention: Convention
    reference: float
    value: float
    low: float
    high: float
    images: int

    @property
    def change(self) -> float:
        """value - reference."""
        return self.value - self.reference

    @property
    def factor(self) -> float:
        """value / reference."""
        return self.value / self.reference if self.reference else math.nan


ENOUGH = 20
"""Images below which there is no interval: percentiles of a bootstrap are too narrow then."""


def prices(
    predictions: Sequence[Any],
    source: Samples,
    *,
    protocol: Protocol | str,
    kind: str = "disparity",
    metric: str = "abs_rel",
    alignment: str | None = None,
    mirrored: Sequence[Any] | None = None,
    groups: Sequence[Hashable] | None = None,
    conventions: Iterable[str] | None = None,
    draws: int = 1000,
) -> list[Price]:
    """What each convention does to a number, one at a time.

    Args:
        predictions, source, kind, mirrored, groups: as for
            `dalib.evaluation.recipes.score_recipes`.
        protocol: the reference, by name or your own.
        metric: one of `dalib.evaluation.recipes.METRICS`.
        alignment: in place of the protocol's own.
        conventions: names; all that can be tried by default.
        draws: of the bootstrap over images (over groups where there are any), in pairs: reference
            and convention on the same images.

    Raises:
        ConfigError: an unknown protocol, metric or convention, and as `score_recipes`.
        DataError: as `score_recipes`, and truth that is not in metres where the protocol needs it.
    """
    reference, candidates = _ready(
        predictions, source, protocol, kind, metric, alignment, mirrored, groups, conventions
    )
    recipes = [reference, *(changed(reference, (c,)) for c in candidates)]
    scores = score_recipes(
        predictions,
        source,
        recipes,
        kind=kind,
        names=(metric,),
        mirrored=mirrored,
        groups=groups,
    )
    chosen = _draws(scores, draws)
    base = scores.number(0, metric)
    found = []
    for k, c in enumerate(candidates, start=1):
        moved = [
            scores.number(k, metric, chosen=d) - scores.number(0, metric, chosen=d) for d in chosen
        ]
        low, high = np.percentile(moved, [2.5, 97.5]) if len(moved) else (math.nan, math.nan)
        found.append(
            Price(
                convention=c,
                reference=base,
                value=scores.number(k, metric),
                low=float(low),
                high=float(high),
                images=int((scores.pixels[k] > 0).sum()),
            )
        )
    return found


def _draws(scores: Scores, draws: int) -> list[np.ndarray]:
    """Images drawn with replacement, whole groups at a time; none where there are too few."""
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(scores.groups):
        members.setdefault(group, []).append(i)
    units = [np.array(m) for m in members.values()]
    if len(units) < ENOUGH:
        return []
    random = np.random.default_rng(0)
    return [
        np.concatenate([units[j] for j in random.integers(len(units), size=len(units))])
        for _ in range(draws)
    ]


def _ready(
    predictions: Sequence[Any] | None,
    source: Samples | None,
    protocol: Protocol | str,
    kind: str,
    metric: str,
    alignment: str | None,
    mirrored: Sequence[Any] | None,
    groups: Sequence[Hashable] | None,
    conventions: Iterable[str] | None,
) -> tuple[Recipe, list[Convention]]:
    """The reference, and what can be tried against it."""
    if predictions is None or source is None:
        raise ConfigError(
            "predictions, source: two numbers alone say nothing about why they differ; give the "
            "predictions of the network (a map for each image) and the truth that they are scored "
            "against"
        )
    check_names([kind], KINDS, what="kind of prediction")
    check_names([metric], METRICS, what="metric")
    if not isinstance(protocol, Protocol):
        check_names([protocol], PROTOCOLS, what="protocol")
        protocol = PROTOCOLS[protocol]
    reference = of_protocol(protocol, alignment=alignment)
    known = True
    for i in range(len(source)):
        sample = source[i]
        if not sample.get("scale_known", True):
            known = False
            if protocol.in_metres:
                raise DataError(
                    f"truth of image {str(sample.get('name', i))!r}: its scale is not known, which "
                    f"protocol {protocol.name!r} needs; take the protocol 'relative'"
                )
    candidates = usable(
        reference,
        kind=kind,
        metric=metric,
        flip=mirrored is not None,
        sequences=groups is not None,
        metres=known,
        conventions=conventions,
    )
    return reference, candidates


# ---- the finder


DIGITS = 30
"""Of a number, before or after its point: more are not printed."""


@dataclass(frozen=True)
class Printed:
    """A number as it is printed: what it may have been before it was rounded.

    Attributes:
        value: the number.
        tolerance: half a unit of its last digit.
        text: how it is written.
    """

    value: float
    tolerance: float
    text: str

    def fits(self, value: float) -> bool:
        """Whether a number is printed like this, cut or rounded at a half either way."""
        return abs(value - self.value) <= self.tolerance * (1 + 1e-9)

    def meets(self, other: "Printed") -> bool:
        """Whether one number may have been printed like both."""
        return abs(other.value - self.value) <= (self.tolerance + other.tolerance) * (1 + 1e-9)


def printed(given: str | float | int, *, tolerance: float | int | None = None) -> Printed:
    """A number with the precision of its digits: "0.0510" is known to 0.00005, "5.1 %" to 0.0005.

    Write it as text where it ends in zeros: 0.0510 typed as a number has lost one.

    Args:
        given: the number, or its text; a text that ends in % is divided by 100.
        tolerance: in place of half a unit of the last digit.

    Raises:
        ConfigError: no finite number, or a tolerance that is not above 0.
    """
    text = str(given).strip()
    percent = text.endswith("%")
    try:
        number = Decimal(text.removesuffix("%").strip().replace("−", "-").replace("_", "?"))
    except InvalidOperation:
        raise ConfigError(f"{text!r} is no number; write it as printed, such as 0.0510") from None
    if not number.is_finite():
        raise ConfigError(f"{text!r} is no finite number; write it as printed, such as 0.0510")
    if number.adjusted() > DIGITS or number.as_tuple().exponent < -DIGITS:
        raise ConfigError(
            f"{text!r} has more digits than a printed number has; write it as printed, such as 0.0510"
        )
    shift = -2 if percent else 0
    half = float(Decimal(5).scaleb(int(number.as_tuple().exponent) - 1 + shift))
    if tolerance is not None:
        if not (math.isfinite(tolerance) and tolerance > 0):
            raise ConfigError(f"tolerance: {tolerance} must be above 0")
        half = float(tolerance)
    return Printed(float(number.scaleb(shift)), half, text)


@dataclass(frozen=True)
class Found:
    """Conventions that together lead to a number.

    Attributes:
        conventions: none for the reference itself.
        values: metric -> the number that they give.
    """

    conventions: tuple[Convention, ...]
    values: Mapping[str, float]

    @property
    def words(self) -> str:
        """The conventions in words."""
        return " + ".join(c.words for c in self.conventions) or "the reference"

    @property
    def names(self) -> tuple[str, ...]:
        """The conventions by name."""
        return tuple(c.name for c in self.conventions)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What may explain a gap. As text: a report.

    Attributes:
        reference: name of the protocol.
        mine, theirs: metric -> the two numbers as printed.
        values: metric -> what the reference gives.
        here: what leads to your number; the reference alone where it does.
        there: what leads to their number, fewest conventions first. Nothing in it can be left out.
        tried: how many combinations were tried, by how many conventions they have; those that
            change nothing are not counted.
        agree: how many of them agree with their number, those included of which a part suffices.
        chance: how many would agree with a number near theirs that another combination made, on
            average: so many are to be expected without being the cause.
        everything: all combinations with their values, for a chart.
    """

    reference: str
    mine: Mapping[str, Printed]
    theirs: Mapping[str, Printed]
    values: Mapping[str, float]
    here: tuple[Found, ...]
    there: tuple[Found, ...]
    tried: Mapping[int, int]
    agree: Mapping[int, int]
    chance: Mapping[int, float]
    everything: tuple[Found, ...]

    @property
    def is_reference(self) -> bool:
        """Whether your number is that of the reference."""
        return any(not f.conventions for f in self.here)

    @property
    def none(self) -> bool:
        """Whether there is nothing to explain: the reference gives both numbers."""
        return self.is_reference and any(not f.conventions for f in self.there)

    def gap(self, here: Found, there: Found) -> tuple[Convention, ...]:
        """The conventions in which two explanations differ."""
        return tuple(
            c
            for side, other in ((here, there), (there, here))
            for c in side.conventions
            if c not in other.conventions
        )

    def with_numbers(
        self,
        mine: str | float | int | Mapping[str, str | float | int],
        theirs: str | float | int | Mapping[str, str | float | int],
    ) -> "Explanation":
        """The same combinations, asked about two other numbers: of the same metrics, or of some of
        them. Nothing is scored again.

        Raises:
            ConfigError: a number that is none, or a metric that was not scored.
        """
        first = next(iter(self.values))
        ours, others = _pair(mine, theirs, first, None)
        check_names(ours, self.values, what="metric")
        return _explained(self.reference, ours, others, self.everything)

    def __str__(self) -> str:
        return "\n".join(_report(self))


def explain(
    predictions: Sequence[Any] | None,
    source: Samples | None,
    *,
    mine: str | float | int | Mapping[str, str | float | int],
    theirs: str | float | int | Mapping[str, str | float | int],
    protocol: Protocol | str = "relative",
    kind: str = "disparity",
    metric: str = "abs_rel",
    alignment: str | None = None,
    mirrored: Sequence[Any] | None = None,
    groups: Sequence[Hashable] | None = None,
    conventions: Iterable[str] | None = None,
    most: int = 2,
    tolerance: float | int | None = None,
    report: Callable[[str], None] | None = None,
) -> Explanation:
    """Which conventions lead from one number of a network to another one of the same network.

    Every convention is tried alone and, up to `most`, in combination, on your predictions and the
    truth. Those that give the other number within the rounding of its digits are listed, as few
    conventions as possible; a combination of which a part suffices is left out. A number of
    two digits is met by many combinations by chance; how many is estimated beside. Two metrics of
    one evaluation, such as AbsRel and delta1, are met by far fewer.

    Args:
        predictions, source, kind, mirrored, groups: as for
            `dalib.evaluation.recipes.score_recipes`.
        mine: your number as printed, or metric -> number.
        theirs: the other number, or metric -> number of the same metrics.
        protocol: how you believe that yours was made.
        metric: what the two numbers are, where they are not named.
        alignment: in place of the protocol's own.
        conventions: names to try; all by default.
        most: conventions at once, 1 to 3. On one core, pairs took 4 seconds for an image of KITTI's
            size with 5 % of the pixels known, and 11 seconds for a full 480 x 640; three at once
            take ten times as long or more.
        tolerance: for all numbers, in place of half a unit of the last digit.
        report: told after each image how many are done.

    Raises:
        ConfigError: no predictions or no truth; a number that is none; two sets of metrics; and as
            `prices`.
        DataError: as `prices`.
    """
    ours, others = _pair(mine, theirs, metric, tolerance)
    if not 1 <= most <= 3:
        raise ConfigError(f"most: {most} must be 1, 2 or 3 conventions at once")
    names = tuple(ours)
    check_names(names, METRICS, what="metric")
    ready = [
        _ready(predictions, source, protocol, kind, n, alignment, mirrored, groups, conventions)
        for n in names
    ]
    reference = ready[0][0]
    candidates = list(dict.fromkeys(c for _, found in ready for c in found))

    # every combination, and its numbers
    combinations = [()] + [
        combination
        for size in range(1, most + 1)
        for combination in itertools.combinations(candidates, size)
        if changed(reference, combination) is not None
    ]
    scores = score_recipes(
        predictions,
        source,
        [changed(reference, combination) for combination in combinations],
        kind=kind,
        names=names,
        mirrored=mirrored,
        groups=groups,
        report=report,
    )
    everything = _distinct(
        [
            Found(combination, {n: scores.number(k, n) for n in names})
            for k, combination in enumerate(combinations)
        ]
    )
    return _explained(
        protocol if isinstance(protocol, str) else protocol.name, ours, others, everything
    )


def _explained(
    reference: str,
    mine: Mapping[str, Printed],
    theirs: Mapping[str, Printed],
    everything: Sequence[Found],
) -> Explanation:
    """What the numbers of all combinations say of two numbers."""
    tried = Counter(len(f.conventions) for f in everything[1:])
    agree = Counter(len(f.conventions) for f in _agreeing(theirs, everything))
    return Explanation(
        reference=reference,
        mine=mine,
        theirs=theirs,
        values=everything[0].values,
        here=_leading_to(mine, everything),
        there=_leading_to(theirs, everything),
        tried=dict(sorted(tried.items())),
        agree={size: agree[size] for size in sorted(tried)},
        chance={size: _chance(theirs, everything, size) for size in tried},
        everything=tuple(everything),
    )


def _numbers(given: Any, metric: str, tolerance: float | int | None) -> dict[str, Printed]:
    named = given if isinstance(given, Mapping) else {metric: given}
    if not named:
        raise ConfigError("mine, theirs: no number given")
    found = {str(name): printed(x, tolerance=tolerance) for name, x in named.items()}
    for name, p in found.items():
        _refuse_impossible(name, p)
    return found


def _refuse_impossible(metric: str, p: Printed) -> None:
    """A `ConfigError` for a number that no evaluation gives."""
    if p.value < 0:
        raise ConfigError(f"{metric} {p.text}: is never below 0; correct the number")
    if metric.startswith("delta") and p.value > 1:
        raise ConfigError(
            f"{metric} {p.text}: is a share of the pixels, from 0 to 1; write a percentage with its "
            "sign, such as 97.1%"
        )


def check_numbers(mine: Mapping[str, str], theirs: Mapping[str, str]) -> None:
    """See that two sides of numbers can be explained, before anything is read.

    Args:
        mine, theirs: metric -> number as printed.

    Raises:
        ConfigError: a number that is none, or that no evaluation gives; an unknown metric; other
            metrics on one side than on the other.
    """
    ours, _ = _pair(mine, theirs, "abs_rel", None)
    check_names(ours, METRICS, what="metric")


def _pair(
    mine: Any, theirs: Any, metric: str, tolerance: float | int | None
) -> tuple[dict[str, Printed], dict[str, Printed]]:
    ours, others = _numbers(mine, metric, tolerance), _numbers(theirs, metric, tolerance)
    if ours.keys() != others.keys():
        raise ConfigError(
            f"mine has {', '.join(ours)} and theirs {', '.join(others)}; give the same metrics"
        )
    return ours, others


SAME = 1e-10
"""Numbers of this relative difference are one: sums in another order."""


def _distinct(found: list[Found]) -> list[Found]:
    """Without combinations that give the numbers of a part of them: there something has no
    effect."""
    values = {frozenset(f.names): f.values for f in found}

    def idle(f: Found) -> bool:
        parts = itertools.combinations(f.names, len(f.names) - 1) if f.names else ()
        return any(
            frozenset(part) in values and _same(values[frozenset(part)], f.values) for part in parts
        )

    return [f for f in found if not idle(f)]


def _same(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    return all(
        math.isclose(a[n], b[n], rel_tol=SAME) or (math.isnan(a[n]) and math.isnan(b[n])) for n in a
    )


def _leading_to(numbers: Mapping[str, Printed], everything: Sequence[Found]) -> tuple[Found, ...]:
    """The smallest combinations that give all the numbers; the fewest first, then the closest."""
    hits = _agreeing(numbers, everything)
    sets = [set(f.names) for f in hits]
    least = [
        f for f, names in zip(hits, sets, strict=True) if not any(other < names for other in sets)
    ]

    def rank(f: Found) -> tuple[int, float]:
        away = sum(abs(f.values[n] - p.value) / p.tolerance for n, p in numbers.items())
        return len(f.conventions), away

    return tuple(sorted(least, key=rank))


WINDOW = 0.1
"""Share of a number within which other combinations are taken for the estimate of chance."""


def _chance(numbers: Mapping[str, Printed], everything: Sequence[Found], size: int) -> float:
    """How many combinations of a size agree with a number that another one made: the mean over all
    combinations whose numbers lie within 10 % of the ones that are looked at."""
    values = np.array([[f.values[n] for n in numbers] for f in everything])
    centre = np.array([p.value for p in numbers.values()])
    tolerance = np.array([p.tolerance for p in numbers.values()])
    width = np.maximum(WINDOW * np.abs(centre), 5 * tolerance)
    targets = np.flatnonzero((np.abs(values - centre) <= width).all(1))
    of_size = np.array([len(f.conventions) == size for f in everything])
    if not len(targets):
        return 0.0
    count = 0
    for j in targets:
        agree = (np.abs(values - values[j]) <= tolerance).all(1) & of_size
        count += int(agree.sum()) - int(agree[j])
    return count / len(targets)


def _agreeing(numbers: Mapping[str, Printed], found: Sequence[Found]) -> list[Found]:
    return [f for f in found if all(p.fits(f.values[n]) for n, p in numbers.items())]


def _report(e: Explanation) -> list[str]:
    lines = []
    for n, p in e.mine.items():
        lines.append(
            f"{n}: yours {p.text}, theirs {e.theirs[n].text}; protocol {e.reference} gives "
            f"{e.values[n]:.6g}"
        )
    if not e.none and all(p.meets(e.theirs[n]) for n, p in e.mine.items()):
        lines.append("Within the rounding of their digits the two numbers are one: no gap.")
    if not e.is_reference and any(not f.conventions for f in e.there):
        lines.append("Their number is that of the protocol: were the two exchanged?")
    for side, found in ((e.mine, e.here), (e.theirs, e.there)):
        large = [f"{n} {p.text}" for n, p in side.items() if n in SHARES and p.value > 1]
        if large and not found:
            lines.append(
                f"{', '.join(large)}: if it is a percentage, write it with its sign (5.1%)."
            )
    if e.none:
        lines.append("Within the rounding of their digits both are that of the protocol: no gap.")
    elif e.is_reference:
        lines.append("Your number is that of the protocol.")
    elif e.here:
        lines.append("Your number is not that of the protocol. It is given by:")
        lines += [f"  {f.words}" for f in e.here[:SHOWN]]
    else:
        lines.append(
            "Your number is not that of the protocol, nor of any combination that was tried: other "
            "predictions, other images, or a convention that is not known here. What follows "
            "explains theirs, not the gap."
        )
    if not e.there:
        lines.append(
            "Nothing that was tried gives their number: other weights, other images or truth, or a "
            "convention that is not known here."
        )
    else:
        lines.append("Their number is given by:")
        for f in e.there[:SHOWN]:
            numbers = ", ".join(f"{n} {v:.6g}" for n, v in f.values.items())
            lines.append(f"  {f.words}  ({numbers})")
            lines += [f"      {c.name}: {c.source}" for c in f.conventions]
        if len(e.there) > SHOWN:
            lines.append(f"  and {len(e.there) - SHOWN} more")
    for size, count in e.tried.items():
        lines.append(
            f"Of {count} {MANY[size]}, {e.agree[size]} agree; with a number near it that had "
            f"another cause {e.chance[size]:.2g} would, on average."
        )
    return lines


MANY = {1: "single conventions", 2: "pairs", 3: "triples"}
SHOWN = 10
"""Explanations that a report lists."""
SHARES = ("abs_rel", "sq_rel", "log10")
"""Metrics that are hardly ever above 1, but in per cent."""
