"""Photographs in tar shards with WebDataset's names, read by place: millions of them in a few
thousand files.

A member `PATH/KEY.EXT` belongs to the sample `PATH/KEY`, the name up to the first dot of its last
part (https://github.com/webdataset/webdataset); only pictures are read here. The shards are gone
through once, which leaves an index of where each picture lies. With it every image can be read by
itself, in any order and by any process, as if it were a file of its own.
"""

import json
import os
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from glob import glob
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa

from dalib import paths
from dalib.data.files import Size, decode_image, digest, to_rgb
from dalib.data.listing import ending, endings, stated_pool
from dalib.data.metadata import PictureWarning, shown, warn_once
from dalib.data.schema import Sample, Source
from dalib.data.tables import Rows, written_table
from dalib.errors import DataError

BLOCK = 512
"""Bytes of a header, and what the members of a tar are padded to."""
PADDING = 2**21
"""Most zeros at the end of a tar; GNU tar pads to 10,240 bytes unless it is told otherwise."""
OPEN = 64
"""Shards that a process keeps open."""
SCHEMA = pa.schema([("name", pa.large_binary()), ("offset", pa.int64()), ("size", pa.int64())])
PACKED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"PK\x03\x04": ("zip", "unzip, and tar what comes out"),
}
"""First bytes -> what packed a file, and what unpacks it."""


class TarShards(Source):
    """Every photograph of a set of tar shards; no ground truth.

    The order is that of the shards' names, and within a shard that of its members.

    Args:
        shards: a pattern such as `pool/*.tar`, a range in braces such as `pool-{0000..0099}.tar`,
            of which each must be there, one file, or a folder, whose `*.tar` are meant. A question
            mark has no meaning here.
        domain: defaults to the name of the shards' folder.
        image: endings of the pictures to read, apart by commas, such as "jpg"; needed where samples
            have several. By default whatever Pillow reads.
        draft: decode JPEG files at a fraction of their size where that is enough for the images
            that are asked for (`dalib.data.files.draft_scale`): several times faster, slightly
            other pixels.

    The index lies beside the first shard as a hidden file, or in the cache of the runs where that
    folder cannot be written. It is mapped into memory, which all processes share. A shard whose
    size or time of change is another one is gone through anew.

    `fingerprint` is of the names, sizes and times of the shards and of the names and sizes of their
    members: none is read.

    Raises:
        DataError: no such shard; one that is empty, packed, truncated or no tar, that has two
            pictures of one key or sparse members; no photograph in them. On access, a picture that
            cannot be decoded, or a shard that changed. It names the shard, and the member.
    """

    def __init__(
        self,
        shards: str | Path,
        *,
        domain: str | None = None,
        image: str | None = None,
        draft: bool = False,
    ) -> None:
        self.shards = _expanded(str(shards))
        self.domain = domain or self.shards[0].resolve().parent.name
        self.draft = draft
        wanted = None
        if image is not None:
            wanted = tuple(
                sorted("." + word.strip().lstrip(".").lower() for word in image.split(","))
            )
        self.rows = _indexed(str(shards), self.shards, wanted)
        self.marks = self.rows.notes["shards"]
        if not len(self.rows):
            raise DataError(
                f"{shown(shards)}: no photograph in {len(self.shards)} shards"
                + (f" that ends in {', '.join(wanted)}" if wanted else "")
                + "; members should be named KEY.jpg, KEY.png, ..."
            )
        print_of_all = self.rows.notes["fingerprint"]
        self.fingerprint = digest([print_of_all, "draft"]) if draft else print_of_all
        self._open: OrderedDict[int, _Handle] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def pool(self) -> str | None:
        """The fingerprint of the published pool that these shards are, see `stated_pool`."""
        return stated_pool(self.shards[0].parent)

    def __len__(self) -> int:
        return len(self.rows)

    def name_of(self, index: int) -> str:
        """What a sample is called, said without reading it: shard and member."""
        shard, row = self.rows.at(index)
        return f"{shown(self.shards[shard].name)}/{shown(os.fsdecode(row['name']))}"

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
        shard, row = self.rows.at(index)
        member = os.fsdecode(row["name"])
        path = self.shards[shard]
        name = f"{shown(path)}, member {shown(member)}"
        try:
            data = self._handle(shard).read(row["size"], row["offset"])
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error}); is the disk there?") from error
        if len(data) < row["size"]:
            raise DataError(f"{name}: the shard ends within it; fetch the shard again")
        tell = warn_once(name)
        picture = decode_image(data, name=name, tell=tell, draft_for=draft_for)
        return {
            "image": to_rgb(picture, name=name, tell=tell),
            "domain": self.domain,
            "name": f"{shown(path.name)}/{shown(member)}",
        }

    def _handle(self, shard: int) -> "_Handle":
        """An open shard, kept for later reads; one that changed is a `DataError`."""
        with self._lock:
            handle = self._open.get(shard)
            if handle is not None:
                self._open.move_to_end(shard)
                return handle
        path = self.shards[shard]
        handle = _Handle(path)
        if handle.mark() != self.marks[shard][1:]:
            raise DataError(
                f"{shown(path)}: changed since its members were indexed; put it back, or begin anew"
            )
        with self._lock:
            self._open[shard] = handle
            while len(self._open) > OPEN:
                self._open.popitem(last=False)  # closed as soon as no thread reads from it
        return handle

    def __getstate__(self) -> dict:
        kept = {k: v for k, v in self.__dict__.items() if k != "_lock"}
        return kept | {"_open": OrderedDict()}  # a loader process opens its own files

    def __setstate__(self, state: dict) -> None:
        self.__dict__ |= state
        self._lock = threading.Lock()


