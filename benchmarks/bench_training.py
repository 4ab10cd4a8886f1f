"""A student's step against the bare forward and backward of the same networks on the same batch, and pseudo-labelling
against the bare forward. Run by hand: python benchmarks/bench_training.py"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from timing import medians, report

from dalib import losses
from dalib.config import RunConfig
from dalib.data.catalogue import open_source
from dalib.data.mixture import Concat, Mixture
from dalib.models import build
from dalib.training import pseudo
from dalib.training.step import step_losses
from dalib.training.train import _frozen

torch.set_num_threads(1)
config = RunConfig(
    pseudo_labels=True,
    perturb=("colour", "blur", "cutmix"),
    align="unlabelled",
    labelled_images=256,
    unlabelled_images=512,
)
size = {"height": config.height, "width": config.width}
labelled = Concat(open_source("scenes:labelled", count=config.labelled_images, **size))
unlabelled = Concat(open_source("scenes:unlabelled", count=config.unlabelled_images, **size))
student = build(config.encoder, seed=0).to(memory_format=torch.channels_last)
frozen = _frozen(config).to(memory_format=torch.channels_last).eval().requires_grad_(False)
optimiser = torch.optim.AdamW(student.parameters(), lr=1e-4, fused=True)

with tempfile.TemporaryDirectory() as folder:
    teacher = build(config.encoder, seed=1).to(memory_format=torch.channels_last).eval()
    count = len(unlabelled)
    batches = [np.arange(i, i + 32) for i in range(0, count, 32)]
    ready = [
        teacher.normalise(unlabelled.get_batch(b)["image"]).contiguous(memory_format=torch.channels_last)
        for b in batches
    ]

    def bare_forward():
        with torch.inference_mode():
            for images in ready:
                teacher(images)

    number = iter(range(10**6))

    def label():
        out = Path(folder) / str(next(number))
        pseudo.label(teacher, unlabelled, out=out, teacher="t", **size)
        pseudo.finish(out, teacher="t", source=unlabelled, **size)

    found = medians({"bare forward": bare_forward, "pseudo-labelling": label}, rounds=5, warmup=1)
    report(f"pseudo labels of {count} images", found, against="bare forward")

    stored = pseudo.PseudoLabels(Path(folder) / "0", teacher="t", source=unlabelled)
    mixture = Mixture(config=config, labelled=labelled, unlabelled=unlabelled, pseudo=stored)
    student.train()
    images = torch.cat([mixture[0]["image"], mixture[0]["pool_image"]])
    images = student.normalise(images).contiguous(memory_format=torch.channels_last)
    pool = images[config.batch :].contiguous(memory_format=torch.channels_last)
    steps = iter(range(10**6))

    def bare_step():
        with torch.no_grad():
            frozen(pool)
        disparity, features = student(images)
        (disparity.mean() + features.mean()).backward()
        student.zero_grad(set_to_none=True)

    def whole_step():
        step = next(steps)
        parts = step_losses(config, student, student, frozen, mixture[step], step)
        losses.total(parts).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), config.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    found = medians({"bare forward and backward": bare_step, "student step": whole_step})
    report("one step of a student, 8 + 16 images of 96 x 128", found, against="bare forward and backward")
