"""Real data behind one schema (`dalib.data.schema`): manifests of pairs, and what comes with
scikit-image. Folders of photographs are in `dalib.data.photos`, hub data sets in `dalib.data.hub`."""

import copy
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dalib.data.files import decode_image, digest, same_size, to_disparity, to_rgb
from dalib.data.manifest import COLUMNS, bits, check_rows, invalid_values, number, read_table, yes
from dalib.data.maps import decode_map, decode_mask, read_bytes, turn_for, turn_of, turned
from dalib.data.schema import Sample, Source
from dalib.errors import DataError


class DepthManifest(Source):
    """Pairs of an image and a depth map, listed in a `manifest.csv`. What the maps may be:
    `dalib.data.maps.decode_map`.

    Required columns: `image` and `depth` (paths relative to the manifest; a row without depth is
    passed over), `kind` ("depth_m" or "disparity") and `depth_scale` (value = stored / depth_scale,
    0 = no ground truth). Used if present: `id`, `dataset`, `quality`; `scale_known` and
    `offset_known` (yes or no); `native_image` with `native_depth`, which are preferred. Of the map:
    `mask` (path, not 0 where there is ground truth; `native_mask` beside `native_depth`), `bits` (8
    declares that 8-bit depth is meant), `invalid` (further stored values, apart by spaces, that
    mean "no ground truth", such as 65535, or `none` where every value is meant). Where a mask is
    given, or `invalid` is `none`, a disparity of 0 is ground truth: infinitely far, as the sky.

    Args:
        path: the manifest, or the folder that holds it.
        dataset: keep only the rows of this data set.
        quality: keep only the rows of this quality.
        offset_known: keep only the rows where it is "yes" (True, also without such a column) or
            "no" (False).

    Raises:
        DataError: no manifest, a missing or doubled column, a short row, an entry that cannot be
            meant, a pair that stands twice, no row left; on access, a missing, truncated,
            mismatched or impossible image or depth file. It names the file, or the row.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        dataset: str | None = None,
        quality: str | None = None,
        offset_known: bool | None = None,
    ) -> None:
        path = Path(path)
        self.manifest = path / "manifest.csv" if path.is_dir() else path
        present, rows = read_table(self.manifest)
        wanted = {"dataset": dataset, "quality": quality}
        wanted = {column: entry for column, entry in wanted.items() if entry is not None}
        if missing := ", ".join(column for column in (*COLUMNS, *wanted) if column not in present):
            raise DataError(
                f"{self.manifest}: missing column {missing}; it has {', '.join(present) or 'none'}"
            )
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
            raise DataError(
                f"{self.manifest}: no row with depth and {wanted}; data sets with depth: {have}"
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
        """Image, depth map and, where the row has one, mask."""
        native = "native_" if row.get("native_image") and row.get("native_depth") else ""
        names = (row[f"{native}image"], row[f"{native}depth"], row.get(f"{native}mask"))
        return [self.manifest.parent / name for name in names if name]

    def _sample(self, index: int) -> Sample:
        row = self.rows[index]
        image_path, depth_path, *mask_path = self._files(row)
        name = str(depth_path)
        data = read_bytes(image_path)
        picture = decode_image(data, name=str(image_path))
        image = to_rgb(picture, name=str(image_path))
        values, own = decode_map(read_bytes(depth_path), name=name)
        mask = _read_mask(mask_path[0], like=own) if mask_path else None
        size = (image.shape[1], image.shape[2])
        turn = turn_for(values, size=size, photograph=turn_of(picture, data), own=own, name=name)
        disparity, valid = to_disparity(
            turned(values, turn),
            kind=row["kind"],
            scale=number(row, "depth_scale"),
            name=name,
            mask=None if mask is None else turned(mask, turn),
            bits=bits(row.get("bits", "")),
            invalid=invalid_values(row.get("invalid", "")),
        )
        same_size(image, disparity, name=name)
        return {
            "image": image,
            "disparity": disparity,
            "valid": valid,
            "domain": row.get("dataset") or self.domain,
            "name": row.get("id") or Path(row["image"]).stem,
            "scale_known": _scale_known(row),
            "offset_known": yes(row, "offset_known", default=True),
        }


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
