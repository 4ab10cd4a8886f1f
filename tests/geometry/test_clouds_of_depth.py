"""Cameras by hand, clouds on their rays, planes, edges; and files against their specifications and
a reader that is not ours."""

import json
import math
import re
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from dalib.errors import ConfigError, DataError
from dalib.geometry import (
    Camera,
    Cloud,
    Lens,
    cloud,
    edges,
    fit_plane,
    parse_intrinsics,
    write_glb,
    write_ply,
)

GREY = torch.full((3, 2, 4), 128, dtype=torch.uint8)


class TestCamera:
    def test_field_of_view_by_hand(self):
        camera = Camera.from_fov(90, (2, 4))
        assert camera.fx == camera.fy == pytest.approx(2)  # 4 pixels across 90 degrees
        assert (camera.cx, camera.cy) == (1.5, 0.5)
        right, down, forward = camera.rays()
        assert right[0].tolist() == pytest.approx([-0.75, -0.25, 0.25, 0.75])
        assert down[:, 0].tolist() == pytest.approx([-0.25, 0.25])
        assert bool((forward == 1).all())
        assert Camera.from_fov(90, (4, 2)).fx == pytest.approx(2), "across the longer side"

    @given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 50), st.integers(1, 50))
    @settings(max_examples=30)
    def test_a_resized_image_is_seen_by_a_camera_of_the_same_angles(self, height, width, h, w):
        camera = Camera(fx=20, fy=30, cx=width / 3, cy=height / 4, size=(height, width))
        small = camera.resized((h, w))
        for a, b, side, new in ((camera.fx, small.fx, width, w), (camera.fy, small.fy, height, h)):
            assert side / a == pytest.approx(new / b)
        # the left edge of the image stays where it is
        assert (-0.5 - camera.cx) / camera.fx == pytest.approx((-0.5 - small.cx) / small.fx)
        assert_allclose(small.resized((height, width)).rays(), camera.rays(), atol=1e-9)

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"fx": 0.0}, ConfigError, "fx 0.0: a focal length is a positive number"),
            ({"fy": math.nan}, ConfigError, "fy nan: a focal length is a positive"),
            ({"cx": math.inf}, ConfigError, "cx inf: must be a finite number"),
            ({"cx": 4.0}, DataError, "outside an image of 4 x 2 pixels"),
            ({"cy": -1.0}, DataError, "outside an image of 4 x 2 pixels"),
        ],
    )
    def test_no_such_camera(self, options, error, words):
        with pytest.raises(error, match=words):
            Camera(**{"fx": 1.0, "fy": 1.0, "cx": 1.0, "cy": 1.0, "size": (2, 4)} | options)

    def test_a_lens_is_one_thing_that_is_known(self):
        assert Lens(fov=90).camera((2, 4)) == Camera.from_fov(90, (2, 4))
        assert Lens(focal=2).camera((2, 4)) == Camera.from_focal(2, (2, 4))
        lens = Lens(intrinsics=(3, 4, 1, 0))
        assert lens.camera((2, 4)) == Camera(fx=3, fy=4, cx=1, cy=0, size=(2, 4))
        assert [str(Lens(fov=60)), str(lens)] == ["fov 60", "intrinsics 3,4,1,0"]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({}, "a cloud needs the camera: give one of --fov"),
            ({"fov": 60, "focal": 500}, "not --fov and --focal"),
            ({"fov": 0}, "--fov 0: must lie between 0 and 180"),
            ({"fov": math.nan}, "--fov nan: must lie"),
            ({"focal": -1}, "--focal: a focal length is a positive"),
            ({"intrinsics": (1, 0, 1, 1)}, "--intrinsics: a focal length is a positive"),
        ],
    )
    def test_no_such_lens(self, options, words):
        with pytest.raises(ConfigError, match=words):
            Lens(**options)

    def test_intrinsics_are_four_numbers(self):
        assert parse_intrinsics("500, 501,320,240") == (500, 501, 320, 240)
        for text in ("1,2,3", "1,2,3,4,5", "a,b,c,d", "", "1,2,3,nan"):
            with pytest.raises(ConfigError, match=re.escape(f"--intrinsics {text!r}")):
                parse_intrinsics(text)


