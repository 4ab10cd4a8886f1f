"""What stands beside the pixels of a picture file: how it is turned, and its further frames.
Damaged, it costs a line, not the picture."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import ExifTags, Image

from dalib.errors import DataError

Tell = Callable[[str], None]
"""Takes what was done to a picture, in a few words that fit after its name."""

DAMAGED_EXIF = "damaged EXIF tags, which were ignored"
DAMAGED_EXTRAS = "damaged metadata, all of which was ignored"
FRAMES = "several frames, of which only the first was read"

NOT_PICTURES = frozenset({"BUFR", "EPS", "FITS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})
"""What Pillow registers without being able to draw it, or draws by running another program."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what brings the stored picture upright."""

EXIF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Type of an EXIF entry -> bytes of one value."""

_told: set[tuple[str, str]] = set()


class PictureWarning(UserWarning):
    """Something about a picture file that was ignored, said once per file and process."""


def warn_once(name: str) -> Tell:
    """Tells by a warning, once for each file and matter, however often a training reads the
    file."""

    def tell(what: str) -> None:
        if (name, what) not in _told:
            _told.add((name, what))
            warnings.warn(f"{name}: {what}", PictureWarning, stacklevel=3)

    return tell


def shown(name: str | Path) -> str:
    """A file name that can be printed, whatever bytes it is made of."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def picture_formats() -> list[str]:
    """What Pillow opens, by its own registry."""
    Image.init()
    return [name for name in Image.OPEN if name not in NOT_PICTURES]


def open_header(source: Path | io.BytesIO) -> Image.Image:
    """A picture whose pixels are not decoded yet; other formats than Pillow's pictures are an
    `UnidentifiedImageError`."""
    return Image.open(source, formats=picture_formats())


def orientation(picture: Image.Image, *, tell: Tell) -> int:
    """The EXIF (or XMP) orientation, 1 to 8; 1 where the tag is missing, damaged, or says something
    else."""
    try:
        block = picture.info.get("exif")
        if block and not _is_whole(block):
            raise ValueError("entries that point beyond the end")
        value = picture.getexif().get(ExifTags.Base.Orientation, 1)
        return int(value) if value in TURNS else 1
    except Exception:  # these tags may hold anything, and Pillow raises as many kinds of errors
        tell(DAMAGED_EXIF)
        return 1


def _is_whole(block: bytes) -> bool:
    """Whether the first directory of an EXIF block lies in it with all that it points to; Pillow
    reads what is left of others."""
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}[block[:4]]
    (start,) = struct.unpack_from(order + "I", block, 4)
    (count,) = struct.unpack_from(order + "H", block, start)
    for entry in range(count):
        _, kind, length, place = struct.unpack_from(order + "HHII", block, start + 2 + 12 * entry)
        size = length * EXIF_SIZES.get(kind, 0)
        if size > 4 and place + size > len(block):
            return False
    return True


def turned(picture: Image.Image, orientation: int) -> Image.Image:
    """The picture upright."""
    return picture.transpose(TURNS[orientation]) if orientation in TURNS else picture


def has_frames(picture: Image.Image) -> bool:
    """Whether a file holds more pictures than the first. Layers of a PSD are none: its first is the
    whole."""
    try:
        return picture.format != "PSD" and bool(getattr(picture, "is_animated", False))
    except Exception:  # a damaged second frame harms nobody who reads the first
        return True


def decode(picture: Image.Image, *, tell: Tell) -> None:
    """Decode the pixels, and tell of further frames."""
    if has_frames(picture):
        tell(FRAMES)
    # Pillow turns a TIFF itself as it decodes it, and would stumble over damaged tags
    if hasattr(picture, "tag_v2"):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation(picture, tell=tell)
        picture.getexif = lambda: exif
        picture.load()
        picture.info.pop("xmp", None)  # which may say once more that it should be turned
    else:
        picture.load()


def explain(path: Path | str, error: Exception) -> DataError:
    """The one-line error for a picture that could not be read."""
    if isinstance(error, Image.DecompressionBombError):
        return DataError(
            f"{path}: beyond Pillow's limit of {2 * Image.MAX_IMAGE_PIXELS} pixels; shrink it"
        )
    if isinstance(error, Image.UnidentifiedImageError):
        reason = "Pillow knows no such format"
    else:
        reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{path}: truncated, damaged or not an image ({reason}); replace or remove it")


def without_extras(data: bytes) -> bytes | None:
    """The bytes of a PNG or JPEG file with its pixels and little else; None for other formats."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _bare_png(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _bare_jpeg(data)
    return None


def _bare_png(data: bytes) -> bytes:
    """Without ancillary chunks, apart from transparency and EXIF where their checksums are
    right."""
    parts = [data[:8]]
    start = 8
    while start + 12 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        kind = data[start + 4 : start + 8]
        if kind[:1].isupper() or (
            kind in (b"tRNS", b"eXIf")
            and zlib.crc32(data[start + 4 : end - 4]).to_bytes(4, "big") == data[end - 4 : end]
        ):
            parts.append(data[start:end])
        start = end
    return b"".join(parts)


def _bare_jpeg(data: bytes) -> bytes:
    """Without comments and application segments, apart from JFIF's and Adobe's, which say what the
    colours are."""
    parts = [data[:2]]
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF and data[start + 1] != 0xDA:
        marker = data[start + 1]
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if not (0xE1 <= marker <= 0xEF and marker != 0xEE) and marker != 0xFE:
            parts.append(data[start:end])
        start = end
    return b"".join([*parts, data[start:]])
