"""A manifest.csv as rows of text, and everything about them that can be wrong without a picture
being opened."""

import codecs
import csv
import difflib
import io
import posixpath
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dalib.data.readers import check_reader
from dalib.errors import DataError

KINDS = ("depth_m", "disparity")
COLUMNS = ("image", "depth", "kind", "depth_scale")
OPTIONAL = (
    *("id", "dataset", "protocol", "half", "quality", "sequence", "scale_known", "offset_known"),
    *("native_image", "native_depth", "native_mask", "mask", "bits", "invalid", "sky"),
    *("reader", "rays"),
)
"""Columns that are read where they are there. Any others are passed over."""
ALIKE = 0.85
"""From which likeness on (`difflib`), and with one first letter, a name is taken to be misspelt."""
SKY_RULES = ("value", "farther")
NO_SKY = ("none", "invalid", "farthest")
"""Words in the column `sky` that mark none: there is no sky, it has no ground truth, or it is stored
as depth like any other."""
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_YES_OR_NO = {"yes": True, "true": True, "no": False, "false": False}


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The names of the columns and the rows, without the space around entries; empty lines are
    passed over.

    UTF-8, or UTF-16 and UTF-32 with their mark; separated by commas, semicolons or tabs. Columns
    without a name, such as trailing commas make, are left out.

    Raises:
        DataError: no such file, no text, a name of a column that stands twice, a row with too few
            or too many entries.
    """
    text = _decode(path)
    first = text.partition("\n")[0]
    delimiter = max(
        ",;\t",
        key=lambda mark: len({*COLUMNS} & {name.strip(' "\r') for name in first.split(mark)}),
    )
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DataError(
            f"{path}: cannot be read ({error}); write a CSV of {', '.join(COLUMNS)}"
        ) from error
    entries = [[entry.strip() for entry in line] for line in lines]
    entries = [line for line in entries if any(line)]
    header = entries[0] if entries else []
    named = [name for name in header if name]
    if twice := ", ".join(sorted({name for name in named if named.count(name) > 1})):
        raise DataError(f"{path}: column {twice} stands more than once in the first line; keep one")
    for number, line in enumerate(entries[1:], start=1):
        if len(line) != len(header):
            raise DataError(
                f"{path}: row {number} has not {len(header)} entries; complete or remove it"
            )
    rows = [
        {name: entry for name, entry in zip(header, line, strict=True) if name}
        for line in entries[1:]
    ]
    return named, rows


def check_columns(
    path: Path,
    present: Sequence[str],
    *,
    needed: Sequence[str] = COLUMNS,
    optional: Sequence[str] = OPTIONAL,
) -> None:
    """See that a table has the columns that it needs, and that none is misspelt.

    Args:
        path: the table, for messages.
        present: the names in its first line.
        needed: names that have to be there.
        optional: names that may be.

    Raises:
        DataError: a column is missing, or one that nobody reads is called nearly like one that is not
            there; the message says which there are and what to rename.
    """
    known = (*needed, *optional)
    unknown = [name for name in present if name not in known]
    lacking = [name for name in known if name not in present]
    meant = {name: near for name in unknown if (near := _nearly(name, lacking))}
    rename = "; ".join(f"rename {name} to {near}" for name, near in meant.items())
    missing = [name for name in needed if name not in present]
    if missing:
        write = f"write a first line such as {','.join(needed)}"
        raise DataError(
            f"{path}: missing column {', '.join(missing)}; it has {', '.join(present) or 'none'}; "
            f"{rename or write}"
        )
    if meant:
        raise DataError(
            f"{path}: column {', '.join(meant)} would not be read, for its name is not known; "
            f"{rename}, or give it another name if it says something else"
        )


def _nearly(name: str, others: Sequence[str]) -> str:
    """Which of some names one is a misspelling of; "" for none."""
    plain = name.lower().replace(" ", "_").replace("-", "_")
    same = [other for other in others if other[0] == plain[0]]
    return next(iter(difflib.get_close_matches(plain, same, n=1, cutoff=ALIKE)), "")


def _decode(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error}); write a CSV of {', '.join(COLUMNS)}"
        ) from error
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}: line {line} cannot be read as {encoding}; save the table as UTF-8"
        ) from error
    if "\0" in text:
        raise DataError(
            f"{path}: cannot be read: it holds zero bytes (UTF-16?); save the table as UTF-8"
        )
    return text


def yes(row: dict[str, str], column: str, *, default: bool) -> bool:
    """Whether a column says yes; `default` where there is no such column. Anything but yes or no is
    a ValueError."""
    if column not in row:
        return default
    if row[column].lower() not in _YES_OR_NO:
        raise ValueError(f"{column} is {row[column]!r}; write yes or no")
    return _YES_OR_NO[row[column].lower()]


def number(row: dict[str, str], column: str) -> float:
    """A positive number; anything else is a ValueError."""
    try:
        value = float(row[column])
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        point = ", with a point for the decimals" if "," in row[column] else ""
        raise ValueError(f"{column} is {row[column]!r}; it must be a positive number{point}")
    return value


def invalid_values(entry: str) -> tuple[float, ...] | None:
    """The entry `invalid` of a row: the stored values that mean "no ground truth", apart by spaces.

    None where it is empty: then 0 means that. `none` says that no value does; `nan` and `inf` are
    values like any. Words that are no numbers are a ValueError.
    """
    if not entry:
        return None
    if entry.lower() == "none":
        return ()
    try:
        return tuple(float(word) for word in entry.split())
    except ValueError:
        raise ValueError(
            f"invalid is {entry!r}; write numbers apart by spaces, nan, inf, or none"
        ) from None


def sky_rule(entry: str) -> tuple[str, tuple[float, ...]] | None:
    """The entry `sky` of a row where it is a rule about the stored values; None where it marks none
    (empty, or a word of `NO_SKY`) or is the path of a mask (see `sky_mask`).

    `value 65535` (or several, apart by spaces): these stored values are sky. `farther 1000`: what is
    at least as far, in metres, after `depth_scale`. Anything else that begins so is a ValueError; a
    file of such a name is written `./value 65535`.
    """
    word, _, rest = entry.partition(" ")
    if word not in SKY_RULES or not rest:
        return None
    try:
        numbers = tuple(float(number) for number in rest.split())
    except ValueError:
        numbers = ()
    if not numbers or (word == "farther" and not (len(numbers) == 1 and 0 < numbers[0] < np.inf)):
        raise ValueError(
            f"sky is {entry!r}; write a path, `value` and numbers apart by spaces, or `farther` and "
            "metres"
        )
    return word, numbers


def sky_mask(row: dict[str, str]) -> str:
    """The path of a row's mask of sky, "" where there is none."""
    entry = row.get("sky", "")
    return "" if entry.lower() in NO_SKY or sky_rule(entry) is not None else entry