class _Handle:
    """A file that is open for reading by place, which has no position that processes could share;
    closed with its last user."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = -1
        try:
            self.number = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise DataError(
                f"{shown(path)}: cannot be read ({error.strerror}); correct its path or permissions"
            ) from error

    def mark(self) -> list[int]:
        """Size and time of change."""
        look = os.fstat(self.number)
        return [look.st_size, look.st_mtime_ns]

    def read(self, size: int, place: int) -> bytes:
        """So many bytes from this place on; fewer where the file ends."""
        return os.pread(self.number, size, place)

    def __del__(self, close=os.close) -> None:  # which is there to the end of the process
        if self.number >= 0:
            close(self.number)


def _expanded(pattern: str) -> list[Path]:
    """The shards that a pattern names, in order."""
    if os.path.isdir(pattern):
        found = sorted(glob("*.tar", root_dir=pattern))
        if not found:
            raise DataError(f"{shown(pattern)}: no *.tar in this folder; name the shards")
        return [Path(pattern, name) for name in found]
    every: list[str] = []
    for word in _unbraced(pattern):
        found = [word] if os.path.exists(word) else sorted(glob(word, recursive=True))
        if not found:
            raise DataError(f"{shown(word)}: no such tar shard; correct the pattern")
        every += found
    shards = [Path(word) for word in every if not os.path.isdir(word)]
    if len({os.path.abspath(shard) for shard in shards}) < len(shards) or not shards:
        raise DataError(f"{shown(pattern)}: names a shard twice, or none; correct the pattern")
    return shards


def _unbraced(pattern: str) -> list[str]:
    """`a{08..10}b` as a08b, a09b, a10b, and `{a,b}` as a, b, for each pair of braces."""
    found = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if found is None:
        return [pattern]
    first, last, words = found.groups()
    if words is not None:
        parts = words.split(",")
    else:
        digits = len(first) if first.startswith("0") or len(first) == len(last) else 0
        parts = [f"{n:0{digits}d}" for n in range(int(first), int(last) + 1)]
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [word for part in parts for word in _unbraced(head + part + tail)]


# ---- the index


def _mark(path: Path) -> list[int]:
    """Size and time of change."""
    try:
        look = path.stat()
    except OSError as error:
        raise DataError(
            f"{shown(path)}: cannot be read ({error.strerror}); correct its path or permissions"
        ) from error
    return [look.st_size, look.st_mtime_ns]


def _indexed(pattern: str, shards: Sequence[Path], wanted: tuple[str, ...] | None) -> Rows:
    """The index of these shards, made or brought up to date where it is missing or old."""
    # what it is called: by the pattern, so that new shards do not make it another one
    folder = shards[0].parent
    names = [os.path.abspath(path) for path in shards]
    pattern = os.path.abspath(pattern)
    if all(path.parent == folder for path in shards):  # which may move
        names = [path.name for path in shards]
        pattern = "*.tar" if os.path.isdir(pattern) else os.path.basename(pattern)
    key = blake2b(json.dumps([pattern, wanted]).encode(), digest_size=6)
    beside = folder / f".index-{key.hexdigest()}.arrow"
    key.update(os.fsencode(os.path.abspath(folder)))
    cached = paths.cache() / "tars" / f"{key.hexdigest()}.arrow"

    # one that is true, or nearly
    marks = [[name, *_mark(path)] for name, path in zip(names, shards, strict=True)]
    old = None
    for place in (beside, cached):
        rows = Rows.opened(place, SCHEMA)
        if rows is not None and rows.notes["shards"] == marks:
            return rows
        old = old or rows

    # a new one; who may write anywhere leaves alone what is marked as not to be written
    places = (beside, cached) if folder.stat().st_mode & 0o222 else (cached,)
    for place in places:
        try:
            return _written(place, shards, marks, wanted, old)
        except OSError as error:
            problem = error
    raise DataError(
        f"{cached}: the index of the shards could not be written ({problem}); free some space, or "
        "set DALIB_RUNS to a folder that can"
    )


def _written(
    place: Path,
    shards: Sequence[Path],
    marks: list[list[Any]],
    wanted: tuple[str, ...] | None,
    old: Rows | None,
) -> Rows:
    """A new index: of each shard a batch of rows, that of the old index where the shard is the
    same."""
    before = {}
    if old is not None:
        before = {tuple(mark): number for number, mark in enumerate(old.notes["shards"])}
    total = blake2b(digest_size=8)
    with written_table(place, SCHEMA) as table:
        for path, mark in zip(shards, marks, strict=True):
            number = before.get(tuple(mark))
            batch = _searched(path, wanted) if number is None else old.batch(number)
            total.update(os.fsencode(path.name) + f" {mark[1:]}\0".encode())
            total.update(b"\0".join(batch["name"].to_pylist()) + b"\0")
            total.update(batch["size"].to_numpy().astype("<i8").tobytes())
            table.write(batch)
        table.notes |= {"shards": marks, "fingerprint": total.hexdigest()}
    return Rows(place, SCHEMA)


def _searched(path: Path, wanted: tuple[str, ...] | None) -> pa.RecordBatch:
    """The pictures of one shard: one for each key."""
    pictures = wanted or endings()
    found: dict[str, _Member] = {}
    links = 0
    for member in members(path):
        folder, _, base = member.name.rpartition("/")
        key, dot, rest = base.partition(".")
        if f"{dot}{rest}".lower() not in pictures or _is_hidden(folder, key):
            continue  # labels, texts, further maps such as KEY.depth.png
        if member.kind == "link":
            links += 1
            continue
        whole = f"{folder}/{key}"
        if member.kind == "file" and whole not in found:
            found[whole] = member
            continue
        where = f"{shown(path)}, member {shown(member.name)}"
        if member.kind != "file":
            raise DataError(
                f"{where}: a {member.kind} member; make the shard anew without --sparse"
            )
        twin = found[whole].name
        if twin == member.name:
            raise DataError(f"{where}: stands twice in the shard; make it anew with one of them")
        raise DataError(
            f"{where}: its key has another picture, {shown(twin)}; say which is the photograph, as "
            f"in ?image={ending(twin).lstrip('.')}"
        )
    if links:
        told = f"{links} pictures are links, which are not read"
        warnings.warn(f"{shown(path)}: {told}", PictureWarning, stacklevel=2)
    every = found.values()
    columns = [
        pa.array([os.fsencode(m.name) for m in every], pa.large_binary()),
        pa.array([m.offset for m in every], pa.int64()),
        pa.array([m.size for m in every], pa.int64()),
    ]
    return pa.record_batch(columns, schema=SCHEMA)


def _is_hidden(folder: str, key: str) -> bool:
    """Whether a name or a folder of a member begins with a dot, as Finder's `._KEY.jpg` does."""
    if not key or not folder:
        return not key
    return any(part.strip(".") and part[0] == "." for part in folder.split("/"))


