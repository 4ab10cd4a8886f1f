"""The whole book as one PDF: one page of HTML (`dabook.site.one_page`), which Chromium prints.

Chromium is called twice. First it shows the page, typesets the formulas, draws what is drawn by a
script, and makes what is too wide fit; what then stands in the page is printed as it is, without any
script. So what was not typeset is known before there is a PDF.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

import yaml
from bs4 import BeautifulSoup

from dabook.site import build, one_page
from dabook.site.one_page import Chapter
from dalib import paths, provenance, strict_yaml
from dalib.errors import ConfigError, UserError
from dalib.writing import whole

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
VARIABLE = "DALIB_CHROMIUM"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--allow-file-access-from-files",
    # pictures in space are drawn by the processor
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
)
LEFT_OUT = ("book/api",)
"""Pages that are not printed: the documentation of the library's functions."""
UNUSED = ("sphinx.ext.autodoc", "sphinx.ext.viewcode")
"""Extensions that only serve those pages."""
STYLES = ("pygments.css", "sphinx-design.min.css", "dalib.css")
STYLE, SCRIPT = "printed.css", "printed.js"
PATIENCE = 1800  # seconds that one call of Chromium may take


def pdf() -> Path:
    """Print the book that `make book` executed; returns the PDF."""
    browser = chromium()
    root = paths.root()
    out = root / "_build"
    work = out / "printed"
    stage = work / "stage"
    build.stage(stage, out / "notebooks")
    simplify(stage)
    build.sphinx(stage, "singlehtml", log=work / "build.log")
    page = write_page(stage, work)
    target = out / "depth-anything-book.pdf"
    with whole(target) as partial:
        print_page(browser, page, partial)
    shutil.rmtree(stage)
    return target


def chromium() -> str:
    """The browser that prints; a `ConfigError` where there is none."""
    named = os.environ.get(VARIABLE)
    for name in [named] if named else BROWSERS:
        found = shutil.which(name)
        if found:
            return found
    missing = f"{VARIABLE} names {named}, which is no program" if named else "none is installed"
    raise ConfigError(
        f"a PDF is printed by Chromium or Chrome, and {missing}: install one (Debian, Ubuntu: apt "
        f"install chromium; macOS: brew install --cask chromium), or name yours: {VARIABLE}=/path/to/it"
    )


def simplify(stage: Path) -> None:
    """Make of a staged book what is printed: pages that are left out keep their title, which links
    to them need, and the one page is built by `dabook.site.one_page`."""
    for name in LEFT_OUT:
        for page in sorted((stage / name).rglob("*.md")):
            lines = page.read_text(encoding="utf-8").splitlines()
            title = next((line for line in lines if line.startswith("# ")), f"# {page.stem}")
            page.write_text(title + "\n", encoding="utf-8")
    path = stage / "_config.yml"
    config = strict_yaml.read(path)
    extensions = config.setdefault("sphinx", {}).setdefault("extra_extensions", [])
    extensions[:] = [e for e in extensions if e not in UNUSED] + ["dabook.site.one_page"]
    path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")


def write_page(stage: Path, work: Path) -> Path:
    """Make the page that Chromium shows out of what Sphinx wrote, beside its pictures."""
    made = stage / "_build" / "singlehtml"
    body = next(made.rglob(one_page.BODY)).read_text(encoding="utf-8")
    mathjax = json.loads(next(made.rglob(one_page.MATHJAX)).read_text())
    config = strict_yaml.read(stage / "_config.yml")
    pages = one_page.chapters(strict_yaml.read(stage / "_toc.yml"))
    try:
        book, titles = one_page.assemble(body, pages, LEFT_OUT)
    except ValueError as error:
        raise UserError(f"{error} ({work / 'build.log'})") from error
    static = made / "_static"
    here = Path(__file__).parent
    for name in (STYLE, SCRIPT):
        shutil.copyfile(here / name, static / name)
    settings = config.get("sphinx", {}).get("config", {})
    page = made / "printed.html"
    page.write_text(
        whole_page(
            book,
            titles,
            title=config.get("title", "A book"),
            author=config.get("author", ""),
            told=edition(),
            styles=[name for name in STYLES if (static / name).is_file()],
            mathjax=mathjax,
            scripts=[settings.get("mathjax_path", "")],
        ),
        encoding="utf-8",
    )
    return page


def edition() -> str:
    """Which book this is: the commit, and when it was made."""
    commit, dirty = provenance.commit()
    if commit == "unknown":
        return "Made outside a git checkout."
    made = build.committed("HEAD")
    day = f" of {made:%-d %B %Y}" if made else ""
    changed = ", with changes that are not committed" if dirty else ""
    return f"Made from commit {commit}{day}{changed}."


