"""Where the numbers of a run go besides its own folder: the trackers that accelerate knows, by name.

Each stands by itself: one that fails, as where there is no network, is told of once and left out,
and the run goes on without it.
"""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import tracking

from dalib.config import RunConfig, check_names
from dalib.errors import ConfigError
from dalib.training.folder import read_json
from dalib.writing import write_text

PROJECT = "dalib"
"""What runs are filed under where a tracker has projects."""
IDENTITY = "trackers.json"
"""In a run's folder: under which name trackers know the run, so that all its legs are one there."""
PACKAGES = {"comet_ml": "comet-ml", "tensorboard": "tensorboard"}


def check_trackers(config: RunConfig) -> None:
    """Raise `ConfigError` for a tracker that accelerate does not know, or that is not installed."""
    check_names(config.trackers, tracking.LOGGER_TYPE_TO_CLASS, what="tracker in trackers:")
    usual = {str(name) for name in tracking.LoggerType}
    installed = {str(name) for name in tracking.get_available_trackers()}
    for name in config.trackers:
        if name in usual and name not in installed:
            raise ConfigError(
                f"trackers: {name} is not installed; python -m pip install "
                f"{PACKAGES.get(name, name)}, or leave it out"
            )


class Trackers:
    """The trackers of a run, in its main process. A run that goes on does so in the same log, where
    the tracker can: see `_arguments`.

    Args:
        config: the run, whose settings are its hyper-parameters.
        out: its folder.
        start: the step that it goes on from.
        report: receives a line where a tracker fails.
    """

    def __init__(
        self, config: RunConfig, out: Path, *, start: int, report: Callable[[str], None]
    ) -> None:
        self.report = report
        self.running: dict[str, tracking.GeneralTracker] = {}
        names = list(dict.fromkeys(config.trackers))
        if not names:
            return
        known = read_json(out / IDENTITY).get("id")
        identity = known or f"{config.hash()}-{uuid.uuid4().hex[:8]}"
        settings = _plain(config)
        for name in names:
            self._guarded(name, lambda name=name: self._begin(name, out, identity, start))
        if not known:  # the first leg
            self._each(lambda tracker: tracker.store_init_configuration(settings))
            write_text(out / IDENTITY, json.dumps({"id": identity}) + "\n")

    def _begin(self, name: str, out: Path, identity: str, start: int) -> None:
        kind = tracking.LOGGER_TYPE_TO_CLASS[name]
        project = name if kind.requires_logging_directory else PROJECT
        place = (str(out),) if kind.requires_logging_directory else ()
        arguments = _arguments(name, out=out, identity=identity, start=start)
        tracker = kind(project, *place, **arguments)
        tracker.start()
        self.running[name] = tracker

    def log(self, values: dict[str, float | int], *, step: int) -> None:
        """Send the numbers of a step, from 1."""
        self._each(lambda tracker: tracker.log(values, step=step))

    def close(self) -> None:
        """Write out what is still held back."""
        self._each(lambda tracker: tracker.finish())
        self.running = {}

    def _each(self, what: Callable[[tracking.GeneralTracker], object]) -> None:
        for name, tracker in list(self.running.items()):
            self._guarded(name, lambda tracker=tracker: what(tracker))

    def _guarded(self, name: str, what: Callable[[], object]) -> None:
        try:
            what()
        except Exception as error:  # each kind has errors of its own
            self.running.pop(name, None)
            told = " ".join(str(error).split())[:200]
            self.report(
                f"tracker {name} failed ({type(error).__name__}: {told}); the run goes on without it"
            )


def _arguments(name: str, *, out: Path, identity: str, start: int) -> dict[str, Any]:
    """What makes a later leg of a run go on in the log of the earlier ones.

    TensorBoard hides what an earlier leg wrote after the step that this one goes on from; wandb and
    trackio go on with the run of this name, and wandb takes no step twice. Other trackers begin a
    run of theirs with each leg.
    """
    return {
        "tensorboard": {"purge_step": start + 1},
        "wandb": {"id": identity, "name": identity, "resume": "allow", "dir": str(out)},
        "trackio": {"name": identity, "resume": "allow"},
    }.get(name, {})


def _plain(config: RunConfig) -> dict[str, str | int | float | bool]:
    """A run's settings as trackers take them: lists as words, blocks of settings as JSON."""
    plain: dict[str, str | int | float | bool] = {"hash": config.hash()}
    for name, value in config.to_dict().items():
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        elif value is None or isinstance(value, dict):
            value = json.dumps(value)
        plain[name] = value
    return plain
