"""What an adaptation asks for: hours, disk and memory for so many photographs on such a machine,
counted; and the pieces of an adaptation's report as a notebook shows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from dabook.runs import networks
from dabook.show.html import DASH, Html, html, number
from dalib.adaptation.adapt import settings
from dalib.adaptation.split import LEAST, MOST, SHARE
from dalib.blocks import GivenTeacher
from dalib.data.photos import PhotoFolder
from dalib.data.schema import Sample, Source
from dalib.errors import ConfigError
from dalib.models.depth_anything import DepthAnything
from dalib.models.sizes import PAPER
from dalib.training.costs import network
from dalib.training.plan import Given, Part, cost, span
from dalib.training.teacher import size_seen

GB = 1e9
COUNTS = (1_000, 10_000, 1_000_000)
STUDENTS = ("lite0", "vits")
TEACHER = "vitl"
UTILISATION = 0.4
READ = 50.0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What trains.

    Args:
        name: for people.
        peak: FLOP/s of one accelerator (or of the processor) in the precision it trains in, without
            sparsity.
        memory: bytes of each accelerator, or of the machine.
        precision: as in `RunConfig`.
        cores: that read photographs.
        source: of peak and memory.
        accelerators: how many, each with a process.
    """

    name: str
    peak: float
    memory: float
    precision: str
    cores: int
    source: str
    accelerators: int = 1


H100 = {
    "peak": 989.4e12,
    "memory": 80 * GB,
    "precision": "bf16",
    "source": "NVIDIA H100 data sheet, SXM: 1,979 TFLOP/s in bfloat16 with sparsity, half without",
}
MACHINES = (
    Machine(
        name="CPU of a laptop",
        peak=8 * 3e9 * 32,
        memory=16 * GB,
        precision="no",
        cores=8,
        source="eight cores of 3 GHz, each two 8-wide multiply-adds in float32 a cycle (AVX2)",
    ),
    Machine(
        name="RTX 4090",
        peak=165.2e12,
        memory=24 * GB,
        precision="bf16",
        cores=16,
        source="NVIDIA Ada GPU Architecture, appendix A: bfloat16 with float32 accumulate",
    ),
    Machine(
        name="A100",
        peak=312e12,
        memory=80 * GB,
        precision="bf16",
        cores=16,
        source="NVIDIA A100 data sheet, 80 GB",
    ),
    Machine(name="H100", cores=16, **H100),
    Machine(name="8 × H100", cores=112, accelerators=8, **H100),
)
"""A DGX H100 has 112 cores beside its eight GPUs (its data sheet); the cores of the others are
assumed."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What an adaptation asks of a machine.

    Args:
        machine: which.
        part: what the plan of such a run counts.
        learned: photographs to learn from.
        reads: photographs that are read, over labelling and all steps.
    """

    machine: Machine
    part: Part
    learned: int
    reads: int

    @property
    def readings(self) -> float:
        """How often each photograph is learned from."""
        return self.part.config.steps * self.part.config.pool_batch / self.learned

    @property
    def fits(self) -> bool:
        """Whether memory is enough, beside what the accelerator's libraries take (about 1 GB)."""
        return self.part.step_bytes + GB <= self.machine.memory

    def computing(self, utilisation: float) -> float:
        """Seconds of the counted operations at this share of the machine's peak."""
        return self.part.flops / (self.machine.peak * self.machine.accelerators * utilisation)

    def reading(self, read: float) -> float:
        """Seconds to read the photographs, where a core reads so many a second."""
        return self.reads / (read * self.machine.cores)

    def seconds(self, *, utilisation: float, read: float) -> float:
        """Reading and computing go on side by side, so that the slower one says how long it
        takes."""
        return max(self.computing(utilisation), self.reading(read))


def kept_back(count: int) -> int:
    """How many of so many photographs `adapt` keeps back, where none are near doubles."""
    return max(LEAST, round(min(SHARE * count, MOST)))


def expected(student: str, count: int, machine: Machine) -> Expected:
    """An adaptation with the settings that `adapt` takes where nobody says others: a ViT-L teacher,
    recipe v1, so many photographs and nothing labelled.

    Args:
        student: a preset.
        count: photographs, those that are kept back included.
        machine: that trains; its processes share the batch.
    """
    learned = count - kept_back(count)
    part = _counted(student, learned, machine.precision, machine.accelerators)
    config = part.config
    labelled_first = learned if config.labelling == "stored" else 0
    return Expected(
        machine=machine,
        part=part,
        learned=learned,
        reads=config.steps * config.pool_batch + labelled_first,
    )


@cache
def _counted(student: str, learned: int, precision: str, processes: int) -> Part:
    """What the plan of an adaptation counts."""
    given = GivenTeacher(weights="teacher", digest="0" * 16, short_side=PAPER)
    config = settings("photos:x", count=learned, teacher=given, network={"encoder": student})
    config = config.replace(precision=precision)
    strong = _strong()
    opened = Given(
        role="teacher",
        weights=given.weights,
        digest=given.digest,
        encoder=TEACHER,
        layers="v2",
        kind="disparity",
        parameters=sum(p.numel() for p in strong.parameters()),
        seen=size_seen(given, strong, **config.size),
    )
    return cost(config, opened, {"photos:x": learned}, processes)


@cache
def _strong() -> DepthAnything:
    """The teacher without data."""
    return network(TEACHER)


