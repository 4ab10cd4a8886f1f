"""Procedural scenes: exact against values worked out by hand, the same bits in any order, a cache
that tells when it is broken."""

import math
import shutil
from random import Random

import numpy as np
import pytest
import torch
from helpers import ROOT

from dalib import provenance
from dalib.data.scenes import (
    SPLITS,
    STYLES,
    TEST_DOMAINS,
    TUNE_DOMAINS,
    Scenes,
    Split,
    cache,
    describe,
    render,
    splits,
)
from dalib.data.scenes.landscapes import KINDS
from dalib.data.scenes.primitives import CLASSES, Builder, Material, rotation
from dalib.data.scenes.raycast import cast, pixel_rays
from dalib.data.scenes.textures import PATTERNS, atlas, lookup
from dalib.errors import ConfigError, DataError

GREY = Material((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), PATTERNS["plain"])
H, W = 48, 72


def _rays(builder: Builder) -> tuple[np.ndarray, np.ndarray]:
    """Pixel directions in the world with unit length along the optical axis, in float64, and the
    eye."""
    tangent = math.tan(math.radians(builder.fov) / 2)
    v, u = np.meshgrid(
        (H / 2 - np.arange(H) - 0.5) / (H / 2),
        (np.arange(W) + 0.5 - W / 2) / (H / 2),
        indexing="ij",
    )
    local = np.stack([u * tangent, v * tangent, np.ones_like(u)], -1)
    return local @ rotation(*map(np.array, builder.angles)).T, np.array(builder.eye)


def _disparity(builder: Builder) -> np.ndarray:
    scene = builder.build()
    rays = pixel_rays(scene, H, W, "cpu")
    return (1 / rays.image(cast(scene, rays)[0])).numpy()


def _builder(**options) -> Builder:
    builder = Builder()
    builder.eye, builder.angles, builder.fov = (0.3, 1.6, -0.2), (0.2, -0.15, 0.05), 55.0
    for key, value in options.items():
        setattr(builder, key, value)
    return builder


def _close(found: np.ndarray, expected: np.ndarray, rim: np.ndarray | None = None) -> None:
    """Equal to a few float32 roundings; pixels on a rim (where a ray grazes) may decide either
    way."""
    keep = np.ones_like(found, bool) if rim is None else ~rim
    assert keep.mean() > 0.95
    np.testing.assert_allclose(found[keep], expected[keep], rtol=2e-5, atol=1e-7)


def test_ground_plane_has_its_analytic_disparity():
    builder = _builder()
    builder.box(0, -1, 0, 4000, 1, 4000, GREY, "terrain")
    direction, eye = _rays(builder)
    t = eye[1] / -direction[..., 1]
    expected = np.where(
        (t > 0) & (t * np.abs(direction[..., 0]) < 1900) & (t * np.abs(direction[..., 2]) < 1900),
        1 / t,
        0,
    )
    found = _disparity(builder)
    far = (expected < 1e-3) & (found < 1e-3)  # the plane's edge two kilometres away
    _close(np.where(far, 0, found), np.where(far, 0, expected))
    assert (found[direction[..., 1] >= 0] == 0).all()


@pytest.mark.parametrize("distance", [1.5, 8.0, 60.0])
def test_sphere_has_its_analytic_disparity(distance):
    builder, radius = _builder(angles=(0.0, 0.0, 0.0), eye=(0.0, 0.0, 0.0)), 0.2 * distance
    builder.ball(
        0.1 * distance, -radius, distance, 2 * radius, 2 * radius, 2 * radius, GREY, "object"
    )
    direction, eye = _rays(builder)
    centre = np.array([0.1 * distance, 0, distance]) - eye
    a, b, c = (direction**2).sum(-1), direction @ centre, centre @ centre - radius**2
    room = b**2 - a * c
    expected = np.where(room > 0, a / (b - np.sqrt(np.maximum(room, 0))), 0)
    _close(_disparity(builder), expected, np.abs(room) < 2e-2 * distance**2 * 0.2)


