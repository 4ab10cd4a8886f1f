"""Putting a student into a project: from tiny recipes to the file, the card, the record and the
picture; and the places that wait for it."""

import json
import tomllib

import numpy as np
import pytest
import torch
from helpers import students as made
from PIL import Image

from dabook.runs import shipping, students
from dabook.show import model_card
from dabook.site import front
from dalib import load, paths
from dalib.data.sources import SkimagePhotos
from dalib.errors import ConfigError, Stopped, UserError
from dalib.models.files import read_safetensors
from dalib.models.sizes import default_short_side
from dalib.training import launch

REPO = made.REPO


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    made.photographs(tmp_path / "photos", monkeypatch, yes=3, no=2, unclear=1)
    made.pairs(tmp_path / "rgbd", monkeypatch)
    made.real(tmp_path / "real", monkeypatch)
    return made.checkout(tmp_path / "checkout", monkeypatch)


def quiet(_: str) -> None:
    """Where lines go that nobody reads."""


def stop(*_):
    raise Stopped("stopped while it was scored")


# the places


def test_the_pages_of_this_project_say_what_there_is():
    for name, picture in front.PAGES.items():
        text = (REPO / name).read_text(encoding="utf-8")
        between = text.partition("<!-- student -->")[2].partition("<!-- /student -->")[0]
        assert between.strip() == front.block(picture)


def test_a_place_is_filled_and_emptied_and_nothing_else_changes(tmp_path):
    page = tmp_path / "page.md"
    before = "one\n<!-- student -->\n<!-- /student -->\ntwo\n"
    page.write_text(before)
    front.put(page, "student", "a picture")
    assert page.read_text() == "one\n<!-- student -->\na picture\n<!-- /student -->\ntwo\n"
    front.put(page, "student", "")
    assert page.read_text() == before
    with pytest.raises(UserError, match="markers <!-- other --> and <!-- /other --> are gone"):
        front.put(page, "other", "x")
    page.write_text("<!-- student -->")
    with pytest.raises(UserError, match="are gone; put them back"):
        front.put(page, "student", "x")


def test_no_picture_without_a_student(checkout):
    (checkout / "book" / "_static" / "student.jpg").write_bytes(b"left over")
    assert front.block("x.jpg") == ""


def test_a_package_from_elsewhere_is_refused_before_the_training(checkout, monkeypatch):
    other = checkout.parent / "elsewhere" / "dalib" / "weights" / "student.safetensors"
    monkeypatch.setattr(paths, "shipped_weights", lambda: other)
    with pytest.raises(ConfigError, match="is not that of the checkout"):
        front.ship("shipped", report=quiet)
    assert not list(paths.runs().glob("*/checkpoint"))


def test_the_weights_would_be_part_of_a_wheel():
    tools = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    patterns = tools["setuptools"]["package-data"]["dalib"]
    place = paths.shipped_weights().relative_to(REPO / "dalib")
    assert any(place.match(pattern) for pattern in patterns)
    assert any(place.with_name(front.CARD).match(pattern) for pattern in patterns)


# from recipe to project


