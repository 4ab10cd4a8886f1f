"""Files that are whole or not there at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from safetensors import SafetensorError

from dalib.errors import DataError, UserError

REFUSALS = (OSError, SafetensorError, RuntimeError)
"""What writing raises where the disk refuses: `torch.save` has a RuntimeError of its own, and safetensors an error of its own."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A neighbour to write to, which takes the name `path` once it is complete and has reached the disk.

    Whatever stood at `path` is there until then. Folders are made, and permissions are those that the umask gives. A disk that
    refuses is a `DataError` that names the file.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.chmod(0o666 & ~_umask())  # some writers make files that nobody else may read
        os.replace(partial, path)
    except UserError:
        raise
    except REFUSALS as error:
        raise DataError(
            f"{path}: could not be written ({error}); what stood there before is untouched."
            " Free some space, or choose another folder, and run again."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a file by a text, see `whole`."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


@cache
def _umask() -> int:
    """The process's mask, which the system tells only when it is set."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
