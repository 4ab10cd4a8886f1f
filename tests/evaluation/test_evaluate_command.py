"""`python -m dalib evaluate` from end to end on tiny data: every way to say what is evaluated, the
numbers that must come out, and what is refused in words."""

import json
import math
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers.commands import main
from helpers.scored import KINDS, SIZE, perfect, rooms, true_depth
from PIL import Image

from dalib import paths
from dalib.data.sources import DepthManifest
from dalib.errors import ConfigError
from dalib.evaluation import FLOORS, evaluate_source, floor
from dalib.evaluation.align import ALIGNMENTS
from dalib.evaluation.evaluator import evaluate_sets
from dalib.evaluation.metrics import ALL_METRICS
from dalib.evaluation.predictions import MapFolder
from dalib.evaluation.protocols import PROTOCOLS
from dalib.evaluation.results import Result
from dalib.evaluation.scores import evaluate
from dalib.evaluation.sets import open_sets
from dalib.evaluation.subjects import Function, Predictions
from dalib.models import build, load, save

NONSENSE = {("disparity", "depth"), ("disparity", "log_depth")}
"""Kinds that cannot be aligned so."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return rooms(tmp_path_factory.mktemp("rooms"))


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """Kind -> a folder of perfect predictions of it."""
    folder = tmp_path_factory.mktemp("right")
    return {kind: perfect(folder / kind, kind=kind) for kind in KINDS}


def run(out, *words, expect=0) -> dict:
    """The content of result.json."""
    assert main(["evaluate", *map(str, words), "--out", str(out)]) == expect
    return json.loads((out / "result.json").read_text()) if expect == 0 else {}


def of_folder(folder, kind, *words):
    return ["--predictions", folder, "--kind", kind, *words]


def means(found: dict, name: str = "rooms") -> dict[str, float]:
    return {metric: numbers["mean"] for metric, numbers in found["datasets"][name].items()}


def is_perfect(found: dict) -> bool:
    """0 for errors and 1 for shares, of all ten metrics."""
    values = means(found)
    assert set(ALL_METRICS) <= set(values)
    wanted = {name: float(name.startswith("delta")) for name in ALL_METRICS}
    return all(abs(values[name] - wanted[name]) < 1e-4 for name in ALL_METRICS)


@pytest.fixture
def named(data, tmp_path):
    """The data under the name rooms, whatever pytest calls its folder."""
    place = tmp_path / "rooms"
    shutil.copytree(data, place)
    return place


# ---- what is perfect


@pytest.mark.parametrize("align", ALIGNMENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_perfect_predictions_are_perfect(named, right, tmp_path, capsys, kind, align):
    words = of_folder(right[kind], kind, "--data", named, "--align", align, "--protocol", "indoor")
    if (kind, align) in NONSENSE:
        run(tmp_path / "out", *words, expect=1)
        assert f"alignment '{align}'" in capsys.readouterr().err
        return
    found = run(tmp_path / "out", *words)
    assert is_perfect(found)
    assert found["about"]["rooms"]["alignment"] == align
    assert found["about"]["rooms"]["hash"] == PROTOCOLS["indoor"].with_alignment(align).hash


@pytest.mark.parametrize(
    ("kind", "align"),
    [
        ("disparity", "disparity"),
        ("disparity", "robust"),
        ("depth", "depth"),
        ("log_depth", "log_depth"),
    ],
)
def test_scale_and_shift_are_forgiven_where_the_alignment_says_so(named, tmp_path, kind, align):
    maps = perfect(tmp_path / "maps", kind=kind, scale=3.5, shift=-2)
    found = run(tmp_path / "out", *of_folder(maps, kind, "--data", named, "--align", align))
    assert is_perfect(found)
    back = Result.load(tmp_path / "out").sets["rooms"].fitted
    assert back["scale"] == pytest.approx((1 / 3.5,) * 3, rel=1e-4)
    assert back["shift"] == pytest.approx((2 / 3.5,) * 3, rel=1e-3)


def test_scale_alone_is_forgiven_by_fewer(named, tmp_path):
    maps = perfect(tmp_path / "maps", kind="depth", scale=2)
    for align, good in (("median", True), ("scale", True), ("none", False)):
        words = of_folder(maps, "depth", "--data", named, "--align", align, "--protocol", "scenes")
        found = run(tmp_path / align, *words)
        assert is_perfect(found) is good
    assert means(found)["abs_rel"] == pytest.approx(1, abs=1e-4)  # twice as far everywhere


# ---- the numbers are those of the library


def test_a_function_scores_as_evaluate_says(named, tmp_path, monkeypatch):
    """The same model through the command and through `dalib.evaluate`, and the floors likewise."""
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def red(image):\n"
        "    assert image.dtype == np.uint8 and image.shape[-1] == 3\n"
        "    return np.sqrt(image[..., 0] + 1.0)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    words = ["--kind", "disparity", "--data", named, "--protocol", "indoor"]
    found = run(tmp_path / "out", "--call", "mine:red", *words)
    expected = evaluate(
        lambda images: [torch.sqrt(image[0] + 1.0) for image in images],
        f"depth:{named}",
        protocol="indoor",
    )
    back = Result.load(tmp_path / "out").sets["rooms"]
    for metric, values in expected.images.items():
        assert back.values[metric] == pytest.approx(values, rel=1e-6)
        assert means(found)[metric] == pytest.approx(expected.means[metric])
    assert back.fitted["scale"] == pytest.approx(expected.scales)
    assert back.images == ("0", "1", "2")
    for name, kind in FLOORS.items():
        plain = evaluate_source(floor(kind), DepthManifest(named), PROTOCOLS["indoor"])
        assert back.floors[name]["abs_rel"] == pytest.approx(plain["abs_rel"])
    assert found["subject"] == {
        "form": "call",
        "name": "mine:red",
        "kind": "disparity",
        "hash": found["subject"]["hash"],
    }
    # the same function out of its file: another name, the same hashes and numbers
    again = run(tmp_path / "again", "--call", f"{tmp_path}/mine.py:red", *words)
    assert again["maps"] == found["maps"]
    assert again["subject"]["hash"] == found["subject"]["hash"]
    assert means(again) == means(found)


def test_a_network_of_disparity_and_one_of_metres(named, tmp_path):
    """What a network predicts it says itself: metres are compared as metres, without a fit."""
    relative, metric = tmp_path / "relative.safetensors", tmp_path / "metric.safetensors"
    save(build("lite0", pretrained=False, seed=0), relative)
    save(build("lite0", pretrained=False, seed=0, max_depth=10.0), metric)
    words = ["--data", named, "--device", "cpu", "--short-side", "32"]
    found = run(tmp_path / "r", relative, *words)
    assert (found["subject"]["kind"], found["about"]["rooms"]["alignment"]) == (
        "disparity",
        "disparity",
    )
    expected = evaluate(load(relative), f"depth:{named}", short_side=32)
    assert means(found)["abs_rel"] == pytest.approx(expected.means["abs_rel"])

    found = run(tmp_path / "m", metric, *words)
    assert (found["subject"]["kind"], found["about"]["rooms"]["alignment"]) == ("depth", "none")
    expected = evaluate(load(metric), f"depth:{named}", short_side=32, kind="depth")
    assert means(found)["abs_rel"] == pytest.approx(expected.means["abs_rel"])
    metres = evaluate(
        load(metric), f"depth:{named}", short_side=32, kind="depth", alignment="median"
    )
    fitted = run(tmp_path / "f", metric, *words, "--align", "median")
    assert means(fitted)["abs_rel"] == pytest.approx(metres.means["abs_rel"])
    assert means(fitted)["abs_rel"] != pytest.approx(means(found)["abs_rel"])
    assert fitted["subject"]["hash"] == found["subject"]["hash"]
    assert found["settings"]["short_side"] == 32


def test_predictions_of_another_size_are_brought_to_the_truth(named, tmp_path):
    """Maps of half the size: as if they had been resized before."""
    from dalib.models.sizes import resize_disparity

    small, large = tmp_path / "small", tmp_path / "large"
    for place in (small, large):
        place.mkdir()
    for k in range(3):
        half = torch.from_numpy(true_depth(k)[::2, ::2].copy()).float()
        np.save(small / f"{k}.npy", half.numpy())
        np.save(large / f"{k}.npy", resize_disparity(half[None], SIZE)[0].numpy())
    a, b = (
        run(tmp_path / f"out {p.name}", *of_folder(p, "depth", "--data", named))
        for p in (small, large)
    )
    assert means(a) == means(b)
    assert a["maps"] != b["maps"]
    assert means(a)["abs_rel"] > 1e-3


def test_shapes(named, tmp_path, capsys):
    """A map on its side is refused; a square one is stretched, and that is told."""
    side, square = tmp_path / "side", tmp_path / "square"
    for place in (side, square):
        place.mkdir()
    for k in range(3):
        np.save(side / f"{k}.npy", true_depth(k).T)
        np.save(square / f"{k}.npy", true_depth(k)[:, :24])
    run(tmp_path / "a", *of_folder(side, "depth", "--data", named), expect=1)
    assert "image '0': the prediction is 24x32" in capsys.readouterr().err
    run(tmp_path / "b", *of_folder(square, "depth", "--data", named))
    out = capsys.readouterr().out
    assert "3 predictions have another shape than their images (24x24 for 32x24)" in out


def test_formats_of_a_folder_agree(named, tmp_path):
    """The same depth as .npy, 16-bit PNG in millimetres, and PFM."""
    files = {name: tmp_path / name for name in ("npy", "png", "pfm")}
    for folder in files.values():
        (folder / "images").mkdir(parents=True)
    for k in range(3):
        millimetres = (1000 * true_depth(k)).round().astype(np.uint16)
        metres = (millimetres / 1000).astype(np.float32)
        np.save(files["npy"] / f"images/{k}.npy", metres)
        Image.fromarray(millimetres).save(files["png"] / f"images/{k}.png")
        head = f"Pf\n{SIZE[1]} {SIZE[0]}\n-1.0\n".encode()
        (files["pfm"] / f"images/{k}.pfm").write_bytes(head + metres[::-1].tobytes())
    found = {}
    for name, folder in files.items():
        scale = ["--scale", 1000] if name == "png" else []
        words = of_folder(folder, "depth", "--data", named, "--align", "none", *scale)
        found[name] = run(tmp_path / f"out {name}", *words)
    assert found["npy"]["maps"] == found["png"]["maps"] == found["pfm"]["maps"]
    assert 0 < means(found["pfm"])["abs_rel"] < 1e-4
    assert found["npy"]["subject"]["matched"] == {"rooms": "the path of the image"}


# ---- data


def test_sequences_are_drawn_together_and_share_a_fit(tmp_path):
    """Two films of two frames; the prediction of each film has a scale of its own, and in the second
    the frames have different ones."""
    names = ["a", "a", "b", "b"]
    data = rooms(tmp_path / "rooms", count=4, more={"sequence": names})
    maps = tmp_path / "maps"
    maps.mkdir()
    for k, scale in enumerate((2, 2, 3, 4)):
        np.save(maps / f"{k}.npy", scale * true_depth(k))
    words = of_folder(maps, "depth", "--data", data, "--align", "scale", "--protocol", "scenes")
    each = run(tmp_path / "each", *words)
    assert is_perfect(each)
    assert each["about"]["rooms"]["interval"] == {"level": 0.95, "over": "sequences", "units": 2}
    assert each["datasets"]["rooms"]["abs_rel"]["units"] == 2
    both = run(tmp_path / "both", *words, "--per", "sequence", "--also", "flicker")
    values = Result.load(tmp_path / "both").sets["rooms"]
    assert values.values["abs_rel"][:2] == pytest.approx((0, 0), abs=1e-6)
    assert min(values.values["abs_rel"][2:]) > 0.05
    assert len(set(values.fitted["scale"])) == 2
    flicker = values.values["flicker"]
    assert [math.isnan(x) for x in flicker] == [True, False, True, False]
    assert flicker[1] == pytest.approx(0, abs=1e-3)
    assert flicker[3] == pytest.approx(100 * math.log(4 / 3), rel=1e-3)
    assert both["about"]["rooms"]["per"] == "sequence"


def test_marked_pairs(tmp_path, named):
    """Of three pairs the prediction has two right; the ramp has the one whose nearer point is
    lower."""
    image = tmp_path / "pairs" / "photos" / "p.png"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (40, 20)).save(image)
    (tmp_path / "pairs" / "marks.csv").write_text(
        "image,near_x,near_y,far_x,far_y\n"
        "photos/p.png,0.9,0.5,0.1,0.5\n"
        "photos/p.png,0.9,0.1,0.1,0.9\n"
        "photos/p.png,0.1,0.9,0.9,0.1\n"
    )
    maps = tmp_path / "maps"
    maps.mkdir()
    np.save(maps / "p.npy", np.arange(40.0)[None].repeat(20, 0))  # right is near
    words = of_folder(maps, "disparity", "--data", tmp_path / "pairs" / "marks.csv")
    found = run(tmp_path / "out", *words)
    assert means(found, "marks") == {"ordinal": pytest.approx(2 / 3), "ordinal_hard": 1}
    ramp = found["floors"]["marks"]["vertical ramp"]
    assert ramp["ordinal"]["mean"] == pytest.approx(1 / 3)
    assert found["about"]["marks"]["protocol"] == "marked_pairs"
    # beside data with depth, in one run, and turned round as depth
    np.save(maps / "p.npy", np.arange(40.0, 0, -1)[None].repeat(20, 0))
    perfect(maps, kind="depth")
    words = of_folder(maps, "depth", "--data", named, tmp_path / "pairs" / "marks.csv")
    found = run(tmp_path / "both", *words, "--align", "none")
    assert is_perfect(found)
    assert means(found, "marks")["ordinal"] == pytest.approx(2 / 3)
    same = Result.load(tmp_path / "both")
    compared = same.compared(same)
    assert compared.sets["marks"].differences["ordinal"].mean == 0


def test_sources_of_the_catalogue(tmp_path):
    """scikit-image's pair and drawn scenes, each by its own protocol."""
    (tmp_path / "mine.py").write_text("def low(i):\n    return i[..., 0] * 0.0 + [[0.0]] + 1\n")
    found = run(
        tmp_path / "out",
        *("--call", f"{tmp_path}/mine.py:low", "--kind", "disparity"),
        *("--data", "skimage:motorcycle", "scenes:night_street", "--count", 2),
    )
    assert list(found["datasets"]) == ["motorcycle", "night_street"]
    assert found["about"]["motorcycle"]["protocol"] == "indoor"
    assert found["about"]["night_street"]["protocol"] == "scenes"
    assert found["about"]["night_street"]["images"] == 2
    for name in found["datasets"]:  # a flat map is the floor that is flat
        flat = found["floors"][name]["constant"]
        assert means(found, name) == {m: pytest.approx(flat[m]["mean"]) for m in ALL_METRICS}


