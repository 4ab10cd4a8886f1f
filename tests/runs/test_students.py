"""The recipes of the students, and what is refused: a network that has seen, by itself or through who
taught it, what may not be passed on."""

import copy
import itertools

import pytest
import yaml
from helpers import students as made

from dabook.runs import shipping, students
from dalib import paths
from dalib.errors import ConfigError, DataError
from dalib.models import build, save

REPO = made.REPO


def config_of(**settings):
    from dalib.config import RunConfig

    return RunConfig.from_dict({**made.TINY, **settings})


# the recipes


def test_the_two_students_differ_in_their_data_alone():
    found = students.recipes()
    assert list(found) == ["research", "shipped"]
    research, shipped = (found[name].config.to_dict() for name in found)
    different = {key for key in research if research[key] != shipped[key]}
    assert different == {"labelled", "unlabelled"}
    assert not [n for each in found["shipped"].config.sources.values() for n in each if "rgbd" in n]
    assert found["shipped"].config.teacher_run().encoder == "lite2"
    assert [found[name].ship for name in found] == [False, True]


def test_each_rung_of_the_ladder_is_one_lever_and_the_last_a_quarter_of_the_shipped_student():
    rungs = [each.config.to_dict() for each in students.ladder().values()]
    rungs.append(students.recipe("shipped").config.to_dict())
    different = [
        {key for key in above if above[key] != below[key]}
        for below, above in itertools.pairwise(rungs)
    ]
    assert different == [
        {"height", "width"},
        {"gradient_weight"},
        {"pseudo_labels", "perturb"},
        {"unlabelled"},
        {"teacher"},
        {"steps"},
    ]
    assert rungs[-1]["steps"] == 4 * rungs[-2]["steps"]
    assert not any(each.ship for each in students.ladder().values())


@pytest.mark.parametrize(
    ("rungs", "message"),
    [
        ([1], "ladder: expected names with values"),
        ({"shipped": {"label": "a", "set": {}}}, "ladder, shipped: a student has this name"),
        ({"first": {"set": {}}}, "label missing in ladder, first|ladder, first.*label missing"),
        ({"a": {"label": "a", "set": {}, "ship": True}}, "ladder, a.*'ship'"),
        ({"a": {"label": "a", "set": {"step": 1}}}, "ladder, a: .*'step'"),
    ],
)
def test_a_ladder_is_read_strictly(tmp_path, monkeypatch, rungs, message):
    folder = made.checkout(tmp_path / "checkout", monkeypatch)
    tree = yaml.safe_load((folder / "students.yaml").read_text()) | {"ladder": rungs}
    (folder / "students.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    with pytest.raises(ConfigError, match=message):
        students.ladder()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("students"), "students missing"),
        (lambda t: t.update(student={}), "unknown key of top level 'student'"),
        (lambda t: t.update(shared=[1]), r"shared: expected names with values"),
        (lambda t: t["students"]["shipped"].pop("label"), "label missing"),
        (lambda t: t["students"]["shipped"]["set"].update(step=3), r"student shipped: .*'step'"),
        (lambda t: t["students"]["shipped"].update(ship="yes"), "ship is 'yes', not true or false"),
        (lambda t: t["students"]["research"].update(ship=True), "research: ship is true"),
        (lambda t: t["students"]["shipped"].update(ship=False), "shipped: ship is false"),
        (lambda t: t["students"].update({"a/b": t["students"]["research"]}), "cannot name a file"),
        (lambda t: t["students"]["shipped"].update(set=[1]), "set: expected settings"),
        (lambda t: t["shared"].update(task="depth"), "student research: .*task depth"),
    ],
)
def test_recipes_are_read_strictly(tmp_path, monkeypatch, change, message):
    folder = made.checkout(tmp_path / "checkout", monkeypatch)
    tree = yaml.safe_load((folder / "students.yaml").read_text())
    change(tree)
    (folder / "students.yaml").write_text(yaml.safe_dump(copy.deepcopy(tree), sort_keys=False))
    with pytest.raises(ConfigError, match=message):
        students.recipes()


def test_an_unknown_student_is_told_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown student 'shiped'.*shipped"):
        students.recipe("shiped")


# what they have seen


def test_what_a_student_and_its_teacher_have_seen_is_counted_by_origin(tmp_path, monkeypatch):
    made.photographs(tmp_path / "photos", monkeypatch, yes=2, no=1, unclear=1)
    made.pairs(tmp_path / "rgbd", monkeypatch)
    found = students.seen(config_of(**made.RESEARCH))
    labelled = [("scenes:labelled", 1), ("pool:rgbd?split=train", 2)]
    assert [(s["run"], s["role"], s["source"], s["weight"]) for s in found] == [
        *(("student", "labelled", *each) for each in labelled),
        ("student", "unlabelled", "scenes:unlabelled", 1),
        ("student", "unlabelled", "pool:photos", 1),
        *(("teacher", "labelled", *each) for each in labelled),
    ]
    images = [sum(part["images"] for part in each["parts"]) for each in found]
    assert images == [8, 2, 4, 4, 8, 2]
    ships = {part["ship"]: 0 for part in found[3]["parts"]}
    for part in found[3]["parts"]:
        ships[part["ship"]] += part["images"]
        assert all(part[key] for key in ("repository", "licence", "commit"))
    assert ships == {"yes": 2, "no": 1, "unclear": 1}


