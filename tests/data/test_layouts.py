"""Published data sets: a tiny tree in each published form, and the truth read back through the
manifest that is written for it."""

import csv
import os
import shutil

import numpy as np
import pytest
from helpers import ROOT
from helpers.published import DRIVE, NO, TREES, photo, put
from PIL import Image

from dalib.__main__ import main
from dalib.data.catalogue import open_source
from dalib.data.layouts import LAYOUTS, markdown
from dalib.data.published import write_manifest
from dalib.errors import ConfigError, DataError


def opened(name):
    return open_source(name, count=1, height=1, width=1)


def read_back(name):
    """For each id, disparity by rows, `NO` where it is not valid."""
    found = {}
    for sample in opened(name):
        pairs = zip(sample["disparity"].tolist(), sample["valid"].tolist(), strict=True)
        found[sample["name"]] = [
            [value if ok else NO for value, ok in zip(*row, strict=True)] for row in pairs
        ]
        assert sample["disparity"][~sample["valid"]].eq(0).all()
    return found


def assert_same(found, truth):
    assert sorted(found) == sorted(truth)
    for name, rows in truth.items():
        for row, wanted in zip(found[name], rows, strict=True):
            assert [v is NO for v in row] == [v is NO for v in wanted], name
            known = [v for v in row if v is not NO]
            assert known == pytest.approx([v for v in wanted if v is not NO], rel=1e-6), name


