"""Real data behind one schema (`dalib.data.schema`): manifests of pairs, and what comes with
scikit-image. Folders of photographs are in `dalib.data.photos`, hub data sets in `dalib.data.hub`."""

import copy
import os
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa

from dalib.data.files import digest, same_size, to_disparity, to_rgb
from dalib.data.manifest import (
    COLUMNS,
    bits,
    check_columns,
    check_rows,
    invalid_values,
    number,
    ray_numbers,
    read_table,
    sky_by_rule,
    sky_mask,
    sky_rule,
    yes,
)
from dalib.data.maps import decode_mask, read_bytes, turn_for, turn_of, turned
from dalib.data.metadata import shown
from dalib.data.readers import address, cosines, read_picture, read_values
from dalib.data.schema import Sample, Source
from dalib.errors import DataError


class DepthManifest(Source):
    """Pairs of an image and a depth map, listed in a `manifest.csv`. What the maps may be:
    `dalib.data.maps.decode_map`.

    Required columns: `image` and `depth` (paths relative to the manifest, or addresses of parts of
    files such as `0001.h5#depth`, see `dalib.data.readers`; a row without depth is passed over),
    `kind` ("depth_m" or "disparity") and `depth_scale` (value = stored / depth_scale, 0 = no ground
    truth). Used if present: `id`, `dataset`, `quality`, `split`; `scale_known` and
    `offset_known` (yes or no); `native_image` with `native_depth`, which are preferred;
    `sequence`, the film whose frame this is (`dalib.evaluation.sets`). Of the map:
    `mask` (path, not 0 where there is ground truth; `native_mask` beside `native_depth`), `bits` (8
    declares that 8-bit depth is meant), `invalid` (further stored values, apart by spaces, that
    mean "no ground truth", such as 65535, or `none` where every value is meant), `sky` (a mask, not
    0 where there is sky, or a rule: `value 65535`, `farther 1000`), `reader` (one of
    `dalib.data.readers.READERS`, where the file's ending does not say its format) and `rays` (the
    values are distances along the rays, see `dalib.data.readers.cosines`).
    Sky is ground truth: infinitely far. So is a disparity of 0 where a mask is given, or `invalid`
    is `none`. Where the mask is 0, nothing is known, be it sky or not.

    Args:
        path: the manifest, or the folder that holds it.
        dataset: keep only the rows of this data set.
        quality: keep only the rows of this quality.
        split: keep only the rows of this part of the data, such as train or val.
        offset_known: keep only the rows where it is "yes" (True, also without such a column) or
            "no" (False).

    Raises:
        DataError: no manifest, a missing, misspelt or doubled column, a short row, an entry that cannot be
            meant, a pair that stands twice, no row left; on access, a missing, truncated,
            mismatched or impossible image or depth file. It names the file, or the row.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        dataset: str | None = None,
        quality: str | None = None,
        split: str | None = None,
        offset_known: bool | None = None,
    ) -> None:
        path = Path(path)
        self.manifest = path / "manifest.csv" if path.is_dir() else path
        present, rows = read_table(self.manifest)
        wanted = {"dataset": dataset, "quality": quality, "split": split}
        wanted = {column: entry for column, entry in wanted.items() if entry is not None}
        check_columns(self.manifest, present, needed=(*COLUMNS, *wanted))
        check_rows(self.manifest, rows)
        labelled = [row for row in rows if row["depth"]]
        self.rows = [
            row for row in labelled if all(row[column] == entry for column, entry in wanted.items())
        ]
        if offset_known is not None:
            wanted["offset_known"] = "yes" if offset_known else "no"
            self.rows = [
                row for row in self.rows if yes(row, "offset_known", default=True) == offset_known
            ]
        self.domain = dataset or self.manifest.resolve().parent.name
        if not self.rows:
            have = (
                ", ".join(sorted({row.get("dataset") or self.domain for row in labelled})) or "none"
            )
            asked = "".join(f" and {column} {entry}" for column, entry in wanted.items())
            raise DataError(
                f"{self.manifest}: no row with depth{asked}; "
                + (f"data sets with depth: {have}" if wanted else "list images with their depth")
            )

    def by_dataset(self) -> dict[str, "DepthManifest"]:
        """A source of its own for each data set, by name and in the order in which they first
        occur."""
        rows: dict[str, list[dict[str, str]]] = {}
        for row in self.rows:
            rows.setdefault(row.get("dataset") or self.domain, []).append(row)
        parts = {name: copy.copy(self) for name in rows}
        for name, part in parts.items():
            part.__dict__.pop("fingerprint", None)
            part.rows = rows[name]
            part.domain = name
        return parts

    def with_known_offset(self) -> tuple["DepthManifest | None", int]:
        """The rows whose disparity is proportional to 1/z, None where there are none; and how many
        are left out."""
        part = copy.copy(self)
        part.__dict__.pop("fingerprint", None)
        part.rows = [row for row in self.rows if yes(row, "offset_known", default=True)]
        return part if part.rows else None, len(self.rows) - len(part.rows)

    def scale_is_known(self) -> bool:
        """Whether every row's disparity is in 1/m."""
        return all(map(_scale_known, self.rows))

    def is_in_metres(self) -> bool:
        """Whether every row's disparity is 1 / metres itself: scale and offset are known."""
        return all(
            _scale_known(row) and yes(row, "offset_known", default=True) for row in self.rows
        )

    def check_files(self) -> None:
        """A `DataError` for the first image, depth map or mask that is not there; none is read."""
        for row in self.rows:
            for path in self._files(row):
                if not path.is_file():
                    raise DataError(
                        f"{self.manifest}: no such file: {path}; correct the path or remove its row"
                    )

    @cached_property
    def fingerprint(self) -> str:
        """Of the rows, and of the sizes and times of change of their files; no file is read."""
        return digest(
            part for row in self.rows for part in (repr(sorted(row.items())), *self._files(row))
        )

    def __len__(self) -> int:
        return len(self.rows)

    def _files(self, row: dict[str, str]) -> list[Path]:
        """Image, depth map and, where the row has them, mask and mask of sky."""
        folder = self.manifest.parent
        image, depth, mask = _names(row)
        files = [address(folder, image).path, address(folder, depth).path]
        return files + [folder / name for name in (mask, sky_mask(row)) if name]

    def _sample(self, index: int) -> Sample:
        return read_row(self.rows[index], folder=self.manifest.parent, domain=self.domain)


