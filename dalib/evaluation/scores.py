"""Anybody's model under the protocols: any function from images to disparity, on any source with
ground truth."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dalib.config import RunConfig, check_names
from dalib.data.catalogue import open_source
from dalib.data.schema import Sample, Source
from dalib.data.sources import DepthManifest
from dalib.errors import ConfigError, DataError, UserError
from dalib.evaluation.align import ALIGNMENTS
from dalib.evaluation.measure import KINDS, check_kind
from dalib.evaluation.metrics import METRICS
from dalib.evaluation.protocols import PROTOCOLS, SCALE, Protocol, collection, inverted
from dalib.evaluation.run import (
    Predict,
    check_disparity,
    evaluate_source,
    mean_over_images,
    predict_maps,
)
from dalib.models.sizes import default_short_side, training_size

Model = Callable[[list[Tensor]], Iterable[Tensor | np.ndarray]]
"""Images, uint8 (3, H, W) of any sizes -> one disparity map (h, w) each."""
OF_NETWORKS = {"disparity": "disparity", "depth_m": "depth"}
"""A network's own word for what it predicts -> the kind of its maps."""
OURS = ("mean", "std", "multiple")
"""What a torch module has that says how an image becomes its input; without it nobody can know."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a model scored on one source. As text: the means in one line, and what to beware of.

    Attributes:
        protocol: by which it was scored.
        names: of the images.
        images: metric (`dalib.evaluation.METRICS`) -> its value on each image, in the order of
            `names`; NaN for an image of which no pixel counts.
        scales: the scale that was fitted to each image. Below zero, near and far of the prediction
            were the wrong way round.
        left_out: rows of a manifest that were not scored because their disparity has an unknown
            offset.
    """

    protocol: Protocol
    names: tuple[str, ...]
    images: dict[str, tuple[float, ...]]
    scales: tuple[float, ...]
    left_out: int = 0

    @property
    def means(self) -> dict[str, float]:
        """Metric -> mean over the images that have a score."""
        return {metric: mean_over_images(values) for metric, values in self.images.items()}

    @property
    def scored(self) -> int:
        """Images of which at least one pixel counts."""
        return int((~torch.tensor(self.images["abs_rel"]).isnan()).sum())

    @property
    def inverted(self) -> int:
        """Images whose prediction had near and far the wrong way round, as depth in place of
        disparity has them."""
        return inverted(self.scales)

    def __str__(self) -> str:
        means, count = self.means, len(self.names)
        line = f"AbsRel {means['abs_rel']:.4f}  delta1 {means['delta1']:.4f}"
        notes = [f"{_count(self.scored, 'image')}, protocol {self.protocol.name}"]
        if self.scored < count:
            notes.append(f"{count - self.scored} more without a pixel that counts")
        if self.left_out:
            notes.append(f"{_count(self.left_out, 'row')} of unknown offset left out")
        if self.inverted:
            notes.append(f"near and far the wrong way round in {self.inverted}")
        return f"{line}  ({'; '.join(notes)})"


def evaluate(
    model: nn.Module | Model,
    source: Source | Sequence[Sample] | str,
    *,
    protocol: Protocol | str = "relative",
    kind: str = "disparity",
    alignment: str | None = None,
    short_side: int | None = None,
    batch_size: int = 16,
) -> Scores:
    """Score a model on a source with ground truth: scale and shift are fitted to each image in
    disparity, then depths are compared (`dalib.evaluation.score`)::

        def mine(images):  # a list of uint8 tensors (3, H, W)
            return [my_network(image) for image in images]  # a disparity map (h, w) each

        print(evaluate(mine, "depth:my_data?dataset=rooms", protocol="indoor"))
        print(evaluate(load("depth_anything_v2_vits.pth"), "skimage:motorcycle", protocol="indoor"))

    Ten metrics, intervals, folders of predictions and files: `python -m dalib evaluate`.

    Args:
        model: a function from a list of images, uint8 (3, H, W) of any sizes, to one disparity map
            (h, w) each, as tensors or arrays. Larger is nearer, up to scale and shift; for depth
            give 1 / depth. A map of another size than its image is resized bilinearly. Or a network
            as `dalib.load` gives it.
        source: a source or its name (`open_source`), or any sequence of samples
            (`dalib.data.schema`). Drawn scenes by name are the first 100 at 96 x 128.
        protocol: which pixels count, one of `PROTOCOLS` by name, or your own. By default all of the
            ground truth, whatever its scale.
        kind: what the maps are: "disparity", "depth" or "log_depth". A network of metric depth
            needs "depth", said here, so that its metres are never taken for disparity.
        alignment: one of `dalib.evaluation.align.ALIGNMENTS`; by default the protocol's own, and
            "none" for a network of metric depth.
        short_side: for a network of ours, short side of its input in pixels; by default the one
            that it was trained at where that is known, else 518 for a ViT and 96 for a CNN.
        batch_size: images that the model gets at a time.

    Raises:
        ConfigError: an unknown protocol, a protocol in metres for ground truth of unknown scale, a
            network of metric depth, or a model that gives no maps.
        DataError: an image without ground truth, a prediction that is not finite where it is
            scored, or no pixel in all of the source that counts.
    """
    if isinstance(protocol, str):
        check_names([protocol], PROTOCOLS, what="protocol")
        protocol = PROTOCOLS[protocol]
    check_names([kind], KINDS, what="kind")
    if alignment is not None:
        check_names([alignment], ALIGNMENTS, what="alignment")
    elif kind == "depth" and getattr(model, "kind", None) == "depth_m":
        alignment = "none"
    protocol = protocol.with_alignment(alignment)
    check_kind(kind, ALIGNMENTS[protocol.align])
    predict = _predictor(model, short_side, kind=kind)
    if isinstance(source, str):
        size = {"height": RunConfig.height, "width": RunConfig.width}
        source = open_source(source, count=RunConfig.test_images, **size)
    left_out = 0
    if isinstance(source, DepthManifest):
        manifest = source.manifest
        source, left_out = source.with_known_offset()
        if source is None:
            raise DataError(
                f"{manifest}: no row has a known offset, so none can be scored; see offset_known"
            )
    try:
        found = evaluate_source(
            predict, Scorable(source, protocol), protocol, batch_size=batch_size, kind=kind
        )
    except UserError:
        raise
    except ValueError as error:  # of a prediction, named by its image
        raise DataError(f"{error}; see what the model gives there") from error
    scores = Scores(
        protocol=protocol,
        names=tuple(found["names"]),
        images={metric: tuple(found[metric]) for metric in METRICS},
        scales=tuple(found.get(SCALE, ())),
        left_out=left_out,
    )
    if not scores.scored:
        raise DataError(
            f"no pixel lies within protocol {protocol.name} (its range of depth and its crop); "
            "correct depth_scale, or take another protocol"
        )
    return scores


