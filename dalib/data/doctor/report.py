"""What the doctor found: as an object, as text, as JSON and as a contact sheet."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dalib.data.doctor import sheet
from dalib.data.doctor.rules import NOTE, SEVERITIES, SPOILS
from dalib.data.schema import Source
from dalib.writing import refuse_existing, whole, write_text

EXAMPLES = 8
"""Images that a finding names."""

HEAD = ("images", "damaged", "maps", "size", "valid", "sky", "depth", "row", "edges")
"""What the columns of the facts hold: how many images, those that cannot be read, and those with a
map; width x height; medians of the share that is valid, and of sky in it; the range of median
depths; the rank correlation of disparity with the row; how well edges of image and map agree."""
WIDTHS = (6, 7, 6, 19, 5, 4, 14, 5, 5)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault of one source.

    Attributes:
        rule: its name, see `dalib.data.doctor.rules`.
        severity: "spoils", "doubtful" or "note".
        where: the source, and the domain in it where it is one of several.
        says: what was found, and what to do.
        images: how many show it.
        of: among how many that were looked at.
        examples: some of them, each as (what it is called, what is said of it).
        accepted: somebody has looked at it (`--accept`): the severity is "note" then.
    """

    rule: str
    severity: str
    where: str
    says: str
    images: int
    of: int
    examples: tuple[tuple[str, str], ...] = ()
    accepted: bool = False


@dataclass(kw_only=True)
class Report:
    """All that was found.

    Attributes:
        findings: worst first.
        facts: of each source and domain: counts, sizes, ranges.
        skipped: what could not be asked, and why.
        shown: images for the contact sheet, as (source, index, source's name, what was found).
    """

    findings: list[Finding] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    shown: list[tuple[Source, int, str, str]] = field(default_factory=list, repr=False)

    @property
    def spoils(self) -> bool:
        """Whether something would spoil a training."""
        return any(finding.severity == SPOILS for finding in self.findings)

    def rules(self, severity: str | None = None) -> set[str]:
        """Names of the rules that found something, of one severity or of any."""
        return {f.rule for f in self.findings if severity in (None, f.severity)}

    def to_json(self) -> str:
        """Everything but the pictures."""
        content = {
            "spoils": self.spoils,
            "findings": [asdict(finding) for finding in self.findings],
            "facts": self.facts,
            "skipped": self.skipped,
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    def write(self, folder: str | Path, *, overwrite: bool = False) -> tuple[Path, Path]:
        """Write report.json and sheet.png into a folder, which is made where it is missing.

        Raises:
            ConfigError: one of them is there already and `overwrite` is not set.
            DiskError: the disk refuses.
        """
        files = targets(Path(folder))
        refuse_existing(files, overwrite=overwrite)
        picture = sheet.draw(self.shown)
        write_text(files[0], self.to_json())
        with whole(files[1]) as partial:
            picture.save(partial, "PNG")
        return files

    def __str__(self) -> str:
        lines = [*_table(self.facts), ""]
        for finding in self.findings:
            accepted = ", accepted" if finding.accepted else ""
            lines.append(f"{finding.severity.upper()}{accepted}: {finding.rule}, {finding.where}")
            lines.append(f"    {finding.images} of {finding.of} images: {finding.says}")
            lines += [f"      {name}: {says}" for name, says in finding.examples]
        counts = {s: sum(f.severity == s for f in self.findings) for s in SEVERITIES}
        found = ", ".join(f"{count} {'notes' if s == NOTE else s}" for s, count in counts.items())
        lines.append(f"found: {found}" if self.findings else "nothing found")
        lines += [f"not asked: {line}" for line in self.skipped]
        return "\n".join(lines)


def targets(folder: Path) -> tuple[Path, Path]:
    """The files that `Report.write` makes."""
    return folder / "report.json", folder / "sheet.png"


def _table(all_facts: Sequence[dict[str, Any]]) -> list[str]:
    """The facts in columns: a line for each source, and below it one for each domain in it."""
    lines = [_line(HEAD, "")]
    source = ""
    for facts in all_facts:
        if facts["whole"]:
            source = facts["name"]
            lines.append(source)
        name = "all" if facts["whole"] else facts["name"].removeprefix(f"{source}, ")
        lines.append(_line(_cells(facts), name))
    return lines


def _cells(facts: dict[str, Any]) -> tuple[str, ...]:
    """Of a source or domain; "-" for what is not known."""
    counts = tuple(str(facts[key]) for key in ("images", "unreadable", "with_truth"))
    size = "x".join(_between(facts[key]) for key in ("width", "height")) if facts["images"] else "-"
    if not facts["with_truth"]:
        return (*counts, size, *"-----")
    unit = "m" if facts["scale_known"] else ""
    shares = f"{facts['valid']:.0%}", f"{facts['sky']:.0%}"
    agree = _number(facts["row"]), _number(facts["edges"])
    return (*counts, size, *shares, _between(facts["depth"]) + unit, *agree)


def _line(cells: Sequence[str], name: str) -> str:
    padded = [cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True)]
    return "  ".join([*padded, name]).rstrip()


def _between(ends: Sequence[float | int]) -> str:
    low, high = (f"{end:.3g}" if end < 1000 else f"{end:.0f}" for end in ends)
    return low if low == high else f"{low}..{high}"


def _number(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.2f}"
