"""What somebody knows of the distances in photographs: points on the command line or in a table, or
sparse maps of depth beside the photographs."""

import csv
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dalib.data.files import to_disparity
from dalib.data.manifest import check_columns
from dalib.data.maps import decode_map, read_bytes, turned
from dalib.errors import ConfigError, DataError, UserError
from dalib.predict.metres import (
    NO_BARS,
    ScaleShift,
    check_distances,
    check_places,
    known_distances,
    sparse_depth,
)
from dalib.predict.prepare import upright_size

log = logging.getLogger(__name__)

NEAREST, FARTHEST = 0.05, 500.0
"""Metres: a sparse map whose median is outside gets a warning, for its unit is probably another."""

MOST_SHOWN = 20
"""Images of which it is said why their distances cannot be used."""
COLUMNS = ("x", "y", "metres")
SPARSE_ENDS = (".png", ".npy", ".pfm", ".tif", ".tiff", ".pgm")
Number = float | int
Point = tuple[Number, Number, Number]


@dataclass(frozen=True, kw_only=True)
class Known:
    """Known distances of images by name, and how they are to be used.

    Args:
        points: name -> (x, y, metres) each, see `dalib.predict.metres.known_distances`.
        sigmas: name -> the measurement's error of each point in metres, where a table says it.
        sparse: name -> file of a sparse map of z-depth, of the size of the upright photograph; 0 and
            NaN are holes.
        sparse_scale: metres = stored / sparse_scale.
        sigma_m, sigma_relative, shift, robust: see `dalib.predict.metres.fit_scale_shift`.
    """

    points: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    sigmas: Mapping[str, tuple[Number, ...]] = field(default_factory=dict)
    sparse: Mapping[str, Path] = field(default_factory=dict)
    sparse_scale: float | int | None = None
    sigma_m: float | int | None = None
    sigma_relative: float | int | None = None
    shift: float | int | None = None
    robust: bool = False

    def __post_init__(self) -> None:
        if bool(self.points) == bool(self.sparse):
            raise ConfigError("give known distances (--known) or sparse maps (--sparse)")
        for name, option in (("sigma_m", "--sigma"), ("sigma_relative", "--relative-sigma")):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{option} {value}: must be a positive number")
        if self.sigma_m is not None and self.sigma_relative is not None:
            raise ConfigError("--sigma and --relative-sigma: both state the same error; keep one")
        if self.shift is not None and not math.isfinite(self.shift):
            raise ConfigError(f"--shift {self.shift}: must be a finite number of 1/m")
        if self.robust and self.shift is not None:
            raise ConfigError("--robust: needs the shift to be fitted; leave out --shift")
        if self.sigmas and (self.sigma_m is not None or self.sigma_relative is not None):
            raise ConfigError(
                "the table has a column sigma; leave out --sigma and --relative-sigma"
            )
        if self.sparse and self.sparse_scale is None:
            raise ConfigError(
                "--sparse: say what the stored values are with --sparse-scale (metres = stored / "
                "scale: 1 for metres, 1000 for millimetres, 256 for KITTI's)"
            )
        scale = self.sparse_scale
        if scale is not None and not (math.isfinite(scale) and scale > 0):
            raise ConfigError(f"--sparse-scale {scale}: must be a positive number")

    def describe(self) -> str:
        """In words, for the note beside the maps."""
        words = [
            f"sparse maps / {self.sparse_scale:g}" if self.sparse else "known distances",
            f"sigma {self.sigma_m:g} m" if self.sigma_m is not None else "",
            f"sigma {self.sigma_relative:g} of the distance" if self.sigma_relative else "",
            f"shift {self.shift:g} 1/m" if self.shift is not None else "",
            "robust" if self.robust else "",
        ]
        return ", ".join(word for word in words if word)

    def digest(self, name: str) -> str:
        """Of what is known of an image: a map in metres is one of these numbers, too."""
        if name in self.sparse:
            look = self.sparse[name].stat()
            text = f"{self.sparse[name].resolve()} {look.st_size} {look.st_mtime_ns}"
        else:
            text = repr((self.points.get(name), self.sigmas.get(name)))
        return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()

    def look(self, images: Mapping[str, Path], *, with_sigma: bool = False) -> None:
        """See before a network is loaded that what is known can be fitted in one of these images:
        the others fail by themselves.

        Args:
            images: name -> file.
            with_sigma: error bars are wanted, too.

        Raises:
            DataError: in none of them, with the reasons.
        """
        reasons = []
        for name, path in images.items():
            try:
                self._look(name, path, with_sigma=with_sigma)
            except UserError as error:
                reasons.append(str(error))
            else:
                return
        shown = reasons[:MOST_SHOWN]
        more = [f"and {len(reasons) - len(shown)} more"] if len(reasons) > len(shown) else []
        raise DataError("\n".join([*shown, *more]))

    def _look(self, name: str, path: Path, *, with_sigma: bool) -> None:
        """What can be said of an image's distances before its map is there; errors as of `fit`."""
        size = upright_size(path)
        try:
            if name in self.sparse:
                known, valid = read_sparse(self.sparse[name], scale=self.sparse_scale, size=size)
                metres = 1 / known.double().numpy()[(valid & (known > 0)).numpy()]
            else:
                table = np.asarray(self.points.get(name, ()), np.float64).reshape(-1, 3)
                check_places(table, size)
                metres = table[:, 2]
            options = self._options(name)
            check_distances(metres, **options)
            is_stated = options["sigma_m"] is not None or options["sigma_relative"] is not None
            if with_sigma and not is_stated and len(metres) == (2 if self.shift is None else 1):
                raise DataError(NO_BARS)
        except (ConfigError, DataError) as error:
            raise DataError(f"{name}: {error}") from error

    def _options(self, name: str) -> dict:
        """How an image's distances are used, as `dalib.predict.metres.fit_scale_shift` takes it."""
        sigma_m = np.array(self.sigmas[name]) if name in self.sigmas else self.sigma_m
        options = {"sigma_m": sigma_m, "sigma_relative": self.sigma_relative}
        return options | {"shift": self.shift, "robust": self.robust}

    def fit(self, name: str, disparity: Float[Tensor, "h w"], size: tuple[int, int]) -> ScaleShift:
        """Scale and shift of the map of an image of `size` (H, W).

        Raises:
            DataError: nothing is known of this image, or nothing that can be fitted; it names the
                image.
        """
        options = self._options(name)
        try:
            if name in self.sparse:
                known, valid = read_sparse(self.sparse[name], scale=self.sparse_scale, size=size)
                return sparse_depth(disparity, known, valid, **options)
            return known_distances(disparity, self.points.get(name, ()), size=size, **options)
        except (ConfigError, DataError) as error:
            raise DataError(f"{name}: {error}") from error

    def check(self, names: Iterable[str]) -> None:
        """A `DataError` that lists images of which nothing is known."""
        known = {*self.points, *self.sparse}
        if missing := [name for name in names if name not in known]:
            shown = ", ".join(missing[:5]) + (" and more" if len(missing) > 5 else "")
            raise DataError(
                f"no distance is known in {len(missing)} images ({shown}); add theirs, or predict "
                "them by themselves into another folder"
            )


