"""Figures and values of executed notebooks in pages that are no part of the book, such as slides.

The words are the book's: `glue:text` for a value in a sentence, `glue` for what a notebook keeps as a
piece of a page; and `notebook-figure` for the picture of a cell, by the name it has in the book. In the
book the notebooks are pages of the same build; here they are only read, where `make book` left them.

    The error is {glue:text}`../../notebooks/published.ipynb::pub_t9_full_mean:.3f`.

    :::{glue} touch_affine
    :doc: ../../notebooks/by_hand.ipynb
    :::

    :::{notebook-figure} fig-losses-scale
    :doc: ../../notebooks/losses.ipynb
    :::
"""

import ast
import base64
import json
import re
import struct
from functools import lru_cache
from html import escape
from math import isnan
from pathlib import Path

from bs4 import BeautifulSoup
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.domains import Domain
from sphinx.util.docutils import SphinxDirective, SphinxRole

from dabook.show.html import DASH
from dabook.site.glue import KEPT
from dabook.site.notebooks import CAPTION, FIGURE
from dabook.site.source import Source
from dabook.site.sphinx_ext import SvgFigure

REFERENCE = re.compile(r"^(?:.*/)?(?P<notebook>\w+)\.ipynb::(?P<key>[\w-]+)(?::(?P<spec>.*))?$")
NUMPY = re.compile(r"^np\.\w+\((.*)\)$")
COLUMN = re.compile(r"^col(\d+)$")  # of the cells of a table, as pandas names them
LETTERS = re.compile(r"[\\*`\[\]<]|\$")


class MissingError(ValueError):
    """A notebook that was not executed, or does not have what a page takes from it."""


@lru_cache
def executed(path: Path) -> dict:
    """An executed notebook; `MissingError` where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingError(f"{path.stem} has not been executed: run `make book` first") from error


def kept(path: Path, key: str) -> dict[str, str]:
    """What a notebook keeps under a key: MIME type -> text."""
    for cell in executed(path)["cells"]:
        for output in cell.get("outputs", ()):
            found = output.get("data", {}).get(KEPT)
            values = json.loads("".join(found)) if found else {}
            if key in values:
                return values[key]
    raise MissingError(f"{path.stem} keeps nothing under {key}")


def figure(path: Path, name: str) -> tuple[dict, str]:
    """What the cell with the figure of this name shows, and its caption."""
    cells = executed(path)["cells"]
    for cell, below in zip(cells, [*cells[1:], {}], strict=True):
        if cell.get("metadata", {}).get("mystnb", {}).get("figure", {}).get("name") != name:
            continue
        caption = ""
        if CAPTION in below.get("metadata", {}).get("tags", ()):
            caption = "".join(below["source"]).removeprefix(FIGURE).strip()
        for output in cell.get("outputs", ()):
            if {"image/png", "text/html"} & set(output.get("data", {})):
                return output["data"], caption
    raise MissingError(f"{path.stem} has no figure {name}")


def value(shown: dict[str, str], spec: str) -> str:
    """A kept value as the book prints it.

    Args:
        shown: MIME type -> text.
        spec: how a number is formatted, such as ".3f"; "s" for text.
    """
    text = NUMPY.sub(r"\1", "".join(shown["text/plain"]))
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):  # nan
        found = float(text) if text in ("nan", "inf", "-inf") else text
    if isinstance(found, float) and isnan(found):
        return DASH
    made = format(found, spec)
    return "\N{MINUS SIGN}" + made[1:] if made[:1] == "-" and made[1:2].isdigit() else made


class _Takes:
    """What directives and the role share: where executed notebooks lie."""

    def notebook(self, reference: str) -> Path:
        path = Path(self.config.executed_notebooks) / Path(reference).name
        self.env.note_dependency(str(path))
        return path


def piece(html: str, columns: int | None = None) -> str:
    """A piece of a page as it stands elsewhere: links that lead into the site are words.

    Args:
        html: as a notebook keeps it.
        columns: so many of a table's, from the left, without the lines below it; all by default.
    """
    if columns is None and 'href="../' not in html:
        return html
    soup = BeautifulSoup(html, "html.parser")
    for link in soup.select('a[href^="../"]'):
        link.unwrap()
    if columns is not None:
        for cell in soup.select("th, td"):
            places = [int(m[1]) for name in cell.get("class", ()) if (m := COLUMN.match(name))]
            if places and places[0] >= columns:
                cell.decompose()
        for line in soup.select(".provenance"):
            line.decompose()
    return str(soup)


class Glue(SphinxDirective, _Takes):
    """`glue KEY` with `:doc:`: a piece of a page. `:columns: N` leaves a table its first N columns."""

    required_arguments = 1
    option_spec = {  # noqa: RUF012
        "doc": directives.unchanged_required,
        "columns": directives.positive_int,
    }

    def run(self) -> list[nodes.Node]:
        try:
            shown = kept(self.notebook(self.options["doc"]), self.arguments[0])
        except MissingError as error:
            raise self.error(str(error)) from error
        html = "".join(shown.get("text/html", ())) or f"<p>{escape(value(shown, ''))}</p>"
        html = piece(html, self.options.get("columns"))
        # a finger that moves a figure does not turn the slide
        return [nodes.raw("", f'<div class="kept" data-prevent-swipe>{html}</div>', format="html")]


class GlueText(SphinxRole, _Takes):
    """`glue:text`: a value in a sentence."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        found = REFERENCE.match(self.text)
        try:
            if found is None:
                raise MissingError(f"{self.text!r} is not of the form x.ipynb::key:format")
            shown = kept(self.notebook(f"{found['notebook']}.ipynb"), found["key"])
            made = value(shown, found["spec"] or "")
        except MissingError as error:
            message = self.inliner.reporter.error(str(error), line=self.lineno)
            return [], [message]
        return [nodes.inline(self.rawtext, made, classes=["pasted-text"])], []


