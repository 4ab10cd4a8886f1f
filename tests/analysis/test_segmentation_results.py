"""Transfer to segmentation: levels, changes and intervals from records alone, and what other pages
make of such records."""

import numpy as np
import pytest
from helpers import fabricated

from dabook.analysis import bootstrap, evidence
from dabook.analysis.evidence import Comparison
from dabook.analysis.segmentation import MIOU, recorded
from dabook.analysis.statistics import MEAN, VALIDATION, Estimate, estimate
from dabook.pages import segmentation as page
from dabook.runs import records
from dabook.show import sentences, tables
from dabook.site import sphinx_ext
from dalib.evaluation.segmentation import Areas

LEVELS = {
    "few_imagenet": [0.60, 0.62, 0.61],
    "few_labelled_only": [0.58, 0.60, 0.585],
    "few_student": [0.50, 0.53, 0.515],
    "many_imagenet": [0.40, 0.41, 0.42],
    "many_labelled_only": [0.41, 0.40, 0.42],
    "many_student": [0.39, 0.40, 0.41],
}


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(fabricated.root(tmp_path / "root")))


@pytest.fixture
def results(study):
    fabricated.write("segmentation", LEVELS)
    return recorded()


def test_levels_are_those_of_the_records(results):
    for row, levels in LEVELS.items():
        geometric = np.exp(np.log(levels).mean())
        assert results.value(row).mean == pytest.approx(geometric, abs=1e-5)
        domains = np.outer(levels, fabricated.STEP ** (np.arange(6) - 2.5))
        assert results.value(row, MEAN, MIOU).mean == pytest.approx(1 - domains.mean(), abs=1e-5)
        assert results.value(row, VALIDATION).mean == pytest.approx(geometric, abs=1e-5)
    assert results.domains == [d for d in fabricated.DOMAINS if d != "validation"]
    assert results.seeds == 3


def test_changes_are_paired_by_seed_in_percent_and_in_points(results):
    pairs = [
        100 * (a - b) for a, b in zip(LEVELS["few_student"], LEVELS["few_imagenet"], strict=True)
    ]
    points = results.points("few_student")
    plain = np.mean(fabricated.STEP ** (np.arange(6) - 2.5))  # of mIoU the mean is plain
    assert points.mean == pytest.approx(-np.mean(pairs) * plain, abs=0.01)
    assert points.half == pytest.approx(estimate(pairs).half * plain, abs=0.01)
    assert points.resampled[0] < points.mean < points.resampled[1]
    change = results.change("few_student")
    logs = [np.log(LEVELS[row]) for row in ("few_student", "few_imagenet")]
    assert change.mean == pytest.approx(100 * np.expm1(np.mean(logs[0] - logs[1])), abs=0.001)
    assert change.decided
    low, high = change.resampled
    assert low < change.mean < high < 0
    versus = results.points("few_student", versus="few_labelled_only")
    assert versus.mean == pytest.approx(100 * (0.58833 - 0.515) * plain, abs=0.05)
    assert results.points("few_imagenet") == Estimate()
    more = results.contrast("few_student", "many_student")
    factors = [1 + c.mean / 100 for c in (change, results.change("many_student"))]
    assert more.mean == pytest.approx(100 * (factors[0] / factors[1] - 1))


def test_a_draw_is_a_draw_of_seeds_and_of_images_whose_sums_are_divided():
    """By hand: in each draw the same seeds and images for both rows, mIoU of the sums."""
    rng = np.random.default_rng(0)
    truth = rng.integers(50, 100, (5, 3))
    parts = np.empty((2, 2, 3, 5, 3))  # row, seed, part, image, class
    for row, seed in np.ndindex(2, 2):
        hit = rng.integers(0, 50, (5, 3))
        parts[row, seed] = hit, truth + rng.integers(0, 30, (5, 3)), truth
    draws = bootstrap.draw_errors([parts, parts[:, :, :, :4]], np.array([100.0, -100.0]), draws=6)
    of_seeds = bootstrap.counts(2, 0, 6)
    for k in range(6):
        value = 0.0
        for stream, size in ((1, 5), (2, 4)):
            times = bootstrap.counts(size, stream, 6)[k]
            for seed in range(2):
                errors = []
                for row in range(2):
                    hit, union, _ = (times[:, None] * p[:size] for p in parts[row, seed])
                    errors.append(1 - np.mean(hit.sum(0) / union.sum(0)))
                value += of_seeds[k, seed] / 2 * 100 * (errors[0] - errors[1]) / 2
        assert draws[k] == pytest.approx(value, abs=1e-9)


def test_records_make_a_frame_as_any_other(results):
    frame = records.frame(results.entries)
    assert len(frame) == 6 * 3 * 7 * 4
    assert frame.accuracy.between(0, 1).all()


