"""Draws of a split: which scenes each has, that no two share one, and where they are kept."""

import json

import pytest
import torch

from dalib.__main__ import main
from dalib.config import RunConfig
from dalib.data import caches
from dalib.data.catalogue import check_sources, open_source
from dalib.data.scenes import Scenes, materialise, render
from dalib.data.scenes.splits import PER_DRAW
from dalib.errors import ConfigError
from dalib.evaluation.suite import scene_domains, study_floors
from dalib.training.launch import sources
from dalib.training.validation import validation_of

SMALL = {"height": 16, "width": 24}


def test_a_draw_has_the_scenes_from_its_number_on():
    """Whatever the count, up to the draw's end, none is another draw's."""
    for draw in (0, 1, 7, 2**63 - 1):
        source = Scenes(split="unlabelled", count=PER_DRAW, draw=draw, **SMALL)
        first, last = source.numbers([0, PER_DRAW - 1])
        assert (first, last) == (draw * PER_DRAW, (draw + 1) * PER_DRAW - 1)
    two = Scenes(split="unlabelled", count=3, draw=2, **SMALL)
    expected = render("unlabelled", [2 * PER_DRAW, 2 * PER_DRAW + 2], **SMALL)
    for key in ("image", "disparity", "semantics"):
        assert torch.equal(two.get_batch([0, 2])[key], expected[key])
    zero = Scenes(split="unlabelled", count=3, **SMALL)
    assert torch.equal(zero[1]["image"], render("unlabelled", [1], **SMALL)["image"][0])
    far = Scenes(split="unlabelled", count=1, draw=2**63 - 1, **SMALL)
    assert not torch.equal(far[0]["image"], zero[0]["image"])


def test_a_draw_is_in_the_fingerprint_and_in_the_name_of_the_cache():
    made = [materialise(split="labelled", count=2, draw=d, workers=1, **SMALL) for d in (0, 3)]
    assert len({source.fingerprint for source in made}) == 2
    for source, draw in zip(made, (0, 3), strict=True):
        fresh = Scenes(split="labelled", count=2, draw=draw, **SMALL)
        assert source.folder.name == f"labelled-draw{draw}-{fresh.fingerprint}"
        assert torch.equal(source[1]["disparity"], fresh[1]["disparity"])


def test_what_no_draw_has_is_refused():
    with pytest.raises(ConfigError, match=f"{PER_DRAW + 1} scenes .*a draw has {PER_DRAW}"):
        Scenes(split="labelled", count=PER_DRAW + 1)
    with pytest.raises(ConfigError, match="draw -1 of split 'labelled' is negative"):
        Scenes(split="labelled", count=1, draw=-1)
    # before anything is drawn
    with pytest.raises(ConfigError, match="a draw has"):
        check_sources(RunConfig(labelled_images=PER_DRAW + 1))


@pytest.mark.slow
def test_training_reads_a_runs_own_draw_and_tests_read_the_same_scenes_for_all():
    values = {"labelled_images": 2, "unlabelled_images": 2, "test_images": 1, **SMALL}
    values |= {"validate_every": 1, "validation_images": 1, "pseudo_labels": True}
    runs = [RunConfig(seed=4, **values), RunConfig(seed=4, draw=0, **values)]
    runs.append(runs[0].teacher_run().replace(pseudo_labels=True, unlabelled_images=2))
    own, other, teacher = ([s.sources[0] for s in sources(run)] for run in runs)
    assert [s.draw for s in (*own, *other, *teacher)] == [4, 4, 0, 0, 4, 4]
    assert [s.fingerprint for s in own] == [s.fingerprint for s in teacher]
    for run in runs:
        (part,) = validation_of(run).parts
        assert part.source.draw == 0
        assert {source.draw for source in scene_domains(run).values()} == {0}
    # the mean map, a floor, is of the labels that the run has read
    maps = [study_floors(run)["mean map"](16, 24) for run in runs[:2]]
    assert not torch.equal(*maps)


def test_what_is_kept_is_listed_and_removed_on_demand_alone(runs, capsys):
    """One of today's renderer, one of another, one that is being made."""
    source = open_source("scenes:labelled", count=1, draw=5, **SMALL)
    old = open_source("scenes:labelled", count=1, draw=6, **SMALL).folder
    stated = json.loads((old / "dalib.json").read_text())
    (old / "dalib.json").write_text(json.dumps(stated | {"renderer": "0" * 12}))
    (runs / "cache" / ".labelled-draw7-abc-tmp").mkdir()
    (runs / "cache" / "engines").mkdir()  # is nothing of ours
    found = {each.name: each for each in caches.kept()}
    assert set(found) == {source.folder.name, old.name, ".labelled-draw7-abc-tmp"}
    assert [name for name, each in found.items() if each.old] == [old.name]
    size = sum(f.stat().st_size for f in source.folder.iterdir())
    assert found[source.folder.name].size == size

    assert main(["cache"]) == 0
    said = capsys.readouterr().out
    assert source.folder.name in said
    assert f"{old.name}  (other code drew it)" in said
    assert old.is_dir()
    assert main(["cache", "--remove", "nothing"]) == 1
    assert "`python -m dalib cache` lists what is" in capsys.readouterr().err
    assert main(["cache", "--remove-old"]) == 0
    assert "removed 1," in capsys.readouterr().out
    assert (old.exists(), source.folder.exists()) == (False, True)
    assert main(["cache", "--remove", source.folder.name]) == 0
    assert not source.folder.exists()
    assert (runs / "cache" / "engines").is_dir()
