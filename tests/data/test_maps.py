"""Depth maps and masks as files hold them: every value as stored, what is no depth refused, and
turned like the photograph."""

import io

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from dalib.data.files import to_disparity
from dalib.data.hub import HubDataset
from dalib.data.maps import decode_map, decode_mask, turned
from dalib.data.metadata import PictureWarning
from dalib.data.sources import DepthManifest
from dalib.errors import ConfigError, DataError

RAMP = np.arange(1, 25, dtype=np.uint16).reshape(4, 6) * 400  # 400 .. 9600
CARRY = {"image": "image.png", "depth": "depth.png", "kind": "depth_m", "depth_scale": "1000"}


def encoded(array, kind="PNG", **options):
    """A picture's file, or an array's."""
    file = io.BytesIO()
    if kind == "NPY":
        np.save(file, array, allow_pickle=True)
    else:
        (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(
            file, format=kind, **options
        )
    return file.getvalue()


def pgm(array, maxval, *, words=False, note=b""):
    height, width = array.shape
    head = b"P%d\n%s%d %d\n%d\n" % (2 if words else 5, note, width, height, maxval)
    if words:
        return head + b" ".join(b"%d" % value for value in array.flatten())
    return head + array.astype("u1" if maxval < 256 else ">u2").tobytes()


def oriented(picture, orientation, kind="PNG"):
    exif = picture.getexif()
    exif[0x0112] = orientation
    return encoded(picture, kind, exif=exif)


@pytest.fixture
def pair(tmp_path):
    """Write one pair and its manifest, files given as bytes; photograph 6 x 4 unless told
    otherwise."""

    def write(data, *, image=None, mask=None, **row):
        row = CARRY | row
        (tmp_path / "image.png").write_bytes(image or encoded(np.zeros((4, 6, 3), np.uint8)))
        (tmp_path / row["depth"]).write_bytes(data)
        if mask is not None:
            (tmp_path / "mask.png").write_bytes(mask)
            row |= {"mask": "mask.png"}
        (tmp_path / "manifest.csv").write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
        return DepthManifest(tmp_path)

    return write


# ---- values as stored


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 65535),
    st.booleans(),
    st.sampled_from([b"", b"# a note\n", b"#\r# 5 5\n"]),
)
def test_a_pgm_keeps_its_values(seed, maxval, words, note):
    values = np.random.default_rng(seed).integers(0, maxval + 1, (3, 5))
    read, orientation = decode_map(pgm(values, maxval, words=words, note=note), name="x")
    assert np.array_equal(read, values)
    assert read.dtype == (np.uint8 if maxval < 256 else np.uint16)
    assert orientation == 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "NPY", "JPEG2000"])
def test_16_bits_come_as_they_are(kind):
    assert np.array_equal(decode_map(encoded(RAMP, kind), name="x")[0], RAMP)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "int32", "int64", "uint16", ">f4", "<u2"]
)
def test_arrays_of_any_number_come_as_they_are(dtype):
    assert np.array_equal(decode_map(encoded(RAMP.astype(dtype), "NPY"), name="x")[0], RAMP)


@pytest.mark.parametrize("kind", ["PPM", "TIFF"])
def test_floats_in_pictures(kind):
    """What Pillow calls PPM is a PFM for floats."""
    metres = (RAMP / 1000).astype(np.float32)
    assert np.array_equal(decode_map(encoded(metres, kind), name="x")[0], metres)


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_is_not_stretched(bits):
    values = np.arange(8, dtype=np.uint8).reshape(2, 4) % 2**bits
    picture = Image.fromarray(values).convert("P")
    picture.putpalette([x for k in range(256) for x in (k, k, k)])
    data = bytearray(encoded(picture, bits=bits))
    # header: grey, no palette
    data = bytes(data).replace(bytes([bits, 3, 0, 0, 0]), bytes([bits, 0, 0, 0, 0]), 1)
    grey = _without_palette_and_with_sums(data)
    assert np.array_equal(decode_map(grey, name="x")[0], values)


def _without_palette_and_with_sums(data):
    import struct
    import zlib

    chunks, place = [], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        word, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        if word != b"PLTE":
            chunks.append(
                struct.pack(">I", length) + word + body + struct.pack(">I", zlib.crc32(word + body))
            )
        place += 12 + length
    return data[:8] + b"".join(chunks)


# ---- what is no depth map

