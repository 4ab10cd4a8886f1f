"""The page on confidence: whether a calibration keeps its word on other images, whether it sorts
pixels better than distance alone, and where it fails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from dabook.show.html import Html, html, number
from dabook.show.pictures import relative_error, tile
from dabook.show.style import COLOURS, INK, MUTED, RULE, figure
from dalib import paths
from dalib.data.scenes import CLASSES, TEST_DOMAINS, Scenes
from dalib.data.schema import Sample
from dalib.data.sources import Motorcycle
from dalib.errors import DataError
from dalib.evaluation.align import least_squares
from dalib.evaluation.protocols import PROTOCOLS, real_sets, scored
from dalib.models.depth_anything import DepthAnything
from dalib.models.sizes import resize_disparity
from dalib.predict import Calibration, Predictor, disagreement, observe
from dalib.predict.confidence import FLOOR, Observations, area, reliability, sparsification

IN_DOMAIN = "validation"
SORTERS = ("the score", "disagreement alone", "distance alone", "at random")
FEW_PIXELS = 500
"""A class with fewer observed pixels has no line."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Images of one kind and what was observed on them."""

    samples: Sequence[Sample]
    observed: Observations


def runner(model: DepthAnything, short_side: int) -> Predictor:
    """The network on the CPU."""
    return Predictor(model=model, short_side=short_side, batch=8, device="cpu")


def split(
    run: Predictor, *, fit: int, test: int, height: int, width: int
) -> tuple[Observations, Seen]:
    """Validation scenes for the calibration, and the next ones, which it does not see."""
    source = Scenes(split=IN_DOMAIN, count=fit + test, height=height, width=width)
    samples = [source[i] | {"name": f"{IN_DOMAIN} {i}"} for i in range(fit + test)]
    held = samples[fit:]
    observed = observe(run, held, PROTOCOLS["scenes"])
    return observe(run, samples[:fit], PROTOCOLS["scenes"]), Seen(samples=held, observed=observed)


def held_out(run: Predictor, each: int, *, height: int, width: int) -> dict[str, Seen]:
    """So many scenes of each test domain."""
    found = {}
    for domain in TEST_DOMAINS:
        source = Scenes(split=domain, count=each, height=height, width=width)
        samples = [source[i] | {"name": f"{domain} {i}"} for i in range(each)]
        found[domain] = Seen(samples=samples, observed=observe(run, samples, PROTOCOLS["scenes"]))
    return found


def real(run: Predictor) -> dict[str, Seen]:
    """Motorcycle, and the collection of real images where it is here."""
    sources = {"motorcycle": (Motorcycle(), PROTOCOLS["indoor"], 5000)}
    if paths.realdepth().is_dir():
        sources |= {one.name: (one.source, one.protocol, 600) for one in real_sets()}
    found = {}
    for name, (source, protocol, pixels) in sources.items():
        samples = list(source)
        found[name] = Seen(samples=samples, observed=observe(run, samples, protocol, pixels=pixels))
    return found


# ---- whether it keeps its word


def said(seen: Observations, calibration: Calibration) -> Float[np.ndarray, " n"]:
    """The confidence of each observed pixel."""
    score = seen.score(calibration.common)
    return np.interp(score, calibration.scores, calibration.confidence)


def said_error(seen: Observations, calibration: Calibration) -> Float[np.ndarray, " n"]:
    """The expected relative error of each observed pixel."""
    return np.interp(seen.score(calibration.common), calibration.scores, calibration.error)


