"""Blocks of settings inside a run's: a teacher, a run to begin with, and weights that are given; and
how plain data become settings, strictly."""

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dalib.errors import ConfigError

PARTS = ("network", "encoder")
"""How much of a network a run begins with: all of it, or its encoder under a new decoder."""


class Settings(dict):
    """Settings by name as plain data, inside a frozen block: not to be changed, and so with a
    hash."""

    def __init__(self, values: object = ()):
        super().__init__(json.loads(json.dumps(dict(values), default=dataclasses.asdict)))

    def __hash__(self) -> int:
        return hash(json.dumps(self, sort_keys=True))


@dataclass(frozen=True, kw_only=True)
class WeightedSource:
    """A source of a run whose images are read more often than those of the others.

    In a run's settings `{source: NAME, weight: 4}`, among plain names, which have weight 1.
    """

    #: Its name, as `dalib.data.catalogue.open_source` reads it.
    source: str
    #: How many times each of its images is read in an epoch. A whole number from 1.
    weight: int

    def __post_init__(self):
        if not isinstance(self.source, str) or not self.source:
            raise ConfigError(f"source: {self.source!r} is no name; write the name of a source")
        if type(self.weight) is not int or self.weight < 1:
            raise ConfigError(
                f"weight: {self.weight!r} of source {self.source}; it must be a whole number from 1, "
                "the times that each of its images is read in an epoch"
            )


def source_names(entries: "Iterable[str | WeightedSource]") -> tuple[str, ...]:
    """The names of sources with and without a weight."""
    return tuple(e.source if isinstance(e, WeightedSource) else e for e in entries)


def plain_where_possible(
    entries: "Iterable[str | WeightedSource]",
) -> "tuple[str | WeightedSource, ...]":
    """Sources as settings keep them: one of weight 1 is its name alone."""
    return tuple(
        e.source if isinstance(e, WeightedSource) and e.weight == 1 else e for e in entries
    )


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """Weights that are given, known by their content: a run is the same wherever the file lies.

    In a run's settings the name alone will do (`start: FILE`).
    """

    #: A file, a folder or a hub id.
    weights: str
    #: Hash of the content, filled in by `dalib.training.given.pin`. Where settings name one, other
    #: content is refused.
    digest: str = ""

    def __post_init__(self):
        if not self.weights:
            raise ConfigError("weights: an empty name; give a file, a folder or a hub id")

    def identity(self) -> dict:
        """What of it can change a result. Raises `ConfigError` before its content is known."""
        if not self.digest:
            raise ConfigError(
                f"weights: {self.weights} is not known by its content yet; pass the settings "
                "through dalib.training.given.pin"
            )
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name != "weights" and getattr(self, f.name) != f.default
        }


@dataclass(frozen=True, kw_only=True)
class GivenNetwork(WeightFile):
    """A whole network that is given: whatever `dalib.models.load` reads, which is our own files,
    released `.pth` files of V1 and V2, `transformers` folders and hub ids."""

    #: Of a `.pth` file whose name does not say it: the blocks that it reads, v1 or v2.
    layers: str | None = None
    #: Of a `.pth` file whose name does not say it: metres that a metric network reaches.
    max_depth: float | None = None
    #: Of a `.pth` file: it predicts disparity, whatever it says or does not say.
    relative: bool = False
    #: Which network of a file that holds several.
    entry: str | None = None
    #: How much of it a run begins with: all of it (network), or its encoder under a new decoder
    #: (encoder).
    part: str = "network"

    def __post_init__(self):
        super().__post_init__()
        check_part(self.part)

    def reading(self) -> dict:
        """The options for `dalib.models.load`."""
        return {name: getattr(self, name) for name in ("layers", "max_depth", "relative", "entry")}


@dataclass(frozen=True, kw_only=True)
class GivenTeacher(GivenNetwork):
    """A teacher that is given. Of disparity or of metric depth, which is turned into disparity; of
    any size and kind."""

    #: Short side in pixels of the images that the teacher sees, as 518 for released networks, at
    #: the same crop as the student's; None: the student's own size. Raised to a multiple of its
    #: patch.
    short_side: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.part != "network":
            raise ConfigError(f"teacher, part: {self.part!r} labels nothing; leave it out")