class NotebookFigure(SphinxDirective, _Takes):
    """`notebook-figure NAME` with `:doc:`: the picture of a cell. The content is the caption; what
    the book says below the picture is its text for those who do not see it."""

    required_arguments = 1
    has_content = True
    option_spec = {  # noqa: RUF012
        "doc": directives.unchanged_required,
        "class": directives.class_option,
    }

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        try:
            data, caption = figure(self.notebook(self.options["doc"]), name)
        except MissingError as error:
            raise self.error(str(error)) from error
        if "image/png" in data:
            folder = Path(self.env.app.outdir) / "_images"
            folder.mkdir(parents=True, exist_ok=True)
            picture = base64.b64decode("".join(data["image/png"]))
            (folder / f"{name}.png").write_bytes(picture)
            width, height = struct.unpack(">II", picture[16:24])
            alt = escape(LETTERS.sub("", caption) or name, quote=True)
            size = f'width="{width}" height="{height}" style="--ratio: {width / height:.4f}"'
            html = f'<img src="_images/{name}.png" alt="{alt}" {size}>'
        else:
            html = "".join(data["text/html"])
        found = nodes.figure(
            "",
            nodes.raw("", html, format="html"),
            classes=["notebook-figure", *self.options.get("class", [])],
        )
        self.set_source_info(found)
        holder = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, holder)
        if holder.children:
            found += nodes.caption("", "", *holder[0].children)
        return [found]


class GlueDomain(Domain):
    """Where Sphinx looks for `glue:text`."""

    name = "glue"
    label = "glue"
    roles = {"text": GlueText()}  # noqa: RUF012

    def resolve_any_xref(self, *args) -> list:
        """Nothing can be referred to."""
        return []

    def merge_domaindata(self, docnames: list[str], otherdata: dict) -> None:
        """Nothing is kept from page to page."""


def setup(app: Sphinx) -> dict:
    app.add_config_value("executed_notebooks", "", "env", str)
    app.add_domain(GlueDomain)
    app.add_directive("glue", Glue)
    app.add_directive("notebook-figure", NotebookFigure)
    app.add_directive("svg-figure", SvgFigure)
    app.add_directive("source", Source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
