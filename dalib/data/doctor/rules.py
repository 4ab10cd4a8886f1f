"""What the doctor looks for: one function per fault, and the table that lists them.

Each docstring says what its rule looks for, why that spoils a training, the threshold, and what it
was measured on. "Good data" are 480 real pairs (25 of 11 data sets that are used for tests, and 455
of 69 public repositories: Kinect, RealSense, LiDAR, stereo, structure from motion, rendered) and
drawn scenes, 32 of each split; on the drawn ones no rule fires.
`dalib.data.doctor` applies the table; `book/check_data.md` shows it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from dalib.data.doctor.summary import Summary, Truth

SPOILS, DOUBTFUL, NOTE = "spoils", "doubtful", "note"
SEVERITIES = (SPOILS, DOUBTFUL, NOTE)
"""Worst first. Only the first makes `check-data` end with exit code 1."""
SEVERAL = 8
"""Images of a collection below which nothing is said of how image and map lie, nor of rows."""
MANY = 24
"""Images from which a doubt about a whole source is taken for certain."""


@dataclass(kw_only=True)
class Group:
    """What is known of the images of a source, or of one domain in it.

    Attributes:
        name: of the source, and of the domain where it is one of several.
        whole: whether it is all of the source.
        count: images that were looked at and could be read.
        kept: summaries of all of them, or of a fair draw where there are very many.
    """

    name: str
    whole: bool
    count: int = 0
    kept: list[Summary] = field(default_factory=list)

    @property
    def truths(self) -> list[Truth]:
        """Maps that were kept."""
        return [summary.truth for summary in self.kept if summary.truth is not None]


# severity, and what was found
Verdict = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A fault, and how it is found.

    Attributes:
        name: one word, by which `--accept` calls it.
        severity: at its worst.
        over: "image": `check` takes a summary and gives words or None; "group": it takes a `Group`
            and gives a verdict or None; "doubles" and "reading" are found by `dalib.data.doctor`
            itself, and `check` only holds the docstring.
        check: the function.
        share: of a source's images, from which a fault of single images has the rule's severity;
            below it is doubtful.
        needs: "truth" where photographs alone are passed over, "stored" where the stored map and
            mask are needed.
    """

    name: str
    severity: str
    over: str
    check: Callable
    share: float = 0.0
    needs: str | None = None

    def part(self, head: str) -> str:
        """A paragraph of the docstring: "" for the first, "Why", "Threshold" or "Measured"."""
        paragraphs = [" ".join(p.split()) for p in (self.check.__doc__ or "").split("\n\n")]
        if not head:
            return paragraphs[0]
        found = [p for p in paragraphs if p.startswith(f"{head}: ")]
        return found[0].removeprefix(f"{head}: ") if found else ""


# ------------------------------------------------------------------------------------------ reading


def unreadable() -> None:
    """An image, map or mask that is missing, damaged, of another size than its partner, or holds
    what cannot be meant.

    Why: the training stops there, perhaps after days. The message is that of the library, which
    also refuses undeclared depth of 8 bits and holes stored as the greatest value of a type.

    Threshold: one.

    Measured: none among good data.
    """


# ------------------------------------------------------------------------------------ single images


def exposure(image: Summary) -> str | None:
    """A picture with next to nothing to see: one grey, or white and black at their ends.

    Why: its depth cannot be learned from it; such files are often lens caps, failed renderings or
    damaged.

    Threshold: standard deviation of grey below 4 of 255, or 70 % of the pixels above 249 or below 6.

    Measured: good data have at least 13.6, and at most 45 %.
    """
    if image.contrast < 4:
        return f"nothing to see: grey varies by {image.contrast:.1f} of 255"
    if image.clipped > 0.7:
        return f"{image.clipped:.0%} of the pixels are white or black at their ends"
    return None


def small(image: Summary) -> str | None:
    """A picture that is very small.

    Why: it is enlarged for training, and its blur with it.

    Threshold: a short side below 64 pixels, fewer than five patches of a ViT.

    Measured: good data have at least 96 (drawn) and 180 (real).
    """
    if min(image.size) < 64:
        return f"only {image.size[1]} x {image.size[0]} pixels"
    return None


def few_valid(image: Summary) -> str | None:
    """A map with next to no ground truth.

    Why: it costs a place in the batch and teaches little; and where all are so, a mask may be the
    wrong way round.

    Threshold: valid pixels below 1 %.

    Measured: sparse LiDAR has 1.2 % (nuScenes) and more.
    """
    truth = image.truth
    if truth.valid < 0.01:
        return f"only {truth.valid:.2%} of the pixels have ground truth"
    return None


