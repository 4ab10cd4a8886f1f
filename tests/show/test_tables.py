"""Tables, intervals and sentences: from made-up records to what a reader sees."""

import re
from math import isnan, sqrt

import numpy as np
import pytest
from helpers import fabricated
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dabook.analysis import floors, paper
from dabook.analysis.statistics import Estimate, Results, estimate, recorded
from dabook.pages import real_images
from dabook.runs import records
from dabook.runs.experiments import expand, experiments
from dabook.runs.records import entries
from dabook.show import sentences, tables
from dabook.show.html import anchor, number, record_link, row_link
from dalib.errors import ConfigError

LEVELS = {
    "labelled_only": [0.29, 0.31, 0.33, 0.30, 0.32],
    "labelled_long": [0.28, 0.31, 0.32, 0.30, 0.31],
    "naive": [0.29, 0.32, 0.32, 0.31, 0.31],  # up and down: nothing to see
    "perturbed": [0.27, 0.30, 0.30, 0.29, 0.29],  # 0.02 lower, every time
    "full": [0.269, 0.302, 0.299, 0.291, 0.289],
}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """An empty checkout whose records a test may write."""
    monkeypatch.setenv("DALIB_ROOT", str(fabricated.root(tmp_path / "root")))
    return tmp_path / "root"


def main(levels: dict[str, list[float]], **options) -> Results:
    """The main table with made-up levels, and the seeds that these have."""
    found = fabricated.write("main_table", levels, **options)
    return Results(found, against=expand("main_table", profile="study").against)


def geometric(row: str) -> float:
    """The mean of a row's made-up levels."""
    return float(np.prod(LEVELS[row]) ** (1 / len(LEVELS[row])))


def test_the_interval_is_students_t():
    mine = estimate([1.0, 2.0, 4.0])
    sd = sqrt(((1 - 7 / 3) ** 2 + (2 - 7 / 3) ** 2 + (4 - 7 / 3) ** 2) / 2)
    assert mine.mean == pytest.approx(7 / 3)
    # t(0.975, 2), from a printed table
    assert mine.half == pytest.approx(4.302653 * sd / sqrt(3), rel=1e-6)
    assert mine.count == 3


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12))
def test_the_interval_agrees_with_scipy(values):
    mine = estimate(values)
    with np.errstate(all="ignore"):
        low, high = stats.t.interval(
            0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
        )
    if np.ptp(values) > 1e-6:
        assert (mine.low, mine.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)


def test_one_seed_or_none_has_no_interval():
    assert isnan(estimate([0.3]).half)
    assert estimate([]).count == 0
    assert not estimate([0.3]).decided


def test_a_change_is_paired_by_seed(study):
    results = main(LEVELS)
    assert results.value("labelled_only").mean == pytest.approx(geometric("labelled_only"))
    change = results.change("full")
    logs = np.log(LEVELS["full"]) - np.log(LEVELS["perturbed"])
    half = 2.776445 * logs.std(ddof=1) / sqrt(5)  # t(0.975, 4), from a printed table
    assert change.mean == pytest.approx(100 * (np.exp(logs.mean()) - 1))
    ends = [100 * (np.exp(logs.mean() + sign * half) - 1) for sign in (-1, 1)]
    assert (change.low, change.high) == pytest.approx(ends, rel=1e-5)
    assert change.half == pytest.approx((ends[1] - ends[0]) / 2, rel=1e-5)
    assert change.p == pytest.approx(stats.ttest_1samp(logs, 0).pvalue)
    # the rows move alike, though the seeds differ by more
    assert change.half < 1
    assert results.value("perturbed").half > 0.01
    assert results.change("labelled_only").count == 0


def test_a_change_uses_only_seeds_that_both_rows_have(study):
    results = main(LEVELS | {"naive": [0.28, 0.30]})
    assert results.change("naive").count == 2
    ratio = np.sqrt(0.28 / 0.29 * 0.30 / 0.31)
    assert results.change("naive").mean == pytest.approx(100 * (ratio - 1))
    assert results.seeds == 2


def test_the_mean_gives_every_domain_the_same_weight(study):
    results = main(LEVELS)
    wide = results.scores()
    assert list(wide.columns) == ["mean", *fabricated.DOMAINS]
    product = wide[results.domains].prod(axis=1).to_numpy()
    assert wide["mean"].to_numpy() == pytest.approx(product ** (1 / 6))
    plain = wide[results.domains].to_numpy()[:5].mean()  # the first row's five seeds
    assert results.plain("labelled_only").mean == pytest.approx(plain)
    assert plain > 1.01 * results.value("labelled_only").mean
    assert "validation" not in results.domains


