"""Files and folders that are written whole or not at all: to a neighbour first, which takes the
name once it is complete."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryFile

from safetensors import SafetensorError

from dalib.errors import ConfigError, DataError, DiskError, UserError

REFUSALS = (OSError, SafetensorError)
"""What writing raises where the disk refuses: safetensors has an error of its own for it."""
ABOUT_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)


def partial_of(path: Path) -> Path:
    """The hidden neighbour in which a file is written: short, since a name may be as long as the
    disk allows."""
    return path.with_name(f".{blake2b(os.fsencode(path.name), digest_size=8).hexdigest()}.partial")


@contextmanager
def whole(
    path: Path,
    *,
    error: type[UserError] = DiskError,
    also: tuple[type[Exception], ...] = (),
    durable: bool = True,
) -> Iterator[Path]:
    """A new file beside `path` to write to, which takes the name `path` when the block ends well,
    and goes otherwise.

    It gets the permissions of any new file (by the umask), whatever the writer inside gave it.
    Missing folders are made.

    Args:
        path: the file. What has its name is replaced: ask before (see `refuse_existing`).
        error: raised where the disk refuses; the message names the file.
        also: what the writer inside raises for a full disk, besides `REFUSALS` (`torch.save`:
            RuntimeError).
        durable: wait until the disk has it, so that it outlives a power cut too, and not only a
            killed process.

    Raises:
        DataError: no file can have this name.
    """
    partial = partial_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # left by a process that was killed
        with partial.open("xb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
        yield partial
        if durable:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.chmod(mode)
        os.replace(partial, path)
    except UserError:
        raise
    except (*REFUSALS, *also) as problem:
        if getattr(problem, "errno", None) in ABOUT_NAMES:
            raise DataError(
                f"{path}: no file can have this name ({problem.strerror}); rename what it is made "
                "of"
            ) from problem
        raise error(f"{path}: {_refused(problem, path)}") from problem
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def nothing_left(*places: Path, always: bool = False) -> Iterator[None]:
    """Around what looks at everything before a first step, and makes folders to see whether it can:
    where the block ends in an error, what it made goes again.

    Args:
        places: files and folders that the block may make, and folders above them that are missing.
            A folder goes only where it is empty, and nothing goes that was there before.
        always: they go where the block ends well, too, as for a plan.
    """
    new = [path for place in places for path in missing(place)]
    try:
        yield
    except BaseException:
        remove_new(new)
        raise
    if always:
        remove_new(new)


def check_place(path: Path) -> None:
    """A `ConfigError` where no file can be written to `path`: for a command that writes after hours
    what it could have been told before. Nothing is left behind."""
    try:
        refuse_folder(path)
        for above in path.parents:
            refuse_file(above)
        with nothing_left(path.parent, always=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent):
                pass
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written ({error.strerror}); give another name"
        ) from error


def refuse_folder(path: Path) -> None:
    """A `ConfigError` where a folder stands in the place of a file."""
    if path.is_dir():
        raise ConfigError(
            f"{path}: a folder where a file is to be written; give the name of a file"
        )


def refuse_file(folder: Path) -> None:
    """A `ConfigError` where a file stands in the place of a folder."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(
            f"{folder}: a file where a folder is to be written; give the name of a folder"
        )


def missing(place: Path) -> list[Path]:
    """This file or folder and those above it, as far as they are not there; the deepest first."""
    return [path for path in (place, *place.parents) if not os.path.lexists(path)]


def remove_new(paths: Iterable[Path]) -> None:
    """Remove these files, and those of these folders that are empty; the deepest first."""
    for path in sorted(paths, key=lambda path: -len(path.parts)):
        with contextlib.suppress(OSError):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a file by a text, see `whole`."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def whole_files(
    folder: Path, *, error: type[UserError] = DataError, also: tuple[type[Exception], ...] = ()
) -> Iterator[Path]:
    """A new folder beside `folder`, or hidden in it where it is there already, to write files to, which
    move into `folder` together when the block ends well.

    Other files that are in `folder` stay; those of the same names are replaced. A folder that is
    not there yet appears at once. Permissions and errors are those of `whole`.
    """
    # within a folder that is there: what holds it may be read-only, or on another disk
    partial = partial_of(folder / "files") if folder.is_dir() else partial_of(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
        partial.mkdir()
        mode = partial.stat().st_mode & 0o666
        yield partial
        for file in partial.iterdir():
            file.chmod(mode)
        if folder.exists():
            for file in sorted(partial.iterdir()):
                os.replace(file, folder / file.name)
        else:
            os.replace(partial, folder)
    except (OSError, *also) as problem:
        raise error(f"{folder}: {_refused(problem, folder)}") from problem
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_existing(
    targets: Iterable[Path], *, sources: Iterable[Path] = (), overwrite: bool = False
) -> None:
    """Raise `ConfigError` for the first target that is there already, or that is one of the sources
    by any name.

    Args:
        targets: the files that are about to be written.
        sources: files that are read for it; never overwritten, through no link and with no option.
        overwrite: whether other files of these names may be replaced.
    """
    sources = list(sources)
    for target in targets:
        if any(_same(target, source) for source in sources):
            raise ConfigError(
                f"{target}: these are the weights that are being exported; give another place for "
                "the copy"
            )
        if os.path.lexists(target) and not overwrite:
            raise ConfigError(
                f"{target}: is there already; give another name, or allow it with --overwrite "
                "(overwrite=True)"
            )


def refuse_place(place: Path, *, option: str, folder: bool = False) -> None:
    """See that a new file can be made at a place, or files in a folder there, before the work that it
    is for.

    Args:
        place: of the file, which must not be there; or of the folder, which may be.
        option: what messages begin with.
        folder: whether it is a folder.

    Raises:
        ConfigError: something else is there, or nothing can be written there.
    """
    what = "folder" if folder else "file"
    try:
        is_there = place.exists()
        if os.path.islink(place) and not is_there:
            raise ConfigError(
                f"{option}: {place} is a link to nothing; remove it, or name another {what}"
            )
        if is_there and folder and not place.is_dir():
            raise ConfigError(f"{option}: {place} is a file; name a folder")
        if is_there and not folder:
            raise ConfigError(
                f"{option}: {place} is there already; remove it, or name another file"
            )
        if not is_there:
            os.stat(place)  # raises another error where no file can have this name
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _unusable(option, place, error, what) from error
    first = place if folder else place.parent
    nearest = next(at for at in (first, *first.absolute().parents) if at.exists())
    try:
        with TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise _unusable(option, place, error, what) from error


def _unusable(option: str, place: Path, error: OSError, what: str) -> ConfigError:
    reason = error.strerror or error
    return ConfigError(f"{option}: {place} cannot be written ({reason}); name another {what}")


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them is not there
        return os.path.realpath(one) == os.path.realpath(other)


def _refused(problem: Exception, path: Path) -> str:
    reason = getattr(problem, "strerror", None) or str(problem).splitlines()[0]
    if not isinstance(problem, OSError) and _is_full(path.parent):  # which PyTorch does not say
        reason = os.strerror(errno.ENOSPC)
    return (
        f"could not be written ({reason}); what stood there before is untouched. Free some "
        "space, or choose another place"
    )


def _is_full(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < 2**20
    return False
