"""Features of an encoder over an image: their three main components as colours, and how similar all
tokens are to one that is chosen.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dabook.show.html import Html, number
from dabook.show.touch import shell
from dabook.show.touch.shell import Number
from dalib.errors import ConfigError

LEAST, MOST = 8, 260
"""Tokens of an image."""
COLOURS = "viridis"
UNITS = 100
"""A cosine is kept as a whole number of hundredths: what is printed."""
CAPTION = (
    "Each square is a token of the frozen encoder. Features: their three main components over this "
    "image, as red, green and blue. Similarity: the cosine of each token with the chosen one, dark "
    "at 0 and below, bright at 1. The white frame is the chosen token, the dashed one the token "
    "that it is compared with: press to choose, move to compare; by keyboard arrows choose, and "
    "Shift with arrows compares."
)


def components(features: Float[Tensor, "c h w"]) -> UInt8[Tensor, "3 h w"]:
    """The three main components of the tokens as red, green and blue, each from its smallest value
    to its largest. The sign of a component is chosen so that its largest part is positive."""
    channels, height, width = features.shape
    tokens = features.double().reshape(channels, -1).T.numpy()  # (h * w, c)
    centred = tokens - tokens.mean(0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    found = left[:, :3] * size[:3]
    found = found * np.sign(found[np.abs(found).argmax(0), np.arange(3)])
    spread = np.maximum(found.max(0) - found.min(0), 1e-12)
    shown = (found - found.min(0)) / spread
    return torch.from_numpy((255 * shown).round().astype(np.uint8).T.reshape(3, height, width))


def similarity(features: Float[Tensor, "c h w"]) -> Float[Tensor, "n n"]:
    """The cosine of each token with each, row by row of the image."""
    tokens = features.double().flatten(1).T  # (h * w, c)
    return F.cosine_similarity(tokens[:, None], tokens[None], dim=-1)


def figure(
    image: UInt8[Tensor, "3 H W"],
    features: Float[Tensor, "c h w"],
    *,
    title: str,
    token: tuple[int, int] | None = None,
    caption: str = CAPTION,
) -> Html:
    """An image, its features as colours, and the similarity to a token that is chosen.

    Args:
        image: of any size.
        features: of its tokens, 8 to 260 of them, with at least 3 channels.
        title: what is seen.
        token: row and column of the one that is chosen at first; the middle by default.
        caption: below the figure.

    Raises:
        ConfigError: too few or too many tokens or channels, features that are not finite, or a
            token outside of them.
    """
    channels, height, width = features.shape
    if not LEAST <= height * width <= MOST or channels < 3:
        raise ConfigError(
            f"{title}: {height} x {width} tokens of {channels} channels; give {LEAST} to {MOST} "
            "tokens of 3 or more"
        )
    shell.check(title, "features", features, features.shape)
    row, column = token or (height // 2, width // 2)
    if not (0 <= row < height and 0 <= column < width):
        raise ConfigError(f"{title}: token {row}, {column} of {height} x {width}")
    cosines = similarity(features)
    chosen = row * width + column
    other = column if row else (height - 1) * width + column  # the border above it, or below
    means = cosines.mean(1)

    # pictures
    marks = "".join(
        f'<span class="token {kind}" style="{_where(k, height, width)}"></span>'
        for kind, k in (("chosen", chosen), ("other", other))
    )
    sources = {
        "image": shell.image(shell.address(image), f"{title}: image", key="image"),
        "components": shell.image(
            shell.address(components(features), "PNG"),
            f"{title}: three main components of the features",
            exact=True,
            key="components",
        ),
    }
    words = ("image", "features", "similarity")
    seen = shell.painted(cosines[chosen].reshape(height, width), 0, 1, COLOURS)
    similar = shell.image(shell.address(seen, "PNG"), f"{title}: similarity", exact=True)
    drawn = shell.canvas("cosines", width, height, f"{title}: similarity to the chosen token")
    still = [*sources.values(), similar]
    live = [*(shell.copied(key) for key in sources), drawn]
    blocks = []
    for contents, hand in ((still, False), (live, True)):
        large, *others = (
            shell.panel(name, _stage(content + marks, height, width, hand=hand and k == 0))
            for k, (name, content) in enumerate(zip(words, contents, strict=True))
        )
        blocks.append(shell.main(large, others, columns="2.15fr 1fr"))
    shown = shell.numbers(
        [
            Number(
                key="cosine",
                label="cosine with the compared token",
                value=number(float(cosines[chosen, other]), 2),
            ),
            Number(
                key="mean",
                label="mean cosine with all tokens",
                value=number(float(means[chosen]), 2),
            ),
        ]
    )
    size = (height * width, height * width)
    return shell.frame(
        "features",
        title,
        payload={
            "size": [height, width],
            "cosines": shell.stored(_hundredths(cosines).reshape(size), "i1"),
            "means": shell.stored(_hundredths(means), "i1"),
            "chosen": chosen,
            "other": other,
            "units": UNITS,
            "table": shell.table(COLOURS),
        },
        live=blocks[1] + shown,
        still=blocks[0] + shown,
        caption=caption,
    )


def _hundredths(values: Float[Tensor, "*n"]) -> Int[np.ndarray, "*n"]:
    """As `number` prints them: halves away from zero."""
    scaled = UNITS * values.numpy().round(9)
    return (np.sign(scaled) * np.floor(np.abs(scaled) + 0.5)).astype(int)


def _where(token: int, height: int, width: int) -> str:
    row, column = divmod(token, width)
    return f"top: {100 * row / height:.3f}%; left: {100 * column / width:.3f}%"


def _stage(content: str, height: int, width: int, *, hand: bool) -> str:
    attributes = (
        ' tabindex="0" role="application" aria-label="Tokens of the image. Press one to choose it, '
        'move over others to compare. Arrow keys choose, with Shift they compare."'
    )
    return (
        f'<div class="stage tokens" style="--rows: {height}; --across: {width}"{attributes * hand}>'
        f"{content}</div>"
    )
