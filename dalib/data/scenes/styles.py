"""How a scene looks: light and air before rendering (`prepare`), camera and medium after it
(`develop`). The geometry never changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from dalib.data.scenes.primitives import Lighting

Image = Float[Tensor, "3 h w"]


def _scaled(colour: tuple, *factors: float) -> tuple:
    factors = factors * 3 if len(factors) == 1 else factors
    return tuple(c * f for c, f in zip(colour, factors, strict=True))


def _grey(colour: tuple, amount: float) -> tuple:
    mean = sum(colour) / 3
    return tuple(c + amount * (mean - c) for c in colour)


@dataclass(frozen=True)
class Look:
    """What the camera does: exposure (mean brightness), contrast, saturation, tint, sensor noise,
    blur in pixels of 96 rows."""

    level: tuple[float, float] = (0.4, 0.54)
    contrast: tuple[float, float] = (1.0, 1.35)
    saturation: tuple[float, float] = (0.5, 1.15)
    tint: float = 0.07
    noise: tuple[float, float] = (0.0, 0.015)
    blur: tuple[float, float] = (0.0, 0.5)
    vignette: tuple[float, float] = (0.0, 0.25)
    fade: tuple[float, float] = (0.0, 0.03)


def _plain(light: Lighting, rng: Random, inside: bool) -> None:
    pass


def _overcast(light: Lighting, rng: Random, inside: bool) -> None:
    light.colour = _scaled(_grey(light.colour, 0.8), 0.25)
    light.shadow = 0.3
    light.above = _scaled(_grey(light.above, 0.6), 1.5)
    light.below = _scaled(light.below, 1.2)
    grey = rng.uniform(0.75, 1.2)
    light.horizon, light.zenith, light.clouds = (
        (grey, grey, grey * 1.03),
        (grey * 0.85, grey * 0.87, grey * 0.92),
        0.5,
    )
    light.fog = light.fog + rng.uniform(0.0, 0.006) * (not inside)


def _warm(light: Lighting, rng: Random, inside: bool) -> None:
    x, _, z, w = light.main
    if not w:
        flat = math.hypot(x, z) or 1.0
        low = math.radians(rng.uniform(6, 18))
        light.main = (x / flat * math.cos(low), math.sin(low), z / flat * math.cos(low), 0.0)
    light.colour = _scaled(light.colour, 1.5, 0.85, 0.4)
    light.above = _scaled(light.above, 0.8, 0.55, 0.45)
    light.below = _scaled(light.below, 0.9, 0.6, 0.4)
    light.horizon, light.zenith = (1.4, 0.9, 0.5), (0.5, 0.48, 0.75)


def _night(light: Lighting, rng: Random, inside: bool) -> None:
    light.colour = _scaled(light.colour, *((0.5, 0.42, 0.28) if inside else (0.1, 0.12, 0.2)))
    light.above = _scaled(light.above, 0.16, 0.18, 0.28)
    light.below = _scaled(light.below, 0.14, 0.13, 0.15)
    light.horizon, light.zenith, light.clouds, light.glow = (
        (0.1, 0.09, 0.13),
        (0.015, 0.02, 0.05),
        0.25 * light.clouds,
        1.6,
    )
    light.fog = 0.0
    if inside:
        light.lamps = light.lamps[:1]
    else:
        light.lamps.append((0.0, 0.9, 0.6, 9.0, (0.9, 0.85, 0.7)))
        for k in range(3):
            light.lamps.append(
                (
                    rng.choice((-4.0, 4.0)),
                    6.0,
                    7.0 + 13 * k + rng.uniform(-3, 3),
                    5.0,
                    (1.0, 0.72, 0.38),
                )
            )


def _fog(light: Lighting, rng: Random, inside: bool) -> None:
    _overcast(light, rng, inside)
    light.fog = rng.uniform(0.03, 0.08) if inside else rng.uniform(0.015, 0.05)
    light.horizon = light.zenith = (0.72, 0.74, 0.77)


@dataclass(frozen=True)
class Style:
    prepare: Callable[[Lighting, Random, bool], None] = _plain
    look: Look = Look()
    ink: float = 0.0  # strength of drawn outlines


STYLES: dict[str, Style] = {
    "plain": Style(),
    "overcast": Style(_overcast, Look(saturation=(0.4, 0.9), contrast=(0.75, 1.0))),
    "warm": Style(_warm, Look(level=(0.32, 0.46), saturation=(0.9, 1.3))),
    "night": Style(_night, Look(level=(0.26, 0.38), noise=(0.01, 0.04), saturation=(0.6, 1.1))),
    "fog": Style(_fog, Look(level=(0.42, 0.6), saturation=(0.3, 0.8), contrast=(0.8, 1.0))),
    "drawn": Style(
        _plain,
        Look(level=(0.5, 0.65), saturation=(0.3, 1.3), noise=(0.0, 0.02), blur=(0.0, 0.2)),
        ink=1.0,
    ),
    "noisy": Style(
        _plain, Look(level=(0.22, 0.34), noise=(0.05, 0.1), blur=(0.2, 0.8), contrast=(0.8, 1.1))
    ),
    "faded": Style(
        _plain,
        Look(
            saturation=(0.0, 0.35),
            fade=(0.1, 0.25),
            tint=0.15,
            vignette=(0.2, 0.6),
            contrast=(0.6, 0.9),
            noise=(0.01, 0.04),
        ),
    ),
    "vivid": Style(_plain, Look(saturation=(1.9, 2.8), contrast=(1.3, 1.7), tint=0.25)),
}


def _blurred(image: Float[Tensor, "c h w"], sigma: float) -> Float[Tensor, "c h w"]:
    """Gaussian, by one separable pass of a kernel with 2 radius + 1 taps."""
    radius = max(1, math.ceil(2 * sigma))
    taps = [math.exp(-0.5 * (k / max(sigma, 1e-3)) ** 2) for k in range(-radius, radius + 1)]
    total = sum(taps)
    for dim, pad in ((2, (radius, radius, 0, 0)), (1, (0, 0, radius, radius))):
        wide = F.pad(image[None], pad, mode="replicate")[0]
        size = image.shape[dim]
        image = sum(wide.narrow(dim, k, size) * (tap / total) for k, tap in enumerate(taps))
    return image


def soften_edges(image: Image, owner: Tensor) -> Image:
    """Anti-aliasing for one sample per pixel: pixels beside another primitive's take on a little of
    their neighbours."""
    edge = torch.zeros_like(owner, dtype=torch.bool)
    across, down = owner[:, 1:] != owner[:, :-1], owner[1:] != owner[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return torch.where(edge, _blurred(image, 0.6), image)


def _ink(disparity: Float[Tensor, "h w"], owner: Tensor) -> Float[Tensor, "h w"]:
    """1 on outlines of things, less where they nearly touch."""
    line = torch.zeros_like(disparity)
    for dim in (0, 1):
        a, b = (owner.narrow(dim, k, owner.shape[dim] - 1) for k in (0, 1))
        da, db = (disparity.narrow(dim, k, owner.shape[dim] - 1) for k in (0, 1))
        jump = ((da - db).abs() / (torch.maximum(da, db) + 1e-3) * 6).clamp(0.35, 1.0) * (a != b)
        line.narrow(dim, 1, owner.shape[dim] - 1).copy_(
            torch.maximum(line.narrow(dim, 1, owner.shape[dim] - 1), jump)
        )
    return line


def develop(
    style: Style, radiance: Image, disparity: Float[Tensor, "h w"], owner: Tensor, rng: Random
) -> UInt8[Tensor, "3 h w"]:
    """Linear radiance to an 8-bit photograph or drawing."""
    look, draw = style.look, rng.uniform
    level = draw(*look.level)
    contrast = draw(*look.contrast)
    saturation = draw(*look.saturation)
    tint = [1 + draw(-look.tint, look.tint) for _ in range(3)]
    noise = draw(*look.noise)
    blur = draw(*look.blur)
    vignette = draw(*look.vignette)
    fade = max(draw(*look.fade), 0.0)
    _, height, width = radiance.shape
    seed = rng.getrandbits(62)
    luma = radiance.mean(0)
    gain = 1.15 * level**2 / max(luma.sqrt().mean().item() ** 2, 1e-4)
    image = radiance * (gain * torch.tensor(tint, device=radiance.device)[:, None, None])
    image = (image * (1 + 0.3 * image) / (1 + 0.6 * image)).clamp(0, 1).sqrt()
    grey = image.mean(0)
    image = grey + saturation * (image - grey)
    image = (image - level) * contrast + level
    if style.ink:
        image = 0.5 + 0.5 * image.clamp(0, 1)
        tones = 7 * image.mean(0)
        # flat washes
        image = image * (
            ((tones.floor() + ((tones % 1) * 4 - 1.5).clamp(0, 1)) / 7) / image.mean(0)
        )
        line = _ink(disparity, owner)
        if (pen := height // 320) > 0:
            line = F.max_pool2d(line[None], 1 + 2 * pen, 1, pen)[0]
        image = image * (1 - 0.85 * style.ink * line)
    if vignette > 0.03:
        y, x = (torch.linspace(-1, 1, n, device=image.device) for n in (height, width))
        image = image * (1 - vignette * 0.5 * (y[:, None] ** 2 + x[None] ** 2))
    image = fade + image * (1 - fade)
    if (sigma := blur * math.sqrt(height / 96)) > 0.2:
        image = _blurred(image, sigma)
    if noise > 0.002:
        grain = torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed)).to(
            image.device
        )
        image = image + noise * grain
    return (image.clamp(0, 1) * 255 + 0.5).to(torch.uint8)
