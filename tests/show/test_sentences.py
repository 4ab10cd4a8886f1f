"""Sentences that answer a question: from made-up records, the words by the data."""

import pytest
from helpers import fabricated

from dabook.analysis.statistics import Estimate, recorded
from dabook.show import sentences

NONE = [0.40, 0.41, 0.39]
# by 5 % and by 20 %, every seed alike
LOWER, MUCH_LOWER = ([x * factor for x in NONE] for factor in (0.95, 0.80))
# and up, and up and down
HIGHER, MUCH_HIGHER = ([x * factor for x in NONE] for factor in (1.05, 1.20))
EITHER = [0.40, 0.36, 0.43]


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch):
    """An empty checkout whose records a test may write."""
    monkeypatch.setenv("DALIB_ROOT", str(fabricated.root(tmp_path / "root")))


def results(name, levels, **options):
    fabricated.write(name, levels, **options)
    return recorded(name)


def test_the_largest_gain_comes_first_and_everything_else_is_named_by_its_kind():
    levels = {"none": NONE, "colour": LOWER, "blur": HIGHER, "cutmix": EITHER, "all": MUCH_LOWER}
    text = sentences.answer(results("perturbation", levels))
    first, lower, higher, unclear, missing = text.split(". ")
    assert first == (
        "“all three” beside “none” lowers the error by 20.0 % (95 % interval "
        "20.0 to 20.0 over seeds, "
        "20.0 to 20.0 over seeds and images), the largest gain of 4 "
        "comparisons; 3 of 7 comparisons wait for their runs"
    )
    assert lower == "Also lower: “colour only” beside “none”, −5.0 %"
    assert higher == "Higher: “blur only” beside “none”, +5.0 %"
    assert unclear.startswith("Undecided: “CutMix only” beside “none”, ")
    assert missing == "So far 0 to 3 of 5 seeds per row are recorded."


def test_without_a_gain_the_first_sentence_tells_the_largest_harm():
    levels = {"none": NONE, "colour": HIGHER, "blur": EITHER, "cutmix": MUCH_HIGHER}
    text = sentences.answer(results("perturbation", levels))
    first, higher, unclear, _ = text.split(". ")
    assert first == (
        "2 of 3 comparisons show a higher error and none a lower one; the most is “CutMix only” "
        "beside “none”, by 20.0 % "
        "(95 % interval 20.0 to 20.0 over seeds, "
        "20.0 to 20.0 over seeds and images); 4 of 7 comparisons wait for their runs"
    )
    assert higher == "Also higher: “colour only” beside “none”, +5.0 %"
    assert unclear.startswith("Undecided: “blur only” beside “none”, ")


def test_where_nothing_is_decided_the_first_sentence_tells_how_far_changes_and_intervals_reach():
    open_ = {"colour": EITHER, "blur": [0.42, 0.40, 0.36], "cutmix": [0.41, 0.37, 0.41]}
    found = results("perturbation", {"none": NONE, "all": MUCH_LOWER} | open_)
    asked = {row: found.change(row) for row in open_}
    low, high = (pick(asked, key=lambda r: asked[r].mean) for pick in (min, max))
    ends = [x for change in asked.values() for interval in change.intervals for x in interval]
    text = sentences.answer(found, list(asked))
    first, lower, _ = text.split(". ")
    assert first.replace("−", "-") == (
        "None of 3 comparisons is decided: the changes run from "
        f"{asked[low].mean:+.1f} % ({sentences.subject(found, low)})"
        f" to {asked[high].mean:+.1f} % ({sentences.subject(found, high)}), and no 95 % interval "
        f"reaches below {min(ends):+.1f} %"
        f" or above {max(ends):+.1f} %"
    )
    assert lower == "Lower: “all three” beside “none”, −20.0 %"


