"""Folders of predictions: which file is which image's, what it holds, and what cannot be."""

import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from dalib.errors import ConfigError, DataError
from dalib.evaluation.predictions import Key, MapFolder, check_values, direction
from dalib.predict.outputs import save as save_map

MAP = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def keys(*paths: str, names: tuple[str, ...] = (), dataset: str = "set") -> list[Key]:
    names = names or tuple(path.rpartition("/")[2].rpartition(".")[0] for path in paths)
    return [
        Key(name=name, path=path, number=k, dataset=dataset)
        for k, (path, name) in enumerate(zip(paths, names, strict=True))
    ]


def folder(tmp_path, *names: str) -> MapFolder:
    for name in names:
        file = tmp_path / "maps" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".npy"):
            np.save(file, MAP)
        else:
            Image.fromarray(MAP.astype(np.uint16)).save(file)
    return MapFolder(tmp_path / "maps", kind="disparity")


# ---- which file is which image's


@pytest.mark.parametrize(
    ("files", "scheme"),
    [
        (("rooms/a.npy", "halls/b.npy"), "the path of the image"),
        (("rooms/a.jpg.npy", "halls/b.jpg.npy"), "the path of the image with its ending"),
        (("set/first.npy", "set/second.npy"), "DATA SET/NAME"),
        (("first.npy", "second.npy"), "NAME"),
        (("a.npy", "b.npy"), "the file name of the image"),
        (("elsewhere/a.npy", "b.png"), "the file name of the image"),
        (("set/000.npy", "set/001.npy"), "DATA SET/NUMBER"),
        (("0.npy", "000001.npy"), "NUMBER"),
    ],
)
def test_files_are_called_like_the_images(tmp_path, files, scheme):
    wanted = keys("rooms/a.jpg", "halls/b.jpg", names=("first", "second"))
    found = folder(tmp_path, *files, "unrelated.npy").match(wanted)
    assert found.scheme == scheme
    assert found.missing == ()
    at = tmp_path / "maps"
    assert found.files == {"first": at / files[0], "second": at / files[1]}


def test_the_scheme_that_finds_most_is_taken(tmp_path):
    """`first` is a name here, and by accident; all others are called by their path."""
    wanted = keys("x/a.png", "x/b.png", "x/c.png", names=("first", "second", "third"))
    found = folder(tmp_path, "first.npy", "x/b.npy", "x/c.npy").match(wanted)
    assert found.scheme == "the path of the image"
    assert found.missing == ("first",)


def test_pictures_for_people_and_hidden_files_are_passed_over(tmp_path):
    found = folder(tmp_path, "a.npy", "a.colour.png", ".b.npy", ".hidden/c.npy")
    assert set(found.files) == {"a", "a.colour"}
    assert set(found.match(keys("a.jpg")).files) == {"a"}


def test_links_are_followed_once(tmp_path):
    """A folder that links to itself, and one whose maps lie elsewhere."""
    folder(tmp_path, "a.npy", "in/b.npy")
    (tmp_path / "maps" / "in" / "back").symlink_to(tmp_path / "maps")
    other = tmp_path / "other"
    other.mkdir()
    np.save(other / "c.npy", MAP)
    (tmp_path / "maps" / "linked").symlink_to(other)
    assert set(MapFolder(tmp_path / "maps", kind="depth").files) == {"a", "in/b", "linked/c"}


def test_two_predictions_of_one_name_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.npy and a\.png are two predictions of one name"):
        folder(tmp_path, "x/a.npy", "x/a.png")


def test_a_name_in_two_folders_is_refused(tmp_path):
    maps = folder(tmp_path, "one/a.npy", "two/a.npy")
    with pytest.raises(DataError, match="one/a and two/a could all be the prediction of a"):
        maps.match(keys("images/a.png"))


def test_one_prediction_of_two_images_is_refused(tmp_path):
    maps = folder(tmp_path, "a.npy")
    wanted = keys("left/a.png", "right/a.png", names=("l", "r"))
    with pytest.raises(DataError, match="a would be the prediction of both l and r"):
        maps.match(wanted)


def test_other_names_are_refused_with_both(tmp_path):
    with pytest.raises(DataError, match=r"none of its 1 predictions \(such as x\).*rooms/a\.jpg"):
        folder(tmp_path, "x.npy").match(keys("rooms/a.jpg"))


@pytest.mark.parametrize("there", ["nothing", "empty", "file"])
def test_no_folder_of_predictions(tmp_path, there):
    place = tmp_path / "maps"
    if there == "empty":
        place.mkdir()
        (place / "notes.txt").touch()
        (place / "0.npz").touch()
    if there == "file":
        place.touch()
    words = {
        "nothing": "no such folder",
        "empty": r"no prediction in this folder, which holds \.npz, \.txt",
        "file": "is a file",
    }[there]
    with pytest.raises(DataError, match=words):
        MapFolder(place, kind="depth")


# ---- what a file holds


def read(path, kind="depth", **options):
    return MapFolder(path.parent, kind=kind, **options).read(path)


def test_npy(tmp_path):
    np.save(tmp_path / "a.npy", MAP[..., None])
    assert read(tmp_path / "a.npy").tolist() == MAP.tolist()


@pytest.mark.parametrize("order", ["little", "big"])
def test_a_pfm_is_stored_from_the_bottom_up(tmp_path, order):
    """Written byte by byte: the file's first row is the lowest of the map."""
    mark, dtype = {"little": ("-1.0", "<f4"), "big": ("1.0", ">f4")}[order]
    head = f"Pf\n3 2\n{mark}\n".encode()
    (tmp_path / "a.pfm").write_bytes(head + MAP[::-1].astype(dtype).tobytes())
    assert read(tmp_path / "a.pfm").tolist() == MAP.tolist()


