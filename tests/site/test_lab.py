"""Notebooks as a reader meets them in JupyterLab: one of each kind run there cell by cell, and every
notebook that `make book` has executed, which is what the site offers for download.

Skips where there is no Chromium; the executed notebooks are left out where the book is not built.
DALIB_SCREENSHOTS names a folder for a picture of each notebook.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from helpers import ROOT
from helpers.browser import launched
from nbformat.sign import NotebookNotary

from dabook.site import notebooks
from dalib import paths

LIVE = ("main_table", "adapt", "by_hand", "losses", "students", "your_photos")
"""One of each kind: rows trained, a student of one's own, figures that move, text and code, records
alone, photographs."""
EXECUTED = sorted((paths.root() / "_build" / "notebooks").glob("*.ipynb"))
START, RUN = 120, 900  # seconds for JupyterLab to come up, and for one notebook to run
RAW = re.compile(r"\{[a-z][\w:-]*\}|:::|```")
"""A role or directive of MyST, as JupyterLab shows one: letter by letter."""
SHOWN = "div.jp-NotebookPanel:not(.lm-mod-hidden)"

pytestmark = pytest.mark.slow


def smoke(source: Path, target: Path) -> None:
    """Copy a notebook with its parameter `profile`, where it has one, set to `smoke`."""
    notebook = nbformat.read(source, as_version=4)
    if "profile" in notebooks.parameters(source):
        cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
        cell.source, changed = re.subn(
            r'^profile = "\w+"', 'profile = "smoke"', cell.source, flags=re.M
        )
        assert changed == 1
    nbformat.write(notebook, target)


def trusted(source: Path, target: Path, notary: NotebookNotary) -> None:
    """Copy an executed notebook whose figures may move: JupyterLab believes those alone that were
    executed here, or that the reader says are trusted."""
    notebook = nbformat.read(source, as_version=4)
    notary.sign(notebook)
    nbformat.write(notebook, target)


def setting(root: Path, name: str, **values: object) -> None:
    """A setting of JupyterLab, as its own dialogue would write it."""
    path = root / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory, smoke_runs):
    """The address of a JupyterLab with the notebooks, which finds nothing of the user's own."""
    pytest.importorskip("jupyterlab")
    root = tmp_path_factory.mktemp("lab")
    for folder in ("notebooks", "executed", "jupyter_data_dir"):
        (root / folder).mkdir()
    for name in LIVE:
        smoke(notebooks.folder() / f"{name}.ipynb", root / "notebooks" / f"{name}.ipynb")
    notary = NotebookNotary(data_dir=str(root / "jupyter_data_dir"))
    for path in EXECUTED:
        trusted(path, root / "executed" / path.name, notary)
    # cells that are out of sight are part of the page, too; and nothing is asked of the network
    setting(root, "notebook-extension/tracker", windowingMode="none")
    setting(root, "apputils-extension/notification", fetchNews="false", checkForUpdates=False)
    own = {name: str(root / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    own |= {name: str(root / name.lower()) for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(root / "settings"), "DALIB_RUNS": str(smoke_runs)}
    own |= {"JUPYTERLAB_WORKSPACES_DIR": str(root / "workspaces"), "JUPYTER_PREFER_ENV_PATH": "1"}
    own |= {"DALIB_ROOT": str(ROOT), "DALIB_REALDEPTH": "none", "PYTHONPATH": str(ROOT)}
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    command += [
        f"--ServerApp.root_dir={root}",
        "--IdentityProvider.token=",
        "--expose-app-in-browser",
    ]
    log = (root / "lab.log").open("w")
    with log, subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(address + "/api/status", server, root / "lab.log")
            yield address
        finally:
            server.terminate()


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    """Return as soon as an address answers."""
    last = time.monotonic() + START
    while time.monotonic() < last:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"no answer from {address}: {log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def context():
    """One browser's window for all notebooks, which fetches and compiles JupyterLab once."""
    with launched() as running:
        yield running.new_context(viewport={"width": 1280, "height": 1000})


RUN_ALL = """() => {
  const app = window.jupyterapp;
  window.ended = null;
  app.commands.execute('notebook:run-all-cells').then(
    () => { window.ended = 'run'; }, error => { window.ended = String(error); });
}"""
TEXTS = """what => [...document.querySelectorAll(what)].map(element => element.innerText)"""
PROSE = """what => [...document.querySelectorAll(what)].map(element => {
  const copy = element.cloneNode(true);
  copy.querySelectorAll('pre, code').forEach(code => code.remove());
  return copy.textContent;
})"""
TYPESET = f"""what => !({PROSE})(what).some(text => /\\$[^$\\n]+\\$/.test(text))"""


IDLE = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
CLOSING = re.compile("^Disposed$|Canceled future")
"""What JupyterLab says of the kernel of the notebook before, which it has just closed."""
DRAWN = """([what, count]) => {
  const cells = [...document.querySelectorAll(what)];
  return cells.length === count
    && cells.every(cell => !cell.querySelector('.jp-Cell-Placeholder, .jp-Placeholder'))
    && cells.every(cell =>
      [...cell.querySelectorAll('.jp-RenderedMarkdown')].every(e => e.textContent.trim()));
}"""
OPEN = """async path => {
  const app = window.jupyterapp;
  for (const widget of app.shell.widgets('main'))
    if (widget.context) widget.context.model.dirty = false;  // else it asks whether to save
  await app.commands.execute('application:close-all');
  await app.serviceManager.sessions.shutdownAll();
  await app.commands.execute('docmanager:open', {path});
}"""


@pytest.fixture(scope="module")
def reader(context, lab):
    """A page of JupyterLab that opens one notebook after another, and what went wrong in it."""
    page = context.new_page()
    trouble = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(f"{lab}/lab?reset", timeout=1000 * START)
    page.wait_for_function("window.jupyterapp?.shell", timeout=1000 * START)
    page.evaluate("window.jupyterapp.restored.then(() => true)")
    yield page, trouble
    page.close()


@pytest.fixture
def page(context, lab):
    page = context.new_page()
    trouble = []
    page.on("pageerror", lambda error: trouble.append(str(error)))  # of a figure's script, too
    yield page
    assert not trouble
    page.evaluate("window.jupyterapp?.serviceManager.sessions.shutdownAll()")
    page.close()


def check(page) -> None:
    """What has to be so of a notebook whose cells have run."""
    page.wait_for_function(TYPESET, arg=f"{SHOWN} .jp-RenderedMarkdown", timeout=1000 * START)
    errors = page.evaluate(TEXTS, f'{SHOWN} [data-mime-type="application/vnd.jupyter.error"]')
    assert not errors, "\n".join(errors)
    code = page.locator(f"{SHOWN} .jp-CodeCell").count()
    prompts = page.evaluate(TEXTS, f"{SHOWN} .jp-CodeCell .jp-InputPrompt")
    assert code == sum(bool(re.search(r"\[\d+\]", text)) for text in prompts), "a cell has not run"

    read = page.evaluate(PROSE, f"{SHOWN} .jp-RenderedMarkdown")
    assert read
    assert not [text for text in read if RAW.search(text)]
    concluded = page.evaluate(TEXTS, f"{SHOWN} .jp-OutputArea-output.jp-RenderedMarkdown")
    assert any(re.search(r"\d", text) for text in concluded), "no conclusion has a number"
    asleep = page.locator(f"{SHOWN} .dalib-touch:not([data-awake])").count()
    assert not asleep, "a figure that should answer to the hand does not"
    hidden = page.evaluate(TEXTS, f"{SHOWN} .jp-TrimmedOutputs")
    assert not hidden, "a cell has more outputs than JupyterLab shows"


@pytest.mark.parametrize("name", LIVE)
def test_a_notebook_runs_and_reads_well_in_jupyterlab(name, page, lab):
    page.goto(f"{lab}/lab/tree/notebooks/{name}.ipynb?reset", timeout=1000 * START)
    page.wait_for_selector(f"{SHOWN} .jp-Cell", timeout=1000 * START)
    page.wait_for_function(IDLE, timeout=1000 * START)
    page.evaluate(RUN_ALL)
    page.wait_for_function("window.ended !== null", timeout=1000 * RUN)
    picture(page, name)
    assert page.evaluate("window.ended") == "run"
    check(page)


@pytest.mark.parametrize("path", EXECUTED, ids=lambda p: p.stem)
def test_an_executed_notebook_reads_well_in_jupyterlab(path, reader):
    page, trouble = reader
    trouble.clear()
    page.evaluate(OPEN, f"executed/{path.name}")
    count = len(nbformat.read(path, as_version=4).cells)
    page.wait_for_function(DRAWN, arg=[f"{SHOWN} .jp-Cell", count], timeout=1000 * START)
    picture(page, f"executed-{path.stem}")
    page.wait_for_function(IDLE, timeout=1000 * START)  # a kernel that starts is no good to close
    check(page)
    assert not [each for each in trouble if not CLOSING.search(each)]


def picture(page, name: str) -> None:
    """Keep the notebook as it is seen, where a folder is named for it."""
    if "DALIB_SCREENSHOTS" not in os.environ:
        return
    height = page.evaluate(
        "shown => Math.max(...[...document.querySelectorAll(shown + ' .jp-WindowedPanel-outer')]"
        ".map(element => element.scrollHeight))",
        SHOWN,
    )
    page.set_viewport_size({"width": 1280, "height": min(int(height) + 150, 15000)})
    page.evaluate(
        "shown => document.querySelectorAll(shown + ' .jp-WindowedPanel-outer')"
        ".forEach(element => element.scrollTo(0, 0))",
        SHOWN,
    )
    page.wait_for_timeout(1000)
    page.screenshot(path=Path(os.environ["DALIB_SCREENSHOTS"]) / f"lab-{name}.png")


def test_what_is_looked_for_would_be_found():
    """As JupyterLab renders them, a role loses its quotes and nothing else."""
    for text in (
        "{glue:text}v2_answer:s",
        "{cite}yang2024",
        "{eq}eq-affine",
        ":::{note}",
        "```{x}",
    ):
        assert RAW.search(text)
    assert not RAW.search("a cosine of 0.85; L_feat; {1, 2}")