def sorters(seen: Observations, calibration: Calibration) -> dict[str, np.ndarray]:
    """Ways to put the pixels in order, the most doubtful last."""
    values = (
        seen.score(calibration.common),
        seen.disagreement,
        1 / (seen.nearness + FLOOR),
        np.random.default_rng(0).random(len(seen.error)),
    )
    return dict(zip(SORTERS, values, strict=True))


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a calibration does on images of one kind.

    Args:
        images: how many.
        promised, kept: the mean confidence, and the share of pixels within the factor.
        off: the mean distance between both over bins of confidence (ECE).
        ause: sorter -> area between its sparsification curve and the oracle's.
    """

    images: int
    promised: float
    kept: float
    off: float
    ause: dict[str, float]


def verdict(seen: Observations, calibration: Calibration) -> Verdict:
    """See `Verdict`."""
    promised = said(seen, calibration)
    weight = seen.weight
    return Verdict(
        images=len(seen.names),
        promised=float(np.average(promised, weights=weight)),
        kept=float(np.average(seen.within, weights=weight)),
        off=reliability(promised, seen.within, weight)[2],
        ause={
            name: area(score, seen.error, weight)
            for name, score in sorters(seen, calibration).items()
        },
    )


def verdict_table(verdicts: Mapping[str, Verdict], *, name: str = "confidence-verdicts") -> Html:
    """A line for each kind of image."""
    lines = {}
    for key, one in verdicts.items():
        lines[key] = {
            ("confidence, %", "promised"): number(100 * one.promised, 0),
            ("confidence, %", "kept"): number(100 * one.kept, 0),
            ("confidence, %", "off, by bins"): number(100 * one.off, 0),
        } | {("AUSE ↓", sorter): number(one.ause[sorter]) for sorter in SORTERS}
    headings = [f"{key.replace('_', ' ')} ({one.images})" for key, one in verdicts.items()]
    return html(lines, headings, caption="in parentheses the number of images", name=name)


def facts(fit: Observations, calibration: Calibration) -> dict[str, float | str]:
    """What a calibration says, for a sentence."""
    median = float(np.median(fit.disagreement))
    shared = "what all views share weighs more than what they differ in"
    apart = "what the views differ in weighs more than what they share"
    return {
        "which": shared if calibration.common > median else apart,
        "count": len(fit.names),
        "low": calibration.confidence[-1],
        "high": calibration.confidence[0],
        "small": calibration.error[0],
        "large": calibration.error[-1],
        "common": calibration.common,
        "median": median,
    }


def verdict_reading(verdicts: Mapping[str, Verdict]) -> str:
    """Where a promise is kept and where not."""
    own = verdicts[IN_DOMAIN]
    over = {name: one.promised - one.kept for name, one in verdicts.items() if name != IN_DOMAIN}
    worst = max(over, key=over.get)
    many = sum(value > 0.05 for value in over.values())
    text = (
        f"On scenes like those of the calibration {100 * own.promised:.0f} % are promised and "
        f"{100 * own.kept:.0f} % kept, by bins {100 * own.off:.0f} points off. "
        f"In {many} of {len(over)} test domains it promises more than five points too much, in "
        f"{sum(value < -0.05 for value in over.values())} too little."
    )
    return text + (
        f" The worst is {worst.replace('_', ' ')}: {100 * verdicts[worst].promised:.0f} % promised, "
        f"{100 * verdicts[worst].kept:.0f} % kept. A calibration holds where it was made."
    )


def sorting_reading(one: Verdict) -> str:
    """What the score adds to distance."""
    score, alone, distance, chance = (one.ause[name] for name in SORTERS)
    gain = 100 * (1 - score / distance)
    verb = "better" if gain > 0 else "worse"
    return (
        f"AUSE of the score is {score:.3f}, of distance alone {distance:.3f}, of disagreement alone "
        f"{alone:.3f}, of chance {chance:.3f}. With this network the score is {abs(gain):.0f} % "
        f"{verb} than distance alone: most of what the confidence map knows is that far things are "
        "uncertain."
    )


def real_reading(verdicts: Mapping[str, Verdict]) -> str:
    """Whether promises are kept on real images, and how few these are."""
    count = sum(one.images for one in verdicts.values())
    over = [name for name, one in verdicts.items() if one.promised - one.kept > 0.1]
    under = [name for name, one in verdicts.items() if one.kept - one.promised > 0.1]
    ahead = sum(one.ause[SORTERS[0]] < one.ause[SORTERS[2]] for one in verdicts.values())
    text = (
        f"{count} images of {len(verdicts)} data sets, which is few. More than ten points too much "
        f"is promised on {len(over)}, too little on {len(under)}; the score sorts better than "
        f"distance alone on {ahead}."
    )
    return text + ("" if len(verdicts) > 1 else " The collection of real images is not here.")


@figure
def reliability_figure(groups: Mapping[str, Seen], calibration: Calibration) -> Figure:
    """Left what was promised and what was kept, right the expected and the true error, in bins; a
    line for each kind of image, on the diagonal where a calibration keeps its word."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.9))
    for k, (name, one) in enumerate(groups.items()):
        seen = one.observed
        own = name == IN_DOMAIN
        look = {
            "color": INK if own else (COLOURS * 2)[k],
            "lw": 2.4 if own else 1.3,
            "marker": "o",
            "ms": 3.5,
        }
        x, y, _ = reliability(said(seen, calibration), seen.within, seen.weight, bins=8)
        left.plot(x, y, **look, label=name.replace("_", " "))
        x, y, _ = reliability(said_error(seen, calibration), seen.error, seen.weight, bins=8)
        right.plot(x, y, **look)
    for ax, top in ((left, 1), (right, 0.8)):
        ax.plot([0, top], [0, top], color=MUTED, ls="--", lw=1)
        ax.set(xlim=(0, top), ylim=(0, top))
    left.set(xlabel="confidence promised", ylabel="pixels within a factor of 1.25, share")
    left.annotate("overconfident", (0.97, 0.04), ha="right", color=MUTED)
    right.set(xlabel="relative error expected", ylabel="relative error, mean")
    right.annotate("overconfident", (0.03, 0.75), color=MUTED)
    fig.legend(loc="outside upper left", ncols=4)
    return fig