def read_row(row: dict[str, str], *, folder: Path, domain: str) -> Sample:
    """The sample that a labelled row of a manifest in `folder` describes; `domain` is for rows
    without a `dataset`.

    Raises:
        ConfigError: a file's format needs a library that is not installed.
        DataError: a missing, truncated, mismatched or impossible file.
    """
    image_name, depth_name, mask_name = _names(row)
    image_at, depth_at = address(folder, image_name), address(folder, depth_name)
    name = str(depth_at)

    # the photograph, and its map as stored
    picture, data = read_picture(image_at)
    image = to_rgb(picture, name=str(image_at))
    stored = picture.shape[:2] if isinstance(picture, np.ndarray) else picture.size[::-1]
    values, own = read_values(depth_at, reader=row.get("reader", ""), size=stored)

    # what the row says of the map's values, laid out as the map is
    scale = number(row, "depth_scale")
    mask = _read_mask(folder / mask_name, like=own) if mask_name else None
    rule = sky_rule(row.get("sky", ""))
    sky = None if rule is None else sky_by_rule(values, rule, scale=scale)
    if sky_name := sky_mask(row):
        sky = _read_mask(folder / sky_name, like=own)
    rays = ray_numbers(row.get("rays", ""))
    ray = None if rays is None else cosines(*values.shape, rays)

    # all of it, turned as the photograph is shown
    size = (image.shape[1], image.shape[2])
    shown_turn = turn_of(picture, data) if data else 1
    turn = turn_for(values, size=size, photograph=shown_turn, own=own, name=name)
    disparity, valid = to_disparity(
        turned(values, turn),
        kind=row["kind"],
        scale=scale,
        name=name,
        mask=None if mask is None else turned(mask, turn),
        bits=bits(row.get("bits", "")),
        invalid=invalid_values(row.get("invalid", "")),
        sky=None if sky is None else turned(sky, turn),
        cosines=None if ray is None else turned(ray, turn),
    )
    same_size(image, disparity, name=name)
    return {
        "image": image,
        "disparity": disparity,
        "valid": valid,
        "domain": row.get("dataset") or domain,
        "name": row.get("id") or Path(row["image"]).stem,
        "scale_known": _scale_known(row),
        "offset_known": yes(row, "offset_known", default=True),
    }


def _names(row: dict[str, str]) -> tuple[str, str, str]:
    """Image, depth map and mask ("" where there is none); the native ones where there are both."""
    native = "native_" if row.get("native_image") and row.get("native_depth") else ""
    return row[f"{native}image"], row[f"{native}depth"], row.get(f"{native}mask", "")