def flat(image: Summary) -> str | None:
    """A map without depth in it: all of one distance.

    Why: the loss divides a map by its own spread, so that what is left here is noise, enlarged.

    Threshold: 95th by 5th percentile of disparity below 1.02, without sky.

    Measured: good data have at least 1.037, a picture of a table from above.
    """
    truth = image.truth
    if truth.levels and truth.spread < 0.02 and truth.sky < 0.01:
        return f"near and far differ by {np.exp(truth.spread) - 1:.1%} only"
    return None


def direction(image: Summary) -> str | None:
    """Depth called disparity, or disparity called depth.

    Why: near and far are bent the wrong way, and reversed: the network learns the opposite.

    Threshold: on a plane, disparity d is linear in the image, so that d d''/d'^2 is 0 and that of
    1/d is 2. Reported where it is the other way round: medians over all gentle slopes, over two
    distances, of 1.4 to 2.6 for d and of -0.6 to 0.6 for 1/d.

    Measured: no map among 480 real ones and 544 drawn ones looks inverted. Of the inverted twins
    57 % of the real ones do, of rooms nearly all. Foliage and noise have no planes: there it cannot
    know.
    """
    bend = image.truth.bend
    if bend is not None and _is_bent(bend.of_disparity, bend.of_inverse):
        return "planes are bent as in depth, not straight as in disparity; correct kind"
    return None


def saturated(image: Summary) -> str | None:
    """Many pixels at exactly the farthest or the nearest value of their map: holes written as the
    maximum, or depth that was cut off.

    Why: the network learns walls where nothing was measured.

    Threshold: 3 % of the valid pixels at one end, and three times as many as the next three values
    have in the mean. A far end that is next to nothing (a fiftieth of the median disparity) counts
    as sky instead.

    Measured: good data have at most 0.03 % at the far end and 0.06 % at the near one.
    """
    truth = image.truth
    if truth.spread < 0.02:
        return None
    if truth.far_share >= 0.03:
        return f"{truth.far_share:.0%} of the valid pixels have exactly the farthest value"
    if truth.near_share >= 0.03:
        return f"{truth.near_share:.0%} of the valid pixels have exactly the nearest value"
    return None


def filler(image: Summary) -> str | None:
    """Many pixels of exactly one value that is neither the nearest nor the farthest: holes filled
    with a constant.

    Why: as holes written as the maximum.

    Threshold: 40 % of the valid pixels.

    Measured: good data have at most 31 % (a table from above, in millimetres), then 16 %.
    """
    truth = image.truth
    at_an_end = saturated(image) is not None
    if truth.mode >= 0.4 and not at_an_end and truth.spread >= 0.02:
        return f"{truth.mode:.0%} of the valid pixels have exactly one value"
    return None


def quantised(image: Summary) -> str | None:
    """A map of few steps, as 8 bits leave them.

    Why: the edges of the steps are learned as edges of things; gradient losses suffer most.

    Threshold: at most 256 values, each on 20 pixels or more, and a median step of 0.4 % or more
    from one to the next.

    Measured: 8-bit twins of good data, of depth and of disparity, have steps of 0.4 % and more. Of
    480 real maps 27 are as coarse: published in 8 bits (Middlebury 2005), or by sensors of few
    steps beyond two metres.
    """
    truth = image.truth
    if 1 < truth.levels <= 256 and truth.per_level >= 20 and truth.gap >= 0.004:
        if truth.spread < 0.02:
            return None
        return f"{truth.levels} different values, in steps of {truth.gap:.1%}"
    return None


def sky_below(image: Summary) -> str | None:
    """Sky (a disparity of 0, or next to 0) that does not hang from the upper edge: holes written as
    infinitely far.

    Why: the network learns holes in floors and windows, and dark things as sky.

    Threshold: on at least 1 % of the valid pixels; above less than half of it there is nothing but
    sky and what is not known, and more than a quarter of it lies in the lower third of the picture.

    Measured: of 225 drawn pictures with sky 16 have less than half of it open above, behind trees;
    none of them has more than 23 % of it in the lower third. Holes all over a map have a third
    there. Real maps with sky were not at hand.
    """
    truth = image.truth
    if truth.sky >= 0.01 and truth.hanging < 0.5 and truth.low > 0.25:
        return (
            f"{truth.sky:.0%} of the valid pixels are infinitely far, {truth.low:.0%} of them in "
            "the lower third of the picture"
        )
    return None


