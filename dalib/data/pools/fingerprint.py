"""Which pool a folder holds, in 16 digits: made of keys, contents of the originals and the rule by
which they were stored, and of nothing that an encoder or the order of fetching could change."""

import csv
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

NOTE = "pool.json"
"""In a pool's folder: what `dalib.data.pools.build.fetch` found and left out."""
RULES = {"photos": "photos 1", "rgbd": "rgbd 1"}
"""The rule by which a pool's originals are turned, shrunk and stored, with its version."""

# key, git blob id of the image, git blob id of the depth ("" where there is none)
Line = tuple[str, str, str]


def blob_id(content: bytes) -> str:
    """The id that git gives to a file of this content: SHA-1 of "blob SIZE", a zero byte, and the
    content (Pro Git, 10.2 Git Internals, Git Objects)."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def fingerprint(lines: Iterable[Line], *, rule: str) -> str:
    """16 hexadecimal digits over what a pool holds, in whatever order it is listed.

    Args:
        lines: of its images.
        rule: one of `RULES`' values.
    """
    total = hashlib.blake2b(f"{rule}\n".encode(), digest_size=8)
    for line in sorted(lines):
        total.update(" ".join(line).encode() + b"\n")
    return total.hexdigest()


def fingerprint_of(place: str | Path) -> str | None:
    """The fingerprint of the pool that a folder holds; None where it holds none.

    It is read from the folder's `pool.json`; where there is no such file, it is made of the
    `manifest.csv`, if that names the git blob of each original.

    Args:
        place: the folder, a file in it, or a pattern of files in it (`folder/*.tar`).
    """
    folder = Path(place)
    if not folder.is_dir():
        folder = folder.parent
    try:
        noted = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        return str(noted["fingerprint"])
    except (OSError, ValueError, TypeError, KeyError):
        return _of_manifest(folder / "manifest.csv")


def _of_manifest(path: Path) -> str | None:
    """Of a manifest that names blobs, with columns `key` and `blob` or, for images with depth,
    `id`, `image_blob` and `depth_blob`."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    columns = set(rows[0]) if rows else set()
    if {"id", "image_blob", "depth_blob"} <= columns:
        lines = [(row["id"], row["image_blob"], row["depth_blob"]) for row in rows]
        return fingerprint(lines, rule=RULES["rgbd"])
    if {"key", "blob"} <= columns:
        return fingerprint([(row["key"], row["blob"], "") for row in rows], rule=RULES["photos"])
    return None
