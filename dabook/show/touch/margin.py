"""The tolerance margin under a slider, over the cosines of real tokens: which of them still
contribute to the feature alignment loss, and what it is.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dabook.show.html import Html, number
from dabook.show.touch import shell
from dabook.show.touch.shell import Axes, Number
from dalib.errors import ConfigError
from dalib.losses import feature_alignment

BIN = 0.02  # width of a bar
MOST = 6000
"""Tokens of one network."""
DIGITS = 4
CAPTION = (
    "Cosines between the deepest features of two students and those of the frozen encoder, token "
    "by token. Tokens below the margin are dark: they contribute to the loss and are pulled "
    "towards the frozen encoder. Those above it are pale and add nothing; the mean stays over all "
    "tokens. The slider changes what the loss says of the two networks, not what they have learned."
)


def loss(cosines: Float[Tensor, " n"], margin: float) -> float:
    """The feature alignment loss (eq. 9) of tokens with these cosines, as the library has it: of
    features in a plane that have them."""
    sine = (1 - cosines.double().square()).clamp_min(0).sqrt()
    student = torch.stack([cosines.double(), sine])[None, :, None]  # (1, 2 channels, 1, n tokens)
    frozen = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, len(cosines))
    return float(feature_alignment(student, frozen, margin=margin))


def share(cosines: Float[Tensor, " n"], margin: float) -> float:
    """Share of the tokens that contribute."""
    return float((cosines < margin).double().mean())


def figure(
    cosines: Mapping[str, Float[Tensor, "*n"]],
    *,
    title: str,
    margin: float = 0.85,
    caption: str = CAPTION,
) -> Html:
    """Histograms of the cosines of two networks, one above the other, under one margin.

    Args:
        cosines: name of a network -> those of its tokens.
        title: what is seen.
        margin: alpha at first, in steps of 0.01 from 0 to 1.
        caption: below the figure.

    Raises:
        ConfigError: not two networks, no or too many tokens, a cosine outside -1 to 1, or a margin
            that the slider does not have.
    """
    kept = {name: values.flatten().float() for name, values in cosines.items()}
    _check(title, kept, margin)
    lowest = min(float(values.min()) for values in kept.values())
    low = min(0.0, float(np.floor(10 * lowest) / 10))
    edges = np.linspace(low, 1, round((1 - low) / BIN) + 1)
    shares = {name: _histogram(values, edges) for name, values in kept.items()}
    most = max(float(found.max()) for found in shares.values())
    axes = Axes(
        x=(low, 1),
        y=(0, 1.08 * most),
        x_ticks=shell.ticks(low, 1),
        y_ticks={y: f"{100 * y:g}" for y in shell.ticks(0, most, most=3)},
        x_label="cosine of a token with the frozen encoder's",
        height=170,
    )
    at, _ = axes.place(margin, 0)
    _, top, _, bottom = axes.box
    charts = []
    for name, found in shares.items():
        bars = []
        for k, value in enumerate(found):
            left, up = axes.place(edges[k], value)
            right, _ = axes.place(edges[k + 1], 0)
            size = f'width="{right - left - 0.6:.2f}" height="{bottom - up:.2f}"'
            kind = "bar" if edges[k] < margin - 1e-6 else "bar beyond"
            bars.append(f'<rect class="{kind}" x="{left:.2f}" y="{up:.2f}" {size}/>')
        mark = f'<path class="mark" d="M{at:.2f} {top}V{bottom}"/>'
        named = replace(axes, y_label=f"{name}: tokens, %")
        charts.append(named.drawing("".join(bars) + mark, alt=f"token cosines, {name}"))
    numbers = []
    for k, (name, values) in enumerate(kept.items()):
        numbers += [
            Number(
                key=f"loss{k}", label=f"{name}: loss", value=number(loss(values, margin), DIGITS)
            ),
            Number(
                key=f"share{k}",
                label=f"{name}: tokens that contribute",
                value=f"{number(100 * share(values, margin), 1)} %",
            ),
        ]
    shown = shell.numbers(numbers)
    still = f'<div class="charts">{"".join(charts)}</div>'
    return shell.frame(
        "margin",
        title,
        payload={
            "names": list(kept),
            "cosines": [shell.stored(values.sort().values, "f4") for values in kept.values()],
            "edges": [round(float(edge), 6) for edge in edges],
            "axes": axes.payload(),
            "digits": DIGITS,
        },
        live='<div class="charts"></div>'
        + shell.controls(
            shell.slider(
                "margin",
                "margin α",
                low=0,
                high=1,
                step=0.01,
                value=margin,
                shown=number(margin, 2),
            )
        )
        + shown,
        still=f'{still}<p class="legend">margin α = {number(margin, 2)}</p>{shown}',
        caption=caption,
    )


def _histogram(values: Float[Tensor, " n"], edges: np.ndarray) -> np.ndarray:
    found, _ = np.histogram(values.numpy().clip(edges[0], edges[-1]), edges)
    return found / len(values)


def _check(title: str, cosines: Mapping[str, Tensor], margin: float) -> None:
    if len(cosines) != 2:
        raise ConfigError(f"{title}: {len(cosines)} networks; give two")
    for name, values in cosines.items():
        if not 1 <= len(values) <= MOST:
            raise ConfigError(f"{title}: {len(values)} tokens of {name}; give 1 to {MOST}")
        if not bool((values.abs() <= 1 + 1e-6).all()):
            raise ConfigError(f"{title}: a cosine of {name} lies outside -1 to 1")
    if not (0 <= margin <= 1 and abs(100 * margin - round(100 * margin)) < 1e-6):
        raise ConfigError(f"{title}: margin {margin}; the slider has 0 to 1 in steps of 0.01")
