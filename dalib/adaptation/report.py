"""The report that an adaptation ends with: everything compared, as JSON and as a page."""

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dalib
from dalib.adaptation import machine
from dalib.adaptation.compare import (
    CORRUPTED,
    CORRUPTIONS,
    FLAT,
    PHOTOGRAPHS,
    Comparison,
    Eyes,
    look,
)
from dalib.adaptation.page import answer, plain, render
from dalib.adaptation.sheet import contact_sheet
from dalib.adaptation.split import Split
from dalib.data.schema import Source
from dalib.models.depth_anything import DepthAnything
from dalib.models.encoder import spec
from dalib.models.licences import Terms, derived, released_terms, terms_of
from dalib.writing import whole

SCHEMA = 1
"""Version of report.json; a field that changes its meaning, or goes, makes it one more."""
FEW = 20
"""Photographs below which a bootstrap interval is known to be too narrow."""


def parents(
    teacher: DepthAnything,
    before: DepthAnything,
    *,
    teacher_name: str | Path | None = None,
    start: str | Path | None = None,
    pretrained: bool = True,
) -> tuple[Terms, ...]:
    """The weights that a student is made from: its teacher's, and those it started from.

    Args:
        teacher: its teacher.
        before: the student as training began.
        teacher_name: what the teacher was loaded from, such as a hub id.
        start: what the student was loaded from; by default its encoder's pre-trained weights.
        pretrained: whether the encoder began with any; one that did not has its teacher alone.
    """
    first = terms_of(teacher, source=teacher_name)
    if start is not None or before.sources or before.about:
        own = terms_of(before, source=start)
        return first, own
    name = before.architecture["encoder"]
    if not pretrained or name == "vitt":  # of which there are no pre-trained weights
        return (first,)
    return first, released_terms(spec(name).timm_name) or Terms(name=f"encoder {name}")


