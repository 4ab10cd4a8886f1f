"""What a run is: a frozen, strict, hashed set of values. Nothing outside it may change a run's result, save the code itself."""

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dalib.errors import ConfigError

PERTURBATIONS = ("colour", "blur", "cutmix")
LABELLING = ("stored", "online")
ALIGNED = ("none", "unlabelled", "labelled", "both")


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

    seed: int = 0
    # data: one or several sources, concatenated without re-sampling (see `dalib.data.sources.open_source`)
    labelled: tuple[str, ...] = ("scenes:labelled",)
    unlabelled: tuple[str, ...] = _pool(("scenes:unlabelled",))
    labelled_images: int = 1500  # of each procedural split; real sources are taken whole
    unlabelled_images: int = _pool(4000)
    test_images: int = 100  # per domain
    height: int = 96
    width: int = 128
    # network
    encoder: str = "lite0"
    pretrained: bool = True
    encoder_weights: str = (
        ""  # ViT only: a file of DINOv2 weights to start from (and to align with) instead of the hub's
    )
    layers: str = "v1"  # ViT only: the last four blocks (v1) or spread ones (v2)
    # method
    pseudo_labels: bool = False  # False: labelled images only, which is also what a teacher is
    labelling: str = _pool("stored")  # once, before training and for all students of a teacher; or online, in each step
    perturb: tuple[str, ...] = _pool(())  # what distorts the student's unlabelled images: colour, blur, cutmix
    align: str = _pool("none")  # which images feature alignment sees
    margin: float = _pool(0.85)  # tolerance margin alpha of feature alignment
    align_weight: float = _pool(1.0)  # relative weight of L_feat in the average of the losses
    # optimisation
    steps: int = 250
    batch: int = 8  # labelled images per step, over all processes
    unlabelled_ratio: int = _pool(2)  # unlabelled images per labelled one
    encoder_lr: float = 1e-4
    decoder_lr_factor: float = 10.0
    weight_decay: float = 0.01
    warmup: int = 0  # steps of linear warm-up before the linear decay
    clip: float = 1.0  # greatest norm of the gradient
    precision: str = "no"  # or bf16
    gradient_checkpointing: bool = _free(False)
    compile: bool = _free(False)
    workers: int = _free(0)  # loader processes per training process
    checkpoint_every: int = _free(200)  # steps
    log_every: int = _free(20)

    def __post_init__(self):
        choices = {"layers": ("v1", "v2"), "labelling": LABELLING, "align": ALIGNED, "precision": ("no", "bf16")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name}: {getattr(self, name)!r} is not one of {', '.join(allowed)}")
        unknown = set(self.perturb) - set(PERTURBATIONS)
        if unknown:
            raise ConfigError(f"perturb: {', '.join(sorted(unknown))} unknown; known are {', '.join(PERTURBATIONS)}")
        object.__setattr__(self, "perturb", tuple(p for p in PERTURBATIONS if p in self.perturb))
        for name in ("labelled", "unlabelled"):
            if not getattr(self, name):
                raise ConfigError(f"{name}: empty; name at least one source, such as scenes:{name}")
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.type is float and type(value) is int:
                object.__setattr__(self, f.name, float(value))  # 1 and 1.0 are one setting, and one hash
            least = 0 if f.name in ("seed", "warmup", "workers", "weight_decay", "align_weight") else None
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            if not (value >= 0 if least == 0 else value > 0) or value == float("inf"):
                raise ConfigError(f"{f.name}: {value} is not {'at least' if least == 0 else 'above'} 0 and finite")
        if not self.pseudo_labels and (self.perturb or self.align in ("unlabelled", "both")):
            raise ConfigError("perturb and align act on unlabelled images: set pseudo_labels: true, or leave them out")
        if "cutmix" in self.perturb and self.batch * self.unlabelled_ratio % 2:
            raise ConfigError(
                f"batch: {self.batch} x {self.unlabelled_ratio} unlabelled images cannot be paired for CutMix; use an even number"
            )

    @classmethod
    def from_dict(cls, values: Mapping) -> "RunConfig":
        """Build from plain data such as YAML or JSON; an unknown key or a value of the wrong type is a `ConfigError`."""
        known = {f.name: f for f in dataclasses.fields(cls)}
        check_names(values, known, what="setting")
        hints = typing.get_type_hints(cls)
        return cls(**{name: _coerce(name, value, hints[name]) for name, value in values.items()})

    def replace(self, **changes) -> "RunConfig":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def teacher(self) -> "RunConfig":
        """The run whose weights make this run's pseudo labels: the same seed, labelled images only."""
        return self.replace(
            pseudo_labels=False, **{f.name: f.default for f in dataclasses.fields(self) if f.metadata.get("pool")}
        )

    def to_dict(self) -> dict:
        """All fields as plain JSON data."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def hash(self) -> str:
        """Twelve hex digits over every field that can change the result and is not at its default.

        Leaving defaults out keeps old records valid when a field is added; a changed default shows in the code hash.
        """
        source = self if self.pseudo_labels or self.align != "none" else self.teacher()
        values = {
            f.name: getattr(source, f.name)
            for f in dataclasses.fields(source)
            if f.metadata.get("hashed", True) and getattr(source, f.name) != f.default
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def check_names(given: Iterable[str], known: Iterable[str], *, what: str) -> None:
    """Raise `ConfigError` for names that are not known, with the nearest known one and the whole list."""
    known = list(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"unknown {what} {name!r}.{hint} Known: {', '.join(known)}")


def _coerce(name, value, hint):
    if typing.get_origin(hint) is tuple:
        if isinstance(value, str) or not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{name}: expected a list of names, got {value!r}")
        return tuple(value)
    kinds = hint.__args__ if isinstance(hint, types.UnionType) else (hint,)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ConfigError(f"{name}: expected {' or '.join(k.__name__ for k in kinds)}, got {value!r}")
    return value
