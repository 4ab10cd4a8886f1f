"""How the repositories of the pool `rgbd` store depth, and the rule by which it is made smaller.

A data set's coding (columns of `data/pools/sources.csv`):

| column | meaning |
|---|---|
| `stored` | `map` (a picture or array that `dalib.data.maps` reads), `npz:NAME`, `exr`, `pcd` (an organised point cloud: depth is z, the image its colours) |
| `per_unit` | depth in metres, or disparity, is the stored value divided by this |
| `near`, `far` | metres; values that are not beyond `near`, or are beyond `far`, are no truth |
| `holes` | a stored value that means no truth, besides 0 and what is not finite |
| `change` | `half turn` (image and map), `bits 3` (rotated right by three bits), `less 1`, `ray 60` (distance along the ray at a horizontal field of view of 60 degrees) |

Nobody publishes these for the pool as recorded: each was held against the recorded maps.
"""  # noqa: E501

import io
import re
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from dalib.data.files import UNREADABLE, decode_image
from dalib.data.maps import decode_map
from dalib.errors import ConfigError, DataError


def read_depth(content: bytes, coding: dict[str, str], *, name: str) -> Float[np.ndarray, "H W"]:
    """A repository's own depth map.

    Args:
        content: of its file.
        coding: see above.
        name: what errors call it.

    Returns:
        float32: metres, an unknown unit or disparity, as the pool's row says; 0 where there is no
        truth.

    Raises:
        DataError: a damaged file, or an unknown coding.
        ConfigError: a library that this coding needs is not installed.
    """
    values = _stored(content, coding["stored"], name=name)
    known = np.isfinite(values) & (values > 0)
    if "holes" in coding:
        known &= values != float(coding["holes"])
    values, known = _change(values, known, coding.get("change", ""), name=name)
    depth = np.where(known, values, 0).astype(np.float32) / np.float32(coding["per_unit"])
    if coding.get("change") == "ray 60":
        depth = (depth * cosine(depth.shape, degrees=60.0)).astype(np.float32)
    known &= (depth > float(coding.get("near", 0))) & (depth <= float(coding.get("far", "inf")))
    return np.where(known, depth, np.float32(0))


def _stored(content: bytes, stored: str, *, name: str) -> np.ndarray:
    """The values (H, W) of a file."""
    form, _, entry = stored.partition(":")
    if form == "npz":
        try:
            return np.load(io.BytesIO(content), allow_pickle=False)[entry]
        except (*UNREADABLE, KeyError) as error:
            raise DataError(f"{name}: no archive with an array {entry} ({error})") from error
    if form == "exr":
        return _read_exr(content, name=name)
    if form == "pcd":
        return read_cloud(content, name=name)["z"]
    if form != "map":
        raise DataError(f"{name}: its coding says {stored!r}, which nobody reads")
    if content.startswith(b"\x93NUMPY"):
        try:
            values = np.load(io.BytesIO(content), allow_pickle=False)
        except UNREADABLE as error:
            raise DataError(f"{name}: truncated or no array ({error})") from error
        return values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    return decode_map(content, name=name)[0]


