"""What the theme and Sphinx leave out for those who read by ear or by keyboard, put into the finished
pages: a name for each arrow of the contents, a place in the order of the Tab key for formulas that
can be scrolled, and parameters of a function as plain lines (Sphinx makes them the definitions of no
term)."""

import re
from pathlib import Path

from sphinx.application import Sphinx

ARROW = re.compile(r'(<a class="[^"]*" href="[^"]*">(?P<title>[^<]*)</a><details[^>]*>)<summary>')
PARAMETERS = re.compile(
    r'(?P<open><span class="sig-paren">\(</span>\s*)<dl>(?P<inner>.*?)</dl>(?=\s*<span class="sig-paren">\))',
    re.S,
)
FORMULA = re.compile(r'<div class="((?:amsmath )?math notranslate nohighlight)"')
PAGES_OF = "Pages of {title}"


def named(html: str) -> str:
    """A page whose arrows say what they open."""

    def name(match: re.Match) -> str:
        label = PAGES_OF.format(title=match["title"])  # the title is escaped already
        return f'{match[1]}<summary aria-label="{label}">'

    return ARROW.sub(name, html)


def plain_parameters(html: str) -> str:
    """A page whose parameters, one a line, are no definitions."""

    def lines(match: re.Match) -> str:
        inner = match["inner"].replace("<dd>", '<div class="sig-line">').replace("</dd>", "</div>")
        return f'{match["open"]}<div class="sig-lines">{inner}</div>'

    return PARAMETERS.sub(lines, html)


def reachable_formulas(html: str) -> str:
    """A page whose formulas, which scroll where they are wider than a phone, are reached by keyboard."""
    return FORMULA.sub(r'<div tabindex="0" class="\1"', html)


def listed_papers(html: str) -> str:
    """A page whose papers are items of their list; docutils gives them a role that is deprecated."""
    return html.replace('role="doc-biblioentry"', 'role="listitem"')


def mend(app: Sphinx, exception: Exception | None) -> None:
    """Sphinx event: every page, once all are written."""
    if exception is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        mended = listed_papers(reachable_formulas(plain_parameters(named(text))))
        if mended != text:
            path.write_text(mended, encoding="utf-8")


def setup(app: Sphinx) -> dict:
    app.connect("build-finished", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