def test_hub_data_matched_by_number(tmp_path):
    """A `datasets` folder: its images have numbers only, and predictions are called 000, 001, ..."""
    from datasets import Dataset

    depth = [true_depth(k).astype(np.float32).tolist() for k in range(3)]
    images = [Image.new("RGB", SIZE[::-1]) for _ in range(3)]
    Dataset.from_dict({"image": images, "z": depth}).save_to_disk(str(tmp_path / "hub"))
    maps = tmp_path / "maps"
    maps.mkdir()
    for k in range(3):
        np.save(maps / f"{k:03}.npy", true_depth(k))
    source = f"hub:{tmp_path / 'hub'}?image=image&depth=z&domain=rooms"
    words = of_folder(maps, "depth", "--data", source, "--protocol", "indoor", "--align", "none")
    found = run(tmp_path / "out", *words)
    assert is_perfect(found)
    assert found["subject"]["matched"] == {"rooms": "NUMBER"}


def test_several_data_sets_of_a_manifest_each_by_its_own_protocol(tmp_path):
    data = rooms(
        tmp_path / "all", more={"dataset": ["x", "x", "y"], "protocol": ["indoor", "indoor", ""]}
    )
    maps = perfect(tmp_path / "maps", kind="depth")
    words = of_folder(maps, "depth", "--data", data)
    found = run(tmp_path / "out", *words)
    assert {n: a["protocol"] for n, a in found["about"].items()} == {"x": "indoor", "y": "relative"}
    assert found["datasets"]["x"]["abs_rel"]["n"] == 2
    found = run(tmp_path / "other", *words, "--protocol", "nyuv2_eigen")
    assert {a["protocol"] for a in found["about"].values()} == {"nyuv2_eigen"}
    part = run(tmp_path / "part", *of_folder(maps, "depth", "--data", f"depth:{data}?dataset=y"))
    assert list(part["datasets"]) == ["y"]
    other = tmp_path / "all" / "other.csv"
    (tmp_path / "all" / "manifest.csv").rename(other)
    again = run(tmp_path / "again", *of_folder(maps, "depth", "--data", other))
    assert again["about"]["x"]["protocol"] == "indoor"