def mask_swapped(image: Summary) -> str | None:
    """A mask that is the wrong way round: the map holds values outside of it and none inside.

    Why: trained on is what is not known.

    Threshold: no value on more than half of the pixels inside, a value on more than half of those
    outside.

    Measured: on drawn scenes with masks of their own; good data have none.
    """
    if image.truth.swapped is None:
        return None
    inside, outside = image.truth.swapped
    if inside > 0.5 and outside > 0.5:
        return f"inside the mask {inside:.0%} hold no value, outside of it {outside:.0%} do"
    return None


# --------------------------------------------------------------------------------------- collections


def unit(group: Group) -> Verdict | None:
    """Metres that cannot be metres: millimetres called metres, or the other way round; and
    disparity in pixels that is said to be in 1/m.

    Why: a metric network learns a wrong scale, and evaluation leaves out what lies beyond its
    greatest depth. (A relative network is trained up to a factor and does not suffer.)

    Threshold: three images or more whose scale is said to be known, and their median depth, in the
    median, below 0.1 or above 150.

    Measured: good data in metres have 0.2 (things in a hand) to 25 (streets). It cannot see a factor
    of 10, such as centimetres.
    """
    depths = [t.depth for t in group.truths if t.scale_known and not np.isnan(t.depth)]
    if len(depths) < 3:
        return None
    middle = float(np.median(depths))
    if middle < 0.1:
        return SPOILS, (
            f"half of what is seen is nearer than {middle:.2g} m: metres stored without a scale, "
            "or no metres at all; correct depth_scale, or say scale_known no"
        )
    if middle > 150:
        return SPOILS, (
            f"half of what is seen is farther than {middle:.3g} m, as millimetres are that are "
            "taken for metres; correct depth_scale"
        )
    return None


def units_mixed(group: Group) -> Verdict | None:
    """Single images whose depth is out of all proportion to the others'.

    Why: a wrong scale for some, where files of two makes share one folder.

    Threshold: a median depth 100 times above or below the collection's, among eight images or more
    whose scale is said to be known.

    Measured: the factor is at most 58 over all of the good data together; metres and millimetres
    lie 1000 apart.
    """
    found = [
        (summary.index, summary.truth.depth)
        for summary in group.kept
        if summary.truth and summary.truth.scale_known and not np.isnan(summary.truth.depth)
    ]
    if len(found) < SEVERAL:
        return None
    depths = np.array([depth for _, depth in found])
    away = np.abs(np.log(depths / np.median(depths))) > np.log(100)
    if not away.any():
        return None
    places = [index for (index, _), odd in zip(found, away, strict=True) if odd]
    some = ", ".join(map(str, places[:8])) + (", ..." if len(places) > 8 else "")
    return SPOILS, (
        f"the depth of {len(places)} of {len(found)} images is more than 100 times greater or "
        f"smaller than that of the others: samples {some}; correct their depth_scale"
    )


def far_below(group: Group) -> Verdict | None:
    """What is lower in the picture is farther: an inverted map, such as an 8-bit one with near as
    black.

    Why: as depth called disparity.

    Threshold: over eight images or more the rank correlation of disparity with the row is, in the
    median, below -0.2: doubtful; below -0.35 over all of a source, 24 images or more: spoils. Not
    asked where planes show depth to be right in a quarter of the images, or wrong in a twentieth.

    Measured: medians of 0.55 and 0.71 over all real data and 0.62 over drawn scenes. Single scenes
    seen from below have -0.7 to -0.8, which a person has to look at: an inverted map and a camera
    that looks up at branches have the same rows.
    """
    rows = [t.row for t in group.truths if not np.isnan(t.row)]
    bends = [truth.bend for truth in group.truths if truth.bend is not None]
    bent = sum(_is_bent(bend.of_disparity, bend.of_inverse) for bend in bends)
    if len(rows) < SEVERAL or bent >= max(1, 0.05 * len(rows)):
        return None
    middle = float(np.median(rows))
    if middle >= -0.2:
        return None
    kinds = {summary.kind for summary in group.kept if summary.truth is not None}
    straight = sum(_is_bent(bend.of_inverse, bend.of_disparity) for bend in bends)
    if kinds == {"depth_m"} and straight >= max(4, len(bends) / 4):
        return None
    severity = SPOILS if group.whole and len(rows) >= MANY and middle < -0.35 else DOUBTFUL
    return severity, (
        f"what is lower in the picture is farther (rank correlation {middle:.2f}), as in inverted "
        "maps; look at the sheet, and turn the values round if near is far"
    )