def test_a_claim_is_tested_on_it_as_on_any_table(results):
    source = evidence.source("segmentation")
    assert evidence.sources().count("segmentation") == 1
    test = Comparison(
        experiment="segmentation", row="few_student", versus="few_labelled_only", expect="lower"
    )
    found = source.estimate(test)
    assert found == results.change("few_student", versus="few_labelled_only")
    assert found.decided
    assert found.mean < 0
    assert source.columns["validation"] == "in-domain, in 1 − mIoU"


def test_the_page_says_what_the_intervals_say(results):
    text = page.reading(results)
    assert (
        "“100 labels, from the student” beside “100 labels, from ImageNet” raises mIoU (+9.6 poi"
        in text
    )
    assert "“500 labels, from the student” beside “500 labels, from ImageNet” raises mIoU" in text
    assert "from the labelled-only network” has an undecided effect on mIoU" in text
    assert "nan" not in text
    table = page.table(results).text
    assert table.count("<tr>") == 2 + len(LEVELS)
    assert "39.0" in table  # mIoU of the first row in percent
    shown = page.classes(results, "few").text
    assert "49.0" in shown  # the floor in-domain, from ImageNet: 0.1 above its mean
    assert page.seeds(results).get_axes()
    absent = page.absent(results)
    assert absent.startswith("Of 16 classes each domain counts those that it has: in-domain 2;")


def test_every_other_page_speaks_of_it_as_of_an_error(results):
    text = sentences.answer(results, ["few_student", "many_student"])
    assert (
        "“100 labels, from the student” beside “100 labels, from ImageNet” lowers the err" in text
    )
    more = sentences.contrast(results, "few_student", "many_student")
    assert "the error falls more, or rises less, for the first" in more
    listed = tables.record_list(results).text
    assert listed.count('<a href="../records/segmentation/') == 18 * 8
    assert ">0.600<" in listed
    quoted = sentences.quotes(results, "sg")
    assert quoted["sg_few_student_mean"] == pytest.approx(0.515, abs=1e-3)
    unknown = [key for key, value in quoted.items() if value != value]
    assert all("imagenet" in key for key in unknown)  # which is compared with nothing


def test_several_domains_are_a_mean_of_their_changes(results):
    two = ("night_street", "floating")
    found = results.change("few_student", two)
    levels = [results.value(row, two).mean for row in ("few_student", "few_imagenet")]
    assert found.mean == pytest.approx(100 * (levels[0] / levels[1] - 1))
    assert found.resampled[0] < found.mean < found.resampled[1]
    logs = [np.log(results.column(two)[row]) for row in ("few_student", "few_imagenet")]
    assert found.mean == pytest.approx(100 * np.expm1((logs[0] - logs[1]).mean()))


def test_without_records_every_part_of_the_page_says_so(study):
    nothing = recorded()
    assert page.reading(nothing) == page.absent(nothing) == "These runs are not yet recorded."
    for part in (page.table(nothing), page.beside(nothing, nothing), page.classes(nothing, "many")):
        assert "18 of 18 runs are not recorded yet" in part.text or "30 of 30" in part.text
    assert nothing.points("few_student") == Estimate()
    assert nothing.iou("few_student", "validation") == {}


def test_a_pair_that_is_not_recorded_is_said_once(study):
    fabricated.write("segmentation", {row: LEVELS[row] for row in ("few_imagenet", "few_student")})
    text = page.reading(recorded())
    assert text.count("not yet recorded") == 3
    assert (
        "“100 labels, from the student” beside “100 labels, from the labelled-only network” is "
        "not yet recorded." in text
    )
    assert "“100 labels, from the student” beside “100 labels, from ImageNet” " in text


def test_one_seed_shows_nothing(study):
    fabricated.write("segmentation", {row: levels[:1] for row, levels in LEVELS.items()})
    text = page.reading(recorded())
    assert text.count("in a single seed, which shows nothing,") == 8
    assert "95 %" not in text


def test_the_papers_tables_are_its_own():
    text = page.published().text
    for value in ("84.8, 86.2 (multi-scale)", "59.4", "58.8", "82.1", "52.4"):
        assert value in text


def test_the_page_of_a_record_has_the_iou_of_its_classes(results):
    record = results.found[0].record
    body = sphinx_ext.record_body(record, record["hash"])
    miou = 100 * Areas.from_dict(record["images"]["validation"]).miou
    assert "IoU per domain and class, %" in body
    assert f"<th>validation</th><td>{miou:.2f}</td><td>{miou + 10:.2f}</td>" in body
    assert "IoU" not in sphinx_ext.record_body(record | {"images": {}}, "x").replace("mIoU", "")
