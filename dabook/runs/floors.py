"""The record of the floors, predictions that look at no picture, and of the quadratic surface that is
fitted to each truth: made once, for readers who have neither the real images nor the time to draw
scenes."""

from pathlib import Path
from typing import Any, NotRequired, TypedDict

from dabook.runs import records
from dabook.runs.experiments import expand, experiments
from dalib import paths, provenance
from dalib.config import RunConfig
from dalib.errors import DataError
from dalib.evaluation.floors import SURFACE
from dalib.evaluation.suite import (
    drawn_floors,
    drawn_surfaces,
    real_floors,
    real_surfaces,
    study_floors,
)
from dalib.writing import write_text

# floor -> domain or data set -> metric -> a value per image; "half" and "names" too
Scores = dict[str, dict[str, records.Scores]]


class Record(TypedDict):
    """The floors' scores. The keys stand in the order of the file."""

    schema: int
    evaluation_hash: str
    commit: NotRequired[str]
    dirty: NotRequired[bool]
    created: NotRequired[str]  # UTC, ISO 8601
    device: NotRequired[str]
    versions: NotRequired[dict[str, str]]
    mean_map: NotRequired[dict[str, Any]]  # whose labels the mean map is of
    floors: Scores  # on the real data sets
    drawn: NotRequired[dict[str, Scores]]  # size of the images -> on the drawn domains


KIND = records.Kind(
    form=Record, name="a record of the floors", remedy="delete it and run python -m dabook floors"
)


def size_of(config: RunConfig) -> str:
    """The size of a run's images, as the record of the floors names it: "96 x 128"."""
    return f"{config.height} x {config.width}"


def read_floors() -> Record | None:
    """The record of the floors, or None where there is none."""
    return records.read_if_there(paths.floors(), KIND)


def record_floors() -> Path:
    """Score the floors and the quadratic surface and write `data/records/floors.json`.

    On the real data sets (`floors`), and on the test domains and validation at every size that the
    study's rows have (`drawn`); the surface stands among them as `SURFACE`. The mean map is that of
    the labelled scenes of the study's first row. A machine without the real data sets would record
    fewer of them, so it is refused with a `DataError`.
    """
    if not paths.realdepth().is_dir():
        raise DataError(
            f"{paths.realdepth()}: the real data sets are not here; set "
            "DALIB_REALDEPTH to their folder"
        )
    config = expand("main_table", profile="study").rows[0].configs[0]
    floors = study_floors(config)
    sizes = {
        size_of(row.configs[0]): row.configs[0]
        for name in experiments()
        for row in expand(name, profile="study").rows
    }
    labels = ("labelled", "labelled_images", "height", "width")
    facts = {
        "evaluation_hash": provenance.code_hash("evaluation"),
        "mean_map": {key: getattr(config, key) for key in labels},
        "floors": real_floors(floors) | {SURFACE: real_surfaces()},
        "drawn": {
            size: drawn_floors(floors, of_size) | {SURFACE: drawn_surfaces(of_size)}
            for size, of_size in sizes.items()
        },
    }
    path = paths.floors()
    write_text(path, records.dump(records.compose(KIND, facts)))
    return path
