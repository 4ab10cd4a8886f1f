"""Notebooks through papermill: strict about parameters, whole or not at all."""

import ast
import os
import time
from collections.abc import Mapping
from pathlib import Path

import papermill as pm
from papermill.exceptions import PapermillExecutionError

from dalib import paths
from dalib.config import check_names
from dalib.errors import ConfigError, UserError


def notebook(name: str) -> Path:
    """The notebook of this name; an unknown one is a `ConfigError` that lists the known ones."""
    check_names([name], sorted(p.stem for p in folder().glob("*.ipynb")), what="notebook")
    return folder() / f"{name}.ipynb"


def folder() -> Path:
    """Where the notebooks lie."""
    return paths.root() / "notebooks"


def parameters(path: Path) -> dict[str, type]:
    """A notebook's parameters with the types of their defaults."""
    found = pm.inspect_notebook(str(path))
    types = {"int": int, "float": float, "str": str, "bool": bool}
    return {k: types.get(v["inferred_type_name"], type(ast.literal_eval(v["default"]))) for k, v in found.items()}


def check(path: Path, given: Mapping[str, object]) -> dict[str, object]:
    """The given parameters in the notebook's own types; papermill itself would only log an unknown name and go on."""
    known = parameters(path)
    check_names(given, known, what=f"parameter of {path.name}")
    result = {}
    for name, value in given.items():
        kind = known[name]
        try:
            result[name] = value if isinstance(value, kind) else _boolean(value) if kind is bool else kind(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{path.name}: parameter {name} takes {kind.__name__}, not {value!r}") from error
    return result


def _boolean(value: object) -> bool:
    """A word of the command line as a truth value; `bool("false")` would be true."""
    words = {"true": True, "1": True, "false": False, "0": False}
    if (word := str(value).lower()) not in words:
        raise ValueError(f"{value!r} is neither true nor false")
    return words[word]


def execute(path: Path, out: Path, given: Mapping[str, object], *, show: bool = True) -> Path:
    """Run a notebook from start to end and put the result at `out`; a failed run leaves `out` as it was.

    Args:
        path: the notebook.
        out: where the executed notebook goes. A failed one is kept beside it as `NAME.failed.ipynb`, for reading.
        given: parameters, see `check`.
        show: pass on what the cells print.

    Raises:
        ConfigError: an unknown parameter.
        UserError: a cell failed.
    """
    values = check(path, given)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial.ipynb")
    begun = time.perf_counter()
    try:
        pm.execute_notebook(
            str(path),
            str(partial),
            parameters=values,
            # where the kernel starts, for nbclient: papermill's own `cwd` would move the whole process, and other lanes with it
            resources={"metadata": {"path": str(paths.root())}},
            kernel_name="python3",
            log_output=show,
            progress_bar=False,
        )
    except PapermillExecutionError as error:
        failed = out.with_suffix(".failed.ipynb")
        os.replace(partial, failed)
        raise UserError(
            f"{path.name} failed after {time.perf_counter() - begun:.0f} s: {error.ename}: {error.evalue}\n"
            f"The notebook as far as it got: {failed}"
        ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    os.replace(partial, out)
    return out
