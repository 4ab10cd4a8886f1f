"""Making a student that is to be used: training, scoring, and its record; of the shipped one the file
too. `dabook.site.front` puts them into the project."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dabook.runs import progress, records, students
from dabook.runs.runner import look_ahead
from dabook.runs.students import Marked, Recipe, Record
from dalib import paths, provenance
from dalib.config import RunConfig
from dalib.data.files import read_rgb
from dalib.errors import ConfigError
from dalib.evaluation.floors import FLOORS, SURFACE
from dalib.evaluation.pairs import Pairs, judge, read_pairs
from dalib.evaluation.run import predict_images
from dalib.evaluation.suite import (
    drawn_floors,
    drawn_surfaces,
    evaluate,
    real_floors,
    real_surfaces,
)
from dalib.models.depth_anything import DepthAnything, build, restore, save
from dalib.models.licences import about_derived
from dalib.progress import Report
from dalib.training import launch
from dalib.training.folder import DONE, read_json
from dalib.training.given import pin
from dalib.writing import write_text

LIMIT = 12_000_000
"""Bytes that the shipped file may have at most."""
HALF = "half.safetensors"
"""Within the run's folder: the network as it would be shipped."""
RECORD = "student.json"
"""Within the run's folder: the student's record, once it is whole."""
RAMP = "vertical ramp"
"""The floor that marked pairs are held against."""
TABLES = ("manifest.csv", "ordinal.csv")
"""Of the real images: what is scored, and the marked pairs."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A student that is trained and scored.

    Attributes:
        record: to be committed.
        weights: the file that was scored.
    """

    record: Record
    weights: Path


def make(name: str, *, processes: int = 1, report: Report | None = None) -> Made:
    """Train a student with whoever teaches it, and score it; what is there already is kept, and what
    was stopped goes on.

    Args:
        name: of `students.yaml`.
        processes: training processes.
        report: receives lines of progress; by default a bar where somebody watches.

    Raises:
        ConfigError: a recipe that cannot be; of the shipped student, data or weights that may not be
            shipped, or a network that is too large. All before the first step.
        DataError: a source, or a real image to be scored on, that is not there.
        Stopped: a signal ended it early, with its state saved.
    """
    recipe = students.recipe(name)
    config = pin(recipe.config)
    if report is None:
        with progress.following([config], title=f"student {name}") as shown:
            made = make(name, processes=processes, report=shown.report)
            shown.end(config)
        return made

    # what would be found only after the training
    look_ahead(config, report)
    found = students.seen(config)
    began = students.terms(config)
    if recipe.ship:
        students.refuse_unshippable(name, found, began)
        _refuse_size(config)

    # the network, and the file that is scored
    trained = launch.ensure_weights(config, processes=processes, report=report)
    weights = _as_shipped(recipe, config, trained, began) if recipe.ship else trained

    # its scores, unless these very ones are there
    facts = _facts(recipe, config, weights) | {"seen": found, "began_with": began}
    facts = json.loads(json.dumps(facts))  # as it is read again
    kept = launch.folder(config) / RECORD
    record = records.read_if_there(kept, students.KIND)
    if record is None or any(record[key] != facts[key] for key in facts):
        report("scoring: the network, and the floors beside it")
        record = records.compose(students.KIND, facts | _scores(restore(weights), config))
        write_text(kept, records.dump(record))
    return Made(record=record, weights=weights)


def _refuse_size(config: RunConfig) -> None:
    """A `ConfigError` where the file would surely be too large."""
    network = build(config.encoder, layers=config.layers, pretrained=False)
    _check_size(sum(2 * tensor.numel() for tensor in network.state_dict().values()))


def _check_size(size: int) -> None:
    if size > LIMIT:
        raise ConfigError(
            f"the shipped file would have {size / 1e6:.1f} MB, and may have {LIMIT / 1e6:.0f} MB; "
            f"name a smaller encoder in {students.FILE}"
        )