# ---- the format


@dataclass(frozen=True, slots=True)
class _Member:
    """Of a tar: where its content lies. `kind` is file, link, sparse or other."""

    name: str
    offset: int
    size: int
    kind: str


@dataclass
class _Extended:
    """What headers before a member say of it, or of all that follow."""

    always: dict[str, str] = field(default_factory=dict)
    once: dict[str, str] = field(default_factory=dict)

    def take(self) -> dict[str, str]:
        """For the next member."""
        found = self.always | self.once
        self.once = {}
        return found


def members(path: Path) -> Iterator[_Member]:
    """The members of a tar file that holds content, in order: POSIX (ustar, pax) and GNU's formats.

    Raises:
        DataError: an empty or packed file, no tar, one that is damaged or ends early; it names the
            member.
    """
    handle = _Handle(path)
    size, _ = handle.mark()
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle.number, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    name = shown(path)
    if size == 0:
        raise DataError(f"{name}: empty; fetch the shard again, or leave it out")
    extended = _Extended()
    place = 0
    last = None
    while True:
        header = handle.read(BLOCK, place)
        if len(header) < BLOCK:
            raise DataError(
                f"{name}: ends {_after(last)} without the mark of its end, so it is truncated; fetch the "
                "shard again"
            )
        if not header.strip(b"\0"):
            _check_rest(handle, place, size, name=name, last=last)
            return
        _check_header(header, name=name, first=place == 0, last=last)
        kind = header[156:157]
        stored = _number(header[124:136], name=name, last=last)
        start = place + BLOCK
        if kind in b"xXgLK":
            if start + stored > size:
                raise DataError(f"{name}: truncated {_after(last)}; fetch the shard again")
            content = handle.read(stored, start)
            if kind == b"L":
                extended.once["path"] = os.fsdecode(content.split(b"\0", 1)[0])
            elif kind in b"xXg":
                records = _records(content, name=name, last=last)
                (extended.always if kind == b"g" else extended.once).update(records)
            place = start + _padded(stored)
            continue

        said = extended.take()
        last = said.get("GNU.sparse.name") or said.get("path") or _plain_name(header)
        if "size" in said:
            stored = int(said["size"]) if said["size"].isdigit() else -1
        if kind == b"S":
            more = header[482:483]
            while more not in (b"\0", b""):
                more = handle.read(BLOCK, start)[504:505]
                start += BLOCK
        if kind in b"12":
            member = _Member(last, start, 0, "link")
        elif kind == b"S" or (said and any(word.startswith("GNU.sparse.") for word in said)):
            member = _Member(last, start, stored, "sparse")
        elif kind in b"0\x007" and not last.endswith("/"):
            member = _Member(last, start, stored, "file")
        else:
            member = _Member(last, start, stored if kind not in b"3456" else 0, "other")
        if stored < 0 or start + member.size > size:
            raise DataError(f"{name}: truncated within member {shown(last)}; fetch the shard again")
        yield member
        place = start + _padded(member.size)


