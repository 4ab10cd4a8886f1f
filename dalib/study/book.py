"""From sources, records and executed notebooks to the site.

Everything is staged in `_build/stage` and built from there, so that the checkout stays free of outputs. A notebook is
executed again only when something that it can see has changed.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from dalib import paths
from dalib.errors import UserError
from dalib.study import notebooks, records, tables
from dalib.study.experiments import expand, experiments

STAMPS = "stamps.json"


def build(*, profile: str = "quick") -> Path:
    """Execute what is out of date, stage, build with warnings as errors, and return the site's first page."""
    root = paths.root()
    out = root / "_build"
    for name in table_of_contents():
        _execute(name, out / "notebooks", profile)
    fingerprint = _digest(_site_inputs(out / "notebooks"))
    index = out / "html" / "index.html"
    if index.exists() and _stamps(out).get("site") == fingerprint:
        return index
    stage = out / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy2(root / name, stage / name)
    shutil.copytree(root / "book", stage / "book")
    shutil.copytree(
        out / "notebooks", stage / "notebooks", ignore=shutil.ignore_patterns("*.failed.ipynb", "*.partial.ipynb")
    )
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(stage)]
    command += ["--path-output", str(stage), "-W", "--all", "--keep-going"]
    result = subprocess.run(command, cwd=stage, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    (out / "build.log").write_text(result.stdout)
    if result.returncode or not (stage / "_build" / "html" / "index.html").is_file():
        raise UserError(f"the book did not build; the end of {out / 'build.log'}:\n{result.stdout[-3000:]}")
    shutil.rmtree(out / "html", ignore_errors=True)
    shutil.move(stage / "_build" / "html", out / "html")
    _stamp(out, "site", fingerprint)
    return index


def table_of_contents() -> list[str]:
    """The notebooks of the book, main_table first: the others read what it trained."""
    tree = yaml.safe_load((paths.root() / "_toc.yml").read_text())
    found: list[str] = []

    def walk(node):
        if isinstance(node, dict):
            if str(node.get("file", "")).startswith("notebooks/"):
                found.append(Path(node["file"]).stem)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(tree)
    return sorted(found, key=lambda name: name != "main_table")


def update_readme() -> None:
    """Replace what stands between the markers in README.md by the recorded main table."""
    path = paths.root() / "README.md"
    before, _, rest = path.read_text(encoding="utf-8").partition("<!-- main-table -->")
    _, mark, after = rest.partition("<!-- /main-table -->")
    if not mark:
        raise UserError(f"{path}: the markers <!-- main-table --> and <!-- /main-table --> are gone; put them back")
    table = tables.readme_table(records.entries(expand("main_table", profile="study")))
    records.write_text(path, f"{before}<!-- main-table -->\n{table}\n<!-- /main-table -->{after}")


def _execute(name: str, out: Path, profile: str) -> None:
    source, target = notebooks.notebook(name), out / f"{name}.ipynb"
    fingerprint = _digest([source, *_inputs()], profile)
    if target.exists() and _stamps(out.parent).get(name) == fingerprint:
        return
    print(f"executing {name}", flush=True)
    notebooks.execute(source, target, given(name, profile))
    _stamp(out.parent, name, fingerprint)


def given(name: str, profile: str) -> dict[str, object]:
    """The parameters that the book passes to a notebook: the profile, and `train=False` where its experiment is not trained here."""
    known, values = notebooks.parameters(notebooks.notebook(name)), {}
    if "profile" in known:
        values["profile"] = profile
    if name in experiments() and not expand(name, profile=profile).trained_in_book:
        values["train"] = False
    return values


def _inputs() -> list[Path]:
    """What every notebook may read: the library, the experiments, the paper's tables and the committed records."""
    root = paths.root()
    return [*sorted((root / "dalib").rglob("*.py")), root / "experiments.yaml", *sorted((root / "data").rglob("*.*"))]


def _site_inputs(executed: Path) -> list[Path]:
    root = paths.root()
    book = [p for p in sorted((root / "book").rglob("*")) if p.is_file()]
    local = sorted(paths.local_records().rglob("*.json"))
    return [*_inputs(), root / "_config.yml", root / "_toc.yml", *book, *local, *sorted(executed.glob("*.ipynb"))]


def _digest(files: list[Path], *words: str) -> str:
    digest = hashlib.sha256(repr(words).encode())
    for file in files:
        digest.update(str(file).encode() + file.read_bytes())
    return digest.hexdigest()


def _stamps(out: Path) -> dict[str, str]:
    try:
        return json.loads((out / STAMPS).read_text())
    except (OSError, json.JSONDecodeError):
        return {}


def _stamp(out: Path, name: str, fingerprint: str) -> None:
    stamps = _stamps(out) | {name: fingerprint}
    partial = out / (STAMPS + ".partial")
    partial.write_text(json.dumps(stamps, indent=1))
    os.replace(partial, out / STAMPS)