def test_one_or_two_comparisons_that_were_asked_for_are_told_in_full():
    found = results(
        "perturbation",
        {"none": NONE, "colour": LOWER, "blur": HIGHER, "cutmix": EITHER, "all": MUCH_LOWER},
    )
    text = sentences.answer(found, ["blur"])
    assert text.startswith(
        "“blur only” beside “none” raises the error by 5.0 % (95 % interval 5.0 to 5.0 over seeds, "
        "5.0 to 5.0 over seeds and images). Lower, "
        "beside “none”: “all three”, −20.0"
    )
    text = sentences.answer(found, ["colour", "blur"])
    assert text.startswith(
        "“colour only” beside “none” lowers the error by 5.0 % (95 % interval 5.0 to 5.0 over seeds, "
        "5.0 to 5.0 over seeds and images); “blur "
        "only” beside “none” raises the "
        "error by 5.0 % (95 % interval 5.0 to 5.0 over seeds, "
        "5.0 to 5.0 over seeds and images). Also lower: “all three” beside “none”, −20.0 "
        "%. Undecided: “CutMix"
    )
    text = sentences.answer(found, ["labelled_too"])
    assert text.startswith(f"{sentences.UNANSWERED} Lower, beside “none”: “all three”, −20.0 %;")
    assert "So far 0 to" in text
    assert sentences.quotes(found, "pt", rows=["blur"])["pt_headline"].startswith("“blur only”")


def test_a_clause_after_the_first_goes_on_in_the_sentence():
    levels = {
        "labelled_only": [*NONE, 0.4, 0.4],
        "naive": [*LOWER, 0.38, 0.38],
        "perturbed": [*LOWER, 0.38, 0.38],
    }
    text = sentences.answer(results("main_table", levels), ["naive", "perturbed"])
    assert text.startswith(
        "Adding pseudo labels lowers the error by 5.0 % (95 % interval 5.0 to 5.0 over seeds, "
        "5.0 to 5.0 over seeds and images); adding strong "
        "perturbation "
    )


def test_one_comparison_is_one_sentence():
    entries = {"apart": [*NONE, 0.4, 0.4], "together": [*HIGHER, 0.42, 0.42]}
    assert sentences.answer(results("cutmix_regions", entries)) == (
        "“normalised together” beside “normalised apart” raises the error by 5.0 % (95 % interval "
        "5.0 to 5.0 over seeds, "
        "5.0 to 5.0 over seeds and images)."
    )


def test_a_single_seed_shows_nothing():
    one = results(
        "perturbation",
        {"none": NONE[:1], "colour": LOWER[:1], "blur": HIGHER[:1], "cutmix": NONE[:1]},
    )
    text = sentences.answer(one, ["colour"])
    assert text.startswith(
        "“colour only” beside “none” moves the error by −5.0 % in a single seed, which shows "
        "nothing."
    )
    assert (
        "In a single seed, which shows nothing, beside “none”: “blur only”, +5.0 %; “CutMix "
        "only”, +0.0 %." in text
    )
    everything = sentences.answer(one)
    assert everything.startswith(
        "In a single seed, which shows nothing, beside “none”: “colour only”, −5.0 %; “blur"
    )
    assert "So far 0 to 1 of 5" in text


def test_nothing_recorded():
    empty = recorded("perturbation")
    assert sentences.answer(empty) == sentences.UNRECORDED
    assert (
        sentences.along(empty, {1: "colour"}, what="Things", unit="times") == sentences.UNRECORDED
    )
    assert sentences.progress(empty) == sentences.UNRECORDED


def test_progress_is_silent_where_all_is_there_and_names_older_code():
    levels = {"apart": [*NONE, 0.4, 0.4], "together": [*HIGHER, 0.42, 0.42]}
    assert sentences.progress(results("cutmix_regions", levels)) == ""
    assert sentences.progress(results("cutmix_regions", levels, code="0" * 12)) == sentences.STALE


def test_along_a_sweep_each_point_goes_to_its_kind():
    rows = {n: f"n{n}_naive" for n in (50, 500, 5000)}
    levels = {}
    for n, naive in zip(rows, (MUCH_LOWER, LOWER, HIGHER), strict=True):
        levels |= {f"n{n}_labelled_only": NONE, f"n{n}_naive": naive}
    found = results("pseudo_labels", levels)
    text = sentences.along(found, rows, what="Naive pseudo labels", unit="labelled images")
    assert text == (
        "Naive pseudo labels lower the error at 50 (−20.0 %), 500 (−5.0 %); they raise the error "
        "at 5000 (+5.0 %) labelled images."
    )