@pytest.mark.slow
def test_turned_box_and_cylinder_against_sampled_rays():
    """Walk along each ray in float64 and find the first point inside: an independent, slow
    answer."""
    builder = _builder(angles=(0.0, -0.1, 0.0))
    builder.box(-0.8, 0.5, 4.0, 1.2, 0.9, 0.7, GREY, "object", yaw=0.6, pitch=0.3, roll=-0.2)
    builder.cone(1.2, 0.4, 4.5, 1.0, 1.5, 1.0, GREY, "object", taper=(0.5, 0))
    builder.wedge(0.3, 1.9, 5.0, 1.4, 0.8, 1.0, GREY, "object", taper=(0.8, 0.3), yaw=-0.4)
    scene = builder.build()
    direction, eye = _rays(builder)
    t = np.linspace(2.5, 7, 4501)
    first = np.full((H, W), np.inf)
    for k, (m, m0) in enumerate(zip(*scene.frames, strict=True)):
        start, step = m @ eye + m0, direction @ m.T
        x, y, z = (start[j] + t * step[..., j, None] for j in range(3))
        width_x, width_z = (1 - scene.taper[k, j] * (y + 1) / 2 for j in (0, 1))
        round_ = scene.shape[k] == 3
        inside = (
            (np.hypot(x, z) <= width_x)
            if round_
            else (np.abs(x) <= width_x) & (np.abs(z) <= width_z)
        )
        inside &= np.abs(y) <= 1
        first = np.minimum(first, np.where(inside.any(-1), t[inside.argmax(-1)], np.inf))
    found = _disparity(builder)
    agree = (
        np.abs(
            np.where(found > 0, 1 / np.maximum(found, 1e-9), 99)
            - np.where(first < np.inf, first, 99)
        )
        < 2e-3
    )
    assert agree.mean() > 0.995  # thin corners fall between samples
    assert (found > 0).mean() > 0.1


def test_depth_is_along_the_optical_axis_and_nearest_wins():
    builder = _builder(angles=(0.0, 0.0, 0.0), eye=(0.0, 0.0, 0.0))
    builder.box(0, -50, 10.5, 100, 100, 1, GREY, "wall")
    builder.box(0, -0.5, 5.5, 1, 1, 1, GREY, "object")
    found = _disparity(builder)
    assert set(np.unique(found.round(6)).tolist()) <= {
        0.1,
        0.2,
        np.float32(0.1).item(),
        np.float32(0.2).item(),
    }
    assert found[H // 2, W // 2] == pytest.approx(0.2)
    assert found[0, 0] == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["labelled", "unlabelled", "night_street"])
def test_same_bits_alone_in_a_batch_and_with_any_number_of_threads(name):
    together = render(name, range(6), height=40, width=56)
    threads = torch.get_num_threads()
    try:
        for i, count in zip((5, 0, 3, 1, 4, 2), (1, 2, 3, 1, 2, 4), strict=True):
            torch.set_num_threads(count)
            alone = render(name, [i], height=40, width=56)
            assert torch.get_num_threads() == count
            for key in ("image", "disparity", "valid", "semantics"):
                assert torch.equal(alone[key][0], together[key][i]), (key, i)
    finally:
        torch.set_num_threads(threads)
    assert not torch.equal(together["image"][0], together["image"][1])


def test_samples_follow_the_schema():
    batch = render("unlabelled", range(30), height=40, width=56)
    assert batch["image"].shape == (30, 3, 40, 56)
    assert batch["image"].dtype == torch.uint8
    assert batch["disparity"].shape == (30, 40, 56)
    assert batch["disparity"].dtype == torch.float32
    assert batch["valid"].dtype == torch.bool
    assert batch["semantics"].dtype == torch.uint8
    assert batch["disparity"].isfinite().all()
    assert (batch["disparity"] >= 0).all()
    assert batch["disparity"].max() <= 50
    sky = batch["semantics"] == CLASSES.index("sky")
    assert torch.equal(sky, batch["disparity"] == 0)
    assert sky.any()
    assert (batch["image"].float().std((1, 2, 3)) > 8).all(), "an image without anything on it"
    assert batch["domain"] == ["unlabelled"] * 30


