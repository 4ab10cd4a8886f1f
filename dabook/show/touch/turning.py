"""Clouds of points that turn about their middle: where a point is seen, and the still picture.
`turning.js` does the same in the page.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dabook.show.touch import shell

AWAY = 3.0
"""Distance of the eye from the middle of a cloud, as a multiple of its radius."""
ZOOM = 1.7
STILL = (320, 480)  # height and width of the still picture
SEEN = (0.02, 0.98)
"""Shares of the points, along each axis, between which the middle and the radius are taken."""

# degrees to the side and upwards from which a cloud is seen
View = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Eye:
    """Where a cloud is seen from: it turns about its middle.

    Args:
        middle: of the cloud.
        radius: of most of it.
    """

    middle: tuple[float, float, float]
    radius: float

    @classmethod
    def on(cls, points: Float[np.ndarray, "3 n"]) -> "Eye":
        """The eye on a cloud (right, down, ahead)."""
        low, high = np.quantile(points, SEEN, axis=1)
        middle = tuple(float(x) for x in (low + high) / 2)
        return cls(middle=middle, radius=max(float(np.linalg.norm(high - low)) / 2, 1e-9))

    def project(self, points: Float[np.ndarray, "3 n"], view: View) -> Float[np.ndarray, "3 n"]:
        """Right and down in units of the picture's width, from its centre, and the distance in
        units of the radius."""
        side, up = (math.radians(angle) for angle in view)
        x, y, z = (points - np.array(self.middle)[:, None]) / self.radius
        x, z = (
            math.cos(side) * x + math.sin(side) * z,
            math.cos(side) * z - math.sin(side) * x,
        )
        y, z = math.cos(up) * y - math.sin(up) * z, math.cos(up) * z + math.sin(up) * y
        away = z + AWAY
        return np.stack([ZOOM * x / away, ZOOM * y / away, away])

    def payload(self) -> dict[str, object]:
        """What the script needs of it."""
        return {"middle": self.middle, "radius": self.radius}


def payload() -> dict[str, object]:
    """What `turning.js` needs of this module."""
    return {"ratio": STILL[0] / STILL[1], "away": AWAY, "zoom": ZOOM}


def stage() -> str:
    """The place where the script draws the cloud."""
    return shell.stage(
        '<canvas class="cloud" tabindex="0" role="application" data-canvas="cloud" aria-label="'
        'The cloud of points. Drag it to turn it, or use the arrow keys."></canvas>'
    )


def buttons() -> str:
    """To look from the front, the side and above."""
    names = {"front": "from the front", "side": "from the side", "above": "from above"}
    content = "".join(shell.button(key, words) for key, words in names.items())
    return f'<div class="buttons">{content}</div>'


def still(
    points: Float[np.ndarray, "3 n"],
    colours: UInt8[Tensor, "n 3"],
    sides: Float[np.ndarray, " n"],
    eye: Eye,
    view: View,
) -> UInt8[Tensor, "4 h w"]:
    """A cloud as it is seen at first, on a clear ground.

    Args:
        points: right, down and ahead.
        colours: of each.
        sides: of the square that is drawn for each, as a share of the picture's width, were the point
            as far as the middle.
        eye: on it.
        view: from where.
    """
    height, width = STILL
    right, down, away = eye.project(points, view)
    picture = np.zeros((height, width, 4), np.uint8)
    for k in np.argsort(-away):
        side = sides[k] * width * AWAY / away[k]
        x, y = (0.5 + right[k]) * width, 0.5 * height + down[k] * width
        left, top = round(x - side / 2), round(y - side / 2)
        rows = slice(max(top, 0), max(top + max(round(side), 1), 0))
        columns = slice(max(left, 0), max(left + max(round(side), 1), 0))
        picture[rows, columns, :3] = colours[k].numpy()
        picture[rows, columns, 3] = 255
    return torch.from_numpy(picture).movedim(-1, 0)