def test_a_sweep_says_what_is_undecided_and_what_is_not_recorded():
    rows = {n: f"n{n}_naive" for n in (50, 500, 5000)}
    levels = {"n50_labelled_only": NONE, "n50_naive": EITHER}
    found = results("pseudo_labels", levels | {"n500_labelled_only": NONE, "n500_naive": LOWER})
    text = sentences.along(found, rows, what="Naive pseudo labels", unit="labelled images")
    few = found.change("n50_naive").mean
    assert text == (
        "Naive pseudo labels lower the error at 500 (−5.0 %); they have an"
        f" undecided effect at 50 ({few:+.1f} %) labelled images. Not yet recorded: 5000."
    ).replace("(-", "(−")


def test_the_same_comparisons_on_some_domains_alone():
    found = results("labelled_sets", {"both": NONE, "room": HIGHER, "street": EITHER})
    text = sentences.elsewhere(found, ["room", "street"], ("floating", "fog_nature"))
    assert text.startswith(
        "On floating, fog nature alone, “rooms alone” beside “rooms and streets” raises the error "
        "by "
    )
    assert "; “streets alone” beside “rooms and streets” has an undecided effect (" in text
    assert found.change("room", ("floating", "fog_nature")).mean == pytest.approx(5)
    assert (
        sentences.elsewhere(recorded("dropping"), ["pixel"], ("floating",)) == sentences.UNRECORDED
    )


def test_an_effect_needs_both_intervals():
    """Student's t over seeds may exclude zero by luck where other images would have shown
    nothing."""
    found = results("cutmix_regions", {"apart": NONE, "together": LOWER})
    change = found.change("together")
    assert change.decided
    assert change.resampled == pytest.approx((-5, -5))
    doubtful = type(change)(change.mean, change.half, change.count, (-11.0, 0.5))
    assert not doubtful.decided
    assert "an undecided effect" in sentences.effect(doubtful)


def test_the_headline_is_the_first_sentence():
    text = sentences.answer(
        results("perturbation", {"none": NONE, "all": MUCH_LOWER, "colour": LOWER, "blur": HIGHER})
    )
    assert sentences.headline(text) == text[: text.index(" Also lower")]
    assert sentences.headline(sentences.UNRECORDED) == sentences.UNRECORDED


def test_a_page_may_answer_in_its_own_words():
    found = results("cutmix_regions", {"apart": NONE, "together": LOWER})
    values = sentences.quotes(found, "cr", answer="Yes. At length.", gap="By a little.")
    assert (values["cr_answer"], values["cr_headline"], values["cr_gap"]) == (
        "Yes. At length.",
        "Yes.",
        "By a little.",
    )
    assert sentences.quotes(found, "cr")["cr_headline"].startswith("“normalised together”")


def test_what_does_not_beat_the_floors_of_the_drawn_domains_is_named():
    """Rows at 0.40 and 0.32 on the mean, six domains each 1.1 times as hard as the one before; the
    floor is 0.36 everywhere. 0.40 is 0.347 on the second and 0.381 on the third, 0.32 is 0.335 on the
    fourth, 0.369 on the fifth."""
    levels = {"apart": [0.40, 0.402, 0.398, 0.4, 0.4], "together": [0.32, 0.322, 0.318, 0.32, 0.32]}
    fabricated.write("cutmix_regions", levels, images=100)
    assert sentences.beside_floors(recorded("cutmix_regions")) == (
        "The floors are not recorded for these images."
    )
    fabricated.write_floors({"constant": 0.5, "mean map": 0.36})
    text = sentences.beside_floors(recorded("cutmix_regions"))
    first, second, *rest = text.split(". ")
    assert first == (
        "Of 2 floors, predictions that look at no picture, the best is the mean map: 0.360 on the "
        "mean of the test domains"
    )
    assert second == "Beside the best floor of each domain 1 of 2 rows are surely lower on the mean"
    assert [part.split(",")[0] for part in rest] == [
        "On warm tabletop",
        "On noisy warehouse",
        "On drawn room",
        "On floating",
    ]
    assert "1 of 2 rows are not surely below it: “normalised apart”" in rest[0]
    assert "2 of 2 rows are not surely below it" in rest[-1]


