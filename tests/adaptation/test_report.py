"""The report: a page whose numbers are the JSON's, that anything may be called, and that nothing
outside it is needed for."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from helpers.training import Smooth

from dalib.adaptation import Comparison, Estimate, Subset, Terms, keep_back, write_report
from dalib.adaptation.page import number, text
from dalib.adaptation.report import clean, commands
from dalib.adaptation.sheet import DEPTH, TILES, jpeg_address, pick, ramp, tiles
from dalib.models import build
from dalib.models.licences import released_terms
from dalib.models.lively import enliven

HOSTILE = "<script>alert(1)</script>&\"'"
TRAINED = {
    "recipe": "v1",
    "settings": {"steps": 20, "lr": 5e-05, HOSTILE: [1, 2.5]},
    "hours": 0.125,
    "on a GPU": False,
    "fingerprint of the pool": HOSTILE,
}


class Called(Smooth):
    """Photographs with names of every kind."""

    def __init__(self, count):
        super().__init__(count=count, labelled=False)
        self.names = [f"{k} {HOSTILE} no utf-8 ".encode() + b"\xff.jpg" for k in range(count)]


class Page(HTMLParser):
    """What a browser would find: values of `<data>`, tags, addresses and words."""

    def __init__(self, html):
        super().__init__()
        self.values, self.tags, self.addresses, self.words = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attrs = dict(attrs)
        if tag == "data":
            self.values.append(float(attrs["value"]))
        for key in ("src", "href"):
            if key in attrs:
                self.addresses.append((tag, attrs[key]))
        assert not [key for key in attrs if key.startswith("on")]

    def handle_data(self, data):
        self.words.append(data)


def numbers(value):
    """Every number of a JSON value."""
    if isinstance(value, dict):
        return [x for v in value.values() for x in numbers(v)]
    if isinstance(value, list):
        return [x for v in value for x in numbers(v)]
    return [float(value)] if isinstance(value, (int, float)) else []


def network(seed):
    return enliven(build("vitt", pretrained=False), seed=seed).eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder, what was returned, page) of a student whose training moved it half of the way."""
    teacher, before, after = network(0), network(1), network(1)
    with torch.no_grad():
        for own, theirs in zip(after.parameters(), teacher.parameters(), strict=True):
            own.lerp_(theirs, 0.9)
    source = Called(24)
    split = keep_back(source, seed=1)
    out = tmp_path_factory.mktemp("out") / "my photos' student"
    returned = write_report(
        out,
        teacher=teacher,
        before=before,
        after=after,
        photographs=Subset(source, split.kept),
        trained=TRAINED,
        split=split,
        origins=[released_terms("depth_anything_v2_vitl"), Terms(name=HOSTILE, note=HOSTILE)],
        teacher_side=56,
        student_side=42,
        corrupted=2,
        rounds=3,
        device="cpu",
    )
    return out, returned, (out / "report.html").read_text(encoding="utf-8")


def test_what_is_returned_is_what_is_written(made):
    out, returned, _ = made
    assert json.loads((out / "report.json").read_text(encoding="utf-8")) == returned
    assert sorted(p.name for p in out.iterdir()) == ["report.html", "report.json"]
    assert returned["schema"] == 1


def test_every_number_of_the_page_is_in_the_json(made):
    _, returned, html = made
    known = set(numbers(returned))
    shown = Page(html).values
    assert len(shown) > 150
    assert [x for x in shown if x not in known] == []


def test_every_measure_and_condition_is_on_the_page(made):
    _, returned, html = made
    shown = set(Page(html).values)
    for change in returned["agreement"].values():
        for side in change.values():
            assert side["value"] is None or side["value"] in shown
    for condition in returned["conditions"]:
        assert condition["after"]["value"] in shown
    for which in ("teacher", "student"):
        assert returned["machine"][which]["milliseconds"] in shown
        assert returned["machine"][which]["parameters"] in shown


def test_the_first_sentence_is_the_same_in_both(made):
    _, returned, html = made
    answer = re.search(r'class="answer"><p>(.*?)</p>', html)[1]
    plain = " ".join(re.sub(r"<[^>]+>", "", answer).split())
    assert plain == returned["answer"]
    assert returned["verdict"] in ("nearer", "unclear")


def test_nothing_that_comes_from_outside_is_html(made):
    _, _, html = made
    page = Page(html)
    assert "script" not in page.tags
    assert HOSTILE in "".join(page.words)
    assert "no utf-8 \\udcff.jpg" in html


def test_the_page_needs_nothing_but_itself(made):
    _, _, html = made
    for tag, address in Page(html).addresses:
        if tag == "a":
            assert address.startswith("https://")  # where licences are stated
        else:
            assert address.startswith("data:image/jpeg;base64,")
    assert "@import" not in html
    assert "url(" not in html
    assert "prefers-color-scheme:dark" in html


def test_licence_and_its_reasons(made):
    _, returned, html = made
    assert returned["licence"] == f"unknown: ask whoever made {HOSTILE}; at least CC-BY-NC-4.0"
    assert [o["role"] for o in returned["origins"]] == ["teacher", "start of the student"]
    assert text(returned["licence"]) in html
    assert "https://github.com/DepthAnything/Depth-Anything-V2#license" in html


