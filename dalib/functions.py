"""A function of somebody's by its name, `module:function` or `path/to/file.py:function`: found,
imported, and made ready to be called. What is wrong with it is told as such: the name, the file, what
its file imports, or a script that has no `if __name__ == "__main__":`."""

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from dalib.errors import ConfigError, Stopped

OFFERED = 20
"""Names that a message lists."""


class CallError(ConfigError):
    """A function that cannot be called as it should be: nothing is known of what it computes. Exit
    code 2, for 1 is a verdict."""

    exit_code = 2


@dataclass(frozen=True, kw_only=True)
class Named:
    """A function that was found.

    Attributes:
        function: what is called; of a class, an object made without arguments.
        name: the words that it was named by.
        file: of the module that was named; None where it has none.
    """

    function: Callable[..., Any]
    name: str
    file: Path | None


def find(words: str, *, option: str = "") -> Named:
    """The function that `module:function` or `path/to/file.py:function` names. Modules are looked for
    in the current folder, too. Of a class, or a method of a class, the object is made without
    arguments.

    The folder of the file, or the current one, is the first place that is imported from while the
    module is, as Python has it for a script. It then stays the last one, for a function may import a
    neighbour when it is called; and there no file of it takes the place of a library.

    Args:
        words: the name.
        option: what messages begin with, such as "--call".

    Raises:
        CallError: no such module, file or name, one that is not what it seems, one that cannot be
            imported, or something that cannot be called.
    """
    where = f"{option} {words}".strip()
    place, _, name = words.strip().rpartition(":")
    if not place or not all(part.isidentifier() for part in name.split(".")):
        raise CallError(
            f"{where}: write module:function or path/to/file.py:function, such as mine.py:predict"
        )
    module = _module(place, name, where)
    found: Any = module
    for part in name.split("."):
        found = _part(found, part, where)
    file = getattr(module, "__file__", None)
    return Named(
        function=ready(found, name=where),
        name=words,
        file=None if file is None else Path(file),
    )


def ready(found: object, *, name: str = "the function") -> Callable[..., Any]:
    """A function as it is; of a class, an object made without arguments.

    Raises:
        CallError: a class whose object needs arguments, or something that cannot be called.
    """
    if inspect.isclass(found):
        found = _made(found, name)
    if not callable(found):
        raise CallError(f"{name}: is no function, but {_kind(found)}; name a function")
    return found


def refuse_other_arguments(function: Callable[..., Any], *given: str, name: str) -> None:
    """See that a function can be called with so many arguments, by position.

    Args:
        function: whose signature is read, if it has one.
        given: what the arguments are, in words.
        name: what the message begins with.

    Raises:
        CallError: it takes fewer arguments, or needs more.
    """
    own = getattr(function, "forward", function)  # of a torch module
    try:
        signature = inspect.signature(own)
    except (TypeError, ValueError):  # of a built-in function
        return
    try:
        signature.bind(*given)
    except TypeError as error:
        raise CallError(
            f"{name}: it is called with {', '.join(given)} alone, and cannot be: {error}; wrap it in "
            "a function"
        ) from None


def told(error: BaseException, *, file: Path | None = None) -> str:
    """An exception of somebody's code in one line: its type, its first line, and the last line of
    `file` that it passed."""
    first = (str(error).strip().splitlines() or [""])[0]
    words = type(error).__name__ + (f": {first}" if first else "")
    if file is None:
        return words
    lines = [x.lineno for x in traceback.extract_tb(error.__traceback__) if _same(x.filename, file)]
    return f"{words} ({file.name}, line {lines[-1]})" if lines else words


# ---- modules


def _module(place: str, name: str, where: str) -> ModuleType:
    """A module by its name or its file."""
    path = Path(place)
    if path.suffix.lower() == ".py":
        if path.is_dir():
            raise CallError(f"{where}: {place} is a folder; name a file in it")
        if not path.is_file():
            raise CallError(f"{where}: {place}: no such file; correct the path")
        with _telling(where, place, path), _first(path.resolve().parent):
            return _of_file(path)
    if os.sep in place or "/" in place or path.is_file():
        raise CallError(
            f"{where}: {place} is no name of a module; a file is named with its ending, such as "
            f"{path.with_suffix('.py')}:{name}"
        )
    if not all(place.split(".")):
        raise CallError(f"{where}: {place}: write the module's whole name, such as package.module")
    with _telling(where, place, None), _first(Path.cwd()):
        module = importlib.import_module(place)
    _refuse_hidden(module, place, name, where)
    return module