class TestCloud:
    def test_points_by_hand(self):
        depth = torch.tensor([[1.0, 2.0, math.inf, 4.0], [1.0, 1.0, math.nan, 1.0]])
        colours = torch.arange(24, dtype=torch.uint8).view(3, 2, 4)
        found = cloud(colours, depth, Camera.from_fov(90, (2, 4)))
        assert len(found) == 6, "the sky has no point"
        assert found.points[:3].tolist() == [[-0.75, -0.25, 1], [-0.5, -0.5, 2], [3, -1, 4]]
        assert found.colours[:3].tolist() == [[0, 8, 16], [1, 9, 17], [3, 11, 19]]
        keep = depth < 3
        assert len(cloud(colours, depth, Camera.from_fov(90, (2, 4)), keep=keep)) == 5

    def test_what_is_refused(self):
        camera = Camera.from_fov(90, (2, 4))
        with pytest.raises(DataError, match="sizes differ"):
            cloud(GREY, torch.ones(2, 3), camera)
        with pytest.raises(DataError, match="sizes differ"):
            cloud(GREY, torch.ones(2, 4), Camera.from_fov(90, (4, 4)))
        with pytest.raises(DataError, match="1 depths are zero or negative"):
            cloud(GREY, torch.tensor([[1.0, 1, 1, 0], [1, 1, 1, 1]]), camera)
        with pytest.raises(DataError, match="no pixel has a finite depth"):
            cloud(GREY, torch.full((2, 4), math.inf), camera)
        with pytest.raises(DataError, match=r"all pixels are left out.*nearest is at 2"):
            cloud(GREY, torch.full((2, 4), 2.0), camera, keep=torch.zeros(2, 4, dtype=torch.bool))

    def test_edges_by_hand(self):
        depth = torch.tensor([[1.0, 1.05, 1.05, 2.0, 2.0, 2.0]]).expand(4, 6)
        assert edges(depth, jump=0.1)[0].tolist() == [False, False, True, True, False, False]
        assert edges(depth, jump=0.01)[0].tolist() == [True, True, True, True, False, False]
        assert not edges(depth, jump=1.0).any()
        sky = torch.tensor([[1.0, 1.0, math.inf, math.inf]])
        assert edges(sky, jump=0.1)[0].tolist()[:2] == [False, True]
        with pytest.raises(DataError, match="jump 0"):
            edges(depth, jump=0)


# ---- planes


def wall(height=24, width=32, *, normal=(0.3, -0.2, -1.0), distance=3.0):
    """(camera, z-depth) of a plane that fills the view."""
    camera = Camera.from_fov(60, (height, width))
    rays = camera.rays()
    along = torch.einsum("c,chw->hw", torch.tensor(normal, dtype=torch.float64), rays)
    return camera, -distance * math.hypot(*normal) / along


def points(camera, depth):
    return (camera.rays() * depth).flatten(1).T.float()


def test_a_plane_is_found():
    camera, depth = wall()
    found = fit_plane(points(camera, depth))
    unit = np.array([0.3, -0.2, -1.0]) / math.hypot(0.3, 0.2, 1.0)
    assert_allclose(found.normal, unit, atol=1e-6)
    assert found.offset == pytest.approx(3.0, rel=1e-5)
    assert found.bend < 1e-6
    other = fit_plane(points(*wall(normal=(-1.0, 0.0, -0.3))))
    by_hand = math.degrees(math.acos(abs(unit @ np.array([-1, 0, -0.3])) / math.hypot(1, 0.3)))
    assert found.angle(other) == pytest.approx(by_hand, abs=1e-3)
    with pytest.raises(DataError, match="2 points have no plane"):
        fit_plane(torch.zeros(2, 3))
    with pytest.raises(DataError, match="NaN or infinite"):
        fit_plane(torch.full((4, 3), math.inf))
    with pytest.raises(DataError, match="on one line"):
        fit_plane(torch.arange(4.0).view(4, 1).expand(4, 3))


@settings(max_examples=40)
@given(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6), st.floats(0.2, 5), st.floats(-0.03, 0.5))
def test_a_wrong_shift_of_disparity_moves_planes_and_bends_none(nx, ny, scale, shift):
    """1/z of a plane is affine in the pixel, and so is scale / z + shift: a projective map of
    space, which takes planes to planes."""
    camera, depth = wall(normal=(nx, ny, -1.0))
    wrong = scale / depth + shift
    if wrong.min() <= 0.01:
        return
    assert fit_plane(points(camera, 1 / wrong)).bend < 1e-5


def test_what_does_bend_a_plane():
    """A shift of depth, depth linear in disparity, distances along the rays taken for z-depth."""
    camera, depth = wall(normal=(0.9, 0.0, -1.0))
    flat = fit_plane(points(camera, depth)).bend
    length = camera.rays().norm(dim=0)
    for bent in (depth + 3, 2 - 1 / depth, depth * length):
        assert fit_plane(points(camera, bent)).bend > 1000 * max(flat, 1e-6)


