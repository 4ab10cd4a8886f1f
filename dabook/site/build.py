"""From sources, records and executed notebooks to the site.

Everything is staged in `_build/stage` and built from there, so that the checkout stays free of
outputs. A notebook is executed again only when something that it can see has changed; two are
executed side by side, each in a kernel of its own.
"""

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from dabook.analysis.statistics import recorded
from dabook.runs import allocation, records
from dabook.runs.experiments import expand, experiments, profiles
from dabook.show import tables
from dabook.site import downloads, front, lanes, languages, notebooks
from dabook.site.pin import Pin, pin
from dalib import paths, strict_yaml
from dalib.config import RunConfig, check_names
from dalib.errors import ConfigError, UserError

STAMPS = "stamps.json"
COMMIT = "commit"
"""Under which the stamps have the commit of the site, and whether the checkout differed from it."""
SLOW = ("adapt", "costs", "why_your_absrel_differs", "confidence")
"""Notebooks that train no row and take half a minute or more: they begin before the short ones, lest
the last one run alone."""
_stamping = threading.Lock()


def build(*, profile: str = "quick") -> Path:
    """Execute what is out of date, stage, build with warnings as errors, and return the site's
    first page."""
    check_names([profile], profiles(), what="profile")
    if importlib.util.find_spec("jupyter_book") is None:
        raise ConfigError(
            "the book needs Jupyter Book, which is not installed: pip install -e '.[book]'"
        )
    root = paths.root()
    out = root / "_build"
    try:
        (out / "notebooks").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{out}: cannot be made ({error.strerror}); the book is built there"
        ) from error
    paths.writable_runs()
    state = pin()
    execute(out / "notebooks", profile)
    fingerprint = _digest(_site_inputs(out / "notebooks"))
    index = out / "html" / "index.html"
    commit = f"{state.commit} {state.dirty}"
    if index.exists() and _stamps(out).get("site") == fingerprint:
        _downloads(out, state)
        _stamp(out, COMMIT, commit)
        return index
    folders = {languages.FIRST: out / "stage"}
    stage(folders[languages.FIRST], out / "notebooks")
    for language in languages.editions():
        folders[language] = out / f"stage-{language}"
        languages.stage(folders[languages.FIRST], folders[language], language)
    _side_by_side(folders, out)
    shutil.rmtree(out / "html", ignore_errors=True)
    for language, folder in folders.items():  # the first makes the folder of the others
        shutil.move(folder / "_build" / "html", _site(out, language))
    _downloads(out, state)
    _stamp(out, COMMIT, commit)
    _stamp(out, "site", fingerprint)
    return index


def _downloads(out: Path, state: Pin) -> None:
    """Put the notebooks that are offered into the site of each language."""
    for language in (languages.FIRST, *languages.editions()):
        downloads.put(out / "notebooks", _site(out, language), state)


def _site(out: Path, language: str) -> Path:
    """The folder of a language's site."""
    return out / "html" / ("" if language == languages.FIRST else language)


def stage(folder: Path, executed: Path) -> None:
    """Put pages and executed notebooks into a new folder, as Sphinx takes them.

    Raises:
        ConfigError: a notebook of the book has not been executed.
    """
    missing = [n for n in table_of_contents() if not (executed / f"{n}.ipynb").is_file()]
    if missing:
        named = ", ".join(missing[:3]) + ", ..." * (len(missing) > 3)
        raise ConfigError(
            f"{executed}: {len(missing)} notebooks of the book have not been executed ({named}); "
            "run `make book` first"
        )
    root = paths.root()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in _settings(root):
        shutil.copy2(path, folder / path.name)
    shutil.copytree(root / "book", folder / "book")
    (folder / "notebooks").mkdir()
    for name in table_of_contents():
        notebooks.stage(executed / f"{name}.ipynb", folder / "notebooks")


def _side_by_side(folders: Mapping[str, Path], out: Path) -> None:
    """Build the site of each language, each in a process of its own; raises what the first that fails
    raises."""

    def one(language: str) -> None:
        end = "" if language == languages.FIRST else f"-{language}"
        sphinx(folders[language], "html", log=out / f"build{end}.log")

    with ThreadPoolExecutor(max_workers=min(len(folders), os.cpu_count() or 1)) as pool:
        list(pool.map(one, folders))


