"""The doctor for labels: each rule on good data, where nothing fires, and on a spoilt twin, where
just this rule does."""

import json

import numpy as np
import pytest
import torch
from helpers import ROOT
from helpers.commands import main
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dalib import paths
from dalib.data.doctor import RULES, doubles, examine, rules, sheet, walk
from dalib.data.doctor.summary import others, summarise
from dalib.data.scenes import Scenes
from dalib.data.schema import Source
from dalib.data.sources import DepthManifest
from dalib.errors import ConfigError, DataError

COUNT = 24


class Listed(Source):
    """Samples that lie in a list, each perhaps changed as it is read."""

    def __init__(self, samples, change=None, domain="listed"):
        self.samples = samples
        self.change = change
        self.domain = domain
        self.fingerprint = "0"
        self.read = []

    def __len__(self):
        return len(self.samples)

    def _sample(self, index):
        self.read.append(index)
        sample = dict(self.samples[index])
        return self.change(sample, index) if self.change else sample


@pytest.fixture(scope="module")
def drawn():
    """Drawn scenes; their scale is known, as that of all of them."""
    source = Scenes(split="labelled", count=COUNT, height=96, width=128)
    keys = ("image", "disparity", "valid", "domain")
    return [{key: sample[key] for key in keys} | {"scale_known": True} for sample in source]


def on_map(function):
    """A change of the disparity alone, as an array; where it is NaN, the truth is gone."""

    def change(sample, index):
        d = sample["disparity"].numpy().astype(np.float64)
        new = function(d.copy(), index)
        known = sample["valid"].numpy() & ~np.isnan(new)
        new = np.where(known, new, 0).astype(np.float32)
        truth = {"disparity": torch.from_numpy(new), "valid": torch.from_numpy(known)}
        return sample | truth | {"scale_known": False}

    return change


def on_image(function):
    def change(sample, index):
        image = function(sample["image"].numpy().copy(), index)
        return sample | {"image": torch.from_numpy(np.ascontiguousarray(image))}

    return change


def blobs(shape, seed, share):
    """Patches of holes, as sensors have them."""
    generator = np.random.default_rng(seed)
    found = np.zeros(shape, bool)
    while found.mean() < share:
        row, column = (int(generator.integers(size)) for size in shape)
        found[row : row + 8, column : column + 8] = True
    return found


def with_holes(value, share, chosen=lambda index: True):
    """Holes written as what `value` makes of a map's finite disparities."""

    def fill(d, index):
        if chosen(index):
            holes = blobs(d.shape, index, share) & (d > 0)
            d[holes] = value(d[d > 0])
        return d

    return on_map(fill)


def eight_bits(d, index):
    """The greatest as 255, as pictures of nearness are stored. 0 would be sky, so 1 is the least."""
    near = np.round(255 * d / d.max())
    return np.where(d > 0, np.maximum(near, 1), 0)


def blank(image, index):
    return np.full_like(image, 90)


def blown(image, index):
    image[:, : int(0.8 * image.shape[1])] = 255
    return image


def zoomed(d, index):
    """A map of the inner 90 %, stretched to the size of its image."""
    inner = d[5:-5, 6:-6]
    rows = np.arange(d.shape[0]) * inner.shape[0] // d.shape[0]
    columns = np.arange(d.shape[1]) * inner.shape[1] // d.shape[1]
    return inner[rows][:, columns]


def moved_down(d, index):
    """By five rows; nothing is known of what comes in from above."""
    return np.concatenate([np.full_like(d[:5], np.nan), d[:-5]])


def without_sky(function):
    return on_map(lambda d, index: np.where(d > 0, function(np.where(d > 0, d, 1)), np.nan))


inverted = without_sky(lambda d: 1 / d)


def scaled(factor, chosen=lambda index: True):
    """Disparity times a factor, still called 1/m."""

    def change(sample, index):
        return sample | {"disparity": sample["disparity"] * (factor if chosen(index) else 1)}

    return change


