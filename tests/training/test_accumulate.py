"""A step in parts: the same images, the same losses and the same gradient as in one piece."""

import inspect
import json
import re

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from helpers.training import Smooth, quiet
from numpy.testing import assert_allclose
from torch import nn

from dalib.config import RunConfig
from dalib.data.mixture import Mixture, check_shares
from dalib.errors import ConfigError, TrainingError
from dalib.models import build
from dalib.training.step import shares, step_losses
from dalib.training.teacher import Teacher
from dalib.training.train import _total, train

STUDENT = RunConfig(
    height=64,
    width=96,
    steps=2,
    batch=4,
    log_every=1,
    encoder_lr=1e-6,
    pseudo_labels=True,
    perturb=("colour", "blur", "cutmix"),
    align="unlabelled",
    frozen_sees="clean",
    labelling="online",
)


def run(config, out, monkeypatch):
    """Metrics of a student's steps, and its gradients in the first one before they are clipped."""
    gradients = []
    clip = Accelerator.clip_grad_norm_

    def remember(self, parameters, *args, **kwargs):
        parameters = list(parameters)
        gradients.append([p.grad.clone() for p in parameters])
        return clip(self, parameters, *args, **kwargs)

    monkeypatch.setattr(Accelerator, "clip_grad_norm_", remember)
    teacher = Teacher(build("lite0", seed=3), height=64, width=96)
    train(
        config,
        out=out,
        labelled=Smooth(),
        unlabelled=Smooth(count=10, seed=1, labelled=False),
        teacher=teacher,
        report=quiet,
    )
    monkeypatch.undo()
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").open()]
    return metrics, gradients[0]


class Each(nn.Module):
    """Disparity and features of each image by itself, to the same bits in any batch."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.2, 0.5, 0.3]))
        self.mixing = nn.Parameter(torch.eye(3) + 0.3)

    @staticmethod
    def normalise(images):
        return images

    def forward(self, images):
        disparity = sum(self.weight[c] * images[:, c] for c in range(3))
        pooled = F.avg_pool2d(images, 16)
        features = torch.stack(
            [sum(row[c] * pooled[:, c] for c in range(3)) for row in self.mixing], 1
        )
        return disparity, features


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gradient_weight": 2.0, "drop": 0.1, "cutmix_regions": "together", "align": "both"},
        {"perturb_labelled": ("colour",), "drop": 0.2, "drop_unit": "region", "align": "labelled"},
    ],
)
def test_the_gradient_is_that_of_the_whole_batch(changes, parts):
    """Of a network that treats each image by itself, so that nothing but the order of sums is
    left."""
    config = STUDENT.replace(margin=1.0, **changes)
    labelled, pool = Smooth(), Smooth(count=10, seed=1)
    batch = Mixture(config=config, labelled=labelled, unlabelled=pool)[0]
    seen = torch.stack([pool[int(i)]["disparity"] for i in batch["pool_index"]])
    flip = batch["pool_flip"][:, None, None]
    batch["pool_disparity"] = torch.where(flip, seen.flip(-1), seen)
    batch["pool_valid"] = torch.ones_like(batch["pool_disparity"], dtype=torch.bool)
    frozen = lambda images: [F.avg_pool2d(images.flip(1), 16)]  # noqa: E731

    def gradient(parts):
        network = Each()
        for part in shares(batch, parts):
            found = inspect.unwrap(step_losses)(config, network, network, frozen, part)
            (_total(config, found) / parts).backward()
        return torch.cat([p.grad.flatten() for p in network.parameters()]).double()

    whole, split = gradient(1), gradient(parts)
    assert whole.abs().min() > 0
    assert (split - whole).norm() < 1e-6 * whole.norm()


@pytest.mark.slow
def test_a_run_in_parts_has_the_losses_of_one_in_one_piece(tmp_path, monkeypatch):
    """Of a real network, whose convolutions round otherwise in another batch; where that turns the
    sign of a pixel's error, its share of the gradient turns: 2e-4 of the norm here."""
    metrics, whole = run(STUDENT, tmp_path / "one", monkeypatch)
    again, split = run(STUDENT.replace(accumulate=2), tmp_path / "two", monkeypatch)
    for key in metrics[0]:
        assert_allclose(*([m[key] for m in log] for log in (again, metrics)), rtol=1e-4)
    apart = sum(((a - b) ** 2).sum() for a, b in zip(split, whole, strict=True)) ** 0.5
    length = sum((b**2).sum() for b in whole) ** 0.5
    assert 0 < apart < 2e-3 * length


def test_a_part_has_its_share_of_everything_and_pairs_stay_together():
    mixture = Mixture(
        config=STUDENT,
        labelled=Smooth(),
        unlabelled=Smooth(count=10, seed=1, labelled=False),
    )
    batch = mixture[0]
    parts = list(shares(batch, 4))
    assert [len(part["image"]) for part in parts] == [1] * 4
    assert [len(part["pool_image"]) for part in parts] == [2] * 4
    for name in batch:
        assert torch.equal(torch.cat([part[name] for part in parts]), batch[name])


def test_all_images_of_a_bad_step_are_named_whichever_part_they_are_in(tmp_path):
    """A rate of 1e37 ruins the weights in step 0."""
    config = RunConfig(height=64, width=96, steps=3, batch=4, accumulate=4, decoder_lr_factor=1.0)
    config = config.replace(encoder_lr=1e37)
    ids = Mixture(config=config, labelled=Smooth())[1]["index"].tolist()
    with pytest.raises(TrainingError, match=f"at step 1 .*{re.escape(str(ids))}"):
        train(config, out=tmp_path, labelled=Smooth(), report=quiet)
    assert (tmp_path / "failed" / "step-000000001.pt").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"accumulate": 3}, r"accumulate: 8 images a step \(batch\) cannot be split into 3 equal"),
        ({"batch": 2, "accumulate": 4}, r"accumulate: 2 images a step \(batch\)"),
        (
            {"batch": 2, "unlabelled_ratio": 1, "accumulate": 2, "pseudo_labels": True}
            | {"perturb": ("cutmix",)},
            r"accumulate: 2 images a step \(pool\).*CutMix pairs",
        ),
    ],
)
def test_parts_that_cannot_be_equal(values, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig(**values)


def test_processes_and_parts_share_the_batch_together():
    config = RunConfig(batch=8, accumulate=4)
    check_shares(config, 2)
    with pytest.raises(ConfigError, match=r"8 images .* by 4 processes in 4 parts each"):
        check_shares(config, 4)
