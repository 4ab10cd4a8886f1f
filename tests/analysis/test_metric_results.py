"""Fine-tuning to metres: each row by its own domains, from records alone; and its page."""

import numpy as np
import pytest
from helpers import fabricated

from dabook.analysis import evidence
from dabook.analysis.evidence import Comparison
from dabook.analysis.metric import REAL, ZERO_SHOT, Metres, kind, recorded
from dabook.analysis.statistics import MEAN, VALIDATION, Estimate, estimate
from dabook.pages import metric as page
from dabook.runs import records
from dabook.runs.experiments import expand
from dabook.show import sentences
from dalib.data.scenes import TEST_DOMAINS
from dalib.evaluation.metrics import ALL_METRICS

LEVELS = {
    "room_imagenet": [0.60, 0.62, 0.61],
    "room_labelled_only": [0.58, 0.60, 0.585],
    "room_student": [0.50, 0.53, 0.515],
    "street_imagenet": [0.40, 0.41, 0.42],
    "street_labelled_only": [0.41, 0.40, 0.42],
    "street_student": [0.39, 0.40, 0.41],
}


def geometric(levels) -> float:
    return float(np.exp(np.log(levels).mean()))


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(fabricated.root(tmp_path / "root")))


@pytest.fixture
def results(study):
    fabricated.write("metric", LEVELS)
    return recorded()


def test_each_row_is_read_on_its_own_domains(results):
    """The records hold errors above 5 everywhere else."""
    for row, levels in LEVELS.items():
        assert results.value(row).mean == pytest.approx(geometric(levels), abs=1e-6)
        inside = geometric(np.array(levels) - 0.1)
        assert results.value(row, VALIDATION).mean == pytest.approx(inside, abs=1e-6)
    wide = results.scores()
    for row in LEVELS:
        own = ZERO_SHOT[results.kinds[row]]
        for domain in TEST_DOMAINS:
            assert wide.loc[row, domain].isna().all() == (domain not in own)
    assert set(ZERO_SHOT["room"]) & set(ZERO_SHOT["street"]) == set()


def test_changes_are_paired_by_seed_and_resampled_over_own_images(results):
    ours, theirs = (np.array(LEVELS[row]) for row in ("room_student", "room_imagenet"))
    logs = estimate(np.log(ours / theirs))
    change = results.change("room_student")
    assert change.mean == pytest.approx(100 * np.expm1(logs.mean))
    assert change.low == pytest.approx(100 * np.expm1(logs.low))
    assert change.p == pytest.approx(logs.p)
    low, high = change.resampled
    assert low < change.mean < high < 0
    inside = results.change("room_student", VALIDATION)
    at_home = np.log((ours - 0.1) / (theirs - 0.1)).mean()
    assert inside.mean == pytest.approx(100 * np.expm1(at_home))
    versus = results.change("room_student", versus="room_labelled_only")
    other = geometric(LEVELS["room_labelled_only"])
    assert versus.mean == pytest.approx(100 * (geometric(ours) / other - 1))
    # of two kinds: a difference over seeds alone, for they share no images
    gap = results.contrast("room_student", "street_student")
    assert gap.resampled is None
    factors = [1 + c.mean / 100 for c in (change, results.change("street_student"))]
    assert gap.mean == pytest.approx(100 * (factors[0] / factors[1] - 1))


def test_nothing_recorded_is_nothing_told(study):
    empty = recorded()
    assert empty.value("room_student") == Estimate()
    assert empty.change("room_student") == Estimate()
    assert page.reading(empty) == sentences.UNRECORDED
    for piece in (page.table(empty), page.beside(empty, empty)):
        assert "30 of 30 runs are not recorded yet" in piece.text
    assert page.real(empty).text.count("<tr>") == 1 + 4  # the paper's rows alone
    assert page.seeds(empty) is not None


def test_the_claims_may_ask_for_zero_shot_and_in_domain(results):
    asked = evidence.source("metric")
    assert set(asked.columns) == {MEAN, VALIDATION}
    for column in (MEAN, VALIDATION):
        found = asked.estimate(
            Comparison(
                experiment="metric",
                row="room_student",
                column=column,
                versus="room_imagenet",
                expect="lower",
            )
        )
        assert found.count == 3
        assert found.mean < 0


def test_rows_of_other_kinds_are_not_compared(study):
    plan = expand("metric", profile="study", seeds=1)
    entries = records.entries(plan)
    with pytest.raises(ValueError, match="learn different kinds of scenes"):
        Metres(entries, against={"street_student": "room_imagenet"})
    with pytest.raises(ValueError, match="known are room, street"):
        kind(records.entries(expand("main_table", profile="study", seeds=1))[0])


def test_the_page_shows_metres_and_the_papers_rows(results):
    text = page.table(results).text
    for head, _ in page.METRICS.values():
        assert head in text
    shown = page.real(results).text
    assert REAL == {"room": "nyuv2", "street": "kitti"}
    for printed in ("0.056", "0.984", "0.046", "ZoeDepth (re-trained)"):
        assert printed in shown
    # the rows' own: nyuv2 for rooms, kitti for streets, of level + 0.02
    assert "0.535" in shown
    assert "0.420" in shown
    told = page.reading(results)
    # the rooms' student beside both, the streets' beside ImageNet alone, zero-shot and in-domain
    assert told.count("lowers AbsRel") == 6
    assert told.count("has an undecided effect on AbsRel") == 2
    assert "0.150" in page.published().text


def test_a_record_of_metres_has_every_metric(results):
    record = results.found[0].record
    assert set(record["images"]["room"]) == set(ALL_METRICS)
    frame = results.frame
    assert set(ALL_METRICS) <= set(frame.columns)
    assert len(frame[frame.domain == "room"]) == 3 * len(LEVELS) * 4


def test_what_stalls_is_told_from_its_record():
    shown = page.stalls().text
    assert "one depth everywhere" in shown
    assert "labels on 2 % of the pixels" in shown
