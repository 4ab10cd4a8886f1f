"""Pictures that stand twice: on one side, or on two that should share none.

Of each image a few numbers stay in memory, 34 bytes in all.
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
from dalib.data.doubles import NEAR, near_pairs
from dalib.data.schema import Source

CONTRAST = 8.0
"""Standard deviation of grey below which a difference hash says nothing."""
COMPARISONS = 5e9
"""Pairs of hashes that are compared at most: about a minute."""
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

        same = list(_equal(self.image))
        for one, two in same:
            if self._apart(one, two):
                note("leak", one, two)
            elif not (self._against(one) and self._against(two)):
                differ = NO_MAP not in (self.map[one], self.map[two])
                if differ and self.map[one] != self.map[two]:
                    note("contradiction", one, two)
                else:
                    note("double", one, two)
        for one, two in _equal(self.map):
            alike = (self.near[one] ^ self.near[two]).bit_count() <= NEAR
            if self.map[one] != NO_MAP and not alike:
                note("same_map", one, two)
        for one, two in self._near_pairs():
            if self.image[one] != self.image[two]:
                if self._apart(one, two):
                    note("near_leak", one, two)
                elif not (self._against(one) and self._against(two)):
                    note("near_double", one, two)
        return [self._finding(rule, pairs[rule], len(counts[rule])) for rule in pairs]

    def skipped(self) -> list[str]:
        """What could not be asked."""
        if self.too_many:
            return [f"near doubles: {len(self.near)} images are too many; give a count"]
        return []

    def _near_pairs(self) -> Iterator[tuple[int, int]]:
        """Pairs of near doubles, the earlier first, in blocks that bound the memory."""
        good = np.flatnonzero(np.frombuffer(self.plain, np.uint8) == 0)
        hashes = np.frombuffer(self.near, np.uint64)[good] if len(good) else np.array([], np.uint64)
        if len(hashes) ** 2 / 2 > COMPARISONS:
            self.too_many = True
            return
        for start in range(0, len(hashes), BLOCK):
            block = hashes[start : start + BLOCK].tolist()
            for one, two in near_pairs(block, hashes[start:].tolist()):
                if one < two:
                    yield int(good[start + one]), int(good[start + two])

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


def _equal(digests: array) -> Iterator[tuple[int, int]]:
    """Pairs of places with equal digests: each with the first place that has it."""
    values = np.frombuffer(digests, np.uint64) if digests else np.array([], np.uint64)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = 0
    for place in range(1, len(order)):
        if ordered[place] != ordered[first]:
            first = place
        else:
            yield int(order[first]), int(order[place])
