"""The site as one zip, to be read without a network: unpack it, open `index.html`.

The same site gives the same bytes: files in the order of their names, dated by the commit. Notebooks
write where they ran into what they show; paths of this machine are told as paths in the checkout.
"""

import os
import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from dabook.site import build, languages
from dalib import paths
from dalib.errors import ConfigError, UserError
from dalib.writing import whole

NAME = "depth-anything-book"
TEXTS = {".html", ".ipynb", ".js", ".json", ".txt", ".css", ".md", ".svg", ".xml", ".inv", ".map"}
"""Endings of what may name a path; other files are taken as they are."""
LEFT_OUT = {".buildinfo", ".doctrees", ".nojekyll"}
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip knows; of a site outside git."""
README = """\
{title}
commit {commit}

Unpack this folder and open index.html in a browser. Nothing is loaded from the network: figures that
move, formulas and the search work without one.

book/        the chapters
notebooks/   the executed notebooks; each page has a button that downloads its notebook
records/     the record behind each number, as a page and as JSON
{others}{changed}"""
OTHER = "{language}/          the book in {name}\n"
CHANGED = """
The checkout that this site was built from differed from its commit.
"""


def archive() -> Path:
    """Pack the site that `make book` built; returns the zip."""
    root = paths.root()
    site = root / "_build" / "html"
    if not (site / "index.html").is_file():
        raise ConfigError(f"{site}: no site here; run `make book` first")
    commit, dirty = build.built_from(root / "_build")
    name = f"{NAME}-{commit}"
    target = root / "_build" / f"{name}.zip"
    others = [
        OTHER.format(language=language, name=languages.NAMES.get(language, language))
        for language in languages.editions()
        if (site / language).is_dir()
    ]
    readme = README.format(
        title="Depth Anything, rebuilt from its parts",
        commit=commit,
        others="".join(others),
        changed=CHANGED * dirty,
    )
    with whole(target) as partial:
        pack(site, partial, folder=name, readme=readme, moment=moment(commit), places=places())
    return target


def places() -> dict[str, str]:
    """Folders of this machine that a page may name -> how the zip names them."""
    data = {"realdepth": paths.realdepth(), **{name: paths.pool(name) for name in paths.POOLS}}
    found = {str(folder): name for name, folder in data.items() if str(folder) != os.devnull}
    found |= {str(paths.root().parent / "shared"): "../shared"}
    found |= {str(paths.runs()): "runs", str(paths.root()): ""}
    return {**found, **{str(Path(path).resolve()): name for path, name in found.items()}}


def moment(commit: str) -> tuple[int, ...]:
    """When a commit was made, in UTC; the first moment of a zip where git does not know it."""
    made = build.committed(commit)
    return made.timetuple()[:6] if made else EARLIEST


def pack(
    site: Path,
    target: Path,
    *,
    folder: str,
    readme: str,
    moment: tuple[int, ...] = EARLIEST,
    places: Mapping[str, str] | None = None,
) -> None:
    """Write a site into a zip.

    Args:
        site: the folder with `index.html`.
        target: the zip, which is written anew.
        folder: everything lies in it.
        readme: the text of `README.txt`.
        moment: the date of every file: year, month, day, hour, minute, second.
        places: paths of this machine -> what stands for them; what else names the home of the user
            or the environment of Python is refused.

    Raises:
        UserError: a file names a path of this machine that `places` does not know.
    """
    found = {path.relative_to(site).as_posix(): path for path in sorted(site.rglob("*"))}
    files = {
        name: path
        for name, path in found.items()
        if path.is_file() and not LEFT_OUT & set(Path(name).parts)
    }
    telling = {}
    with zipfile.ZipFile(target, "w") as packed:
        for name in sorted([*files, "README.txt"]):
            if name == "README.txt":
                data = readme.encode()
            else:
                data = files[name].read_bytes()
                if files[name].suffix in TEXTS:
                    data = told(data, places or {})
                    if known := left(data):
                        telling[name] = known[0]
            info = zipfile.ZipInfo(f"{folder}/{name}", moment)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            info.create_system = 3  # Unix, whatever this machine is
            packed.writestr(info, data, compresslevel=9)
    if telling:
        name, path = next(iter(telling.items()))
        raise UserError(
            f"{len(telling)} files of the site name folders of this machine ({name}: {path}); run the "
            "notebooks of these pages with paths in the checkout"
        )


def told(data: bytes, places: Mapping[str, str]) -> bytes:
    """A text with paths of this machine as the zip names them, plain and in addresses."""
    for path in sorted(places, key=len, reverse=True):
        for form, slash in ((path, "/"), (quote(path, safe=""), "%2F")):
            name = places[path].encode()
            begin = re.escape(form.encode())
            if name:
                data = re.sub(begin + rb"(?![\w.-])", name, data)
            else:  # what lies in it is named from here
                data = re.sub(begin + re.escape(slash.encode()), b"", data)
                data = re.sub(begin + rb"(?![\w.-])", b".", data)
    return data


def left(data: bytes) -> list[str]:
    """Folders of this machine that a text still names: the user's home and Python's environment."""
    # short ones, such as / or /root, are in texts that mean no machine
    folders = {str(Path.home()), sys.prefix, *places()}
    return sorted(f for f in folders if len(Path(f).parts) > 2 and f.encode() in data)
