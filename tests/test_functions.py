"""Somebody's function by its name: every place that it may stand in, and whose fault it is where it
cannot be had. The commands that take one share these words and exit codes."""

import os
import re
import sys

import pytest
from helpers.commands import main
from helpers.scored import rooms

from dalib.errors import Stopped
from dalib.functions import CallError, find, ready, refuse_other_arguments, told

F = "def f(x):\n    return x + 1\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder to work in; what is imported from it is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)
    before = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)) or name.startswith("named_"):
            del sys.modules[name]


def write(folder, files):
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


# ---- where it may stand

CLASS = """
class C:
    def __call__(self, x):
        return x + 1
    def method(self, x):
        return x + 1
    @staticmethod
    def static(x):
        return x + 1
    @classmethod
    def of_class(cls, x):
        return x + 1
made = C()
short = lambda x: x + 1
"""


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"h3a.py": F}, "h3a:f"),
        ({"h3a.py": F}, "h3a.py:f"),
        ({"h3a.py": F}, "./h3a.py:f"),
        ({"h3a.py": F}, " h3a:f "),
        ({"h3p/__init__.py": F}, "h3p:f"),
        ({"h3p/__init__.py": "", "h3p/q/__init__.py": "", "h3p/q/deep.py": F}, "h3p.q.deep:f"),
        ({"h3p/__init__.py": F, "h3p/deep.py": "from . import f"}, "h3p.deep:f"),
        ({"h3p/__init__.py": "from . import sub", "h3p/sub.py": F}, "h3p:sub.f"),
        ({"my dir ü/my mödel.py": F}, "my dir ü/my mödel.py:f"),
        ({"h3-dash.py": F}, "h3-dash.py:f"),
        ({"at/json.py": F}, "at/json.py:f"),
        ({"at/numpy.py": F}, "at/numpy.py:f"),
        ({"at/h3b.py": "from h3n import f", "at/h3n.py": F}, "at/h3b.py:f"),
        ({"h3c.py": CLASS}, "h3c:C"),
        ({"h3c.py": CLASS}, "h3c:C.method"),
        ({"h3c.py": CLASS}, "h3c:C.static"),
        ({"h3c.py": CLASS}, "h3c:C.of_class"),
        ({"h3c.py": CLASS}, "h3c.py:made"),
        ({"h3c.py": CLASS}, "h3c.py:made.method"),
        ({"h3c.py": CLASS}, "h3c.py:short"),
    ],
)
def test_it_is_found(folder, files, words):
    write(folder, files)
    found = find(words)
    assert found.function(1) == 2
    assert found.name == words
    assert found.file.resolve().is_relative_to(folder.resolve())


@pytest.mark.parametrize("words", ["at/h3lazy.py:f", "{folder}/at/h3lazy.py:f"])
def test_a_neighbour_is_found_when_the_function_imports_it(folder, words):
    lazy = "def f(x):\n    from h3neighbour import f\n    return f(x)\n"
    write(folder, {"at/h3lazy.py": lazy, "at/h3neighbour.py": F})
    assert find(words.format(folder=folder)).function(1) == 2


def test_no_neighbour_takes_the_place_of_a_library(folder):
    """The folder holds a file with the name of a module of Python that nobody has imported yet."""
    write(folder, {"at/h3d.py": F, "at/colorsys.py": "WRONG = 1\n"})
    sys.modules.pop("colorsys", None)
    find("at/h3d.py:f")
    import colorsys

    assert hasattr(colorsys, "rgb_to_hsv")
    assert sys.path[-1] == str((folder / "at").resolve())


def test_the_path_holds_a_folder_once_and_none_of_what_failed(folder):
    write(folder, {"at/h3a.py": F, "bad/h3b.py": "1 / 0\n"})
    before = list(sys.path)
    for _ in range(2):
        find("at/h3a.py:f")
    with pytest.raises(CallError):
        find("bad/h3b.py:f")
    assert sys.path == [*before, str((folder / "at").resolve())]
    assert "named_h3b" not in sys.modules


# ---- whose fault it is

