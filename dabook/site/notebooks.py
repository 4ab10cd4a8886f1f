"""Notebooks through papermill: in this very Python, strict about files and parameters, whole or not
at all."""

import ast
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dabook.runs import progress
from dalib import paths, strict_yaml
from dalib.config import check_names
from dalib.errors import ConfigError, DataError, UserError
from dalib.strict_yaml import brief

try:
    import ipykernel  # noqa: F401  (what a kernel is started with)
    import nbformat
    import papermill as pm
    from IPython.core.inputtransformer2 import TransformerManager
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from papermill.exceptions import PapermillExecutionError
    from traitlets import default

    from dabook.site.kernels import Provisioner
except ImportError as error:
    raise ConfigError(
        f"notebooks need {error.name}, which is not installed: pip install -e '.[runs]'"
    ) from error

PARAMETERS, INJECTED = "parameters", "injected-parameters"  # papermill's tags of cells
ERROR_NOTE = "papermill-error-cell-tag"
CAPTION, FIGURE = "caption", "**Figure.** "  # tag of a figure's caption, and how its text begins
FIRST = "first"  # tag of what a reader of the book sees first: the answer, its figure, its table
TEACHES = "teaches"  # tag of code that is worth reading; other code is folded
QUESTION = "## The question"  # heads what then follows of the notebook's first cell
HIDDEN, FOLDED = "remove-cell", "hide-input"  # MyST's tags
PYTHON = ("python", "python3", "ipython")
NULL = ("null", "Null", "NULL", "~")  # how YAML writes None
# where a notebook says which one it is in
LANGUAGES = (("language_info", "name"), ("kernelspec", "language"))
# of defaults, as messages name them
KINDS = {kind: kind.__name__ for kind in (bool, int, float, str)}
KINDS |= {
    list: "list, such as [1, 2]",
    tuple: "list, such as [1, 2]",
    dict: "mapping, such as {a: 1}",
}


def notebook(name: str) -> Path:
    """The notebook of this name; an unknown one is a `ConfigError` that lists the known ones."""
    known = sorted(p.stem for p in folder().glob("*.ipynb"))
    if not known:
        raise ConfigError(
            f"{folder()}: no notebooks here; run from the checkout, or set DALIB_ROOT to it"
        )
    check_names([name], known, what="notebook")
    return folder() / f"{name}.ipynb"


def folder() -> Path:
    """Where the notebooks lie."""
    return paths.root() / "notebooks"


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook in the current format.

    Raises `DataError` for a file that is damaged or too old, `ConfigError` for another language,
    each naming the file.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:  # empty, cut off, or not JSON in UTF-8
        what = "empty" if path.stat().st_size == 0 else f"damaged or no notebook ({error})"
        raise DataError(
            f"{path}: {what}; restore it, for example: git checkout -- {path.name}"
        ) from error
    if not isinstance(tree, dict) or not isinstance(tree.get("nbformat"), int):
        raise DataError(
            f"{path}: JSON, but not a notebook (it has no nbformat); name a notebook that Jupyter "
            "has saved"
        )
    version = tree["nbformat"]
    if version < 4:
        upgrade = f"import nbformat; nbformat.write(nbformat.read({str(path)!r}, 4), {str(path)!r})"
        raise DataError(
            f"{path}: in the old notebook format {version}; keep a copy and upgrade it: python -c "
            f'"{upgrade}"'
        )
    if version > nbformat.current_nbformat:
        raise DataError(
            f"{path}: in notebook format {version}, newer than the installed nbformat reads; "
            "update nbformat"
        )
    try:
        found = nbformat.v4.upgrade(nbformat.v4.to_notebook_json(tree))
        _, found = nbformat.validator.normalize(found)
        nbformat.validate(found)
    except (nbformat.ValidationError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{path}: not a valid notebook ({reason}); open it in Jupyter and save it again"
        ) from error
    _check_language(path, found)
    return found


def _check_language(path: Path, found: nbformat.NotebookNode) -> None:
    named = [found.metadata.get(section, {}).get(key) for section, key in LANGUAGES]
    other = [language for language in named if language and str(language).lower() not in PYTHON]
    if other:
        raise ConfigError(f"{path}: a notebook in {other[0]}; only Python notebooks are run here")


