"""The one place that knows where things lie. Functions, not constants, so that the environment can
move each of them."""

import os
import tempfile
from pathlib import Path

from dalib.errors import ConfigError


def root() -> Path:
    """The checkout, for what is committed there: `DALIB_ROOT`, else the nearest folder upwards that
    holds `experiments.yaml`, else the folder that holds the package.

    The last is the checkout where the library is installed from one (`pip install -e .`), and a
    folder without any of those files where it was copied into an environment. Raises `ConfigError`
    where `DALIB_ROOT` names no folder.
    """
    return _checkout() or Path(__file__).resolve().parent.parent


def runs() -> Path:
    """Everything that a run leaves behind (git-ignored): `DALIB_RUNS`, else `runs/` of the checkout
    that one is in, else `runs/` of the current folder, wherever the package lies.

    Absolute, so that a kernel that starts in another folder can be told the same place. Raises
    `ConfigError` where `DALIB_RUNS` is empty or no folder.
    """
    named = _named("DALIB_RUNS")
    if named is None:
        return (_checkout() or _here()) / "runs"
    if os.path.exists(named) and not os.path.isdir(named):
        raise ConfigError(f"DALIB_RUNS: {named} is a file; name a folder, or unset it")
    return named


def _checkout() -> Path | None:
    """The checkout that one is in: `DALIB_ROOT`, else the nearest folder upwards that holds
    `experiments.yaml` and the library; None outside."""
    named = _named("DALIB_ROOT")
    if named is not None:
        if not os.path.isdir(named):
            raise ConfigError(
                f"DALIB_ROOT: {named} is not a folder; set it to the checkout, or unset it"
            )
        return named
    here = _here()
    for folder in (here, *here.parents):
        if (folder / "experiments.yaml").is_file() and (folder / "dalib").is_dir():
            return folder
    return None


def writable_runs() -> Path:
    """`runs()`, made where it is missing; a `ConfigError` that says what to change where nothing
    can be written there."""
    folder = runs()
    what = "DALIB_RUNS" if "DALIB_RUNS" in os.environ else "the folder for runs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            f"{what}: {folder} cannot be written ({reason}); set DALIB_RUNS to a folder that can"
        ) from error
    return folder


def places() -> dict[str, str]:
    """The variables that say where things lie, made absolute, for a process that starts in another
    folder. Outside a checkout, where `runs` is that of the current folder, it is among them."""
    found = {}
    if "DALIB_ROOT" in os.environ:
        found["DALIB_ROOT"] = str(root())
    if "DALIB_RUNS" in os.environ or _checkout() is None:
        found["DALIB_RUNS"] = str(runs())
    for variable in ("DALIB_REALDEPTH", *map(_pool_variable, POOLS)):
        folder = os.environ.get(variable)
        if folder and os.path.exists(folder):
            found[variable] = str(_named(variable))
    return found


POOLS = ("photos", "rgbd")
"""The public pools that sources of the kind `pool` are named by."""


def fetched_pool(name: str) -> Path:
    """Where `python -m dalib fetch NAME` puts a public pool that is given no folder."""
    return runs() / "pools" / name


def pool(name: str) -> Path:
    """Where a public pool lies: in the folder that `DALIB_PHOTOS` or `DALIB_RGBD` names, else where
    it was fetched to, here or in the `runs/` of the checkout, else in `../shared/NAME`. Where it is
    nowhere, the folder that it would be fetched to.

    `none` in these variables stands for no such folder. Anything else there must be a folder with a
    `manifest.csv`; if not, that is a `ConfigError`, for another pool than the one that was named is
    not to be trained on.
    """
    variable = _pool_variable(name)
    if os.environ.get(variable) == "none":
        return Path(os.devnull)
    given = _named(variable)
    if given is not None:
        if not (given / "manifest.csv").is_file():
            raise ConfigError(
                f"{variable}: {given} is no folder with a manifest.csv; correct it, unset it, or set "
                "it to none"
            )
        return given
    here = fetched_pool(name)
    of_checkout = (_checkout() or _here()) / "runs" / "pools" / name
    for place in (here, of_checkout, root().parent / "shared" / name):
        if (place / "manifest.csv").is_file():
            return place
    return here


def _pool_variable(name: str) -> str:
    return f"DALIB_{name.upper()}"


def _named(variable: str) -> Path | None:
    """The absolute path that a variable of the environment names, None where it is not set."""
    value = os.environ.get(variable)
    if value is None:
        return None
    if not value.strip():
        raise ConfigError(f"{variable}: is set, but empty; name a folder, or unset it")
    try:
        path = Path(value).expanduser()
    except RuntimeError as error:  # a user whom the system does not know
        raise ConfigError(f"{variable}: {value}: {error}; write the folder in full") from error
    return path if path.is_absolute() else _here() / path


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise ConfigError(
            "the current folder was deleted; change into one that exists and try again"
        ) from error


def cache() -> Path:
    """Materialised data sets."""
    return runs() / "cache"


def records() -> Path:
    """Committed records of the recorded study."""
    return root() / "data" / "records"


def first_study() -> Path:
    """The study that ended in November 2026, as it was: records, reruns, floors, certificates. Its
    page alone reads it."""
    return root() / "data" / "first_study"


def certificates() -> Path:
    """Which versions of the code were seen to give the same bits, see `dalib.certificates`."""
    return root() / "data" / "certificates"


def local_records() -> Path:
    """Records of this machine's own runs in profiles that are not committed."""
    return runs() / "records"


def robustness() -> Path:
    """Committed scores of the recorded study's networks under corruption; apart from `records`,
    whose files are training runs."""
    return root() / "data" / "robustness"


def local_robustness() -> Path:
    """The same for this machine's own runs."""
    return runs() / "robustness"


def reruns() -> Path:
    """Runs of the recorded study that were made once more, elsewhere; apart from `records`, which
    every table reads."""
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


def students() -> Path:
    """Records of the networks that are made to be used (`students.yaml`)."""
    return root() / "data" / "students"


def shipped_weights() -> Path:
    """The network that comes with the library, a file within the package; it may be absent."""
    return Path(__file__).resolve().parent / "weights" / "student.safetensors"


def history() -> Path:
    """What was changed after results of it had been seen, in the study that is going on."""
    return root() / "data" / "history.yaml"


def plan() -> Path:
    """The plan of the recorded study, written before its first record."""
    return root() / "data" / "plan.yaml"


def realdepth() -> Path:
    """Real image and depth pairs for evaluation: `DALIB_REALDEPTH`, else `../shared/realdepth`,
    which may be absent.

    `DALIB_REALDEPTH=none` stands for no such folder. Anything else there must be a folder with a
    `manifest.csv`; if not, that is a `ConfigError`, for a wrong word should not leave out what was
    meant to be scored.
    """
    given = os.environ.get("DALIB_REALDEPTH")
    if given is None:
        return root().parent / "shared" / "realdepth"
    if given == "none":
        return Path(os.devnull)
    if not (given and (Path(given) / "manifest.csv").is_file()):
        raise ConfigError(
            f"DALIB_REALDEPTH: {given!r} is no folder with a manifest.csv; correct it, unset it, "
            "or set it to none"
        )
    return Path(given)
