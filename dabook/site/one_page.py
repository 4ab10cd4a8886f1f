"""The whole book as one page, for printing: what Sphinx makes of it, and what becomes of that.

As a Sphinx extension it replaces the builder `singlehtml` by one that writes nothing but the body of
the page, with links that say both page and place (`#document-book/primer#zero-shot`), and lets it show
what extensions show in HTML: a builder for which an extension has one visitor gets no other visitor of
HTML from Sphinx.

`assemble` then makes a book of that body: chapters one after the other, ids and links that are unique
in it, everything open that is folded on the site, and no link that would leave the paper for a page
that is not printed.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag
from sphinx.application import Sphinx
from sphinx.builders.singlehtml import SingleFileHTMLBuilder

BODY = "body.html"
MATHJAX = "mathjax.json"
PAGE = "document-"
"""Before the name of a page in the id that stands for the whole of it."""
GONE = "script, .headerlink, .toctree-wrapper, link, .dalib-divider-live, .quiz-live, .copybtn"
"""What is of no use on paper."""
POINTS = ("aria-labelledby", "aria-describedby", "for")
"""Attributes that hold ids."""


@dataclass(frozen=True)
class Chapter:
    """A page of the book in its place.

    Args:
        name: of the page, such as "book/primer".
        depth: 0 for a chapter, 1 for a section of it that has a page of its own.
        part: the part that begins with it, if one does.
    """

    name: str
    depth: int = 0
    part: str = ""


def chapters(contents: Mapping) -> list[Chapter]:
    """The pages of `_toc.yml`, in order; the first page of the book is the first."""

    def walk(entries: Sequence[Mapping], depth: int, part: str = "") -> Iterator[Chapter]:
        for entry in entries:
            yield Chapter(entry["file"], depth, part)
            part = ""
            yield from walk(entry.get("sections", ()), depth + 1)

    found = [Chapter(contents["root"])]
    for part in contents.get("parts", [contents]):
        found += walk(part.get("chapters", ()), 0, part.get("caption", ""))
    return found


def assemble(
    body: str, pages: Sequence[Chapter], left_out: Sequence[str] = ()
) -> tuple[str, list[tuple[Chapter, str]]]:
    """The chapters as HTML, and the title of each.

    Args:
        body: as the builder wrote it.
        pages: of the book, in order.
        left_out: names of pages that are not printed, however many are below them; links to them
            become words.

    Raises:
        ValueError: a page is not in the body.
    """
    soup = BeautifulSoup(body, "html.parser")
    sections = {}
    for page in pages:
        mark = soup.find(id=PAGE + page.name)
        section = mark and mark.find_next_sibling("section")
        if page is pages[0]:  # which has no mark
            section = soup.find("section")
        if section is None:
            raise ValueError(f"{page.name} is not in the book that Sphinx wrote")
        sections[page.name] = section
    for section in reversed(sections.values()):  # those inside first, out of what holds them
        section.extract()

    printed = [page for page in pages if not page.name.startswith(tuple(left_out) or "\n")]
    for page in printed:
        _open(sections[page.name])
    places = _places({page.name: sections[page.name] for page in printed})
    made, titles = [], []
    for page in printed:
        section = sections[page.name]
        _link(section, page.name, places)
        _levels(section, page.depth + 2)
        title = section.find(re.compile("h[1-6]"))
        titles.append((page, title.get_text().strip() if title else page.name))
        kind = "section-page" if page.depth else "chapter"
        head = f'<h1 class="part">{escape(page.part)}</h1>' if page.part else ""
        made.append(f'<div class="{kind}" id="{PAGE}{page.name}">{head}{section}</div>')
    return "\n".join(made), titles


def _open(section: Tag) -> None:
    """Nothing folded, and nothing that only a screen can use."""
    for tag in section.select(GONE):
        tag.decompose()
    for tag in section.select("details.below-input .output.stream"):  # lines of progress
        tag.decompose()
    for tag in section.select("details"):
        for summary in tag.find_all("summary", recursive=False):
            if "hide" in tag.get("class", ()):  # a cell: what its fold says is of no use
                summary.decompose()
            else:
                summary.name = "p"
                summary["class"] = ["unfolded-title"]
        tag.name = "div"
    for tag in section.select(".quiz-why[hidden]"):
        tag.decompose()
    for tag in section.select(".record-index"):
        tag.string = "The list of all records is a page of the site."


def _places(sections: Mapping[str, Tag]) -> dict[tuple[str, str], str]:
    """(page, id on the site) -> id in print: the same where no other page has it."""
    owners: dict[str, list[str]] = {}
    for name, section in sections.items():
        for tag in section.find_all(id=True):
            owners.setdefault(tag["id"], []).append(name)
    return {
        (name, ident): ident if len(set(names)) == 1 else f"{name}/{ident}"
        for ident, names in owners.items()
        for name in names
    } | {(name, ""): PAGE + name for name in sections}


def _link(section: Tag, name: str, places: Mapping[tuple[str, str], str]) -> None:
    """Ids and links of one page as they are in print; a link that would lead nowhere becomes the
    words that it holds."""
    for tag in section.find_all(True):
        for attribute in POINTS:
            if attribute in tag.attrs:
                words = str(tag[attribute]).split()
                tag[attribute] = " ".join(places.get((name, word), word) for word in words)
        if tag.name == "a" and tag.get("href") is not None:
            target = printed_target(str(tag["href"]), name, places)
            if target is None:
                tag.name = "span"
                tag.attrs = {"class": ["unlinked"]}
            else:
                tag["href"] = target
        if "id" in tag.attrs:
            tag["id"] = places.get((name, tag["id"]), tag["id"])


def printed_target(link: str, name: str, places: Mapping[tuple[str, str], str]) -> str | None:
    """Where a link of a page leads in print; None for nowhere.

    Args:
        link: as the page has it: to a place in it, as the builder writes links between pages, or as
            the pieces of HTML do that notebooks show, relative to the site.
        name: of the page.
        places: see `_places`.
    """
    parts = urlsplit(link)
    if parts.scheme in ("http", "https", "mailto"):
        return link
    if parts.scheme or parts.netloc:
        return None
    path, fragment = parts.path, unquote(parts.fragment)
    if not path and fragment.startswith(PAGE):
        page, _, place = fragment.removeprefix(PAGE).partition("#")
    elif not path:
        page, place = name, fragment
    elif path.endswith(".html"):
        steps = [*name.split("/")[:-1], *unquote(path.removesuffix(".html")).split("/")]
        page, place = "/".join(_walk(steps)), fragment
    else:
        return None
    found = places.get((page, place), places.get((page, "")))
    return found and f"#{found}"


def _walk(steps: Sequence[str]) -> list[str]:
    """A path without `..`."""
    found: list[str] = []
    for step in steps:
        if step == "..":
            found = found[:-1]
        elif step != ".":
            found.append(step)
    return found


def _levels(section: Tag, top: int) -> None:
    """Headings by how deep their section lies in its own page."""
    for heading in section.find_all(re.compile("^h[1-6]$")):
        if heading.parent.name != "section":
            continue
        depth = 0
        for above in heading.parents:
            depth += above.name == "section"
            if above is section:
                break
        heading.name = f"h{min(6, top + depth - 1)}"
        heading["class"] = [*heading.get("class", ()), f"level-{depth}"]


# what Sphinx is given


class OnePage(SingleFileHTMLBuilder):
    """One page of the whole book: its body, without a theme around it."""

    name = "singlehtml"
    search = False

    def fix_refuris(self, tree) -> None:
        """Links keep the page that they lead to: two pages may have a place of one name."""

    def handle_page(self, pagename, addctx, *args, **kwargs) -> None:
        """Writes the body, and what MathJax is told."""
        if pagename != self.config.root_doc:
            return
        out = Path(self.outdir)
        (out / BODY).write_text(addctx["body"], encoding="utf-8")
        (out / MATHJAX).write_text(json.dumps(self.config.mathjax3_config or {}))


def as_html(app: Sphinx, config: object) -> None:
    """Sphinx event: this builder shows whatever the one of the site shows."""
    handlers = app.registry.translation_handlers
    handlers["singlehtml"] = handlers.get("html", {}) | handlers.get("singlehtml", {})


def setup(app: Sphinx) -> dict:
    app.add_builder(OnePage, override=True)
    app.connect("config-inited", as_html, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
