"""Scores of a network while it learns, on sources with ground truth.

Nothing of a run's result depends on it: what is scored is a copy of the network, in evaluation mode
and float32, as it is scored after training.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from dalib.config import RunConfig
from dalib.data.catalogue import open_source, parse
from dalib.data.schema import Sample, Source
from dalib.data.sources import DepthManifest
from dalib.errors import DataError, Stopped
from dalib.evaluation.metrics import METRICS
from dalib.evaluation.protocols import PROTOCOLS, SCALE, Protocol, collection, in_metres, inverted
from dalib.evaluation.run import evaluate_source, mean_over_images, predict_images, predict_maps
from dalib.evaluation.scores import Scorable
from dalib.models.depth_anything import DepthAnything, build


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is scored by one protocol.

    Args:
        name: of the source, with the data set where it holds several.
        source: with ground truth.
        protocol: which pixels count.
    """

    name: str
    source: Source
    protocol: Protocol


class Validation:
    """A run's validation: the sources, and which of their images are scored.

    Drawn scenes are scored by the protocol `scenes`, the data sets of a manifest by the protocol
    that is declared for them (`dalib.evaluation.protocols.collection`), scikit-image's Motorcycle
    by `indoor`, all others by `relative`, which needs nothing known of them. A network of metres is
    scored as it is, nothing fitted, on what lies within its reach.

    Args:
        config: the run: `validation`, `validation_images`, `validate_every`.

    Raises:
        ConfigError, DataError: as `open_source`, or a source without ground truth.
    """

    def __init__(self, config: RunConfig):
        self.every = config.validate_every
        self.steps = config.steps
        self.short_side = config.short_side
        self.images = config.validation_images
        self.metres = config.needs_metres
        self.parts = [part for name in config.validation for part in _parts(name, config)]
        self.network: DepthAnything | None = None

    def due(self, done: int) -> bool:
        """Whether there is a validation after this many steps."""
        return done > 0 and (done % self.every == 0 or done == self.steps)

    def __call__(
        self,
        student: DepthAnything,
        weights: dict[str, Tensor],
        *,
        rank: int = 0,
        world: int = 1,
        asked: Callable[[], object] = lambda: None,
        report: Callable[[str], None] = print,
    ) -> dict[str, float | int] | None:
        """Score these weights. All processes call it, share the images, and get the same numbers.

        Args:
            student: whose copy is scored; only its kind and place are read.
            weights: of that network, by name.
            rank, world: this process and how many there are.
            asked: whether there was a request to stop, which cuts the validation short.
            report: receives a line where it could not be done: a run never ends for it.

        Returns:
            `SOURCE/METRIC` -> mean over the images that have a score, for each of
            `dalib.evaluation.METRICS`; `SOURCE/inverted`, how many images had near and far the wrong
            way round; and `abs_rel`, the mean over the sources, by which steps are compared. Empty
            where it could not be done, None where it was cut short, in one process or more.
        """
        try:
            mine = self._share(student, weights, rank=rank, world=world, asked=asked)
        except Stopped:
            mine = None
        except Exception as error:  # a file that is gone, memory that is full, a map that is NaN
            mine = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        shares = gather_object([mine])
        if None in shares:
            return None
        if faults := [share for share in shares if isinstance(share, str)]:
            report(f"validation failed ({faults[0]}); the run goes on without these scores")
            return {}
        return self._summary(shares)

    def _share(
        self,
        student: DepthAnything,
        weights: dict[str, Tensor],
        *,
        rank: int,
        world: int,
        asked: Callable[[], object],
    ) -> list[dict[str, list]]:
        """Per-image scores of this process's images, one dictionary for each part."""
        network = self._copy(student, weights)

        def predict(images):
            if asked():
                raise Stopped("asked to stop")
            predict_all = predict_maps if self.metres else predict_images
            return predict_all(network, images, short_side=self.short_side)

        kind = "depth" if self.metres else "disparity"
        return [
            evaluate_source(predict, self._chosen(part)[rank::world], part.protocol, kind=kind)
            for part in self.parts
        ]

    def _copy(self, student: DepthAnything, weights: dict[str, Tensor]) -> DepthAnything:
        """A network of the student's kind with these weights, in its place: made once, so that what
        wraps, compiles or switches the student never meets it."""
        if self.network is None:
            network = build(**student.architecture, pretrained=False, seed=0)
            network = network.to(student.mean.device, memory_format=torch.channels_last)
            self.network = network.eval().requires_grad_(False)
        self.network.load_state_dict(weights)
        return self.network

    def _chosen(self, part: Part) -> "_Some":
        """The images of a part that are scored: all, or so many, spread evenly over it."""
        count = min(self.images, len(part.source))
        spread = np.arange(count) * len(part.source) // count
        return _Some(Scorable(part.source, part.protocol), spread)

    def _summary(self, shares: list[list[dict[str, list]]]) -> dict[str, float | int]:
        found: dict[str, float | int] = {}
        for k, part in enumerate(self.parts):
            whole = {
                key: _interleaved([share[k].get(key, []) for share in shares])
                for key in (*METRICS, SCALE)
            }
            means = {metric: mean_over_images(whole[metric]) for metric in METRICS}
            means["inverted"] = inverted(whole[SCALE])
            found |= {f"{part.name}/{key}": value for key, value in means.items()}
        errors = [found[f"{part.name}/abs_rel"] for part in self.parts]
        return {"abs_rel": mean_over_images(errors)} | found


