"""A whole evaluation as files: `result.json` and `images.csv`, written and read back.

What was found on one data set is in `dalib.evaluation.set_results`, differences to another result in
`dalib.evaluation.comparison`, the printed table in `dalib.evaluation.tables`.

`result.json` in short::

    schema                             1
    subject                            what was evaluated: form, name, kind, hash
    maps                               a hash over all of its maps
    datasets.NAME.METRIC.mean|low|high|n|median|units
    floors.NAME.FLOOR.METRIC.mean|...  predictions that look at no picture, on the same images
    about.NAME                         protocol (name, card, hash), alignment, images, interval, notes
    images                             the file images.csv, and its hash
    against                            paired differences to another result, where one was given
    settings, versions, device, code   how it was made
"""

import csv
import hashlib
import io
import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import dalib
from dalib import provenance
from dalib.config import check_names
from dalib.errors import ConfigError, DataError, DiskError
from dalib.evaluation.align import ALIGNMENTS
from dalib.evaluation.cards import Card, Entry
from dalib.evaluation.comparison import Comparison, paired, plain, shared_sets
from dalib.evaluation.metrics import LOG_BIAS, MEANS, PIXELS
from dalib.evaluation.pairs import PAIR_MEANS
from dalib.evaluation.set_results import SetResult
from dalib.evaluation.sheet import Worst
from dalib.evaluation.tables import set_lines, short_name
from dalib.writing import refuse_place, whole_files

