"""A page in headless Chromium, without a network."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def launched() -> Iterator:
    """Chromium; the test is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


def watch(tab) -> list[str]:
    """Keep the network from a tab, and collect what goes wrong in it."""
    trouble: list[str] = []
    tab.route(
        lambda url: not url.startswith(("file:", "data:", "blob:")), lambda route: route.abort()
    )
    tab.on("requestfailed", lambda r: trouble.append(f"request failed: {r.url}"))
    tab.on("console", lambda m: m.type == "error" and trouble.append(f"console: {m.text}"))
    tab.on("pageerror", lambda e: trouble.append(f"error: {e}"))
    return trouble


@contextmanager
def opened(path: Path, **context: object) -> Iterator[tuple]:
    """A tab with this page, and the list of what goes wrong in it.

    Args:
        path: of the page.
        context: of playwright's context, such as `color_scheme` or `java_script_enabled`.
    """
    with launched() as browser:
        tab = browser.new_context(**context).new_page()
        trouble = watch(tab)
        tab.goto(path.as_uri(), wait_until="load")
        yield tab, trouble