TWINS = {
    "depth called disparity": ("direction", "spoils", inverted),
    "one depth called disparity": (
        "direction",
        "doubtful",
        lambda sample, index: inverted(sample, index) if index == 4 else sample,
    ),
    "inverted, near is dark": (
        "far_below",
        "spoils",
        on_map(lambda d, index: np.where(d > 0, 1.02 * d.max() - d, np.nan)),
    ),
    "millimetres called metres": ("unit", "spoils", scaled(1e-3)),
    "metres called millimetres": ("unit", "spoils", scaled(1e3)),
    "some in millimetres": ("units_mixed", "spoils", scaled(1e-3, lambda index: index in (3, 9))),
    "images mirrored": ("mispaired", "spoils", on_image(lambda image, index: image[..., ::-1])),
    "images turned": ("mispaired", "spoils", on_image(lambda image, index: image[:, ::-1, ::-1])),
    "moved sideways": ("shifted", "spoils", on_map(lambda d, index: np.roll(d, 6, 1))),
    "moved down": ("shifted", "spoils", on_map(moved_down)),
    "another field of view": ("shifted", None, on_map(zoomed)),
    "holes as the farthest value": (
        "saturated",
        "spoils",
        with_holes(lambda d: max(d.min(), np.median(d) / 40), 0.1),
    ),
    "holes as the nearest value": ("saturated", "spoils", with_holes(np.max, 0.1)),
    "a few with holes as the nearest": (
        "saturated",
        "doubtful",
        with_holes(np.max, 0.1, lambda index: index == 7),
    ),
    "holes as a value between": ("filler", "spoils", with_holes(np.median, 0.5)),
    "holes as infinitely far": ("sky_below", "spoils", with_holes(lambda d: 0, 0.2)),
    "one distance": ("flat", "spoils", on_map(lambda d, index: np.full_like(d, 0.3))),
    "next to no truth": (
        "few_valid",
        "doubtful",
        on_map(lambda d, index: np.where(np.arange(d.size).reshape(d.shape) % 151, np.nan, d)),
    ),
    "nothing to see": (
        "exposure",
        "doubtful",
        on_image(lambda image, index: blank(image, index) if index == 5 else image),
    ),
    "blown out": (
        "exposure",
        "doubtful",
        on_image(lambda image, index: blown(image, index) if index == 5 else image),
    ),
}


def test_nothing_fires_on_good_data(drawn):
    report = examine(Listed(drawn), against=[Scenes(split="unlabelled", count=8)])
    assert report.findings == []
    assert not report.spoils
    assert report.facts[0]["images"] == report.facts[0]["with_truth"] == COUNT


@pytest.mark.slow
@pytest.mark.parametrize("twin", TWINS)
def test_just_the_rule_fires_on_a_spoilt_twin(twin, drawn):
    rule, severity, change = TWINS[twin]
    report = examine(Listed(drawn, change))
    assert report.rules() == {rule}, str(report)
    if severity:
        assert {finding.severity for finding in report.findings} == {severity}
        assert report.spoils == (severity == "spoils")


def test_maps_of_the_image_before_and_of_any_image(drawn):
    late = [drawn[i - 1] | {"image": drawn[i]["image"]} for i in range(COUNT)]
    report = examine(Listed(late))
    assert report.rules() == {"mispaired"}
    assert "the image before" in report.findings[0].says

    # by chance, edges of 24 drawings agree a little in about every other order; not in this one
    order = np.random.default_rng(2).permutation(COUNT)
    order = [int(o) if abs(o - i) > 1 else (i + 5) % COUNT for i, o in enumerate(order)]
    shuffled = [drawn[o] | {"image": drawn[i]["image"]} for i, o in enumerate(order)]
    unlike = dict(zip(order, shuffled, strict=True))  # each map once
    report = examine(Listed(list(unlike.values())))
    assert report.rules() == {"unrelated"}, str(report)


def test_eight_bits(drawn):
    """Of rooms: over a landscape, 8 bits of disparity are flat in the distance besides."""
    rooms = [s for s in drawn if not (s["disparity"] == 0).any()]
    assert len(rooms) >= 8
    report = examine(Listed(rooms, on_map(eight_bits)))
    assert report.rules() == {"quantised"}, str(report)
    assert not report.spoils


def test_small_pictures(drawn):
    def shrink(sample, index):
        return {
            key: value[..., ::2, ::2] if isinstance(value, torch.Tensor) else value
            for key, value in sample.items()
        }

    report = examine(Listed(drawn, shrink))
    assert report.rules() == {"small"}
    assert report.rules("note") == {"small"}


