"""The test vectors: as their builder makes them, exact in float32, and right by hand and by other
means than their own reference."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from dalib import paths
from dalib.conformance import files, kind_of, kinds, read
from dalib.conformance import reference as ref
from dalib.conformance.catalogue import KINDS, SCORES
from dalib.conformance.laws import LAWS

FILES = sorted(files.FOLDER.glob("*.json"))
SUBJECTS = [(k, None) for k in KINDS] + [(k, m) for k in SCORES for m in ref.METRICS]


def walk(x, path=()):
    """Every leaf of JSON with its path."""
    if isinstance(x, dict | list):
        for key, value in x.items() if isinstance(x, dict) else enumerate(x):
            yield from walk(value, (*path, key))
    else:
        yield path, x


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the builder's command writes, by a process of its own: types that are checked cost half a
    minute."""
    folder = tmp_path_factory.mktemp("vectors")
    command = [sys.executable, "-m", "dalib.conformance.build", str(folder)]
    subprocess.run(command, check=True, cwd=paths.root(), capture_output=True)
    return {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in folder.glob("*.json")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_files_are_what_the_builder_makes(path, made):
    """Words and inputs to the letter, values to 1e-12: another processor may sum in another order."""
    committed = dict(walk(json.loads(path.read_text(encoding="utf-8"))))
    fresh = dict(walk(made[path.stem]))
    assert committed.keys() == fresh.keys()
    for where, value in committed.items():
        if isinstance(value, int | float) and "inputs" not in where:
            assert value == pytest.approx(fresh[where], rel=1e-12, abs=1e-12), where
        else:
            assert value == fresh[where], where


def test_there_is_a_file_for_every_kind_and_they_are_small(made):
    assert {p.stem for p in FILES} == set(made) == set(kinds()) - set(LAWS)
    assert sum(p.stat().st_size for p in FILES) < 800_000
    assert (files.FOLDER.parent / "LICENSE").read_text().count("Apache License, Version 2.0") == 1


@pytest.mark.parametrize(("kind", "metric"), SUBJECTS)
def test_inputs_are_exact_in_float32(kind, metric):
    """So that what float32 gets wrong is computing, not reading."""
    for vector in read(kind, metric):
        for name, x in vector.inputs.items():
            if not isinstance(x, float) and x.dtype == float:
                single = x.astype(np.float32).astype(float)
                assert np.array_equal(single, x, equal_nan=True), (vector.name, name)


@pytest.mark.parametrize(("kind", "metric"), SUBJECTS)
def test_every_vector_expects_what_is_finite_or_says_that_it_does_not(kind, metric):
    loss = kind_of(kind, metric).gradient
    for vector in read(kind, metric):
        for values in vector.expected.values():
            open_ = ~np.isfinite(values)
            assert not open_.any() or ("empty" in vector.tags and not loss)
        for slope in vector.gradient.values():
            assert np.isfinite(slope).all()
            assert slope.any()


# by hand -----------------------------------------------------------------------------------------


def row(*values):
    return np.array([[values]], dtype=float)


def test_the_affine_invariant_loss_by_hand():
    """0 1 5: median 1, spread 5/3, so -0.6 0 2.4. 0 1 2: -1.5 0 1.5. Errors 0.9 0 0.9."""
    pred, target = row(0, 1, 5, 7, 7, 7), row(0, 1, 2, 9, 9, 9)
    valid = row(1, 1, 1, 0, 0, 0) > 0

    def loss(**options):
        return ref.affine_invariant(pred, target, valid, **options).item()

    assert loss() == pytest.approx(0.6)
    assert loss(divide="all") == pytest.approx(0.3)
    assert loss(error="squared") == pytest.approx(2 * 0.81 / 3)
    assert loss(factor=0.5) == pytest.approx(0.3)
    assert loss(trim=0.34) == pytest.approx(0.45)  # one of three is dropped
    assert loss(normalised="neither") == pytest.approx(1)
    # means 2 and 1, spreads 2 and 2/3: -1 -.5 1.5 against -1.5 0 1.5
    assert loss(shift="mean") == pytest.approx(1 / 3)
    # medians of 0 1 5 0 0 0 and of 0 1 2 0 0 0 are 0; spreads 2 and 1: 0 .5 2.5 against 0 1 2
    assert loss(shift="zeros") == pytest.approx(1 / 3)


def test_the_regions_by_hand():
    """Inside 1 of 4 pixels costs 0; outside as above by a map of three: 3/4 of 0.6."""
    pred, target = row(0, 1, 5, 3), row(0, 1, 2, 8)
    inside, partner = row(0, 0, 0, 1) > 0, row(9, 9, 9, 1)

    def loss(**options):
        return ref.cutmix(pred, target, partner, inside, inside | True, **options).item()

    assert loss() == pytest.approx(0.45)
    assert loss(weights="equal") == pytest.approx(0.3)
    assert loss(weights="none") == pytest.approx(0.6)
    assert loss(weights="swapped") == pytest.approx(0.15)


def test_the_feature_alignment_by_hand():
    """Cosines 1, 0.6 and 0 under a margin of 0.5, 0.85 and 1.1."""
    frozen = np.array([[[[1.0, 1, 1]], [[0, 0, 0]]]])
    student = np.array([[[[2.0, 3, 0]], [[0, 4, 5]]]])

    def loss(margin, **options):
        return ref.feature_alignment(student, frozen, margin, **options).item()

    assert loss(0.5) == pytest.approx(1 / 3)
    assert loss(0.85) == pytest.approx(1.4 / 3)
    assert loss(0.85, divide="kept") == pytest.approx(0.7)
    assert loss(0.85, keep="above") == pytest.approx(0)
    assert loss(0.85, dropped="one") == pytest.approx(2.4 / 3)
    assert loss(0.5, margin_on="batch") == pytest.approx(0)  # the mean is 0.533
    assert loss(0.85, normalised="neither") == pytest.approx(1 / 3)  # 1 - 0; the others pass it


def test_scale_and_shift_by_hand():
    """2 p + 1, and disparities 1, 1/2, 1/4 against depths 1, 2, 4."""
    valid = row(1, 1, 1) > 0
    scale, shift = ref.aligner(row(1, 2, 4), row(3, 5, 9), valid)
    assert (scale.item(), shift.item()) == pytest.approx((2, 1))
    p, z = np.array([1, 0.5, 0.25]), np.array([1, 2, 4])
    scale, shift = ref.aligner(row(*p), row(*p), valid, space="depth")
    assert (scale.item(), shift.item()) == pytest.approx(tuple(np.polyfit(p, z, 1)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("abs_rel", (1 + 0.5) / 3),
        ("sq_rel", (1 + 1) / 3),
        ("rmse", (5 / 3) ** 0.5),
        ("rmse_log", (2 / 3) ** 0.5 * np.log(2)),
        ("silog", (2 / 3) ** 0.5 * np.log(2)),
        ("log10", 2 / 3 * np.log10(2)),
        ("delta05", 1 / 3),
        ("delta1", 1 / 3),
        ("delta2", 1 / 3),
        ("delta3", 1 / 3),
    ],
)
def test_the_metrics_by_hand(name, value):
    """2, 2, 3 for 1, 4, 3: a factor of 2 too far, one too near, one right."""
    found = ref.metric(row(2, 2, 3), row(1, 4, 3), row(1, 1, 1) > 0, name=name)
    assert found.item() == pytest.approx(value)


def test_an_evaluation_by_hand():
    """Right up to scale and shift; sky and what lies beyond the cap do not count."""
    target = row(1, 0.5, 0.25, 0, 1 / 200)
    valid = row(1, 1, 1, 1, 1) > 0
    pred = 3 * target - 1
    pred[..., 3:] = 100
    assert ref.evaluator(pred, target, valid, 80.0, name="abs_rel").item() == pytest.approx(0)
    assert ref.evaluator(pred, target, valid, 80.0, name="abs_rel", range="pred").item() > 0.1


# by other means ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["affine_invariant", "cutmix", "feature_alignment"])
def test_gradients_are_those_of_finite_differences(kind):
    """In float64, a step of 1e-6 to both sides; on vectors of moderate size."""
    found = kind_of(kind)
    checked = 0
    for vector in read(kind):
        if not vector.gradient or "scales" in vector.tags or "lengths" in vector.tags:
            continue
        (words, options), *_ = found.conventions().items()
        slope = vector.gradient.get(words, vector.gradient.get(""))
        x = vector.inputs[found.gradient]
        rng = np.random.default_rng(0)
        for _ in range(5):
            way = rng.standard_normal(x.shape)
            step = 1e-7 * way
            two = [
                found.values(vector.inputs | {found.gradient: x + s * step}, options)
                for s in (1, -1)
            ]
            rise = (two[0] - two[1]) / 2e-7
            along = (slope * way).reshape(len(x), -1).sum(1)
            np.testing.assert_allclose(rise, along, rtol=2e-5, atol=2e-6)
            checked += 1
    assert checked > 15


def test_values_are_those_of_plain_pytorch():
    """Equation by equation, in float64, without a mask where there is none."""
    for vector in read("affine_invariant"):
        maps = {k: torch.tensor(x) for k, x in vector.inputs.items()}
        for i, want in enumerate(vector.expected["lower median"]):
            v = maps["valid"][i]
            if not v.any():
                continue
            both = []
            for name in ("pred", "target"):
                d = maps[name][i][v]
                t = d.median()
                both.append((d - t) / (d - t).abs().mean().clamp_min(1e-12))
            assert (both[0] - both[1]).abs().mean().item() == pytest.approx(want, abs=1e-9)


def test_scale_and_shift_are_those_of_lstsq():
    for vector in read("aligner"):
        for i in set(range(len(vector.inputs["pred"]))) - set(vector.undefined):
            v = vector.inputs["valid"][i]
            p, t = (vector.inputs[k][i][v] for k in ("pred", "target"))
            solved = np.linalg.lstsq(np.stack([p - p.mean(), np.ones_like(p)], 1), t, rcond=None)[0]
            scale, shift = vector.expected[""][:, i]
            want = solved[0] * (p - p.mean()) + solved[1]
            np.testing.assert_allclose(scale * p + shift, want, rtol=1e-9, atol=1e-9)


def test_the_reader_gives_what_nobody_can_change():
    vector = read("affine_invariant")[0]
    with pytest.raises(ValueError, match="read-only"):
        vector.inputs["pred"][0, 0, 0] = 1
    assert str(vector) == vector.name
