"""Made-up records with known means, written under a temporary root: for tests of what is made of
records, never for the book."""

import json
import shutil
from pathlib import Path

import numpy as np

from dabook.analysis.metric import ZERO_SHOT
from dabook.runs import records
from dabook.runs.experiments import expand
from dalib import paths, provenance

REPO = Path(__file__).resolve().parents[2]
DOMAINS = (
    "night_street",
    "fog_nature",
    "warm_tabletop",
    "noisy_warehouse",
    "drawn_room",
    "floating",
    "validation",
)
STEP = 1.1
"""How many times as large the error of a test domain is as that of the one before."""
REAL = {
    "motorcycle": "table",
    "sunrgbd": "tune",
    "tum": "tune",
    "nuscenes": "tune",
    "nyuv2": "table",
    "kitti": "table",
}


def refuse_the_checkout() -> None:
    """What is made up must never lie among what was measured."""
    if paths.root().resolve() == REPO:
        raise RuntimeError(
            "fabricated records would go into the checkout itself: set DALIB_ROOT "
            "to a temporary folder"
        )


def root(folder: Path) -> Path:
    """A checkout's data files without its records."""
    (folder / "data").mkdir(parents=True)
    shutil.copy(REPO / "experiments.yaml", folder)
    shutil.copy(REPO / "data" / "published_tables.csv", folder / "data")
    return folder


def class_areas(level: float, *, images: int = 4) -> dict:
    """Scores of a segmentation whose 1 - mIoU is `level` exactly: two classes of a million pixels an
    image, whose IoU is 0.1 above and below the mean, on some images more than on others."""
    spread = np.linspace(-20, 20, images)
    truth = np.full(images, 10**6)
    tables = {"intersection": {}, "union": {}, "truth": {}}
    for name, shift in (("floor", 100), ("wall", -100)):
        found = np.round(1000 * (1000 * (1 - level) + shift + spread)).astype(int)
        tables["intersection"][name] = found.tolist()
        tables["union"][name] = truth.tolist()
        tables["truth"][name] = truth.tolist()
    accuracy = np.sum(list(tables["intersection"].values()), axis=0) / (2 * 10**6)
    return {"accuracy": accuracy.tolist(), "absent": ["sky"], **tables}


def record(row, config, *, level: float, images: int = 4, code: str | None = None) -> dict:
    """A record whose AbsRel (or 1 - mIoU, of a segmentation) is `level` in the geometric mean over
    the test domains (of metres, over its own zero-shot ones), exactly; `code` is the hash that it
    carries, today's by default. Each domain is `STEP` times as hard as the one before, and each image
    a few per cent harder or easier than its domain, so that two levels have one ratio everywhere."""
    spread = np.linspace(-0.02, 0.02, images)

    def metrics(at: float) -> dict:
        values = {
            "abs_rel": at * (1 + 3 * spread),
            "delta1": 1 - 1.5 * at - spread,
            "delta2": 1 - at - spread,
        }
        values |= {"delta3": 1 - at / 2 - spread, "rmse": 10 * at + spread}
        return {k: np.round(v, 12).tolist() for k, v in values.items()}

    levels = {d: level * STEP ** ((k - 2.5) * (k < 6)) for k, d in enumerate(DOMAINS)}
    scores = {"images": {d: metrics(at) for d, at in levels.items()}}
    scores["real"] = {
        d: {"half": h, "names": [str(i) for i in range(images)], **metrics(level + 0.02)}
        for d, h in REAL.items()
    }
    if config.task == "metric":
        drawn = ("room", "street", *DOMAINS[:-1])
        in_metres = {"sq_rel": 0.1, "rmse_log": 0.2, "silog": 20.0, "log10": 0.1, "delta05": 0.5}
        more = {k: [v] * images for k, v in in_metres.items()}
        own = config.labelled[0].removeprefix("scenes:labelled_")
        at = dict.fromkeys(drawn, level + 5)  # of domains that are not this row's
        at |= dict.fromkeys(ZERO_SHOT[own], level) | {own: level - 0.1}
        near = {d: h for d, h in REAL.items() if d not in ("nuscenes", "kitti")}
        reached = near if config.max_depth < 80 else REAL
        scores = {
            "images": {d: metrics(at[d]) | more for d in drawn},
            "real": {d: scores["real"][d] | more for d in reached},
        }
    if config.task == "segmentation":
        images_ = {d: class_areas(at, images=images) for d, at in levels.items()}
        scores = {"images": images_, "real": {}}
    hashes = {f"{part}_hash": code or provenance.code_hash(part) for part in provenance.ROOTS}
    training = {
        "stamp": hashes["training_hash"],
        "processes": 1,
        "threads": 1,
        "wall_seconds": 90.0,
        "peak_memory_mb": 1500,
    }
    made = records.make(row, config, training=training, scores=scores)
    return made | {
        **hashes,
        "created": "2026-01-02T03:04:05Z",
        "commit": "0123456789ab",
        "dirty": False,
    }


def write(
    name: str, levels: dict[str, list[float]], *, profile: str = "study", **options
) -> list[records.Entry]:
    """Records of an experiment with the given AbsRel of each row and seed; returns its entries."""
    refuse_the_checkout()
    experiment = expand(name, profile=profile, seeds=max(len(v) for v in levels.values()))
    for row, values in levels.items():
        for config, level in zip(experiment[row].configs, values, strict=False):
            records.write(
                record(experiment[row], config, level=level, **options),
                committed=experiment.committed,
            )
    return records.entries(experiment)


FLOORS = {"constant": 0.35, "vertical ramp": 0.30, "mean map": 0.32}
"""AbsRel of the made-up floors, everywhere."""


def write_floors(
    levels: dict[str, float] = FLOORS,
    *,
    images: int = 4,
    drawn: bool = True,
    inverted: dict[str, int] | None = None,
) -> Path:
    """A record of the floors, each with one AbsRel on every image.

    Args:
        levels: floor -> AbsRel.
        images: per real data set; of a drawn domain as many as the study scores.
        drawn: with the drawn domains too; earlier records had the real data sets alone, and no
            scales.
        inverted: floor -> images per domain with a fitted scale below zero; none by default.
    """
    refuse_the_checkout()

    def scores(name: str, count: int) -> dict:
        level, turned = levels[name], (inverted or {}).get(name, 0)
        values = {"abs_rel": [level] * count, "delta1": [1 - level] * count}
        return values | ({"scale": [-0.1] * turned + [0.1] * (count - turned)} if drawn else {})

    facts = {"schema": 1, "evaluation_hash": provenance.code_hash("evaluation")}
    about = {d: {"half": h, "names": [str(i) for i in range(images)]} for d, h in REAL.items()}
    facts["floors"] = {name: {d: about[d] | scores(name, images) for d in REAL} for name in levels}
    if drawn:
        whole = expand("main_table", profile="study").rows[0].configs[0]
        size = f"{whole.height} x {whole.width}"
        facts["drawn"] = {
            size: {name: {d: scores(name, whole.test_images) for d in DOMAINS} for name in levels}
        }
    path = paths.floors()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts))
    return path
