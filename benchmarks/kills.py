"""Random kills over training, labelling, scoring and prediction, in one process and in two: the
same final bits as without?

    python benchmarks/kills.py --seed 0 --kills 50

Two tasks are done once undisturbed, and then again and again under fire: a row (its teacher, its
pseudo labels, its student, its scores) and the prediction of a folder. Each time a signal (SIGKILL,
SIGTERM or SIGUSR1, to the command or to its whole process group) comes at a random moment, the
command is called again as it was, and what it leaves in the end is compared bit by bit. After each
kill no process of the command may be left. What was found is written to
`data/benchmarks/kills.json`.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from safetensors import safe_open

from dabook.runs.records import circumstances
from dalib import paths
from dalib.errors import Stopped
from dalib.models import build, save
from dalib.writing import write_text

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)
PER_TRIAL = 5  # kills before a task may end
PHOTOGRAPHS = 1040  # more than one shard of pseudo labels holds
LATER = 2.0  # seconds behind a line within which a signal comes
PATIENCE = 120  # seconds in which the last child of a killed command must be gone
SETTINGS = {
    "height": 64,
    "width": 96,
    "labelled_images": 32,
    "test_images": 2,
    "steps": 20,
    "batch": 4,
    "log_every": 1,
    "checkpoint_every": 7,
}


@dataclass(kw_only=True)
class Task:
    """A command, where it leaves what, and how much it prints undisturbed."""

    name: str
    words: tuple[str, ...]
    lines: int = 0  # that it prints undisturbed
    bits: dict[str, str] = field(default_factory=dict)


def prepare(home: Path) -> list[Task]:
    """Photographs, a network to predict with, and an `experiments.yaml` of one row."""
    rng = np.random.default_rng(0)
    (home / "photos").mkdir()
    for k in range(PHOTOGRAPHS):
        coarse = Image.fromarray(rng.integers(0, 255, (5, 7, 3), dtype=np.uint8))
        coarse.resize((96, 64), Image.Resampling.BICUBIC).save(home / "photos" / f"{k:04d}.png")
    save(build("lite0", seed=0), home / "weights.safetensors")
    row = {
        "label": "Student",
        "set": {"pseudo_labels": True, "perturb": ["colour", "blur", "cutmix"]},
    }
    settings = SETTINGS | {"unlabelled": [f"photos:{home / 'photos'}"]}
    tree = {
        "profiles": {"kills": {"seeds": 1, "record": "local", "set": settings}},
        "experiments": {"mine": {"question": "?", "rows": {"student": row}}},
    }
    (home / "experiments.yaml").write_text(yaml.safe_dump(tree))
    train = ("dabook", "row", "mine", "student", "--profile", "kills", "--processes")
    predict = (
        "dalib",
        "predict",
        str(home / "photos"),
        "{runs}/maps",
        "--weights",
        str(home / "weights.safetensors"),
    )
    return [
        Task(name="one process", words=(*train, "1")),
        Task(name="two processes", words=(*train, "2")),
        Task(name="prediction", words=(*predict, "--short-side", "64")),
    ]


def start(task: Task, home: Path, runs: Path) -> subprocess.Popen:
    """The command in a process group of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("DALIB_")}
    env |= {
        "DALIB_ROOT": str(home),
        "DALIB_RUNS": str(runs),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    env["DALIB_CACHE_OF"] = str(runs)  # only to find what the command leaves running
    words = [word.format(runs=runs) for word in task.words]
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        env=env,
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def bits(runs: Path) -> dict[str, str]:
    """File -> digest of everything that counts: tensors, losses, scores and maps; times and places
    left out."""
    found = {}
    for file in sorted(p for p in runs.rglob("*") if p.is_file()):
        name = file.relative_to(runs).as_posix()
        if "checkpoint/" in name or name.startswith(("cache/", "locks/")):
            continue
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as tensors:
                parts = [tensors.get_tensor(k).numpy().tobytes() for k in sorted(tensors.keys())]
            found[name] = hashlib.sha256(b"".join(parts)).hexdigest()
        elif file.suffix in (".png", ".npy") or file.name == "metrics.jsonl":
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
        elif name.startswith("records/"):
            record = json.loads(file.read_text())
            found[name] = hashlib.sha256(
                json.dumps([record["images"], record["real"]]).encode()
            ).hexdigest()
    return found


def left_running(runs: Path) -> list[int]:
    """Processes that this trial's commands started and that are still there."""
    mark, found = f"DALIB_CACHE_OF={runs}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            alive = (folder / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
            if alive and mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def stage(lines: list[str]) -> str:
    """What the command was doing, by its last line."""
    last = lines[-1] if lines else ""
    for mark, name in (
        ("teacher: step", "teacher"),
        ("labelling", "labelling"),
        ("images, ", "prediction"),
    ):
        if mark in last:
            return name
    if "step " in last:
        return "scoring" if f"step {SETTINGS['steps']}/" in last else "student"
    return "start"


def once(
    task: Task, home: Path, runs: Path, rng: random.Random | None
) -> tuple[str | None, str | None, int]:
    """Call the command; with `rng`, send a signal at a random moment: some time after a random one
    of its lines, so that every stage is met however fast the machine is. Returns the signal, the
    stage it met, the exit code."""
    process, lines = start(task, home, runs), []
    reader = threading.Thread(
        target=lambda: lines.extend(map(str.rstrip, iter(process.stdout.readline, "")))
    )
    reader.start()
    sent = met = None
    if rng is not None:
        wanted, delay = rng.randrange(task.lines), rng.uniform(0, LATER)
        number, group = rng.choice(SIGNALS), rng.random() < 0.5
        while len(lines) < wanted and process.poll() is None:
            time.sleep(0.01)
        try:
            process.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            sent, met = f"{number.name}{' to the group' * group}", stage(lines)
            (os.killpg if group else os.kill)(process.pid, number)
    process.wait()
    deadline = time.monotonic() + PATIENCE
    while (left := left_running(runs)) and time.monotonic() < deadline:
        time.sleep(0.1)
    if left:
        raise SystemExit(f"{task.name}, {sent} while {met}: processes {left} outlived the command")
    reader.join()
    task.lines = max(task.lines, len(lines))
    code = process.returncode
    if sent is None and code != 0:
        raise SystemExit(
            "\n".join([f"{task.name} ended with {code} though nobody killed it:", *lines[-30:]])
        )
    if sent and not sent.startswith("SIGKILL") and code not in (0, Stopped.exit_code):
        raise SystemExit(
            "\n".join([f"{task.name}, {sent} while {met}: exit code {code}, not 75:", *lines[-30:]])
        )
    return sent, met, code


def main() -> None:
    """Run the trials and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--out", type=Path, default=paths.benchmarks() / "kills.json")
    args = parser.parse_args()
    rng, begun = random.Random(args.seed), time.perf_counter()
    met: Counter = Counter()
    unequal: list[str] = []
    trials = 0
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        tasks = prepare(home)
        for k, task in enumerate(tasks):
            clock = time.perf_counter()
            once(task, home, home / f"whole-{k}", None)
            seconds = time.perf_counter() - clock
            task.bits = bits(home / f"whole-{k}")
            print(
                f"{task.name}: {seconds:.0f} s and {task.lines} lines undisturbed, "
                f"{len(task.bits)} files",
                flush=True,
            )
        while sum(met.values()) < args.kills:
            task, runs = tasks[trials % len(tasks)], home / f"trial-{trials}"
            trials += 1
            for _ in range(min(PER_TRIAL, args.kills - sum(met.values()))):
                sent, doing, code = once(task, home, runs, rng)
                if sent is None:
                    break
                met[task.name, sent, doing] += 1
                print(
                    f"kill {sum(met.values())}: {task.name}, {sent} while {doing}, exit code "
                    f"{code}",
                    flush=True,
                )
            once(task, home, runs, None)
            found = bits(runs)
            unequal += [
                f"trial {trials}: {n}"
                for n in task.bits.keys() | found.keys()
                if found.get(n) != task.bits.get(n)
            ]
            print(
                f"trial {trials}: "
                f"{'other bits: ' + ', '.join(unequal) if unequal else 'the same bits'}",
                flush=True,
            )
    record = {
        "seed": args.seed,
        "kills": sum(met.values()),
        "trials": trials,
        "unequal": unequal,
        "met": [
            {"task": t, "signal": s, "stage": d, "count": n} for (t, s, d), n in sorted(met.items())
        ],
        "files": {task.name: len(task.bits) for task in tasks},
        **circumstances("commit", "dirty", "created", "device"),
        "seconds": round(time.perf_counter() - begun),
    }
    write_text(args.out, json.dumps(record, indent=1) + "\n")
    print(
        f"{record['kills']} kills in {trials} trials, {len(unequal)} files with other bits: "
        f"{args.out}"
    )
    raise SystemExit(bool(unequal))


if __name__ == "__main__":
    main()
