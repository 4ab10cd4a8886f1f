"""Sources by name: every option is read by its name and type, and what is wrong is said before
anything is opened."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.commands import main
from PIL import Image

from dalib.config import RunConfig
from dalib.data.catalogue import check_sources, open_source, parse
from dalib.errors import ConfigError, DataError

SIZE = {"count": 1, "height": 32, "width": 32}


@pytest.fixture
def data(tmp_path):
    """Two pairs, one of unknown offset; and a folder of one photograph."""
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (4, 2), (9, 9, 9)).save(tmp_path / "photos" / "a.png")
    Image.new("RGB", (4, 2), (9, 9, 9)).save(tmp_path / "image.png")
    for name in ("known", "unknown"):
        Image.fromarray(np.full((2, 4), 2000, np.uint16)).save(tmp_path / f"{name}.png")
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["image", "depth", "kind", "depth_scale", "offset_known"])
        lines.writerow(["image.png", "known.png", "depth_m", "1000", "yes"])
        lines.writerow(["image.png", "unknown.png", "depth_m", "1000", "no"])
    return tmp_path


WRONG = [
    ("photo:F", "unknown kind of source in 'photo:F': 'photo'. Did you mean 'photos'?"),
    ("", "unknown kind of source in '': ''"),
    ("photos:", "source 'photos:': no place is given; write photos:FOLDER"),
    ("photos: ", "no place is given"),
    ("tars:", "source 'tars:': no place is given; write tars:GLOB"),
    ("tars:F/*.tar?draft=perhaps", "option draft is 'perhaps'; write draft=yes or draft=no"),
    ("depth:", "source 'depth:': no place is given; write depth:FOLDER"),
    ("depth:?dataset=a", "no place is given"),
    ("hub:", "source 'hub:': no place is given; write hub:NAME"),
    ("scenes:", "unknown name in source 'scenes:': ''"),
    ("skimage:", "unknown name in source 'skimage:': ''"),
    ("skimage:photo", "Did you mean 'photos'?"),
    ("scenes:labelled?count=3", "scenes takes no options; leave out '?count=3'"),
    ("skimage:photos?", "skimage takes no options"),
    ("photos:F?foo=1", "unknown option in source 'photos:F?foo=1': 'foo'"),
    ("photos:F?domian=a", "Did you mean 'domain'?"),
    ("photos:F?domain", "option domain is empty"),
    ("photos:F?", "unknown option in source 'photos:F?': ''"),
    ("photos:F?path=G", "unknown option in source 'photos:F?path=G': 'path'"),
    ("depth:F?quality", "option quality is empty"),
    (
        "depth:F?offset_known=perhaps",
        "option offset_known is 'perhaps'; write offset_known=yes or offset_known=no",
    ),
    ("depth:F?offset_known", "option offset_known is ''; write offset_known=yes"),
    ("depth:F?dataset=a&dataset=b", "option dataset is given more than once"),
    ("hub:F?offset_known=no", "unknown option in source 'hub:F?offset_known=no': 'offset_known'"),
    ("hub:F?depth_scale=abc", "option depth_scale is 'abc'; write a positive number"),
    ("hub:F?depth_scale=0", "option depth_scale is '0'"),
    ("hub:F?depth_scale=nan", "option depth_scale is 'nan'"),
    ("hub:F?depth_scale=inf", "option depth_scale is 'inf'"),
    ("hub:F?scale_known=2", "option scale_known is '2'; write scale_known=yes"),
    ("hub:F?image=image&image=depth", "option image is given more than once"),
]


@pytest.mark.parametrize(("name", "message"), WRONG, ids=[name for name, _ in WRONG])
def test_a_wrong_name_is_refused_before_anything_is_opened(name, message):
    with pytest.raises(ConfigError) as raised:
        open_source(name, **SIZE)
    assert message in str(raised.value)
    with pytest.raises(ConfigError, match="source"):
        check_sources(RunConfig(labelled=("depth:nowhere", name)))


def test_a_wrong_option_ends_a_row_in_one_line(tmp_path, monkeypatch, capsys):
    """From the command line, with nothing trained."""
    size = {
        "height": 32,
        "width": 32,
        "steps": 2,
        "batch": 2,
        "pretrained": False,
        "labelled": ["photos:F?foo=1"],
    }
    rows = {"mine": {"question": "does it run?", "rows": {"a": {"label": "a", "set": {}}}}}
    tree = {"profiles": {"tiny": {"seeds": 1, "record": "local", "set": size}}, "experiments": rows}
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    assert main(["row", "mine", "a", "--profile", "tiny"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    expected = (
        "unknown option in source 'photos:F?foo=1': 'foo'. Known: domain, draft, only, without"
    )
    assert line == f"error: {expected}"


def test_options_come_in_their_types():
    assert parse("hub:a/b?depth_scale=5&scale_known=No&image=the+%26") == (
        "hub",
        "a/b",
        {"depth_scale": 5.0, "scale_known": False, "image": "the &"},
    )
    assert parse("depth:/a b") == ("depth", "/a b", {})


@pytest.mark.parametrize(
    ("word", "kept"), [("no", "unknown"), ("false", "unknown"), ("yes", "known"), ("TRUE", "known")]
)
def test_offset_known_means_what_it_says(data, word, kept):
    source = open_source(f"depth:{data}?offset_known={word}", **SIZE)
    assert [row["depth"] for row in source.rows] == [f"{kept}.png"]


def test_sources_are_looked_at_before_training(data):
    """Both roles, and each need: places, files, ground truth, classes."""
    pool = {"pseudo_labels": True, "labelling": "online"}
    check_sources(
        RunConfig(labelled=(f"depth:{data}", "scenes:labelled"), unlabelled=("photos:nowhere",))
    )
    check_sources(
        RunConfig(
            labelled=("skimage:motorcycle",), unlabelled=(f"photos:{data / 'photos'}",), **pool
        )
    )
    cases = [
        (
            {"labelled": (f"photos:{data / 'photos'}",)},
            "labelled: photos:.* has no ground truth; photographs alone belong",
        ),
        ({"labelled": (f"depth:{data / 'photos'}",)}, r"photos/manifest\.csv: cannot be read"),
        ({"unlabelled": ("photos:nowhere",)} | pool, "nowhere: no such folder"),
        (
            {"unlabelled": (f"photos:{data / 'photos'}",)} | pool | {"labelling": "oracle"},
            "unlabelled: .* no ground truth",
        ),
        (
            {"unlabelled": (f"depth:{data}",), "segmentation_weight": 1.0} | pool,
            "unlabelled: depth:.* has no classes",
        ),
    ]
    for changes, message in cases:
        with pytest.raises(DataError, match=message):
            check_sources(RunConfig(**changes))
    (data / "unknown.png").unlink()
    with pytest.raises(DataError, match=r"manifest\.csv: no such file: .*unknown\.png"):
        check_sources(RunConfig(labelled=(f"depth:{data}",)))
    (data / "photos" / "a.png").write_text("no picture")
    with pytest.raises(DataError, match=r"a\.png: "):
        check_sources(RunConfig(unlabelled=(f"photos:{data / 'photos'}",), **pool))


@pytest.mark.parametrize(
    ("files", "name", "said"),
    [
        (["pairs/manifest.csv"], "pairs", "depth:pairs, images with depth by its manifest.csv"),
        (["pairs/manifest.csv"], "pairs/manifest.csv", "depth:pairs/manifest.csv"),
        (["mine/a.jpg"], "mine", "photos:mine, photographs without depth"),
        (["pool/0.tar"], "pool", "tars:pool/*.tar, tar shards"),
        (["pool/0.tar"], "pool/0.tar", "tars:pool/0.tar, tar shards"),
        (["mine/a.jpg"], "mine/a.jpg", "none of them"),
    ],
)
def test_a_place_without_its_kind_is_told_how_to_write_it(files, name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in files:
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).touch()
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse(name)


def test_a_file_is_no_folder_of_photographs(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DataError, match=r"a\.jpg: a file where a folder is meant"):
        open_source(f"photos:{tmp_path / 'a.jpg'}", count=1, height=4, width=4)
