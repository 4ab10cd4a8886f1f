"""The networks that are made to be used: their recipes (`students.yaml`), what they have seen and under
which terms, and their records (`data/students`).

Whether a network may be shipped is found in the tables of the pools (`data/pools`), image by image,
and in what is known of the weights that it began with; never in a name.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from dabook.runs import records
from dabook.runs.experiments import check_keys
from dalib import paths, strict_yaml
from dalib.config import RunConfig, check_names
from dalib.data.catalogue import open_source, parse
from dalib.data.pools.facts import Repository, read_pool
from dalib.data.schema import Source
from dalib.data.sources import DepthManifest
from dalib.errors import ConfigError
from dalib.models.checkpoints import SHIPPED
from dalib.models.licences import Terms
from dalib.training.descent import parents
from dalib.training.given import pin

FILE = "students.yaml"
SHOWN = 6
"""Reasons against shipping that are named one by one."""
DRAWN = {
    "dataset": "procedural scenes",
    "repository": "",
    "commit": "",
    "licence": "drawn by this project's own code",
    "ship": "yes",
}
"""What is said of scenes."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a student is made.

    Attributes:
        name: in `students.yaml`.
        label: for a table.
        ship: whether its weights go into the package.
        config: of its run.
    """

    name: str
    label: str
    ship: bool
    config: RunConfig


def recipes() -> dict[str, Recipe]:
    """All students by name.

    Raises:
        ConfigError: no such file, or something in it that cannot be, by its place.
    """
    shared, named, _ = _tree()
    return {str(name): _student(str(name), value, shared) for name, value in named.items()}


def ladder() -> dict[str, Recipe]:
    """The networks that say what each lever brought: each sets something more than the one before it.
    By name, from the first rung to the last; none is shipped.

    Raises:
        ConfigError: as `recipes`.
    """
    settings, students, rungs = _tree()
    found = {}
    for name, value in rungs.items():
        where = f"ladder, {name}"
        if name in students:
            raise ConfigError(f"{FILE}, {where}: a student has this name; give the rung another")
        _check(str(name), value, where, required=("label", "set"))
        settings = settings | value["set"]
        config = _config(settings, where)
        found[str(name)] = Recipe(
            name=str(name), label=str(value["label"]), ship=False, config=config
        )
    return found


def _tree() -> tuple[dict, dict, dict]:
    """The file: what is shared, the students, and the ladder."""
    path = paths.root() / FILE
    if not path.is_file():
        raise ConfigError(f"{path}: not found; run from the checkout, or set DALIB_ROOT to it")
    tree = strict_yaml.read(path)
    check_keys(tree, "top level", file=FILE, required=("students",), optional=("shared", "ladder"))
    parts = tree.get("shared", {}), tree["students"], tree.get("ladder", {})
    for where, value in zip(("shared", "students", "ladder"), parts, strict=True):
        if not isinstance(value, dict):
            raise ConfigError(f"{FILE}, {where}: expected names with values, got {value!r}")
    return parts


def _check(name: str, value: Any, where: str, *, required: tuple[str, ...]) -> None:
    """A `ConfigError` where a network's name or what is said of it cannot be."""
    check_keys(value, where, file=FILE, required=required)
    if not name.isidentifier():
        raise ConfigError(f"{FILE}, {where}: {name!r} cannot name a file; use letters and digits")
    if not isinstance(value["set"], dict):
        raise ConfigError(f"{FILE}, {where}: set: expected settings, got {value['set']!r}")


def _student(name: str, value: Any, shared: dict) -> Recipe:
    where = f"student {name}"
    _check(name, value, where, required=("label", "ship", "set"))
    if not isinstance(value["ship"], bool):
        raise ConfigError(f"{FILE}, {where}: ship is {value['ship']!r}, not true or false")
    if value["ship"] != (name == SHIPPED):
        raise ConfigError(
            f"{FILE}, {where}: ship is {str(value['ship']).lower()}; the student called {SHIPPED} is "
            "the one that is shipped, and no other"
        )
    config = _config({**shared, **value["set"]}, where)
    return Recipe(name=name, label=str(value["label"]), ship=value["ship"], config=config)


