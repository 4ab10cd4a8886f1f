"""All of a protocol on a batch: which pixels count, alignment in the right space, clamp, metrics;
for predictions of disparity, of depth or of its logarithm.

Scale and shift are fitted in the space in which the prediction is known up to them. A relative
disparity a / z + b is a straight line of the true disparity 1 / z, and of nothing else: its
reciprocal is z / (a + b z), which is bent, and infinite at z = -a / b. So a prediction is brought to
the space of its alignment only where that is exact, and refused with the reason otherwise. A public
package fits disparity to depth and gives a perfect disparity network an AbsRel of 0.747; here such a
network has 0.

The same holds the other way round, and cannot be seen in the numbers: depth that is known up to a
shift (Marigold's) belongs into the alignment `depth`, and its reciprocal into none. Depth up to a
scale (MoGe's, or metric networks') may be aligned in any space.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dalib.config import check_names
from dalib.errors import ConfigError
from dalib.evaluation.align import ALIGNMENTS, Alignment, Groups, check_finite, check_shapes, fit
from dalib.evaluation.metrics import ALL_METRICS, LOG_BIAS, PIXELS, by_depth, depth_metrics
from dalib.evaluation.protocols import PROTOCOLS, SCALE, Protocol, limits, scored
from dalib.models.sizes import resize_disparity

KINDS = ("disparity", "depth", "log_depth")
"""What a prediction is. Disparity is up to scale and shift, unless the alignment fits less: with
`none` it is 1 / metres, with `median` and `scale` it is up to scale. Depth and its natural logarithm
are likewise what the alignment leaves open."""
SHIFT = "shift"
"""Key of the shift that was fitted to each image, beside `SCALE`."""


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """A batch after alignment, ready for any metric of depth.

    Attributes:
        pred: float64 (B, H, W), depth in the unit of the truth, above 0; 1 where nothing counts.
        target: float64 (B, H, W), true depth; 1 where nothing counts.
        scored: bool (B, H, W), the pixels that count.
        scale, shift: float64 (B,), what was fitted, in the space of the alignment; NaN for an image
            of which no pixel counts.
    """

    pred: Float[Tensor, "B H W"]
    target: Float[Tensor, "B H W"]
    scored: Bool[Tensor, "B H W"]
    scale: Float[Tensor, " B"]
    shift: Float[Tensor, " B"]


def measure(
    pred: Float[Tensor, "B H W"],
    target_disparity: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    protocol: Protocol | str,
    *,
    kind: str = "disparity",
    alignment: str | None = None,
    names: Sequence[str] = ALL_METRICS,
    groups: Groups | None = None,
) -> dict[str, Float[Tensor, " B"]]:
    """Score predictions of any kind by a protocol::

        found = measure(depth, truth, valid, "kitti_eigen_652", kind="depth", alignment="none")
        print(summarise(found)["abs_rel"])

    For predictions of disparity aligned in disparity, the default, the values are those of
    `dalib.evaluation.score`, bit by bit.

    Args:
        pred: of the kind that is named, of any precision, of the size of the truth.
        target_disparity: in 1/m or proportional to it; 0 (sky) never counts.
        valid: where there is ground truth.
        protocol: its name or your own.
        kind: one of `KINDS`.
        alignment: one of `ALIGNMENTS` in place of the protocol's own, which makes it another
            protocol (`Protocol.with_alignment`).
        names: the metrics, of `ALL_METRICS`.
        groups: for each image the sequence that it belongs to, which has one fit for all its
            frames; None for a fit to each image.

    Returns:
        float64 (B,) for each of `names`, NaN for an image of which no pixel counts; and, for
        `summarise` and for whoever looks for inverted predictions, `SCALE`, `SHIFT`, `PIXELS` and
        `LOG_BIAS`. A scale below zero has near and far the wrong way round.

    Raises:
        ConfigError: an unknown protocol, kind, alignment or metric, or an alignment that this kind
            cannot have.
        ValueError: as `aligned_depth`.
    """
    protocol = _protocol(protocol)
    found = aligned_depth(
        pred, target_disparity, valid, protocol, kind=kind, alignment=alignment, groups=groups
    )
    wanted = dict.fromkeys((*names, LOG_BIAS))
    metrics = depth_metrics(found.pred, found.target, found.scored, names=tuple(wanted))
    count = found.scored.flatten(1).sum(1).double()
    return metrics | {SCALE: found.scale, SHIFT: found.shift, PIXELS: count}


def measure_by_depth(
    pred: Float[Tensor, "B H W"],
    target_disparity: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    protocol: Protocol | str,
    *,
    edges: Sequence[float | int],
    kind: str = "disparity",
    alignment: str | None = None,
    names: Sequence[str] = ALL_METRICS,
    groups: Groups | None = None,
) -> dict[str, Float[Tensor, "B bins"]]:
    """The same apart for near and far: one fit to all pixels that count, then the metrics of the
    pixels in each bin of true depth (`dalib.evaluation.metrics.by_depth`)."""
    found = aligned_depth(
        pred,
        target_disparity,
        valid,
        _protocol(protocol),
        kind=kind,
        alignment=alignment,
        groups=groups,
    )
    return by_depth(found.pred, found.target, found.scored, edges=edges, names=names)


def aligned_depth(
    pred: Float[Tensor, "B H W"],
    target_disparity: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    protocol: Protocol | str,
    *,
    kind: str = "disparity",
    alignment: str | None = None,
    groups: Groups | None = None,
) -> Aligned:
    """Predictions as depth in the unit of the truth, aligned and clamped as a protocol says; for
    metrics of your own. Arguments as for `measure`.

    Raises:
        ConfigError: as `measure`.
        ValueError: shapes that are not three times (B, H, W); a prediction that is NaN or infinite
            where it is scored, or ground truth that is so where it is valid; a prediction of depth
            that is not above 0 where its reciprocal or logarithm is needed.
    """
    protocol = _protocol(protocol)
    check_names([kind], KINDS, what="kind of prediction")
    name = protocol.align if alignment is None else alignment
    check_names([name], ALIGNMENTS, what="alignment")
    how = ALIGNMENTS[name]
    check_kind(kind, how)

    # which pixels count
    check_shapes(pred, target_disparity, valid)
    check_finite("target", torch.where(valid, target_disparity, 0).flatten(1))
    counts = scored(target_disparity, valid, protocol)
    check_finite("prediction", torch.where(counts, pred, 0).flatten(1))
    target = target_disparity.double().masked_fill(~counts, 1)
    least, most = limits(target, counts, protocol)

    # fit, where both are in the space of the alignment
    space = kind if how.space is None else how.space
    given = _brought(pred.double().masked_fill(~counts, 1), kind, space)
    scale, shift = fit(given, _truth(target, space), counts, how, groups=groups)
    fitted = scale[:, None, None] * given + shift[:, None, None]

    # back to depth, through disparity where the fit was there: what is beyond infinity is far
    if space == "disparity":
        held = torch.minimum(fitted, most) if _both_ends(how, protocol) else fitted
        depth = 1 / torch.where(counts, torch.maximum(held, least), 1)
    else:
        depth = fitted.exp() if space == "log_depth" else fitted
        depth = torch.where(counts, torch.clamp(depth, min=1 / most, max=1 / least), 1)
    empty = ~counts.flatten(1).any(1)
    return Aligned(
        pred=depth,
        target=1 / target,
        scored=counts,
        scale=scale.masked_fill(empty, torch.nan),
        shift=shift.masked_fill(empty, torch.nan),
    )


def one_size(
    pred: Float[Tensor, "B h w"],
    target_disparity: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    protocol: Protocol | str,
) -> tuple[Float[Tensor, "B h2 w2"], Float[Tensor, "B h2 w2"], Bool[Tensor, "B h2 w2"]]:
    """Prediction, truth and mask of one size, as the protocol's `resize` says; maps that have one
    already are returned as they are.

    "prediction, bilinear" brings the prediction to the truth, in the space that it is in: bilinear
    depth and bilinear disparity are not the same, and papers differ. "truth, nearest" brings truth
    and mask to the prediction, each pixel from the nearest one; nothing is mixed over edges or
    holes, but most of the truth is never looked at where it is the larger one.
    """
    protocol = _protocol(protocol)
    if protocol.resize == "prediction, bilinear":
        size = tuple(target_disparity.shape[-2:])
        return resize_disparity(pred, size), target_disparity, valid
    size = tuple(pred.shape[-2:])
    if tuple(target_disparity.shape[-2:]) == size:
        return pred, target_disparity, valid
    rows, columns = (
        ((torch.arange(new) + 0.5) * old / new).long().clamp(max=old - 1)
        for new, old in zip(size, target_disparity.shape[-2:], strict=True)
    )
    return pred, *(x[:, rows][:, :, columns] for x in (target_disparity, valid))


def check_kind(kind: str, alignment: Alignment) -> None:
    """A `ConfigError` where predictions of this kind cannot be brought to the space of an alignment
    exactly."""
    bent = alignment.space in ("depth", "log_depth") and alignment.parameters == "scale_shift"
    if kind == "disparity" and bent:
        raise ConfigError(
            f"alignment {alignment.name!r} fits scale and shift in "
            f"{alignment.space.replace('_', ' ')}, and the prediction is disparity: known up to a "
            "shift, its reciprocal is no depth up to scale and shift, and even a perfect one would "
            "score badly. Align in disparity (disparity, robust); or, if the values are depth after "
            "all, say so by the kind"
        )


def _both_ends(how: Alignment, protocol: Protocol) -> bool:
    """Whether predictions in disparity are held to the near end, too."""
    return protocol.clamp == "range" or how.space is None


def _brought(x: Float[Tensor, "B H W"], kind: str, space: str) -> Float[Tensor, "B H W"]:
    """A prediction in the space of its alignment; 1 (of its own kind) where nothing counts."""
    if kind == space:
        return x
    if kind == "log_depth":
        return x.exp() if space == "depth" else (-x).exp()
    bad = (x <= 0).flatten(1).any(1)
    if bad.any():
        other = {"disparity": "disparity", "depth": "depth", "log_depth": "logarithm"}[space]
        hint = (
            "a map up to scale and shift needs an alignment that fits both"
            if kind == "disparity"
            else "correct it, or name the kind that it is"
        )
        raise ValueError(
            f"prediction of {kind} is not above 0 at scored pixels of images "
            f"{bad.nonzero().flatten().tolist()}, so it has no {other}: {hint}"
        )
    return x.log() if space == "log_depth" and kind == "depth" else 1 / x


def _truth(disparity: Float[Tensor, "B H W"], space: str) -> Float[Tensor, "B H W"]:
    if space == "disparity":
        return disparity
    return 1 / disparity if space == "depth" else -disparity.log()


def _protocol(protocol: Protocol | str) -> Protocol:
    if isinstance(protocol, Protocol):
        return protocol
    check_names([protocol], PROTOCOLS, what="protocol")
    return PROTOCOLS[protocol]
