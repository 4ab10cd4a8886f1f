"""Images of a source, resized once and kept on disk, for training that reads each of them dozens of
times: what is left to do for a reading is the crop.

A file lies at `paths.cache()/resized/<name>-<key>.arrow`, where the key covers the source, the size,
the code that decodes and resizes, and the versions of the libraries that do. The pixels are those
that a reading of the source would give.
"""

import json
import logging
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from dalib import paths
from dalib.data.files import digest
from dalib.data.schema import Sample, Source, resized_to_cover
from dalib.data.tables import Rows, Table, written_table
from dalib.errors import DataError, DiskError
from dalib.provenance import behind, files_hash

log = logging.getLogger(__name__)
MAPS = {"image": torch.uint8, "disparity": torch.float32, "valid": torch.bool}
"""What is kept of a sample, and its type on disk."""
SCHEMA = pa.schema(
    [
        *((name, pa.large_binary()) for name in MAPS),
        ("rows", pa.int32()),
        ("columns", pa.int32()),
        ("facts", pa.string()),
    ]
)
PART = 256
"""Samples in a batch of the file."""


class Resized(Source):
    """The same samples as `source`, which for one size are read as they were kept.

    An image that could not be read when they were made is asked of the source again.

    Args:
        source: whose samples they are; without classes.
        rows: of the file.
        height, width: the size, in pixels, that the kept maps just cover.
    """

    def __init__(self, source: Source, rows: Rows, *, height: int, width: int) -> None:
        self.source = source
        self.rows = rows
        self.kept = height, width
        self.domain = source.domain
        self.fingerprint = source.fingerprint

    def __len__(self) -> int:
        return len(self.source)

    def name_of(self, index: int) -> str:
        """As the source calls it."""
        return self.source.name_of(index)

    @property
    def reads_alike(self) -> bool:
        """No: at the kept size it gives maps of that size, else the source's own."""
        return False

    def _sample(self, index: int) -> Sample:
        return self.source[index]

    def sample_for(self, index: int, *, height: int, width: int) -> Sample:
        """The kept maps at the size that they were made for."""
        if (height, width) == self.kept and 0 <= index < len(self):
            _, row = self.rows.at(int(index))
            if row["image"] is not None:
                return _read(row)
        return self.source.sample_for(index, height=height, width=width)


def at_size(source: Source, *, height: int, width: int) -> Source:
    """A source for training at a size: with its resized images kept, where it is one of those whose
    images are (`keeps_resized`), and else itself."""
    if not getattr(source, "keeps_resized", False):
        return source
    return materialise(source, height=height, width=width)


def materialise(source: Source, *, height: int, width: int) -> Resized:
    """A source with its resized images on disk, made now where they are not there.

    Raises `DiskError` where the disk refuses.
    """
    module = type(source).__module__
    key = digest([source.fingerprint, f"{height}x{width}", _makers(module)])
    path = paths.cache() / "resized" / f"{source.domain}-{height}x{width}-{key}.arrow"
    rows = Rows.opened(path, SCHEMA)
    if rows is None or len(rows) != len(source):
        log.info("%s: resizing %d images to %d x %d", source.domain, len(source), height, width)
        try:
            with written_table(path, SCHEMA) as table:
                table.notes |= {"module": module, "makers": _makers(module)}
                _write(table, source, height=height, width=width)
        except OSError as error:
            raise DiskError(
                f"{path}: could not be written ({error}); free some space, or set DALIB_RUNS to a "
                "folder on a larger disk"
            ) from error
        rows = Rows(path, SCHEMA)
    return Resized(source, rows, height=height, width=width)


@cache
def _makers(module: str) -> str:
    """What the pixels depend on besides the files: the code behind a module of sources, and
    libraries."""
    code = {*behind(module.removeprefix("dalib.")), *behind("data.schema")}
    libraries = [f"{name} {version(name)}" for name in ("torch", "pillow", "numpy")]
    return digest([files_hash(sorted(code)), *libraries])


def of_today(path: Path) -> bool:
    """Whether today's code and libraries made such a file."""
    rows = Rows.opened(path, SCHEMA)
    return rows is not None and rows.notes.get("makers") == _makers(rows.notes.get("module", ""))


def _write(table: Table, source: Source, *, height: int, width: int) -> None:
    for start in range(0, len(source), PART):
        numbers = range(start, min(start + PART, len(source)))
        kept = [_kept(source, i, height=height, width=width) for i in numbers]
        columns = [pa.array([each[f.name] for each in kept], f.type) for f in SCHEMA]
        table.write(pa.record_batch(columns, schema=SCHEMA))


def _kept(source: Source, index: int, *, height: int, width: int) -> dict:
    """A row of the file; without maps where the sample cannot be read."""
    row = dict.fromkeys(SCHEMA.names)
    try:
        sample = source.sample_for(index, height=height, width=width)
    except DataError:
        return row
    sample = resized_to_cover(sample, height=height, width=width)
    for name, dtype in MAPS.items():
        if name in sample:
            row[name] = sample[name].to(dtype).contiguous().numpy().tobytes()
    row["rows"], row["columns"] = sample["image"].shape[-2:]
    row["facts"] = json.dumps({k: v for k, v in sample.items() if k not in MAPS})
    return row


def _read(row: dict) -> Sample:
    """A sample from a row of the file."""
    sample = json.loads(row["facts"])
    size = row["rows"], row["columns"]
    for name, dtype in MAPS.items():
        if row[name] is not None:
            shape = (3, *size) if name == "image" else size
            flat = torch.from_numpy(np.frombuffer(row[name], np.uint8).copy())
            sample[name] = flat.view(dtype).reshape(shape)
    return sample
