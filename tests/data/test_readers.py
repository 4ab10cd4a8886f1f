"""Maps in the formats of published data sets: values as stored, parts of files, and what is no map
called what it is."""

import struct
import sys

import h5py
import numpy as np
import pytest
from helpers import published
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dalib.data.files import to_disparity
from dalib.data.manifest import ray_numbers, sky_by_rule, sky_rule
from dalib.data.readers import READERS, Address, address, cosines, read_picture, read_values
from dalib.data.sources import DepthManifest
from dalib.errors import ConfigError, DataError

MAP = [[1.5, 2.5, 4.0], [8.0, 16.0, 0.25]]
SIZE = (2, 3)


def read(path, reader, part="", size=SIZE):
    return read_values(Address(path, part), reader=reader, size=size)[0]


# ---- values as stored


@settings(max_examples=50)
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=6, max_size=6))
def test_any_float32_is_read_as_it_was_packed(tmp_path_factory, values):
    """Through bytes, row by row, without a header; in a .dpt; and in the channels of a picture."""
    folder = tmp_path_factory.mktemp("packed")
    rows = [values[:3], values[3:]]
    files = {
        "raw-float32": published.floats(rows),
        "dpt": published.dpt(rows),
        "png-float32": published.float_png(rows),
    }
    for reader, data in files.items():
        published.put(folder / reader, data)
        assert read(folder / reader, reader).tolist() == rows


@pytest.mark.parametrize(
    ("names", "part"), [(("Y",), ""), (("Y",), "G"), (("B", "G", "R"), "G"), (("G", "Z"), "G")]
)
def test_an_exr_is_read_by_its_only_channel_or_by_name(names, part, tmp_path):
    published.put(tmp_path / "d.exr", published.exr(MAP, names=names))
    values = read(tmp_path / "d.exr", "exr", part)
    factor = 1 if "G" in names else 2  # the helper doubles the first channel that is not G
    assert values.tolist() == (np.array(MAP) * factor).tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_an_exr_as_the_library_writes_it(dtype, tmp_path):
    """Compressed, as published files are."""
    import OpenEXR

    values = np.arange(1, 201, dtype=dtype).reshape(10, 20) / 4
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    others = {name: np.zeros_like(values) for name in "RB"}
    with OpenEXR.File(header, {"G": values, **others}) as file:
        file.write(str(tmp_path / "d.exr"))
    assert read(tmp_path / "d.exr", "exr", "G", size=(10, 20)).tolist() == values.tolist()