GUARD = r'ends the program while it is imported \(exit code {}\); .*if __name__ == "__main__"'


@pytest.mark.parametrize(
    ("files", "words", "said"),
    [
        ({}, "h3a", "write module:function or path/to/file.py:function"),
        ({}, "h3a:", "write module:function"),
        ({}, ":f", "write module:function"),
        ({"h3a.py": F}, "h3a.py", "write module:function"),
        ({"h3a.py": F}, "h3a:f.", "write module:function"),
        ({"h3a.py": F}, "h3a:f()", "write module:function"),
        ({}, "h3none:f", "there is no module h3none; modules are looked for in .*a file is named"),
        ({"h3p/__init__.py": F}, "h3p.no:f", r"there is no module h3p\.no;"),
        ({}, "no/h3.py:f", r"no/h3\.py: no such file; correct the path"),
        ({"h3.py/x": ""}, "h3.py:f", r"h3\.py is a folder"),
        ({"at/h3a.py": F}, "at/h3a:f", r"is named with its ending, such as at/h3a\.py:f"),
        ({"h3a.txt": F}, "h3a.txt:f", r"is named with its ending, such as h3a\.py:f"),
        ({"h3a.py": F}, ".h3a:f", "write the module's whole name"),
        ({"h3a.py": F}, "h3a:g", "h3a has no g; its functions are f$"),
        ({"h3a.py": F.replace("f(", "predict(")}, "h3a.py:predit", "did you mean predict?"),
        ({"h3a.py": ""}, "h3a.py:f", "h3a has no f; its functions are none"),
        ({"h3a.py": "f = 3\n"}, "h3a.py:f", "is no function, but int"),
        ({"h3a.py": "import json\n"}, "h3a.py:json", "is no function, but the module json"),
        ({"h3a.py": "import h3gone\n"}, "h3a.py:f", r"h3a\.py imports h3gone, which is not there"),
        ({"h3a.py": "import h3gone\n"}, "h3a:f", "h3a imports h3gone, which is not there; install"),
        ({"h3a.py": "import h3b\n", "h3b.py": "import h3gone.x\n"}, "h3a:f", "imports h3gone, "),
        ({"h3a.py": "from json import no\n"}, "h3a:f", "cannot be imported: ImportError: .*'no'"),
        ({"h3a.py": "def f(x:\n"}, "h3a.py:f", r"SyntaxError: .*h3a\.py, line 1"),
        ({"h3a.py": "def f(x:\n"}, "h3a:f", r"SyntaxError: .*h3a\.py, line 1"),
        ({"h3a.py": "x = 1\n\ny = 1 / 0\n"}, "h3a.py:f", r"ZeroDivisionError: .*h3a\.py, line 3"),
        ({"h3a.py": "import sys\nsys.exit(0)\n"}, "h3a.py:f", GUARD.format(0)),
        ({"h3a.py": "raise SystemExit('usage')\n"}, "h3a:f", GUARD.format("usage")),
        ({"h3p/a.py": "from .b import f\n"}, "h3p/a.py:f", r"such as h3p\.a:"),
        (
            {"h3p/__init__.py": "", "h3p/q/__init__.py": "", "h3p/q/a.py": "from ..b import f\n"},
            "h3p/q/a.py:f",
            r"such as h3p\.q\.a:",
        ),
        ({"h3a.py": "def __getattr__(n):\n    1 / 0\n"}, "h3a:f", "f cannot be had: ZeroDivision"),
        ({"h3a.py": "class C:\n    def __init__(s, w): 0\n"}, "h3a:C", "made without arguments"),
        ({"h3a.py": "class C:\n    def __init__(s): exit()\n"}, "h3a:C", "made without arguments"),
        (
            {"h3a.py": "class C:\n    def __init__(s, w): 0\n    def m(s, x): 0\n"},
            "h3a:C.m",
            "C is a class that cannot be made without arguments",
        ),
        ({"json.py": F}, "json:dumps", r"not the file json\.py of this folder; .*json\.py:dumps"),
        ({"json.py": F}, "json:f", r"not the file json\.py of this folder; .*json\.py:f"),
    ],
)
def test_what_cannot_be_had_is_said(folder, files, words, said):
    write(folder, files)
    with pytest.raises(CallError, match=f"^--call {re.escape(words)}: .*{said}"):
        find(words, option="--call")


