"""What drawn scenes look like: depth can be seen in each kind, the plain style is as varied as
photographs are, figures stand on the ground, and whole pieces of furniture can be turned."""

import math
from random import Random

import numpy as np
import pytest
import torch

from dalib.data.scenes import Split, figures, fittings, render
from dalib.data.scenes import objects as o
from dalib.data.scenes.interiors import PLACES, WIDTHS, stand
from dalib.data.scenes.landscapes import KINDS
from dalib.data.scenes.primitives import CLASS_ID, Builder, Material, rotation
from dalib.data.scenes.textures import _RECIPES, PATTERNS
from dalib.evaluation.floors import constant_floor
from dalib.evaluation.protocols import PROTOCOLS, score

GREY = Material((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), PATTERNS["plain"])
SEED = 987_001  # of no split: test domains stay unseen


def _drawn(kind: str, count: int, *, height: int = 64, width: int = 96) -> dict:
    split = Split("seen", SEED, {kind: 1.0}, {"plain": 1.0})
    return render(split, range(count), height=height, width=width)


# Geometry of what is turned as a whole


def test_a_tumbled_frame_turns_what_is_in_it_as_a_whole():
    """By hand: a quarter of a turn about z takes x to y and y to -x, then the pivot is added."""
    builder = Builder()
    with builder.at(10, 0, 0), builder.tumbled(0, 1, 5, roll=math.pi / 2):
        builder.box(2, -0.5, 0, 1, 1, 3, GREY, "object")  # its middle: (2, 0, 0)
        with builder.at(0, 1, 0):
            builder.box(0, -0.5, 0, 1, 1, 1, GREY, "object")  # its middle: (0, 1, 0)
    builder.box(7, 0, 0, 1, 2, 1, GREY, "object")  # outside of the frame again
    scene = builder.build()
    np.testing.assert_allclose(scene.centre, [[10, 3, 5], [9, 1, 5], [7, 1, 0]], atol=1e-12)
    turned = rotation(np.array(0.0), np.array(0.0), np.array(math.pi / 2))
    np.testing.assert_allclose(scene.rotation[0], turned, atol=1e-12)
    np.testing.assert_allclose(scene.rotation[2], np.eye(3), atol=1e-12)


def test_a_tumbled_piece_of_furniture_keeps_its_shape():
    """All distances between the corners of its parts, whichever way it is turned."""
    turns = ({}, {"yaw": 0.7, "pitch": -1.1, "roll": 2.0})
    corners = []
    for turn in turns:
        builder = Builder()
        with builder.tumbled(3.0, 2.0, 5.0, **turn):
            o.chair(builder, Random(4))
        corners.append(builder.build().corners.reshape(-1, 3))
    one, other = (np.linalg.norm(c[:, None] - c[None], axis=-1) for c in corners)
    np.testing.assert_allclose(one, other, atol=1e-9)
    assert not np.allclose(corners[0], corners[1], atol=0.1)


# Figures and fittings


@pytest.mark.parametrize("build", [figures.person, figures.animal])
def test_figures_stand_on_the_ground_at_life_size(build):
    for seed in range(40):
        builder = Builder()
        build(builder, Random(seed))
        scene = builder.build()
        low, high = (f(scene.corners[..., 1]) for f in (np.min, np.max))
        assert -0.2 < low < 0.2, seed
        assert 0.15 < high < 2.6, seed
        wide = np.ptp(scene.corners[..., [0, 2]].reshape(-1, 2), axis=0)
        assert (wide < 3.5).all(), seed


def test_a_person_is_a_person_and_an_animal_is_not():
    for build, found in ((figures.person, True), (figures.animal, False)):
        builder = Builder()
        build(builder, Random(1))
        assert (CLASS_ID["person"] in builder.build().semantic) is found


