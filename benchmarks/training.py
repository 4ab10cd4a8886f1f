"""A student's training step and its parts, each against what it stands beside or what it replaced,
in one thread.

python benchmarks/training.py         writes data/benchmarks/training.json, which the book shows

The step against the bare forward and backward of the same networks on the same batch;
pseudo-labelling against the bare forward; and what was taken because it pays, or left because it
does not: channels-last networks, bfloat16, perturbing a batch at once.
"""

import copy
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from timing import keep, medians, report
from torch import nn

from dalib import losses
from dalib.config import RunConfig
from dalib.data import perturb
from dalib.data.catalogue import open_source
from dalib.data.mixture import Concat, Mixture
from dalib.models import build
from dalib.training import pseudo
from dalib.training.step import step_losses
from dalib.training.train import frozen_encoder

ROUNDS, SEED = 15, 0
CONFIG = RunConfig(
    pseudo_labels=True,
    perturb=("colour", "blur", "cutmix"),
    align="unlabelled",
    labelled_images=256,
    unlabelled_images=512,
)
SIZE = {"height": CONFIG.height, "width": CONFIG.width}


def planar(network: nn.Module) -> nn.Module:
    """A copy that works channel by channel in memory, whatever it is given."""
    network = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    network.register_forward_pre_hook(lambda _, inputs: tuple(x.contiguous() for x in inputs))
    return network


def half(network: nn.Module) -> nn.Module:
    """A copy whose forward is in bfloat16 under autocast, as `Accelerator` has it."""
    network = copy.deepcopy(network)
    network.forward = torch.autocast("cpu", torch.bfloat16)(network.forward)
    return network


def labelling(unlabelled: Concat, folder: Path) -> dict[str, float]:
    """Seconds for the pool's pseudo labels, written and with a manifest, and for the teacher's
    forward alone."""
    teacher = build(CONFIG.encoder, seed=1).to(memory_format=torch.channels_last).eval()
    batches = [np.arange(i, i + 32) for i in range(0, len(unlabelled), 32)]
    ready = [
        teacher.normalise(unlabelled.get_batch(b)["image"]).contiguous(
            memory_format=torch.channels_last
        )
        for b in batches
    ]
    number = iter(range(10**6))

    def bare():
        with torch.inference_mode():
            for images in ready:
                teacher(images)

    def label():
        out = folder / str(next(number))
        pseudo.label(teacher, unlabelled, out=out, teacher="t", **SIZE)
        pseudo.finish(out, teacher="t", source=unlabelled, **SIZE)

    return medians(
        {"the teacher's forward alone": bare, "pseudo labels, stored": label}, rounds=5, warmup=1
    )


def steps(mixture: Mixture) -> dict[str, float]:
    """Seconds for one step of a student, as it is, with its networks otherwise, and bare."""
    student = build(CONFIG.encoder, seed=SEED).to(memory_format=torch.channels_last).train()
    frozen = (
        frozen_encoder(CONFIG).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    )
    images = torch.cat([mixture[0]["image"], mixture[0]["pool_image"]])
    images = student.normalise(images).contiguous(memory_format=torch.channels_last)
    pool = images[CONFIG.batch :].contiguous(memory_format=torch.channels_last)
    number = iter(range(10**6))

    def bare():
        with torch.no_grad():
            frozen(pool)
        disparity, features = student(images)
        (disparity.mean() + features.mean()).backward()
        student.zero_grad(set_to_none=True)

    def whole(student, frozen, optimiser):
        batch = mixture[next(number)]
        losses.total(step_losses(CONFIG, student, student, frozen, batch)).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), CONFIG.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    def parts(student, frozen):
        return student, frozen, torch.optim.AdamW(student.parameters(), lr=1e-4, fused=True)

    calls = {
        "bare forward and backward": bare,
        "a student's step": partial(whole, *parts(student, frozen)),
        "with planar networks": partial(whole, *parts(planar(student), planar(frozen))),
        "in bfloat16": partial(whole, *parts(half(student), half(frozen))),
    }
    return medians(calls, rounds=ROUNDS)


def perturbation(mixture: Mixture) -> dict[str, float]:
    """Seconds for distorting the unlabelled images of a batch, at once and one by one."""
    images = mixture[0]["pool_image"].float() / 255
    keys = [(SEED, 7, i) for i in range(len(images))]

    def distort(images, keys):
        return perturb.distort(images, perturb.draw(keys, CONFIG.perturb, **SIZE, strength=1.0))

    def one_by_one():
        return torch.cat(
            [distort(image[None], [key]) for image, key in zip(images, keys, strict=True)]
        )

    return medians(
        {"perturbing a batch": partial(distort, images, keys), "image by image": one_by_one},
        rounds=ROUNDS,
    )


def main() -> None:
    """Measure, print, and write the record."""
    torch.set_num_threads(1)
    labelled = Concat(open_source("scenes:labelled", count=CONFIG.labelled_images, **SIZE))
    unlabelled = Concat(open_source("scenes:unlabelled", count=CONFIG.unlabelled_images, **SIZE))
    with tempfile.TemporaryDirectory() as folder:
        found = {f"pseudo labels of {len(unlabelled)} images": labelling(unlabelled, Path(folder))}
        stored = pseudo.PseudoLabels(Path(folder) / "0", teacher="t", source=unlabelled)
        mixture = Mixture(config=CONFIG, labelled=labelled, unlabelled=unlabelled, pseudo=stored)
        batch = (
            f"{CONFIG.batch} labelled and {CONFIG.batch * CONFIG.unlabelled_ratio} unlabelled "
            "images"
        )
        found[f"one step, {batch}"] = steps(mixture)
        found[f"perturbing {CONFIG.batch * CONFIG.unlabelled_ratio} images"] = perturbation(mixture)
    for title, seconds in found.items():
        report(title, seconds, against=next(iter(seconds)))
    rounded = {
        title: {name: round(s, 5) for name, s in seconds.items()}
        for title, seconds in found.items()
    }
    keep(
        "training",
        {
            "encoder": CONFIG.encoder,
            "weights": "ImageNet",
            **SIZE,
            "seed": SEED,
            "rounds": ROUNDS,
            "seconds": rounded,
        },
    )


if __name__ == "__main__":
    main()
