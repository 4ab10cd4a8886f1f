"""Figures: what they draw is what the records say, and every kind of input gives a picture."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import fabricated
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from dabook.analysis.statistics import Results
from dabook.runs.experiments import expand
from dabook.runs.floors import read_floors
from dabook.runs.records import entries
from dabook.show import charts, pictures
from dalib.data import perturb, scenes
from dalib.evaluation.protocols import PROTOCOLS, score
from dalib.losses import region_weights

LEVELS = {
    row: [base, base + 0.01, base - 0.01]
    for row, base in zip(
        ("labelled_only", "labelled_long", "naive", "perturbed", "full"),
        (0.30, 0.26, 0.29, 0.28, 0.27),
        strict=True,
    )
}


def main(entries) -> Results:
    """The main table, each row beside the one that it is compared with."""
    return Results(entries, against=expand("main_table", profile="study").against)


@pytest.fixture
def results(tmp_path, monkeypatch) -> Results:
    monkeypatch.setenv("DALIB_ROOT", str(fabricated.root(tmp_path / "root")))
    fabricated.write_floors()
    return main(fabricated.write("main_table", LEVELS))


@pytest.fixture(scope="module")
def batch() -> dict:
    return scenes.render("unlabelled", range(4), height=48, width=64)


@pytest.fixture
def samples(batch) -> list[dict]:
    return [{key: values[i] for key, values in batch.items()} for i in range(2)]


def shown(figure) -> Figure:
    """Draws and checks that nothing is left open for a notebook to show twice."""
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    assert not plt.get_fignums()
    return figure


def test_the_seeds_figure_draws_every_seed_and_every_interval(results):
    left, right = shown(charts.seeds(results)).axes
    points = np.concatenate(
        [c.get_offsets()[:, 0] for c in left.collections if isinstance(c, PathCollection)]
    )
    assert sorted(np.round(points, 6)) == sorted(np.round(np.concatenate(list(LEVELS.values())), 6))
    assert next(t.get_text() for t in left.get_yticklabels()) == "Labelled images only"
    assert len(right.containers) == 4  # an interval per change; the first row has none


def test_study_figures_without_records_say_so(tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(fabricated.root(tmp_path / "root")))
    nothing = Results(entries(expand("main_table", profile="study")))
    for figure in (charts.seeds(nothing), charts.domains(nothing), charts.real(nothing, None)):
        assert shown(figure).axes[0].texts[0].get_text() == "not yet recorded"


@pytest.mark.slow
def test_domains_and_real_images(results):
    levels, changes = shown(charts.domains(results)).axes
    assert len(levels.containers) == 5 * 8
    assert len(changes.containers) == 4 * 8
    table = shown(charts.real(results, read_floors())).axes[0]
    names = [t.get_text() for t in table.get_yticklabels()]
    assert (names[:2], names[-1]) == (["NYUv2 (4)", "KITTI (4)"], "Motorcycle (4)")


@pytest.mark.slow
def test_floors_are_strokes_beside_the_rows(results):
    for figure, count in (
        (charts.domains(results), 8),
        (charts.real(results, read_floors()), 6),
    ):
        strokes = {
            c.get_label().removeprefix("floor: "): c.get_offsets()
            for c in shown(figure).axes[0].collections
            if isinstance(c, PathCollection) and c.get_label().startswith("floor: ")
        }
        assert {name: set(np.round(xy[:, 0], 6)) for name, xy in strokes.items()} == {
            name: {at} for name, at in fabricated.FLOORS.items()
        }
        assert {len(xy) for xy in strokes.values()} == {count}


@pytest.mark.slow
def test_one_seed_has_points_but_no_interval(results):
    single = main(entries(expand("main_table", profile="study", seeds=1)))
    left, right = shown(charts.seeds(single)).axes
    points = np.concatenate(
        [c.get_offsets()[:, 0] for c in left.collections if isinstance(c, PathCollection)]
    )
    assert sorted(np.round(points, 6)) == [0.26, 0.27, 0.28, 0.29, 0.30]
    for ax in (left, right, *shown(charts.domains(single)).axes):
        assert ax.containers
        assert {width(bar) for bar in ax.containers} == {0}
    assert min(width(bar) for bar in shown(charts.seeds(results)).axes[0].containers) > 0


def width(bar) -> float:
    """Of the interval that an error bar draws."""
    (low, _), (high, _) = bar.lines[2][0].get_segments()[0]
    return high - low


def test_loss_curves(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": s, "loss": 1 / s, "labelled": 1 / s, "unlabelled": 2 / s} for s in (1, 2, 3)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ax = shown(charts.losses({"student": path})).axes[0]
    assert [len(line.get_xdata()) for line in ax.get_lines()] == [3, 3, 3]


def test_a_curve_for_each_name():
    ax = shown(charts.curves([0, 1, 2], {"a": [0, 1, 4], "b": [1, 1, 1]}, x_label="x")).axes[0]
    assert {line.get_label(): list(line.get_ydata()) for line in ax.get_lines()} == {
        "a": [0, 1, 4],
        "b": [1, 1, 1],
    }
    assert ax.get_xlabel() == "x"


def test_histograms_are_in_percent_whatever_the_count():
    axes = shown(charts.histograms({"a": torch.rand(100), "b": torch.rand(50)}, bins=5)).axes
    assert [ax.get_xlabel() for ax in axes] == ["a", "b"]
    for ax in axes:
        assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(100)


def test_a_band_of_a_histogram_is_shaded():
    values = {"a": [0.0, 1.0, 4.0], "b": [1.0, 2.0]}
    plain, shaded = shown(charts.histograms(values, bins=2, bands={"b": (1.5, 2.0)})).axes
    assert len(plain.patches) == 2
    *_, band = shaded.patches
    assert (band.get_x(), band.get_width()) == (1.5, 0.5)


@pytest.mark.parametrize(("hue", "bars"), [(None, [3.0, 4.0]), ("who", [1.0, 2.0, 5.0, 6.0])])
def test_groups_are_sorted_by_their_means(hue, bars):
    """b is 0, 2, 4, 6 and a is 1, 3, 5, 7; x the first half of each."""
    frame = pd.DataFrame(
        {"kind": ["b", "a"] * 4, "who": ["x"] * 4 + ["y"] * 4, "value": np.arange(8.0)}
    )
    ax = shown(charts.groups(frame, "kind", "value", hue=hue)).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a"]
    assert [line.get_xdata()[0] for line in ax.get_lines()] == bars
    points = np.concatenate([c.get_offsets()[:, 0] for c in ax.collections])
    assert sorted(points) == list(frame.value)


def test_the_error_map_has_absrel_as_its_mean(samples):
    torch.manual_seed(0)
    for sample in samples:
        pred = sample["disparity"] + 0.05 * torch.rand_like(sample["disparity"])
        error = pictures.relative_error(pred, sample["disparity"], sample["valid"])
        want = score(
            pred[None], sample["disparity"][None], sample["valid"][None], PROTOCOLS["scenes"]
        )["abs_rel"]
        assert error.nanmean().item() == pytest.approx(want.item(), rel=1e-4)
        assert torch.isnan(error[sample["disparity"] == 0]).all()  # sky is not scored


def drawn(figure) -> list:
    """The axes that hold a picture, and each picture's title."""
    shown(figure)
    return [(ax.get_title(loc="left"), ax.images[0].get_array()) for ax in figure.axes if ax.images]


