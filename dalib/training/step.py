"""One step of training: from a batch to its losses.

One vocabulary for CutMix, here and in the losses: `target` is an image's own pseudo label, which
holds outside the box; `target_inside` is its partner's, which holds inside; `inside` is the box as
a mask, None without CutMix.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from dalib import alternatives, losses
from dalib.config import RunConfig
from dalib.data import perturb
from dalib.data.mixture import Batch
from dalib.data.streams import Stream
from dalib.models.depth_anything import DepthAnything
from dalib.models.encoder import Encoder
from dalib.training import tasks
from dalib.training.auxiliary import on_grid_of, segmentation
from dalib.training.pseudo import Labeller, unit_range


def step_losses(
    config: RunConfig,
    model: nn.Module,
    student: DepthAnything,
    frozen: Encoder | None,
    batch: Batch,
) -> dict[str, Tensor]:
    """The losses of one step: `labelled` (L_l) and `unlabelled` (L_u) where there are such images,
    and `feat` (L_feat); `segmentation` where that is an auxiliary task.

    Labelled and perturbed unlabelled images go through the network as one batch.

    Args:
        config: of the run.
        model: the student as it is trained: in its wrappers, and perhaps with an auxiliary decoder.
        student: the student itself, for its normalisation.
        frozen: the frozen pre-trained encoder where there is feature alignment.
        batch: of this step, with its pseudo labels.
    """
    has_labelled = "image" in batch
    has_pool = "pool_image" in batch
    count = len(batch["image"]) if has_labelled else 0
    inside = None

    # the images: as the student sees them, and mixed but not distorted
    seen = []
    clean = []
    if has_labelled:
        labelled = _unit(batch["image"])
        seen.append(_distorted_labelled(config, labelled, batch["position"]))
        clean.append(labelled)
    if has_pool:
        pool = _unit(batch["pool_image"])
        drawn = _draw(
            config, Stream.POOL_PERTURBATION, batch["pool_position"], config.perturb, pool
        )
        pool_seen, inside = perturb.apply(pool, drawn)
        seen.append(pool_seen)
        if config.frozen_sees == "clean":
            pool_clean, _ = perturb.cutmix(pool, drawn)
            clean.append(pool_clean)

    # the student, once for all images
    images = student.normalise(torch.cat(seen)).contiguous(memory_format=torch.channels_last)
    pred, features, *logits = model(images)
    pred = pred.float()

    # the losses
    parts = {}
    if has_labelled:
        parts["labelled"] = tasks.of(config).loss(pred[:count], batch)
    if has_pool:
        parts["unlabelled"] = _unlabelled(
            config, pred[count:], batch["pool_disparity"], batch["pool_valid"], inside
        )
    if frozen is not None:
        which = _aligned(config, count)
        if config.frozen_sees == "clean" or config.frozen_encoder:
            images = torch.cat(clean if config.frozen_sees == "clean" else seen)
            images = (
                frozen.normalise(images) if config.frozen_encoder else student.normalise(images)
            )
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            reference = frozen(images[which])[-1]
        own = on_grid_of(reference, features[which])
        error = losses.feature_alignment(own, reference, margin=config.margin)
        parts["feat"] = error.mean()
    if logits:
        classes = mixed(batch["pool_semantics"], inside)
        parts["segmentation"] = segmentation(logits[0][count:], classes)
    return parts


def shares(batch: Batch, count: int) -> Iterator[Batch]:
    """A batch in so many equal parts, labelled and unlabelled images alike, in their order.

    Every loss is a mean over images, so that the mean over the parts is that of the batch, and so
    is its gradient, up to rounding. Neighbours stay together where they are CutMix pairs
    (`check_shares` sees to it).
    """
    if count == 1:
        yield batch
        return
    for number in range(count):
        part = {}
        for name, values in batch.items():
            size = len(values) // count
            part[name] = values[number * size : (number + 1) * size]
        yield part


def _unit(images: Tensor) -> Tensor:
    """Bytes to 0..1."""
    return images.float().div_(255)


def _distorted_labelled(config: RunConfig, images: Tensor, positions: Tensor) -> Tensor:
    if not config.perturb_labelled:
        return images
    drawn = _draw(config, Stream.LABELLED_PERTURBATION, positions, config.perturb_labelled, images)
    return perturb.distort(images, drawn)


def _draw(
    config: RunConfig, stream: Stream, positions: Tensor, kinds: tuple[str, ...], images: Tensor
) -> perturb.Perturbation:
    """A perturbation for each image, whose key is (seed, stream, position)."""
    height, width = images.shape[-2:]
    keys = [(config.seed, int(stream), int(p)) for p in positions]
    return perturb.draw(keys, kinds, height=height, width=width, strength=config.strength)


def _aligned(config: RunConfig, labelled: int) -> slice:
    """Which images of a step feature alignment sees, the first `labelled` being the labelled
    ones."""
    choices = {
        "labelled": slice(0, labelled),
        "unlabelled": slice(labelled, None),
        "both": slice(None),
    }
    return choices[config.align]


def _unlabelled(
    config: RunConfig, pred: Tensor, target: Tensor, valid: Tensor, inside: Tensor | None
) -> Tensor:
    """L_u, the mean over the images; `target` and `valid` are those of each image by itself."""
    target_inside = None if inside is None else _partners(target)
    valid = mixed(valid, inside)
    together = config.cutmix_regions == "together"

    # the paper's own
    if not (config.gradient_weight or config.drop or together):
        return losses.cutmix_unlabelled(
            pred, target, target_inside=target_inside, inside=inside, valid=valid
        ).mean()

    # an ablation's
    valid = valid & torch.isfinite(losses.shown(target, target_inside, inside))
    error = alternatives.cutmix_residual(
        pred,
        target,
        target_inside=target_inside,
        inside=inside,
        valid=valid,
        together=together,
    )
    return alternatives.map_loss(
        error,
        valid,
        inside=None if together else inside,
        drop=config.drop,
        drop_unit=config.drop_unit,
        gradient_weight=config.gradient_weight,
    ).mean()


def _partners(maps: Tensor) -> Tensor:
    """For each image the map of the one that fills its box."""
    return maps[perturb.partner(len(maps)).to(maps.device)]


def mixed(maps: Tensor, inside: Tensor | None) -> Tensor:
    """Maps (b, h, w) under CutMix: the partner's inside the box; as they are without CutMix."""
    return maps if inside is None else torch.where(inside, _partners(maps), maps)


