"""What `make book` does with the notebooks: their parameters, which may run side by side, what a
failure leaves."""

import json
import os
import threading
from collections import Counter

import nbformat
import pytest
import yaml

from dabook.runs import records
from dabook.runs.experiments import expand
from dabook.site import build, notebooks
from dalib.errors import ConfigError, UserError
from dalib.training import launch

TREE = {
    "profiles": {"quick": {"seeds": 1, "record": "local", "set": {"steps": 5}}},
    "experiments": {
        "main_table": {
            "question": "?",
            "rows": {
                "alone": {"label": "Alone"},
                "naive": {"label": "Naive", "set": {"pseudo_labels": True}},
            },
        },
        "taught": {
            "question": "?",
            "rows": {
                "alone": {"label": "Alone"},
                "naive": {"label": "Naive", "set": {"pseudo_labels": True}},
                "blurred": {
                    "label": "Blurred",
                    "set": {"pseudo_labels": True, "perturb": ["blur"]},
                },
            },
        },
        "long": {"question": "?", "trained_in_book": False, "rows": {"alone": {"label": "Alone"}}},
    },
}
PROFILE, TRAIN = (
    'profile = "smoke"  # which',
    ("train = True  # False: show what is recorded, run nothing"),
)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Writes notebooks, name -> (parameters, cell), as those of a checkout with `TREE`."""
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(TREE, sort_keys=False))
    (tmp_path / "_config.yml").write_text('repository: {url: ""}')

    def write(**cells):
        notebooks.folder().mkdir(exist_ok=True)
        (tmp_path / "_toc.yml").write_text(
            yaml.safe_dump({"chapters": [{"file": f"notebooks/{n}"} for n in cells]})
        )
        for name, sources in cells.items():
            notebook = nbformat.v4.new_notebook(
                cells=[nbformat.v4.new_code_cell(s, id=f"c{i}") for i, s in enumerate(sources)]
            )
            notebook.cells[0].metadata["tags"] = ["parameters"]
            notebook.metadata["kernelspec"] = {
                "name": "python3",
                "display_name": "Python 3",
                "language": "python",
            }
            nbformat.write(notebook, notebooks.folder() / f"{name}.ipynb")
        return tmp_path

    return write


def test_the_book_trains_unless_the_experiment_says_otherwise(checkout):
    checkout(
        main_table=(PROFILE,),
        long=(f"{PROFILE}\n{TRAIN}",),
        other=(f"{PROFILE}\n{TRAIN}",),
        plain=("x = 1  # x",),
    )
    assert build.given("main_table", "quick") == {"profile": "quick"}
    assert build.given("long", "quick") == {"profile": "quick", "train": False}
    assert build.given("other", "quick") == {"profile": "quick"}  # no experiment of that name
    assert build.given("plain", "quick") == {}


def test_a_notebook_that_cannot_but_train_is_refused(checkout):
    checkout(long=(PROFILE,))
    path = notebooks.notebook("long")
    with pytest.raises(ConfigError, match=r"unknown parameter of long\.ipynb 'train'"):
        notebooks.check(path, build.given("long", "quick"))


def test_what_a_notebook_may_train(checkout, monkeypatch):
    """Nothing without a profile or with train=False; the main table's runs where it shows networks;
    and its own rows."""
    checkout(
        main_table=(PROFILE,),
        taught=(PROFILE,),
        long=(f"{PROFILE}\n{TRAIN}",),
        shown=(PROFILE,),
        plain=("x = 1  # x",),
    )
    rows = expand("taught", profile="quick").rows
    alone, naive, blurred = (row.configs[0].hash() for row in rows)
    teacher = rows[1].configs[0].teacher_run()  # a run of its own, of another seed than any row
    assert teacher == rows[2].configs[0].teacher_run()
    taught = teacher.hash()
    assert build.claims("plain", "quick") == build.claims("long", "quick") == set()
    assert build.claims("shown", "quick") == build.claims("main_table", "quick")
    assert build.claims("main_table", "quick") == {alone, naive, taught}
    assert build.claims("taught", "quick") == {alone, naive, blurred, taught}

    ready = {alone, naive, taught}
    monkeypatch.setattr(launch, "trained", lambda config: config.hash() in ready)
    monkeypatch.setattr(
        records.Entry,
        "status",
        property(lambda e: "fresh" if launch.trained(e.config) else "missing"),
    )
    assert build.claims("shown", "quick") == set()
    assert build.claims("taught", "quick") == {taught, blurred}, (
        "the teacher's labels are not there yet"
    )
    labels = launch.folder(teacher) / "pseudo-1-2"
    labels.mkdir(parents=True)
    (labels / "manifest.json").touch()
    assert build.claims("taught", "quick") == {blurred}
    ready.remove(naive)  # weights deleted, record kept
    assert build.claims("shown", "quick") == {naive}


@pytest.fixture
def executed(monkeypatch):
    """How often each notebook is executed, without a kernel; one whose cell says `fail` fails."""
    count, together = Counter(), threading.Barrier(2, timeout=20)

    def execute(path, out, given, *, show):
        count[path.stem] += 1
        source = nbformat.read(path, as_version=4).cells[-1].source
        if "meet" in source:
            together.wait()
        if "fail" in source:
            raise UserError(f"{path.name} failed")
        if "outlive" in source:
            for thread in threading.enumerate():
                if thread.name == source.split()[-1]:
                    thread.join()
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(given))

    monkeypatch.setattr(notebooks, "execute", execute)
    return count


@pytest.mark.parametrize("broken", ["main_table", "plain"])
def test_a_failure_in_either_lane_stops_the_build_and_keeps_what_is_whole(
    broken, checkout, executed
):
    other = {"main_table": "plain", "plain": "main_table"}[broken]
    cells = {
        "main_table": [PROFILE, "meet"],
        "plain": ["x = 1  # x", "meet"],
        "more": ["x = 1  # x"],
    }
    cells[broken][-1] += "\nfail"
    # else it may end first, and its lane rightly begins "more"
    cells[other][-1] += f"\noutlive {broken}"
    root = checkout(**cells)
    out = root / "_build" / "notebooks"
    with pytest.raises(UserError, match=rf"{broken}\.ipynb failed"):
        build.execute(out, "quick")
    assert executed == {"main_table": 1, "plain": 1}
    assert list(json.loads((root / "_build" / build.STAMPS).read_text())) == [other]

    checkout(**cells | {broken: [cells[broken][0], "x"]})
    build.execute(out, "quick")
    assert executed == {broken: 2, other: 1, "more": 1}, "what was whole is not executed again"


def test_stamps_from_many_threads_are_all_there(tmp_path):
    threads = [
        threading.Thread(target=build._stamp, args=(tmp_path, f"n{i}", str(i))) for i in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert build._stamps(tmp_path) == {f"n{i}": str(i) for i in range(40)}


@pytest.mark.parametrize("content", [b"", b"[1]", b"null", b"{", b"\xff\xfe"])
def test_damaged_or_foreign_stamps_count_as_none(content, checkout, executed):
    root = checkout(plain=("x = 1  # x",))
    (root / "_build").mkdir()
    (root / "_build" / build.STAMPS).write_bytes(content)
    build.execute(root / "_build" / "notebooks", "quick")
    assert executed == {"plain": 1}
    assert list(build._stamps(root / "_build")) == ["plain"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: None, r"unknown profile 'quik'\. Did you mean 'quick'"),
        (lambda root: (root / "_toc.yml").unlink(), r"_toc\.yml: cannot be read"),
        (
            lambda root: (root / "_toc.yml").write_text("parts: ["),
            r"_toc\.yml, line 1: not valid YAML",
        ),
        (lambda root: (root / "_build").write_text("mine"), "_build: cannot be made"),
        (
            lambda root: (root / "notebooks" / "plain.ipynb").write_text("{"),
            r"plain\.ipynb: damaged or no notebook",
        ),
        (
            lambda root: (root / "_config.yml").write_text("repository: {url: nowhere}"),
            r"_config\.yml: repository\.url is 'nowhere'",
        ),
    ],
)
def test_what_a_build_cannot_begin_with_is_named(spoil, message, checkout, executed):
    root = checkout(plain=("x = 1  # x",))
    spoil(root)
    with pytest.raises(UserError, match=message) as caught:
        build.build(profile="quik" if "quik" in message else "quick")
    assert "\n" not in str(caught.value)
    assert not executed


def test_kernels_side_by_side_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with build._threads(2):
        assert os.environ["OMP_NUM_THREADS"] == "4"
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with build._threads(2):
        assert os.environ["OMP_NUM_THREADS"] == "3"


@pytest.mark.slow
def test_two_kernels_at_once(checkout):
    """Each waits for a file of the other; a third is not begun after one has failed, and the failed
    one is kept for reading."""
    wait = (
        "import time\nfrom pathlib import Path\nPath({0!r}).touch()\nlast = time.monotonic() + 60\n"
        "while not Path({1!r}).exists():\n    time.sleep(0.05)\n    assert time.monotonic() < "
        "last, 'the other is not here'"
    )
    root = checkout(
        main_table=(PROFILE, wait.format("a", "b"), "print('here')"),
        plain=("x = 1  # x", wait.format("b", "a"), "assert x == 2, 'x is wrong'"),
    )
    with pytest.raises(
        UserError, match=r"plain\.ipynb failed after \d+ s: AssertionError: x is wrong"
    ):
        build.execute(root / "_build" / "notebooks", "quick")
    assert list(build._stamps(root / "_build")) == ["main_table"]
    assert sorted(p.name for p in (root / "_build" / "notebooks").iterdir()) == [
        "main_table.ipynb",
        "plain.failed.ipynb",
    ]


def test_a_kernel_starts_in_the_checkout_and_leaves_the_process_where_it_is(
    checkout, tmp_path, monkeypatch
):
    """The working directory is the process's: were it changed, the kernel of another lane could
    start in the wrong folder."""
    here, asked = os.getcwd(), []
    go = os.chdir
    monkeypatch.setattr(os, "chdir", lambda path: (asked.append(str(path)), go(path)))
    root = checkout(
        plain=("x = 1  # x", f"import os\nassert os.getcwd() == {str(tmp_path.resolve())!r}")
    )
    notebooks.execute(notebooks.notebook("plain"), root / "out.ipynb", {})
    assert set(asked) <= {here}


def test_a_line_for_each_notebook_with_the_time_left(tmp_path):
    """By hand: two lanes; what was never executed takes as long as the others did."""
    known = nbformat.v4.new_notebook(metadata={"papermill": {"duration": 30.0}})
    nbformat.write(known, tmp_path / "known.ipynb")
    (tmp_path / "broken.ipynb").write_text("{")
    count = build.Countdown(tmp_path, ["first", "known", "broken", "new"])
    assert count.line("first", 10.0) == "[1/4] first: 10 s, about 25 s left"  # (30 + 10 + 10) / 2
    assert count.line("new", 20.4) == "[2/4] new: 20 s, about 23 s left"  # (30 + 15.2) / 2
    assert count.line("known", 31.0) == "[3/4] known: 31 s, about 20 s left"
    assert count.line("broken", 5.0) == "[4/4] broken: 5 s"


def test_a_build_says_a_line_for_each_notebook_and_nothing_of_its_cells(
    checkout, executed, capsys, caplog
):
    root = checkout(main_table=(PROFILE,), plain=("x = 1  # x",))
    build.execute(root / "_build" / "notebooks", "quick")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert {line.split("]")[1].split(":")[0].strip() for line in lines} == {"main_table", "plain"}
    assert [line[:5] for line in lines] == ["[1/2]", "[2/2]"]
    assert not caplog.records
