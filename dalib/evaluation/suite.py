"""Everything a trained network is scored on: the six test domains, in-domain validation, and real
images where there are any."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from dalib.config import RunConfig
from dalib.data import scenes
from dalib.data.schema import Sample, Source
from dalib.data.sources import DepthManifest, Motorcycle
from dalib.errors import ConfigError, DataError
from dalib.evaluation.floors import (
    FLOORS,
    MEAN_MAP,
    Floor,
    mean_map,
    mean_map_floor,
    quadratic_surface,
)
from dalib.evaluation.metrics import ALL_METRICS, METRICS
from dalib.evaluation.protocols import (
    PROTOCOLS,
    SCALE,
    Protocol,
    collection,
    in_metres,
    real_sets,
    scored,
)
from dalib.evaluation.run import (
    Predict,
    check_disparity,
    evaluate_source,
    floor,
    predict_images,
    predict_maps,
)
from dalib.evaluation.segmentation import ACCURACY, evaluate_classes, predict_classes
from dalib.models.depth_anything import DepthAnything
from dalib.models.segmenter import Segmenter
from dalib.paths import realdepth

DIGITS = 5
"""Decimals of a metric in a record, and significant digits of a scale: rounding must not cost a
scale its sign."""
IN_DOMAIN = {
    kind: scenes.Split(f"unseen_{kind}", 150 + number, {kind: 1.0}, {"plain": 1.0})
    for number, kind in enumerate(("room", "street"), 1)
}
"""By kind, scenes as of `labelled_room` and `labelled_street` that nothing learns from: what metric
runs are scored on in their own domain."""


def scene_domains(
    config: RunConfig, names: tuple[str, ...] = (*scenes.TEST_DOMAINS, "validation")
) -> dict[str, Source]:
    """The procedural domains at the run's size, materialised on first use."""
    return {
        name: scenes.materialise(split=name, count=config.test_images, **config.size)
        for name in names
    }


def real_domains() -> list[tuple[str, str, Source, Protocol]]:
    """(name, half, source, protocol) of each real data set; scikit-image's Motorcycle is always
    among them."""
    found = [(s.name, s.half, s.source, s.protocol) for s in real_sets()]
    if any(name == Motorcycle.domain for name, *_ in found):
        manifest = realdepth() / "manifest.csv"
        raise ConfigError(
            f"{manifest}: a data set is called {Motorcycle.domain!r}, as scikit-image's; rename it"
        )
    return [(Motorcycle.domain, "table", Motorcycle(), PROTOCOLS["indoor"]), *found]


def check() -> list[str]:
    """Look at what a network will be scored on, before it is trained; no scene is rendered.

    Every real image is read once: there are few, and one that cannot be scored would be found only
    after the training.

    Returns:
        Lines for the reader: rows and images that are not scored, and protocols that were chosen
            because none was declared.

    Raises:
        ConfigError, DataError: as `real_sets`, what reading a sample raises, or a data set of which
            nothing lies within the range of its protocol; they name manifest, row, file or data
            set.
    """
    notes = []
    for name, _, source, protocol in real_domains():
        if isinstance(source, DepthManifest):
            source.check_files()
        key = source.fingerprint, protocol
        if key not in _READ:
            _READ[key] = [str(sample["name"]) for sample in source if not _counts(sample, protocol)]
        outside = (
            f"data set {name!r}: no pixel lies within protocol {protocol.name} (its range "
            "of depth and its crop)"
        )
        if len(_READ[key]) == len(source):
            raise DataError(f"{outside}; correct depth_scale, or declare another protocol")
        if _READ[key]:
            notes.append(f"{outside} in {', '.join(_READ[key])}, which are not scored")
    return collection(realdepth())[1] + notes


_READ: dict[tuple[str, Protocol], list[str]] = {}
"""What this process has read already, for a study checks before each of its runs: the images of
which no pixel counts."""


