"""The paper's losses, one function per equation. All are computed in float32, whatever precision
comes in.

Maps are disparity (b, h, w). Nothing loops over images. An image (or region) without a valid pixel
costs 0 and has zero gradient; a constant map is divided by `EPS` instead of 0. What stands in
invalid pixels never matters, NaN included.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from dalib.errors import ConfigError

EPS = 1e-5  # the smallest scale a map is divided by; gradients of constant maps still fit float16


def median_scale(
    d: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> tuple[Float[Tensor, "b 1 1"], Float[Tensor, "b 1 1"]]:
    """Shift t(d) and scale s(d) of each map over its valid pixels (eq. 3): the median and the mean
    absolute deviation from it.

    For an even count this is the lower of the two middle values, as `torch.median` has it. Empty
    maps give (0, EPS). Invalid pixels may hold anything, NaN included.
    """
    median = d.masked_fill(~valid, torch.nan).flatten(1).nanmedian(1).values  # (b,)
    t = torch.nan_to_num(median)[:, None, None]
    centred = (d - t).masked_fill(~valid, 0)
    return t, _scale(centred, valid)


def _scale(centred: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]) -> Float[Tensor, "b 1 1"]:
    """Mean absolute value of a map that is 0 in its invalid pixels."""
    count = valid.sum((1, 2), keepdim=True).clamp_min(1)
    return (centred.abs().sum((1, 2), keepdim=True) / count).clamp_min(EPS)


def normalise(d: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Each map to shift 0 and scale 1 over its valid pixels (eq. 2); 0 in the others."""
    d = d.float().masked_fill(~valid, 0)
    t, s = median_scale(d, valid)
    return (d - t) * valid / s


def affine_invariant(
    pred: Float[Tensor, "b h w"], target: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> Float[Tensor, " b"]:
    """The affine-invariant loss L_l of each image (eq. 1): mean over valid pixels of
    |normalise(pred) - normalise(target)|.

        loss = affine_invariant(student(images), disparity, valid).mean()

    Args:
        pred: predicted disparity, up to any scale > 0 and shift.
        target: disparity of the ground truth or of the teacher, up to any scale > 0 and shift.
        valid: pixels to compare; pixels where the target is not finite are left out as well.

    Raises:
        ConfigError: the three shapes differ (a broadcast would pool images).
    """
    if not pred.shape == target.shape == valid.shape:
        raise ConfigError(
            f"pred {tuple(pred.shape)}, target {tuple(target.shape)} and valid "
            f"{tuple(valid.shape)} must have one shape"
        )
    valid = valid & torch.isfinite(target)
    error = (normalise(pred, valid) - normalise(target, valid)).abs()
    return error.flatten(1).sum(1) / valid.flatten(1).sum(1).clamp_min(1)


def cutmix_unlabelled(
    pred: Float[Tensor, "b h w"],
    target: Float[Tensor, "b h w"],
    *,
    target_inside: Float[Tensor, "b h w"] | None = None,
    inside: Bool[Tensor, "b h w"] | None = None,
    valid: Bool[Tensor, "b h w"] | None = None,
) -> Float[Tensor, " b"]:
    """The unlabelled loss L_u of each image (eq. 6-8); without CutMix the affine-invariant loss.

    Inside and outside the CutMix box are each normalised by themselves and weighted by their share
    of the valid pixels. `perturb.partner` says whose image fills whose box::

        mixed, inside = perturb.apply(images, drawn)  # drawn: of `perturb.draw`
        loss = cutmix_unlabelled(
            student(mixed), target, target_inside=target[perturb.partner(len(target))], inside=inside
        )

    Args:
        pred: the student's disparity of the mixed image.
        target: the image's own pseudo label, which holds outside the box.
        target_inside: its partner's pseudo label, which holds inside; None without CutMix.
        inside: the box M; all False where an image was not mixed, None without CutMix.
        valid: pixels of the mixed image to compare, all by default; pixels where the label is not
            finite are left out as well.

    Raises:
        ConfigError: shapes differ, or only one of `target_inside` and `inside` is given.
    """
    label = shown(target, target_inside, inside)
    finite = torch.isfinite(label)
    valid = finite if valid is None else valid & finite
    if inside is None:
        return affine_invariant(pred, target, valid)
    weight = region_weights(inside, valid)
    mixed = inside.flatten(1).any(1)
    loss_inside = torch.zeros_like(weight)
    loss_inside[mixed] = affine_invariant(
        pred[mixed], target_inside[mixed], (inside & valid)[mixed]
    )
    loss_outside = affine_invariant(pred, target, ~inside & valid)
    return weight * loss_inside + (1 - weight) * loss_outside


def shown(
    target: Float[Tensor, "b h w"],
    target_inside: Float[Tensor, "b h w"] | None,
    inside: Bool[Tensor, "b h w"] | None,
) -> Float[Tensor, "b h w"]:
    """The label of what shows at each pixel of a mixed image: the partner's inside the box, the
    image's own outside it and without CutMix.

    Raises `ConfigError` where only one of `target_inside` and `inside` is given.
    """
    if (target_inside is None) != (inside is None):
        missing = "inside" if inside is None else "target_inside"
        raise ConfigError(
            f"{missing}: missing; under CutMix give both target_inside and inside, else neither"
        )
    return target if inside is None else torch.where(inside, target_inside, target)


def region_weights(
    inside: Bool[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> Float[Tensor, " b"]:
    """Share of each image's valid pixels that lie inside the rectangle (eq. 8); the outside has the
    rest."""
    return (inside & valid).flatten(1).sum(1) / valid.flatten(1).sum(1).clamp_min(1)


def feature_alignment(
    student: Float[Tensor, "b c h w"], frozen: Float[Tensor, "b c h w"], *, margin: float = 0.85
) -> Float[Tensor, " b"]:
    """The feature alignment loss L_feat of each image (eq. 9): mean over tokens of 1 - cosine,
    where the cosine is below the margin.

        _, features = student(images)
        loss = feature_alignment(features, frozen(images)[-1]).mean()

    Args:
        student: the student encoder's deepest features.
        frozen: those of the frozen pre-trained encoder for the same input; no gradient flows into
            them.
        margin: tolerance margin alpha. A token whose cosine has passed it adds nothing to the sum
            and gets no gradient; the mean stays over all tokens, so that the loss fades as tokens
            get there. 1 keeps every token.
    """
    if student.shape != frozen.shape:
        raise ConfigError(
            f"features of the student {tuple(student.shape)} and of the frozen encoder "
            f"{tuple(frozen.shape)} must have one shape"
        )
    # (b, h, w)
    cosine = F.cosine_similarity(student.float(), frozen.detach().float(), dim=1, eps=EPS)
    return torch.where(cosine < margin, 1 - cosine, 0).flatten(1).mean(1)


def total(
    parts: dict[str, Float[Tensor, ""]], weights: dict[str, float] | None = None
) -> Float[Tensor, ""]:
    """The average of the losses that a run has (section 3.3: L_l, L_u and L_feat), weighted where
    weights are given.

        loss = total({"labelled": l, "unlabelled": u, "feat": f}, {"feat": config.align_weight})
    """
    given = weights or {}
    weights = {name: given.get(name, 1.0) for name in parts}
    return sum(weights[name] * value for name, value in parts.items()) / sum(weights.values())
