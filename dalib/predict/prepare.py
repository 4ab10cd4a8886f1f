"""One image of any kind, upright and at the network's size, without a float of the full picture.

An enormous photograph is shrunk while it is still bytes: a JPEG is decoded at a half, a quarter or
an eighth of its size, anything else is averaged over blocks, both to no less than `GAP` times the
network's size. From there on the resize is that of the evaluation: bicubic, antialiased. The
released pipeline uses OpenCV's bicubic, which does not antialias: from a large photograph it takes
a few pixels and leaves the rest, so that fine texture turns into false structure. Ours stays.
"""

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from dalib.data.colours import to_srgb
from dalib.data.files import to_rgb
from dalib.data.listing import NO_WHITE, RAW, ending, endings
from dalib.data.metadata import (
    DAMAGED_EXTRAS,
    Tell,
    decode,
    explain,
    open_header,
    orientation,
    without_extras,
)
from dalib.errors import DataError
from dalib.models.sizes import network_size, resize_images

Picture = str | Path | Image.Image | np.ndarray | UInt8[Tensor, "3 H W"]

LONGEST = 8
"""The network's long side is at most this many times the short side that was asked for."""
GAP = 3
"""Shrinking by blocks stops at this many times the network's size; with Pillow's `reducing_gap` 3
is "almost the same"."""
LARGE = 40_000_000
"""Pixels from which on pictures are decoded one at a time, whatever the number of threads."""

HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

_alone = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the network sees of an image, 0..1, and the (H, W) of the upright image, to which its
    map returns.

    `notes` say what of the file was ignored.
    """

    name: str
    image: Float[Tensor, "3 h w"]
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


class OwnMapError(DataError):
    """A picture that is no photograph but a map, written by `dalib.predict`."""


def inner_size(height: int, width: int, *, short_side: int, multiple: int) -> tuple[int, int]:
    """`network_size`, with a limit for strips: beyond 1:8 the whole image is run smaller, its
    aspect kept while it can be."""
    ratio = max(height, width) / max(1, min(height, width))
    short = short_side if ratio <= LONGEST else max(1, int(short_side * LONGEST / ratio))
    h, w = network_size(height, width, short_side=short, multiple=multiple)
    longest = -(-LONGEST * short_side // multiple) * multiple
    return min(h, longest), min(w, longest)


def prepare(picture: Picture, *, name: str = "image", short_side: int, multiple: int) -> Prepared:
    """Decode, shrink, turn upright and resize one image.

    Args:
        picture: a file, a Pillow image, an array as `dalib.data.files.to_rgb` takes it, or uint8
            (3, H, W).
        name: what the result and errors call it; errors about a file name the file.
        short_side: of the network's input, see `network_size`.
        multiple: of which the sides of the network's input are multiples.

    Raises:
        DataError: a file that is missing, damaged, or beyond Pillow's limit of 179 megapixels.
        OwnMapError: a file that is one of our maps.
    """
    wanted = {"short_side": short_side, "multiple": multiple}
    notes: dict[str, None] = {}  # an ordered set
    tell = notes.setdefault
    if isinstance(picture, (str, Path)):
        name = name if name != "image" else str(picture)
        picture, (width, height) = _decode(Path(picture), tell=tell, **wanted)
    else:
        if not isinstance(picture, Image.Image):
            pixels = picture if isinstance(picture, Tensor) else to_rgb(picture, name=name)
            # (3, H, W) -> (H, W, 3)
            picture = Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
        width, height = picture.size
    small = _averaged(picture, inner_size(width, height, **wanted), tell=tell)
    if orientation(picture, tell=tell) >= 5:  # to_rgb will turn it by a quarter
        height, width = width, height
    inner = inner_size(height, width, **wanted)
    image = resize_images(to_rgb(small, name=name, tell=tell)[None], inner)[0]
    return Prepared(name=name, image=image, size=(height, width), notes=tuple(notes))


def upright_size(path: Path) -> tuple[int, int]:
    """(H, W) of a photograph turned upright, by the header of its file alone; errors as those of
    `prepare`."""
    return _read(path, _size_from, tell=lambda note: None)


def _decode(path: Path, *, tell: Tell, **wanted: int) -> tuple[Image.Image, tuple[int, int]]:
    """A decoded picture, a JPEG perhaps smaller than it is, and the true (width, height) as
    stored."""
    return _read(path, _decode_from, tell=tell, **wanted)


def _read(path: Path, read_from: Callable, *, tell: Tell, **wanted: int) -> Any:
    """What `read_from` finds in a file, or in the same without its extras where these are what is
    damaged."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; correct the path")
    if hint := refusal(path):
        raise DataError(f"{path}: {hint}")
    try:
        try:
            return read_from(path, tell=tell, **wanted)
        except (OwnMapError, Image.DecompressionBombError):
            raise
        except Exception:
            if (bare := without_extras(path.read_bytes())) is None:
                raise
            result = read_from(io.BytesIO(bare), tell=tell, **wanted)
            tell(DAMAGED_EXTRAS)
            return result
    except OwnMapError as error:
        raise OwnMapError(f"{path}: {error}") from None
    except Exception as error:  # what a damaged file makes Pillow raise is of any kind
        raise explain(path, error) from error


