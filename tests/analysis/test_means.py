"""Means of logarithms: by hand, by their properties, and in words where there is no logarithm; and
images that are drawn together."""

import numpy as np
import pytest
from helpers import fabricated
from hypothesis import given
from hypothesis import strategies as st

from dabook.analysis import bootstrap, means, units, verdicts
from dabook.analysis.statistics import estimate, recorded, shown
from dabook.runs import records
from dabook.show import sentences
from dabook.show.html import cell
from dalib.errors import ConfigError


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(fabricated.root(tmp_path / "root")))


def test_means_by_hand():
    """The geometric mean of 0.1 and 0.4 is 0.2; of shares the mean is plain."""
    levels = np.array([[0.1, 0.4], [0.9, 0.9]])
    assert means.over_domains(levels, "abs_rel") == pytest.approx([0.2, 0.9])
    assert means.over_domains(levels, "delta1") == pytest.approx([0.25, 0.9])
    assert means.over_domains(np.array([0.0, 0.4]), "abs_rel") == 0
    assert np.isnan(means.over_domains(np.array([np.nan, 0.4]), "abs_rel"))
    assert means.percent(np.log(0.8)) == pytest.approx(-20)


def test_every_metric_is_an_error_or_a_share():
    assert [means.geometric(m) for m in ("abs_rel", "rmse", "error")] == [True] * 3
    assert [means.geometric(m) for m in ("delta1", "delta05", "miou", "ordinal")] == [False] * 4
    with pytest.raises(ConfigError, match=r"unknown metric 'absrel'.*abs_rel"):
        means.geometric("absrel")


@given(st.lists(st.floats(0.01, 2), min_size=2, max_size=6), st.floats(0.1, 10))
def test_no_domain_rules(levels, factor):
    """Whichever domain an error grows in, the mean grows by the same factor."""
    grown = [
        [x * (factor if k == i else 1) for k, x in enumerate(levels)] for i in range(len(levels))
    ]
    found = means.over_domains(np.array(grown), "abs_rel") / means.over_domains(
        np.array(levels), "abs_rel"
    )
    assert found == pytest.approx(factor ** (1 / len(levels)), rel=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8))
def test_what_is_shown_decides_as_the_logarithms_do(logs):
    found = estimate(logs)
    factor = shown(found, means.percent)
    assert factor.p == pytest.approx(found.p, nan_ok=True)
    assert factor.decided == found.decided
    assert factor.low <= factor.mean <= factor.high


def test_an_error_of_zero_is_told_in_words(root):
    """A perfect network on one domain: its mean is 0, and no change in percent can be told."""
    entries = fabricated.write(
        "cutmix_regions", {"apart": [0.3, 0.31, 0.32], "together": [0.2, 0.21, 0.22]}
    )
    for entry in entries:
        if entry.record and entry.row.name == "together":
            scores = entry.record["images"]["floating"]
            scores["abs_rel"] = [0.0] * len(scores["abs_rel"])
            records.write(entry.record, committed=True)
    results = recorded("cutmix_regions")
    level = results.value("together")
    assert (level.mean, level.count, level.why) == (0, 3, means.ZERO)
    change = results.change("together")
    assert change.count == 3
    assert np.isnan(change.mean)
    assert not change.decided
    assert means.ZERO in cell(change)
    assert means.ZERO in sentences.effect(change)
    assert verdicts.outcome(change, "lower", margin=1.0) == verdicts.UNDECIDED
    assert means.ZERO in sentences.answer(results)
    # another domain has its change all the same
    assert results.change("together", "fog_nature").decided
    assert results.value("together", metric="delta1").mean > 0


def test_images_of_a_sequence_are_drawn_together(monkeypatch):
    """Three images, the first two of one sequence: a draw that takes the first unit twice has these
    two alone, one that takes both has all three."""
    times = {0: [[1], [1], [1]], 1: [[2, 0], [1, 1], [0, 2]]}
    monkeypatch.setattr(bootstrap, "counts", lambda size, stream, draws: np.array(times[stream]))
    scores = [np.array([[[0.1, 0.3, 0.8]]])]
    found = bootstrap.draw_means(
        scores, np.array([1.0]), draws=3, units=[np.array([0, 0, 1])], logs=True
    )
    assert found == pytest.approx(np.log([0.2, 0.4, 0.8]))


def test_units_are_those_of_the_record_or_known_by_name():
    names = ["nyuv2_fastdepth_deploy", "nyuv2_slambook_ch5_1", "nyuv2_slambook_ch5_3"]
    scores = {"names": names, "abs_rel": [0.1] * 3}
    assert units.numbers(scores).tolist() == [0, 1, 1]
    assert units.count(scores) == 2
    assert units.numbers({"names": ["a", "b"], "abs_rel": [0.1] * 2}) is None
    said = {"names": ["a", "b", "c"], "sequences": ["x", "", "x"], "abs_rel": [0.1] * 3}
    assert units.numbers(said).tolist() == [0, 1, 0]


def test_a_data_set_of_one_sequence_has_no_interval_over_sequences(root):
    """Of one unit nothing can be drawn anew: the interval over seeds stands alone, and with another
    data set the two are named over sequences."""
    for entry in fabricated.write(
        "main_table", {"labelled_only": [0.3, 0.31], "naive": [0.2, 0.25]}
    ):
        if entry.record:
            names = [f"nuscenes_CAM_{k}" for k in range(4)]
            entry.record["real"]["nuscenes"]["names"] = names
            records.write(entry.record, committed=True)
    results = recorded("main_table")
    options = {"versus": "labelled_only", "group": "real"}
    assert list(results.change("naive", "nuscenes", **options).named) == ["over seeds"]
    both = results.change("naive", ("nuscenes", "kitti"), **options)
    assert list(both.named) == ["over seeds", "over seeds and sequences"]
    single = results.change("naive", "kitti", **options)
    assert list(single.named) == ["over seeds", "over seeds and images"]