def test_rows_that_are_left_out_do_not_matter(tmp_path, capsys):
    """Another data set of the manifest has no known scale, which the protocol would need."""
    data = rooms(tmp_path / "all", more={"dataset": ["x", "x", "y"]})
    lines = (data / "manifest.csv").read_text().splitlines()
    lines[3] = lines[3].replace("yes", "no")
    (data / "manifest.csv").write_text("\n".join(lines))
    (data / "protocols.yaml").write_text("x: {protocol: driving}\ny: {protocol: relative}\n")
    maps = perfect(tmp_path / "maps", kind="depth")
    words = of_folder(maps, "depth", "--data", f"depth:{data}?dataset=x")
    found = run(tmp_path / "declared", *words)
    assert found["about"]["x"]["protocol"] == "driving"
    found = run(tmp_path / "said", *words, "--protocol", "indoor")
    assert found["about"]["x"]["protocol"] == "indoor"
    run(
        tmp_path / "all of it",
        *of_folder(maps, "depth", "--data", data, "--protocol", "indoor"),
        expect=1,
    )
    assert "data set 'y' have no known scale" in capsys.readouterr().err


def test_names_that_stand_twice_become_paths(tmp_path):
    """Frames of films are all called 0, 1, ...: without ids their paths tell them apart."""
    data = rooms(tmp_path / "rooms", count=2)
    for name in ("images", "depth"):
        ending = "png" if name == "images" else "npy"
        (data / name / "more").mkdir()
        shutil.copy(data / name / f"1.{ending}", data / name / "more" / f"0.{ending}")
    with (data / "manifest.csv").open("a") as file:
        file.write("\nimages/more/0.png,depth/more/0.npy,depth_m,1,yes")
    maps = tmp_path / "maps"
    (maps / "images" / "more").mkdir(parents=True)
    for name, k in (("0", 0), ("1", 1), ("more/0", 1)):
        np.save(maps / "images" / f"{name}.npy", true_depth(k))
    found = run(tmp_path / "out", *of_folder(maps, "depth", "--data", data, "--align", "none"))
    assert is_perfect(found)
    assert Result.load(tmp_path / "out").sets["rooms"].images == (
        "images/0",
        "images/1",
        "images/more/0",
    )


