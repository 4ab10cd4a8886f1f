"""The first study: its numbers from its records by other code, settings that nobody reads any more,
and nothing of it in any other page."""

import json
import re

import numpy as np
import pytest
from helpers import ROOT
from scipy import stats

from dabook.analysis.first_study import FLOORS, REAL, FirstStudy
from dabook.pages import first_study as page
from dalib.errors import DataError

DOMAINS = (
    "night_street",
    "fog_nature",
    "warm_tabletop",
    "noisy_warehouse",
    "drawn_room",
    "floating",
)
TABLE_HALF = ("nyuv2", "kitti", "redwood", "middlebury", "mvs_outdoor", "flyingthings3d")


@pytest.fixture(scope="module")
def study():
    return FirstStudy()


def means(row: str, group: str, domains) -> dict[int, float]:
    """Seed -> AbsRel of a row, straight out of the files."""
    found = {}
    for path in (ROOT / "data" / "first_study" / "records" / row.split(".")[0]).glob("*.json"):
        record = json.loads(path.read_text())
        if record["row"] == row.split(".")[1]:
            parts = [np.nanmean(np.array(record[group][d]["abs_rel"], float)) for d in domains]
            found[record["seed"]] = sum(parts) / len(parts)
    return found


def paired(row, other, base, group="images", domains=DOMAINS) -> tuple[float, float, float]:
    """Mean and t interval of a change in percent, over common seeds."""
    first, second, unit = (means(r, group, domains) for r in (row, other, base))
    seeds = sorted(first.keys() & second.keys() & unit.keys())
    level = np.mean([unit[s] for s in seeds])
    values = [100 * (first[s] - second[s]) / level for s in seeds]
    low, high = stats.t.interval(0.95, len(seeds) - 1, np.mean(values), stats.sem(values))
    return np.mean(values), low, high


NAIVE, ALONE, LONG = "main_table.naive", "main_table.labelled_only", "pool.long_labelled_only"
FULL = "main_table.full"


@pytest.mark.parametrize(
    ("row", "other", "audited"),
    [
        (NAIVE, LONG, (4.7, 0.9, 8.5)),
        ("main_table.perturbed", LONG, (3.8, 0.1, 7.5)),
        (FULL, LONG, (3.5, -0.8, 7.8)),
        ("pool.long_4000", LONG, (-2.8, -4.1, -1.6)),
        (LONG, ALONE, (-6.4, -10.4, -2.4)),
    ],
)
def test_changes_on_drawn_domains_are_those_of_other_code(study, row, other, audited):
    """By SciPy from the files, and, but for the seeds of the base, by the audit of November."""
    change = study.change(row, other, base=ALONE)
    assert (change.mean, change.low, change.high) == pytest.approx(paired(row, other, ALONE))
    assert (change.mean, change.low, change.high) == pytest.approx(audited, abs=0.12)
    assert change.resampled[0] < change.mean < change.resampled[1]


def test_changes_on_real_images_are_those_of_other_code(study):
    assert tuple(study.data_sets("table")) == TABLE_HALF
    change = study.change(FULL, ALONE, group=REAL)
    assert (change.mean, change.low, change.high) == pytest.approx(
        paired(FULL, ALONE, ALONE, "real", TABLE_HALF)
    )
    assert (change.mean, change.low, change.high) == pytest.approx((0.5, -2.4, 3.4), abs=0.05)
    perturbed = "main_table.perturbed"
    kitti = study.change(FULL, perturbed, domains=["kitti"], group=REAL)
    assert (kitti.mean, kitti.low, kitti.high) == pytest.approx(
        paired(FULL, perturbed, perturbed, "real", ["kitti"])
    )


def test_verdicts_and_adjustments_are_those_of_the_claims_page_when_the_study_ended(study):
    words = list(study.verdicts.values())
    counts = {word: words.count(word) for word in set(words)}
    assert counts == {"reproduced": 11, "not reproduced": 12, "undecided": 15}
    assert len(study.measured) == 56
    kept = [(test.row, test.versus) for test in study.kept_by_holm()]
    assert kept == [
        (NAIVE, ALONE),
        ("pseudo_labels.n5000_naive", "pseudo_labels.n5000_labelled_only"),
        ("pseudo_labels.n50_naive", "pseudo_labels.n50_labelled_only"),
        ("oracle.oracle_naive", NAIVE),
        (FULL, FLOORS),
    ]