# ------------------------------------------------------------------------------------------- doubles


def test_doubles_of_every_kind(drawn):
    def rules_of(samples, *against):
        return examine(Listed(samples), against=[Listed(list(a)) for a in against]).rules()

    drawn = drawn[:7]
    brighter = drawn[0] | {"image": drawn[0]["image"].clamp(max=250) + 2}
    other_map = drawn[0] | {"disparity": drawn[0]["disparity"] * 1.01}
    assert rules_of([*drawn, drawn[0]]) == {"double"}
    assert rules_of([*drawn, brighter]) == {"near_double"}
    assert rules_of([*drawn, other_map]) == {"contradiction"}
    assert rules_of([*drawn[1:], drawn[1] | {"image": drawn[0]["image"]}]) == {"same_map"}
    assert rules_of(drawn[1:], [drawn[1]]) == {"leak"}
    assert rules_of(drawn[1:], drawn[:1]) == set()
    assert rules_of(drawn, [brighter]) == {"near_leak"}
    # doubles among what is only compared with are its own affair
    assert rules_of(drawn[1:], [drawn[0], drawn[0]]) == set()


def test_a_leak_behind_a_double_is_found(drawn):
    """Of three equal pictures, the first of no split, the others must not be the same."""

    def label(sample, index):
        return sample | {"image": drawn[0]["image"], "disparity": drawn[0]["disparity"]}

    hashes = doubles.Hashes()
    for split in ("", "train", "val"):
        side = hashes.begin(Listed(drawn), split or "none")
        hashes.add(side, 0, summarise(label(drawn[0], 0), index=0)[0], split=split)
    found = {finding.rule: finding for finding in hashes.findings()}
    assert set(found) == {"leak", "double"}
    assert found["leak"].examples == (("train, sample 0 (train)", "as val, sample 0 (val)"),)


def test_near_doubles_among_many_by_brute_force():
    """Random hashes with a few bits turned, over several blocks, sides and splits."""
    generator = np.random.default_rng(3)
    bases = generator.integers(0, 2**63, 60, np.uint64)
    hashes = doubles.Hashes()
    for name, against in (("here", False), ("there", True)):
        hashes.begin(Listed([]), name, against=against)
    hashes.splits = ["", "train", "val"]
    for index in range(200):
        turned = np.bitwise_or.reduce(np.uint64(1) << generator.integers(0, 63, 3, np.uint64))
        hashes.near.append(int(generator.choice(bases) ^ turned))
        hashes.image.append(index + 1)
        hashes.map.append(0)
        hashes.side.append(int(index > 150))
        hashes.split.append(int(generator.integers(3)))
        hashes.index.append(index)
        hashes.plain.append(int(generator.random() < 0.1))
    expected = set()
    for one in range(200):
        for apart in (True, False):
            later = [
                two
                for two in range(one + 1, 200)
                if (hashes.near[one] ^ hashes.near[two]).bit_count() <= 5
                and not (hashes.plain[one] or hashes.plain[two])
                and not (one > 150 and two > 150)
                and hashes._apart(one, two) == apart
            ]
            expected |= {(one, two, apart) for two in later[:1]}
    assert len(expected) > 50
    assert set(hashes._near_pairs()) == expected


def test_two_sources_are_compared_with_each_other(drawn):
    report = examine(Listed(drawn[:12]), Listed(drawn[11:], domain="second"))
    (finding,) = report.findings
    assert (finding.rule, finding.images) == ("double", 1)
    assert finding.examples == (
        ("Listed second, sample 0", "as Listed listed, sample 11"),
    ) or finding.examples == (("Listed listed, sample 11", "as Listed second, sample 0"),)


# ---------------------------------------------------------------------------------------- manifests