def stage(executed: Path, folder: Path) -> None:
    """Put an executed notebook into a folder as the book takes it.

    In a notebook a caption is a Markdown cell below its figure, tagged `caption`, so that JupyterLab
    shows it too. Here it goes into the figure's cell, where MyST looks for it and numbers it. What
    is kept for other pages becomes outputs of their own. Parameters are not shown.

    A notebook runs from the question to the answer; a page has the answer first: cells tagged
    `first` follow its title. Code is folded unless it is tagged `teaches`.
    """
    from dabook.site.glue import unfold  # what an analysis needs, and a run does not

    found, cells = read(executed), []
    for cell in found.cells:
        if cell.cell_type == "code":
            cell.outputs = [nbformat.from_dict(output) for output in unfold(cell.outputs)]
        if CAPTION not in cell.metadata.get("tags", ()):
            cells.append(cell)
            continue
        figure = cells[-1].metadata.get("mystnb", {}).get("figure") if cells else None
        if figure is None:
            raise ConfigError(
                f"{executed.name}, cell {cell.id}: tagged {CAPTION}, but the cell above it is no "
                "figure; give that one the metadata mystnb.figure.name"
            )
        figure["caption"] = cell.source.removeprefix(FIGURE).strip()
    found.cells = _answer_first(cells)
    nbformat.write(found, folder / executed.name)


