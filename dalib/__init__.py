"""The training recipe of Depth Anything (arXiv:2401.10891) as a library: data, networks, losses,
training, evaluation, prediction.

The catalogue is what a script types::

    from dalib import RunConfig, load, train

    weights = train(RunConfig(labelled=("depth:pairs",), unlabelled=("photos:photographs",),
                              pseudo_labels=True))
    model = load(weights)

A name is imported when it is first asked for, so that `import dalib` costs nothing. Names of rooms
(`losses`, `models`, `predict`, ...) are the modules themselves, and no function has such a name:
importing a sub-module binds it here and would hide the function. So the function that predicts is
`predict.predict`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "PROTOCOLS",
    "DepthAnything",
    "Predictor",
    "Protocol",
    "Result",
    "RunConfig",
    "Scores",
    "Source",
    "UserError",
    "adapt",
    "adaptation",
    "affine_invariant",
    "alternatives",
    "build",
    "config",
    "cutmix_unlabelled",
    "data",
    "errors",
    "evaluate",
    "evaluate_folder",
    "evaluation",
    "explain",
    "feature_alignment",
    "label",
    "load",
    "losses",
    "measure",
    "models",
    "open_source",
    "predict",
    "save",
    "score",
    "train",
    "training",
]

_ROOMS = (
    "adaptation",
    "alternatives",
    "config",
    "data",
    "errors",
    "evaluation",
    "losses",
    "models",
    "predict",
    "training",
)
_HOMES = {
    # configuration
    "RunConfig": "dalib.config",
    "UserError": "dalib.errors",
    # data
    "Source": "dalib.data.schema",
    "open_source": "dalib.data.catalogue",
    # networks
    "DepthAnything": "dalib.models",
    "build": "dalib.models",
    "load": "dalib.models",
    "save": "dalib.models",
    # losses
    "affine_invariant": "dalib.losses",
    "cutmix_unlabelled": "dalib.losses",
    "feature_alignment": "dalib.losses",
    # training
    "label": "dalib.training.recipe",
    "train": "dalib.training.recipe",
    # adaptation
    "adapt": "dalib.adaptation.adapt",
    # evaluation
    "PROTOCOLS": "dalib.evaluation.protocols",
    "Protocol": "dalib.evaluation.protocols",
    "Result": "dalib.evaluation.results",
    "Scores": "dalib.evaluation.scores",
    "evaluate": "dalib.evaluation.scores",
    "evaluate_folder": "dalib.evaluation.scores",
    "explain": "dalib.evaluation.conventions",
    "measure": "dalib.evaluation.measure",
    "score": "dalib.evaluation.protocols",
    # prediction
    "Predictor": "dalib.predict",
}

if TYPE_CHECKING:  # what editors and type checkers read
    from dalib import (
        adaptation,
        alternatives,
        config,
        data,
        errors,
        evaluation,
        losses,
        models,
        predict,
        training,
    )
    from dalib.adaptation.adapt import adapt
    from dalib.config import RunConfig
    from dalib.data.catalogue import open_source
    from dalib.data.schema import Source
    from dalib.errors import UserError
    from dalib.evaluation.conventions import explain
    from dalib.evaluation.measure import measure
    from dalib.evaluation.protocols import PROTOCOLS, Protocol, score
    from dalib.evaluation.results import Result
    from dalib.evaluation.scores import Scores, evaluate, evaluate_folder
    from dalib.losses import affine_invariant, cutmix_unlabelled, feature_alignment
    from dalib.models import DepthAnything, build, load, save
    from dalib.predict import Predictor
    from dalib.training.recipe import label, train


def __getattr__(name: str) -> object:
    """A name of the catalogue, imported now and kept."""
    if name in _ROOMS:
        found = import_module(f"dalib.{name}")
    elif name in _HOMES:
        found = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'dalib' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """What is here already, and the rest of the catalogue."""
    return sorted({*globals(), *__all__})
