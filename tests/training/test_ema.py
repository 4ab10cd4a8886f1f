"""The moving average of a run's weights: its rule by hand, where it ends up, and that it resumes to
the same bits."""

import json

import numpy as np
import pytest
import torch
from helpers.training import Interruption, Smooth, interrupt_at, pairs, quiet
from numpy.testing import assert_allclose
from safetensors.torch import load_file
from torch import nn

from dalib.config import RunConfig
from dalib.errors import ConfigError
from dalib.models import build, load
from dalib.training import checkpoint, launch
from dalib.training.ema import Average, decay_at
from dalib.training.train import train


class Two(nn.Module):
    """One weight, and a count that nothing averages."""

    def __init__(self, value):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([float(value)]))
        self.register_buffer("count", torch.tensor(0))

    def become(self, value, count):
        with torch.no_grad():
            self.weight.fill_(value)
        self.count.fill_(count)


def test_the_decay_by_hand():
    """1/2, 2/3, 3/4, then never above its limit."""
    assert_allclose([decay_at(k, decay=0.7) for k in (1, 2, 3, 100)], [1 / 2, 2 / 3, 0.7, 0.7])
    assert decay_at(999, decay=0.9999) == 0.999
    assert decay_at(5, decay=0.0) == 0


def test_three_steps_by_hand():
    """With weights 1, 3, 8, 2 and a limit of 0.6: (1 + 3) / 2 = 2, then 0.6 x 2 + 0.4 x 8 = 4.4,
    then 0.6 x 4.4 + 0.4 x 2 = 3.44. The count is the last one."""
    model = Two(1)
    average = Average(model, decay=0.6)
    seen = []
    for step, value in enumerate((3, 8, 2), 1):
        model.become(value, 10 * step)
        average.update(model, step=step)
        seen.append(average.state_dict()["weight"].item())
    assert_allclose(seen, [2, 4.4, 3.44], rtol=1e-6)
    assert average.state_dict()["count"] == 30
    assert model.weight.item() == 2


def test_below_its_limit_it_is_the_plain_mean():
    model = Two(1)
    average = Average(model, decay=0.99)
    for step, value in enumerate((3, 8, 2), 1):
        model.become(value, 0)
        average.update(model, step=step)
    assert_allclose(average.state_dict()["weight"].item(), (1 + 3 + 8 + 2) / 4, rtol=1e-6)


def test_worn_and_taken_off():
    """Also where the block fails; the network's own bits are there again."""
    model = Two(0.1)
    average = Average(model, decay=0.5)
    model.become(0.7, 3)
    own = model.weight.detach().clone()
    seen = []

    def fail():
        with average.worn_by(model):
            seen.append(model.weight.item())
            raise Interruption

    with pytest.raises(Interruption):
        fail()
    assert seen == pytest.approx([0.1])
    assert torch.equal(model.weight, own)
    assert model.count == 3


class Spied(torch.optim.AdamW):
    """Notes the weights of the decoder's last layer after each step, and before the first."""

    weights: list

    def step(self, closure=None):
        last = self.param_groups[1]["params"][-1]
        if not self.weights:
            self.weights.append(last.detach().numpy().copy())
        done = super().step(closure)
        self.weights.append(last.detach().numpy().copy())
        return done


@pytest.mark.slow
def test_a_run_ends_with_the_average(tmp_path, tiny, monkeypatch):
    """By the rule in float64 from the weights that the optimiser made; the raw ones beside it."""
    weights = []
    monkeypatch.setattr(torch.optim, "AdamW", type("Spy", (Spied,), {"weights": weights}))
    out = tmp_path / "averaged"
    averaged = load(train(tiny.replace(ema=0.6), out=out, labelled=Smooth(), report=quiet))
    expected = weights[0].astype(np.float64)
    for step, now in enumerate(weights[1:], 1):
        d = min(0.6, 1 - 1 / (step + 1))
        expected = d * expected + (1 - d) * now
    assert len(weights) == 1 + tiny.steps
    name = [n for n, _ in averaged.decoder.named_parameters()][-1]
    assert_allclose(averaged.decoder.get_parameter(name).detach(), expected, rtol=1e-5)

    # the raw ones are those of the run without
    raw = load_file(out / "model_raw.safetensors")
    plain = train(tiny, out=tmp_path / "plain", labelled=Smooth(), report=quiet)
    assert not (tmp_path / "plain" / "model_raw.safetensors").exists()
    without = load_file(plain)
    assert raw.keys() == without.keys()
    assert all(torch.equal(raw[k], without[k]) for k in raw)
    assert load(out / "model_raw.safetensors").architecture == averaged.architecture
    moved = load_file(out / "model.safetensors")
    assert any(not torch.equal(raw[k], moved[k]) for k in raw)

    # of the teacher's earlier stages, too: after 2 of 6 steps (w0 + w1 + w2 weighted 0.6, 0.4)
    early = load(out / "at_one_third.safetensors").decoder.get_parameter(name).detach()
    first = (weights[0] + weights[1]) / 2
    assert_allclose(early, 0.6 * first + 0.4 * weights[2], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 5])
