"""Strong perturbation of unlabelled images: colour distortion, Gaussian blur, CutMix.

The paper names the three and gives no strengths. The author points to UniMatch for CutMix
(Depth-Anything#240), whose values are used here for all three. Every image has its own numbers,
drawn from a generator of its own key, so that they do not depend on the batch, the process or the
worker that the image meets.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dalib.errors import ConfigError

JITTER = {"p": 0.8, "brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.25}
GREY_P = 0.2
BLUR = {"p": 0.5, "sigma": (0.1, 2.0)}  # pixels
CUTMIX = {"p": 0.5, "area": (0.02, 0.4), "aspect": (0.3, 1 / 0.3)}

_LUMA = torch.tensor([0.299, 0.587, 0.114])
_TO_YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
)


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """What happens to each image of a batch; fields are None for what is switched off."""

    colour: Float[Tensor, "b 3 6"] | None = None
    """RGB out = colour @ (RGB in, mean RGB of the image)."""
    sigma: Float[Tensor, " b"] | None = None
    """Blur in pixels, 0 for none."""
    box: Int[Tensor, "b 4"] | None = None
    """Top, left, bottom, right of the CutMix rectangle; empty for none."""


def draw(
    keys: Sequence[Sequence[int]],
    kinds: Collection[str],
    *,
    height: int,
    width: int,
    strength: float = 1.0,
) -> Perturbation:
    """Draw one perturbation per key.

    Args:
        keys: a sequence of integers per image, such as (seed, stream, position) with a stream of
            `dalib.data.streams`; the same key gives the same numbers.
        kinds: any of "colour", "blur", "cutmix". Switching one off leaves the numbers of the others
            unchanged.
        height, width: of the images, in pixels.
        strength: multiplies the jitter ranges and the blur.
    """
    rng = [_generators(key) for key in keys]
    colour = sigma = box = None
    if "colour" in kinds:
        colour = torch.stack([_colour(r.colour, strength) for r in rng])
    if "blur" in kinds:
        sigma = torch.tensor([_sigma(r.blur, strength) for r in rng])
    if "cutmix" in kinds:
        box = torch.tensor([_box(r.cutmix, height, width) for r in rng])
    return Perturbation(colour=colour, sigma=sigma, box=box)


class _Generators(NamedTuple):
    """One for each kind, so that none moves the others' numbers."""

    colour: np.random.Generator
    blur: np.random.Generator
    cutmix: np.random.Generator


def _generators(key: Sequence[int]) -> _Generators:
    seeds = np.random.SeedSequence(list(key)).spawn(len(_Generators._fields))
    return _Generators(*(np.random.Generator(np.random.PCG64(s)) for s in seeds))


def _colour(rng: np.random.Generator, strength: float) -> Tensor:
    """Brightness, contrast, saturation and hue in random order, then perhaps grey, as one linear
    map (3, 6) of (RGB, mean RGB)."""
    pixel = torch.eye(3)
    mean = torch.zeros(3, 3)

    # what is drawn, in this order
    jitter = rng.random() < JITTER["p"]
    grey = rng.random() < GREY_P
    brightness, contrast, saturation = (
        1 + strength * JITTER[k] * rng.uniform(-1, 1)
        for k in ("brightness", "contrast", "saturation")
    )
    angle = 2 * math.pi * strength * JITTER["hue"] * rng.uniform(-1, 1)

    # each step: a map of RGB, and its pull towards the image's mean luma
    turn = torch.tensor(
        [[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]]
    )
    steps = [
        (brightness * torch.eye(3), 0.0),
        (contrast * torch.eye(3), 1 - contrast),
        (saturation * torch.eye(3) + (1 - saturation) * _LUMA.expand(3, 3), 0.0),
        (torch.linalg.solve(_TO_YIQ, turn @ _TO_YIQ), 0.0),  # hue turns the chroma plane
    ]
    for k in rng.permutation(4) if jitter else []:
        linear, pull = steps[k]
        mean = linear @ mean + pull * _LUMA.expand(3, 3) @ (pixel + mean)
        pixel = linear @ pixel
    colour = torch.cat([pixel, mean], 1)
    return _LUMA.expand(3, 3) @ colour if grey else colour


def _sigma(rng: np.random.Generator, strength: float) -> float:
    blurred = rng.random() < BLUR["p"]
    sigma = rng.uniform(*BLUR["sigma"])
    return strength * sigma if blurred else 0.0


