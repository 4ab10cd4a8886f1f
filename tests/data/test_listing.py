"""Listings of large folders, kept: the same names and fingerprint as a plain listing gives, and
nothing believed that a look at folders and a sample would refute."""

import os
import pickle
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dalib.data import listing, remembered
from dalib.data.listing import list_folder
from dalib.data.photos import PhotoFolder
from dalib.errors import DataError

NAMES = ("a.png", "a-b/x.jpg", "a/x.jpg", "a/c/y.webp", "a/d.png", "z/é.png", "Z.PNG")


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch):
    monkeypatch.setattr(remembered, "LARGE", 2)
    monkeypatch.setattr(remembered, "BATCH", 3)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    for name in (*NAMES, "notes.txt", "z/raw.nef", ".hidden.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    Image.new("RGB", (5, 4), (9, 8, 7)).save(root / "a" / "d.png")
    settle(root)
    return root


def settle(root):
    """As if nothing had been touched for an hour."""
    then = time.time_ns() - 3600 * 10**9
    for place, _, _ in os.walk(root):
        os.utime(place, ns=(then, then))


@pytest.fixture
def read(monkeypatch):
    """Which folders are read, in order."""
    found = []

    def spy(root, place, maps):
        found.append(place)
        return listing.read_folder(root, place, maps)

    monkeypatch.setattr(remembered, "read_folder", spy)
    return found


def plain(root, monkeypatch):
    """As it is without a kept listing: all files looked at, by `list_folder`'s names."""
    with monkeypatch.context() as patch:
        patch.setattr(remembered, "listing", lambda folder: (None, list_folder(folder)))
        return facts(PhotoFolder(root))


def facts(source):
    return [source._name(i) for i in range(len(source))], source.fingerprint


def test_a_kept_listing_is_the_plain_one(folder, monkeypatch, read):
    with pytest.warns(UserWarning, match=r"raw files.*z/raw\.nef"):
        first = PhotoFolder(folder)
    assert len(read) == 5
    assert first.rows is not None
    assert facts(first) == plain(folder, monkeypatch)
    assert facts(first)[0] == sorted(NAMES) == list_folder(folder).names
    del read[:]
    with pytest.warns(UserWarning, match=r"raw files.*z/raw\.nef"):
        again = PhotoFolder(folder)
    assert read == [], "no folder is read"
    assert facts(again) == facts(first)
    assert facts(pickle.loads(pickle.dumps(again))) == facts(first)
    (number,) = (i for i, name in enumerate(sorted(NAMES)) if name == "a/d.png")
    assert again[number]["image"][:, 0, 0].tolist() == [9, 8, 7]
    assert again[number]["name"] == "a/d.png"
    assert len(again) == 7


@pytest.mark.filterwarnings("ignore::dalib.data.metadata.PictureWarning")
@pytest.mark.parametrize(
    ("change", "anew"),
    [
        (lambda root: (root / "a/new.jpg").write_bytes(b"n"), {"a"}),
        (lambda root: (root / "a/x.jpg").unlink(), {"a"}),
        (lambda root: (root / "a/x.jpg").rename(root / "z/x.jpg"), {"a", "z"}),
        (lambda root: (root / "z/raw.nef").unlink(), {"z"}),
        (lambda root: (root / "a/c").rename(root / "z/c"), {"a", "z", "z/c"}),
        (lambda root: os.replace(root / "a.png", root / "Z.PNG"), {""}),
    ],
    ids=["added", "removed", "moved", "raw", "folder", "replaced"],
)
def test_only_what_changed_is_listed_anew(folder, monkeypatch, read, change, anew):
    before = PhotoFolder(folder).fingerprint
    del read[:]
    change(folder)
    after = PhotoFolder(folder)
    assert set(read) == anew
    assert facts(after) == plain(folder, monkeypatch)
    assert (after.fingerprint == before) == (anew == {"z"}), "a raw file is no photograph"
    settle(folder)
    PhotoFolder(folder)
    del read[:]
    assert facts(PhotoFolder(folder)) == facts(after)
    assert read == []


@pytest.mark.filterwarnings("ignore::dalib.data.metadata.PictureWarning")
def test_files_that_were_written_over_are_found_in_a_sample(folder, monkeypatch):
    """They keep their folder's time. One that is not in the sample is an error when it is read."""
    first = PhotoFolder(folder).fingerprint
    with (folder / "a/x.jpg").open("r+b") as file:
        file.write(b"other words, and more of them")
    with monkeypatch.context() as patch:
        patch.setattr(remembered, "SAMPLE", 1)  # the first name alone
        source = PhotoFolder(folder)
        assert source.fingerprint == first
        number = facts(source)[0].index("a/x.jpg")
        with pytest.raises(
            DataError, match=r"a/x\.jpg: changed since its folder was listed; .*arrow"
        ):
            source[number]
    second = PhotoFolder(folder)
    assert second.fingerprint != first
    assert facts(second) == plain(folder, monkeypatch)
    (folder / "a/x.jpg").unlink()
    with pytest.raises(DataError, match=r"a/x\.jpg: no such file"):
        second[number]


@pytest.mark.filterwarnings("ignore::dalib.data.metadata.PictureWarning")
def test_a_folder_that_changed_just_now_is_not_believed(folder, read):
    """A clock may be too coarse to tell a change right after the listing."""
    (folder / "a/new.jpg").write_bytes(b"n")
    PhotoFolder(folder)
    del read[:]
    PhotoFolder(folder)
    assert read == ["a"]


@pytest.mark.filterwarnings("ignore::dalib.data.metadata.PictureWarning")
def test_maps_of_an_earlier_run_stay_left_out(folder, monkeypatch):
    """What is a map is said in a folder above."""
    (folder / "predictions.json").write_text('{"files": {"a/x.jpg": {}, "Z.PNG": {}}}')
    settle(folder)
    names, _ = facts(PhotoFolder(folder))
    assert names == sorted(set(NAMES) - {"a/x.jpg", "Z.PNG"})
    (folder / "a/new.jpg").write_bytes(b"n")
    names, _ = found = facts(PhotoFolder(folder))
    assert names == sorted({*NAMES, "a/new.jpg"} - {"a/x.jpg", "Z.PNG"})
    assert found == plain(folder, monkeypatch)


@pytest.mark.filterwarnings("ignore::dalib.data.metadata.PictureWarning")
def test_links_to_folders(folder, tmp_path, monkeypatch, read):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "far.jpg").write_bytes(b"far")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "circle").symlink_to(folder)
    settle(folder)
    settle(tmp_path / "elsewhere")
    first = facts(PhotoFolder(folder))
    assert "linked/far.jpg" in first[0]
    assert first == plain(folder, monkeypatch)
    del read[:]
    assert facts(PhotoFolder(folder)) == first
    assert read == []
    (tmp_path / "elsewhere" / "farther.jpg").write_bytes(b"far")
    assert facts(PhotoFolder(folder)) == plain(folder, monkeypatch)
    assert read == ["linked"]