def _change(
    values: np.ndarray, known: np.ndarray, change: str, *, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """What a repository did to its values, undone."""
    if change == "half turn":
        return values[::-1, ::-1], known[::-1, ::-1]
    if change == "bits 3":
        values = ((values >> 3) | (values << 13)).astype(np.uint16)
    elif change == "less 1":
        values = values.astype(np.float64) - 1
    elif change not in ("", "ray 60"):
        raise DataError(f"{name}: its coding says {change!r}, which nobody knows")
    return values, known & (values > 0)


def cosine(shape: tuple[int, int], *, degrees: float) -> Float[np.ndarray, "H W"]:
    """z over the distance along each pixel's ray, for a camera of this horizontal field of view."""
    height, width = shape
    focal = width / 2 / np.tan(np.radians(degrees / 2))  # pixels
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    return 1 / np.sqrt(1 + (x * x + y * y) / focal**2)


def _read_exr(content: bytes, *, name: str) -> np.ndarray:
    """The first channel of an OpenEXR file."""
    try:
        import OpenEXR
    except ImportError as error:
        raise ConfigError(
            f"{name}: reading OpenEXR needs OpenEXR; python -m pip install OpenEXR, and fetch "
            "with --retry"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.exr"
        path.write_bytes(content)
        try:
            channels = OpenEXR.File(str(path)).channels()
        except Exception as error:  # the library raises plain ones
            raise DataError(f"{name}: a damaged OpenEXR file ({error})") from error
    values = next(iter(channels.values())).pixels
    return values[..., 0] if values.ndim == 3 else values


_PCD = {("F", 4): "<f4", ("F", 8): "<f8", ("U", 1): "u1", ("U", 2): "<u2", ("U", 4): "<u4"}
_PCD |= {("I", 1): "i1", ("I", 2): "<i2", ("I", 4): "<i4"}


def read_cloud(content: bytes, *, name: str) -> dict[str, np.ndarray]:
    """The fields (H, W) of an organised point cloud, a PCD file of version 0.7 in binary or
    compressed form (Point Cloud Library, "The PCD file format").

    Raises:
        DataError: another form, or a damaged file.
    """
    header = re.match(rb"(?:[^\n]*\n)*?DATA (\w+)\r?\n", content[:4096])
    if header is None:
        raise DataError(f"{name}: no PCD file")
    words = {}
    for line in header[0].decode("ascii", "replace").splitlines():
        first, *rest = line.split() or [""]
        words[first] = rest
    try:
        fields = words["FIELDS"]
        kinds = zip(words["TYPE"], words["SIZE"], words["COUNT"], strict=True)
        types = [np.dtype(_PCD[kind, int(size)]) for kind, size, n in kinds if n == "1"]
        if len(types) != len(fields):
            raise ValueError("fields of several values")
        width, height = int(words["WIDTH"][0]), int(words["HEIGHT"][0])
        body = content[header.end() :]
        count = width * height
        if header[1] == b"binary_compressed":
            packed, full = np.frombuffer(body[:8], "<u4").tolist()
            body = unpack_lzf(body[8 : 8 + packed], size=full)
            ends = np.cumsum([0] + [count * kind.itemsize for kind in types])
            columns = [
                np.frombuffer(body[begin:end], kind)
                for kind, begin, end in zip(types, ends[:-1], ends[1:], strict=True)
            ]
        elif header[1] == b"binary":
            table = np.frombuffer(body, list(zip(fields, types, strict=True)), count=count)
            columns = [table[field] for field in fields]
        else:
            raise ValueError(f"DATA {header[1].decode()}")
        return {
            field: column.reshape(height, width)
            for field, column in zip(fields, columns, strict=True)
        }
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(f"{name}: a PCD file that is not read ({error!r})") from error


def unpack_lzf(packed: bytes, *, size: int) -> bytes:
    """LibLZF's form: a byte below 32 is followed by that many bytes and one more as they are; any
    other names a length (3 bits, 7 is followed by a byte to be added) and how far back (13 bits)
    to copy from; ValueError where that leads out of the data or the size is another."""
    out = bytearray()
    at = 0
    while at < len(packed):
        control = packed[at]
        at += 1
        if control < 32:
            out += packed[at : at + control + 1]
            at += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += packed[at]
            at += 1
        begin = len(out) - ((control & 31) << 8) - packed[at] - 1
        at += 1
        if begin < 0:
            raise ValueError("a copy from before the beginning")
        length += 2
        piece = out[begin : begin + length]
        while len(piece) < length:  # it overlaps with what it makes
            piece += piece[: length - len(piece)]
        out += piece
    if len(out) != size:
        raise ValueError(f"{len(out)} bytes where {size} are announced")
    return bytes(out)


def read_image(content: bytes, coding: dict[str, str], *, name: str) -> Image.Image:
    """A pair's image as 8-bit RGB, turned upright."""
    if coding.get("stored") == "pcd":
        colours = read_cloud(content, name=name)["rgba"].astype(np.uint32)
        channels = [(colours >> shift) & 255 for shift in (16, 8, 0)]
        picture = Image.fromarray(np.stack(channels, -1).astype(np.uint8))
    elif content.startswith(b"\x93NUMPY"):
        try:
            picture = Image.fromarray(np.load(io.BytesIO(content), allow_pickle=False))
        except (*UNREADABLE, TypeError) as error:
            raise DataError(f"{name}: no image ({error})") from error
    else:
        picture = decode_image(content, name=name)
    if coding.get("change") == "half turn":
        picture = picture.transpose(Image.Transpose.ROTATE_180)
    return picture


def shrink(
    depth: Float[np.ndarray, "H W"], size: tuple[int, int]
) -> tuple[Float[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """A map at the size of its image, by values that were measured and never by their mean: each
    pixel is the lower median of the known values in a window about its place, and is known where at
    least half of the window is.

    Args:
        depth: 0 where there is no truth.
        size: width and height.

    Returns:
        Values (float64, 0 where not known), and whether they are known.
    """
    width, height = size
    rows = _window(depth.shape[0], height)[:, :, None, None]  # (h, k, 1, 1)
    columns = _window(depth.shape[1], width)[None, None]  # (1, 1, w, l)
    windows = np.where(depth > 0, depth, np.inf)[rows, columns].transpose(0, 2, 1, 3)
    windows = np.sort(windows.reshape(height, width, -1), axis=-1)  # (h, w, k * l), unknown last
    count = np.isfinite(windows).sum(-1)
    known = (count > 0) & (2 * count >= windows.shape[-1])
    middle = np.maximum((count - 1) // 2, 0)[..., None]
    median = np.take_along_axis(windows, middle, axis=-1)[..., 0]
    return np.where(known, median, 0).astype(np.float64), known


def _window(old: int, new: int) -> np.ndarray:
    """For each of `new` pixels, the places of its window among `old` ones: (new, k), where k is the
    nearest whole number to old / new."""
    across = max(1, round(old / new))
    first = np.floor((np.arange(new) + 0.5) * (old / new) - across / 2 + 0.5).astype(int)
    return np.clip(first[:, None] + np.arange(across), 0, old - 1)