def _box(rng: np.random.Generator, height: int, width: int) -> list[int]:
    """UniMatch's law: area and aspect uniform, redrawn until the rectangle fits."""
    if rng.random() >= CUTMIX["p"]:
        return [0, 0, 0, 0]
    while True:
        area = rng.uniform(*CUTMIX["area"]) * height * width
        aspect = rng.uniform(*CUTMIX["aspect"])
        rows = max(1, round(math.sqrt(area * aspect)))
        columns = max(1, round(math.sqrt(area / aspect)))
        if rows <= height and columns <= width:
            top = int(rng.integers(0, height - rows + 1))
            left = int(rng.integers(0, width - columns + 1))
            return [top, left, top + rows, left + columns]


def partner(count: int) -> Int[Tensor, " b"]:
    """Who is mixed with whom: neighbours of the (shuffled) batch swap rectangles, 0 with 1, 2 with
    3.

    Pairs never cross a process, so that the batch can be split over any number of them. Raises
    `ConfigError` for an odd count.
    """
    if count % 2:
        raise ConfigError(
            f"CutMix pairs images: a process needs an even number of unlabelled images, not {count}"
        )
    return torch.arange(count).view(-1, 2).flip(1).flatten()


def inside(box: Int[Tensor, "b 4"], height: int, width: int) -> Bool[Tensor, "b h w"]:
    """The boxes as masks."""
    top, left, bottom, right = (box[:, i, None, None] for i in range(4))
    rows = torch.arange(height, device=box.device)[None, :, None]
    columns = torch.arange(width, device=box.device)[None, None]
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def apply(
    images: Float[Tensor, "b 3 h w"], perturbation: Perturbation
) -> tuple[Float[Tensor, "b 3 h w"], Bool[Tensor, "b h w"] | None]:
    """Images in 0..1 perturbed, and the inside of each CutMix box (None where CutMix is off).

    Colour and blur come first, image by image, then CutMix between the distorted images (eq. 5).
    """
    return cutmix(distort(images, perturbation), perturbation)


def distort(
    images: Float[Tensor, "b 3 h w"], perturbation: Perturbation
) -> Float[Tensor, "b 3 h w"]:
    """Colour distortion and blur alone."""
    if perturbation.colour is not None:
        images = colour_distortion(images, perturbation.colour)
    if perturbation.sigma is not None:
        images = gaussian_blur(images, perturbation.sigma)
    return images


def cutmix(
    images: Float[Tensor, "b 3 h w"], perturbation: Perturbation
) -> tuple[Float[Tensor, "b 3 h w"], Bool[Tensor, "b h w"] | None]:
    """CutMix alone (eq. 5): inside the box stands the partner (see `partner`), and the boxes as
    masks."""
    if perturbation.box is None:
        return images, None
    height, width = images.shape[-2:]
    boxes = inside(perturbation.box.to(images.device), height, width)
    partners = images[partner(len(images))]
    return torch.where(boxes[:, None], partners, images), boxes


def colour_distortion(
    images: Float[Tensor, "b 3 h w"], colour: Float[Tensor, "b 3 6"]
) -> Float[Tensor, "b 3 h w"]:
    """Apply each image's map of RGB (see `Perturbation`) and clamp to 0..1, once, at the end."""
    colour = colour.to(images)
    flat = images.flatten(2)  # (b, 3, h * w)
    offset = colour[:, :, 3:] @ flat.mean(2, keepdim=True)
    return torch.baddbmm(offset, colour[:, :, :3], flat).clamp_(0, 1).view_as(images)


def gaussian_blur(
    images: Float[Tensor, "b 3 h w"], sigma: Float[Tensor, " b"]
) -> Float[Tensor, "b 3 h w"]:
    """Blur each image with its own sigma (pixels); reflected borders. Images with sigma 0 come back
    as they are."""
    chosen = (sigma > 0).nonzero().flatten()
    if len(chosen) == 0:
        return images
    chosen = chosen.to(images.device)
    widest = max(1, math.ceil(3 * float(sigma.max())))
    radius = min(widest, min(images.shape[-2:]) - 1)
    x = torch.arange(-radius, radius + 1, device=images.device)
    sigma = sigma.to(images)[chosen, None]  # (n, 1)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    # a radius of its own for each image
    kernel = torch.where(x.abs() <= torch.ceil(3 * sigma).clamp_min(1), kernel, 0)
    kernel = kernel / kernel.sum(1, keepdim=True)
    kernel = kernel.repeat_interleave(3, 0)[:, None]  # (3 * n, 1, k)
    n = len(chosen)
    height, width = images.shape[-2:]
    flat = F.pad(images[chosen].reshape(1, 3 * n, height, width), (radius,) * 4, mode="reflect")
    flat = F.conv2d(flat, kernel[..., None], groups=3 * n)
    flat = F.conv2d(flat, kernel[..., None, :], groups=3 * n)
    return images.index_copy(0, chosen, flat.view(n, 3, height, width))
