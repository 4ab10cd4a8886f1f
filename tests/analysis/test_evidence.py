"""Evidence: every source answers to one interface, and a new one is judged and shown by nobody's
leave."""

import ast
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import fabricated

from dabook.analysis import evidence, verdicts
from dabook.analysis.evidence import FLOORS, REAL, Comparison, source, sources
from dabook.analysis.statistics import MEAN, Estimate
from dabook.pages import claims
from dalib import paths
from dalib.data.scenes import TEST_DOMAINS
from dalib.errors import ConfigError


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    """An empty checkout whose records a test may write."""
    root = fabricated.root(tmp_path / "root")
    shutil.copy(paths.claims(), root / "data")
    monkeypatch.setenv("DALIB_ROOT", str(root))
    return root


@pytest.mark.parametrize("name", sources())
def test_a_source_says_what_can_be_compared_before_anything_is_recorded(name, study):
    asked = source(name, blank=True)
    assert asked.link == f"../notebooks/{name}.html"
    assert MEAN in asked.columns
    assert set(asked.averaged) <= asked.columns.keys()
    compared = [row for row in asked.results.rows if asked.reference(row)]
    assert compared
    for row in compared:
        versus = asked.reference(row)
        assert versus in asked.references
        comparison = Comparison(experiment=name, row=row, expect="lower", versus=versus)
        assert asked.estimate(comparison) == Estimate()


def test_each_source_has_its_own_columns_and_references():
    table = source("main_table", blank=True)
    assert table.columns["night_street"] == "night street"
    assert table.averaged == TEST_DOMAINS
    assert table.columns["kitti"] == "on KITTI"
    assert table.columns[REAL] == "on the real data sets of the table half"
    assert not set(evidence.REAL_COLUMNS) & {*TEST_DOMAINS, MEAN}
    for name in ("segmentation", "metric", "robustness", "real_images"):
        assert not set(evidence.REAL_COLUMNS) & source(name, blank=True).columns.keys()
    assert table.references["naive"] == f"“{table.results.rows['naive'].label}”"
    metres = source("metric", blank=True)
    assert metres.columns[MEAN] == "in metres, zero-shot"
    assert metres.averaged == ()
    corruption = source("robustness", blank=True)
    assert corruption.columns["gap"] == "what corruption adds"
    assert corruption.columns["jpeg"] == "JPEG"
    assert (corruption.averaged, corruption.reference("naive")) == ((), None)
    real = source("real_images", blank=True)
    assert (dict(real.columns), dict(real.references)) == (
        {MEAN: ""},
        {FLOORS: "the best floor"},
    )
    assert not real.contrasts


def test_real_columns_are_of_the_real_images(study):
    """Levels are 0.02 higher there; the table half of the made-up sets is NYUv2 and KITTI."""
    levels = {"labelled_only": [0.30, 0.31], "naive": [0.28, 0.29], "perturbed": [0.26, 0.25]}
    fabricated.write("drawn_to_real", levels)
    asked = source("drawn_to_real")
    for column in ("nyuv2", REAL):
        test = {"experiment": "drawn_to_real", "expect": "lower", "column": column}
        logs = {row: np.log(np.array(values) + 0.02) for row, values in levels.items()}
        naive = Comparison(row="naive", versus="labelled_only", **test)
        change = (logs["naive"] - logs["labelled_only"]).mean()
        assert asked.estimate(naive).mean == pytest.approx(100 * np.expm1(change))
        beside = Comparison(row="perturbed", versus="naive", beside="naive", **test)
        change = (logs["perturbed"] - 2 * logs["naive"] + logs["labelled_only"]).mean()
        assert asked.estimate(beside).mean == pytest.approx(100 * np.expm1(change))
    absent = Comparison(row="naive", versus="labelled_only", **test | {"column": "habitat"})
    assert asked.estimate(absent) == Estimate()


def test_an_unknown_source_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match="main_table"):
        source("main_tabel")


class Weather(evidence.Table):
    """A made-up source: as many percent lower as the row's name has letters."""

    def _recorded(self, name):
        return self._blank("main_table")

    def _blank(self, name):
        return super()._blank("main_table")

    @property
    def columns(self):
        return {MEAN: "", "rain": "in the rain"}

    @property
    def references(self):
        return {"sunshine": "sunshine & wind"}

    def reference(self, row):
        return "sunshine"

    def estimate(self, comparison):
        return Estimate(-float(len(comparison.row)), 0.5, 4)


def test_a_new_source_is_one_class_and_one_line(study, monkeypatch):
    monkeypatch.setitem(evidence.SPECIAL, "weather", Weather)
    tree = yaml.safe_load(paths.claims().read_text(encoding="utf8"))
    test = {"experiment": "weather", "row": "naive", "expect": "lower", "column": "rain"}
    tree["claims"] = {"naive": tree["claims"]["naive"] | {"tests": [test]}}
    file = study / "data" / "claims.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    known = verdicts.load()
    results = verdicts.results_of(known)
    (found,) = verdicts.verdicts(known, results)
    assert found.word == verdicts.REPRODUCED
    shown = claims.tables([found], known, results).text
    assert "beside sunshine &amp; wind, in the rain" in shown
    assert '<a href="../notebooks/weather.html">weather</a>' in shown
    assert "−5.0 %" in shown
    assert claims.surviving([found]).startswith("Of 1 comparisons, 1 differ from zero")

    tree["claims"]["naive"]["tests"] = [test | {"column": "snow"}]
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    with pytest.raises(ConfigError, match="unknown column in test 1 of claim naive 'snow'"):
        verdicts.load()


@pytest.mark.parametrize("module", [verdicts, claims])
def test_neither_judge_nor_page_knows_a_source_by_name(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf8"))
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert not words & ({*evidence.SPECIAL, FLOORS} | {*sources()})
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & {"FLOORS", "SPECIAL", "RealImages", "Corruption", "against_floors"}
