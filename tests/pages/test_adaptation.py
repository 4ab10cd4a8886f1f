"""What an adaptation asks for, by hand; and the pieces of a report on a page."""

import re

import pytest
import torch
from PIL import Image

from dabook.pages import adaptation
from dabook.pages.adaptation import MACHINES, Expected, Machine
from dalib.config import RunConfig
from dalib.data.photos import PhotoFolder
from dalib.data.schema import Source
from dalib.errors import ConfigError
from dalib.training.costs import measure, network
from dalib.training.plan import Part

LAPTOP, *_, EIGHT = MACHINES


def part(**changes) -> Part:
    config = RunConfig(pseudo_labels=True, steps=100, batch=8)
    values = {
        "role": "",
        "config": config,
        "done": False,
        "parameters": 1,
        "flops": 8e15,
        "step_bytes": 15_500_000_000,
        "labels_bytes": 0,
        "kept_bytes": 0,
    }
    return Part(**(values | changes))


def machine(**changes) -> Machine:
    values = {
        "name": "m",
        "peak": 1e12,
        "memory": 16e9,
        "precision": "no",
        "cores": 4,
        "source": "",
    }
    return Machine(**(values | changes))


def test_hours_by_hand():
    """8e15 FLOP at a quarter of 2 x 1e12 a second: 16,000 s. 1,600 photographs by 4 cores of 2 a
    second: 200 s; of 0.01 a second: 40,000 s, which then decide."""
    found = Expected(machine=machine(accelerators=2), part=part(), learned=800, reads=1600)
    assert found.computing(0.25) == 16_000
    assert found.reading(2) == 200
    assert found.seconds(utilisation=0.25, read=2) == 16_000
    assert found.seconds(utilisation=0.25, read=0.01) == 40_000
    assert found.readings == 100 * 16 / 800
    # 15.5 GB and one of libraries do not fit into 16
    assert not found.fits
    assert Expected(machine=machine(memory=24e9), part=part(), learned=1, reads=1).fits


@pytest.mark.parametrize(("count", "kept"), [(10, 5), (1_000, 100), (10_000, 1_000), (10**6, 2000)])
def test_how_many_are_kept_back(count, kept):
    assert adaptation.kept_back(count) == kept


def test_peaks_by_hand():
    """Eight cores of 3 GHz with 2 x 8 x 2 operations a cycle: 768 GFLOP/s."""
    assert LAPTOP.peak == 768e9
    assert EIGHT.accelerators == 8
    assert all(m.source for m in MACHINES)


@pytest.fixture(scope="module")
def small():
    """lite0 on 1,000 photographs on a laptop."""
    return adaptation.expected("lite0", 1_000, LAPTOP)


@pytest.mark.slow
def test_it_is_the_run_that_adapt_makes(small):
    """900 to learn from, 20 times, 16 a step: 1,125 steps; labelled once before."""
    config = small.part.config
    assert (config.steps, config.labelling, config.labelled) == (1125, "stored", ())
    assert config.perturb == ("colour", "blur", "cutmix")
    assert small.learned == 900
    assert small.readings == 20
    assert small.reads == 20 * 900 + 900
    assert small.part.labels_bytes == 900 * 192 * 256 * 2


def test_most_of_it_is_the_teacher(small):
    """900 images of 518 x 686 through a ViT-L."""
    strong = network("vitl").eval()
    with strong.mean.fake_mode, torch.no_grad():
        images = torch.empty(1, 3, 518, 686)
        forward, _ = measure(lambda: strong(images))
    share = 900 * forward / small.part.flops
    assert 0.9 < share < 1
    assert small.part.step_bytes > 4 * sum(p.numel() for p in strong.parameters())