FLOATS = np.ones((4, 6), np.float32)
RECORDS = np.zeros((4, 6), [("z", "f4")])
FOREIGN = {
    "exr": (
        b"v/1\x01" + bytes(40),
        "this is an OpenEXR file, which is not read; .* save the depth as a 16-bit grey PNG",
    ),
    "h5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "this is an HDF5 file.* with h5py"),
    "mat": (
        b"MATLAB 5.0 MAT-file, Platform" + bytes(40),
        "this is a MATLAB file.* with scipy.io.loadmat",
    ),
    "npz": (b"PK\x03\x04" + bytes(40), "this is an archive, such as .npz"),
    "hdr": (b"#?RADIANCE\n" + bytes(40), "this is a Radiance HDR picture"),
    "pfm of colours": (b"PF\n6 4\n-1.0\n" + bytes(288), "this is a PFM of three channels"),
    "dpt": (b"PIEH" + bytes(40), "this is a Sintel .dpt"),
    "pickle": (
        b"\x80\x04\x95" + bytes(40),
        "this is a pickle, which is not read, for it may run code",
    ),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "a Git LFS pointer .* git lfs pull",
    ),
    "text": (
        b"1.0 2.0 3.0\n",
        "truncated, damaged or not an image of a known format; save the depth",
    ),
    "empty": (b"", "truncated, damaged or not an image"),
    "bool": (encoded(FLOATS > 0, "NPY"), "holds integers or floats, not bool"),
    "complex": (encoded(FLOATS * 1j, "NPY"), "holds integers or floats, not complex64"),
    "objects": (
        encoded(FLOATS.astype(object), "NPY"),
        "an array of Python objects; save one of numbers",
    ),
    "records": (encoded(RECORDS, "NPY"), r"holds integers or floats, not \[\('z', '<f4'\)\]"),
    "words": (encoded(FLOATS.astype("U3"), "NPY"), "holds integers or floats, not <U3"),
    "dates": (encoded(RAMP.astype("M8[s]"), "NPY"), "holds integers or floats, not datetime64"),
    "stack": (encoded(FLOATS[None], "NPY"), r"one channel, not shape \(1, 4, 6\)"),
    "palette": (
        encoded(Image.fromarray(np.zeros((4, 6), np.uint8)).convert("P")),
        "places in a palette of colours",
    ),
    "colours": (encoded(np.zeros((4, 6, 3), np.uint8)), r"one channel, not shape \(4, 6, 3\)"),
    "1 bit": (encoded(Image.new("1", (6, 4), 1)), "holds integers or floats, not bool"),
    "jpeg": (
        encoded(np.full((4, 6), 9, np.uint8), "JPEG"),
        "JPEG does not keep a map's values; save it as PNG",
    ),
    "pages": (
        encoded(RAMP, "TIFF", save_all=True, append_images=[Image.fromarray(RAMP)]),
        "it holds 2 pictures",
    ),
    "cut pgm": (pgm(RAMP, 9600)[:-3], "truncated or damaged PGM"),
    "cut pgm in words": (pgm(RAMP, 9600, words=True)[:-9], "truncated or damaged PGM"),
    "head of a pgm": (b"P5\n6 ", "a PGM whose header is damaged"),
    "pgm without maxval": (b"P5\n6 4\n0\n" + bytes(24), "maxval 0; it must be 1 to 65535"),
    "pgm of 17 bits": (b"P5\n6 4\n65536\n" + bytes(96), "maxval 65536; it must be 1 to 65535"),
    "pgm over its maxval": (pgm(RAMP, 9599), r"values outside 0\.\.9599"),
}