def _check(utilisation: float, read: float) -> None:
    if not 0 < utilisation <= 1:
        raise ConfigError(f"utilisation: {utilisation} is a share of the peak, above 0 and up to 1")
    if not 0 < read < float("inf"):
        raise ConfigError(f"read: {read} photographs a second must be above 0")


def time_table(*, utilisation: float = UTILISATION, read: float = READ) -> Html:
    """Hours for each student, number of photographs and machine; what reading decides is marked."""
    _check(utilisation, read)
    lines = {}
    for student in STUDENTS:
        for count in COUNTS:
            line = {}
            for machine in MACHINES:
                found = expected(student, count, machine)
                took = span(found.seconds(utilisation=utilisation, read=read))
                waits = found.reading(read) > found.computing(utilisation)
                line[machine.name] = took + (" *" if waits else "")
            first = expected(student, count, MACHINES[0])
            told = {
                "steps": f"{first.part.config.steps:,}",
                "readings": number(first.readings, 1),
                "labels": first.part.config.labelling,
            }
            lines[f"{student} {count}"] = told | line
    headings = [f"{student}, {count:,}" for student in STUDENTS for count in COUNTS]
    return html(
        lines,
        headings,
        caption=f"At {100 * utilisation:.0f} % of each peak; * reading decides, {read:g} "
        "photographs a second and core",
        name="adapt-time",
    )


def room_table() -> Html:
    """Disk and memory for each student and number of photographs; memory of each process."""
    lines = {}
    for student in STUDENTS:
        for count in COUNTS:
            line = {}
            for machine in MACHINES:
                found = expected(student, count, machine)
                line["memory, GB", machine.name] = number(found.part.step_bytes / GB, 1) + (
                    "" if found.fits else " (too much)"
                )
            part = expected(student, count, MACHINES[0]).part
            disk = {
                ("disk, GB", "labels"): number(part.labels_bytes / GB, 1),
                ("disk, GB", "checkpoints"): number(part.kept_bytes / GB, 1),
            }
            lines[f"{student} {count}"] = disk | line
    headings = [f"{student}, {count:,}" for student in STUDENTS for count in COUNTS]
    return html(lines, headings, name="adapt-room")


def machine_table() -> Html:
    """What is taken for each machine, and where that stands."""
    lines = {
        machine.name: {
            "peak, TFLOP/s": number(machine.peak / 1e12, 1),
            "precision": {"no": "float32", "bf16": "bfloat16"}[machine.precision],
            "memory, GB": number(machine.memory / GB, 0),
            "cores": str(machine.cores),
            "source": machine.source,
        }
        for machine in MACHINES
    }
    return html(lines, list(lines), name="adapt-machines")


# the notebook's own adaptation


def crops(source: Source, folder: Path, *, across: int = 2) -> int:
    """Cut each photograph of a source into across x across parts, written as PNG files, and return
    how many there are.

    The parts of one photograph do not overlap, but show the same scene. A folder that is whole is
    kept as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for index in range(len(source)):
        image = source[index]["image"]
        height, width = (side // across for side in image.shape[1:])
        for row in range(across):
            for column in range(across):
                path = folder / f"{index}-{row}{column}.png"
                part = image[:, row * height :][:, :height, column * width :][:, :, :width]
                if not path.is_file():
                    Image.fromarray(part.permute(1, 2, 0).numpy()).save(path)
                count += 1
    return count


def teacher(profile: str) -> Path:
    """Weights of the book's network (`networks.of_the_book`), as a file."""
    return networks.file_of_the_book(profile)


WORDS = {
    "distance": "distance",
    "error": "error",
    "close": "close, share of pixels",
    "correlation": "correlation",
    "order": "order, share of pairs",
    "edges": "edges, F1",
}
"""Measures of a report (`dalib.adaptation.compare.MEASURES`), in few words."""


def agreement_table(content: Mapping[str, Any]) -> Html:
    """How near a student is to its teacher by each measure, before and after its training.

    Args:
        content: of report.json.
    """
    measures = content["agreement"]
    lines = {
        name: {when: _with_interval(found[when]) for when in ("before", "after")}
        for name, found in measures.items()
    }
    return html(lines, [WORDS[name] for name in measures], name="adapt-agreement")


def _with_interval(estimate: Mapping[str, float | None]) -> str:
    """A value of a report with its interval; a dash where it has none."""
    if estimate["value"] is None:
        return DASH
    ends = f"{number(estimate['low'])} to {number(estimate['high'])}"
    return f'{number(estimate["value"])}<br><span class="interval">{ends}</span>'


def looked_at(content: Mapping[str, Any], folder: Path, *, count: int = 3) -> list[Sample]:
    """The photographs that a report shows first, which are those where the student is farthest from
    its teacher; with their names.

    Args:
        content: of report.json.
        folder: of the photographs.
        count: how many at most.
    """
    source = PhotoFolder(folder)
    places = {source.name_of(k): k for k in range(len(source))}
    names = [row["name"] for row in content["sheet"][:count]]
    return [source[places[name]] | {"name": name} for name in names]


def framed(report: Path, *, height: int = 640) -> Html:
    """A report as it is, in a window of a page, which needs no other file.

    Args:
        report: the HTML page.
        height: of the window, in pixels.
    """
    page = escape(report.read_text(encoding="utf-8"), quote=True)
    style = f"width:100%;height:{height}px;border:1px solid #c9d0d2;border-radius:6px"
    return Html(f'<iframe title="The report" style="{style}" srcdoc="{page}"></iframe>')


def quiet(_: str) -> None:
    """Where lines of progress go that nobody waits for."""