def test_unknown_rows_cannot_be_compared(study):
    found = entries(expand("main_table", profile="study"))
    with pytest.raises(ConfigError, match="naif"):
        Results(found, against={"naif": "labelled_only"})


def test_every_number_leads_to_a_record(study):
    results = main(LEVELS)
    table, listed = (
        tables.main_table(results)._repr_html_(),
        tables.record_list(results)._repr_html_(),
    )
    for entry in results.found:
        link = f"../records/main_table/{entry.config.hash()}.html"
        assert link in table
        assert listed.count(link) == 8  # the mean and seven domains
    for row in results.rows:
        assert f'href="../notebooks/main_table.html#{anchor(results, row)}"' in table
        assert f'id="{anchor(results, row)}"' in listed
    assert f"{geometric('labelled_only'):.3f}" in table
    assert "−6.5" in table  # a true minus: 0.29 beside 0.3098, in logarithms
    assert "0.131" in table  # the paper's first row: the geometric mean of its six columns


def test_a_single_run_is_linked_directly(study):
    results = main({row: values[:1] for row, values in LEVELS.items()})
    only = results.of("naive")[0]
    assert row_link(results, "naive") == record_link(only.record)


def test_a_row_shared_by_two_experiments_is_linked_where_it_lies(study):
    fabricated.write("main_table", LEVELS)
    results = Results(entries(expand("perturbation", profile="study")), against="first")
    assert "../records/main_table/" in record_link(results.of("none")[0].record)


def test_provenance_tells_fresh_from_stale(study):
    fresh = main(LEVELS)
    assert "fresh" in tables.provenance(fresh)._repr_html_()
    assert 'class="stale"' not in tables.main_table(fresh)._repr_html_()
    stale = main(LEVELS, code="0" * 12)
    line = tables.provenance(stale)._repr_html_()
    assert "STALE: 25 of 25" in line
    assert "5 seed(s)" in line
    assert "0123456789ab" in line
    assert tables.main_table(stale)._repr_html_().count(">stale<") == len(LEVELS)
    assert "older code" in sentences.reading(stale)


def test_without_records_everything_still_renders(study):
    results = Results(entries(expand("main_table", profile="study")))
    table = tables.main_table(results)._repr_html_()
    assert "–" not in table
    assert "python -m dabook run main_table --profile study" in table
    assert tables.provenance(results)._repr_html_() == ""
    assert sentences.reading(results) == sentences.UNRECORDED
    assert sentences.precision(results, aim=3) == sentences.UNRECORDED
    assert isnan(sentences.quotes(results, "mt")["mt_full_mean"])
    assert "not recorded" in tables.record_list(results)._repr_html_()
    assert "not yet recorded" in tables.readme_table(results)
    beside = tables.side_by_side(results, results).text
    assert "50 of 50 runs are not recorded yet" in beside
    assert "<table" not in beside
    assert "Nothing is recorded on real images yet." in real_images.real_table(results).text


def test_a_run_that_you_did_not_make_says_how_to(study):
    recorded = main(LEVELS)
    yours = Results(entries(expand("main_table", profile="quick")))
    text = tables.side_by_side(yours, recorded)._repr_html_()
    assert "python -m dabook run main_table --profile quick" in text
    assert "5 of 5 runs are not recorded yet" in text
    assert ">your run<" not in text
    assert ">the recorded run<" in text
    assert "not recorded" not in tables.side_by_side(recorded, recorded)._repr_html_()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Estimate(-3.1, 1.9, 5), "lowers the error by 3.1 % (95 % interval 1.2 to 5.0 over seeds)"),
        (Estimate(4.0, 1.0, 5), "raises the error by 4.0 % (95 % interval 3.0 to 5.0 over seeds)"),
        (
            Estimate(-0.5, 1.6, 5),
            "has an undecided effect (−0.5 %, 95 % interval −2.1 to +1.1 over seeds)",
        ),
        (
            Estimate(-9.0, float("nan"), 1),
            "moves the error by −9.0 % in a single seed, which shows nothing",
        ),
        (Estimate(), "is not yet recorded"),
    ],
)
def test_words_follow_the_interval(change, words):
    assert sentences.effect(change) == words


