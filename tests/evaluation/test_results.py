"""Results: written and read back bit by bit, set beside each other, and refused where a difference
would mean nothing."""

import dataclasses
import json
import math

import pytest

from dalib.errors import ConfigError, DataError
from dalib.evaluation.metrics import LOG_BIAS, PIXELS
from dalib.evaluation.protocols import PROTOCOLS, SCALE
from dalib.evaluation.results import Result, made, refuse_other, write
from dalib.evaluation.set_results import SetResult, higher_is_better

IMAGES = tuple(f"rooms/{k}" for k in range(8))


def one(values=None, *, name="rooms", protocol="indoor", **more) -> SetResult:
    values = (0.1, 0.2, 0.1 + 1e-17, 1 / 3, 0.3, 0.2, 0.7, math.nan) if values is None else values
    count = len(values)
    fitted = {SCALE: (1.0,) * count, PIXELS: tuple(0.0 if v != v else 9.0 for v in values)}
    fitted[LOG_BIAS] = tuple(0.1 * v for v in values)
    flat = {"abs_rel": (0.5,) * count, LOG_BIAS: (0.1,) * count}
    given = {
        "name": name,
        "protocol": protocol,
        "card": PROTOCOLS[protocol].card,
        "alignment": "disparity",
        "per": "image",
        "mean": "images",
        "images": IMAGES[:count],
        "sequences": ("",) * count,
        "truths": tuple(f"truth {k}" for k in range(count)),
        "values": {"abs_rel": tuple(values), "delta1": tuple(1 - v for v in values)},
        "fitted": fitted,
        "floors": {"constant": flat},
    }
    return SetResult(**(given | more))


def result(*sets: SetResult, **more) -> Result:
    sets = sets or (one(),)
    subject = {"form": "predictions", "name": "maps", "kind": "disparity"}
    return Result(subject=subject, maps="0123", sets={s.name: s for s in sets}, **more)


# ---- files


def test_what_is_written_is_read_back_bit_by_bit(tmp_path):
    there = result(
        one(),
        one(name="halls", notes=("two, with a comma",)),
        made=made({"per": "image"}, device=""),
    )
    files = write(there, tmp_path / "out")
    assert [file.name for file in files] == ["result.json", "images.csv"]
    for place in (tmp_path / "out", tmp_path / "out" / "result.json"):
        back = Result.load(place)
        assert repr(back.sets) == repr(there.sets)  # NaN is not equal to itself
        assert (back.subject, back.maps, back.made) == (there.subject, there.maps, there.made)
        assert str(back) == str(there)


def test_the_json_says_what_it_should(tmp_path):
    write(result(made=made({}, device="cpu")), tmp_path)
    found = json.loads((tmp_path / "result.json").read_text())
    numbers = found["datasets"]["rooms"]["abs_rel"]
    values = [0.1, 0.2, 0.1, 1 / 3, 0.3, 0.2, 0.7]
    assert numbers["mean"] == pytest.approx(sum(values) / 7)
    assert numbers["low"] < numbers["mean"] < numbers["high"]
    assert (numbers["n"], numbers["median"], numbers["units"]) == (7, 0.2, 7)
    assert found["floors"]["rooms"]["constant"]["abs_rel"]["mean"] == 0.5
    assert set(found["floors"]["rooms"]["constant"]) == {"abs_rel"}
    about = found["about"]["rooms"]
    assert about["hash"] == PROTOCOLS["indoor"].hash
    assert about["card"]["max_depth"] == dataclasses.asdict(
        PROTOCOLS["indoor"].card.entries["max_depth"]
    )
    assert (about["images"], about["scored"], about["interval"]["over"]) == (8, 7, "images")
    assert found["schema"] == 1
    assert {"torch", "python"} <= found["versions"].keys()


def test_one_image_has_no_interval_and_json_no_nan(tmp_path):
    write(result(one((0.5,))), tmp_path)
    text = (tmp_path / "result.json").read_text()
    assert "NaN" not in text
    numbers = json.loads(text)["datasets"]["rooms"]["abs_rel"]
    assert (numbers["mean"], numbers["low"], numbers["high"]) == (0.5, None, None)


def test_odd_names_come_back(tmp_path):
    odd = one((0.1, 0.2), images=('a,"b"\nc', "größe/\u2603"), sequences=("s 1", ""))
    write(result(odd), tmp_path)
    assert Result.load(tmp_path).sets["rooms"].images == odd.images
    assert Result.load(tmp_path).sets["rooms"].sequences == odd.sequences


