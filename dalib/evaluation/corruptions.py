"""Images made worse on purpose: noise, blur, fog, dark and JPEG, each at five strengths.

The idea, a fixed list of corruptions at five strengths applied to test images alone, is
ImageNet-C's (Hendrycks and Dietterich 2019); the laws and values are our own, chosen on the tuning
domains. Only noise is random: its numbers follow from corruption, strength, domain and index of the
image, and from nothing else, so that every network sees the same bits.
"""

import io
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from PIL import Image
from torch import Tensor

from dalib.config import check_names
from dalib.data.perturb import gaussian_blur
from dalib.errors import ConfigError

STRENGTHS: dict[str, tuple[float, ...]] = {
    # standard deviation per pixel and channel, of the range 0..1
    "noise": (0.02, 0.04, 0.07, 0.11, 0.16),
    "blur": (0.6, 1.0, 1.5, 2.2, 3.2),  # sigma of the Gaussian, in pixels of an image of 96 rows
    # extinction: optical thickness of the air up to the image's median depth
    "fog": (0.5, 1.0, 2.0, 3.0, 4.5),
    "dark": (1.0, 2.5, 4.0, 5.5, 6.5),  # stops of underexposure: each halves the light
    "jpeg": (50, 30, 18, 11, 7),  # Pillow's quality; chroma at half resolution
}
"""Corruption -> its value at strengths 1 to 5."""
ROWS = 96  # of the image that the blur's pixels are counted in
FOG = 0.85  # grey of the fog, of the range 0..1 of stored values


def corrupt(
    images: Shaped[Tensor, "b 3 h w"],
    kind: str,
    strength: int,
    *,
    domain: str = "",
    indices: Sequence[int] | None = None,
    disparity: Float[Tensor, "b h w"] | None = None,
) -> Shaped[Tensor, "b 3 h w"]:
    """Corrupt a batch of RGB images.

    Args:
        images: uint8, or float in 0..1; the result is of the same kind, and JPEG goes through 8
            bits in either case.
        kind: one of `STRENGTHS`.
        strength: 1 to 5.
        domain, indices: which images these are, for the numbers of the noise; the first ones by
            default.
        disparity: the true one, for fog alone: in 1/m or in any other unit, 0 for the sky.

    Raises:
        ConfigError: an unknown corruption or strength.
        ValueError: fog without a disparity of the images' size, or one that is negative or not
            finite.
    """
    check_names([kind], STRENGTHS, what="corruption")
    if strength not in range(1, 6):
        raise ConfigError(f"strength {strength!r} of {kind} is not one of 1 to 5")
    indices = range(len(images)) if indices is None else indices
    pixels = images.float() / 255 if images.dtype == torch.uint8 else images
    value = STRENGTHS[kind][strength - 1]
    if kind == "fog":
        pixels = fog(pixels, value, disparity)
    elif kind == "noise":
        pixels = (
            pixels + value * _normal(pixels.shape, strength, domain, indices).to(pixels)
        ).clamp(0, 1)
    else:
        pixels = PLAIN[kind](pixels, value)
    return to_uint8(pixels) if images.dtype == torch.uint8 else pixels


def to_uint8(pixels: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b 3 h w"]:
    """0..1 to the nearest of 0..255."""
    return (255 * pixels).round().clamp(0, 255).to(torch.uint8)


def to_light(pixels: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Stored values 0..1 to linear light 0..1 (sRGB, IEC 61966-2-1): fog and exposure act on
    light."""
    return torch.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)


def from_light(light: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """The inverse of `to_light`."""
    return torch.where(
        light <= 0.0031308, 12.92 * light, 1.055 * light.clamp_min(1e-9) ** (1 / 2.4) - 0.055
    )


def transmission(
    disparity: Float[Tensor, "b h w"], thickness: float | int
) -> Float[Tensor, "b h w"]:
    """Share of a surface's light that comes through the fog: exp(-thickness * depth / median depth
    of the image), 0 for the sky.

    Extinction per unit of depth is the same everywhere in an image (Koschmieder 1924) and set so
    that the median depth has the given optical thickness. The unit of disparity therefore cancels,
    and a table top fogs as a street does: in metres the air of the one is far thicker. Even air is
    a cue as well: where it is thin, its grey says how far things are.
    """
    seen = disparity > 0
    depth = torch.where(seen, 1 / disparity.where(seen, 1).double(), torch.nan)
    median = depth.flatten(1).nanmedian(1).values[:, None, None]  # (b, 1, 1); NaN where all is sky
    return torch.where(seen, torch.exp(-thickness * depth / median), 0).to(disparity)


def fog(
    pixels: Float[Tensor, "b 3 h w"],
    thickness: float | int,
    disparity: Float[Tensor, "b h w"] | None,
) -> Float[Tensor, "b 3 h w"]:
    """Each surface's light, weakened by the air in front of it, and the fog's own grey for what is
    lost (see `transmission`)."""
    if disparity is None or disparity.shape != pixels[:, 0].shape:
        shape = None if disparity is None else tuple(disparity.shape)
        raise ValueError(
            f"fog needs the disparity of every pixel: {shape} for images {tuple(pixels.shape)}"
        )
    if not (torch.isfinite(disparity) & (disparity >= 0)).all():
        raise ValueError("fog: a disparity is negative or not finite")
    through = transmission(disparity, thickness)[:, None]
    grey = to_light(torch.tensor(FOG, dtype=pixels.dtype))
    return from_light(through * to_light(pixels) + (1 - through) * grey)


def blur(pixels: Float[Tensor, "b 3 h w"], sigma: float | int) -> Float[Tensor, "b 3 h w"]:
    """Gaussian blur; sigma grows with the image, so that it removes the same share of it at any
    size."""
    return gaussian_blur(pixels, torch.full((len(pixels),), sigma * pixels.shape[-2] / ROWS)).clamp(
        0, 1
    )


def dark(pixels: Float[Tensor, "b 3 h w"], stops: float | int) -> Float[Tensor, "b 3 h w"]:
    """Underexposure: linear light divided by 2^stops, without the noise that would come with it.
    Eight bits keep few steps."""
    return from_light(to_light(pixels) / 2**stops)


def jpeg(pixels: Float[Tensor, "b 3 h w"], quality: int) -> Float[Tensor, "b 3 h w"]:
    """Through a JPEG file in memory."""
    decoded = []
    for image in to_uint8(pixels):
        file = io.BytesIO()
        Image.fromarray(image.movedim(0, -1).cpu().numpy()).save(
            file, "JPEG", quality=quality, subsampling="4:2:0"
        )
        decoded.append(torch.from_numpy(np.array(Image.open(file))).movedim(-1, 0))
    return (torch.stack(decoded).to(pixels) / 255) if decoded else pixels


PLAIN: dict[str, Callable[[Tensor, float], Tensor]] = {"blur": blur, "dark": dark, "jpeg": jpeg}


def _normal(
    shape: Sequence[int], strength: int, domain: str, indices: Sequence[int]
) -> Float[Tensor, "b 3 h w"]:
    """Standard normal numbers, each image's from a generator of its own."""
    words = [zlib.crc32(word.encode()) for word in ("noise", domain)]
    streams = [np.random.default_rng([*words, strength, int(i)]) for i in indices]
    if len(streams) != shape[0]:
        raise ValueError(f"{len(streams)} indices for {shape[0]} images")
    drawn = [rng.standard_normal(tuple(shape[1:]), dtype=np.float32) for rng in streams]
    return torch.from_numpy(np.stack(drawn)) if drawn else torch.empty(*shape)
