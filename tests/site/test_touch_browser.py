"""Figures that answer to the hand, in Chromium: each is moved by pointer and by keyboard, and its
numbers are compared with those that the library gives for the same state.

Skips where there is no Chromium.
"""

import io
from functools import cache

import numpy as np
import pytest
import torch
from helpers import touched
from helpers.browser import launched
from helpers.touched import HEIGHT, WIDTH
from PIL import Image

from dabook.show.html import number
from dabook.show.pictures import NEAR
from dabook.show.touch import cloud, cutmix, features, margin, relative, shell, strength
from dalib.evaluation.conventions import rescore
from dalib.losses import affine_invariant

VIEWS = {"wide": (1000, "light"), "phone": (360, "dark")}
ALL = {**VIEWS, "dark": (1000, "dark")}
HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Figures</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><style>body { background: Canvas; color: CanvasText; }
</style></head><body><main><h1>Figures</h1>"""
PAUSE = 700  # milliseconds after which a figure has told its numbers
pytestmark = pytest.mark.slow
made = cache(touched.make)


@pytest.fixture(scope="module")
def browser():
    with launched() as running:
        yield running


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page with every kind of figure, the first of them twice, each with style and script."""
    cells = [made(kind).html.text for kind in (*touched.MAKERS, "affine")]
    file = tmp_path_factory.mktemp("page") / "page.html"
    text = HEAD + "".join(f"<div>{cell}</div>" for cell in cells) + "</main></body></html>"
    file.write_text(text, encoding="utf-8")
    return file.as_uri()


@pytest.fixture(params=VIEWS.values(), ids=VIEWS)
def page(request, browser, address):
    """The page, opened; whatever goes wrong in it fails the test."""
    trouble = []
    width, scheme = request.param
    opened = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    opened.on("pageerror", lambda e: trouble.append(str(e)))
    opened.on("console", lambda m: m.type == "error" and trouble.append(m.text))
    opened.on("request", lambda r: r.url.startswith("http") and trouble.append(r.url))
    opened.goto(address)
    yield opened
    assert not trouble
    opened.close()


class Figure:
    """One of the figures of a page."""

    def __init__(self, page, kind: str, index: int = 0):
        self.page = page
        self.box = page.locator(f'.dalib-touch[data-kind="{kind}"]').nth(index)
        self.live = self.box.locator(".live")
        self.live.scroll_into_view_if_needed()

    def number(self, key: str) -> str:
        return self.live.locator(f'[data-number="{key}"]').inner_text()

    def control(self, key: str):
        return self.live.locator(f'[data-key="{key}"]')

    def value(self, key: str) -> float:
        return float(self.control(key).input_value())

    def press(self, place, share: float) -> None:
        """A click at this share of the width of something."""
        place.scroll_into_view_if_needed()
        edge = place.bounding_box()
        self.page.mouse.click(edge["x"] + share * edge["width"], edge["y"] + edge["height"] / 2)

    def drag(self, place, start, end, *, steps: int = 4) -> None:
        """From one place of something to another, each (across, down) in shares of its size."""
        place.scroll_into_view_if_needed()
        edge = place.bounding_box()
        points = [
            (edge["x"] + x * edge["width"], edge["y"] + y * edge["height"]) for x, y in (start, end)
        ]
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        self.page.mouse.move(*points[1], steps=steps)
        self.page.mouse.up()

    def keys(self, place, *names: str) -> None:
        place.focus()
        for name in names:
            self.page.keyboard.press(name)


def agree(shown: str, value: float, digits: int) -> None:
    """Whether a number is printed as the library's: the same digits, but where the library's value
    is nearer to the middle between two of them than float32 can tell."""
    found = float(shown.replace("−", "-"))
    assert abs(found - value) <= 0.5 * 10**-digits + 2e-6, (shown, value)
    assert shown == number(found, digits)


