"""The paper's training preset on a processor: the same settings with a narrow ViT of the same
shape, small images and two steps."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT
from helpers.training import Smooth
from numpy.testing import assert_allclose
from safetensors.torch import load_file, save_file

from dabook.runs.experiments import expand
from dalib import losses
from dalib.data.mixture import Concat, Mixture
from dalib.errors import ConfigError, TrainingError
from dalib.models import build, load
from dalib.training import launch, pseudo
from dalib.training import train as training
from dalib.training.given import pin
from dalib.training.step import label_now, step_losses
from dalib.training.teacher import Teacher
from dalib.training.train import train

SHRUNK = {"encoder": "vitt", "pretrained": False, "height": 28, "width": 42, "batch": 1, "steps": 2}
# what never changes a result
FREE = {"compile": False, "workers": 0, "checkpoint_every": 1, "log_every": 1}


@pytest.fixture
def config(monkeypatch):
    """The profile's last row, shrunk."""
    monkeypatch.setenv("DALIB_ROOT", str(ROOT))
    return expand("main_table", profile="gpu")["full"].configs[0].replace(**SHRUNK, **FREE)


@pytest.fixture(scope="module")
def pool():
    return Smooth(count=10, seed=1, labelled=False)


def quiet(_):
    pass


def run(config, out, *, report=quiet):
    """Train on `Smooth` sources, labelled in the step by an untrained teacher where there is a
    pool; weights as bytes."""
    extra = {}
    if config.pseudo_labels:
        extra = {
            "unlabelled": Smooth(count=10, seed=1, labelled=False),
            "teacher": Teacher(build("vitt", pretrained=False, seed=3), **config.size),
        }
    return train(config, out=out, labelled=Smooth(), report=report, **extra).read_bytes()