# ---- reading


def parse_points(words: Sequence[str]) -> tuple[Point, ...]:
    """`x,y,metres` each; a `ConfigError` that names the word which is something else."""
    return tuple(_point(word.split(","), f"--known {word!r}") for word in words)


def _point(cells: Sequence[str], where: str) -> Point:
    try:
        x, y, metres = (float(cell) for cell in cells)
    except ValueError:
        raise ConfigError(
            f"{where}: must be x,y,metres (column, row, distance), or one CSV file"
        ) from None
    if not all(map(math.isfinite, (x, y, metres))):
        raise ConfigError(f"{where}: every number must be finite")
    if metres <= 0:
        raise ConfigError(f"{where}: a distance must be positive")
    return x, y, metres


def read_points(
    path: Path, images: Mapping[str, Path], *, folder: Path | None = None
) -> tuple[dict[str, tuple[Point, ...]], dict[str, tuple[float, ...]]]:
    """Name -> points, and name -> their sigmas, of a CSV with the columns image, x, y, metres and
    perhaps sigma (metres).

    Args:
        path: the table.
        images: name -> file, see `dalib.predict.photographs`.
        folder: of the photographs, to which the column `image` is relative; for one photograph by
            itself that column may be missing.

    Raises:
        DataError: no such file, a missing column, a row that is no point or of no photograph.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            rows = list(table)
            columns = [*(table.fieldnames or ())]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; correct the path (--known)") from None
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not readable as CSV ({error})") from error
    wanted = (*(("image",) if folder is not None else ()), *COLUMNS)
    check_columns(path, columns, needed=wanted, optional=("sigma",))
    called = _called(images, folder)
    points: dict[str, list[Point]] = {}
    sigmas: dict[str, list[float]] = {}
    for line, row in enumerate(rows, 2):
        where = f"{path}, line {line}"
        word = row["image"] if "image" in columns else ""
        name = called.get(word or "") if word or folder is not None else next(iter(images))
        if name is None:
            raise DataError(f"{where}: no photograph is called {word!r}; correct or remove the row")
        try:
            points.setdefault(name, []).append(_point([row[c] or "" for c in COLUMNS], where))
            if "sigma" in columns:
                sigmas.setdefault(name, []).append(_sigma(row["sigma"] or "", where))
        except ConfigError as error:
            raise DataError(str(error)) from error
    if not points:
        raise DataError(f"{path}: has no row; write one for each known distance")
    return (
        {name: tuple(each) for name, each in points.items()},
        {name: tuple(each) for name, each in sigmas.items()},
    )


def _called(images: Mapping[str, Path], folder: Path | None) -> dict[str, str]:
    """What a table may call an image -> its name: its path, or its name without the ending."""
    result = {name: name for name in images}
    for name, path in images.items():
        place = path.relative_to(folder) if folder is not None else Path(path.name)
        result[place.as_posix()] = name
    return result


def _sigma(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{where}: sigma {text!r} must be a positive number of metres")
    return value


def find_sparse(place: Path, images: Mapping[str, Path]) -> dict[str, Path]:
    """Name -> its sparse map: the file itself for one photograph, or that of the same name in a
    folder. An image without one is not among them.

    Raises:
        DataError: no such file or folder, two maps of one name, one file for several photographs.
    """
    if not place.exists():
        raise DataError(f"{place}: no such file or folder; correct the path (--sparse)")
    if not place.is_dir():
        if len(images) > 1:
            raise DataError(
                f"{place}: is one file for {len(images)} photographs; name a folder of maps"
            )
        return dict.fromkeys(images, place)
    found = {}
    for name in images:
        files = [place / (name + end) for end in SPARSE_ENDS if (place / (name + end)).is_file()]
        if len(files) > 1:
            raise DataError(
                f"{place}: has {' and '.join(f.name for f in files)} for {name}; keep one"
            )
        if files:
            found[name] = files[0]
    return found


def read_sparse(
    path: Path, *, scale: float | int, size: tuple[int, int]
) -> tuple[Float[Tensor, "H W"], Tensor]:
    """(disparity in 1/m, validity) of a sparse map of depth, see `Known`.

    Raises:
        DataError: a file that cannot be read, of another size than `size` (H, W), or without any
            known depth.
    """
    values, own = decode_map(read_bytes(path), name=str(path))
    values = turned(values, own)
    if values.shape != tuple(size):
        raise DataError(
            f"{path}: is {values.shape[1]} x {values.shape[0]} pixels, its photograph {size[1]} x "
            f"{size[0]} upright; make them equal"
        )
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), 0, values)
    if values.dtype == np.uint8:
        raise DataError(
            f"{path}: has 8 bits, too few for distances; save a 16-bit PNG or .npy (--sparse)"
        )
    if not (values != 0).any():
        raise DataError(f"{path}: no distance is known in it, all is 0; leave this image out")
    disparity, valid = to_disparity(values, kind="depth_m", scale=scale, name=str(path))
    middle = 1 / float(disparity[valid].median())
    if not NEAREST <= middle <= FARTHEST:
        log.warning(
            "%s: half of its distances are beyond %.4g m: is --sparse-scale %g right (metres = "
            "stored / scale)?",
            path,
            middle,
            scale,
        )
    return disparity, valid
