"""Depth maps and photographs in the formats of published data sets, which a picture library does
not read.

An entry of a manifest may be an address: a container and, after `#`, what lies in it, such as
`0001.h5#depth`, `labeled.mat#depths/12` or `d_1.exr#G`. A file of that very name always wins.
"""

import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from dalib.data.files import UNREADABLE, decode_image
from dalib.data.maps import decode_map, read_bytes
from dalib.errors import ConfigError, DataError

CONTAINERS = (".bin", ".exr", ".h5", ".hdf5", ".mat", ".npz")
"""Endings of files in which a part can be named."""
SINTEL_MARK = b"PIEH"


@dataclass(frozen=True)
class Address:
    """A file, and the part of it that is meant; "" for the whole or only one."""

    path: Path
    part: str = ""

    def __str__(self) -> str:
        return f"{self.path}#{self.part}" if self.part else str(self.path)


def address(folder: Path, entry: str) -> Address:
    """The address that an entry of a manifest in `folder` names; no file is opened."""
    path = folder / entry
    name, mark, part = entry.rpartition("#")
    if not mark or Path(name).suffix.lower() not in CONTAINERS or path.is_file():
        return Address(path)
    return Address(folder / name, part)


# ---- depth maps


def read_values(
    where: Address, *, reader: str = "", size: tuple[int, int]
) -> tuple[np.ndarray, int]:
    """A stored depth or disparity map.

    Args:
        where: the map.
        reader: one of `READERS`; "" is what `dalib.data.maps.decode_map` reads.
        size: height and width of its photograph as stored, which a map without a header has, too.

    Returns:
        Values (H, W), integers or floats, and the map's own EXIF orientation (1 but for pictures).

    Raises:
        ConfigError: the format needs a library that is not installed.
        DataError: no such file or part, a damaged file, values that are no map.
    """
    if not reader:
        return decode_map(read_bytes(where.path), name=str(where))
    check_reader(reader)
    values = READERS[reader](where, size)
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        raise DataError(
            f"{where}: {values.dtype} of shape {values.shape} is no depth map; name a part that "
            "holds numbers (H, W)"
        )
    return values, 1


def check_reader(reader: str) -> None:
    """A ValueError for a reader that there is not."""
    if reader and reader not in READERS:
        raise ValueError(f"unknown reader {reader!r}; it must be one of {', '.join(READERS)}")


def _npz(where: Address, size: tuple[int, int]) -> np.ndarray:
    try:
        with np.load(io.BytesIO(read_bytes(where.path)), allow_pickle=False) as arrays:
            name = _only(where, list(arrays.files), what="arrays")
            return arrays[name]
    except (*UNREADABLE, KeyError, NotImplementedError) as error:
        if isinstance(error, DataError):
            raise
        if "Object arrays" in str(error):
            raise DataError(
                f"{where}: holds Python objects, which could run code; save it as numbers"
            ) from None
        raise _damaged(where, error, "archive of arrays (.npz)") from error
    except Exception as error:  # zipfile has errors of its own
        raise _damaged(where, error, "archive of arrays (.npz)") from error


def _dpt(where: Address, size: tuple[int, int]) -> np.ndarray:
    """Sintel's: the mark PIEH, width and height as int32, float32 row by row; little-endian."""
    data = read_bytes(where.path)
    if not data.startswith(SINTEL_MARK) or len(data) < 12:
        raise DataError(f"{where}: no .dpt file, for it does not begin with PIEH; replace it")
    width, height = np.frombuffer(data, "<i4", count=2, offset=4).tolist()
    if min(width, height) < 1 or len(data) != 12 + 4 * width * height:
        raise DataError(
            f"{where}: {len(data)} bytes are not a .dpt map of {width}x{height}; replace it"
        )
    return np.frombuffer(data, "<f4", offset=12).reshape(height, width).astype(np.float32)


def _raw_float32(where: Address, size: tuple[int, int]) -> np.ndarray:
    """ETH3D's: nothing but little-endian float32, row by row, as many as the photograph has
    pixels."""
    data = read_bytes(where.path)
    height, width = size
    if len(data) != 4 * height * width:
        raise DataError(
            f"{where}: {len(data)} bytes are not the float32 of its {width}x{height} photograph; "
            "use the photograph that the map was made for"
        )
    return np.frombuffer(data, "<f4").reshape(height, width).astype(np.float32)


def _png_float32(where: Address, size: tuple[int, int]) -> np.ndarray:
    """TartanAir V2's: the four bytes of a little-endian float32 are the channels blue, green, red
    and alpha of a pixel, in this order."""
    picture = decode_image(read_bytes(where.path), name=str(where))
    if picture.mode != "RGBA":
        raise DataError(
            f"{where}: a picture {picture.mode} holds no float32 in its channels; it must be RGBA"
        )
    stored = np.asarray(picture)[..., [2, 1, 0, 3]]
    return np.ascontiguousarray(stored).view("<f4")[..., 0].astype(np.float32)


