"""The walk through a collection: each image is read once, and let go."""

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dalib.config import check_names
from dalib.data.catalogue import open_source, parse
from dalib.data.doctor import origin, rules
from dalib.data.doctor.doubles import Hashes
from dalib.data.doctor.report import EXAMPLES, Finding, Report
from dalib.data.doctor.rules import DOUBTFUL, NOTE, RULES, SEVERITIES, Group, Rule
from dalib.data.doctor.summary import Edges, Summary, summarise
from dalib.data.schema import Source
from dalib.errors import ConfigError, DataError

KEPT = 2000
"""Summaries that a group keeps; of more images a fair draw stands for all of them."""
GROUPS = 500
"""Domains of one source that are looked at by themselves."""
RUN = 8
"""Neighbours that are drawn together where only some images are looked at, for what can only be
seen beside a neighbour."""
SCENES = 100
"""Images of a procedural split, where no count is given."""
SHOWN = 12
"""Pairs on the contact sheet with something found, and as many without."""
FROM_GROUP = 2
"""Pairs on the sheet from a collection with something found."""
EVERY = 10.0
"""Seconds between two lines of progress."""


def examine(
    *sources: str | Source,
    against: Sequence[str | Source] = (),
    count: int | None = None,
    seed: int = 0,
    accept: Sequence[str] = (),
    height: int = 96,
    width: int = 128,
    tell: Callable[[str], None] | None = None,
) -> Report:
    """Look at each image of some sources, and at all of them together.

    Args:
        sources: that a training is to read, by name (see `dalib.data.catalogue.open_source`) or
            open.
        against: sources that share no image with those, such as test sets; only their images are
            looked at.
        count: look at so many images of each source only, drawn at random in runs of eight
            neighbours; of all by default (of procedural scenes: 100). Of `against`, all are.
        seed: of that draw, and of the contact sheet.
        accept: names of rules whose findings somebody has looked at: they become notes.
        height: of procedural scenes, pixels.
        width: of procedural scenes, pixels.
        tell: hears lines of progress.

    Raises:
        ConfigError: no source, a source twice, an unknown source or rule, a count below 1.
        DataError: a source that cannot be opened. (An image that cannot be read is a finding.)
    """
    _check(sources, against, count, accept)
    opened = [_open(name, count, height, width) for name in sources]
    others = [_open(name, None, height, width) for name in against]
    names = _names([*sources, *against], [*opened, *others])
    report = Report()
    hashes = Hashes()
    progress = _Progress(tell)
    walks = []
    for source, name in zip(opened, names[: len(opened)], strict=True):
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        walk = _Walk(source=source, name=name, generator=generator)
        walk.go(_places(len(source), count, generator), hashes, progress)
        report.findings += walk.findings()
        report.facts += walk.facts()
        report.skipped += walk.skipped()
        walks.append(walk)
    for source, name in zip(others, names[len(opened) :], strict=True):
        _hash_only(source, name, hashes, progress, report)
    report.findings += hashes.findings()
    report.skipped += hashes.skipped()
    report.findings = [_accepted(f) if f.rule in accept else f for f in report.findings]
    report.findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    report.shown = _to_show(walks, hashes)
    return report


def _check(
    sources: Sequence[str | Source],
    against: Sequence[str | Source],
    count: int | None,
    accept: Sequence[str],
) -> None:
    """What can be wrong before anything is opened."""
    if not sources:
        raise ConfigError("no source is given; name one, such as depth:FOLDER")
    if count is not None and count < 1:
        raise ConfigError(f"count: {count} is not at least 1")
    check_names(accept, [rule.name for rule in RULES], what="rule to accept:")
    names = [source for source in (*sources, *against) if isinstance(source, str)]
    for name in names:
        parse(name)
        if names.count(name) > 1:
            raise ConfigError(f"source {name!r} is given more than once; keep one")


def _open(source: str | Source, count: int | None, height: int, width: int) -> Source:
    if isinstance(source, Source):
        return source
    return open_source(source, count=count or SCENES, height=height, width=width)