@pytest.fixture
def pairs(tmp_path, drawn):
    """A manifest of twelve drawn pairs: depth in millimetres, half of them to validate on."""

    def write(folder=tmp_path / "pairs", *, mask=None, row=lambda i, entry: entry):
        folder.mkdir(exist_ok=True)
        lines = ["image,depth,kind,depth_scale,split" + (",mask" if mask else "")]
        indoors = [s for s in drawn if not (s["disparity"] == 0).any()][:12]
        for i, sample in enumerate(indoors):
            Image.fromarray(sample["image"].permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
            depth = np.round(1000 / sample["disparity"].numpy()).astype(np.uint16)
            entry = [f"{i}.png", f"{i}_depth.png", "depth_m", "1000", ("train", "val")[i % 2]]
            if mask:
                inside, depth = mask(depth)
                Image.fromarray((inside * 255).astype(np.uint8)).save(folder / f"{i}_mask.png")
                entry.append(f"{i}_mask.png")
            Image.fromarray(depth).save(folder / f"{i}_depth.png")
            lines.append(",".join(row(i, entry)))
        (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
        return folder

    return write


def test_a_good_manifest(pairs):
    report = examine(f"depth:{pairs()}")
    assert report.findings == [], str(report)
    assert report.facts[0]["scale_known"]


def test_masks(pairs, tmp_path):
    def right(depth):
        inside = ~blobs(depth.shape, 0, 0.3)
        return inside, np.where(inside, depth, 0).astype(np.uint16)

    def swapped(depth):
        inside, masked = right(depth)
        outside = ~inside
        # some values inside: without any valid pixel it could not even be read
        masked.flat[::151] = depth.flat[::151]
        outside.flat[::151] = True
        return outside, masked

    assert examine(f"depth:{pairs(tmp_path / 'right', mask=right)}").findings == []
    report = examine(f"depth:{pairs(tmp_path / 'swapped', mask=swapped)}")
    assert "mask_swapped" in report.rules("spoils")
    assert report.rules() <= {"mask_swapped", "few_valid"}


def test_damaged_files_are_findings_that_name_them(pairs):
    folder = pairs()
    whole = (folder / "3_depth.png").read_bytes()
    (folder / "3_depth.png").write_bytes(whole[: len(whole) // 2])
    (folder / "5.png").unlink()
    Image.new("I;16", (10, 10), 700).save(folder / "7_depth.png")
    report = examine(f"depth:{folder}")
    (finding,) = report.findings
    assert (finding.rule, finding.severity, finding.images, finding.of) == (
        "unreadable",
        "spoils",
        3,
        12,
    )
    told = dict(finding.examples)
    assert list(told) == ["3.png", "5.png", "7.png"]
    assert "3_depth.png" in told["3.png"]
    assert "no such file" in told["5.png"]
    assert "10x10" in told["7.png"]
    assert report.facts[0]["images"] == 9
    assert report.facts[0]["unreadable"] == 3


def test_where_nothing_can_be_read_there_is_a_report_all_the_same(pairs):
    folder = pairs()
    for file in folder.glob("*_depth.png"):
        file.write_bytes(b"no picture")
    report = examine(f"depth:{folder}")
    assert report.rules() == {"unreadable"}
    assert report.findings[0].images == report.findings[0].of == 12
    assert str(report).splitlines()[2].split()[:3] == ["0", "12", "0"]


def test_the_same_picture_in_two_splits(pairs):
    folder = pairs()
    for name in ("{}.png", "{}_depth.png"):
        (folder / name.format(1)).write_bytes((folder / name.format(0)).read_bytes())
    report = examine(f"depth:{folder}")
    (finding,) = report.findings
    assert (finding.rule, finding.severity) == ("leak", "spoils")
    assert "0.png (train)" in finding.examples[0][0]
    assert "1.png (val)" in finding.examples[0][1]


def test_a_domain_is_found_among_others(drawn):
    """Eight good scenes, and eight others that are mirrored."""

    def change(sample, index):
        if index < COUNT // 2:
            return sample | {"domain": "good"}
        mirrored = sample["image"].flip(-1)
        return sample | {"domain": "mirrored", "image": mirrored}

    report = examine(Listed(drawn, change))
    assert [(f.rule, f.where) for f in report.findings] == [
        ("mispaired", "Listed listed, mirrored")
    ]


# ------------------------------------------------------------------------------- what is measured


def test_the_bend_of_a_plane_and_of_its_inverse():
    """On a plane disparity is a + b x + c y: no bend; of z = 1/d, z z'' / z'^2 is 2 everywhere."""
    rows, columns = np.mgrid[0:96, 0:128] / 96
    plane = torch.from_numpy((0.2 + rows + 0.3 * columns).astype(np.float32))
    image = torch.zeros(3, 96, 128, dtype=torch.uint8)
    sample = {"image": image, "disparity": plane, "valid": plane > 0, "domain": "plane"}
    bend = summarise(sample, index=0)[0].truth.bend
    assert bend.of_disparity == pytest.approx((0, 0), abs=1e-3)
    # a difference over two steps of s sees a little less: z z'' / z'^2 = 2 - 2 (d' s / d)^2
    assert bend.of_inverse == pytest.approx((2, 2), abs=0.1)
    turned = summarise(sample | {"disparity": 1 / plane}, index=0)[0].truth.bend
    assert turned.of_disparity == pytest.approx(bend.of_inverse, abs=1e-4)
    assert turned.of_inverse == pytest.approx((0, 0), abs=1e-3)


def test_numbers_of_a_map_by_hand():
    disparity = torch.tensor([[0.0, 0.0, 0.0, 2.0], [0.0, 1.0, 0.0, 0.0]])
    valid = torch.tensor([[True, True, False, True], [False, True, True, True]])
    image = torch.zeros(3, 2, 4, dtype=torch.uint8)
    sample = {"image": image, "disparity": disparity, "valid": valid, "domain": "hand"}
    truth = summarise(sample, index=0)[0].truth
    assert truth.valid == 6 / 8
    assert truth.sky == 4 / 6
    assert truth.hanging == 3 / 4  # what is not known lies over one of them, a thing over another
    assert truth.low == 2 / 4
    assert truth.depth == 1 / 1.5
    assert (truth.levels, truth.per_level) == (2, 1)
    assert truth.gap == 1.0  # 1 to 2
    assert truth.mode == 1 / 6
    assert (truth.far_share, truth.near_share) == (0, 0)  # neither stands out from the other


@settings(max_examples=25)
@given(st.data())
def test_any_map_can_be_measured(data):
    """Of any size, with holes, sky and the greatest and least values that float32 has, without a
    warning; and the rules take whatever comes out."""
    rows, columns = (data.draw(st.integers(1, 60)) for _ in range(2))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    scale = data.draw(st.sampled_from([1e-38, 1e-6, 1.0, 1e6, 3e38]))
    shape = data.draw(st.sampled_from(["noise", "constant", "ramp", "few"]))
    disparity = {
        "noise": generator.random((rows, columns)) * scale,
        "constant": np.full((rows, columns), scale),
        "ramp": np.linspace(0, scale, rows * columns).reshape(rows, columns),
        "few": generator.integers(0, 3, (rows, columns)) * (scale / 3),
    }[shape].astype(np.float32)
    valid = generator.random((rows, columns)) < data.draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))
    disparity[~valid] = 0
    image = generator.integers(0, 256, (3, rows, columns)).astype(np.uint8)
    sample = {"image": image, "disparity": disparity, "valid": valid}
    sample = {key: torch.from_numpy(value) for key, value in sample.items()}
    with np.errstate(all="raise", under="ignore"):
        truth = summarise(sample | {"domain": "any"}, index=0)[0].truth
    for share in (truth.valid, truth.sky, truth.far_share, truth.near_share, truth.mode):
        assert 0 <= share <= 1
    assert truth.valid == pytest.approx(valid.mean())
    report = examine(Listed([sample | {"domain": "any", "scale_known": True}] * 9))
    assert json.loads(report.to_json())["spoils"] == report.spoils
    assert str(report)


def test_the_other_places_of_an_image():
    image = np.zeros((72, 96))
    image[30, 50] = 1
    places = {
        name: tuple(map(int, np.argwhere(edges)[0]))
        for name, edges in others(image).items()
        if name not in ("larger", "smaller")
    }
    assert places == {
        "mirrored": (30, 45),
        "upside down": (41, 50),
        "turned by 180 degrees": (41, 45),
        "left": (30, 45),
        "right": (30, 55),
        "up": (26, 50),
        "down": (34, 50),
    }


# ---------------------------------------------------------------------------------- walk and report


def test_a_count_draws_runs_of_neighbours_by_the_seed(drawn):
    def read(seed):
        source = Listed(drawn * 4)
        examine(source, count=20, seed=seed)
        return list(dict.fromkeys(source.read))

    first = read(0)
    assert len(first) == 20
    assert first == sorted(first)
    assert read(0) == first
    assert any(read(seed) != first for seed in (1, 2, 3))
    starts = [i for i in first if i - 1 not in first]
    assert all(start % 8 == 0 for start in starts)


def test_memory_does_not_grow_with_the_images(drawn, monkeypatch):
    """Summaries are drawn, faults counted; the counts are of all."""
    kept = []
    monkeypatch.setattr(walk, "KEPT", 10)
    original = walk._Walk.findings

    def watch(self):
        kept.append([len(group.kept) for group in self.groups])
        return original(self)

    monkeypatch.setattr(walk._Walk, "findings", watch)
    report = examine(Listed(drawn, TWINS["holes as the nearest value"][2]))
    assert kept == [[10]]
    (finding,) = report.findings
    # the last is two thirds sky, and its holes lie there: 2 % of its pixels are saturated
    assert (finding.images, finding.of, len(finding.examples)) == (COUNT - 1, COUNT, 8)


def test_photographs_alone(tmp_path, drawn):
    for i, sample in enumerate(drawn[:3]):
        Image.fromarray(sample["image"].permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "again.png").write_bytes((tmp_path / "1.png").read_bytes())
    report = examine(f"photos:{tmp_path}")
    assert report.rules("spoils") == {"unreadable"}
    assert report.rules("doubtful") == {"double"}
    assert any("no ground truth" in line for line in report.skipped)
    assert "broken.jpg" in str(report)


def test_a_hub_data_set(tmp_path, drawn):
    datasets = pytest.importorskip("datasets")
    rooms = [s for s in drawn if not (s["disparity"] == 0).any()]
    holes = [blobs(s["disparity"].shape, i, 0.3) for i, s in enumerate(rooms)]
    maps = [
        np.where(hole, 0, 1 / s["disparity"].numpy()) for s, hole in zip(rooms, holes, strict=True)
    ]
    for values in maps:
        values.flat[::151] = 2.0
    for hole in holes:
        hole.flat[::151] = True
    rows = {
        "image": [Image.fromarray(s["image"].permute(1, 2, 0).numpy()) for s in rooms],
        "z": [values.tolist() for values in maps],
        "hole": [hole.astype(np.uint8).tolist() for hole in holes],
    }
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "set")
    assert examine(f"hub:{tmp_path / 'set'}?depth=z").findings == []
    report = examine(f"hub:{tmp_path / 'set'}?depth=z&mask=hole")
    assert "mask_swapped" in report.rules("spoils"), str(report)


def test_what_cannot_be_asked_is_said(drawn):
    report = examine(Listed(drawn[:5]))
    assert report.findings == []
    told = " ".join(report.skipped)
    assert "mask_swapped" in told
    assert "needs 8 images" in told


def test_what_is_only_compared_with_may_be_damaged(tmp_path, drawn):
    Image.fromarray(drawn[0]["image"].permute(1, 2, 0).numpy()).save(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes(b"")
    report = examine(Listed(drawn), against=[f"photos:{tmp_path}"])
    assert report.rules() == {"leak"}
    assert "1 of 2 images could not be read, nor compared" in " ".join(report.skipped)


def test_accepted_findings_are_notes(drawn):
    source = Listed(drawn, TWINS["images mirrored"][2])
    report = examine(source, accept=["mispaired"])
    assert not report.spoils
    assert report.rules("note") == {"mispaired"}
    assert report.findings[0].accepted
    with pytest.raises(ConfigError, match=r"mispared.*Did you mean 'mispaired'"):
        examine(source, accept=["mispared"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sources": ()}, "no source"),
        ({"sources": ("depht:x",)}, "Did you mean 'depth'"),
        ({"sources": ("photos:a", "photos:a")}, "more than once"),
        ({"sources": ("photos:a",), "against": ("photos:a",)}, "more than once"),
        ({"sources": ("photos:a",), "count": 0}, "count: 0"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_opened(given, words):
    sources = given.pop("sources")
    with pytest.raises(ConfigError, match=words):
        examine(*sources, **given)


def test_the_report_as_files(tmp_path, drawn):
    report = examine(Listed(drawn, TWINS["holes as the nearest value"][2]))
    written = report.write(tmp_path / "out")
    content = json.loads(written[0].read_text())
    assert content["spoils"] is True
    assert [f["rule"] for f in content["findings"]] == ["saturated"]
    with Image.open(written[1]) as picture:
        assert picture.size[0] > 2 * sheet.CELL[0] * sheet.COLUMNS
    before = [file.read_bytes() for file in written]
    with pytest.raises(ConfigError, match="is there already"):
        report.write(tmp_path / "out")
    report.write(tmp_path / "out", overwrite=True)
    assert [file.read_bytes() for file in written] == before


def test_colours_of_a_map():
    disparity = torch.tensor([[1.0, 2.0, 0.0, 0.0]])
    valid = torch.tensor([[True, True, True, False]])
    drawn = sheet.colours({"disparity": disparity, "valid": valid})
    assert drawn[0].tolist() == [[*sheet.RAMP[0]], [*sheet.RAMP[-1]], [*sheet.SKY], [*sheet.HOLE]]


def test_the_command(pairs, tmp_path, capsys):
    folder = pairs()
    assert main(["check-data", f"depth:{folder}", "--out", str(tmp_path / "good")]) == 0
    assert "nothing found" in capsys.readouterr().out
    (folder / "5.png").write_bytes(b"")
    words = ["check-data", f"depth:{folder}", "--out", str(tmp_path / "bad")]
    assert main(words) == 1
    told = capsys.readouterr()
    assert "SPOILS: unreadable" in told.out
    assert "--accept unreadable" in told.err
    assert json.loads((tmp_path / "bad" / "report.json").read_text())["spoils"]
    assert main(words) == 1
    assert "is there already" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--accept", "unreadable"]) == 0
    for out in ("", str(folder / "manifest.csv")):
        capsys.readouterr()
        assert main(["check-data", f"depth:{folder}", "--out", out]) == 1
        told = capsys.readouterr()
        assert "--out" in told.err
        assert not told.out  # before anything is read
    assert main(["check-data", "depth:" + str(tmp_path / "nowhere")]) == 1


# --------------------------------------------------------------------------------- table and reality


def test_every_rule_says_why_and_from_when_and_what_was_measured():
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert rule.severity in rules.SEVERITIES
        for part in ("", "Why", "Threshold", "Measured"):
            assert rule.part(part), (rule.name, part)


def test_every_rule_has_a_spoilt_twin_here():
    tested = {rule for rule, _, _ in TWINS.values()}
    source = (ROOT / "tests" / "data" / "test_doctor.py").read_text()
    missing = [r.name for r in RULES if r.name not in tested and source.count(f'"{r.name}"') < 1]
    assert not missing


def test_the_page_shows_the_table_of_the_code():
    page = (ROOT / "book" / "check_data.md").read_text(encoding="utf-8")
    assert rules.table() in page, "copy the output of dalib.data.doctor.rules.table() to the page"


@pytest.mark.slow
def test_realdepth_has_no_fault_that_spoils():
    if not paths.realdepth().is_dir():
        pytest.skip("../shared/realdepth is not here; set DALIB_REALDEPTH to its folder")
    report = examine(DepthManifest(paths.realdepth()))
    assert report.rules() == {"quantised"}, str(report)
    named = {name for finding in report.findings for name, _ in finding.examples}
    # Middlebury 2005 is published in 8 bits; a Kinect has few steps beyond two metres
    assert {name.partition("/")[0] for name in named} == {"middlebury", "tum", "redwood"}


@pytest.mark.slow
def test_rgbd_has_the_faults_that_were_looked_at():
    folder = paths.realdepth().parent / "rgbd"
    if not folder.is_dir():
        pytest.skip("../shared/rgbd is not here")
    report = examine(DepthManifest(folder), against=[DepthManifest(paths.realdepth())])
    found = {(f.rule, f.where.partition(", ")[2]) for f in report.findings if f.severity != "note"}
    assert found == {
        ("unit", "Cityscapes"),  # disparity in pixels, called 1/m by its manifest
        ("far_below", "maskpred"),  # one greenhouse, plants above, a lawn behind
        ("shifted", "OSD (Object Segmentation Database)"),  # a Kinect, not registered
        ("unrelated", "aims"),  # a RealSense, not registered
        ("unrelated", "maskpred"),
        ("unrelated", "lofi"),  # facades: edges of windows, not of depth
        ("quantised", ""),
    }, str(report)


def test_errors_of_a_source_that_cannot_be_opened_are_told(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        examine(f"photos:{tmp_path / 'nowhere'}")
