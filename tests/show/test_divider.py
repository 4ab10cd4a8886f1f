"""The divider: what stands in the page without a script, what the script does in a browser, and
that nothing is asked of anybody."""

import base64
import io
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from helpers.browser import launched
from PIL import Image

from dabook.show import divider
from dabook.show.divider import View
from dalib.errors import ConfigError

COLOURS = {"image": (200, 30, 30), "truth": (30, 200, 30), "student": (30, 30, 200)}


def flat(colour, height=60, width=80) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1).expand(3, height, width)


def views(**notes) -> list[View]:
    return [View(label=k, picture=flat(c), note=notes.get(k, "")) for k, c in COLOURS.items()]


class Parsed(HTMLParser):
    """A fragment's tags with their attributes, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.said, self.open = [], [], []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def test_without_a_script_the_views_stand_in_a_row_with_their_captions():
    parsed = Parsed(divider.show("A road", views(student="AbsRel 0.31")).text)
    pictures = parsed.all("img")
    assert [p["alt"] for p in pictures] == ["A road: image", "A road: truth", "A road: student"]
    for shown, colour in zip(pictures, COLOURS.values(), strict=True):
        kind, _, data = shown["src"].partition(",")
        assert kind == "data:image/jpeg;base64"
        seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert seen.shape == (60, 80, 3) == (int(shown["height"]), int(shown["width"]), 3)
        assert np.abs(seen.astype(int) - colour).max() <= 6
    live = next(a for a in parsed.all("div") if a["class"] == "dalib-divider-live")
    assert "hidden" in live
    assert "AbsRel 0.31" in parsed.said
    # each control has a name
    assert len(parsed.all("select")) == len(parsed.all("label")) == 2
    (slider,) = parsed.all("input")
    assert slider["type"] == "range"
    assert "A road" in slider["aria-label"]


def test_the_two_sides_are_those_that_were_asked_for():
    text = divider.show("A road", views(), left=1, right=0).text
    assert re.findall(r'value="(\d)" selected', text) == ["1", "0"]
    assert re.findall(r'value="(\d)" selected', divider.show("x", views()).text) == ["0", "2"]


def test_a_title_is_text_and_no_markup():
    text = divider.show('<b>"a" & b</b>', [*views(), View(label="<i>", picture=flat((0, 0, 0)))])
    assert "<b>" not in text.text
    assert "<i>" not in text.text
    assert Parsed(text.text).all("div")[0]["aria-label"] == '<b>"a" & b</b>'


def test_nothing_is_asked_of_anybody():
    text = divider.together([divider.show("A road", views())]).text
    assert not re.search(r"https?:|//[a-z]|@import|fetch\(|XMLHttp|localStorage", text)
    assert set(re.findall(r"url\(([^)]*)\)", text)) == set()
    assert text.count("<style>") == text.count("<script>") == 1


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: views()[:1], "1 views; a divider takes 2 to 6"),
        (lambda: views()[:2] + views()[:1], "two views have one label"),
        (
            lambda: [*views(), View(label="late", picture=flat((0, 0, 0), 61))],
            r"several sizes \(60 x 80, 61 x 80\)",
        ),
    ],
)
def test_views_that_do_not_go_together(made, message):
    with pytest.raises(ConfigError, match=f"A road: .*{message}"):
        divider.show("A road", made())


def test_one_view_on_both_sides():
    with pytest.raises(ConfigError, match="'truth' is on both sides"):
        divider.show("A road", views(), left=1, right=-2)


def test_colours_are_those_of_the_figures_and_grey_where_nothing_is_known():
    disparity = torch.linspace(0, 1, 101).expand(50, 101).clone()
    disparity[0, 0] = torch.nan
    valid = torch.ones(50, 101, dtype=torch.bool)
    valid[:, 60:] = False
    seen = divider.coloured(disparity, valid)
    assert seen.dtype == torch.uint8
    grey = torch.tensor([0xC9, 0xD0, 0xD2])
    assert torch.equal(seen[:, 0, 0].int(), grey.int())
    assert torch.equal(seen[:, :, 60:].int(), grey.int().view(3, 1, 1).expand(3, 50, 41))
    # scaled between the percentiles of what is known: 0 to 0.59 there
    known = disparity[valid & torch.isfinite(disparity)]
    low, high = (float(torch.quantile(known, q)) for q in (0.02, 0.98))
    for column in (5, 30, 55):
        share = (column / 100 - low) / (high - low)
        want = plt.get_cmap("inferno")(share, bytes=True)[:3]
        assert np.abs(seen[:, 9, column].numpy().astype(int) - want).max() <= 3


def test_a_map_without_any_value_is_grey():
    seen = divider.coloured(torch.full((4, 5), torch.nan))
    assert seen.flatten(1).unique(dim=1).shape[1] == 1


@pytest.mark.parametrize(
    ("height", "width", "size"), [(300, 1200, (120, 480)), (900, 600, (480, 320)), (6, 8, (6, 8))]
)
def test_pictures_are_made_small_and_never_large(height, width, size):
    assert divider.smaller(torch.zeros(3, height, width, dtype=torch.uint8)).shape[-2:] == size
    assert divider.smaller_map(torch.zeros(height, width)).shape == size


# in a browser


@pytest.fixture(scope="module")
def browser():
    with launched() as running:
        yield running


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page with two dividers in two cells, each with the script, as in a notebook."""
    cells = [
        divider.together([divider.show(name, views(student="AbsRel 0.31"))]).text
        for name in ("A road", "A room")
    ]
    file = tmp_path_factory.mktemp("page") / "page.html"
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title>'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    file.write_text(head + "".join(f"<div>{c}</div>" for c in cells), encoding="utf-8")
    return file.as_uri()