# ---- more measures, and the sheet


def test_what_is_measured_only_where_it_is_asked_for(named, right, tmp_path):
    words = of_folder(right["disparity"], "disparity", "--data", named)
    found = run(tmp_path / "out", *words, "--also", "boundary", "ordinal", "--bins", 0, 4, 9)
    values = means(found)
    assert values["boundary_f1"] == pytest.approx(1, abs=1e-3)
    assert values["ordinal"] == 1
    for part in ("0_to_4", "4_to_9"):
        assert values[f"abs_rel_from_{part}"] == pytest.approx(0, abs=1e-5)
        assert values[f"delta1_from_{part}"] == 1
    assert set(means(run(tmp_path / "plain", *words))) == set(ALL_METRICS)


def test_the_sheet_shows_the_worst_first(tmp_path):
    """Twelve images, each wrong by a fold more than the one before; the last ten are shown."""
    data = rooms(tmp_path / "rooms", count=12)
    maps = tmp_path / "maps"
    maps.mkdir()
    for k in range(12):
        np.save(maps / f"{k}.npy", true_depth(k) * (1 + k / 20))
    run(tmp_path / "out", *of_folder(maps, "depth", "--data", data, "--align", "none"))
    sheet = np.asarray(Image.open(tmp_path / "out" / "worst.jpg")).astype(float)
    # the column of errors: from dark (55 % too far) to pale, ten of them
    errors = sheet[:, -130:-60].mean((1, 2))
    rows = [part for part in np.split(errors, np.flatnonzero(errors > 245)) if len(part) > 100]
    levels = [float(np.median(part)) for part in rows]
    assert len(levels) == 10
    assert levels == sorted(levels)
    assert levels[0] < 80 < 200 < levels[-1]


