"""Small figures that answer to the hand (`dabook.show.touch`), with the tensors they are made of."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from dabook.show.html import Html
from dabook.show.touch import (
    affine,
    cloud,
    conventions,
    cutmix,
    features,
    margin,
    relative,
    strength,
)
from dalib.geometry import Camera

HEIGHT, WIDTH = 18, 24
BOX = (4, 6, 12, 18)
MARGIN = 0.8
STRENGTHS = (0, 0.5, 1, 1.5, 2)
DOWN = (0.1, 0.9, 0.3)
QUESTIONS = {
    "fit": ("fit_depth", "median"),
    "cap": ("cap_10",),
    "mean": ("mean_pixels", "median_images"),
}


@dataclass(frozen=True)
class Made:
    """A figure, and what it was made of."""

    html: Html
    of: dict[str, object]


def smooth(seed: int, *shape: int) -> torch.Tensor:
    """Random maps that change slowly, between about 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:-2], 4, 5, generator=generator)
    flat = coarse.reshape(1, -1, 4, 5)
    fine = F.interpolate(flat, shape[-2:], mode="bicubic", align_corners=True)
    noise = 0.05 * torch.rand(shape, generator=generator)
    return fine.reshape(shape) + noise


def picture(seed: int, height: int = 3 * HEIGHT, width: int = 3 * WIDTH) -> torch.Tensor:
    """An image of three channels."""
    return (255 * smooth(seed, 3, height, width).clamp(0, 1)).to(torch.uint8)


def scenes(count: int = 3) -> list[dict]:
    """Scenes with images and true disparity, in metres up to some twenty."""
    return [
        {
            "image": picture(40 + k),
            "disparity": 0.05 + 0.5 * smooth(50 + k, HEIGHT, WIDTH).clamp(0, 1),
            "valid": torch.ones(HEIGHT, WIDTH, dtype=torch.bool),
        }
        for k in range(count)
    ]


def make(kind: str) -> Made:
    """A small figure of a kind."""
    return MAKERS[kind]()


def _affine() -> Made:
    label = smooth(1, HEIGHT, WIDTH)
    prediction = 0.6 * label + 0.4 * smooth(2, HEIGHT, WIDTH) + 0.05
    html = affine.figure(label, prediction, title="A label", image=picture(3))
    return Made(html, {"label": label, "prediction": prediction})


def _cutmix() -> Made:
    teacher = smooth(4, 2, HEIGHT, WIDTH)
    teacher[0] = 3 * teacher[0] + 1
    student = 0.7 * teacher + smooth(5, 2, HEIGHT, WIDTH)
    images = torch.stack([picture(6), picture(7)])
    html = cutmix.figure(images, teacher, student, title="Two images", box=BOX)
    return Made(html, {"teacher": teacher, "student": student})


def _margin() -> Made:
    generator = torch.Generator().manual_seed(8)
    cosines = {
        "loose": 1 - torch.rand(300, generator=generator) ** 2,
        "held": 1 - 0.3 * torch.rand(200, generator=generator) ** 2,
    }
    html = margin.figure(cosines, title="Tokens", margin=MARGIN)
    return Made(html, {"cosines": cosines})


def _features() -> Made:
    found = smooth(9, 12, 6, 8) - 0.5
    html = features.figure(picture(10), found, title="Features", token=(2, 3))
    return Made(html, {"features": found})


def _strength() -> Made:
    clean, noise = smooth(11, HEIGHT, WIDTH), smooth(12, HEIGHT, WIDTH)
    maps = [clean + s * noise for s in STRENGTHS]
    frames = [picture(20 + k) for k in range(len(STRENGTHS))]
    html = strength.figure(frames, maps, STRENGTHS, title="Strength", first=2)
    return Made(html, {"maps": maps})


def _cloud() -> Made:
    disparity = 0.1 + 0.5 * smooth(13, HEIGHT, WIDTH).clamp(0, 1)
    disparity[:3] = 0  # sky
    valid = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    valid[:, 0] = False
    camera = Camera.from_fov(60, (HEIGHT, WIDTH))
    html = cloud.figure(
        picture(14, HEIGHT, WIDTH), disparity, valid, camera, title="A cloud", down=DOWN
    )
    return Made(html, {"disparity": disparity[valid & (disparity > 0)]})


def _relative() -> Made:
    disparity = 2 + 5 * smooth(15, HEIGHT, WIDTH)
    html = relative.figure(picture(16, HEIGHT, WIDTH), disparity, title="A photograph")
    return Made(html, {"disparity": disparity})


def _conventions() -> Made:
    samples = scenes()
    maps = [s["disparity"] + 0.2 * smooth(60 + k, HEIGHT, WIDTH) for k, s in enumerate(samples)]
    html = conventions.figure(maps, samples, title="Conventions", questions=QUESTIONS)
    return Made(html, {"maps": maps, "samples": samples})


MAKERS = {
    "affine": _affine,
    "cutmix": _cutmix,
    "margin": _margin,
    "features": _features,
    "strength": _strength,
    "cloud": _cloud,
    "relative": _relative,
    "conventions": _conventions,
}
