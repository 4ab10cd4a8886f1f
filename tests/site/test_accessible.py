"""What is put into finished pages for those who read by ear or by keyboard."""

import pytest

pytest.importorskip("sphinx")
from dabook.site import accessible

ARROW = (
    '<a class="reference internal" href="a.html">Salt &amp; light</a>'
    '<details open="open"><summary><span class="toctree-toggle"></span></summary></details>'
)
PARAMETERS = (
    '<span class="sig-paren">(</span>\n\n<dl>\n<dd><em>a</em>,</dd>\n<dd><em>b</em>,</dd>\n</dl>\n\n'
    '<span class="sig-paren">)</span><dl><dd>a field</dd></dl>'
)


def test_an_arrow_says_what_it_opens():
    assert '<summary aria-label="Pages of Salt &amp; light">' in accessible.named(ARROW)
    assert accessible.named("<details><summary>Own words</summary></details>").count("aria") == 0


def test_parameters_are_lines_and_other_lists_stay():
    mended = accessible.plain_parameters(PARAMETERS)
    assert mended.count('<div class="sig-line">') == mended.count("</div>") - 1 == 2
    assert mended.endswith("<dl><dd>a field</dd></dl>")
    assert accessible.plain_parameters(mended) == mended


def test_formulas_are_reached_by_keyboard():
    mended = accessible.reachable_formulas(
        '<div class="math notranslate nohighlight" id="e">x</div>'
    )
    assert mended == '<div tabindex="0" class="math notranslate nohighlight" id="e">x</div>'
    assert accessible.reachable_formulas(mended) == mended