class TestAffine:
    def expected(self, figure: Figure) -> tuple[float, float, float, float]:
        """(a, b, the loss, the mean absolute error) at the state of the controls."""
        a = 5 ** (figure.value("scale") / 100) * (-1) ** figure.control("negative").is_checked()
        b = figure.value("shift")
        of = made("affine").of
        moved = a * of["prediction"].double() + b
        everywhere = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
        loss = affine_invariant(moved[None], of["label"][None].double(), everywhere)
        return a, b, float(loss), float((moved - of["label"]).abs().mean())

    def check(self, figure: Figure) -> None:
        a, b, loss, error = self.expected(figure)
        agree(figure.number("loss"), loss, 4)
        agree(figure.number("error"), error, 4)
        assert figure.live.locator('[data-value="scale"]').inner_text() == number(a, 2)
        assert figure.control("shift").get_attribute("aria-valuetext") == number(b, 2)

    def test_pointer_and_keys_move_it(self, page):
        figure = Figure(page, "affine")
        first = figure.number("loss"), figure.number("error")
        self.check(figure)
        figure.press(figure.control("scale"), 0.8)
        assert figure.value("scale") > 20
        self.check(figure)
        assert figure.number("loss") == first[0]
        assert figure.number("error") != first[1]
        figure.keys(figure.control("shift"), *["ArrowRight"] * 7)
        assert figure.value("shift") > 0
        self.check(figure)
        assert figure.number("loss") == first[0]
        figure.keys(figure.control("negative"), "Space")
        self.check(figure)
        assert figure.number("loss") != first[0]
        page.wait_for_timeout(PAUSE)
        said = figure.box.locator("[role=status]").inner_text()
        assert figure.number("error") in said

    def test_two_of_one_kind_are_moved_apart(self, page):
        one, other = Figure(page, "affine"), Figure(page, "affine", 1)
        figure_error = other.number("error")
        one.keys(one.control("scale"), "End")
        assert one.number("error") != figure_error == other.number("error")
        other.keys(other.control("scale"), "Home")
        self.check(one)
        self.check(other)
        # one chart each, and no picture twice
        assert one.live.locator(".charts > svg").count() == 2
        assert one.live.locator("img").count() == 2

    def test_the_map_has_the_colours_of_its_values(self, page):
        figure = Figure(page, "affine")
        figure.keys(figure.control("scale"), *["ArrowRight"] * 5)
        seen = page.evaluate(
            "e => [...e.getContext('2d').getImageData(0, 0, e.width, e.height).data]",
            figure.live.locator('[data-canvas="moved"]').element_handle(),
        )
        label, prediction = made("affine").of.values()
        moved = 5**0.05 * prediction
        want = shell.painted(moved, float(label.min()), float(label.max()), NEAR).int()
        shown = torch.tensor(seen).view(HEIGHT, WIDTH, 4)
        assert (shown[..., 3] == 255).all()
        assert int((shown[..., :3].movedim(-1, 0) - want).abs().max()) <= 6  # one step of 255

    def test_a_negative_scale_shows_near_and_far_swapped(self, page):
        figure = Figure(page, "affine")
        charts = figure.live.locator(".charts > svg")
        before = charts.first.inner_html()
        figure.keys(figure.control("negative"), "Space")
        seen = page.evaluate(
            "e => [...e.getContext('2d').getImageData(0, 0, e.width, e.height).data]",
            figure.live.locator('[data-canvas="moved"]').element_handle(),
        )
        moved = -made("affine").of["prediction"]
        want = shell.painted(moved, float(moved.min()), float(moved.max()), NEAR).int()
        shown = torch.tensor(seen).view(HEIGHT, WIDTH, 4)[..., :3].movedim(-1, 0)
        assert int((shown - want).abs().max()) <= 6
        assert charts.count() == 2
        line = charts.first.locator("polyline.warm-line")
        heights = [float(p.split(",")[1]) for p in line.get_attribute("points").split()]
        top, bottom = 20, 190 - 34  # of the field
        assert top <= min(heights) <= max(heights) <= bottom
        figure.keys(figure.control("negative"), "Space")
        assert charts.first.inner_html() == before