@dataclass(frozen=True, kw_only=True)
class TrainedTeacher:
    """A teacher that is trained here first, on labelled images alone: where it differs from its
    student. None: as the student."""

    #: As in `RunConfig`, each: of the teacher's own training.
    encoder: str | None = None
    pretrained: bool | None = None
    encoder_weights: WeightFile | str | None = None
    start: GivenNetwork | None = None
    layers: str | None = None
    labelled: tuple[str | WeightedSource, ...] | None = None
    labelled_images: int | None = None
    #: By default the student's and `dalib.config.TEACHER_SEEDS` more.
    seed: int | None = None
    #: By default the student's own, so that both know the same labelled scenes.
    draw: int | None = None
    height: int | None = None
    width: int | None = None
    steps: int | None = None
    batch: int | None = None
    encoder_lr: float | None = None
    decoder_lr_factor: float | None = None
    warmup: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "encoder_weights", weight_file(self.encoder_weights))
        if self.labelled is not None:
            object.__setattr__(self, "labelled", plain_where_possible(self.labelled))
        if not self.settings():
            raise ConfigError(
                "teacher: says nothing; give weights, or what of its training differs from the "
                "student's, or leave it out"
            )

    def settings(self) -> dict:
        """What differs from the student's."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class TrainedStart:
    """A run that is trained here first, and whose network another one begins with: found by its
    hash, so that one that was trained for another purpose is not trained again."""

    #: Its settings, by name as in `RunConfig`. What they leave open is as in the run that begins
    #: with it where `dalib.config.INHERITED` says so (network, size of images, seed), and else at
    #: its default.
    trained: Mapping
    #: How much of its network is begun with: all of it (network), or its encoder under a new decoder
    #: (encoder).
    part: str = "network"

    def __post_init__(self):
        check_part(self.part)
        if not isinstance(self.trained, Settings):
            object.__setattr__(self, "trained", Settings(self.trained))


def check_part(part: str) -> None:
    """Raise `ConfigError` for a part of a network that nobody knows."""
    if part not in PARTS:
        raise ConfigError(f"start, part: {part!r} is not one of {', '.join(PARTS)}")


def weight_file(value: "WeightFile | str | None") -> "WeightFile | None":
    """A name of weights as a block; an empty one is None."""
    return WeightFile(weights=value) if value and isinstance(value, str) else value or None


def hashed(value: object) -> object:
    """A setting as the hash takes it: weights by their content, not by their place."""
    if isinstance(value, WeightFile):
        return value.identity()
    if isinstance(value, TrainedTeacher):
        return {name: hashed(entry) for name, entry in value.settings().items()}
    if isinstance(value, WeightedSource):
        return dataclasses.asdict(value)
    if isinstance(value, tuple):
        return [hashed(entry) for entry in value]
    return value


def check_names(given: Iterable[str], known: Iterable[str], *, what: str) -> None:
    """Raise `ConfigError` for names that are not known, with the nearest known one and the whole
    list."""
    known = list(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"unknown {what} {name!r}.{hint} Known: {', '.join(known)}")


def coerce(name: str, value: object, hint: object) -> object:
    """A value of plain data as a field's type; a `ConfigError` where it is of another."""
    if hint is Mapping:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name}: expected settings by name, got {value!r}")
        return Settings(value)
    blocks = [kind for kind in typing.get_args(hint) if dataclasses.is_dataclass(kind)]
    if blocks and value is not None and (isinstance(value, Mapping) or str not in _args(hint)):
        return _block(name, value, blocks)
    if typing.get_origin(hint) is types.UnionType and value is None and type(None) in _args(hint):
        return None
    for kind in _args(hint):
        if typing.get_origin(kind) is tuple:  # of a block: a tuple or None
            hint = kind
    if typing.get_origin(hint) is tuple:
        return _names(name, value, typing.get_args(hint)[0])
    kinds = tuple(kind for kind in _args(hint) if not dataclasses.is_dataclass(kind))
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ConfigError(
            f"{name}: expected {' or '.join(k.__name__ for k in kinds if k is not types.NoneType)}, got {value!r}"
        )
    return value


def _names(name: str, value: object, kind: object) -> tuple:
    """A list of names, in which a source may have a weight where the field's type has room for
    one."""
    weighted = WeightedSource in _args(kind)
    allowed = (str, Mapping, WeightedSource) if weighted else str
    if (
        isinstance(value, str)
        or not isinstance(value, (list, tuple))
        or not all(isinstance(v, allowed) for v in value)
    ):
        also = ", or of {source: NAME, weight: 2}" if weighted else ""
        raise ConfigError(f"{name}: expected a list of names{also}, got {value!r}")
    return tuple(_block(name, v, [WeightedSource]) if isinstance(v, Mapping) else v for v in value)


def _args(hint) -> tuple:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _block(name, value, kinds):
    """A nested block of settings: the kind whose required entries are named (`weights`, `trained`),
    or that has none; a name alone stands for weights."""
    if isinstance(value, str) and value:
        value = {"weights": value}
    if not isinstance(value, Mapping):
        if value == "":
            return None
        raise ConfigError(f"{name}: expected a file of weights, or settings by name, got {value!r}")
    named = "weights" in value
    required = {kind: _required(kind) for kind in kinds}
    kind = next((kind for kind in kinds if required[kind] and required[kind] <= set(value)), None)
    kind = kind or next((kind for kind in kinds if not required[kind]), kinds[0])
    known = [f.name for f in dataclasses.fields(kind)]
    check_names(value, known, what=f"setting of {name}")
    if "weights" in known and not named:
        raise ConfigError(f"{name}: names no weights; give a file, a folder or a hub id")
    hints = typing.get_type_hints(kind)
    if missing := sorted(required[kind] - set(value)):
        raise ConfigError(f"{name}: {dict(value)} has no {' and no '.join(missing)}; add it")
    if named and value["weights"] == "":
        raise ConfigError(f"{name}: an empty name of weights; give a file, a folder or a hub id")
    return kind(
        **{key: coerce(f"{name}, {key}", entry, hints[key]) for key, entry in value.items()}
    )


def _required(kind) -> set[str]:
    """The entries that a block cannot be without."""
    return {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