def _counts(sample: Sample, protocol: Protocol) -> bool:
    return bool(scored(sample["disparity"][None], sample["valid"][None], protocol).any())


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How the networks of a task are scored.

    Args:
        metrics: the names of what each image gets, in the order of a table.
        evaluate: a network and its run to per-image scores, in the form of `evaluate`.
    """

    metrics: tuple[str, ...]
    evaluate: Callable[[DepthAnything, RunConfig], dict[str, dict[str, dict]]]


def scoring(config: RunConfig) -> Scoring:
    """How the network of a run is scored, by its task. Another task is one more line here."""
    known = {
        "disparity": Scoring(metrics=METRICS, evaluate=_relative),
        "depth": Scoring(metrics=METRICS, evaluate=_relative_depth),
        "metric": Scoring(metrics=ALL_METRICS, evaluate=_metres),
        "segmentation": Scoring(metrics=(ACCURACY,), evaluate=_classes),
    }
    if config.task not in known:
        raise ConfigError(f"task: {config.task} cannot be scored yet; take {', '.join(known)}")
    return known[config.task]


def evaluate(model: DepthAnything, config: RunConfig) -> dict[str, dict[str, dict]]:
    """Score the network of a run as its task asks (`scoring`).

    Returns:
        `{"images": {domain: {metric: [...]}}, "real": {data set: {"half": ..., "names": [...],
        metric: [...]}}}`, a value per image for each metric of the task, in one order. "real" may
        be empty. A record has this as it is.
    """
    return scoring(config).evaluate(model, config)


def _relative(model: DepthAnything, config: RunConfig) -> dict[str, dict[str, dict]]:
    """Of disparity, up to scale and shift.

    Beside the metrics stands `SCALE`, the scale that was fitted to each image: below zero, near and
    far were the wrong way round. Real images are scored with the short side at the run's height, at
    their own aspect.

    Raises:
        ConfigError: a network of metric depth, before anything is drawn or read.
    """
    check_disparity(model)

    def predict(images):
        return predict_images(model, images, short_side=config.short_side)

    real = real_domains()
    return {"images": _drawn(predict, config), "real": _real(predict, real)}


def _relative_depth(model: DepthAnything, config: RunConfig) -> dict[str, dict[str, dict]]:
    """As `_relative`, of depth up to scale and shift: on the same images, pixels and caps, with
    both fitted in depth. A scale below zero is, here too, near and far the wrong way round.

    Raises:
        ConfigError: a network of another kind, before anything is drawn or read.
    """
    if model.kind != "relative_depth":
        raise ConfigError(
            f"this network predicts {model.kind}, and what is scored here is depth up to scale and "
            "shift"
        )

    def predict(images):
        return predict_maps(model, images, short_side=config.short_side)

    real = real_domains()
    return {
        "images": _drawn(predict, config, kind="depth"),
        "real": _real(predict, real, kind="depth"),
    }


def _metres(model: DepthAnything, config: RunConfig) -> dict[str, dict[str, dict]]:
    """Of depth in metres, as it is: nothing is fitted.

    Drawn are `IN_DOMAIN`, other scenes of kinds that metric runs learn, and the test domains; truth
    that is farther than the network reaches does not count. Real data sets are scored where their
    protocol has a cap within the network's reach.

    Raises:
        ConfigError: a network of disparity, before anything is drawn or read.
    """
    if model.kind != "depth_m":
        raise ConfigError(
            "this network predicts disparity up to scale and shift, and what is scored here is depth "
            "in metres"
        )

    def predict(images):
        return predict_maps(model, images, short_side=config.short_side)

    def scores(source: Source, protocol: Protocol) -> dict[str, list]:
        protocol = in_metres(protocol, reach=reach)
        found = evaluate_source(predict, source, protocol, kind="depth", names=ALL_METRICS)
        rounded = {m: [round(x, DIGITS) for x in found[m]] for m in ALL_METRICS}
        return {"names": found["names"]} | rounded

    reach = model.max_depth
    drawn = {
        name: scenes.materialise(split=split, count=config.test_images, **config.size)
        for name, split in IN_DOMAIN.items()
    } | scene_domains(config, scenes.TEST_DOMAINS)
    images = {name: scores(source, PROTOCOLS["scenes"]) for name, source in drawn.items()}
    for found in images.values():
        found.pop("names")
    real = {
        name: {"half": half} | scores(source, cap)
        for name, half, source, cap in real_domains()
        if cap.max_depth is not None and cap.max_depth <= reach
    }
    return {"images": images, "real": real}


def _classes(model: Segmenter, config: RunConfig) -> dict[str, dict[str, dict]]:
    """Of semantic segmentation, on the drawn domains, which alone have classes: what
    `dalib.evaluation.segmentation.Areas.to_dict` says of each."""

    def predict(images):
        return predict_classes(model, images, short_side=config.short_side)

    found = {
        name: evaluate_classes(predict, source, model.classes)
        for name, source in scene_domains(config).items()
    }
    return {"images": {name: areas.to_dict() for name, areas in found.items()}, "real": {}}


def study_floors(config: RunConfig) -> dict[str, Floor]:
    """Every floor by name: `FLOORS`, and the mean map of a run's drawn labelled scenes at the run's
    size.

    Raises:
        ConfigError: a run whose labelled images are not one drawn split.
    """
    names = config.sources.get("labelled", ())
    kind, _, split = ",".join(names).partition(":")
    if len(names) != 1 or kind != "scenes":
        raise ConfigError(
            "labelled: a mean map is made of one drawn split, such as scenes:labelled, not of "
            f"{names}"
        )
    labelled = scenes.materialise(
        split=split, count=config.labelled_images, draw=config.drawn, **config.size
    )
    return FLOORS | {MEAN_MAP: mean_map_floor(mean_map(labelled))}


def real_floors(floors: dict[str, Floor]) -> dict[str, dict[str, dict]]:
    """The floors' scores on the real data sets: floor -> what `evaluate` has under "real"."""
    real = real_domains()
    return {name: _real(floor(kind), real) for name, kind in floors.items()}


