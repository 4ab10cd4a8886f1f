"""The built site, read as a reader does: from the disk, in Chromium, without a network.

Skips where `_build/html` (or the folder in DALIB_SITE) has not been built, and the browser part
where there is no Chromium. DALIB_SCREENSHOTS names a folder for pictures of every page: wide and
light, narrow and dark.
"""

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlencode, urlsplit

import pytest
from bs4 import BeautifulSoup
from helpers.browser import launched, watch

from dabook.site import languages
from dalib import paths

SITE = Path(os.environ.get("DALIB_SITE", paths.root() / "_build" / "html"))
CHAPTERS = languages.chapters()
KOREAN = ("intro", "primer", "evaluation")  # one layout: these stand for the others

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (SITE / "index.html").is_file(), reason=f"{SITE} is not built: run `make book`"
    ),
]


def pages() -> list[Path]:
    """Every page that is written for reading; of the many record pages, the first of each
    experiment."""
    found = sorted(
        p
        for p in SITE.rglob("*.html")
        if not {"_static", "_modules", "records"} & set(p.relative_to(SITE).parts)
        and (p.relative_to(SITE).parts[0] != "ko" or p.stem in KOREAN)
    )
    return found + [
        next(iter(sorted(d.glob("*.html"))))
        for d in sorted(SITE.glob("records/*"))
        if any(d.glob("*.html"))
    ]


class Links(HTMLParser):
    """Collects a page's ids, where it leads, and what it loads."""

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.leads, self.loads = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs.get("id"), attrs.get("name")}
        if tag == "a" and attrs.get("href"):
            self.leads.add(attrs["href"])
        elif tag == "link" and attrs.get("rel") in (
            "stylesheet",
            "preload",
            "icon",
            "shortcut icon",
        ):
            self.loads.add(attrs["href"])
        elif attrs.get("src"):
            self.loads.add(attrs["src"])


@pytest.fixture(scope="module")
def parsed() -> dict[Path, Links]:
    return {
        p.resolve(): Links(p.read_text(encoding="utf8"))
        for p in SITE.rglob("*.html")
        if "_static" not in p.parts
    }


def test_every_local_link_leads_somewhere(parsed):
    broken = []
    for page, links in parsed.items():
        for link in links.leads | links.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if not target.is_file():
                broken.append(f"{page.relative_to(SITE.resolve())}: {link}")
            elif (
                parts.fragment
                and target in parsed
                and unquote(parts.fragment) not in parsed[target].ids
            ):
                broken.append(f"{page.relative_to(SITE.resolve())}: {link} (no such place)")
    assert not broken, "\n".join(sorted(broken))


def test_nothing_is_loaded_from_elsewhere(parsed):
    foreign = {
        f"{p.name}: {s}"
        for p, links in parsed.items()
        for s in links.loads
        if urlsplit(s).scheme in ("http", "https") or s[:2] == "//"
    }
    assert not foreign, "\n".join(sorted(foreign))


def test_a_number_of_the_main_table_leads_to_its_record(parsed):
    links = parsed[(SITE / "notebooks" / "main_table.html").resolve()].leads
    assert any(link.startswith("../records/") for link in links)


@pytest.fixture(scope="module")
def watched():
    """A browser tab without a network, and the list of everything that goes wrong in it."""
    with launched() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        yield page, watch(page)


@pytest.fixture
def tab(watched):
    watched[1].clear()
    return watched


TYPESET = (
    "window.MathJax?.startup?.promise ? MathJax.startup.promise.then(() => true) : "
    "!document.querySelector('.math')"
)
UNSET = """() => [...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container')).length
  + document.querySelectorAll('mjx-merror, [data-mjx-error]').length"""
SCROLLS = (
    ".table-scroll, .pst-scrollable-table-container, .output, .cell_output, pre, "
    "div.math, mjx-container, dt, svg, [hidden]"
)
WIDER = f"""() => [...document.querySelectorAll('article *')].filter(e => !e.closest('{SCROLLS}')
  && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + '.' + e.className).slice(0, 3)"""


try:
    from axe_playwright_python.sync_playwright import Axe

    AXE = Axe()
except ImportError:
    AXE = None
AA = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]},
    "resultTypes": ["violations"],
    "preload": False,  # it would fetch style sheets, which a page opened from the disk may not do
}


