"""The page on metres without training: what so many known distances are worth, and which mistakes
bend a cloud."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from dabook.show.html import Html, html, number
from dabook.show.pictures import NEAR, relative_error, tile
from dabook.show.style import COLOURS, INK, MUTED, figure
from dalib.data.scenes import CLASSES, TEST_DOMAINS, Scenes, describe
from dalib.data.scenes.raycast import cast, pixel_rays
from dalib.data.schema import Sample
from dalib.data.sources import Motorcycle
from dalib.errors import DataError
from dalib.evaluation.align import least_squares
from dalib.geometry import Camera, fit_plane
from dalib.models.depth_anything import DepthAnything
from dalib.predict import ScaleShift, known_distances, predict, sparse_depth

CAP = 80.0
"""Metres to which depth is clipped before its error is taken, as in the protocol of the scenes."""
FEWEST, MOST = 2, 128
COUNTS = (FEWEST, 3, 5, 10, 30, MOST)
SIGMA = 0.02
"""Relative error of the simulated measurements."""
DRAWS = 4
"""Choices of points for each scene and number of them."""

ROOM = ("validation", 3)
"""The room whose floor and wall are looked at."""


# ---- one photograph


def motorcycle() -> tuple[Sample, Camera]:
    """The real scene, and its camera: the focal length that its makers measured, the principal
    point taken for the middle."""
    sample = Motorcycle()[0]
    return sample, Camera.from_focal(Motorcycle.FOCAL_PX, tuple(sample["disparity"].shape))


def measured(sample: Sample, places: Sequence[tuple[int, int]]) -> list[tuple[int, int, float]]:
    """(x, y, metres) as somebody with a tape would have it, out of the ground truth at (x, y)."""
    found = []
    for x, y in places:
        if not sample["valid"][y, x]:
            raise DataError(f"{x},{y}: no depth is known there; take another place")
        found.append((x, y, round(1 / float(sample["disparity"][y, x]), 2)))
    return found


def points_table(
    disparity: Float[Tensor, "H W"], points: Sequence[tuple[float, float, float]], fit: ScaleShift
) -> Html:
    """The known distances beside what the fit makes of them."""
    lines = {}
    for x, y, metres in points:
        pixel = disparity[round(y), round(x)]
        lines[f"{x},{y}"] = {
            "known, m": number(metres, 2),
            "fitted, m": number(float(fit.depth(pixel)), 2),
            "one sigma, m": number(float(fit.error(pixel)), 2),
        }
    return html(lines, list(lines), name="metres-points")


def facts(sample: Sample, side: int) -> dict[str, int]:
    """The size of a photograph, and at which short side it is seen."""
    height, width = sample["image"].shape[-2:]
    return {"w": width, "h": height, "side": side}


def against_truth(
    sample: Sample, disparity: Float[Tensor, "H W"], fit: ScaleShift
) -> dict[str, float]:
    """AbsRel of a fit, how many percent of the pixels lie within one sigma, and of how many."""
    counts = sample["valid"] & (sample["disparity"] > 0)
    truth = 1 / sample["disparity"][counts]
    depth = fit.depth(disparity)[counts]
    inside = (depth - truth).abs() <= fit.error(disparity)[counts]
    relative = (depth.clamp(max=CAP) - truth).abs() / truth
    return {
        "count": int(counts.sum()),
        "error": float(relative.mean()),
        "inside": 100 * float(inside.float().mean()),
    }


@figure
def depth_and_error(
    sample: Sample,
    disparity: Float[Tensor, "H W"],
    fit: ScaleShift,
    points: Sequence[tuple[float, float, float]],
) -> Figure:
    """Photograph with the known points, depth in metres, one sigma, and the true error in sigmas."""
    depth, error = fit.depth(disparity), fit.error(disparity)
    truth = torch.where(sample["valid"], 1 / sample["disparity"].clamp_min(1e-9), torch.nan)
    limits = np.nanquantile(truth.numpy(), (0.01, 0.99))
    fig, axes = plt.subplots(2, 2, figsize=(8.4, 5.6))
    tile(axes[0, 0], sample["image"], title="the photograph, and what was measured, m")
    for x, y, metres in points:
        axes[0, 0].plot(x, y, "o", ms=7, mfc="none", mec="white", mew=2)
        axes[0, 0].annotate(
            f"{metres:g}",
            (x, y),
            (6, 6),
            textcoords="offset points",
            color="white",
            fontsize=8,
            bbox={"fc": INK, "ec": "none", "pad": 1.5, "alpha": 0.8},
        )
    shown = (
        (axes[0, 1], depth, "depth, m", limits, f"{NEAR}_r"),
        (axes[1, 0], error, "one sigma, m", (0, float(error.quantile(0.98))), "cividis"),
        (axes[1, 1], (depth - truth) / error, "(depth − truth) / sigma", (-3, 3), "RdBu_r"),
    )
    for ax, values, title, (low, high), colours in shown:
        tile(ax, torch.full_like(values, torch.nan), kind="error", title=title)
        drawn = ax.imshow(values.numpy(), cmap=colours, vmin=low, vmax=high)
        bar = fig.colorbar(drawn, ax=ax, shrink=0.85, aspect=24, pad=0.02)
        bar.ax.tick_params(labelsize=7)
        bar.outline.set_visible(False)
    return fig


# ---- how many distances are enough


@dataclass(frozen=True)
class Worth:
    """What so many known distances give over many scenes.

    Args:
        count: known distances in an image.
        error: AbsRel of the depth, the median over scenes and draws.
        low, high: its quartiles.
        inside: share of pixels within one sigma.
        refused: share of fits with near and far the wrong way round.
    """

    count: int
    error: float
    low: float
    high: float
    inside: float
    refused: float


def scenes(each: int, *, height: int, width: int) -> list[Sample]:
    """So many scenes of each test domain."""
    return [
        sample
        for domain in TEST_DOMAINS
        for sample in Scenes(split=domain, count=each, height=height, width=width)
    ]


def worth(
    samples: Sequence[Sample], maps: Sequence[Float[Tensor, "H W"]], *, seed: int = 0
) -> list[Worth]:
    """For each of `COUNTS`: draw that many pixels of each scene, measure them with an error of
    `SIGMA`, fit, and compare the whole map with the truth."""
    rng = np.random.default_rng(seed)
    found = []
    for count in COUNTS:
        errors, inside, refused = [], [], 0
        for sample, disparity in zip(samples, maps, strict=True):
            for _ in range(DRAWS):
                one = _trial(sample, disparity, count, rng)
                if one is None:
                    refused += 1
                else:
                    errors.append(one[0])
                    inside.append(one[1])
        errors = errors or [np.nan]  # where every fit was refused
        low, middle, high = map(float, np.quantile(errors, (0.25, 0.5, 0.75)))
        share = refused / (len(samples) * DRAWS)
        found.append(Worth(count, middle, low, high, float(np.mean(inside or [np.nan])), share))
    return found


def _trial(
    sample: Sample, disparity: Float[Tensor, "H W"], count: int, rng: np.random.Generator
) -> tuple[float, float] | None:
    """(AbsRel, share within one sigma), or None where the points are refused."""
    counts = sample["valid"] & (sample["disparity"] > 1 / CAP)
    rows, columns = (each.numpy() for each in counts.nonzero(as_tuple=True))
    chosen = rng.choice(len(rows), count, replace=False)
    true = 1 / sample["disparity"][rows[chosen], columns[chosen]].double().numpy()
    metres = true * (1 + rng.normal(0, SIGMA, count))
    points = list(
        zip(columns[chosen].tolist(), rows[chosen].tolist(), metres.tolist(), strict=True)
    )
    try:
        fit = known_distances(disparity, points, sigma_relative=SIGMA)
    except DataError:
        return None
    truth = 1 / sample["disparity"][counts]
    depth = fit.depth(disparity)[counts]
    off = (depth - truth).abs()
    relative = ((depth.clamp(max=CAP) - truth).abs() / truth).mean()
    return float(relative), float((off <= fit.error(disparity)[counts]).float().mean())


def all_pixels(samples: Sequence[Sample], maps: Sequence[Float[Tensor, "H W"]]) -> float:
    """The median AbsRel where every pixel is known, exactly, over the scenes that have near and far
    the right way round."""
    means = []
    for sample, disparity in zip(samples, maps, strict=True):
        counts = sample["valid"] & (sample["disparity"] > 1 / CAP)
        scale, _ = least_squares(disparity[None], sample["disparity"][None], counts[None])
        if scale > 0:
            error = relative_error(disparity, sample["disparity"], sample["valid"])
            means.append(error.nanmean())
    return float(torch.stack(means).median())


def enough(found: Sequence[Worth], floor: float) -> int:
    """The fewest known distances whose median error is within ten percent of that of a fit to all
    pixels."""
    return next((one.count for one in found if one.error <= 1.1 * floor), found[-1].count)


def worth_facts(found: Sequence[Worth], floor: float) -> dict[str, float]:
    """What the fewest and the most known distances give, for a sentence."""
    two, most = found[0], found[-1]
    return {
        "two": two.error,
        "inside": 100 * two.inside,
        "refused": 100 * two.refused,
        "enough": enough(found, floor),
        "floor": floor,
        "count": most.count,
        "last": 100 * most.inside,
    }


# ---- sparse maps with wrong points


def lidar(
    sample: Sample, *, share: float, wrong: float, seed: int = 0
) -> tuple[Float[Tensor, "H W"], Bool[Tensor, "H W"]]:
    """(disparity, validity) of a sparse map: this share of the pixels, of which another share is
    wrong, at anything from half a metre to two, as rain and dust are."""
    generator = torch.Generator().manual_seed(seed)
    known = sample["disparity"].clone()
    valid = sample["valid"] & (torch.rand(known.shape, generator=generator) < share)
    spoilt = valid & (torch.rand(known.shape, generator=generator) < wrong)
    known[spoilt] = 1 / (0.5 + 1.5 * torch.rand(int(spoilt.sum()), generator=generator))
    return known, valid


def robust_table(
    sample: Sample,
    disparity: Float[Tensor, "H W"],
    known: Float[Tensor, "H W"],
    valid: Bool[Tensor, "H W"],
) -> tuple[Html, dict[str, float]]:
    """Both fits of a sparse map, and the mean relative error of the whole depth by name."""
    counts = sample["valid"] & (sample["disparity"] > 0)
    truth = 1 / sample["disparity"][counts]
    lines = {}
    errors = {}
    for name, robust in (("all points", False), ("robust", True)):
        fit = sparse_depth(disparity, known, valid, robust=robust)
        depth = fit.depth(disparity)[counts].clamp(max=CAP)
        errors[name] = float(((depth - truth).abs() / truth).mean())
        lines[name] = {
            "points": str(fit.points),
            "left out": str(fit.left_out),
            "scale, 1/m": f"{number(fit.scale, 4)} ± {number(fit.errors[0], 4)}",
            "shift, 1/m": f"{number(fit.shift, 4)} ± {number(fit.errors[1], 4)}",
            "AbsRel": number(errors[name]),
        }
    return html(lines, list(lines), name="metres-robust"), errors


def worth_table(found: Sequence[Worth]) -> Html:
    """`worth` in words."""
    lines = {
        str(one.count): {
            "AbsRel, median": number(one.error),
            "quartiles": f"{number(one.low)} to {number(one.high)}",
            "pixels within one sigma, %": number(100 * one.inside, 0),
            "refused, %": number(100 * one.refused, 0),
        }
        for one in found
    }
    return html(lines, [f"{count} known distances" for count in lines], name="metres-worth")


@figure
def worth_figure(found: Sequence[Worth], floor: float) -> Figure:
    """Error and honesty of the error bars over the number of known distances."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.7))
    counts = [one.count for one in found]
    left.fill_between(
        counts, [one.low for one in found], [one.high for one in found], color=COLOURS[2], alpha=0.2
    )
    left.plot(
        counts, [one.error for one in found], "o-", color=COLOURS[2], label="median, quartiles"
    )
    left.axhline(floor, color=INK, ls="--", lw=1, label="every pixel known")
    left.set(ylabel="AbsRel of the depth", ylim=(0, None), title="How many are enough")
    right.plot(counts, [100 * one.inside for one in found], "o-", color=COLOURS[5])
    right.axhline(68.3, color=INK, ls="--", lw=1)
    right.annotate(
        "as promised", (counts[-1], 68.3), (0, 4), textcoords="offset points", ha="right"
    )
    right.set(ylabel="pixels within one sigma, %", ylim=(0, 100), title="Whether sigma is honest")
    for ax in (left, right):
        ax.set_xscale("log")
        ax.set(xlabel="known distances in an image")
        ax.set_xticks(counts, [str(count) for count in counts], minor=False)
        ax.minorticks_off()
    left.legend()
    return fig