def sky_by_rule(
    values: np.ndarray, rule: tuple[str, tuple[float, ...]], *, scale: float | int
) -> np.ndarray:
    """Where the stored values (H, W) are sky, by a rule as `sky_rule` reads it."""
    word, numbers = rule
    if word == "farther":
        return values.astype(np.float64) / scale >= numbers[0]  # NaN is not
    found = np.zeros(values.shape, bool)
    for number in numbers:
        found |= np.isnan(values) if np.isnan(number) else values == number
    return found


def ray_numbers(entry: str) -> tuple[float, ...] | None:
    """The entry `rays` of a row, as `dalib.data.readers.cosines` takes it; None where it is empty.
    Anything but degrees or nine numbers is a ValueError."""
    if not entry:
        return None
    try:
        numbers = tuple(float(number) for number in entry.split())
    except ValueError:
        numbers = ()
    if not np.isfinite(numbers).all() or len(numbers) not in (1, 9):
        numbers = ()
    if len(numbers) == 1 and not 0 < numbers[0] < 180:
        numbers = ()
    if not numbers:
        raise ValueError(
            f"rays is {entry!r}; write the horizontal field of view in degrees, or the nine numbers "
            "of the matrix from (u, v, 1) to the ray"
        )
    return numbers


def bits(entry: str) -> int | None:
    """The entry `bits` of a row; None where it is empty, ValueError where it is no whole number of
    1..64."""
    if not entry:
        return None
    if not (entry.isdecimal() and 1 <= int(entry) <= 64):
        raise ValueError(
            f"bits is {entry!r}; write how many bits a value of the depth map has, such as 8"
        )
    return int(entry)


def check_row(row: dict[str, str]) -> None:
    """A ValueError for the first entry of a labelled row that cannot be meant."""
    if not row["image"]:
        raise ValueError("it names no image; complete or remove it")
    if row["image"] == row["depth"]:
        raise ValueError("image and depth are the same file; correct one of them")
    if row["kind"] not in KINDS:
        raise ValueError(f"unknown kind {row['kind']!r}; it must be 'depth_m' or 'disparity'")
    number(row, "depth_scale")
    for column in ("scale_known", "offset_known"):
        yes(row, column, default=True)
    bits(row.get("bits", ""))
    invalid_values(row.get("invalid", ""))
    check_reader(row.get("reader", ""))
    rule = sky_rule(row.get("sky", ""))
    if rule is not None and rule[0] == "farther" and row["kind"] != "depth_m":
        raise ValueError("sky is a distance, but kind is disparity; write `value` and numbers")
    if ray_numbers(row.get("rays", "")) is not None and row["kind"] != "depth_m":
        raise ValueError("rays is for depth along the rays, but kind is disparity")


def check_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """A `DataError` for the first row that cannot be meant, or that pairs the same two files as one
    before it."""
    seen: dict[tuple[str, str], int] = {}
    for count, row in enumerate(rows, start=1):
        if not row["depth"]:
            continue
        try:
            check_row(row)
        except ValueError as error:
            raise DataError(f"{path}: row {count} ({row['image']}): {error}") from None
        pair = posixpath.normpath(row["image"]), posixpath.normpath(row["depth"])
        if pair in seen:
            raise DataError(
                f"{path}: rows {seen[pair]} and {count} are the same pair, {' and '.join(pair)}; "
                "remove one"
            )
        seen[pair] = count