def drawn_floors(floors: dict[str, Floor], config: RunConfig) -> dict[str, dict[str, dict]]:
    """The floors' scores on the test domains and validation, at a run's size: floor -> what
    `evaluate` has under "images"."""
    return {name: _drawn(floor(kind), config) for name, kind in floors.items()}


def real_surfaces() -> dict[str, dict]:
    """What the quadratic surface that is fitted to each truth scores on the real data sets, in the
    form of a floor of `real_floors`."""
    return {
        name: {"half": half}
        | _scores(_surfaces(source, protocol), source, protocol, kind="disparity")
        for name, half, source, protocol in real_domains()
    }


def drawn_surfaces(config: RunConfig) -> dict[str, dict]:
    """As `real_surfaces`, on the test domains and validation at a run's size."""
    protocol = PROTOCOLS["scenes"]
    found = {
        name: _scores(_surfaces(source, protocol), source, protocol, kind="disparity")
        for name, source in scene_domains(config).items()
    }
    for scores in found.values():
        scores.pop("names")
    return found


def _surfaces(source: Source, protocol: Protocol) -> Predict:
    """The surfaces as something to hand to `evaluate_source`, which reads a source in order."""

    def fitted() -> Iterator[Tensor]:
        for index in range(len(source)):
            sample = source[index]
            disparity = sample["disparity"]
            counts = scored(disparity[None], sample["valid"][None], protocol)[0]
            yield quadratic_surface(disparity, counts)

    maps = fitted()
    return lambda images: [next(maps) for _ in images]


def _drawn(predict: Predict, config: RunConfig, *, kind: str = "disparity") -> dict[str, dict]:
    found = {
        name: _scores(predict, source, PROTOCOLS["scenes"], kind=kind)
        for name, source in scene_domains(config).items()
    }
    for scores in found.values():
        scores.pop("names")
    return found


def _real(
    predict: Predict, sets: list[tuple[str, str, Source, Protocol]], *, kind: str = "disparity"
) -> dict[str, dict]:
    return {
        name: {"half": half} | _scores(predict, source, protocol, kind=kind)
        for name, half, source, protocol in sets
    }


def _scores(predict: Predict, source: Source, protocol: Protocol, *, kind: str) -> dict[str, list]:
    if kind == "depth":
        protocol = protocol.with_alignment("depth")
    scores = evaluate_source(predict, source, protocol, kind=kind)
    rounded = {metric: [round(x, DIGITS) for x in scores[metric]] for metric in METRICS}
    if SCALE in scores:
        rounded[SCALE] = [float(f"{x:.{DIGITS}g}") for x in scores[SCALE]]
    return scores | rounded
