"""Runs made once more: kept beside their records, compared with them image by image, and never
averaged over."""

import pytest
from helpers import fabricated
from helpers.commands import main

from dabook.analysis.statistics import recorded
from dabook.pages import reruns
from dabook.runs import records
from dabook.runs.experiments import expand
from dalib import paths


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch):
    """An empty checkout whose records a test may write."""
    monkeypatch.setenv("DALIB_ROOT", str(fabricated.root(tmp_path / "root")))


def again(name: str, row: str, seed: int, level: float, **options) -> None:
    experiment = expand(name, profile="study")
    made = fabricated.record(experiment[row], experiment[row].configs[seed], level=level, **options)
    records.write(made | {"instructions": "AVX2"}, committed=True, again=True)


def test_a_rerun_stands_beside_its_record_and_no_table_reads_it():
    fabricated.write("main_table", {"naive": [0.2, 0.3], "labelled_only": [0.4]})
    before = {p: p.read_bytes() for p in paths.records().rglob("*.json")}
    again("main_table", "naive", 1, 0.33)
    again("main_table", "naive", 0, 0.199)
    assert {p: p.read_bytes() for p in paths.records().rglob("*.json")} == before
    assert len(list(paths.reruns().glob("*-avx2.json"))) == 2
    assert recorded("main_table").value("naive").mean == pytest.approx(0.06**0.5)
    found = reruns.pairs()
    assert [(p.record["seed"], round(p.change, 3)) for p in found] == [(0, -0.5), (1, 10)]
    # the hardest domain is two and a half steps above the mean, and its hardest image 6 % above it
    hardest = 1.06 * fabricated.STEP**2.5
    assert [p.largest for p in found] == pytest.approx([0.001 * hardest, 0.03 * hardest])


def test_the_table_leads_to_the_record_and_the_sentence_holds_it_against_seeds():
    rows = [row.name for row in expand("main_table", profile="study").rows]
    fabricated.write("main_table", {row: [0.2, 0.202] for row in rows})
    again("main_table", "naive", 0, 0.206)
    again("main_table", "naive", 1, 0.202)
    found = reruns.pairs()
    shown = reruns.table(found).text
    assert shown.count('<a href="../records/main_table/') == 2
    assert "+3.0" in shown
    assert "seed 1" in shown
    assert "AVX2" in shown
    assert reruns.reading(found, recorded("main_table")) == (
        "2 recorded runs, made again on a processor of another kind (AVX2), came out +0.0 % to "
        "+3.0 % away in mean AbsRel,"
        " 2.1 % by the root of the mean square; by the same measure two seeds of one row lie 1.0 "
        "% apart."
    )


@pytest.mark.parametrize("profile", ["study", "quick"])
def test_without_a_committed_record_there_is_nothing_to_stand_beside(profile, capsys):
    fabricated.write("main_table", {"naive": [0.2]}, profile="quick")
    assert main(["row", "main_table", "naive", "--profile", profile, "--again"]) == 1
    assert (
        f"main_table, row naive, seed 0 has no committed record in profile {profile}"
        in capsys.readouterr().err
    )
    assert not paths.reruns().exists()


def test_other_code_and_runs_without_a_record_are_left_out():
    fabricated.write("main_table", {"naive": [0.2]})
    again("main_table", "naive", 0, 0.3, code="0" * 12)
    again("main_table", "full", 0, 0.3)
    assert reruns.pairs() == []
    assert reruns.reading([], recorded("main_table")) == reruns.NONE
    assert reruns.table([]).text == ""
