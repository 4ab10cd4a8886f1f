"""Everything a trained network is scored on: the six test domains, in-domain validation, and real images where there are any."""

from dalib.config import RunConfig
from dalib.data import scenes
from dalib.data.schema import Sample, Source
from dalib.data.sources import DepthManifest, Motorcycle
from dalib.errors import ConfigError, DataError
from dalib.evaluation.metrics import METRICS
from dalib.evaluation.protocols import FLOORS, PROTOCOLS, Protocol, collection, real_sets, scored
from dalib.evaluation.run import Predict, evaluate_source, floor, predict_images
from dalib.models.depth_anything import DepthAnything
from dalib.paths import realdepth

DIGITS = 5


def scene_domains(
    config: RunConfig, names: tuple[str, ...] = (*scenes.TEST_DOMAINS, "validation")
) -> dict[str, Source]:
    """The procedural domains at the run's size, materialised on first use."""
    size = {"height": config.height, "width": config.width}
    return {name: scenes.materialise(split=name, count=config.test_images, **size) for name in names}


def real_domains() -> list[tuple[str, str, Source, Protocol]]:
    """(name, half, source, protocol) of each real data set; scikit-image's Motorcycle is always among them."""
    found = [(s.name, s.half, s.source, s.protocol) for s in real_sets()]
    if any(name == Motorcycle.domain for name, *_ in found):
        manifest = realdepth() / "manifest.csv"
        raise ConfigError(f"{manifest}: a data set is called {Motorcycle.domain!r}, as scikit-image's; rename it")
    return [(Motorcycle.domain, "table", Motorcycle(), PROTOCOLS["indoor"]), *found]


def check() -> list[str]:
    """Look at what a network will be scored on, before it is trained; no scene is rendered.

    Every real image is read once: there are few, and one that cannot be scored would be found only after the training.

    Returns:
        Lines for the reader: rows and images that are not scored, and protocols that were chosen because none was declared.

    Raises:
        ConfigError, DataError: as `real_sets`, what reading a sample raises, or a data set of which nothing lies within the
            range of its protocol; they name manifest, row, file or data set.
    """
    notes = []
    for name, _, source, protocol in real_domains():
        if isinstance(source, DepthManifest):
            source.check_files()
        key = source.fingerprint, protocol
        if key not in _READ:
            _READ[key] = [str(sample["name"]) for sample in source if not _counts(sample, protocol)]
        outside = f"data set {name!r}: no pixel lies within protocol {protocol.name} (its range of depth and its crop)"
        if len(_READ[key]) == len(source):
            raise DataError(f"{outside}; correct depth_scale, or declare another protocol")
        if _READ[key]:
            notes.append(f"{outside} in {', '.join(_READ[key])}, which are not scored")
    return collection(realdepth())[1] + notes


_READ: dict[tuple[str, Protocol], list[str]] = {}
"""What this process has read already, for a study checks before each of its runs: the images of which no pixel counts."""


def _counts(sample: Sample, protocol: Protocol) -> bool:
    return bool(scored(sample["disparity"][None], sample["valid"][None], protocol).any())


def evaluate(model: DepthAnything, config: RunConfig) -> dict[str, dict[str, dict[str, list]]]:
    """Per-image metrics: `{"images": {domain: {metric: [...]}}, "real": {data set: {"names": [...], metric: [...]}}}`.

    Real images are scored with the short side at the run's height, at their own aspect.
    """

    def predict(images):
        return predict_images(model, images, short_side=min(config.height, config.width))

    images = {name: _scores(predict, source, PROTOCOLS["scenes"]) for name, source in scene_domains(config).items()}
    for scores in images.values():
        scores.pop("names")
    real = {
        name: {"half": half} | _scores(predict, source, protocol) for name, half, source, protocol in real_domains()
    }
    return {"images": images, "real": real}


def floors() -> dict[str, dict[str, dict[str, list]]]:
    """The floors' scores on the real data sets, in the form of `evaluate`'s "real"."""
    return {
        kind: {
            name: {"half": half} | _scores(floor(f), source, protocol)
            for name, half, source, protocol in real_domains()
        }
        for kind, f in FLOORS.items()
    }


def _scores(predict: Predict, source: Source, protocol: Protocol) -> dict[str, list]:
    scores = evaluate_source(predict, source, protocol)
    return {k: [round(x, DIGITS) for x in v] if k in METRICS else v for k, v in scores.items()}
