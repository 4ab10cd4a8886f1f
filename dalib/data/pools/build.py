"""Building a public pool in a folder, from the files of the repositories that it is made of.

The rule for `photos`: 8-bit RGB without a profile, turned by EXIF, shrunk to the recorded size
(short side 256; smaller images stay) with Lanczos, JPEG of quality 88 without EXIF, in tar shards
(ustar; times and owners 0) of about 510 files `KEY.jpg`. For `rgbd`: the same with short side 240
and quality 90, in files; depth by `dalib.data.pools.depth.shrink`, a 16-bit PNG whose value is
`depth * depth_scale`, rounded.

What a folder holds stands in it: `manifest.csv` (what is there), `missing.csv` (what could not be
had, and why), `doubles.csv` and `pool.json`. A fetch that was killed goes on from these.
"""

import csv
import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dalib import locking
from dalib.data.doubles import NEAR, dhash, near_pairs
from dalib.data.files import decode_image
from dalib.data.pools.depth import read_depth, read_image, shrink
from dalib.data.pools.facts import NOTICE, WHAT, Pool, Row
from dalib.data.pools.fingerprint import NOTE, Line, blob_id, fingerprint
from dalib.data.pools.originals import Cache, Gone, Original, Place, Unreachable
from dalib.errors import ConfigError, DataError, DiskError
from dalib.progress import Report
from dalib.writing import whole, write_text

ORIGINALS = ".originals"
"""Within the pool's folder: what came from the web and is not yet in a shard."""
LOCK = ".fetch.lock"
READERS = 8
"""Originals that are asked for at a time."""
SILENT = 10
"""So many originals in a row that nobody answers for, and the network is taken to be down."""
QUALITY = {"photos": 88, "rgbd": 90}
"""Of JPEG; photographs have Huffman tables of their own (`optimize`)."""
UNREACHABLE = "unreachable: "
"""How the reason begins for which a later fetch tries again by itself."""
MISSING = ("key", "part", "source_repo", "commit", "path", "reason")
DOUBLES = ("key", "other", "kind")

Facts = dict[str, str]


@dataclass(frozen=True)
class Made:
    """An image of the pool, stored.

    Args:
        files: name in the folder, or in the shard -> content.
        facts: its row of the manifest.
        missing: why its depth is not there, None where it is, or where there is none to be had.
    """

    files: dict[str, bytes]
    facts: Facts
    missing: str | None = None


@dataclass(frozen=True)
class Summary:
    """What a fetch came to.

    Args:
        wanted: images that were asked for.
        here: images of the pool that are in the folder.
        depths: of these, with a depth map.
        missing: reason -> images (or depth maps) that could not be had for it.
        unreachable: of these, for want of an answer.
        exact, near: pairs of doubles.
        fingerprint, buildable, whole: of what is here, of what can be built where nothing is
            missing, of the pool as recorded.
    """

    wanted: int
    here: int
    depths: int
    missing: dict[str, int]
    unreachable: int
    exact: int
    near: int
    fingerprint: str
    buildable: str
    whole: str

    def lines(self, folder: Path) -> list[str]:
        """In words."""
        found = [f"{folder}: {self.here} images"]
        if self.depths:
            found[0] += f", {self.depths} of them with depth"
        if gone := sum(self.missing.values()):
            found.append(f"{gone} could not be had (missing.csv has each):")
            found += [f"  {count} {reason}" for reason, count in self.missing.items()]
        if self.unreachable:
            found.append("those that nobody answered for are tried again by the same command")
        if self.exact or self.near:
            found.append(
                f"doubles: {self.exact} exact and {self.near} near pairs (doubles.csv has each)"
            )
        found.append(f"fingerprint {self.fingerprint}: {self._verdict()}")
        return found

    def _verdict(self) -> str:
        if self.fingerprint == self.whole:
            return "this is the pool as recorded"
        if self.fingerprint == self.buildable:
            return (
                f"this is all that can be built of the pool; as recorded ({self.whole}) it holds "
                "more than can be made of the repositories' files"
            )
        return f"this is a part of the pool, which is {self.whole}"