def together(groups: Mapping[str, Seen]) -> Observations:
    """All observations as one."""
    parts = [one.observed for one in groups.values()]
    starts = np.cumsum([0, *(len(part.names) for part in parts)])
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("disagreement", "nearness", "error", "within", "place")
    }
    images = [part.image + start for part, start in zip(parts, starts, strict=False)]
    names = tuple(name for part in parts for name in part.names)
    return Observations(**joined, image=np.concatenate(images), names=names)


@figure
def sparsification_figure(seen: Observations, calibration: Calibration) -> Figure:
    """Error of what is left as the most doubtful pixels go, for each sorter and the oracle."""
    fig, ax = plt.subplots(figsize=(5.6, 3.3))
    out, best = sparsification(seen.error, seen.error, seen.weight)
    ax.plot(100 * out, best, color=INK, ls="--", lw=1.2, label="oracle")
    inks = dict(zip(SORTERS, (COLOURS[5], COLOURS[1], COLOURS[2], RULE), strict=True))
    for name, score in sorters(seen, calibration).items():
        _, left = sparsification(score, seen.error, seen.weight)
        ax.plot(100 * out, left, color=inks[name], lw=1.8, label=name)
    ax.set(
        xlabel="pixels left out, the most doubtful first, %",
        ylabel="error of the rest / error of all",
        ylim=(0, 1.2),
    )
    ax.legend()
    return fig


# ---- where it fails


def by_class(groups: Mapping[str, Seen], calibration: Calibration) -> dict[str, tuple]:
    """Class -> (pixels, promised, kept), over all scenes with classes; the most overconfident
    first."""
    kinds, promised, kept = [], [], []
    for one in groups.values():
        seen = one.observed
        by_name = {str(s["name"]): s["semantics"].flatten().numpy() for s in one.samples}
        classes = [by_name[name] for name in seen.names]
        kinds.append(np.array([classes[i][p] for i, p in zip(seen.image, seen.place, strict=True)]))
        promised.append(said(seen, calibration))
        kept.append(seen.within.astype(float))
    kinds, promised, kept = map(np.concatenate, (kinds, promised, kept))
    found = {
        CLASSES[k]: (
            int((kinds == k).sum()),
            float(promised[kinds == k].mean()),
            float(kept[kinds == k].mean()),
        )
        for k in np.unique(kinds)
    }
    found = {name: each for name, each in found.items() if each[0] >= FEW_PIXELS}
    return dict(sorted(found.items(), key=lambda item: item[1][2] - item[1][1]))


