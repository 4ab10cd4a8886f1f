"""Photographs that a list names, and all others."""

import json

import numpy as np
import pytest
from PIL import Image

from dalib.data.catalogue import open_source
from dalib.data.photos import PhotoFolder
from dalib.data.subset import Subset, listed, write_names
from dalib.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path):
    """Five pictures, each of its own grey, in a folder and a folder below it."""
    photos = tmp_path / "photos"
    (photos / "below").mkdir(parents=True)
    for k, name in enumerate(("a", "b", "below/c", "below/d", "e f")):
        Image.new("RGB", (4, 3), (10 * k, 0, 0)).save(photos / f"{name}.png")
    return photos


def greys(source):
    return [int(source[i]["image"][0, 0, 0]) for i in range(len(source))]


def test_only_and_without(folder, tmp_path):
    source = PhotoFolder(folder)
    note = tmp_path / "kept & back.json"
    write_names(note, source, np.array([1, 3]))
    assert json.loads(note.read_text()) == {"names": ["b.png", "below/d.png"]}
    kept = listed(source, note, without=False)
    rest = listed(source, note, without=True)
    assert greys(kept) == [10, 30]
    assert greys(rest) == [0, 20, 40]
    assert [rest.name_of(i) for i in range(3)] == ["a.png", "below/c.png", "e f.png"]
    assert len({kept.fingerprint, rest.fingerprint, source.fingerprint}) == 3

    # by name, in the settings of a run
    size = {"count": 1, "height": 1, "width": 1}
    by_name = open_source(f"photos:{folder}?without={tmp_path}/kept+%26+back.json", **size)
    assert greys(by_name) == greys(rest)
    assert by_name.fingerprint == rest.fingerprint
    assert greys(open_source(f"photos:{folder}?only={tmp_path}/kept+%26+back.json", **size)) == [
        10,
        30,
    ]


def test_a_list_is_of_names_not_of_numbers(folder, tmp_path):
    """A photograph that comes before the others moves none of them to the other side."""
    note = tmp_path / "list.json"
    write_names(note, PhotoFolder(folder), np.array([1, 3]))
    Image.new("RGB", (4, 3), (99, 0, 0)).save(folder / "0.png")
    assert greys(listed(PhotoFolder(folder), note, without=False)) == [10, 30]
    assert greys(listed(PhotoFolder(folder), note, without=True)) == [99, 0, 20, 40]


@pytest.mark.parametrize(
    ("text", "without", "message"),
    [
        (None, True, "no list of names"),
        ("[1", True, "no list of names"),
        ('{"other": []}', True, "no list of names"),
        ('{"names": ["z.png"]}', True, r"names 'z\.png', which the source does not have"),
        ('{"names": []}', False, "leaves no sample"),
        (
            '{"names": ["a.png", "b.png", "below/c.png", "below/d.png", "e f.png"]}',
            True,
            "leaves no sample",
        ),
    ],
)
def test_a_list_that_will_not_do(folder, tmp_path, text, without, message):
    note = tmp_path / "list.json"
    if text is not None:
        note.write_text(text)
    with pytest.raises(DataError, match=message):
        listed(PhotoFolder(folder), note, without=without)


def test_indices_out_of_range_and_kinds_without_names(folder):
    with pytest.raises(DataError, match="indices: 5 is none of the 5 samples"):
        Subset(PhotoFolder(folder), np.array([0, 5]))
    with pytest.raises(ConfigError, match=r"unknown option in source 'depth:x\?without=y'"):
        open_source("depth:x?without=y", count=1, height=1, width=1)
