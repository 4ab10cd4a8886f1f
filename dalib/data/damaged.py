"""Damaged images among millions: each is replaced by a rule, written down, and counted.

Which image takes the place of a damaged one is a function of its index alone, so that the order of
a run, its resumption and its number of processes keep their meaning. A replacement brings its own
crop and its own pseudo label (`dalib.data.mixture.fetch`), and so fits whenever the damage was
found.
"""

import csv
import io
import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dalib import locking
from dalib.config import RunConfig
from dalib.data.mixture import mix, shuffled
from dalib.data.schema import Sample, Source
from dalib.data.streams import Stream
from dalib.errors import DataError

TRIES = 32
"""Images that are tried in the place of a damaged one. Where half of a source is damaged, not one
in 10^9 of its images finds no other."""
DAMAGED = "damaged.csv"
"""In the folder of a run, and of pseudo labels: what was damaged."""


def guarded(source: Source, config: RunConfig, *, known: Collection[int] = ()) -> Source:
    """The source, with its damaged images replaced where the run allows some."""
    return Replacing(source, known=known) if config.damaged_share else source


def ledger(
    folder: Path,
    config: RunConfig,
    *,
    sources: Mapping[str, Source | None],
    report: Callable[[str], None] = print,
) -> "Ledger | None":
    """The list of damaged images in a folder; None where the run allows none.

    Args:
        folder: of the run, or of its pseudo labels.
        config: the run.
        sources: role ("labelled", "unlabelled") -> source, guarded or not.
        report: receives a line for each of them.
    """
    if not config.damaged_share:
        return None
    path = folder / DAMAGED
    return Ledger(path, sources=sources, share=config.damaged_share, report=report)


def guarded_run(
    folder: Path,
    config: RunConfig,
    sources: Mapping[str, Source | None],
    *,
    report: Callable[[str], None] = print,
) -> "tuple[dict[str, Source | None], Ledger | None]":
    """The sources of a run by their role, guarded, and its list, where it allows damaged images;
    what the list has already is not tried again. A `DataError` where that is too much already."""
    noted = ledger(folder, config, sources=sources, report=report)
    if noted is not None:
        noted.check()  # an earlier leg may have ended for it
    found = {} if noted is None else noted.found
    safe = {
        role: None if source is None else guarded(source, config, known=found.get(role, ()))
        for role, source in sources.items()
    }
    return safe, noted


def why(source: Source, index: int) -> str:
    """What is wrong with an image, in a line."""
    bare = source.source if isinstance(source, Replacing) else source
    try:
        bare[index]
    except DataError as error:
        return " ".join(str(error).split())
    return "could not be read before, and can be now"


class Replacing(Source):
    """A source in which another image takes the place of one that cannot be read.

    Each sample says under `read` which one it is. Wrap the whole source of a role, so that this is
    an index of the role. A source that gives whole batches at a size of its own (drawn scenes) does
    so still; it has checksums and is never replaced from.

    Args:
        source: the images.
        known: indices that are replaced without another look, such as those of the run's list: what
            it did without before it was stopped, it does without after.

    Raises:
        DataError: on access, an image that cannot be read, nor any of `TRIES` others.
    """

    def __init__(self, source: Source, *, known: Collection[int] = ()) -> None:
        self.source = source
        self.fingerprint = source.fingerprint
        self.domain = getattr(source, "domain", "")
        self.height = getattr(source, "height", None)
        self.width = getattr(source, "width", None)
        self.parts = getattr(source, "parts", ())
        self.damaged = {int(index) for index in known}

    def __len__(self) -> int:
        return len(self.source)

    def _sample(self, index: int) -> Sample:
        return self._first_readable(index, self.source.__getitem__)

    @property
    def reads_alike(self) -> bool:
        """As the source."""
        return self.source.reads_alike

    def sample_for(self, index: int, *, height: int, width: int) -> Sample:
        """As the source reads it for such a size."""
        return self._first_readable(
            index, lambda i: self.source.sample_for(i, height=height, width=width)
        )

    def get_batch(self, indices: np.ndarray) -> dict:
        """Whole batches, as the source stacks them."""
        return self.source.get_batch(indices) | {"read": torch.from_numpy(np.asarray(indices))}

    def _first_readable(self, index: int, read: Callable[[int], Sample]) -> Sample:
        problem = None
        for tried in self._candidates(index):
            if tried in self.damaged:
                continue
            try:
                return read(tried) | {"read": tried}
            except DataError as error:
                self.damaged.add(tried)
                problem = problem or error
        raise DataError(
            f"{problem or why(self, index)}; nor could any of {TRIES} others be read in the place "
            "of this image; is the disk there?"
        )

    def _candidates(self, index: int):
        """The image itself, then others: the start of a shuffle of the source that is this index's
        own."""
        yield index
        (key,) = mix(int(Stream.REPLACEMENT), np.array([index])).tolist()
        count = min(TRIES, len(self))
        yield from shuffled(np.arange(count), len(self), key=key).tolist()