@pytest.mark.parametrize(("data", "message"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_depth_map_is_called_what_it_is(pair, data, message):
    """Whatever the ending says; and the same out of a `datasets` data set."""
    for ending in ("png", "exr", "npy"):
        source = pair(data, depth=f"depth.{ending}")
        with pytest.raises(DataError, match=rf"depth\.{ending}: .*{message}"):
            source[0]


@pytest.mark.parametrize("kind", ["depth_m", "disparity"])
def test_8_bits_are_depth_only_where_that_is_declared(pair, kind):
    """Nearness in 8 bits, as it is and stretched to 16; disparity may be so."""
    grey = np.linspace(1, 250, 24).astype(np.uint8).reshape(4, 6)
    forms = {
        "plain": (encoded(grey), "8 bits a value, as pictures of nearness have"),
        "pgm": (pgm(grey, 250), "8 bits a value"),
        "npy": (encoded(grey, "NPY"), "8 bits a value"),
        "x 257": (
            encoded(grey.astype(np.uint16) * 257),
            "its 16-bit values are 8-bit ones, stretched",
        ),
        "x 256": (
            encoded(grey.astype(np.uint16) * 256),
            "its 16-bit values are 8-bit ones, stretched",
        ),
    }
    for name, (data, message) in forms.items():
        if kind == "disparity":
            assert pair(data, kind=kind)[0]["valid"].all(), name
            continue
        with pytest.raises(
            DataError, match=rf"depth\.png: {message}.*declare kind disparity, or, .* bits (8|16)"
        ):
            pair(data)[0]
        assert pair(data, bits="16" if name.startswith("x") else "8")[0]["valid"].all(), name
    if kind == "depth_m":
        with pytest.raises(DataError, match="8 bits a value"):
            pair(encoded(grey), bits="16")[0]
        with pytest.raises(DataError, match="bits is 8, but the map holds 9600"):
            pair(encoded(RAMP), bits="8")[0]


def holes(array, value):
    array = array.copy()
    array[0, :2] = value
    return array


METRES = (RAMP / 1000).astype(np.float32)
GREATEST = {
    "16 bits": (holes(RAMP, 65535), "1000", "65535"),
    "one of 16 bits": (np.where(RAMP == 400, 65535, RAMP).astype(np.uint16), "1000", "65535"),
    "15 bits": (holes(RAMP, 32767), "1000", "32767"),
    "12 bits": (holes(RAMP // 4, 4095), "1000", "4095"),
    "32 bits": (holes(RAMP.astype(np.int32), 2**31 - 1), "1000", "2147483647"),
    "16 of 32 bits": (holes(RAMP.astype(np.int32), 65535), "1000", "65535"),
    "half": (holes(METRES, 65504), "1", "65504.0"),
    "float": (holes(METRES, np.finfo(np.float32).max), "1", "3.4028235e+38"),
    "double": (holes(METRES.astype(float), np.finfo(float).max), "1", "1.7976931348623157e+308"),
    "16 bits as metres": (holes(METRES, 65.535), "1", "65.535"),
    "ten thousand million": (holes(METRES, 1e10), "1", "1e+10"),
}


@pytest.mark.parametrize(("array", "scale", "word"), GREATEST.values(), ids=GREATEST)
@pytest.mark.parametrize("kind", ["depth_m", "disparity"])
def test_holes_written_as_the_greatest_value_are_refused_or_declared(
    pair, array, scale, word, kind
):
    if kind == "disparity" and word == "4095":
        return  # less than all bits: in disparity that may be what is nearest
    row = {"depth": "depth.npy", "depth_scale": scale, "kind": kind}
    count = int((array == array.max()).sum())
    message = rf"depth\.npy: {count} values of {kind} are {word}, .* declare it as invalid"
    with pytest.raises(DataError, match=message.replace("+", r"\+")):
        pair(encoded(array, "NPY"), **row)[0]
    sample = pair(encoded(array, "NPY"), **row, invalid=f"-1 {word}")[0]
    assert np.array_equal(sample["valid"].numpy(), array != array.max())
    if float(word) < 1e6:
        assert pair(encoded(array, "NPY"), **row, invalid="none")[0]["valid"].all()


def test_a_disparity_that_fills_its_range_is_no_hole(pair):
    for full in (np.linspace(0, 65535, 24), np.linspace(0, 255, 24).astype(np.uint8).astype(float)):
        dtype = np.uint16 if full.max() > 255 else np.uint8
        sample = pair(encoded(full.astype(dtype).reshape(4, 6)), kind="disparity", depth_scale="1")[
            0
        ]
        assert sample["disparity"].max() == full.max()


@pytest.mark.parametrize(("value", "word"), [(np.nan, "nan"), (np.inf, "inf"), (-1.0, "-1")])
def test_values_that_cannot_be_are_refused_or_declared(pair, value, word):
    data = encoded(holes(METRES, value), "NPY")
    with pytest.raises(DataError, match=r"depth\.npy: 2 (NaN or infinite|negative) values"):
        pair(data, depth="depth.npy", depth_scale="1")[0]
    sample = pair(data, depth="depth.npy", depth_scale="1", invalid=word)[0]
    assert sample["valid"].sum() == 22
    assert not sample["valid"][0, :2].any()


# ---- no ground truth, and the sky


def test_a_disparity_of_0_is_unknown_or_sky(pair):
    """Unknown as it stands and beside other holes; sky inside a mask, and where every value is
    meant."""
    stored = RAMP.copy()
    stored[0] = [0, 0, 0, 60000, 60000, 7]
    data, row = encoded(stored), {"kind": "disparity", "depth_scale": "1"}
    first = {
        "as it stands": pair(data, **row)[0],
        "other holes": pair(data, **row, invalid="60000")[0],
        "every value": pair(data, **row, invalid="none")[0],
        "mask": pair(
            data, **row, mask=encoded(np.array([[1, 1, 0, 0, 1, 1]] + [[1] * 6] * 3, np.uint8))
        )[0],
    }
    assert {name: sample["valid"][0].tolist() for name, sample in first.items()} == {
        "as it stands": [False, False, False, True, True, True],
        "other holes": [False, False, False, False, False, True],
        "every value": [True] * 6,
        "mask": [True, True, False, False, True, True],
    }
    assert first["mask"]["disparity"][0].tolist() == [0, 0, 0, 0, 60000, 7]
    assert not pair(holes_in_metres := encoded(holes(RAMP, 0)), invalid="none")[0]["valid"][
        0, :2
    ].any(), "depth 0"
    assert pair(holes_in_metres)[0]["valid"].sum() == 22


MASKS = {
    "1 bit": encoded(Image.fromarray(RAMP > 2000)),
    "8 bits": encoded((RAMP > 2000).astype(np.uint8) * 255),
    "0 and 1": encoded((RAMP > 2000).astype(np.uint8)),
    "16 bits": encoded((RAMP > 2000).astype(np.uint16)),
    "bool": encoded(RAMP > 2000, "NPY"),
    "float": encoded((RAMP > 2000).astype(np.float32), "NPY"),
    "pgm": pgm((RAMP > 2000).astype(np.uint8), 1),
    "pbm": encoded(Image.fromarray(RAMP > 2000), "PPM"),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_a_mask_says_where_there_is_ground_truth(pair, mask):
    """Whatever the map holds elsewhere, here NaN."""
    metres = np.where(RAMP > 2000, METRES, np.nan).astype(np.float32)
    sample = pair(encoded(metres, "NPY"), depth="depth.npy", depth_scale="1", mask=mask)[0]
    assert np.array_equal(sample["valid"].numpy(), RAMP > 2000)
    assert (sample["disparity"].numpy()[RAMP <= 2000] == 0).all()


BAD_MASKS = {
    "size": (
        encoded(np.ones((4, 5), np.uint8)),
        r"a mask of size \(4, 5\) for a map of size \(4, 6\)",
    ),
    "jpeg": (
        encoded(np.ones((4, 6), np.uint8), "JPEG"),
        "JPEG does not keep a map's values; save it as PNG",
    ),
    "colours": (encoded(np.ones((4, 6, 3), np.uint8)), "one channel"),
    "palette": (encoded(Image.new("P", (6, 4), 1)), "palette"),
    "words": (encoded(FLOATS.astype("U3"), "NPY"), "a mask holds whole numbers, not <U3"),
    "nan": (encoded(FLOATS * np.nan, "NPY"), "a mask holds NaN or infinite values"),
    "nothing": (encoded(np.zeros((4, 6), np.uint8)), "no valid value of depth_m"),
    "turned": (
        oriented(Image.new("L", (6, 4), 1), 3),
        r"mask\.png: its EXIF orientation \(3\) is not its depth map's \(1\)",
    ),
}


@pytest.mark.parametrize(("mask", "message"), BAD_MASKS.values(), ids=BAD_MASKS)
def test_a_bad_mask_is_named(pair, mask, message):
    with pytest.raises(DataError, match=message):
        pair(encoded(RAMP), mask=mask)[0]


def test_a_mask_belongs_to_the_fingerprint_and_must_be_there(pair, tmp_path):
    mask = encoded(np.ones((4, 6), np.uint8))
    first = pair(encoded(RAMP), mask=mask).fingerprint
    (tmp_path / "mask.png").write_bytes(encoded(np.full((4, 6), 2, np.uint8)) + b"longer")
    assert DepthManifest(tmp_path).fingerprint != first
    (tmp_path / "mask.png").unlink()
    with pytest.raises(DataError, match=r"manifest\.csv: no such file: .*mask\.png"):
        DepthManifest(tmp_path).check_files()


# ---- turned like the photograph

COLOURS = (np.arange(72) * 3).astype(np.uint8).reshape(4, 6, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_is_pillows_own_turn(orientation):
    with Image.open(io.BytesIO(oriented(Image.fromarray(RAMP), orientation))) as picture:
        assert np.array_equal(
            turned(RAMP, orientation), np.asarray(ImageOps.exif_transpose(picture))
        )


def sizes(orientation):
    return (4, 6) if orientation < 5 else (6, 4)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_map_is_turned_with_its_photograph(pair, orientation, mask):
    """Both carry the tag; or the map does not and its size says how it lies: as stored, or as
    seen."""
    image, upright = oriented(Image.fromarray(COLOURS), orientation), turned(RAMP, orientation)
    known = {"mask": encoded((RAMP != 4000).astype(np.uint8))} if mask else {}
    tagged = (
        {"mask": oriented(Image.fromarray((RAMP != 4000).astype(np.uint8)), orientation)}
        if mask
        else {}
    )
    got = [pair(oriented(Image.fromarray(RAMP), orientation), image=image, **tagged)[0]]
    if orientation not in (2, 3, 4):
        got.append(pair(encoded(RAMP), image=image, **known)[0])
    if orientation > 4:
        seen = {"mask": encoded((upright != 4000).astype(np.uint8))} if mask else {}
        got.append(pair(encoded(upright), image=image, **seen)[0])
        got.append(
            pair(
                oriented(Image.fromarray(RAMP), orientation),
                image=encoded(turned3(orientation)),
                **tagged,
            )[0]
        )
    for sample in got:
        assert sample["image"].shape == (3, *sizes(orientation))
        assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), turned3(orientation))
        assert np.array_equal(sample["valid"].numpy(), (upright != 4000) | (not mask))
        assert np.allclose(
            1000 / sample["disparity"].numpy()[sample["valid"]], upright[sample["valid"]]
        )


def turned3(orientation):
    return np.stack([turned(COLOURS[..., k], orientation) for k in range(3)], -1)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_where_nothing_shows_how_a_map_lies_it_is_refused(pair, orientation):
    """Mirrored, upside down, or square: both readings have the same size, and one would give half
    of the pixels another's depth."""
    size = 6 if orientation > 4 else 4
    image = oriented(Image.new("RGB", (6, size)), orientation)
    depth = RAMP if size == 4 else np.arange(1, 37, dtype=np.uint16).reshape(6, 6) * 100
    message = rf"depth\.png: the photograph and not its map has an EXIF orientation \({orientation}\).*exiftool"
    with pytest.raises(DataError, match=message):
        pair(encoded(depth), image=image)[0]
    with pytest.raises(
        DataError, match=r"depth\.png: the map and not its photograph has an EXIF orientation"
    ):
        pair(
            oriented(Image.fromarray(depth), orientation),
            image=encoded(np.zeros((size, 6, 3), np.uint8)),
        )[0]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_tiff_which_pillow_turns_itself_is_turned_once(pair, orientation):
    """As photograph, as map, and as both; and its tag still counts where the map has none."""
    files = {
        kind: oriented(Image.fromarray(COLOURS), orientation, kind) for kind in ("PNG", "TIFF")
    }
    maps = {kind: oriented(Image.fromarray(RAMP), orientation, kind) for kind in ("PNG", "TIFF")}
    for kinds in (("TIFF", "PNG"), ("PNG", "TIFF"), ("TIFF", "TIFF")):
        sample = pair(maps[kinds[1]], image=files[kinds[0]])[0]
        assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), turned3(orientation)), kinds
        assert np.allclose(1000 / sample["disparity"].numpy(), turned(RAMP, orientation)), kinds
    if orientation < 5:
        with pytest.raises(
            DataError, match="the photograph and not its map has an EXIF orientation"
        ):
            pair(encoded(RAMP), image=files["TIFF"])[0]
    else:
        sample = pair(encoded(RAMP), image=files["TIFF"])[0]
        assert np.allclose(1000 / sample["disparity"].numpy(), turned(RAMP, orientation))


def test_damaged_tags_cost_no_pair(pair, tmp_path):
    """Ignored in photograph and map alike, from files and out of `datasets`."""
    image, depth = (encoded(array, exif=b"Exif\0\0garbage") for array in (COLOURS, RAMP))
    columns = hub(tmp_path / "hub", image=image, depth=depth)
    with pytest.warns(PictureWarning, match="damaged EXIF tags, which were ignored"):
        samples = [
            pair(depth, image=image)[0],
            HubDataset(columns, depth="depth", depth_scale=1000)[0],
        ]
    for sample in samples:
        assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), COLOURS)
        assert np.allclose(1000 / sample["disparity"].numpy(), RAMP)