def class_table(found: Mapping[str, tuple]) -> Html:
    """`by_class` as a table."""
    lines = {
        name: {
            "pixels": f"{count:,}",
            "promised, %": number(100 * promised, 0),
            "kept, %": number(100 * kept, 0),
            "overconfident by": number(100 * (promised - kept), 0, sign=True),
        }
        for name, (count, promised, kept) in found.items()
    }
    return html(lines, list(lines), name="confidence-classes")


def sky(
    run: Predictor, groups: Mapping[str, Seen], calibration: Calibration
) -> tuple[int, float, float]:
    """(scenes with sky, the mean confidence in their sky, the share of it that is right: as far as
    the cap of the protocol or farther, after the alignment of the rest)."""
    protocol = PROTOCOLS["scenes"]
    promised, right = [], []
    for sample in (s for one in groups.values() for s in one.samples):
        far = sample["valid"] & (sample["disparity"] == 0)
        counts = scored(sample["disparity"][None], sample["valid"][None], protocol)
        if far.float().mean() < 0.02 or not counts.any():
            continue
        disparity, confidence, _ = looked_at(run, sample, calibration)
        scale, shift = least_squares(disparity[None], sample["disparity"][None], counts)
        aligned = scale * disparity.double() + shift
        promised.append(float(confidence[far].mean()))
        right.append(float((aligned[far] <= 1 / protocol.max_depth).double().mean()))
    if not promised:
        raise DataError("no scene with sky among these")
    return len(promised), float(np.mean(promised)), float(np.mean(right))


# ---- pictures


def looked_at(
    run: Predictor, sample: Sample, calibration: Calibration
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """(disparity, confidence, disagreement) of an image at its own size."""
    item = run.prepare(sample["image"], name=str(sample.get("name", "image")))
    maps = run([item])
    (apart,) = disagreement(run, [item], maps)
    confidence = calibration.confidences(maps[0], apart)
    return tuple(resize_disparity(m[None], item.size)[0] for m in (maps[0], confidence, apart))


@figure
def gallery(run: Predictor, samples: Sequence[Sample], calibration: Calibration) -> Figure:
    """Image, map, disagreement, confidence and, where the depth is known, its error; a row each."""
    truths = any("disparity" in sample for sample in samples)
    columns = 4 + truths
    aspects = [s["image"].shape[-2] / s["image"].shape[-1] for s in samples]
    width = 8.4 / columns
    fig, axes = plt.subplots(
        len(samples) + 1,
        columns,
        figsize=(8.4, width * (sum(aspects) + 0.06) + 0.2 * len(samples) + 0.35),
        squeeze=False,
        height_ratios=[*aspects, 0.06],
    )
    fig.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    for ax in axes.flat:
        ax.axis("off")
    for i, sample in enumerate(samples):
        row = axes[i]
        disparity, confidence, apart = looked_at(run, sample, calibration)
        tile(row[0], sample["image"], title=str(sample["name"]).replace("_", " "))
        tile(row[1], disparity, kind="disparity", title="" if i else "disparity")
        shown = [
            ("disagreement", apart, "viridis", 0.2),
            ("confidence", confidence, "magma", 1.0),
        ]
        if "disparity" in sample:
            error = relative_error(disparity, sample["disparity"], sample["valid"])
            shown.append(("relative error", error, "cividis", 0.5))
        for k, (title, values, colours, top) in enumerate(shown, 2):
            tile(row[k], torch.full_like(values, torch.nan), kind="error")
            row[k].set_title("" if i else title, fontsize=8, pad=3)
            masked = np.ma.masked_invalid(values.numpy())
            drawn = row[k].imshow(masked, cmap=colours, vmin=0, vmax=top)
            ax = axes[-1, k]
            if not ax.axison:
                ax.axis("on")
                fig.colorbar(drawn, cax=ax, orientation="horizontal").outline.set_visible(False)
                ax.tick_params(labelsize=7)
    return fig
