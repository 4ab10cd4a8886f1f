"""The page of the students: filled from the records, told in words while there is none."""

import json
import re
from math import nan

import pytest
import torch
import yaml
from helpers import fabricated
from helpers import students as made
from torch import nn

from dabook.pages import students as page
from dabook.runs import networks, records, students
from dabook.show.html import number
from dalib import paths
from dalib.evaluation.intervals import Estimate


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for variable in ("DALIB_PHOTOS", "DALIB_REALDEPTH"):
        monkeypatch.setenv(variable, "none")
    # nothing is known of seeds
    monkeypatch.setattr(page, "recorded", lambda _: None)
    monkeypatch.setattr(page.analysis, "between_seeds", lambda *_: nan)
    return made.checkout(tmp_path / "checkout", monkeypatch)


def write(*found: dict) -> None:
    for record in found:
        path = students.path_of(record["student"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(records.dump(record))


def test_while_there_is_no_student(checkout):
    found = page.found()
    assert found == {}
    assert "python -m dabook ship shipped" in page.table(found).text
    assert "when both students are there" in page.cost(found)
    assert "no model card" in page.card(found).data
    assert page.watching("smoke") == []
    assert "no student here yet" in page.sheet([], []).text
    assert page.aims(found).text == page.table(found).text  # in words that there is none
    assert page.beaten(found) == page.NONE
    assert "no picture" in page.kept(found).text


def test_one_student_alone(checkout):
    write(made.record("research"))
    found = page.found()
    assert list(found) == ["research"]
    assert "Research student" in page.table(found).text
    assert "both students are there; 1 of 2 are recorded" in page.cost(found)
    assert page.watching("smoke") == []  # its weights are not on this machine
    assert "no picture" in page.kept(found).text
    students.picture_of("research").write_bytes(b"\xff\xd8\xff picture")
    assert "data:image/jpeg;base64,/9j/IHBpY3R1cmU=" in page.kept(found).text
    assert "no picture" in page.kept({}).text  # without a record it says nothing of anybody


def test_the_table_is_made_from_the_records(checkout):
    write(made.record(level=0.22), made.record("research", level=0.2))
    found = page.found()
    assert list(found) == ["research", "shipped"]
    text = page.table(found).text
    for heading in ("Research student", "Shipped student", "floor: ramp", "quadratic surface"):
        assert heading in text
    for record in found.values():
        nyu = record["real"]["nyuv2"]["abs_rel"]
        assert number(sum(nyu) / len(nyu)) in text
        assert record["training_hash"] in text
    assert "+10.0 % from that of the research student" in page.cost(found)
    assert "what another seed does is not recorded, so that whether" in page.cost(found)
    assert "First study" not in text


@pytest.mark.parametrize(
    ("levels", "verdict"),
    [
        ((0.2, 0.3), "The licences cost accuracy: the gap is larger than what another seed"),
        ((0.3, 0.2), "The shipped student is the better one, by more than another seed explains"),
        ((0.2, 0.208), "no larger than that between two networks of one recipe with other seeds"),
        ((0.2, 0.192), "up to 5.0 % in nineteen of twenty pairs of the main table"),
        ((0.2, 0.2), "The interval does not say"),
    ],
)
def test_what_licences_cost_is_read_from_interval_and_seeds(levels, verdict, monkeypatch):
    monkeypatch.setattr(page.analysis, "between_seeds", lambda *_: 5.0)
    research, shipped = levels
    found = {
        "research": made.record("research", level=research),
        "shipped": made.record(level=shipped),
    }
    assert verdict in page.cost(found)


def test_the_first_study_stands_beside_them_where_it_is_at_hand(checkout):
    write(made.record())
    folder = checkout / "data" / "first_study" / "records" / "main_table"
    folder.mkdir(parents=True)
    kept = next((made.REPO / "data").glob("**/records/main_table/891bb1737fc0.json"))
    text = kept.read_text().replace('"row": "naive"', '"row": "full"')
    (folder / kept.name).write_text(text)
    assert "First study, the whole recipe" in page.table(page.found()).text


def climb(checkout, **levels: float) -> None:
    """A ladder of rungs with records of this AbsRel."""
    tree = yaml.safe_load((checkout / "students.yaml").read_text())
    tree["ladder"] = {name: {"label": f"+ {name}", "set": {}} for name in levels}
    (checkout / "students.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    write(*(made.record(name, level=level) for name, level in levels.items()))


def test_each_lever_is_told_against_the_line_above_it(checkout, monkeypatch):
    monkeypatch.setattr(page.analysis, "between_seeds", lambda *_: 4.0)
    assert "0 of its 2 networks are recorded" in page.brought(page.ladder(page.found()))
    assert page.levers(page.ladder(page.found())).text == f"<p>{page.NONE}</p>"
    climb(checkout, first=0.3, better=0.24, alike=0.238, worse=0.25)
    write(made.record(level=0.2))
    rungs = page.ladder(page.found())
    assert list(rungs) == ["first", "better", "alike", "worse", "shipped", "research"]
    table = page.levers(rungs).text
    for change in ("−20.0", "−0.8", "+5.0"):
        assert table.count(f"{change}<br>") == (2 if change == "−20.0" else 1), change
    text = page.brought(rungs)
    assert "4.0 % apart" in text
    assert (
        "excludes zero: Better student (−20.0 %); four times the steps (shipped) (−20.0 %)." in text
    )
    assert "These raise it so: Worse student (+5.0 %)." in text
    assert "chance: Alike student (−0.8 %)." in text
    assert page.found().keys() == {"shipped"}  # a rung is no student

    # what is not recorded is no line to be compared with
    assert page.levers(rungs).text.count("not recorded") == 1
    students.path_of("alike").unlink()
    rungs = page.ladder(page.found())
    assert page.levers(rungs).text.count("not recorded") == 2  # in their places
    assert page.levers(rungs).text.count("<br>") == 2
    assert "worse" not in page.brought(rungs).casefold()


def test_without_two_seeds_of_anything_no_lever_is_told_from_chance(checkout):
    climb(checkout, first=0.3, better=0.1)
    assert page.brought(page.ladder(page.found())) == (
        "Each line is one network, and what another seed does is not recorded. "
        "Not to be told from chance: Better student (−66.7 %)."
    )


def test_the_card_fits_into_a_page(checkout):
    write(made.record())
    text = page.card(page.found()).data
    assert not re.search(r"^##? ", text, re.MULTILINE)
    assert "### What it has seen, and under which licences" in text
    assert not text.lstrip().startswith("---")


# the sheet


def test_photographs_come_from_every_place_that_is_there(checkout, tmp_path, monkeypatch):
    samples, missing = page.photographs()
    assert len(samples) == 5
    assert len(missing) == 2
    assert any("python -m dalib fetch photos" in line for line in missing)

    made.photographs(tmp_path / "photos", monkeypatch, yes=20, no=20)
    real = made.real(tmp_path / "real", monkeypatch)
    (real / "unlabelled").mkdir()
    for number_ in range(40):
        made.noise(number_).save(real / "unlabelled" / f"{number_}.png")
    samples, missing = page.photographs()
    assert missing == []
    assert len(samples) == 30
    assert len({s["title"] for s in samples}) == 3


class Flat(nn.Module):
    """Sees brightness as nearness."""

    mean, std, multiple, kind = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1, "disparity"

    def forward(self, images):
        return images.mean(1), None


def test_the_sheet_has_each_photograph_with_each_networks_map():
    shown = [networks.Network(label=n, model=Flat(), short_side=24) for n in ("one", "two")]
    image = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8)
    figure = page.sheet(shown, [{"image": image, "title": f"photograph {k}"} for k in range(3)])
    places = ("left", "center")
    titles = [t for axes in figure.axes for place in places if (t := axes.get_title(place))]
    assert titles == [t for k in range(3) for t in (f"photograph {k}", "one", "two")]


def test_scenes_stand_beside_their_truth():
    samples = page.scenes("labelled_room", "night_street", each=1)
    assert [s["name"] for s in samples] == ["room", "night street"]
    shown = [networks.Network(label="one", model=Flat(), short_side=24)]
    figure = page.beside_truth(shown, samples)
    assert [ax.get_title("left") for ax in figure.axes[:2]] == ["room", "night street"]
    assert [ax.get_ylabel() for ax in figure.axes[2::2]] == ["truth", "network"]
    assert "no student here yet" in page.beside_truth([], samples).text


def test_how_far_off_it_is_comes_from_the_record():
    record = made.record()
    scores = record["images"]
    for k, name in enumerate(page.TEST_DOMAINS):
        scores[name]["abs_rel"] = [0.1 + 0.1 * k] * len(scores[name]["abs_rel"])
    scores["validation"]["abs_rel"] = [0.05] * len(scores["validation"]["abs_rel"])
    off = page.off({"shipped": record})
    wanted = {"known": 5, "unknown": 35, "worst": 60, "best": 10}
    assert off == pytest.approx(wanted)
    assert all(value != value for value in page.off({}).values())


def test_weights_that_are_not_those_of_the_record_are_not_shown(checkout):
    weights = paths.shipped_weights()
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"other weights")
    write(made.record())
    assert students.weights_of("shipped") is None
    record = made.record()
    record["weights"] |= {"sha256": students.digest(weights)}
    write(record)
    assert students.weights_of("shipped") == weights


def test_aims_are_held_against_what_was_reached(checkout, monkeypatch):
    record = made.record("research", level=0.2)
    write(record)
    nyu = sum(record["real"]["nyuv2"]["abs_rel"]) / len(record["real"]["nyuv2"]["abs_rel"])
    share = sum(record["marked"]["right"]) / len(record["marked"]["right"])
    for aims, verdicts in (
        ({"nyuv2": nyu + 0.01, "all": share}, ["reached", "reached, not surely"]),
        ({"nyuv2": nyu, "all": share + 0.01}, ["missed, not surely"] * 2),
    ):
        monkeypatch.setitem(page.AIMS, "research", aims)
        text = page.aims(page.found()).text
        assert re.findall(r">((?:reached|missed)[^<]*)</td>", text) == verdicts
        assert f"&lt; {number(aims['nyuv2'], 2)}" in text


def test_who_is_below_what_looks_at_no_picture(checkout):
    record = made.record("research", level=0.2)
    for floor in record["floors"].values():
        for found in floor["real"].values():
            found["abs_rel"] = [2.0] * len(found["abs_rel"])
    write(record)
    sets = len(page._means(record["real"]))
    assert (
        f"below each of 2 floors (constant, vertical ramp) on {sets} of {sets} real data sets, and"
        in page.beaten(page.found())
    )
    low = record["floors"]["vertical ramp"]["real"]["nyuv2"]
    low["abs_rel"] = [0.0] * len(low["abs_rel"])
    write(record)
    assert f"on {sets - 1} of {sets} real data sets (not on NYUv2)" in page.beaten(page.found())


def test_an_aim_is_surely_met_only_where_the_interval_says_so():
    def met(mean, low, high, units=40, *, up=True):
        found = Estimate(mean=mean, low=low, high=high, n=40, median=mean, units=units)
        return page._met(found, 0.9, up=up)

    assert met(0.95, 0.92, 0.98) == "reached"
    assert met(0.95, 0.88, 0.98) == "reached, not surely"
    assert met(0.85, 0.80, 0.93) == "missed, not surely"
    assert met(0.85, 0.80, 0.89) == "missed"
    assert met(0.85, 0.80, 0.89, up=False) == "reached"
    assert met(0.85, 0.80, 0.89, units=2) == "missed, not surely"  # an interval of two images


def test_every_recorded_floor_counts_not_those_of_the_record_alone(checkout):
    write(made.record(level=0.2))
    found = page.found()
    sets = len(page._means(found["shipped"]["real"]))
    assert f"on {sets} of {sets} real data sets, and" in page.beaten(found)
    (floor,) = {len(scores["abs_rel"]) for scores in [found["shipped"]["real"]["nyuv2"]]}
    paths.floors().parent.mkdir(parents=True, exist_ok=True)
    fabricated.write_floors(drawn=False)
    text = json.loads(paths.floors().read_text())
    text["floors"]["mean map"] = {"nyuv2": {"half": "table", "abs_rel": [0.1] * floor}}
    paths.floors().write_text(json.dumps(text))
    assert f"on {sets - 1} of {sets} real data sets (not on NYUv2)" in page.beaten(found)