def _as_shipped(
    recipe: Recipe, config: RunConfig, trained: Path, began: list[dict[str, Any]]
) -> Path:
    """The network in half precision, with what it says of itself. A file that is there already and is
    the same is kept: written anew, its header may have another order, and so another digest."""
    told = {
        "run": config.hash(),
        "short_side": config.short_side,
        "recipe": f"{students.FILE}, {recipe.name}",
        "record": f"data/students/{recipe.name}.json",
    }
    parents = students.known_terms(began)
    path = trained.with_name(HALF)
    about = about_derived(parents, name=f"dalib, {recipe.label.lower()}", trained=told)
    network = restore(trained, expect=config.encoder)
    if not (path.is_file() and _is_half_of(path, network, about)):
        save(network, path, about=about, half=True)
    _check_size(path.stat().st_size)
    return path


def _is_half_of(path: Path, network: DepthAnything, about: dict[str, Any]) -> bool:
    """Whether a file holds this network in half precision, and says this of it."""
    kept = restore(path)
    stored = kept.state_dict()
    rounded = {
        name: tensor.half().to(tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    return kept.about == json.loads(json.dumps(about)) and all(
        torch.equal(stored[name], tensor) for name, tensor in rounded.items()
    )


def _facts(recipe: Recipe, config: RunConfig, weights: Path) -> dict[str, Any]:
    """What is said of a student before it is scored, and what has to be the same for its scores to
    be."""
    done = {run: read_json(launch.folder(each) / DONE) for run, each in students.runs_of(config)}
    own = done["student"]
    count = sum(p.numel() for p in restore(weights).parameters())
    return {
        "student": recipe.name,
        "label": recipe.label,
        "ship": recipe.ship,
        "seed": config.seed,
        "hash": config.hash(),
        "teacher": records.teacher(config),
        "training_hash": own["stamp"],
        "evaluation_hash": provenance.code_hash("evaluation"),
        "processes": own["processes"],
        "threads": own["threads"],
        "wall_seconds": {run: said["wall_seconds"] for run, said in done.items()},
        "peak_memory_mb": own["peak_memory_mb"],
        "weights": {
            "bytes": weights.stat().st_size,
            "sha256": students.digest(weights),
            "parameters": count,
            "precision": "float16" if recipe.ship else "float32",
        },
        "config": config.to_dict(),
        "data": {run: said["data"] for run, said in done.items() if said.get("data")},
        "scored_on": {
            name: students.digest(path)
            for name in TABLES
            if (path := paths.realdepth() / name).is_file()
        },
    }


def _scores(model: DepthAnything, config: RunConfig) -> dict[str, Any]:
    """All numbers of a record: the student's, and those of the floors on the same images."""
    floors = real_floors(FLOORS)
    drawn = drawn_floors(FLOORS, config)
    beside = {name: {"images": drawn[name], "real": floors[name]} for name in FLOORS}
    beside[SURFACE] = {"images": drawn_surfaces(config), "real": real_surfaces()}
    found: dict[str, Any] = evaluate(model, config) | {"floors": beside}
    path = paths.realdepth() / "ordinal.csv"
    if path.is_file():
        pairs = read_pairs(path)
        found["marked"] = _marked(pairs, path.parent, model, config)
        beside[RAMP]["marked"] = _marked(pairs, path.parent, None, config)
    return found


def _marked(
    pairs: list[Pairs], folder: Path, model: DepthAnything | None, config: RunConfig
) -> Marked:
    """Which marked pairs are in the right order; without a network those of the ramp."""
    names: list[str] = []
    right: list[float] = []
    hard: list[bool] = []
    for each in pairs:
        image = read_rgb(folder / each.image)
        if model is None:
            seen = FLOORS[RAMP](*image.shape[1:])
        else:
            seen = predict_images(model, [image], short_side=config.short_side)[0]
        judged = judge(seen, each)
        names += [each.image] * len(each)
        right += judged["right"].tolist()
        hard += judged["hard"].tolist()
    return {"images": names, "right": right, "hard": hard}
