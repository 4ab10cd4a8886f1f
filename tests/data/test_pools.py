"""Public pools, built from bare repositories and a server that the tests make themselves."""

import csv
import dataclasses
import http.server
import io
import json
import os
import re
import struct
import subprocess
import tarfile
import threading
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from helpers import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dalib import paths
from dalib.__main__ import main
from dalib.data.catalogue import open_source
from dalib.data.pools import build
from dalib.data.pools.build import fetch
from dalib.data.pools.depth import cosine, read_cloud, read_depth, shrink, unpack_lzf
from dalib.data.pools.facts import Pool, Repository, Row, read_pool, tables
from dalib.data.pools.fingerprint import RULES, blob_id, fingerprint, fingerprint_of
from dalib.data.pools.originals import Clones, Web
from dalib.data.sources import DepthManifest
from dalib.errors import ConfigError, DataError

SIZE = (341, 256)
"""Of the stored photographs of these tests."""


def picture(seed: int, *, size=(400, 300)) -> Image.Image:
    """Smooth noise, which no other seed's is near to."""
    cells = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form="JPEG", **options) -> bytes:
    stored = io.BytesIO()
    image.save(stored, form, **options)
    return stored.getvalue()


def bare(folder: Path, files: dict[str, bytes]) -> str:
    """A bare repository with these files in one commit, whose id comes back."""
    subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True)
    stream = b"commit refs/heads/main\ncommitter t <t@t> 0 +0000\ndata 0\n"
    for path, content in files.items():
        stream += f'M 100644 inline "{path}"\n'.encode() + b"data %d\n" % len(content) + content
        stream += b"\n"
    git = ["git", "--git-dir", str(folder)]
    subprocess.run([*git, "fast-import", "--quiet"], input=stream, check=True)
    head = subprocess.run([*git, "rev-parse", "main"], capture_output=True, text=True, check=True)
    return head.stdout.strip()


def origin(repository: str, commit: str, **coding: str) -> Repository:
    return Repository(
        source=repository.split("/")[1],
        repository=repository,
        commit=commit,
        dataset="made up",
        licence="none stated",
        ship="unclear",
        coding=coding,
        notes="",
    )


def photo(place: Repository, path: str, content: bytes, *, size=SIZE) -> Row:
    facts = {"key": path.split(".")[0], "place": "indoor"}
    return Row(facts["key"], place, path, blob_id(content), "", "", size, facts)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Seven photographs of two repositories in shards of about three: the pool, the clones and the
    contents by path."""
    monkeypatch.setattr("dalib.data.pools.facts.SHARD", 3)
    files = {f"a{n}.jpg": encoded(picture(n)) for n in range(4)}
    more = {f"b{n}.png": encoded(picture(10 + n), "PNG") for n in range(3)}
    one = origin("ann/one", bare(tmp_path / "clones" / "ann+one", files))
    two = origin("bob/two", bare(tmp_path / "clones" / "bob" / "two.git", more))
    rows = [photo(one, path, content) for path, content in files.items()]
    rows += [photo(two, path, content) for path, content in more.items()]
    rows = [rows[place] for place in (0, 4, 1, 5, 2, 6, 3)]
    return Pool(name="photos", rows=tuple(rows)), tmp_path / "clones", files | more


def replaced(pool: Pool, place: int, **changes) -> Pool:
    """The pool with another row at a place."""
    rows = list(pool.rows)
    rows[place] = dataclasses.replace(rows[place], **changes)
    return dataclasses.replace(pool, rows=tuple(rows))


def got(pool: Pool, folder: Path, clones: Path, **options):
    return fetch(pool, folder, Clones(folder=clones), report=lambda _: None, **options)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def members(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as shard:
            found |= {m.name: shard.extractfile(m).read() for m in shard}
    return found


# The committed tables


def test_the_tables_are_small_whole_and_name_no_machine():
    found = list((ROOT / "data" / "pools").iterdir())
    assert sorted(path.name for path in found) == ["photos.csv", "rgbd.csv", "sources.csv"]
    assert sum(path.stat().st_size for path in found) < 1_500_000
    text = "".join(path.read_text(encoding="utf-8") for path in found)
    assert not re.findall(r"https?://|[^\w]/(?:work|home|root|tmp|mnt)/", text)


@pytest.mark.parametrize(
    ("name", "count", "whole"),
    [("photos", 5095, "ca16a881a69aa0b8"), ("rgbd", 455, "5f04b877d3d799eb")],
)
def test_the_recorded_pools(name, count, whole):
    pool = read_pool(name)
    assert len(pool.rows) == count
    assert pool.whole == whole
    assert [row for _, rows in pool.parts() for row in rows] == list(pool.rows)
    for row in pool.rows:
        assert re.fullmatch("[0-9a-f]{40}", row.origin.commit)
        assert re.fullmatch("[0-9a-f]{40}", row.blob)
        assert row.origin.licence
        assert row.origin.ship in ("yes", "no", "unclear")
        assert bool(row.depth_path) == bool(row.depth_blob)
        assert not row.has_depth or (row.depth_path and row.origin.coding["stored"])


@pytest.mark.parametrize("name", ["photos", "rgbd"])
def test_the_shared_pool_is_the_recorded_one(name):
    folder = paths.root().parent / "shared" / name
    folder = folder if folder.is_dir() else Path(os.environ.get("DALIB_POOLS", "none")) / name
    if not folder.is_dir():
        pytest.skip(f"../shared/{name} is not here; set DALIB_POOLS to the folder that holds it")
    assert fingerprint_of(folder) == read_pool(name).whole
    if name == "photos":
        assert fingerprint_of(f"{folder}/*.tar") == read_pool(name).whole
        shards = [row["shard"] for row in table(folder / "manifest.csv")]
        recorded = [part for part, rows in read_pool(name).parts() for _ in rows]
        assert shards == recorded


def test_tables_beside_an_installed_package(tmp_path, monkeypatch):
    """Where the package is no checkout's, they are in `share` above it."""
    place = tmp_path / "share" / "depth-anything-book" / "pools"
    place.mkdir(parents=True)
    (place / "sources.csv").write_text("")
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    module = (
        tmp_path / "lib" / "python3" / "site-packages" / "dalib" / "data" / "pools" / "facts.py"
    )
    monkeypatch.setattr("dalib.data.pools.facts.__file__", str(module))
    assert tables() == place
    (place / "sources.csv").unlink()
    with pytest.raises(DataError, match="DALIB_ROOT"):
        tables()


