"""What an evaluation found: a value of each measure for each image, their means with intervals, and
what they were measured by. Written as `result.json` and `images.csv`, read back, and compared with
another.

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import dalib
from dalib import provenance
from dalib.errors import ConfigError, DataError, DiskError
from dalib.evaluation.align import ALIGNMENTS
from dalib.evaluation.cards import Card, Entry
from dalib.evaluation.intervals import FEW, LEVEL, Estimate, Values, differences, estimates
from dalib.evaluation.metrics import LOG_BIAS, PIXELS
from dalib.evaluation.protocols import SCALE
from dalib.evaluation.sheet import Worst
from dalib.writing import whole_files

SCHEMA = 1
"""Version of result.json; a field that changes its meaning, or goes, makes it one more."""
RESULT, IMAGES, SHEET = "result.json", "images.csv", "worst.jpg"
"""The files of a result."""
FACTS = ("dataset", "image", "sequence", "truth")
"""Columns of images.csv that are no numbers."""
CORRELATION = "correlation"
"""Column of the correlation of each prediction with the true disparity."""
WEIGHTS = {"ordinal": "pairs", "ordinal_hard": "hard_pairs"}
"""Measures whose mean is over pairs -> the column that says how many of them an image has."""
LABELS = {
    "abs_rel": "AbsRel",
    "sq_rel": "SqRel",
    "rmse": "RMSE",
    "rmse_log": "RMSE log",
    "silog": "SILog",
    "log10": "log10",
    "delta05": "d<1.25^0.5",
    "delta1": "d<1.25",
    "delta2": "d<1.25^2",
    "delta3": "d<1.25^3",
}
"""Metric -> what tables call it."""
SHOWN = ("abs_rel", "delta1", "rmse", "silog")
"""The metrics that are printed; all are in the files. What was asked for besides is printed, too."""
WIDTH = 25
LEAST = 6
"""Units from which on a difference may be called one. With fewer, all of them may lie on one side
by chance more often than once in twenty: 2 / 2^5 is 0.06."""
HIGHER = ("delta", "boundary_f1", "ordinal")
"""Beginnings of the names of measures of which more is better."""


def higher_is_better(metric: str) -> bool:
    """Whether a measure is better where it is larger."""
    return metric.startswith(HIGHER)


class Rules(NamedTuple):
    """What has to be the same for two numbers to have a difference."""

    protocol: str
    hash: str
    alignment: str
    per: str


@dataclass(frozen=True, kw_only=True)
class SetResult:
    """What was found on one data set.

    Attributes:
        name: of the data set.
        protocol: its name.
        card: of the protocol with this alignment, as printed beside its numbers.
        alignment: how predictions were brought to the truth.
        per: "image" or "sequence": what has one fit.
        mean: how the scores of images become one number, see `dalib.evaluation.metrics.summarise`.
        images: names of the images, in order.
        sequences: of the images, "" for an image by itself.
        truths: a hash of each image's ground truth.
        values: metric -> a value for each image; NaN where no pixel counts.
        fitted: what is no measure of error -> a value for each image: scale and shift of the fit,
            how many pixels count, the mean of ln prediction - ln truth, and the correlation with
            the true disparity; or how many pairs there are.
        floors: floor -> metric -> a value for each image.
        floors_by: the alignment of the floors.
        notes: what a reader of the numbers should know.
    """

    name: str
    protocol: str
    card: Card
    alignment: str
    per: str
    mean: str
    images: tuple[str, ...]
    sequences: tuple[str, ...]
    truths: tuple[str, ...]
    values: dict[str, tuple[float, ...]]
    fitted: dict[str, tuple[float, ...]]
    floors: dict[str, dict[str, tuple[float, ...]]] = field(default_factory=dict)
    floors_by: str = "disparity"
    notes: tuple[str, ...] = ()

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """Metric -> its number over all images, with an interval."""
        return self._estimates(self.values, self.fitted)

    @cached_property
    def floor_estimates(self) -> dict[str, dict[str, Estimate]]:
        """Floor -> the same of it."""
        return {
            floor: self._estimates(
                {name: column for name, column in columns.items() if name in self.values},
                {**self.fitted, **columns},
            )
            for floor, columns in self.floors.items()
        }

    def _estimates(self, values: Values, beside: Values) -> dict[str, Estimate]:
        found = {}
        for names, mean, weights in _means(self.mean, values, beside):
            part = {name: values[name] for name in names}
            found |= estimates(part, self.sequences, mean=mean, beside=weights)
        return found

    @property
    def rules(self) -> Rules:
        """By which it was measured."""
        return Rules(self.protocol, self.card.hash, self.alignment, self.per)

    @property
    def counts(self) -> tuple[float, ...]:
        """How many pixels, or pairs, of each image count."""
        return self.fitted[PIXELS if PIXELS in self.fitted else "pairs"]

    @property
    def scored(self) -> int:
        """Images of which something counts."""
        return sum(count > 0 for count in self.counts)

    @property
    def in_sequences(self) -> bool:
        """Whether intervals are over sequences."""
        return any(self.sequences)

    def about(self) -> dict[str, Any]:
        """What result.json says of it beside the numbers."""
        units = len({s for s in self.sequences if s}) + sum(not s for s in self.sequences)
        return {
            "protocol": self.protocol,
            "card": {k: asdict(entry) for k, entry in self.card.entries.items()},
            "scores": self.card.scores,
            "data": self.card.about,
            "hash": self.card.hash,
            "alignment": self.alignment,
            "per": self.per,
            "mean": self.mean,
            "images": len(self.images),
            "scored": self.scored,
            "inverted": sum(scale < 0 for scale in self.fitted.get(SCALE, ())),
            "interval": {
                "level": LEVEL,
                "over": "sequences" if self.in_sequences else "images",
                "units": units,
            },
            "floors_aligned_by": self.floors_by,
            "columns": list(self.fitted),
            "notes": list(self.notes),
        }


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
            name: {floor: _plain(values) for floor, values in each.floor_estimates.items()}
            for name, each in self.sets.items()
        }
        content = {
            "schema": SCHEMA,
            "subject": self.subject,
            "maps": self.maps,
            "datasets": {name: _plain(means) for name, means in found.items()},
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
        except (OSError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: its table of images cannot be read ({error}); keep {IMAGES} beside it"
            ) from error
        if _digest(text) != content["images"]["hash"]:
            raise DataError(
                f"{table}: is not the table that {path.name} was written with; evaluate again"
            )
        try:
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
            sets = {name: _read_set(name, content, rows) for name in content["datasets"]}
            known = (
                "schema",
                "subject",
                "maps",
                "datasets",
                "floors",
                "about",
                "images",
                "against",
            )
            return cls(
                subject=content["subject"],
                maps=content["maps"],
                sets=sets,
                made={key: value for key, value in content.items() if key not in known},
                against=content.get("against"),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{path}: lacks what a result has ({error!r}); evaluate again"
            ) from error

    # ---- beside another

    def compared(self, other: "Result") -> "Comparison":
        """Paired differences, this result minus another, over the images that both have scored.

        Raises:
            ConfigError: the two were measured by other protocols, alignments or truths, or share no
                data set or image.
        """
        shared = shared_sets(self.sets, other.sets)
        found = {name: _paired(self.sets[name], other.sets[name]) for name in shared}
        left = [name for name in (*self.sets, *other.sets) if name not in shared]
        return Comparison(
            this=_called(self.subject),
            other=_called(other.subject),
            other_maps=other.maps,
            sets=found,
            left_out=tuple(left),
        )

    def beside(self, comparison: "Comparison") -> "Result":
        """The same result with a comparison in it."""
        return replace(self, against=comparison.summary())

    def __str__(self) -> str:
        called = _called(self.subject)
        kind = str(self.subject.get("kind", "")).replace("_", " ")
        lines = []
        for each in self.sets.values():
            lines += [*set_lines(each, called=called, kind=kind), ""]
        lines += ["protocols:"]
        cards = {each.card.hash: each.card for each in self.sets.values()}
        for card in cards.values():
            lines += textwrap.wrap(card.line, 100, initial_indent="  ", subsequent_indent="    ")
        return "\n".join(lines)


# ---- differences


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Differences on one data set.

    Attributes:
        differences: metric -> mean of this minus the other over the images that both have.
        images: how many both have scored.
        only: images that only one of the two has scored.
        over: what intervals are over.
    """

    differences: dict[str, Estimate]
    images: int
    only: int
    over: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two results beside each other.

    Attributes:
        this, other: what was evaluated.
        other_maps: the hash of the other's maps.
        sets: data set -> differences.
        left_out: data sets that only one of the two has.
    """

    this: str
    other: str
    other_maps: str
    sets: dict[str, Paired]
    left_out: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """For JSON: data set -> metric -> the mean difference with its interval."""
        return {
            "this": self.this,
            "other": self.other,
            "other_maps": self.other_maps,
            "left_out": list(self.left_out),
            "datasets": {name: _plain(each.differences) for name, each in self.sets.items()},
        }

    def __str__(self) -> str:
        lines = [f"differences: {self.this} minus {self.other}, on the same images"]
        for name, each in self.sets.items():
            alone = f"; {each.only} that only one of the two has are left out" if each.only else ""
            lines.append(
                f"{name}: {_many(each.images, 'image')}{alone}; intervals over {each.over}"
            )
            for metric in [m for block in _blocks(each.differences) for m in block]:
                found = each.differences[metric]
                lines.append(f"  {label(metric):<14}{_signed(found)}  {_verdict(metric, found)}")
        if self.left_out:
            lines.append(f"not compared, for only one has them: {', '.join(self.left_out)}")
        return "\n".join(lines)


def _paired(this: SetResult, other: SetResult) -> Paired:
    refuse_unlike(this.name, this.rules, other.rules)
    places = {image: place for place, image in enumerate(other.images)}
    both = [(k, places[image]) for k, image in enumerate(this.images) if image in places]
    if not both:
        raise ConfigError(f"--against: {this.name}: the two results share no image")
    changed = [this.images[k] for k, j in both if this.truths[k] != other.truths[j]]
    if changed:
        raise ConfigError(
            f"--against: {this.name}: {len(changed)} images have another ground truth there, such "
            f"as {changed[0]}; evaluate both on the same data"
        )
    here, there = (list(places) for places in zip(*both, strict=True))
    sequences = [this.sequences[k] for k in here]
    mine, theirs = _taken(this.values, here), _taken(other.values, there)
    beside = _taken(this.fitted, here), _taken(other.fitted, there)
    found = {}
    for names, mean, weights in _means(this.mean, mine, beside[0]):
        found |= differences(
            {name: mine[name] for name in names},
            theirs,
            sequences,
            mean=mean,
            beside=(weights, {**beside[1], **weights} if mean == "pixels" else weights),
        )
    return Paired(
        differences=found,
        images=sum(this.counts[k] > 0 for k in here),
        only=len(this.images) + len(other.images) - 2 * len(both),
        over="sequences" if this.in_sequences else "images",
    )


def refuse_unlike(name: str, mine: Rules, theirs: Rules) -> None:
    """A `ConfigError` where a data set is measured by other rules here than there."""
    for what, here, there in (
        ("alignment", mine.alignment, theirs.alignment),
        ("protocol", f"{mine.protocol} ({mine.hash})", f"{theirs.protocol} ({theirs.hash})"),
        ("fit per", mine.per, theirs.per),
    ):
        if here != there:
            raise ConfigError(
                f"--against: {name}: another {what}, {here} here and {there} there; numbers by "
                "different rules have no difference"
            )


def shared_sets(mine: Iterable[str], theirs: Iterable[str]) -> list[str]:
    """The data sets that two results have in common; a `ConfigError` where there is none."""
    mine, theirs = list(mine), list(theirs)
    found = [name for name in mine if name in theirs]
    if not found:
        raise ConfigError(
            "--against: the two results share no data set: "
            f"{', '.join(mine)} here, {', '.join(theirs)} there"
        )
    return found


def _means(mean: str, values: Values, beside: Values) -> Iterator[tuple[list[str], str, Values]]:
    """Which measures are summed up alike: their names, by which mean, and what weighs the
    images."""
    if mean != "pairs":
        yield list(values), mean, beside
        return
    for name in values:
        yield [name], "pixels", {PIXELS: beside[WEIGHTS[name]]}


def _taken(columns: Mapping[str, Sequence[float]], places: Sequence[int]) -> dict[str, list[float]]:
    return {name: [column[k] for k in places] for name, column in columns.items()}


def _verdict(metric: str, found: Estimate) -> str:
    """Which of the two is better, where the interval says so."""
    if found.units < LEAST:
        return "too few to say"
    if not found.leaves_out(0):
        return "unclear" if found.low < found.high else "the same"
    better = (found.mean > 0) == higher_is_better(metric)
    return "better" if better else "worse"


# ---- as text


def label(metric: str) -> str:
    """What a table calls a metric."""
    return LABELS.get(metric, metric)


def set_lines(each: SetResult, *, called: str, kind: str) -> list[str]:
    """One data set as a table: what was evaluated, and the floors."""
    over = "sequences" if each.in_sequences else "images"
    own = each.estimates
    rows = {called: own}
    rows |= {f"floor: {name}": found for name, found in each.floor_estimates.items()}
    units = next(iter(own.values())).units
    count = _many(each.scored, "image")
    if each.in_sequences:
        count += f" in {_many(units, 'sequence')}"
    if each.card.scores == "pairs":
        count = f"{_many(int(sum(each.counts)), 'pair')} on {count}"
    fitted = ALIGNMENTS[each.alignment].words
    if each.alignment != "none":
        fitted += f", per {each.per}"
    lines = [f"{each.name}: {count}, protocol {each.protocol} ({each.card.hash}), {kind}, {fitted}"]
    first = max(map(len, rows)) + 2
    for metrics in _blocks(own):
        heads = "".join(label(metric).ljust(WIDTH) for metric in metrics)
        lines.append("  " + " " * first + heads.rstrip())
        for name, found in rows.items():
            cells = [_cell(found[m]) if m in found else "-" for m in metrics]
            if any(cell != "-" for cell in cells):
                row = "".join(cell.ljust(WIDTH) for cell in cells)
                lines.append(f"  {name.ljust(first)}{row}".rstrip())
    notes = list(each.notes)
    if each.card.scores != "pairs" and each.floors and each.floors_by != each.alignment:
        notes.append(f"the floors are aligned by {each.floors_by}, whatever the rest is")
    if units < FEW:
        what = "there is no interval" if units < 2 else "intervals are too narrow"
        notes.append(f"with {_many(units, over.removesuffix('s'))} {what}")
    return [*lines, *(f"  note: {note}" for note in notes)]


def _blocks(metrics: Iterable[str]) -> list[list[str]]:
    """The metrics that are printed, as many as fit beside each other at a time."""
    metrics = list(metrics)
    usual = [m for m in SHOWN if m in metrics]
    others = [m for m in metrics if m not in LABELS]
    size = len(SHOWN)
    rest = [others[start : start + size] for start in range(0, len(others), size)]
    return [block for block in (usual, *rest) if block]


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _cell(found: Estimate) -> str:
    if math.isnan(found.mean):
        return "-"
    if math.isnan(found.low):
        return _number(found.mean)
    return f"{_number(found.mean)} [{_number(found.low)}, {_number(found.high)}]"


def _number(value: float) -> str:
    """Four decimals below 10, else four digits: 0.0712, 12.34, 1234."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def _signed(found: Estimate) -> str:
    if math.isnan(found.low):
        return f"{found.mean:+.4f}"
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def _called(subject: Mapping[str, Any]) -> str:
    """What was evaluated, in a word or two: the end of its name."""
    name = str(subject.get("name", "?"))
    return name if len(name) <= 40 else f"...{name[-37:]}"


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
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out: {out} is a file; name a folder")
    nearest = next(place for place in (out, *out.absolute().parents) if place.exists())
    try:
        with TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise ConfigError(
            f"--out: {out} cannot be written ({error.strerror or error}); name another folder"
        ) from error
    there = [name for name in (RESULT, IMAGES, SHEET) if (out / name).exists()]
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
            title = f"the worst images of {_called(result.subject)}, by AbsRel"
            sheet.draw(title).save(folder / SHEET, "JPEG", quality=88)
            names.append(SHEET)
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


def _plain(found: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    return {metric: asdict(estimate) for metric, estimate in found.items()}


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
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: is no readable {RESULT} ({error}); name one that evaluate has written"
        ) from error
    if not isinstance(content, dict) or "schema" not in content or "datasets" not in content:
        raise DataError(
            f"{path}: is no result of an evaluation; name one that evaluate has written"
        )
    if content["schema"] != SCHEMA:
        raise DataError(
            f"{path}: a result of schema {content['schema']}, and this version reads {SCHEMA}; "
            "evaluate again"
        )
    return content


def _floor_columns(metrics: Iterable[str], row: Mapping[str, str], floor: str) -> list[str]:
    """The columns of a floor: its metrics, and what their mean over pixels needs."""
    return [*metrics, *(m for m in (LOG_BIAS,) if row.get(f"{floor}: {m}"))]


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
            floor: {m: column(f"{floor}: {m}") for m in _floor_columns(metrics, rows[0], floor)}
            for floor, metrics in content["floors"].get(name, {}).items()
        },
        floors_by=about["floors_aligned_by"],
        notes=tuple(about["notes"]),
    )
