"""The one place that knows where things lie. Functions, not constants, so that the environment can move each of them."""

import os
from pathlib import Path


def root() -> Path:
    """The checkout: `DALIB_ROOT`, else the nearest folder upwards that holds `experiments.yaml`, else the package's parent."""
    if "DALIB_ROOT" in os.environ:
        return Path(os.environ["DALIB_ROOT"])
    here = Path.cwd()
    package = Path(__file__).resolve().parent.parent
    return next(
        (p for p in (here, *here.parents) if (p / "experiments.yaml").is_file() and (p / "dalib").is_dir()), package
    )


def runs() -> Path:
    """Everything that a run leaves behind (git-ignored): `DALIB_RUNS`, else `runs/`."""
    return Path(os.environ.get("DALIB_RUNS", root() / "runs"))


def cache() -> Path:
    """Materialised data sets."""
    return runs() / "cache"


def records() -> Path:
    """Committed records of the recorded study."""
    return root() / "data" / "records"


def local_records() -> Path:
    """Records of this machine's own runs in profiles that are not committed."""
    return runs() / "records"


def robustness() -> Path:
    """Committed scores of the recorded study's networks under corruption; apart from `records`, whose files are training runs."""
    return root() / "data" / "robustness"


def local_robustness() -> Path:
    """The same for this machine's own runs."""
    return runs() / "robustness"


def reruns() -> Path:
    """Runs of the recorded study that were made once more, elsewhere; apart from `records`, which every table reads."""
    return root() / "data" / "reruns"


def floors() -> Path:
    """The floors' scores on the real data sets, recorded."""
    return records() / "floors.json"


def benchmarks() -> Path:
    """What was timed by hand: `NAME.json` is written by `benchmarks/NAME.py`."""
    return root() / "data" / "benchmarks"


def published_tables() -> Path:
    """The paper's numbers."""
    return root() / "data" / "published_tables.csv"


def claims() -> Path:
    """What the paper and its review claim, and how each claim is tested."""
    return root() / "data" / "claims.yaml"


def history() -> Path:
    """What was changed after results of it had been seen."""
    return root() / "data" / "history.yaml"


def realdepth() -> Path:
    """Real image and depth pairs for evaluation (`DALIB_REALDEPTH`, else `../shared/realdepth`); may be absent."""
    return Path(os.environ.get("DALIB_REALDEPTH", root().parent / "shared" / "realdepth"))
