"""Any `datasets` data set as a source, by the names of its columns."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dalib.data.files import digest, open_image, same_size, to_disparity, to_rgb
from dalib.data.schema import Sample, Source
from dalib.errors import DataError


class HubDataset(Source):
    """A data set of the Hugging Face hub, or a local one.

    Args:
        name: a name on the hub, a local path that `datasets.load_dataset` reads, or a folder made by `save_to_disk`.
        image: column of images.
        depth: column of depth; `value / depth_scale` is z-depth in metres. Without it and `disparity`: unlabelled.
        disparity: column of disparity, `value / depth_scale` proportional to 1/z; instead of `depth`.
        mask: column that is nonzero where ground truth is valid. Without it, 0 in the map means no ground truth.
        depth_scale: divisor of the stored depth or disparity.
        scale_known: False where depth is known only up to a factor.
        split: as in `datasets.load_dataset`.
        config: as `name` in `datasets.load_dataset`.
        revision: as in `datasets.load_dataset`; fix it in anything that is to be repeated.
        domain: defaults to the last part of the name.

    Raises:
        DataError: it cannot be loaded, is empty, or lacks a column; on access, what `to_rgb` and `to_disparity` refuse.
    """

    def __init__(
        self,
        name: str | Path,
        *,
        image: str = "image",
        depth: str | None = None,
        disparity: str | None = None,
        mask: str | None = None,
        depth_scale: float | int = 1,
        scale_known: bool = True,
        split: str = "train",
        config: str | None = None,
        revision: str | None = None,
        domain: str | None = None,
    ) -> None:
        if depth and disparity:
            raise DataError(f"{name}: depth={depth!r} and disparity={disparity!r} are both given; name only one")
        self.name, self.domain = str(name), domain or Path(name).name
        self.data = _load(self.name, split=split, config=config, revision=revision)
        self.image, self.truth, self.mask = image, depth or disparity, mask
        self.kind, self.scale = "depth_m" if depth else "disparity", depth_scale
        self.scale_known = scale_known and depth is not None
        columns = [column for column in (image, self.truth, mask) if column]
        if missing := ", ".join(column for column in columns if column not in self.data.column_names):
            have = ", ".join(self.data.column_names)
            raise DataError(f"{name}: missing column {missing}; name them (image=, depth=, ...) among {have}")
        if not len(self.data):
            raise DataError(f"{name}: split {split!r} is empty; choose another")
        self.fingerprint = digest([self.data._fingerprint, repr((columns, self.kind, depth_scale, scale_known))])

    def __len__(self) -> int:
        return len(self.data)

    def _sample(self, index: int) -> Sample:
        name = f"{self.name}, sample {index}"
        try:
            row = self.data[index]
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{name}: cannot be decoded ({error}); repair it or leave it out") from error
        picture = row[self.image]
        picture = open_image(Path(picture)) if isinstance(picture, str) else picture
        image = to_rgb(picture if isinstance(picture, Image.Image) else np.asarray(picture), name=name)
        sample = {"image": image, "domain": self.domain, "name": str(index)}
        if self.truth is None:
            return sample
        mask = None if self.mask is None else np.asarray(row[self.mask]) != 0
        values = np.asarray(row[self.truth])
        if values.ndim != 2:
            raise DataError(f"{name}: column {self.truth} has shape {values.shape}, not (H, W); name another")
        disparity, valid = to_disparity(values, kind=self.kind, scale=self.scale, name=name, mask=mask)
        same_size(image, disparity, name=name)
        truth = {"disparity": disparity, "valid": valid, "scale_known": self.scale_known, "offset_known": True}
        return sample | truth


def _load(name: str, *, split: str, config: str | None, revision: str | None) -> Any:
    """`load_from_disk` for the folders it writes, else `load_dataset`; what fails there is a `DataError`."""
    import datasets  # a second of import time that the other sources need not pay

    folder = Path(name)
    try:
        if (folder / "dataset_dict.json").is_file():
            splits = datasets.load_from_disk(name)
            if split not in splits:
                raise DataError(f"{name}: no split {split!r}; choose among {', '.join(splits)}")
            return splits[split]
        if (folder / "state.json").is_file():
            return datasets.load_from_disk(name)
        return datasets.load_dataset(name, config, split=split, revision=revision)
    except DataError:
        raise
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{name}: split {split!r} cannot be loaded ({error}); check name and network") from error
