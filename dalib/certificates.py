"""Which versions of the code give the same bits, so that a change of form costs nobody a study.

A certificate is the record of a comparison: every kind of row was run for a few steps and scored
under two commits, and all bits were equal (`python -m dabook certify` makes it, `data/certificates`
keeps it). A hash of old code then counts as today's where a chain of certificates joins the two. A
chain may be walked both ways, since equality has no direction.
"""

import json
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

from dalib import paths, provenance
from dalib.errors import DataError

SCHEMA = 1
PARTS = ("training", "evaluation", "robustness", "bugs")
"""What is certified apart from each other: weights, their scores, their scores under corruption,
and the faulty twins."""


def unchanged(part: str, code: str, today: str | None = None) -> bool:
    """Whether code with this hash does what today's does: it is the same, or certificates join the
    two.

    Args:
        part: one of `PARTS`.
        code: the hash that a record or a run carries.
        today: the hash of today's code; that of the library by default, which knows "training" and
            "evaluation".
    """
    today = provenance.code_hash(part) if today is None else today
    return code == today or code in joined(part, today)


def joined(part: str, code: str) -> set[str]:
    """All hashes that certificates join to this one, itself included."""
    pairs = defaultdict(set)
    for certificate in read():
        if part in certificate["equal"]:
            old = certificate["from"][part]
            new = certificate["to"][part]
            pairs[old].add(new)
            pairs[new].add(old)
    found = {code}
    todo = [code]
    while todo:
        new = pairs[todo.pop()] - found
        found |= new
        todo += new
    return found


def read() -> list[dict]:
    """Every certificate, oldest first. A damaged one is a `DataError` that names the file."""
    files = sorted(paths.certificates().glob("*.json"))
    return sorted((_load(f, f.stat().st_mtime_ns) for f in files), key=lambda c: c["created"])


@lru_cache(maxsize=256)
def _load(path: Path, _changed: int) -> dict:
    try:
        certificate = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: not a readable certificate ({error}); restore it, or certify again"
        ) from error
    known = isinstance(certificate, dict) and certificate.get("schema") == SCHEMA
    if not known or {"created", "from", "to", "equal"} - certificate.keys():
        raise DataError(
            f"{path}: not a certificate of schema {SCHEMA}; restore it, or certify again"
        )
    return certificate