def _decode_from(
    source: Path | io.BytesIO, *, tell: Tell, **wanted: int
) -> tuple[Image.Image, tuple[int, int]]:
    """See `_decode`."""
    with _opened(source) as picture:
        is_jpeg = picture.format in ("JPEG", "MPO")
        stored = picture.size
        if is_jpeg:
            picture.draft(None, tuple(GAP * side for side in inner_size(*stored, **wanted)))
        if picture.size[0] * picture.size[1] < LARGE:
            decode(picture, tell=tell)
        else:
            with _alone:
                decode(picture, tell=tell)
    return picture, stored if is_jpeg else picture.size  # a TIFF has turned itself upright


def _size_from(source: Path | io.BytesIO, *, tell: Tell) -> tuple[int, int]:
    """See `upright_size`."""
    with _opened(source) as picture:
        if picture.format == "TIFF":  # turns itself upright, with some versions in its header
            decode(picture, tell=tell)
        width, height = picture.size
        return (width, height) if orientation(picture, tell=tell) >= 5 else (height, width)


@contextmanager
def _opened(source: Path | io.BytesIO) -> Iterator[Image.Image]:
    """A picture whose header is read; none of our maps."""
    with _alone, warnings.catch_warnings():  # warning filters belong to all threads
        # of bombs, whose memory is bounded below, and of damaged tags, which are told
        warnings.simplefilter("ignore")
        opened = open_header(source)
    with opened as picture:
        if _is_own_map(picture):
            raise OwnMapError(
                "is a map that dalib.predict wrote; name the photograph it was made of"
            )
        yield picture


def _is_own_map(picture: Image.Image) -> bool:
    """By the text chunks that `dalib.predict.png` writes."""
    return str(picture.info.get("Software", "")).startswith("dalib ") and "kind" in picture.info


def refusal(path: Path) -> str | None:
    """Why a file cannot be a photograph for us, and what to do, where its name or its first bytes
    say so already."""
    end = ending(path.name)
    if end in RAW:
        return "is a camera's raw file; develop it to JPEG, PNG or TIFF"
    if end in NO_WHITE:
        return "is a picture of no known white; save it with 8 or 16 bits a channel"
    with path.open("rb") as file:
        head = file.read(32)
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS and ".heic" not in endings():
        return "is a HEIC picture, which Pillow does not read; convert it to JPEG or PNG"
    return None


def _averaged(picture: Image.Image, inner: tuple[int, int], *, tell: Tell) -> Image.Image:
    """Means over blocks of whole pixels, down to no less than `GAP` times `inner` (width,
    height)."""
    factors = tuple(
        max(1, side // (GAP * least)) for side, least in zip(picture.size, inner, strict=True)
    )
    if factors == (1, 1):
        return picture
    if picture.mode.startswith("I"):  # 16 bits
        return picture.convert("I").reduce(factors)
    if picture.mode in ("L", "RGB", "F") and not picture.has_transparency_data:
        return picture.reduce(factors)
    # The others, among them palettes and one bit, have no mean; and the profile of most would not
    # fit what they become.
    picture = to_srgb(picture, tell=tell)
    picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    picture.info.pop("icc_profile", None)
    return picture.reduce(factors)
