"""What one version of the code computes, to the last bit: a script that `certify` runs under two
commits.

    python -P probe.py PLAN.json OUT.json

It calls whatever `dalib` and `notebooks` the environment puts first, and reads of them only what
has been there since the first recorded study. A commit that has a probe of its own is run by that
one: how evidence looks may never change, how it is gathered may.

The plan names rows by their settings, and the evidence says of each row: the losses of every step
(`steps`), a digest of every tensor file (`tensors`), or why this code could not run it (`refused`);
and of each scoring every number, unrounded.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import torch
from safetensors import safe_open

ALL_DIGITS = 17  # of a float64: rounding to so many changes nothing


def quiet(_line: str) -> None:
    """Takes a line of progress and says nothing."""


def digest(file: Path) -> str:
    """Of the tensors in a file, whatever they are called and in whatever order they stand."""
    parts = []
    with safe_open(file, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118  (no mapping)
            tensor = tensors.get_tensor(name).contiguous()
            raw = tensor.view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
            parts.append(
                hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode() + raw).hexdigest()
            )
    return hashlib.sha256(" ".join(sorted(parts)).encode()).hexdigest()[:16]


def left_in(folder: Path) -> dict:
    """What a run left: its losses, and the digests of its tensor files. Folders of pseudo labels
    have names that say too much."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("*.safetensors")):
        place = file.relative_to(folder).parts
        name = "/".join("pseudo" if part.startswith("pseudo-") else part for part in place)
        found.setdefault(name, []).append(digest(file))
    return {
        "steps": [json.loads(line) for line in lines],
        "tensors": {k: sorted(v) for k, v in found.items()},
    }


def hashes() -> dict[str, str]:
    """The hash of each part of this code, as its own records carry it."""
    from dalib import provenance
    from dalib.evaluation import robustness

    try:
        from dabook.runs import bugs
    except ImportError:  # older code has it beside its notebook
        import bugs
    try:
        found = {part: provenance.code_hash(part) for part in ("training", "evaluation")}
    except (TypeError, AttributeError):  # the first study had one hash for both
        found = dict.fromkeys(("training", "evaluation"), provenance.code_hash())
    return found | {"robustness": robustness.tools_hash(), "bugs": bugs.bugs_hash()}


def trained(rows: dict[str, dict]) -> dict[str, dict]:
    """Every row trained, its teacher and pseudo labels included."""
    from dalib.config import RunConfig
    from dalib.errors import ConfigError
    from dalib.training import launch

    found = {}
    for name, settings in rows.items():
        print(f"probe: {name}", flush=True)
        try:
            config = RunConfig.from_dict(settings)
        except ConfigError as error:
            found[name] = {"refused": str(error)}
            continue
        folder = launch.ensure_weights(config, report=quiet).parent
        found[name] = left_in(folder)
        # an oracle's row has one too: earlier versions looked at it, and certify compares with them
        teacher = config.teacher_run() if config.pseudo_labels else None
        if teacher is not None:
            found[name]["teacher"] = left_in(launch.folder(teacher))
    return found


def scored(rows: dict[str, dict]) -> tuple[dict[str, dict], dict[str, dict]]:
    """Rows that were trained before, scored as they are, and scored under corruption."""
    from dalib.config import RunConfig
    from dalib.evaluation import robustness, suite
    from dalib.models.depth_anything import restore
    from dalib.training import launch

    suite.DIGITS = robustness.DIGITS = ALL_DIGITS
    plain, worse = {}, {}
    for name, settings in rows.items():
        print(f"probe: scores of {name}", flush=True)
        config = RunConfig.from_dict(settings)
        model = restore(launch.ensure_weights(config, report=quiet), expect=config.encoder)
        plain[name] = suite.evaluate(model, config)
        worse[name] = robustness.measure(model, config, images=1, report=quiet)
    return plain, worse


def faulty_twins(variants: dict[str, dict]) -> dict[str, dict]:
    """Every variant of the page of bugs: trained, or scored where it only scores."""
    from dalib.config import RunConfig

    try:
        from dabook.runs import faulty
    except ImportError:  # older code has it beside its notebook
        import faulty

    found = {}
    for name, settings in variants.items():
        print(f"probe: bug {name}", flush=True)
        config = RunConfig.from_dict(settings)
        if faulty.VARIANTS[name].trained:
            faulty.learn(name, config, stamp="probe", report=quiet)
            found[name] = left_in(faulty.folder(name, config))
        else:
            found[name] = faulty.score(name, config)
    return found


def main(plan: Path, out: Path) -> None:
    """Run the plan and write the evidence."""
    asked = json.loads(plan.read_text())
    torch.set_num_threads(1)
    evidence = {"hashes": hashes(), "training": trained(asked["rows"])}
    evidence["evaluation"], evidence["robustness"] = scored(asked["scored"])
    evidence["bugs"] = faulty_twins(asked["bugs"])
    partial = out.with_suffix(".partial")
    partial.write_text(json.dumps(evidence))
    os.replace(partial, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
