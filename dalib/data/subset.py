"""Some samples of a source: those that a list names, or all others."""

import json
from hashlib import blake2b
from pathlib import Path

import numpy as np
from jaxtyping import Int

from dalib.data.files import digest
from dalib.data.schema import Sample, Source
from dalib.errors import DataError
from dalib.writing import write_text


class Subset(Source):
    """Some samples of a source, in the order given; its fingerprint is that of the source and of
    which they are.

    Args:
        source: any.
        indices: of its samples, each from 0 to len(source) - 1.
    """

    def __init__(self, source: Source, indices: Int[np.ndarray, " n"]) -> None:
        self.source = source
        self.indices = np.asarray(indices, np.int64)
        wrong = (self.indices < 0) | (self.indices >= len(source))
        if wrong.any():
            raise DataError(
                f"indices: {self.indices[wrong][0]} is none of the {len(source)} samples; give 0 "
                f"to {len(source) - 1}"
            )
        self.domain = getattr(source, "domain", "")
        for name in ("height", "width"):  # where the source has a way to read batches
            if (side := getattr(source, name, None)) is not None:
                setattr(self, name, side)

    @property
    def fingerprint(self) -> str:
        """Of the source's content and the indices."""
        which = blake2b(self.indices.astype("<i8").tobytes(), digest_size=8).hexdigest()
        return digest([self.source.fingerprint, which])

    def __len__(self) -> int:
        return len(self.indices)

    def _sample(self, index: int) -> Sample:
        return self.source[int(self.indices[index])]

    @property
    def reads_alike(self) -> bool:
        """As the source."""
        return self.source.reads_alike

    def sample_for(self, index: int, *, height: int, width: int) -> Sample:
        """As the source reads it for this size."""
        return self.source.sample_for(int(self.indices[index]), height=height, width=width)

    def name_of(self, index: int) -> str:
        """As the source calls it."""
        return self.source.name_of(int(self.indices[index]))

    def get_batch(self, indices: np.ndarray) -> dict:
        """Samples as the source stacks them."""
        return self.source.get_batch(self.indices[np.asarray(indices)])


def write_names(path: Path, source: Source, indices: Int[np.ndarray, " n"]) -> None:
    """Write a list of samples by name, for `listed`."""
    names = [source.name_of(int(i)) for i in indices]
    write_text(path, json.dumps({"names": names}, indent=1) + "\n")


def listed(source: Source, path: Path, *, without: bool) -> Subset:
    """The samples of a source that a list names, or with `without` all others.

    Args:
        source: its samples have names (`Source.name_of`).
        path: a file of `write_names`.
        without: leave those out, and keep the rest.

    Raises:
        DataError: no such list, a name that the source does not have, or nothing is left.
    """
    try:
        names = set(json.loads(path.read_text(encoding="utf-8"))["names"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: no list of names ({error}); it is a JSON file with an entry names"
        ) from error
    found = np.array([source.name_of(i) in names for i in range(len(source))], bool)
    if found.sum() < len(names):
        have = {source.name_of(int(i)) for i in np.flatnonzero(found)}
        raise DataError(
            f"{path}: names {sorted(names - have)[0]!r}, which the source does not have; put it "
            "back, or make the list anew"
        )
    indices = np.flatnonzero(found != without)
    if not len(indices):
        raise DataError(f"{path}: leaves no sample of the source")
    return Subset(source, indices)
