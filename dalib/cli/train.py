"""`python -m dalib train` and `python -m dalib resume`."""

import argparse
from pathlib import Path

from dalib.commands import Commands
from dalib.config import RunConfig
from dalib.errors import ConfigError


def add(top: Commands) -> None:
    """Add the commands."""
    command = top.add("train", run)
    command.add_argument("settings", help="a YAML file with the fields of dalib.RunConfig")
    add_changes(command)
    command.add_argument(
        "--plan", action="store_true", help="say what would be done and needed, and do nothing"
    )
    _add_how(command)
    again = top.add("resume", resume)
    again.add_argument("folder", help="of the run, which the command train named")
    _add_how(again)


def add_training(command: argparse.ArgumentParser, *, reads: str, learns: str, leaves: str) -> None:
    """Add the options of a training that decides by itself what nobody says.

    Args:
        command: the command.
        reads: what it reads, in the plural.
        learns: what learns.
        leaves: what is left behind.
    """
    command.add_argument("--steps", type=int, help=f"(default: 20 readings of the {reads})")
    for side in ("--height", "--width"):
        command.add_argument(side, type=int, help=f"of the {learns}'s images, in pixels")
    command.add_argument(
        "--encoder-weights", default="", help="a file of DINOv2 weights for a ViT, not the hub's"
    )
    add_changes(command)
    command.add_argument("--processes", type=int, default=1, help="that train (default: 1)")
    command.add_argument(
        "--plan", action="store_true", help="say what would be done and needed, and do nothing"
    )
    command.add_argument(
        "--overwrite", action="store_true", help=f"replace the {leaves} of other settings"
    )


def add_changes(command: argparse.ArgumentParser) -> None:
    """Add the option that changes settings of a file."""
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a setting of the file; teacher.weights=FILE reaches into a block",
    )


def _add_how(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--processes", type=int, default=1, help="that train, over all machines (default: 1)"
    )
    command.add_argument(
        "--accelerate",
        metavar="FILE",
        help="a configuration of accelerate, for several machines or sharded weights (configs/)",
    )
    command.add_argument(
        "--machine-rank", type=int, help="which machine this is (default: SLURM_NODEID, or FILE's)"
    )


def run(args: argparse.Namespace) -> None:
    """Train what a YAML file of settings says: a teacher where one is needed, labels, the
    student."""
    _train(settings(Path(args.settings), args.set), args, only_plan=args.plan)


def resume(args: argparse.Namespace) -> None:
    """Go on with a run that was stopped or killed, from its folder alone."""
    from dalib.training.folder import JOB, folder, read_json
    from dalib.training.given import pin

    out = Path(args.folder)
    kept = read_json(out / JOB).get("config")
    if kept is None:
        raise ConfigError(
            f"{out}: no run to go on with (there is no readable {JOB} in it); give the folder that "
            "the command train named, or call train with its settings"
        )
    config = pin(RunConfig.from_dict(kept))
    if folder(config).resolve() != out.resolve():
        raise ConfigError(
            f"{out}: these settings make the run {folder(config)}; set DALIB_RUNS to the folder "
            "that holds this one"
        )
    _train(config, args, only_plan=False)


def _train(config: RunConfig, args: argparse.Namespace, *, only_plan: bool) -> None:
    from dalib import paths
    from dalib.training.machines import machines_of
    from dalib.training.plan import plan
    from dalib.training.processes import refuse_other_launcher
    from dalib.training.recipe import train
    from dalib.writing import nothing_left

    refuse_other_launcher()
    machines = machines_of(
        args.accelerate, processes=args.processes, machine_rank=args.machine_rank
    )
    with nothing_left(paths.runs(), always=only_plan):
        found = plan(config, machines=machines)
    print("\n".join(found.lines()), flush=True)
    if only_plan:
        return
    weights = train(
        found.config,
        processes=args.processes,
        accelerate=args.accelerate,
        machine_rank=args.machine_rank,
    )
    print(weights)


def settings(path: Path, changes: list[str]) -> RunConfig:
    """The settings of a YAML file with the changes of the command line, each NAME=VALUE with a
    value in YAML.

    Raises `ConfigError`, naming the file or the option, for what cannot be read or meant.
    """
    from dalib import strict_yaml

    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give a YAML file with the fields of RunConfig")
    values = strict_yaml.read(path)
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected settings by name, such as steps: 1000")
    values = changed(values, changes)
    try:
        return RunConfig.from_dict(values)
    except ConfigError as error:
        where = f"{path}" + (" with --set" if changes else "")
        raise ConfigError(f"{where}: {error}") from error


def changed(values: dict, changes: list[str]) -> dict:
    """Plain settings with the changes of the command line, each NAME=VALUE with a value in YAML."""
    from dalib import strict_yaml

    values = dict(values)
    for change in changes:
        name, mark, text = change.partition("=")
        if not mark or not name:
            raise ConfigError(f"--set {change}: expected NAME=VALUE")
        *blocks, last = name.split(".")
        place = values
        for block in blocks:
            inner = place.get(block)
            if inner is not None and not isinstance(inner, str | dict):
                raise ConfigError(
                    f"--set {change}: {block} is {inner!r}, and no block of settings with a {last} "
                    "in it"
                )
            place[block] = {"weights": inner} if isinstance(inner, str) else dict(inner or {})
            place = place[block]
        place[last] = strict_yaml.parse(text, f"--set {name}")
    return values