# ---- what bends a cloud


@dataclass(frozen=True, kw_only=True)
class Room:
    """A drawn room: exact depth, its camera, and two of its planes."""

    image: UInt8[Tensor, "3 H W"]
    depth: Float[Tensor, "H W"]
    camera: Camera
    parts: dict[str, Bool[Tensor, "H W"]]


def room(*, height: int = 192, width: int = 256) -> Room:
    """The room `ROOM`, its floor, and the wall that shows most of itself."""
    split, index = ROOM
    sample = Scenes(split=split, count=index + 1, height=height, width=width)[index]
    scene, _, _ = describe(split, index)
    rays = pixel_rays(scene, height, width, "cpu")
    depth, owner = (rays.image(values) for values in cast(scene, rays))
    sizes: dict[str, tuple[int, Tensor]] = {}
    for k in range(len(scene.semantic)):
        part = owner == k
        name = CLASSES[scene.semantic[k]]
        if name in ("floor", "wall") and int(part.sum()) > sizes.get(name, (0, part))[0]:
            sizes[name] = int(part.sum()), part
    return Room(
        image=sample["image"],
        depth=depth,
        camera=Camera.from_focal(height / (2 * scene.tangent), (height, width)),
        parts={name: part for name, (_, part) in sorted(sizes.items())},
    )


