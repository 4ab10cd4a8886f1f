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


def test_an_image_without_a_prediction_is_refused(data, tmp_path, capsys):
    perfect(tmp_path / "two", kind="disparity", count=2)
    words = ["explain", str(tmp_path / "two"), "--kind", "disparity", "--data", str(data)]
    assert main([*words, "--mine", "0.1", "--theirs", "0.2"]) == 1
    assert "1 of 3 images" in capsys.readouterr().err
