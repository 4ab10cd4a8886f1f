"""Colour profiles (ICC): what a picture's numbers mean, brought to sRGB, which is what encoders
learned from."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image

from dalib.data.metadata import Tell

UNUSABLE = "a colour profile that cannot be used, which was ignored"
BASES = {
    "RGB": "RGB",
    "RGBA": "RGB",
    "P": "RGB",
    "PA": "RGB",
    "1": "L",
    "L": "L",
    "LA": "L",
    "CMYK": "CMYK",
}
"""Mode of a picture -> mode of the colours that its profile speaks of."""
SAME = 2
"""A profile that moves no colour by more than so many of 255 levels is taken for sRGB, of which
many variants are in use."""


def to_srgb(picture: Image.Image, *, tell: Tell) -> Image.Image:
    """A picture of 8 bits in sRGB: the very same where it has no profile or that of sRGB, else
    converted by littleCMS."""
    profile = picture.info.get("icc_profile")
    base = BASES.get(picture.mode)
    if not profile or base is None:
        return picture
    try:
        conversion = _conversion(profile, base)
        if conversion is None:
            return picture
        colours, opacity = _parts(picture, base)
        result = conversion.apply(colours)
    except (
        Exception
    ):  # a profile may hold anything; littleCMS and Pillow raise several kinds of errors
        tell(UNUSABLE)
        return picture
    if opacity is not None:
        result.putalpha(opacity)
    for key in ("icc_profile", "transparency"):
        result.info.pop(key, None)
    return result


def _parts(picture: Image.Image, base: str) -> tuple[Image.Image, Image.Image | None]:
    """The colours alone, and the opacity where there is one."""
    if not picture.has_transparency_data:
        return picture.convert(base), None
    layers = picture.convert("LA" if base == "L" else "RGBA")
    return layers.convert(base), layers.getchannel("A")


@lru_cache(maxsize=32)
def _conversion(profile: bytes, base: str):
    """littleCMS's transform from a profile to sRGB; None where it changes next to nothing."""
    from PIL import ImageCms  # absent from some builds of Pillow

    own = ImageCms.getOpenProfile(io.BytesIO(profile))
    conversion = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), base, "RGB")
    if base == "CMYK":
        return conversion
    probe = _probe(base)
    before = np.asarray(probe.convert("RGB")).astype(int)
    after = np.asarray(conversion.apply(probe)).astype(int)
    return None if np.abs(after - before).max() <= SAME else conversion


def _probe(base: str) -> Image.Image:
    """All greys, and for RGB a cube of 9 x 9 x 9 colours."""
    greys = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    if base == "L":
        return greys
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    return Image.fromarray(np.concatenate([cube, np.asarray(greys.convert("RGB"))], axis=1))