def test_it_resumes_to_the_same_bits(step, tmp_path, tiny):
    config = tiny.replace(ema=0.9)
    given = {"labelled": Smooth(), "stamp": "s"}
    whole = train(config, out=tmp_path / "whole", report=quiet, **given).read_bytes()
    with pytest.raises(Interruption):
        train(config, out=tmp_path / "cut", report=interrupt_at(step), **given)
    seen = []
    assert train(config, out=tmp_path / "cut", report=seen.append, **given).read_bytes() == whole
    assert seen[0].startswith(f"step {step}/")


@pytest.mark.slow
def test_a_checkpoint_without_an_average_is_not_gone_on_with(tmp_path, tiny):
    """It would begin anew in the middle; the one before it serves."""
    config = tiny.replace(ema=0.9)
    with pytest.raises(Interruption):
        train(config, out=tmp_path, labelled=Smooth(), report=interrupt_at(5))
    latest = checkpoint.found(tmp_path)[0]
    state = torch.load(latest, weights_only=True)
    del state["average"]
    torch.save(state, latest)
    seen = []
    train(config, out=tmp_path, labelled=Smooth(), report=seen.append)
    assert "step-000000004.pt: unreadable" in seen[0]
    assert seen[1].startswith("step 3/")


def test_the_setting(tiny):
    assert tiny.replace(ema=0.999).hash() != tiny.hash()
    assert tiny.replace(ema=0.0).hash() == tiny.hash()
    with pytest.raises(ConfigError, match=r"ema: 1\.0 would keep the first weights"):
        tiny.replace(ema=1.0)
    with pytest.raises(ConfigError, match=r"ema: -0\.1 is not at least 0"):
        tiny.replace(ema=-0.1)


def test_a_students_teacher_has_one_too(tiny_student):
    assert tiny_student.replace(ema=0.9).teacher_run().ema == 0.9


@pytest.mark.slow
def test_two_processes_keep_the_average_of_one(tmp_path, monkeypatch):
    """On a folder, which any process can open by name: the average, and the validation that scores
    it, as in one process, up to rounding."""
    name = f"depth:{pairs(tmp_path / 'pairs', count=8)}"
    config = RunConfig(
        labelled=(name,),
        validation=(name,),
        height=64,
        width=96,
        steps=4,
        batch=4,
        log_every=1,
        encoder_lr=1e-6,
        ema=0.5,
        validate_every=2,
        validation_images=3,
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    networks, scores = [], []
    for processes in (1, 2):
        monkeypatch.setenv("DALIB_RUNS", str(tmp_path / str(processes)))
        path = launch.ensure_weights(config, processes=processes, report=quiet)
        networks.append(load(path).state_dict())
        lines = (path.parent / "validation.jsonl").read_text().splitlines()
        scores.append([json.loads(line) for line in lines])
    start = build("lite0", seed=0).state_dict()
    moved = sum((networks[0][k] - start[k]).abs().sum() for k in start)
    apart = sum((networks[0][k] - networks[1][k]).abs().sum() for k in start)
    assert moved > 0.1
    assert apart < 0.02 * moved
    assert [line["step"] for line in scores[1]] == [2, 4]
    for one, two in zip(*scores, strict=True):
        assert one.keys() == two.keys()
        assert_allclose(list(one.values()), list(two.values()), rtol=1e-3)