def whole_page(
    book: str,
    titles: Sequence[tuple[Chapter, str]],
    *,
    title: str,
    author: str,
    told: str,
    styles: Sequence[str] = (),
    mathjax: dict | None = None,
    scripts: Sequence[str] = (),
) -> str:
    """The page of HTML: cover, contents, chapters.

    Args:
        book: the chapters.
        titles: of the pages.
        title, author, told: what stands on the cover.
        styles: in `_static`, as are scripts.
        mathjax: what MathJax is told.
        scripts: those that come last.
    """
    lines = []
    for page, name in titles:
        if page.part:
            lines.append(f'<li class="part">{escape(page.part)}</li>')
        lines.append(
            f'<li class="depth-{min(page.depth, 1)}"><a href="#{one_page.PAGE}{page.name}">'
            f'{escape(name)}</a><span class="page-number"></span></li>'
        )
    links = "".join(f'<link rel="stylesheet" href="_static/{s}">' for s in [*styles, STYLE])
    loaded = "".join(f'<script src="_static/{s}"></script>' for s in [*scripts, SCRIPT] if s)
    settings = json.dumps(mathjax or {}).replace("<", "\\u003c")
    return (
        f'<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>{links}<script>window.MathJax = {settings}</script></head>"
        f'<body><main class="bd-article"><div class="cover"><p class="cover-title">{escape(title)}'
        f'</p><p class="cover-author">{escape(author)}</p><p class="cover-edition">{escape(told)} The '
        "site has what paper does not: figures that move, the record behind each number, the "
        "documentation of the library.</p></div>"
        f'<nav class="contents"><h1>Contents</h1><ol>{"".join(lines)}</ol></nav>'
        f"{book}</main>{loaded}</body></html>"
    )


# Chromium


def print_page(browser: str, page: Path, target: Path) -> None:
    """Show a page, let its scripts do their work, and print what stands there then.

    Raises:
        UserError: Chromium did not start or did not end, or left a formula or a figure undone.
    """
    shown = call(browser, "--dump-dom", "--virtual-time-budget=600000", page.as_uri())
    still = page.with_name("still.html")
    text = settled(shown)
    for numbers in (False, True):  # of pages, in the table of contents, once they are known
        if numbers:
            text = numbered(text, page_numbers(target.read_bytes()))
        still.write_text(text, encoding="utf-8")
        call(
            browser,
            "--no-pdf-header-footer",
            "--generate-pdf-document-outline",
            f"--print-to-pdf={target}",
            still.as_uri(),
        )
        if not target.is_file() or target.stat().st_size == 0:
            raise UserError(f"{browser} printed nothing of {still}")


def page_numbers(pdf: bytes) -> dict[str, int]:
    """The page on which each place lies to which a link of the PDF leads, as Chromium writes it;
    empty where it writes it in another way."""
    kids = {
        int(found[1]): [int(kid) for kid in re.findall(rb"(\d+) 0 R", found[2])]
        for found in re.finditer(rb"\n(\d+) 0 obj\n<</Type /Pages\n[^>]*?/Kids \[([^\]]*)\]", pdf)
    }
    top = re.search(rb"/Type /Catalog\b[^>]*?/Pages (\d+) 0 R\s*/Dests (\d+) 0 R", pdf)
    if top is None:
        return {}
    order: list[int] = []
    todo = [int(top[1])]
    while todo:
        number = todo.pop()
        if number in kids:
            todo += reversed(kids[number])
        else:
            order.append(number)
    begin = pdf.find(b"\n%d 0 obj" % int(top[2]))
    places = pdf[begin : pdf.find(b"endobj", begin)]
    found = re.findall(rb"/(\S+) \[(\d+) 0 R", places)
    return {_name(name): order.index(int(page)) + 1 for name, page in found if int(page) in order}


def _name(name: bytes) -> str:
    """A name of a PDF without its escapes (#2F is a slash)."""
    plain = re.sub(rb"#([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), name)
    return plain.decode(errors="replace")


def numbered(text: str, numbers: dict[str, int]) -> str:
    """A page whose table of contents says on which page of paper a chapter begins."""

    def fill(found: re.Match) -> str:
        number = numbers.get(found[2], "")
        return f"{found[1]}{found[2]}{found[3]}{number}</span>"

    pattern = r'(<a href="#)([^"]*)("[^>]*>[^<]*</a><span class="page-number">)</span>'
    return re.sub(pattern, fill, text)


def settled(shown: str) -> str:
    """A page as its scripts left it, without them; a `UserError` where they did not end."""
    soup = BeautifulSoup(shown, "html.parser")
    html = soup.find("html")
    if html is None or html.get("data-ready") is None:
        raise UserError("Chromium did not finish the page that it was to print")
    undone = soup.select("[data-undone]")
    if undone:
        what = ", ".join(sorted({tag["data-undone"] for tag in undone}))
        raise UserError(f"{len(undone)} parts of the page are not as they should be: {what}")
    for tag in soup.select("script, link[rel=preload]"):
        tag.decompose()
    return str(soup)


def call(browser: str, *words: str) -> str:
    """What Chromium prints, with a profile of its own."""
    with tempfile.TemporaryDirectory(prefix="dalib-chromium-") as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", *words]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=PATIENCE
            )
        except subprocess.TimeoutExpired as error:
            raise UserError(f"{browser} did not end within {PATIENCE} seconds") from error
        except OSError as error:
            raise UserError(f"{browser} does not start ({error.strerror})") from error
    if done.returncode:
        told = "\n".join(done.stderr.splitlines()[-5:])
        raise UserError(f"{browser} ended with code {done.returncode}:\n{told}")
    return done.stdout