def test_the_page_says_its_faults_with_their_numbers(study):
    assert "6000 image passes, 750 steps" in page.equal_passes(study)
    assert "+4.7 % (95 % interval +0.9 to +8.5 over seeds" in page.equal_passes(study)
    assert "read 1.33 times (the paper's teacher reads them 20 times)" in page.too_short(study)
    floors = page.weak_floors(study)
    assert "KITTI (0.179, mean map 0.175), Redwood (0.149, mean map 0.147)" in floors
    assert "NYUv2 0.227 against 0.245, KITTI 0.118 against 0.179" in page.smears(study)
    domain = page.one_domain(study)
    assert domain.startswith("32 % of the mean over 6 domains is “floating” alone")
    assert "trained on such scenes alone, 0.351" in domain
    assert page.not_independent(study).startswith("200 of 200 students have the seed")
    assert "1.0 % away" in page.processors(study)
    assert "88 to 91 % of the error of the vertical ramp" in page.transformers(study)
    many = page.many_comparisons(study)
    assert "Of 56 comparisons, 21 differ" in many
    assert "keeps 5, that of Benjamini and Hochberg 10" in many


def test_its_tables_have_a_line_per_row(study):
    table = page.main_table(study).text
    assert table.count("<tr>") == 2 + 5
    assert ">+4.7<" in table
    assert "nan" not in table.lower().replace("nance", "")
    assert page.what_stands(study).text.count("<tr>") == 1 + 5


def made(folder, *, experiment: str, row: str, seed: int, errors: list[float]):
    """A record of settings that no code knows."""
    path = folder / "records" / experiment / f"{row}{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    scores = {d: {"abs_rel": [e, e]} for d, e in zip(("a", "b"), errors, strict=True)}
    record = {"experiment": experiment, "row": row, "seed": seed, "images": scores}
    path.write_text(json.dumps(record | {"hash": "gone", "config": {"forgotten": {"setting": 1}}}))


def test_settings_and_hashes_that_nobody_knows_do_no_harm(tmp_path):
    for seed, shift in enumerate((0.0, 0.02)):
        made(tmp_path, experiment="t", row="base", seed=seed, errors=[0.3, 0.5])
        made(tmp_path, experiment="t", row="new", seed=seed, errors=[0.3 - shift, 0.5 - shift])
    made(tmp_path, experiment="t", row="new", seed=7, errors=[0.9, 0.9])  # of no seed of the other
    small = FirstStudy(tmp_path)
    assert small.level("t.base").mean == pytest.approx(0.4)
    change = small.change("t.new", "t.base")
    assert (change.mean, change.count) == (pytest.approx(-2.5), 2)  # 0 and -0.02 of 0.4
    assert small.change("t.new", "t.base", domains=["a"]).mean == pytest.approx(-100 / 30)


def test_a_missing_or_damaged_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"records.*nothing there; restore it: git checkout"):
        _ = FirstStudy(tmp_path).runs
    made(tmp_path, experiment="t", row="base", seed=0, errors=[0.3, 0.5])
    (tmp_path / "records" / "t" / "base0.json").write_text("{")
    with pytest.raises(DataError, match=r"base0\.json: not a readable record"):
        _ = FirstStudy(tmp_path).runs


def test_only_its_own_page_and_the_students_read_it():
    asks = re.compile(r"first_study\(\)|FirstStudy|\"first_study\"")
    code = [p for room in ("dalib", "dabook") for p in sorted((ROOT / room).rglob("*.py"))]
    pages = sorted((ROOT / "notebooks").glob("*.ipynb"))
    found = {str(p.relative_to(ROOT)) for p in [*code, *pages] if asks.search(p.read_text("utf-8"))}
    assert found == {
        "dalib/paths.py",
        "dabook/analysis/first_study.py",
        "dabook/analysis/students.py",  # a student beside the first study's network
        "dabook/pages/first_study.py",
        "dabook/pages/students.py",
        "notebooks/first_study.ipynb",
    }
