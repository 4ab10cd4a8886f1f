"""The printed book: one page of unique ids and links that lead somewhere, and a tiny book as a PDF."""

import re
import shutil
import subprocess

import pytest
import yaml

pytest.importorskip("sphinx")
from dabook.site import build, one_page, printed
from dabook.site.one_page import Chapter
from dalib.errors import ConfigError, UserError

CONTENTS = {
    "root": "book/intro",
    "parts": [
        {
            "caption": "First part",
            "chapters": [{"file": "book/a", "sections": [{"file": "notebooks/n"}]}],
        },
        {"caption": "Last", "chapters": [{"file": "book/api"}]},
    ],
}
BODY = """
<section id="intro"><h1>The book<a class="headerlink" href="#intro">#</a></h1>
<p><a href="#document-book/a#idea">idea</a> <a href="#document-book/api#f">f</a> <a href="../records/x.html">0.1</a></p>
<div class="toctree-wrapper compound"><span id="document-book/a"></span>
<section id="a"><h2>A &amp; B</h2><section id="idea"><h3>Idea</h3>
<p id="p">x <a href="#idea">here</a> <a href="#document-notebooks/n">n</a> <a href="https://arxiv.org/abs/1">out</a></p>
<details class="admonition hide"><summary>Show code</summary><pre>code</pre></details>
<details class="hide below-input"><div class="output stream">step 1</div></details>
<details class="hide below-input"><p>shown</p></details>
<details><summary>More</summary><p>inside</p></details></section>
<div class="toctree-wrapper compound"><span id="document-notebooks/n"></span>
<section id="n"><h3>N</h3><section id="idea"><h4>Idea too</h4><p aria-labelledby="idea other">y</p>
<a href="../notebooks/n.html#idea">raw</a> <a href="../book/a.html">page</a> <a href="../_downloads/x.zip">file</a>
<script>live()</script><div class="record-index"><table></table></div></section></section></div></section>
<span id="document-book/api"></span><section id="api"><h2>Functions</h2><p id="f">f</p></section></div></section>
"""


def pages():
    return one_page.chapters(CONTENTS)


def test_the_contents_in_order():
    assert pages() == [
        Chapter("book/intro"),
        Chapter("book/a", 0, "First part"),
        Chapter("notebooks/n", 1),
        Chapter("book/api", 0, "Last"),
    ]


def test_a_book_of_one_page():
    made, titles = one_page.assemble(BODY, pages(), ("book/api",))
    assert [title for _, title in titles] == ["The book", "A & B", "N"]
    ids = re.findall(r'\bid="([^"]*)"', made)
    assert len(ids) == len(set(ids))
    links = re.findall(r'href="([^"]*)"', made)
    assert links == [
        "#book/a/idea",  # another page's, of which two have the name
        "#book/a/idea",
        "#document-notebooks/n",
        "https://arxiv.org/abs/1",
        "#notebooks/n/idea",
        "#document-book/a",
    ]
    assert all(link[1:] in ids for link in links if link.startswith("#"))
    assert 'aria-labelledby="notebooks/n/idea other"' in made
    # chapters stand one after the other, their headings by their place in their own page
    assert re.findall(r"<(h\d) class=\"(?:part|level-\d)\">([^<]*)", made) == [
        ("h2", "The book"),
        ("h1", "First part"),
        ("h2", "A &amp; B"),
        ("h3", "Idea"),
        ("h3", "N"),
        ("h4", "Idea too"),
    ]
    # open, and without what only a screen can use
    for gone in (
        "<details",
        "<summary",
        "Show code",
        "headerlink",
        "live()",
        "<table",
        "Functions",
    ):
        assert gone not in made
    assert "Functions" not in made
    for kept in ("code", "shown", "inside", "More", ">0.1<", ">f<", ">file<", "a page of the site"):
        assert kept in made


def test_a_page_that_sphinx_did_not_write_is_named():
    with pytest.raises(ValueError, match="notebooks/n is not in the book"):
        one_page.assemble(BODY.replace("document-notebooks/n", "document-x"), pages())