def _of_file(path: Path) -> ModuleType:
    """A file as a module, under a name that no other has."""
    spec = importlib.util.spec_from_file_location(f"named_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and pickle look for it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


@contextmanager
def _first(folder: Path) -> Iterator[None]:
    """A folder as the first to import from in a block, and then as the last."""
    name = str(folder)
    sys.path.insert(0, name)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # a module may change the list
            sys.path.remove(name)
    if name not in sys.path:
        sys.path.append(name)


@contextmanager
def _telling(where: str, place: str, file: Path | None) -> Iterator[None]:
    """What goes wrong while somebody's module is imported, as a `CallError` that says whose fault it
    is."""
    try:
        yield
    except Stopped:
        raise
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if file is None and f"{place}.".startswith(f"{missing}."):
            raise CallError(
                f"{where}: there is no module {missing}; modules are looked for in {Path.cwd()} and "
                "among the installed packages, and a file is named with its .py"
            ) from error
        raise CallError(
            f"{where}: {place} imports {missing or error}, which is not there; install it, or run "
            "this where it is installed"
        ) from error
    except SyntaxError as error:
        raise CallError(f"{where}: {place} cannot be imported: {told(error)}; mend it") from error
    except SystemExit as error:
        raise CallError(
            f"{where}: {place} ends the program while it is imported (exit code {error.code}); put "
            'what it does as a script under if __name__ == "__main__":'
        ) from error
    except Exception as error:  # of any kind: importing runs somebody else's code
        if isinstance(error, ImportError) and "relative import" in str(error) and file is not None:
            raise CallError(
                f"{where}: {place} belongs to a package, for it imports its neighbours by a dot; name "
                f"it as its module, such as {_dotted(file)}:..., in the folder that holds the package"
            ) from error
        raise CallError(
            f"{where}: {place} cannot be imported: {told(error, file=file)}; mend it"
        ) from error


def _dotted(file: Path) -> str:
    """What a file of a package is called as a module."""
    folder = file.resolve().parent
    names = [folder.name, file.stem]
    while (folder / "__init__.py").is_file() and (folder.parent / "__init__.py").is_file():
        folder = folder.parent
        names.insert(0, folder.name)
    return ".".join(names)


def _refuse_hidden(module: ModuleType, place: str, name: str, where: str) -> None:
    """A `CallError` where a file of the current folder has the name of a module that was imported
    before: another one would be called than the one that is seen."""
    here = Path(f"{place}.py")
    own = getattr(module, "__file__", None)
    if here.is_file() and not (own and _same(own, here)):
        raise CallError(
            f"{where}: {place} is a module of Python or of a library ({own or 'built in'}), and not "
            f"the file {here} of this folder; for the file, write {here}:{name}"
        )


def _same(one: str | Path, other: str | Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


# ---- what a module holds


def _part(found: Any, part: str, where: str) -> Any:
    """A name in a module or a class; of a method, that of an object made without arguments."""
    if inspect.isclass(found):
        own = inspect.getattr_static(found, part, None)
        if inspect.isfunction(own):
            found = _made(found, where)
    try:
        return getattr(found, part)
    except AttributeError:
        offers = _offers(found)
        near = difflib.get_close_matches(part, offers, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        held = ", ".join(offers[:OFFERED]) + (", ..." if len(offers) > OFFERED else "")
        name = getattr(found, "__name__", type(found).__name__).removeprefix("named_")
        raise CallError(
            f"{where}: {name} has no {part}; {meant}its functions are {held or 'none'}"
        ) from None
    except Exception as error:  # a module may import when it is asked for a name
        raise CallError(f"{where}: {part} cannot be had: {told(error)}") from error


def _offers(found: Any) -> list[str]:
    """The functions and classes in something, its own before those that it imports."""
    public = {
        name: x for name, x in vars(found).items() if not name.startswith("_") and callable(x)
    }
    name = getattr(found, "__name__", None)
    own = [word for word, x in public.items() if getattr(x, "__module__", None) == name]
    return [*own, *(word for word in public if word not in own)]


def _made(kind: type, name: str) -> Any:
    try:
        return kind()
    except Stopped:
        raise
    except (Exception, SystemExit) as error:
        raise CallError(
            f"{name}: {kind.__name__} is a class that cannot be made without arguments "
            f"({told(error)}); wrap it in a function"
        ) from error


def _kind(found: object) -> str:
    return f"the module {found.__name__}" if inspect.ismodule(found) else type(found).__name__