def _config(settings: dict, where: str) -> RunConfig:
    try:
        config = RunConfig.from_dict(settings)
    except ConfigError as error:
        raise ConfigError(f"{FILE}, {where}: {error}") from error
    if config.task != "disparity":
        raise ConfigError(
            f"{FILE}, {where}: task is {config.task}; a student predicts relative disparity, so leave "
            "it out"
        )
    return config


def recipe(name: str) -> Recipe:
    """The recipe of a student or of a rung; an unknown name is a `ConfigError` that lists the known
    ones."""
    found = recipes() | ladder()
    check_names([name], found, what="student")
    return found[name]


# what it has seen


class Part(TypedDict):
    """Images of one origin among those of a source."""

    dataset: str
    repository: str
    commit: str
    licence: str
    ship: str  # whether a network trained on it may be passed on: yes, no, unclear
    images: int


class Seen(TypedDict):
    """One source that a run has learned from."""

    run: str  # the student, or by its role whoever came first, such as the teacher
    role: str  # labelled or unlabelled
    source: str
    weight: int
    parts: list[Part]


def seen(config: RunConfig) -> list[Seen]:
    """All that a student and those who taught it learn from, with where it comes from and under which
    terms.

    Raises:
        ConfigError, DataError: as `open_source`, for a source that is not there.
    """
    found: list[Seen] = []
    for run, each in runs_of(config):
        for role, names in each.sources.items():
            for name, weight in zip(names, each.weights[role], strict=True):
                found.append(
                    {
                        "run": run,
                        "role": role,
                        "source": name,
                        "weight": weight,
                        "parts": _parts(name, count=each.counts[role]),
                    }
                )
    return found


def runs_of(config: RunConfig, name: str = "student") -> Iterator[tuple[str, RunConfig]]:
    """A run and all that it builds on, by their roles."""
    yield name, config
    for role, needed in config.prerequisites().items():
        yield from runs_of(needed, role if name == "student" else f"{role} of the {name}")


def _parts(name: str, *, count: int) -> list[Part]:
    """What a source holds, by origin."""
    kind, place, _ = parse(name)
    if kind == "scenes":
        return [{**DRAWN, "images": count}]
    source = open_source(name, count=1, height=1, width=1)
    if kind != "pool":
        return [_unknown(name, len(source), "not known to this project")]
    table = {row.key: row.origin for row in read_pool(place).rows}
    origins: Counter[tuple[str, ...]] = Counter()
    unknown = 0
    for key in _keys(source):
        if key in table:
            origins[_hashable(table[key])] += 1
        else:
            unknown += 1
    parts = [_part(origin, images) for origin, images in origins.items()]
    if unknown:
        parts.append(_unknown(name, unknown, "not in the pool's table (data/pools)"))
    return parts


def _keys(source: Source) -> Iterator[str]:
    """The names by which a pool's table knows the images of a source."""
    for index in range(len(source)):
        if isinstance(source, DepthManifest):
            yield source.rows[index].get("id", "")
        else:
            yield Path(source.name_of(index)).stem


def _hashable(origin: Repository) -> tuple[str, ...]:
    return origin.dataset, origin.repository, origin.commit, origin.licence, origin.ship


def _part(origin: tuple[str, ...], images: int) -> Part:
    named = dict(zip(("dataset", "repository", "commit", "licence", "ship"), origin, strict=True))
    return {**named, "images": images}


def _unknown(name: str, images: int, why: str) -> Part:
    return {
        "dataset": name,
        "repository": "",
        "commit": "",
        "licence": why,
        "ship": "unclear",
        "images": images,
    }


def terms(config: RunConfig) -> list[dict[str, Any]]:
    """The weights that a student and those who taught it began with, each with its licence."""
    found = {each.name: each for each in parents(config)}
    return [asdict(each) | {"commercial": each.commercial} for each in found.values()]


