"""Predictions for images of any size, and the scores of a whole source."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from dalib.errors import ConfigError
from dalib.evaluation.measure import measure, one_size
from dalib.evaluation.metrics import METRICS
from dalib.evaluation.protocols import SCALE, Protocol, score
from dalib.models.depth_anything import refuse_other_kinds
from dalib.models.sizes import network_size, resize_disparity, resize_images

Predict = Callable[[list[Tensor]], Sequence[Tensor]]
"""Images uint8 (3, H, W) of any sizes -> one disparity map (h, w) each, best at the image's
size."""


def check_disparity(model: nn.Module) -> None:
    """A `ConfigError` for a network of depth, metric or relative: it would be fitted as if it were
    disparity; and for one of classes.

    In metres far is large, in disparity near is. The fit would turn the map round by a scale below
    zero and bend it besides, so that a perfect map of metres would get a poor score that looks like
    any other. A network says what it predicts by its `kind`; of one that does not, a part with a
    `max_depth` says it.
    """
    refuse_other_kinds(model)
    kind = getattr(model, "kind", None)
    metric = any(getattr(part, "max_depth", None) is not None for part in model.modules())
    if kind == "disparity" or (kind is None and not metric):
        return
    raise ConfigError(
        "this network predicts depth in metres (its max_depth is set), and what is scored here is "
        "disparity up to scale and shift:"
        " load a network of relative depth, or score 1 / depth (dalib.evaluate: kind depth)"
    )


def predict_images(
    model: nn.Module,
    images: Sequence[UInt8[Tensor, "3 _ _"]],
    *,
    short_side: int,
    batch_size: int = 16,
) -> list[Float[Tensor, "_ _"]]:
    """Disparity of each image, see `predict_maps`.

    Raises:
        ConfigError: a network of metric depth, see `check_disparity`.
    """
    check_disparity(model)
    return predict_maps(model, images, short_side=short_side, batch_size=batch_size)


@torch.inference_mode()
def predict_maps(
    model: nn.Module,
    images: Sequence[UInt8[Tensor, "3 _ _"]],
    *,
    short_side: int,
    batch_size: int = 16,
    to_size: Callable[[Tensor, tuple[int, int]], Tensor] = resize_disparity,
) -> list[Shaped[Tensor, "_ _"]]:
    """What a network gives for each image, disparity or metres, at the image's own size, float32 on
    the CPU, in the order given.

    Images of one size share batches. The model's mode is put back afterwards.

    Args:
        model: normalised images (B, 3, h, w) -> maps (B, h, w), alone or first in a tuple, with the
            attributes `mean`, `std` (of 3 values) and `multiple`.
        images: of any sizes.
        short_side: of the network's input, see `network_size`.
        batch_size: images at a time.
        to_size: what makes maps (B, H, W) of the images' size from the network's float32 output.
    """
    mean, std = (torch.as_tensor(x).view(3, 1, 1) for x in (model.mean, model.std))
    device = next((p.device for p in model.parameters()), mean.device)
    mean = mean.to(device)
    std = std.to(device)
    groups = defaultdict(list)
    result = [torch.empty(0, 0)] * len(images)
    training = model.training
    for i, image in enumerate(images):
        groups[tuple(image.shape[-2:])].append(i)
    model.eval()
    try:
        for size, members in groups.items():
            inner = network_size(*size, short_side=short_side, multiple=model.multiple)
            for start in range(0, len(members), batch_size):
                chosen = members[start : start + batch_size]
                batch = torch.stack([images[i] for i in chosen]).to(device)
                batch = (resize_images(batch, inner) - mean) / std
                output = model(batch.contiguous(memory_format=torch.channels_last))
                output = output[0] if isinstance(output, tuple) else output
                maps = to_size(output.float(), size).cpu()
                for i, own in zip(chosen, maps, strict=True):
                    result[i] = own
    finally:
        model.train(training)
    return result


def floor(kind: Callable[[int, int], Tensor]) -> Predict:
    """A floor (see `dalib.evaluation.floors`) as something to hand to `evaluate_source`."""
    return lambda images: [kind(*image.shape[-2:]) for image in images]


def evaluate_source(
    predict: Predict,
    source: Any,
    protocol: Protocol,
    *,
    batch_size: int = 16,
    kind: str = "disparity",
    names: Sequence[str] = METRICS,
) -> dict[str, list]:
    """Per-image metrics over a whole source with ground truth.

    A prediction of another size than the ground truth is resized to it bilinearly, unless the
    protocol says otherwise. Images are read `batch_size` at a time, so that memory does not grow
    with the source.

    Args:
        predict: gives the maps.
        source: samples with ground truth.
        protocol: by which they are scored, its alignment included.
        batch_size: images at a time.
        kind: of the maps, one of `dalib.evaluation.measure.KINDS`.
        names: the metrics, of `ALL_METRICS`; what is neither disparity nor aligned in it may have
            more than `METRICS`.

    Returns:
        `names`, for each metric a list of floats in the same order, ready for a record, and
        `scale`, the one that was fitted to each image. NaN stands for an image of which no pixel
        counts; `mean_over_images` leaves those out.

    Raises:
        ValueError: a prediction that is NaN or infinite where it is scored; the message names the
            image.
    """
    result: dict[str, list] = {"names": [], **{key: [] for key in names}}
    for start in range(0, len(source), batch_size):
        samples = [source[i] for i in range(start, min(start + batch_size, len(source)))]
        maps = predict([sample["image"] for sample in samples])
        for i, (sample, disparity) in enumerate(zip(samples, maps, strict=True), start=start):
            name = str(sample.get("name", i))
            target = sample["disparity"][None]
            valid = sample["valid"][None]
            given = disparity[None].to(target.device)
            given, target, valid = one_size(given, target, valid, protocol)
            try:
                if kind == "disparity" and protocol.align == "disparity":
                    metrics = score(given, target, valid, protocol)
                else:
                    found = measure(given, target, valid, protocol, kind=kind, names=names)
                    metrics = {name: found[name] for name in (*names, SCALE)}
            except ValueError as error:
                raise ValueError(f"{sample['domain']}, image {name!r}: {error}") from error
            result["names"].append(name)
            for key, value in metrics.items():
                result.setdefault(key, []).append(value.item())
    return result


def mean_over_images(values: Sequence[float]) -> float:
    """The mean over the images that have a score; NaN where none has."""
    return torch.tensor(values, dtype=torch.float64).nanmean().item()