class TestCutMix:
    def box(self, figure: Figure) -> tuple[int, int, int, int]:
        """Where the box lies, in pixels of the maps."""
        style = figure.live.locator(".cutmix").get_attribute("style")
        parts = dict(part.split(":") for part in style.split(";") if "--" in part)
        top, left, bottom, right = (
            float(parts[f" --{side}"].strip(" %")) / 100
            for side in ("top", "left", "bottom", "right")
        )
        return (
            round(top * HEIGHT),
            round(left * WIDTH),
            round((1 - bottom) * HEIGHT),
            round((1 - right) * WIDTH),
        )

    def check(self, figure: Figure, box: tuple[int, int, int, int]) -> None:
        assert self.box(figure) == box
        of = made("cutmix").of
        want = cutmix.losses(of["teacher"], of["student"], box)
        for key, digits in (
            *((key, 4) for key in ("inside", "outside", "apart", "together")),
            ("weight", 3),
            ("rest", 3),
        ):
            agree(figure.number(key), want[key], digits)

    def test_a_pointer_drags_and_resizes_it(self, page):
        figure = Figure(page, "cutmix")
        top, left, bottom, right = touched.BOX
        self.check(figure, touched.BOX)
        stage = figure.live.locator(".mixed")
        middle = (left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT
        moved = middle[0] + 3 / WIDTH, middle[1] + 2 / HEIGHT
        figure.drag(stage, middle, moved)
        self.check(figure, (top + 2, left + 3, bottom + 2, right + 3))
        # a corner: two rows and four columns larger
        corner = (right + 3) / WIDTH, (bottom + 2) / HEIGHT
        figure.drag(stage, corner, (corner[0] + 2 / WIDTH, corner[1] + 1 / HEIGHT))
        self.check(figure, (top + 2, left + 3, bottom + 3, right + 5))
        # it stays in the picture
        figure.drag(stage, moved, (2.0, 2.0))
        at = self.box(figure)
        assert at[2:] == (HEIGHT, WIDTH)
        self.check(figure, at)

    def test_keys_move_and_resize_it(self, page):
        figure = Figure(page, "cutmix")
        top, left, bottom, right = touched.BOX
        hand = figure.live.locator(".hand")
        figure.keys(hand, "ArrowDown", "ArrowRight", "ArrowRight")
        self.check(figure, (top + 1, left + 2, bottom + 1, right + 2))
        figure.keys(hand, "Shift+ArrowLeft", "Shift+ArrowUp", "Shift+ArrowUp")
        self.check(figure, (top + 1, left + 2, bottom - 1, right + 1))
        figure.keys(hand, *["ArrowUp"] * 9, *["Shift+ArrowLeft"] * 20)
        self.check(figure, (0, left + 2, bottom - top - 2, left + 2 + cutmix.LEAST))

    def test_the_maps_are_shown_normalised_together_too(self, page):
        figure = Figure(page, "cutmix")
        before = figure.live.locator('[data-canvas="error"]').screenshot()
        figure.control("how").select_option("together")
        assert figure.live.locator('[data-canvas="error"]').screenshot() != before
        self.check(figure, touched.BOX)


class TestMargin:
    def check(self, figure: Figure) -> None:
        alpha = figure.value("margin")
        for k, cosines in enumerate(made("margin").of["cosines"].values()):
            agree(figure.number(f"loss{k}"), margin.loss(cosines, alpha), 4)
            percent = figure.number(f"share{k}").removesuffix(" %")
            agree(percent, 100 * margin.share(cosines, alpha), 1)

    def test_pointer_and_keys_move_it(self, page):
        figure = Figure(page, "margin")
        self.check(figure)
        pale = figure.live.locator(".bar.beyond").count()
        figure.press(figure.control("margin"), 0.45)
        assert 0.3 < figure.value("margin") < 0.6
        self.check(figure)
        assert figure.live.locator(".bar.beyond").count() > pale
        figure.keys(figure.control("margin"), "End")
        assert figure.value("margin") == 1
        self.check(figure)
        figure.keys(figure.control("margin"), "ArrowLeft", "ArrowLeft")
        assert figure.value("margin") == pytest.approx(0.98)
        self.check(figure)


class TestFeatures:
    def check(self, figure: Figure, chosen: tuple[int, int], other: tuple[int, int]) -> None:
        cosines = features.similarity(made("features").of["features"])
        a, b = (row * 8 + column for row, column in (chosen, other))
        assert figure.number("cosine") == number(float(cosines[a, b]), 2)
        assert figure.number("mean") == number(float(cosines[a].mean()), 2)

    def test_a_pointer_chooses_and_compares(self, page):
        figure = Figure(page, "features")
        self.check(figure, (2, 3), (0, 3))
        stage = figure.live.locator(".tokens").first
        edge = stage.bounding_box()

        def place(row, column):
            return edge["x"] + (column + 0.5) / 8 * edge["width"], (
                edge["y"] + (row + 0.5) / 6 * edge["height"]
            )

        page.mouse.click(*place(4, 6))
        self.check(figure, (4, 6), (4, 6))
        page.mouse.move(*place(1, 2))
        self.check(figure, (4, 6), (1, 2))

    def test_keys_choose_and_compare(self, page):
        figure = Figure(page, "features")
        stage = figure.live.locator(".tokens").first
        figure.keys(stage, "ArrowDown", "ArrowRight")
        self.check(figure, (3, 4), (0, 3))
        figure.keys(stage, "Shift+ArrowDown", "Shift+ArrowLeft", "Shift+ArrowLeft")
        self.check(figure, (3, 4), (1, 1))
        figure.keys(stage, *["ArrowLeft"] * 9)
        self.check(figure, (3, 0), (1, 1))


class TestStrength:
    def test_pointer_and_keys_move_it(self, page):
        figure = Figure(page, "strength")
        want = strength.losses(made("strength").of["maps"])
        assert figure.number("loss") == number(want[2], 3)
        picture = figure.live.locator('[data-stage="frame"] img')
        before = picture.get_attribute("src")
        figure.press(figure.control("strength"), 0.99)
        assert figure.number("loss") == number(want[4], 3)
        assert picture.get_attribute("src") != before
        assert "strength 2" in picture.get_attribute("alt")
        figure.keys(figure.control("strength"), "ArrowLeft")
        assert figure.number("loss") == number(want[3], 3)
        figure.keys(figure.control("strength"), "Home")
        assert figure.number("loss") == "0.000"


class TestCloud:
    def check(self, figure: Figure) -> None:
        disparity = made("cloud").of["disparity"]
        what = figure.control("what").input_value()
        low, high = cloud.ends(disparity, what)
        share = figure.value("shift") / 100
        shift = -share * low if share < 0 else share * high
        _, _, error = cloud.shifted(disparity, shift, what)
        agree(figure.number("error"), error, 3)
        text, _, unit = figure.number("shift").partition(" ")
        agree(text, shift, 3)
        assert unit == {"disparity": "1/m", "depth": "m"}[what]

    def test_pointer_and_keys_shift_it(self, page):
        figure = Figure(page, "cloud")
        assert figure.number("error") == "0.000"
        self.check(figure)
        figure.press(figure.control("shift"), 0.9)
        assert figure.value("shift") > 50
        self.check(figure)
        figure.keys(figure.control("shift"), "Home")
        self.check(figure)
        figure.keys(figure.control("shift"), "ArrowRight", "ArrowRight")
        figure.control("what").select_option("depth")
        self.check(figure)


class TestRelative:
    def test_pointer_and_keys_change_the_guess(self, page):
        figure = Figure(page, "relative")
        disparity = made("relative").of["disparity"]
        middle = HEIGHT // 2 * WIDTH + WIDTH // 2

        def check() -> None:
            ratio = relative.RATIOS[int(figure.value("guess"))]
            want = float(relative.depth(disparity, ratio).flatten()[middle])
            agree(figure.number("middle"), want, 2)

        check()
        assert figure.value("guess") == relative.RATIOS.index(relative.SHOWN)
        figure.press(figure.control("guess"), 0.99)
        assert figure.value("guess") == len(relative.RATIOS) - 1
        check()
        figure.keys(figure.control("guess"), "Home")
        check()


@pytest.mark.parametrize("kind", ["cloud", "relative"])
class TestTurning:
    def test_pointer_keys_and_buttons_turn_it(self, page, kind):
        figure = Figure(page, kind)
        canvas = figure.live.locator("canvas")
        page.wait_for_function("e => e.width > 300", arg=canvas.element_handle())
        seen = [canvas.screenshot()]
        figure.drag(canvas, (0.5, 0.5), (0.7, 0.6))
        seen.append(canvas.screenshot())
        figure.keys(canvas, "ArrowLeft")
        seen.append(canvas.screenshot())
        figure.keys(canvas, "ArrowUp")
        seen.append(canvas.screenshot())
        for name in ("front", "side", "above"):
            figure.control(name).click()
            seen.append(canvas.screenshot())
        assert len(set(seen)) == len(seen)

    def test_it_begins_as_its_still(self, page, browser, address, kind):
        """The same points at the same places, drawn by Python and by the script."""
        figure = Figure(page, kind)
        canvas = figure.live.locator("canvas")
        page.wait_for_function("e => e.width > 300", arg=canvas.element_handle())
        context = browser.new_context(
            java_script_enabled=False, viewport=page.viewport_size, color_scheme="light"
        )
        quiet = context.new_page()
        quiet.goto(address)
        page.emulate_media(color_scheme="light")
        still = quiet.locator(f'.dalib-touch[data-kind="{kind}"] .still img')
        shots = [
            Image.open(io.BytesIO(part.screenshot())).convert("L").resize((60, 40))
            for part in (canvas, still)
        ]
        context.close()
        drawn, printed = (torch.from_numpy(np.array(shot)).float() for shot in shots)
        assert float((drawn - printed).abs().mean()) < 6
        assert float(drawn.std()) > 15


class TestConventions:
    def check(self, figure: Figure) -> None:
        names = [figure.control(key).input_value() for key in touched.QUESTIONS]
        of = made("conventions").of
        want, plain = (
            rescore(
                of["maps"],
                of["samples"],
                protocol="scenes",
                conventions=[name for name in chosen if name],
                names=("abs_rel", "delta1"),
            )
            for chosen in (names, ())
        )
        assert figure.number("error") == number(want["abs_rel"])
        assert figure.number("good") == number(want["delta1"])
        times = number(want["abs_rel"] / plain["abs_rel"], 2)
        assert figure.number("factor") == f"× {times}"

    def test_choices_change_the_number(self, page):
        figure = Figure(page, "conventions")
        self.check(figure)
        figure.control("fit").select_option("median")
        self.check(figure)
        figure.keys(figure.control("mean"), "ArrowDown")  # the next option, by keyboard
        assert figure.control("mean").input_value() == "mean_pixels"
        self.check(figure)
        figure.control("cap").select_option("cap_10")
        self.check(figure)


# the page as a whole

every_view = pytest.mark.parametrize("page", ALL.values(), ids=ALL, indirect=True)


@every_view
def test_it_fits_and_every_figure_is_awake_once(page):
    boxes = page.locator(".dalib-touch")
    assert boxes.count() == page.locator(".dalib-touch[data-awake]").count() == 9
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".dalib-touch .still:visible").count() == 0
    assert page.locator(".dalib-touch .live:visible").count() == 9
    # read again, as JupyterLab does for each cell that shows one
    script = made("affine").html.text.rpartition("<script>")[2].removesuffix("</script>")
    page.evaluate(script)
    figure = Figure(page, "affine")
    assert figure.live.locator(".charts > svg").count() == 2
    figure.keys(figure.control("scale"), "ArrowRight")
    TestAffine().check(figure)


