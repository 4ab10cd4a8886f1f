"""What the figures share: the frame with its still and its live part, controls, numbers, pictures,
and arrays as text.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from dabook.show.html import Html
from dabook.show.pictures import GROUND
from dalib.errors import ConfigError

LIMIT = 150_000
"""Bytes of one figure, with its style and its script."""
KINDS = {"f4": np.float32, "u2": np.uint16, "u1": np.uint8, "i1": np.int8}
"""How an array is stored: little-endian, row by row."""
QUALITY = 80  # of JPEGs
TABLE = 256  # colours of a colour map
HERE = Path(__file__).parent
STYLE, TOOLS = ((HERE / f"touch.{end}").read_text(encoding="utf-8") for end in ("css", "js"))

Stored = dict[str, object]
Real = float | int


# ---- arrays as text


def stored(values: Tensor | np.ndarray, kind: str) -> Stored:
    """An array for the payload of a figure, which `decode` of touch.js reads.

    Args:
        values: of any shape.
        kind: one of `KINDS`.

    Raises:
        ConfigError: a value that the kind cannot hold.
    """
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    if kind == "f4":
        kept = array.astype("<f4")
    else:
        limits = np.iinfo(KINDS[kind])
        if array.size and not (limits.min <= array.min() and array.max() <= limits.max):
            raise ConfigError(f"values from {array.min()} to {array.max()} do not fit {kind}")
        kept = array.astype(np.dtype(KINDS[kind]).newbyteorder("<"))
    data = base64.b64encode(np.ascontiguousarray(kept).tobytes()).decode()
    return {"type": kind, "shape": list(array.shape), "data": data}


def restored(kept: Stored) -> np.ndarray:
    """The array that `stored` made text of."""
    raw = base64.b64decode(str(kept["data"]))
    return np.frombuffer(raw, np.dtype(KINDS[kept["type"]]).newbyteorder("<")).reshape(
        kept["shape"]
    )


def table(name: str) -> Stored:
    """A colour map of Matplotlib as a table of `TABLE` colours."""
    return stored(_colours(name), "u1")


def _colours(name: str) -> np.ndarray:
    return plt.get_cmap(name)(np.arange(TABLE) / (TABLE - 1), bytes=True)[:, :3]


# ---- pictures


def painted(
    values: Float[Tensor, "h w"], low: Real, high: Real, name: str
) -> UInt8[Tensor, "3 h w"]:
    """A map in fixed colours, `low` and `high` at the ends of the colour map, grey where it is NaN.
    `paint` of touch.js does the same."""
    share = (values.double().numpy() - low) / (high - low)
    known = np.isfinite(share)
    place = np.floor(np.clip(np.nan_to_num(share), 0, 1) * (TABLE - 1) + 0.5).astype(int)
    ground = np.array([int(GROUND[k : k + 2], 16) for k in (1, 3, 5)], np.uint8)
    pixels = np.where(known[..., None], _colours(name)[place], ground)
    return torch.from_numpy(pixels.astype(np.uint8)).movedim(-1, 0).contiguous()


def address(picture: UInt8[Tensor, "c h w"], kind: str = "JPEG") -> str:
    """A picture as an address that holds it.

    Args:
        picture: of three channels, or of four with opacity.
        kind: "JPEG", or "PNG" for pictures of few pixels, which stay exact, and for those with
            opacity, which are brought to 256 colours.
    """
    stream = io.BytesIO()
    image = Image.fromarray(picture.movedim(0, -1).contiguous().numpy())
    if kind == "JPEG":
        image.save(stream, "JPEG", quality=QUALITY, optimize=True)
    else:
        clear = {}
        if image.mode == "RGBA":
            seen = np.asarray(image)[..., 3] > 0
            places = np.array(image.convert("RGB").quantize(TABLE - 1))
            places[~seen] = TABLE - 1
            colours = image.convert("RGB").quantize(TABLE - 1).getpalette("RGB")
            image = Image.fromarray(places, "P")
            image.putpalette(colours + [0] * (3 * TABLE - len(colours)))
            clear = {"transparency": TABLE - 1}
        image.save(stream, "PNG", optimize=True, **clear)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def image(source: str, alt: str, *, exact: bool = False, key: str = "") -> str:
    """An `<img>`, to be shown with its pixels as squares where it is a map of few."""
    name = "dark-light exact" if exact else "dark-light"  # the book's theme leaves it as it is
    mark = f' data-picture="{key}"' if key else ""
    return f'<img src="{source}" alt="{escape(alt)}" class="{name}"{mark}>'


def panel(name: str, content: str) -> str:
    """A picture under its name."""
    return f'<div class="panel"><p>{escape(name)}</p>{content}</div>'


def stage(content: str, *, key: str = "") -> str:
    """What lies on one another at the place of a picture."""
    mark = f' data-stage="{key}"' if key else ""
    return f'<div class="stage"{mark}>{content}</div>'


def copied(key: str) -> str:
    """The place of a picture in the live part: the script puts the still's `image` of this key
    there, so that a page holds it once."""
    return f'<span data-copy="{key}"></span>'


def canvas(key: str, width: int, height: int, alt: str) -> str:
    """What a script draws a map of this size on."""
    return (
        f'<canvas class="exact" data-canvas="{key}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(alt)}"></canvas>'
    )


def panels(content: Sequence[str], *, columns: str, kind: str = "") -> str:
    """Panels side by side.

    Args:
        content: made by `panel`.
        columns: of the grid, such as "1fr 1fr".
        kind: a class more.
    """
    name = f"panels {kind}".strip()
    return f'<div class="{name}" style="--columns: {columns}">{"".join(content)}</div>'


def main(
    large: str, others: Sequence[str], *, columns: str, style: str = "", kind: str = ""
) -> str:
    """A large panel, and others beside it, on a phone below it.

    Args:
        large, others: made by `panel`.
        columns: of the grid: the large one, and the others.
        style: more CSS of the whole.
        kind: a class more.
    """
    beside = f'<div class="aside">{"".join(others)}</div>'
    return panels([large, beside], columns=f"{columns}; {style}", kind=f"main {kind}".strip())


def beside(left: str, right: str, *, columns: str = "1fr 1fr") -> str:
    """Two parts side by side, on a phone one below the other."""
    return f'<div class="beside" style="--columns: {columns}"><div>{left}</div><div>{right}</div></div>'


# ---- controls and numbers


def slider(
    key: str,
    label: str,
    *,
    low: Real,
    high: Real,
    value: Real,
    step: Real = 1,
    shown: str = "",
) -> str:
    """A slider with its name, and its value as text beside it; the script keeps `shown` up to
    date."""
    return (
        f'<div class="control wide"><label><span>{escape(label)}</span>'
        f'<input type="range" data-key="{key}" min="{low:g}" max="{high:g}" step="{step:g}" '
        f'value="{value:g}" aria-valuetext="{escape(shown)}" autocomplete="off"></label>'
        f'<span class="value" data-value="{key}" aria-hidden="true">{escape(shown)}</span></div>'
    )


def choice(key: str, label: str, options: Mapping[str, str], *, chosen: str = "") -> str:
    """A list to choose from: value -> words."""
    lines = "".join(
        f'<option value="{escape(value)}"{" selected" * (value == chosen)}>{escape(words)}</option>'
        for value, words in options.items()
    )
    return (
        f'<div class="control"><label><span>{escape(label)}</span>'
        f'<select data-key="{key}" autocomplete="off">{lines}</select></label></div>'
    )


def tick(key: str, label: str, *, on: bool = False) -> str:
    """A box to tick."""
    return (
        f'<div class="control"><label><input type="checkbox" data-key="{key}" autocomplete="off"'
        f"{' checked' * on}><span>{escape(label)}</span></label></div>"
    )


def button(key: str, label: str) -> str:
    """A button."""
    return f'<button type="button" data-key="{key}">{escape(label)}</button>'


def controls(*content: str, kind: str = "") -> str:
    """A row of controls; with the kind "choices" a grid of lists to choose from."""
    name = f"controls {kind}".strip()
    return f'<div class="{name}">{"".join(content)}</div>'


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number of a figure.

    Args:
        key: for the script.
        label: what it is.
        value: as it is printed at first.
    """

    key: str
    label: str
    value: str