def metrics(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


class Spy(torch.optim.AdamW):
    """Notes the learning rates of each step."""

    rates: list

    def step(self, closure=None):
        self.rates.append([g["lr"] for g in self.param_groups])
        return super().step(closure)


class Interruption(Exception):  # noqa: N818  (no error: a test's kill)
    pass


def at_the_second_step(line):
    """A report that stops the student, not its teacher, between a step and its checkpoint."""
    if line.startswith("step 2/"):
        raise Interruption


@pytest.mark.slow
def test_teacher_and_student_by_the_profile(config, monkeypatch, runs, tmp_path):
    """Teacher, its labels in each step, student with everything on; 5e-6 for encoders and 5e-5 for
    decoders, decaying.

    The student is interrupted once, and ends with the same bits as one that was not.
    """
    assert (config.precision, config.gradient_checkpointing, config.labelling) == (
        "bf16",
        True,
        "online",
    )
    assert (config.perturb, config.align) == (("colour", "blur", "cutmix"), "unlabelled")
    pool = Smooth(count=10, seed=1, labelled=False)
    monkeypatch.setattr(
        launch, "sources", lambda c: (Concat(Smooth()), Concat(pool) if c.pseudo_labels else None)
    )
    monkeypatch.setattr(Spy, "rates", [], raising=False)
    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    with pytest.raises(Interruption):
        launch.ensure_weights(config, report=at_the_second_step)
    assert_allclose(Spy.rates, 2 * [[5e-6, 5e-5], [2.5e-6, 2.5e-5]])
    seen = []
    student = launch.ensure_weights(config, report=seen.append)
    assert [line.split(" ")[1] for line in seen] == ["2/2"]
    teacher = runs / config.teacher_run().hash() / "model.safetensors"
    assert not list(teacher.parent.glob("pseudo-*"))  # nothing was stored
    common = {"step", "loss", "labelled", "grad_norm", "lr_encoder", "lr_decoder"}
    assert metrics(teacher.parent)[0].keys() == common
    assert metrics(student.parent)[0].keys() == common | {"unlabelled", "feat"}
    # each begins at the weights of its own seed and moves by its rates: 1 + 1/2 of them
    for path, seed in ((teacher, config.teacher_run().seed), (student, config.seed)):
        start = build("vitt", pretrained=False, seed=seed).state_dict()
        moved = {k: (v - start[k]).abs().max().item() for k, v in load(path).state_dict().items()}
        for part, rate in (("encoder", 5e-6), ("decoder", 5e-5)):
            most = max(v for k, v in moved.items() if k.startswith(part))
            assert rate < most < 1.5 * rate * 1.02  # Adam's first steps are as long as the rate
    whole = train(
        config,
        out=tmp_path / "whole",
        labelled=Smooth(),
        unlabelled=pool,
        teacher=Teacher(load(teacher), **config.size),
        report=quiet,
    )
    assert whole.read_bytes() == student.read_bytes()
    assert metrics(whole.parent) == metrics(student.parent)


# labels made in the step


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_labels_of_the_step_are_the_stored_ones(precision, config, pool, tmp_path):
    """Up to float16's rounding, half of 2^-11 just below 1, for images as they are and mirrored
    ones."""
    config, size = config.replace(batch=4), {"height": 28, "width": 42}
    teacher = build("vitt", pretrained=False, seed=3)
    batch = Mixture(config=config, labelled=Smooth(), unlabelled=pool)[1]
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        pseudo.label(teacher, pool, out=tmp_path, teacher="t", **size)
        pseudo.finish(tmp_path, teacher="t", source=pool, **size)
        made = label_now(teacher, batch)
    stored = Mixture(
        config=config, labelled=Smooth(), unlabelled=pool, pseudo=pseudo.PseudoLabels(tmp_path)
    )[1]
    assert "pool_disparity" not in batch
    assert torch.equal(batch["pool_image"], stored["pool_image"])
    assert 0 < batch["pool_flip"].sum() < len(batch["pool_flip"])
    assert stored["pool_disparity"].std((1, 2)).min() > 0.05
    slack = 1e-5 if precision == "no" else 1e-2  # batches of other sizes round otherwise
    assert (made["pool_disparity"] - stored["pool_disparity"]).abs().max() <= 2**-12 + slack
    assert torch.equal(made["pool_valid"], stored["pool_valid"])


def test_someone_must_label(config, pool, tmp_path):
    class Labels:
        def get_batch(self, indices):
            pytest.fail("asked for labels of a run that is refused")

    teacher = Teacher(build("vitt", pretrained=False), **config.size)
    for both in ({}, {"teacher": teacher, "pseudo": Labels()}):
        with pytest.raises(TrainingError, match="either pseudo or teacher"):
            train(config, out=tmp_path, labelled=Smooth(), unlabelled=pool, **both)


# precision, checkpointing, compilation: the same run


def gradients(config, pool):
    """Loss, gradients, and bytes that the forward pass of the student's step keeps for the backward
    pass."""
    student = build("vitt", pretrained=False, seed=0).train()
    student.encoder.net.set_grad_checkpointing(config.gradient_checkpointing)
    batch = Mixture(config=config, labelled=Smooth(), unlabelled=pool)[0]
    batch |= label_now(build("vitt", pretrained=False, seed=3), batch)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel() * t.element_size()) or t, lambda t: t
    ):
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            parts = step_losses(
                config,
                student,
                student,
                training.frozen_encoder(config).requires_grad_(False),
                batch,
            )
        loss = losses.total(parts, {})
    loss.backward()
    return loss.item(), {k: p.grad for k, p in student.named_parameters()}, sum(kept)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_checkpointing_changes_memory_and_nothing_else(precision, config, pool):
    config = config.replace(precision=precision)
    loss, grads, kept = gradients(config, pool)
    other, plain, more = gradients(config.replace(gradient_checkpointing=False), pool)
    assert loss == other
    # DistributedDataParallel need not look for unused parameters
    assert all(g is not None for g in plain.values())
    for name, g in plain.items():
        assert_allclose(grads[name], g, rtol=1e-4, atol=1e-5 * float(g.abs().max()), err_msg=name)
    assert kept < 0.5 * more


