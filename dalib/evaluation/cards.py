"""Protocol cards: what a number was measured by, entry by entry, each with its source.

The cards stand in `cards.yaml` beside this file, and the protocols are made from them
(`dalib.evaluation.protocols`, and `dalib.evaluation.pairs` for pairs of points). A card is
printed beside a number; its hash is made of what it says and not of who said it, so that a card
with one other entry is another protocol, and a better source is not.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dalib import strict_yaml
from dalib.config import check_names
from dalib.errors import ConfigError

FILE = Path(__file__).with_name("cards.yaml")
UNSTATED = "unstated"
"""The source of what nobody has written down."""
CUSTOM = "set by the caller"
"""The source of an entry that differs from the card of its name."""
KINDS = {
    "depth": (
        *("min_depth", "max_depth", "bounds", "crop", "frame", "clamp", "align", "mean"),
        *("resize", "truth", "sky"),
    ),
    "pairs": ("window", "hard", "tie", "mean", "resize", "truth"),
}
"""What a card scores -> its entries, in the order of print."""
WORDS = {
    "min_depth": "nearest",
    "max_depth": "cap",
    "bounds": "range",
    "crop": "crop",
    "frame": "crop for",
    "clamp": "clamped",
    "align": "alignment",
    "mean": "mean over",
    "resize": "resized",
    "truth": "truth",
    "sky": "sky",
    "window": "window",
    "hard": "hard below",
    "tie": "a tie gives",
}
"""Entry -> how it is called in print."""

Value = str | int | float | tuple[int | float, ...] | None


@dataclass(frozen=True)
class Entry:
    """One line of a card.

    Attributes:
        value: a number, a word, several numbers, or None.
        source: paper and section, repository and path, an issue, or `UNSTATED`.
    """

    value: Value
    source: str


@dataclass(frozen=True)
class Card:
    """What a protocol does, and who says so. As text: the entries, one a line.

    Attributes:
        name: of the protocol.
        scores: "depth" or "pairs".
        about: one line on the data set.
        entries: by name, in the order of `KINDS`.
    """

    name: str
    scores: str
    about: str
    entries: Mapping[str, Entry]

    @property
    def values(self) -> dict[str, Value]:
        """Entry -> value."""
        return {key: entry.value for key, entry in self.entries.items()}

    @property
    def hash(self) -> str:
        """Twelve hex digits of what is scored and of the values; name, words about the data set and
        sources left out."""
        return values_hash(self.scores, self.values)

    @property
    def line(self) -> str:
        """The card in one line, for the foot of a table."""
        said = ", ".join(f"{WORDS[key]} {shown(e.value)}" for key, e in self.entries.items())
        return f"{self.name} ({self.hash}): {said}"

    def __str__(self) -> str:
        rows = [f"{self.name}  {self.hash}  {self.about}"]
        for key, entry in self.entries.items():
            rows.append(f"  {WORDS[key]:<12} {shown(entry.value)}  [{entry.source}]")
        return "\n".join(rows)


def values_hash(scores: str, values: Mapping[str, Value]) -> str:
    """Twelve hex digits of values; 80 and 80.0 are one value, and their order does not matter."""
    plain = {key: _plain(value) for key, value in values.items()}
    text = json.dumps([scores, plain], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value: Value) -> object:
    if isinstance(value, tuple | list):
        return [float(v) for v in value]
    return float(value) if isinstance(value, int | float) else value


def shown(value: Value) -> str:
    """A value in print: "none" for None, 480 x 640 for a size."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return " x ".join(f"{v:g}" for v in value)
    return f"{value:g}" if isinstance(value, int | float) else value


def read(path: Path = FILE) -> dict[str, Card]:
    """The cards of a file, by name.

    Raises:
        ConfigError: a file that cannot be read, or that is not made of cards; it names file, card
            and entry.
    """
    tree = strict_yaml.read(path)
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: no cards; write NAME: {{scores: depth, about: ..., ...}}")
    return {str(name): _card(f"{path}: {name}", str(name), entry) for name, entry in tree.items()}


def _card(where: str, name: str, given: object) -> Card:
    if not isinstance(given, dict) or not {"scores", "about"} <= given.keys():
        raise ConfigError(f"{where}: a card has scores, about and its entries")
    scores = str(given["scores"])
    check_names([scores], KINDS, what=f"kind of card in {where}:")
    said = {str(k): v for k, v in given.items() if k not in ("scores", "about")}
    check_names(said, KINDS[scores], what=f"entry in {where}:")
    missing = [key for key in KINDS[scores] if key not in said]
    if missing:
        raise ConfigError(f"{where}: no {', '.join(missing)}; each entry is said, or is null")
    entries = {key: _entry(f"{where}, {key}", said[key]) for key in KINDS[scores]}
    return Card(name=name, scores=scores, about=str(given["about"]), entries=entries)


def _entry(where: str, given: object) -> Entry:
    if not isinstance(given, dict) or given.keys() != {"value", "source"}:
        raise ConfigError(f"{where}: write {{value: ..., source: ...}}, or source: {UNSTATED}")
    value, source = given["value"], given["source"]
    if not isinstance(source, str) or not source.strip():
        raise ConfigError(f"{where}: the source is empty; say where it is from, or {UNSTATED}")
    if isinstance(value, list):
        value = tuple(value)
    numbers = value if isinstance(value, tuple) else (value,)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, str | int | float | None):
            raise ConfigError(f"{where}: {strict_yaml.brief(number)} is no number, word or null")
    return Entry(value, " ".join(source.split()))


def sourced(name: str, scores: str, values: Mapping[str, Value], *, about: str = "") -> Card:
    """The card of values that a program holds: entries that are those of the file's card of this
    name have its sources, all others are `CUSTOM`."""
    known = CARDS.get(name)
    entries = {}
    for key in KINDS[scores]:
        told = known.entries.get(key) if known is not None else None
        same = told is not None and _plain(told.value) == _plain(values[key])
        entries[key] = Entry(values[key], told.source if same else CUSTOM)
    return Card(name, scores, known.about if known is not None else about, entries)


def named(names: Iterable[str]) -> list[Card]:
    """Cards by name; a `ConfigError` that lists the known ones for any other."""
    names = list(names)
    check_names(names, CARDS, what="protocol")
    return [CARDS[name] for name in names]


CARDS = read()
"""Every card, by name."""
