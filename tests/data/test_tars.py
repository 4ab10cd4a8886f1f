"""Photographs in tar shards: the same samples as the loose files, whoever reads them; and what a
shard may be besides a good one."""

import gzip
import io
import os
import pickle
import shutil
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT
from helpers.training import Smooth
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from dalib.config import RunConfig
from dalib.data import tars
from dalib.data.catalogue import check_sources, open_source
from dalib.data.mixture import Mixture
from dalib.data.photos import PhotoFolder
from dalib.data.tars import TarShards, members
from dalib.errors import DataError
from dalib.training.folder import same_data

SHARED = ROOT.parent / "shared" / "photos"


def jpeg(number, size=(24, 18)):
    """Noise of its own for each number."""
    noise = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    return file.getvalue()


def write(path, content, **options):
    """A tar of these members: a name and bytes each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, data in content:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def pool(tmp_path):
    """Seven photographs in three shards, with what WebDataset keeps beside them."""
    for shard, numbers in enumerate([(0, 1, 2), (3, 4), (5, 6)]):
        content = []
        for n in numbers:
            content += [
                (f"{n:03d}.json", b"{}"),
                (f"{n:03d}.jpg", jpeg(n)),
                (f"{n:03d}.txt", b"words"),
                (f"{n:03d}.depth.png", b"no photograph"),
            ]
        write(tmp_path / "pool" / f"part-{shard}.tar", content)
    return tmp_path / "pool"


@pytest.fixture
def loose(pool, tmp_path):
    """The same photographs as files."""
    (tmp_path / "loose").mkdir()
    for n in range(7):
        (tmp_path / "loose" / f"{n:03d}.jpg").write_bytes(jpeg(n))
    return PhotoFolder(tmp_path / "loose")


def equal(source, files):
    """The images of both, index by index."""
    assert len(source) == len(files)
    for ours, theirs in zip(source, files, strict=True):
        assert torch.equal(ours["image"], theirs["image"]), ours["name"]


# ---- the same samples as the loose files


def test_shards_are_the_files_they_were_made_of(pool, loose):
    source = open_source(f"tars:{pool}/*.tar", count=1, height=1, width=1)
    equal(source, loose)
    assert [s["name"] for s in source][2:4] == ["part-0.tar/002.jpg", "part-1.tar/003.jpg"]
    assert [source.name_of(i) for i in range(7)] == [s["name"] for s in source]
    assert source[0].keys() == {"image", "domain", "name"}
    assert source.domain == "pool"
    assert torch.equal(source[-1]["image"], loose[-1]["image"])
    with pytest.raises(IndexError, match="no sample 7"):
        source[7]
    with pytest.raises(IndexError, match="no sample 7"):
        source.sample_for(7, height=9, width=9)


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("", 7),
        ("/part-0.tar", 3),
        ("/part-{0..2}.tar", 7),
        ("/part-{0,2}.tar", 5),
        ("/part-[12].tar", 4),
        ("/{part,part}-{1..1}.tar", None),
        ("/part-{1..3}.tar", None),
        ("/*.zip", None),
    ],
)
def test_names_of_shards(pool, pattern, count):
    if count is not None:
        assert len(TarShards(f"{pool}{pattern}")) == count
    else:
        with pytest.raises(DataError, match=r"no such tar shard|names a shard twice"):
            TarShards(f"{pool}{pattern}")


def test_ranges_keep_their_digits():
    assert tars._unbraced("a-{098..101}.tar") == [f"a-{n}.tar" for n in ("098", "099", 100, 101)]
    assert tars._unbraced("{8..10}{a,b}") == ["8a", "8b", "9a", "9b", "10a", "10b"]


def run(source, **changes):
    """A student's mixture over these photographs."""
    config = RunConfig(
        height=16, width=16, batch=4, unlabelled_ratio=2, steps=12, pseudo_labels=True
    )
    config = config.replace(labelling="online", **changes)
    return Mixture(config=config, labelled=Smooth(height=16, width=16), unlabelled=source)