def numbers(given: Sequence[Number]) -> str:
    """Numbers with their names."""
    lines = "".join(
        f"<div><dt>{escape(one.label)}</dt>"
        f'<dd data-number="{one.key}">{escape(one.value)}</dd></div>'
        for one in given
    )
    return f'<dl class="numbers">{lines}</dl>'


# ---- the frame


def frame(
    kind: str,
    title: str,
    *,
    payload: Mapping[str, object],
    live: str,
    still: str,
    caption: str,
    tools: Sequence[str] = (),
) -> Html:
    """A figure with its style and its scripts, for the end of a cell or for another page.

    Args:
        kind: names the script, `kind.js`.
        title: what is seen, for the heading and for those who do not see it.
        payload: what the script computes from; JSON.
        live: HTML that the script wakes up.
        still: HTML that stands in the page without a script, and on paper.
        caption: below both, as text.
        tools: names of scripts that several kinds share, besides touch.js.

    Raises:
        ConfigError: the figure has more than `LIMIT` bytes.
    """
    data = json.dumps(payload, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    script = "".join((HERE / f"{n}.js").read_text(encoding="utf-8") for n in (*tools, kind))
    text = (
        f'<style>{STYLE}</style><div class="dalib-touch" data-kind="{kind}" role="group" '
        f'aria-label="{escape(title)}"><p class="title">{escape(title)}</p>'
        f'<script type="application/json">{data}</script>'
        f'<div class="live" hidden>{live}<p class="said" role="status"></p></div>'
        f'<div class="still">{still}</div>'
        f'<p class="caption">{escape(caption)}</p></div><script>{TOOLS}{script}</script>'
    )
    size = len(text.encode())
    if size > LIMIT:
        raise ConfigError(
            f"{title}: {size} bytes, more than the {LIMIT} of a figure; give smaller pictures"
        )
    return Html(text)


def check(title: str, what: str, found: Tensor, shape: Sequence[int]) -> None:
    """A `ConfigError` unless a map has this shape and is finite."""
    if tuple(found.shape) != tuple(shape):
        sizes = [" x ".join(map(str, s)) for s in (found.shape, shape)]
        raise ConfigError(f"{title}: {what} is {sizes[0]} and should be {sizes[1]}")
    if found.is_floating_point() and not torch.isfinite(found).all():
        raise ConfigError(f"{title}: {what} has values that are not finite")


# ---- charts


def ticks(low: Real, high: Real, *, most: int = 5) -> dict[float, str]:
    """Round numbers between two ends -> their words."""
    found = MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return {float(x): f"{x:g}".replace("-", "−") for x in found if low <= x <= high}


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The frame of a small chart in SVG, in which a script moves lines.

    Args:
        x, y: (low, high) of what is drawn; with `log_x` the axis is logarithmic.
        x_ticks, y_ticks: place -> its words.
        x_label, y_label: what the axes are.
    """

    x: tuple[Real, Real]
    y: tuple[Real, Real]
    x_ticks: Mapping[Real, str]
    y_ticks: Mapping[Real, str]
    x_label: str
    y_label: str = ""
    log_x: bool = False
    height: int = 190

    WIDTH = 320
    LEFT, RIGHT, TOP, BELOW = 34, 8, 20, 34

    @property
    def box(self) -> tuple[Real, Real, Real, Real]:
        """Left, top, right and bottom of the field, in units of the SVG; for the payload."""
        return self.LEFT, self.TOP, self.WIDTH - self.RIGHT, self.height - self.BELOW

    def place(self, x: Real, y: Real) -> tuple[float, float]:
        """Where a point lies."""
        left, top, right, bottom = self.box
        low, high = self.x
        if self.log_x:
            x, low, high = np.log(x), np.log(low), np.log(high)
        across = (x - low) / (high - low)
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return float(left + across * (right - left)), float(bottom - up * (bottom - top))

    def points(self, x: Sequence[Real], y: Sequence[Real]) -> str:
        """A line through points, as SVG has it."""
        found = [self.place(a, b) for a, b in zip(x, y, strict=True)]
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in found)

    def payload(self) -> dict[str, object]:
        """What the script needs to place points as `place` does."""
        return {"x": self.x, "y": self.y, "box": self.box, "log": self.log_x}

    def drawing(self, content: str, *, alt: str, above: str = "") -> str:
        """The chart.

        Args:
            content: SVG of the field; what leaves the field is cut off.
            alt: what is seen in it.
            above: SVG of what may leave the field, such as a legend.
        """
        left, top, right, bottom = self.box
        grid, words = [], []
        for place, text in self.x_ticks.items():
            x, _ = self.place(place, self.y[0])
            grid.append(f'<path class="grid" d="M{x:.1f} {top}V{bottom}"/>')
            words.append(f'<text x="{x:.1f}" y="{bottom + 13}" text-anchor="middle">{text}</text>')
        for place, text in self.y_ticks.items():
            _, y = self.place(self.x[0], place)
            grid.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
            words.append(f'<text x="{left - 5}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>')
        words.append(
            f'<text class="muted" x="{(left + right) / 2}" y="{bottom + 28}" text-anchor="middle">'
            f"{escape(self.x_label)}</text>"
        )
        words.append(f'<text class="muted" x="{left}" y="10">{escape(self.y_label)}</text>')
        size = f'width="{right - left}" height="{bottom - top}"'
        return (
            f'<svg viewBox="0 0 {self.WIDTH} {self.height}" role="img" aria-label="{escape(alt)}">'
            f"{''.join(grid)}{''.join(words)}"
            f'<svg x="{left}" y="{top}" {size} viewBox="{left} {top} {right - left} {bottom - top}">'
            f"{content}</svg>{above}</svg>"
        )
