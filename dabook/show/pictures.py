"""Pictures in the book: images beside their disparity, predictions and errors. In the style of
`dabook.show.style`."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from dabook.show.style import COLOURS, INK, MUTED, figure
from dalib.evaluation.align import least_squares
from dalib.evaluation.protocols import PROTOCOLS, Protocol, scored

NEAR = "inferno"  # disparity: bright is near, black is infinitely far
ERROR = "cividis"
SHOWN_ERROR = 0.5  # relative error at the bright end of the scale
SCALES = {
    "disparity": (NEAR, 0, 1),
    "error": (ERROR, 0, SHOWN_ERROR),
    "cosine": ("viridis", 0, 1),
    "mask": ("gray", 0, 1),
}
WIDTH = 8.4  # inches
GROUND = "#c9d0d2"  # where a map has no value


def relative_error(
    pred: Float[Tensor, "h w"],
    target: Float[Tensor, "h w"],
    valid: Bool[Tensor, "h w"],
    protocol: Protocol | None = None,
) -> Float[Tensor, "h w"]:
    """|depth - true depth| / true depth after alignment, pixel by pixel: what AbsRel is the mean
    of. NaN where nothing is scored."""
    protocol = protocol or PROTOCOLS["scenes"]
    counts = scored(target[None], valid[None], protocol)
    scale, shift = least_squares(pred[None], target[None], counts)
    least = 1 / protocol.max_depth if protocol.max_depth else float(target[counts[0]].min())
    aligned = (scale[:, None, None] * pred[None].double() + shift[:, None, None]).clamp_min(least)
    error = (target[None].double() / aligned - 1).abs()  # |1/aligned - 1/target| * target
    return torch.where(counts, error, torch.nan)[0].float()


def unit(disparity: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
    """To 0..1 between each map's own 2nd and 98th percentile, for the eye only. NaN stays NaN."""
    values = disparity.flatten(-2).float()
    low = torch.nanquantile(values, 0.02, -1)[..., None, None]
    high = torch.nanquantile(values, 0.98, -1)[..., None, None]
    return ((disparity - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)


def tile(ax, image: Tensor, *, kind: str = "image", title: str = "", classes: int = 0) -> None:
    """One picture without axes.

    Args:
        ax: where.
        image: (3, h, w) uint8 or 0..1 for kind "image"; (h, w) otherwise.
        kind: "image", "disparity" (scaled by itself), "error" (relative), "cosine", "mask" or
            "semantics".
        title: above the picture.
        classes: number of classes, for "semantics".
    """
    image = image.detach().cpu()
    if kind == "image":
        pixels = image if image.dtype == torch.uint8 else image.clamp(0, 1)
        ax.imshow(pixels.movedim(0, -1).numpy())
    else:
        cmap, low, high = SCALES.get(kind) or (palette(classes), -0.5, classes - 0.5)
        shown = np.ma.masked_invalid(
            (unit(image) if kind == "disparity" else image).float().numpy()
        )
        ax.imshow(shown, cmap=cmap, norm=Normalize(low, high), interpolation="nearest")
    _bare(ax, title)


def _bare(ax, title: str) -> None:
    """No ticks, no frame; a grey ground where a map has no value."""
    ax.axis("on")
    ax.set(xticks=[], yticks=[], facecolor=GROUND)
    ax.set_title(title, fontsize=8, pad=3)
    ax.grid(False)
    ax.spines[:].set_visible(False)


def palette(count: int) -> ListedColormap:
    """Distinct colours for classes; class 0 (sky) is pale."""
    base = [*plt.get_cmap("tab20").colors]
    order = base[::2] + base[1::2]
    return ListedColormap([(0.80, 0.88, 0.94), *(order * 3)[: max(count - 1, 0)]])


def _grid(
    rows: int, columns: int, *, aspect: float, titles: bool = True, below: float = 0.0
) -> tuple[Figure, np.ndarray]:
    height = rows * (WIDTH / columns * aspect + (0.2 if titles else 0.05)) + 0.05 + below
    fig, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False)
    fig.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    for ax in axes.flat:
        ax.axis("off")
    return fig, axes


def _aspect(image: Tensor) -> float:
    return image.shape[-2] / image.shape[-1]


