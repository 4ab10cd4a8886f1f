"""Which files of a folder are photographs, by name alone: no file is opened, so that a million cost
seconds."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from PIL import Image

from dalib.data.metadata import NOT_PICTURES, shown

NOTE = "predictions.json"
"""In a folder of maps: what made them, and which files they are."""
POOL = "pool.json"
"""In a folder of photographs that was fetched: which published pool it is."""
NO_WHITE = (".exr", ".hdr", ".pfm", ".rgbe")
NOT_READ = (".avif", ".heic", ".heif", ".hif", ".jxl")
"""Photographs that Pillow needs help with; what it reads after all (AVIF, by its registry) is not
counted here."""
RAW = (
    *(
        ".3fr",
        ".arw",
        ".cr2",
        ".cr3",
        ".dng",
        ".erf",
        ".iiq",
        ".kdc",
        ".mef",
        ".mos",
        ".mrw",
        ".nef",
        ".nrw",
        ".orf",
    ),
    *(".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)
CLIPS = (
    *(
        ".3g2",
        ".3gp",
        ".asf",
        ".avi",
        ".divx",
        ".dv",
        ".f4v",
        ".flv",
        ".m2ts",
        ".m2v",
        ".m4v",
        ".mkv",
        ".mjpeg",
        ".mov",
    ),
    *(
        ".mp4",
        ".mpe",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".ogm",
        ".ogv",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
        ".y4m",
    ),
)
NOT_PHOTOGRAPHS = frozenset(
    {"CUR", "FLI", "GBR", "ICNS", "ICO", "PALM", "PCD", "XVTHUMB", *NOT_PICTURES}
)
"""Formats of Pillow in which nobody keeps photographs, though it may read them."""

MISSED = {
    "no known white": "pictures of no known white (save them with 8 or 16 bits a channel)",
    "raw": "a camera's raw files (develop them to JPEG, PNG or TIFF)",
    "not read": "pictures that Pillow does not read (convert them to JPEG or PNG)",
    "no target": "links to nothing (correct or remove them)",
    "closed": "folders that cannot be opened (see their permissions)",
}
"""Photographs of which no map can be made, and what to do."""
PASSED_OVER = {
    "clips": "clips, not predicted (name one by itself to predict it)",
    "linked folders": "links to folders that are searched anyway, or lie above",
    "maps": "maps of an earlier run, not predicted",
    "out": "pictures in the folder of the results, not predicted",
    "hidden": "hidden, not predicted (their names begin with a dot)",
    "others": "no photographs",
}
"""What is in the folder besides photographs."""


@cache
def endings() -> frozenset[str]:
    """Lower-case endings of what Pillow reads as a photograph, by its registry."""
    Image.init()
    known = Image.registered_extensions().items()
    formats = {*Image.OPEN, "MPO"} - NOT_PHOTOGRAPHS  # Pillow opens an MPO as a JPEG
    readable = {end for end, name in known if name in formats}
    return frozenset(readable.difference(NO_WHITE, RAW, CLIPS))


def ending(name: str) -> str:
    """Of a file name, in lower case, with its dot."""
    return os.path.splitext(name)[1].lower()


@dataclass
class Groups:
    """Names by what is to be said of them: how many there are, and the first few."""

    most: int = 5
    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, name: str) -> None:
        """One more."""
        self.counts[what] = self.counts.get(what, 0) + 1
        names = self.first.setdefault(what, [])
        if len(names) < self.most:
            names.append(shown(name))

    def merge(self, other: "Groups") -> None:
        """Those of another listing, too."""
        for what, count in other.counts.items():
            self.counts[what] = self.counts.get(what, 0) + count
            self.first[what] = [*self.first.get(what, []), *other.first[what]][: self.most]

    def line(self, what: str) -> str:
        """ "no photographs: a, b, c", or "no photographs: a, b, c, d, e and 4 more"."""
        names = self.first[what]
        more = self.counts[what] - len(names)
        return f"{what}: {', '.join(names)}" + (f" and {more} more" if more else "")

    def lines(self) -> list[str]:
        """A line for each matter."""
        return [self.line(what) for what in self.counts]


@dataclass
class Listing:
    """What a folder holds: photographs, sorted by path; photographs that cannot be read; and
    everything else.

    `maps` are the files that a `predictions.json` lists.
    """

    names: list[str] = field(default_factory=list)
    maps: set[str] = field(default_factory=set)
    missed: Groups = field(default_factory=Groups)
    passed_over: Groups = field(default_factory=Groups)


@dataclass
class Folder:
    """What one folder holds; all names are paths within the root."""

    names: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    missed: Groups = field(default_factory=Groups)
    passed_over: Groups = field(default_factory=Groups)


def list_folder(folder: str | Path) -> Listing:
    """Search a folder with its sub-folders. Links to files are followed, and links to folders that
    lie elsewhere.

    No folder is searched twice, so that links that lead in circles do no harm.
    """
    root = Path(folder)
    result = Listing()

    def look(place: str) -> Folder:
        found = read_folder(root, place, result.maps)
        result.names += found.names
        result.missed.merge(found.missed)
        result.passed_over.merge(found.passed_over)
        return found

    for link in walk(root, look):
        result.passed_over.add(PASSED_OVER["linked folders"], link)
    result.names.sort()
    return result


def walk(root: Path, look: Callable[[str], Folder]) -> list[str]:
    """Look at a folder and all below it, each once, whatever links lead there: first those that lie
    in it, then those that links lead to.

    Returns:
        The links that were passed over, for they lead to folders that are searched anyway, or lie
        above.
    """
    above = {os.path.realpath(root), *map(str, Path(os.path.realpath(root)).parents)}
    seen: set[str] = set()
    links: list[str] = []
    passed_over: list[str] = []

    def search(start: str) -> None:
        waiting = [start]
        while waiting:
            place = waiting.pop()
            real = os.path.realpath(root / place)
            if real in seen:
                continue
            seen.add(real)
            found = look(place)
            waiting.extend(found.folders)
            links.extend(found.links)

    search("")
    while links:
        link = links.pop()
        real = os.path.realpath(root / link)
        if real in seen or real in above:
            passed_over.append(link)
        else:
            search(link)
    return passed_over


def read_folder(root: Path, place: str, maps: set[str]) -> Folder:
    """What lies in one folder.

    Args:
        root: where the search began.
        place: the folder's path within it.
        maps: what the `predictions.json` of folders before this one list; those of its own are
            added.
    """
    found = Folder()
    try:
        with os.scandir(root / place) as every:
            entries = sorted(every, key=lambda entry: entry.name)
    except OSError:
        found.missed.add(MISSED["closed"], place or str(root))
        return found
    if any(entry.name == NOTE for entry in entries):
        before = f"{place}/" if place else ""
        maps |= {before + name for name in (NOTE, *listed_maps(root / place / NOTE))}
    for entry in entries:
        name = f"{place}/{entry.name}" if place else entry.name
        if entry.name.startswith("."):
            if ending(entry.name) in endings() or entry.is_dir():
                found.passed_over.add(PASSED_OVER["hidden"], name)
        elif entry.is_dir(follow_symlinks=False):
            found.folders.append(name)
        elif entry.is_dir():
            found.links.append(name)
        else:
            _sort_in(entry, name, found, maps)
    return found


def stated_pool(folder: Path) -> str | None:
    """The fingerprint that a `pool.json` in the folder states: which published pool this is,
    whatever the times and encoders of its files. None where there is none.

    It says what the folder was fetched as; that it is so still is for who fetched it to check.
    """
    try:
        found = json.loads((folder / POOL).read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def listed_maps(note: Path) -> dict[str, dict]:
    """What a `predictions.json` lists, by path within its folder; nothing where it is no such
    file."""
    try:
        files = json.loads(note.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}
    if not isinstance(files, dict):
        return {}
    inside = [name for name in files if not os.path.isabs(name) and ".." not in name.split("/")]
    return {name: files[name] for name in inside if isinstance(files[name], dict)}


def _sort_in(entry: os.DirEntry, name: str, result: Folder, maps: set[str]) -> None:
    """A file goes to the photographs, the missed or the others."""
    end = ending(entry.name)
    if name in maps:
        result.passed_over.add(PASSED_OVER["maps"], name)
    elif not entry.is_file():
        where = result.missed if end in endings() else result.passed_over
        where.add(MISSED["no target"] if entry.is_symlink() else PASSED_OVER["others"], name)
    elif end in endings():
        result.names.append(name)
    elif end in NO_WHITE:
        result.missed.add(MISSED["no known white"], name)
    elif end in RAW:
        result.missed.add(MISSED["raw"], name)
    elif end in NOT_READ:
        result.missed.add(MISSED["not read"], name)
    elif end in CLIPS:
        result.passed_over.add(PASSED_OVER["clips"], name)
    else:
        result.passed_over.add(PASSED_OVER["others"], name)
