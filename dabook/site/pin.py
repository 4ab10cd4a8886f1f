"""Which commit of the book a notebook belongs to that has left the checkout, and how to get the library
of it."""

import re
from dataclasses import dataclass

import nbformat
import yaml

from dalib import paths, provenance
from dalib.errors import ConfigError

UNKNOWN = "unknown"
ARCHIVED = "COMMIT"
"""The file that `git archive` writes the whole commit into (`.gitattributes`): what is unpacked
elsewhere, a handout for instance, knows where it comes from."""
PIN = "pin"
"""The id of the cell that says which commit a notebook belongs to."""
REQUIREMENTS = "requirements.txt"
"""What lies beside pinned notebooks, and says what they need."""
URL = re.compile(r"https://[\w.-]+/\S+")


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A state of the book.

    Args:
        commit: twelve digits, or "unknown" outside of git.
        dirty: whether something that is committed was changed since.
        url: of the repository; "" where it has none yet.
    """

    commit: str
    dirty: bool
    url: str

    @property
    def words(self) -> str:
        """For a comment."""
        if self.commit == UNKNOWN:
            return "made outside of git, so that the commit is not known"
        made = f"belongs to commit {self.commit} of the book"
        changed = ", and was made with uncommitted changes: what it shows may differ"
        return made + (changed if self.dirty else "")


def pin() -> Pin:
    """Of this checkout.

    Raises:
        ConfigError: `_config.yml` has no `repository.url`, or one that is no address.
    """
    commit, dirty = _here()
    return Pin(commit=commit, dirty=dirty, url=_url())


def _here() -> tuple[str, bool]:
    """The commit of this checkout, or of the archive that was unpacked here; whether the checkout was
    changed since."""
    commit, dirty = provenance.commit()
    path = paths.root() / ARCHIVED
    if commit == UNKNOWN and path.is_file():
        found = re.fullmatch(r"[0-9a-f]{40}", path.read_text(encoding="utf-8").strip())
        commit = found[0][:12] if found else UNKNOWN
    return commit, dirty


def _url() -> str:
    path = paths.root() / "_config.yml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        url = content["repository"]["url"] or ""
    except OSError as error:
        raise ConfigError(
            f"{path}: not found; run from the checkout, or set DALIB_ROOT to it"
        ) from error
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: has no repository.url; write it, or leave it empty") from error
    if url and not (isinstance(url, str) and URL.fullmatch(url)):
        raise ConfigError(
            f"{path}: repository.url is {url!r}; write https://..., or leave it empty"
        )
    return url.rstrip("/")


def pinned(found: nbformat.NotebookNode, state: Pin) -> nbformat.NotebookNode:
    """A notebook with the `cell` of a state below its title."""
    result = nbformat.from_dict(found)
    result.cells.insert(1, nbformat.v4.new_code_cell(cell(state), id=PIN))
    return result


def cell(state: Pin) -> str:
    """The first code cell of a notebook: says which commit it belongs to, gets the library where it
    is missing and can be had, and says whether it is the right one."""
    lines = [f"# This notebook {state.words}."]
    if state.url:
        lines += [
            "import importlib.util",
            "import sys",
            "",
            'if importlib.util.find_spec("dabook") is None:  # as on Colab: takes minutes',
            f"    !git clone --quiet {state.url} book",
        ]
        if state.commit != UNKNOWN:
            lines.append(f"    !git -C book checkout --quiet {state.commit}")
        lines += [
            '    %pip install --quiet --editable "./book[runs]"',
            '    sys.path.insert(0, "book")',
            "",
        ]
    else:
        lines.append("# It needs the book's own environment: `make lab` in a checkout opens it.")
    return "\n".join([*lines, "from dabook.site.pin import belongs_to", "", _call(state)])


def _call(state: Pin) -> str:
    return f'belongs_to("{state.commit}")'


def requirements(state: Pin) -> str:
    """A `requirements.txt` for the notebooks."""
    lines = [f"# What the notebooks beside this file need. Their library {state.words}."]
    if state.url:
        at = "" if state.commit == UNKNOWN else f"@{state.commit}"
        # editable: records and settings lie beside the packages
        lines.append(f"--editable git+{state.url}{at}#egg=depth-anything-book[lab]")
    else:
        lines += [
            "# The repository has no public address yet. In a checkout of that commit:",
            "#     python -m pip install --constraint constraints.txt --editable '.[lab]'",
        ]
    return "\n".join(lines) + "\n"


def belongs_to(commit: str) -> None:
    """Print whether the library that is here is of the commit that a notebook belongs to."""
    here, dirty = _here()
    changed = " with uncommitted changes" if dirty else ""
    if UNKNOWN in (here, commit):
        print("It is not known whether this library is of the notebook's commit.")
    elif here == commit and not dirty:
        print(f"The library is of commit {here}, like this notebook.")
    else:
        print(
            f"note: the library is of commit {here}{changed}, this notebook of {commit}; what it "
            "shows may differ"
        )
