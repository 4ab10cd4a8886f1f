"""Networks that a run is given instead of training them: known by their content, read once more
only where they are used, and never taken for another kind."""

import dataclasses
import hashlib
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from dalib.blocks import (
    GivenNetwork,
    GivenTeacher,
    Settings,
    TrainedStart,
    TrainedTeacher,
    WeightFile,
)
from dalib.config import RunConfig
from dalib.data.scenes import CLASSES
from dalib.errors import ConfigError, DataError
from dalib.models.checkpoints import load, place
from dalib.models.depth_anything import DepthAnything
from dalib.models.encoder import Encoder, in_wheel
from dalib.models.segmenter import holds_classes, restore_segmenter
from dalib.training.folder import trained
from dalib.training.tasks import check_part

DIGITS = 16
READ = (".safetensors", ".bin", ".pth", ".pt", ".json")
"""Endings of what is read of a folder of weights."""


def pin(config: RunConfig) -> RunConfig:
    """The same run with all given weights known by their content, which `RunConfig.hash` needs.

    A file is read once per process. One that is not here, but whose content the settings name by
    its `digest`, is left as it is, so that a run's record can be looked up without the weights.

    Raises:
        CheckpointError: no such file, and the settings do not name its content.
        DataError: the content is another than the settings name.
    """
    changes = {
        name: _pinned(given, where=name)
        for name, given in config.given().items()
        if not isinstance(given, TrainedTeacher)
    }
    if isinstance(config.teacher, TrainedTeacher) and config.teacher.encoder_weights:
        file = _pinned(config.teacher.encoder_weights, where="teacher, encoder_weights")
        changes["teacher"] = dataclasses.replace(config.teacher, encoder_weights=file)
    start = config.start_run()
    if start is not None:
        changes["start"] = _pinned_start(config.start, pin(start))
    return config.replace(**changes) if changes else config


def _pinned_start(block: TrainedStart, run: RunConfig) -> TrainedStart:
    """A run to begin with, whose settings name the content of its weights as `run` does."""
    known = {
        name: dataclasses.asdict(getattr(run, name))
        for name in ("encoder_weights", "frozen_encoder_weights", "start", "teacher")
        if block.trained.get(name) and dataclasses.is_dataclass(getattr(run, name))
    }
    return dataclasses.replace(block, trained=Settings(block.trained | known))


def _pinned(given: WeightFile, *, where: str) -> WeightFile:
    if given.digest and not _is_here(given.weights):
        return given
    found = digest(given.weights)
    if given.digest and given.digest != found:
        raise DataError(
            f"{where}: {given.weights} holds other weights ({found}) than the settings name "
            f"({given.digest}); correct the file, or leave out digest"
        )
    return dataclasses.replace(given, digest=found)


def _is_here(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:
        return False


def digest(name: str) -> str:
    """16 hexadecimal digits over the content of a file of weights, of a folder's, or of what the
    hub has under this id. Raises `CheckpointError` where there is nothing of this name."""
    path = place(name)
    looks = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in _files(path))
    if not looks:
        raise DataError(f"{path}: no file of weights in this folder ({', '.join(READ)})")
    return _digest(looks)


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(p for p in path.iterdir() if p.suffix in READ and p.is_file())
    else:
        yield path


@lru_cache
def _digest(looks: tuple[tuple[str, int, int], ...]) -> str:
    """Of files, each by its path, size and time of change. Names count where there are several."""
    total = hashlib.sha256()
    for path, *_ in looks:
        if len(looks) > 1:
            total.update(Path(path).name.encode() + b"\0")
        with Path(path).open("rb") as file:
            content = hashlib.file_digest(file, "sha256")
        total.update(content.digest())
    return total.hexdigest()[:DIGITS]


def unchanged(given: WeightFile, *, role: str) -> None:
    """A `DataError` where the content is not the one that the settings know it by, if they do."""
    if given.digest and digest(given.weights) != given.digest:
        raise DataError(
            f"{role}: the weights in {given.weights} changed since this run began; put them back, "
            "or start a run of its own with them"
        )


def load_given(given: GivenNetwork, *, role: str) -> DepthAnything:
    """A network that is given, in evaluation mode.

    Args:
        given: which, with its content known (`pin`).
        role: what the settings call it, for messages.

    Raises:
        CheckpointError: damaged or unknown weights.
        DataError: the content is not the one that the run was begun with.
    """
    unchanged(given, role=role)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*the decoder is new")
        try:
            network = read_given(given)
        except UserWarning as warning:
            raise ConfigError(
                f"{role}: {given.weights} holds an encoder alone, which predicts nothing; give a "
                "whole network, or name it under encoder_weights"
            ) from warning
    if role == "teacher" and network.kind == "classes":
        raise ConfigError(
            f"teacher: {given.weights} predicts classes, and a teacher disparity or depth; give "
            "another network"
        )
    return network


def read_given(given: GivenNetwork) -> DepthAnything:
    """The network that settings name; one of classes too, of which a run can take the encoder, and
    one that learns classes the whole.

    Raises:
        CheckpointError, ConfigError: as `dalib.models.load`.
    """
    options = {name: value for name, value in given.reading().items() if value}
    if holds_classes(given.weights):
        if options:
            raise ConfigError(
                f"{', '.join(options)}: {given.weights} holds a network of classes, which says all "
                "of itself; leave it out"
            )
        return restore_segmenter(given.weights)
    return load(given.weights, **options)


def first_weights(config: RunConfig, given: GivenNetwork) -> DepthAnything:
    """A network for a student to begin with.

    Raises:
        ConfigError: it is of another kind than the student: another encoder, other layers, or,
            where it is taken as a whole, depth in metres where a student predicts disparity, or
            other classes.
    """
    role = "teacher" if isinstance(given, GivenTeacher) else "start"
    network = load_given(given, role=role)
    check_part(config, network, where=f"start: {given.weights}")
    found = network.architecture
    for name in ("encoder", "layers"):
        wanted = getattr(config, name)
        matters = name == "encoder" or network.encoder.is_vit
        if matters and found[name] != wanted:
            raise ConfigError(
                f"start: {given.weights} has {name} {found[name]}, and the student has {wanted}; "
                f"set {name}: {found[name]}, or begin with other weights"
            )
    if config.start_part == "network" and network.kind == "classes" and network.classes != CLASSES:
        raise ConfigError(
            f"start: {given.weights} has {len(network.classes)} other classes than this run learns "
            f"({', '.join(CLASSES)}); take its encoder alone (part: encoder)"
        )
    return network


def fetch_encoders(config: RunConfig) -> None:
    """See that the hub's encoders are here that a run and those before it begin with, or align
    features with: labelling for hours comes before they are asked for.

    Raises:
        CheckpointError: one that is not here, and cannot be fetched.
    """
    for name in asked_of_the_hub(config):
        Encoder(name=name, pretrained=True)


def asked_of_the_hub(config: RunConfig) -> tuple[str, ...]:
    """The encoders that a run and those before it need from the hub, those of runs that are trained
    already aside."""
    found = [n for run in config.prerequisites().values() for n in asked_of_the_hub(run)]
    if not trained(config):
        found += [name for name in config.hub_encoders if not in_wheel(name)]
    return tuple(dict.fromkeys(found))
