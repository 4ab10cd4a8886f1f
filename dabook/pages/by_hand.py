"""The page of figures to move: scenes, maps and features as its figures take them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dabook.runs import networks
from dabook.show import divider
from dabook.show.html import Html
from dabook.show.touch import cloud
from dalib.config import RunConfig
from dalib.data import perturb
from dalib.data.scenes import Scenes, describe, render
from dalib.data.schema import Sample
from dalib.data.sources import Motorcycle
from dalib.geometry import Camera
from dalib.losses import median_scale
from dalib.models.sizes import resize_disparity
from dalib.training.train import frozen_encoder

FIRST = 1000
"""The first scene that is shown of a split: no table scores so many of one."""
SMALL = (48, 64)
"""Height and width of the maps in which a figure computes."""
LARGE = (240, 320)
"""Of the images beside them."""
DRAW = (4, 0, 19)
"""Key of the draw whose strength is varied: one with colour distortion and blur, and not grey."""


def scene(split: str, index: int, size: tuple[int, int] = LARGE) -> Sample:
    """A drawn scene that no table scores, at any size."""
    height, width = size
    source = Scenes(split=split, count=FIRST + index + 1, height=height, width=width)
    return source[FIRST + index]


def camera(
    split: str, index: int, size: tuple[int, int] = LARGE
) -> tuple[Camera, tuple[float, float, float]]:
    """The camera that sees `scene`, and where down is for it: to the right, down and ahead."""
    drawn, _, _ = describe(split, FIRST + index)
    right, up, ahead = (float(x) for x in drawn.gaze[1])  # of the world's vertical
    return Camera.from_focal(size[0] / (2 * drawn.tangent), size), (-right, up, -ahead)


def small(maps: Sequence[Float[Tensor, "_ _"]]) -> Float[Tensor, "b h w"]:
    """Maps at the size in which a figure computes."""
    return torch.cat([resize_disparity(d[None].float(), SMALL) for d in maps])


def brought(prediction: Float[Tensor, "h w"], label: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """A prediction with the median and the scale (eq. 3) of a label."""
    everywhere = torch.ones_like(label, dtype=torch.bool)[None]
    (t, s), (wanted_t, wanted_s) = (median_scale(d[None], everywhere) for d in (prediction, label))
    return ((prediction - t) / s * wanted_s + wanted_t)[0]


def many(domains: Sequence[str], each: int, *, height: int, width: int) -> UInt8[Tensor, "b 3 h w"]:
    """Images of so many scenes of each domain, none of which a table scores."""
    indices = range(FIRST, FIRST + each)
    parts = [render(name, indices, height=height, width=width)["image"] for name in domains]
    return torch.cat(parts)


@torch.inference_mode()
def frozen_features(image: UInt8[Tensor, "3 H W"], config: RunConfig) -> Float[Tensor, "c h w"]:
    """The deepest features of the frozen pre-trained encoder of a run."""
    frozen = frozen_encoder(config).eval()
    return frozen(frozen.normalise(image[None].float() / 255))[-1][0].clone()


def perturbed(
    image: UInt8[Tensor, "3 H W"], strengths: Sequence[float]
) -> list[UInt8[Tensor, "3 H W"]]:
    """An image under one draw of colour distortion and blur at several strengths."""
    height, width = image.shape[1:]
    found = []
    for strength in strengths:
        drawn = perturb.draw(
            [DRAW], ("colour", "blur"), height=height, width=width, strength=strength
        )
        moved = perturb.distort(image[None].float() / 255, drawn)[0]
        found.append((255 * moved).round().to(torch.uint8))
    return found


def seen(config: RunConfig, images: Sequence[UInt8[Tensor, "3 _ _"]]) -> list[Tensor]:
    """What the network of a run sees in images, at their own sizes."""
    return networks.predict(config, [{"image": image} for image in images])


EVERY = 10
"""Of the rows and columns of the front's cloud, out of those of its photograph."""
FRONT = (
    "“Motorcycle” of Middlebury 2014, out of scikit-image. Drag the divider between the photograph and "
    "its depth, near in bright colours. Turn the cloud by pointer or arrow keys, and give its disparity "
    "a wrong shift: the room changes its shape."
)


def front() -> Html:
    """A photograph, its measured depth under a divider, and both as a cloud that turns."""
    (sample,) = Motorcycle()
    image, disparity, valid = (sample[key] for key in ("image", "disparity", "valid"))
    views = [
        divider.View(label="photograph", picture=divider.smaller(image)),
        divider.View(
            label="measured depth",
            picture=divider.smaller(divider.coloured(disparity, valid)),
        ),
    ]
    pair = divider.together([divider.show("Motorcycle", views)])
    few = tuple(x[..., ::EVERY, ::EVERY].contiguous() for x in (image, disparity, valid))
    camera = Camera.from_focal(Motorcycle.FOCAL_PX / EVERY, tuple(few[1].shape))
    turning = cloud.figure(*few, camera, title="The same as a cloud of points", caption=FRONT)
    return Html(f'<div class="dalib-front"><div>{pair.text}</div><div>{turning.text}</div></div>')
