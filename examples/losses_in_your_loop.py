"""The paper's three losses in a training loop of your own, on a network of your own.

    python examples/losses_in_your_loop.py --steps 40

Change `Network` (yours returns disparity, and its encoder's deepest features) and `labelled_batch`
(yours reads your data). The losses stay as they are.
"""

import argparse
import copy

import torch
from torch import Tensor, nn

from dalib import affine_invariant, cutmix_unlabelled, feature_alignment, losses
from dalib.data import perturb

HEIGHT, WIDTH = 48, 64


class Network(nn.Module):
    """Any network will do. Larger output is nearer; scale and shift are free."""

    def __init__(self) -> None:
        super().__init__()
        first, second = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.encoder = nn.Sequential(first, nn.ReLU(), second)
        last = nn.Conv2d(32, 1, 3, padding=1)
        self.decoder = nn.Sequential(nn.ReLU(), nn.Upsample(scale_factor=2), last)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(images)  # (b, 32, h / 2, w / 2)
        return self.decoder(features)[:, 0], features


def labelled_batch(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Images (b, 3, h, w) in 0..1, disparity (b, h, w), and where it is known (b, h, w).

    Made up: smooth shapes, brighter where they are nearer, in the colour of the light.
    """
    coarse = torch.rand(count, 1, 5, 6, generator=generator)
    disparity = nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear")
    light = 0.4 + 0.6 * torch.rand(count, 3, 1, 1, generator=generator)
    noise = 0.05 * torch.randn(count, 3, HEIGHT, WIDTH, generator=generator)
    known = torch.rand(count, HEIGHT, WIDTH, generator=generator) < 0.9
    return (light * disparity + noise).clamp(0, 1), disparity[:, 0], known


def student_losses(student, teacher, frozen, images: Tensor, step: int) -> dict[str, Tensor]:
    """L_u (eq. 8) and L_feat (eq. 9) of images without labels."""
    # The teacher labels the clean images; the student sees them strongly perturbed. A key for each
    # image decides what happens to it, so that every run of this script is the same.
    target = teacher(images)[0].detach()
    keys = [(0, step, place) for place in range(len(images))]
    drawn = perturb.draw(keys, ("colour", "blur", "cutmix"), height=HEIGHT, width=WIDTH)
    images, inside = perturb.apply(images, drawn)

    # In its CutMix box each image shows its partner, whose label therefore holds there. Images are
    # partners two by two: 0 and 1, 2 and 3, ... Without "cutmix" above, leave both words out.
    partner = perturb.partner(len(images))
    pred, features = student(images)
    unlabelled = cutmix_unlabelled(pred, target, target_inside=target[partner], inside=inside)

    # The student's features stay near those of a frozen, pre-trained encoder.
    alignment = feature_alignment(features, frozen(images), margin=0.85)
    return {"unlabelled": unlabelled.mean(), "feat": alignment.mean()}


def fit(network: Network, steps: int, more_losses=lambda images, step: {}) -> float:
    """Your own loop. Returns the loss on images that were not trained on."""
    generator = torch.Generator().manual_seed(2)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for step in range(steps):
        images, disparity, known = labelled_batch(4, generator)
        photographs, *_ = labelled_batch(8, generator)  # their labels are thrown away
        parts = {"labelled": affine_invariant(network(images)[0], disparity, known).mean()}  # eq. 1
        loss = losses.total(parts | more_losses(photographs, step))  # their average
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    images, disparity, known = labelled_batch(64, torch.Generator().manual_seed(1))
    return affine_invariant(network(images)[0], disparity, known).mean().item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=40, help="of teacher and student each")
    steps = parser.parse_args().steps
    torch.manual_seed(0)
    teacher, student = Network(), Network()
    frozen = copy.deepcopy(student.encoder)  # stands for your pre-trained encoder, such as DINOv2
    print(f"before: loss on new images {fit(student, 0):.4f}")
    print(f"teacher: loss on new images {fit(teacher, steps):.4f}")
    learned = fit(student, steps, lambda *batch: student_losses(student, teacher, frozen, *batch))
    print(f"student: loss on new images {learned:.4f}")
