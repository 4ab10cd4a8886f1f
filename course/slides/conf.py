# The lectures (dabook/site/slides.py): `make slides` builds them.
project = "Depth Anything, rebuilt from its parts"
language = "en"
extensions = [
    "myst_parser",
    "sphinx.ext.mathjax",
    "sphinx_revealjs",
    "dabook.site.excerpts",
    "dabook.site.lectures",
]
exclude_patterns = ["_templates"]
root_doc = "index"
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "dollarmath"]
suppress_warnings = ["myst.header"]

templates_path = ["_templates"]  # page.html: a lecture, or the page that lists them
revealjs_html_theme = "revealjs-simple"
revealjs_static_path = ["../../book/_static", "_static"]
mathjax_path = "mathjax/tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}, "svg": {"mtextInheritFont": True}}
html_copy_source = False