class Ledger:
    """Which images of a run were damaged, in a file that all of its processes share.

    Batches tell what was replaced in them (`read` beside `index`), whichever process read them; the
    process that trains notes it here. Each image has one line: role, index, what was read for it,
    and why.

    Args:
        path: the file; it appears with the first damaged image.
        sources: role -> source.
        share: of a source's images that may be damaged.
        report: receives a line for each damaged image.

    Raises:
        DataError: more than this share are damaged, when this is noted; a file that cannot be
            written.
    """

    COLUMNS = ("role", "index", "read", "why")

    def __init__(
        self,
        path: Path,
        *,
        sources: Mapping[str, Source | None],
        share: float,
        report: Callable[[str], None] = print,
    ) -> None:
        self.path = path
        self.sources = {role: source for role, source in sources.items() if source is not None}
        self.share = share
        self.report = report
        self.found: dict[str, set[int]] = {role: set() for role in self.sources}
        self._seen = 0
        self._look()

    def _look(self) -> None:
        """Take in what any process has noted since."""
        if self.path.exists():
            with self.path.open("rb") as file:
                self._take_in(file)

    def counts(self) -> dict[str, int]:
        """How many images of each role are damaged, as far as any process has noted."""
        self._look()
        return {role: len(found) for role, found in self.found.items()}

    def note_batch(self, batch: Mapping[str, Tensor]) -> None:
        """Note what was replaced in a batch of `dalib.data.mixture.Mixture`."""
        for role, before in (("labelled", ""), ("unlabelled", "pool_")):
            if f"{before}read" in batch:
                self.note(role, batch[f"{before}index"], batch[f"{before}read"])

    def note(self, role: str, index: Tensor | np.ndarray, read: Tensor | np.ndarray) -> None:
        """Note the indices for which others were read."""
        pairs = zip(np.asarray(index).tolist(), np.asarray(read).tolist(), strict=True)
        new = {i: r for i, r in pairs if i != r and i not in self.found[role]}
        if not new:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                while not locking.lock(file.fileno()):
                    time.sleep(0.01)  # another process of the run writes its line
                self._take_in(file)  # theirs first
                lines = self._lines(role, {i: r for i, r in new.items() if self._unknown(role, i)})
                file.write(lines)
                file.flush()
                self._take_in(file)
        except OSError as error:
            raise DataError(
                f"{self.path}: could not be written ({error}); free some space, or choose another "
                "place"
            ) from error
        self.check()

    def _unknown(self, role: str, index: int) -> bool:
        return index not in self.found[role]

    def _lines(self, role: str, new: dict[int, int]) -> bytes:
        """Lines of the file for what nobody noted yet, each reported."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if self._seen == 0:
            writer.writerow(self.COLUMNS)
        for index, read in sorted(new.items()):
            reason = why(self.sources[role], index)
            writer.writerow([role, index, read, reason])
            self.report(f"{role}: image {index} is damaged, {read} takes its place: {reason}")
        return text.getvalue().encode("utf-8", "backslashreplace")

    def _take_in(self, file: io.BufferedIOBase) -> None:
        """Read what the file holds beyond what was read before; a line that a killed process left
        unfinished ends here."""
        file.seek(self._seen)
        data = file.read()
        if data and not data.endswith(b"\n") and file.writable():
            file.write(b"\n")
            file.flush()
            data += b"\n"
        whole, _, _ = data.rpartition(b"\n")
        for row in csv.reader(whole.decode("utf-8", "replace").splitlines()):
            if len(row) == len(self.COLUMNS) and row[1].isdigit() and row[0] in self.found:
                self.found[row[0]].add(int(row[1]))
        self._seen += len(whole) + bool(whole)
        file.seek(0, os.SEEK_END)

    def check(self) -> None:
        """A `DataError` where more are damaged than the share allows."""
        for role, found in self.found.items():
            count = len(self.sources[role])
            if len(found) > self.share * count:
                raise DataError(
                    f"{self.path}: {len(found)} of the {count} {role} images are damaged, more "
                    f"than damaged_share: {self.share:g} allows; repair or remove them, or allow "
                    "more"
                )