def mispaired(group: Group) -> Verdict | None:
    """Maps that belong to the mirrored or turned image, or to the image before or after.

    Why: the network is shown a depth that its picture does not have.

    Threshold: over eight images or more, the edges of the map agree better with the other image in
    at least three quarters of them, by 0.05 in the median (of a correlation).

    Measured: on good data the other image wins in 6 to 25 %, and loses by 0.13 to 0.39 in the
    median; on real pairs that are late by one on purpose it wins in 82 and 86 %, by 0.15 and 0.18.
    Neighbours in a film look alike: there, one frame too late cannot be seen.
    """
    names = ("mirrored", "upside down", "turned by 180 degrees", "the image before")
    if (best := _best(group, (*names, "the image after"))) is None:
        return None
    name, share, gain = best
    fits = name if name.startswith("the image") else f"the image {name}"
    return SPOILS, (
        f"the maps fit {fits} better than their own in {share:.0%} of the images (correlation "
        f"of edges higher by {gain:.2f}); correct the pairs"
    )


def shifted(group: Group) -> Verdict | None:
    """Maps that lie beside their images: moved, or larger or smaller.

    Why: edges are learned beside where they are. Cameras of colour and of depth stand beside each
    other, and their maps need registration.

    Threshold: as for wrong pairs, with the image moved by 5 % or drawn larger or smaller by 10 %:
    doubtful; spoils from a gain of 0.1 on.

    Measured: on good data the moved image loses by 0.03 to 0.24. Maps of real pairs that were moved
    by 5 to 7 % on purpose are found (0.05 to 0.12 in 76 to 96 % of the images), those moved by 3 or
    10 % are not. A Kinect's recordings that are not registered are found, as the eye sees.
    """
    best = _best(group, ("left", "right", "up", "down", "larger", "smaller"))
    if best is None or mispaired(group) is not None:
        return None
    name, share, gain = best
    how = f"drawn {name} by 10 %" if name in ("larger", "smaller") else f"moved {name} by 5 %"
    return (SPOILS if gain >= 0.1 else DOUBTFUL), (
        f"the maps fit the image {how} better in {share:.0%} of the images (correlation of edges "
        f"higher by {gain:.2f}); register the maps to the images"
    )


def unrelated(group: Group) -> Verdict | None:
    """Maps whose edges have nothing to do with those of their images: pairs that were shuffled, or
    maps that are not registered.

    Why: there is nothing to learn.

    Threshold: over eight images or more, the edges of the map agree with those of the image by at
    most 0.02 more, in the median, than with those of the mirrored and turned ones: doubtful; spoils
    over all of a source, 24 images or more.

    Measured: 0.19 over all of the real data, twice, and 0.35 over drawn scenes. Facades with
    windows on flat walls, and sparse or unregistered maps, come near 0.
    """
    given, gains = [], []
    for truth in group.truths:
        turned = [truth.gains.get(n) for n in ("mirrored", "upside down", "turned by 180 degrees")]
        if None not in turned:
            given.append(truth.given)
            gains.append(float(np.mean(turned)))
    if len(gains) < SEVERAL or float(np.median(gains)) < -0.02:
        return None
    if mispaired(group) is not None or shifted(group) is not None:
        return None
    severity = SPOILS if group.whole and len(gains) >= MANY else DOUBTFUL
    own = float(np.median(given))
    return severity, (
        f"the edges of the maps agree no better with their own images (correlation {own:.2f}) than "
        f"with turned ones ({own + float(np.median(gains)):.2f}); look at the sheet: are the pairs "
        "right, and registered?"
    )


def _is_bent(two: tuple[float, float], zero: tuple[float, float]) -> bool:
    """Whether bends are those of the inverse of a plane, and of a plane."""
    return all(abs(bend - 2) <= 0.6 for bend in two) and all(abs(bend) <= 0.6 for bend in zero)


def _best(group: Group, names: tuple[str, ...]) -> tuple[str, float, float] | None:
    """Which of the others fits best: name, share of images in which it beats the given one, median
    gain; None unless it clearly does."""
    best = None
    for name in names:
        gains = np.array([truth.gains[name] for truth in group.truths if name in truth.gains])
        if len(gains) < SEVERAL:
            continue
        share, gain = float((gains > 0).mean()), float(np.median(gains))
        if share >= 0.75 and gain >= 0.05 and (best is None or gain > best[2]):
            best = name, share, gain
    return best


