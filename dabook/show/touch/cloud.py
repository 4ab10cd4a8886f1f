"""A scene of known depth as a cloud of coloured points that turns, with a wrong shift of its
disparity, or of its depth, under a slider.

A pixel in direction r (right, down, 1) at depth z is the point z r. A shift s makes of its
disparity 1 / z the depth 1 / (1 / z + s). The points of a plane satisfy n · z r = c, so their
disparity is n · r / c, linear in r, and stays linear under a shift: planes stay planes, while
depths, and the angles between planes, change. A shift of *depth* bends them.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from dabook.show.html import Html, number
from dabook.show.touch import shell, turning
from dabook.show.touch.shell import Number
from dabook.show.touch.turning import Eye
from dalib.errors import ConfigError
from dalib.evaluation.align import least_squares_scale
from dalib.evaluation.metrics import depth_metrics
from dalib.geometry import Camera

LEAST, MOST = 16, 5000
"""Points."""
DIGITS = 3
ENDS = {"disparity": (0.6, 0.5), "depth": (0.5, 1.0)}
"""The slider's ends: a shift of so much of the smallest value downwards, and of the largest one
upwards."""
STEPS = 100
"""Of the slider, to each side."""
VIEWS = {"front": (0.0, 0.0), "side": (80.0, 0.0), "above": (0.0, 90.0), "first": (28.0, 22.0)}
"""Degrees to the side and upwards from which the cloud is seen."""
POINT = 0.016
"""Side of a point that lies in the middle, as a share of the picture's width."""
WORDS = {"disparity": "disparity", "depth": "depth"}
CAPTION = (
    "A drawn scene with its exact depth; each pixel is a point. Turn it with the pointer or the "
    "arrow keys. The shift is added to the disparity before it is inverted, or to the depth; the "
    "cloud is shown, and AbsRel is taken, after the scale that brings the depths nearest to the "
    "true ones by least squares. Grey is the true cloud. Look along a wall or the floor: a wrong "
    "shift of disparity moves and tilts planes, but bends none; a wrong shift of depth bends them."
)


def shifted(
    disparity: Float[Tensor, " n"], shift: float, what: str = "disparity"
) -> tuple[Float[Tensor, " n"], float, float]:
    """(depth under a wrong shift at its best scale, that scale, AbsRel), as the library has them.

    Args:
        disparity: the true one.
        shift: in 1/m for "disparity", in m for "depth".
        what: is shifted.
    """
    truth = 1 / disparity.double()
    depth = 1 / (disparity.double() + shift) if what == "disparity" else truth + shift
    row, everywhere = truth[None, None], torch.ones(1, 1, len(truth), dtype=torch.bool)
    scale, _ = least_squares_scale(depth[None, None], row, everywhere)
    fitted = scale * depth
    error = depth_metrics(fitted[None, None], row, everywhere, names=("abs_rel",))["abs_rel"]
    return fitted, float(scale), float(error)


def ends(disparity: Float[Tensor, " n"], what: str = "disparity") -> tuple[float, float]:
    """The smallest and the largest shift of the slider; the depth stays above 0."""
    values = disparity if what == "disparity" else 1 / disparity
    down, up = ENDS[what]
    return -down * float(values.min()), up * float(values.max())


def figure(
    image: UInt8[Tensor, "3 h w"],
    disparity: Float[Tensor, "h w"],
    valid: Bool[Tensor, "h w"],
    camera: Camera,
    *,
    title: str,
    down: tuple[float, float, float] = (0.0, 1.0, 0.0),
    caption: str = CAPTION,
) -> Html:
    """A cloud of points with a slider for a wrong shift.

    Args:
        image: the colours.
        disparity: the true one, in 1/m.
        valid: pixels that become points; those of no disparity, the sky, never do.
        camera: of images of this size.
        title: what is seen.
        down: where down is, in the axes of the camera (right, down, ahead): the cloud is shown
            upright.
        caption: below the figure.

    Raises:
        ConfigError: several sizes, a disparity that is not finite, too few or too many points.
    """
    size = tuple(disparity.shape)
    shell.check(title, "image", image, (3, *size))
    shell.check(title, "camera", torch.zeros(camera.size), size)
    counts = valid & torch.isfinite(disparity) & (disparity > 0)
    if not LEAST <= int(counts.sum()) <= MOST:
        raise ConfigError(f"{title}: {int(counts.sum())} points; give {LEAST} to {MOST}")
    kept = disparity[counts].float()
    rays = torch.einsum("ij,jn->in", _upright(down), camera.rays()[:, counts])
    colours = image[:, counts].T.contiguous()
    points = (rays / kept.double()).numpy()
    eye = Eye.on(points)

    _, _, error = shifted(kept, 0.0)
    shown = shell.numbers(
        [
            Number(key="error", label="AbsRel after the best scale", value=number(error, DIGITS)),
            Number(key="shift", label="shift", value=f"{number(0, DIGITS)} 1/m"),
        ]
    )
    sides = np.full(points.shape[1], POINT)
    still = turning.still(points, colours, sides, eye, VIEWS["first"])
    picture = shell.image(shell.address(still, "PNG"), f"{title}: cloud of points")
    return shell.frame(
        "cloud",
        title,
        payload={
            "disparity": shell.stored(kept, "f4"),
            "rays": shell.stored(rays, "f4"),
            "colours": shell.stored(colours, "u1"),
            "eye": eye.payload(),
            "point": POINT,
            "turning": turning.payload(),
            "views": VIEWS,
            "ends": {what: ends(kept, what) for what in WORDS},
            "steps": STEPS,
            "digits": DIGITS,
        },
        live=turning.stage()
        + shell.controls(
            shell.slider(
                "shift",
                "wrong shift",
                low=-STEPS,
                high=STEPS,
                value=0,
                shown=f"{number(0, DIGITS)} 1/m",
            ),
            shell.choice("what", "of", WORDS, chosen="disparity"),
            shell.tick("truth", "true cloud in grey", on=True),
            turning.buttons(),
        )
        + shown,
        still=shell.stage(picture) + shown,
        caption=caption,
        tools=("turning",),
    )


def _upright(down: tuple[float, float, float]) -> Float[Tensor, "3 3"]:
    """From the axes of the camera to level ones: right, down and ahead."""
    y = torch.tensor(down, dtype=torch.float64)
    y = y / y.norm()
    ahead = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    z = ahead - (ahead @ y) * y
    z = z / z.norm()
    return torch.stack([torch.linalg.cross(y, z), y, z])
