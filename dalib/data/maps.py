"""Stored depth maps and masks, value by value as their files hold them, laid over the photographs
they belong to."""

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from dalib.data.files import UNREADABLE, decode_image
from dalib.data.metadata import open_header, orientation
from dalib.errors import DataError

_SAVE = "save the depth as a 16-bit grey PNG or with numpy.save"
_FOREIGN = (
    (
        b"v/1\x01",
        "an OpenEXR file, which is not read; name its reader in the manifest (exr), or read its "
        f"depth channel with OpenEXR or OpenCV and {_SAVE}",
    ),
    (
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file, which is not read; name its reader in the manifest (hdf5, or matlab), or "
        f"read its data set with h5py and {_SAVE}",
    ),
    (
        b"MATLAB ",
        "a MATLAB file, which is not read; from version 7.3 on, name its reader in the manifest "
        f"(matlab), else read it with scipy.io.loadmat and {_SAVE}",
    ),
    (
        b"PK\x03\x04",
        "an archive, such as .npz or .pt, which is not read; name its reader in the manifest "
        f"(npz), or take the array of depth out of it and {_SAVE}",
    ),
    (b"#?R", f"a Radiance HDR picture, which is not read; {_SAVE}"),
    (b"PF", f"a PFM of three channels; {_SAVE}"),
    (
        b"PIEH",
        "a Sintel .dpt or .flo file, which is not read; name its reader in the manifest (dpt), or "
        f"{_SAVE}",
    ),
    (b"\x80", f"a pickle, which is not read, for it may run code; {_SAVE}"),
    (
        b"version https://git-lfs",
        "a Git LFS pointer and not the file itself; fetch it with git lfs pull",
    ),
)
"""First bytes -> what a file is and what to do about it."""
_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])+"
_PGM = re.compile(rb"P([25])" + _SPACE + rb"(\d+)" + _SPACE + rb"(\d+)" + _SPACE + rb"(\d+)\s")
_PFM = re.compile(rb"Pf\s+(\d+)\s+(\d+)\s+\S+\s")
_LOSSY = ("JPEG", "MPO")


def read_map(path: Path) -> np.ndarray:
    """A depth or disparity map as stored: a picture of one channel, or an .npy of shape (H, W) or
    (H, W, 1); see `decode_map`."""
    return decode_map(read_bytes(path), name=str(path))[0]


