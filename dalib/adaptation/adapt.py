"""A strong teacher, one's own photographs, and a student of them: the whole recipe in one call.

The photographs are split: on a tenth that is kept back the report judges. The teacher labels the
rest, the student learns from those labels under strong perturbation, and both are compared.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dalib import provenance
from dalib.adaptation.report import parents, write_report
from dalib.adaptation.split import Split, keep_back
from dalib.blocks import GivenNetwork, GivenTeacher, check_names
from dalib.config import RunConfig
from dalib.data.catalogue import LISTS, NAMED, open_source, parse
from dalib.data.schema import Source
from dalib.data.subset import Subset, write_names
from dalib.errors import CheckpointError, ConfigError
from dalib.models.checkpoints import load
from dalib.models.depth_anything import DepthAnything, read_about, restore, save
from dalib.models.encoder import PRESETS, in_wheel, layout
from dalib.models.files import read_safetensors
from dalib.models.licences import about_derived
from dalib.models.sizes import default_short_side, training_size
from dalib.training.folder import DONE, read_json
from dalib.training.launch import first_network
from dalib.training.plan import Plan, plan
from dalib.training.recipe import train
from dalib.training.train import new_student
from dalib.writing import nothing_left

STUDENT = "student.safetensors"
REPORT = "report.json"
PAGE = "report.html"
KEPT_BACK = "kept_back.json"
RUNS = "runs"

RECIPES = {
    "v1": {"perturb": ("colour", "blur", "cutmix")},
    "v2": {"gradient_weight": 2.0, "drop": 0.1},
}
"""What makes a student's losses. v1: strong perturbation (section 3.2). v2: gradient matching, and
the tenth of the pixels with the greatest error left out (arXiv:2406.09414); the labels of a far
better teacher do without strong perturbation (Depth-Anything-V2#207). Both align features where the
encoder's pre-trained weights are at hand (section 3.3), and learn from pseudo labels alone where no
labelled images are given."""
SIZES = {"cnn": (192, 256), "vit": (518, 518)}
"""Height and width of the student's images where nobody says: 518 as in the paper."""
RATES = {"cnn": 1e-4, "vit": 5e-6}
"""The encoder's learning rate: of the paper for a ViT, of the book for a CNN."""
READINGS = 20
"""How often each photograph is read where nobody says how many steps there are."""
STEPS = 200, 50_000
"""The least and the most steps where nobody says how many."""
BATCH = 8
"""Labelled images a step, and twice as many photographs: 16."""


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """What `adapt` leaves.

    Args:
        student: its weights.
        report: the HTML page.
        content: what stands in `report.json`.
    """

    student: Path
    report: Path
    content: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """An adaptation before its first step: everything is looked at and nothing is trained.

    Args:
        out: the folder for student and report.
        plan: what the run would do and need.
        photographs: all of them.
        split: which are kept back.
        teacher: the name of its weights.
        recipe: of `RECIPES`.
    """

    out: Path
    plan: Plan
    photographs: Source
    split: Split
    teacher: str
    recipe: str

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield (
            f"photos    {len(self.photographs):,}: {len(self.split.training):,} to learn from, "
            f"{len(self.split.kept):,} kept back for the report"
        )
        yield from self.plan.lines()


def prepare(
    photographs: str | Path,
    out: str | Path,
    *,
    teacher: GivenTeacher | str | Path,
    student: str | Path = "lite0",
    recipe: str = "v1",
    steps: int | None = None,
    height: int | None = None,
    width: int | None = None,
    labelled: Sequence[str] = (),
    encoder_weights: str = "",
    changes: dict[str, Any] | None = None,
    processes: int = 1,
    overwrite: bool = False,
) -> Adaptation:
    """Look at everything that an adaptation needs, and split the photographs; see `adapt`."""
    out = Path(out)
    for what, path in (("photographs", photographs), ("out", out)):
        _check_utf8(str(path), what=what)
    name = _source_name(photographs)
    given = teacher if isinstance(teacher, GivenTeacher) else GivenTeacher(weights=str(teacher))
    if (height is None) != (width is None):
        raise ConfigError("height, width: give both, or none")
    check_names([recipe], RECIPES, what="recipe")
    _check_changes(changes or {})
    said = {"steps": steps, "height": height, "width": width, "labelled": labelled}
    refuse_twice(changes or {}, encoder_weights=encoder_weights, **said)
    network = _student(student)
    teacher_network = load(given.weights, **_read(given))
    source = open_source(name, count=1, height=1, width=1)
    split = keep_back(source, damaged_share=_damaged_share(changes or {}), whole=True)

    # the settings
    config = settings(
        f"{name}{'&' if '?' in name else '?'}without={_kept(out)}",
        count=len(split.training),
        teacher=_with_side(given, teacher_network),
        network=network,
        recipe=recipe,
        steps=steps,
        height=height,
        width=width,
        labelled=labelled,
        encoder_weights=encoder_weights,
        precision="bf16" if torch.cuda.is_available() else "no",
    )
    if changes:
        config = RunConfig.from_dict(_merged(config.to_dict(), changes))

    # where it goes
    with runs_in(out), nothing_left(*begun(out)):
        _check_out(out, source, split)
        found = plan(config, processes=processes)
        _check_student(out, found.config, overwrite=overwrite)
    return Adaptation(
        out=out,
        plan=found,
        photographs=source,
        split=split,
        teacher=given.weights,
        recipe=recipe,
    )


def settings(
    photographs: str,
    *,
    count: int,
    teacher: GivenTeacher,
    network: dict[str, Any],
    recipe: str = "v1",
    steps: int | None = None,
    height: int | None = None,
    width: int | None = None,
    labelled: Sequence[str] = (),
    encoder_weights: str = "",
    precision: str = "no",
) -> RunConfig:
    """The run of an adaptation: of the student's kind, of the recipe, and what is asked for.

    Args:
        photographs: the name of the source that is learned from.
        count: how many there are.
        teacher: with the size at which it sees them.
        network: the settings that say what the student is: encoder, and what it begins with.
        recipe, steps, height, width, labelled, encoder_weights: see `adapt`.
        precision: of the networks, as in `RunConfig`.
    """
    kind = "vit" if layout(network["encoder"]).plain else "cnn"
    size = dict(zip(("height", "width"), SIZES[kind], strict=True))
    if height is not None:
        size = {"height": height, "width": width}
    pool = BATCH * RunConfig.unlabelled_ratio
    if steps is None:
        steps = min(max(STEPS[0], READINGS * count // pool), STEPS[1])
    values = {
        "labelled": tuple(labelled),
        "unlabelled": (photographs,),
        "pseudo_labels": True,
        "teacher": teacher,
        # labels that are read once are made in the step, and stored where they serve again
        "labelling": "stored" if steps * pool >= 2 * count else "online",
        "encoder_lr": RATES[kind],
        "batch": BATCH,
        "steps": steps,
        "precision": precision,
        **size,
        **RECIPES[recipe],
        **network,
    }
    if encoder_weights:
        values |= {"encoder_weights": encoder_weights, "pretrained": True}
    if network.get("pretrained", True) or encoder_weights:
        values["align"] = "unlabelled"
    return RunConfig(**values)


def adapt(
    photographs: str | Path,
    out: str | Path,
    *,
    teacher: GivenTeacher | str | Path,
    student: str | Path = "lite0",
    recipe: str = "v1",
    processes: int = 1,
    report: Callable[[str], None] = print,
    **options: Any,
) -> Adapted:
    """A student of one's own photographs, and a report on it::

        adapt("holiday", "mine", teacher="depth_anything_v2_vits.pth", student="lite0")

    leaves `mine/student.safetensors`, `mine/report.html` and `mine/report.json`. Called again it
    goes on where it was stopped; what is whole is not done again.

    Args:
        photographs: a folder, or the name of a source of them (`open_source`).
        out: the folder for student and report, with the run's own files in `runs`.
        teacher: weights that `dalib.models.load` reads, or `GivenTeacher` with what their name does
            not say. Of any kind and size; depth in metres is turned into disparity.
        student: a preset ("lite0", "lite2", "vits", ...) or a timm encoder, which starts from its
            pre-trained weights; or weights of a whole network to begin with.
        recipe: of `RECIPES`.
        processes: that train.
        report: receives lines of progress.
        options: of `prepare`: `steps`, by default `READINGS` readings of the photographs; `height`
            and `width` of the student's images; `labelled`, sources with ground truth to learn from
            beside the pseudo labels; `encoder_weights`, a file of DINOv2 weights for a ViT;
            `changes`, any other settings of `RunConfig`, such as `precision`, which is bfloat16 on
            a GPU and float32 elsewhere where nobody says; `overwrite`, to replace the student and
            report of other settings.

    Raises:
        ConfigError, CheckpointError, DataError: what cannot be done, before the first step.
        Stopped: a signal ended it early, with its state saved.
    """
    ready = prepare(
        photographs,
        out,
        teacher=teacher,
        student=student,
        recipe=recipe,
        processes=processes,
        **options,
    )
    return carry_out(ready, processes=processes, report=report)


def carry_out(
    ready: Adaptation, *, processes: int = 1, report: Callable[[str], None] = print
) -> Adapted:
    """Train what was prepared, and write its report."""
    out, config = ready.out, ready.plan.config
    with runs_in(out):
        weights = train(config, processes=processes, report=report)
        training = read_json(weights.parent / DONE)
    done = read_json(out / REPORT)
    this = config.hash(), training.get("stamp")
    if _run_of_report(out) == _run_of_student(out) == this and (out / PAGE).is_file():
        return Adapted(student=out / STUDENT, report=out / PAGE, content=done)

    # the three networks, and what they may be used for
    teacher = load(config.teacher.weights, **_read(config.teacher))
    first = first_network(config)
    before = new_student(config, first).eval()
    after = restore(weights)
    if isinstance(config.start, GivenNetwork):
        before.sources = first.sources
    origins = parents(teacher, before, teacher_name=ready.teacher, start=_start(config))
    told = _told(ready, training)
    save(after, out / STUDENT, about=about_derived(origins, trained=told))

    # the report
    report(f"comparing on {len(ready.split.kept)} photographs that were kept back")
    content = write_report(
        out,
        teacher=teacher,
        before=before,
        after=after,
        photographs=Subset(ready.photographs, ready.split.kept),
        trained=told,
        split=ready.split,
        origins=origins,
        student=out / STUDENT,
        teacher_side=config.teacher.short_side,
        student_side=config.short_side,
        report=report,
    )
    return Adapted(student=out / STUDENT, report=out / PAGE, content=content)


def _merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings with changes, those inside a block too."""
    merged = dict(settings)
    for name, value in changes.items():
        inner = merged.get(name)
        both = isinstance(inner, dict) and isinstance(value, dict)
        merged[name] = inner | value if both else value
    return merged


def _check_utf8(text: str, *, what: str) -> None:
    """Settings and records are UTF-8 text, so that the names of places in them must be."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{what}: {text!r} is not UTF-8, as settings are; rename it, or make a link to it"
        ) from error


def _source_name(photographs: str | Path) -> str:
    """The name of the source of the photographs, whose own parts can be chosen by name."""
    text = str(photographs)
    if not text:
        raise ConfigError(
            "photographs: an empty name; give a folder, or a source such as tars:GLOB"
        )
    kind, colon, _ = text.partition(":")  # a folder may be called photos
    is_source = bool(colon) and kind in NAMED
    if Path(text).exists() and (is_source or "?" in text):
        what = "a question mark begins the options" if "?" in text else f"{kind}: is a kind"
        raise ConfigError(
            f"{text}: is a folder here, but in a name {what} of a source; "
            + ("rename the folder, or make a link to it" if "?" in text else f"write ./{text}")
        )
    # however a folder is written, it is the same run
    name = text if is_source else f"photos:{os.path.abspath(text)}"
    _, _, options = parse(name)
    if chosen := [word for word in LISTS if word in options]:
        raise ConfigError(f"{name}: {chosen[0]} is for adapt itself to say; leave it out")
    return name


def _check_changes(changes: dict[str, Any]) -> None:
    """Refuse settings that would make the report untrue: it is about photographs that nothing was
    trained on, and about the teacher's own licence."""
    teacher = changes.get("teacher", {})
    wrong = [name for name in ("unlabelled", "pseudo_labels") if name in changes]
    if not isinstance(teacher, dict):
        wrong.append("teacher")
    elif known := set(teacher) - {"short_side"}:
        wrong += [f"teacher.{name}" for name in sorted(known)]
    if wrong:
        raise ConfigError(
            f"{', '.join(wrong)}: is for adapt itself to say; give it other photographs, another "
            "teacher or the options that say how the teacher is read, or call train"
        )


def refuse_twice(changes: dict[str, Any], **said: Any) -> None:
    """Refuse settings among the changes that an option says as well: one of the two would be passed
    over."""
    if twice := [name for name, value in said.items() if value and name in changes]:
        raise ConfigError(
            f"{', '.join(twice)}: is given twice, by its option and by --set; keep one"
        )


def _damaged_share(changes: dict[str, Any]) -> float:
    share = changes.get("damaged_share", RunConfig.damaged_share)
    return share if isinstance(share, int | float) else 0.0  # which RunConfig refuses


def _student(student: str | Path) -> dict[str, Any]:
    """The settings that say what the student is and begins with."""
    text = str(student)
    if text in PRESETS:
        return {"encoder": text} | ({"pretrained": False} if text == "vitt" else {})
    path = Path(text)
    if not path.exists() and "/" not in text and not path.suffix:
        return {"encoder": text}  # timm's, or a clear error of RunConfig
    network = load(text)
    pretrained = in_wheel(network.architecture["encoder"])
    return {
        "encoder": network.architecture["encoder"],
        "layers": network.architecture["layers"],
        "start": GivenNetwork(weights=text),
        "pretrained": pretrained,
    }


def _read(given: GivenNetwork) -> dict[str, Any]:
    return {name: value for name, value in given.reading().items() if value}


def _start(config: RunConfig) -> str | None:
    return config.start.weights if isinstance(config.start, GivenNetwork) else None


def _with_side(given: GivenTeacher, network: DepthAnything) -> GivenTeacher:
    """A teacher that sees images at the size that suits it, where nobody says another."""
    if given.short_side is not None:
        return given
    side = training_size(Path(given.weights)) or default_short_side(network)
    values = {**vars(given), "short_side": side}
    return GivenTeacher(**values)


def _kept(out: Path) -> str:
    """The list of the photographs that are kept back, as an option of a source takes it."""
    from urllib.parse import quote_plus

    return quote_plus(os.path.abspath(out / KEPT_BACK))


def make_folder(out: Path) -> None:
    """Make the folder for results; a `ConfigError` where there can be none."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be the folder for results ({error.strerror})") from error


def _check_out(out: Path, source: Source, split: Split) -> None:
    """See that there is a folder with the list of the photographs that are kept back; a list that
    is there must be the same."""
    make_folder(out)
    path = out / KEPT_BACK
    names = [source.name_of(int(i)) for i in split.kept]
    before = read_json(path).get("names")
    if before is not None and before != names and not _is_begun(out):
        before = None  # of a plan, or of what could not be
    if before is not None and before != names:
        raise ConfigError(
            f"{path}: other photographs were kept back here, since the photographs were others; "
            "give another folder, or remove this one"
        )
    if before is None:
        write_names(path, source, split.kept)


def begun(out: Path) -> tuple[Path, Path]:
    """What the look at an adaptation makes in its folder before the first step."""
    return out / KEPT_BACK, out / RUNS


def _is_begun(out: Path) -> bool:
    """Whether anything was made with the photographs that are kept back."""
    runs = out / RUNS
    made = [path for path in runs.iterdir() if path.name != "locks"] if runs.is_dir() else []
    return bool(made) or (out / STUDENT).exists()


def _check_student(out: Path, config: RunConfig, *, overwrite: bool) -> None:
    """Refuse to write over what this run did not make, and over the networks that it is made
    from."""
    for role, given in config.given().items():
        path = getattr(given, "weights", None)  # a teacher that is trained has none
        if path is not None and Path(path).resolve() == (out / STUDENT).resolve():
            raise ConfigError(
                f"{role}: {path} is where the student will be written; give another folder for the "
                "results"
            )
    if overwrite:
        return
    own = config.hash()
    if (out / STUDENT).exists():
        run, _ = _run_of_student(out)
        # the report comes after its student, and is replaced with it
        if run == own:
            return
        raise ConfigError(
            f"{out / STUDENT}: is {_whose(run, own, 'student')}; give another folder, or say "
            "--overwrite"
        )
    for name in (REPORT, PAGE):
        run, _ = _run_of_report(out)
        if (out / name).exists() and run != own:
            raise ConfigError(
                f"{out / name}: is {_whose(run, own, 'report')}; give another folder, or say "
                "--overwrite"
            )


def _whose(run: str | None, own: str, what: str) -> str:
    if run is None:
        return f"there already, and no {what} that adapt wrote"
    return f"the {what} of other settings (run {run}, and this is {own})"


def _run_of_report(out: Path) -> tuple[str | None, str | None]:
    """The run that a report is about, and its code; None where there is no such report."""
    trained = read_json(out / REPORT).get("trained")
    trained = trained if isinstance(trained, dict) else {}
    return trained.get("run"), trained.get("code")


def _run_of_student(out: Path) -> tuple[str | None, str | None]:
    """The run that made a student, and its code, as its own file says: its report is written later,
    and may be of the student before it."""
    trained = how_trained(out / STUDENT)
    return trained.get("run"), trained.get("code")


def how_trained(weights: Path) -> dict[str, Any]:
    """What a file of weights says of its training; nothing where there is none, or no such file."""
    try:
        _, metadata = read_safetensors(weights, tensors=False)
        trained = read_about(metadata, weights).get("trained")
    except CheckpointError:
        return {}
    return trained if isinstance(trained, dict) else {}


@contextmanager
def runs_in(out: Path) -> Iterator[None]:
    """Keep the files of runs in `out/runs` while a block runs, those of child processes too."""
    before = os.environ.get("DALIB_RUNS")
    os.environ["DALIB_RUNS"] = str((out / RUNS).resolve())
    try:
        yield
    finally:
        if before is None:
            del os.environ["DALIB_RUNS"]
        else:
            os.environ["DALIB_RUNS"] = before


def _told(ready: Adaptation, training: dict[str, Any]) -> dict[str, Any]:
    """How the student was trained, for its file and its report."""
    config = ready.plan.config
    changed = {k: v for k, v in config.to_dict().items() if v != RunConfig().to_dict()[k]}
    return {
        "run": config.hash(),
        "recipe": ready.recipe,
        "photographs": len(ready.split.training),
        "pool": ready.photographs.fingerprint,
        "steps": config.steps,
        "short_side": config.short_side,
        "seed": config.seed,
        "hours": round(training.get("wall_seconds", 0) / 3600, 3),
        "processes": training.get("processes", 1),
        "peak_memory_mb": training.get("peak_memory_mb"),
        "code": training.get("stamp"),
        "commit": provenance.commit(),
        "packages": provenance.versions(),
        "settings": json.loads(json.dumps(changed)),
    }
