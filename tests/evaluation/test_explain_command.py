"""`python -m dalib explain` from end to end on tiny data."""

import numpy as np
import pytest
from helpers.commands import main
from helpers.scored import perfect, rooms, true_depth

from dalib.data.sources import DepthManifest
from dalib.evaluation.conventions import rescore

WHOLE = ["--protocol", "indoor", "--most", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return rooms(tmp_path_factory.mktemp("rooms"), more={"sequence": ["a", "a", ""]})


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Disparity with an error that grows with distance."""
    folder = tmp_path_factory.mktemp("maps")
    generator = np.random.default_rng(0)
    for k in range(3):
        disparity = 1 / true_depth(k)
        np.save(folder / f"{k}.npy", disparity + 0.05 * generator.random(disparity.shape))
    return folder


def numbers(data, maps, conventions=()):
    predictions = [np.load(maps / f"{k}.npy").astype(np.float32) for k in range(3)]
    return rescore(
        predictions,
        DepthManifest(data),
        protocol="indoor",
        conventions=conventions,
        names=("abs_rel", "delta1"),
        groups=("a", "a", "image 2"),
    )


@pytest.mark.parametrize("planted", ["disparity_error", "median", "crop_garg", "mean_sequences"])
def test_the_planted_convention_is_named(data, maps, planted, capsys):
    mine = numbers(data, maps)["abs_rel"]
    theirs = numbers(data, maps, [planted])["abs_rel"]
    words = ["explain", str(maps), "--kind", "disparity", "--data", str(data), *WHOLE]
    assert main([*words, "--mine", f"{mine:.7f}", "--theirs", f"{theirs:.7f}"]) == 0
    said = capsys.readouterr().out
    assert "Your number is that of the protocol." in said
    assert f"{planted}: " in said


def test_two_metrics(data, maps, capsys):
    sides = numbers(data, maps), numbers(data, maps, ["median"])
    words = ["explain", str(maps), "--kind", "disparity", "--data", str(data), *WHOLE]
    for name, side in zip(("--mine", "--theirs"), sides, strict=True):
        words += [name, *(f"{n}={v:.7f}" for n, v in side.items())]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "delta1: yours" in said
    assert "median: " in said


def test_maps_of_mirrored_images_are_turned_back(data, maps, tmp_path, capsys):
    """Mirrored maps that are those of the images: averaging changes nothing, so it is not tried
    with an effect."""
    for k in range(3):
        np.save(tmp_path / f"{k}.npy", np.load(maps / f"{k}.npy")[:, ::-1])
    mine = numbers(data, maps)["abs_rel"]
    words = ["explain", str(maps), "--kind", "disparity", "--data", str(data), *WHOLE]
    words += ["--mine", f"{mine:.7f}", "--theirs", "0.5"]
    tried = []
    for more in ([], ["--mirrored", str(tmp_path)], ["--mirrored", str(maps)]):
        assert main([*words, *more]) == 0
        tried.append(capsys.readouterr().out.split("single conventions")[0].split()[-1])
    assert tried[0] == tried[1]
    assert int(tried[2]) == int(tried[1]) + 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--mine", "five"], "write it as printed"),
        (["--mine", "0.1", "0.2"], "two numbers of abs_rel"),
        (["--mine", "delta1=0.9"], "give the same metrics"),
        (["--mine", "=0.1"], "=0.1: write METRIC=NUMBER"),
        (["--mine", "abs_rel="], "abs_rel=: write METRIC=NUMBER"),
        (["--mine", "-0.1"], "abs_rel -0.1: is never below 0"),
        (["--theirs", "1e400"], "has more digits than a printed number has"),
        (
            ["--mine", "delta1=97.1", "--theirs", "delta1=95"],
            "delta1 97.1: is a share of the pixels, from 0 to 1; write a percentage with its sign",
        ),
        (["--mirrored", ""], "the folder of the predictions is an empty name"),
        (["--mine", "lpips=0.9", "--theirs", "lpips=0.8"], "metric"),
        (["--protocol", "kiti"], "kiti"),
        (["--most", "9"], "1, 2 or 3"),
        (["--data", "nowhere"], "nowhere"),
        (["--data", "scenes"], "name one"),
    ],
)
def test_what_is_refused(data, maps, words, says, capsys):
    base = ["explain", str(maps), "--kind", "disparity", "--data", str(data)]
    base += ["--mine", "0.1", "--theirs", "0.2"]
    assert main([*base, *words]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("numbers", [["-0.1", "0.2"], ["nan", "0.2"], ["0.1", "acc=0.2"]])
def test_numbers_are_refused_before_anything_is_read(numbers, capsys):
    words = ["explain", "nowhere", "--kind", "disparity", "--data", "nowhere"]
    assert main([*words, "--mine", numbers[0], "--theirs", numbers[1]]) == 1
    assert "nowhere" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mine", "theirs", "says"),
    [
        ("0.3", "0.30", "Within the rounding of their digits the two numbers are one: no gap."),
        ("{here}", "{here}", "both are that of the protocol: no gap."),
        ("0.3", "{here}", "Their number is that of the protocol: were the two exchanged?"),
        ("5.1", "{here}", "abs_rel 5.1: if it is a percentage, write it with its sign (5.1%)."),
    ],
)
def test_what_else_two_numbers_may_mean(data, maps, mine, theirs, says, capsys):
    here = f"{numbers(data, maps)['abs_rel']:.7f}"
    words = ["explain", str(maps), "--kind", "disparity", "--data", str(data), *WHOLE]
    sides = [side.format(here=here) for side in (mine, theirs)]
    assert main([*words, "--mine", sides[0], "--theirs", sides[1]]) == 0
    said = capsys.readouterr().out
    assert says in said
    hints = ("two numbers are one", "both are that", "exchanged", "a percentage")
    expected = {"exchanged"} if mine == "5.1" else set()
    assert {hint for hint in hints if hint in said and hint not in says} == expected


def test_who_stops_it_is_told_that_nothing_is_kept(data, maps, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("dalib.evaluation.sets.open_sets", stop)
    words = ["explain", str(maps), "--kind", "disparity", "--data", str(data)]
    assert main([*words, "--mine", "0.1", "--theirs", "0.2"]) == 130
    assert "nothing was written yet; run it again from the start" in capsys.readouterr().err


def test_an_image_without_a_prediction_is_refused(data, tmp_path, capsys):
    perfect(tmp_path / "two", kind="disparity", count=2)
    words = ["explain", str(tmp_path / "two"), "--kind", "disparity", "--data", str(data)]
    assert main([*words, "--mine", "0.1", "--theirs", "0.2"]) == 1
    assert "1 of 3 images" in capsys.readouterr().err