@pytest.mark.parametrize("block", [0, 2])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_batches_are_those_of_the_loose_files_in_any_number_of_processes(pool, loose, world, block):
    ours = run(TarShards(pool), shuffle_block=block)
    theirs = run(loose, shuffle_block=block)
    for step in (0, 7):
        parts = []
        for rank in range(world):
            ours.rank, ours.world = rank, world
            parts.append(ours[step])
        whole = theirs[step]
        for key in whole:
            assert torch.equal(torch.cat([p[key] for p in parts]), whole[key]), key


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_reading_goes_on_as_the_first_would_have(pool, workers):
    first = [run(TarShards(pool))[step] for step in range(12)]
    again = DataLoader(
        run(TarShards(pool)), batch_size=None, sampler=range(5, 12), num_workers=workers
    )
    for step, batch in enumerate(again, 5):
        assert all(torch.equal(batch[key], first[step][key]) for key in batch)


def test_processes_and_threads_share_open_shards(pool, loose, monkeypatch):
    """A copy in another process opens its own files; few files stay open however many threads."""
    monkeypatch.setattr(tars, "OPEN", 1)
    source = TarShards(pool)
    equal(pickle.loads(pickle.dumps(source)), loose)
    wrong = []

    def read(seed):
        for i in np.random.default_rng(seed).integers(0, 7, 60).tolist():
            if not torch.equal(source[i]["image"], loose[i]["image"]):
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(source._open) == 1