def sphinx(folder: Path, builder: str, *, log: Path) -> None:
    """Build what is staged into `_build/<builder>` of its folder, with warnings as errors; a
    `UserError` that names their causes where it does not build."""
    command = [
        sys.executable,
        "-c",
        "from jupyter_book.cli.main import main; main()",
        "build",
        str(folder),
        "--path-output",
        str(folder),
        "--builder",
        builder,
    ]
    command += ["-W", "--all", "--keep-going"]
    # what a build makes last
    made = {"html": "index.html", "singlehtml": "objects.inv"}
    run(
        command,
        folder / "_build" / builder / made[builder],
        what="the book",
        log=log,
        folder=folder,
    )


def run(command: Sequence[str], made: Path, *, what: str, log: Path, folder: Path) -> None:
    """Run a build and keep what it says; a `UserError` that names the causes where it fails, or does
    not make what it should."""
    result = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    log.write_text(result.stdout, encoding="utf-8")
    if result.returncode or not made.is_file():
        raise UserError(f"{what} did not build ({log}):\n{causes(result.stdout)}")


def built_from(out: Path) -> tuple[str, bool]:
    """The commit of the site in this folder, and whether the checkout differed from it: as it was
    when the site was built."""
    commit, _, changed = _stamps(out).get(COMMIT, "unknown False").partition(" ")
    return commit, changed == "True"


def committed(commit: str) -> datetime | None:
    """When a commit was made, in UTC; None where git does not know it."""
    told = subprocess.run(
        ["git", "-C", paths.root(), "show", "-s", "--format=%ct", commit],
        capture_output=True,
        text=True,
        check=False,
    )
    stamp = told.stdout.strip()
    return datetime.fromtimestamp(int(stamp), UTC) if stamp.isdigit() else None


def causes(log: str) -> str:
    """The warnings and errors of a build, which a build that failed ends far behind; its end where
    there are none."""
    lines = log.splitlines()
    causes = [line for line in lines if "WARNING:" in line or "ERROR:" in line]
    return "\n".join(causes or lines[-40:])


def table_of_contents() -> list[str]:
    """The notebooks of the book in the order of work: main_table first, for the others read what it
    trained, then those that are slow without training anything."""
    tree = strict_yaml.read(paths.root() / "_toc.yml")
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
    return sorted(found, key=lambda name: (name != "main_table", name not in SLOW))


def update_readme() -> None:
    """Replace what stands between the markers in README.md by the recorded main table, and the place
    for the shipped student's picture there and on the book's first page."""
    path = paths.root() / "README.md"
    if not path.is_file():
        raise UserError(f"{path}: not found; run from the checkout, or set DALIB_ROOT to it")
    table = tables.readme_table(recorded("main_table"))
    front.put(path, "main-table", table)
    front.update()


def execute(out: Path, profile: str) -> None:
    """Execute the notebooks that are out of date, two at a time, into the folder `out`, and say a
    line for each; raises what the first that fails raises."""
    prints = {
        name: _digest([notebooks.notebook(name), *_inputs()], profile)
        for name in table_of_contents()
    }
    stamps = _stamps(out.parent)
    stale = [
        n
        for n, mark in prints.items()
        if stamps.get(n) != mark or not (out / f"{n}.ipynb").exists()
    ]

    count = Countdown(out, stale)
    os.environ.update(allocation.environment())  # which the kernels inherit

    def work(name: str) -> None:
        begun = time.perf_counter()
        path = notebooks.notebook(name)
        notebooks.execute(path, out / path.name, given(name, profile), show=False)
        _stamp(out.parent, name, prints[name])
        print(count.line(name, time.perf_counter() - begun), flush=True)

    with _threads(min(lanes.LANES, len(stale))), _quiet("papermill"):
        lanes.run(stale, work, lambda name: claims(name, profile))


class Countdown:
    """A line for each notebook that is done, with the time left for the others.

    A notebook is expected to take as long as it took the last time, as its last result says; one
    that was never executed as long as those of this build have taken on average.

    Args:
        out: where results of earlier builds lie.
        names: of the notebooks to be executed.
    """

    def __init__(self, out: Path, names: Sequence[str]):
        self.waiting = {name: _last_seconds(out / f"{name}.ipynb") for name in names}
        self.total, self.taken = len(names), []
        self._lock = threading.Lock()

    def line(self, name: str, seconds: float) -> str:
        """What is said when a notebook is done."""
        with self._lock:
            del self.waiting[name]
            self.taken.append(seconds)
            done = f"[{len(self.taken)}/{self.total}] {name}: {seconds:.0f} s"
            if not self.waiting:
                return done
            usual = sum(self.taken) / len(self.taken)
            left = sum(known or usual for known in self.waiting.values())
            left /= min(lanes.LANES, len(self.waiting))
            return f"{done}, about {left:.0f} s left"