def test_a_map_that_fits_neither_way_is_of_the_wrong_size(pair):
    image = oriented(Image.fromarray(COLOURS), 6)
    with pytest.raises(DataError, match=r"depth\.png: the map is 6x3 but its image 4x6"):
        pair(encoded(RAMP[:3]), image=image)[0]


# ---- the same out of `datasets`


def hub(folder, **columns):
    """One row, its columns files given as bytes."""
    features = datasets.Features({name: datasets.Image() for name in columns})
    rows = {name: [{"bytes": data, "path": None}] for name, data in columns.items()}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(folder)
    return folder


def test_a_hub_data_set_keeps_values_and_turns_like_a_manifest(tmp_path):
    photograph = oriented(Image.fromarray(COLOURS), 6)
    folder = hub(
        tmp_path / "a",
        image=photograph,
        pgm=pgm(RAMP, 10000),
        known=encoded(Image.fromarray(RAMP != 4000)),
        nearness=encoded(np.linspace(1, 250, 24).astype(np.uint8).reshape(4, 6)),
        gone=encoded(holes(RAMP, 65535)),
        foreign=FOREIGN["exr"][0],
    )
    sample = HubDataset(folder, depth="pgm", mask="known", depth_scale=1000)[0]
    upright = turned(RAMP, 6)
    assert sample["image"].shape == (3, 6, 4)
    assert np.array_equal(sample["valid"].numpy(), upright != 4000)
    assert np.allclose(
        1000 / sample["disparity"].numpy()[sample["valid"]], upright[sample["valid"]]
    )
    for column, message in (
        ("nearness", "8 bits a value"),
        ("gone", "65535, which mostly marks holes"),
        ("foreign", "OpenEXR"),
    ):
        with pytest.raises(DataError, match=rf"a, sample 0: .*{message}"):
            HubDataset(folder, depth=column, depth_scale=1000)[0]
    assert HubDataset(folder, depth="nearness", bits=8)[0]["valid"].all()
    assert (
        HubDataset(folder, depth="gone", depth_scale=1000, invalid="65535")[0]["valid"].sum() == 22
    )
    assert HubDataset(folder, disparity="nearness")[0]["valid"].all()
    with pytest.raises(ConfigError, match="invalid is '0;1'; write numbers"):
        HubDataset(folder, depth="pgm", invalid="0;1")
    half_turn = hub(
        tmp_path / "b", image=oriented(Image.fromarray(COLOURS), 3), depth=encoded(RAMP)
    )
    with pytest.raises(
        DataError, match="b, sample 0: the photograph and not its map has an EXIF orientation"
    ):
        HubDataset(half_turn, depth="depth")[0]


