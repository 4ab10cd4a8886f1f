"""Any `datasets` data set as a source, by the names of its columns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dalib.data.files import decode_image, digest, same_size, to_disparity, to_rgb
from dalib.data.manifest import invalid_values
from dalib.data.maps import decode_map, decode_mask, read_bytes, turn_for, turn_of, turned
from dalib.data.schema import Sample, Source
from dalib.errors import ConfigError, DataError


class HubDataset(Source):
    """A data set of the Hugging Face hub, or a local one.

    Args:
        name: a name on the hub, a local path that `datasets.load_dataset` reads, or a folder made
            by `save_to_disk`.
        image: column of images.
        depth: column of depth; `value / depth_scale` is z-depth in metres. Without it and
            `disparity`: unlabelled.
        disparity: column of disparity, `value / depth_scale` proportional to 1/z; instead of
            `depth`.
        mask: column that is nonzero where ground truth is valid. Without it, 0 in the map means no
            ground truth.
        depth_scale: divisor of the stored depth or disparity.
        scale_known: False where depth is known only up to a factor.
        split: as in `datasets.load_dataset`.
        config: as `name` in `datasets.load_dataset`.
        revision: as in `datasets.load_dataset`; fix it in anything that is to be repeated.
        bits: 8 declares that a map of 8 bits is depth all the same, see `to_disparity`.
        invalid: further stored values, apart by spaces, that mean no ground truth, or "none"; see
            `to_disparity`.
        domain: defaults to the last part of the name.

    Raises:
        ConfigError: `invalid` is no list of numbers.
        DataError: it cannot be loaded, is empty, or lacks a column; on access, what `to_rgb`,
            `decode_map` and `to_disparity` refuse.
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
        bits: int | None = None,
        invalid: str | None = None,
        domain: str | None = None,
    ) -> None:
        if depth and disparity:
            raise DataError(
                f"{name}: depth={depth!r} and disparity={disparity!r} are both given; name only one"
            )
        try:
            self.invalid = invalid_values(invalid or "")
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None
        self.bits = bits
        self.name = str(name)
        self.domain = domain or Path(name).name
        self.data = _load(self.name, split=split, config=config, revision=revision)
        self.image = image
        self.truth = depth or disparity
        self.mask = mask
        self.kind = "depth_m" if depth else "disparity"
        self.scale = depth_scale
        self.scale_known = scale_known and depth is not None
        columns = [column for column in (image, self.truth, mask) if column]
        if missing := ", ".join(
            column for column in columns if column not in self.data.column_names
        ):
            have = ", ".join(self.data.column_names)
            raise DataError(
                f"{name}: missing column {missing}; name them (image=, depth=, ...) among {have}"
            )
        if not len(self.data):
            raise DataError(f"{name}: split {split!r} is empty; choose another")
        declared = repr((bits, invalid)) if bits or invalid else ""
        self.fingerprint = digest(
            [
                self.data._fingerprint,
                repr((columns, self.kind, depth_scale, scale_known)) + declared,
            ]
        )
        self.data = _undecoded(self.data, columns)

    def __len__(self) -> int:
        return len(self.data)

    def _sample(self, index: int) -> Sample:
        # the photograph
        name = f"{self.name}, sample {index}"
        try:
            row = self.data[index]
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(
                f"{name}: cannot be decoded ({error}); repair it or leave it out"
            ) from error
        content = _content(row[self.image], name=f"{name}, column {self.image}")
        photograph = 1
        if isinstance(content, bytes):
            picture = decode_image(content, name=name)
            image = to_rgb(picture, name=name)
            photograph = turn_of(picture, content)
        else:
            image = to_rgb(content, name=name)
        sample = {"image": image, "domain": self.domain, "name": str(index)}
        if self.truth is None:
            return sample

        # its map and mask, turned as the photograph is
        values, own = self._read(row, self.truth, decode_map, name=name)
        mask = None
        if self.mask is not None:
            mask, of_mask = self._read(row, self.mask, decode_mask, name=name)
            mask = mask != 0
            if of_mask != own:
                raise DataError(
                    f"{name}: mask and map have different EXIF orientations ({of_mask}, {own}); "
                    "remove them"
                )
        size = (image.shape[1], image.shape[2])
        turn = turn_for(values, size=size, photograph=photograph, own=own, name=name)

        # the ground truth
        disparity, valid = to_disparity(
            turned(values, turn),
            kind=self.kind,
            scale=self.scale,
            name=name,
            mask=None if mask is None else turned(mask, turn),
            bits=self.bits,
            invalid=self.invalid,
        )
        same_size(image, disparity, name=name)
        truth = {
            "disparity": disparity,
            "valid": valid,
            "scale_known": self.scale_known,
            "offset_known": True,
        }
        return sample | truth

    def _read(
        self, row: dict[str, Any], column: str, decode: Callable, *, name: str
    ) -> tuple[np.ndarray, int]:
        """A map or mask of a row, as stored, with its EXIF orientation."""
        content = _content(row[column], name=f"{name}, column {column}")
        if isinstance(content, bytes):
            return decode(content, name=name)
        if content.ndim != 2:
            raise DataError(
                f"{name}: column {column} has shape {content.shape}, not (H, W); name another"
            )
        return content, 1


def _undecoded(data: Any, columns: list[str]) -> Any:
    """These columns, with pictures as files hold them: `datasets` would turn and stretch some of
    them unseen."""
    import datasets

    data = data.select_columns(list(dict.fromkeys(columns)))
    for column in columns:
        if isinstance(data.features[column], datasets.Image):
            data = data.cast_column(column, datasets.Image(decode=False))
    return data


def _content(entry: Any, *, name: str) -> bytes | np.ndarray:
    """A file's content, where an entry is a file, its path, or both; else an array."""
    if isinstance(entry, dict) and {"bytes", "path"} <= entry.keys():
        entry = entry["bytes"] or entry["path"]
    if isinstance(entry, str):
        return read_bytes(Path(entry))
    if entry is None:
        raise DataError(f"{name}: it is empty; leave this sample out")
    if isinstance(entry, bytes):
        return entry
    try:
        return np.asarray(entry)
    except ValueError as error:
        raise DataError(
            f"{name}: neither a picture nor an array ({error}); name another column"
        ) from error


def _load(name: str, *, split: str, config: str | None, revision: str | None) -> Any:
    """`load_from_disk` for the folders it writes, else `load_dataset`; what fails there is a
    `DataError`."""
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
    except Exception as error:  # of any kind: loading scripts, file systems, parsers
        why = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name}: split {split!r} cannot be loaded ({why}); check name and network"
        ) from error