def test_the_heaviest_domain_and_the_mean_without_it():
    """Floating is the last of six domains, each 1.1 times as hard as the one before: 1.1^5 of the sum
    (1.1^6 - 1) / 0.1, which is 20.9 %; 1.1^2.5 times the mean of 0.40 and 0.38."""
    found = results("cutmix_regions", {"apart": NONE, "together": LOWER})
    assert sentences.without(found) == (
        "Of a plain mean over the 6 test domains floating alone would be 21 %; in ours, of logarithms, "
        "each weighs the same. The rows reach 0.482 to 0.508 there. Without it, “normalised"
        " together” beside “normalised apart” lowers the error by 5.0 % (95 % interval 5.0 to 5.0 over seeds, "
        "5.0 to 5.0 over seeds and images)."
    )
    fabricated.write_floors()
    assert (
        "there, where the vertical ramp, which looks at no picture, has 0.300. Without"
        in sentences.without(recorded("cutmix_regions"))
    )
    assert sentences.without(recorded("v2_loss")) == sentences.UNRECORDED


def change(mean: float, half: float = 1.0, count: int = 5) -> Estimate:
    return Estimate(mean, half, count)


@pytest.mark.parametrize(
    ("whole", "left", "told"),
    [
        (
            -3.0,
            {"a": -2.5, "b": -4.0, "c": -3.1},
            "runs from −4.0 % (without b) to −2.5 % (without a) ",
        ),
        (-3.0, {"a": -0.5, "b": -4.0, "c": -3.1}, "with one left out, and is undecided without a"),
        (-3.0, {"a": -0.5, "b": 0.3, "c": -3.1}, ", and is undecided without a and b"),
        (-0.5, {"a": -0.5, "b": 2.0, "c": -3.1}, ", and is decided without c and b"),
        (-3.0, {"a": 2.5, "b": -4.0, "c": -3.1}, " with one left out, and turns round without a"),
    ],
)
def test_what_hangs_on_a_single_domain_is_told(whole, left, told):
    text = sentences.leaving_one_out(change(whole), {n: change(x) for n, x in left.items()})
    assert told in text
    assert ("undecided" in text) == ("undecided" in told)


def test_two_domains_or_one_seed_say_nothing_of_a_single_domain():
    three = {name: change(-3.0) for name in "abc"}
    assert sentences.leaving_one_out(change(-3.0), three)
    assert sentences.leaving_one_out(change(-3.0), {"a": change(1.0), "b": change(1.0)}) == ""
    assert sentences.leaving_one_out(change(-3.0, count=1), three) == ""
    assert sentences.leaving_one_out(change(-3.0), three | {"d": Estimate()}) == ""


def test_the_main_table_is_asked_where_it_has_more_seeds():
    """Ten seeds of rows that another question has with five: of these the first five alone."""
    ten = {"labelled_only": [0.4] * 10, "naive": [0.38, 0.42, 0.37, 0.43, 0.4] + [0.36] * 5}
    fabricated.write("main_table", ten)
    found = recorded("pseudo_labels")
    assert found.change("n500_naive").count == 5
    text = sentences.more_seeds(found)
    assert text.startswith(
        "The main table has these rows too, with 10 seeds: there “500 labels, naive”"
    )
    assert text in sentences.answer(found)
    assert sentences.more_seeds(recorded("main_table")) == ""
    fabricated.write("cutmix_regions", {"apart": NONE, "together": LOWER})
    assert sentences.more_seeds(recorded("cutmix_regions")) == ""
