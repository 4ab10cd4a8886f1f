"""The command line: what a user types wrong is answered with what is known, and a failed notebook
leaves nothing that looks whole."""

import json
import subprocess
import sys

import nbformat
import pytest
import torch
from helpers import fabricated
from helpers.commands import main
from PIL import Image

from dabook.site import notebooks
from dalib import paths
from dalib.commands import Commands
from dalib.errors import ConfigError, UserError
from dalib.models import build, load, save
from dalib.models.export import export_official


@pytest.mark.parametrize(
    "value", ["-1", "-1,20,3.5", "-.5,2,3", "-1e-3", "-5E-05", "-inf", "-nan", "-1photo.jpg"]
)
def test_a_word_that_begins_like_a_negative_number_is_a_value(value):
    top = Commands(prog="test", description="")
    command = top.add("do", print)
    command.add_argument("place")
    command.add_argument("--known", nargs="+")
    command.add_argument("--shift")
    args = top.parser.parse_args(["do", value, "--shift", value, "--known", value, "3,4,5", value])
    assert (args.place, args.shift, args.known) == (value, value, [value, "3,4,5", value])
    with pytest.raises(SystemExit):
        top.parser.parse_args(["do", "place", "--shift", "--known"])


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["run", "main_tabel"], "Did you mean 'main_table'?"),
        (["run", "main_table", "--profile", "quik"], "Did you mean 'quick'?"),
        (["run", "main_table", "-p", "sedes=2"], "Did you mean 'seeds'?"),
        (["run", "main_table", "-p", "seeds=two"], "parameter seeds takes int, not 'two'"),
        (["rows", "main_table", "--seeds", "0"], "seeds: 0"),
        (["rows", "main_table", "--seeds", "-1"], "seeds: -1 is not at least 1"),
        (["rows", "main_table", "--seeds", "1000000000"], "seeds: 1000000000 is more than"),
        (["run", "main_table", "--seeds", "0"], "seeds: 0 is not at least 1"),
        (["run", "main_table", "-p", "seeds=-1"], "seeds: -1 is not at least 1"),
        (["row", "main_table", "naive", "--seed", "-1"], "seed: -1 is not at least 0"),
        (["row", "main_table", "naive", "--seed", "9" * 30], "is more than 9223372036854775807"),
        (["book", "--profile", "quik"], "Did you mean 'quick'?"),
        (["row", "main_table", "labeled_only"], "Did you mean 'labelled_only'?"),
    ],
)
def test_a_wrong_word_is_named_with_the_nearest_known_one(words, named, capsys):
    assert main(words) == 1
    assert named in capsys.readouterr().err


def test_a_huge_seed_runs_at_once(monkeypatch):
    """Before: the configs of all seeds up to it were made first."""
    from dabook.runs import runner

    asked = []
    monkeypatch.setattr(
        runner, "run_row", lambda row, config, **options: asked.append((row.name, config.seed))
    )
    assert main(["row", "main_table", "naive", "--profile", "smoke", "--seed", str(10**9)]) == 0
    assert asked == [("naive", 10**9)]


def test_rows_tells_another_profiles_records_from_foreign_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DALIB_ROOT", str(fabricated.root(tmp_path / "checkout")))
    fabricated.write("main_table", {"naive": [0.3, 0.3], "full": [0.2]})
    (paths.records() / "main_table" / "notes.json").write_text("{}")
    assert main(["rows", "main_table", "--profile", "gpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:5]] == ["missing"] * 5
    assert lines[5:] == [
        "notes  foreign  no readable record; look at it before you delete it",
        "and 3 records of profile study",
    ]


@pytest.mark.slow
def test_export_writes_what_load_reads(tmp_path, capsys):
    model = build("vitt", pretrained=False, position="transformers", seed=0)
    save(model, tmp_path / "weights.safetensors")
    assert (
        main(
            [
                "export",
                str(tmp_path / "weights.safetensors"),
                str(tmp_path / "folder"),
                "--to",
                "transformers",
            ]
        )
        == 0
    )
    again = load(tmp_path / "folder")
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
    assert main(["export", str(tmp_path / "gone.pth"), str(tmp_path / "x"), "--to", "onnx"]) == 1
    assert "gone.pth: no such file" in capsys.readouterr().err


@pytest.mark.slow
def test_predict_is_told_what_the_name_of_a_file_does_not_say(tmp_path, capsys):
    """Released weights under a name of one's own; and maps of one reading of them are not kept for
    another."""
    model = build("vitt", pretrained=False, layers="v2", max_depth=20.0, seed=0)
    export_official(model, tmp_path / "mine.pth")
    Image.new("RGB", (40, 30), (90, 120, 60)).save(tmp_path / "photo.png")
    words = [
        "predict",
        str(tmp_path / "photo.png"),
        str(tmp_path / "out"),
        "--weights",
        str(tmp_path / "mine.pth"),
    ]
    words += ["--short-side", "28", "--device", "cpu"]
    assert main(words) == 1
    assert "layers" in capsys.readouterr().err
    assert main([*words, "--layers", "v2", "--max-depth", "20"]) == 0
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["max_depth"] == 20
    for other in (
        ["v1", "--max-depth", "20"],
        ["v2", "--max-depth", "30"],
        ["v2", "--max-depth", "20", "--position", "transformers"],
    ):
        assert main([*words, "--layers", *other]) == 1, other
        assert "holds maps made otherwise" in capsys.readouterr().err


@pytest.mark.slow
def test_the_module_exits_with_the_code_of_main():
    result = subprocess.run(
        [sys.executable, "-m", "dabook", "run", "nothing"], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "unknown notebook 'nothing'" in result.stderr
    assert "Traceback" not in result.stderr


def write_notebook(path, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


@pytest.mark.slow
def test_a_failed_notebook_leaves_the_old_result_and_is_kept_for_reading(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", "x = 1  # a number", "assert x == 1, 'x is wrong'")
    out = tmp_path / "out" / "n.ipynb"
    notebooks.execute(path, out, {"x": 1}, show=False)
    before = out.read_text()
    with pytest.raises(UserError, match="x is wrong"):
        notebooks.execute(path, out, {"x": 2}, show=False)
    assert out.read_text() == before
    failed = json.loads((tmp_path / "out" / "n.failed.ipynb").read_text())
    assert failed["metadata"]["papermill"]["exception"] is True
    assert sorted(p.name for p in out.parent.iterdir()) == ["n.failed.ipynb", "n.ipynb"]


def test_parameters_keep_the_type_of_their_default(tmp_path):
    path = write_notebook(
        tmp_path / "n.ipynb", "count = 1  # how many\nname = 'a'  # who\nrate = 0.5  # how fast"
    )
    assert notebooks.check(path, {"count": "3", "name": "b", "rate": "2"}) == {
        "count": 3,
        "name": "b",
        "rate": 2.0,
    }
    with pytest.raises(
        ConfigError, match=r"unknown parameter of n.ipynb 'cuont'. Did you mean 'count'"
    ):
        notebooks.check(path, {"cuont": 3})


def test_a_truth_value_is_read_as_what_it_says(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", "score = False  # whether")
    assert [
        notebooks.check(path, {"score": word})["score"]
        for word in ("True", "false", "1", "0", True)
    ] == [
        True,
        False,
        True,
        False,
        True,
    ]
    with pytest.raises(ConfigError, match="parameter score takes bool, not 'maybe'"):
        notebooks.check(path, {"score": "maybe"})