def test_several_channels_without_a_name_are_refused(tmp_path):
    published.put(tmp_path / "d.exr", published.exr(MAP, names=("B", "G", "R")))
    with pytest.raises(DataError, match=r"which of its channels is meant\? .* there is B, G, R"):
        read(tmp_path / "d.exr", "exr")


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u2", "i4", ">f4"])
def test_hdf5_of_any_numbers_and_depth_of_groups(dtype, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/depth"] = np.array(MAP, dtype)
        file["group/column"] = np.array(MAP, dtype)[..., None]
    assert read(tmp_path / "a.h5", "hdf5", "group/depth").tolist() == np.array(MAP, dtype).tolist()
    assert read(tmp_path / "a.h5", "hdf5", "group/column").shape == (2, 3)
    with pytest.raises(DataError, match="which of its data sets is meant"):
        read(tmp_path / "a.h5", "hdf5")
    with pytest.raises(DataError, match="no data set 'group'; there is group"):
        read(tmp_path / "a.h5", "hdf5", "group")
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["only"] = MAP
    assert read(tmp_path / "one.h5", "hdf5").tolist() == MAP


def test_matlab_lies_by_columns(tmp_path):
    """MATLAB's 2 x 3 stands in HDF5 as 3 x 2; of 2 x 3 x 4 the last axis is the frame."""
    stack = np.arange(24.0).reshape(2, 3, 4)
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["one"] = np.array(MAP).T
        file["many"] = stack.T
    assert read(tmp_path / "a.mat", "matlab", "one").tolist() == MAP
    for k in range(4):
        assert read(tmp_path / "a.mat", "matlab", f"many/{k}").tolist() == stack[:, :, k].tolist()
    with pytest.raises(DataError, match="there are 4 frames, counted from 0"):
        read(tmp_path / "a.mat", "matlab", "many/4")
    with pytest.raises(DataError, match=r"float64 of shape \(2, 3, 4\) is no depth map"):
        read(tmp_path / "a.mat", "matlab", "many")
    with pytest.raises(DataError, match="is no photograph of uint8"):
        read_picture(Address(tmp_path / "a.mat", "many/0"))


# ---- addresses


def test_a_file_of_that_very_name_wins(tmp_path):
    assert address(tmp_path, "a.h5#depth") == Address(tmp_path / "a.h5", "depth")
    assert address(tmp_path, "sub/a.mat#d/3") == Address(tmp_path / "sub/a.mat", "d/3")
    assert address(tmp_path, "photo#1.png") == Address(tmp_path / "photo#1.png")
    assert address(tmp_path, "photo.png#1") == Address(tmp_path / "photo.png#1")
    (tmp_path / "a.h5#depth").write_bytes(b"")
    assert address(tmp_path, "a.h5#depth") == Address(tmp_path / "a.h5#depth")


# ---- what is no map


def archive(path, **arrays):
    np.savez(path, **arrays)
    return path.read_bytes()


DAMAGED = {
    "cut dpt": ("dpt", "", lambda p: published.dpt(MAP)[:-1], "35 bytes are not a .dpt map of 3x2"),
    "flow": ("dpt", "", lambda p: struct.pack("<fii", 202021.25, 3, 2) + bytes(48), "60 bytes"),
    "no size": ("dpt", "", lambda p: struct.pack("<fii", 202021.25, 0, 0), "not a .dpt map of 0x0"),
    "head": ("dpt", "", lambda p: b"PIEH", "does not begin with PIEH"),
    "a JPEG": ("raw-float32", "", lambda p: b"\xff\xd8" * 30, "60 bytes are not the float32 of"),
    "grey": ("png-float32", "", lambda p: published.png([[1, 2]], bits=8), "holds no float32"),
    "no picture": ("png-float32", "", lambda p: b"x" * 50, "damaged or not an image"),
    "exr": ("exr", "", lambda p: b"v/1\x01" + bytes(60), "truncated, damaged or no OpenEXR"),
    "cut exr": ("exr", "", lambda p: published.exr(MAP)[:-10], "truncated, damaged or no OpenEXR"),
    "hdf5": ("hdf5", "a", lambda p: b"\x89HDF\r\n\x1a\n" + bytes(99), "damaged or no HDF5 file"),
    "text": ("matlab", "a", lambda p: b"MATLAB 5.0 MAT-file", "damaged or no HDF5 file"),
    "npz": ("npz", "depth", lambda p: b"PK\x03\x04" + bytes(60), "damaged or no archive of arrays"),
    "objects": (
        "npz",
        "depth",
        lambda p: archive(p, depth=np.array([{1: 2}], dtype=object)),
        "holds Python objects, which could run code",
    ),
    "other name": ("npz", "depth", lambda p: archive(p, z=MAP, x=MAP), r"there is z, x"),
    "words": ("npz", "", lambda p: archive(p, a=np.array([["a"]])), "is no depth map"),
    "a row": ("npz", "", lambda p: archive(p, a=np.ones(3)), r"shape \(3,\) is no depth map"),
    "cut scan": ("velodyne", "image_02", lambda p: bytes(15), "15 bytes are no list of float32"),
    "which camera": ("velodyne", "", lambda p: bytes(16), "name the camera after #"),
}


@pytest.mark.parametrize(("reader", "part", "make", "message"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_no_map_is_called_what_it_is(reader, part, make, message, tmp_path):
    path = tmp_path / ("a.npz" if reader == "npz" else "a.bin")
    data = make(path)
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as raised:
        read(path, reader, part)
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_file_is_named(reader, tmp_path):
    with pytest.raises(DataError, match=r"gone\.x.*: no such file"):
        read(tmp_path / "gone.x", reader, "image_02")


@pytest.mark.parametrize(
    ("reader", "module"), [("exr", "OpenEXR"), ("hdf5", "h5py"), ("matlab", "h5py")]
)
def test_a_missing_library_is_named_with_what_to_install(reader, module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"needs {module}, .* pip install {module}"):
        read(tmp_path / "a", reader)


@pytest.mark.parametrize("lost", ["R_rect_00", "P_rect_02", "P_rect_02: 10"])
def test_a_damaged_calibration_is_named(lost, tmp_path):
    published.kitti_eigen_raw(tmp_path)
    path = tmp_path / "2011_09_26/calib_cam_to_cam.txt"
    path.write_text(path.read_text().replace(lost, "X"))
    scan = next(tmp_path.rglob("*.bin"))
    with pytest.raises(DataError, match=r"calib_cam_to_cam.txt: no [RP]_rect_0\d of"):
        read(scan, "velodyne", "image_02")


# ---- rays


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(1, 170))
def test_rays_of_a_field_of_view(height, width, fov):
    """By the angles of the pixels: the edges of the picture lie at half the field of view."""
    focal = width / 2 / np.tan(np.radians(fov / 2))
    expected = [
        [
            1
            / (1 + ((x + 0.5 - width / 2) / focal) ** 2 + ((y + 0.5 - height / 2) / focal) ** 2)
            ** 0.5
            for x in range(width)
        ]
        for y in range(height)
    ]
    assert cosines(height, width, (fov,)) == pytest.approx(np.array(expected), rel=1e-9)


@pytest.mark.parametrize(
    "entry", ["0", "180", "-60", "wide", "60 40", "nan", "1 0 0 0 1 0 0 0 inf"]
)
def test_rays_that_cannot_be_meant(entry):
    with pytest.raises(ValueError, match="write the horizontal field of view"):
        ray_numbers(entry)


# ---- sky


SKY = np.array([[True, True, False], [False, False, False]])
BORDER = np.array([[False, True, True], [False, True, True]])


@pytest.mark.parametrize("kind", ["depth_m", "disparity"])
@pytest.mark.parametrize("filler", [0.0, 7.0, float("nan"), float("inf"), -1.0, 1e9, 65535.0])
def test_sky_is_far_and_known_whatever_is_stored_there(kind, filler):
    values = np.array([[filler, filler, 2.0], [4.0, 0.0, 5.0]])
    disparity, valid = to_disparity(values, kind=kind, scale=1, name="x", sky=SKY)
    assert valid.tolist() == [[True, True, True], [True, False, True]]
    assert disparity[0, :2].tolist() == [0, 0]
    assert disparity[0, 2].item() == pytest.approx(0.5 if kind == "depth_m" else 2)


def test_a_masked_border_stays_unknown_be_it_sky_or_not():
    values = np.array([[9.0, 9.0, 2.0], [9.0, 4.0, 5.0]])
    known = {"kind": "depth_m", "scale": 1, "name": "x", "mask": BORDER, "sky": SKY}
    disparity, valid = to_disparity(values, **known)
    assert valid.tolist() == BORDER.tolist()
    assert disparity.tolist() == [[0, 0, 0.5], [0, 0.25, pytest.approx(0.2)]]


def test_an_invalid_value_in_the_sky_is_sky():
    values = np.full((2, 3), np.inf)
    values[1] = 2.0
    known = {"kind": "depth_m", "scale": 1, "name": "x", "invalid": (np.inf,)}
    valid = to_disparity(values, sky=SKY, **known)[1]
    assert valid.tolist() == [[True, True, False], [True, True, True]]


def test_a_mask_of_sky_of_another_size_is_refused():
    with pytest.raises(DataError, match=r"a mask of sky of size \(1, 3\) for a map of size"):
        to_disparity(np.ones((2, 3)), kind="depth_m", scale=1, name="x", sky=SKY[:1])


def test_rules_of_sky():
    values = np.array([[1, 65535, 40000]], np.uint16)
    assert sky_by_rule(values, sky_rule("value 65535"), scale=100).tolist() == [[0, 1, 0]]
    assert sky_by_rule(values, sky_rule("value 1 40000"), scale=100).tolist() == [[1, 0, 1]]
    assert sky_by_rule(values, sky_rule("farther 400"), scale=100).tolist() == [[0, 1, 1]]
    floats = np.array([[np.nan, np.inf, 3.0]], np.float32)
    assert sky_by_rule(floats, sky_rule("value nan"), scale=1).tolist() == [[1, 0, 0]]
    assert sky_by_rule(floats, sky_rule("farther 4"), scale=1).tolist() == [[0, 1, 0]]


@pytest.fixture
def pair(tmp_path):
    """A pair with a mask of sky, and a manifest with what is given."""
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    rows = [[65535, 65535, 2000], [4000, 5000, 0]]
    (tmp_path / "d.png").write_bytes(published.png(rows, bits=16))
    sky = [[0, 255, 0], [0, 0, 0]]
    (tmp_path / "sky.png").write_bytes(published.png(sky, bits=8))

    def write(**row):
        row = {"image": "a.png", "depth": "d.png", "kind": "depth_m", "depth_scale": "1000"} | row
        (tmp_path / "manifest.csv").write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
        return DepthManifest(tmp_path)

    return write


@pytest.mark.parametrize(
    ("sky", "valid"),
    [
        ("sky.png", [[False, True, True], [True, True, False]]),
        ("value 65535", [[True, True, True], [True, True, False]]),
        ("farther 5", [[True, True, True], [True, True, False]]),
        ("none", [[False, False, True], [True, True, False]]),
        ("invalid", [[False, False, True], [True, True, False]]),
        ("", [[False, False, True], [True, True, False]]),
    ],
)
def test_sky_of_a_manifest_is_a_mask_or_a_rule(sky, valid, pair):
    sample = pair(sky=sky, invalid="65535")[0]
    assert sample["valid"].tolist() == valid
    far = 0 if sky != "farther 5" else 1  # 5 m is as far
    assert (sample["valid"] & (sample["disparity"] == 0)).sum() == sum(valid[0][:2]) + far


def test_a_mask_of_sky_that_is_not_there_is_found_before_a_training(pair):
    with pytest.raises(DataError, match=r"no such file: .*clouds\.png"):
        pair(sky="clouds.png").check_files()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"sky": "value blue"}, "sky is 'value blue'; write a path"),
        ({"sky": "farther"}, "no such file"),
        ({"sky": "farther -1"}, "sky is 'farther -1'"),
        ({"sky": "farther 1 2"}, "sky is 'farther 1 2'"),
        ({"sky": "farther 10", "kind": "disparity"}, "sky is a distance, but kind is disparity"),
        ({"rays": "60", "kind": "disparity"}, "rays is for depth along the rays"),
        ({"rays": "400"}, "rays is '400'; write the horizontal field of view"),
        ({"reader": "tiff"}, "unknown reader 'tiff'; it must be one of npz, dpt"),
    ],
)
def test_entries_that_cannot_be_meant_are_refused_at_once(row, message, pair):
    with pytest.raises(DataError, match=message):
        pair(**row).check_files()


def test_the_photographs_of_a_manifest_come_once_each(pair, tmp_path):
    from dalib.data.catalogue import open_source

    pair()
    with (tmp_path / "manifest.csv").open("a") as file:
        file.write("a.png,other.png,depth_m,1\nb.png,,,\n")
    Image.new("RGB", (5, 4)).save(tmp_path / "b.png")
    place = f"photos:{tmp_path / 'manifest.csv'}"
    pool = open_source(f"{place}?domain=roofs", count=1, height=1, width=1)
    assert [(s["name"], s["domain"], s["image"].shape) for s in pool] == [
        ("a.png", "roofs", (3, 2, 3)),
        ("b.png", "roofs", (3, 4, 5)),
    ]
    before = pool.fingerprint
    Image.new("RGB", (6, 4)).save(tmp_path / "b.png")
    again = open_source(place, count=1, height=1, width=1)
    assert again.fingerprint != before
    (tmp_path / "manifest.csv").write_text("picture\na.png\n")
    with pytest.raises(DataError, match="missing column image; it has picture"):
        open_source(place, count=1, height=1, width=1)