@pytest.mark.filterwarnings("ignore::dalib.data.metadata.PictureWarning")
def test_names_that_are_no_utf8_keep_their_place(folder, monkeypatch):
    try:
        for name in (b"caf\xe9.jpg", "caf\uffee.jpg".encode(), "caf\U0001f600.jpg".encode()):
            (folder / os.fsdecode(name)).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    found = facts(PhotoFolder(folder))
    assert found == plain(folder, monkeypatch)
    assert found[0] == sorted(found[0])


@pytest.mark.filterwarnings("ignore::dalib.data.metadata.PictureWarning")
@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_a_damaged_listing_is_made_again(folder, runs, content):
    first = facts(PhotoFolder(folder))
    (kept,) = (runs / "cache" / "listings").iterdir()
    kept.write_bytes(kept.read_bytes()[:-40] if content is None else content)
    assert facts(PhotoFolder(folder)) == first


@pytest.mark.filterwarnings("ignore::dalib.data.metadata.PictureWarning")
def test_a_folder_that_became_small_or_empty(folder, runs, monkeypatch):
    PhotoFolder(folder)
    for name in NAMES[1:]:
        (folder / name).unlink()
    source = PhotoFolder(folder)
    assert source.rows is None
    assert facts(source) == plain(folder, monkeypatch)
    assert list((runs / "cache" / "listings").iterdir()) == []
    (folder / "a.png").unlink()
    with pytest.raises(DataError, match=r"no photograph in this folder .*raw"):
        PhotoFolder(folder)


def test_a_cache_that_cannot_be_written(folder, runs):
    (runs / "cache").mkdir(parents=True)
    (runs / "cache" / "listings").write_text("")
    with pytest.raises(DataError, match=r"the listing of .*photos could not be written"):
        PhotoFolder(folder)


def test_small_folders_are_listed_each_time(folder, runs, monkeypatch):
    monkeypatch.setattr(remembered, "LARGE", 8)
    with pytest.warns(UserWarning, match="raw"):
        source = PhotoFolder(folder)
    assert source.rows is None
    assert not (runs / "cache" / "listings").exists()


@settings(max_examples=40)
@given(st.lists(st.text("ab/-é\udce9", min_size=1, max_size=6), unique=True))
def test_the_order_is_that_of_characters(names):
    import pyarrow as pa

    stored = pa.chunked_array([pa.array([os.fsencode(n) for n in names], pa.large_binary())])
    order = remembered._order(stored).to_pylist()
    assert [names[k] for k in order] == sorted(names)
