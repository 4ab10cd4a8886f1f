"""Forked kernels do what kernels started from nothing do: the same bits, variables, folder,
signals and end."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import nbformat
import pytest
from helpers.notebooks import write
from nbclient import NotebookClient

from dabook.site import kernels, notebooks
from dalib.errors import UserError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone"),
]
PARENT = "import os\nprint(os.getppid(), os.getpid(), os.getpgid(0))"


@pytest.fixture
def forked():
    with kernels.forked():
        yield


def printed(path, *cells: str) -> list[str]:
    """What each cell prints."""
    notebook = write(path, *cells, tags=())
    done = notebooks.execute(notebook, path.with_name("out.ipynb"), {}, show=False)
    return [
        "".join(each.get("text", "") for each in cell.outputs).strip()
        for cell in nbformat.read(done, as_version=4).cells
    ]


def test_kernels_are_forked_from_one_process_and_share_nothing_else(tmp_path, forked):
    loaded = "import sys\nprint('torch' in sys.modules and 'seaborn' in sys.modules)"
    mark = "import torch\nprint(hasattr(torch, 'mark'))\ntorch.mark = 1"
    first, second = (printed(tmp_path / "n.ipynb", loaded, mark, PARENT) for _ in range(2))
    assert first[:2] == second[:2] == ["True", "False"]
    (server, one, group), (same, other, _) = (each[2].split() for each in (first, second))
    assert server == same != str(os.getpid())
    assert one != other
    assert group == one, "a signal to its group would reach others"


def test_outside_a_kernel_is_started_from_nothing(tmp_path):
    loaded, parent = printed(
        tmp_path / "n.ipynb", "import sys\nprint('torch' in sys.modules)", PARENT
    )
    assert loaded == "False"
    assert parent.split()[0] == str(os.getpid())


def test_other_variables_that_imports_have_read_start_it_from_nothing(
    tmp_path, forked, monkeypatch
):
    printed(tmp_path / "n.ipynb", PARENT)  # now the server runs
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    (parent,) = printed(tmp_path / "n.ipynb", PARENT)
    assert parent.split()[0] == str(os.getpid())


def test_it_has_the_variables_and_the_folder_of_now(tmp_path, forked, monkeypatch):
    shows = "import os\nfrom dalib import paths\nprint(paths.runs(), os.getcwd())"
    for name in ("a", "b"):
        monkeypatch.setenv("DALIB_RUNS", str(tmp_path / name))
        monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
        (seen,) = printed(tmp_path / "n.ipynb", shows)
        assert seen == f"{tmp_path / name} {tmp_path}"


def test_figures_are_shown_as_ever(tmp_path, forked):
    path = write(tmp_path / "n.ipynb", "import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    done = notebooks.execute(path, tmp_path / "out.ipynb", {}, show=False)
    (output,) = nbformat.read(done, as_version=4).cells[0].outputs
    assert "image/png" in output.data


def test_what_is_to_be_done_at_its_end_is_done_and_it_may_have_children(tmp_path, forked):
    place = tmp_path / "ended"
    at_end = f"import atexit\natexit.register(lambda: open({str(place)!r}, 'w').close())"
    child = (
        "import multiprocessing\nfrom operator import neg\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool:\n    print(pool.map(neg, [3]))"
    )
    assert printed(tmp_path / "n.ipynb", at_end, child)[1] == "[-3]"
    assert place.exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import os\nos._exit(1)", r"the kernel .*cell 1 of 2"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", r"the kernel .*cell 1 of 2"),
        ("raise ValueError('a')", r"ValueError: a .*cell 1 of 2"),
    ],
)
def test_a_kernel_that_dies_is_told(source, message, tmp_path, forked):
    with pytest.raises(UserError, match=message):
        printed(tmp_path / "n.ipynb", source, "1")


def test_a_cell_that_is_interrupted_does_not_end_its_kernel(tmp_path, forked):
    cells = [nbformat.v4.new_code_cell(text) for text in ("import time\ntime.sleep(60)", "1 + 1")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        notebook,
        allow_errors=True,
        timeout=2,
        interrupt_on_timeout=True,
        kernel_manager_class=notebooks.own_kernel(),
    )
    client.execute()
    first, second = (cell.outputs[-1] for cell in notebook.cells)
    assert first.ename == "KeyboardInterrupt"
    assert second.data["text/plain"] == "2"


LONG = """
import sys
from pathlib import Path
from dabook.site import kernels, notebooks
if __name__ == "__main__":
    with kernels.forked():
        notebooks.execute(Path(sys.argv[1]), Path(sys.argv[2]), {}, show=False)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_kernel_outlives_who_started_it(number, tmp_path):
    pid = tmp_path / "pid"
    cell = (
        f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()) + '.')\ntime.sleep(300)"
    )
    path = write(tmp_path / "n.ipynb", cell)
    script = tmp_path / "script.py"
    script.write_text(LONG)
    with subprocess.Popen(
        [sys.executable, script, path, tmp_path / "out.ipynb"],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as caller:
        while not (pid.exists() and pid.read_text().endswith(".")):
            assert caller.poll() is None
            time.sleep(0.1)
        caller.send_signal(number)
        caller.wait(60)
    kernel = int(pid.read_text()[:-1])
    end = time.monotonic() + 30
    while time.monotonic() < end and alive(kernel):
        time.sleep(0.1)
    assert not alive(kernel)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


TRAINED = """
import hashlib
from dalib import RunConfig, train
config = RunConfig(
    height=64, width=96, labelled_images=8, steps=2, warmup=1, batch=4, labelled=("scenes:labelled",)
)
print(hashlib.sha256(train(config).read_bytes()).hexdigest())
"""


def test_training_has_the_same_bits(tmp_path, monkeypatch):
    """Weights trained in a forked kernel, and in one that is started from nothing."""
    digests = []
    for way in (nullcontext, kernels.forked):
        monkeypatch.setenv("DALIB_RUNS", str(tmp_path / way.__name__))
        with way():
            said, parent = printed(tmp_path / "n.ipynb", TRAINED, PARENT)
        digests.append(said.splitlines()[-1])
        assert (parent.split()[0] == str(os.getpid())) is (way is nullcontext)
    assert re.fullmatch("[0-9a-f]{64}", digests[0])
    assert digests[0] == digests[1]
