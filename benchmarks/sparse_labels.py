"""What makes a training on sparse labels stall: the same short fine-tuning to metres in several ways,
on drawn rooms with labels on 2 % of the pixels, scored on unseen rooms with all of them.

python benchmarks/sparse_labels.py

About two minutes on one core. Leaves `data/benchmarks/sparse_labels.json`, which the page "metric"
shows.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dabook.runs.records import circumstances
from dalib import paths
from dalib.alternatives import LAMBDA, scale_invariant_log
from dalib.data import scenes
from dalib.models import DepthAnything, build
from dalib.writing import write_text

HEIGHT, WIDTH = 64, 96
IMAGES, HELD_OUT = 48, 12
STEPS, BATCH = 60, 4
DENSITY = 0.02
RATE = 1e-4
NEAREST_M = 1e-3
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def ours(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Each image by itself."""
    return scale_invariant_log(pred, target, valid).mean()


def pooled(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """One mean over all valid pixels of the batch, as V2's script has it."""
    error = pred[valid].log() - target[valid].log()
    return (error.square().mean() - LAMBDA * error.mean().square()).sqrt()


def holes_too(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """No mask: holes are taken for the least depth there is."""
    filled = torch.where(valid, target, NEAREST_M)
    return pooled(pred, filled, torch.ones_like(valid))


def blurred(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The sparse map was resized bilinearly, holes as 0, and what is above 0 counts."""
    sparse = torch.where(valid, target, 0)[:, None]
    larger = F.interpolate(sparse, scale_factor=2, mode="bilinear", align_corners=False)
    back = F.interpolate(larger, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)[:, 0]
    return pooled(pred, back, back > 0)


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to train.

    Args:
        name: in words.
        loss: of a step.
        density: share of pixels with a label.
        dense: how many images have all labels instead.
        logit: what the last layer adds under the sigmoid, as that of a relative network does.
        rate: the encoder's; the decoder's is ten times that.
    """

    name: str
    loss: Loss = ours
    density: float = DENSITY
    dense: int = 0
    logit: float = 0.0
    rate: float = RATE


WAYS = (
    Way(name="labels everywhere", density=1.0),
    Way(name="labels on 2 % of the pixels"),
    Way(name="2 %, one mean over the batch (V2's script)", loss=pooled),
    Way(name="2 %, but 8 of 48 images with labels everywhere", dense=8),
    Way(name="the same, one mean over the batch", dense=8, loss=pooled),
    Way(name="2 %, holes not masked", loss=holes_too),
    Way(name="2 %, the sparse map resized bilinearly", loss=blurred),
    Way(name="2 %, the last layer of a relative network kept", logit=12.0),
    Way(name="labels everywhere, the last layer kept", density=1.0, logit=12.0),
    Way(name="2 %, the rates a tenth", rate=RATE / 10),
    Way(name="2 %, the rates a ten-thousandth", rate=RATE / 10_000),
    Way(name="2 %, the rates a hundredfold", rate=RATE * 100),
)


def trained(way: Way, images: Tensor, depth: Tensor) -> tuple[DepthAnything, list[float]]:
    """A network after `STEPS` steps, and the loss of each."""
    generator = torch.Generator().manual_seed(0)
    network = build("lite0", seed=0, max_depth=10.0).train()
    if way.logit:
        torch.nn.init.constant_(network.decoder.head[-2].bias, way.logit)
    rates = (way.rate, 10 * way.rate)
    parts = (network.encoder, network.decoder)
    groups = [{"params": p.parameters(), "lr": r} for p, r in zip(parts, rates, strict=True)]
    optimiser = torch.optim.AdamW(groups)
    density = torch.full((IMAGES,), way.density)
    density[: way.dense] = 1.0
    losses = []
    for step in range(STEPS):
        chosen = torch.randint(0, IMAGES, (BATCH,), generator=generator)
        drawn = torch.rand(BATCH, HEIGHT, WIDTH, generator=generator)
        valid = drawn < density[chosen][:, None, None]
        pred = network(network.normalise(images[chosen]))[0]
        loss = way.loss(pred, depth[chosen], valid)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - step / STEPS)
        optimiser.step()
        losses.append(loss.item())
    return network.eval(), losses


def main() -> None:
    source = scenes.materialise(
        split="labelled_room", count=IMAGES + HELD_OUT, height=HEIGHT, width=WIDTH
    )
    batch = source.get_batch(np.arange(IMAGES + HELD_OUT))
    images, depth = batch["image"], 1 / batch["disparity"]
    truth = depth[IMAGES:]

    def error(pred: Tensor) -> float:
        return round(float(((pred - truth).abs() / truth).mean()), 4)

    lines = []
    for way in WAYS:
        network, losses = trained(way, images[:IMAGES], depth[:IMAGES])
        line = {
            "name": way.name,
            "first": round(float(np.mean(losses[:5])), 4),
            "last": round(float(np.mean(losses[-10:])), 4),
            "abs_rel": error(network.predict(images[IMAGES:])),
        }
        print(
            f"{way.name:50} loss {line['first']:.3f} to {line['last']:.3f}, AbsRel {line['abs_rel']:.3f}"
        )
        lines.append(line)
    constant = depth[:IMAGES].log().mean().exp().expand_as(truth)
    record = {
        **circumstances("commit", "dirty", "created", "device", "versions", "threads"),
        "steps": STEPS,
        "batch": BATCH,
        "constant": error(constant),
        "lines": lines,
    }
    write_text(paths.benchmarks() / "sparse_labels.json", json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
