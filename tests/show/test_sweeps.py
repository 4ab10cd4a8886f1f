"""Figures of comparisons: the numbers that are drawn are the numbers of the records."""

import numpy as np
import pytest
from helpers import fabricated
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.container import ErrorbarContainer

from dabook.analysis.statistics import recorded
from dabook.show import sweeps


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(fabricated.root(tmp_path / "root")))


@pytest.fixture
def pools():
    levels = {
        "n50_labelled_only": [0.40, 0.42, 0.44],
        "n500_labelled_only": [0.30, 0.32, 0.34],
        "n50_naive": [0.36, 0.39, 0.39],
        "n500_naive": [0.31],
    }
    fabricated.write("pseudo_labels", levels)
    return recorded("pseudo_labels")


def series():
    return {kind: [f"n{n}_{kind}" for n in (50, 500, 5000)] for kind in ("labelled_only", "naive")}


def draw(results):
    return sweeps.sweep(results, series(), field="labelled_images", x_label="labelled images").axes


def bands(ax):
    """(x, low, high) of each band at its first x."""
    found = [c for c in ax.collections if isinstance(c, FillBetweenPolyCollection)]
    points = [
        c.get_paths()[0].vertices
        for c in found
        if len(c.get_paths()) and len(c.get_paths()[0].vertices)
    ]
    return [
        (p[0, 0], p[p[:, 0] == p[0, 0], 1].min(), p[p[:, 0] == p[0, 0], 1].max()) for p in points
    ]


def test_a_sweep_draws_means_over_the_setting_and_bands(pools):
    levels, changes = draw(pools)
    first, second = levels.get_lines()
    # nothing is drawn at 5000
    means = [np.prod(levels) ** (1 / 3) for levels in ([0.4, 0.42, 0.44], [0.3, 0.32, 0.34])]
    assert first.get_xydata() == pytest.approx(np.array([[50, means[0]], [500, means[1]]]))
    # 500 has seed 0 alone
    assert second.get_xydata() == pytest.approx(np.array([[50, 0.36], [500, 0.31]]))
    found = pools.value("n50_labelled_only")
    # t(0.975, 2) by a printed table
    logs = np.log([0.40, 0.42, 0.44])
    half = 4.302653 * logs.std(ddof=1) / np.sqrt(3)
    assert found.low == pytest.approx(np.exp(logs.mean() - half), rel=1e-5)
    assert bands(levels)[0] == pytest.approx((50, found.low, found.high))
    assert len(bands(levels)) == 1  # the single seed that both points of naive have makes no band
    drawn = [
        line
        for line in changes.get_lines()
        if line.get_marker() not in (None, "None", "") and len(line.get_xdata())
    ]
    assert len(drawn) == 1  # labels alone are compared with nothing
    assert drawn[0].get_xydata() == pytest.approx(
        np.array([[50, 100 * ((0.36 * 0.39 * 0.39) ** (1 / 3) / means[0] - 1)], [500, 100 / 30]])
    )


def test_a_sweep_is_logarithmic_and_ticked_where_it_was_measured(pools):
    for ax in draw(pools):
        assert ax.get_xscale() == "log"
        assert list(ax.get_xticks()) == [50, 500, 5000]
    assert [t.get_text() for t in draw(pools)[0].figure.legends[0].get_texts()] == [
        "labelled_only",
        "naive",
    ]


def test_groups_draw_each_change_with_both_intervals():
    levels = {"none": [0.40, 0.42, 0.44], "colour": [0.38, 0.42, 0.43], "all": [0.35, 0.36, 0.40]}
    fabricated.write("perturbation", levels)
    results = recorded("perturbation")
    groups = {"alone": ["colour", "blur"], "together": ["all", "strength_050"]}
    ax = sweeps.grouped(results, groups).axes[0]
    labels = {
        t.get_text(): place for t, place in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)
    }
    assert list(labels) == ["colour only", "blur only", "all three", "all three, half as strong"]
    bars = {c.lines[0].get_ydata()[0]: c for c in ax.containers if isinstance(c, ErrorbarContainer)}
    # the others are not recorded
    assert sorted(bars) == [labels["colour only"], labels["all three"]]
    for row, label in (("colour", "colour only"), ("all", "all three")):
        change = results.change(row)
        assert bars[labels[label]].lines[0].get_xdata()[0] == pytest.approx(change.mean)
        ends = bars[labels[label]].lines[2][0].get_segments()[0][:, 0]
        assert sorted(ends) == pytest.approx([change.low, change.high])
        thin = [
            line
            for line in ax.get_lines()
            if line.get_marker() == "|" and line.get_ydata()[0] == labels[label]
        ]
        assert list(thin[0].get_xdata()) == pytest.approx(list(change.resampled))
    ratio = (0.35 / 0.40 * 0.36 / 0.42 * 0.40 / 0.44) ** (1 / 3)
    assert results.change("all").mean == pytest.approx(100 * (ratio - 1))
    assert [t.get_text() for t in ax.texts] == [
        "alone",
        "not yet recorded",
        "together",
        "not yet recorded",
    ]
    assert ax.yaxis_inverted()  # the first group stands at the top


def test_without_a_change_there_is_no_axis():
    """Rows are recorded, none of them with the one that it is compared with."""
    fabricated.write("perturbation", {"colour": [0.38, 0.42], "blur": [0.35, 0.36]})
    figure = sweeps.grouped(recorded("perturbation"), {"alone": ["colour", "blur"]})
    (ax,) = figure.axes
    assert [t.get_text() for t in ax.texts] == ["not yet recorded"]
    assert not ax.axison


def test_without_records_they_say_so():
    nothing = recorded("perturbation")
    for figure in (
        sweeps.grouped(nothing, {"a": ["colour"]}),
        sweeps.sweep(nothing, {"a": ["colour"]}, field="strength", x_label="x"),
    ):
        assert figure.axes[0].texts[0].get_text() == "not yet recorded"