def mistakes(depth: Float[Tensor, "H W"], camera: Camera) -> dict[str, tuple[Tensor, Camera]]:
    """Name -> the depth that a mistake makes of the true one, and the camera it is seen by."""
    disparity = 1 / depth
    reach = float(disparity.max())
    high, low = disparity.max(), disparity.min()
    return {
        "true": (depth, camera),
        "shift of disparity too large": (1 / (disparity + 0.5 * reach), camera),
        "shift of disparity too small": (1 / (disparity - 0.6 * float(low)), camera),
        "focal length too short": (depth, Camera.from_focal(0.7 * camera.fx, camera.size)),
        "shift of depth": (depth + float(depth.median()), camera),
        "depth = maximum − disparity": (1.2 * high - disparity, camera),
        "distance along the ray as z": (depth * camera.rays().norm(dim=0).float(), camera),
    }


def planes(
    seen: dict[str, tuple[Tensor, Camera]], parts: dict[str, Bool[Tensor, "H W"]]
) -> dict[str, tuple[dict[str, float], float]]:
    """Name -> the bend of each part in % of its size, and the angle between the first two."""
    found = {}
    for name, (depth, camera) in seen.items():
        points = (camera.rays() * depth.double()).permute(1, 2, 0)
        fits = {part: fit_plane(points[where & depth.isfinite()]) for part, where in parts.items()}
        first, second = list(fits.values())[:2]
        found[name] = {k: 100 * f.bend for k, f in fits.items()}, first.angle(second)
    return found


