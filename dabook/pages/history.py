"""What was changed after results of it had been seen: dates and commits as data, and their
table."""

from html import escape
from pathlib import Path

from dabook.runs.experiments import check_keys
from dabook.show.html import Html, html
from dalib import paths, strict_yaml
from dalib.errors import ConfigError


def touches(path: Path | None = None) -> list[dict[str, str]]:
    """The lines of `data/history.yaml` or another such file, each with `commit`, `date` and `what`; a
    damaged file is a `ConfigError` that names it."""
    path = path or paths.history()
    found = strict_yaml.read(path)
    if not isinstance(found, list):
        raise ConfigError(f"{path.name}: expected a list of changes, got {type(found).__name__}")
    for number, touch in enumerate(found, 1):
        check_keys(touch, f"change {number}", file=path.name, required=("commit", "date", "what"))
    return [{key: str(value) for key, value in touch.items()} for touch in found]


def table(path: Path | None = None) -> Html:
    """One line per change, in the order of the history; a sentence where there is none.

    Args:
        path: of the list, that of the present study by default.
    """
    found = touches(path)
    if not found:
        return Html("<p>No such change is noted.</p>")
    lines = {
        str(k): {
            "commit": f"<code>{escape(t['commit'][:7])}</code>",
            "what was changed": escape(t["what"]),
        }
        for k, t in enumerate(found)
    }
    columns = {"what was changed": "text"}
    return html(lines, [t["date"] for t in found], classes=columns, name="history")