@pytest.mark.slow
def test_a_student_is_shipped(checkout, monkeypatch):
    """Stopped while it is scored, called again, once more, and as another one."""
    with monkeypatch.context() as patched:
        patched.setattr(shipping, "evaluate", stop)
        with pytest.raises(Stopped):
            front.ship("shipped", report=quiet)
    assert not paths.shipped_weights().exists()
    assert not students.path_of("shipped").exists()
    with monkeypatch.context() as patched:
        patched.setattr(launch, "execute", None)  # neither student nor teacher is trained again
        lines = front.ship("shipped", report=quiet)
    weights = paths.shipped_weights()
    assert str(weights) in "\n".join(lines)

    # the file
    tensors, _ = read_safetensors(weights)
    assert {t.dtype for t in tensors.values()} == {torch.float16}
    assert weights.stat().st_size < shipping.LIMIT
    network = load()
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert default_short_side(network) == 48
    assert network.about["licence"] == "Apache-2.0"

    # the record: of this file, and of what was seen
    record = students.read("shipped")
    assert record["weights"]["sha256"] == students.digest(weights)
    assert record["weights"]["precision"] == "float16"
    assert set(record["wall_seconds"]) == {"student", "teacher"}
    assert {part["ship"] for each in record["seen"] for part in each["parts"]} == {"yes"}
    assert set(record["data"]) == {"student"}
    assert set(record["floors"]) == {"constant", "vertical ramp", "quadratic surface"}
    for beside in (record, *record["floors"].values()):
        assert {d: len(s["abs_rel"]) for d, s in beside["real"].items()} == {
            "motorcycle": 1,
            "nyuv2": 2,
            "tum": 1,
        }
        assert {len(s["abs_rel"]) for s in beside["images"].values()} == {2}
    assert record["marked"]["images"] == ["0.png", "0.png", "1.png"]
    assert record["floors"]["vertical ramp"]["marked"]["right"] == [1.0, 0.0, 0.0]
    assert record["marked"]["hard"] == [False, True, True]

    # card, picture, pages
    card = weights.with_name(front.CARD)
    assert card.read_text() == model_card.card(record)
    assert "| 8 | labelled | student and teacher | procedural scenes |" in card.read_text()
    for name, picture in front.PAGES.items():
        assert f"]({picture})" in (checkout / name).read_text()
    assert (checkout / "book" / "_static" / "student.jpg").read_bytes()[:3] == b"\xff\xd8\xff"

    # once more: nothing is trained or scored again
    before = students.path_of("shipped").read_text()
    with monkeypatch.context() as patched:
        patched.setattr(shipping, "evaluate", None)
        front.ship("shipped", report=quiet)
    assert students.path_of("shipped").read_text() == before

    # another one: a copy of the first is kept
    first = students.digest(weights)
    made.declare(checkout, shipped=made.SHIPPED | {"seed": 5})
    lines = front.ship("shipped", report=quiet)
    kept = paths.runs() / "students" / first[:12]
    assert str(kept) in lines[0]
    assert students.digest(kept / "student.safetensors") == first
    assert json.loads((kept / "shipped.json").read_text())["weights"]["sha256"] == first
    assert first in (kept / front.CARD).read_text()
    assert students.digest(weights) == students.read("shipped")["weights"]["sha256"] != first


@pytest.mark.slow
def test_a_research_student_is_recorded_and_stays_out_of_the_project(checkout):
    before = {p for p in checkout.rglob("*") if p.is_file()}
    lines = front.ship("research", report=quiet)
    new = {p for p in checkout.rglob("*") if p.is_file()} - before
    assert new == {students.path_of("research"), students.picture_of("research")}
    with Image.open(students.picture_of("research")) as picture:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()
    assert pixels.shape[1] == 2 * front.TALL + front.GAP
    first = SkimagePhotos()[0]["image"].float()  # a square
    photograph, depth = (
        pixels[:, : front.TALL, : front.TALL],
        pixels[:, -front.TALL :, : front.TALL],
    )
    torch.testing.assert_close(photograph.mean((1, 2)), first.mean((1, 2)), atol=2, rtol=0)
    assert depth.std((1, 2)).max() > 20  # near and far have their colours
    record = students.read("research")
    ships = {part["ship"] for each in record["seen"] for part in each["parts"]}
    assert {"yes", "no", "unclear"} == ships
    assert record["weights"]["precision"] == "float32"
    assert (
        students.weights_of("research")
        == launch.folder(students.recipe("research").config) / launch.WEIGHTS
    )
    assert "not for passing on" in lines[0]
    assert not paths.shipped_weights().exists()


def test_both_places_are_filled(checkout, monkeypatch):
    monkeypatch.setattr(front, "block", lambda picture: f"![]({picture})")
    front.update()
    assert "![](book/_static/student.jpg)" in (checkout / "README.md").read_text()
    assert "![](_static/student.jpg)" in (checkout / "book" / "intro.md").read_text()
