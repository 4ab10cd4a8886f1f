"""Real data behind one schema (`dalib.data.schema`): folders, manifests, hub data sets, scikit-image."""

import csv
import os
import warnings
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa

from dalib.data.files import digest, read_map, read_rgb, same_size, to_disparity, to_rgb
from dalib.data.hub import HubDataset
from dalib.data.listing import list_folder
from dalib.data.metadata import PictureWarning, shown
from dalib.data.schema import Sample, Source, fit
from dalib.errors import DataError

__all__ = ["DepthManifest", "HubDataset", "Motorcycle", "PhotoFolder", "SkimagePhotos", "Source", "fit"]

COLUMNS = ("image", "depth", "kind", "depth_scale")


class PhotoFolder(Source):
    """Every photograph under a folder, sorted by path; no ground truth.

    Args:
        path: the folder, searched with its subfolders. What is hidden is passed over; so are other files than Pillow's
            pictures, with a warning where they are photographs that it does not read.
        domain: defaults to the folder's name.

    Raises:
        DataError: no such folder, or no photograph in it; on access, a file that cannot be decoded.
    """

    def __init__(self, path: str | Path, *, domain: str | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise DataError(f"{self.path}: no such folder; give a folder of photographs")
        found = list_folder(self.path)
        for line in found.missed.lines():
            warnings.warn(f"{shown(self.path)}: {line}", PictureWarning, stacklevel=2)
        if not found.names:
            missed = f" ({'; '.join(found.missed.lines())})" if found.missed.counts else ""
            raise DataError(f"{self.path}: no photograph in this folder{missed}; put JPEG, PNG or other pictures there")
        # One buffer, which loader processes share, for any number; bytes, since a name need not be UTF-8.
        self.names = pa.array([os.fsencode(name) for name in found.names], pa.large_binary())
        self.domain = domain or self.path.resolve().name

    @cached_property
    def fingerprint(self) -> str:
        """Of names, sizes and times of change: no file is read, however many there are."""
        names = map(self._name, range(len(self)))
        return digest(part for name in names for part in (shown(name), self.path / name))

    def __len__(self) -> int:
        return len(self.names)

    def _name(self, index: int) -> str:
        return os.fsdecode(self.names[index].as_py())

    def _sample(self, index: int) -> Sample:
        name = self._name(index)
        return {"image": read_rgb(self.path / name), "domain": self.domain, "name": shown(name)}


class DepthManifest(Source):
    """Pairs of an image and a 16-bit depth PNG (or .npy), listed in a `manifest.csv`.

    Required columns: `image` and `depth` (paths relative to the manifest; a row without depth is passed over), `kind`
    ("depth_m" or "disparity") and `depth_scale` (value = stored / depth_scale, 0 = no ground truth). Used if present:
    `id`, `dataset`, `quality`, `scale_known`, `offset_known`; `native_image` with `native_depth`, which are preferred.

    Args:
        path: the manifest, or the folder that holds it.
        dataset: keep only the rows of this data set.
        quality: keep only the rows of this quality.
        offset_known: keep only the rows where it is "yes" (True) or "no" (False).

    Raises:
        DataError: no manifest, a missing column, a short row, no row left; on access, a missing, truncated, mismatched
            or impossible image or depth file. It names the file.
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
        present, rows = _read_csv(self.manifest)
        wanted = {"dataset": dataset, "quality": quality}
        wanted |= {"offset_known": None if offset_known is None else "yes" if offset_known else "no"}
        wanted = {column: entry for column, entry in wanted.items() if entry is not None}
        if missing := ", ".join(column for column in (*COLUMNS, *wanted) if column not in present):
            raise DataError(f"{self.manifest}: missing column {missing}; it has {', '.join(present) or 'none'}")
        for number, row in enumerate(rows, start=1):
            if None in row or None in row.values():
                raise DataError(f"{self.manifest}: row {number} has not {len(present)} entries; complete or remove it")
        labelled = [row for row in rows if row["depth"]]
        self.rows = [row for row in labelled if all(row[column] == entry for column, entry in wanted.items())]
        if not self.rows:
            have = ", ".join(sorted({row.get("dataset", "") for row in labelled})) or "none"
            raise DataError(f"{self.manifest}: no row with depth and {wanted}; data sets with depth: {have}")
        self.domain = dataset or self.manifest.resolve().parent.name

    @cached_property
    def fingerprint(self) -> str:
        """Of the rows, and of the sizes and times of change of their files; no file is read."""
        return digest(part for row in self.rows for part in (repr(sorted(row.items())), *self._files(row)))

    def __len__(self) -> int:
        return len(self.rows)

    def _files(self, row: dict[str, str]) -> tuple[Path, Path]:
        native = "native_" if row.get("native_image") and row.get("native_depth") else ""
        return self.manifest.parent / row[f"{native}image"], self.manifest.parent / row[f"{native}depth"]

    def _sample(self, index: int) -> Sample:
        row = self.rows[index]
        image_path, depth_path = self._files(row)
        try:
            scale = float(row["depth_scale"])
        except ValueError:
            what = f"depth_scale of {row['depth']} is {row['depth_scale']!r}"
            raise DataError(f"{self.manifest}: {what}; it must be a positive number") from None
        image = read_rgb(image_path)
        disparity, valid = to_disparity(read_map(depth_path), kind=row["kind"], scale=scale, name=str(depth_path))
        same_size(image, disparity, name=str(depth_path))
        return {
            "image": image,
            "disparity": disparity,
            "valid": valid,
            "domain": row.get("dataset") or self.domain,
            "name": row.get("id") or Path(row["image"]).stem,
            "scale_known": row.get("scale_known", "yes" if row["kind"] == "depth_m" else "no") == "yes",
            "offset_known": row.get("offset_known", "yes") == "yes",
        }


def _read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Header and rows; a `DataError` where there is no such file or it is no text."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            return list(reader.fieldnames or []), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); write a CSV of {', '.join(COLUMNS)}") from error


class Motorcycle(Source):
    """The left image and the ground truth of Middlebury 2014 Motorcycle, out of scikit-image's wheel: no download.

    z = baseline * focal / (disparity + doffs), in metres. The principal points of the two cameras lie `doffs` columns
    apart; without it every depth is bent. Constants: scikit-image's docstring, valid for its images, a quarter of the
    published size (where focal, doffs and baseline are 3979.911 px, 124.343 px and 193.001 mm).
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
        known, name = np.isfinite(offset_px), "scikit-image's Motorcycle"
        disparity, valid = to_disparity(depth_m, kind="depth_m", scale=1.0, name=name, mask=known)
        truth = {"disparity": disparity, "valid": valid, "scale_known": True, "offset_known": True}
        return {"image": to_rgb(left, name=name), "domain": self.domain, "name": self.domain} | truth


class SkimagePhotos(Source):
    """The photographs with some depth to see in scikit-image's wheel: no ground truth, no download."""

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
        return {"image": to_rgb(getattr(skimage.data, name)(), name=name), "domain": self.domain, "name": name}