# -------------------------------------------------------------------------------------------- doubles


def leak() -> None:
    """The same picture on both sides: in two splits, or here and in a source of `--against`.

    Why: what is tested was trained on.

    Threshold: one. Pixels are compared, not files.

    Measured: none among good data.
    """


def near_leak() -> None:
    """Nearly the same picture on both sides.

    Why: as the same; but neighbouring frames, or two pictures of one plain wall, look so too.

    Threshold: difference hashes of 64 bits that differ in at most 5; pictures with next to no
    contrast are left out.

    Measured: a picture that is scaled or saved anew differs in a few bits.
    """


def contradiction() -> None:
    """The same picture with two different maps.

    Why: at most one of them is right.

    Threshold: one.

    Measured: none among good data.
    """


def same_map() -> None:
    """One map under different pictures.

    Why: at most one of them is its own; mostly a file that was written under many names.

    Threshold: one. Flat maps, and near doubles among the pictures, are left out.

    Measured: none among good data.
    """


def double() -> None:
    """The same picture twice on one side.

    Why: it counts twice, and a part of it may be held back as if it were another.

    Threshold: one.

    Measured: none among good data.
    """


def near_double() -> None:
    """Nearly the same picture on one side.

    Why: neighbouring frames teach little more than one of them; split by scene, not by image.

    Threshold: as for near doubles on both sides.

    Measured: as there.
    """


RULES = (
    Rule(name="unreadable", severity=SPOILS, over="reading", check=unreadable),
    Rule(
        name="direction", severity=SPOILS, over="image", check=direction, share=0.05, needs="truth"
    ),
    Rule(name="far_below", severity=SPOILS, over="group", check=far_below, needs="truth"),
    Rule(name="unit", severity=SPOILS, over="group", check=unit, needs="truth"),
    Rule(name="units_mixed", severity=SPOILS, over="group", check=units_mixed, needs="truth"),
    Rule(name="mispaired", severity=SPOILS, over="group", check=mispaired, needs="truth"),
    Rule(name="shifted", severity=SPOILS, over="group", check=shifted, needs="truth"),
    Rule(name="unrelated", severity=SPOILS, over="group", check=unrelated, needs="truth"),
    Rule(
        name="saturated", severity=SPOILS, over="image", check=saturated, share=0.05, needs="truth"
    ),
    Rule(name="filler", severity=SPOILS, over="image", check=filler, share=0.05, needs="truth"),
    Rule(
        name="sky_below", severity=SPOILS, over="image", check=sky_below, share=0.2, needs="truth"
    ),
    Rule(
        name="mask_swapped",
        severity=SPOILS,
        over="image",
        check=mask_swapped,
        share=0.05,
        needs="stored",
    ),
    Rule(name="flat", severity=SPOILS, over="image", check=flat, share=0.05, needs="truth"),
    Rule(name="leak", severity=SPOILS, over="doubles", check=leak),
    Rule(name="contradiction", severity=SPOILS, over="doubles", check=contradiction),
    Rule(name="same_map", severity=SPOILS, over="doubles", check=same_map),
    Rule(name="quantised", severity=DOUBTFUL, over="image", check=quantised, needs="truth"),
    Rule(name="few_valid", severity=DOUBTFUL, over="image", check=few_valid, needs="truth"),
    Rule(name="exposure", severity=DOUBTFUL, over="image", check=exposure),
    Rule(name="near_leak", severity=DOUBTFUL, over="doubles", check=near_leak),
    Rule(name="double", severity=DOUBTFUL, over="doubles", check=double),
    Rule(name="near_double", severity=NOTE, over="doubles", check=near_double),
    Rule(name="small", severity=NOTE, over="image", check=small),
)
"""Worst first."""


def by_name(name: str) -> Rule:
    """A rule of the table."""
    return next(rule for rule in RULES if rule.name == name)


def table() -> str:
    """The rules as a Markdown table, which the book shows."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "| rule | at worst | looks for | threshold |"
    yield "|---|---|---|---|"
    for rule in RULES:
        cells = (f"`{rule.name}`", rule.severity, rule.part(""), rule.part("Threshold"))
        yield f"| {' | '.join(cells)} |"