def test_pages_that_are_left_out_keep_their_title(tmp_path):
    (tmp_path / "book" / "api").mkdir(parents=True)
    (tmp_path / "book" / "api" / "a.md").write_text("(x)=\n# Losses\n\n```{eval-rst}\n```\n")
    extensions = ["sphinx.ext.autodoc", "dabook.site.source"]
    config = {"title": "é", "sphinx": {"extra_extensions": extensions}}
    (tmp_path / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    printed.simplify(tmp_path)
    assert (tmp_path / "book" / "api" / "a.md").read_text() == "# Losses\n"
    found = yaml.safe_load((tmp_path / "_config.yml").read_text(encoding="utf-8"))
    assert found["title"] == "é"
    assert found["sphinx"]["extra_extensions"] == ["dabook.site.source", "dabook.site.one_page"]


PDF = (
    b"%PDF\n1 0 obj\n<</Type /Catalog\n/Pages 2 0 R\n/Dests 9 0 R\n/Lang (en)>>\nendobj\n"
    b"2 0 obj\n<</Type /Pages\n/Count 3\n/Kids [3 0 R 6 0 R]>>\nendobj\n"
    b"3 0 obj\n<</Type /Pages\n/Count 2\n/Kids [5 0 R 4 0 R]\n/Parent 2 0 R>>\nendobj\n"
    b"9 0 obj\n<</document-book#2Fa [4 0 R /XYZ 0 841 0]\n/x [6 0 R /XYZ 0 1 0]>>\nendobj\n"
)


def test_pages_are_numbered_from_what_was_printed():
    numbers = printed.page_numbers(PDF)
    assert numbers == {"document-book/a": 2, "x": 3}
    assert printed.page_numbers(b"%PDF of another kind") == {}
    line = '<a href="#document-book/a">A &amp; B</a><span class="page-number"></span>'
    assert printed.numbered(line, numbers).endswith('<span class="page-number">2</span>')


def test_what_is_undone_is_not_printed():
    ready = '<html data-ready=""><head><script>x()</script></head><body><p>ok</p></body></html>'
    assert "script" not in printed.settled(ready)
    with pytest.raises(UserError, match=r"1 parts of the page .*: a formula"):
        printed.settled(ready.replace("<p>", '<p data-undone="a formula">'))
    with pytest.raises(UserError, match="did not finish"):
        printed.settled("<html></html>")


def test_without_chromium_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv(printed.VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=r"none is installed: install one .*apt install chromium"):
        printed.chromium()
    monkeypatch.setenv(printed.VARIABLE, "/nowhere/chrome")
    with pytest.raises(ConfigError, match="names /nowhere/chrome, which is no program"):
        printed.chromium()


def test_a_book_that_was_not_executed_is_not_printed(tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    (tmp_path / "_toc.yml").write_text("root: book/intro\nchapters: [{file: notebooks/n}]\n")
    with pytest.raises(
        ConfigError, match=r"1 notebooks .* not been executed \(n\); run `make book`"
    ):
        build.stage(tmp_path / "stage", tmp_path / "executed")


# a tiny book


INTRO = """# A tiny book

See [the other page](other.md#zero), {func}`dalib.losses.total`, and $a^2$.
"""
OTHER = """# Other

## Zero

$$ x = \\frac{1}{2} $$ (eq-x)

| wide | {wide} |
|---|---|
| {wide} | b |
"""


@pytest.mark.slow
def test_a_tiny_book_is_printed_with_its_links(tmp_path, monkeypatch):
    pytest.importorskip("jupyter_book")
    try:
        browser = printed.chromium()
    except ConfigError as error:
        pytest.skip(str(error))
    stage = tmp_path / "stage"
    static = stage / "book" / "_static"
    (static / "mathjax").mkdir(parents=True)
    real = build.paths.root() / "book" / "_static"
    shutil.copy2(real / "dalib.css", static)
    shutil.copy2(real / "mathjax" / "tex-svg.js", static / "mathjax")
    config = {
        "title": "A tiny book",
        "author": "Nobody",
        "only_build_toc_files": True,
        "execute": {"execute_notebooks": "off"},
        "parse": {"myst_enable_extensions": ["amsmath", "dollarmath"]},
        "sphinx": {
            "config": {
                "html_static_path": ["book/_static"],
                "mathjax_path": "mathjax/tex-svg.js",
                "myst_heading_anchors": 3,
            }
        },
    }
    (stage / "_config.yml").write_text(yaml.safe_dump(config))
    contents = {"format": "jb-book", "root": "book/intro", "chapters": [{"file": "book/other"}]}
    (stage / "_toc.yml").write_text(yaml.safe_dump(contents))
    (stage / "book" / "intro.md").write_text(INTRO)
    (stage / "book" / "other.md").write_text(OTHER.replace("{wide}", "word" * 60))
    printed.simplify(stage)
    build.sphinx(stage, "singlehtml", log=tmp_path / "log")
    page = printed.write_page(stage, tmp_path)
    target = tmp_path / "book.pdf"
    printed.print_page(browser, page, target)
    numbers = printed.page_numbers(target.read_bytes())
    assert numbers["document-book/intro"] == 3  # behind cover and contents
    assert numbers["document-book/other"] == 4
    assert numbers["zero"] == 4
    still = (page.parent / "still.html").read_text(encoding="utf-8")
    assert "mjx-container" in still
    assert re.search(r"<table[^>]*zoom", still), "the wide table was not made to fit"
    if shutil.which("pdftotext"):
        text = subprocess.run(
            ["pdftotext", "-layout", target, "-"], capture_output=True, text=True, check=True
        ).stdout
        assert re.search(r"Other +4\n", text)