def _exr(where: Address, size: tuple[int, int]) -> np.ndarray:
    try:
        import OpenEXR
    except ImportError as error:
        raise _missing("OpenEXR", "OpenEXR files") from error
    if not where.path.is_file():
        raise DataError(f"{where}: no such file; correct the path or remove its entry")
    try:
        with OpenEXR.File(str(where.path), separate_channels=True) as file:
            channels = dict(file.channels())
            # A file of one channel has only one meaning, whatever it is called.
            name = next(iter(channels)) if len(channels) == 1 else where.part
            if name not in channels:
                name = _only(where, list(channels), what="channels")
            return np.array(channels[name].pixels)
    except DataError:
        raise
    except Exception as error:
        raise _damaged(where, error, "OpenEXR file") from error


def _hdf5(where: Address, size: tuple[int, int]) -> np.ndarray:
    return _from_hdf5(where, lambda node: np.asarray(node[()]))


def _matlab(where: Address, size: tuple[int, int]) -> np.ndarray:
    """A MATLAB array of version 7.3, or one of its frames: `depths/12`, counted from 0 along the
    last axis of MATLAB.

    MATLAB lays arrays out by columns, so that in the HDF5 file all axes stand in reverse order.
    """
    values = _from_hdf5(_frameless(where), lambda node: _frame_of(where, node))
    return np.ascontiguousarray(values.transpose(*range(values.ndim)[::-1]))


def frames(path: Path, name: str) -> int:
    """How many frames the array `name` of a MATLAB file has.

    Raises:
        ConfigError, DataError: as `read_values`.
    """
    return _from_hdf5(Address(path, name), len)


def _frameless(where: Address) -> Address:
    return Address(where.path, where.part.rpartition("/")[0] or where.part)


def _frame_of(where: Address, node: object) -> np.ndarray:
    word = where.part.rpartition("/")[2]
    if not word.isdecimal():
        return np.asarray(node[()])
    if int(word) >= len(node):
        raise DataError(f"{where}: there are {len(node)} frames, counted from 0; correct the entry")
    return np.asarray(node[int(word)])


def _from_hdf5(where: Address, take: Callable[[object], Any]) -> Any:
    """What `take` gives for the data set that the address names, or the only one."""
    try:
        import h5py
    except ImportError as error:
        raise _missing("h5py", "HDF5 and MATLAB 7.3 files") from error
    if not where.path.is_file():
        raise DataError(f"{where}: no such file; correct the path or remove its entry")
    try:
        # Without a lock, which disks that are shared or read-only often refuse.
        with h5py.File(where.path, "r", locking=False) as file:
            if where.part:
                name = where.part
            else:
                names: list[str] = []
                file.visititems(
                    lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else 0
                )
                name = _only(where, names, what="data sets")
            if not isinstance(file.get(name), h5py.Dataset):
                have = ", ".join(file) or "nothing"
                raise DataError(f"{where}: no data set {name!r}; there is {have}")
            return take(file[name])
    except DataError:
        raise
    except Exception as error:  # h5py passes on whatever the C library says
        raise _damaged(where, error, "HDF5 file") from error


# ---- KITTI's laser scans


def _velodyne(where: Address, size: tuple[int, int]) -> np.ndarray:
    """A laser scan of KITTI's raw data as the sparse depth that the camera named by the address
    sees, 0 elsewhere.

    The scan is float32 x, y, z (metres, x ahead) and reflectance. A point goes through the rigid
    motion of `calib_velo_to_cam.txt`, then R_rect_00 and P_rect of the camera in
    `calib_cam_to_cam.txt`, both in the folder of the date. As in the depth maps on which the Eigen
    split is customarily scored, columns and rows are rounded and then lowered by one (the values of
    KITTI's MATLAB code, which counts from 1), and of several points the nearest one stays. (monodepth2
    numbers its pixels so that a few at the left and right edges share a number; not so here.)
    """
    data = read_bytes(where.path)
    if len(data) % 16:
        raise DataError(f"{where}: {len(data)} bytes are no list of float32 x, y, z, reflectance")
    if not re.fullmatch(r"image_0\d", where.part):
        raise DataError(f"{where}: name the camera after #, such as #image_02")
    camera = where.part.removeprefix("image_")
    date = Path(os.path.abspath(where.path)).parents[3]  # DATE/DRIVE/velodyne_points/data/FRAME.bin
    motion = _calibration(date / "calib_velo_to_cam.txt", {"R": (3, 3), "T": (3, 1)})
    lens = _calibration(
        date / "calib_cam_to_cam.txt", {"R_rect_00": (3, 3), f"P_rect_{camera}": (3, 4)}
    )

    # (N, 4) points of the laser -> (N, 3) homogeneous pixels, whose last entry is the depth
    points = np.frombuffer(data, "<f4").reshape(-1, 4)[:, :3].astype(np.float64)
    seen = points @ motion["R"].T + motion["T"].T
    rectified = seen @ lens["R_rect_00"].T
    projection = lens[f"P_rect_{camera}"]
    pixels = rectified @ projection[:, :3].T + projection[:, 3]
    pixels = pixels[pixels[:, 2] > 0]
    depth = pixels[:, 2]
    columns, rows = (np.round(pixels[:, :2] / depth[:, None]) - 1).astype(np.int64).T

    # far to near, so that the nearest point of a pixel is written last
    height, width = size
    order = np.argsort(-depth, kind="stable")
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    order = order[inside[order]]
    values = np.zeros((height, width))
    values[rows[order], columns[order]] = depth[order]
    return values


