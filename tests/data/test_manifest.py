"""The table of a manifest: other encodings and separators are read right, and what cannot be meant
is named by row."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dalib.data.manifest import COLUMNS, OPTIONAL, check_columns
from dalib.data.sources import DepthManifest
from dalib.errors import DataError

PLAIN = "image,depth,kind,depth_scale\nänne.png,depth.png,depth_m,1000\n"


@pytest.fixture
def folder(tmp_path):
    """One pair, at 2 m, and a second depth map."""
    Image.new("RGB", (4, 2), (9, 9, 9)).save(tmp_path / "änne.png")
    for name in ("depth.png", "other.png"):
        Image.fromarray(np.full((2, 4), 2000, np.uint16)).save(tmp_path / name)
    return tmp_path


READ = {
    "utf-8": PLAIN.encode(),
    "mark": PLAIN.encode("utf-8-sig"),
    "utf-16": PLAIN.encode("utf-16"),
    "utf-16-be": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "utf-32": PLAIN.encode("utf-32"),
    "semicolons": PLAIN.replace(",", ";").encode(),
    "tabs": PLAIN.replace(",", "\t").encode(),
    "Windows": PLAIN.replace("\n", "\r\n").encode(),
    "old Macintosh": PLAIN.replace("\n", "\r").encode(),
    "quotes": b'"image","depth","kind","depth_scale"\n"\xc3\xa4nne.png","depth.png","depth_m","1000"\n',
    "spaces": PLAIN.replace(",", " , ").encode(),
    "empty lines": ("\n" + PLAIN.replace("\n", "\n\n") + ",,,\n").encode(),
    "trailing commas": PLAIN.replace("\n", ",,\n").encode(),
    "index": b",image,depth,kind,depth_scale\n0,\xc3\xa4nne.png,depth.png,depth_m,1000\n",
    "other order": b'depth_scale,notes,kind,depth,image\n1e3,"a, '
    b'b",depth_m,./depth.png,\xc3\xa4nne.png\n',
}


@pytest.mark.parametrize("data", READ.values(), ids=READ)
def test_tables_of_many_programs_are_read_alike(folder, data):
    (folder / "manifest.csv").write_bytes(data)
    (sample,) = DepthManifest(folder)
    assert sample["disparity"].tolist() == [[0.5] * 4] * 2
    assert sample["name"] == "änne"


def test_places_may_be_absolute_or_elsewhere(folder):
    (folder / "tables").mkdir()
    text = PLAIN.replace("änne.png", "../änne.png").replace("depth.png", str(folder / "depth.png"))
    (folder / "tables" / "manifest.csv").write_text(text, encoding="utf-8")
    sample = DepthManifest(folder / "tables")[0]
    assert sample["disparity"].tolist() == [[0.5] * 4] * 2
    assert sample["valid"].all()
    assert sample["image"].shape == (3, 2, 4)


ROW = "änne.png,depth.png,depth_m,1000\n"
REFUSED = {
    "latin-1": (PLAIN.encode("latin-1"), "line 2 cannot be read as utf-8; save the table as UTF-8"),
    "utf-16 without mark": (PLAIN.replace("ä", "a").encode("utf-16-le"), "zero bytes"),
    "cut utf-16": (PLAIN.encode("utf-16")[:-1], "cannot be read as utf-16"),
    "nothing": (b"", "missing column image, depth, kind, depth_scale; it has none"),
    "half a quote": (PLAIN.replace("depth.png", '"depth.png').encode(), "cannot be read"),
    "doubled column": (
        PLAIN.replace("kind", "kind,kind").encode(),
        "column kind stands more than once",
    ),
    "too few": (PLAIN.replace(",1000", "").encode(), "row 1 has not 4 entries"),
    "too many": (PLAIN.replace("1000", "1000,0").encode(), "row 1 has not 4 entries"),
    "decimal comma": (
        PLAIN.replace(",", ";").replace("1000", "1000,0").encode(),
        "row 1 .* with a point for the decimals",
    ),
    "doubled row": (
        (PLAIN + ROW).encode(),
        "rows 1 and 2 are the same pair, änne.png and depth.png; remove one",
    ),
    "doubled file": (
        (PLAIN + ROW.replace("depth.png", "./depth.png")).encode(),
        "rows 1 and 2 are the same pair",
    ),
    "itself": (
        PLAIN.replace("depth.png", "änne.png").encode(),
        "image and depth are the same file",
    ),
    "second row": (
        (PLAIN + "a.png,b.png,metres,1\n").encode(),
        r"row 2 \(a\.png\): unknown kind 'metres'",
    ),
    "no number": (
        (PLAIN.replace("1000", "0")).encode(),
        r"row 1 \(änne\.png\): depth_scale is '0'",
    ),
    "bits": (
        PLAIN.replace("scale\n", "scale,bits\n").replace("1000", "1000,many").encode(),
        "bits is 'many'",
    ),
    "invalid": (
        PLAIN.replace("scale\n", "scale,invalid\n").replace("1000", "1000,0;1").encode(),
        "invalid is '0;1'",
    ),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_a_table_that_cannot_be_meant_is_refused_at_once(folder, data, message):
    (folder / "manifest.csv").write_bytes(data)
    with pytest.raises(DataError, match=message) as raised:
        DepthManifest(folder)
    assert str(raised.value).startswith(f"{folder / 'manifest.csv'}: ")


def test_a_row_without_depth_may_say_anything(folder):
    (folder / "manifest.csv").write_text(PLAIN + "a.png,,,\na.png,,,\n", encoding="utf-8")
    assert len(DepthManifest(folder)) == 1


def test_the_same_picture_may_have_two_maps(folder):
    (folder / "manifest.csv").write_text(
        PLAIN + ROW.replace("depth.png", "other.png"), encoding="utf-8"
    )
    assert len(DepthManifest(folder)) == 2


def test_data_sets_by_name(folder):
    text = PLAIN.replace("scale\n", "scale,dataset,offset_known\n").replace(
        "1000\n", "1000,roof,no\n"
    )
    (folder / "manifest.csv").write_text(
        text + ROW.replace("depth.png", "other.png").replace("\n", ",,yes\n")
    )
    parts = DepthManifest(folder).by_dataset()
    assert {name: (len(part), part.domain) for name, part in parts.items()} == {
        "roof": (1, "roof"),
        folder.name: (1, folder.name),
    }
    assert parts["roof"].with_known_offset() == (None, 1)
    assert len({part.fingerprint for part in (*parts.values(), DepthManifest(folder))}) == 3


# ---- columns that are missing or misspelt

HEAD = "image,depth,kind,depth_scale"


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (f"{HEAD},sequense", "column sequense would not be read, .*rename sequense to sequence"),
        (f"{HEAD},Sequence", "rename Sequence to sequence"),
        (f"{HEAD},sequences", "rename sequences to sequence"),
        (f"{HEAD},sequnece", "rename sequnece to sequence"),
        (f"{HEAD},scale_knwon", "rename scale_knwon to scale_known"),
        (f"{HEAD},offset known", "rename offset known to offset_known"),
        (f"{HEAD},masks", "rename masks to mask"),
        (f"{HEAD},datset,protocl", "rename datset to dataset; rename protocl to protocol"),
        (f"{HEAD},native_img", "rename native_img to native_image"),
        (
            "Image,depth,kind,depth_scale",
            "missing column image; it has Image, .*rename Image to im",
        ),
        (
            "image,depth,kind,Depth Scale",
            "missing column depth_scale; .*rename Depth Scale to depth_",
        ),
        (
            "image,metres",
            "missing column depth, kind, depth_scale; it has image, metres; write a fir",
        ),
        ("a.png,a.npy,depth_m,1", f"write a first line such as {HEAD}"),
    ],
)
def test_a_missing_or_misspelt_column_is_told_with_what_to_do(head, said):
    with pytest.raises(DataError, match=rf"^m\.csv: .*{said}"):
        check_columns(Path("m.csv"), head.split(","))


@pytest.mark.parametrize(
    "more",
    [
        OPTIONAL,
        ("images", "depths"),  # beside what they resemble
        ("weather", "min_valid", "valid_frac", "valid", "domain", "split", "id2", "idx"),
        ("scene", "camera", "height", "width", "notes", "source_path", "depth_path", "seq"),
    ],
)
def test_other_columns_are_passed_over(more):
    check_columns(Path("m.csv"), [*HEAD.split(","), *more])


READERS = ("manifest.py", "sources.py", "sets.py", "protocols.py")


def test_every_column_that_a_row_is_asked_for_is_known():
    """A column that somebody reads and that is not listed would be refused as a misspelling."""
    files = [*Path("dalib/data").glob("*.py"), *Path("dalib/evaluation").glob("*.py")]
    text = "\n".join(file.read_text("utf8") for file in files if file.name in READERS)
    asked = set(re.findall(r"row\.get\(f?\"([a-z_]+)\"|row\[\"([a-z_]+)\"\]", text))
    asked = {name for pair in asked for name in pair if name}
    asked |= set(re.findall(r"yes\(row, \"([a-z_]+)\"", text))
    assert len(asked) > 12
    assert asked <= {*COLUMNS, *OPTIONAL}