@figure
def contact_sheet(
    images: Sequence[Tensor], titles: Sequence[str], *, columns: int = 4, kind: str = "image"
) -> Figure:
    """Pictures in rows, each under its title. Maps (h, w) among them are shown as `kind`,
    "disparity" for instance."""
    rows = -(-len(images) // columns)
    fig, axes = _grid(rows, columns, aspect=_aspect(images[0]), titles=any(titles))
    for ax, image, title in zip(axes.flat, images, titles, strict=False):
        tile(ax, image, kind="image" if image.ndim == 3 else kind, title=title)
    return fig


@figure
def layers(samples: dict[str, Tensor], classes: Sequence[str] = ()) -> Figure:
    """Image, disparity and, where known, classes of each sample of a batch, one sample per row,
    with a legend of the classes seen."""
    keys = [("image", "image"), ("disparity", "disparity")] + [("semantics", "semantics")] * (
        "semantics" in samples
    )
    fig, axes = _grid(
        len(samples["image"]), len(keys), aspect=_aspect(samples["image"]), titles=False, below=0.6
    )
    for i, row in enumerate(axes):
        for ax, (key, kind) in zip(row, keys, strict=True):
            title = (
                {
                    "image": "image",
                    "disparity": "disparity (bright is near)",
                    "semantics": "classes",
                }[key]
                if i == 0
                else ""
            )
            tile(ax, samples[key][i], kind=kind, title=title, classes=len(classes))
    if classes:
        seen = samples["semantics"].unique().tolist()
        colours = palette(len(classes))
        fig.legend(
            handles=[Patch(color=colours(k), label=classes[k]) for k in seen],
            loc="outside lower center",
            ncols=min(8, len(seen)),
            fontsize=8,
        )
    return fig


@figure
def gallery(
    samples: Sequence[dict],
    predictions: dict[str, Sequence[Float[Tensor, "_ _"]]],
    *,
    errors: Sequence[str] = (),
    protocol: Protocol | None = None,
    truth: bool = True,
) -> Figure:
    """Samples in rows: image, truth, each prediction, and error maps, with each prediction's AbsRel
    above it.

    Args:
        samples: with image and, for truth and errors, disparity and valid.
        predictions: label -> one disparity map per sample.
        errors: labels whose relative error is drawn as well.
        protocol: which pixels count; that of the scenes by default.
        truth: False for photographs without any.
    """
    columns = 1 + truth + len(predictions) + len(errors)
    fig, axes = _grid(
        len(samples), columns, aspect=_aspect(samples[0]["image"]), below=0.5 * bool(errors)
    )

    # a row for each sample
    for i, (sample, row) in enumerate(zip(samples, axes, strict=True)):
        cells = iter(row)
        tile(next(cells), sample["image"], title=sample.get("title", "" if i else "image"))
        if truth:
            known = torch.where(sample["valid"], sample["disparity"], torch.nan)
            tile(next(cells), known, kind="disparity", title="" if i else "truth")
        maps = {}
        for label, pred in predictions.items():
            title = "" if i else label
            if truth:
                target, valid = sample["disparity"], sample["valid"]
                maps[label] = relative_error(pred[i], target, valid, protocol)
                title = f"{label}: {float(maps[label].nanmean()):.3f}"
            tile(next(cells), pred[i], kind="disparity", title=title)
        for label in errors:
            tile(next(cells), maps[label], kind="error", title="" if i else f"error, {label}")

    # the scale of the error maps
    if errors:
        mappable = plt.cm.ScalarMappable(Normalize(0, SHOWN_ERROR), ERROR)
        place = {
            "location": "bottom",
            "shrink": 0.9 * len(errors) / columns,
            "anchor": (0.98, 0.0),
            "aspect": 40,
            "pad": 0.02,
        }
        bar = fig.colorbar(mappable, ax=axes, label="relative error of depth", **place)
        bar.ax.tick_params(labelsize=7)
        bar.outline.set_visible(False)
    return fig


@figure
def strip(photos: Sequence[dict], maps: dict[str, Sequence[Float[Tensor, "_ _"]]]) -> Figure:
    """Photographs of any shape in columns, at one height, with each network's disparity below."""
    widths = [p["image"].shape[-1] / p["image"].shape[-2] for p in photos]
    height = (WIDTH / sum(widths) + 0.03) * (1 + len(maps)) + 0.2
    fig, axes = plt.subplots(
        1 + len(maps), len(photos), figsize=(WIDTH, height), width_ratios=widths, squeeze=False
    )
    fig.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    for i, photo in enumerate(photos):
        tile(axes[0, i], photo["image"], title=photo["name"])
        for (label, seen), ax in zip(maps.items(), axes[1:, i], strict=True):
            tile(ax, seen[i], kind="disparity")
            if i == 0:
                ax.set_ylabel(label, fontsize=8.5)
    return fig


@figure
def cutmix(
    images: UInt8[Tensor, "b 3 h w"],
    mixed: Float[Tensor, "b 3 h w"],
    labels: Float[Tensor, "b h w"],
    inside: Bool[Tensor, "b h w"],
    weight: Sequence[float],
) -> Figure:
    """A CutMix pair: both images, what the student sees, and the two regions with the pseudo label
    that each is compared with."""
    fig, axes = _grid(2, 5, aspect=_aspect(images))
    for i, row in enumerate(axes):
        other = 1 - i
        mask = inside[i]
        tile(row[0], images[i], title=f"image {'ab'[i]}, clean")
        tile(row[1], mixed[i], title="what the student sees")
        parts = (
            ("inside", "ab"[other], labels[other], mask, weight[i]),
            ("outside", "ab"[i], labels[i], ~mask, 1 - weight[i]),
        )
        for ax, (place, name, label, where, share) in zip(row[2:4], parts, strict=True):
            # scaled for the eye by what lies there alone
            label = torch.where(where, label, torch.nan)
            tile(ax, label, kind="disparity", title=f"{place}: {name}'s label × {share:.2f}")
        tile(row[4], mask.float(), kind="mask", title="the mask M")
        for ax in row[1:4]:
            _outline(ax, mask)
    return fig


def _outline(ax, mask: Tensor) -> None:
    where = mask.nonzero()
    if len(where):
        top, left = where.amin(0).tolist()
        bottom, right = where.amax(0).tolist()
        ax.add_patch(
            Rectangle(
                (left - 0.5, top - 0.5),
                right - left + 1,
                bottom - top + 1,
                fill=False,
                ec="white",
                lw=1.4,
            )
        )


@figure
def alignment(
    images: UInt8[Tensor, "b 3 h w"], cosines: dict[str, Float[Tensor, "b h2 w2"]], *, margin: float
) -> Figure:
    """Cosine between an encoder's deepest features and the frozen ones: a map per image and
    network, and a histogram."""
    fig = plt.figure(figsize=(WIDTH, 1.6 * len(images) + 2.2))
    top, bottom = fig.subfigures(2, 1, height_ratios=(1.6 * len(images), 2.2))

    # above, the maps
    axes = top.subplots(len(images), 1 + len(cosines), squeeze=False)
    for i, row in enumerate(axes):
        tile(row[0], images[i], title="" if i else "image")
        for ax, (label, maps) in zip(row[1:], cosines.items(), strict=True):
            tile(ax, maps[i], kind="cosine", title="" if i else label)
    bar = top.colorbar(
        plt.cm.ScalarMappable(Normalize(0, 1), "viridis"),
        ax=axes,
        shrink=0.7,
        aspect=30,
        label="cosine with the frozen encoder",
    )
    bar.outline.set_visible(False)

    # below, the histogram
    ax = bottom.subplots()
    bins = np.linspace(min(0.0, *(float(m.min()) for m in cosines.values())), 1, 61)
    for (label, maps), colour in zip(cosines.items(), COLOURS[1:], strict=False):
        share = float((maps > margin).float().mean())
        ax.hist(
            maps.flatten().numpy(),
            bins,
            color=colour,
            alpha=0.6,
            label=f"{label}: {100 * share:.0f} % of the tokens beyond the margin",
        )
    ax.axvline(margin, color=INK, lw=1, ls="--")
    ax.annotate(
        f"margin {margin:g}",
        (margin, 1),
        (-4, -8),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right",
        color=MUTED,
    )
    ax.set(xlabel="cosine of a token", ylabel="tokens")
    ax.legend(loc="upper left")
    return fig
