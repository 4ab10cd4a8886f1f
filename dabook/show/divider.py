"""Several views of one picture under a divider that one can drag: an image, what is true of it, and
what networks see in it. No kernel, no network, no library: the script and the style of a page stand
in the page.

What is in the page without a script, and on paper, is a row of still pictures with their captions.
The script puts two of them on one another, one left and one right of the divider, which follows a
mouse or a finger on the picture, and the arrow keys on the slider below it.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from dabook.show.html import Html
from dabook.show.pictures import GROUND, NEAR, unit
from dalib.errors import ConfigError
from dalib.models.sizes import resize_disparity, resize_images

LONGEST = 480  # pixels of the longer side of what a page holds
QUALITY = 82  # of its JPEGs
LEAST, MOST = 2, 6  # views of one picture
STYLE = (Path(__file__).with_name("divider.css")).read_text(encoding="utf-8")
SCRIPT = (Path(__file__).with_name("divider.js")).read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class View:
    """One of the views of a picture.

    Args:
        label: one or two words: "image", "student".
        picture: what is shown.
        note: for the caption below the still picture, such as a score; empty for none.
    """

    label: str
    picture: UInt8[Tensor, "3 h w"]
    note: str = ""


def coloured(
    disparity: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"] | None = None
) -> UInt8[Tensor, "3 h w"]:
    """A map in the colours of every figure: bright is near, scaled by itself; grey where it is not
    valid."""
    known = torch.isfinite(disparity) & (valid if valid is not None else True)
    shown = unit(torch.where(known, disparity, torch.nan)).float().numpy()
    colours = plt.get_cmap(NEAR)(np.nan_to_num(shown), bytes=True)[..., :3]
    ground = [int(GROUND[k : k + 2], 16) for k in (1, 3, 5)]
    colours = np.where(known.numpy()[..., None], colours, np.array(ground, np.uint8))
    return torch.from_numpy(colours.astype(np.uint8)).movedim(-1, 0).contiguous()


def smaller(image: UInt8[Tensor, "3 h w"], longest: int = LONGEST) -> UInt8[Tensor, "3 h2 w2"]:
    """An image whose longer side has at most so many pixels."""
    return (255 * resize_images(image[None], _size(image, longest))[0]).round().to(torch.uint8)


def smaller_map(disparity: Float[Tensor, "h w"], longest: int = LONGEST) -> Float[Tensor, "h2 w2"]:
    """The same for a map."""
    return resize_disparity(disparity[None].float(), _size(disparity, longest))[0]


def _size(picture: Tensor, longest: int) -> tuple[int, int]:
    height, width = picture.shape[-2:]
    shrink = min(1.0, longest / max(height, width))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def show(title: str, views: Sequence[View], *, left: int = 0, right: int = -1) -> Html:
    """A piece of a page with the views of one picture.

    Args:
        title: what is seen, for the heading and for those who do not see it.
        views: of one size, from `LEAST` to `MOST`.
        left, right: which of them the divider separates at first.

    Raises:
        ConfigError: too few or too many views, of several sizes, or of one name; one and the same
            on both sides.
    """
    sizes = {tuple(view.picture.shape[-2:]) for view in views}
    labels = [view.label for view in views]
    if not LEAST <= len(views) <= MOST:
        raise ConfigError(f"{title}: {len(views)} views; a divider takes {LEAST} to {MOST}")
    if len(sizes) > 1:
        found = ", ".join(f"{h} x {w}" for h, w in sorted(sizes))
        raise ConfigError(f"{title}: views of several sizes ({found}); give them one")
    if len(set(labels)) < len(labels):
        raise ConfigError(f"{title}: two views have one label ({', '.join(labels)})")
    left, right = (range(len(views))[k] for k in (left, right))
    if left == right:
        raise ConfigError(f"{title}: {labels[left]!r} is on both sides of the divider")
    (height, width), *_ = sizes
    stills = "".join(_still(title, view) for view in views)
    live = _live(title, labels, left, right)
    return Html(
        f'<div class="dalib-divider" role="group" aria-label="{escape(title)}" '
        f'style="--ratio: {width / height:.4f}; --columns: {len(views)}">'
        f'<p class="dalib-divider-title">{escape(title)}</p>'
        f'{live}<div class="dalib-divider-stills">{stills}</div></div>'
    )


def together(dividers: Sequence[Html]) -> Html:
    """Dividers with the style and the script that they need, for the end of a cell."""
    return Html(
        f"<style>{STYLE}</style>{''.join(d.text for d in dividers)}<script>{SCRIPT}</script>"
    )


def _still(title: str, view: View) -> str:
    height, width = view.picture.shape[-2:]
    note = f" <span>{escape(view.note)}</span>" if view.note else ""
    return (
        f'<figure><img src="{_data(view.picture)}" width="{width}" height="{height}" '
        f'alt="{escape(title)}: {escape(view.label)}" class="dark-light">'
        f"<figcaption>{escape(view.label)}{note}</figcaption></figure>"
    )


def _data(picture: UInt8[Tensor, "3 h w"]) -> str:
    """A picture as an address that holds it."""
    stream = io.BytesIO()
    Image.fromarray(picture.movedim(0, -1).numpy()).save(
        stream, "JPEG", quality=QUALITY, optimize=True
    )
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _live(title: str, labels: Sequence[str], left: int, right: int) -> str:
    """What the script wakes up: the stage, the slider and the two choices."""

    def choice(side: str, chosen: int) -> str:
        options = "".join(
            f'<option value="{k}"{" selected" * (k == chosen)}>{escape(label)}</option>'
            for k, label in enumerate(labels)
        )
        return f'<label>{side} <select data-side="{side}">{options}</select></label>'

    return (
        '<div class="dalib-divider-live" hidden>'
        '<div class="dalib-divider-stage" role="img"></div>'
        '<div class="dalib-divider-controls">'
        f"{choice('left', left)}"
        '<input type="range" min="0" max="100" step="1" value="50" '
        f'aria-label="divider of {escape(title)}, percent from the left">'
        f"{choice('right', right)}</div></div>"
    )
