"""Depth up to scale and shift as the target: its labels and loss by hand, its scores, and that
nothing takes it for disparity."""

import numpy as np
import pytest
import torch
from helpers.training import Smooth, quiet
from numpy.testing import assert_allclose
from torch.nn import DataParallel

import dalib
from dalib.config import RunConfig
from dalib.data import scenes
from dalib.errors import CheckpointError, ConfigError
from dalib.evaluation import suite
from dalib.evaluation.metrics import METRICS
from dalib.evaluation.protocols import PROTOCOLS, SCALE
from dalib.models import build, export, save
from dalib.models.depth_anything import restore
from dalib.models.inference import optimise
from dalib.predict.run import Predictor
from dalib.training import launch, tasks
from dalib.training.teacher import Teacher

torch.set_num_threads(1)
DEPTH = RunConfig(task="depth", height=32, width=48, test_images=2, labelled_images=4)


@pytest.fixture
def network():
    return build("lite0", pretrained=False, seed=0, relative_depth=True)


def test_labels_by_hand():
    """Of 1, 2 and 4 metres with sky and a hole: the quantile .98 lies 96 % of the way from 2 to 4."""
    disparity = torch.tensor([[[1.0, 0.5], [0.25, 0.0], [7.0, 0.0]], [[0.0] * 2] * 3])
    valid = torch.tensor([[[True, True], [True, True], [False, False]], [[True] * 2] * 3])
    depth, counts = tasks.held_depth(disparity, valid)
    assert counts[0].tolist() == [[True, True], [True, False], [False, False]]
    assert not counts[1].any()
    assert_allclose(depth[0][counts[0]], [1, 2, 3.92], rtol=1e-6)
    assert depth.isfinite().all()


def test_loss_by_hand():
    """Depths 1, 2, 3.92: median 2, mean deviation 2.92 / 3. The prediction 0, 1, 2 has deviations
    -1, 0, 1 of mean 2/3. Disparity itself would be the wrong way round."""
    disparity = torch.tensor([[[1.0, 0.5, 0.25, 0.0]]])
    batch = {"disparity": disparity, "valid": torch.ones(1, 1, 4, dtype=torch.bool)}
    task = tasks.of(DEPTH)
    loss = task.loss(torch.tensor([[[0.0, 1.0, 2.0, 50.0]]]), batch)
    s = 2.92 / 3
    expected = (abs(-1.5 + 1 / s) + 0 + abs(1.5 - 1.92 / s)) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert task.loss(1 / disparity.clamp_min(0.1) * 3 + 1, batch) < 0.05
    assert task.loss(disparity, batch) > 1


def test_a_perfect_network_of_depth_has_no_error_and_one_of_disparity_has(monkeypatch, network):
    """Scored as depth, up to scale and shift, with METRICS and the sign of the scale."""
    truths = {}

    def materialise(*, split, count, height, width):
        source = Smooth(count=count, seed=len(str(split)), height=height, width=width)
        for sample in source:
            truths[sample["image"].numpy().tobytes()] = sample["disparity"].clamp_min(0.1)
        return source

    real = ("near", "table", Smooth(count=2, height=20, width=30), PROTOCOLS["relative"])
    for sample in real[2]:
        truths[sample["image"].numpy().tobytes()] = sample["disparity"].clamp_min(0.1)
    monkeypatch.setattr(suite, "real_domains", lambda: [real])
    monkeypatch.setattr(scenes, "materialise", materialise)

    def perfect(model, images, *, short_side, **_):
        return [3 + 2 / truths[image.numpy().tobytes()] for image in images]

    def bent(model, images, *, short_side, **_):
        return [3 + 2 * truths[image.numpy().tobytes()] for image in images]

    monkeypatch.setattr(suite, "predict_maps", perfect)
    found = suite.evaluate(network, DEPTH)
    assert list(found["images"]) == [*scenes.TEST_DOMAINS, "validation"]
    for scores in (*found["images"].values(), found["real"]["near"]):
        assert_allclose(scores["abs_rel"], [0, 0], atol=1e-4)
        assert_allclose(scores[SCALE], [0.5, 0.5], rtol=1e-3)
    assert found["images"]["validation"].keys() == {*METRICS, SCALE}
    assert found["real"]["near"].keys() == {"half", "names", *METRICS, SCALE}

    monkeypatch.setattr(suite, "predict_maps", bent)
    inverted = suite.evaluate(network, DEPTH)["images"]["validation"]
    assert max(inverted[SCALE]) < 0
    assert min(inverted["abs_rel"]) > 0.02


def test_each_is_scored_as_what_it_is(network):
    with pytest.raises(ConfigError, match="predicts disparity, and what is scored here is depth"):
        suite.evaluate(build("lite0", pretrained=False, seed=0), DEPTH)
    with pytest.raises(ConfigError, match="predicts depth up to scale and shift"):
        suite.evaluate(network, RunConfig())


def test_its_file_says_so_and_is_read_by_its_own_run_alone(tmp_path, network):
    path = tmp_path / "depth.safetensors"
    other = tmp_path / "disparity.safetensors"
    save(network, path)
    save(build("lite0", pretrained=False, seed=0), other)
    again = tasks.of(DEPTH).restore(path)
    assert again.kind == "relative_depth"
    assert tasks.kind_of(again) == "depth"
    images = Smooth(count=1)[0]["image"][None]
    assert torch.equal(again.predict(images), network.predict(images))
    with pytest.raises(CheckpointError, match="holds no network of depth up to scale and shift"):
        tasks.of(DEPTH).restore(other)
    for read in (restore, dalib.load, tasks.of(RunConfig()).restore):
        with pytest.raises(CheckpointError, match="predicts depth up to scale and shift"):
            read(path)
    # the others' files say nothing new
    assert "relative_depth" not in restore(other).architecture
    with pytest.raises(ConfigError, match="relative_depth: contradicts max_depth"):
        build("lite0", pretrained=False, relative_depth=True, max_depth=10.0)


@pytest.mark.parametrize("wrapped", [False, True])
def test_nothing_takes_it_for_disparity(tmp_path, network, wrapped):
    if wrapped:
        inner, network = network, DataParallel(network)
        network.mean, network.std, network.multiple = inner.mean, inner.std, inner.multiple
    source = Smooth(count=2)
    calls = {
        "evaluate": lambda: dalib.evaluate(network, source),
        "teacher": lambda: Teacher(network, height=64, width=96),
    }
    if not wrapped:  # these take no wrapper
        size = {"height": 64, "width": 96}
        calls |= {
            "label": lambda: dalib.label(network, source, out=tmp_path, **size),
            "predict": lambda: Predictor(model=network),
            "inference": lambda: optimise(network),
            "export": lambda: export.export_program(network),
        }
    for call in calls.values():
        with pytest.raises(ConfigError, match="predicts depth up to scale and shift"):
            call()


@pytest.mark.slow
def test_a_run_learns_depth(tiny, launched, runs):
    """What it predicts rises with depth, where the same run of disparity falls."""
    signs = []
    for task in ("depth", "disparity"):
        config = tiny.replace(task=task, steps=20, encoder_lr=1e-4)
        model = tasks.of(config).restore(launch.ensure_weights(config, report=quiet))
        sample = Smooth()[3]
        pred = model.predict(sample["image"][None])[0].numpy()
        depth = 1 / sample["disparity"].clamp_min(0.1).numpy()
        seen = sample["valid"].numpy()
        signs.append(np.corrcoef(pred[seen], depth[seen])[0, 1])
    assert signs[0] > 0.2
    assert signs[1] < -0.2