def test_a_contact_sheet_shows_each_picture_once_under_its_title(batch):
    pictures_and_maps = [*batch["image"], *batch["disparity"]]
    titles = [f"number {k}" for k in range(8)]
    found = drawn(pictures.contact_sheet(pictures_and_maps, titles, kind="disparity"))
    assert [title for title, _ in found] == titles
    for (_, pixels), image in zip(found[:4], batch["image"], strict=True):
        np.testing.assert_array_equal(pixels, image.movedim(0, -1))
    assert all(pixels.shape == (48, 64) for _, pixels in found[4:])


def test_layers_name_only_the_classes_that_are_seen(batch):
    figure = pictures.layers(batch, scenes.CLASSES)
    found = drawn(figure)
    assert [title for title, _ in found[:3]] == ["image", "disparity (bright is near)", "classes"]
    assert len(found) == 3 * 4
    seen = [scenes.CLASSES[k] for k in batch["semantics"].unique().tolist()]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == seen


def test_a_gallery_prints_the_error_above_each_prediction(samples):
    maps = [sample["disparity"] for sample in samples]
    off = [m + 0.05 * torch.linspace(0, 1, m.numel()).view_as(m) for m in maps]
    found = drawn(pictures.gallery(samples, {"a": maps, "b": off}, errors=["b"]))
    wrong = [
        pictures.relative_error(m, s["disparity"], s["valid"]).nanmean().item()
        for m, s in zip(off, samples, strict=True)
    ]
    assert min(wrong) > 0.001
    assert [title for title, _ in found] == [
        *("image", "truth", "a: 0.000", f"b: {wrong[0]:.3f}", "error, b"),
        *("", "", "a: 0.000", f"b: {wrong[1]:.3f}", ""),
    ]
    photos = [{"image": s["image"]} for s in samples]
    found = drawn(pictures.gallery(photos, {"a": maps}, truth=False))
    assert [title for title, _ in found] == ["image", "a", "", ""]