def write_report(
    out: Path,
    *,
    teacher: DepthAnything,
    before: DepthAnything,
    after: DepthAnything,
    photographs: Source,
    trained: Mapping[str, Any],
    split: Split | None = None,
    origins: Sequence[Terms] | None = None,
    student: Path | None = None,
    teacher_side: int | None = None,
    student_side: int | None = None,
    most: int = PHOTOGRAPHS,
    corrupted: int = CORRUPTED,
    corruptions: Sequence[tuple[str, int]] = CORRUPTIONS,
    seed: int = 0,
    rounds: int = machine.ROUNDS,
    device: str | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Compare, and write `report.html` and `report.json` into a folder.

    Both are replaced where they are there: they say what is, and the folder is the run's own.

    Args:
        out: the folder.
        teacher: of disparity or of metres.
        before, after: the student as training began and as it is now.
        photographs: that were kept back (`Subset(source, split.kept)`).
        trained: how it was trained, as a table of names and JSON values: settings, steps, hours,
            seed, code, packages, fingerprint of the pool.
        split: which photographs were kept back; the report says how many, and whether near doubles
            were looked for.
        origins: terms of the teacher and of what the student started from, in this order; see
            `parents`.
        student: the student's file, for the commands; by default `out/student.safetensors`.
        teacher_side, student_side, most, corrupted, corruptions, seed, device, report: see
            `dalib.adaptation.compare.compare`.
        rounds: how often each network is timed.

    Returns:
        What stands in report.json.
    """
    eyes = Eyes(
        teacher=teacher,
        before=before,
        after=after,
        teacher_side=teacher_side,
        student_side=student_side,
        device=device,
    )
    found = look(
        eyes,
        photographs,
        most=most,
        corrupted=corrupted,
        corruptions=corruptions,
        seed=seed,
        report=report,
    )
    rows = contact_sheet(eyes, photographs, found)
    first = eyes.picture(photographs[found.indices[0]]["image"], name=found.names[0])
    report("timing teacher and student")
    costs = machine.measure(eyes, first, rounds=rounds)
    content = summary(
        found,
        costs=costs,
        origins=parents(teacher, before) if origins is None else origins,
        trained=trained,
        split=split,
        student=student or out / "student.safetensors",
        encoders=(teacher.architecture["encoder"], after.architecture["encoder"]),
    )
    content["sheet"] = [
        {"name": r.name, "why": r.why, "before": r.before, "after": r.after} for r in rows
    ]
    content = clean(content)
    page = render(content, rows)
    out.mkdir(parents=True, exist_ok=True)
    for name, written in (
        ("report.json", json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"),
        ("report.html", page),
    ):
        with whole(out / name) as partial:
            partial.write_text(written, encoding="utf-8", errors="backslashreplace")
    return content


def summary(
    found: Comparison,
    *,
    costs: machine.Machine,
    origins: Sequence[Terms],
    trained: Mapping[str, Any],
    split: Split | None,
    student: Path,
    encoders: tuple[str, str],
) -> dict[str, Any]:
    """What report.json holds, besides the contact sheet."""
    licence = derived(origins)
    own = Terms(name="student", licence=licence)
    teacher_name = origins[0].name if origins else f"a {encoders[0]} network"
    compared = asdict(found)
    roles = ("teacher", "start of the student")
    kept = len(split.kept) if split else len(found.names)
    everything = len(split.kept) + len(split.training) if split else None
    result = {
        "schema": SCHEMA,
        "dalib": dalib.__version__,
        "title": f"A {encoders[1]} student of {teacher_name}",
        "subtitle": _subtitle(encoders, split, found),
        "verdict": verdict(found),
        "answer": "",
        "warnings": warnings(found, split),
        **compared,
        "machine": asdict(costs),
        "licence": licence,
        "terms": terms_in_words(own),
        "origins": [asdict(t) | {"role": roles[min(k, 1)]} for k, t in enumerate(origins)],
        "commands": commands(student, encoders[1], side=found.sizes["student"]),
        "trained": dict(trained),
        "split": {
            "kept": kept,
            "all": everything,
            "seed": split.seed if split else None,
            "doubles": split.doubles if split else 0,
            "checked": bool(split and split.checked),
        },
        "limits": LIMITS,
    }
    result["answer"] = plain(answer(clean(result)))
    return result


def verdict(found: Comparison) -> str:
    """ "nearer" or "farther" where the interval says so, "unclear" where it holds 0, "same" where
    nothing was to be gained."""
    if math.isnan(found.nearer.value):
        return "same"
    if found.nearer.low > 0:
        return "nearer"
    return "farther" if found.nearer.high < 0 else "unclear"


def warnings(found: Comparison, split: Split | None) -> list[str]:
    """What a reader of the first sentence must know as well."""
    said = []
    distance = found.agreement["distance"]
    if distance.after.high >= FLAT:
        said.append(
            "The student's distance is not below 1 beyond doubt, which is what a map without any "
            "depth gets: it has learned little that is of use. Train longer, or look at the "
            "pictures below."
        )
    if distance.before.low > 0.9 * FLAT and distance.after.high < FLAT:
        said.append(
            "Before its training the student was as far from its teacher as a map without any "
            "depth, as one with a new decoder is. That it is nearer now is the least to be "
            "expected; the distance itself says how good it is."
        )
    if found.nearer.n < FEW:
        said.append(
            f"With {found.nearer.n} photographs the interval is narrower than it should be. From "
            f"{FEW} on it can be trusted."
        )
    if found.flat:
        said.append(
            f"On {found.flat} of {len(found.names)} photographs the teacher's map holds no depth; "
            "they are left out."
        )
    if found.unread:
        said.append(
            f"{len(found.unread)} photographs could not be read, or not by the teacher, and are "
            f"left out: {', '.join(found.unread[:5])}{', ...' if len(found.unread) > 5 else ''}"
        )
    if split is None or not split.checked:
        said.append(
            "Whether photographs kept back have near doubles among those that were trained on was "
            "not looked at."
        )
    return said


def terms_in_words(own: Terms) -> str:
    """What the student's licence means for whoever passes it on."""
    if own.commercial is None:
        return (
            "Nobody said under which licence some of the weights are that it was made from. Ask "
            "before you pass it on or sell anything that is made with it."
        )
    if not own.commercial:
        return (
            "Commercial use is not allowed, neither of it nor of what is made from it. A teacher "
            "such as Depth Anything V2 Small (Apache-2.0) would not bind it so."
        )
    return "Commercial use is allowed; keep the licence and its notices with it."


def commands(student: Path, encoder: str, *, side: int) -> list[dict[str, str]]:
    """What is done with a student, as one types it."""
    file, folder = shlex.quote(str(student)), shlex.quote(str(student.parent / "transformers"))
    maps = shlex.quote(str(student.parent / "maps"))
    onnx = shlex.quote(str(student.with_suffix(".onnx")))
    export = "python -m dalib export"
    predict = f"python -m dalib predict PHOTOS {maps} --weights {file} --short-side {side}"
    found = [("Maps of photographs, at the size that was compared here:", predict)]
    if spec(encoder).timm_name.startswith("vit_"):
        found.append(
            ("For transformers and the hub:", f"{export} {file} {folder} --to transformers")
        )
    else:
        found.append(
            (
                "transformers knows no network with this encoder, so that it is exported as ONNX:",
                f"{export} {file} {onnx} --to onnx",
            )
        )
    return [{"for": what, "command": command} for what, command in found]


def clean(value: Any) -> Any:
    """JSON's own: tuples as lists, NaN as null, text that any encoding can say."""
    if isinstance(value, Mapping):
        return {clean(str(k)): clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, (bool, int)):
        return value
    if hasattr(value, "item"):  # a number of NumPy's or PyTorch's
        return clean(value.item())
    return clean(str(value))


def _subtitle(encoders: tuple[str, str], split: Split | None, found: Comparison) -> str:
    if split is None:
        return f"Compared on {len(found.names)} photographs."
    return (
        f"Trained on {len(split.training)} photographs; {len(split.kept)} were kept back, and "
        f"{len(found.names)} of those are compared here."
    )


LIMITS = [
    "Agreement with a teacher is not accuracy. Where the teacher is wrong, a student that agrees "
    "is wrong too. How right either is, only measured depth can say (dalib.evaluate, with data that "
    "have it).",
    "The photographs kept back are of the same kind as those trained on. On others the student may "
    "be nearer to its teacher, or far from it.",
    "Intervals are over photographs. They hold for other photographs of this kind with these very "
    "weights, and say nothing of another training with another seed.",
    "Blur, dark and noise are made by formulas. A bad camera is worse in other ways.",
    "Times are of this machine while this report was written, and of one photograph at a time.",
]
"""What the report says of itself."""