def bend_facts(
    found: dict[str, tuple[dict[str, float], float]],
) -> tuple[float, float, float, float]:
    """(the largest bend of a wrong shift of disparity, the largest of the mistakes that bend, the
    angle that is farthest from a right one among the shifts, the largest bend of the student)."""
    shifts = [name for name in found if name.startswith("shift of disparity")]
    bending = ("shift of depth", "depth = maximum − disparity", "distance along the ray as z")
    student = list(found)[-1]

    def largest(names: Sequence[str]) -> float:
        return max(bend for name in names for bend in found[name][0].values())

    angle = min((found[name][1] for name in shifts), key=lambda a: -abs(a - 90))
    return largest(shifts), largest(bending), angle, largest([student])


def planes_table(found: dict[str, tuple[dict[str, float], float]]) -> Html:
    """`planes` as a table."""
    lines = {
        name: {f"bend of the {part}, %": number(bend, 2) for part, bend in bends.items()}
        | {"angle between both, degrees": number(angle, 1)}
        for name, (bends, angle) in found.items()
    }
    return html(lines, list(lines), name="metres-planes")


def seen_by(
    model: DepthAnything, room: Room, *, short_side: int
) -> dict[str, tuple[Tensor, Camera]]:
    """The room as a network has it, with the scale and shift that fit best over all its pixels."""
    disparity = predict(room.image, model=model, short_side=short_side)
    fit = sparse_depth(disparity, 1 / room.depth, torch.ones_like(room.depth, dtype=torch.bool))
    return {"the student's map, best fit": (fit.depth(disparity), room.camera)}