def test_the_shared_photographs(tmp_path):
    """As tarfile reads them, at a few places of each shard."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    source = TarShards(SHARED / "photos-*.tar")
    assert len(source) == 5095
    assert source.rows.path.parent.name == "tars", "a folder that is not to be written stays as is"
    first = 0
    for path in sorted(SHARED.glob("*.tar")):
        with tarfile.open(path) as tar:
            inside = tar.getmembers()
            for place in (0, len(inside) // 2, len(inside) - 1):
                file = tmp_path / "one" / "image.jpg"
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(tar.extractfile(inside[place]).read())
                sample = source[first + place]
                assert sample["name"] == f"{path.name}/{inside[place].name}"
                assert torch.equal(sample["image"], PhotoFolder(file.parent)[0]["image"])
        first += len(inside)


# ---- the index


def test_the_index_is_made_once_and_brought_up_to_date(pool, monkeypatch):
    gone_through = []
    searched = tars._searched
    monkeypatch.setattr(
        tars,
        "_searched",
        lambda path, wanted: gone_through.append(path.name) or searched(path, wanted),
    )
    TarShards(pool)
    assert gone_through == ["part-0.tar", "part-1.tar", "part-2.tar"]
    (index,) = pool.glob(".index-*")
    TarShards(pool)
    assert len(gone_through) == 3
    write(pool / "part-1.tar", [("x.jpg", jpeg(9))])
    write(pool / "part-3.tar", [("y.jpg", jpeg(8))])
    source = TarShards(pool)
    assert gone_through[3:] == ["part-1.tar", "part-3.tar"]
    assert [s["name"].split("/")[1] for s in source] == [
        *("000.jpg", "001.jpg", "002.jpg", "x.jpg", "005.jpg", "006.jpg", "y.jpg")
    ]
    assert list(pool.glob(".index-*")) == [index]
    assert not list(pool.glob(".*partial*"))


def test_a_folder_that_cannot_be_written_has_its_index_in_the_cache(pool, runs):
    pool.chmod(0o555)
    try:
        first = TarShards(pool)
        assert first.rows.path.is_relative_to(runs / "cache")
        assert not list(pool.glob(".index-*"))
        assert TarShards(pool).fingerprint == first.fingerprint
    finally:
        pool.chmod(0o755)


@pytest.mark.parametrize("damage", ["cut", "words", "empty"])
def test_a_damaged_index_is_made_again(pool, loose, damage):
    TarShards(pool)
    (index,) = pool.glob(".index-*")
    data = index.read_bytes()
    index.write_bytes({"cut": data[: len(data) // 2], "words": b"hello", "empty": b""}[damage])
    equal(TarShards(pool), loose)


def test_fingerprint_follows_names_sizes_and_times(pool, tmp_path):
    first = TarShards(pool).fingerprint
    assert int(first, 16) >= 0
    pool.rename(tmp_path / "moved")
    assert TarShards(tmp_path / "moved").fingerprint == first, "wherever they lie"
    shutil.copytree(tmp_path / "moved", pool, ignore=shutil.ignore_patterns(".index*"))
    assert TarShards(pool).fingerprint == first, "found anew, the same"
    prints = {
        first,
        TarShards(pool, draft=True).fingerprint,
        TarShards(pool / "part-0.tar").fingerprint,
    }
    os.utime(pool / "part-2.tar", ns=(1, 1))
    prints.add(TarShards(pool).fingerprint)
    write(pool / "part-2.tar", [("005.jpg", jpeg(5)), ("007.jpg", jpeg(6))])
    os.utime(pool / "part-2.tar", ns=(2, 2))
    prints.add(TarShards(pool).fingerprint)
    assert len(prints) == 5


def test_a_resumed_run_refuses_shards_that_changed(pool, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    same_data(out, {"unlabelled": TarShards(pool)}, begun=False)
    same_data(out, {"unlabelled": TarShards(pool)}, begun=True)
    write(pool / "part-3.tar", [("y.jpg", jpeg(8))])
    with pytest.raises(DataError, match=r"unlabelled: the images changed .*7 then, 8 now"):
        same_data(out, {"unlabelled": TarShards(pool)}, begun=True)


def test_a_shard_that_changes_while_it_is_read(pool):
    source = TarShards(pool)
    write(pool / "part-2.tar", [("z.jpg", jpeg(1))])
    source[0]
    with pytest.raises(DataError, match=r"part-2\.tar: changed since its members were indexed"):
        source[5]


def test_a_published_pool_states_which_it_is(pool):
    assert TarShards(pool).pool is None
    for text, found in (('{"fingerprint": "abc"}', "abc"), ("[]", None), ("{", None)):
        (pool / "pool.json").write_text(text)
        assert TarShards(pool).pool == PhotoFolder_pool(pool) == found


def PhotoFolder_pool(folder):  # noqa: N802  (a folder of photographs beside the shards)
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    return PhotoFolder(folder).pool


# ---- damaged shards


def message(pool, **options):
    with pytest.raises(DataError) as raised:
        list(TarShards(pool, **options))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def cut(path, size):
    with path.open("r+b") as file:
        file.truncate(size)


def test_a_damaged_photograph_is_named_with_its_shard(pool):
    content = [("a.jpg", jpeg(1)), ("b.jpg", jpeg(2)[:200]), ("c.jpg", jpeg(3))]
    path = write(pool / "part-1.tar", content)
    assert message(pool).startswith(f"{path}, member b.jpg: truncated, damaged or not an image")


def test_truncated_shards(pool):
    """Wherever a shard is cut: within a member, within a header, and between two members, where
    only the mark of the end is missing."""
    path = pool / "part-1.tar"
    with tarfile.open(path) as tar:
        inside = {m.name: m for m in tar}
    last = inside["004.jpg"]
    cut(path, last.offset_data + 100)
    assert f"{path}: truncated within member 004.jpg" in message(pool)
    cut(path, last.offset + 100)
    assert f"{path}: ends after member 004.json without the mark of its end" in message(pool)
    cut(path, last.offset)
    assert f"{path}: ends after member 004.json without the mark of its end" in message(pool)
    cut(path, 100)
    assert f"{path}: ends at its start without the mark" in message(pool)
    cut(path, 0)
    assert f"{path}: empty; fetch the shard again" in message(pool)
    path.write_bytes(bytes(10240))
    assert f"{path}: holds no member" in message(pool)


def test_a_copy_that_was_interrupted_leaves_zeros(pool, monkeypatch):
    path = pool / "part-1.tar"
    cut(path, 4 * 512)
    cut(path, 2**22)
    assert "part-1.tar: only zeros after member 003" in message(pool)


def test_two_tars_joined_by_cat(pool):
    path = pool / "part-1.tar"
    path.write_bytes(path.read_bytes() + (pool / "part-2.tar").read_bytes())
    assert f"{path}: goes on after the mark of its end" in message(pool)


def test_a_header_that_was_written_over(pool):
    path = pool / "part-1.tar"
    with tarfile.open(path) as tar:
        place = tar.getmember("004.jpg").offset
    with path.open("r+b") as file:
        file.seek(place + 10)
        file.write(b"?")
    assert f"{path}: damaged after member 004.json" in message(pool)


@pytest.mark.parametrize(
    ("pack", "said"),
    [
        (gzip.compress, r"packed by gzip.*unpack it \(gunzip\)"),
        (lambda data: b"\x28\xb5\x2f\xfd" + data, "packed by zstd"),
        (lambda data: b"PK\x03\x04" + data, "packed by zip"),
        (lambda data: b"\xff\xd8\xff" + data, "no tar file"),
        (lambda data: b"hello", "ends at its start without the mark"),
    ],
)
def test_no_tar(pool, pack, said):
    path = pool / "part-1.tar"
    path.write_bytes(pack(path.read_bytes()))
    with pytest.raises(DataError, match=rf"part-1\.tar: .*{said}"):
        TarShards(pool)


def test_two_pictures_of_one_key(pool):
    path = write(pool / "part-1.tar", [("a.jpg", jpeg(1)), ("a.png", jpeg(2))])
    assert f"{path}, member a.png: its key has another picture, a.jpg" in message(pool)
    assert len(TarShards(path, image="jpg")) == 1
    assert len(TarShards(path, image=".PNG, webp")) == 1
    assert "no photograph in 1 shards that ends in .tif" in message(path, image="tif")
    write(path, [("a.jpg", jpeg(1)), ("b/a.jpg", jpeg(2)), ("a.jpg", jpeg(3))])
    assert f"{path}, member a.jpg: stands twice in the shard" in message(pool)
    write(path, [("000.jpg", jpeg(1))])
    assert len(TarShards(pool)) == 6, "keys of different shards may be the same"


def test_shards_without_photographs(pool):
    for path in pool.glob("*.tar"):
        write(path, [("a.json", b"{}"), ("._a.jpg", b"x"), (".thumbs/b.jpg", b"x")])
    assert "no photograph in 3 shards; members should be named KEY.jpg" in message(pool)
    (pool / "empty").mkdir()
    assert "no *.tar in this folder" in message(pool / "empty")


def test_names_with_a_dot_before_them(pool):
    write(pool / "part-1.tar", [("./a.jpg", jpeg(1)), ("./b/c.PNG", jpeg(2))])
    assert len(TarShards(pool / "part-1.tar")) == 2


def test_links_are_told(pool):
    path = pool / "part-1.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (("a.jpg", tarfile.SYMTYPE), ("b.jpg", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "c.jpg"
            tar.addfile(info)
    with pytest.warns(UserWarning, match=r"part-1\.tar: 2 pictures are links"):
        assert len(TarShards(pool)) == 5


@pytest.mark.parametrize("version", ["gnu", "posix"])
def test_sparse_members(pool, tmp_path, version):
    """As GNU tar writes them: refused where they are photographs, passed over rightly otherwise."""
    if shutil.which("tar") is None:
        pytest.skip("no tar")
    hole = tmp_path / "hole.bin"
    with hole.open("wb") as file:
        for k in range(40):  # more pieces than one header holds
            file.seek(k * 2**17)
            file.write(b"x" * 4096)
    (tmp_path / "a.jpg").write_bytes(jpeg(4))
    words = f"tar --sparse --format={version} -C {tmp_path} -cf {pool / 'part-1.tar'}"
    if os.system(f"{words} hole.bin a.jpg 2>/dev/null"):
        pytest.skip("no GNU tar")
    (sample,) = TarShards(pool / "part-1.tar")
    assert sample["name"] == "part-1.tar/a.jpg"
    hole.rename(tmp_path / "hole.jpg")
    assert os.system(f"{words} hole.jpg a.jpg") == 0
    if b"GNU.sparse" not in (data := (pool / "part-1.tar").read_bytes()) and data[156:157] != b"S":
        pytest.skip("this file system has no holes")
    assert "member hole.jpg: a sparse member; make the shard anew" in message(pool / "part-1.tar")


# ---- the format, as Python's own reader has it

NAMES = st.text(st.sampled_from("ab/.é漢 "), min_size=1, max_size=300).map(
    lambda name: "/".join(part for part in name.split("/") if part) or "x"
)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=1100)), max_size=6),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_members_are_those_of_tarfile(tmp_path_factory, content, form):
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    write(path, [("first", b"1"), *content], format=form)
    with tarfile.open(path) as tar:
        expected = [(m.name, m.offset_data, m.size) for m in tar]
    assert [(m.name, m.offset, m.size) for m in members(path)] == expected


def test_long_names_of_ustar_and_bytes_that_are_no_utf8(tmp_path):
    names = ["d" * 120 + "/" + "n" * 80 + ".jpg", "caf\udce9.jpg"]
    path = write(
        tmp_path / "a.tar", [(name, jpeg(1)) for name in names], format=tarfile.USTAR_FORMAT
    )
    assert [m.name for m in members(path)] == names
    source = TarShards(path)
    assert source[1]["name"] == r"a.tar/caf\udce9.jpg"


def test_members_beyond_eight_gigabytes(tmp_path):
    """A size that octal digits cannot hold, in both ways of writing it, in a file of holes."""
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path: Path = tmp_path / "big.tar"
        info = tarfile.TarInfo("big.bin")
        info.size = 9 * 2**30
        last = tarfile.TarInfo("a.jpg")
        last.size = len(jpeg(1))
        with path.open("wb") as file:
            file.write(info.tobuf(form))
            file.seek(info.size, os.SEEK_CUR)
            file.write(last.tobuf(form) + jpeg(1))
            file.write(bytes(-len(jpeg(1)) % 512 + 1024))
        assert [(m.name, m.size) for m in members(path)] == [
            ("big.bin", info.size),
            ("a.jpg", last.size),
        ]


def test_sources_are_looked_at_before_training(pool):
    pooled = {"pseudo_labels": True, "labelling": "online", "labelled": ("skimage:motorcycle",)}
    check_sources(RunConfig(unlabelled=(f"tars:{pool}/*.tar?domain=mine",), **pooled))
    cut(pool / "part-0.tar", 700)
    with pytest.raises(DataError, match=r"part-0\.tar: "):
        check_sources(RunConfig(unlabelled=(f"tars:{pool}/*.tar",), **pooled))


# ---- JPEG at a fraction of its size


def test_draft_is_the_same_loose_and_packed_and_another_data_set(pool, tmp_path):
    (tmp_path / "large").mkdir()
    data = jpeg(3, size=(400, 300))
    (tmp_path / "large" / "a.jpg").write_bytes(data)
    path = write(pool / "large.tar", [("a.jpg", data)])
    size = {"height": 36, "width": 48}
    found = []
    for draft in (False, True):
        ours, theirs = TarShards(path, draft=draft), PhotoFolder(tmp_path / "large", draft=draft)
        assert torch.equal(
            ours.sample_for(0, **size)["image"], theirs.sample_for(0, **size)["image"]
        )
        assert torch.equal(ours[0]["image"], PhotoFolder(tmp_path / "large")[0]["image"])
        found.append(ours.sample_for(0, **size)["image"].shape)
    assert found == [(3, 300, 400), (3, 75, 100)]
    assert ours.fingerprint != TarShards(path).fingerprint
    assert theirs.fingerprint != PhotoFolder(tmp_path / "large").fingerprint
