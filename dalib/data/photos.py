"""Photographs without ground truth behind one schema (`dalib.data.schema`)."""

import os
import warnings
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from dalib.data import remembered
from dalib.data.files import Size, digest, read_rgb
from dalib.data.listing import stated_pool
from dalib.data.metadata import PictureWarning, shown
from dalib.data.schema import Sample, Source
from dalib.errors import DataError


class PhotoFolder(Source):
    """Every photograph under a folder, sorted by path; no ground truth.

    Args:
        path: the folder, searched with its subfolders. What is hidden is passed over; so are other
            files than Pillow's pictures, with a warning where they are photographs that it does not
            read. The listing of a large folder is kept, see `dalib.data.remembered`.
        domain: defaults to the folder's name.
        draft: decode JPEG files at a fraction of their size where that is enough for the images
            that are asked for (`dalib.data.files.draft_scale`): several times faster, slightly
            other pixels.

    Raises:
        DataError: no such folder, or no photograph in it; on access, a file that cannot be decoded.
    """

    def __init__(self, path: str | Path, *, domain: str | None = None, draft: bool = False) -> None:
        self.path = Path(path)
        self.draft = draft
        if not self.path.is_dir():
            what = "a file where a folder is meant" if self.path.exists() else "no such folder"
            raise DataError(f"{self.path}: {what}; give a folder of photographs")
        self.rows, found = remembered.listing(self.path)
        for line in found.missed.lines():
            warnings.warn(f"{shown(self.path)}: {line}", PictureWarning, stacklevel=2)
        # One buffer, which loader processes share, for any number; bytes, since a name need not be
        # UTF-8.
        self.names = pa.array([os.fsencode(name) for name in found.names], pa.large_binary())
        if not len(self):
            missed = f" ({'; '.join(found.missed.lines())})" if found.missed.counts else ""
            raise DataError(
                f"{self.path}: no photograph in this folder{missed}; put JPEG, PNG or "
                "other pictures there"
            )
        self.domain = domain or self.path.resolve().name

    @cached_property
    def fingerprint(self) -> str:
        """Of names, sizes and times of change: no file is read, however many there are; of a large
        folder it is kept with the listing."""
        if self.rows is not None:
            of_all = self.rows.notes["fingerprint"]
        else:
            names = map(self._name, range(len(self)))
            of_all = digest(part for name in names for part in (shown(name), self.path / name))
        return digest([of_all, "draft"]) if self.draft else of_all

    @cached_property
    def pool(self) -> str | None:
        """The fingerprint of the published pool that this folder is, see `stated_pool`."""
        return stated_pool(self.path)

    def __len__(self) -> int:
        return len(self.names) if self.rows is None else len(self.rows)

    def _name(self, index: int) -> str:
        if self.rows is not None:
            return os.fsdecode(self.rows.at(index)[1]["name"])
        return os.fsdecode(self.names[index].as_py())

    def name_of(self, index: int) -> str:
        """Its path below the folder."""
        return shown(self._name(index))

    def _sample(self, index: int) -> Sample:
        return self._read(index, None)

    @property
    def reads_alike(self) -> bool:
        """Not with `draft`, which decodes for a size."""
        return not self.draft

    def sample_for(self, index: int, *, height: int, width: int) -> Sample:
        """With `draft`, as it is decoded for such a size."""
        if not -len(self) <= index < len(self):
            return self[index]  # which says so
        return self._read(int(index) % len(self), (height, width) if self.draft else None)

    def _read(self, index: int, draft_for: Size | None) -> Sample:
        if self.rows is None:
            name = self._name(index)
        else:
            _, row = self.rows.at(index)
            name = os.fsdecode(row["name"])
            remembered.check_read(row, self.path / name, self.rows)
        image = read_rgb(self.path / name, draft_for=draft_for)
        return {"image": image, "domain": self.domain, "name": shown(name)}