@pytest.mark.parametrize("use", sorted(PLACES))
def test_all_furniture_of_a_room_stands_on_the_floor_below_its_ceiling(use):
    height = 2.4
    for seed, name in enumerate(sorted(set(PLACES[use].split()) - {"gap"})):
        builder = Builder()
        stand(builder, Random(seed), name, np.mean(WIDTHS.get(name, (0.6, 1.5))), height)
        tall = builder.build().corners[..., 1]
        assert builder.rows, name
        assert tall.min() > -0.3, name
        assert tall.max() < 3.2, name
        assert np.median(tall) > 0, name


def test_an_open_door_is_hung_at_its_frame():
    builder = Builder()
    fittings.open_door(builder, Random(3))
    leaf = builder.build().corners[:, 0]
    assert np.hypot(leaf[:, 0], leaf[:, 2]).min() < 0.05
    assert leaf[:, 1].max() < 2.1


# Textures and the camera


@pytest.mark.parametrize("name", ["heap", "scene", "speckle", "asphalt", "mottle", "concrete"])
def test_patterns_repeat_without_a_seam(name):
    """The step across the edge is not greater than the steps within."""
    grid = _RECIPES[name]()
    for rows in (grid, grid.T):
        seam = np.abs(rows[0] - rows[-1]).mean()
        within = np.abs(np.diff(rows, axis=0)).mean(1)
        assert seam < 1.5 * np.quantile(within, 0.98)


def test_dead_leaves_have_the_spectrum_of_natural_images():
    """Power falls as 1 / f^2, give or take a half, over three octaves (Field 1987)."""
    grid = _RECIPES["heap"]()
    power = np.abs(np.fft.fft2(grid - grid.mean())) ** 2
    f = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None]) * 256
    bands = [(k, 2 * k) for k in (8, 16, 32)]
    mean = [power[(f >= a) & (f < b)].mean() for a, b in bands]
    slope = np.polyfit(np.log2([a for a, _ in bands]), np.log2(mean), 1)[0]
    assert -2.6 < slope < -1.4


# Whole images


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_layout_rules_the_score_and_no_single_near_thing(kind):
    """`floating` once had things under the camera's nose: scale and shift of a fit were theirs
    alone, the truth at 8 x 12 pixels had 0.40 of the error of a constant, and all rows stayed at
    the floor. In every kind a coarse map of the truth must now be far better than none."""
    batch = _drawn(kind, 40)
    d, valid = batch["disparity"], batch["valid"]
    seen = [np.quantile(k[k > 0], [0.5, 0.95]) for k in d.numpy()]
    assert np.median([high / middle for middle, high in seen]) < 3.0
    coarse = torch.nn.functional.adaptive_avg_pool2d(d[:, None], (8, 12))
    coarse = torch.nn.functional.interpolate(coarse, (64, 96), mode="bilinear")[:, 0]
    constant = constant_floor(64, 96).expand(len(d), -1, -1)
    errors = [
        score(pred, d, valid, PROTOCOLS["scenes"])["abs_rel"].nanmean().item()
        for pred in (coarse, constant)
    ]
    assert errors[0] < 0.36 * errors[1]


@pytest.mark.slow
def test_things_adrift_matter_and_low_is_not_near():
    batch = _drawn("floating", 40)
    thing = batch["semantics"].ne(CLASS_ID["floor"])
    for name in ("wall", "ceiling"):
        thing &= batch["semantics"].ne(CLASS_ID[name])
    assert 0.08 < thing.float().mean() < 0.4
    hall = batch["disparity"].clone()
    for k, own in enumerate(thing):
        hall[k][own] = hall[k][~own].median()
    alone = score(hall, batch["disparity"], batch["valid"], PROTOCOLS["scenes"])["abs_rel"]
    assert 0.08 < alone.nanmean() < 0.25  # seeing the hall but not the things costs that much
    row = torch.arange(64.0)[:, None].expand(64, 96)
    heights = [
        np.corrcoef(row[own].numpy(), d[own].numpy())[0, 1]
        for d, own in zip(batch["disparity"], thing, strict=True)
        if own.sum() > 20
    ]
    assert abs(np.mean(heights)) < 0.25