def _after(last: str | None) -> str:
    """Where in a tar, in words: behind the last member that was whole."""
    return "at its start" if last is None else f"after member {shown(last)}"


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _check_header(header: bytes, *, name: str, first: bool, last: str | None) -> None:
    """A `DataError` for a block that is no header: of something else, or of a damaged tar."""
    said = header[148:156].strip(b" \0")
    total = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    if said and not said.strip(b"01234567") and int(said, 8) == total:
        return
    if not first:
        raise DataError(
            f"{name}: damaged {_after(last)}: what follows is no header; fetch the shard again"
        )
    for mark, (what, tool) in PACKED.items():
        if header.startswith(mark):
            raise DataError(
                f"{name}: packed by {what}, and members of a packed tar cannot be read by their "
                f"place; unpack it ({tool}): photographs are packed already"
            )
    raise DataError(f"{name}: no tar file; correct the pattern")


def _check_rest(handle: _Handle, place: int, size: int, *, name: str, last: str | None) -> None:
    """After the mark of the end there is padding alone: two tars in a row would lose the second,
    and a file of zeros is what an interrupted copy leaves."""
    if place == 0:
        raise DataError(f"{name}: holds no member; fetch the shard again, or leave it out")
    if size - place > PADDING:
        raise DataError(
            f"{name}: only zeros {_after(last)}, so it is truncated; fetch the shard again"
        )
    rest = handle.read(PADDING, place)
    if rest.strip(b"\0"):
        raise DataError(
            f"{name}: goes on after the mark of its end; tars are joined by tar --concatenate, not "
            "by cat"
        )


def _number(text: bytes, *, name: str, last: str | None) -> int:
    """A size: octal digits, or, where the first bit is set, binary (GNU's, from 8 GiB on)."""
    if text[:1] == b"\x80":
        return int.from_bytes(text[1:], "big")
    digits = text.strip(b" \0")
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise DataError(
            f"{name}: damaged {_after(last)}: a size that is no number; fetch the shard again"
        )
    return int(digits, 8)


def _plain_name(header: bytes) -> str:
    """The name in the header itself, with ustar's prefix."""
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0":  # GNU keeps other things in that field
        prefix = header[345:500].split(b"\0", 1)[0]
        name = prefix + b"/" + name if prefix else name
    return os.fsdecode(name)


def _records(content: bytes, *, name: str, last: str | None) -> dict[str, str]:
    """Those of a pax header: "LENGTH KEY=VALUE\\n" each."""
    found = {}
    while content.strip(b"\0"):
        head, _, _ = content.partition(b" ")
        length = int(head) if head.isdigit() else 0
        key, equals, value = content[len(head) + 1 : length - 1].partition(b"=")
        if not equals or length > len(content):
            raise DataError(
                f"{name}: damaged {_after(last)}: no extended header; fetch the shard again"
            )
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        content = content[length:]
    return found