def violations(axe, page) -> list[str]:
    """What axe-core finds against WCAG AA in a page as it stands."""
    if axe is None:
        return []
    found = []
    for violation in axe.run(page, options=AA).response["violations"]:
        places = [f"{node['target']}: {node['html'][:120]}" for node in violation["nodes"]]
        found.append(f"{violation['id']}: {'; '.join(places[:3])}")
    return found


@pytest.mark.parametrize(
    "path", pages() if SITE.is_dir() else [], ids=lambda p: str(p.relative_to(SITE))
)
def test_page_reads_offline_wide_and_narrow_light_and_dark(tab, path):
    page, trouble = tab
    shots = Path(os.environ["DALIB_SCREENSHOTS"]) if "DALIB_SCREENSHOTS" in os.environ else None
    name = "-".join(path.relative_to(SITE).with_suffix("").parts)
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(path.as_uri(), wait_until="load")
    page.wait_for_function(TYPESET, timeout=60_000)
    for scheme, width in (("light", 1280), ("dark", 390)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(
            "document.getAnimations().every(a => a.playState !== 'running')", timeout=60_000
        )
        if path.parent != SITE:
            assert page.evaluate("document.documentElement.dataset.theme") == scheme
            assert page.evaluate(UNSET) == 0, "a formula was not typeset"
            assert not page.evaluate(WIDER), f"wider than the {scheme} page of {width} pixels"
            assert not (found := violations(AXE, page)), f"{scheme}:\n" + "\n".join(found)
        if shots:
            page.screenshot(
                path=shots / f"{name}-{scheme}-{width}.png", full_page=True, animations="disabled"
            )
    assert not trouble, "\n".join(trouble)


MOST = 1_500_000  # bytes of a page, without what it loads


def test_pages_are_light():
    heavy = {str(p.relative_to(SITE)): p.stat().st_size for p in pages() if p.stat().st_size > MOST}
    assert not heavy


def test_the_theme_can_be_switched(tab):
    page, _ = tab
    page.emulate_media(color_scheme="light")
    page.goto((SITE / "book" / "intro.html").as_uri())
    themes = set()
    for _ in range(3):
        page.locator("button.theme-switch-button").first.click()
        themes.add(page.evaluate("document.documentElement.dataset.theme"))
    assert themes == {"light", "dark"}


def terms() -> list[str]:
    """The terms of the glossary."""
    found = BeautifulSoup(
        (SITE / "book" / "glossary.html").read_text(encoding="utf8"), "html.parser"
    )
    return [dt.find(string=True).strip() for dt in found.select("dl.glossary dt")]


def test_search_finds_every_term_of_the_glossary(tab):
    page, trouble = tab
    missing = []
    for term in terms():
        page.goto((SITE / "search.html").as_uri() + "?" + urlencode({"q": term}))
        page.wait_for_function(
            "document.querySelector('ul.search li') || "
            "/did not match|not match any/.test(document.querySelector('#search-results').textContent)",
            timeout=60_000,
        )
        if not page.locator("ul.search li").count():
            missing.append(term)
    assert not missing
    assert not trouble, "\n".join(trouble)


def test_search_works_offline(tab):
    page, trouble = tab
    page.goto((SITE / "search.html").as_uri() + "?q=median")
    page.wait_for_selector("ul.search li", timeout=60_000)
    assert not trouble, "\n".join(trouble)


def test_the_language_can_be_switched_and_back(tab):
    page, trouble = tab
    page.set_viewport_size({"width": 1280, "height": 900})
    first = SITE / "book" / "primer.html"
    page.goto(first.as_uri())
    page.locator("a.language-switch").first.click()
    assert page.evaluate("document.documentElement.lang") == "ko"
    page.locator("a.language-switch").first.click()
    assert page.url == first.as_uri()
    assert not trouble, "\n".join(trouble)


DIGITS = re.compile(r"\d+(?:\.\d+)?")


@pytest.mark.parametrize("name", CHAPTERS)
def test_numbers_and_code_are_the_same_in_korean(name):
    def read(path):
        page = BeautifulSoup(path.read_text(encoding="utf8"), "html.parser").article
        glued = [DIGITS.findall(tag.get_text()) for tag in page.select(".pasted-text")]
        return {
            "glued": sorted(map(str, glued)),
            "code": [tag.get_text() for tag in page.select("div.highlight pre")],
            "formulas": sorted(tag.get_text() for tag in page.select("div.math")),
            "right": [tag.has_attr("data-right") for tag in page.select(".quiz-choice")],
        }

    assert read(SITE / "ko" / f"{name}.html") == read(SITE / f"{name}.html")