def read_bytes(path: Path) -> bytes:
    """The content of a file; a `DataError` that names it where there is none."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; correct the path or remove its entry")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error}); correct its permissions or remove its entry"
        ) from error


def decode_map(data: bytes, *, name: str) -> tuple[np.ndarray, int]:
    """A stored depth or disparity map.

    Args:
        data: a file's content: PNG, TIFF or another picture of one channel that Pillow reads, PGM,
            PFM, or .npy (also of shape (H, W, 1)). A PGM keeps its values, whatever its greatest
            one (maxval) is; so does a PNG of 2 or 4 bits.
        name: what errors call it.

    Returns:
        Values (H, W) of integers or floats, and the EXIF orientation that the file itself carries,
        1 where none.

    Raises:
        DataError: a damaged file, another format, one that does not keep values (JPEG), a palette,
            several channels or pictures, values that are no numbers.
    """
    values, own = _decode(data, name=name)
    if values.dtype.kind not in "iuf":
        raise DataError(
            f"{name}: a depth map holds integers or floats, not {values.dtype}; {_SAVE}"
        )
    return values, own


def decode_mask(data: bytes, *, name: str) -> tuple[np.ndarray, int]:
    """A stored mask, True where it is not 0, and its EXIF orientation, as `decode_map`; files may
    have 1 bit a value."""
    values, own = _decode(data, name=name)
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"{name}: a mask holds whole numbers, not {values.dtype}; save it as an 8-bit grey PNG"
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{name}: a mask holds NaN or infinite values; write 0 and 1")
    return values != 0, own


def _decode(data: bytes, *, name: str) -> tuple[np.ndarray, int]:
    """Values (H, W) of any type, and the EXIF orientation."""
    for start, what in _FOREIGN:
        if data.startswith(start):
            raise DataError(f"{name}: this is {what}")
    if data.startswith(b"\x93NUMPY"):
        values = _decode_npy(data, name=name)
        if values.ndim == 3 and values.shape[-1] == 1:
            values = values[..., 0]  # as DIODE's are
        own = 1
    elif data.startswith(b"Pf"):
        _check_pfm(data, name=name)
        values, own = _decode_picture(data, name=name)
    elif re.match(rb"P[25]\s", data):
        values = _decode_pgm(data, name=name)
        own = 1
    else:
        values, own = _decode_picture(data, name=name)
    if values.ndim != 2:
        raise DataError(
            f"{name}: a depth map has one channel, not shape {values.shape}; save it "
            "as a 16-bit grey PNG"
        )
    return values, own


def _decode_npy(data: bytes, *, name: str) -> np.ndarray:
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except UNREADABLE as error:
        if "Object arrays" in str(error):
            raise DataError(f"{name}: an array of Python objects; save one of numbers") from None
        raise DataError(
            f"{name}: missing, truncated or no array ({error}); save it anew"
        ) from error


def _check_pfm(data: bytes, *, name: str) -> None:
    """See that what follows the header of a PFM is as long as the header says. Line ends of Windows, or
    a text mode that made them, shift every value by a byte."""
    header = _PFM.match(data)
    if header is None:
        return  # said where it is decoded
    width, height = (int(word) for word in header.group(1, 2))
    wanted, held = 4 * width * height, len(data) - header.end()
    if held > wanted:
        raise DataError(
            f"{name}: a PFM of {width}x{height} has {wanted} bytes of values, and here are {held}: was "
            f"it written as text, with line ends of Windows? {_SAVE}"
        )


def _decode_pgm(data: bytes, *, name: str) -> np.ndarray:
    """Binary (P5) or in words (P2). Pillow would stretch values to a maxval of 255 or 65535."""
    header = _PGM.match(data)
    if header is None:
        raise DataError(f"{name}: a PGM whose header is damaged; save it anew")
    form, width, height, maxval = (int(word) for word in header.groups())
    if not 0 < maxval < 65536:
        raise DataError(f"{name}: a PGM with maxval {maxval}; it must be 1 to 65535")
    stored = np.dtype("u1" if maxval < 256 else ">u2")
    count = width * height
    body = data[header.end() :]
    try:
        if form == 5:
            flat = np.frombuffer(body, stored, count=count)
        else:
            words = re.sub(rb"#[^\r\n]*", b"", body).split()
            flat = np.array([int(word) for word in words[:count]], dtype=np.int64)
        values = flat.reshape(height, width)
    except ValueError as error:
        raise DataError(
            f"{name}: truncated or damaged PGM ({error}); replace or remove it"
        ) from error
    if values.size and not 0 <= values.min() <= values.max() <= maxval:
        raise DataError(
            f"{name}: a PGM with values outside 0..{maxval}, its own maxval; save it anew"
        )
    return values.astype(stored.newbyteorder("="))


def _decode_picture(data: bytes, *, name: str) -> tuple[np.ndarray, int]:
    try:
        header = open_header(io.BytesIO(data))
        frames = getattr(header, "n_frames", 1)
        step = _step(header)
    except UnidentifiedImageError as error:
        raise DataError(
            f"{name}: truncated, damaged or not an image of a known format; {_SAVE}"
        ) from error
    except Exception:  # of any kind; what can be decoded all the same is shown below
        frames = 1
        step = 1
    picture = decode_image(data, name=name, tell=_say_nothing)
    if picture.mode in ("P", "PA"):
        raise DataError(
            f"{name}: its values are places in a palette of colours and no depth; {_SAVE}"
        )
    if frames > 1:
        raise DataError(f"{name}: it holds {frames} pictures; save the one that is meant by itself")
    if picture.format in _LOSSY:
        raise DataError(f"{name}: {picture.format} does not keep a map's values; save it as PNG")
    values = np.asarray(picture)
    own = turn_of(picture, data)
    if picture.format == "TIFF" and values.ndim == 2:
        values = turned(values, {6: 8, 8: 6}.get(own, own))  # back, for Pillow has turned it
    return values // step if step > 1 else values, own


def _step(picture: Image.Image) -> int:
    """What Pillow multiplies the stored values with, that grey of 2 or 4 bits fills 0..255."""
    raw = {
        str(tile.args[0] if isinstance(tile.args, tuple) else tile.args) for tile in picture.tile
    }
    return 85 if "L;2" in raw else 17 if "L;4" in raw else 1


def turn_of(picture: Image.Image, data: bytes) -> int:
    """The EXIF orientation, 1..8, of a decoded picture and its file's content; 1 (upright) where
    there is none.

    Pillow turns a TIFF itself as it decodes it and forgets the tag, so there the file is asked once
    more.
    """
    if picture.format == "TIFF":
        with open_header(io.BytesIO(data)) as header:
            return orientation(header, tell=_say_nothing)
    return orientation(picture, tell=_say_nothing)


def _say_nothing(_: str) -> None:
    """For what is told elsewhere."""


def turned(values: np.ndarray, turn: int) -> np.ndarray:
    """A stored array (H, W) as an EXIF orientation says that it is to be seen; the sides change
    places from 5 on."""
    if turn in (5, 7):
        values = values.T
    if turn in (6, 8):
        values = np.rot90(values, -1 if turn == 6 else 1)
    if turn in (2, 3, 7):
        values = values[:, ::-1]
    if turn in (3, 4, 7):
        values = values[::-1]
    return np.ascontiguousarray(values)


def turn_for(
    values: np.ndarray, *, size: tuple[int, int], photograph: int, own: int, name: str
) -> int:
    """The orientation by which a map is to be turned, that it lies over its photograph, which is
    shown upright.

    Where both files carry one, the map's own holds. Where only one of them does, the map may have
    been made for the photograph as stored or as seen, and the sizes decide.

    Args:
        values: (H, W) as stored.
        size: height and width of the upright photograph.
        photograph, own: EXIF orientation of the photograph and of the map.
        name: what errors call the map.

    Raises:
        DataError: both are possible, as after half a turn or where the sides are equal. (Where
            neither is, the sizes differ, which is for `same_size` to say.)
    """
    if photograph == own or (photograph != 1 and own != 1):
        return own
    either = max(photograph, own)
    fitting = [turn for turn in (1, either) if turned(values, turn).shape == size]
    if len(fitting) > 1:
        which = "photograph and not its map" if own == 1 else "map and not its photograph"
        raise DataError(
            f"{name}: the {which} has an EXIF orientation ({either}), and nothing shows whether "
            "they lie alike;"
            " turn both upright and remove the tag (exiftool -Orientation= FILE)"
        )
    return fitting[0] if fitting else own
