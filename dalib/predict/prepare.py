"""One image of any kind, upright and at the network's size, without a float of the full picture.

An enormous photograph is shrunk while it is still bytes: a JPEG is decoded at a half, a quarter or an eighth of its size,
anything else is averaged over blocks, both to no less than `GAP` times the network's size. From there on the resize is
that of the evaluation: bicubic, antialiased. The released pipeline uses OpenCV's bicubic, which does not antialias: from a
large photograph it takes a few pixels and leaves the rest, so that fine texture turns into false structure. Ours stays.
"""

import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image
from torch import Tensor

from dalib.data.files import UNREADABLE, to_rgb
from dalib.errors import DataError
from dalib.evaluation.run import network_size, resize_images

Picture = str | Path | Image.Image | np.ndarray | UInt8[Tensor, "3 H W"]

LONGEST = 8
"""The network's long side is at most this many times the short side that was asked for."""
GAP = 3
"""Shrinking by blocks stops at this many times the network's size; with Pillow's `reducing_gap` 3 is "almost the same"."""
LARGE = 40_000_000
"""Pixels from which on pictures are decoded one at a time, whatever the number of threads."""

_alone = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the network sees of an image, 0..1, and the (H, W) of the upright image, to which its map returns."""

    name: str
    image: Float[Tensor, "3 h w"]
    size: tuple[int, int]


def inner_size(height: int, width: int, *, short_side: int, multiple: int) -> tuple[int, int]:
    """`network_size`, with a limit for strips: beyond 1:8 the whole image is run smaller, its aspect kept while it can be."""
    ratio = max(height, width) / max(1, min(height, width))
    short = short_side if ratio <= LONGEST else max(1, int(short_side * LONGEST / ratio))
    h, w = network_size(height, width, short_side=short, multiple=multiple)
    longest = -(-LONGEST * short_side // multiple) * multiple
    return min(h, longest), min(w, longest)


def prepare(picture: Picture, *, name: str = "image", short_side: int, multiple: int) -> Prepared:
    """Decode, shrink, turn upright and resize one image.

    Args:
        picture: a file, a Pillow image, an array as `dalib.data.files.to_rgb` takes it, or uint8 (3, H, W).
        name: what the result and errors call it; errors about a file name the file.
        short_side: of the network's input, see `network_size`.
        multiple: of which the sides of the network's input are multiples.

    Raises:
        DataError: a file that is missing, damaged, or beyond Pillow's limit of 179 megapixels.
    """
    wanted = {"short_side": short_side, "multiple": multiple}
    if isinstance(picture, (str, Path)):
        name = name if name != "image" else str(picture)
        picture, (width, height) = _decode(Path(picture), **wanted)
    else:
        if not isinstance(picture, Image.Image):
            pixels = picture if isinstance(picture, Tensor) else to_rgb(picture, name=name)
            picture = Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())  # (3, H, W) -> (H, W, 3)
        width, height = picture.size
    if picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5:  # to_rgb will turn it by a quarter
        small = _averaged(picture, inner_size(width, height, **wanted))
        height, width = width, height
    else:
        small = _averaged(picture, inner_size(width, height, **wanted))
    inner = inner_size(height, width, **wanted)
    return Prepared(name=name, image=resize_images(to_rgb(small, name=name)[None], inner)[0], size=(height, width))


def _decode(path: Path, **wanted: int) -> tuple[Image.Image, tuple[int, int]]:
    """A decoded picture, a JPEG perhaps smaller than it is, and the true (width, height) as stored."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; correct the path")
    try:
        with _alone, warnings.catch_warnings():  # warning filters belong to all threads
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # memory is bounded below
            opened = Image.open(path)
        with opened as picture:
            stored = picture.size
            if picture.format in ("JPEG", "MPO"):
                picture.draft(None, tuple(GAP * side for side in inner_size(*stored, **wanted)))
            if picture.size[0] * picture.size[1] < LARGE:
                picture.load()
            else:
                with _alone:
                    picture.load()
        return picture, stored if picture.format in ("JPEG", "MPO") else picture.size  # TIFF turns itself upright
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: beyond Pillow's limit of {2 * Image.MAX_IMAGE_PIXELS} pixels; shrink it") from error
    except UNREADABLE as error:
        raise DataError(f"{path}: truncated, damaged or not an image ({error}); replace or remove it") from error


def _averaged(picture: Image.Image, inner: tuple[int, int]) -> Image.Image:
    """Means over blocks of whole pixels, down to no less than `GAP` times `inner` (width, height)."""
    factors = tuple(max(1, side // (GAP * least)) for side, least in zip(picture.size, inner, strict=True))
    if factors == (1, 1):
        return picture
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
    elif picture.mode.startswith("I"):  # 16 bits
        picture = picture.convert("I")
    elif picture.mode not in ("L", "RGB", "F"):  # among them palettes and one bit, which have no mean
        picture = picture.convert("RGB")
    return picture.reduce(factors)