# Fingerprints


def test_blob_ids_are_git_s():
    """`printf 'hello\\n' | git hash-object --stdin`, and the id of nothing."""
    assert blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert blob_id(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


LINES = st.lists(st.tuples(*[st.text("abc", min_size=1, max_size=3)] * 3), max_size=6, unique=True)


@given(LINES, st.randoms())
@settings(max_examples=50)
def test_a_fingerprint_knows_no_order_and_every_line(lines, random):
    shuffled = random.sample(lines, len(lines))
    whole = fingerprint(lines, rule="r 1")
    assert fingerprint(shuffled, rule="r 1") == whole
    assert fingerprint(lines, rule="r 2") != whole
    assert all(fingerprint(lines[:n], rule="r 1") != whole for n in range(len(lines)))


def test_fingerprint_of_places(tmp_path):
    assert fingerprint_of(tmp_path) is None
    (tmp_path / "manifest.csv").write_text("image,depth\na,b\n")
    assert fingerprint_of(tmp_path) is None
    (tmp_path / "manifest.csv").write_text("key,blob\na,b\n")
    expected = fingerprint([("a", "b", "")], rule=RULES["photos"])
    assert fingerprint_of(tmp_path / "manifest.csv") == expected
    (tmp_path / "pool.json").write_text('{"fingerprint": "0123"}')
    assert fingerprint_of(tmp_path) == fingerprint_of(f"{tmp_path}/*.tar") == "0123"
    (tmp_path / "pool.json").write_text("[")
    assert fingerprint_of(tmp_path) == expected


# Photographs


def test_shards_hold_the_photographs_as_the_rule_says(world, tmp_path):
    pool, clones, files = world
    summary = got(pool, tmp_path / "out", clones)
    assert (summary.here, summary.missing, summary.fingerprint) == (7, {}, pool.whole)
    assert sorted(p.name for p in (tmp_path / "out").glob("*.tar")) == [
        "photos-0000.tar",
        "photos-0001.tar",
    ]
    stored = members(tmp_path / "out")
    assert list(stored) == [f"{row.key}.jpg" for row in pool.rows]
    for row in pool.rows:
        image = Image.open(io.BytesIO(stored[f"{row.key}.jpg"]))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", SIZE)
        original = Image.open(io.BytesIO(files[row.path])).convert("RGB")
        expected = np.asarray(original.resize(SIZE, Image.Resampling.LANCZOS), float)
        assert abs(np.asarray(image, float) - expected).mean() < 3

    # ustar by its bytes: name, mode, owner, group, size, time, type, magic
    block = (tmp_path / "out" / "photos-0000.tar").read_bytes()[:512]
    assert block[:100].rstrip(b"\0") == b"a0.jpg"
    fields = [block[100:108], block[108:116], block[116:124], block[136:148], block[156:157]]
    assert [field.strip(b" \0") for field in fields] == [
        b"0000644",
        b"0000000",
        b"0000000",
        b"00000000000",
        b"0",
    ]
    assert block[257:263] == b"ustar\0"

    rows = table(tmp_path / "out" / "manifest.csv")
    assert [row["key"] for row in rows] == [row.key for row in pool.rows]
    assert {row["licence"] for row in rows} == {"none stated"}
    assert fingerprint_of(tmp_path / "out") == pool.whole
    (tmp_path / "out" / "pool.json").unlink()
    assert fingerprint_of(tmp_path / "out") == pool.whole


def test_exif_is_turned_into_pixels_and_small_images_stay(tmp_path):
    image = Image.new("RGB", (30, 20), "black")
    image.paste("white", (0, 0, 30, 10))  # upper half, stored lying on its side
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees clockwise
    content = encoded(image, exif=exif, comment=b"somebody", quality=95)
    commit = bare(tmp_path / "clones" / "a+b", {"x.jpg": content})
    pool = Pool("photos", (photo(origin("a/b", commit), "x.jpg", content, size=(20, 30)),))
    got(pool, tmp_path / "out", tmp_path / "clones")
    stored = members(tmp_path / "out")["x.jpg"]
    opened = Image.open(io.BytesIO(stored))
    pixels = np.asarray(opened.convert("L")).astype(int)
    assert pixels.shape == (30, 20)
    assert pixels[:, 12:].min() > 200
    assert pixels[:, :8].max() < 50
    assert not opened.getexif()
    assert b"somebody" not in stored


def test_what_cannot_be_had_is_listed_and_the_rest_is_built(world, tmp_path):
    pool, clones, _ = world
    nowhere = origin("no/where", "0" * 40)
    changed = replaced(pool, 0, path="not-there.jpg", blob="1" * 40)
    changed = replaced(changed, 1, origin=nowhere)
    other = "f" * 40  # the file is there, but with another content
    changed = replaced(changed, 2, blob=other)
    summary = got(changed, tmp_path / "out", clones)
    assert summary.here == 4
    assert summary.missing == {
        "no file in the clone": 1,
        "no clone of no/where in the folder of clones": 1,
        "another content": 1,
    }
    rows = table(tmp_path / "out" / "missing.csv")
    assert [row["key"] for row in rows] == [row.key for row in changed.rows[:3]]
    assert other in rows[2]["reason"]
    assert rows[0]["path"] == "not-there.jpg"
    assert summary.fingerprint != changed.whole
    lines = [(row.key, row.blob, "") for row in changed.rows[3:]]
    assert fingerprint_of(tmp_path / "out") == fingerprint(lines, rule=RULES["photos"])


def test_a_damaged_original_is_listed(tmp_path):
    content = encoded(picture(0))[:200]
    commit = bare(tmp_path / "clones" / "a+b", {"x.jpg": content})
    pool = Pool("photos", (photo(origin("a/b", commit), "x.jpg", content),))
    assert got(pool, tmp_path / "out", tmp_path / "clones").here == 0
    assert "x.jpg" in table(tmp_path / "out" / "missing.csv")[0]["reason"]
    assert not list((tmp_path / "out").glob("*.tar"))


def test_without_a_recorded_blob_the_content_s_own_counts(world, tmp_path):
    pool, clones, files = world
    unknown = replaced(pool, 0, blob="")
    got(unknown, tmp_path / "out", clones)
    assert table(tmp_path / "out" / "manifest.csv")[0]["blob"] == blob_id(files["a0.jpg"])


def test_the_fingerprint_knows_the_originals_and_not_the_encoder(world, tmp_path, monkeypatch):
    pool, clones, _ = world
    here = got(pool, tmp_path / "one", clones)
    monkeypatch.setitem(build.QUALITY, "photos", 30)
    there = got(pool, tmp_path / "two", clones)
    assert members(tmp_path / "one") != members(tmp_path / "two")
    assert here.fingerprint == there.fingerprint == pool.whole

    content = encoded(picture(99))
    commit = bare(clones / "eve+other", {"a0.jpg": content})
    other = replaced(pool, 0, origin=origin("eve/other", commit), blob=blob_id(content))
    assert got(other, tmp_path / "three", clones).fingerprint not in (pool.whole, None)


@pytest.mark.parametrize("after", range(8))
def test_a_fetch_that_was_stopped_anywhere_ends_with_the_same_bytes(world, tmp_path, after):
    """Killed before the original `after`, and once more within the writing of the tables."""
    pool, clones, _ = world
    got(pool, tmp_path / "whole", clones)

    class Killed(BaseException):
        pass

    class Dying(Clones):
        left = after

        def get(self, original):
            self.left -= 1
            if self.left < 0:
                raise Killed
            return super().get(original)

    out = tmp_path / "out"
    if after < 7:
        with pytest.raises(Killed):
            fetch(pool, out, Dying(folder=clones), report=lambda _: None)
    else:  # the shard is there, and no table says so
        got(pool, out, clones)
        (out / "manifest.csv").unlink()
    summary = got(pool, out, clones)
    assert contents(out) == contents(tmp_path / "whole")
    assert summary.fingerprint == pool.whole


def test_first_a_few_and_then_all_is_the_same_as_all(world, tmp_path):
    pool, clones, _ = world
    got(pool, tmp_path / "whole", clones)
    assert got(pool, tmp_path / "out", clones, limit=2).here == 2
    assert list(members(tmp_path / "out")) == ["a0.jpg", "b0.jpg"]
    got(pool, tmp_path / "out", clones, limit=6)
    got(pool, tmp_path / "out", clones)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_what_is_missing_is_tried_again_when_asked_for(world, tmp_path):
    pool, clones, _ = world
    got(pool, tmp_path / "whole", clones)
    (clones / "ann+one").rename(clones / "away")
    assert got(pool, tmp_path / "out", clones).here == 3
    (clones / "away").rename(clones / "ann+one")
    assert got(pool, tmp_path / "out", clones).here == 3
    assert got(pool, tmp_path / "out", clones, retry=True).here == 7
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_shard_that_was_lost_or_damaged_is_made_anew(world, tmp_path):
    pool, clones, _ = world
    got(pool, tmp_path / "whole", clones)
    got(pool, tmp_path / "out", clones)
    (tmp_path / "out" / "photos-0000.tar").unlink()
    second = tmp_path / "out" / "photos-0001.tar"
    second.write_bytes(second.read_bytes()[:700])
    got(pool, tmp_path / "out", clones)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_doubles_are_reported(tmp_path):
    one = encoded(picture(1))
    again = encoded(picture(1).resize((380, 285)), quality=80)
    files = {"x.jpg": one, "same.jpg": one, "near.jpg": again, "other.jpg": encoded(picture(2))}
    commit = bare(tmp_path / "clones" / "a+b", files)
    place = origin("a/b", commit)
    pool = Pool("photos", tuple(photo(place, path, files[path]) for path in files))
    summary = got(pool, tmp_path / "out", tmp_path / "clones")
    assert (summary.exact, summary.near) == (1, 2)
    assert [tuple(row.values()) for row in table(tmp_path / "out" / "doubles.csv")] == [
        ("x", "same", "exact"),
        ("x", "near", "near"),
        ("same", "near", "near"),
    ]


# Refusals


def test_a_folder_of_something_else_is_refused(world, tmp_path):
    pool, clones, _ = world
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="holds something else"):
        got(pool, tmp_path / "mine", clones)
    assert contents(tmp_path / "mine") == {"letter.txt": b"dear"}
    with pytest.raises(ConfigError, match="is a file"):
        got(pool, tmp_path / "mine" / "letter.txt", clones)
    got(pool, tmp_path / "out", clones, limit=1)
    other = Pool("rgbd", ())
    with pytest.raises(ConfigError, match="holds the pool photos"):
        got(other, tmp_path / "out", clones)
    with pytest.raises(ConfigError, match="at least 1"):
        got(pool, tmp_path / "out", clones, limit=0)