def _calibration(path: Path, wanted: dict[str, tuple[int, int]]) -> dict[str, np.ndarray]:
    """Matrices of a calibration file of KITTI, `NAME: NUMBERS` line by line."""
    lines = read_bytes(path).decode("utf-8", errors="replace").splitlines()
    entries = {name.strip(): body for name, _, body in (line.partition(":") for line in lines)}
    found = {}
    for name, shape in wanted.items():
        try:
            found[name] = np.array(entries[name].split(), np.float64).reshape(shape)
        except (KeyError, ValueError) as error:
            raise DataError(
                f"{path}: no {name} of {shape[0]}x{shape[1]} numbers; fetch the calibration anew"
            ) from error
    return found


READERS: dict[str, Callable[[Address, tuple[int, int]], np.ndarray]] = {
    "npz": _npz,
    "dpt": _dpt,
    "exr": _exr,
    "hdf5": _hdf5,
    "matlab": _matlab,
    "raw-float32": _raw_float32,
    "png-float32": _png_float32,
    "velodyne": _velodyne,
}
"""What the column `reader` of a manifest may say; pictures, PFM, PGM and .npy need none."""

# ---- photographs


def read_picture(where: Address) -> tuple[Image.Image | np.ndarray, bytes]:
    """A photograph: a decoded picture with its file's content, or the array (H, W, 3) that a MATLAB
    file holds, with none."""
    if not where.part:
        data = read_bytes(where.path)
        return decode_image(data, name=str(where.path)), data
    if where.path.suffix.lower() != ".mat":
        raise DataError(f"{where}: a photograph is a file, or lies in a MATLAB file; correct it")
    values = _matlab(where, (0, 0))
    if values.ndim != 3 or values.shape[-1] != 3 or values.dtype != np.uint8:
        raise DataError(
            f"{where}: {values.dtype} of shape {values.shape} is no photograph of uint8 (H, W, 3)"
        )
    return values, b""


# ---- geometry


def cosines(height: int, width: int, rays: tuple[float, ...]) -> Float[np.ndarray, "H W"]:
    """z-depth / distance along the ray, for each pixel of a pinhole camera.

    Args:
        height, width: pixels.
        rays: the horizontal field of view in degrees, of a camera with square pixels whose axis
            meets the centre of the picture; or nine numbers, row by row: the matrix that takes (u,
            v, 1) to the direction of the ray, whose last entry lies along the camera's axis. u runs
            from -1 to 1 from the left to the right edge, v from -1 to 1 from the bottom to the top.
    """
    if len(rays) == 1:
        across = np.tan(np.radians(rays[0]) / 2)
        rays = (across, 0.0, 0.0, 0.0, across * height / width, 0.0, 0.0, 0.0, 1.0)
    u = (np.arange(width) + 0.5) / width * 2 - 1
    v = 1 - (np.arange(height) + 0.5) / height * 2
    places = np.stack(np.broadcast_arrays(u[None, :], v[:, None], 1.0), axis=-1)  # (H, W, 3)
    directions = places @ np.reshape(rays, (3, 3)).T
    return np.abs(directions[..., 2]) / np.linalg.norm(directions, axis=-1)


# ---- what goes wrong


def _only(where: Address, names: list[str], *, what: str) -> str:
    """The part that is named, or the only one."""
    if where.part and where.part in names:
        return where.part
    if not where.part and len(names) == 1:
        return names[0]
    have = ", ".join(names[:8]) or "none"
    raise DataError(f"{where}: which of its {what} is meant? Write FILE#NAME; there is {have}")


def _damaged(where: Address, error: Exception, what: str) -> DataError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{where}: truncated, damaged or no {what} ({first}); replace or remove it")


def _missing(library: str, what: str) -> ConfigError:
    return ConfigError(
        f"reading {what} needs {library}, which is not installed: python -m pip install {library} "
        "(or the extra: pip install 'depth-anything-book[formats]')"
    )
