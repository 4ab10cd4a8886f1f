"""The listing of a large folder, kept: 60 million names are listed once, and opened in seconds by
any process, without memory of its own.

What is kept and when it is believed. Each folder is kept with its time of change, which moves
whenever a file in it is added, removed, renamed or replaced by another (`os.replace`, `rsync`). At
each opening all folders are looked at, one look each; where the time is another one, that folder is
listed anew, and its files' sizes and times are looked up. A folder that changed in the two seconds
before it was listed is not believed the next time, since a clock may be as coarse as that.

A file that is written over in place keeps its folder's time. Of those, `SAMPLE` files of the whole
are looked at in each opening, always the same: where a hundredth of the files were written over, it
goes unnoticed once in 20,000 times. A single one changes no fingerprint, but is an error as soon as
it is read (`check_read`): no pass over the images takes another one for that which was listed. So
it is with links to files, where what they lead to changes. Small folders, of fewer than `LARGE`
photographs, are listed each time, and all of their files looked at.
"""

import os
import time
from collections.abc import Collection
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dalib import paths
from dalib.data.listing import NOTE, Folder, Groups, Listing, read_folder, walk
from dalib.data.metadata import shown
from dalib.data.tables import Rows, written_table
from dalib.errors import DataError

LARGE = 100_000
"""Photographs from which on a listing is kept."""
SAMPLE = 1000
BATCH = 65_536
RACE_NS = 2 * 10**9
NEVER = -1
SCHEMA = pa.schema(
    [
        ("name", pa.large_binary()),
        ("folder", pa.int32()),
        ("size", pa.int64()),
        ("changed", pa.int64()),
    ]
)


def listing(folder: Path) -> tuple[Rows | None, Listing]:
    """The photographs of a folder, sorted by path, and what is to be said of the others.

    Returns:
        The rows of a large folder, whose notes have its `fingerprint`, and a listing without names;
        or None and the whole listing.

    Raises:
        DataError: a kept listing that cannot be written, or a file that went while it was listed.
    """
    key = blake2b(os.fsencode(os.path.realpath(folder)), digest_size=8).hexdigest()
    place = paths.cache() / "listings" / f"{key}.arrow"
    old = Rows.opened(place, SCHEMA)
    if old is not None and _is_true(old, folder):
        return _with_missed(old)

    search = _Search(folder, old)
    walk(folder, search.look)
    if search.kept and not _sample_is_true(old, folder, within=search.kept):
        search = _Search(folder, None)
        walk(folder, search.look)
    if not search.kept and search.count < LARGE:
        place.unlink(missing_ok=True)
        return None, Listing(names=sorted(search.waiting), missed=search.missed)
    try:
        search.write(place)
    except OSError as error:
        raise DataError(
            f"{place}: the listing of {shown(folder)} could not be written ({error}); free some "
            "space, or set DALIB_RUNS to a folder that can"
        ) from error
    rows = Rows(place, SCHEMA)
    if len(rows) < LARGE:  # by now
        place.unlink()
        return listing(folder)
    return _with_missed(rows)


def check_read(row: dict[str, Any], path: Path, rows: Rows) -> None:
    """A `DataError` for a file that is not as it was listed, by its size and time.

    Args:
        row: of the file.
        path: where it lies.
        rows: the listing.
    """
    try:
        look = path.stat()
    except OSError:
        return  # which who reads it will say better
    if (look.st_size, look.st_mtime_ns) != (row["size"], row["changed"]):
        raise DataError(
            f"{path}: changed since its folder was listed; put it back, or delete {rows.path} to "
            "have the folder listed anew"
        )


def _with_missed(rows: Rows) -> tuple[Rows, Listing]:
    """The rows without the note on each folder, which nobody needs any more."""
    missed = Groups()
    for _, _, _, _, groups in rows.notes.pop("folders"):
        missed.merge(Groups(**groups) if groups else Groups())
    return rows, Listing(missed=missed)


def _is_true(rows: Rows, root: Path) -> bool:
    """Whether no folder changed, nor any file of the sample."""
    for place, changed, *_ in rows.notes["folders"]:
        if _changed(root / place) != changed:
            return False
    return _sample_is_true(rows, root)


def _sample_is_true(rows: Rows, root: Path, *, within: Collection[int] | None = None) -> bool:
    """Whether the files of the sample, spread evenly, have the sizes and times that are kept; those
    of the folders `within`, by number, or all."""
    for index in np.unique(np.linspace(0, len(rows) - 1, SAMPLE).astype(np.int64)):
        _, row = rows.at(int(index))
        if within is not None and row["folder"] not in within:
            continue
        try:
            look = os.stat(os.path.join(os.fsencode(root), row["name"]))
        except OSError:
            return False
        if (look.st_size, look.st_mtime_ns) != (row["size"], row["changed"]):
            return False
    return True


