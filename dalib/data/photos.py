"""Photographs without ground truth behind one schema (`dalib.data.schema`)."""

import os
import warnings
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from dalib.data.files import digest, read_rgb
from dalib.data.listing import list_folder
from dalib.data.metadata import PictureWarning, shown
from dalib.data.schema import Sample, Source
from dalib.errors import DataError


class PhotoFolder(Source):
    """Every photograph under a folder, sorted by path; no ground truth.

    Args:
        path: the folder, searched with its subfolders. What is hidden is passed over; so are other
            files than Pillow's pictures, with a warning where they are photographs that it does not
            read.
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
            raise DataError(
                f"{self.path}: no photograph in this folder{missed}; put JPEG, PNG or "
                "other pictures there"
            )
        # One buffer, which loader processes share, for any number; bytes, since a name need not be
        # UTF-8.
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

    def name_of(self, index: int) -> str:
        """Its path below the folder."""
        return shown(self._name(index))

    def _sample(self, index: int) -> Sample:
        name = self._name(index)
        return {"image": read_rgb(self.path / name), "domain": self.domain, "name": shown(name)}
