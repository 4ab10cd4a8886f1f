"""Advisory locks of the operating system, which a process that has died cannot leave behind, and
who holds them."""

import os
import socket
from datetime import UTC, datetime

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def lock(handle: int, *, shared: bool = False) -> bool:
    """Try to lock an open file until it is closed; False where somebody else holds it.

    A file system or an operating system without such locks grants every one.

    Args:
        handle: the file's descriptor.
        shared: hold it together with others that share it.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def me() -> dict[str, str | int]:
    """This process, as the file of a lock names its holder."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": now}


def named(who: dict) -> str:
    """A holder in words; a `KeyError` or `TypeError` for what is none."""
    return f"process {who['pid']} on {who['host']}, started {who['started']}"