@given(st.floats(-50, 50), st.floats(0, 50))
def test_an_interval_that_holds_zero_is_never_worded_as_an_effect(mean, half):
    words = sentences.effect(Estimate(mean, half, 5))
    assert ("lowers" in words or "raises" in words) == (not mean - half <= 0 <= mean + half)


def test_the_reading_of_a_study(study):
    text = sentences.reading(main(LEVELS))
    assert (
        "Part by part, at equal steps, the error is lower with strong perturbation (−6.5 %); the effect "
        "of pseudo labels ("
    ) in text
    assert re.search(r"\) and feature alignment \([+−]\d\.\d %\) is undecided\. “Labelled", text)
    assert "the recipe as a whole lowers the error by" in text


def test_parts_are_told_by_what_they_show():
    """Each verdict has its clause, and none is worded as another."""
    clause = sentences.by_verdict(
        {
            "a": Estimate(-3.0, 1.0, 5),
            "b": Estimate(-2.0, 1.0, 5),
            "c": Estimate(4.0, 1.0, 5),
            "d": Estimate(-0.5, 1.0, 5),
            "e": Estimate(-9.0, float("nan"), 1),
            "f": Estimate(),
        }
    )
    assert clause == (
        "the error is lower with a (−3.0 %) and b (−2.0 %); the error is higher with c (+4.0 %); the "
        "effect of d (−0.5 %) is undecided; of e (−9.0 %) there is a single seed, which shows nothing; f "
        "is not yet recorded"
    )


def test_precision_is_compared_with_the_aim(study):
    """Every half-width in percent of the error of labelled images alone, at both readings: by hand, of
    the alignment beside the perturbation."""
    halved = {row: [x / 2 for x in LEVELS[row]] for row in ("perturbed", "full")}
    results = main(LEVELS | halved)
    told = sentences.precision(results, aim=0.5)
    logs = np.log(LEVELS["full"]) - np.log(LEVELS["perturbed"])
    reach = 2.776445 * logs.std(ddof=1) / sqrt(5)  # t(0.975, 4), from a printed table
    half = 100 * np.exp(logs.mean()) * np.sinh(reach)
    shrunk = half * geometric("perturbed") / 2 / geometric("labelled_only")
    assert f"; feature alignment, {shrunk:.1f} %; " in told
    assert f"feature alignment, {half:.1f} %" not in told
    wide = [float(x) for x in re.findall(r", (\d+\.\d) %", told)]
    over = sum(x > 0.5 for x in wide)
    assert 0 < over < len(wide) == 7
    within = re.search(r"Of 7 changes only (.+) met the aim of 0\.5 %", told)[1]
    assert len(re.split(", | and ", within)) == 7 - over
    needed = int(re.search(r"would take (\d+) of them", told).group(1))
    # of many seeds t is 1.96, of five it is 2.776
    assert needed == pytest.approx(5 * (max(wide) / 0.5 * 1.96 / 2.776) ** 2, rel=0.1)
    told = sentences.precision(results, aim=0.01)
    assert "Of 7 changes none met the aim of 0.01 %" in told
    assert "All are within the aim of 30 %." in sentences.precision(results, aim=30)


def test_a_contrast_of_changes(study):
    few = {"n50_labelled_only": [0.5, 0.5, 0.5], "n50_naive": [0.4, 0.41, 0.39]}
    fabricated.write(
        "pseudo_labels", few | {"n5000_labelled_only": [0.4] * 3, "n5000_naive": [0.4] * 3}
    )
    results = recorded("pseudo_labels")
    assert "a factor of −20.0 % (95 % interval" in sentences.contrast(
        results, "n50_naive", "n5000_naive"
    )
    # in percent of its own pool's error: the cube root of 0.8 * 0.82 * 0.78
    assert results.change("n50_naive").mean == pytest.approx(100 * (0.51168 ** (1 / 3) - 1))
    assert results.contrast("n50_naive", "n500_naive").count == 0  # one of them is not recorded


def test_quotes_are_plain_values(study):
    values = sentences.quotes(main(LEVELS), "mt")
    assert values["mt_seeds"] == 5
    assert values["mt_labelled_only_mean"] == pytest.approx(geometric("labelled_only"))
    ratio = geometric("perturbed") / geometric("naive")
    assert values["mt_perturbed_diff"] == pytest.approx(100 * (ratio - 1))
    assert {type(v) for v in values.values()} == {int, float, str}


