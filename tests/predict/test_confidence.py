"""Confidence: views come back to their places, tables are monotone and true, curves by hand, and a
calibration belongs to its network."""

import json

import numpy as np
import pytest
import torch
from helpers.commands import main
from helpers.networks import Brightness
from numpy.testing import assert_allclose
from PIL import Image

from dalib import models
from dalib.errors import ConfigError, DataError
from dalib.evaluation.metrics import depth_metrics
from dalib.evaluation.protocols import PROTOCOLS, score
from dalib.predict import Calibration, Predictor, disagreement, observe, read_png16
from dalib.predict.confidence import (
    VIEWS,
    Observations,
    area,
    nearness,
    reliability,
    sparsification,
    views,
)
from dalib.predict.prepare import Prepared


def plain(seed=0, height=32, width=48):
    coarse = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]


def runner(model=None):
    return Predictor(model=model or Brightness(pair=False), short_side=32, batch=2, device="cpu")


# ---- views


def test_every_view_comes_back_to_its_place():
    """A network that says each pixel's own red: what comes back lies over the plain map."""
    image = plain()
    shown = views(image, multiple=8)
    assert tuple(shown) == VIEWS
    for name in ("mirrored", "right", "left", "larger"):
        seen, undo = shown[name]
        back = undo(seen[0])
        there = back.isfinite()
        assert there.float().mean() > 0.7
        assert_allclose(back[there], image[0][there], atol=0 if name != "larger" else 0.05)
    assert shown["larger"][0].shape[-2:] == (40, 64), "a quarter larger, in multiples"
    step = 32 // 8
    assert shown["right"][1](image[0])[-step:].isnan().all()
    assert shown["left"][1](image[0])[:step].isnan().all()
    assert bool(
        (shown["darker"][0].mean() < image.mean()) & (image.mean() < shown["lighter"][0].mean())
    )


def test_a_network_that_agrees_with_itself_and_one_that_does_not():
    class Handed(Brightness):
        """Nearer where red, and wrong on the left by its sight of the mirror."""

        def forward(self, images):
            found = super().forward(images).clone()
            found[..., :8] += 0.5
            return found

    item = Prepared(name="a", image=plain(), size=(32, 48))

    def apart(run):
        (found,) = disagreement(run, [item], run([item]))
        return found

    same, handed = apart(runner()), apart(runner(Handed(pair=False)))
    assert same[:, 8:40].mean() < 0.03, "only the darker and lighter views differ, a little"
    assert handed[:, :8].mean() > 3 * handed[:, 16:32].mean()


def test_scale_and_shift_of_a_view_are_no_disagreement():
    class Drunk(Brightness):
        """Another scale and shift each time it is asked."""

        asked = 0

        def forward(self, images):
            self.asked += 1
            return self.asked * super().forward(images) + 7 * self.asked

    item = Prepared(name="a", image=plain(), size=(32, 48))
    sober, drunk = runner(), runner(Drunk(pair=False))
    expected = disagreement(sober, [item], sober([item]))[0]
    assert_allclose(disagreement(drunk, [item], drunk([item]))[0], expected, atol=1e-4)


def test_a_constant_map_disagrees_nowhere():
    class Wall(Brightness):
        def forward(self, images):
            return torch.ones_like(super().forward(images))

    run = runner(Wall(pair=False))
    item = Prepared(name="a", image=plain(), size=(32, 48))
    assert disagreement(run, [item], run([item]))[0].abs().max() == 0
    assert nearness(torch.ones(3, 4)).abs().max() == 0
    metric = runner()
    metric.kind = "depth_m"
    with pytest.raises(ConfigError, match="not of metres"):
        disagreement(metric, [item], [plain()[0]])


# ---- curves


def test_sparsification_by_hand():
    error = np.array([1.0, 2.0, 3.0, 4.0])
    weight = np.ones(4)
    out, best = sparsification(error, error, weight, steps=20)
    kept = {0.0: 2.5, 0.25: 2.0, 0.5: 1.5, 0.75: 1.0}  # mean of the smallest errors
    for share, mean in kept.items():
        assert best[np.argmin(np.abs(out - share))] == pytest.approx(mean / 2.5)
    assert area(error, error, weight) == 0
    assert area(-error, error, weight) > area(np.array([1, 2, 4, 3.0]), error, weight) > 0
    # a weight of two is a pixel twice
    twice = sparsification(np.array([1.0, 2.0, 2.0]), np.array([5.0, 1.0, 1.0]), np.ones(3))
    once = sparsification(np.array([1.0, 2.0]), np.array([5.0, 1.0]), np.array([1.0, 2.0]))
    assert once[1][0] == twice[1][0] == 1
    assert once[1][-1] == pytest.approx(twice[1][-1])