@pytest.mark.parametrize("error", ["KeyboardInterrupt()", "dalib.errors.Stopped('now')"])
def test_who_stops_an_import_is_not_told_that_the_module_is_wrong(folder, error):
    write(folder, {"h3a.py": f"import dalib.errors\nraise {error}\n"})
    with pytest.raises((KeyboardInterrupt, Stopped)):
        find("h3a:f")


class Called:
    def __call__(self, x):
        return x + 1


def test_ready():
    assert ready(len) is len
    assert ready(Called)(1) == 2
    with pytest.raises(CallError, match="x: is no function, but int"):
        ready(3, name="x")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda: 1, "too many positional arguments"),
        (lambda image, weights: 1, "missing a required argument: 'weights'"),
        (lambda *, image: 1, "too many positional"),
        (lambda image, *, weights: 1, "'weights'"),
        (lambda image, scale=1, **more: 1, ""),
        (lambda *images: 1, ""),
        (len, ""),
        (max, ""),
    ],
)
def test_how_many_arguments_it_takes(function, said):
    if not said:
        refuse_other_arguments(function, "an image", name="mine")
        return
    with pytest.raises(CallError, match=f"^mine: it is called with an image alone, .*{said}"):
        refuse_other_arguments(function, "an image", name="mine")


def test_an_exception_in_one_line(folder):
    write(folder, {"h3a.py": "def f():\n    g()\ndef g():\n    raise KeyError('a\\nb')\n"})
    found = find("h3a.py:f")
    with pytest.raises(KeyError) as caught:
        found.function()
    assert told(caught.value, file=found.file) == r"KeyError: 'a\nb' (h3a.py, line 4)"
    assert told(ValueError("one\ntwo")) == "ValueError: one"
    assert told(AssertionError()) == "AssertionError"


# ---- the commands


def commands(words, data):
    """Both commands with a function of these words."""
    scored = ["--kind", "depth", "--data", str(data), "--out", "out"]
    return (
        ["evaluate", "--call", words, *scored],
        ["conform", words, "--as", "metric", "--metric", "abs_rel"],
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("h3none:f", "there is no module h3none"),
        ("json:nothing", "json has no nothing"),
        ("math:pi", "is no function, but float"),
        ("h3s.py:f", "ends the program while it is imported"),
        ("h3a.py:f", "mine"),
    ],
)
def test_the_commands_end_with_2_and_the_same_words(folder, words, said, capsys):
    write(folder, {"h3s.py": "import sys\nsys.exit(0)\n", "h3a.py": "def f(mine, own): 0\n"})
    told = []
    for line in commands(words, rooms(folder / "rooms", count=1)):
        assert main(line) == 2
        told.append(capsys.readouterr().err.removeprefix("error: ").removeprefix("--call "))
        assert said in told[-1] or "'own'" in told[-1]
    assert not os.path.exists("out")
    if words != "h3a.py:f":  # of arguments each command has its own to name
        assert told[0] == told[1]


def test_the_commands_find_a_neighbour_that_is_imported_late(folder, capsys):
    image = "def depth(image):\n    from h3late import one\n    return image[..., 0] + one\n"
    metric = (
        "def abs_rel(pred, target, valid):\n    import h3late\n    from dalib.evaluation.metrics "
        "import depth_metrics\n    return depth_metrics(pred, target, valid)['abs_rel']\n"
    )
    write(folder, {"at/h3f.py": image + metric, "at/h3late.py": "one = 1.0\n"})
    first, _ = commands("at/h3f.py:depth", rooms(folder / "rooms", count=1))
    assert main(first) == 0
    sys.modules.pop("h3late")
    _, second = commands("at/h3f.py:abs_rel", "")
    assert main(second) == 0
    assert "abs_rel" in capsys.readouterr().out