def test_the_readme_table_is_markdown_with_links(study):
    lines = tables.readme_table(main(LEVELS)).splitlines()
    *lines, empty, told = lines
    assert len(lines) == 2 + len(LEVELS)
    assert len({line.count("|") for line in lines}) == 1
    assert (empty, told) == (
        "",
        f"{sentences.reading(main(LEVELS))} Intervals in the table are over seeds.",
    )
    hashed = expand("main_table", profile="study")["full"].configs[4].hash()
    assert f"[4](data/records/main_table/{hashed}.json)" in lines[-1]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1725, "0.173"), (-0.0004, "−0.000"), (1e-12, "0.000"), (float("nan"), "–")],
)
def test_numbers_are_rounded_as_in_the_paper(value, text):
    assert number(value) == text


def test_the_papers_rows_are_means_of_its_columns():
    assert paper.paper("main_table")["labelled_only"] == pytest.approx(
        np.prod([0.085, 0.053, 0.492, 0.245, 0.134, 0.070]) ** (1 / 6)
    )
    assert paper.paper("semantic_alignment")["margin_085"] == pytest.approx(
        np.prod([0.080, 0.053, 0.464, 0.247, 0.127, 0.076]) ** (1 / 6)
    )
    for name in experiments():
        assert paper.counterparts(name).keys() == paper.paper(name).keys(), name


def test_the_floors_stand_under_the_rows_of_a_drawn_table(study):
    results = main(LEVELS)
    assert "floor" not in tables.main_table(results).text
    fabricated.write_floors({"constant": 0.4, "mean map": 0.25})
    lines = [line for line in tables.main_table(results).text.split("<tr>") if "<i>floor: " in line]
    cells = [
        [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<td.*?</td>", line, re.S)]
        for line in lines
    ]
    assert [cells[0][k] for k in (0, 1, 2, 3, 6, 7, -1)] == [
        "0.400",
        "0.400",
        "–",
        "–",
        "0.600",
        "0.400",
        "–",
    ]
    assert cells[1].count("0.250") == 3 + len(
        fabricated.DOMAINS
    )  # the mean, the plain mean, the mean without one domain, and each of them


def test_floors_of_another_size_or_number_of_images_stand_under_no_row(study):
    fabricated.write_floors()
    assert (
        floors.drawn_scores(Results(entries(expand("main_table", profile="study")))).keys()
        == fabricated.FLOORS.keys()
    )
    assert floors.drawn_scores(Results(entries(expand("main_table", profile="quick")))) == {}
    assert floors.drawn_scores(Results(entries(expand("vit", profile="study")))) == {}


def test_an_older_record_of_the_floors_is_read_as_it_is(study):
    results = main(LEVELS)
    fabricated.write_floors(drawn=False)
    assert "floor" not in tables.main_table(results).text
    assert "<i>floor: vertical ramp</i>" in real_images.real_table(results).text
    assert "not recorded: floor: constant, floor: vertical ramp, floor: mean map" in repr(
        tables.scales(results, "real")
    )


def test_the_heaviest_domain_stands_apart(study):
    """The made-up domains rise by a factor of 1.1 each: floating, the sixth, is 1.1^2.5 times the
    mean, and the other five are 1.1^-0.5 times it."""
    results = main(LEVELS)
    assert results.heaviest == "floating"
    assert results.value("labelled_only", results.others).mean == pytest.approx(
        geometric("labelled_only") / np.sqrt(1.1)
    )
    assert "without floating" in tables.main_table(results).text
    assert "0.295" in tables.main_table(results).text


@pytest.mark.slow
def test_scales_below_zero_are_counted_where_they_are_recorded(study):
    """Two records that have scales, one image in four below zero on every domain; the others are of
    an older form."""
    fabricated.write("main_table", LEVELS)
    for entry in entries(expand("main_table", profile="study", seeds=5)):
        if entry.row.name == "naive":
            for scores in (entry.record["images"] | entry.record["real"]).values():
                scores["scale"] = [0.2, -0.2, 0.0, float("nan")]
            records.write(entry.record, committed=True)
    fabricated.write_floors(inverted={"vertical ramp": 3})
    results = recorded("main_table")
    text = repr(tables.scales(results))
    assert "35 of 140: “+ pseudo labels”" in text  # five seeds, seven domains
    assert "21 of 700: floor: vertical ramp" in text
    assert "0 of 700: floor: constant, floor: mean map" in text
    assert (
        "not recorded: “Labelled images only”, “Labelled images only, the compute of a student”, "
        "“+ strong perturbation”, “+ feature alignment”" in text
    )
    # five seeds, six data sets
    assert "30 of 120: “+ pseudo labels”" in repr(tables.scales(results, "real"))
    assert "35 of 140" in repr(tables.main_table(results))
    assert "3 turned round" in repr(real_images.real_table(results))


def test_p_values_are_those_of_a_t_test():
    values = [0.1, -0.3, -0.2, -0.4, -0.1]
    assert estimate(values).p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert isnan(estimate([0.1]).p)
    assert (estimate([0.0, 0.0]).p, estimate([0.1, 0.1]).p) == (1.0, 0.0)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12))