@pytest.mark.parametrize("name", ["manifest.csv", "missing.csv", "pool.json"])
def test_damaged_notes_are_named_and_nothing_is_overwritten(world, tmp_path, name):
    pool, clones, _ = world
    got(pool, tmp_path / "out", clones, limit=2)
    path = tmp_path / "out" / name
    path.write_text(path.read_text()[:-5] + 'x,"y\n')
    before = contents(tmp_path / "out")
    with pytest.raises((DataError, ConfigError), match=rf"{name}: damaged"):
        got(pool, tmp_path / "out", clones)
    assert contents(tmp_path / "out") == before


def test_two_at_a_time_are_refused(world, tmp_path):
    pool, clones, _ = world
    got(pool, tmp_path / "out", clones, limit=1)
    with (
        build._only_writer(tmp_path / "out"),
        pytest.raises(ConfigError, match="another process"),
    ):
        got(pool, tmp_path / "out", clones)


@pytest.mark.parametrize(
    "template",
    ["/{repo}/{path}", "https://x/{repo}", "file:///{path}", "https://x/{path}/{key}", "https://{"],
)
def test_templates_that_name_no_file_are_refused(template):
    with pytest.raises(ConfigError, match="--url"):
        Web(template=template)


def test_no_folder_of_clones_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        Clones(folder=tmp_path / "none")