def test_reliability_by_hand():
    said = np.array([0.1, 0.1, 0.9, 0.9])
    right = np.array([0, 0, 1, 0])
    middle, seen, error = reliability(said, right, np.ones(4), bins=2)
    assert middle.tolist() == pytest.approx([0.1, 0.9])
    assert seen.tolist() == [0, 0.5]
    assert error == pytest.approx((0.1 + 0.4) / 2)


# ---- calibration


def made(count=40, pixels=200, seed=0, useful=True):
    """Errors that grow with the score, or that have nothing to do with it."""
    rng = np.random.default_rng(seed)
    total = count * pixels
    apart = rng.gamma(2, 0.02, total)
    near = rng.uniform(0, 1, total)
    size = apart / (near + 0.05) if useful else rng.gamma(2, 0.1, total)
    error = np.abs(rng.normal(0, 1, total)) * size
    return Observations(
        disagreement=apart,
        nearness=near,
        error=error,
        within=error < 0.25,
        image=np.repeat(np.arange(count), pixels),
        place=np.tile(np.arange(pixels), count),
        names=tuple(map(str, range(count))),
    )


def test_a_calibration_is_monotone_and_true_on_others():
    run = runner()
    fit = Calibration.fit(made(), run=run, about={"data": "made"})
    assert fit.common < 0.1, "here the disagreement says everything"
    assert list(fit.confidence) == sorted(fit.confidence, reverse=True)
    assert list(fit.error) == sorted(fit.error)
    other = made(seed=1)
    said = np.interp(other.score(fit.common), fit.scores, fit.confidence)
    assert reliability(said, other.within, other.weight)[2] < 0.02
    assert fit.about == {"images": 40, "pixels": 8000, "data": "made"}


def test_where_nothing_can_be_told_it_says_the_mean():
    seen = made(useful=False)
    fit = Calibration.fit(seen, run=runner())
    inner = np.array(fit.confidence)
    assert inner.max() - inner.min() < 0.12
    assert np.mean(inner) == pytest.approx(seen.within.mean(), abs=0.03)


