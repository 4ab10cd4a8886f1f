"""Which photographs are kept back: never trained on, so that what is said of them holds for others.

Each photograph has a place in 0..1, a hash of its name (of its pixels where it has none) and a seed,
and is kept back where the place is below a tenth. The side is therefore a function of the photograph:
when others are added, it stays where it is. Near doubles (a burst, a picture and its smaller copy)
go to one side together: that of one of them, whichever hash is smallest.

What it costs. Names are hashed alone, a million in seconds. Near doubles cost a look at each
photograph (a JPEG is decoded at an eighth of its size, some milliseconds) and a comparison of all
with all, so that they are looked for in up to `LOOKED_AT` photographs, beyond which `Split.checked`
says that they were not. Whoever has the hashes already, such as an index of shards, hands them in.
"""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from dalib.data.doubles import dhash, near_pairs
from dalib.data.metadata import shown
from dalib.data.mixture import Concat
from dalib.data.schema import Source
from dalib.data.subset import Subset
from dalib.errors import ConfigError, DataError

SHARE = 0.1
"""Of the photographs, kept back."""
LEAST = 5
"""Photographs on either side: with fewer, no interval says anything."""
MOST = 2000
"""Photographs kept back of a pool of any size: the interval of a mean over so many is as narrow as
anybody needs, and the rest are worth more in training."""
NAMED = 10
"""Damaged photographs that an error names after the first."""
LOOKED_AT = 10_000
"""Photographs among which near doubles are looked for unasked: a minute or two."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Two sides of a source, and what is known of them.

    Attributes:
        training, kept: indices of the source, ascending; together all of it.
        doubles: photographs that have a near double.
        checked: whether near doubles were looked for.
        seed: of the hash.
    """

    training: Int[np.ndarray, " n"] = field(repr=False)
    kept: Int[np.ndarray, " k"] = field(repr=False)
    doubles: int
    checked: bool
    seed: int


def keep_back(
    source: Source,
    *,
    share: float = SHARE,
    seed: int = 0,
    least: int = LEAST,
    most: int = MOST,
    hashes: Sequence[int] | None = None,
    look: bool | None = None,
    damaged_share: float = 0.0,
    whole: bool = False,
) -> Split:
    """Split a source into photographs to train on and photographs to judge by.

    Args:
        source: of photographs.
        share: of them that is kept back, at most `most` of them and at least `least`.
        seed: another one keeps others back.
        least: photographs on either side.
        most: photographs kept back.
        hashes: `dalib.data.doubles.dhash` of each photograph, where somebody has them.
        look: for near doubles, at every photograph; by default up to `LOOKED_AT` of them.
        damaged_share: of the photographs that may be damaged, as in `RunConfig`; none of those is
            kept back.
        whole: look at those that are kept back in any case, so that none of them is damaged.

    Raises:
        ConfigError: fewer photographs than there must be, or so many near doubles that no two sides
            of different ones are left; a share that is none.
        DataError: more photographs that cannot be read than there may be.
    """
    count = len(source)
    if not 0 < share < 1:
        raise ConfigError(f"share {share}: of the photographs kept back; must lie between 0 and 1")
    if count < 2 * least:
        raise ConfigError(
            f"{count} photographs: at least {2 * least} are needed, {least} of them to be kept "
            f"back; add {2 * least - count}"
        )
    if hashes is not None and len(hashes) != count:
        raise ConfigError(f"hashes: {len(hashes)} of them for {count} photographs")

    # near doubles together
    damaged: list[int] = []
    if hashes is None and (look or (look is None and count <= LOOKED_AT)):
        hashes, damaged = _looks(source, damaged_share)
    places, ranks = _places(source, seed)
    groups = np.arange(count) if hashes is None else _groups(list(hashes), count)
    groups[damaged] = count + np.arange(len(damaged))
    sizes = np.bincount(groups, minlength=count + len(damaged))

    # the place of a group is that of its member of the lowest rank
    order = np.lexsort((ranks, groups))
    first = np.ones(count, bool)
    first[1:] = groups[order][1:] != groups[order][:-1]
    leaders = order[first]
    leaders = leaders[np.argsort(places[leaders], kind="stable")]

    # by their places; a group that would be a large part of what is kept is trained on
    wanted = min(share * count, most)
    largest = max(wanted, least) / 2
    kept: list[int] = []
    held = 0
    for leader in leaders.tolist():
        size = int(sizes[groups[leader]])
        if places[leader] >= wanted / count and held >= least:
            break
        if groups[leader] >= count:
            continue  # damaged: nothing to judge by
        if size <= largest and held + size <= count - least:
            kept.append(int(groups[leader]))
            held += size
    if held < least:
        raise ConfigError(
            f"{count} photographs, nearly all of them near doubles of others: {least} that differ "
            f"from the rest are needed to be kept back; add photographs of other things"
        )
    chosen = np.isin(groups, kept)
    if hashes is None and whole:
        _, damaged = _looks(Subset(source, np.flatnonzero(chosen)), damaged_share)
        chosen[np.flatnonzero(chosen)[damaged]] = False
    return Split(
        training=np.flatnonzero(~chosen),
        kept=np.flatnonzero(chosen),
        doubles=int((sizes[groups] > 1).sum()),
        checked=hashes is not None,
        seed=seed,
    )