def against_shipping(found: Sequence[Seen], began: Sequence[dict[str, Any]]) -> list[str]:
    """Why a network may not be shipped: a line for each of its data and weights that does not say
    yes; none where it may."""
    lines = [
        f"{each['run']}, {each['role']}: {each['source']}: {part['images']} images of "
        f"{part['repository'] or part['dataset']} say {part['ship']} ({part['licence']})"
        for each in found
        for part in each["parts"]
        if part["ship"] != "yes"
    ]
    lines += [
        f"weights {each['name']}: {each['licence']}"
        for each in began
        if each["commercial"] is not True
    ]
    return list(dict.fromkeys(lines))


def refuse_unshippable(name: str, found: Sequence[Seen], began: Sequence[dict[str, Any]]) -> None:
    """A `ConfigError` where anything stands against shipping a network."""
    lines = against_shipping(found, began)
    if not lines:
        return
    more = len(lines) - SHOWN
    listed = "\n".join(f"  {line}" for line in lines[:SHOWN])
    raise ConfigError(
        f"student {name}: may not be shipped; leave these out of {FILE}, or train it as research:\n"
        f"{listed}" + (f"\n  and {more} more" if more > 0 else "")
    )


# its record

Scores = dict[str, dict[str, Any]]


class Marked(TypedDict):
    """Marked pairs of points, in the order of their file: a value each."""

    images: list[str]
    right: list[float]
    hard: list[bool]


class Weights(TypedDict):
    """The network that was scored, as a file: of the shipped student, the one in the package."""

    bytes: int
    sha256: str
    parameters: int
    precision: str


class Record(TypedDict):
    """A student, trained and scored. The keys stand in the order of the file."""

    schema: int
    student: str
    label: str
    ship: bool
    seed: int
    hash: str  # of the config
    teacher: str | None
    training_hash: str
    evaluation_hash: str
    commit: str
    dirty: bool
    created: str  # UTC, ISO 8601
    device: str
    device_type: str
    instructions: str
    versions: dict[str, str]
    processes: int
    threads: int
    wall_seconds: dict[str, float]  # of each run
    peak_memory_mb: int | None
    weights: Weights
    config: dict[str, Any]
    seen: list[Seen]
    began_with: list[dict[str, Any]]
    data: dict[str, Any]  # fingerprints, by run and role, where it is more than drawn scenes
    scored_on: dict[str, str]  # digests of the tables of the real images
    images: Scores  # the drawn domains
    real: Scores
    marked: NotRequired[Marked]
    floors: dict[str, dict[str, Any]]  # name -> what the student has under images, real, marked


KIND = records.Kind(
    form=Record, name="a student's record", remedy="run python -m dabook ship NAME again"
)


def path_of(name: str) -> Path:
    """Where the record of a student lies."""
    return paths.students() / f"{name}.json"


def read(name: str) -> Record | None:
    """The record of a student, None where there is none; a `DataError` for a damaged one."""
    return records.read_if_there(path_of(name), KIND)


def picture_of(name: str) -> Path:
    """Where the picture lies of what a student sees whose weights are not passed on."""
    return path_of(name).with_suffix(".jpg")


def short_side(record: Record) -> int:
    """Of the images that a student was trained on, in pixels."""
    return min(record["config"]["height"], record["config"]["width"])


def weights_of(name: str) -> Path | None:
    """The network that a student's record is of, where it is on this machine: of the shipped one that
    of the package, of another one that of its run.

    None without a record, and where the weights are gone or not those of the record.
    """
    from dalib.training import launch

    record = read(name)
    if record is None:
        return None
    if record["ship"]:
        path = paths.shipped_weights()
    else:
        path = launch.folder(pin(RunConfig.from_dict(record["config"]))) / launch.WEIGHTS
    return path if path.is_file() and digest(path) == record["weights"]["sha256"] else None


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_terms(began: Sequence[dict[str, Any]]) -> list[Terms]:
    """The inverse of `terms`."""
    return [Terms(**{k: v for k, v in each.items() if k != "commercial"}) for each in began]