@pytest.mark.slow
def test_every_class_appears():
    seen = render("unlabelled", range(240), height=24, width=32)["semantics"].unique().tolist()
    assert seen == list(range(len(CLASSES)))
    assert len(CLASSES) >= 10


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("style", STYLES)
def test_every_kind_in_every_style(kind, style):
    split = Split("test", 9, {kind: 1.0}, {style: 1.0})
    batch = render(split, [0], height=24, width=32)
    assert batch["image"].float().std() > 5


def test_styles_leave_the_geometry_alone():
    one, other = (
        render(Split("test", 9, {"street": 1.0}, {style: 1.0}), range(6), height=40, width=56)
        for style in ("plain", "night")
    )
    assert torch.equal(one["disparity"], other["disparity"])
    assert one["image"].float().mean() > other["image"].float().mean()


def test_supersampling_leaves_the_disparity_alone():
    plain, fine = (render("labelled", [0, 1], height=48, width=64, supersample=n) for n in (1, 2))
    assert torch.equal(plain["disparity"], fine["disparity"])
    assert torch.equal(plain["semantics"], fine["semantics"])
    assert (plain["image"].float() - fine["image"].float()).abs().mean() < 12


def test_a_wider_image_shows_the_same_middle():
    narrow, wide = (
        render("labelled", [1], height=48, width=width)["disparity"][0] for width in (64, 160)
    )
    assert torch.allclose(narrow, wide[:, 48:112], rtol=1e-5)


def test_splits_do_not_overlap():
    assert len({split.seed for split in SPLITS.values()}) == len(SPLITS)
    assert {"labelled", "unlabelled", "validation"} <= set(SPLITS)
    assert len(TEST_DOMAINS) == 6
    assert len(TUNE_DOMAINS) == 3
    assert all(SPLITS[name].about for name in SPLITS)
    tuned, tested = (
        {
            (kind, style)
            for name in names
            for kind in SPLITS[name].kinds
            for style in SPLITS[name].styles
        }
        for names in (TUNE_DOMAINS, TEST_DOMAINS)
    )
    assert not tuned & tested
    eyes = [
        (*scene.eye, scene.tangent)
        for scene in (describe(name, i)[0] for name in SPLITS for i in range(5))
    ]
    assert len(set(eyes)) == len(eyes)
    assert set(SPLITS["labelled"].kinds) < set(SPLITS["unlabelled"].kinds)


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match=r"unknown split 'labeled'.*labelled"):
        render("labeled", [0])
    with pytest.raises(ConfigError, match="unknown kind moon"):
        Split("test", 1, {"moon": 1.0}, {"plain": 1.0})
    with pytest.raises(ConfigError, match="negative"):
        render("labelled", [-1])
    with pytest.raises(IndexError, match="Scenes has 3 samples; there is no sample 3"):
        Scenes(split="labelled", count=3, height=24, width=32)[3]


def test_mipmaps_average_and_lookups_interpolate():
    texels = atlas("cpu")
    assert texels.min() >= 0
    assert texels.max() <= 1.3
    checker = torch.tensor([PATTERNS["checker"]], dtype=torch.int32)

    def at(u: float, footprint: float) -> float:
        return lookup(
            checker, torch.tensor([u]), torch.tensor([0.125]), torch.tensor([footprint])
        ).item()

    assert (at(0.125, 0.001), at(0.375, 0.001)) == (0.0, 1.0)
    assert at(0.25, 0.001) == pytest.approx(0.5, abs=0.02)
    assert at(0.125, 1.0) == pytest.approx(0.5)
    assert at(3.125, 0.001) == 0.0