def _places(source: Source, seed: int) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Two independent hashes of each photograph: its place in 0..1, and its rank among doubles."""
    places = np.empty(len(source))
    ranks = np.empty(len(source), np.int64)
    prefix = f"{seed}".encode() + b"\0"
    for k in range(len(source)):
        found = blake2b(prefix + _name(source, k), digest_size=16).digest()
        places[k] = (int.from_bytes(found[:8], "big") >> 11) / 2**53
        ranks[k] = int.from_bytes(found[8:], "big") >> 1
    return places, ranks


def _name(source: Source, index: int) -> bytes:
    """What a photograph is called, without a look into it where the source knows; else a digest of
    its pixels."""
    if isinstance(source, Subset):
        return _name(source.source, int(source.indices[index]))
    if isinstance(source, Concat):
        part = int(np.searchsorted(source.ends, index, side="right"))
        first = int(source.ends[part - 1]) if part else 0
        return _name(source.sources[part], index - first)
    names = getattr(source, "names", None)
    if names is not None and len(names) == len(source):
        name = names[index]
        name = name.as_py() if hasattr(name, "as_py") else name
        return name if isinstance(name, bytes) else os.fsencode(str(name))
    sample = source[index]
    if "name" in sample:
        return str(sample["name"]).encode("utf-8", "surrogateescape")
    return blake2b(sample["image"].numpy().tobytes(), digest_size=16).hexdigest().encode()


def _looks(source: Source, damaged_share: float) -> tuple[list[int], list[int]]:
    """The difference hash of each photograph, and which are damaged; what stands for a hash of
    those means nothing."""
    hashes: list[int] = []
    damaged: dict[int, DataError] = {}
    for k in range(len(source)):
        try:
            hashes.append(_look(source, k))
        except DataError as error:
            damaged[k] = error
            hashes.append(0)
    if len(damaged) > damaged_share * len(source):
        first, *others = damaged.values()
        more = f"; and {len(others)} more of {len(source)} photographs" if others else ""
        named = "".join(f"\n  {error}" for error in others[:NAMED])
        raise DataError(
            f"{first}{more} (or have up to a share of them left out with --set damaged_share=0.01)"
            f"{named}"
        ) from first
    return hashes, list(damaged)


def _look(source: Source, index: int) -> int:
    """The difference hash of a photograph, by a quick look where it is a file."""
    if isinstance(source, Subset):
        return _look(source.source, int(source.indices[index]))
    if isinstance(source, Concat):
        part = int(np.searchsorted(source.ends, index, side="right"))
        first = int(source.ends[part - 1]) if part else 0
        return _look(source.sources[part], index - first)
    folder = getattr(source, "path", None)
    names = getattr(source, "names", None)
    if folder is not None and names is not None and len(names) == len(source):
        file = Path(folder) / os.fsdecode(_name(source, index))
        # what is odd about a file, the reader below knows
        with contextlib.suppress(Exception), Image.open(file) as picture:
            if picture.format == "JPEG":
                picture.draft("L", (72, 64))
                return dhash(picture)
    try:
        return dhash(source[index]["image"])
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"photograph {index}: cannot be read ({error}); remove it") from error


def _groups(hashes: list[int], count: int) -> Int[np.ndarray, " n"]:
    """For each photograph the number of its group: near doubles, and their near doubles, have one."""
    parent = list(range(count))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    for one, other in near_pairs(hashes):
        one, other = root(one), root(other)
        parent[max(one, other)] = min(one, other)
    return np.array([root(k) for k in range(count)])


def names_of(source: Source, indices: Sequence[int]) -> list[str]:
    """How the photographs are called, for people."""
    return [shown(os.fsdecode(_name(source, int(k)))) for k in indices]
