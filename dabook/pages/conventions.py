"""Why your AbsRel differs: what a network sees before anything is resized, what each convention
costs, as a table, a figure and sentences."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import matplotlib.pyplot as plt
import torch
from jaxtyping import UInt8
from matplotlib.figure import Figure
from torch import Tensor

from dabook.show.html import Html, html, number
from dabook.show.style import COLOURS, INK, MUTED, RULE, figure
from dalib.evaluation.conventions import (
    CONVENTIONS,
    MANY,
    Convention,
    Explanation,
    Price,
    prices,
)
from dalib.evaluation.protocols import real_sets
from dalib.models.depth_anything import DepthAnything
from dalib.models.sizes import network_size, resize_images

LEAST, MOST = 0.2, 20.0
"""Factors between which the figure draws; what lies beyond stands at its edge with its number."""
SHORT = {"abs_rel": "AbsRel", "delta1": "δ1"}
DRAWN = 0.02
"""The figure leaves out conventions that move every number by a smaller share."""
NONE = 0.0005
"""A factor this close to 1 is no effect in print."""


@torch.inference_mode()
def seen(
    model: DepthAnything, images: Sequence[UInt8[Tensor, "3 _ _"]], *, short_side: int
) -> tuple[list[Tensor], list[Tensor]]:
    """What a network gives at its own size, and what it gives for the mirrored images, turned
    back."""
    mean, std = (torch.as_tensor(x).view(3, 1, 1) for x in (model.mean, model.std))
    plain, mirrored = [], []
    model.eval()
    for image in images:
        size = network_size(*image.shape[-2:], short_side=short_side, multiple=model.multiple)
        batch = (resize_images(image[None], size) - mean) / std
        both = torch.cat([batch, batch.flip(-1)]).contiguous(memory_format=torch.channels_last)
        output = model(both)
        maps = (output[0] if isinstance(output, tuple) else output).float()
        plain.append(maps[0])
        mirrored.append(maps[1].flip(-1))
    return plain, mirrored


def setting(samples: Sequence[dict], maps: Sequence[Tensor]) -> str:
    """How many conventions there are, and what they are tried on: sentences."""
    questions = {c.question for c in CONVENTIONS.values()}
    seen_at, true = maps[0].shape, samples[0]["disparity"].shape
    return (
        f"{len(CONVENTIONS)} conventions answer {len(questions)} questions. Here they are tried on "
        f"{len(samples)} scenes of {true[0]} x {true[1]} pixels, which the student sees at "
        f"{seen_at[0]} x {seen_at[1]}."
    )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one convention does, on the scenes and on real data sets.

    Attributes:
        scenes: its price on the scenes; None where it cannot be tried there.
        perfect: AbsRel of a perfect network by it, at the size of the truth.
        real: data set -> its price there, by the data set's own protocol; where the convention is
            that protocol's own, it is not tried.
    """

    convention: Convention
    scenes: Price | None
    perfect: float
    real: Mapping[str, Price]

    @property
    def factor(self) -> float:
        """On the scenes: the number by the convention, divided by that of the reference."""
        return self.scenes.factor if self.scenes else math.nan

    @property
    def real_factor(self) -> float:
        """The middle of the data sets' factors, NaN without data sets."""
        factors = sorted(p.factor for p in self.real.values() if not math.isnan(p.factor))
        if not factors:
            return math.nan
        return (factors[(len(factors) - 1) // 2] + factors[len(factors) // 2]) / 2


def real_prices(model: DepthAnything, *, short_side: int) -> dict[str, list[Price]]:
    """Data set -> the prices there, each by its own protocol; empty where the collection of real
    images is absent."""
    found = {}
    for data_set in real_sets():
        samples = [data_set.source[i] for i in range(len(data_set.source))]
        plain, mirrored = seen(model, [s["image"] for s in samples], short_side=short_side)
        found[data_set.name] = prices(
            plain, samples, protocol=data_set.protocol, mirrored=mirrored, draws=0
        )
    return found


def measured(
    scenes: Sequence[Price], perfect: Sequence[Price], real: Mapping[str, Sequence[Price]]
) -> list[Measured]:
    """The conventions that were tried anywhere, in the order of `CONVENTIONS`."""
    here = {p.convention.name: p for p in scenes}
    flawless = {p.convention.name: p.value for p in perfect}
    there = {d: {p.convention.name: p for p in found} for d, found in real.items()}
    rows = []
    for name, convention in CONVENTIONS.items():
        sets = {d: found[name] for d, found in there.items() if name in found}
        if name in here or sets:
            rows.append(
                Measured(
                    convention=convention,
                    scenes=here.get(name),
                    perfect=flawless.get(name, math.nan),
                    real=sets,
                )
            )
    return rows


# ---- table


ISSUE = re.compile(r"([\w.-]+/[\w.-]+)#(\d+)")
FILE = re.compile(r"(?<![\w/>])([\w.-]+/[\w.-]+):([\w./-]+\.(?:py|md))")


def linked(source: str) -> str:
    """A source as HTML, with links to issues and files on GitHub."""
    text = escape(source, quote=False)
    text = FILE.sub(r'<a href="https://github.com/\1/blob/HEAD/\2">\1:\2</a>', text)
    return ISSUE.sub(r'<a href="https://github.com/\1/issues/\2">\1#\2</a>', text)


def table(rows: Sequence[Measured]) -> Html:
    """Each convention with its price on the scenes, what a perfect network gets by it, the middle
    of the real data sets, and its source."""
    lines = {}
    for row in rows:
        line = {
            "change of AbsRel": DASH,
            "factor": _times(row.factor),
            "of a perfect network": number(row.perfect),
        }
        if row.scenes:
            line["change of AbsRel"] = _change(row.scenes)
        if any(r.real for r in rows):
            line["real sets, factor"] = _times(row.real_factor)
        line["who scores so"] = linked(row.convention.source)
        lines[row.convention.name] = line
    headings = [escape(row.convention.words) for row in rows]
    return html(lines, headings, name="conventions")


DASH = "–"


def _times(factor: float) -> str:
    return DASH if math.isnan(factor) else f"×\N{NO-BREAK SPACE}{number(factor, 2)}"


def _change(price: Price) -> str:
    text = number(price.change, 4, sign=True)
    if math.isnan(price.low):
        return text
    ends = f"{number(price.low, 4, sign=True)} to {number(price.high, 4, sign=True)}"
    return f'{text}<br><span class="interval">{ends}</span>'


REPORTED = (
    (
        "LiheYoung/Depth-Anything#43",
        "errors of 30 to 40 % where the paper has 7 to 8 %",
        "inverted first, then scaled by medians: no shift was fitted",
    ),
    (
        "LiheYoung/Depth-Anything#174",
        "AbsRel and δ1 could not be reproduced",
        "an author: evaluated in disparity, without converting back",
    ),
    (
        "DepthAnything/Depth-Anything-V2#58",
        "NYUv2, 0.098 where the paper has 0.045",
        "no answer; a reader gets Marigold's number by Marigold's script",
    ),
    (
        "DepthAnything/Depth-Anything-V2#91",
        "how table 2 was made",
        "no answer; a reader is off by around 10 %",
    ),
    (
        "DepthAnything/Depth-Anything-V2#280",
        "DIODE, 0.214 where the paper has 0.066",
        "fitted in disparity, inverted without a clamp. Another reader: rooms agree with the paper, "
        "and streets come near it with another mask of valid truth "
        "(kmatzen/plumbline:docs/D29_DIODE_TABLE2_HANDOFF.md)",
    ),
    (
        "DepthAnything/Depth-Anything-V2#281",
        "ETH3D; another reader has 0.089 where the paper has 0.131",
        "truth resized to a fixed size by the first; unexplained",
    ),
    (
        "DepthAnything/Depth-Anything-V2#289",
        "KITTI, AbsRel 30",
        "relative disparity compared with metres, nothing fitted",
    ),
    (
        "prs-eth/Marigold#96",
        "KITTI does not match the paper, NYUv2 does",
        "a small selection of images in place of the whole list",
    ),
    (
        "EnVision-Research/Lotus-2#13",
        "MoGe-2 on KITTI, 5.5 % where the paper has 11.8 %",
        "fitted in depth, at another input size; the issue asks why",
    ),
    (
        "isl-org/MiDaS#166",
        "which images of KITTI",
        "MiDaS scores 161 of them; Eigen's list has 697, or 652 with improved truth",
    ),
    (
        "mrharicot/monodepth#110",
        "KITTI, 0.169 where the paper has 0.148",
        "Eigen's crop in place of Garg's",
    ),
    (
        "shariqfarooq123/AdaBins#58",
        "KITTI, AbsRel 0.109 by another script",
        "raw LiDAR points in place of the improved truth",
    ),
    (
        "cleinc/bts#61",
        "NYUv2",
        "the crop was counted from 1, in a language that counts from 0",
    ),
    (
        "ultralytics/ultralytics#25648",
        "AbsRel of a whole data set",
        "all pixels were pooled; the mean is over images since",
    ),
)
"""Where somebody asked why two numbers differ, what the numbers are, and what is known of the
cause, as the threads say."""


def reported() -> Html:
    """Gaps that people reported, with what is known of their cause."""
    lines = {
        where: {"gap": escape(gap), "what is known": linked(known)}
        for where, gap, known in REPORTED
    }
    return html(lines, [linked(where) for where in lines], name="reported")


# ---- figure


@figure
def chart(rows: Sequence[Measured]) -> Figure:
    """By how much each convention multiplies AbsRel, on a logarithmic axis; conventions that move no
    number by more than 2 % are left out."""
    drawn = [row for row in rows if _moves(row)]
    drawn.sort(key=lambda row: -abs(math.log(_drawn(row))))
    fig, ax = plt.subplots(figsize=(6.0, 1.0 + 0.24 * len(drawn)))
    real = any(row.real for row in drawn)
    for y, row in enumerate(drawn):
        _line(ax, y, row)
    ax.axvline(1, color=INK, lw=0.9, zorder=1)
    ax.set_xscale("log")
    ax.set(
        xlim=(LEAST, MOST),
        ylim=(len(drawn) - 0.4, -0.6),
        yticks=range(len(drawn)),
        yticklabels=[row.convention.words for row in drawn],
        xlabel="AbsRel, as a multiple of the reference",
    )
    ticks = (0.25, 0.5, 1, 2, 4, 8, 16)
    ax.set_xticks(ticks, [f"× {t:g}" for t in ticks])
    ax.minorticks_off()
    ax.grid(False, axis="y")
    ax.scatter([], [], s=34, color=COLOURS[2], label="scenes, 95 % interval over images")
    if real:
        ax.scatter([], [], s=16, color=COLOURS[1], alpha=0.55, label="a real data set each")
        ax.plot([], [], color=COLOURS[5], marker="|", ms=9, mew=2.2, lw=0, label="their middle")
    fig.legend(loc="outside upper left", ncols=1)
    return fig


def _drawn(row: Measured) -> float:
    """The factor that a row is sorted by: of the scenes, else of the real sets."""
    factor = row.factor if row.scenes and _effect(row.factor) else row.real_factor
    return min(max(factor, LEAST), MOST)


def _effect(factor: float) -> bool:
    return not math.isnan(factor) and abs(factor - 1) > NONE


def _moves(row: Measured) -> bool:
    factors = [row.factor, *(p.factor for p in row.real.values())]
    return any(abs(f - 1) > DRAWN for f in factors if not math.isnan(f))


def _line(ax, y: int, row: Measured) -> None:
    """One convention: its interval and its points."""
    ax.axhline(y, color=RULE, lw=0.6, zorder=0)
    for price in row.real.values():
        if not math.isnan(price.factor):
            place = min(max(price.factor, LEAST), MOST)
            ax.scatter(place, y, s=16, color=COLOURS[1], alpha=0.55, lw=0, zorder=2)
    if not math.isnan(row.real_factor):
        place = min(max(row.real_factor, LEAST), MOST)
        ax.plot(place, y, color=COLOURS[5], marker="|", ms=9, mew=2.2, zorder=3)
    if row.scenes is None:
        return
    base = row.scenes.reference
    if not math.isnan(row.scenes.low):
        ends = [max(1 + x / base, LEAST) for x in (row.scenes.low, row.scenes.high)]
        ax.plot(ends, [y, y], color=COLOURS[2], lw=2, zorder=3, solid_capstyle="butt")
    inside = LEAST <= row.factor <= MOST
    ax.scatter(
        min(max(row.factor, LEAST), MOST), y, s=34, color=COLOURS[2], zorder=4, clip_on=False
    )
    if not inside:
        ax.annotate(
            f"× {row.factor:.3g} →" if row.factor > MOST else f"← × {row.factor:.2g}",
            (MOST if row.factor > MOST else LEAST, y),
            xytext=(-7 if row.factor > MOST else 7, 0),
            textcoords="offset points",
            ha="right" if row.factor > MOST else "left",
            va="center",
            fontsize=7.5,
            color=MUTED,
        )


# ---- sentences


def _list(rows: Sequence[Measured]) -> str:
    return ", ".join(f"{row.convention.words} (× {number(row.factor, 2)})" for row in rows)


def _flaws(rows: Sequence[Measured]) -> str:
    ordered = sorted(rows, key=lambda row: -row.perfect)
    return ", ".join(f"{row.convention.words} ({number(row.perfect)})" for row in ordered)


def reading(rows: Sequence[Measured]) -> str:
    """What the prices on the scenes say: the range, what matters and what does not, and by which
    conventions a perfect network has an error."""
    here = [row for row in rows if row.scenes and not math.isnan(row.factor)]
    if not here:
        return "Nothing was tried."
    base = here[0].scenes.reference
    values = sorted(row.scenes.value for row in here)
    flawed = [row for row in here if row.perfect > NONE]
    choices = [row for row in here if row not in flawed]
    up = sorted((r for r in choices if r.factor > 1.02), key=lambda r: -r.factor)
    down = sorted((r for r in choices if r.factor < 0.98), key=lambda r: r.factor)
    none = [row for row in choices if abs(row.factor - 1) <= NONE]
    sentences = [
        f"One network, one set of images, {len(here) + 1} numbers: the reference gives "
        f"{number(base, 4)}, the others from {number(values[0], 4)} to {number(values[-1], 4)}.",
        f"By {len(flawed)} of the conventions even a perfect network has an error, so they measure "
        f"themselves as well as the network: {_flaws(flawed)}."
        if flawed
        else "",
        f"Of the {len(choices)} others, which are choices, these raise the number by more than "
        f"2 %: {_list(up) or 'none'}."
        if choices
        else "",
        f"These lower it by more than 2 %: {_list(down) or 'none'}." if choices else "",
        f"{len(none)} change nothing here, among them some that matter elsewhere (there are no "
        "holes, and nothing is nearer than the near end): "
        f"{', '.join(row.convention.words for row in none)}."
        if none
        else "",
    ]
    return "\n\n".join(s for s in sentences if s)


def real_reading(rows: Sequence[Measured], real: Mapping[str, Sequence[Price]]) -> str:
    """Whether real data sets agree with the scenes on the direction of each convention; or that
    there are none."""
    if not real:
        return (
            "The collection of real images is not here (DALIB_REALDEPTH would name its folder), so "
            "there is no column for it."
        )
    both = [r for r in rows if r.scenes and r.real and _effect(r.factor) and _effect(r.real_factor)]
    agree = [r for r in both if (r.factor > 1) == (r.real_factor > 1)]
    other = [r for r in both if r not in agree]
    images = max((p.images for found in real.values() for p in found), default=0)
    text = (
        f"On {len(real)} real data sets (at most {images} images each, so without intervals), each "
        f"by its own protocol, {len(agree)} of {len(both)} conventions with an effect move the "
        "number, in the middle of the data sets, the same way as on the scenes."
    )
    if other:
        turned = ", ".join(
            f"{r.convention.words} (× {number(r.factor, 2)} here, × {number(r.real_factor, 2)} "
            "there)"
            for r in other
        )
        text += f" Not so: {turned}."
    wide = max(
        (r for r in both if r.perfect <= NONE),
        key=lambda r: _spread([p.factor for p in r.real.values()]),
        default=None,
    )
    if wide:
        factors = sorted(p.factor for p in wide.real.values())
        text += (
            f" And they differ between data sets: {wide.convention.words} multiplies the number by "
            f"{number(factors[0], 2)} to {number(factors[-1], 2)}. A factor that was measured on "
            "one data set does not correct a number of another."
        )
    return text


def _spread(factors: Sequence[float]) -> float:
    known = [f for f in factors if f > 0]
    return max(known) / min(known) if known else 0.0


def thumb(rows: Sequence[Measured]) -> Html:
    """For whoever has two numbers and nothing else: between which factors each convention lay here,
    over the images of the scenes and over the real data sets; those that matter most first."""
    lines = {}
    headings = []
    for row in sorted(filter(_moves, rows), key=lambda r: -abs(math.log(_drawn(r)))):
        factors = [p.factor for p in row.real.values() if not math.isnan(p.factor)]
        if row.scenes:
            base = row.scenes.reference
            factors += [row.factor]
            factors += [1 + x / base for x in (row.scenes.low, row.scenes.high) if x == x]
        lines[row.convention.name] = {
            "from": _times(min(factors)),
            "to": _times(max(factors)),
        }
        headings.append(escape(row.convention.words))
    return html(lines, headings, name="thumb")


def found_table(found: Explanation, *, most: int = 12) -> Html:
    """The explanations that a finder lists, with the numbers that they give."""
    lines = {}
    headings = []
    for k, f in enumerate(found.there[:most]):
        lines[str(k)] = {n: number(v, 5) for n, v in f.values.items()} | {
            "sources": "<br>".join(linked(c.source) for c in f.conventions)
        }
        headings.append(escape(f.words))
    if not lines:
        return Html('<p class="provenance">Nothing that was tried gives this number.</p>')
    return html(lines, headings, name="found")


def chance_table(found: Mapping[str, Explanation]) -> Html:
    """How many combinations agree with numbers of several precisions, and how many would with a
    number near them that had another cause."""
    lines = {}
    for label, e in found.items():
        line = {}
        for size, count in e.tried.items():
            many = f"{count} {MANY[size]}"
            line[many, "agree"] = str(e.agree[size])
            line[many, "expected by chance"] = number(e.chance[size], 2)
        lines[label] = line
    return html(lines, [escape(label) for label in found], name="chance")


@figure
def values_chart(found: Explanation) -> Figure:
    """Every number that the tried combinations give, by how many conventions they have, with the
    two numbers as lines."""
    metric = next(iter(found.mine))
    fig, ax = plt.subplots(figsize=(6.0, 1.9))
    sizes = sorted(found.tried)
    for y, size in enumerate(sizes):
        values = [
            f.values[metric]
            for f in found.everything
            if len(f.conventions) == size and math.isfinite(f.values[metric])
        ]
        ax.scatter(
            values, [y] * len(values), marker="|", s=110, lw=0.8, alpha=0.5, color=COLOURS[2]
        )
    for printed, name, colour in (
        (found.mine[metric], "yours", INK),
        (found.theirs[metric], "theirs", COLOURS[5]),
    ):
        ax.axvline(printed.value, color=colour, lw=1.4, label=f"{name}, {printed.text}", zorder=3)
    words = {1: "one convention", 2: "two", 3: "three"}
    ends = found.mine[metric].value, found.theirs[metric].value
    low, high = min(ends) / 2, 2 * max(ends)
    inside = [x for f in found.everything if low <= (x := f.values[metric]) <= high]
    outside = len(found.everything) - len(inside)
    ax.set(
        xlim=(low, high),
        yticks=range(len(sizes)),
        yticklabels=[words[s] for s in sizes],
        ylim=(len(sizes) - 0.5, -0.5),
        xlabel=f"{SHORT.get(metric, metric)} by each combination ({outside} lie outside)",
    )
    ax.grid(False, axis="y")
    fig.legend(loc="outside upper left", ncols=2)
    return fig
