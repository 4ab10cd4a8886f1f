"""The public pools as sources, and images that are resized once and kept: in small pools that the
tests make, and in the real ones where they lie."""

import csv
import io
import os
import pickle
import shutil
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from dalib import paths
from dalib.config import RunConfig
from dalib.data import caches, resized
from dalib.data.catalogue import check_sources, open_source, parse
from dalib.data.mixture import fetch, labelled_crop
from dalib.data.pools.facts import read_pool
from dalib.data.resized import Resized, materialise
from dalib.data.sources import DepthManifest
from dalib.errors import ConfigError, DataError
from dalib.training.folder import read_of
from dalib.training.launch import sources
from dalib.training.train import same_data

SIZE = {"height": 24, "width": 32}
SHAPES = ((40, 60), (70, 30), (24, 32), (9, 200), (5, 7), (33, 44))
"""Of the images: wide, tall, exact, a strip, too small, and of the same aspect."""


def table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def noise(number, shape):
    return np.random.default_rng(number).integers(0, 256, (*shape, 3), np.uint8)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A pool with keys of the recorded one: three that may be shipped, three that may not."""
    rows = read_pool("photos").rows
    yes = [row for row in rows if row.origin.ship == "yes"][:3]
    other = [row for row in rows if row.origin.ship != "yes"][:3]
    chosen = [row for pair in zip(yes, other, strict=True) for row in pair]
    folder = tmp_path / "photos"
    facts = [{"key": row.key, "shard": "photos-0000.tar", "blob": row.blob} for row in chosen]
    table(folder / "manifest.csv", facts)
    with tarfile.open(folder / "photos-0000.tar", "w") as shard:
        for number, row in enumerate(chosen):
            stored = io.BytesIO()
            Image.fromarray(noise(number, SHAPES[number])).save(stored, "JPEG")
            entry = tarfile.TarInfo(f"{row.key}.jpg")
            entry.size = stored.tell()
            shard.addfile(entry, io.BytesIO(stored.getvalue()))
    monkeypatch.setenv("DALIB_PHOTOS", str(folder))
    return folder


@pytest.fixture
def rgbd(tmp_path, monkeypatch):
    """Six pairs, two of them for tuning."""
    folder = tmp_path / "rgbd"
    rows = []
    for number, shape in enumerate(SHAPES):
        folder.mkdir(exist_ok=True)
        Image.fromarray(noise(number, shape)).save(folder / f"{number}.png")
        depth = np.random.default_rng(number).integers(1, 9000, shape).astype(np.uint16)
        Image.fromarray(depth).save(folder / f"{number}d.png")
        row = {"id": f"p{number}", "image": f"{number}.png", "depth": f"{number}d.png"}
        row |= {"kind": "depth_m", "depth_scale": "1000", "quality": "AB"[number % 2]}
        row |= {"split": "val" if number > 3 else "train", "dataset": f"set {number // 2}"}
        row |= {"image_blob": f"{number:040x}", "depth_blob": f"{number + 9:040x}"}
        rows.append(row)
    table(folder / "manifest.csv", rows)
    monkeypatch.setenv("DALIB_RGBD", str(folder))
    return folder


def opened(name):
    return open_source(name, count=1, height=1, width=1)


# what they hold


def test_photographs_that_may_be_shipped(photos):
    whole, some = opened("pool:photos"), opened("pool:photos?shippable=yes")
    assert (len(whole), len(some)) == (6, 3)
    assert [some.name_of(i) for i in range(3)] == [whole.name_of(i) for i in (0, 2, 4)]
    assert [tuple(some[i]["image"].shape[1:]) for i in range(3)] == [SHAPES[i] for i in (0, 2, 4)]
    assert whole.fingerprint != some.fingerprint
    assert len(opened("pool:photos?shippable=no")) == 6


def test_pairs_of_a_split(rgbd):
    assert [len(opened(f"pool:rgbd{query}")) for query in ("", "?split=train", "?split=val")] == [
        6,
        4,
        2,
    ]
    assert len(opened("pool:rgbd?split=train&quality=A")) == 2
    assert isinstance(opened("pool:rgbd"), DepthManifest)
    sample = opened("pool:rgbd?split=val")[0]
    assert (sample["name"], sample["domain"]) == ("p4", "set 2")
    # a manifest of one's own, with and without the column
    assert len(opened(f"depth:{rgbd}?split=val")) == 2
    with pytest.raises(DataError, match="no row with depth and split test"):
        opened(f"depth:{rgbd}?split=test")
    rows = list(csv.DictReader((rgbd / "manifest.csv").open()))
    table(rgbd / "manifest.csv", [{k: v for k, v in r.items() if k != "split"} for r in rows])
    with pytest.raises(DataError, match="missing column split"):
        opened(f"depth:{rgbd}?split=val")


def test_a_pool_is_the_same_one_wherever_it_lies(photos, rgbd, tmp_path, monkeypatch):
    """Of other times and in another folder; not with another content."""
    before = [opened(name).fingerprint for name in ("pool:photos", "pool:rgbd")]
    for folder, variable in ((photos, "DALIB_PHOTOS"), (rgbd, "DALIB_RGBD")):
        moved = tmp_path / "moved" / folder.name
        shutil.copytree(folder, moved)
        for file in moved.iterdir():
            os.utime(file, (10**9, 10**9))
        monkeypatch.setenv(variable, str(moved))
    assert [opened(name).fingerprint for name in ("pool:photos", "pool:rgbd")] == before
    for folder in (tmp_path / "moved" / "photos", tmp_path / "moved" / "rgbd"):
        text = (folder / "manifest.csv").read_text()
        blob = next(iter(csv.DictReader(text.splitlines())))
        blob = blob.get("blob") or blob["image_blob"]
        (folder / "manifest.csv").write_text(text.replace(blob, "f" * 40))
    after = [opened(name).fingerprint for name in ("pool:photos", "pool:rgbd")]
    assert all(a != b for a, b in zip(after, before, strict=True))


# where they lie


def test_where_a_pool_is_looked_for(photos, tmp_path, monkeypatch, runs):
    """The variable, then where it was fetched to, then beside the checkout."""
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path / "house" / "checkout"))
    (tmp_path / "house" / "checkout").mkdir(parents=True)
    assert paths.pool("photos") == photos
    assert paths.places()["DALIB_PHOTOS"] == str(photos)
    monkeypatch.delenv("DALIB_PHOTOS")
    assert paths.pool("photos") == runs / "pools" / "photos"  # where it would be
    beside = tmp_path / "house" / "shared" / "photos"
    for place in (beside, runs / "pools" / "photos"):
        table(place / "manifest.csv", [{"key": "x"}])
        assert paths.pool("photos") == place
    monkeypatch.setenv("DALIB_PHOTOS", str(tmp_path))
    with pytest.raises(ConfigError, match=r"DALIB_PHOTOS: .* is no folder with a manifest"):
        paths.pool("photos")


@pytest.mark.parametrize("name", ["photos", "rgbd"])
def test_a_pool_that_is_not_there_is_told_how_to_get(name, monkeypatch):
    monkeypatch.setenv(f"DALIB_{name.upper()}", "none")
    with pytest.raises(DataError, match=f"pool:{name}: .*`python -m dalib fetch {name}`.*DALIB_"):
        opened(f"pool:{name}")
    config = RunConfig(pseudo_labels=True, unlabelled=(f"pool:{name}",))
    with pytest.raises(DataError, match="not on this machine"):
        check_sources(config)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pool:photo", "unknown name .*Did you mean 'photos'"),
        ("pool:", "unknown name"),
        ("pool:photos?split=val", "unknown option .*Known: shippable"),
        ("pool:rgbd?shippable=yes", "unknown option .*Known: split, quality"),
        ("pool:photos?shippable=perhaps", "write shippable=yes or shippable=no"),
        ("pool:rgbd?split=", "split is empty"),
    ],
)
def test_names_that_cannot_be_meant(name, said):
    with pytest.raises(ConfigError, match=said):
        parse(name)


# images that are resized once


def equal(one, other):
    assert one.keys() == other.keys()
    for key in one:
        same = torch.equal if isinstance(one[key], torch.Tensor) else lambda a, b: a == b
        assert same(one[key], other[key]), key


def test_kept_images_give_the_bits_of_the_files(photos, rgbd):
    """Small, large and of any aspect, at any crop; at another size the files are read."""
    for name in ("pool:photos", "pool:rgbd"):
        source = opened(name)
        kept = materialise(source, **SIZE)
        indices = np.arange(6)
        for turn in range(3):
            crop = labelled_crop(turn, indices)
            found = fetch(kept, indices, crop=crop, **SIZE)
            equal(found, fetch(source, indices, crop=crop, **SIZE))
            assert found["image"].shape == (6, 3, 24, 32)
        other = {"height": 16, "width": 16}
        equal(fetch(kept, indices, **other), fetch(source, indices, **other))
        equal(kept[3], source[3])
        assert (kept.fingerprint, kept.name_of(2)) == (source.fingerprint, source.name_of(2))


def test_kept_images_are_made_once_and_read_without_the_files(photos, monkeypatch):
    source = opened("pool:photos")
    first = fetch(materialise(source, **SIZE), np.arange(6), **SIZE)
    monkeypatch.setattr(resized, "_write", lambda *_, **__: pytest.fail("made twice"))
    again = pickle.loads(pickle.dumps(materialise(source, **SIZE)))  # as a loader process has it
    monkeypatch.setattr(type(source), "_sample", lambda *_: pytest.fail("read"))
    equal(fetch(again, np.arange(6), **SIZE), first)
    (entry,) = caches.kept()
    assert entry.name.startswith("resized/photos-24x32-")
    assert not entry.old
    monkeypatch.setattr(resized, "_makers", lambda module: "other")
    (entry,) = caches.kept()
    assert entry.old == "other code or libraries made it"


def test_an_image_that_cannot_be_read_is_named_when_it_is_asked_for(rgbd):
    """And is read once it is mended."""
    whole = (rgbd / "2.png").read_bytes()
    (rgbd / "2.png").write_bytes(whole[: len(whole) // 2])
    kept = materialise(opened("pool:rgbd"), **SIZE)
    assert kept.sample_for(1, **SIZE)["name"] == "p1"
    with pytest.raises(DataError, match=r"2\.png"):
        kept.sample_for(2, **SIZE)
    (rgbd / "2.png").write_bytes(whole)
    assert kept.sample_for(2, **SIZE)["name"] == "p2"


def test_a_run_reads_pools_kept_and_its_record_says_which(photos, rgbd, tmp_path):
    """Fingerprint, weight and number of images of each source, and no place of this machine."""
    config = RunConfig.from_dict(
        {
            "labelled": ["pool:rgbd?split=val", {"source": "pool:rgbd?split=train", "weight": 3}],
            "unlabelled": ["pool:photos"],
            "pseudo_labels": True,
            **SIZE,
        }
    )
    check_sources(config)
    labelled, unlabelled = sources(config)
    assert isinstance(labelled.sources[1], Resized)
    assert isinstance(unlabelled.sources[0], Resized)
    assert [(part.count, part.weight) for part in labelled.parts] == [(2, 1), (4, 3)]
    same_data(tmp_path, {"labelled": labelled, "unlabelled": unlabelled}, begun=False)
    said = read_of(tmp_path, config)
    tuning, pairs = said["labelled"]["sources"]
    assert tuning == {
        "images": 2,
        "weight": 1,
        "fingerprint": labelled.sources[0].fingerprint,
        "name": "pool:rgbd?split=val",
    }
    assert (pairs["weight"], pairs["name"]) == (3, "pool:rgbd?split=train")
    assert pairs["fingerprint"] == opened("pool:rgbd?split=train").fingerprint
    assert (
        len(said["labelled"]["pools"]["rgbd"]) == len(said["unlabelled"]["pools"]["photos"]) == 16
    )
    assert str(tmp_path) not in str(said)


# the real ones


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("photos", {"": 5095, "?shippable=yes": 677}),
        ("rgbd", {"": 455, "?split=train": 418, "?split=val": 37}),
    ],
)
def test_the_pools_as_recorded(name, count):
    try:
        opened(f"pool:{name}")
    except DataError as error:
        pytest.skip(str(error))
    found = {query: len(opened(f"pool:{name}{query}")) for query in count}
    assert found == count