def label_now(
    teacher: Labeller, batch: Batch, config: RunConfig | None = None
) -> dict[str, Tensor]:
    """`pool_disparity` and `pool_valid` of a batch that has none: what `pseudo.label` would have
    stored, before rounding to float16.

    The teacher sees the clean image as it is in its source; where the batch has it mirrored, the
    label is mirrored. With `teacher_sees: perturbed` it sees that image with the student's colour
    and blur, the blur as wide in proportion where the teacher's size is another, in 0..1 and not
    rounded to bytes.

    Args:
        teacher: what labels.
        batch: of the step.
        config: of the run; without one the teacher sees clean images.
    """
    flip = batch["pool_flip"][:, None, None]
    if "pool_seen" in batch:
        images = batch["pool_seen"]
    else:
        images = torch.where(flip[:, None], batch["pool_image"].flip(-1), batch["pool_image"])
    if config is not None and config.teacher_sees == "perturbed":
        images = _distorted_for_teacher(config, images, batch)
    maps = unit_range(teacher.predict(images))
    return {
        "pool_disparity": torch.where(flip, maps.flip(-1), maps),
        "pool_valid": torch.isfinite(maps),
    }


def _distorted_for_teacher(config: RunConfig, images: Tensor, batch: Batch) -> Tensor:
    """Unmirrored images of the teacher's size with what the student's have of colour and blur, in
    0..1; both commute with mirroring."""
    own = batch["pool_image"]
    drawn = _draw(config, Stream.POOL_PERTURBATION, batch["pool_position"], config.perturb, own)
    if drawn.sigma is not None:
        drawn = replace(drawn, sigma=drawn.sigma * (images.shape[-2] / own.shape[-2]))
    return perturb.distort(_unit(images), drawn)