def test_a_table_that_was_changed_is_refused(tmp_path):
    write(result(), tmp_path)
    table = tmp_path / "images.csv"
    table.write_text(table.read_text().replace("0.7", "0.1"))
    with pytest.raises(DataError, match=r"is not the table that result\.json was written with"):
        Result.load(tmp_path)
    table.unlink()
    with pytest.raises(DataError, match=r"keep images\.csv beside it"):
        Result.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no readable result.json"),
        ("[1]", "no result of an evaluation"),
        ('{"datasets": {}, "schema": 2}', "of schema 2, and this version reads 1"),
        ('{"datasets": {}, "schema": 2, "dalib": "9.9"}', r"\(dalib 9.9 there, 0"),
        ('{"datasets": {"a": {}}, "schema": 1}', "keep images.csv"),
        ('{"datasets": {}, "schema": 1}', "holds no data set"),
        ('{"datasets": [], "schema": 1}', "holds no data set"),
        ("[" * 100_000, "no readable result.json"),
    ],
)
def test_what_is_no_result(tmp_path, text, words):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(DataError, match=words):
        Result.load(tmp_path)
    with pytest.raises(DataError, match=r"there is no such file; name a result\.json"):
        Result.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: c.pop("about"), "lacks 'about', which results have"),
        (lambda c: c.pop("subject"), "lacks 'subject'"),
        (lambda c: c.update(subject="x"), "is no whole result"),
        (lambda c: c.update(images="images.csv"), "its table of images cannot be read"),
        (lambda c: c["images"].pop("hash"), "its table of images cannot be read"),
        (lambda c: c["images"].update(file="../images.csv"), "its table of images cannot be read"),
        (lambda c: c["images"].update(file=""), "its table of images cannot be read"),
        (lambda c: c["images"].update(file=3), "its table of images cannot be read"),
        (lambda c: c["about"]["rooms"].update(alignment="x"), "is no whole result.*alignment"),
        (lambda c: c["about"]["rooms"].update(mean="x"), "is no whole result.*mean"),
        (lambda c: c["about"]["rooms"].update(columns=["x"]), "lacks"),
        (lambda c: c["about"]["rooms"].update(columns=[]), "lacks 'pixels'"),
        (lambda c: c["about"]["rooms"].update(card=[]), "is no whole result"),
        (lambda c: c["datasets"].update(rooms={}), "rooms has no image or no metric"),
        (lambda c: c["datasets"]["rooms"].update(x={}), "lacks 'x'"),
        (lambda c: c["datasets"].update(halls={"abs_rel": {}}), "lacks 'halls'"),
        (lambda c: c.update(floors=[]), "is no whole result"),
    ],
)
def test_a_result_that_was_changed_by_hand_is_refused_in_words(tmp_path, spoil, words):
    write(result(), tmp_path)
    content = json.loads((tmp_path / "result.json").read_text())
    spoil(content)
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"result\.json: .*{words}"):
        Result.load(tmp_path)


def test_a_floor_keeps_what_its_mean_needs_though_the_first_image_has_none(tmp_path):
    """The first image of the second data set has no pixel that counts."""
    last = one((math.nan, 0.3), name="halls")
    last.floors["constant"][LOG_BIAS] = (math.nan, 0.1)
    write(result(one(), last), tmp_path)
    assert Result.load(tmp_path).sets["halls"].floors["constant"][LOG_BIAS][1] == 0.1


def test_a_result_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """The disk is full as the second file is written: nothing is there, and an older result stays."""
    write(result(one((0.5,))), tmp_path / "old")
    before = (tmp_path / "old" / "result.json").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    for name in ("new", "old"):
        with pytest.raises(DataError, match="No space left"):
            write(result(), tmp_path / name)
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "old" / "result.json").read_bytes() == before
    assert Result.load(tmp_path / "old").sets["rooms"].images == ("rooms/0",)


def test_the_sheet_of_a_replaced_result_goes(tmp_path):
    (tmp_path / "worst.jpg").touch()
    (tmp_path / "notes.txt").touch()
    write(result(), tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {"result.json", "images.csv", "notes.txt"}


def test_a_result_is_never_replaced_unasked(tmp_path):
    settings = {"protocol": "indoor", "data": ("rooms",)}
    refuse_other(tmp_path, settings, overwrite=False)
    write(result(made=made(settings, device="cpu")), tmp_path)
    with pytest.raises(ConfigError, match=r"is there already, of these settings; .* --overwrite"):
        refuse_other(tmp_path, settings, overwrite=False)
    with pytest.raises(ConfigError, match=r"made with other settings \(align, protocol\)"):
        refuse_other(
            tmp_path, {"data": ["rooms"], "align": "none", "protocol": "nyuv2"}, overwrite=False
        )
    refuse_other(tmp_path, {}, overwrite=True)
    refuse_other(tmp_path / "new" / "newer", {}, overwrite=False)
    assert not (tmp_path / "new").exists()
    (tmp_path / "held" / "result.json").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"held/result\.json is a folder"):
        refuse_other(tmp_path / "held", {}, overwrite=True)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is a link to nothing"):
        refuse_other(tmp_path / "link", {}, overwrite=True)
    with pytest.raises(ConfigError, match=r"cannot be written .*name too long"):
        refuse_other(tmp_path / ("x" * 300), {}, overwrite=True)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match="is a file"):
        refuse_other(file, {}, overwrite=True)
    with pytest.raises(ConfigError, match="cannot be written"):
        refuse_other(file / "below", {}, overwrite=False)


