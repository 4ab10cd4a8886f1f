"""What the public pools are made of: tables of facts, `data/pools/*.csv`. No picture is in them."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from dalib import paths
from dalib.data.pools.fingerprint import RULES, Line, fingerprint
from dalib.errors import ConfigError, DataError

WHAT = {
    "photos": "real photographs without depth, an unlabelled pool for training",
    "rgbd": "images with depth, for training",
}
"""The pools, and what each is in a line."""
SIZES = {"photos": (119, 693), "rgbd": (22, 460)}
"""Megabytes of what is stored, and of the originals that are read for it."""
SHARD = 510
"""Photographs in a shard, about."""
NOTICE = (
    "Most of it may be used for research only: a network trained on it may be passed on only where "
    "each source's licence allows that. The column ship is one reader's view of the terms (yes, no, "
    "unclear) and no legal advice; where a repository states no licence, nobody has given one."
)


@dataclass(frozen=True)
class Repository:
    """One data set in one public repository.

    Args:
        source: its short name.
        repository: owner and name.
        commit: at which its files are meant.
        dataset: what it is.
        licence: in words, of the repository and of the data set behind it.
        ship: whether a network trained on it may be passed on: yes, no or unclear.
        coding: how its depth is stored, see `dalib.data.pools.depth`; without empty entries.
        notes: on its depth.
    """

    source: str
    repository: str
    commit: str
    dataset: str
    licence: str
    ship: str
    coding: dict[str, str]
    notes: str


@dataclass(frozen=True)
class Row:
    """One image of a pool, and where its original lies.

    Args:
        key: its name in the pool.
        origin: data set and repository.
        path: of the image in the repository.
        blob: its git blob id, "" where that is not known.
        depth_path: of the depth map, "" where the repository has none.
        depth_blob: its git blob id.
        size: width and height of the stored image.
        facts: all columns of the table.
    """

    key: str
    origin: Repository
    path: str
    blob: str
    depth_path: str
    depth_blob: str
    size: tuple[int, int]
    facts: dict[str, str]

    @property
    def line(self) -> Line:
        """As the whole pool's fingerprint counts it."""
        return self.key, self.blob, self.depth_blob

    @property
    def has_image(self) -> bool:
        """Whether the recorded image can be made of the repository's file. Of the pairs this was
        tried with each: column `checked` is not empty."""
        return self.facts.get("checked") != ""

    @property
    def has_depth(self) -> bool:
        """Whether the recorded map can: `checked` is `equal` (in every pixel) or `near` (in all but
        a few)."""
        return self.facts.get("checked") in ("equal", "near")


@dataclass(frozen=True)
class Pool:
    """A pool as recorded.

    Args:
        name: `photos` or `rgbd`.
        rows: in the recorded order.
    """

    name: str
    rows: tuple[Row, ...]
    origins: tuple[Repository, ...] = field(default=())

    @property
    def rule(self) -> str:
        """Name and version of the rule by which its originals are stored."""
        return RULES[self.name]

    @property
    def whole(self) -> str:
        """The fingerprint of the pool as it was recorded."""
        return fingerprint([row.line for row in self.rows], rule=self.rule)

    @property
    def buildable(self) -> str:
        """The fingerprint of what is made of the repositories' files where none is missing: without
        maps that were computed from the photographs, or in a way that is not known."""
        lines = [
            (row.key, row.blob, row.depth_blob if row.has_depth else "")
            for row in self.rows
            if row.has_image
        ]
        return fingerprint(lines, rule=self.rule)

    def parts(self) -> list[tuple[str, list[Row]]]:
        """What is finished together: the shards of photographs, the data sets of pairs."""
        if self.name != "photos":
            named: dict[str, list[Row]] = {}
            for row in self.rows:
                named.setdefault(row.origin.source, []).append(row)
            return list(named.items())
        count = max(1, round(len(self.rows) / SHARD))
        starts = [-(-place * len(self.rows) // count) for place in range(count + 1)]
        spans = pairwise(starts)
        return [
            (f"photos-{place:04d}.tar", list(self.rows[begin:end]))
            for place, (begin, end) in enumerate(spans)
        ]


def tables() -> Path:
    """The folder of the pools' tables: `data/pools` of the checkout, else where the installed
    package keeps them, `share/depth-anything-book/pools` of its environment.

    Raises:
        DataError: they are nowhere.
    """
    checkout = paths.root() / "data" / "pools"
    installed = Path("share", "depth-anything-book", "pools")
    above = Path(__file__).resolve().parents[3:]  # of the package: site-packages and upwards
    for place in (checkout, *(folder / installed for folder in above)):
        if (place / "sources.csv").is_file():
            return place
    raise DataError(
        f"{checkout}: the tables of the pools are not there, nor is {installed} above the package; "
        "set DALIB_ROOT to the checkout, or install the package anew"
    )


def read_pool(name: str, *, folder: Path | None = None) -> Pool:
    """A pool's facts.

    Args:
        name: `photos` or `rgbd`.
        folder: of the tables, by default `tables()`.

    Raises:
        ConfigError: no such pool.
        DataError: a table that is missing or damaged.
    """
    if name not in WHAT:
        raise ConfigError(f"pool {name!r}: there is none; it must be {' or '.join(WHAT)}")
    folder = folder or tables()
    origins = {
        entry["source"]: _repository(entry)
        for entry in _read(folder / "sources.csv")
        if entry["pool"] == name
    }
    path = folder / f"{name}.csv"
    try:
        rows = tuple(_row(entry, origins) for entry in _read(path))
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error!r}); restore it from git") from error
    keys = {row.key for row in rows}
    if len(keys) != len(rows):
        raise DataError(f"{path}: a key stands twice; restore it from git")
    return Pool(name=name, rows=rows, origins=tuple(origins.values()))


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); restore it from git") from error


CODING = ("stored", "per_unit", "near", "far", "holes", "change")
"""The columns of `sources.csv` that say how depth is stored."""


def _repository(entry: dict[str, str]) -> Repository:
    coding = {name: entry[name] for name in CODING if entry[name]}
    names = ("source", "repository", "commit", "dataset", "licence", "ship", "notes")
    return Repository(coding=coding, **{name: entry[name] for name in names})


def _row(entry: dict[str, str], origins: dict[str, Repository]) -> Row:
    return Row(
        key=entry["key"],
        origin=origins[entry["source"]],
        path=entry["path"],
        blob=entry["blob"],
        depth_path=entry.get("depth_path", ""),
        depth_blob=entry.get("depth_blob", ""),
        size=(int(entry["width"]), int(entry["height"])),
        facts=entry,
    )


def licences(origins: Iterable[Repository]) -> list[str]:
    """A line for each repository: name, licence, and whether a network may be passed on."""
    return [
        f"{origin.repository} ({origin.dataset}): {origin.licence}; ship: {origin.ship}"
        for origin in origins
    ]