def _answer_first(cells: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The cells of a page: parameters unseen, code folded, and below the title what is tagged
    `first`."""
    for cell in cells:
        tags = set(cell.metadata.get("tags", ()))
        if {PARAMETERS, INJECTED} & tags:
            _tag(cell, HIDDEN)
        elif cell.cell_type == "code" and not {TEACHES, FOLDED} & tags:
            _tag(cell, FOLDED)
    first = [cell for cell in cells if FIRST in cell.metadata.get("tags", ())]
    if not first:
        return cells
    title, *rest = cells
    heading, _, question = title.source.partition("\n")
    title.source = heading
    asked = nbformat.v4.new_markdown_cell(
        f"{QUESTION}\n\n{question.strip()}", id=f"{title.id}-question"
    )
    return [title, *first, asked, *(cell for cell in rest if cell not in first)]


def _tag(cell: nbformat.NotebookNode, tag: str) -> None:
    cell.metadata["tags"] = [*cell.metadata.get("tags", ()), tag]


def parameters(path: Path) -> dict[str, type]:
    """A notebook's parameters with the types of their defaults; `object` where a default is None or
    an expression.

    Raises `ConfigError` where several cells claim to hold the parameters, or where one does in a
    way that cannot be read.
    """
    cells = read(path).cells
    tags = [cell.metadata.get("tags", []) for cell in cells]
    if any(INJECTED in t for t in tags):
        raise ConfigError(
            f"{path}: has a cell {INJECTED}, so it is the result of a run; delete that cell, or "
            "run its source"
        )
    held = [k for k, t in enumerate(tags) if PARAMETERS in t]
    if not held:
        return {}
    if len(held) > 1:
        places = ", ".join(str(k + 1) for k in held)
        raise ConfigError(
            f"{path}: several cells are tagged {PARAMETERS} ({places}), and the later would undo "
            "what is given; tag one"
        )
    cell = cells[held[0]]
    if cell.cell_type != "code":
        raise ConfigError(
            f"{path}: cell {held[0] + 1} is tagged {PARAMETERS}, but is no code; tag the cell "
            "that sets them"
        )
    try:
        tree = ast.parse(TransformerManager().transform_cell(cell.source))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(
            f"{path}: the cell {PARAMETERS} (cell {held[0] + 1}) is not valid Python ({error}); "
            "correct it"
        ) from error
    return {name: _kind(value) for name, value in _assigned(tree)}


def _assigned(tree: ast.Module) -> list[tuple[str, ast.expr]]:
    """Names and values of the assignments that stand at the cell's own level."""
    found = []
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            found += [
                (target.id, statement.value)
                for target in statement.targets
                if isinstance(target, ast.Name)
            ]
        elif (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.value
        ):
            found.append((statement.target.id, statement.value))
    return found


def _kind(value: ast.expr) -> type:
    try:
        default_value = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return object  # an expression: only running it would tell
    return type(default_value) if type(default_value) in KINDS else object


def check(path: Path, given: Mapping[str, object]) -> dict[str, object]:
    """The given parameters as values of the types that the notebook's defaults have.

    Text, as the command line has it, is read as YAML: `[1, 2]` is a list, `null` is None. Where a
    default is text, a number is text too. Raises `ConfigError` for an unknown name (papermill
    itself would only log it and go on) or another type.
    """
    known = parameters(path)
    check_names(given, known, what=f"parameter of {path.name}")
    return {name: _value(path, name, value, known[name]) for name, value in given.items()}


def _value(path: Path, name: str, given: object, kind: type) -> object:
    wrong = ConfigError(
        f"{path.name}: parameter {name} takes {KINDS.get(kind)}, not {brief(given)}"
    )
    try:
        value = _typed(given, kind) if isinstance(given, str) else given
    except ConfigError as error:
        raise ConfigError(f"{path.name}: parameter {error}") from error
    except ValueError as error:
        raise wrong from error
    if kind is float and type(value) is int:
        value = float(value)
    fits = {object: object, tuple: (list, tuple)}.get(kind, kind)
    if not isinstance(value, fits) or (isinstance(value, bool) and kind not in (bool, object)):
        raise wrong
    if not _is_plain(value):
        raise ConfigError(
            f"{path.name}: parameter {name}: {brief(given)} is not made of text, numbers, lists "
            "and named values alone"
        )
    return value


def _typed(text: str, kind: type) -> object:
    """A word of the command line as a value; what does not fit the kind is a `ValueError`, or comes
    back as what it is."""
    if kind is int:
        return int(text)
    if kind is float:
        return float(text)
    if kind is bool and text.strip() in ("0", "1"):
        return text.strip() == "1"
    if kind is not str:
        return strict_yaml.parse(text, f"value {text!r}")
    try:
        value = strict_yaml.parse(text, "")
    except ConfigError:
        return text  # such as *.jpg
    if isinstance(value, str) and text[0] in "'\"":
        return value
    meant = isinstance(value, (list, dict)) or text.strip() in NULL
    # as it was typed: YAML would take 3 for a number and cut off what follows a #
    return value if meant else text


def _is_plain(value: object, depth: int = 0) -> bool:
    """Whether papermill can write a value into a cell as it is; it would turn other keys than text
    into text."""
    if isinstance(value, dict):
        return depth < 20 and all(
            isinstance(k, str) and _is_plain(v, depth + 1) for k, v in value.items()
        )
    if isinstance(value, (list, tuple)):
        return depth < 20 and all(_is_plain(v, depth + 1) for v in value)
    return value is None or isinstance(value, (bool, int, float, str))


class _OwnSpecs(KernelSpecManager):
    """Knows one kernel: this interpreter. What is installed under `python3` may be another one, or
    gone."""

    more: Mapping[str, str] = {}  # variables of the kernel

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        # $ would be substituted
        places = {name: value.replace("$", "$$") for name, value in paths.places().items()}
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        command.append("--log-level=CRITICAL")  # else it warns that others might listen
        env = places | {progress.LINES: "1"} | dict(self.more)
        return KernelSpec(argv=command, display_name="Python 3", language="python", env=env)


def _kernel(variables: Mapping[str, str]) -> type[AsyncKernelManager]:
    """What starts a kernel of this interpreter with these variables."""

    class Specs(_OwnSpecs):
        more = variables

    class Kernel(AsyncKernelManager):
        @default("kernel_spec_manager")
        def _own_specs(self) -> KernelSpecManager:
            return Specs()

        def __init__(self, **options: Any):
            super().__init__(**options)
            self.provisioner = Provisioner(kernel_spec=self.kernel_spec, parent=self)

    return Kernel


def own_kernel() -> type[AsyncKernelManager]:
    """What starts a kernel of this interpreter, for who runs a notebook without papermill."""
    return _kernel({})


@contextmanager
def _showing(show: bool) -> Iterator[Mapping[str, str]]:
    """The variables with which a kernel's progress becomes a bar in this terminal; none where there
    is no terminal, or nothing is to be shown."""
    if show and progress.watched() and not progress.in_notebook():
        with progress.received() as variables:
            yield variables
    else:
        yield {}


def execute(path: Path, out: Path, given: Mapping[str, object], *, show: bool = True) -> Path:
    """Run a notebook from start to end in this interpreter, and put the result at `out`; a failed
    run leaves `out` as it was.

    Args:
        path: the notebook.
        out: where the executed notebook goes. A failed one is kept beside it as
            `NAME.failed.ipynb`, for reading.
        given: parameters, see `check`.
        show: pass on what the cells print, and in a terminal draw a bar of what they train.

    Raises:
        ConfigError: an unknown parameter, a value that does not fit, another language.
        DataError: a damaged notebook, or a result that cannot be written.
        UserError: a cell failed, or the kernel died or did not start.
    """
    values = check(path, given)
    partial = out.with_suffix(".partial.ipynb")
    begun = time.perf_counter()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _showing(show) as variables:
            done = pm.execute_notebook(
                _literal(path),
                _literal(partial),
                parameters=values,
                # where the kernel starts, for nbclient: papermill's own `cwd` would move the whole
                # process, and other lanes with it
                resources={"metadata": {"path": str(paths.root())}},
                kernel_name="python3",
                language="python",
                kernel_manager_class=_kernel(variables),
                log_output=show,
                progress_bar=False,
            )
        _check_end(done)
        os.replace(partial, out)
    except PapermillExecutionError as error:
        reason = f"{error.ename}: {' '.join(str(error.evalue).split())}"
        raise _failure(path, partial, out, reason, time.perf_counter() - begun) from error
    except (
        RuntimeError,
        TimeoutError,
        EOFError,
    ) as error:  # nbclient's, when a kernel dies or does not answer
        reason = f"the kernel ({sys.executable}) did not go on: {' '.join(str(error).split())}"
        raise _failure(path, partial, out, reason, time.perf_counter() - begun) from error
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{path.name}: could not be run, or its result not written to {out} ({error})"
        ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return out


def _literal(path: Path) -> str:
    """A path for papermill, which would fill in what stands in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _check_end(done: nbformat.NotebookNode) -> None:
    """`sys.exit()` ends a notebook in peace for papermill, but what comes after has not run."""
    cells = [c for c in done.cells if c.cell_type == "code"]
    for cell in cells[:-1]:
        if any(o.get("ename") == "SystemExit" for o in cell.outputs):
            raise RuntimeError(
                "it ended itself (SystemExit), and the cells that follow did not run"
            )


def _failure(path: Path, partial: Path, out: Path, reason: str, seconds: float) -> UserError:
    """The error of a failed run, which names the cell; its notebook is kept, marked as failed."""
    where, kept = "", ""
    if partial.exists():
        found = nbformat.read(partial, as_version=4)
        found.metadata.setdefault("papermill", {})["exception"] = True
        nbformat.write(found, partial)
        failed = out.with_suffix(".failed.ipynb")
        os.replace(partial, failed)
        where, kept = _last_begun(found), f"; the notebook as far as it got: {failed}"
    return UserError(f"{path.name} failed after {seconds:.0f} s: {reason}{where}{kept}")


def _last_begun(found: nbformat.NotebookNode) -> str:
    """The last cell that began, by its place in the source: without what papermill puts in
    between."""
    own = [c for c in found.cells if not {INJECTED, ERROR_NOTE} & set(c.metadata.get("tags", []))]
    begun = [
        k
        for k, c in enumerate(own)
        if c.cell_type == "code" and c.metadata.get("papermill", {}).get("start_time")
    ]
    if not begun:
        return ""
    first = next((line.strip() for line in own[begun[-1]].source.splitlines() if line.strip()), "")
    return f" (cell {begun[-1] + 1} of {len(own)}, which begins {first!r})"