def near(colour, wanted) -> bool:
    return max(abs(a - b) for a, b in zip(colour, COLOURS[wanted], strict=True)) <= 12


def across(page, *shares: float, number: int = 0) -> list[tuple[int, ...]]:
    """The colours of a stage at these shares of its width, three quarters down."""
    stage = page.locator(".dalib-divider-stage").nth(number)
    seen = Image.open(io.BytesIO(stage.screenshot())).convert("RGB")
    return [seen.getpixel((int(s * (seen.width - 1)), int(0.75 * seen.height))) for s in shares]


@pytest.mark.slow
class TestInABrowser:
    @pytest.fixture(params=[(1280, "light"), (390, "dark")], ids=["wide", "phone"])
    def page(self, request, browser, address):
        width, scheme = request.param
        trouble = []
        opened = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme, has_touch=width < 600
        )
        opened.on("pageerror", lambda e: trouble.append(str(e)))
        opened.on("request", lambda r: r.url.startswith("http") and trouble.append(r.url))
        opened.goto(address)
        yield opened
        assert not trouble
        opened.close()

    def test_a_mouse_drags_it(self, page):
        assert near(across(page, 0.4)[0], "image")
        assert near(across(page, 0.6)[0], "student")
        box = page.locator(".dalib-divider-stage").first.bounding_box()
        height = box["y"] + 10
        page.mouse.move(box["x"] + 0.5 * box["width"], height)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.2 * box["width"], height, steps=4)
        left, middle = across(page, 0.1, 0.4)
        assert near(left, "image")
        assert near(middle, "student")
        # out of the picture it stops at the border, and the button ends it
        page.mouse.move(box["x"] - 50, height)
        page.mouse.up()
        page.mouse.move(box["x"] + 0.9 * box["width"], height)
        assert near(across(page, 0.1)[0], "student")
        slider = page.locator("input").first
        assert slider.input_value() == "0"
        assert page.locator("input").nth(1).input_value() == "50"

    def test_keys_move_it_and_it_says_where_it_stands(self, page):
        slider = page.locator("input").nth(1)
        slider.focus()
        for _ in range(3):
            page.keyboard.press("ArrowLeft")
        assert slider.input_value() == "47"
        assert slider.get_attribute("aria-valuetext") == "47 % image, the rest student"
        page.keyboard.press("Home")
        assert near(across(page, 0.1, number=1)[0], "student")
        page.keyboard.press("End")
        assert near(across(page, 0.9, number=1)[0], "image")

    def test_other_views_are_chosen_and_never_one_twice(self, page):
        left, right = page.locator("select").nth(0), page.locator("select").nth(1)
        left.select_option(label="truth")
        assert near(across(page, 0.3)[0], "truth")
        right.select_option(label="truth")  # the left side takes what the right side had
        assert left.evaluate("e => e.options[e.selectedIndex].text") == "student"
        assert near(across(page, 0.3)[0], "student")
        assert near(across(page, 0.7)[0], "truth")
        name = page.locator(".dalib-divider-stage").first.get_attribute("aria-label")
        assert name == "A road: student left of the divider, truth right of it"

    def test_it_fits_and_shows_one_row_of_captions(self, page):
        wide = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert wide
        assert page.locator(".dalib-divider-stills img:visible").count() == 0
        assert page.get_by_text("AbsRel 0.31").first.is_visible()
        assert page.locator(".dalib-divider-stage img").count() == 4

    def test_on_paper_all_views_stand_still(self, page):
        page.emulate_media(media="print")
        assert page.locator(".dalib-divider-stills img:visible").count() == 6
        assert page.locator(".dalib-divider-live:visible").count() == 0

    def test_without_scripts_all_views_stand_still(self, browser, address):
        context = browser.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(address)
        assert page.locator(".dalib-divider-stills img:visible").count() == 6
        assert page.locator(".dalib-divider-live:visible").count() == 0
        context.close()


@pytest.mark.slow
def test_a_finger_drags_it_sideways(browser, address):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    page.goto(address)
    box = page.locator(".dalib-divider-stage").first.bounding_box()
    finger = context.new_cdp_session(page)

    def touch(kind: str, *share: float) -> None:
        points = [{"x": box["x"] + s * box["width"], "y": box["y"] + 20} for s in share]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 0.8)
    assert page.locator("input").first.input_value() == "80"
    for share in (0.7, 0.5, 0.3):
        touch("touchMove", share)
    touch("touchEnd")
    assert page.locator("input").first.input_value() == "30"
    assert near(across(page, 0.5)[0], "student")
    context.close()
