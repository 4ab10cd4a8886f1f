"""What of a folder is ours: only that is ever written over, or taken for the map of a photograph.

`predictions.json` lists each file that was written, what it was made of and how it looked then.
While a run goes on, a journal beside it takes a line for each file before it is written and another
one after, so that a run that is killed leaves nothing that the next one would not know.
"""

import json
import os
import stat
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

from dalib.data.listing import NOTE, listed_maps
from dalib.errors import ConfigError, DataError
from dalib.predict.lock import only_writer
from dalib.writing import missing, partial_of, remove_new, whole

JOURNAL = "predictions.journal"
BLOCK = 2**20


def origin(source: Path) -> dict:
    """Which file, of which size and time of change, a map was made of."""
    look = source.stat()
    return {
        "source": os.path.abspath(source),
        "source_size": look.st_size,
        "source_mtime_ns": look.st_mtime_ns,
    }


class Ledger:
    """The folder `out`, held for writing; made where it is missing. A context manager.

    Args:
        out: the folder. `is_new` says, once it is entered, that it was made by that.

    Raises:
        ConfigError: another process writes there, or nobody can.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.settings: dict = {}
        self.is_new = False
        self._files: dict[str, dict] = {}
        self._claims: set[str] = set()
        self._made: list[Path] = []
        self._guard = threading.Lock()
        self._held = ExitStack()
        self._journal = None

    # ---- the folder, from opening to closing

    def __enter__(self) -> "Ledger":
        self.is_new = not self.out.exists()
        self._made = missing(self.out)
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(only_writer(self.out))
        except OSError as error:
            remove_new(self._made)
            reason = error.strerror or error
            raise ConfigError(
                f"{self.out}: cannot be used as a folder for results ({reason}); name another one"
            ) from error
        try:
            self._read()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close_journal()
        finally:
            self._held.close()
            remove_new(self._made)

    def _read(self) -> None:
        """What is listed, with what a run that was killed left in the journal."""
        note = self.out / NOTE
        try:
            there = json.loads(note.read_text(encoding="utf-8"))
        except FileNotFoundError:
            there = {}
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(
                f"{note}: not readable ({error}); remove it, or choose another folder"
            ) from error
        if not isinstance(there, dict) or (there and "network" not in there):
            raise DataError(
                f"{note}: was not written by dalib.predict; choose another folder for the results"
            )
        self._files = listed_maps(note)
        self.settings = {key: value for key, value in there.items() if key != "files"}
        try:
            lines = (self.out / JOURNAL).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.out / JOURNAL}: not readable ({error}); choose another folder"
            ) from error
        for line in lines:
            self._replay(line)
        if not self.settings:
            raise DataError(
                f"{self.out / JOURNAL}: was not written by dalib.predict; choose another folder"
            )
        for name in self._claims:
            partial_of(self.out / name).unlink(missing_ok=True)

    def _replay(self, line: str) -> None:
        try:
            entry = json.loads(line)
        except ValueError:  # an empty line, or the last one of a run that was killed as it wrote it
            return
        if not isinstance(entry, dict):
            return
        if isinstance(entry.get("settings"), dict):
            self.settings = entry["settings"]
            return
        name = entry.pop("file", None)
        if not isinstance(name, str):
            return
        if entry.pop("claimed", False):
            self._claims.add(name)
        else:
            self._claims.discard(name)
            self._files[name] = entry

    def _note(self, *entries: dict) -> None:
        """Append to the journal."""
        with self._guard:
            if self._journal is None:
                self._journal = (self.out / JOURNAL).open("a", encoding="utf-8")
                self._journal.write("\n")  # ends a line that a killed run left half written
            self._journal.writelines(json.dumps(entry) + "\n" for entry in entries)
            self._journal.flush()

    def _close_journal(self) -> None:
        """Bring `predictions.json` up to date; the journal is then done with."""
        journal = self.out / JOURNAL
        if self._journal is not None:
            self._journal.close()
        if not journal.exists():
            return
        for name in sorted(self._claims):
            exists = os.path.lexists(self.out / name)
            if not exists:
                self._files.pop(name, None)
            elif not self._is_intact(
                name
            ):  # replaced by us, in a run that was killed before it could say so
                self._files[name] = {"unfinished": True}
        if not self._files and not (self.out / NOTE).exists():
            journal.unlink()
            return
        with whole(self.out / NOTE) as unfinished:
            about = self.settings | {"files": dict(sorted(self._files.items()))}
            unfinished.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        journal.unlink()

    # ---- whose a file is

    def check_settings(self, mine: Mapping, about: Mapping) -> None:
        """Refuse to mix maps with those of another network or other settings.

        Args:
            mine: what must agree.
            about: what else is worth saying.

        Raises:
            ConfigError: `out` holds maps that were made otherwise.
        """
        self.compare(mine)
        self.settings = {**mine, **about}
        self._note({"settings": self.settings})

    def compare(self, mine: Mapping) -> None:
        """A `ConfigError` where `out` holds maps that were made otherwise."""
        there = self.settings or mine
        if other := ", ".join(
            f"{key} {there.get(key)}" for key in mine if there.get(key) != mine[key]
        ):
            raise ConfigError(
                f"{self.out}: holds maps made otherwise ({other}); choose another "
                "folder, or empty it"
            )

    def check_folders(self, folders: Iterable[Path]) -> None:
        """Refuse folders which a link leads out of `out`, to files of somebody else."""
        inside = self.out.resolve()
        for folder in folders:
            real = folder.resolve()
            if real != inside and inside not in real.parents:
                raise ConfigError(
                    f"{folder}: is a link to {real}; remove it, or choose another "
                    "folder for the results"
                )

    def check_files(self, files: Iterable[Path], source: Path) -> None:
        """Refuse to write over what is not ours, or is the map of something else.

        Args:
            files: which are going to be written.
            source: what they are made of.

        Raises:
            ConfigError: it names the file that is in the way.
        """
        for path in files:
            try:
                look = os.lstat(path)
            except NotADirectoryError:
                raise ConfigError(
                    f"{_obstacle(path)}: is a file where a folder is needed; choose another folder"
                ) from None
            except OSError:  # it is not there, or cannot be, which writing it will say
                continue
            name = self._name(path)
            if not stat.S_ISREG(look.st_mode) or (
                name not in self._files and name not in self._claims
            ):
                raise ConfigError(
                    f"{path}: is there already and not a result of dalib.predict; "
                    "choose another folder"
                )
            if name in self._claims or "unfinished" in self._files[name]:
                continue
            if not self._is_intact(name):
                raise ConfigError(
                    f"{path}: was changed since it was predicted; rename it, or "
                    "choose another folder"
                )
            made_of = str(self._files[name].get("source"))
            if (
                made_of != os.path.abspath(source)
                and os.path.exists(made_of)
                and not os.path.samefile(made_of, source)
            ):
                raise ConfigError(
                    f"{path}: is the map of {made_of}, not of {source}; choose another folder"
                )

    def is_kept(
        self, files: Iterable[Path], source: Path, also: Mapping[str, str] | None = None
    ) -> bool:
        """Whether all files are as we wrote them, and made of this very source as it is now, and of
        what else is named."""
        if not self._files:
            return False
        try:
            now = origin(source) | dict(also or {})
        except OSError:
            return False
        for path in files:
            name = self._name(path)
            entry = self._files.get(name)
            if (
                entry is None
                or name in self._claims
                or not now.items() <= entry.items()
                or not self._is_intact(name)
            ):
                return False
        return True

    def claim(self, files: Iterable[Path]) -> None:
        """Say that these files are going to be written, so that they are known as ours if the run
        is killed then."""
        names = [self._name(path) for path in files]
        self._note(*({"file": name, "claimed": True} for name in names))
        self._claims.update(names)

    def written(self, files: Iterable[Path], made_of: Mapping) -> None:
        """Say that these files are done, and what they were made of, see `origin`."""
        for path in files:
            name = self._name(path)
            look = path.stat()
            entry = {
                **made_of,
                "size": look.st_size,
                "mtime_ns": look.st_mtime_ns,
                "digest": _digest(path),
            }
            self._note({"file": name, **entry})
            with self._guard:
                self._files[name] = entry
                self._claims.discard(name)

    def ours(self, folder: Path) -> list[Path]:
        """The files directly in a folder that we wrote there and nobody has changed."""
        start = self._name(folder) + "/"
        names = [name for name in {*self._files, *self._claims} if name.startswith(start)]
        return [self.out / name for name in names if name in self._claims or self._is_intact(name)]

    def remove(self, files: Iterable[Path]) -> None:
        """Remove files of ours."""
        for path in files:
            path.unlink(missing_ok=True)

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self.out).replace(os.sep, "/")

    def _is_intact(self, name: str) -> bool:
        """Whether a file is as we wrote it. A copy with times of its own is, too: then its bytes
        are compared."""
        entry = self._files.get(name, {})
        path = self.out / name
        try:
            look = os.lstat(path)
            if not stat.S_ISREG(look.st_mode) or look.st_size != entry.get("size"):
                return False
            return look.st_mtime_ns == entry.get("mtime_ns") or _digest(path) == entry.get("digest")
        except OSError:
            return False


def _digest(path: Path) -> str:
    """Of a file's bytes."""
    total = blake2b(digest_size=8)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            total.update(block)
    return total.hexdigest()


def _obstacle(path: Path) -> Path:
    """The first part of a path that exists and is no folder."""
    return next(part for part in reversed(path.parents) if part.exists() and not part.is_dir())