def test_it_fits_the_narrowest_screen(page):
    page.set_viewport_size({"width": 320, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wide = page.evaluate(
        """() => [...document.querySelectorAll('.dalib-touch .live *')]
        .filter(e => !e.closest('.cut, .said, .stage, svg') && e.getBoundingClientRect().right > innerWidth)
        .map(e => e.className)"""
    )
    assert not wide


def test_what_has_the_focus_is_seen(page):
    """Every control can be reached by Tab, in the order of the page, and has an outline there."""
    page.locator("h1").click()
    figures = page.locator(".dalib-touch").count()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outline, kind = page.evaluate(
            """() => { const e = document.activeElement, s = getComputedStyle(e);
            return [e.dataset.key ?? e.className, parseFloat(s.outlineWidth) * (s.outlineStyle !== 'none'),
              e.closest('.dalib-touch')?.dataset.kind ?? '']; }"""
        )
        if not kind:
            break
        assert outline >= 2, (kind, name)
        reached.add((kind, name))
    assert {kind for kind, _ in reached} == set(touched.MAKERS)
    assert ("cutmix", "box hand") in reached
    assert {("cloud", "above"), ("relative", "above")} <= reached
    assert len(reached) == 23
    assert figures == 9


def test_on_paper_the_first_state_stands_still(page):
    figure = Figure(page, "affine")
    figure.keys(figure.control("scale"), "End")
    page.emulate_media(media="print")
    assert page.locator(".dalib-touch .live:visible").count() == 0
    assert page.locator(".dalib-touch .still:visible").count() == 9
    still = figure.box.locator('.still [data-number="error"]').inner_text()
    label, prediction = made("affine").of.values()
    agree(still, float((prediction.double() - label).abs().mean()), 4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_without_a_script_the_still_is_seen(browser, address, scheme):
    context = browser.new_context(
        java_script_enabled=False, color_scheme=scheme, viewport={"width": 360, "height": 800}
    )
    page = context.new_page()
    page.goto(address)
    assert page.locator(".dalib-touch .still:visible").count() == 9
    assert page.locator(".dalib-touch .live:visible").count() == 0
    assert page.locator(".dalib-touch .still img:visible").count() > 15
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


@every_view
def test_axe_has_nothing_to_say(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    assert not [(v["id"], v["nodes"][0]["html"][:120]) for v in found]


def test_a_finger_drags_the_box(browser, address):
    context = browser.new_context(viewport={"width": 360, "height": 800}, has_touch=True)
    page = context.new_page()
    page.goto(address)
    figure = Figure(page, "cutmix")
    edge = figure.live.locator(".mixed").bounding_box()
    finger = context.new_cdp_session(page)
    top, left, bottom, right = touched.BOX
    x, y = (
        edge["x"] + (left + right) / 2 / WIDTH * edge["width"],
        (edge["y"] + (top + bottom) / 2 / HEIGHT * edge["height"]),
    )

    def touch(kind: str, *points: tuple[float, float]) -> None:
        found = [{"x": a, "y": b} for a, b in points]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": found})

    touch("touchStart", (x, y))
    for k in range(1, 5):
        touch("touchMove", (x + k / WIDTH * edge["width"], y))
    touch("touchEnd")
    TestCutMix().check(figure, (top, left + 4, bottom, right + 4))
    context.close()