def test_wrong_way_round_is_told(named, right, tmp_path, capsys):
    run(tmp_path / "out", *of_folder(right["depth"], "disparity", "--data", named))
    text = "in 3 of 3 images this disparity falls where the true disparity rises: is it depth?"
    assert text in capsys.readouterr().out
    inverse = perfect(tmp_path / "maps", kind="disparity")
    run(tmp_path / "other", *of_folder(inverse, "depth", "--data", named, "--align", "none"))
    assert "in 3 of 3 images this depth rises where" in capsys.readouterr().out
    assert Result.load(tmp_path / "out").sets["rooms"].notes[0].startswith("in 3 of 3")


def test_who_says_its_kind_itself_is_not_asked_for_it(named):
    """As networks do: brighter is farther in these images, and disparity it shall be."""
    subject = Function(lambda image: image[..., 0] + 1.0, kind="disparity", name="bright")
    subject.declared = False
    found, _ = evaluate_sets(subject, open_sets([str(named)])[0])
    assert found["rooms"].notes == (
        "in 3 of 3 images this disparity falls where the true disparity rises: near is taken for far",
    )


# ---- comparing


def test_against_another_result(named, right, tmp_path, capsys):
    first = run(tmp_path / "first", *of_folder(right["depth"], "depth", "--data", named))
    maps = perfect(tmp_path / "maps", kind="disparity", count=2)
    words = of_folder(maps, "disparity", "--data", named, "--allow-missing")
    found = run(tmp_path / "second", *words, "--against", tmp_path / "first" / "result.json")
    out = capsys.readouterr().out
    assert "differences: " in out
    assert "2 images; 1 that only one of the two has are left out" in out
    assert "1 of 3 images have no prediction and are left out" in out
    difference = found["against"]["datasets"]["rooms"]["abs_rel"]
    assert (difference["mean"], difference["n"]) == (pytest.approx(0, abs=1e-6), 2)
    assert found["against"]["other_maps"] == first["maps"]
    words = of_folder(right["depth"], "depth", "--data", named, "--align", "none")
    run(tmp_path / "third", *words, "--against", tmp_path / "first", expect=1)
    assert "another alignment, none here and disparity there" in capsys.readouterr().err
    assert not (tmp_path / "third").exists()


def test_a_result_on_another_truth_is_written_and_not_compared(named, right, tmp_path, capsys):
    words = of_folder(right["depth"], "depth", "--data", named)
    run(tmp_path / "a", *words)
    np.save(named / "depth" / "1.npy", true_depth(1) + 0.1)
    words += ["--against", tmp_path / "a", "--out", tmp_path / "b"]
    assert main(["evaluate", *map(str, words)]) == 1
    assert "1 images have another ground truth there, such as 1" in capsys.readouterr().err
    assert Result.load(tmp_path / "b").against is None


