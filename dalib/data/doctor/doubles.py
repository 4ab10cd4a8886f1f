"""Pictures that stand twice: on one side, or on two that should share none.

Of each image a few numbers stay in memory, 39 bytes in all.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dalib.data.doctor import origin
from dalib.data.doctor.report import EXAMPLES, Finding
from dalib.data.doctor.rules import by_name
from dalib.data.doctor.summary import Summary
from dalib.data.doubles import NEAR
from dalib.data.schema import Source

CONTRAST = 8.0
"""Standard deviation of grey below which a difference hash says nothing."""
COMPARISONS = 1e12
"""Pairs of hashes that are compared at most: a quarter of an hour on one core, for 1.4 million
images, which take a day to read there."""
BLOCK = 64
"""Images that are compared with all others at a time."""
NO_MAP = 0


class _Side(NamedTuple):
    """A source, or one split of it."""

    source: Source
    name: str
    against: bool


class Hashes:
    """What is kept of all images, in order of their arrival."""

    def __init__(self) -> None:
        self.sides: list[_Side] = []
        self.splits: list[str] = []
        self.side = array("H")
        self.split = array("I")
        self.index = array("L")
        self.image = array("Q")
        self.near = array("Q")
        self.map = array("Q")
        self.plain = bytearray()
        self.shown: list[tuple[int, int, str]] = []
        self.too_many = False

    def begin(self, source: Source, name: str, *, against: bool = False) -> int:
        """A source whose images follow; its number."""
        self.sides.append(_Side(source, name, against))
        return len(self.sides) - 1

    def add(self, side: int, index: int, summary: Summary, *, split: str) -> None:
        """An image that could be read."""
        if split not in self.splits:
            self.splits.append(split)
        self.side.append(side)
        self.split.append(self.splits.index(split))
        self.index.append(index)
        self.image.append(summary.digest)
        self.near.append(summary.dhash)
        truth = summary.truth
        flat = truth is None or truth.spread < 0.02
        self.map.append(NO_MAP if flat else truth.digest)
        self.plain.append(summary.contrast < CONTRAST)

    def findings(self) -> list[Finding]:
        """Doubles of all kinds, each pair under one rule."""
        pairs: dict[str, list[tuple[int, int]]] = defaultdict(list)
        counts: dict[str, set[int]] = defaultdict(set)

        def note(rule: str, one: int, two: int) -> None:
            """Images are counted, not pairs, of which a film has very many."""
            if self._against(one):
                one, two = two, one
            counts[rule].add(one)
            if len(pairs[rule]) < EXAMPLES:
                pairs[rule].append((one, two))

        for one, two in self._equal(self.image):
            if self._apart(one, two):
                note("leak", one, two)
            elif NO_MAP in (self.map[one], self.map[two]) or self.map[one] == self.map[two]:
                note("double", one, two)
            else:
                note("contradiction", one, two)
        for one, two in self._equal(self.map):
            alike = (self.near[one] ^ self.near[two]).bit_count() <= NEAR
            if self.map[one] != NO_MAP and not alike:
                note("same_map", one, two)
        for one, two, apart in self._near_pairs():
            note("near_leak" if apart else "near_double", one, two)
        return [self._finding(rule, pairs[rule], len(counts[rule])) for rule in pairs]

    def skipped(self) -> list[str]:
        """What could not be asked."""
        if self.too_many:
            return [f"near doubles: {len(self.near)} images are too many; give a count"]
        return []

    def _equal(self, digests: array) -> Iterator[tuple[int, int]]:
        """Pairs of places with equal digests: each with the first of each side and split that has
        it, but not two that are both only compared with."""
        values = _numbers(digests, np.uint64)
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] + 1))
        ends = np.append(starts[1:], len(order))
        for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
            if ordered[start] == NO_MAP:
                continue
            firsts: dict[tuple[bool, int], int] = {}
            for place in order[start:end].tolist():
                for (against, _), first in firsts.items():
                    if not (against and self._against(place)):
                        yield first, place
                firsts.setdefault((self._against(place), self.split[place]), place)

    def _near_pairs(self) -> Iterator[tuple[int, int, bool]]:
        """Near doubles that are not the same: each image with the first later one of its own side,
        and with the first of another, which is marked. In blocks that bound the memory."""
        good = np.flatnonzero(np.frombuffer(self.plain, np.uint8) == 0)
        if len(good) ** 2 / 2 > COMPARISONS:
            self.too_many = True
            return
        hashes = _numbers(self.near, np.uint64)[good]
        images = _numbers(self.image, np.uint64)[good]
        splits = _numbers(self.split, np.uint32)[good]
        named = np.array([bool(name) for name in self.splits], bool)[splits]
        sides = np.array([side.against for side in self.sides], bool)
        against = sides[_numbers(self.side, np.uint16)[good]]
        for start in range(0, len(good), BLOCK):
            stop = start + BLOCK
            near = np.bitwise_count(hashes[start:stop, None] ^ hashes[None, start:]) <= NEAR
            # each has itself; a block in which that is all is done
            if near.sum() == len(near):
                continue
            for row, columns in enumerate(near):
                one = start + row
                found = start + np.flatnonzero(columns)
                found = found[(found > one) & (images[found] != images[one])]
                found = found[~(against[found] & against[one])]
                differ = named[found] & named[one] & (splits[found] != splits[one])
                apart = (against[found] != against[one]) | differ
                for group, marked in ((found[apart], True), (found[~apart], False)):
                    if len(group):
                        yield int(good[one]), int(good[group[0]]), marked

    def _against(self, place: int) -> bool:
        return self.sides[self.side[place]].against

    def _apart(self, one: int, two: int) -> bool:
        """Whether two images must not be the same: one of them is in a source to compare with, or
        their rows name two splits."""
        if self._against(one) != self._against(two):
            return True
        splits = self.splits[self.split[one]], self.splits[self.split[two]]
        return not self._against(one) and all(splits) and splits[0] != splits[1]

    def _label(self, place: int) -> str:
        side = self.sides[self.side[place]]
        split = self.splits[self.split[place]]
        of_split = f" ({split})" if split else ""
        return f"{side.name}, {origin.label(side.source, self.index[place])}{of_split}"

    def _finding(self, rule: str, pairs: list[tuple[int, int]], count: int) -> Finding:
        for one, two in pairs:
            says = f"{rule}: as {self._label(two)}"
            self.shown.append((self.side[one], self.index[one], says))
        names = dict.fromkeys(self.sides[self.side[place]].name for pair in pairs for place in pair)
        return Finding(
            rule=rule,
            severity=by_name(rule).severity,
            where=" and ".join(names),
            says=by_name(rule).part("").partition(".")[0],
            images=count,
            of=len(self.image),
            examples=tuple((self._label(one), f"as {self._label(two)}") for one, two in pairs),
        )


def _numbers(values: array, dtype: type) -> np.ndarray:
    return np.array(values, dtype) if len(values) else np.empty(0, dtype)