SCHEMA = 1
"""Version of result.json; a field that changes its meaning, or goes, makes it one more."""
RESULT, IMAGES, SHEET = "result.json", "images.csv", "worst.jpg"
"""The files of a result."""
FACTS = ("dataset", "image", "sequence", "truth")
"""Columns of images.csv that are no numbers."""
OWN = ("schema", "subject", "maps", "datasets", "floors", "about", "images", "against")
"""Entries of result.json that say what was found; the others say how it was made."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A whole evaluation.

    Attributes:
        subject: what was evaluated, see `dalib.evaluation.subjects.Subject.about`.
        maps: a hash over all of its maps.
        sets: data set -> what was found.
        made: settings, versions, device and code.
        against: paired differences to another result, as `Comparison.summary` gives them.
    """

    subject: dict[str, Any]
    maps: str
    sets: dict[str, SetResult]
    made: dict[str, Any] = field(default_factory=dict)
    against: dict[str, Any] | None = None

    # ---- as files

    def to_json(self) -> dict[str, Any]:
        """What stands in result.json."""
        found = {name: each.estimates for name, each in self.sets.items()}
        floors = {
            name: {floor: plain(values) for floor, values in each.floor_estimates.items()}
            for name, each in self.sets.items()
        }
        content = {
            "schema": SCHEMA,
            "subject": self.subject,
            "maps": self.maps,
            "datasets": {name: plain(means) for name, means in found.items()},
            "floors": floors,
            "about": {name: each.about() for name, each in self.sets.items()},
            "images": {"file": IMAGES, "hash": _digest(self.to_csv())},
        }
        if self.against is not None:
            content["against"] = self.against
        return clean(content | self.made)

    def to_csv(self) -> str:
        """What stands in images.csv: a row for each image, empty where there is no value."""
        columns = [*FACTS]
        for each in self.sets.values():
            columns += [name for name in _columns(each) if name not in columns]
        file = io.StringIO()
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for each in self.sets.values():
            numbers = _columns(each)
            for place, image in enumerate(each.images):
                row = dict(
                    zip(
                        FACTS,
                        (each.name, image, each.sequences[place], each.truths[place]),
                        strict=True,
                    )
                )
                row |= {name: _word(values[place]) for name, values in numbers.items()}
                writer.writerow(row)
        return file.getvalue()

    @classmethod
    def load(cls, path: str | Path) -> "Result":
        """Read a result back.

        Args:
            path: its result.json, or the folder of it. images.csv lies beside it.

        Raises:
            DataError: no such file, one that is no result, of another schema, or an images.csv that
                is missing or was changed since.
        """
        path = Path(path)
        path = path / RESULT if path.is_dir() else path
        content = _read_json(path)
        try:
            table = path.with_name(content["images"]["file"])
            text = table.read_bytes().decode("utf-8")
            written = content["images"]["hash"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: its table of images cannot be read ({error}); keep {IMAGES} beside it"
            ) from error
        if _digest(text) != written:
            raise DataError(
                f"{table}: is not the table that {path.name} was written with; evaluate again"
            )
        try:
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
            return cls(
                subject=dict(content["subject"]),
                maps=content["maps"],
                sets={name: _read_set(name, content, rows) for name in content["datasets"]},
                made={key: value for key, value in content.items() if key not in OWN},
                against=content.get("against"),
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            lacks = isinstance(error, KeyError)
            what = (
                f"lacks {error}, which results have" if lacks else f"is no whole result ({error})"
            )
            raise DataError(f"{path}: {what}; evaluate again") from error

    # ---- beside another

    def compared(self, other: "Result") -> Comparison:
        """Paired differences, this result minus another, over the images that both have scored.

        Raises:
            ConfigError: the two were measured by other protocols, alignments or truths, or share no
                data set or image.
        """
        shared = shared_sets(self.sets, other.sets)
        found = {name: paired(self.sets[name], other.sets[name]) for name in shared}
        left = [name for name in (*self.sets, *other.sets) if name not in shared]
        return Comparison(
            this=short_name(self.subject),
            other=short_name(other.subject),
            other_maps=other.maps,
            sets=found,
            left_out=tuple(left),
            other_code=_other_code(self.made, other.made),
        )

    def beside(self, comparison: Comparison) -> "Result":
        """The same result with a comparison in it."""
        return replace(self, against=comparison.summary())

    def __str__(self) -> str:
        name = short_name(self.subject)
        kind = str(self.subject.get("kind", "")).replace("_", " ")
        lines = []
        for each in self.sets.values():
            lines += [*set_lines(each, called=name, kind=kind), ""]
        lines += ["protocols:"]
        cards = {each.card.hash: each.card for each in self.sets.values()}
        for card in cards.values():
            lines += textwrap.wrap(card.line, 100, initial_indent="  ", subsequent_indent="    ")
        return "\n".join(lines)


# ---- reading and writing


def made(settings: Mapping[str, Any], *, device: str) -> dict[str, Any]:
    """What a result says of how it was made."""
    commit, dirty = provenance.commit()
    return {
        "settings": dict(settings),
        "device": device,
        "machine": provenance.device(),
        "dalib": dalib.__version__,
        "code": {
            "hash": _code(),
            "commit": commit,
            "dirty": dirty,
        },
        "versions": provenance.versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _other_code(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """By which other code of the library another result was made; "" where it was by the same, or
    where one of the two does not say."""
    here, there = (
        f"dalib {made.get('dalib')}, {made['code'].get('hash')}"
        if isinstance(made.get("code"), Mapping)
        else ""
        for made in (mine, theirs)
    )
    return there if here and there and here != there else ""


@cache
def _code() -> str:
    """Twelve hex digits over the library's files, every letter of them, as they are at the first
    call."""
    total = hashlib.blake2b(digest_size=6)
    package = Path(provenance.__file__).parent
    for file in sorted(package.rglob("*.py")):
        total.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def refuse_other(out: Path, settings: Mapping[str, Any], *, overwrite: bool) -> None:
    """See that a result may be written to a folder.

    Raises:
        ConfigError: the folder is a file, cannot be written, or holds a result already, and it may
            not be replaced; the message says by which settings that one was made.
    """
    refuse_place(out, option="--out", folder=True)
    there = [name for name in (RESULT, IMAGES, SHEET) if (out / name).exists()]
    if folders := [name for name in there if (out / name).is_dir()]:
        raise ConfigError(
            f"--out: {out / folders[0]} is a folder, where a file of the result would stand; name "
            "another folder"
        )
    if not there or overwrite:
        return
    how = "is there already"
    if RESULT in there:
        try:
            before = _read_json(out / RESULT).get("settings")
        except DataError:
            before = None
        if isinstance(before, dict):
            now = clean(settings)
            names = sorted({*before, *now})
            apart = [name for name in names if before.get(name) != now.get(name)]
            how += (
                f", made with other settings ({', '.join(apart)})"
                if apart
                else ", of these settings"
            )
    raise ConfigError(
        f"{out / there[0]}: {how}; give another folder, or replace it with --overwrite"
    )


def write(result: Result, out: str | Path, *, sheet: Worst | None = None) -> list[Path]:
    """Write result.json, images.csv and, where a sheet is given, worst.jpg, all of them or none.

    Files of these names are replaced: ask before (`refuse_other`).

    Raises:
        DiskError: the disk refuses.
    """
    out = Path(out)
    content = json.dumps(result.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    names = [RESULT, IMAGES]
    with whole_files(out, error=DiskError) as folder:
        (folder / IMAGES).write_bytes(result.to_csv().encode("utf-8", "backslashreplace"))
        (folder / RESULT).write_text(content, encoding="utf-8")
        if sheet is not None and sheet.rows:
            title = f"the worst images of {short_name(result.subject)}, by AbsRel"
            sheet.draw(title).save(folder / SHEET, "JPEG", quality=88)
            names.append(SHEET)
    if SHEET not in names:
        (out / SHEET).unlink(missing_ok=True)  # of the result that was replaced
    return [out / name for name in names]


def clean(value: Any) -> Any:
    """JSON's own: tuples as lists, NaN as null."""
    if isinstance(value, Mapping):
        return {str(k): clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return clean(value.item()) if hasattr(value, "item") else str(value)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()


def _word(value: float) -> str:
    """A number such that reading it gives the same bits."""
    return "" if math.isnan(value) else repr(float(value))


def _columns(each: SetResult) -> dict[str, Sequence[float]]:
    floors = {
        f"{floor}: {metric}": column
        for floor, values in each.floors.items()
        for metric, column in values.items()
    }
    return {**each.values, **each.fitted, **floors}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: there is no such file; name a {RESULT} that evaluate has written, or its folder"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: is no readable {RESULT} ({error}); name one that evaluate has written"
        ) from error
    if not isinstance(content, dict) or "schema" not in content or "datasets" not in content:
        raise DataError(
            f"{path}: is no result of an evaluation; name one that evaluate has written"
        )
    if content["schema"] != SCHEMA:
        raise DataError(
            f"{path}: a result of schema {content['schema']!r}, and this version reads {SCHEMA} "
            f"(dalib {content.get('dalib', '?')} there, {dalib.__version__} here); evaluate again"
        )
    if not isinstance(content["datasets"], dict) or not content["datasets"]:
        raise DataError(f"{path}: holds no data set; evaluate again")
    return content


def _floor_columns(
    metrics: Iterable[str], rows: Sequence[Mapping[str, str]], floor: str
) -> list[str]:
    """The columns of a floor: its metrics, and what their mean over pixels needs."""
    is_there = any(row.get(f"{floor}: {LOG_BIAS}") for row in rows)
    return [*metrics, *([LOG_BIAS] if is_there else [])]


def _read_card(about: Mapping[str, Any]) -> Card:
    entries = {}
    for key, entry in about["card"].items():
        value = entry["value"]
        entries[key] = Entry(tuple(value) if isinstance(value, list) else value, entry["source"])
    return Card(about["protocol"], about["scores"], about["data"], entries)


def _read_set(
    name: str, content: Mapping[str, Any], rows: Sequence[Mapping[str, str]]
) -> SetResult:
    about = content["about"][name]
    mine = [row for row in rows if row["dataset"] == name]
    if not (mine and content["datasets"][name]):
        raise ValueError(f"{name} has no image or no metric")
    check_names([about["alignment"]], ALIGNMENTS, what="alignment")
    check_names([about["mean"]], (*MEANS, *PAIR_MEANS), what="mean")
    if not {PIXELS, "pairs"} & {*about["columns"]}:
        raise KeyError(PIXELS)

    def column(title: str) -> tuple[float, ...]:
        return tuple(float(row[title]) if row[title] else math.nan for row in mine)

    return SetResult(
        name=name,
        protocol=about["protocol"],
        card=_read_card(about),
        alignment=about["alignment"],
        per=about["per"],
        mean=about["mean"],
        images=tuple(row["image"] for row in mine),
        sequences=tuple(row["sequence"] for row in mine),
        truths=tuple(row["truth"] for row in mine),
        values={metric: column(metric) for metric in content["datasets"][name]},
        fitted={title: column(title) for title in about["columns"]},
        floors={
            floor: {m: column(f"{floor}: {m}") for m in _floor_columns(metrics, mine, floor)}
            for floor, metrics in content["floors"].get(name, {}).items()
        },
        floors_by=about["floors_aligned_by"],
        notes=tuple(about["notes"]),
    )