# ---- beside each other


def test_a_paired_difference():
    """Every image is better by 0.01, however hard it is."""
    this = one((0.09, 0.19, 0.29, 0.39, 0.49, 0.59, 0.69))
    other = one((0.10, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70, 0.80))
    found = result(this).compared(result(other))
    difference = found.sets["rooms"].differences["abs_rel"]
    assert (difference.mean, difference.low, difference.high) == pytest.approx((-0.01,) * 3)
    assert (found.sets["rooms"].images, found.sets["rooms"].only) == (7, 1)
    lines = str(found).splitlines()
    assert "7 images; 1 that only one of the two has are left out" in lines[1]
    assert lines[2].split() == ["AbsRel", "-0.0100", "[-0.0100,", "-0.0100]", "better"]
    assert lines[3].split()[-1] == "better"  # delta grows
    back = result(other).compared(result(this))
    assert str(back).splitlines()[2].split()[-1] == "worse"


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ((0.2, 0.1, 0.4, 0.3, 0.6, 0.5, 0.8, 0.7), "unclear"),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), "the same"),
        ((0.0, 0.1, 0.2, 0.3, 0.4), "too few to say"),
        ((0.0, 0.1, 0.2, 0.3, 0.4, 0.5), "better"),
    ],
)
def test_what_may_be_said_of_a_difference(values, word):
    other = one((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8))
    found = result(one(values)).compared(result(other))
    assert str(found).splitlines()[2].endswith(word)


def test_images_are_matched_by_name_and_not_by_place():
    this = one((0.1, 0.5))
    turned = one((0.5, 0.1), images=IMAGES[1::-1], truths=("truth 1", "truth 0"))
    found = result(this).compared(result(turned)).sets["rooms"].differences["abs_rel"]
    assert found.mean == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocol": "nyuv2", "card": PROTOCOLS["nyuv2"].card}, "another protocol, indoor"),
        ({"alignment": "robust"}, "another alignment, disparity here and robust there"),
        ({"per": "sequence"}, "another fit per"),
        ({"truths": ("other",) * 8}, "8 images have another ground truth there, such as rooms/0"),
        ({"images": tuple("abcdefgh")}, "share no image"),
        ({"name": "halls"}, "share no data set: rooms here, halls there"),
    ],
)
def test_what_has_no_difference(change, words):
    with pytest.raises(ConfigError, match=words):
        result().compared(result(one(**change)))


def test_another_card_of_the_same_name_is_another_protocol():
    changed = dataclasses.replace(PROTOCOLS["indoor"], max_depth=9.0)
    with pytest.raises(ConfigError, match="another protocol"):
        result().compared(result(one(card=changed.card)))


def test_a_comparison_stands_in_the_result(tmp_path):
    this = result()
    both = this.beside(this.compared(result(one(), one(name="halls"))))
    write(both, tmp_path)
    content = json.loads((tmp_path / "result.json").read_text())["against"]
    assert content["datasets"]["rooms"]["abs_rel"]["mean"] == 0
    assert content["left_out"] == ["halls"]
    assert Result.load(tmp_path).against == content


def test_a_result_by_other_code_is_told():
    code = {"dalib": "0.1", "code": {"hash": "abc"}}
    this, same = result(made=code), result(made=dict(code))
    other = result(made={"dalib": "0.2", "code": {"hash": "def"}})
    assert "other code of this library (dalib 0.2, def)" in str(this.compared(other))
    assert this.compared(other).summary()["other_code"] == "dalib 0.2, def"
    for silent in (this.compared(same), this.compared(result()), result().compared(other)):
        assert silent.other_code == ""
        assert "other code" not in str(silent)


def test_which_way_is_better():
    ups = ["delta1", "delta05", "boundary_f1", "ordinal", "ordinal_hard"]
    assert all(map(higher_is_better, [*ups, "delta1_from_0_to_5"]))
    assert not any(map(higher_is_better, ["abs_rel", "silog", "flicker", "abs_rel_from_0_to_5"]))


# ---- as text


def test_the_table():
    sequences = ("a", "a", "b", "b", "c", "c", "d", "e")
    text = str(result(one(sequences=sequences, notes=("look there",), floors_by="robust")))
    lines = text.splitlines()
    assert lines[0] == (
        f"rooms: 7 images in 4 sequences, protocol indoor ({PROTOCOLS['indoor'].hash}), disparity, "
        "scale and shift in disparity, least squares, per image"
    )
    assert lines[1].split() == ["AbsRel", "d<1.25"]
    assert lines[2].split()[:2] == ["maps", "0.2762"]
    assert lines[3].split()[:3] == ["floor:", "constant", "0.5000"]
    assert "  note: look there" in lines
    assert "  note: the floors are aligned by robust, whatever the rest is" in lines
    assert "  note: with 4 sequences intervals are too narrow" in lines
    assert "cap 10" in text
