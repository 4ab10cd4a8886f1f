"""An image and its relative disparity as a cloud of coloured points that turns in the page: no
kernel, no network.

Relative disparity d has an unknown scale and shift: depth is 1 / (a d + b), and nothing in the
image tells a and b. The cloud has to guess. It takes the nearest thing (98th percentile of d) to
lie at distance 1 and the farthest (2nd percentile) `ratio` times farther, and lets the reader
choose the ratio. It also guesses the lens: `FIELD` degrees across the longer side.
"""

import itertools
import math

import numpy as np
import plotly.graph_objects as go
import torch
from IPython.display import HTML
from jaxtyping import Float, Integer, UInt8
from PIL import Image
from torch import Tensor

from dabook.show.pictures import unit
from dalib.data.photos import PhotoFolder
from dalib.data.sources import Motorcycle, SkimagePhotos
from dalib.geometry import Camera
from dalib.models.sizes import resize_disparity, resize_images

RATIOS = (2, 4, 8, 16)
SHOWN = 4  # the ratio that a page opens with
FIELD = 55.0  # degrees; a phone's main camera has 60 to 70, a portrait lens 30
POINTS = 18_000
STEP = 1 / 2000  # of a coordinate, in distances of the nearest thing: 16 bits reach to 16.4


def samples(photos: str = "", *, most: int = 6) -> list[dict]:
    """The first photographs of a folder; without one, Motorcycle and scikit-image's."""
    if photos:
        return list(itertools.islice(PhotoFolder(photos), most))
    return [*Motorcycle(), *SkimagePhotos()][:most]


def depth(disparity: Float[Tensor, "h w"], ratio: float | int) -> Float[Tensor, "h w"]:
    """1 where the map is nearest, `ratio` where it is farthest, and 1 / (a d + b) between."""
    return 1 / (1 / ratio + (1 - 1 / ratio) * unit(disparity))


def coordinates(depth: Float[Tensor, "h w"]) -> Integer[np.ndarray, "3 h*w"]:
    """Right, forward and up of each pixel seen by a pinhole camera, in units of `STEP`, as 16-bit
    integers that keep a page light."""
    right, down, forward = Camera.from_fov(FIELD, tuple(depth.shape)).rays() * depth
    # (3, h, w) -> (3, h*w)
    return (torch.stack([right, forward, -down]).flatten(1) / STEP).round().numpy().astype(np.int16)


def cloud(
    image: UInt8[Tensor, "3 H W"], disparity: Float[Tensor, "H W"], *, points: int = POINTS
) -> go.Figure:
    """The cloud with a slider for the guessed ratio of the farthest to the nearest distance.

    Args:
        image: the photograph.
        disparity: relative, larger is nearer, at any size of the same aspect.
        points: at most so many.
    """
    # the image, small enough
    height, width = image.shape[-2:]
    shrink = min(1.0, math.sqrt(points / (height * width)))
    size = max(1, int(height * shrink)), max(1, int(width * shrink))
    pixels = (255 * resize_images(image[None], size)[0]).round().to(torch.uint8)
    # one byte a point instead of seven
    picture = Image.fromarray(pixels.movedim(0, -1).numpy()).quantize(256)
    table = np.asarray(picture.getpalette("RGB")).reshape(-1, 3)
    table = np.concatenate([table, np.zeros((256 - len(table), 3), table.dtype)])
    colours = {
        "color": np.asarray(picture).flatten(),
        "colorscale": [
            [i / 255, f"rgb({r},{g},{b})"] for i, (r, g, b) in enumerate(table.tolist())
        ],
        "cmin": 0,
        "cmax": 255,
    }

    # a trace for each guess, one of them visible
    small = resize_disparity(disparity[None].float(), size)[0]
    fig = go.Figure()
    for ratio in RATIOS:
        x, y, z = coordinates(depth(small, ratio))
        marker = {"size": 2.8, "opacity": 1, **colours}
        fig.add_scatter3d(
            x=x, y=y, z=z, mode="markers", marker=marker, hoverinfo="skip", visible=ratio == SHOWN
        )

    # the slider that changes it
    steps = [
        {
            "label": str(ratio),
            "method": "restyle",
            "args": [{"visible": [r == ratio for r in RATIOS]}],
        }
        for ratio in RATIOS
    ]

    # the scene without axes
    axis = {"visible": False}
    clear = "rgba(0,0,0,0)"  # the page's own ground, light or dark
    fig.update_layout(
        height=440,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        paper_bgcolor=clear,
        showlegend=False,
        scene={
            "xaxis": axis,
            "yaxis": axis,
            "zaxis": axis,
            "aspectmode": "data",
            "bgcolor": clear,
            "camera": {
                "eye": {"x": 0.22, "y": -1.3, "z": 0.05},
                "center": {"x": 0, "y": 0, "z": -0.13},
            },
        },
        sliders=[
            {
                "active": RATIOS.index(SHOWN),
                "steps": steps,
                "currentvalue": {"prefix": "guess: farthest / nearest = "},
                "pad": {"l": 16, "r": 16, "t": 8, "b": 12},
                "font": {"size": 12, "color": "#7d8a8f"},
            }
        ],
    )
    return fig


def show(image: UInt8[Tensor, "3 H W"], disparity: Float[Tensor, "H W"]) -> HTML:
    """`cloud` as a piece of a page. Turn it with a drag or a finger; the page brings plotly.js
    (`dabook/site/sphinx_ext.py`)."""
    config = {"responsive": True, "displayModeBar": False, "scrollZoom": False}
    fragment = cloud(image, disparity).to_html(
        full_html=False, include_plotlyjs=False, config=config
    )
    return HTML(f'<div class="cloud">{fragment}</div>')
