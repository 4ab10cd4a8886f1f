"""Scale and shift of a prediction under two sliders: what they do to its values, and what the
affine-invariant loss makes of it.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dabook.show.html import Html, number
from dabook.show.pictures import NEAR
from dabook.show.touch import shell
from dabook.show.touch.shell import Axes, Number
from dalib.errors import ConfigError
from dalib.losses import affine_invariant, normalise

MOST = 5.0
"""The largest scale; the smallest is its inverse."""
STEPS = 100
"""Of the scale's slider, to each side: the scale is `MOST` to the power of its share of them."""
LEAST_SIDE, MOST_SIDE = 4, 96  # pixels of a map
DIGITS = 4
CAPTION = (
    "A label and a network's map, in the same fixed colours: black at the label's smallest value, "
    "bright at its largest. At first the map has the label's median and mean absolute deviation. The "
    "charts show both along the row of the white line, as they are and after normalisation (eq. 2). "
    "With a negative scale the map's colours are those of its own range."
)


def figure(
    label: Float[Tensor, "h w"],
    prediction: Float[Tensor, "h w"],
    *,
    title: str,
    image: UInt8[Tensor, "3 H W"] | None = None,
    row: int | None = None,
    caption: str = CAPTION,
) -> Html:
    """A label d*, a prediction d under a scale and a shift, both profiles along a row, and two
    numbers.

    Args:
        label: disparity, 4 to 96 pixels a side.
        prediction: a network's, in values that can be compared with the label's at scale 1 and
            shift 0.
        title: what is seen.
        image: what both are maps of, of any size.
        row: of the profiles; the one in the middle by default.
        caption: below the figure.

    Raises:
        ConfigError: maps of two sizes, too small, too large, constant or not finite.
    """
    height, width = label.shape
    row = height // 2 if row is None else row
    _check(title, label, prediction, row)
    low, high = float(label.min()), float(label.max())
    span = high - low
    line = f'<span class="row" style="top: {100 * (row + 0.5) / height:.2f}%"></span>'

    # pictures
    both = {"label": label, "prediction": prediction}
    sources = {
        name: shell.image(
            shell.address(shell.painted(d, low, high, NEAR), "PNG"),
            f"{title}: {name}",
            exact=True,
            key=name,
        )
        for name, d in both.items()
    }
    seen = {}
    if image is not None:
        sources["image"] = shell.image(shell.address(image), f"{title}: image", key="image")
        seen["image"] = "image"
    seen["label"] = "label d*"
    moved = shell.canvas("moved", width, height, f"{title}: prediction, scaled and shifted")
    still = [shell.panel(words, shell.stage(sources[key] + line)) for key, words in seen.items()]
    live = [
        shell.panel(words, shell.stage(shell.copied(key) + line)) for key, words in seen.items()
    ]
    still.append(shell.panel("prediction d", shell.stage(sources["prediction"] + line)))
    live.append(shell.panel("a · d + b", shell.stage(moved + line)))
    columns = " ".join(["1fr"] * len(still))

    # charts
    everywhere = torch.ones_like(label, dtype=torch.bool)[None]
    normal = [normalise(d[None], everywhere)[0] for d in both.values()]
    reach = max(float(d.abs().max()) for d in normal)
    as_is = _axes((low - span / 4, high + span / 4), width, "values along the row")
    most = max(abs(low), abs(high)) + span / 4
    mirrored = _axes((-most, most), width, "values along the row")  # for negative scales
    after = _axes((-reach, reach), width, "(d − median) / deviation")
    values, mirrored_values = (
        axes.drawing(
            _lines(axes, [d[row] for d in both.values()]),
            alt="label and prediction along the row",
        )
        for axes in (as_is, mirrored)
    )
    charts = values + after.drawing(
        _lines(after, [d[row] for d in normal]),
        alt="label and prediction along the row, each normalised",
    )
    legend = (
        '<p class="legend"><i class="muted-line"></i> label d* &ensp; '
        '<i class="warm-line"></i> a · d + b</p>'
    )

    # numbers of the first state, as the library has them
    loss = float(affine_invariant(prediction[None], label[None], everywhere))
    error = float((prediction.double() - label.double()).abs().mean())
    shown = shell.numbers(
        [
            Number(key="loss", label="affine-invariant loss", value=number(loss, DIGITS)),
            Number(key="error", label="mean absolute error", value=number(error, DIGITS)),
        ]
    )
    controls = shell.controls(
        shell.slider("scale", "scale a", low=-STEPS, high=STEPS, value=0, shown=number(1, 2)),
        shell.slider(
            "shift", "shift b", low=-span, high=span, step=span / 100, value=0, shown=number(0, 2)
        ),
        shell.tick("negative", "negative scale"),
    )
    return shell.frame(
        "affine",
        title,
        payload={
            "label": shell.stored(label, "f4"),
            "prediction": shell.stored(prediction, "f4"),
            "row": row,
            "range": [low, high],
            "most": MOST,
            "steps": STEPS,
            "digits": DIGITS,
            "charts": [as_is.payload(), after.payload()],
            "mirrored": {"axes": mirrored.payload(), "drawing": mirrored_values},
            "table": shell.table(NEAR),
        },
        live=f"{shell.panels(live, columns=columns)}"
        f'<div class="charts"></div>{legend}{controls}{shown}',
        still=f"{shell.panels(still, columns=columns)}"
        f'<div class="charts">{charts}</div>{legend}{shown}',
        caption=caption,
    )


def _check(title: str, label: Tensor, prediction: Tensor, row: int) -> None:
    height, width = label.shape
    if not all(LEAST_SIDE <= side <= MOST_SIDE for side in (height, width)):
        raise ConfigError(
            f"{title}: a label of {height} x {width}; give {LEAST_SIDE} to {MOST_SIDE} pixels a "
            "side"
        )
    if not 0 <= row < height:
        raise ConfigError(f"{title}: row {row} of a label with {height} rows")
    shell.check(title, "label", label, (height, width))
    shell.check(title, "prediction", prediction, (height, width))
    if float(label.min()) == float(label.max()):
        raise ConfigError(f"{title}: the label is constant; there is nothing to compare")


def _axes(y: tuple[float, float], width: int, name: str) -> Axes:
    return Axes(
        x=(0, width - 1),
        y=y,
        x_ticks={0: "0", width - 1: str(width - 1)},
        y_ticks=shell.ticks(*y),
        x_label="column",
        y_label=name,
    )


def _lines(axes: Axes, rows: list[Tensor]) -> str:
    """The label's line and the prediction's."""
    return "".join(
        f'<polyline class="{name}" points="{axes.points(range(len(row)), row.tolist())}"/>'
        for name, row in zip(("muted-line", "warm-line"), rows, strict=True)
    )