def test_what_may_be_shipped_is_not_refused(tmp_path, monkeypatch):
    made.photographs(tmp_path / "photos", monkeypatch, yes=2, no=2, unclear=1, foreign=1)
    config = config_of(**made.SHIPPED)
    found, began = students.seen(config), students.terms(config)
    assert students.against_shipping(found, began) == []
    assert [each["licence"] for each in began] == ["Apache-2.0"]


def photographs_of_ones_own(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    made.noise(1).save(folder / "mine.png")
    return {"unlabelled": [f"photos:{folder}"]}


def weights_of_somebody(tmp_path):
    save(build("lite0", pretrained=False, seed=1), tmp_path / "network.safetensors")
    return {"start": {"weights": str(tmp_path / "network.safetensors")}}


def a_teacher_of_somebody(tmp_path):
    save(build("lite0", pretrained=False, seed=1), tmp_path / "network.safetensors")
    return {"teacher": {"weights": str(tmp_path / "network.safetensors")}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            lambda _: {"unlabelled": ["pool:photos"]},
            r"student, unlabelled: pool:photos: 1 images of .* say no",
        ),
        (lambda _: {"labelled": ["scenes:labelled", "pool:rgbd"]}, r"teacher, labelled: pool:rgbd"),
        (lambda _: {"unlabelled": ["scenes:unlabelled", "skimage:photos"]}, "not known to this"),
        (photographs_of_ones_own, r"unlabelled: photos:.* say unclear"),
        pytest.param(
            weights_of_somebody, r"weights network\.safetensors: unknown", marks=pytest.mark.slow
        ),
        pytest.param(
            a_teacher_of_somebody, r"weights network\.safetensors: unknown", marks=pytest.mark.slow
        ),
    ],
    ids=["photos", "rgbd", "skimage", "folder", "start", "teacher"],
)
def test_what_may_not_be_shipped_is_refused_before_the_first_step(
    tmp_path, monkeypatch, settings, message
):
    folder = made.checkout(tmp_path / "checkout", monkeypatch)
    made.photographs(tmp_path / "photos", monkeypatch, yes=2, no=1, unclear=1)
    made.pairs(tmp_path / "rgbd", monkeypatch)
    made.real(tmp_path / "real", monkeypatch)
    made.declare(folder, shipped=made.SHIPPED | settings(tmp_path))
    with pytest.raises(ConfigError, match=message) as caught:
        shipping.make("shipped", report=lambda _: None)
    assert "may not be shipped" in str(caught.value)
    assert "students.yaml" in str(caught.value)
    assert not list(paths.runs().glob("*/checkpoint"))


def test_a_photograph_that_the_table_does_not_know_may_not_be_shipped(tmp_path, monkeypatch):
    made.photographs(tmp_path / "photos", monkeypatch, yes=1, foreign=2)
    found = students.seen(config_of(unlabelled=["pool:photos"]))
    lines = students.against_shipping(found, [])
    assert len(lines) == 1
    assert "2 images of pool:photos say unclear (not in the pool's table" in lines[0]


def test_a_table_that_changes_its_mind_is_believed(tmp_path, monkeypatch):
    """The refusal reads the table, not the option `shippable`, nor anything that was kept."""
    folder = made.checkout(tmp_path / "checkout", monkeypatch)
    made.photographs(tmp_path / "photos", monkeypatch, yes=1)
    config = config_of(unlabelled=["pool:photos"])
    assert students.against_shipping(students.seen(config), []) == []
    sources = folder / "data" / "pools" / "sources.csv"
    sources.write_text(sources.read_text().replace(",yes,", ",no,"))
    assert "say no" in students.against_shipping(students.seen(config), [])[0]


def test_a_pool_that_is_not_there_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_PHOTOS", "none")
    with pytest.raises(DataError, match="python -m dalib fetch photos"):
        students.seen(config_of(**made.SHIPPED))


@pytest.mark.slow
def test_a_file_that_would_be_too_large_is_refused_before_the_training(tmp_path, monkeypatch):
    made.checkout(tmp_path / "checkout", monkeypatch)
    made.photographs(tmp_path / "photos", monkeypatch, yes=2)
    made.real(tmp_path / "real", monkeypatch)
    monkeypatch.setattr(shipping, "LIMIT", 6_000_000)
    with pytest.raises(ConfigError, match=r"would have 6\.\d MB, and may have 6 MB"):
        shipping.make("shipped", report=lambda _: None)
    assert not list(paths.runs().glob("*/checkpoint"))


@pytest.mark.slow
def test_the_limit_leaves_room_for_both_small_encoders():
    for encoder in ("lite0", "lite2"):
        shipping._refuse_size(config_of(encoder=encoder))
    with pytest.raises(ConfigError, match="name a smaller encoder"):
        shipping._check_size(shipping.LIMIT + 1)