def evaluate_folder(
    model: nn.Module | Model,
    folder: str | Path,
    *,
    short_side: int | None = None,
    batch_size: int = 16,
    report: Callable[[str], None] = print,
) -> dict[str, Scores]:
    """Score a model on every data set of a folder with a `manifest.csv`, each by the protocol that
    is declared for it (`dalib.evaluation.protocols.collection`).

    Args:
        model, short_side, batch_size: as for `evaluate`.
        folder: holds the manifest; its columns are on the page "Run it yourself".
        report: receives a line for what is left out, and for a protocol that was chosen because
            none was declared.

    Returns:
        Data set -> its scores.

    Raises:
        ConfigError, DataError: as `evaluate` and `collection`.
    """
    folder = Path(folder)
    if not (folder / "manifest.csv").is_file():
        raise DataError(f"{folder}: no manifest.csv in this folder; write one, or name another")
    sets, notes = collection(folder)
    for note in notes:
        report(note)
    options = {"short_side": short_side, "batch_size": batch_size}
    return {s.name: evaluate(model, s.source, protocol=s.protocol, **options) for s in sets}


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


class Scorable:
    """A source whose samples are refused where a score of them would mean nothing."""

    def __init__(self, source: Source | Sequence[Sample], protocol: Protocol):
        self.source = source
        self.in_metres = protocol.min_depth > 0 or protocol.max_depth is not None
        self.protocol = protocol

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        sample = self.source[index]
        domain = sample.get("domain", type(self.source).__name__)
        where = f"{domain}, image {str(sample.get('name', index))!r}"
        if "disparity" not in sample or "valid" not in sample:
            raise DataError(f"{where}: no ground truth; name a source with disparity and valid")
        if self.protocol.align == "none" and not sample.get("scale_known", True):
            raise ConfigError(
                f"{where}: its ground truth has no known scale, and without alignment nothing can "
                "be compared with it; choose an alignment"
            )
        if self.in_metres and not sample.get("scale_known", True):
            raise ConfigError(
                f"{where}: its ground truth has no known scale, which protocol "
                f"{self.protocol.name} needs; take protocol relative"
            )
        if not sample.get("offset_known", True):
            raise DataError(
                f"{where}: its disparity has an unknown offset, so it cannot be scored; leave it out"
            )
        return {"domain": domain} | sample


def _predictor(model: object, short_side: int | None, *, kind: str = "disparity") -> Predict:
    """A model as a function whose maps are looked at."""
    if isinstance(model, nn.Module) and all(hasattr(model, name) for name in OURS):
        if kind == "disparity":
            check_disparity(model)
        elif kind != OF_NETWORKS.get(getattr(model, "kind", None)):
            raise ConfigError(
                f"kind: {kind!r}, but this network predicts "
                f"{OF_NETWORKS.get(getattr(model, 'kind', None), 'something else')}"
            )
        size = _trained_at(model) if short_side is None else short_side
        return lambda images: predict_maps(model, images, short_side=size)
    if isinstance(model, nn.Module):
        raise ConfigError(
            f"model: a torch module without {', '.join(OURS)} does not say how an image becomes "
            "its input; give a function from a list of uint8 images to a list of maps"
        )
    if not callable(model):
        raise ConfigError(f"model: {type(model).__name__} is neither a network nor a function")
    if short_side is not None:
        raise ConfigError(
            f"short_side: nothing would read {short_side}; a function decides by itself"
        )
    return lambda images: _maps(model(images), images)


def _trained_at(model: nn.Module) -> int:
    """The short side that a network of ours sees best, as far as is known."""
    known = [size for path in getattr(model, "sources", ()) if (size := training_size(path))]
    return known[0] if known else default_short_side(model)


def _maps(given: object, images: Sequence[UInt8[Tensor, "3 _ _"]]) -> list[Float[Tensor, "_ _"]]:
    """What a function of somebody's gave, as float32 tensors on the CPU."""
    if not isinstance(given, Iterable):
        raise ConfigError(f"model: gave {type(given).__name__}, not a list of maps")
    maps = list(given)
    if len(maps) != len(images):
        raise ConfigError(
            f"model: gave {len(maps)} maps for {len(images)} images; give one map (h, w) each"
        )
    return [_one_map(each) for each in maps]


def _one_map(given: object) -> Float[Tensor, "_ _"]:
    array = np.ascontiguousarray(given) if isinstance(given, np.ndarray) else given
    try:
        result = torch.as_tensor(array).detach().float().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"model: gave {type(given).__name__} where a map is meant") from error
    if result.ndim != 2:
        raise ConfigError(
            f"model: gave a map of shape {tuple(result.shape)}; one image has one map (h, w)"
        )
    return result
