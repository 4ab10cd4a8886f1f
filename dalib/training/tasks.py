"""What the task of a run decides about its training: the network, how much of another network it can
begin with, and the loss of the labelled images. All else is one loop (`dalib.training.train`).

Another task is one subclass of `Task` in a module of its own, and one line in `of`; how its network
is scored is as much in `dalib.evaluation.suite`.
"""

from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dalib import alternatives, losses
from dalib.config import RunConfig, check_beginning
from dalib.data.mixture import Batch
from dalib.data.scenes import CLASSES
from dalib.errors import ConfigError
from dalib.models.depth_anything import DepthAnything, build, restore
from dalib.models.segmenter import Segmenter, build_segmenter, restore_segmenter
from dalib.training.segmentation import cross_entropy


class Task:
    """The task of one run. This one is `disparity`, up to scale and shift; the others differ where
    they say so.

    Args:
        config: of the run.
    """

    #: As `RunConfig.task` has it.
    name: ClassVar[str] = "disparity"

    def __init__(self, config: RunConfig):
        self.config = config

    def build(self, *, encoder_weights: Path | None) -> DepthAnything:
        """The network before its first step: a pre-trained encoder (where the run has one) under a
        new decoder.

        Whatever its class, it has `encoder`, `decoder` (called with the encoder's maps and a size),
        `normalise`, `architecture` (for `dalib.models.save`), and a `forward` that gives the
        prediction first and the encoder's deepest features second.
        """
        config = self.config
        return build(
            config.encoder,
            pretrained=config.pretrained,
            layers=config.layers,
            encoder_weights=encoder_weights,
            seed=config.seed,
            max_depth=config.max_depth,
            relative_depth=config.task == "depth",
        )

    def begin(self, network: DepthAnything, first: DepthAnything) -> None:
        """Give a new network the weights of another one, or those of its encoder alone
        (`RunConfig.start_part`)."""
        if self.config.start_part == "encoder":
            network.encoder.load_state_dict(first.encoder.state_dict())
        else:
            network.load_state_dict(first.state_dict())

    def restore(self, path: Path) -> DepthAnything:
        """The network that a run of this task left in a file, in evaluation mode; see
        `dalib.models.restore`."""
        relative_depth = self.config.task == "depth"
        return restore(path, expect=self.config.encoder, relative_depth=relative_depth)

    def loss(self, pred: Tensor, batch: Batch) -> Float[Tensor, ""]:
        """L_l, the mean over the labelled images of a step. Sources refuse images without valid
        pixels, so that every one counts.

        Args:
            pred: what the network gave for them, float32 (b, ...).
            batch: of the step; it holds what `RunConfig.labelled_brings` names.
        """
        target, valid = batch["disparity"], batch["valid"]
        if not self.config.gradient_weight:
            return losses.affine_invariant(pred, target, valid).mean()
        valid = valid & target.isfinite()
        error = alternatives.residual(pred, target, valid)
        weight = self.config.gradient_weight
        return alternatives.map_loss(error, valid, gradient_weight=weight).mean()


HELD = 0.98
"""Share of an image's depths above which they are held when depth up to scale and shift is learnt,
as Marigold has it (arXiv:2312.02145, section 3.1)."""


class RelativeDepth(Task):
    """Depth up to scale and shift, to be compared with disparity: the same network and loss."""

    name = "depth"

    def loss(self, pred: Tensor, batch: Batch) -> Float[Tensor, ""]:
        """The mean over the labelled images of the affine-invariant loss of depth (eq. 1-3 with
        depth in the place of disparity). Sky, which is infinitely far, does not count."""
        depth, counts = held_depth(batch["disparity"], batch["valid"])
        return losses.affine_invariant(pred, depth, counts).mean()


def held_depth(
    disparity: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> tuple[Float[Tensor, "b h w"], Bool[Tensor, "b h w"]]:
    """Depth, 1 / disparity, of what is not sky, and where that is.

    The farthest depths of each image are brought to its quantile `HELD`: a street reaches two
    hundred times as far as its median, and a scale that is a mean would follow those few pixels.
    """
    counts = valid & (disparity > 0)
    depth = 1 / disparity.float().masked_fill(~counts, 1)
    seen = depth.masked_fill(~counts, torch.nan).flatten(1)
    most = torch.nanquantile(seen, HELD, dim=1)[:, None, None]  # NaN where nothing counts
    return torch.fmin(depth, most), counts


class Metric(Task):
    """Depth in metres: a sigmoid times `max_depth`, and the scale-invariant log loss."""

    name = "metric"

    def begin(self, network: DepthAnything, first: DepthAnything) -> None:
        """See `Task.begin`. Of a whole network of disparity all but the last layer is taken: its
        values, which reach far above 1, would leave a sigmoid without a slope, so that nothing more
        would be learnt."""
        new = {k: v.clone() for k, v in network.decoder.head[-2].state_dict().items()}
        super().begin(network, first)
        if first.kind == "disparity":
            network.decoder.head[-2].load_state_dict(new)

    def loss(self, pred: Tensor, batch: Batch) -> Float[Tensor, ""]:
        """The mean over the labelled images of `dalib.alternatives.scale_invariant_log`. Labels that
        are farther than `max_depth` do not count, for no network could learn them, and an image
        without any that count adds nothing."""
        disparity = batch["disparity"]
        counts = batch["valid"] & (disparity >= 1 / self.config.max_depth)
        depth = 1 / disparity.masked_fill(~counts, 1)
        return alternatives.scale_invariant_log(pred, depth, counts).mean()


class Segmentation(Task):
    """The class of each pixel: a decoder of the drawn scenes' classes, which are the only ones that
    a source has, and cross-entropy."""

    name = "segmentation"

    def build(self, *, encoder_weights: Path | None) -> Segmenter:
        """See `Task.build`."""
        config = self.config
        return build_segmenter(
            config.encoder,
            classes=CLASSES,
            pretrained=config.pretrained,
            layers=config.layers,
            encoder_weights=encoder_weights,
            seed=config.seed,
        )

    def restore(self, path: Path) -> Segmenter:
        """See `Task.restore`."""
        return restore_segmenter(path, expect=self.config.encoder)

    def loss(self, pred: Tensor, batch: Batch) -> Float[Tensor, ""]:
        """See `dalib.training.segmentation`."""
        return cross_entropy(pred, batch["semantics"])


def of(config: RunConfig) -> Task:
    """The task of a run."""
    known = {task.name: task for task in (Task, RelativeDepth, Metric, Segmentation)}
    if config.task not in known:
        raise ConfigError(f"task: {config.task} cannot be trained yet; take {', '.join(known)}")
    return known[config.task](config)


def kind_of(network: DepthAnything) -> str:
    """The task whose runs leave such a network."""
    known = {
        "disparity": "disparity",
        "relative_depth": "depth",
        "depth_m": "metric",
        "classes": "segmentation",
    }
    return known[network.kind]


def check_part(config: RunConfig, network: DepthAnything, *, where: str) -> None:
    """Raise `ConfigError` where a run cannot begin with a network as a whole, and is to."""
    if config.start_part == "network":
        check_beginning(config.task, kind_of(network), where=where)