# The web


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `files` by path; `faults` are answers that come first, one each time."""

    files: dict[str, bytes]
    faults: dict[str, list[int]]
    asked: list[str]

    def do_GET(self):
        path = unquote(self.path)
        self.asked.append(path)
        faults = self.faults.get(path)
        status = faults.pop(0) if faults else 200 if path in self.files else 404
        content = self.files.get(path, b"")
        if status == 0:  # hang up in the middle
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            return
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content if status == 200 else b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def server(world):
    """The world's files at {repo}/{commit}/{path}, and its address as a template."""
    pool, _, files = world
    names = {row.path: f"/{row.origin.repository}/{row.origin.commit}/" for row in pool.rows}
    served = {names[path] + path: content for path, content in files.items()}
    handler = type("Handler", (Server,), {"files": served, "faults": {}, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        handler.template = f"http://127.0.0.1:{listening.server_port}/{{repo}}/{{commit}}/{{path}}"
        yield handler
        listening.shutdown()


def web(server, **options) -> Web:
    return Web(template=server.template, pauses=(0.01, 0.01), **options)


def by_web(pool: Pool, folder: Path, place: Web, **options):
    return fetch(pool, folder, place, report=lambda _: None, **options)


def test_by_addresses_it_is_the_same_pool(world, server, tmp_path):
    pool, clones, _ = world
    got(pool, tmp_path / "clones-out", clones)
    by_web(pool, tmp_path / "out", web(server))
    assert contents(tmp_path / "out") == contents(tmp_path / "clones-out")
    assert sorted(server.asked) == sorted(server.files)


def test_faults_pass_and_what_is_gone_is_gone_at_once(world, server, tmp_path):
    pool, _, _ = world
    first, second, third, fourth = list(server.files)[:4]
    server.faults |= {first: [503, 429], second: [0], third: [500] * 9}
    del server.files[fourth]
    summary = by_web(pool, tmp_path / "out", web(server))
    assert summary.here == 5
    assert summary.missing == {
        "unreachable: 500 Internal Server Error": 1,
        "the server answers 404 Not Found": 1,
    }
    assert summary.unreachable == 1
    asked = [server.asked.count(path) for path in (first, second, third, fourth)]
    assert asked == [3, 2, 3, 1]

    # Only the one that nobody answered for is asked for again.
    server.faults.clear()
    server.asked.clear()
    assert by_web(pool, tmp_path / "out", web(server)).here == 6
    assert server.asked == [third]


def test_another_content_at_an_address_is_refused(world, server, tmp_path):
    pool, _, _ = world
    server.files[next(iter(server.files))] = encoded(picture(77))
    summary = by_web(pool, tmp_path / "out", web(server))
    assert summary.missing == {"another content": 1}


def test_what_came_is_not_asked_for_again(world, server, tmp_path, monkeypatch):
    """Killed within a shard: its originals are kept until it is whole, and then no longer."""
    pool, clones, _ = world
    got(pool, tmp_path / "whole", clones)
    out = tmp_path / "out"

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(build, "write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            by_web(pool, out, web(server))
    first = pool.parts()[0][1]
    assert sorted(p.name for p in (out / ".originals").iterdir()) == sorted(r.blob for r in first)
    # One of them was damaged on the disk meanwhile.
    (out / ".originals" / first[0].blob).write_bytes(b"x")
    server.asked.clear()
    by_web(pool, out, web(server))
    assert len(server.asked) == 1 + len(pool.rows) - len(first)
    assert contents(out) == contents(tmp_path / "whole")


def test_without_a_network_it_ends_soon_and_goes_on_later(world, server, tmp_path, monkeypatch):
    pool, _, _ = world
    monkeypatch.setattr(build, "SILENT", 2)
    server.faults |= {path: [502] * 3 for path in list(server.files)}
    with pytest.raises(DataError, match="the last 2 originals were unreachable: 502"):
        by_web(pool, tmp_path / "out", web(server))
    server.faults.clear()
    assert by_web(pool, tmp_path / "out", web(server)).fingerprint == pool.whole


def test_addresses_are_quoted():
    place = Web(template="https://x.test/{repo}/{commit}/{path}")
    original = build._image_of(photo(origin("a/b", "c0"), "d e/ü#?%.jpg", b""))
    assert place.address(original) == "https://x.test/a/b/c0/d%20e/%C3%BC%23%3F%25.jpg"


# Depth


def slow_shrink(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`shrink` pixel by pixel."""
    width, height = size
    out = np.zeros((height, width))
    steps = depth.shape[0] / height, depth.shape[1] / width
    across = [max(1, round(step)) for step in steps]
    for y in range(height):
        for x in range(width):
            values = []
            top = int(np.floor((y + 0.5) * steps[0] - across[0] / 2 + 0.5))
            left = int(np.floor((x + 0.5) * steps[1] - across[1] / 2 + 0.5))
            for row in range(top, top + across[0]):
                for column in range(left, left + across[1]):
                    row_in = min(max(row, 0), depth.shape[0] - 1)
                    values.append(depth[row_in, min(max(column, 0), depth.shape[1] - 1)])
            known = sorted(value for value in values if value > 0)
            if known and 2 * len(known) >= len(values):
                out[y, x] = known[(len(known) - 1) // 2]
    return out


@given(st.data())
@settings(max_examples=40)
def test_shrink_against_a_slow_reference(data):
    new = data.draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    old = data.draw(st.tuples(st.integers(new[1], 20), st.integers(new[0], 20)))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    depth = rng.integers(0, 5, old).astype(np.float32) * rng.integers(0, 2, old)
    values, known = shrink(depth, new)
    np.testing.assert_array_equal(values, slow_shrink(depth, new))
    np.testing.assert_array_equal(known, values > 0)


def test_shrink_by_hand():
    """The lower median of what is known, where at least half of it is; nothing is averaged."""
    depth = np.array([[1, 9, 0, 4, 0, 0], [9, 9, 0, 5, 0, 7]], np.float32)
    values, _ = shrink(depth, (3, 1))
    assert values.tolist() == [[9, 4, 0]]
    same, known = shrink(depth, (6, 2))
    np.testing.assert_array_equal(same, depth)
    np.testing.assert_array_equal(known, depth > 0)


def stored_png(values) -> bytes:
    return encoded(Image.fromarray(np.array(values, np.uint16)), "PNG")


@pytest.mark.parametrize(
    ("coding", "expected"),
    [
        ({"per_unit": "1000"}, [[0, 0.25, 1, 65.535]]),
        ({"per_unit": "1000", "far": "1"}, [[0, 0.25, 1, 0]]),
        ({"per_unit": "1000", "near": "0.25"}, [[0, 0, 1, 65.535]]),
        ({"per_unit": "500", "holes": "65535"}, [[0, 0.5, 2, 0]]),
        ({"per_unit": "1000", "change": "half turn"}, [[65.535, 1, 0.25, 0]]),
        ({"per_unit": "1", "change": "less 1", "holes": "65535"}, [[0, 249, 999, 0]]),
        # 250 = 0b11111010 turned right by three bits is 0b0100000000011111
        ({"per_unit": "1", "change": "bits 3", "holes": "65535"}, [[0, 0x401F, 125, 0]]),
    ],
)
def test_codings_by_hand(coding, expected):
    content = stored_png([[0, 250, 1000, 65535]])
    depth = read_depth(content, {"stored": "map", **coding}, name="x")
    np.testing.assert_allclose(depth, np.array(expected, np.float32), rtol=1e-6)


def test_arrays_and_archives_of_arrays():
    values = np.array([[1.5, np.nan, -1, np.inf]], np.float32)
    stored = io.BytesIO()
    np.save(stored, values[..., None])
    expected = [[1.5, 0, 0, 0]]
    found = read_depth(stored.getvalue(), {"stored": "map", "per_unit": "1"}, name="x")
    assert found.tolist() == expected
    stored = io.BytesIO()
    np.savez(stored, depth=values)
    found = read_depth(stored.getvalue(), {"stored": "npz:depth", "per_unit": "1"}, name="x")
    assert found.tolist() == expected
    with pytest.raises(DataError, match="array other"):
        read_depth(stored.getvalue(), {"stored": "npz:other", "per_unit": "1"}, name="x")


def test_openexr(tmp_path):
    exr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed")
    values = np.array([[0.5, 2.0], [0.0, 4.0]], np.float32)
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    exr.File(header, {"R": values}).write(str(tmp_path / "x.exr"))
    content = (tmp_path / "x.exr").read_bytes()
    found = read_depth(content, {"stored": "exr", "per_unit": "1"}, name="x")
    np.testing.assert_array_equal(found, values)
    with pytest.raises(DataError, match="damaged"):
        read_depth(content[:50], {"stored": "exr", "per_unit": "1"}, name="x")


def test_z_of_a_ray_by_hand():
    """60 degrees over 2 pixels: the focal length is sqrt(3), and pixel centres lie half a pixel
    off the axis."""
    expected = 1 / np.sqrt(1 + (0.25 + 0.25) / 3)
    np.testing.assert_allclose(cosine((2, 2), degrees=60.0), np.full((2, 2), expected))


def test_lzf_by_hand():
    """Three bytes as they are, then 6 from 3 back (overlapping), then 10 from 1 back."""
    packed = bytes([2]) + b"abc" + bytes([4 << 5, 2]) + bytes([7 << 5, 1, 0])
    assert unpack_lzf(packed, size=19) == b"abc" + b"abcabc" + b"c" * 10
    with pytest.raises(ValueError, match="announced"):
        unpack_lzf(packed, size=18)
    with pytest.raises(ValueError, match="beginning"):
        unpack_lzf(bytes([0, 65, 1 << 5, 5]), size=4)


def cloud(z: np.ndarray, colours: np.ndarray, *, form: str) -> bytes:
    """A PCD file; compressed, its packed bytes are all taken as they are."""
    height, width = z.shape
    head = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS z rgba\nSIZE 4 4\nTYPE F U\nCOUNT 1 1\n"
        f"WIDTH {width}\nHEIGHT {height}\nPOINTS {width * height}\nDATA {form}\n"
    ).encode()
    if form == "binary":
        pairs = zip(z.ravel().tolist(), colours.ravel().tolist(), strict=True)
        return head + b"".join(struct.pack("<fI", *pair) for pair in pairs)
    body = z.astype("<f4").tobytes() + colours.astype("<u4").tobytes()
    runs = [body[place : place + 32] for place in range(0, len(body), 32)]
    packed = b"".join(bytes([len(run) - 1]) + run for run in runs)
    return head + struct.pack("<II", len(packed), len(body)) + packed


@pytest.mark.parametrize("form", ["binary", "binary_compressed"])
def test_organised_clouds(form):
    z = np.array([[1.5, np.nan, 2], [3, 4, 5]], np.float32)
    colours = np.arange(6).reshape(2, 3).astype(np.uint32) * 0x010203
    content = cloud(z, colours, form=form)
    fields = read_cloud(content, name="x")
    np.testing.assert_array_equal(fields["z"], z)
    np.testing.assert_array_equal(fields["rgba"], colours)
    for damaged in (content[:-9], b"x" + content[20:60], content.replace(b"COUNT 1", b"COUNT 3")):
        with pytest.raises(DataError, match="PCD"):
            read_cloud(damaged, name="x")


def pair(place: Repository, name: str, image: bytes, depth: bytes, *, checked="equal") -> Row:
    facts = dict.fromkeys(("scale_known", "offset_known"), "yes")
    facts |= {"split": "train", "scene": name, "domain": "indoor", "kind": "depth_m"}
    facts |= {"depth_scale": "1000", "gt": "realsense", "quality": "A", "place": "indoor"}
    facts |= {"synthetic": "no", "sky": "none", "checked": checked}
    ids = blob_id(image), blob_id(depth) if depth else ""
    path = f"depth/{name}.png" if depth else ""
    key = f"{place.source}_{name}"
    return Row(key, place, f"rgb/{name}.jpg", ids[0], path, ids[1], (40, 30), facts)


@pytest.fixture
def pairs(tmp_path):
    """Two pairs, one whose coding nobody could verify, one whose depth was computed elsewhere, and
    one whose image is not the repository's."""
    images = {f"rgb/{name}.jpg": encoded(picture(n), quality=95) for n, name in enumerate("abcde")}
    values = np.random.default_rng(0).integers(500, 3000, (3, 60, 80)).astype(np.uint16)
    values[:, :10] = 0
    depths = {f"depth/{name}.png": stored_png(values[n]) for n, name in enumerate("abc")}
    commit = bare(tmp_path / "clones" / "ann+room", images | depths)
    room = origin("ann/room", commit, stored="map", per_unit="1000", far="2.5")
    rows = [
        pair(room, "a", images["rgb/a.jpg"], depths["depth/a.png"]),
        pair(room, "b", images["rgb/b.jpg"], depths["depth/b.png"], checked="near"),
        pair(room, "c", images["rgb/c.jpg"], depths["depth/c.png"], checked="image"),
        pair(room, "d", images["rgb/d.jpg"], b"", checked="image"),
        pair(room, "e", images["rgb/e.jpg"], b"", checked=""),
    ]
    return Pool("rgbd", tuple(rows)), tmp_path / "clones", values


def test_pairs_become_a_manifest_that_is_read_as_any(pairs, tmp_path):
    pool, clones, values = pairs
    summary = got(pool, tmp_path / "out", clones)
    assert (summary.here, summary.depths) == (4, 2)
    assert summary.fingerprint == summary.buildable != summary.whole
    assert summary.missing == {
        "depth: unverified, how the repository's file becomes the recorded map": 1,
        "depth: not to be had from the repository, it was computed from the photographs": 1,
        "unverified, how the repository's file becomes the recorded image": 1,
    }
    source = DepthManifest(tmp_path / "out")
    assert len(source) == 2
    for place in (0, 1):
        sample = source[place]
        depth = slow_shrink(np.where(values[place] <= 2500, values[place], 0) / 1000, (40, 30))
        expected = np.where(depth > 0, 1 / np.where(depth > 0, depth, 1), 0)
        np.testing.assert_allclose(sample["disparity"].numpy(), expected, rtol=1e-6)
        assert tuple(sample["image"].shape) == (3, 30, 40)
        assert sample["name"] == ("room_a", "room_b")[place]
    assert fingerprint_of(tmp_path / "out" / "manifest.csv") == pool.buildable
    before = contents(tmp_path / "out")
    got(pool, tmp_path / "out", clones)
    assert contents(tmp_path / "out") == before


def test_a_pair_whose_depth_is_gone_keeps_its_image(pairs, tmp_path):
    pool, clones, _ = pairs
    gone = replaced(pool, 0, depth_path="depth/none.png", depth_blob="1" * 40)
    summary = got(gone, tmp_path / "out", clones)
    assert (summary.here, summary.depths) == (4, 1)
    first = table(tmp_path / "out" / "missing.csv")[0]
    assert (first["key"], first["part"]) == ("room_a", "depth")
    assert first["path"] == "depth/none.png"
    assert summary.fingerprint != summary.buildable


# The command


@pytest.fixture
def committed(world, tmp_path, monkeypatch):
    """A checkout whose tables are of the world."""
    pool, clones, _ = world
    folder = tmp_path / "checkout" / "data" / "pools"
    folder.mkdir(parents=True)
    origins = {row.origin.source: row.origin for row in pool.rows}
    with (folder / "sources.csv").open("w", newline="") as file:
        columns = "pool source repository commit dataset licence ship stored per_unit near far"
        writer = csv.DictWriter(file, [*columns.split(), "holes", "change", "notes"], restval="")
        writer.writeheader()
        for place in origins.values():
            facts = dataclasses.asdict(place)
            del facts["coding"]
            writer.writerow({"pool": "photos", **facts})
    with (folder / "photos.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "source", "path", "blob", "width", "height", "place"])
        for row in pool.rows:
            words = (row.key, row.origin.source, row.path, row.blob, *row.size, "indoor")
            writer.writerow(words)
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path / "checkout"))
    return pool, clones


def test_the_command_builds_a_pool_and_says_what_may_be_done_with_it(committed, tmp_path, capsys):
    pool, clones = committed
    out = tmp_path / "out"
    assert main(["fetch", "photos", str(out), "--from", str(clones), "--limit", "5"]) == 0
    said = capsys.readouterr().out
    assert "ann/one (made up): none stated; ship: unclear" in said
    assert "research only" in said
    assert f"this is a part of the pool, which is {pool.whole}" in said
    assert main(["fetch", "photos", str(out), "--from", str(clones)]) == 0
    assert "this is the pool as recorded" in capsys.readouterr().out
    assert json.loads((out / "pool.json").read_text())["count"] == 7


def test_without_a_folder_it_goes_where_its_source_is_looked_for(committed, capsys):
    pool, clones = committed
    assert main(["fetch", "photos", "--from", str(clones)]) == 0
    assert "read it as the source pool:photos\n" in capsys.readouterr().out
    source = open_source("pool:photos", count=1, height=1, width=1)
    assert source.folder == paths.fetched_pool("photos") == paths.runs() / "pools" / "photos"
    assert sorted(Path(source.name_of(i)).stem for i in range(7)) == sorted(
        row.key for row in pool.rows
    )


def test_the_command_ends_with_1_where_nothing_could_be_had(committed, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    words = ["fetch", "photos", str(tmp_path / "out"), "--from", str(tmp_path / "empty")]
    assert main(words) == 1
    assert "no original could be had" in capsys.readouterr().err
    assert len(table(tmp_path / "out" / "missing.csv")) == 7


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fetch"], "--list"),
        (["fetch", "paintings", "x"], "photos or rgbd"),
        (["fetch", "photos", "x", "--from", "y", "--url", "z"], "one of them"),
        (["fetch", "photos", "x", "--url", "z"], "--url"),
    ],
)
def test_words_that_cannot_be_meant(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_list_names_each_repository_with_its_licence(capsys):
    assert main(["fetch", "--list"]) == 0
    said = capsys.readouterr().out
    for name in ("photos", "rgbd"):
        pool = read_pool(name)
        assert f"{name}: {len(pool.rows)} " in said
        assert pool.whole in said
        for place in pool.origins:
            assert f"{place.repository} ({place.dataset}): {place.licence}" in said
