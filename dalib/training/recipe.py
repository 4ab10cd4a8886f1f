"""The recipe as a script calls it: from a configuration to weights, and from a network and
photographs to pseudo labels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from dalib import paths
from dalib.config import RunConfig
from dalib.data.catalogue import check_sources, open_source
from dalib.data.files import digest
from dalib.data.mixture import fetch, pool_crop
from dalib.data.schema import Sample, Source
from dalib.errors import ConfigError
from dalib.evaluation.run import check_disparity
from dalib.models.depth_anything import DepthAnything
from dalib.models.encoder import Encoder
from dalib.predict import engines
from dalib.predict.fingerprint import fingerprint
from dalib.training.folder import trained, untrained
from dalib.training.given import fetch_encoders, pin
from dalib.training.launch import ensure_weights
from dalib.training.machines import machines_of
from dalib.training.processes import check_processes, refuse_other_launcher
from dalib.training.pseudo import PseudoLabels, finish, is_finished
from dalib.training.pseudo import label as write_labels
from dalib.writing import nothing_left


def train(
    config: RunConfig,
    *,
    processes: int = 1,
    accelerate: str | Path | None = None,
    machine_rank: int | None = None,
    afresh: bool = False,
    report: Callable[[str], None] = print,
) -> Path:
    """The whole recipe (section 3): a teacher learns from labelled images, labels the photographs,
    and a student learns from both. Returns the student's weights::

        config = RunConfig(
            labelled=("depth:pairs",), unlabelled=("photos:photographs",), pseudo_labels=True
        )
        model = load(train(config))

    A configuration without `pseudo_labels` trains on labelled images alone, which is what a teacher
    is. All data are looked at before anything is trained. A run that was stopped or killed goes on
    from its last checkpoint and ends with the same bits; one that is whole is not trained again.

    What it leaves behind lies in ``./runs``, or where `DALIB_RUNS` says (`dalib.paths.runs`), in a
    folder named by the hash of the configuration: `model.safetensors`, `metrics.jsonl` with the
    losses and `speed.jsonl` with images per second (`dalib.training.journal`), `train.json` with
    time and memory, and a teacher's pseudo labels.

    Args:
        config: the run. Its `labelled` and `unlabelled` name the data (`open_source`).
        processes: training processes, which share the batch; more than one are started through
            `accelerate launch`. On each machine at most as many as there are GPUs, or cores where
            there is none.
        accelerate: a configuration of accelerate, for several machines, each of which makes this
            same call, or for sharded weights (`dalib.training.machines` has the whole of it; the
            folder `configs` has examples).
        machine_rank: which of several machines this is; by default `SLURM_NODEID`, or the file's.
        afresh: train even where there are weights, which are set aside and not removed.
        report: receives lines of progress.

    Returns:
        The file of weights, which `dalib.load` reads.

    Raises:
        ConfigError: an impossible name or number, or the environment of another launcher.
        DataError: data that are not there, cannot be used, or changed since the run began.
        TrainingError: a loss that is not finite, or training that ended without weights.
        Stopped: a signal ended it early, with its state saved.
    """
    refuse_other_launcher()
    config = pin(config)
    machines = machines_of(accelerate, processes=processes, machine_rank=machine_rank)
    check_processes(machines.processes, config, machines=machines.count)
    with nothing_left(paths.runs()):
        paths.writable_runs()
        if afresh or not trained(config):
            for needed in untrained(config) if not afresh else (config,):
                check_sources(needed)
            fetch_encoders(config)
            _check_encoder_files(config)
    return ensure_weights(
        config,
        processes=processes,
        accelerate=accelerate,
        machine_rank=machine_rank,
        afresh=afresh,
        report=report,
    )


def _check_encoder_files(config: RunConfig) -> None:
    """Read the files of encoder weights that a run and those before it begin with: a teacher's
    training, or labelling, comes before they are asked for.

    Raises:
        CheckpointError, ConfigError: one that does not fit.
    """
    for needed in config.prerequisites().values():
        _check_encoder_files(needed)
    if config.encoder_weights and config.pretrained and not trained(config):
        file = Path(config.encoder_weights.weights)
        Encoder(name=config.encoder, pretrained=True, layers=config.layers, weights=file)


class PseudoLabelled(Source):
    """Unlabelled images with a teacher's pseudo labels as their disparity, which `label` made.

    Samples are as everywhere (`dalib.data.schema`): `image` uint8 (3, H, W), `disparity` float32
    (H, W) in 0..1 and up to scale and shift, `valid` bool (H, W), `domain`. Each image is resized
    until it covers (H, W) and cropped at a place that its index decides, as the teacher saw it.

    Args:
        source: the images.
        labels: their pseudo labels.
        height, width: of the labels, in pixels.
    """

    def __init__(self, *, source: Source, labels: PseudoLabels, height: int, width: int):
        self.source, self.labels = source, labels
        self.height, self.width = height, width
        self.domain = getattr(source, "domain", "")
        self.fingerprint = digest(
            [source.fingerprint, labels.manifest["teacher"], f"{height}x{width}"]
        )

    def __len__(self) -> int:
        return len(self.source)

    def _sample(self, index: int) -> Sample:
        batch = self.get_batch(np.array([index]))
        return {name: values[0] for name, values in batch.items()}

    def get_batch(self, indices: np.ndarray) -> dict:
        """The samples with these indices, stacked."""
        size = {"height": self.height, "width": self.width}
        seen = fetch(self.source, indices, crop=pool_crop, **size)
        disparity = self.labels.get_batch(indices)
        return {
            "image": seen["image"],
            "disparity": disparity,
            "valid": torch.isfinite(disparity),
            "domain": seen["domain"],
        }


def label(
    model: DepthAnything,
    source: Source | str,
    *,
    out: str | Path,
    height: int,
    width: int,
    batch: int = 32,
    workers: int = 0,
    engine: str = "torch",
    report: Callable[[str], None] = print,
) -> PseudoLabelled:
    """Pseudo labels of photographs by a network of yours, stored, and read back as a source::

        pool = label(load("teacher.pth"), "photos:photographs", out="labels", height=518, width=518)
        sample = pool[0]  # image, disparity, valid, domain

    `train` does this by itself; this is for a loop of your own. Labels are made of clean images;
    perturb what the student sees (`dalib.data.perturb`). They are kept in `out` under a folder
    named by images, network, size and engine, so that another of these never meets old labels. A
    pass that was killed goes on, and a whole one is only read.

    Args:
        model: the teacher, which predicts disparity.
        source: the images, or their name (`open_source`).
        out: folder of the labels.
        height, width: size of the images that the student will see, in pixels; multiples of the
            network's patch.
        batch: images at a time.
        workers: processes that read images ahead; 0 reads them in a thread of this one.
        engine: what runs the network (`dalib.predict.engines`): "torch", "openvino", "onnxruntime",
            or "auto", the fastest by the record of such a processor.
        report: receives what an engine has to say: which, why, and how far it is from PyTorch.

    Raises:
        ConfigError: a network of metric depth, a size that it cannot take, an unknown name, or an
            engine that is not installed.
        DataError: an image that cannot be read, a damaged label, or a disk that refuses one.
    """
    check_disparity(model)
    patch = 1 if model.encoder.layout.any_side else model.multiple
    if height < 1 or width < 1 or height % patch or width % patch:
        raise ConfigError(
            f"height, width: {height} x {width}; this network takes multiples of {patch} pixels"
        )
    if batch < 1:
        raise ConfigError(f"batch: {batch} is not at least 1")
    size = {"height": height, "width": width}
    if isinstance(source, str):
        source = open_source(source, count=RunConfig.unlabelled_images, **size)
    chosen = engines.choose(engine, device=next(model.parameters()).device)
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{out}: cannot be a folder for labels ({error.strerror}); give another name"
        ) from error
    teacher = fingerprint(model)
    if chosen.name != "torch":
        teacher += f"-{chosen.name}"
    folder = Path(out) / f"{source.fingerprint[:12]}-{teacher}-{height}x{width}"
    if not is_finished(folder):
        labeller = model
        if chosen.name != "torch":
            labeller = engines.Engine(model=model, engine=chosen.name)
        if engine != "torch":
            report(f"labelling by {chosen.name}: {chosen.why}")
        given = {"teacher": teacher, "batch": batch, "workers": workers}
        pace = write_labels(labeller, source, out=folder, **given, **size)
        report(str(pace))
        for line in labeller.news() if labeller is not model else ():
            report(line)
        finish(folder, teacher=teacher, source=source, **size)
    labels = PseudoLabels(folder, teacher=teacher, source=source)
    return PseudoLabelled(source=source, labels=labels, **size)
