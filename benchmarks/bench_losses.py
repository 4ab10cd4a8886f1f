"""The affine-invariant loss, batched, against the same loss image by image. Run by hand: python
benchmarks/bench_losses.py"""

import torch
from timing import medians, report

from dalib.losses import affine_invariant

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
for images, height, width in ((24, 96, 128), (8, 518, 518)):
    pred, target = torch.rand(2, images, height, width, generator=generator)
    valid = torch.rand(images, height, width, generator=generator) > 0.1

    def batched(pred=pred, target=target, valid=valid):
        leaf = pred.clone().requires_grad_()
        affine_invariant(leaf, target, valid).mean().backward()

    def loop(pred=pred, target=target, valid=valid):
        leaf = pred.clone().requires_grad_()
        losses = []
        for p, t, v in zip(leaf, target, valid, strict=True):
            a, b = (x[v] - x[v].median() for x in (p, t))
            losses.append((a / a.abs().mean() - b / b.abs().mean()).abs().mean())
        torch.stack(losses).mean().backward()

    found = medians({"batched": batched, "per-image loop": loop})
    report(
        f"affine-invariant loss and gradient, {images} x {height} x {width}",
        found,
        against="batched",
    )