def test_a_hub_entry_that_is_missing_or_no_map_is_named(tmp_path):
    rows = {
        "image": [{"bytes": encoded(COLOURS), "path": None}],
        "depth": [None],
        "word": ["nowhere.png"],
        "count": [3],
    }
    features = datasets.Features(
        image=datasets.Image(),
        depth=datasets.Image(),
        word=datasets.Value("string"),
        count=datasets.Value("int64"),
    )
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "a")
    for column, message in (
        ("depth", "a, sample 0, column depth: it is empty"),
        ("word", r"nowhere\.png: no such file"),
        ("count", r"a, sample 0: column count has shape \(\), not \(H, W\)"),
    ):
        with pytest.raises(DataError, match=message):
            HubDataset(tmp_path / "a", depth=column)[0]


def test_arrays_given_in_code_are_checked_like_files():
    for values, message in (
        (RAMP > 0, "holds integers or floats, not bool"),
        (RAMP * 1j, "holds integers or floats, not complex128"),
        (RAMP.astype(np.uint8), "8 bits a value"),
    ):
        with pytest.raises(DataError, match=f"x: .*{message}"):
            to_disparity(values, kind="depth_m", scale=1, name="x")


def test_decoders_do_not_confuse_masks_and_maps():
    one_bit = encoded(Image.fromarray(RAMP > 2000))
    assert np.array_equal(decode_mask(one_bit, name="x")[0], RAMP > 2000)
    with pytest.raises(DataError, match="not bool"):
        decode_map(one_bit, name="x")