def test_the_sheet_shows_what_was_compared(made):
    _, returned, html = made
    assert html.count("<img") == len(TILES) * len(returned["sheet"])
    worst = [row["after"] for row in returned["sheet"] if row["why"] == "worst"]
    others = returned["per_photograph"]["distance"]["after"]
    assert sorted(worst, reverse=True) == worst == sorted(others, reverse=True)[: len(worst)]


def test_few_photographs_are_said_to_be_few(made):
    _, returned, _ = made
    assert returned["split"] == {"kept": 5, "all": 24, "seed": 1, "doubles": 0, "checked": True}
    assert any("5 photographs the interval is narrower" in w for w in returned["warnings"])


def test_commands_are_as_one_types_them(tmp_path):
    student = tmp_path / "my photos' student" / "student.safetensors"
    _, vit = commands(student, "vits", side=518)
    folder = str(tmp_path)
    expected = (
        f"python -m dalib export '{folder}/my photos'\"'\"' student/student.safetensors' "
        f"'{folder}/my photos'\"'\"' student/transformers' --to transformers"
    )
    assert vit["command"] == expected
    predict, cnn = commands(tmp_path / "s.safetensors", "lite0", side=96)
    assert cnn["command"].endswith("s.onnx --to onnx")
    assert predict["command"].endswith("s.safetensors --short-side 96")


def test_a_teacher_that_is_its_student(tmp_path):
    """Nothing to gain, no split, one photograph: every place of the page has words for it."""
    one = network(0)
    returned = write_report(
        tmp_path,
        teacher=one,
        before=one,
        after=one,
        photographs=Smooth(count=1, labelled=False),
        trained={},
        teacher_side=42,
        student_side=42,
        corruptions=(),
        rounds=1,
        device="cpu",
    )
    assert returned["verdict"] == "same"
    assert returned["nearer"]["value"] is None
    assert returned["conditions"] == []
    html = (tmp_path / "report.html").read_text()
    assert "The student is its teacher" in html
    assert "None" not in html
    assert not re.search(r"\bnan\b", html)


@pytest.mark.parametrize(
    ("value", "how", "shown"),
    [
        (0.12345, {}, "0.123"),
        (-0.5, {"percent": True, "sign": True}, "−50.0 %"),
        (0.25, {"percent": True, "sign": True}, "+25.0 %"),
        (-0.0001, {"sign": True}, "0.000"),
        (None, {}, "–"),
        (float("nan"), {}, "–"),
    ],
)
def test_numbers_for_people(value, how, shown):
    assert re.sub(r"<[^>]+>", "", number(value, **how)) == shown


def test_json_of_anything():
    found = clean(
        {1: (np.float32(0.5), torch.tensor(3)), "a": float("inf"), "b": "\udcff", "c": {1}}
    )
    assert found == {"1": [0.5, 3], "a": None, "b": "\\udcff", "c": "{1}"}
    json.dumps(found, allow_nan=False).encode()


class TestTiles:
    def test_colours_run_from_far_to_near(self):
        found = ramp(np.array([[-1.0, 0.0, 0.5, 1.0, 2.0]]), DEPTH)
        assert found[0].tolist() == [list(DEPTH[k]) for k in (0, 0, 3, 6, 6)]

    def test_maps_that_are_equal_look_equal(self):
        """Whatever their scale and shift; and their difference is the colour of nothing."""
        picture = torch.zeros(3, 40, 60, dtype=torch.uint8)
        teacher = torch.rand(40, 60, generator=torch.Generator().manual_seed(0))
        found = tiles(picture, teacher=teacher, before=-teacher, after=5 * teacher + 2)
        assert found["teacher"] == found["after"] != found["before"]
        nothing = jpeg_address(ramp(np.zeros((40, 60)), ((244, 244, 246), (0, 0, 0))))
        assert found["difference"] == nothing

    def test_large_pictures_are_small_on_the_page(self):
        picture = torch.zeros(3, 600, 900, dtype=torch.uint8)
        maps = dict.fromkeys(("teacher", "before", "after"), torch.rand(600, 900))
        assert all(len(x) < 60_000 for x in tiles(picture, **maps).values())


def test_a_photograph_is_on_the_sheet_once(made):
    _, returned, _ = made
    names = [row["name"] for row in returned["sheet"]]
    assert len(set(names)) == len(names) == 5


def test_which_photographs_are_shown():
    after = (0.1, None, 0.9, 0.5, 0.7, *[0.2] * 20)
    found = Comparison(
        nearer=Estimate(value=0.0, low=0.0, high=0.0, n=24),
        agreement={},
        conditions=(),
        names=("x",) * 25,
        indices=tuple(range(25)),
        per_photograph={"distance": {"after": after}},
        flat=1,
        unread=(),
        sizes={},
        seed=0,
    )
    chosen = pick(found)
    assert [k for k, why in chosen if why == "worst"] == [2, 4, 3]
    others = [k for k, why in chosen if why == "random"]
    assert len(set(others)) == 9
    assert not set(others) & {1, 2, 3, 4}
    assert chosen == pick(found)