@pytest.mark.parametrize("more", [b"\r", b"\0\0\0\0"])
def test_a_pfm_that_is_longer_than_its_header_says_is_refused(tmp_path, more):
    """Line ends of Windows move every value by a byte, which nobody would see after a fit."""
    head = b"Pf\n3 2\n-1.0\n"
    values = MAP[::-1].astype("<f4").tobytes()
    windows = head.replace(b"\n", b"\r\n") + values
    (tmp_path / "a.pfm").write_bytes(windows if more == b"\r" else head + values + more)
    with pytest.raises(
        DataError, match=r"a\.pfm: a PFM of 3x2 has 24 bytes of values, and here are"
    ):
        read(tmp_path / "a.pfm")


def test_whole_numbers_need_a_scale(tmp_path):
    Image.fromarray((1000 * MAP).astype(np.uint16)).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png", scale=1000).tolist() == MAP.tolist()
    with pytest.raises(ConfigError, match=r"a\.png: holds whole numbers.*--scale 1000"):
        read(tmp_path / "a.png")
    up_to_scale = read(tmp_path / "a.png", kind="disparity")
    assert up_to_scale.tolist() == (1000 * MAP).tolist()


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf])
def test_a_scale_that_is_none(tmp_path, scale):
    with pytest.raises(ConfigError, match="--scale"):
        MapFolder(tmp_path, kind="depth", scale=scale)


def test_pngs_of_predict_say_their_scale_themselves(tmp_path):
    tmp_path = tmp_path / "maps"
    disparity = torch.tensor([[-3.0, 0.5], [1.0, 9.0]])
    save_map(disparity, (2, 2), {"png16": tmp_path / "d.png"})
    save_map(disparity + 4, (2, 2), {"png16": tmp_path / "m.png"}, kind="depth_m", max_depth=20.0)
    found = read(tmp_path / "d.png", kind="disparity")
    assert torch.allclose(found, disparity, atol=1e-4)
    assert torch.allclose(read(tmp_path / "m.png"), disparity + 4, atol=6e-4)
    with pytest.raises(ConfigError, match="says of itself that it is depth, and --kind says disp"):
        read(tmp_path / "m.png", kind="disparity")
    with pytest.raises(ConfigError, match="leave --scale out"):
        read(tmp_path / "m.png", scale=1000)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("a.png", np.zeros((4, 4), np.uint8), "8 bits a value"),
        ("a.png", np.zeros((4, 4, 3), np.uint8), "one channel"),
        ("a.npy", np.zeros((4, 4, 3)), "one channel"),
        ("a.npy", np.zeros((0, 4)), "empty map"),
        ("a.npy", np.array([["x"]]), "integers or floats"),
        ("a.npy", None, "truncated|damaged"),
        ("a.png", None, "truncated|damaged"),
        ("a.pfm", None, "truncated|damaged|known format"),
    ],
)
def test_what_is_no_map(tmp_path, name, array, words):
    path = tmp_path / name
    if array is None:
        path.write_bytes(
            {"a.npy": b"\x93NUMPY\x01\x00", "a.png": b"\x89PNG\r\n"}.get(name, b"Pf\n")
        )
    elif name.endswith(".npy"):
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)
    with pytest.raises(DataError, match=f"{re.escape(str(path))}.*({words})"):
        read(path)


# ---- what cannot be


def check(values, kind, *, free=False, counts=None):
    values = torch.tensor([values])
    counts = torch.ones_like(values, dtype=torch.bool) if counts is None else torch.tensor([counts])
    check_values(values, counts, kind=kind, free=free, where="set, image 'a'")


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        ([1.0, math.nan], "disparity", "1 of 2 values.*NaN or infinite"),
        ([math.inf, 1.0], "depth", "1 of 2 values.*NaN or infinite"),
        ([0.0, 1.0, -1.0], "depth", "2 of 3 values.*not above 0"),
        ([0.5, 80.0], "log_depth", "from 0.5 to 80 are no natural logarithms"),
        ([40.0, 41.0], "log_depth", "no natural logarithms"),
    ],
)
def test_values_that_cannot_be_of_their_kind(values, kind, words):
    with pytest.raises(DataError, match=f"set, image 'a': .*{words}"):
        check(values, kind)


def test_what_is_not_scored_or_is_fitted_anyway_may_be_anything():
    check([1.0, math.nan], "disparity", counts=[True, False])
    check([-5.0, 80.0], "log_depth", free=True)
    check([-5.0, 0.0], "depth", free=True)
    check([-5.0, 0.0], "disparity")
    check([math.nan], "depth", counts=[False])
    with pytest.raises(DataError, match="NaN"):
        check([math.nan, 1.0], "log_depth", free=True)


def test_direction_is_a_correlation():
    true = torch.tensor([[1.0, 2.0, 4.0]])
    everywhere = torch.ones(1, 3, dtype=torch.bool)
    assert direction(3 * true + 1, true, everywhere) == pytest.approx(1)
    assert direction(-true, true, everywhere) == pytest.approx(-1)
    values = torch.tensor([[1.0, 0.0, 5.0]])
    expected = np.corrcoef(values[0].numpy(), true[0].numpy())[0, 1]
    assert direction(values, true, everywhere) == pytest.approx(expected)
    assert math.isnan(direction(torch.ones(1, 3), true, everywhere))
    assert math.isnan(direction(true, true, torch.tensor([[True, False, False]])))