def test_an_interval_leaves_out_zero_where_p_is_below_its_level(values):
    mine = estimate(values)
    if np.ptp(values) > 1e-6 and abs(mine.p - 0.05) > 1e-9:
        assert (mine.p < 0.05) == mine.decided


def test_a_row_says_how_many_of_its_seeds_are_there(study):
    results = main(LEVELS | {"naive": LEVELS["naive"][:2], "full": []})
    assert tables.heading(results, "naive").endswith(' <span class="stale">2 of 5 seeds</span>')
    assert tables.heading(results, "full").endswith(' <span class="stale">not recorded</span>')


def test_the_plan_says_what_a_run_begins_with():
    text = tables.plan(expand("segmentation", profile="study")).text
    assert "start: (trained: (as the profile has it); part: encoder)" in text
    assert (
        "start: (trained: (pseudo_labels: True; perturb: colour, blur, cutmix; align: unlabelled); "
        "part: encoder)" in text
    )
    assert "{" not in text


def test_the_plan_tells_a_row_from_the_others_and_what_all_share():
    plan = expand("real_and_drawn", profile="study")
    text = repr(tables.plan(plan))
    line = re.search(r"Real and drawn labels only labelled_only (.*?) Real and drawn", text)[1]
    # its sources, and nothing that the profile has
    assert line == "labelled: scenes:labelled, pool:rgbd?split=train"
    first, last = plan.rows[0].configs[0], plan.rows[-1].configs[0]
    assert f"{first.steps} steps of {first.batch} labelled images" in text
    assert f"(and {last.pool_batch} of the pool, in a student's step)" in text
    assert "pool" not in repr(tables.plan(expand("target", profile="study")))
    # the first row of these is the shortest
    curves = repr(tables.plan(expand("learning_curves", profile="study")))
    assert f"per row, {first.steps} steps of" in curves
    assert re.search(r"labelled_only_third steps: \d+ ", curves)


def test_the_plan_says_of_a_block_what_it_says():
    plan = " ".join(tables.plan(expand("small_large", profile="study", seeds=1)).text.split())
    assert "teacher: (encoder: lite2)" in plan
    assert "None" not in plan


def test_cells_that_are_not_below_a_floor_or_the_surface_are_marked(study):
    """Full is at 0.29 in the mean, domains 1.1 times as hard each: 0.229, 0.251, 0.277, 0.304, 0.335
    and 0.368. Not below the ramp's 0.30 are the last three, not below the surface's 0.24 all but the
    first; the line of the surface is no floor."""
    fabricated.write("main_table", {"full": [0.29, 0.2901, 0.2899]}, images=100)
    fabricated.write_floors({"vertical ramp": 0.30, "quadratic surface": 0.24})
    results = recorded("main_table")
    known = floors.drawn_scores(results)
    found = [tables.above(results.of("full"), known, [d]) for d in results.domains]
    f, q = tables.ABOVE_FLOOR, tables.ABOVE_SURFACE
    assert found == ["", q, q, f + q, f + q, f + q]
    text = tables.main_table(results).text
    assert "<i>fitted to the truth: quadratic surface</i>" in text
    assert "not surely below the quadratic surface, which is fitted" in text
    assert floors.best(known, "floating")[0] == "vertical ramp"
    told = sentences.beside_floors(results)
    assert "Of 1 floors, predictions that look at no picture, the best is the vertical ramp" in told
    assert "every row on 1 of 6 domains (night street); no row on 5 of 6 (fog nature" in told