def test_the_tables_say_what_is_computed(small, monkeypatch):
    monkeypatch.setattr(adaptation, "STUDENTS", ("lite0",))
    monkeypatch.setattr(adaptation, "COUNTS", (1_000,))
    monkeypatch.setattr(adaptation, "MACHINES", (LAPTOP,))
    text = adaptation.time_table(utilisation=0.5, read=1e6).text
    hours = small.part.flops / (768e9 * 0.5) / 3600
    assert f"{int(hours)} h" in text
    assert "1,125" in text
    assert " *<" not in text
    assert " *<" in adaptation.time_table(utilisation=0.5, read=1e-3).text
    room = adaptation.room_table().text
    assert f"{small.part.step_bytes / 1e9:.1f}" in room
    assert "too much" not in room
    monkeypatch.setattr(adaptation, "MACHINES", (machine(memory=2e9),))
    assert "too much" in adaptation.room_table().text
    assert "float32" in adaptation.machine_table().text


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"utilisation": 0.0}, "utilisation"),
        ({"utilisation": 1.5}, "utilisation"),
        ({"read": 0.0}, "read"),
        ({"read": float("nan")}, "read"),
    ],
)
def test_impossible_parameters_are_refused(values, named):
    with pytest.raises(ConfigError, match=f"^{named}: "):
        adaptation.time_table(**values)


# the notebook's own


class Numbered(Source):
    """One picture of 4 x 6 pixels whose red says the column and whose green says the row."""

    fingerprint = "numbered"

    def __len__(self):
        return 1

    def _sample(self, index):
        rows, columns = torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij")
        image = torch.stack([columns, rows, torch.zeros_like(rows)]).to(torch.uint8)
        return {"image": image, "domain": "x"}


def test_crops_are_the_parts_of_a_photograph(tmp_path):
    assert adaptation.crops(Numbered(), tmp_path / "parts") == 4
    found = PhotoFolder(tmp_path / "parts")
    assert [found.name_of(k) for k in range(4)] == ["0-00.png", "0-01.png", "0-10.png", "0-11.png"]
    image = found[3]["image"]
    assert image[0].tolist() == [[3, 4, 5]] * 2
    assert image[1].tolist() == [[2] * 3, [3] * 3]
    # what is there stays
    before = [p.stat().st_mtime_ns for p in sorted((tmp_path / "parts").iterdir())]
    assert adaptation.crops(Numbered(), tmp_path / "parts") == 4
    assert [p.stat().st_mtime_ns for p in sorted((tmp_path / "parts").iterdir())] == before


def content(names=()):
    value = {"value": 0.5, "low": 0.25, "high": None}
    nothing = {"value": None, "low": None, "high": None}
    measures = {
        name: {"before": nothing, "after": value | {"high": 0.75}} for name in adaptation.WORDS
    }
    return {"agreement": measures, "sheet": [{"name": name} for name in names]}


def test_the_measures_stand_with_their_intervals():
    text = adaptation.agreement_table(content()).text
    assert text.count("0.500<br>") == len(adaptation.WORDS)
    assert text.count("0.250 to 0.750") == len(adaptation.WORDS)
    assert "None" not in text
    assert "nan" not in text


def test_every_measure_of_a_report_has_words():
    from dalib.adaptation import MEASURES

    assert list(adaptation.WORDS) == list(MEASURES)


def test_what_a_report_shows_first_is_looked_at(tmp_path):
    for k in range(4):
        Image.new("RGB", (8, 6), (k, 0, 0)).save(tmp_path / f"{k}.png")
    found = adaptation.looked_at(content(["3.png", "1.png", "0.png"]), tmp_path, count=2)
    assert [(s["name"], int(s["image"][0, 0, 0])) for s in found] == [("3.png", 3), ("1.png", 1)]


def test_a_report_in_a_frame_is_the_report(tmp_path):
    page = '<!doctype html><p title="x">5 < 6 & "7"</p>'
    (tmp_path / "report.html").write_text(page)
    frame = adaptation.framed(tmp_path / "report.html").text
    from html import unescape

    assert unescape(re.search(r'srcdoc="([^"]*)"', frame)[1]) == page
