"""The examples as a user runs them: each ends with numbers or files that are what they should be,
and stays short enough to be read."""

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from helpers import ROOT

from dalib import paths, predict
from dalib.data.sources import DepthManifest, Motorcycle
from dalib.evaluation import FLOORS, PROTOCOLS, evaluate_source, floor
from dalib.losses import cutmix_unlabelled
from dalib.models import load
from dalib.predict import read_png16

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAGE = (ROOT / "book" / "use_it.md").read_text(encoding="utf-8")


def call(name: str, *words: object, cwd) -> list[str]:
    """The lines that an example prints, called in a folder outside the checkout."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def module(name: str):
    """An example, imported: nothing of it runs."""
    path = ROOT / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def numbers(lines: list[str], pattern: str) -> dict[str, float]:
    """What stands before a colon -> the number that the pattern finds behind it."""
    found = {}
    for line in lines:
        name, _, rest = line.partition(": ")
        if match := re.search(pattern, rest):
            found[name] = float(match[1])
    return found


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_is_short_and_says_how_to_call_it(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 100
    assert f"python examples/{path.name}" in text.split('"""')[1]


# the losses in one's own loop


@pytest.mark.slow
def test_the_losses_teach_a_network_of_ones_own(tmp_path):
    loss = numbers(call("losses_in_your_loop", "--steps", 25, cwd=tmp_path), r"images ([\d.]+)")
    assert list(loss) == ["before", "teacher", "student"]
    assert loss["teacher"] < loss["before"] / 4
    assert loss["student"] < loss["before"] / 4


def test_a_student_that_agrees_with_its_teacher_loses_nothing_under_cutmix(monkeypatch):
    """Brightness as the network, without colour and blur: what the student sees in a box is the
    partner, and so is the label there. With the image's own label it would lose something."""
    example, draw = module("losses_in_your_loop"), module("losses_in_your_loop").perturb.draw
    seen = []

    def only_cutmix(keys, kinds, **size):
        assert kinds == ("colour", "blur", "cutmix")
        seen.append(draw(keys, ("cutmix",), **size))
        return seen[-1]

    def brightness(images):
        return images.mean(1), images

    monkeypatch.setattr(example.perturb, "draw", only_cutmix)
    images = torch.rand(8, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    parts = example.student_losses(brightness, brightness, lambda x: x, images, 3)
    assert seen[0].box.any()
    assert parts["unlabelled"].item() == pytest.approx(0, abs=1e-5)
    assert parts["feat"].item() == 0

    def own_label(pred, target, *, target_inside, inside):
        return cutmix_unlabelled(pred, target, target_inside=target, inside=inside)

    monkeypatch.setattr(example, "cutmix_unlabelled", own_label)
    parts = example.student_losses(brightness, brightness, lambda x: x, images, 3)
    assert parts["unlabelled"] > 0.01


# a student on one's own data


@pytest.mark.slow
def test_a_student_is_trained_on_made_up_data_and_maps_the_photographs(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "work").mkdir()
    lines = call("train_on_your_data", "--steps", 2, cwd=tmp_path / "work")
    told = dict(line.split(": ", 1) for line in lines if ": " in line)
    weights, maps = Path(told["weights"]), Path(told["8 maps"])
    # a student and its teacher, where DALIB_RUNS says, and nothing where one stands
    trained = sorted(paths.runs().glob("*/model.safetensors"))
    assert len(trained) == 2
    assert weights in trained
    assert list(paths.runs().glob("*/pseudo-*/manifest.json"))
    assert not list((tmp_path / "work").iterdir())
    # the maps are what the student's weights say of the photographs
    photographs = maps.with_name("photographs")
    expected = predict.predict(photographs, model=load(weights), short_side=64)
    assert len(expected) == 8
    for name, disparity in expected.items():
        kept, kind = read_png16(maps / name)
        assert kind == "disparity"
        torch.testing.assert_close(kept, disparity, rtol=0, atol=1e-3 * float(disparity.max()))


def test_its_manifest_says_what_the_made_up_depth_means(tmp_path):
    example = module("train_on_your_data")
    example.write_manifest(example.make_up(tmp_path / "pairs", count=4, with_depth=True))
    source = DepthManifest(tmp_path / "pairs")
    assert len(source) == 4
    sample = source[1]
    assert sample["valid"].all()
    # the floor's first row is 9 m away, and the second box 2.5 m
    assert sample["disparity"][0, 0].item() == pytest.approx(1 / 9, rel=1e-6)
    assert sample["disparity"][30, 20].item() == pytest.approx(1 / 2.5, rel=1e-6)
    assert sample["image"][:, 30, 20].float().mean() > sample["image"][:, 0, 0].float().mean()


# one's own model


@pytest.mark.slow
def test_a_model_is_scored_with_the_floors_beside_it(tmp_path):
    found = numbers(call("evaluate_your_model", "--scenes", 2, cwd=tmp_path), r"AbsRel ([\d.]+)")
    assert list(found) == [
        f"{data}, {model}"
        for data in ("motorcycle", "night street")
        for model in ("your model", "floor, constant", "floor, vertical ramp")
    ]
    expected = evaluate_source(floor(FLOORS["constant"]), Motorcycle(), PROTOCOLS["indoor"])
    assert found["motorcycle, floor, constant"] == pytest.approx(expected["abs_rel"][0], abs=1e-4)
    assert found["motorcycle, your model"] < found["motorcycle, floor, constant"]
    assert found["night street, your model"] != found["night street, floor, vertical ramp"]


def test_a_model_is_scored_on_a_folder_of_ones_own(tmp_path, capsys):
    """The pairs that the other example makes up: the nearer, the brighter, and brightness is part
    of the guess, which no floor can know of."""
    pairs = module("train_on_your_data")
    pairs.write_manifest(pairs.make_up(tmp_path / "pairs", count=2, with_depth=True))
    module("evaluate_your_model").main(tmp_path / "pairs", scenes=0)
    found = numbers(capsys.readouterr().out.splitlines(), r"AbsRel ([\d.]+)")
    assert list(found) == [
        f"pairs, {model}" for model in ("your model", "floor, constant", "floor, vertical ramp")
    ]
    assert found["pairs, your model"] < found["pairs, floor, vertical ramp"]


# the page about them


def test_every_block_of_code_on_the_page_is_an_examples():
    """Line by line as it stands there, whatever its indent."""
    texts = [path.read_text(encoding="utf-8") for path in EXAMPLES]
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    assert len(blocks) >= 5
    for block in blocks:
        indented = [textwrap.indent(block, " " * n) for n in range(0, 20, 4)]
        assert any(form in text for form in indented for text in texts), block


def test_the_page_and_the_readme_name_every_example():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES:
        assert f"python examples/{path.name}" in PAGE
        assert f"python examples/{path.name}" in readme
