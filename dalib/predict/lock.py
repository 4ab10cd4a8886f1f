"""One writer in a folder at a time, whoever it is; a process that has died blocks nobody."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dalib import locking
from dalib.errors import ConfigError

LOCK = "predictions.lock"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, an advisory lock of the operating system on a file that says who
    holds it.

    Where the file system knows no such locks, nothing is held.

    Raises:
        ConfigError: somebody else holds it.
        OSError: the folder cannot be written.
    """
    path = folder / LOCK
    handle = _lock(path)
    try:
        # Who holds it is written over whoever held it before.
        os.truncate(handle, 0)
        os.write(handle, json.dumps(locking.me()).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _lock(path: Path) -> int:
    """An open file, locked."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not locking.lock(handle):
            os.close(handle)
            who = _holder(path) or "another process"
            raise ConfigError(
                f"{path.parent}: {who}, writes there; wait for it, or choose another folder"
            )
        if _is_still(path, handle):
            if os.fstat(handle).st_size and _holder(path) is None:
                os.close(handle)
                raise ConfigError(
                    f"{path}: was not written by dalib.predict; choose another folder"
                )
            return handle
        os.close(handle)  # its holder removed it between our two steps


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str | None:
    """Who holds a lock, by what stands in it."""
    try:
        return locking.named(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, KeyError):
        return None