def test_a_strip_has_a_row_of_photographs_and_one_for_each_network(samples):
    maps = [sample["disparity"] for sample in samples]
    photos = [{**s, "name": f"photo {k}"} for k, s in enumerate(samples)]
    figure = pictures.strip(photos, {"a": maps, "b": maps})
    assert [title for title, _ in drawn(figure)] == ["photo 0", "photo 1", "", "", "", ""]
    assert [ax.get_ylabel() for ax in figure.axes] == ["", "", "a", "", "b", ""]


def test_the_cutmix_figure_shows_both_regions(batch):
    drawn = perturb.Perturbation(
        colour=None, sigma=None, box=torch.tensor([[8, 8, 24, 40], [0, 0, 0, 0]])
    )
    mixed, inside = perturb.apply(batch["image"][:2].float() / 255, drawn)
    weight = region_weights(inside, torch.ones_like(inside)).tolist()
    figure = shown(
        pictures.cutmix(batch["image"][:2], mixed, batch["disparity"][:2], inside, weight)
    )
    titles = [ax.get_title(loc) for ax in figure.axes for loc in ("left", "center")]
    assert any("× 0.17" in title for title in titles)  # 16 x 32 of 48 x 64


@pytest.mark.slow
def test_the_alignment_figure_counts_the_tokens_beyond_the_margin(batch):
    """Of 48 tokens 12 lie beyond the margin without, and 36 with."""
    few = torch.full((4, 3, 4), 0.2)
    few[0] = 0.9
    many = torch.full((4, 3, 4), 0.9)
    many[0] = 0.2
    maps = {"without": few, "with": many}
    figure = shown(pictures.alignment(batch["image"], maps, margin=0.85))
    histogram = figure.axes[-1]
    assert [text.get_text() for text in histogram.get_legend().get_texts()] == [
        "without: 25 % of the tokens beyond the margin",
        "with: 75 % of the tokens beyond the margin",
    ]
    assert [text.get_text() for text in histogram.texts] == ["margin 0.85"]
    assert sum(bar.get_height() for bar in histogram.patches) == 2 * 48
    assert [ax.get_title(loc="left") for ax in figure.axes if ax.images][:3] == [
        "image",
        "without",
        "with",
    ]


def test_importing_draws_nothing_and_changes_no_setting():
    assert not plt.get_fignums()
    shown(charts.curves([0, 1], {"a": [0, 1]}, x_label="x"))
    assert plt.rcParams["figure.dpi"] == plt.rcParamsDefault["figure.dpi"]
