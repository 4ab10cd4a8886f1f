"""Networks under corruption: what is recorded, when it counts as fresh, and what the book says
about it."""

import json
import re

import numpy as np
import pytest
import torch
from helpers import fabricated
from helpers.corrupted import ROWS, corrupted, example
from helpers.training import Smooth
from matplotlib import pyplot as plt
from torch import nn

from dabook.pages import corruption as results
from dabook.runs import records, robustness
from dabook.runs.experiments import expand
from dabook.show.tables import record_list
from dalib import paths, provenance
from dalib.config import RunConfig
from dalib.errors import ConfigError, DataError
from dalib.evaluation import robustness as scores
from dalib.evaluation.corruptions import STRENGTHS, corrupt
from dalib.evaluation.ordinal import ordinal_accuracy
from dalib.evaluation.protocols import PROTOCOLS, score, scored
from dalib.models import build, save
from dalib.training import launch


class Brightness(nn.Module):
    """Sees disparity in the mean of the channels: on `Smooth` images, the truth up to a shift."""

    mean, std, multiple = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 8

    def forward(self, images):
        return images.mean(1)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout without records."""
    found = fabricated.root(tmp_path / "root")
    monkeypatch.setenv("DALIB_ROOT", str(found))
    return found


class TestMeasure:
    def test_scores_are_those_of_each_image_worked_out_alone(self):
        source, config = Smooth(count=4), RunConfig(height=64, width=96)
        found = scores.measure(
            Brightness(), config, images=3, domains={"a": source}, report=lambda line: None
        )
        assert list(found) == ["clean", *(f"{kind} {s}" for kind in STRENGTHS for s in range(1, 6))]
        for index in range(3):
            sample = source[index]
            target, valid = sample["disparity"][None], sample["valid"][None]
            for kind, strength in (("noise", 4), ("fog", 2)):
                image = sample["image"][None]
                seen = corrupt(image, kind, strength, domain="a", indices=[index], disparity=target)
                pred = (seen.float() / 255).mean(1)
                want = score(pred, target, valid, PROTOCOLS["scenes"])["abs_rel"].item()
                assert found[f"{kind} {strength}"]["a"]["abs_rel"][index] == pytest.approx(
                    want, abs=1e-5
                )
                counts = scored(target, valid, PROTOCOLS["scenes"])
                want = ordinal_accuracy(pred, target, counts, indices=[index]).item()
                assert found[f"{kind} {strength}"]["a"]["ordinal"][index] == pytest.approx(
                    want, abs=1e-5
                )
        assert {len(v) for domains in found.values() for v in domains["a"].values()} == {3}

    def test_clean_images_are_read_right_and_the_worst_noise_is_not(self):
        config = RunConfig(height=64, width=96)
        found = scores.measure(
            Brightness(), config, domains={"a": Smooth(count=2)}, report=lambda line: None
        )
        assert max(found["clean"]["a"]["abs_rel"]) < 0.02
        assert min(found["clean"]["a"]["ordinal"]) > 0.99
        assert np.mean(found["noise 5"]["a"]["abs_rel"]) > 3 * np.mean(
            found["clean"]["a"]["abs_rel"]
        )


class TestRecords:
    @pytest.fixture
    def trained(self, root):
        """The first row of the profile `smoke` with random weights that pass for trained ones."""
        config = expand("main_table", profile="smoke")["labelled_only"].configs[0]
        out = launch.folder(config)
        out.mkdir(parents=True)
        save(build(config.encoder, pretrained=False, seed=0), out / launch.WEIGHTS)
        (out / launch.DONE).write_text(json.dumps({"stamp": provenance.code_hash("training")}))
        return config

    @pytest.fixture
    def measured(self, monkeypatch):
        """What stands for the measurement, and how often it was asked for."""
        calls = []

        def measure(model, config, report):
            calls.append(config.hash())
            image = {"abs_rel": [0.3], "ordinal": [0.7]}
            return {scores.condition_name(*c): {"floating": image} for c in scores.CONDITIONS}

        monkeypatch.setattr(scores, "measure", measure)
        return calls

    def test_a_run_is_scored_once_and_one_without_weights_is_named(self, trained, measured):
        lines = []
        found = robustness.run(profile="smoke", report=lines.append)
        assert [e.status for e in found] == ["fresh", *["missing"] * 4]
        assert "python -m dabook row main_table naive --profile smoke --seed 0" in "\n".join(lines)
        assert robustness.run(profile="smoke", report=lines.append)[0].record == found[0].record
        assert measured == [trained.hash()]
        # nothing trained
        assert not launch.folder(expand("main_table", profile="smoke")["naive"].configs[0]).exists()

    def test_a_record_says_where_it_comes_from_and_is_no_training_record(self, trained, measured):
        record = robustness.run(profile="smoke", report=lambda line: None)[0].record
        assert (record["table"], record["row"], record["seed"]) == (
            "main_table",
            "labelled_only",
            0,
        )
        assert (record["hash"], RunConfig.from_dict(record["config"])) == (trained.hash(), trained)
        assert record["training_hash"] == provenance.code_hash("training")
        assert record["evaluation_hash"] == provenance.code_hash("evaluation")
        assert record["tools_hash"] == scores.tools_hash()
        assert len(record["weights"]) == 16
        assert robustness.path(trained, committed=False).is_relative_to(paths.runs())
        assert records.find(trained, committed=False) is None
        assert not list(paths.records().glob("**/*.json"))

    @pytest.mark.parametrize("key", ["training_hash", "evaluation_hash", "tools_hash"])
    def test_another_version_of_either_code_makes_it_stale_and_it_is_scored_again(
        self, trained, measured, key
    ):
        corrupted(example, profile="smoke", rows=ROWS[:1], **{key: "0" * 12})
        assert robustness.entries(profile="smoke")[0].status == "stale"
        assert robustness.run(profile="smoke", report=lambda line: None)[0].status == "fresh"
        assert measured == [trained.hash()]

    def test_weights_that_are_not_those_of_the_table_are_noticed(self, root):
        row = expand("main_table", profile="study")["naive"]
        training = fabricated.record(row, row.configs[0], level=0.3)
        clean = {
            d: {"abs_rel": training["images"][d]["abs_rel"][:2]} for d in fabricated.DOMAINS[:6]
        }
        hashes = {f"{part}_hash": provenance.code_hash(part) for part in provenance.ROOTS}
        ours = hashes | {"scores": {"clean": clean}}
        assert robustness.unlike(ours, None) is None
        assert robustness.unlike(ours, training) is None
        clean["floating"]["abs_rel"] = [clean["floating"]["abs_rel"][0], 0.9]
        assert re.fullmatch(
            r"AbsRel 0\.9 and not 0\.\d+ on image 1 of floating", robustness.unlike(ours, training)
        )
        assert robustness.unlike(ours | {"training_hash": "other"}, training) is None

    def test_damaged_and_foreign_files_are_named(self, root):
        config = expand("main_table", profile="study")["naive"].configs[0]
        file = robustness.path(config, committed=True)
        file.parent.mkdir(parents=True)
        for text in ('{"schema": 1', "[]", '{"schema": 1, "hash": "x"}'):
            file.write_text(text)
            with pytest.raises(
                DataError, match=rf"{file.name}: not a .*record.*score its run again"
            ):
                robustness.entries()

    def test_the_tools_are_no_part_of_the_science(self):
        names = {file.name for part in provenance.ROOTS for file in provenance.science(part)}
        assert not names & {
            "corruptions.py",
            "ordinal.py",
            "robustness.py",
            "robustness_results.py",
        }


class TestResults:
    def test_means_gap_and_changes_by_hand(self, root):
        found = corrupted(example)
        clean = 0.2 + 0.001 * np.arange(5)  # seeds 0 to 4

        def mean(values):
            return float(np.exp(np.log(values).mean()))

        assert found.value("naive", "clean").mean == pytest.approx(mean(clean))
        # strengths 1 to 5
        assert found.value("naive", "fog").mean == pytest.approx(mean(clean + 0.02 * 3))
        gap = found.value("naive", "gap")
        assert gap.mean == pytest.approx(mean((clean + 0.06) / clean))
        assert gap.resampled[0] < gap.mean < gap.resampled[1]
        assert found.value("naive", "mean", "ordinal").mean == pytest.approx(0.94 - 0.202)
        less = 100 * (mean((clean + 0.03) / (clean + 0.06)) - 1)
        assert found.change("perturbed", "mean").mean == pytest.approx(less)
        assert found.change("perturbed", "clean").mean == pytest.approx(0, abs=1e-9)
        # the clean errors are the same, so that the factor falls as the error does
        assert found.change("perturbed", "gap").mean == pytest.approx(less)
        points = found.points("perturbed", "mean")
        assert points.mean == pytest.approx(3)
        assert len(points.intervals) == 2
        assert points.resampled == pytest.approx((3, 3))  # the same gain in every image
        moved = np.array([-0.001, 0.001, -0.001, 0.001, -0.001])
        full = np.log(clean + 0.03 + moved) - np.log(clean + 0.03)
        assert found.change("full", "noise").mean == pytest.approx(100 * np.expm1(full.mean()))
        half = 2.776445 * full.std(ddof=1) / 5**0.5
        high = 100 * np.expm1(full.mean() + half)
        assert found.change("full", "noise").high == pytest.approx(high, rel=1e-5)

    @pytest.mark.slow
    def test_the_reading_words_only_decided_changes_as_effects(self, root):
        noisy = lambda row, seed, kind, s: example(row, seed, kind, s) + 1e-5 * ((seed * 7 + s) % 5)  # noqa: E731
        text = results.reading(corrupted(noisy))
        first, second = text.split("Adding feature alignment")
        assert "Adding strong perturbation lowers the error by" in first
        assert "The factor by which corruption raises the error shrinks (−11." in first
        assert "it falls under noise, blur, fog, dark, JPEG." in first
        assert "Ordinal accuracy under corruption rises (+3.0 percentage points" in first
        assert "an undecided effect" in second
        assert "it is undecided under noise, blur, fog, dark, JPEG." in second
        second = second.replace("by which corruption raises the error", "")
        assert not re.search("lowers|raises|shrinks|grows|rises|falls", second)

    @pytest.mark.slow
    def test_one_seed_shows_nothing_and_no_seed_says_so(self, root):
        nothing = results.Robustness(robustness.entries())
        assert results.reading(nothing) == "These runs are not yet recorded."
        assert "python -m dabook robustness --profile study" in results.table(nothing).text
        assert results.curves(nothing).axes[0].texts[0].get_text() == "not yet recorded"
        results.changes(nothing)
        assert "50 of 50 runs are not recorded" in record_list(nothing).text
        single = corrupted(example, profile="smoke")
        assert "in a single seed, which shows nothing" in results.reading(single)
        assert not re.search("lowers|shrinks|rises|falls", results.reading(single))
        results.curves(single)

    def test_rows_that_are_not_recorded_leave_their_comparisons_out(self, root):
        text = results.reading(corrupted(example, rows=ROWS[:2]))
        assert "Adding strong perturbation is not yet recorded under corruption" in text
        assert "shrinks" not in text

    @pytest.mark.slow
    def test_tables_lead_to_the_records_of_this_page(self, root):
        found = corrupted(example)
        text = results.table(found).text + results.changes(found).text
        leads = set(re.findall(r'href="([^"]+)"', text))
        assert leads == {
            f"../notebooks/robustness.html#records-study-{row.replace('_', '-')}" for row in ROWS
        }
        listed = record_list(found).text
        assert all(f'id="{lead.partition("#")[2]}"' in listed for lead in leads)
        assert listed.count("../records/robustness/") == 20 * 8
        assert "STALE" not in text
        assert (
            "STALE: 20 of 20"
            in results.table(corrupted(example, tools_hash="0" * 12), "ordinal").text
        )

    @pytest.mark.slow
    def test_the_figure_draws_means_from_clean_to_strength_five(self, root):
        figure = results.curves(corrupted(example))
        figure.canvas.draw()
        assert not plt.get_fignums()
        assert [ax.get_title("left") for ax in figure.axes] == [
            "noise",
            "blur",
            "fog",
            "dark",
            "JPEG",
            "all five",
        ]
        for ax in figure.axes:
            drawn = [line.get_ydata() for line in ax.get_lines() if len(line.get_xdata()) == 6]
            assert len(drawn) == 4
            assert drawn[1] == pytest.approx([0.202 + 0.02 * s for s in range(6)])
            assert len(ax.collections) >= 4  # a band each

    def test_kinds_of_device_are_not_mixed(self, root):
        corrupted(example)
        mixed = corrupted(example, rows=ROWS[:1], device_type="cuda")
        with pytest.raises(ConfigError, match="cannot stand in one table"):
            mixed.value("naive", "clean")


@pytest.mark.slow
def test_the_measurement_is_the_same_to_the_bit_twice():
    config = RunConfig(height=64, width=96)
    model = build("lite0", pretrained=False, seed=0)
    torch.manual_seed(1)
    first = scores.measure(model, config, domains={"a": Smooth(count=2)}, report=lambda line: None)
    torch.manual_seed(2)
    assert (
        scores.measure(model, config, domains={"a": Smooth(count=2)}, report=lambda line: None)
        == first
    )
