"""What is kept on disk so that it need not be made again, drawn scenes and resized images, and what
of it no code of today reads. Nothing is removed unasked."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dalib import paths
from dalib.data.resized import of_today
from dalib.data.scenes.splits import SPLITS, renderer_hash
from dalib.data.tables import DAY
from dalib.errors import ConfigError, DiskError

RESIZED = "resized"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A file or folder of the cache.

    Args:
        path: where it lies.
        size: in bytes, of all files in it.
        made: when it was last changed, in seconds since 1970.
        old: why no code of today reads it; empty where it does.
    """

    path: Path
    size: int
    made: float
    old: str

    @property
    def name(self) -> str:
        """Its path within the cache."""
        return str(self.path.relative_to(paths.cache()))


def kept() -> list[Kept]:
    """The drawn scenes and resized images of the cache, by name."""
    return sorted(_found(), key=lambda each: each.name)


def _found() -> Iterator[Kept]:
    folder = paths.cache()
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        split = path.name.lstrip(".").partition("-")[0]
        if path.is_dir() and split in SPLITS:
            yield _kept(path, _why_old_scenes(path))
    for path in (folder / RESIZED).glob("*.arrow"):
        yield _kept(path, "" if of_today(path) else "other code or libraries made it")


def _kept(path: Path, old: str) -> Kept:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    looks = [file.stat() for file in files]
    made = max((look.st_mtime for look in looks), default=path.stat().st_mtime)
    return Kept(path=path, size=sum(look.st_size for look in looks), made=made, old=old)


def _why_old_scenes(path: Path) -> str:
    if path.name.startswith("."):  # being rendered, or left by a process that was killed
        aged = path.stat().st_mtime < time.time() - DAY
        return "a process that was killed left it" if aged else ""
    try:
        stated = json.loads((path / "dalib.json").read_text(encoding="utf-8"))
        renderer = stated.get("renderer")
    except (OSError, ValueError, AttributeError):
        return "it has no manifest that can be read"
    return "" if renderer == renderer_hash() else "other code drew it"


def remove(chosen: Sequence[Kept]) -> int:
    """Remove these from the disk, and return how many bytes that frees.

    Raises `DiskError` where one cannot be removed.
    """
    for each in chosen:
        try:
            shutil.rmtree(each.path) if each.path.is_dir() else each.path.unlink()
        except OSError as error:
            raise DiskError(f"{each.path}: cannot be removed ({error})") from error
    return sum(each.size for each in chosen)


def named(names: Sequence[str]) -> list[Kept]:
    """Those of these names. Raises `ConfigError` for one that there is not."""
    there = {each.name: each for each in kept()}
    for name in names:
        if name not in there:
            raise ConfigError(
                f"{name}: is not in {paths.cache()}; `python -m dalib cache` lists what is"
            )
    return [there[name] for name in dict.fromkeys(names)]