def test_frames_nest():
    builder = Builder()
    with builder.at(1, 0, 2, math.pi / 2), builder.at(0, 1, 3):
        builder.box(0, 0, 0, 1, 2, 1, GREY, "object")
    np.testing.assert_allclose(builder.build().centre, [[4, 2, 2]], atol=1e-12)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_RUNS", str(tmp_path))
    return tmp_path / "cache"


SMALL = {"split": "unlabelled", "count": 96, "height": 16, "width": 24}


@pytest.mark.slow
def test_cache_holds_what_rendering_gives_for_any_number_of_workers(folder):
    source = cache.materialise(**SMALL, workers=2)
    assert len(source) == 96
    assert source.fingerprint == Scenes(**SMALL).fingerprint
    fresh = Scenes(**SMALL)
    for indices in ([95, 0, 41], [7]):
        one, other = source.get_batch(indices), fresh.get_batch(indices)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[k], other[k]) for k in one if k != "domain")
        assert one["domain"] == other["domain"]
    assert all(
        torch.equal(source[41][k], fresh[41][k])
        for k in ("image", "disparity", "valid", "semantics")
    )
    assert [p.name for p in folder.iterdir()] == [f"unlabelled-draw0-{source.fingerprint}"]


@pytest.mark.slow
def test_cache_is_found_again_and_made_again_when_damaged(folder, caplog, monkeypatch):
    source = cache.materialise(**SMALL, workers=1)
    batch, path = source.get_batch(range(96)), source.folder
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_write", lambda *_: pytest.fail("rendered twice"))
        cache.materialise(**SMALL)
    file = next(path.glob("*.arrow"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    for damage in (bytes(content), bytes(content)[:-100]):
        file.unlink()
        file.write_bytes(damage)
        caplog.clear()
        again = cache.materialise(**SMALL, workers=1)
        assert file.name in caplog.text
        assert "Rendering it again" in caplog.text
        assert torch.equal(again.get_batch(range(96))["image"], batch["image"])
    (path / "dalib.json").write_text("{")
    cache.materialise(**SMALL, workers=1)
    assert "dalib.json" in caplog.text


def test_cache_leaves_nothing_behind_when_rendering_fails(folder, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of light")

    monkeypatch.setattr(cache, "render", fail)
    with pytest.raises(RuntimeError, match="out of light"):
        cache.materialise(**SMALL, workers=1)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("edited", "draws"),
    [("glance.py", True), ("textures.py", True), ("splits.py", True), ("cache.py", False)],
)
def test_an_edit_of_what_draws_makes_other_scenes(edited, draws, tmp_path, monkeypatch):
    """What draws is found by its imports, so that no list has to be kept."""
    copy = tmp_path / "dalib"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "dalib", copy, ignore=ignored)
    scenes = copy / "data" / "scenes"
    monkeypatch.setattr(provenance, "__file__", str(copy / "provenance.py"))
    monkeypatch.setattr(splits, "__file__", str(scenes / "splits.py"))
    before = splits.renderer_hash.__wrapped__()
    (scenes / edited).write_text((scenes / edited).read_text() + "\nMORE = 1\n")
    assert (splits.renderer_hash.__wrapped__() != before) == draws


def test_every_module_of_the_scenes_draws_save_the_store():
    names = {file.name for file in (ROOT / "dalib" / "data" / "scenes").glob("*.py")}
    drawing = {file.name for file in splits.renderer_files()}
    assert names - drawing == {"__init__.py", "cache.py"}


def test_a_worker_that_dies_is_reported(folder, monkeypatch):
    monkeypatch.setattr(cache, "COMMAND", "raise SystemExit(3)")
    with pytest.raises(DataError, match="ended early"):
        cache.materialise(**SMALL, workers=2)


def test_random_stream_is_stable():
    """Python promises the same stream for the same integer seed on every platform; so does
    SeedSequence."""
    assert Random(12345).random() == 0.41661987254534116
    assert np.random.SeedSequence([101, 0]).generate_state(2).tolist() == [4137311287, 240527215]
