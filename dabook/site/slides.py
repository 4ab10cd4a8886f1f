"""The lectures: `course/slides` as slides of reveal.js, with the figures and numbers of the executed book.

Nothing of them is loaded from elsewhere: reveal.js comes out of the installed sphinx-revealjs, MathJax
from the book.
"""

import importlib.util
import shutil
import sys
from pathlib import Path

from dabook.site.build import run
from dalib import paths
from dalib.errors import ConfigError

KEPT = (
    "dist/reveal.css",
    "dist/reveal.js",
    "plugin/highlight/highlight.js",
    "plugin/notes/notes.js",
)
"""What the slides use of reveal.js; the rest of its files is not delivered."""
LICENCE = "LICENSE"


def slides() -> Path:
    """Build the lectures and return the page that lists them.

    Raises:
        ConfigError: sphinx-revealjs, the sources, or the executed notebooks are missing.
        UserError: a slide takes what no notebook has, or does not build.
    """
    if importlib.util.find_spec("sphinx_revealjs") is None:
        raise ConfigError(
            "slides need sphinx-revealjs, which is not installed: pip install -e '.[book]'"
        )
    root = paths.root()
    source = root / "course" / "slides"
    if not (source / "conf.py").is_file():
        raise ConfigError(
            f"{source}: no lectures here; run from the checkout, or set DALIB_ROOT to it"
        )
    executed = root / "_build" / "notebooks"
    if not any(executed.glob("*.ipynb")):
        raise ConfigError(
            f"{executed}: no executed notebooks, whose figures the slides show; run `make book` first"
        )
    out = root / "_build" / "slides"
    build(source, out, executed, log=root / "_build" / "slides.log")
    return out / "index.html"


def build(source: Path, out: Path, executed: Path, *, log: Path) -> None:
    """Build the lectures of a folder into another, which is made anew.

    Args:
        source: with `conf.py`.
        out: replaced where the build ends well.
        executed: the notebooks that slides take figures and values from.
        log: what Sphinx says.
    """
    fresh = out.with_name(f"{out.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-b", "revealjs", "-W", "--keep-going", "-E", "-q"]
    command += ["-D", f"executed_notebooks={executed}", "-d", str(fresh / ".doctrees")]
    command += [str(source), str(fresh)]
    run(command, fresh / "index.html", what="the slides", log=log, folder=Path.cwd())
    _prune(fresh)
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(fresh, out)


def _prune(out: Path) -> None:
    """Leave of reveal.js what the slides use, with its licence."""
    reveal = out / "_static" / "revealjs"
    kept = {reveal / name for name in (*KEPT, LICENCE)}
    for path in sorted(reveal.rglob("*"), reverse=True):
        if path.is_file() and path not in kept:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    shutil.rmtree(out / ".doctrees", ignore_errors=True)
    for name in (".buildinfo", "objects.inv"):
        (out / name).unlink(missing_ok=True)