def _scale_known(row: dict[str, str]) -> bool:
    return yes(row, "scale_known", default=row["kind"] == "depth_m")


def _read_mask(path: Path, *, like: int) -> np.ndarray:
    """A mask as stored, which must be turned like its map."""
    mask, own = decode_mask(read_bytes(path), name=str(path))
    if own != like:
        raise DataError(
            f"{path}: its EXIF orientation ({own}) is not its depth map's ({like}); "
            "remove both tags"
        )
    return mask


class ManifestPhotos(Source):
    """The photographs of a manifest, each once, without their ground truth: a pool of a published
    data set that lies among its maps and masks.

    Args:
        path: the manifest, of which only the column `image` is read (and `dataset`, where present).
        domain: defaults to the name of the manifest's folder.

    Raises:
        DataError: no such file, no column `image`, no row; on access, a file that cannot be decoded.
    """

    def __init__(self, path: str | Path, *, domain: str | None = None) -> None:
        self.path = Path(path)
        present, rows = read_table(self.path)
        check_columns(self.path, present, needed=("image",), optional=())
        names = dict.fromkeys(row["image"] for row in rows if row["image"])
        if not names:
            raise DataError(f"{self.path}: no row with an image; write one row for each photograph")
        # One buffer, which loader processes share, as in PhotoFolder.
        self.names = pa.array([os.fsencode(name) for name in names], pa.large_binary())
        self.domain = domain or self.path.resolve().parent.name

    @cached_property
    def fingerprint(self) -> str:
        """Of names, sizes and times of change; no photograph is read."""
        names = map(self._name, range(len(self)))
        return digest(
            part for name in names for part in (name, address(self.path.parent, name).path)
        )

    def __len__(self) -> int:
        return len(self.names)

    def _name(self, index: int) -> str:
        return os.fsdecode(self.names[index].as_py())

    def name_of(self, index: int) -> str:
        """Its path as the manifest has it."""
        return shown(self._name(index))

    def _sample(self, index: int) -> Sample:
        name = self._name(index)
        where = address(self.path.parent, name)
        image = to_rgb(read_picture(where)[0], name=str(where))
        return {"image": image, "domain": self.domain, "name": name}


class Motorcycle(Source):
    """The left image and the ground truth of Middlebury 2014 Motorcycle, out of scikit-image's
    wheel: no download.

    z = baseline * focal / (disparity + doffs), in metres. The principal points of the two cameras
    lie `doffs` columns apart; without it every depth is bent. Constants: scikit-image's docstring,
    valid for its images, a quarter of the published size (where focal, doffs and baseline are
    3979.911 px, 124.343 px and 193.001 mm).
    """

    FOCAL_PX = 994.978
    BASELINE_M = 0.193001
    DOFFS_PX = 31.086
    domain = "motorcycle"

    @cached_property
    def fingerprint(self) -> str:
        return digest([self.domain, version("scikit-image")])

    def __len__(self) -> int:
        return 1

    def _sample(self, index: int) -> Sample:
        from skimage.data import stereo_motorcycle

        left, _, offset_px = stereo_motorcycle()
        depth_m = self.BASELINE_M * self.FOCAL_PX / (offset_px.astype(np.float64) + self.DOFFS_PX)
        known = np.isfinite(offset_px)
        name = "scikit-image's Motorcycle"
        disparity, valid = to_disparity(depth_m, kind="depth_m", scale=1.0, name=name, mask=known)
        truth = {"disparity": disparity, "valid": valid, "scale_known": True, "offset_known": True}
        return {
            "image": to_rgb(left, name=name),
            "domain": self.domain,
            "name": self.domain,
        } | truth


class SkimagePhotos(Source):
    """The photographs with some depth to see in scikit-image's wheel: no ground truth, no
    download."""

    NAMES = ("astronaut", "camera", "chelsea", "coffee", "rocket")
    domain = "skimage"

    @cached_property
    def fingerprint(self) -> str:
        return digest([self.domain, version("scikit-image"), *self.NAMES])

    def __len__(self) -> int:
        return len(self.NAMES)

    def _sample(self, index: int) -> Sample:
        import skimage.data

        name = self.NAMES[index]
        return {
            "image": to_rgb(getattr(skimage.data, name)(), name=name),
            "domain": self.domain,
            "name": name,
        }