def test_what_cannot_be_compared_is_refused_before_anything_is_predicted(named, right, tmp_path):
    """A result by another alignment, and one on other data: no map is read."""
    run(tmp_path / "a", *of_folder(right["depth"], "depth", "--data", named, "--align", "none"))
    rules = Result.load(tmp_path / "a").sets["rooms"].rules
    subject = Predictions(MapFolder(right["depth"], kind="depth"))
    sets, _ = open_sets([str(named)])
    for against, words in (({"rooms": rules}, "another alignment"), ({"x": rules}, "no data set")):
        with pytest.raises(ConfigError, match=words):
            evaluate_sets(subject, sets, against=against)
        assert subject.matched == {}


def test_nothing_is_replaced_unasked(named, right, tmp_path, capsys):
    words = of_folder(right["depth"], "depth", "--data", named)
    run(tmp_path / "out", *words)
    before = (tmp_path / "out" / "result.json").read_bytes()
    run(tmp_path / "out", *words, "--align", "none", expect=1)
    assert "made with other settings (align)" in capsys.readouterr().err
    run(tmp_path / "out", *words, expect=1)
    assert "is there already, of these settings" in capsys.readouterr().err
    assert (tmp_path / "out" / "result.json").read_bytes() == before
    found = run(tmp_path / "out", *words, "--align", "none", "--overwrite")
    assert found["about"]["rooms"]["alignment"] == "none"


def test_a_killed_evaluation_leaves_what_was_there(named, right, tmp_path, capsys):
    """SIGTERM at the second image: exit code 75, the older result untouched, no half of a new one."""
    (tmp_path / "mine.py").write_text(
        "import os, signal\n"
        "seen = []\n"
        "def depth(image):\n"
        "    seen.append(image)\n"
        "    if len(seen) == 2:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return image[..., 0] + 1.0\n"
    )
    run(tmp_path / "out", *of_folder(right["depth"], "depth", "--data", named))
    before = {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()}
    for out, more in ((tmp_path / "out", ["--overwrite"]), (tmp_path / "new", [])):
        words = ["--call", f"{tmp_path}/mine.py:depth", "--kind", "depth", "--data", named]
        run(out, *words, *more, expect=75)
        assert "nothing was written" in capsys.readouterr().err
    assert {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()} == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("when", ["while it predicts", "before", "while it is imported"])
def test_ctrl_c_leaves_what_was_there(named, right, tmp_path, capsys, monkeypatch, when):
    """Exit code 130, and no word of anything that is kept."""
    (tmp_path / "mine.py").write_text(
        "import os, signal\ndef depth(image):\n    os.kill(os.getpid(), signal.SIGINT)\n"
    )

    def stop(*_, **__):
        raise KeyboardInterrupt

    if when == "before":
        monkeypatch.setattr("dalib.evaluation.sets.open_sets", stop)
    if when == "while it is imported":
        late = ModuleType("dalib.evaluation.results")
        late.__getattr__ = stop
        monkeypatch.setitem(sys.modules, late.__name__, late)
    words = ["--call", f"{tmp_path}/mine.py:depth", "--kind", "depth", "--data", named]
    run(tmp_path / "out", *words, expect=130)
    assert "nothing was written yet; run it again from the start" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", [".", "./", "sub/.."])
def test_the_current_folder_may_be_the_one_for_results(named, right, tmp_path, monkeypatch, out):
    """Nothing is written beside it: what holds it may be read-only."""
    here = tmp_path / "above" / "here"
    (here / "sub").mkdir(parents=True)
    monkeypatch.chdir(here)
    words = of_folder(right["depth"], "depth", "--data", named, "--out", out)
    mkdir = Path.mkdir

    def inside(self, *args, **options):
        assert here in (self.absolute(), *self.absolute().parents), self
        return mkdir(self, *args, **options)

    monkeypatch.setattr(Path, "mkdir", inside)
    assert main(["evaluate", *map(str, words)]) == 0
    assert {f.name for f in here.iterdir()} == {"result.json", "images.csv", "worst.jpg", "sub"}


def test_one_value_for_a_whole_image_is_told(named, tmp_path):
    maps = perfect(tmp_path / "maps", kind="depth")
    np.save(maps / "1.npy", np.full(SIZE, 3.0))
    run(tmp_path / "out", *of_folder(maps, "depth", "--data", named))
    [note] = Result.load(tmp_path / "out").sets["rooms"].notes
    assert note.startswith("1 of 3 predictions have one value wherever they are scored, such as ")
    assert "that of 1;" in note