def test_bfloat16_keeps_the_map(config, pool):
    """Before the last convolution was taken out of bfloat16, a new decoder's map had six distinct
    values and other losses."""
    network = build("vitt", pretrained=False, seed=0).eval()
    images = network.normalise(torch.stack([pool[i]["image"][:, :56, :84] for i in range(2)]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = network(images)[0]
    exact = network(images)[0].detach()
    valid = torch.ones_like(exact, dtype=torch.bool)
    assert rough.dtype == torch.float32
    assert rough[0].unique().numel() > 1000
    assert losses.affine_invariant(rough, exact, valid).max() < 0.1


COMPILED = """
import json, sys, torch
from pathlib import Path
sys.path.insert(0, {here!r})
from helpers.training import Smooth
from dalib.config import RunConfig
from dalib.models import build
from dalib.training.given import pin
from dalib.training.teacher import Teacher
from dalib.training.train import train

compile, parts = torch.nn.Module.compile, []

def trace(self, **options):
    parts.append(type(self).__name__)
    compile(self, backend="aot_eager", **options)

def stop(line):
    if line.startswith("step 2/"):
        raise InterruptedError

def run(config, out, report=str):
    teacher = Teacher(build("vitt", pretrained=False, seed=3), **config.size)
    pool = Smooth(count=10, seed=1, labelled=False)
    train(config, out=out, labelled=Smooth(), unlabelled=pool, teacher=teacher, report=report)

torch.nn.Module.compile = trace
config, out = RunConfig.from_dict(json.loads({config!r})), Path({out!r})
run(config, out / "plain")
try:
    run(config, out / "compiled", report=stop)
except InterruptedError:
    run(config.replace(compile=True), out / "compiled")
counted = torch._dynamo.utils.counters
found = [parts, counted["stats"]["unique_graphs"], dict(counted["graph_break"])]
(out / "counted.json").write_text(json.dumps(found))
"""


@pytest.mark.slow
def test_compiled_parts_run_the_same_steps(config, tmp_path):
    """Traced for forward and backward, with checkpointing, but not turned into machine code, which
    takes a minute.

    The compiled run goes on from a checkpoint of one that was not. A process of its own, because
    tests check types at run time.
    """
    config = config.replace(precision="no", steps=3)
    text = COMPILED.format(
        here=str(ROOT / "tests"), config=json.dumps(config.to_dict()), out=str(tmp_path)
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", text], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    parts, graphs, breaks = json.loads((tmp_path / "counted.json").read_text())
    # student, frozen encoder, teacher
    assert parts == 12 * ["Block"] + ["DPT"] + 24 * ["Block"] + ["DPT"]
    # these 38 share a block with gradients, without, and in inference, and two decoders
    assert graphs == 5
    assert not breaks
    assert [m["step"] for m in metrics(tmp_path / "compiled")] == [1, 2, 3]
    for key in ("loss", "labelled", "unlabelled", "feat", "grad_norm"):
        found, expected = (
            [m[key] for m in metrics(tmp_path / name)] for name in ("compiled", "plain")
        )
        assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=key)
    names = [load_file(tmp_path / x / "model.safetensors").keys() for x in ("compiled", "plain")]
    assert names[0] == names[1]


# weights of the encoder from a file


@pytest.mark.slow
def test_encoder_weights_start_the_student_and_the_frozen_copy(config, tmp_path):
    """The student's encoder after a step at a rate of 1e-30, and the frozen one, are what the file
    holds; so L_feat is nearly 0."""
    source = build("vitt", pretrained=False, seed=9).encoder.net
    save_file(
        {k: v.contiguous() for k, v in source.state_dict().items()}, tmp_path / "dinov2.safetensors"
    )
    config = config.replace(
        encoder_weights=str(tmp_path / "dinov2.safetensors"),
        encoder_lr=1e-30,
        steps=1,
        precision="no",
        margin=1.0,
    )
    config = pin(config)
    run(config, tmp_path / "run")
    trained = load(tmp_path / "run" / "model.safetensors").encoder.net.state_dict()
    frozen = training.frozen_encoder(config).net.state_dict()
    for name, value in source.state_dict().items():
        assert_allclose(trained[name], value, rtol=0, atol=1e-20, err_msg=name)
        assert torch.equal(frozen[name], value), name
    assert abs(metrics(tmp_path / "run")[0]["feat"]) < 1e-6
    assert config.hash() != config.replace(encoder_weights="").hash()


def test_encoder_weights_are_for_vits(config, tmp_path):
    with pytest.raises(ConfigError, match="ViTs only"):
        run(config.replace(encoder="lite0", encoder_weights="x.pth", height=64, width=64), tmp_path)


def test_a_batch_of_the_profile_carries_no_labels(config, pool):
    """Images, flips and places; 1 : 2."""
    batch = Mixture(config=config, labelled=Smooth(), unlabelled=pool)[0]
    assert {k for k in batch if k.startswith("pool_")} == {
        "pool_image",
        "pool_flip",
        "pool_index",
        "pool_position",
    }
    assert len(batch["pool_image"]) == 2 * len(batch["image"])
    assert batch["image"].dtype == torch.uint8
    assert np.array_equal(batch["pool_position"], np.arange(2))