def fetch(
    pool: Pool,
    folder: Path,
    place: Place,
    *,
    limit: int | None = None,
    retry: bool = False,
    report: Report = print,
    step: Callable[[int], None] = lambda _: None,
) -> Summary:
    """Build a pool in a folder, or go on with it; the bytes are the same however often it was
    stopped.

    Args:
        folder: new, empty, or one in which this pool was begun.
        place: whence the originals come.
        limit: only the first so many rows; a later fetch may ask for more.
        retry: try once more what could not be had (otherwise only what nobody answered for).
        report: receives a line for each part that is finished.
        step: hears of rows that are done.

    Raises:
        ConfigError: a folder of something else, a limit below 1, or somebody else who writes there.
        DataError: the network is down; what is finished is kept.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit}: must be at least 1")
    _claim(folder, pool)
    with _only_writer(folder):
        work = _Work(pool, folder, place)
        try:
            wanted = {row.key for row in pool.rows[:limit]}
            for name, rows in pool.parts():
                asked = [row for row in rows if row.key in wanted]
                if asked:
                    work.finish(name, asked, rows, retry=retry, report=report, step=step)
        finally:
            place.close()
        return work.end(wanted=len(wanted))


def _claim(folder: Path, pool: Pool) -> None:
    """See that the folder is this pool's, or nobody's; then it is this pool's."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; name a folder for the pool")
    if (folder / NOTE).is_file():
        try:
            noted = json.loads((folder / NOTE).read_text(encoding="utf-8"))
            name, rule = noted["pool"], noted["rule"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"{folder / NOTE}: damaged ({error}); name another folder for the pool"
            ) from error
        if (name, rule) != (pool.name, pool.rule):
            raise ConfigError(
                f"{folder}: holds the pool {name} by the rule {rule!r}, not {pool.name} by "
                f"{pool.rule!r}; name another folder"
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: holds something else; name a new or empty folder")
    _note(folder, pool, lines=[], missing=0)


def _note(folder: Path, pool: Pool, *, lines: list[Line], missing: int) -> None:
    """Write `pool.json`."""
    noted = {
        "pool": pool.name,
        "what": WHAT[pool.name],
        "rule": pool.rule,
        "count": len(lines),
        "missing": missing,
        "fingerprint": fingerprint(lines, rule=pool.rule),
        "buildable": pool.buildable,
        "whole": pool.whole,
        "licences": NOTICE,
    }
    write_text(folder / NOTE, json.dumps(noted, indent=1) + "\n")


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; `ConfigError` where another process does."""
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise DiskError(f"{folder}: cannot be written ({error}); name another folder") from error
    try:
        if not locking.lock(handle):
            raise ConfigError(
                f"{folder}: another process fetches into it; wait for it, or name another folder"
            )
        yield
    finally:
        os.close(handle)


class _Work:
    """A folder that becomes a pool.

    Args:
        pool: as recorded.
        folder: of this pool.
        place: whence originals come.
    """

    def __init__(self, pool: Pool, folder: Path, place: Place):
        self.pool, self.folder, self.place = pool, folder, place
        self.cache = Cache(folder=folder / ORIGINALS, place=place)
        self.silent = 0
        rows = {row.key: row for row in pool.rows}
        self.here = {
            facts[self.key_column]: facts
            for facts in self._read("manifest.csv", self.key_column)
            if facts[self.key_column] in rows and self._is_there(facts)
        }
        self.missing = {
            facts["key"]: facts
            for facts in self._read("missing.csv", "key")
            if facts["key"] in rows
        }

    @property
    def key_column(self) -> str:
        return "key" if self.pool.name == "photos" else "id"

    def _read(self, name: str, key: str) -> list[Facts]:
        path = self.folder / name
        if not path.is_file():
            return []
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file, strict=True))
            if any(None in row or None in row.values() or not row.get(key) for row in rows):
                raise ValueError("a row of another length, or without a key")
        except (OSError, ValueError, csv.Error) as error:
            raise DataError(
                f"{path}: damaged ({error}); name another folder for the pool, or remove this file "
                "and fetch anew"
            ) from error
        return rows

    def _is_there(self, facts: Facts) -> bool:
        """Whether the files of a row of the manifest are in the folder."""
        names = [facts.get(column) for column in ("shard", "image", "depth")]
        return all((self.folder / name).is_file() for name in names if name)

    def finish(
        self,
        name: str,
        asked: list[Row],
        rows: list[Row],
        *,
        retry: bool,
        report: Report,
        step: Callable[[int], None],
    ) -> None:
        """Make what is asked for of a part and not there yet, and write the part.

        Args:
            name: of the part.
            asked, rows: its rows that are asked for, and all of them.
        """
        kept = self._kept(name, rows)
        todo = [row for row in asked if self._is_open(row, kept, retry=retry)]
        step(len(asked) - len(todo))
        if not todo:
            return
        made: dict[str, Made] = {}
        refused: dict[str, str] = {}
        for row, known in self._fetched(todo):
            try:
                made[row.key] = self._make(row, name, known)
            except (Gone, DataError) as error:
                refused[row.key] = str(error)
            except Unreachable as error:
                refused[row.key] = f"{UNREACHABLE}{error}"
            self._listen(refused.get(row.key, ""))
            step(1)
        self._write(name, rows, made, kept)

        # The files are there: now the tables say so, and then the originals may go.
        for row in todo:
            self._enter(row, made.get(row.key), refused.get(row.key))
        self._write_tables()
        for row in todo:
            if row.key in made:
                for original in _originals(row):
                    self.cache.forget(original)
        report(f"{name}: {len(made)} of {len(todo)} images")

    def _enter(self, row: Row, made: Made | None, refused: str | None) -> None:
        """A row goes to what is here, to what is missing, or to both where only its depth is."""
        if made is not None:
            self.here[row.key] = made.facts
            self.missing.pop(row.key, None)
            if made.missing:
                self.missing[row.key] = self._missing(row, "depth", made.missing)
        elif self.pool.name == "photos" or row.key not in self.here:
            self.here.pop(row.key, None)
            self.missing[row.key] = self._missing(row, "all", refused)

    def _is_open(self, row: Row, kept: dict[str, bytes], *, retry: bool) -> bool:
        """Whether a row is to be made."""
        reason = self.missing.get(row.key, {}).get("reason", "")
        if reason and (retry or reason.startswith(UNREACHABLE)):
            return True
        if row.key in self.here:
            return self.pool.name == "photos" and row.key not in kept
        return not reason

    def _kept(self, name: str, rows: list[Row]) -> dict[str, bytes]:
        """The photographs that an earlier fetch put into a shard, as they are there."""
        path = self.folder / name
        if self.pool.name != "photos" or not path.is_file():
            return {}
        keys = {row.key for row in rows} & set(self.here)
        found = {}
        with suppress(tarfile.TarError, OSError), tarfile.open(path) as shard:
            for member in shard:
                key = member.name.removesuffix(".jpg")
                if key in keys:
                    found[key] = shard.extractfile(member).read()
        return found

    def _fetched(self, rows: list[Row]) -> Iterator[tuple[Row, dict[Original, bytes | Exception]]]:
        """Rows with the contents of their originals, in their order; several are asked for at a
        time where that helps."""
        if not self.place.remote:
            for row in rows:
                yield row, {original: self._get(original) for original in _originals(row)}
            return
        ahead = 4 * READERS
        readers = ThreadPoolExecutor(READERS)
        asked: dict[Original, Future | None] = {}
        try:
            for place, row in enumerate(rows):
                for later in rows[place : place + ahead]:
                    for original in _originals(later):
                        if asked.get(original) is None:
                            asked[original] = readers.submit(self._get, original)
                yield row, {original: asked[original].result() for original in _originals(row)}
                asked |= dict.fromkeys(_originals(row))  # what came stays in memory no longer
        except BaseException:
            self.place.close()  # so that nobody waits for an answer any more
            raise
        finally:
            readers.shutdown(wait=True, cancel_futures=True)

    def _get(self, original: Original) -> bytes | Exception:
        """The content of an original, or why there is none."""
        try:
            return self.cache.get(original)
        except (Gone, Unreachable) as error:
            return error

    def _listen(self, reason: str) -> None:
        """Give up where nobody answers any more."""
        self.silent = self.silent + 1 if reason.startswith(UNREACHABLE) else 0
        if self.silent == SILENT:
            raise DataError(
                f"{self.folder}: the last {SILENT} originals were {reason}; see to the network or "
                "to --url. What came is kept; the same command goes on from there"
            )

    def _make(self, row: Row, part: str, contents: dict[Original, bytes | Exception]) -> Made:
        """An image as the rule says; `Gone`, `Unreachable` or `DataError` where that cannot be."""
        if not row.has_image:
            raise Gone("unverified, how the repository's file becomes the recorded image")
        content = _or_raise(contents[_image_of(row)])
        name = f"{row.origin.repository}:{row.path}"
        if self.pool.name == "photos":
            picture = stored_size(decode_image(content, name=name, tell=_quiet), row.size)
            stored = jpeg(picture, quality=QUALITY["photos"], optimize=True)
            facts = self._facts(row, content) | {"shard": part, "dhash": _hash_of(stored)}
            return Made({f"{row.key}.jpg": stored}, facts)
        picture = stored_size(read_image(content, row.origin.coding, name=name), row.size)
        image_name, depth_name = pair_names(row)
        stored = jpeg(picture, quality=QUALITY["rgbd"])
        files = {image_name: stored}
        facts = self._facts(row, content) | {"image": image_name, "dhash": _hash_of(stored)}
        missing = None
        if row.has_depth:
            try:
                depth = _or_raise(contents[_depth_of(row)])
                files[depth_name] = depth_png(row, depth)
                facts |= {"depth": depth_name, "depth_blob": blob_id(depth)}
            except (Gone, DataError, ConfigError) as error:
                missing = f"depth: {error}"
            except Unreachable as error:
                missing = f"{UNREACHABLE}depth: {error}"
        else:
            missing = f"depth: {no_depth(row)}"
        return Made(files, facts, missing)

    def _facts(self, row: Row, content: bytes) -> Facts:
        """A row of the manifest, without the names of its files."""
        origin = row.origin
        common = {
            "source_repo": origin.repository,
            "commit": origin.commit,
            "source_path": row.path,
            "licence": origin.licence,
            "ship": origin.ship,
            "width": str(row.size[0]),
            "height": str(row.size[1]),
            "place": row.facts["place"],
        }
        if self.pool.name == "photos":
            return {"key": row.key, **common, "blob": blob_id(content)}
        names = ("split", "scene", "domain", "kind", "depth_scale", "scale_known", "offset_known")
        names += ("gt", "quality", "synthetic", "sky", "checked")
        return {
            "id": row.key,
            "dataset": origin.dataset,
            "depth": "",
            **common,
            **{column: row.facts[column] for column in names},
            "source_depth_path": row.depth_path,
            "notes": origin.notes,
            "image_blob": blob_id(content),
            "depth_blob": "",
        }

    @staticmethod
    def _missing(row: Row, part: str, reason: str) -> Facts:
        origin = row.origin
        where = {"source_repo": origin.repository, "commit": origin.commit}
        path = row.depth_path if part == "depth" else row.path
        return {"key": row.key, "part": part, **where, "path": path, "reason": reason}

    def _write(
        self, name: str, rows: list[Row], made: dict[str, Made], kept: dict[str, bytes]
    ) -> None:
        """The files of a part."""
        if self.pool.name != "photos":
            for image in made.values():
                for file, content in image.files.items():
                    with whole(self.folder / file, durable=False) as partial:
                        partial.write_bytes(content)
            return
        new = {file: content for image in made.values() for file, content in image.files.items()}
        members = {f"{key}.jpg": content for key, content in kept.items()} | new
        ordered = [f"{row.key}.jpg" for row in rows if f"{row.key}.jpg" in members]
        if new:
            with whole(self.folder / name) as partial:
                write_shard(partial, {file: members[file] for file in ordered})

    def _write_tables(self) -> None:
        """The manifest and what is missing, in the order of the pool, and the note."""
        keys = [row.key for row in self.pool.rows]
        here = [self.here[key] for key in keys if key in self.here]
        if here or (self.folder / "manifest.csv").is_file():
            self._write_csv("manifest.csv", here, list(here[0]) if here else [self.key_column])
        missing = [self.missing[key] for key in keys if key in self.missing]
        self._write_csv("missing.csv", missing, MISSING)
        _note(self.folder, self.pool, lines=self._lines(), missing=len(missing))

    def _write_csv(self, name: str, rows: list[Facts], columns: Sequence[str]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.folder / name, text.getvalue())

    def _lines(self) -> list[Line]:
        """Of the fingerprint of what is here."""
        if self.pool.name == "photos":
            return [(key, facts["blob"], "") for key, facts in self.here.items()]
        return [(key, f["image_blob"], f["depth_blob"]) for key, f in self.here.items()]

    def end(self, *, wanted: int) -> Summary:
        """Look for doubles, tidy up, and say what it came to."""
        with suppress(OSError):  # where originals of what could not be made are left, it stays
            (self.folder / ORIGINALS).rmdir()
        self._write_tables()
        rows = [self.here[row.key] for row in self.pool.rows if row.key in self.here]
        exact, near = doubles(rows, key=self.key_column)
        pairs = [(*pair, "exact") for pair in exact] + [(*pair, "near") for pair in near]
        named = [dict(zip(DOUBLES, pair, strict=True)) for pair in pairs]
        self._write_csv("doubles.csv", named, DOUBLES)
        reasons = Counter(_kind(facts["reason"]) for facts in self.missing.values())
        return Summary(
            wanted=wanted,
            here=len(rows),
            depths=sum(bool(row.get("depth")) for row in rows),
            missing=dict(reasons.most_common()),
            unreachable=sum(f["reason"].startswith(UNREACHABLE) for f in self.missing.values()),
            exact=len(exact),
            near=len(near),
            fingerprint=fingerprint(self._lines(), rule=self.pool.rule),
            buildable=self.pool.buildable,
            whole=self.pool.whole,
        )


def _kind(reason: str) -> str:
    """A reason without what is told of one original alone."""
    head, mark, tail = reason.partition(": ")
    if mark and head in ("depth", UNREACHABLE[:-2], "another content"):
        return f"{head}: {_kind(tail)}" if head != "another content" else head
    return "no file in the clone" if reason.startswith("the clone has no blob") else reason


def _image_of(row: Row) -> Original:
    return Original(row.origin.repository, row.origin.commit, row.path, row.blob)


def _depth_of(row: Row) -> Original:
    return Original(row.origin.repository, row.origin.commit, row.depth_path, row.depth_blob)


def _originals(row: Row) -> list[Original]:
    """The files that a row is made of: none, one (a point cloud is both) or two."""
    if not row.has_image:
        return []
    wanted = [_image_of(row), _depth_of(row)] if row.has_depth else [_image_of(row)]
    return list(dict.fromkeys(wanted))


def _or_raise(content: bytes | Exception) -> bytes:
    if isinstance(content, Exception):
        raise content
    return content


def no_depth(row: Row) -> str:
    """Why no depth is made for a row, though its image is there."""
    if not row.depth_path:
        return "not to be had from the repository, it was computed from the photographs"
    return "unverified, how the repository's file becomes the recorded map"


def pair_names(row: Row) -> tuple[str, str]:
    """Of the files of a pair, in the pool's folder."""
    source = row.origin.source
    name = row.key.removeprefix(f"{source}_")
    return f"{source}/images/{name}.jpg", f"{source}/depth/{name}.png"


def stored_size(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """8-bit RGB, turned by EXIF, at the recorded size."""
    picture = ImageOps.exif_transpose(picture).convert("RGB")
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def jpeg(picture: Image.Image, *, quality: int, optimize: bool = False) -> bytes:
    """A JPEG file without EXIF."""
    stored = io.BytesIO()
    picture.info.clear()
    picture.save(stored, "JPEG", quality=quality, optimize=optimize)
    return stored.getvalue()


def depth_png(row: Row, content: bytes) -> bytes:
    """The 16-bit PNG of a row's depth, from the repository's file.

    Raises:
        DataError: a damaged file, or depth that 16 bits do not hold.
        ConfigError: a library that it needs is not installed.
    """
    name = f"{row.origin.repository}:{row.depth_path}"
    depth = read_depth(content, row.origin.coding, name=name)
    values, known = shrink(depth, row.size)
    stored = np.rint(values * float(row.facts["depth_scale"]))
    if not known.any() or stored.max() > 65535:
        raise DataError(f"{name}: no depth, or more than 16 bits hold")
    file = io.BytesIO()
    Image.fromarray(stored.astype(np.uint16)).save(file, "PNG")
    return file.getvalue()


def write_shard(path: Path, members: dict[str, bytes]) -> None:
    """An uncompressed ustar file, of times and owners 0, in the order that is given."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as shard:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            shard.addfile(entry, io.BytesIO(content))


def doubles(rows: list[Facts], *, key: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Pairs of keys whose originals have the same content, and pairs whose stored images look alike
    (dHash within `NEAR` bits) besides."""
    by_blob: dict[str, list[str]] = {}
    for row in rows:
        by_blob.setdefault(row.get("blob") or row["image_blob"], []).append(row[key])
    exact = [(same[0], other) for same in by_blob.values() for other in same[1:]]
    hashes = [int(row["dhash"], 16) for row in rows]
    pairs = near_pairs(hashes, within=NEAR) if rows else []
    near = [(rows[one][key], rows[other][key]) for one, other in pairs]
    return exact, [pair for pair in near if pair not in set(exact)]


def _hash_of(stored: bytes) -> str:
    return f"{dhash(Image.open(io.BytesIO(stored))):016x}"


def _quiet(_: str) -> None:
    """For what need not be told of other people's files."""
