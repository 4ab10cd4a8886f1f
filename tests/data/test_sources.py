"""Real data behind one schema: what comes out by hand-worked values, and a clear error for each
kind of bad input."""

import csv
import os

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image

from dalib import paths
from dalib.data.files import open_image, to_disparity
from dalib.data.photos import PhotoFolder
from dalib.data.sources import DepthManifest, Motorcycle, SkimagePhotos
from dalib.errors import DataError

RED, GREEN = (200, 10, 20), (10, 200, 20)


def half_and_half(mode="RGB"):
    """4 wide, 2 high; left half red, right half green."""
    picture = Image.new("RGB", (4, 2), RED)
    picture.paste(GREEN, (2, 0, 4, 2))
    return picture.convert(mode)


def truncate(path, keep=0.6):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


# ---- photographs


def test_photo_folder_is_sorted_and_labels_nothing(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("z.png", "a.JPG", "b/c.png", ".hidden.png", "notes.txt"):
        half_and_half().save(tmp_path / name, format="PNG")
    source = PhotoFolder(tmp_path)
    assert [sample["name"] for sample in source] == ["a.JPG", "b/c.png", "z.png"]
    assert source[-1].keys() == {"image", "domain", "name"}
    assert source[0]["domain"] == tmp_path.name
    assert source[0]["image"].dtype == torch.uint8
    assert source[0]["image"][:, 1, 3].tolist() == list(GREEN)
    with pytest.raises(IndexError, match="no sample 3"):
        source[3]


def test_exif_rotation(tmp_path):
    """Orientation 6: the camera was turned, the stored left column is the top row."""
    picture = half_and_half()
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    image = PhotoFolder(tmp_path)[0]["image"]
    assert image.shape == (3, 4, 2)
    assert image[:, 0, 0].tolist() == list(RED)
    assert image[:, 3, 0].tolist() == list(GREEN)


def test_grey_palette_and_transparency(tmp_path):
    Image.new("L", (2, 2), 77).save(tmp_path / "1_grey.png")
    half_and_half("P").save(tmp_path / "2_palette.png")
    Image.new("RGBA", (2, 2), (255, 0, 0, 128)).save(tmp_path / "3_alpha.png")
    Image.new("LA", (2, 2), (9, 0)).save(tmp_path / "4_transparent.png")
    grey, palette, alpha, transparent = (
        sample["image"][:, 0, 0].tolist() for sample in PhotoFolder(tmp_path)
    )
    assert grey == [77, 77, 77]
    assert np.abs(np.subtract(palette, RED)).max() <= 26, "the web palette has steps of 51"
    assert alpha == [255, 127, 127], "half red over white"
    assert transparent == [255, 255, 255]


def test_16_bit_grey(tmp_path):
    """65535 -> 255, 257 * 100 -> 100; Pillow's own conversion would clip all of it to 255."""
    Image.fromarray(np.array([[0, 25700, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert PhotoFolder(tmp_path)[0]["image"][0].tolist() == [[0, 100, 255]]


def test_empty_and_missing_folder(tmp_path):
    with pytest.raises(DataError, match="no photograph in this folder"):
        PhotoFolder(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        PhotoFolder(tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_photo(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / f"cut.{suffix}")
    truncate(tmp_path / f"cut.{suffix}")
    with pytest.raises(DataError, match=rf"cut\.{suffix}: truncated, damaged"):
        PhotoFolder(tmp_path)[0]


def test_no_image_at_all(tmp_path):
    (tmp_path / "words.png").write_text("hello")
    with pytest.raises(DataError, match=r"words\.png: truncated, damaged or not an image"):
        PhotoFolder(tmp_path)[0]
    with pytest.raises(DataError, match="no such file"):
        open_image(tmp_path / "gone.png")


def test_fingerprint_follows_content(tmp_path):
    half_and_half().save(tmp_path / "a.png")
    first = PhotoFolder(tmp_path).fingerprint
    int(first, 16)
    assert PhotoFolder(tmp_path).fingerprint == first
    half_and_half().transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "a.png")
    second = PhotoFolder(tmp_path).fingerprint
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    assert len({first, second, PhotoFolder(tmp_path).fingerprint}) == 3


# ---- manifests


@pytest.fixture
def manifest(tmp_path):
    """Write a manifest of one row: image 4x2, depth 0, 1, 2, 4 m in both rows, unless told
    otherwise."""

    def write(depth=None, *, drop=(), **changes):
        half_and_half().save(tmp_path / "image.png")
        depth = np.array([[0, 1000, 2000, 4000]] * 2, np.uint16) if depth is None else depth
        if depth.dtype == np.uint16:
            Image.fromarray(depth).save(tmp_path / "depth.png")
        else:
            np.save(tmp_path / "depth.npy", depth)
            changes.setdefault("depth", "depth.npy")
        row = {
            "id": "one",
            "dataset": "toy",
            "image": "image.png",
            "depth": "depth.png",
            "kind": "depth_m",
        }
        row |= {
            "depth_scale": "1000",
            "quality": "A",
            "scale_known": "yes",
            "offset_known": "yes",
        } | changes
        row = {k: v for k, v in row.items() if k not in drop}
        with (tmp_path / "manifest.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, row)
            writer.writeheader()
            writer.writerow(row)
        return tmp_path

    return write


def test_manifest_by_hand(manifest):
    sample = DepthManifest(manifest())[0]
    assert sample["disparity"].tolist() == [[0, 1, 0.5, 0.25]] * 2
    assert sample["disparity"].dtype == torch.float32
    assert sample["valid"].tolist() == [[False, True, True, True]] * 2
    assert (sample["domain"], sample["name"], sample["scale_known"]) == ("toy", "one", True)
    assert sample["image"].shape == (3, 2, 4)


def test_manifest_of_disparity(manifest):
    """value = stored / depth_scale, passed on as it is: it is disparity already."""
    stored = np.array([[0, 256, 512, 25600]] * 2, np.uint16)
    path = manifest(
        stored, kind="disparity", depth_scale="256", drop=("scale_known", "offset_known")
    )
    sample = DepthManifest(path / "manifest.csv")[0]
    assert sample["disparity"].tolist() == [[0, 1, 2, 100]] * 2
    assert (sample["scale_known"], sample["offset_known"]) == (False, True)


def test_manifest_filters(manifest):
    path = manifest(quality="B", offset_known="no")
    assert len(DepthManifest(path, dataset="toy", quality="B", offset_known=False)) == 1
    with pytest.raises(
        DataError, match=r"no row with depth and offset_known yes; data sets with depth: toy"
    ):
        DepthManifest(path, offset_known=True)


def test_manifest_prefers_native_files(manifest, tmp_path):
    Image.new("RGB", (6, 3)).save(tmp_path / "native.png")
    Image.fromarray(np.full((3, 6), 5000, np.uint16)).save(tmp_path / "native_depth.png")
    sample = DepthManifest(manifest(native_image="native.png", native_depth="native_depth.png"))[0]
    assert sample["image"].shape == (3, 3, 6)
    assert_allclose(sample["disparity"], 0.2)


def test_manifest_fingerprint_follows_files_and_rows(manifest, tmp_path):
    path = manifest()
    first = DepthManifest(path).fingerprint
    assert DepthManifest(path).fingerprint == first
    scaled = DepthManifest(manifest(depth_scale="500")).fingerprint
    os.utime(tmp_path / "depth.png", (1, 1))
    older = DepthManifest(path).fingerprint
    assert len({first, scaled, older}) == 3


BAD = [
    ({"depth": np.ones((3, 4), np.uint16)}, r"depth\.png: the map is 4x3 but its image 4x2"),
    ({"depth": np.zeros((2, 4), np.uint16)}, r"depth\.png: no valid value of depth_m"),
    (
        {"depth": np.array([[1, np.nan, 1, 1]] * 2)},
        r"depth\.npy: 2 NaN or infinite values .* store 0 or mask",
    ),
    ({"depth": np.array([[1, np.inf, 1, 1]] * 2)}, r"depth\.npy: 2 NaN or infinite"),
    ({"depth": np.array([[1, -3.0, 1, 1]] * 2)}, r"depth\.npy: 2 negative values"),
    ({"depth": np.ones((2, 4, 3))}, r"depth\.npy: a depth map has one channel"),
    ({"kind": "metres"}, "unknown kind 'metres'; it must be 'depth_m' or 'disparity'"),
    ({"image": ""}, r"manifest\.csv: row 1 \(\): it names no image"),
    (
        {"depth_scale": "-1"},
        r"manifest\.csv: row 1 \(image\.png\): depth_scale is '-1'; it must be a positive number",
    ),
    ({"depth_scale": "much"}, r"depth_scale is 'much'; it must be a positive number"),
    ({"depth_scale": "1000,0"}, r"depth_scale is '1000,0'; .* with a point for the decimals"),
    ({"depth_scale": "inf"}, "depth_scale is 'inf'"),
    ({"depth_scale": "nan"}, "depth_scale is 'nan'"),
    ({"depth_scale": ""}, "depth_scale is ''"),
    ({"offset_known": "perhaps"}, "offset_known is 'perhaps'; write yes or no"),
    ({"scale_known": ""}, "scale_known is ''; write yes or no"),
    ({"image": "gone.png"}, r"gone\.png: no such file"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[f"{changes}"[:40] for changes, _ in BAD])
def test_bad_pairs(manifest, changes, message):
    with pytest.raises(DataError, match=message):
        DepthManifest(manifest(**changes))[0]


@pytest.mark.parametrize("missing", ["image", "depth", "kind", "depth_scale"])
def test_missing_column(manifest, missing):
    with pytest.raises(DataError, match=rf"manifest\.csv: missing column {missing}; it has id, "):
        DepthManifest(manifest(drop=(missing,)))


def test_truncated_depth(manifest):
    path = manifest(np.random.default_rng(0).integers(1, 9999, (2, 4), np.uint16))
    truncate(path / "depth.png", keep=0.7)
    with pytest.raises(DataError, match=r"depth\.png: truncated, damaged"):
        DepthManifest(path)[0]


def test_truncated_array(manifest):
    path = manifest(np.ones((2, 4)))
    truncate(path / "depth.npy")
    with pytest.raises(DataError, match=r"depth\.npy: missing, truncated or no array"):
        DepthManifest(path)[0]


def test_truncated_or_absent_manifest(manifest, tmp_path):
    with pytest.raises(DataError, match=r"manifest\.csv: cannot be read"):
        DepthManifest(tmp_path)
    text = (manifest() / "manifest.csv").read_text()
    (tmp_path / "manifest.csv").write_text(text[: text.rindex("depth.png") + 3])
    with pytest.raises(DataError, match=r"manifest\.csv: row 1 has not 9 entries"):
        DepthManifest(tmp_path)


def test_realdepth():
    """The collection itself: 25 pairs, what its own columns say of them, KITTI at full
    resolution."""
    if not paths.realdepth().is_dir():
        pytest.skip("../shared/realdepth is not here; set DALIB_REALDEPTH to its folder")
    source = DepthManifest(paths.realdepth())
    assert len(source) == 25
    for sample, row in zip(source, source.rows, strict=True):
        disparity = sample["disparity"][sample["valid"]]
        values = 1 / disparity if row["kind"] == "depth_m" else disparity
        if sample["domain"] == "kitti":
            assert sample["image"].shape[2] > 1200
        else:
            assert sample["valid"].double().mean().item() == pytest.approx(
                float(row["valid_frac"]), abs=1e-3
            )
            assert values.min().item() == pytest.approx(float(row["min_valid"]), rel=1e-3)
            assert values.max().item() == pytest.approx(float(row["max_valid"]), rel=1e-3)


# ---- scikit-image


def test_motorcycle():
    """In metres, from the published calibration: depth 2.110 to 5.017 m, 27,226 of 500 x 741 pixels
    unknown."""
    sample = Motorcycle()[0]
    assert sample["image"].shape == (3, 500, 741)
    assert (~sample["valid"]).sum().item() == 27226
    depth = 1 / sample["disparity"][sample["valid"]]
    full_size = 193.001e-3 * 3979.911 / (4 * np.array([59.90896, 7.1913557]) + 124.343)
    assert_allclose([depth.min(), depth.max()], full_size, rtol=1e-5)
    assert sample["scale_known"]


def test_motorcycle_agrees_with_realdepth():
    """The collection has the same pair, cropped or resized to 640 x 432, quantised to
    millimetres."""
    if not paths.realdepth().is_dir():
        pytest.skip("../shared/realdepth is not here; set DALIB_REALDEPTH to its folder")
    source = DepthManifest(paths.realdepth(), dataset="middlebury", offset_known=True)
    theirs, ours = source[0], Motorcycle()[0]
    medians = [1 / s["disparity"][s["valid"]].median().item() for s in (theirs, ours)]
    assert medians[0] == pytest.approx(medians[1], rel=2e-3)


def test_skimage_photos_need_no_network(monkeypatch):
    import socket

    def refuse(*_, **__):
        raise AssertionError("a request left the machine")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    samples = list(SkimagePhotos())
    assert [s["name"] for s in samples] == list(SkimagePhotos.NAMES)
    assert all(s["image"].dtype == torch.uint8 and s["image"].shape[0] == 3 for s in samples)
    assert len(Motorcycle()) == 1
    assert Motorcycle()[0]["valid"].any()


# ---- depth to disparity


def test_depth_becomes_disparity_in_one_place():
    """A mask overrides junk; depth 0 is never inverted."""
    junk = np.array([[np.nan, -1, 0, 4.0]])
    disparity, valid = to_disparity(
        junk, kind="depth_m", scale=1, name="x", mask=np.array([[0, 0, 1, 1]])
    )
    assert disparity.tolist() == [[0, 0, 0, 0.25]]
    assert valid.tolist() == [[False, False, False, True]]
    with pytest.raises(DataError, match=r"x: a mask of size \(1, 3\) for a map of size \(1, 4\)"):
        to_disparity(junk, kind="depth_m", scale=1, name="x", mask=np.ones((1, 3)))
