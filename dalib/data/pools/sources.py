"""The public pools as sources: `pool:photos` and `pool:rgbd`. They are read where they lie, for
training alone, and never copied into the project.

Their fingerprints are of what they hold, not of times: a pool that was fetched anew, or that lies
elsewhere, is the same one.
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from dalib.data.files import digest
from dalib.data.pools.facts import SIZES, read_pool
from dalib.data.pools.fingerprint import fingerprint_of
from dalib.data.schema import Sample, Source
from dalib.data.sources import DepthManifest
from dalib.data.tars import TarShards
from dalib.errors import DataError


class PoolPhotos(Source):
    """The pool `photos`: real photographs in tar shards, no ground truth.

    Args:
        folder: of the pool.
        shippable: only the rows whose data set says yes in the pool's table (`ship` in
            `data/pools/sources.csv`): a network trained on these may be passed on, as one reader
            understands the terms.

    Raises:
        DataError: the pool is not there, or none of its photographs is left.
    """

    domain = "photos"
    keeps_resized = True

    def __init__(self, folder: str | Path, *, shippable: bool = False) -> None:
        self.folder = Path(folder)
        _check_there("photos", self.folder)
        self.shards = TarShards(self.folder, domain=self.domain)
        names = [self.shards.name_of(i) for i in range(len(self.shards))]
        self.indices = np.arange(len(names))
        self.shippable = shippable
        if shippable:
            may = {row.key for row in read_pool("photos").rows if row.origin.ship == "yes"}
            self.indices = np.array([i for i, n in enumerate(names) if _key(n) in may], np.int64)
        if not len(self.indices):
            raise DataError(
                f"{self.folder}: none of its {len(names)} photographs is of a data set that says yes "
                "(shippable); fetch the whole pool, or leave out that option"
            )

    @cached_property
    def fingerprint(self) -> str:
        """Of the pool as its tables state it, and of names and sizes of the photographs."""
        of_pool = fingerprint_of(self.folder) or self.shards.fingerprint
        names = map(self.name_of, range(len(self)))
        sizes = [size for batch in self.shards.rows.batches() for size in batch["size"].to_pylist()]
        return digest(
            ["pool:photos", of_pool]
            + [f"{name} {sizes[i]}" for name, i in zip(names, self.indices, strict=True)]
        )

    def __len__(self) -> int:
        return len(self.indices)

    def name_of(self, index: int) -> str:
        """Shard and member."""
        return self.shards.name_of(int(self.indices[index]))

    def _sample(self, index: int) -> Sample:
        return self.shards[int(self.indices[index])]


class PoolPairs(DepthManifest):
    """The pool `rgbd`: images with depth, as `DepthManifest` reads them.

    Args:
        folder: of the pool.
        split: keep only its train or its val, which share no scene.
        quality: keep only the rows of this quality, A or B.

    Raises:
        DataError: the pool is not there; else as `DepthManifest`.
    """

    keeps_resized = True

    def __init__(
        self, folder: str | Path, *, split: str | None = None, quality: str | None = None
    ) -> None:
        _check_there("rgbd", Path(folder))
        super().__init__(folder, split=split, quality=quality)

    @cached_property
    def fingerprint(self) -> str:
        """Of the rows and of the sizes of their files."""
        rows = (repr(sorted(row.items())) for row in self.rows)
        try:
            sizes = [str(file.stat().st_size) for row in self.rows for file in self._files(row)]
        except OSError as error:
            raise DataError(
                f"{error.filename}: cannot be read ({error.strerror}); fetch the pool again"
            ) from error
        return digest(["pool:rgbd", *rows, *sizes])


def _key(name: str) -> str:
    """Of a photograph, by its name: shard and member."""
    return Path(name).stem


def _check_there(name: str, folder: Path) -> None:
    if not (folder / "manifest.csv").is_file():
        megabytes, read = SIZES[name]
        raise DataError(
            f"pool:{name}: the pool is not on this machine; build it by `python -m dalib fetch {name}` "
            f"({megabytes} MB, made from {read} MB of public repositories), or set "
            f"DALIB_{name.upper()} to the folder that holds it"
        )