def _last_seconds(path: Path) -> float | None:
    """How long the execution took whose result lies at `path`; None where there is none."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        return float(tree["metadata"]["papermill"]["duration"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Only warnings of a logger, while a block runs."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)


def claims(name: str, profile: str) -> set[str]:
    """Hashes of the runs that a notebook may train, or whose pseudo labels it may make: two that
    share one must not run at once.

    A notebook with the parameter `profile` trains the rows of its own experiment, and those of
    `main_table` that it shows; what is trained and recorded already it leaves alone.
    """
    values = given(name, profile)
    if "profile" not in values or not values.get("train", True):
        return set()
    # seconds to import, which a build that executes nothing can do without
    from dalib.training import launch, pseudo

    def labelled(student: RunConfig) -> bool:
        """Whether its teacher is trained and its pseudo labels are there."""
        if student.teacher_run() is None:  # given
            return True
        labels = launch.folder(student.teacher_run()).glob(f"pseudo-*/{pseudo.MANIFEST}")
        return launch.trained(student.teacher_run()) and (
            student.labelling == "online" or any(labels)
        )

    found = set()
    for experiment in {"main_table", name} & set(experiments()):
        for entry in records.entries(expand(experiment, profile=profile)):
            if entry.status != "fresh" or not launch.trained(entry.config):
                found.add(entry.config.hash())
                if entry.config.pseudo_labels and not labelled(entry.config):
                    found.add(entry.config.teacher_run().hash())
                start = entry.config.start_run()
                if start is not None and not launch.trained(start):
                    found |= {start.hash(), *(r.hash() for r in start.prerequisites().values())}
    return found


@contextmanager
def _threads(kernels: int) -> Iterator[None]:
    """Share the cores among kernels that run side by side, unless OMP_NUM_THREADS is set: more
    threads than cores are slower."""
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // max(1, kernels)))
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


def given(name: str, profile: str) -> dict[str, object]:
    """The parameters that the book passes to a notebook: the profile, and `train=False` where its
    experiment is not trained here."""
    known, values = notebooks.parameters(notebooks.notebook(name)), {}
    if "profile" in known:
        values["profile"] = profile
    if name in experiments() and not expand(name, profile=profile).trained_in_book:
        values["train"] = False
    return values


def _inputs() -> list[Path]:
    """What every notebook may read: the library, code beside the notebooks, the experiments, the
    paper's tables, committed records."""
    root = paths.root()
    code = [*sorted((root / "dalib").rglob("*.py")), *sorted((root / "dabook").rglob("*.py"))]
    settings = [p for p in (root / "experiments.yaml", root / "students.yaml") if p.is_file()]
    shipped = [p for p in (paths.shipped_weights(),) if p.is_file()]
    return [*code, *settings, *shipped, *sorted((root / "data").rglob("*.*"))]


def _settings(root: Path) -> list[Path]:
    """What lies at the top of the checkout and makes the site: its settings, its contents, and what
    changed, which a page includes."""
    names = ("_config.yml", "_toc.yml", "CHANGELOG.md")
    return [root / name for name in names if name != "CHANGELOG.md" or (root / name).is_file()]


def _site_inputs(executed: Path) -> list[Path]:
    root = paths.root()
    book = [p for p in sorted((root / "book").rglob("*")) if p.is_file()]
    local = sorted(paths.local_records().rglob("*.json"))
    return [
        *_inputs(),
        *_settings(root),
        *book,
        *local,
        *sorted(executed.glob("*.ipynb")),
    ]


def _digest(files: list[Path], *words: str) -> str:
    digest = hashlib.sha256(repr(words).encode())
    for file in files:
        digest.update(str(file).encode() + file.read_bytes())
    return digest.hexdigest()


def _stamps(out: Path) -> dict[str, str]:
    try:
        stamps = json.loads((out / STAMPS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _stamp(out: Path, name: str, fingerprint: str) -> None:
    with _stamping:
        stamps = _stamps(out) | {name: fingerprint}
        partial = out / (STAMPS + ".partial")
        partial.write_text(json.dumps(stamps, indent=1))
        os.replace(partial, out / STAMPS)