def _names(given: Sequence[str | Source], opened: Sequence[Source]) -> list[str]:
    """What each source is called; two of one name get a number."""
    names = [
        name if isinstance(name, str) else f"{type(source).__name__} {source.domain}"
        for name, source in zip(given, opened, strict=True)
    ]
    return [
        f"{name} ({names[:place].count(name) + 1})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]


def _places(size: int, count: int | None, generator: np.random.Generator) -> Iterator[int]:
    """All indices, or some of them in runs of neighbours, in order."""
    if count is None or count >= size:
        yield from range(size)
        return
    length = min(RUN, count)
    runs = -(-size // length)
    drawn = np.sort(generator.choice(runs, min(runs, -(-count // length)), replace=False))
    left = count
    for run in drawn.tolist():
        for index in range(run * length, min((run + 1) * length, size)):
            if left:
                yield index
                left -= 1


class _Progress:
    """A line every few seconds."""

    def __init__(self, tell: Callable[[str], None] | None) -> None:
        self.tell = tell
        self.begun = self.told = time.monotonic()
        self.done = 0

    def step(self, name: str) -> None:
        self.done += 1
        now = time.monotonic()
        if self.tell and now - self.told >= EVERY:
            self.told = now
            pace = self.done / (now - self.begun)
            self.tell(f"{self.done} images looked at, {pace:.1f} a second, now {name}")


@dataclass
class _Faults:
    """Images with one fault: how many, and some of them."""

    count: int = 0
    some: list[tuple[int, str]] = field(default_factory=list)

    def add(self, index: int, says: str) -> None:
        self.count += 1
        if len(self.some) < EXAMPLES:
            self.some.append((index, says))


class _Walk:
    """One source, image by image.

    Args:
        source: open.
        name: for a person.
        generator: draws what is kept and shown.
    """

    def __init__(self, *, source: Source, name: str, generator: np.random.Generator) -> None:
        self.source = source
        self.name = name
        self.generator = generator
        self.whole = Group(name=name, whole=True)
        self.domains: dict[str, Group] = {}
        self.too_many = False
        self.faults: dict[str, _Faults] = {}
        self.asked: dict[str, int] = {}
        self.clean: list[int] = []
        self.seen_clean = 0
        self.suspects: list[tuple[str, int, str]] = []

    def go(self, places: Iterator[int], hashes: Hashes, progress: _Progress) -> None:
        """Look at the images at these places."""
        self.side = hashes.begin(self.source, self.name)
        last = -2
        before: Edges | None = None
        for index in places:
            progress.step(self.name)
            before = before if index == last + 1 else None
            last = index
            try:
                summary, before = summarise(
                    self.source[index],
                    index=index,
                    before=before,
                    kind=origin.kind(self.source, index),
                    swapped=origin.swapped(self.source, index),
                )
            except DataError as error:
                self.faults.setdefault("unreadable", _Faults()).add(index, str(error))
                before = None
                continue
            self._keep(summary)
            self._ask(summary)
            hashes.add(self.side, index, summary, split=origin.split(self.source, index))

    def _keep(self, summary: Summary) -> None:
        groups = [self.whole]
        if summary.domain not in self.domains and len(self.domains) >= GROUPS:
            self.too_many = True
        else:
            name = f"{self.name}, {summary.domain}"
            groups.append(self.domains.setdefault(summary.domain, Group(name=name, whole=False)))
        for group in groups:
            group.count += 1
            if len(group.kept) < KEPT:
                group.kept.append(summary)
            elif (place := int(self.generator.integers(group.count))) < KEPT:
                group.kept[place] = summary

    def _ask(self, summary: Summary) -> None:
        """The rules of single images."""
        found = False
        for rule in RULES:
            if rule.over != "image" or (rule.needs and summary.truth is None):
                continue
            if rule.needs == "stored" and summary.truth.swapped is None:
                continue
            self.asked[rule.name] = self.asked.get(rule.name, 0) + 1
            if says := rule.check(summary):
                self.faults.setdefault(rule.name, _Faults()).add(summary.index, says)
                found = True
        if found:
            return
        self.seen_clean += 1
        if len(self.clean) < SHOWN:
            self.clean.append(summary.index)
        elif (place := int(self.generator.integers(self.seen_clean))) < SHOWN:
            self.clean[place] = summary.index

    @property
    def groups(self) -> list[Group]:
        """The whole source, and its domains where there are several."""
        return [self.whole, *(self.domains.values() if len(self.domains) > 1 else ())]

    def findings(self) -> list[Finding]:
        """What the rules say of this source."""
        found = []
        for rule in RULES:
            if rule.over in ("image", "reading") and rule.name in self.faults:
                found.append(self._of_images(rule, self.faults[rule.name]))
            if rule.over == "group":
                found += self._of_groups(rule)
        return found

    def _of_images(self, rule: Rule, faults: _Faults) -> Finding:
        looked_at = self.asked.get(rule.name, self.whole.count + faults.count)
        few = faults.count < rule.share * looked_at
        examples = [(origin.label(self.source, index), says) for index, says in faults.some]
        return Finding(
            rule=rule.name,
            severity=max(rule.severity, DOUBTFUL, key=SEVERITIES.index) if few else rule.severity,
            where=self.name,
            says=rule.part("").partition(".")[0] if faults.count > 1 else examples[0][1],
            images=faults.count,
            of=looked_at,
            examples=tuple(examples) if faults.count > 1 else (),
        )

    def _of_groups(self, rule: Rule) -> Iterator[Finding]:
        """A domain is named alone where it is not the whole source that shows a fault."""
        for group in self.groups:
            if (verdict := rule.check(group)) is None:
                continue
            severity, says = verdict
            drawn = self.generator.permutation(len(group.kept))[:FROM_GROUP]
            for place in sorted(drawn.tolist()):
                self.suspects.append((rule.name, group.kept[place].index, says))
            with_truth = sum(summary.truth is not None for summary in group.kept)
            yield Finding(
                rule=rule.name,
                severity=severity,
                where=group.name,
                says=says,
                images=with_truth,
                of=group.count,
            )
            if group.whole and severity == rule.severity:
                return

    def facts(self) -> list[dict]:
        """Of the source and of its domains."""
        unreadable = self.faults.get("unreadable", _Faults()).count
        return [_facts(group, unreadable if group.whole else 0) for group in self.groups]

    def skipped(self) -> list[str]:
        """What could not be asked."""
        lines = []
        truths = len(self.whole.truths)
        if not truths:
            lines.append(f"{self.name}: no ground truth, so only the images were looked at")
        elif truths < rules.SEVERAL:
            lines.append(
                f"{self.name}: how image and map lie needs {rules.SEVERAL} images with ground truth"
            )
        if truths and not origin.has_stored(self.source):
            lines.append(f"{self.name}: mask_swapped needs the stored maps of a manifest")
        if self.too_many:
            lines.append(f"{self.name}: more than {GROUPS} domains; the others only as a whole")
        return lines


def _facts(group: Group, unreadable: int) -> dict:
    """Counts, sizes and ranges; None for what is not known."""
    truths = group.truths
    found = {
        "name": group.name,
        "whole": group.whole,
        "images": group.count,
        "unreadable": unreadable,
        "with_truth": round(group.count * len(truths) / max(1, len(group.kept))),
    }
    if group.kept:
        sizes = np.array([summary.size for summary in group.kept])
        found["height"] = [int(sizes[:, 0].min()), int(sizes[:, 0].max())]
        found["width"] = [int(sizes[:, 1].min()), int(sizes[:, 1].max())]
    if truths:
        depths = [truth.depth for truth in truths if not np.isnan(truth.depth)] or [0.0]
        found |= {
            "valid": float(np.median([truth.valid for truth in truths])),
            "sky": float(np.median([truth.sky for truth in truths])),
            "depth": [float(min(depths)), float(max(depths))],
            "scale_known": all(truth.scale_known for truth in truths),
            "row": _median([truth.row for truth in truths]),
            "edges": _median([truth.given for truth in truths]),
        }
    return found


def _median(values: list[float]) -> float | None:
    known = [value for value in values if not np.isnan(value)]
    return float(np.median(known)) if known else None


def _hash_only(
    source: Source, name: str, hashes: Hashes, progress: _Progress, report: Report
) -> None:
    """The images of a source that is only compared with."""
    side = hashes.begin(source, name, against=True)
    missed = _Faults()
    for index in range(len(source)):
        progress.step(name)
        try:
            sample = source[index]
        except DataError as error:
            missed.add(index, str(error))
            continue
        image = {"image": sample["image"], "domain": sample["domain"]}
        summary, _ = summarise(image, index=index)
        hashes.add(side, index, summary, split=origin.split(source, index))
    if missed.count:
        report.skipped.append(
            f"{name}: {missed.count} of {len(source)} images could not be read, nor compared: "
            f"{missed.some[0][1]}"
        )


def _accepted(finding: Finding) -> Finding:
    return replace(finding, severity=NOTE, accepted=True)


def _to_show(walks: list[_Walk], hashes: Hashes) -> list[tuple[Source, int, str, str]]:
    """Images with something found, worst rule first and no rule more than a few times; then a fair
    draw of the others."""
    found: dict[tuple[int, int], list[str]] = {}
    for rule in RULES:
        for place, walk in enumerate(walks):
            of_images = walk.faults.get(rule.name, _Faults()).some[:4]
            of_groups = [(index, says) for name, index, says in walk.suspects if name == rule.name]
            for index, says in of_images + of_groups:
                found.setdefault((place, index), []).append(f"{rule.name}: {says}")
        for side, index, says in hashes.shown:
            if side < len(walks) and says.startswith(f"{rule.name}: "):
                found.setdefault((side, index), []).append(says)
    worst = list(found.items())[:SHOWN]
    shown = [
        (walks[place].source, index, walks[place].name, "; ".join(says))
        for (place, index), says in worst
    ]
    share = max(1, SHOWN // len(walks))
    for walk in walks:
        shown += [(walk.source, index, walk.name, "") for index in sorted(walk.clean[:share])]
    return shown