# ---- what is refused


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "nothing to evaluate; give one of WEIGHTS, --call, --predictions"),
        (["w.pth", "--call", "a:b"], "WEIGHTS and --call to evaluate"),
        (["--call", "a:b"], "--kind: say what the maps are"),
        (
            ["--call", "json:dumps", "--kind", "depth", "--device", "cpu"],
            "--device: is for a network",
        ),
        (["--call", "json:dumps", "--kind", "depth", "--scale", "9"], "--scale: is for a folder"),
        (["--call", "", "--kind", "depth"], "--call is empty"),
        (["--call", "json:dumps", "--kind", "depth"], "image '0': it raised TypeError"),
        (["--call", "builtins:len", "--kind", "depth"], "gave a map of shape ()"),
        (
            ["--call", "builtins:repr", "--kind", "depth"],
            "gave str where a map (h, w) of numbers is meant",
        ),
        (["--call", "builtins:abs", "--kind", "depth"], "shape (24, 32, 3)"),
        (["no_such_file.pth"], "no_such_file.pth"),
        (["--protocol", "kitty"], "kitty"),
        (["--align", "sideways"], "sideways"),
        (
            ["--per", "sequence"],
            "rooms has no sequences; its manifest has the columns image, depth, kind, depth_scale, "
            "scale_known; say in a column sequence",
        ),
        (["--also", "flicker"], "needs --per sequence"),
        (["--bins", "5"], "two or more depths"),
        (["--bins", "5", "2"], "two or more depths"),
        (["--count", "0"], "--count: 0 images"),
        (["--protocol", "da2k"], "is for marked pairs"),
        (["--against", "nothing.json"], "nothing.json: there is no such file"),
        (["--scale", "0"], "--scale: 0.0 is not a positive number"),
        (["--device", "cpu"], "--device: is for a network alone"),
    ],
)
def test_bad_words_are_refused(named, right, tmp_path, capsys, words, says):
    alone = not words or words[0] in ("--call", "w.pth", "no_such_file.pth")
    subject = [] if alone else of_folder(right["disparity"], "disparity")
    run(tmp_path / "out", *subject, *words, "--data", named, expect=1)
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("nowhere", "no such folder or file, and no source by that name"),
        ("maps", "no manifest.csv in this folder"),
        ("photos:maps", "photographs without ground truth"),
        ("skimage:photos", "photographs without ground truth"),
        ("notes.csv", "missing column image, depth, kind, depth_scale; it has a, b; write a first"),
        ("notes.json", "notes.json: "),
        ("marks.csv", "1 of its images are not there, such as"),
        ("", "an empty name"),
    ],
)
def test_bad_data_is_refused(right, tmp_path, capsys, monkeypatch, word, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "maps").mkdir()
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    (tmp_path / "notes.json").write_text("[]")
    (tmp_path / "marks.csv").write_text("image,near_x,near_y,far_x,far_y\nx.png,0,0,1,1\n")
    run(tmp_path / "out", *of_folder(right["depth"], "depth", "--data", word), expect=1)
    assert says in capsys.readouterr().err


def test_data_of_one_name_twice_is_refused(named, right, tmp_path, capsys):
    words = of_folder(right["depth"], "depth", "--data", named, f"depth:{named}")
    run(tmp_path / "out", *words, expect=1)
    assert "two data sets are called rooms" in capsys.readouterr().err


def test_a_missing_file_is_refused_before_anything_is_predicted(tmp_path, capsys):
    data = rooms(tmp_path / "rooms")
    (data / "depth" / "2.npy").unlink()
    words = ["--call", "builtins:len", "--kind", "depth", "--data", data]  # which gives no map
    run(tmp_path / "out", *words, expect=1)
    assert "no such file" in (err := capsys.readouterr().err)
    assert "2.npy" in err


def test_images_of_one_id_are_refused(right, tmp_path, capsys):
    data = rooms(tmp_path / "rooms", more={"id": ["a", "b", "a"]})
    run(tmp_path / "out", *of_folder(right["depth"], "depth", "--data", data), expect=1)
    assert "rooms: images 1 and 3 are both called a; give each row" in capsys.readouterr().err


def test_missing_predictions_are_refused_by_number_and_name(named, tmp_path, capsys):
    maps = perfect(tmp_path / "maps", kind="depth", count=1)
    run(tmp_path / "out", *of_folder(maps, "depth", "--data", named), expect=1)
    assert "2 of 3 images of rooms have no prediction" in (err := capsys.readouterr().err)
    assert ": 1, 2; predict them, or say --allow-missing" in err