def test_every_layout_has_a_tree():
    assert set(TREES) == set(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_published_tree_is_read_back(name, tmp_path):
    truth = TREES[name](tmp_path)
    written = write_manifest(name, tmp_path)
    assert written.manifest == tmp_path / "manifest.csv"
    assert written.count == len(truth.samples)
    assert_same(read_back(f"depth:{tmp_path}"), truth.samples)
    source = opened(f"depth:{tmp_path}?dataset={LAYOUTS[name].dataset}")
    source.check_files()
    assert {s["scale_known"] for s in source} == {truth.scale_known}
    assert {s["offset_known"] for s in source} == {truth.offset_known}

    # what has no partner or no truth is counted
    counts = dict(written.apart.counts)
    for start, count in truth.apart.items():
        (what,) = [what for what in counts if what.startswith(start)]
        assert counts.pop(what) == count
    assert not counts

    # the images alone are a pool, without the maps among them
    pool = opened(f"photos:{tmp_path / 'manifest.csv'}")
    assert len(pool) == len(truth.samples)
    assert all(set(sample) == {"image", "domain", "name"} for sample in pool)
    assert all(sample["image"].shape == (3, 2, 3) for sample in pool)


def test_the_column_split_says_what_the_folders_say(tmp_path):
    for name, splits in (("diode", {"train", "val"}), ("ddad", {""}), ("nyuv2", {""})):
        TREES[name](tmp_path / name)
        write_manifest(name, tmp_path / name)
        with (tmp_path / name / "manifest.csv").open() as file:
            assert {row["split"] for row in csv.DictReader(file)} == splits


def test_matlab_images_lie_as_matlab_shows_them(tmp_path):
    TREES["nyuv2"](tmp_path)
    write_manifest("nyuv2", tmp_path)
    image = opened(f"depth:{tmp_path}")[2]["image"]
    assert image[1, 0, 2] == 77
    assert image.sum() == 77


# ---- parts


@pytest.mark.parametrize(
    ("name", "split", "ids"),
    [
        ("hrwsi", "val", ["val/imgs/a"]),
        ("diode", "train", ["train/indoors/scene_00022/scan_00193/00022_00193_indoors_000_010"]),
        ("nyuv2", "test", [f"nyu_depth_v2_labeled.mat#images/{k}" for k in (0, 2)]),
        ("nyuv2", "train", ["nyu_depth_v2_labeled.mat#images/1"]),
        ("ddad", "val", ["000150/rgb/CAMERA_01/15616458249936530"]),
        ("ddad", "train", ["000000/rgb/CAMERA_01/15616458249936530"]),
        ("hypersim", "test", ["ai_001_002/images/scene_cam_00_final_preview/frame.0000.tonemap"]),
    ],
)
def test_a_split_is_what_its_authors_say(name, split, ids, tmp_path):
    TREES[name](tmp_path)
    write_manifest(name, tmp_path, split=split)
    assert [sample["name"] for sample in opened(f"depth:{tmp_path}")] == ids
    with (tmp_path / "manifest.csv").open() as file:
        assert {row["split"] for row in csv.DictReader(file)} == {split}


@pytest.mark.parametrize(
    "line",
    [
        f"{DRIVE} 0000000069 l",
        f"{DRIVE} 69 l",
        f"{DRIVE}/image_02/data/0000000069.png val/x.png 721.5",
        f"./{DRIVE}/image_02/data/0000000069.jpg",
    ],
)
def test_a_list_chooses_images_and_what_it_misses_is_counted(line, tmp_path):
    TREES["kitti_eigen"](tmp_path)
    listed = tmp_path / "test_files.txt"
    listed.write_text(f"{line}\n\n{DRIVE} 0000000000 l\n{DRIVE} 0000000007 r\n")
    written = write_manifest("kitti_eigen", tmp_path, listed=listed)
    assert [s["name"] for s in opened(f"depth:{tmp_path}")] == [f"{DRIVE}/image_02/data/0000000069"]
    missed = "in the list, but not in the folder, or without a map there"
    assert written.apart.counts[missed] == 2


def test_a_list_of_another_tree_is_refused_with_an_example(tmp_path):
    TREES["kitti_eigen"](tmp_path)
    listed = tmp_path / "files.txt"
    listed.write_text("somewhere/else.png\n")
    with pytest.raises(
        DataError, match=r"none of its 1 images .*it has somewhere/else, the folder"
    ):
        write_manifest("kitti_eigen", tmp_path, listed=listed)
    listed.write_text("\n")
    with pytest.raises(DataError, match=r"files.txt: an empty list"):
        write_manifest("kitti_eigen", tmp_path, listed=listed)
    assert not (tmp_path / "manifest.csv").exists()


def test_a_split_that_is_not_there(tmp_path):
    TREES["nyuv2"](tmp_path)
    (tmp_path / "splits.mat").unlink()
    with pytest.raises(DataError, match=r"splits.mat: no such file, .* to be had at http"):
        write_manifest("nyuv2", tmp_path, split="test")
    put(tmp_path / "splits.mat", b"no matrix")
    with pytest.raises(DataError, match=r"splits.mat: no testNdxs can be read"):
        write_manifest("nyuv2", tmp_path, split="test")
    TREES["ddad"](tmp_path / "ddad")
    put(tmp_path / "ddad/ddad.json", b'{"scene_splits": []}')
    with pytest.raises(DataError, match=r"ddad\.json: no scene_splits"):
        write_manifest("ddad", tmp_path / "ddad", split="val")
    with pytest.raises(ConfigError, match="unknown split of nyuv2 'val'"):
        write_manifest("nyuv2", tmp_path, split="val")
    with pytest.raises(ConfigError, match="eth3d has no splits"):
        write_manifest("eth3d", tmp_path, split="val")


# ---- another form than the published one


@pytest.mark.parametrize("name", LAYOUTS)
def test_another_folder_is_refused_with_what_was_looked_for_and_found(name, tmp_path):
    with pytest.raises(DataError, match="no such folder; give the one that holds"):
        write_manifest(name, tmp_path / "nowhere")
    with pytest.raises(
        DataError, match=r"not .* as it is published: nothing is called .*nothing\."
    ):
        write_manifest(name, tmp_path)
    (tmp_path / "holiday").mkdir()
    photo(tmp_path / "holiday/1.jpg")
    with pytest.raises(DataError, match=r"there is holiday. Instead, give the folder that holds"):
        write_manifest(name, tmp_path)
    assert os.listdir(tmp_path) == ["holiday"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_above_is_refused_with_the_right_one(name, tmp_path):
    inner = tmp_path / "data" / "unpacked"
    inner.mkdir(parents=True)
    TREES[name](inner)
    with pytest.raises(DataError, match=f"Instead, try {inner}$"):
        write_manifest(name, tmp_path)


def test_images_without_any_map_name_the_pattern_of_the_maps(tmp_path):
    TREES["eth3d"](tmp_path)
    shutil.rmtree(tmp_path / "courtyard/ground_truth_depth")
    with pytest.raises(DataError, match=r"1 images, but none has its \{scene\}/ground_truth_depth"):
        write_manifest("eth3d", tmp_path)


def test_maps_without_their_image_are_counted(tmp_path):
    TREES["diode"](tmp_path)
    scan = tmp_path / "val/outdoor/scene_00022/scan_00193"
    shutil.copy(next(scan.glob("*_depth.npy")), scan / "other_depth.npy")
    assert write_manifest("diode", tmp_path).apart.counts == {"maps without their image": 1}


def test_an_image_whose_mask_is_missing_is_no_pair(tmp_path):
    TREES["hrwsi"](tmp_path)
    (tmp_path / "val/valid_masks/a.png").unlink()
    written = write_manifest("hrwsi", tmp_path)
    assert written.count == 1
    assert written.apart.counts == {"images without their map or mask": 1}


def test_a_scan_without_calibration_is_no_pair(tmp_path):
    TREES["kitti_eigen_raw"](tmp_path)
    (tmp_path / "2011_09_26/calib_cam_to_cam.txt").unlink()
    with pytest.raises(DataError, match=r"none has its .*\{date\}/calib_cam_to_cam.txt"):
        write_manifest("kitti_eigen_raw", tmp_path)


def test_names_without_content_are_refused_before_anything_is_written(tmp_path):
    TREES["vkitti2"](tmp_path)
    (depth,) = tmp_path.rglob("depth_*.png")
    Image.new("RGB", (3, 2)).save(depth)
    with pytest.raises(DataError, match=r"one channel.* None of the 1 pairs that were read is as"):
        write_manifest("vkitti2", tmp_path)
    assert not (tmp_path / "manifest.csv").exists()


def test_check_reads_every_pair_where_asked(tmp_path):
    for k in range(5):
        photo(tmp_path / f"courtyard/images/dslr_images/{k}.JPG")
        size = 24 if k != 3 else 20
        put(
            tmp_path / f"courtyard/ground_truth_depth/dslr_images/{k}.JPG",
            b"\0\0\x80?" * (size // 4),
        )
    assert write_manifest("eth3d", tmp_path).count == 5
    written = write_manifest("eth3d", tmp_path, check=True, overwrite=True)
    assert written.count == 4
    (what,) = written.apart.counts
    assert what.startswith("left out (N bytes are not the floatN of its NxN photograph")


def test_what_a_mac_leaves_behind_is_passed_over(tmp_path):
    truth = TREES["ddad"](tmp_path)
    for path in list(tmp_path.rglob("*.png")):
        put(path.with_name(f"._{path.name}"), b"Mac OS X")
    assert write_manifest("ddad", tmp_path).count == len(truth.samples)


def test_linked_folders_are_followed_and_circles_do_no_harm(tmp_path):
    """A scene on another disk, a scene that links to itself, a link to a scene that comes before it
    by name, and one to the folder above."""
    TREES["ddad"](tmp_path / "disk")
    root = tmp_path / "root"
    root.mkdir()
    (root / "000150").symlink_to(tmp_path / "disk" / "000150")
    (tmp_path / "disk" / "000150" / "again").symlink_to(tmp_path / "disk" / "000150")
    shutil.move(tmp_path / "disk" / "000000", root / "000000")
    (root / "00").symlink_to(root / "000000")
    (root / "up").symlink_to(tmp_path)
    written = write_manifest("ddad", root)
    assert not written.apart.counts
    assert [sample["name"].partition("/")[0] for sample in opened(f"depth:{root}")] == [
        "000000",
        "000150",
    ]


# ---- the manifest


def test_a_manifest_elsewhere_names_its_files_from_there(tmp_path):
    truth = TREES["nyuv2"](tmp_path / "data")
    out = tmp_path / "tables" / "nyu.csv"
    write_manifest("nyuv2", tmp_path / "data", out=out)
    assert_same(read_back(f"depth:{out}"), truth.samples)
    assert len(opened(f"photos:{out}")) == 3


def test_a_manifest_is_never_overwritten_unasked(tmp_path):
    TREES["diode"](tmp_path)
    write_manifest("diode", tmp_path)
    before = (tmp_path / "manifest.csv").read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        write_manifest("diode", tmp_path, split="val")
    assert (tmp_path / "manifest.csv").read_bytes() == before
    assert write_manifest("diode", tmp_path, split="val", overwrite=True).count == 1


def test_a_place_that_cannot_be_written_is_known_before_the_pairs_are_read(tmp_path, monkeypatch):
    from dalib.data import published

    TREES["diode"](tmp_path)
    (tmp_path / "file").write_text("")
    read = []
    monkeypatch.setattr(published, "read_row", lambda *row, **place: read.append(row))
    with pytest.raises(DataError, match="could not be written"):
        write_manifest("diode", tmp_path, out=tmp_path / "file" / "manifest.csv", check=True)
    assert not read


def test_a_name_that_no_table_can_hold_is_refused(tmp_path):
    TREES["diode"](tmp_path)
    (scene,) = tmp_path.glob("val/outdoor/scene_00022")
    scene.rename(scene.with_name("two\nlines"))
    with pytest.raises(DataError, match="a name that no table can hold"):
        write_manifest("diode", tmp_path)


def test_names_with_commas_and_quotes_are_read_back(tmp_path):
    truth = TREES["diode"](tmp_path)
    (scene,) = tmp_path.glob("val/outdoor/scene_00022")
    scene.rename(scene.with_name('a "b", c; d'))
    write_manifest("diode", tmp_path)
    found = read_back(f"depth:{tmp_path}")
    assert sorted(found.values(), key=str) == sorted(truth.samples.values(), key=str)
    assert any('a "b", c; d' in name for name in found)


def test_an_unknown_name_is_told_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown layout 'hypersin'. Did you mean 'hypersim'"):
        write_manifest("hypersin", tmp_path)


def test_the_command(tmp_path, capsys):
    TREES["kitti_eigen"](tmp_path)
    assert main(["manifest", "kitti_eigen", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"2 pairs: {tmp_path / 'manifest.csv'}" in said
    assert "images without their map or mask: 2011_09_26/" in said
    assert "give it with --list" in said
    assert f"depth:{tmp_path}; its images alone: photos:{tmp_path / 'manifest.csv'}" in said
    assert main(["manifest", "kitti_eigen", str(tmp_path)]) == 1
    assert "allow it with --overwrite" in capsys.readouterr().err
    listed = tmp_path / "files.txt"
    listed.write_text(f"{DRIVE} 0000000069 l\n")
    words = ["--list", str(listed), "--out", str(tmp_path / "652.csv")]
    assert main(["manifest", "kitti_eigen", str(tmp_path), *words]) == 0
    assert "1 pairs" in capsys.readouterr().out


def test_the_command_prints_the_table(capsys):
    assert main(["manifest", "--list"]) == 0
    said = capsys.readouterr().out
    for name, layout in LAYOUTS.items():
        assert f"\n{name}: " in f"\n{said}"
        for words in (layout.expects, layout.unit, layout.sky_words, layout.licence, layout.url):
            assert words in said
    assert main(["manifest"]) == 1
    assert "name a data set and its folder" in capsys.readouterr().err


def test_the_book_prints_the_table():
    page = (ROOT / "book" / "published_data.md").read_text(encoding="utf-8")
    assert markdown() in page, "write dalib.data.layouts.markdown() into book/published_data.md"


# ---- depth along the rays


def test_without_the_table_of_cameras_the_usual_one_is_taken_and_said(tmp_path):
    TREES["hypersim"](tmp_path)
    (tmp_path / "metadata_camera_parameters.csv").unlink()
    written = write_manifest("hypersim", tmp_path)
    assert [what.partition(",")[0] for what in written.apart.counts] == ["not there"]
    usual, shifted = read_back(f"depth:{tmp_path}").values()
    assert usual[0] == pytest.approx([0.5, 0.5, 0.5])
    assert shifted[0] != pytest.approx([0.5, 0.5, 0.5], rel=0.05)


def test_a_table_of_cameras_that_is_none_is_refused(tmp_path):
    TREES["hypersim"](tmp_path)
    table = tmp_path / "metadata_camera_parameters.csv"
    table.write_text(table.read_text().replace("1.5", "wide"))
    with pytest.raises(DataError, match=r"camera_parameters.csv: ai_001_002: rays is 'wide 0"):
        write_manifest("hypersim", tmp_path)
    table.write_text("scene_name\nai_001_002\n")
    with pytest.raises(DataError, match="missing column M_cam_from_uv_00"):
        write_manifest("hypersim", tmp_path)


def test_depth_along_the_rays_is_turned_as_the_photograph(tmp_path):
    """A photograph that is stored lying: 3 x 2 pixels shown as 2 x 3. The rays are those of the
    stored picture, whose long side spans the field of view."""
    TREES["hypersim"](tmp_path)
    shutil.rmtree(tmp_path / "ai_001_002")
    (image,) = tmp_path.rglob("*.tonemap.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (3, 2)).save(image, exif=exif)
    write_manifest("hypersim", tmp_path)
    (sample,) = opened(f"depth:{tmp_path}")
    assert sample["disparity"].shape == (3, 2)
    known = sample["disparity"][sample["valid"]].numpy()
    assert known == pytest.approx(np.full(5, 0.5), rel=1e-6)
