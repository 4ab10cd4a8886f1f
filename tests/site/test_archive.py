"""The site as one zip: the same bytes from the same site, and no folder of this machine in it."""

import sys
import zipfile

import pytest

from dabook.site import archive, build
from dalib import paths
from dalib.errors import ConfigError, UserError


@pytest.fixture
def site(tmp_path):
    """A tiny site that names the checkout, as executed notebooks do."""
    home = tmp_path / "home of somebody" / "checkout"
    made = home / "_build" / "html"
    (made / "book").mkdir(parents=True)
    (made / "index.html").write_text('<a href="book/a.html">a</a>')
    (made / "book" / "a.html").write_text(
        f'File "{home}/dalib/losses.py", {home}/runs/ab/weights; in {home}, {home}-2, '
        f"?without={str(home / 'runs').replace('/', '%2F').replace(' ', '%20')}%2Fx"
    )
    (made / "picture.png").write_bytes(b"\x89PNG" + str(home).encode())
    (made / ".buildinfo").write_text("config")
    return made


def test_the_same_site_gives_the_same_bytes(site, tmp_path):
    packed = [tmp_path / "one.zip", tmp_path / "two.zip"]
    for path in packed:
        archive.pack(site, path, folder="book-1", readme="Read me.", moment=(2026, 1, 2, 3, 4, 6))
        (site / "index.html").touch()
    assert packed[0].read_bytes() == packed[1].read_bytes()
    with zipfile.ZipFile(packed[0]) as found:
        names = found.namelist()
        assert names == sorted(names)
        assert names == [
            "book-1/README.txt",
            "book-1/book/a.html",
            "book-1/index.html",
            "book-1/picture.png",
        ]
        assert {i.date_time for i in found.infolist()} == {(2026, 1, 2, 3, 4, 6)}
        assert found.read("book-1/README.txt") == b"Read me."


def test_folders_of_this_machine_are_told_as_those_of_the_checkout(site, tmp_path):
    home = site.parents[1]
    places = {str(home): "", str(home / "runs"): "runs"}
    archive.pack(site, tmp_path / "a.zip", folder="b", readme="", places=places)
    with zipfile.ZipFile(tmp_path / "a.zip") as found:
        text = found.read("b/book/a.html").decode()
    assert text == f'File "dalib/losses.py", runs/ab/weights; in ., {home}-2, ?without=runs%2Fx'


def test_real_images_and_pools_are_among_the_folders_of_this_machine(tmp_path, monkeypatch):
    (tmp_path / "checkout").mkdir()
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "manifest.csv").write_text("")
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path / "checkout"))
    monkeypatch.setenv("DALIB_RUNS", str(tmp_path / "checkout" / "runs"))
    monkeypatch.setenv("DALIB_REALDEPTH", str(tmp_path / "measured"))
    monkeypatch.setenv("DALIB_PHOTOS", "none")
    text = f"{tmp_path}/measured/manifest.csv, {tmp_path}/shared/x, /dev/null".encode()
    told = archive.told(text, archive.places())
    assert told == b"realdepth/manifest.csv, ../shared/x, /dev/null"
    assert archive.left(text)
    assert not archive.left(told)


def test_a_path_that_nobody_knows_is_refused(site, tmp_path):
    (site / "book" / "a.html").write_text(f"<p>{sys.prefix}/lib/python</p>")
    with pytest.raises(UserError, match=r"1 files of the site name folders .*book/a\.html"):
        archive.pack(site, tmp_path / "a.zip", folder="b", readme="")


def test_without_a_site_it_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    with pytest.raises(ConfigError, match="run `make book` first"):
        archive.archive()


def test_the_zip_is_called_by_the_commit_of_the_site(site, monkeypatch):
    root = site.parents[1]
    monkeypatch.setenv("DALIB_ROOT", str(root))
    monkeypatch.setenv("DALIB_RUNS", str(root / "runs"))
    build._stamp(root / "_build", build.COMMIT, "abc123 True")
    (site / "book" / "a.html").write_text(f"{paths.root()}/data")
    found = archive.archive()
    assert found == root / "_build" / "depth-anything-book-abc123.zip"
    with zipfile.ZipFile(found) as packed:
        folder = "depth-anything-book-abc123"
        told = packed.read(f"{folder}/README.txt").decode()
        assert packed.read(f"{folder}/book/a.html") == b"data"
        assert packed.getinfo(f"{folder}/index.html").date_time == archive.EARLIEST
    assert "commit abc123" in told
    assert "differed from its commit" in told