@figure
def from_above(
    seen: dict[str, tuple[Tensor, Camera]],
    parts: dict[str, Bool[Tensor, "H W"]],
    *,
    columns: int = 4,
) -> Figure:
    """Each cloud twice, from above and from the side: grey, with its planes in colours; the last
    plane lies at distance 1. The camera is at the left, looking right."""
    names = list(seen)
    rows = -(-len(names) // columns)
    fig, axes = plt.subplots(
        2 * rows,
        columns,
        figsize=(8.4, 4.4 * rows),
        squeeze=False,
        height_ratios=(1.25, 1) * rows,
    )
    for ax in axes.flat:
        ax.axis("off")
    inks = dict(zip(parts, (COLOURS[1], COLOURS[2]), strict=False))
    rest = ~torch.stack(list(parts.values())).any(0)
    last = list(parts.values())[-1]
    for k, name in enumerate(names):
        depth, camera = seen[name]
        points = (camera.rays() * depth.double()).permute(1, 2, 0) / float(depth[last].median())
        for line, (axis, reach) in enumerate(((0, 0.75), (1, 0.6))):
            ax = axes[2 * (k // columns) + line, k % columns]
            for where, ink in ((rest, "#c3cdd0"), *((parts[p], inks[p]) for p in parts)):
                some = points[where & depth.isfinite()][::11]
                up = some[:, axis] if axis == 0 else -some[:, axis]
                ax.scatter(some[:, 2], up, s=1.1, lw=0, color=ink, rasterized=True)
            ax.set(xlim=(0, 1.35), ylim=(-reach, reach), aspect="equal")
            words = ("from above", "from the side")[line] if k % columns == 0 else ""
            ax.text(0, reach, words, fontsize=7.5, color=MUTED, va="top")
            if line == 0:
                ax.set_title(name, fontsize=8)
    handles = [plt.Line2D([], [], marker="o", ls="", color=inks[p], label=p) for p in inks]
    fig.legend(handles=handles, loc="outside lower left", ncols=2)
    return fig
