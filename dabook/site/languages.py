"""Editions of the book in other languages: the same pages, records and glued numbers, with the prose of
`book/locale/<language>`.

Catalogues are gettext's, made by Sphinx from the pages (`python -m dabook translate ko`), so that text
and code cannot drift: a paragraph that has changed since it was translated stands in English until
somebody translates it again, and the page says how many there are. An edition lies in a folder of its
language within the site, and every page of either leads to its twin.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from docutils import nodes
from sphinx.application import Sphinx

from dalib import paths, strict_yaml
from dalib.config import check_names
from dalib.errors import ConfigError, UserError

NAMES = {"en": "English", "ko": "한국어"}
"""Languages, each as its readers call it."""
FIRST = "en"
"""The language that the book is written in; its edition lies at the top of the site."""
CATALOGUES = "locale"
"""Within `book/`."""
WORDS = "words.yaml"
"""Beside the catalogues of a language: the words of `dabook.site.words`, and the line below."""
PROGRESS = (
    "{missing} of the {total} paragraphs of this page are not translated yet; they are in English."
)
RECORD = re.compile(r'(href=")(\.\./(?:records|certificates)/)')


def editions() -> list[str]:
    """The languages that have catalogues, without the first."""
    folder = paths.root() / "book" / CATALOGUES
    return sorted(p.name for p in folder.glob("*") if (p / WORDS).is_file())


def chapters() -> list[str]:
    """The pages that are translated: the landing page, the chapters, the glossary, what teaches."""
    tree = strict_yaml.read(paths.root() / "_toc.yml")
    parts = {part["caption"]: part["chapters"] for part in tree["parts"]}
    own = [c["file"] for caption in TRANSLATED for c in parts[caption]]
    return [tree["root"], *(page for page in own if page.startswith("book/"))]


TRANSLATED = ("Before you start", "From pixels to the paper", "Learn and teach")
"""Parts of the contents whose pages are translated."""


def words(language: str) -> dict[str, str]:
    """What the site says by itself, in a language."""
    path = paths.root() / "book" / CATALOGUES / language / WORDS
    found = strict_yaml.read(path)
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: should be a mapping of words")
    return found


def settings(text: str, language: str) -> str:
    """The configuration of an edition, from that of the book."""
    tree = yaml.safe_load(text)
    own = tree["sphinx"]["config"]
    own |= {
        "language": language,
        "locale_dirs": [f"book/{CATALOGUES}"],
        "gettext_compact": False,
        "site_words": words(language),
    }
    tree["title"] = words(language).get("title", tree["title"])
    return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)


def stage(first: Path, folder: Path, language: str) -> None:
    """Put the book that is staged in the first language into a new folder, as an edition.

    The pages that are made of docstrings, which take as long to make as all others, stay those of
    the first edition: what stands in their place leads there.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(first, folder, ignore=shutil.ignore_patterns("_build"))
    for page in (folder / "book" / "api").glob("*.md"):
        lines = page.read_text(encoding="utf-8").splitlines()
        title = next(line for line in lines if line.startswith("# "))
        target = f"../../../book/api/{page.stem}.html"
        page.write_text(f'{title}\n\n<a href="{target}">{NAMES[FIRST]}</a>\n', encoding="utf-8")
    config = folder / "_config.yml"
    config.write_text(settings(config.read_text(encoding="utf-8"), language), encoding="utf-8")


def is_first(app: Sphinx) -> bool:
    """Whether this is the edition in the book's own language, beside which the records lie."""
    return (app.config.language or FIRST) == FIRST


# what an edition shows beside its text


def switch(
    app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None
) -> None:
    """Sphinx event: where the twins of a page are."""
    here = app.config.language or FIRST
    up = "../" * page.count("/")
    context["editions"] = [
        {
            "language": other,
            "name": NAMES[other],
            "href": f"{up}{_from(here, other)}{page}.html",
        }
        for other in [FIRST, *editions()]
        if other != here and page.startswith(("book/", "notebooks/"))
    ]


def _from(here: str, other: str) -> str:
    """The way from the top of one edition to that of another."""
    if here == FIRST:
        return f"{other}/"
    return "../" if other == FIRST else f"../{other}/"


def progress(app: Sphinx, doctree: nodes.document) -> None:
    """Sphinx event: a translated page says what of it is not translated."""
    if is_first(app) or app.env.docname not in chapters():
        return
    found = doctree.get("translation_progress", {"total": 0, "translated": 0})
    missing = found["total"] - found["translated"]
    if missing:
        said = app.config.site_words.get("progress", PROGRESS)
        note = nodes.paragraph("", said.format(missing=missing, total=found["total"]))
        note["classes"] = ["translation-progress"]
        title = next(doctree.findall(nodes.title))
        title.parent.insert(title.parent.index(title) + 1, note)


def lead_to_records(app: Sphinx, exception: Exception | None) -> None:
    """Sphinx event: records are the same in all editions, and lie beside the first."""
    if exception is not None or is_first(app):
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        mended = RECORD.sub(r"\1../\2", text)
        if mended != text:
            path.write_text(mended, encoding="utf-8")


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", switch)
    app.connect("doctree-read", progress)
    app.connect("build-finished", lead_to_records)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


# catalogues


def update(language: str, stage: Path) -> Iterator[str]:
    """Bring the catalogues of a language up to date with the pages: what is new is empty, what has
    changed is marked fuzzy, what is translated stays.

    Args:
        language: of `NAMES`.
        stage: the book as `build.stage` leaves it.

    Yields:
        A line for each page, with the number of its paragraphs that are not translated.

    Raises:
        ConfigError: an unknown language, or sphinx-intl is not installed.
        UserError: Sphinx could not read the pages.
    """
    check_names([language], [name for name in NAMES if name != FIRST], what="language")
    try:
        from babel.messages.pofile import read_po
        from sphinx_intl.basic import update as merge
    except ImportError as error:
        raise ConfigError(
            f"catalogues need {error.name}, which is not installed: pip install -e '.[dev]'"
        ) from error
    pots = stage / "_build" / "gettext"
    _extract(stage, pots)
    target = paths.root() / "book" / CATALOGUES
    wanted = set(chapters())
    for pot in list(pots.rglob("*.pot")):
        if str(pot.relative_to(pots).with_suffix("")) not in wanted:
            pot.unlink()
    merge(str(target), str(pots), [language], line_width=-1, ignore_obsolete=True)
    for page in chapters():
        path = target / language / "LC_MESSAGES" / f"{page}.po"
        if not path.is_file():
            continue
        with path.open("rb") as stream:
            messages = [m for m in read_po(stream) if m.id]
        missing = sum(not m.string or m.fuzzy for m in messages)
        yield f"{page}: {missing} of {len(messages)} to translate"


def _extract(stage: Path, out: Path) -> None:
    """Every message of the staged book, as templates."""
    shutil.rmtree(out, ignore_errors=True)
    program = "from jupyter_book.cli.main import main; main()"
    configure = [sys.executable, "-c", program, "config", "sphinx", str(stage)]
    extract = [sys.executable, "-m", "sphinx", "-b", "gettext", "-q", str(stage), str(out)]
    extract += ["-D", "gettext_compact=0", "-D", "gettext_location=0"]
    for command in (configure, extract):
        result = subprocess.run(command, capture_output=True, text=True, cwd=stage)
        if result.returncode:
            raise UserError(f"the pages could not be read:\n{result.stderr[-2000:]}")
