"""A photograph and its relative disparity as a cloud of coloured points that turns.

Relative disparity d has an unknown scale and shift: depth is 1 / (a d + b), and nothing in the
image tells a and b. The cloud has to guess. It takes the nearest thing (98th percentile of d) to
lie at distance 1 and the farthest (2nd percentile) `ratio` times farther, and lets the reader
choose the ratio. It also guesses the lens: `FIELD` degrees across the longer side.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from dabook.show.html import Html, number
from dabook.show.pictures import unit
from dabook.show.touch import shell, turning
from dabook.show.touch.shell import Number
from dabook.show.touch.turning import Eye
from dalib.geometry import Camera
from dalib.models.sizes import resize_disparity, resize_images

RATIOS = (2, 4, 8, 16)
SHOWN = 4  # the ratio that a figure opens with
FIELD = 55.0  # degrees; a phone's main camera has 60 to 70, a portrait lens 30
POINTS = 12_000
DIGITS = 2
STEPS = 65_535
"""Of a share that is stored in 16 bits."""
PIXEL = 1.25
"""Side of the square of a pixel, in distances of two pixels: they overlap, so that a surface that is
seen from its side has no holes."""
ROOM = 1.15
"""Around the cloud, as a factor of its radius."""
VIEWS = {"front": (0.0, 0.0), "side": (60.0, 0.0), "above": (0.0, 60.0), "first": (10.0, 6.0)}
CAPTION = (
    "Each pixel is a point, as far as the network's disparity says under a guess of scale and shift, "
    "which no photograph tells: the slider changes the guess, and every position agrees equally well "
    "with the map. Turn the cloud with the pointer or the arrow keys. The lens is a guess, too."
)


def depth(disparity: Float[Tensor, "h w"], ratio: float | int) -> Float[Tensor, "h w"]:
    """1 where the map is nearest, `ratio` where it is farthest, and 1 / (a d + b) between."""
    return 1 / (1 / ratio + (1 - 1 / ratio) * unit(disparity))


def figure(
    image: UInt8[Tensor, "3 H W"],
    disparity: Float[Tensor, "H W"],
    *,
    title: str = "A photograph as a cloud of points",
    points: int = POINTS,
) -> Html:
    """The cloud with a slider for the guessed ratio of the farthest to the nearest distance.

    Args:
        image: the photograph.
        disparity: relative, larger is nearer, at any size of the same aspect.
        title: what is seen.
        points: at most so many.
    """
    # the image, small enough; colours from a table, one byte a point
    height, width = image.shape[-2:]
    shrink = min(1.0, math.sqrt(points / (height * width)))
    size = max(1, int(height * shrink)), max(1, int(width * shrink))
    pixels = (255 * resize_images(image[None], size)[0]).round().to(torch.uint8)
    places, table = _in_few_colours(pixels)

    # each pixel at each guess
    small = resize_disparity(disparity[None].float(), size)[0]
    near = (STEPS * unit(small)).round()
    camera = Camera.from_fov(FIELD, size)
    rays = camera.rays().flatten(1)
    clouds = {ratio: (rays * depth(small, ratio).flatten()).double().numpy() for ratio in RATIOS}
    eyes = {ratio: _farther(Eye.on(cloud)) for ratio, cloud in clouds.items()}
    middle = size[0] // 2 * size[1] + size[1] // 2
    pixel = PIXEL / camera.fx

    begun = number(float(depth(small, SHOWN).flatten()[middle]), DIGITS)
    shown = shell.numbers(
        [Number(key="middle", label="depth in the middle (nearest: 1)", value=begun)]
    )
    eye = eyes[SHOWN]
    sides = turning.ZOOM * pixel * clouds[SHOWN][2] / (eye.radius * turning.AWAY)
    picture = turning.still(clouds[SHOWN], table[places.long()], sides, eye, VIEWS["first"])
    return shell.frame(
        "relative",
        title,
        payload={
            "near": shell.stored(near.flatten(), "u2"),
            "camera": {"f": camera.fx, "cx": camera.cx, "cy": camera.cy, "size": size},
            "ink": shell.stored(places, "u1"),
            "table": shell.stored(table, "u1"),
            "ratios": RATIOS,
            "eyes": [eyes[ratio].payload() for ratio in RATIOS],
            "middle": middle,
            "pixel": pixel,
            "turning": turning.payload(),
            "views": VIEWS,
            "steps": STEPS,
            "digits": DIGITS,
        },
        live=turning.stage()
        + shell.controls(
            shell.slider(
                "guess",
                "guess: farthest / nearest",
                low=0,
                high=len(RATIOS) - 1,
                value=RATIOS.index(SHOWN),
                shown=str(SHOWN),
            ),
            turning.buttons(),
        )
        + shown,
        still=shell.stage(shell.image(shell.address(picture, "PNG"), f"{title}: cloud of points"))
        + shown,
        caption=CAPTION,
        tools=("turning",),
    )


def _farther(eye: Eye) -> Eye:
    return Eye(middle=eye.middle, radius=ROOM * eye.radius)


def _in_few_colours(
    pixels: UInt8[Tensor, "3 h w"],
) -> tuple[UInt8[Tensor, " h*w"], UInt8[Tensor, "256 3"]]:
    """The place of each pixel in a table of colours, and the table."""
    picture = Image.fromarray(pixels.movedim(0, -1).contiguous().numpy()).quantize(shell.TABLE)
    found = np.asarray(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    table = np.zeros((shell.TABLE, 3), np.uint8)
    table[: len(found)] = found
    return torch.from_numpy(np.array(picture).flatten()), torch.from_numpy(table)