def _changed(folder: Path) -> int:
    """A folder's time of change; where it cannot be seen, one that is never kept."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return NEVER


class _Search:
    """One walk through a folder, in which folders that did not change are taken from an earlier
    listing."""

    def __init__(self, root: Path, old: Rows | None) -> None:
        self.root = root
        self.old = old
        self.known: dict[str, tuple[int, list[Any]]] = {}
        if old is not None and not old.notes["maps"]:  # what is one is said in folders above
            every = old.notes["folders"]
            self.known = {folder[0]: (k, folder) for k, folder in enumerate(every)}
        self.maps: set[str] = set()
        self.missed = Groups()
        self.folders: list[list[Any]] = []
        self.kept: dict[int, int] = {}  # number of a folder then -> now
        self.waiting: list[str] = []  # names that are not in `batches` yet
        self.of_waiting: list[int] = []
        self.batches: list[pa.RecordBatch] = []
        self.count = 0

    def look(self, place: str) -> Folder:
        """One folder: as it was, or listed anew."""
        now = time.time_ns()
        changed = _changed(self.root / place)
        then, entry = self.known.get(place, (-1, None))
        if entry is not None and entry[1] == changed != NEVER:
            _, _, folders, links, groups = entry
            self.kept[then] = len(self.folders)
            self.folders.append(entry)
            missed = Groups(**groups) if groups else Groups()
            self.missed.merge(missed)
            return Folder(folders=folders, links=links, missed=missed)

        found = read_folder(self.root, place, self.maps)
        believed = changed if changed < now - RACE_NS else None
        groups = {"counts": found.missed.counts, "first": found.missed.first}
        self.waiting += found.names
        self.of_waiting += [len(self.folders)] * len(found.names)
        self.folders.append(
            [place, believed, found.folders, found.links, groups if found.missed.counts else None]
        )
        self.missed.merge(found.missed)
        self.count += len(found.names)
        if len(self.waiting) >= LARGE:
            self._put_by()
        return found

    def _put_by(self) -> None:
        """Names that wait, with their sizes and times, as columns: a fraction of the memory."""
        names = [os.fsencode(name) for name in self.waiting]
        root = os.fsencode(self.root)
        sizes = np.empty(len(names), np.int64)
        times = np.empty(len(names), np.int64)
        for k, name in enumerate(names):
            path = os.path.join(root, name)
            try:
                look = os.stat(path)
            except OSError as error:
                raise DataError(
                    f"{shown(os.fsdecode(path))}: cannot be read ({error}); correct the path or "
                    "remove its entry"
                ) from error
            sizes[k] = look.st_size
            times[k] = look.st_mtime_ns
        columns = [
            pa.array(names, pa.large_binary()),
            pa.array(self.of_waiting, pa.int32()),
            pa.array(sizes),
            pa.array(times),
        ]
        self.batches.append(pa.record_batch(columns, schema=SCHEMA))
        self.waiting = []
        self.of_waiting = []

    def _kept_rows(self) -> None:
        """Rows of folders that did not change, with the folders' new numbers."""
        if self.old is None or not self.kept:
            return
        numbers = np.full(max(self.kept) + 1, -1, np.int32)
        numbers[list(self.kept)] = list(self.kept.values())
        for batch in self.old.batches():
            then = batch["folder"].to_numpy()
            now = np.where(then < len(numbers), numbers[np.minimum(then, len(numbers) - 1)], -1)
            stays = now >= 0
            if stays.any():
                again = batch.set_column(1, SCHEMA.field(1), pa.array(now.astype(np.int32)))
                self.batches.append(again.filter(pa.array(stays)))

    def write(self, place: Path) -> None:
        """All rows, sorted as paths are, with the fingerprint of names, sizes and times."""
        self._put_by()
        self._kept_rows()
        table = pa.Table.from_batches(self.batches, SCHEMA)
        total = blake2b(digest_size=8)
        with written_table(place, SCHEMA) as out:
            order = _order(table["name"])
            for start in range(0, len(order), BATCH):
                part = table.take(order[start : start + BATCH]).combine_chunks()
                (batch,) = part.to_batches()
                for name, size, changed in zip(
                    batch["name"].to_pylist(),
                    batch["size"].to_pylist(),
                    batch["changed"].to_pylist(),
                    strict=True,
                ):
                    total.update(shown(os.fsdecode(name)).encode() + b"\0")
                    total.update(f"{size} {changed}".encode() + b"\0")
                out.write(batch)
            out.notes |= {
                "folders": self.folders,
                "maps": any(name.rpartition("/")[2] == NOTE for name in self.maps),
                "fingerprint": total.hexdigest(),
            }


def _order(names: pa.ChunkedArray) -> pa.Array:
    """What sorts names by their characters. That is the order of their bytes, unless some are no
    UTF-8."""
    try:
        for chunk in names.chunks:
            chunk.cast(pa.large_string())
    except pa.ArrowInvalid:
        words = [os.fsdecode(name) for name in names.to_pylist()]
        return pa.array(sorted(range(len(words)), key=words.__getitem__), pa.uint64())
    return pc.sort_indices(names)
