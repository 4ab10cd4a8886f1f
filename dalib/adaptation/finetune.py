"""From any relative network, or from a pre-trained encoder alone, to depth in metres: the paper's
section 4.3 in one call, on labels as dense or as sparse as they are.

The encoder is begun with and the decoder is new, as in the paper and in V2's metric script; the loss
is the scale-invariant log loss of each image's valid pixels, and the rates of encoder and decoder are
those of the recipe.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dalib import provenance
from dalib.adaptation.adapt import (
    RATES,
    RUNS,
    SIZES,
    how_trained,
    make_folder,
    refuse_twice,
    runs_in,
)
from dalib.blocks import PARTS, GivenNetwork, check_names
from dalib.config import RunConfig
from dalib.data.catalogue import KINDS, LOOKS, open_source, parse
from dalib.data.damaged import guarded
from dalib.data.sources import DepthManifest
from dalib.errors import ConfigError
from dalib.evaluation.measure import ALL_METRICS
from dalib.evaluation.protocols import PROTOCOLS, in_metres
from dalib.evaluation.run import evaluate_source, mean_over_images, predict_maps
from dalib.evaluation.scores import Scorable
from dalib.models.depth_anything import DepthAnything, save
from dalib.models.encoder import PRESETS, layout
from dalib.models.licences import about_derived
from dalib.training import tasks
from dalib.training.descent import parents
from dalib.training.folder import DONE, read_json
from dalib.training.given import load_given
from dalib.training.plan import Plan, plan
from dalib.training.recipe import train
from dalib.writing import nothing_left, write_text

NETWORK = "model.safetensors"
RECORD = "run.json"
READINGS = 20
"""How often each labelled image is read where nobody says how many steps there are."""
STEPS = 200, 50_000
"""The least and the most steps where nobody says how many."""
BATCH = 8
"""Images a step."""
SPARSE = 0.1
"""Share of valid pixels below which labels are called sparse."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What a look at some images of a source says of its labels.

    Args:
        name: of the source.
        images: of which so many were looked at.
        looked: how many.
        valid: share of their pixels that have a label.
        within: share of their pixels whose label the network reaches, and which so count.
        empty: images of those looked at without any that counts.
    """

    name: str
    images: int
    looked: int
    valid: float
    within: float
    empty: int

    def line(self, reach: float) -> str:
        """For a person."""
        if not self.looked:
            return f"labels    {self.name}: {self.images:,} images, not looked at"
        sparse = ", sparse" if self.valid < SPARSE else ""
        none = f"; {self.empty} without any, which add nothing" if self.empty else ""
        return (
            f"labels    {self.name}: {self.valid:.1%} of the pixels have one{sparse}, "
            f"{self.within:.1%} within {reach:g} m ({self.looked} of {self.images:,} images looked "
            f"at{none})"
        )


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """A fine-tuning before its first step: everything is looked at and nothing is trained.

    Args:
        out: the folder for network and record.
        plan: what the run would do and need.
        labels: of each labelled source.
        test: the sources to score on.
    """

    out: Path
    plan: Plan
    labels: tuple[Labels, ...]
    test: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """For a person."""
        config = self.plan.config
        yield (
            f"learns    depth in metres, to {config.max_depth:g}; {_begins(config)}; rates "
            f"{config.encoder_lr:g} of the encoder, "
            f"{config.encoder_lr * config.decoder_lr_factor:g} of the decoder"
        )
        for found in self.labels:
            yield found.line(config.max_depth)
        yield from self.plan.lines()
        for name in self.test:
            yield f"scores    {name}, in metres, without alignment"
        yield f"leaves    {self.out / NETWORK}, {self.out / RECORD}"


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """What `finetune` leaves.

    Args:
        network: its weights.
        record: the file that says how they were made.
        content: what stands in it.
    """

    network: Path
    record: Path
    content: dict[str, Any]


def prepare(
    start: GivenNetwork | str | Path,
    data: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    max_depth: float | int,
    part: str | None = None,
    steps: int | None = None,
    height: int | None = None,
    width: int | None = None,
    test: Sequence[str] = (),
    encoder_weights: str = "",
    changes: dict[str, Any] | None = None,
    processes: int = 1,
    overwrite: bool = False,
) -> Finetuning:
    """Look at everything that a fine-tuning needs; see `finetune`."""
    out = Path(out)
    if (height is None) != (width is None):
        raise ConfigError("height, width: give both, or none")
    given = [data] if isinstance(data, str | Path) else list(data)
    if not given:
        raise ConfigError("data: empty; name images with depth in metres, such as depth:FOLDER")
    labelled = tuple(_source_name(name) for name in given)
    test = tuple(_source_name(name) for name in test)

    # the settings, once so that the images may be looked at, and again when their number is known
    values = _beginning(start, part, encoder_weights) | {
        "task": "metric",
        "max_depth": float(max_depth),
        "labelled": labelled,
        "batch": BATCH,
        "precision": "bf16" if torch.cuda.is_available() else "no",
    }
    kind = "vit" if layout(values["encoder"]).plain else "cnn"
    values["encoder_lr"] = RATES[kind]
    size = SIZES[kind] if height is None else (height, width)
    values |= dict(zip(("height", "width"), size, strict=True))
    _check_changes(changes or {}, steps=steps, encoder_weights=encoder_weights)
    config = RunConfig.from_dict(RunConfig(**values).to_dict() | (changes or {}))
    labels = tuple(_look(name, config) for name in config.sources["labelled"])
    if "steps" not in (changes or {}):
        images = sum(found.images for found in labels)
        usual = min(max(STEPS[0], READINGS * images // config.batch), STEPS[1])
        config = config.replace(steps=usual if steps is None else steps)

    # where it goes
    with runs_in(out), nothing_left(out / RUNS):
        make_folder(out)
        for name in test:
            if not _is_drawn(name):
                _open_test(name, config)
        found = plan(config, processes=processes)
        _check_network(out, found.config, overwrite=overwrite)
    return Finetuning(out=out, plan=found, labels=labels, test=test)


def carry_out(
    ready: Finetuning, *, processes: int = 1, report: Callable[[str], None] = print
) -> Finetuned:
    """Train what was prepared, score it, and write its record."""
    out, config = ready.out, ready.plan.config
    with runs_in(out):
        weights = train(config, processes=processes, report=report)
        training = read_json(weights.parent / DONE)
    network = tasks.of(config).restore(weights)
    origins = tuple({terms.name: terms for terms in parents(config)}.values())
    content = {
        "run": config.hash(),
        "task": config.task,
        "max_depth": config.max_depth,
        "start": _begins(config),
        "short_side": config.short_side,
        "labels": {found.name: vars(found) for found in ready.labels},
        "config": config.to_dict(),
        "training": training,
        "commit": provenance.commit(),
        "packages": provenance.versions(),
        "device": provenance.device(),
    }
    keys = ("run", "task", "start", "short_side")
    told = {key: content[key] for key in keys}
    about = about_derived(origins, trained=told) if origins else {"trained": told}
    save(network, out / NETWORK, about=about)
    content["scores"] = {name: _score(network, name, config, report) for name in ready.test}
    write_text(out / RECORD, json.dumps(content, indent=1) + "\n")
    return Finetuned(network=out / NETWORK, record=out / RECORD, content=content)


def finetune(
    start: GivenNetwork | str | Path,
    data: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    max_depth: float | int,
    processes: int = 1,
    report: Callable[[str], None] = print,
    **options: Any,
) -> Finetuned:
    """A network of metres from a relative one, or from a pre-trained encoder::

        finetune("mine/student.safetensors", "depth:rooms", "metres", max_depth=10)

    leaves `metres/model.safetensors`, which `load` reads, and `metres/run.json`. Called again it
    goes on where it was stopped; what is whole is not done again.

    Labels may be dense or as sparse as LiDAR's: only valid pixels count, each image weighs alike, and
    one without any label within reach adds nothing. Sources of different kinds (depth maps,
    disparity, scenes) may be mixed, as long as each is in metres (`scale_known`).

    Args:
        start: weights that `dalib.models.load` reads, `GivenNetwork` with what their name does not
            say, or an encoder ("lite0", "vits", ...) with its pre-trained weights. Of a network of
            classes the encoder alone can be taken.
        data: images with depth in metres: a folder with a `manifest.csv`, the name of a source
            (`open_source`), or several.
        out: the folder for the network and its record, with the run's own files in `runs`.
        max_depth: metres that the network reaches; labels beyond it do not count. The paper's are 10
            for NYUv2 and 80 for KITTI.
        processes: that train.
        report: receives lines of progress.
        options: of `prepare`: `part`, what is taken of the start, "encoder" (by default, of a
            relative network and one of classes) or "network" (by default, of one of metres); `steps`, by default
            `READINGS` readings of the images; `height` and `width` of the images in training;
            `test`, sources to score on in metres; `encoder_weights`, a file of DINOv2 weights for a
            ViT; `changes`, any other settings of `RunConfig`, such as `encoder_lr`; `overwrite`.

    Raises:
        ConfigError, CheckpointError, DataError: what cannot be done, before the first step.
        Stopped: a signal ended it early, with its state saved.
    """
    ready = prepare(start, data, out, max_depth=max_depth, processes=processes, **options)
    return carry_out(ready, processes=processes, report=report)


def _source_name(name: str | Path) -> str:
    """The name of a source; a folder, or a manifest in it, is one of depth maps."""
    text = str(name)
    if not text:
        raise ConfigError("data: an empty name; give a folder with a manifest.csv, or a source")
    if text.partition(":")[0] in KINDS:
        return text
    path = Path(text)
    folder = path.parent if path.name == "manifest.csv" else path
    if not (folder / "manifest.csv").is_file():
        raise ConfigError(
            f"{text}: no folder with a manifest.csv, and no source such as depth:FOLDER or "
            "hub:NAME?image=...&depth=...; `python -m dalib manifest` writes one of a published data "
            "set"
        )
    return f"depth:{folder.resolve()}"


def _beginning(
    start: GivenNetwork | str | Path, part: str | None, encoder_weights: str
) -> dict[str, Any]:
    """The settings that say what the network is and begins with."""
    if part is not None:
        check_names([part], PARTS, what="part of the start")
    if not isinstance(start, GivenNetwork) and _is_encoder(str(start)):
        if part is not None:
            raise ConfigError(f"part: {start} is an encoder alone; leave it out")
        own = {"encoder": str(start)}
        if encoder_weights:
            return own | {"encoder_weights": encoder_weights}
        return own | ({"pretrained": False} if start == "vitt" else {})  # which has none
    if encoder_weights:
        raise ConfigError("encoder_weights: the start brings its encoder; give one of the two")
    block = start if isinstance(start, GivenNetwork) else GivenNetwork(weights=str(start))
    network = load_given(block, role="start")
    usual = "network" if network.kind == "depth_m" else "encoder"
    return {
        "encoder": network.architecture["encoder"],
        "layers": network.architecture["layers"],
        "start": replace(block, part=part or usual),
        "pretrained": False,
    }


def _is_encoder(text: str) -> bool:
    if text in PRESETS:
        return True
    path = Path(text)
    return bool(text) and not path.exists() and "/" not in text and not path.suffix


def _begins(config: RunConfig) -> str:
    """What a fine-tuning begins with, in words."""
    if isinstance(config.start, GivenNetwork):
        what = "the encoder" if config.start.part == "encoder" else "all"
        return f"begins with {what} of {config.start.weights}"
    if config.encoder_weights:
        return f"begins with the encoder of {config.encoder_weights.weights}"
    return f"begins with the pre-trained {config.encoder}" if config.pretrained else "begins anew"


def _check_changes(changes: dict[str, Any], **said: Any) -> None:
    """Refuse settings that have a word of their own, and those that are said by theirs as well."""
    refuse_twice(changes, **said)
    own = ("task", "max_depth", "labelled", "start", "encoder", "height", "width")
    if wrong := [name for name in own if name in changes]:
        raise ConfigError(f"{', '.join(wrong)}: is for finetune itself to say; leave it out")


def _look(name: str, config: RunConfig) -> Labels:
    """Look at the labels of a few images, those of drawn scenes aside, which are whole; a source that
    cannot be used is for `plan` to refuse."""
    unseen = {"looked": 0, "valid": 0.0, "within": 0.0, "empty": 0}
    if _is_drawn(name):
        return Labels(name=name, images=config.labelled_images, **unseen)
    source = guarded(open_source(name, count=config.labelled_images, **config.size), config)
    looked = min(LOOKS, len(source))
    valid = within = empty = 0.0
    for k in range(looked):
        sample = source[k * len(source) // looked]
        if "disparity" not in sample:
            return Labels(name=name, images=len(source), **unseen)
        labelled = sample["valid"] & (sample["disparity"] > 0)
        reached = sample["valid"] & (sample["disparity"] >= 1 / config.max_depth)
        valid += float(labelled.float().mean()) / looked
        within += float(reached.float().mean()) / looked
        empty += not bool(reached.any())
    return Labels(
        name=name,
        images=len(source),
        looked=looked,
        valid=round(valid, 5),
        within=round(within, 5),
        empty=int(empty),
    )


def _check_network(out: Path, config: RunConfig, *, overwrite: bool) -> None:
    """Refuse to write over what this run did not make, and over the network that it begins with."""
    start = config.start
    if (
        isinstance(start, GivenNetwork)
        and Path(start.weights).resolve() == (out / NETWORK).resolve()
    ):
        raise ConfigError(
            f"start: {start.weights} is where the network will be written; give another folder for "
            "the results"
        )
    for name, run in (
        (NETWORK, how_trained(out / NETWORK).get("run")),
        (RECORD, read_json(out / RECORD).get("run")),
    ):
        if overwrite or not (out / name).exists() or run == config.hash():
            continue
        whose = f"of other settings (run {run}, and this is {config.hash()})"
        raise ConfigError(
            f"{out / name}: is there already, {whose if run else 'and finetune did not write it'}; "
            "give another folder, or say --overwrite"
        )


def _is_drawn(name: str) -> bool:
    return parse(name)[0] == "scenes"


def _open_test(name: str, config: RunConfig) -> Scorable:
    """A source to score on, whose labels are in metres; the first sample is read."""
    source = open_source(name, count=config.test_images, **config.size)
    if isinstance(source, DepthManifest):
        source.check_files()
    protocol = in_metres(PROTOCOLS["relative"], reach=config.max_depth)
    checked = Scorable(source, protocol)
    checked[0]
    return checked


def _score(
    network: DepthAnything, name: str, config: RunConfig, report: Callable[[str], None]
) -> dict[str, Any]:
    """Every metric as a mean over images, in metres, without alignment."""

    def predict(images):
        return predict_maps(network, images, short_side=config.short_side)

    protocol = in_metres(PROTOCOLS["relative"], reach=config.max_depth)
    found = evaluate_source(
        predict, _open_test(name, config), protocol, kind="depth", names=ALL_METRICS
    )
    means = {metric: round(mean_over_images(found[metric]), 5) for metric in ALL_METRICS}
    report(
        f"{name}: AbsRel {means['abs_rel']:.4f}, delta1 {means['delta1']:.4f}, RMSE "
        f"{means['rmse']:.3f} m over {len(found['names'])} images, without alignment"
    )
    return {"protocol": protocol.name, "images": len(found["names"]), **means}