def validation_of(config: RunConfig) -> Validation | None:
    """A run's validation; None where it has none."""
    return Validation(config) if config.validate_every else None


def check_validation(config: RunConfig) -> None:
    """Look at what a run will be validated on, before anything long begins; no scene is rendered.

    Each source is opened, the files that a manifest names must be there, and the first sample is
    read.

    Raises:
        ConfigError: as `open_source`, or a protocol that the ground truth does not allow.
        DataError: as `open_source`, or no ground truth.
    """
    if not config.validate_every:
        return
    kinds = [parse(name)[0] for name in config.validation]
    for name, kind in zip(config.validation, kinds, strict=True):
        if kind == "scenes":  # which have everything
            continue
        for part in _parts(name, config):
            if isinstance(part.source, DepthManifest):
                part.source.check_files()
            try:
                Scorable(part.source, part.protocol)[0]
            except DataError as error:
                raise DataError(f"validation: {name}: {error}") from error


def _parts(name: str, config: RunConfig) -> list[Part]:
    """A source by name, in as many parts as it has protocols; for a network of metres without
    alignment, and to its reach."""
    parts = _of_source(name, config)
    if not config.needs_metres:
        return parts
    reach = config.max_depth
    return [replace(part, protocol=in_metres(part.protocol, reach=reach)) for part in parts]


def _of_source(name: str, config: RunConfig) -> list[Part]:
    kind = parse(name)[0]
    source = open_source(name, count=config.validation_images, **config.size)
    if isinstance(source, DepthManifest):
        return _manifest(name, source)
    known = {"scenes": "scenes", "skimage": "indoor"}
    return [Part(name=name, source=source, protocol=PROTOCOLS[known.get(kind, "relative")])]


def _manifest(name: str, source: DepthManifest) -> list[Part]:
    """The data sets of a manifest with their protocols, rows of a known offset alone."""
    place = source.manifest
    declared = collection(place.parent)[0] if place.name == "manifest.csv" else []
    protocols = {each.name: each.protocol for each in declared}
    parts = []
    sets = source.by_dataset()
    for dataset, rows in sets.items():
        known, _ = rows.with_known_offset()
        if known is not None:
            protocol = protocols.get(dataset, PROTOCOLS["relative"])
            called = name if len(sets) == 1 else f"{name} {dataset}"
            parts.append(Part(name=called, source=known, protocol=protocol))
    if not parts:
        raise DataError(f"validation: {name}: no row has a known offset, so none can be scored")
    return parts


class _Some:
    """Some samples of a source, by their indices."""

    def __init__(self, source: Scorable, indices: np.ndarray):
        self.source = source
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int | slice) -> "Sample | _Some":
        if isinstance(place, slice):
            return _Some(self.source, self.indices[place])
        return self.source[int(self.indices[place])]

    def __iter__(self) -> Iterator[Sample]:
        return (self[k] for k in range(len(self)))


def _interleaved(shares: list[list]) -> list:
    """Shares that were dealt out one by one, as they lay before."""
    whole = [None] * sum(map(len, shares))
    for rank, share in enumerate(shares):
        whole[rank :: len(shares)] = share
    return whole
