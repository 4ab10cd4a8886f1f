"""One step of training: from a batch to its losses."""

import torch
from torch import Tensor, nn

from dalib import alternatives, losses
from dalib.config import RunConfig
from dalib.data import perturb
from dalib.models.depth_anything import DepthAnything
from dalib.models.encoder import Encoder
from dalib.training.auxiliary import segmentation
from dalib.training.pseudo import unit_range


def step_losses(
    config: RunConfig,
    model: nn.Module,
    student: DepthAnything,
    frozen: Encoder | None,
    batch: dict,
    step: int,
) -> dict[str, Tensor]:
    """The losses of one step: `labelled` (L_l), and where there are such images `unlabelled` (L_u)
    and `feat` (L_feat).

    Labelled and perturbed unlabelled images go through the network as one batch.

    Args:
        config: of the run.
        model: the student as it is trained: in its wrappers, and perhaps with an auxiliary decoder.
        student: the student itself, for its normalisation.
        frozen: the frozen pre-trained encoder where there is feature alignment.
        batch: what `Mixture` gives, with `pool_` before the names of what belongs to unlabelled
            images.
        step: number of the step.
    """
    n, mask, clean = len(batch["image"]), None, config.frozen_sees == "clean"
    images = batch["image"].float().div_(255)
    undistorted = [images] if clean else []
    if config.perturb_labelled:
        images = perturb.distort(
            images, _draw(config, 8, batch["position"], config.perturb_labelled, images)
        )
    if "pool_image" in batch:
        pool = batch["pool_image"].float().div_(255)
        drawn = _draw(config, 7, batch["pool_position"], config.perturb, pool)
        if clean:
            undistorted.append(perturb.cutmix(pool, drawn)[0])
        pool, mask = perturb.apply(pool, drawn)
        images = torch.cat([images, pool])
    images = student.normalise(images).contiguous(memory_format=torch.channels_last)
    pred, features, *logits = model(images)
    pred = pred.float()
    parts = {"labelled": _labelled(config, pred[:n], batch["disparity"], batch["valid"])}
    if "pool_image" in batch:
        parts["unlabelled"] = _unlabelled(
            config, pred[n:], batch["pool_disparity"], batch["pool_valid"], mask
        )
    if frozen is not None:
        which = {"unlabelled": slice(n, None), "labelled": slice(0, n), "both": slice(None)}[
            config.align
        ]
        if clean:
            images = student.normalise(torch.cat(undistorted)).contiguous(
                memory_format=torch.channels_last
            )
        with torch.no_grad():
            reference = frozen(images[which])[-1]
        parts["feat"] = losses.feature_alignment(
            features[which], reference, margin=config.margin
        ).mean()
    if logits:
        parts["segmentation"] = segmentation(logits[0][n:], mixed(batch["pool_semantics"], mask))
    return parts


def _draw(
    config: RunConfig, stream: int, positions: Tensor, kinds: tuple[str, ...], images: Tensor
):
    keys = [(config.seed, stream, int(p)) for p in positions]
    return perturb.draw(
        keys, kinds, height=images.shape[-2], width=images.shape[-1], strength=config.strength
    )


def _labelled(config: RunConfig, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean over the images. Sources refuse images without valid pixels, so that every one
    counts."""
    if not config.gradient_weight:
        return losses.affine_invariant(pred, target, valid).mean()
    valid = valid & torch.isfinite(target)
    error = alternatives.residual(pred, target, valid)
    return alternatives.map_loss(error, valid, gradient_weight=config.gradient_weight).mean()


def _unlabelled(
    config: RunConfig, pred: Tensor, around: Tensor, valid: Tensor, mask: Tensor | None
) -> Tensor:
    within = None if mask is None else around[perturb.partner(len(around)).to(around.device)]
    valid, together = mixed(valid, mask), config.cutmix_regions == "together"
    if not (config.gradient_weight or config.drop or together):
        return losses.cutmix_unlabelled(
            pred, around, target_inside=within, inside=mask, valid=valid
        ).mean()
    if mask is None:
        within, inside = around, torch.zeros_like(valid)
    else:
        inside = mask
    valid = valid & torch.isfinite(torch.where(inside, within, around))
    error = alternatives.cutmix_residual(pred, within, around, inside, valid, together=together)
    return alternatives.map_loss(
        error,
        valid,
        inside=None if together else inside,
        drop=config.drop,
        drop_unit=config.drop_unit,
        gradient_weight=config.gradient_weight,
    ).mean()


def mixed(maps: Tensor, mask: Tensor | None) -> Tensor:
    """Maps (b, h, w) under CutMix: the partner's inside the mask; as they are where there is no
    mask."""
    return (
        maps
        if mask is None
        else torch.where(mask, maps[perturb.partner(len(maps)).to(maps.device)], maps)
    )


def label_now(teacher: DepthAnything, batch: dict) -> dict[str, Tensor]:
    """`pool_disparity` and `pool_valid` of a batch that has none: what `pseudo.label` would have
    stored, before rounding to float16.

    The teacher sees the clean image as it is in its source; where the batch has it mirrored, the
    label is mirrored.
    """
    flip = batch["pool_flip"][:, None, None]
    images = torch.where(flip[:, None], batch["pool_image"].flip(-1), batch["pool_image"])
    maps = unit_range(teacher.predict(images))
    return {
        "pool_disparity": torch.where(flip, maps.flip(-1), maps),
        "pool_valid": torch.isfinite(maps),
    }