@pytest.mark.parametrize(
    ("kind", "spoil", "says"),
    [
        ("depth", lambda d: np.where(d > 5, np.nan, d), "are NaN or infinite"),
        ("depth", lambda d: -d, "are not above 0"),
        ("log_depth", lambda d: d * 10, "no natural logarithms of depth"),
        ("disparity", lambda d: np.where(d > 5, np.inf, d), "are NaN or infinite"),
        ("disparity", lambda d: -1 / d, "disparity is not above 0 at scored pixels"),
    ],
)
def test_maps_that_cannot_be_are_refused_with_the_image(named, tmp_path, capsys, kind, spoil, says):
    maps = perfect(tmp_path / "maps", kind=kind)
    np.save(maps / "1.npy", spoil(true_depth(1)))
    align = "median" if kind == "disparity" else "none"
    run(tmp_path / "out", *of_folder(maps, kind, "--data", named, "--align", align), expect=1)
    err = capsys.readouterr().err
    assert "rooms, image '1'" in err
    assert says in err


def test_nothing_within_the_protocol_is_refused(right, tmp_path, capsys):
    data = rooms(tmp_path / "rooms", scale_known=False)
    words = of_folder(right["depth"], "depth", "--data", data)
    run(tmp_path / "a", *words, "--align", "none", expect=1)
    assert "no known scale, and without alignment" in capsys.readouterr().err
    run(tmp_path / "b", *words, "--protocol", "indoor", expect=1)
    assert "no known scale, which protocol indoor needs" in capsys.readouterr().err
    for k in range(3):
        np.save(data / "depth" / f"{k}.npy", 1000 + true_depth(k))
    text = (data / "manifest.csv").read_text().replace(",no", ",yes")
    (data / "manifest.csv").write_text(text)
    run(tmp_path / "c", *words, "--protocol", "indoor", expect=1)
    assert "no pixel lies within protocol indoor" in capsys.readouterr().err


def test_frames_of_several_sizes_have_no_common_fit(tmp_path, capsys):
    data = rooms(tmp_path / "rooms", count=2, more={"sequence": ["a", "a"]})
    Image.new("RGB", (16, 8)).save(data / "images" / "1.png")
    np.save(data / "depth" / "1.npy", true_depth(1)[:8, :16])
    maps = perfect(tmp_path / "maps", kind="depth", count=2)
    words = of_folder(maps, "depth", "--data", data)
    run(tmp_path / "out", *words, "--per", "sequence", expect=1)
    assert "frames of several sizes (32x24 and 16x8)" in capsys.readouterr().err.replace(
        "16x8 and 32x24", "32x24 and 16x8"
    )
    run(tmp_path / "each", *words)


def test_an_encoder_alone_is_refused(named, tmp_path, capsys):
    weights = tmp_path / "dinov2.pth"
    state = build("vitt", pretrained=False, seed=0).encoder.net.state_dict()
    torch.save(dict(state), weights)
    run(tmp_path / "out", weights, "--data", named, "--device", "cpu", expect=1)
    assert "holds an encoder alone" in capsys.readouterr().err


def test_what_a_network_is_cannot_be_said_otherwise(named, tmp_path, capsys):
    weights = tmp_path / "metric.safetensors"
    save(build("lite0", pretrained=False, seed=0, max_depth=10.0), weights)
    words = [weights, "--data", named, "--device", "cpu", "--kind", "disparity"]
    run(tmp_path / "out", *words, expect=1)
    assert "predicts depth, as it says itself" in capsys.readouterr().err


def test_memory_does_not_grow_with_the_images(tmp_path):
    """Of 12 images, never more than a batch is held."""
    import weakref

    data = rooms(tmp_path / "rooms", count=12)
    found, _ = open_sets([str(data)])
    alive = []
    most = 0

    def depth(image):
        nonlocal most
        most = max(most, sum(ref() is not None for ref in alive))
        made = torch.from_numpy(true_depth(0).copy())
        alive.append(weakref.ref(made))
        return made

    evaluate_sets(Function(depth, kind="depth", name="mine"), found)
    assert len(alive) == 12
    assert most <= 2


@pytest.mark.slow
def test_real_pairs(tmp_path):
    """Every real image that there is, through the command, as the study scores it."""
    if not paths.realdepth().is_dir():
        pytest.skip("../shared/realdepth is not here; set DALIB_REALDEPTH to its folder")
    from dalib.evaluation.suite import real_floors

    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def ramp(image):\n"
        "    return np.linspace(0, 1, len(image), dtype='f4')[:, None].repeat(image.shape[1], 1)\n"
    )
    words = ["--call", f"{tmp_path}/mine.py:ramp", "--kind", "disparity"]
    found = run(tmp_path / "out", *words, "--data", paths.realdepth(), "skimage:motorcycle")
    study = real_floors({"vertical ramp": FLOORS["vertical ramp"]})["vertical ramp"]
    assert set(found["datasets"]) == set(study)
    back = Result.load(tmp_path / "out").sets
    for name, scores in study.items():
        assert back[name].values["abs_rel"] == pytest.approx(scores["abs_rel"], abs=2e-5)