def test_it_is_read_back_and_belongs_to_its_network(tmp_path):
    run = runner()
    fit = Calibration.fit(made(), run=run)
    fit.save(tmp_path / "c.json")
    read = Calibration.read(tmp_path / "c.json")
    assert read == fit
    read.check(run)
    disparity, apart = plain()[0], plain(1)[0] / 10
    assert_allclose(read.confidences(disparity, apart), fit.confidences(disparity, apart))
    assert (
        0
        <= read.confidences(disparity, apart).min()
        <= read.confidences(disparity, apart).max()
        <= 1
    )
    smaller = Predictor(model=Brightness(pair=False), short_side=64, device="cpu")
    with pytest.raises(ConfigError, match="of a short side of 32, not 64; take --short-side 32"):
        read.check(smaller)
    with pytest.raises(ConfigError, match="of another network"):
        read.check(runner(models.build("lite0", seed=0)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "other"}, "is no calibration"),
        ({"floor": 0.5}, "made by another version"),
        ({"views": ["mirrored"]}, "made by another version"),
        ({"scores": [1, 2]}, "damaged tables"),
        ({"error": ["x"]}, "damaged"),
        ({"confidence": None}, "damaged"),
        ({"extra": 1}, "damaged"),
    ],
)
def test_damaged_calibrations(tmp_path, change, words):
    Calibration.fit(made(), run=runner()).save(tmp_path / "c.json")
    facts = json.loads((tmp_path / "c.json").read_text()) | change
    (tmp_path / "c.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match=words):
        Calibration.read(tmp_path / "c.json")
    (tmp_path / "c.json").write_text("[")
    with pytest.raises(DataError, match="not readable"):
        Calibration.read(tmp_path / "c.json")


def test_observed_errors_are_those_of_absrel_and_delta1():
    image = (255 * plain(3)).round().to(torch.uint8)
    truth = (0.3 * image[0].float() / 255 + 0.05 + 0.05 * plain(4)[1]).clamp_min(0.02)
    valid = torch.rand(32, 48, generator=torch.Generator().manual_seed(0)) < 0.8
    sample = {"image": image, "disparity": truth, "valid": valid, "name": "x"}
    run = runner()
    seen = observe(run, [sample], PROTOCOLS["relative"], pixels=10**6)
    disparity = run([run.prepare(image)])[0]
    expected = score(disparity[None], truth[None], valid[None], PROTOCOLS["relative"])
    assert len(seen.error) == int(valid.sum())
    assert seen.error.mean() == pytest.approx(float(expected["abs_rel"]))
    assert seen.within.mean() == pytest.approx(float(expected["delta1"]))
    assert set(expected) >= set(depth_metrics(1 / truth[None], 1 / truth[None], valid[None]))
    assert_allclose(seen.place, np.flatnonzero(valid.numpy()))
    few = observe(run, [sample] * 3, PROTOCOLS["relative"], pixels=50)
    assert np.bincount(few.image).tolist() == [50, 50, 50]
    assert few.weight.sum() == pytest.approx(3)
    with pytest.raises(DataError, match="no image has a pixel"):
        observe(run, [sample | {"valid": torch.zeros_like(valid)}], PROTOCOLS["relative"])
    with pytest.raises(DataError, match="3 images with known depth are too few"):
        Calibration.fit(few, run=run)


# ---- the commands


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Twelve pairs, a network, and its calibration made by the command."""
    folder = tmp_path_factory.mktemp("pairs")
    lines = ["image,depth,kind,depth_scale"]
    for k in range(12):
        image = (255 * plain(k, 48, 64)).round().to(torch.uint8)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{k}.png")
        metres = (1000 * (1 + 3 * plain(k, 48, 64)[0])).numpy().round().astype(np.uint16)
        Image.fromarray(metres).save(folder / f"{k}d.png")
        lines.append(f"{k}.png,{k}d.png,depth_m,1000")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    models.save(models.build("lite0", seed=0), folder / "net.safetensors")
    words = ["calibrate", f"depth:{folder}", str(folder / "c.json")]
    words += ["--weights", str(folder / "net.safetensors"), "--short-side", "32", "--device", "cpu"]
    assert main(words) == 0
    return folder


@pytest.mark.slow
def test_calibrate_and_predict_with_it(files, tmp_path, capsys):
    facts = json.loads((files / "c.json").read_text())
    assert facts["about"]["images"] == 12
    assert facts["about"]["data"] == f"depth:{files}"
    words = ["predict", str(files / "0.png"), str(tmp_path / "out"), "--device", "cpu"]
    words += ["--weights", str(files / "net.safetensors"), "--confidence", str(files / "c.json")]
    assert main(words) == 1
    assert "take --short-side 32" in capsys.readouterr().err
    words += ["--short-side", "32"]
    assert main(words) == 0
    values, kind = read_png16(tmp_path / "out" / "0.confidence.png")
    assert kind == "confidence"
    low, high = min(facts["confidence"]), max(facts["confidence"])
    assert low - 1e-4 <= values.min() <= values.max() <= high + 1e-4
    assert (tmp_path / "out" / "0.png").is_file()
    assert main(words) == 0
    assert "0 predicted, 1 kept" in capsys.readouterr().out
    raw = [w if w != str(files / "c.json") else "raw" for w in words]
    assert main(raw) == 1
    assert "holds maps made otherwise (confidence " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": "scenes:fog_nature"}, "is a test split"),
        ({"source": "nowhere"}, "kind of source"),
        ({"--weights": ""}, "--weights: name a file"),
        ({"--protocol": "none"}, "protocol"),
        ({"--count": "3"}, "--count 3: must be at least 10"),
        ({"--seed": "-1"}, "--seed -1: must be"),
        ({"out": ""}, "OUT is empty"),
        ({"--short-side": "0"}, "short_side 0"),
        ({}, "is there already"),
    ],
)
def test_calibrations_that_cannot_be_made(files, tmp_path, capsys, change, words):
    source = change.pop("source", f"depth:{files}")
    out = change.pop("out", str(files / "c.json") if not change else str(tmp_path / "c.json"))
    options = {"--weights": str(files / "net.safetensors"), "--device": "cpu"} | change
    line = ["calibrate", source, out, *(f"{k}={v}" for k, v in options.items())]
    assert main(line) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "c.json").exists()