def test_a_wrong_focal_length_bends_no_plane_either():
    camera, depth = wall()
    wide = Camera.from_fov(100, camera.size)
    assert fit_plane(points(wide, depth)).bend < 1e-6


# ---- files


@pytest.fixture
def some():
    generator = torch.Generator().manual_seed(0)
    positions = torch.randn(57, 3, generator=generator)
    colours = torch.randint(0, 256, (57, 3), generator=generator).to(torch.uint8)
    return Cloud(positions, colours)


def test_ply_is_what_another_reader_reads(some, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    write_ply(tmp_path / "a.ply", some)
    read = trimesh.load(tmp_path / "a.ply")
    assert_allclose(read.vertices, some.points, atol=0)
    assert read.colors[:, :3].tolist() == some.colours.tolist()


def test_ply_byte_by_byte(some, tmp_path):
    write_ply(tmp_path / "a.ply", some, unit="guessed")
    header, _, body = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert lines[2].endswith("x right, y down, z forward; unit: guessed")
    assert lines[3] == "element vertex 57"
    assert len(body) == 57 * 15
    assert struct.unpack("<3f3B", body[:15]) == (
        *some.points[0].tolist(),
        *some.colours[0].tolist(),
    )


def parse_glb(data):
    """(JSON, binary chunk) by section 4.4 of glTF 2.0, with all that it demands."""
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    assert size % 4 == 0
    text = data[20 : 20 + size]
    rest, kind = struct.unpack_from("<I4s", data, 20 + size)
    assert kind == b"BIN\0"
    assert rest % 4 == 0
    assert 28 + size + rest == len(data)
    return json.loads(text), data[28 + size :]


def accessor(about, body, index):
    """The values of an accessor, (count, components)."""
    what = about["accessors"][index]
    view = about["bufferViews"][what["bufferView"]]
    width = {"VEC3": 3, "VEC4": 4}[what["type"]]
    kind = {5126: "<f4", 5123: "<u2"}[what["componentType"]]
    start = view["byteOffset"] + what.get("byteOffset", 0)
    element = np.dtype(kind).itemsize * width
    assert start % 4 == element % 4 == 0, "vertex attributes are aligned to 4 bytes (3.6.2.4)"
    assert view["byteLength"] == what["count"] * element
    return np.frombuffer(body, kind, what["count"] * width, start).reshape(-1, width)


def test_glb_by_the_specification(some, tmp_path):
    write_glb(tmp_path / "a.glb", some)
    about, body = parse_glb((tmp_path / "a.glb").read_bytes())
    assert about["asset"]["version"] == "2.0"
    assert about["buffers"][0]["byteLength"] == len(body)
    assert set(about["extensionsUsed"]) == {"KHR_materials_unlit"}
    (primitive,) = about["meshes"][about["nodes"][about["scenes"][0]["nodes"][0]]["mesh"]][
        "primitives"
    ]
    assert primitive["mode"] == 0, "POINTS"
    positions = accessor(about, body, primitive["attributes"]["POSITION"])
    assert_allclose(positions, some.points.numpy() * [1, -1, -1])
    what = about["accessors"][primitive["attributes"]["POSITION"]]
    assert what["min"] == positions.min(0).tolist(), "POSITION has min and max (3.7.2.1)"
    assert what["max"] == positions.max(0).tolist()
    colours = accessor(about, body, primitive["attributes"]["COLOR_0"])
    assert about["accessors"][primitive["attributes"]["COLOR_0"]]["normalized"]
    # linear, as 3.7.2.1 says; three values of sRGB by its definition
    linear = {0: 0, 255: 65535, 128: round(65535 * ((128 / 255 + 0.055) / 1.055) ** 2.4)}
    for srgb, expected in linear.items():
        cloud_of_one = Cloud(torch.ones(1, 3), torch.full((1, 3), srgb, dtype=torch.uint8))
        write_glb(tmp_path / "one.glb", cloud_of_one)
        one = accessor(*parse_glb((tmp_path / "one.glb").read_bytes()), 1)
        assert one.tolist() == [[expected] * 3 + [65535]]
    assert len(np.unique(colours[:, 0])) == len(some.colours[:, 0].unique()), "none banded"


def test_glb_is_what_another_reader_reads(some, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    write_glb(tmp_path / "a.glb", some)
    (read,) = trimesh.load(tmp_path / "a.glb").geometry.values()
    assert_allclose(read.vertices, some.points.numpy() * [1, -1, -1], atol=1e-6)
