"""A run's folder: who holds it, which code made what lies in it, what it was trained on, and how
long it took.

Nothing is ever removed from one. What another version of the code left there is set aside under a
name of its own.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from dalib import certificates, locking, paths
from dalib.config import RunConfig
from dalib.data.catalogue import BUILT_IN, parse
from dalib.data.pools.fingerprint import fingerprint_of
from dalib.errors import DataError
from dalib.training import checkpoint
from dalib.writing import write_text

WEIGHTS = "model.safetensors"
DONE = "train.json"
JOB = "job.json"
DATA = "data.json"
LEGS = "legs.json"
SAME = ("images", "fingerprint")
"""What of a role's data must be as it was for a run to go on."""


def folder(config: RunConfig) -> Path:
    """Where a run keeps its files."""
    return paths.runs() / config.hash()


def trained(config: RunConfig) -> bool:
    """Whether the run's weights are there, made by today's code or by code that is certified to
    give the same bits."""
    out = folder(config)
    stamp = read_json(out / DONE).get("stamp")
    return (
        (out / WEIGHTS).exists() and stamp is not None and certificates.unchanged("training", stamp)
    )


def untrained(config: RunConfig) -> Iterator[RunConfig]:
    """A run, unless it is trained, after the runs before it that have images of their own and are
    not trained either: those whose sources should be looked at before anything long begins."""
    if trained(config):
        return
    start = config.start_run()
    if start is not None:
        yield from untrained(start)
    yield config


def read_json(path: Path) -> dict:
    """A small file of the run; an empty dictionary where it is missing, damaged or no
    dictionary."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def set_aside(out: Path, why: str, report: Callable[[str], None]) -> None:
    """Rename a run's folder, so that nothing in it is lost and a new run can take its place."""
    names = (out.with_name(f"{out.name}-{why}-{n}") for n in range(1, 10_000))
    kept = next(name for name in names if not name.exists())
    out.rename(kept)
    report(f"what {out} held is kept as {kept.name}")


def other_code(out: Path) -> str | None:
    """The hash of the code that made what is in this folder, where neither it nor a certificate
    makes it today's.

    "unknown" stands for weights that nothing says the code of and no checkpoint would make again.
    """
    stamp = read_json(out / DONE).get("stamp") or read_json(out / JOB).get("stamp")
    if stamp is None:
        return "unknown" if (out / WEIGHTS).exists() and not checkpoint.found(out) else None
    return None if certificates.unchanged("training", stamp) else stamp


@contextmanager
def held(
    out: Path, *, report: Callable[[str], None], role: str = "run", shared: bool = False
) -> Iterator[None]:
    """Hold a folder against other jobs while a block runs; wait for whoever holds it now, and say
    who that is.

    The lock is the system's (`flock`), so that a killed process leaves none behind. Its file,
    `runs/locks/NAME.ROLE`, names the holder. A file system without locks is used without one.

    Args:
        out: the folder. It need not exist.
        report: receives a line where there is somebody to wait for, and again every minute.
        role: locks of different roles do not meet.
        shared: hold it together with others that share it.
    """
    path = paths.runs() / "locks" / f"{out.name}.{role}"
    with _opened(path) as file:
        told = None
        while not locking.lock(file.fileno(), shared=shared):
            if told is None or time.monotonic() - told > 60:
                told = time.monotonic()
                report(f"{out} is held by {_holder(path)}; waiting for it")
            time.sleep(0.2)
        file.truncate(0)
        file.write(json.dumps(locking.me()))
        file.flush()
        yield


def _opened(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+", encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{path}: could not be written ({error}); set DALIB_RUNS to a folder that can"
        ) from error


def _holder(path: Path) -> str:
    try:
        return locking.named(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"


def changed(out: Path, sources: Mapping[str, object]) -> dict[str, str]:
    """Role -> what differs, for each source that is not as the note of the run's first leg has
    it."""
    before = read_json(out / DATA)
    return {
        role: f"the images changed since this run began ({before[role]['images']} then, "
        f"{now['images']} now, or other names,"
        " sizes or times)"
        for role, now in _noted(sources).items()
        if role in before and any(before[role].get(key) != now[key] for key in SAME)
    }


def _noted(sources: Mapping[str, object]) -> dict[str, dict]:
    found = {}
    for role, source in sources.items():
        if source is None:
            continue
        found[role] = {"images": len(source), "fingerprint": source.fingerprint}
        parts = [
            {"images": part.count, "weight": part.weight, "fingerprint": part.fingerprint}
            for part in getattr(source, "parts", ())
        ]
        if len(parts) > 1:
            found[role]["sources"] = parts
    return found


def read_of(out: Path, config: RunConfig) -> dict[str, dict]:
    """What a record says of the data that a run has read, by role: how many images, the sources'
    fingerprint, that of each source with its images and its weight where there are several, and the
    fingerprint of each public pool among them. Empty for drawn scenes alone, which are the same
    everywhere and which the settings name."""
    noted = read_json(out / DATA)
    found = {}
    for role, names in config.sources.items():
        places = [parse(name) for name in names]
        if all(kind in BUILT_IN for kind, *_ in places):
            continue
        pools = {
            place: fingerprint_of(paths.pool(place) if kind == "pool" else place)
            for kind, place, _ in places
            if kind not in ("hub", *BUILT_IN)
        }
        pools = {place: which for place, which in pools.items() if which}
        found[role] = noted.get(role, {}) | ({"pools": pools} if pools else {})
        for name, part in zip(names, found[role].get("sources", ()), strict=False):
            part["name"] = name
    return found


def same_data(out: Path, sources: Mapping[str, object], *, begun: bool) -> None:
    """Note what a run reads, or hold it against the note of its first leg.

    Args:
        out: the run's folder.
        sources: role ("labelled", "unlabelled") -> source; None where the run has none.
        begun: whether there is a checkpoint, whose order of images a changed source would not
            continue.

    Raises `DataError` for images that changed since then, naming which.
    """
    for role, what in changed(out, sources).items() if begun else ():
        raise DataError(
            f"{role}: {what}, and it could not go on as it would have; put them back, or move "
            f"{out} away to start anew"
        )
    if not begun or not (out / DATA).exists():
        write_text(out / DATA, json.dumps(_noted(sources), indent=1) + "\n")


class Clock:
    """Seconds of all legs of a run: those of earlier processes are on file, and this one's are
    noted as it goes."""

    def __init__(self, out: Path):
        self.path = out / LEGS
        self.begun = time.perf_counter()
        earlier = read_json(self.path).get("seconds", [])
        if not isinstance(earlier, list):
            earlier = []
        self.earlier = [s for s in earlier if isinstance(s, int | float)]

    def tick(self) -> float:
        """Note the time so far, and return the sum over all legs."""
        legs = [*self.earlier, round(time.perf_counter() - self.begun, 3)]
        write_text(self.path, json.dumps({"seconds": legs}))
        return sum(legs)

    @property
    def legs(self) -> int:
        """How many processes, one after the other, have worked on the run."""
        return len(self.earlier) + 1
