"""What a user can do wrong, or a disk can spoil. Each message names the file or parameter and says
what to do."""


class UserError(Exception):
    """Something outside the code is wrong; the command line prints the message without a traceback,
    and ends with `exit_code`."""

    exit_code = 1


class ConfigError(UserError, ValueError):
    """An unknown or impossible setting: experiment, row, profile, parameter, field."""


class DataError(UserError, ValueError):
    """An image, depth map, manifest, cache or pseudo-label shard that cannot be used."""


class DiskError(DataError):
    """Nothing can be written any more, whichever file it is."""


class CheckpointError(UserError, ValueError):
    """Weights that are damaged or belong to another network."""


class TrainingError(UserError, RuntimeError):
    """Training cannot go on (a loss that is not finite, a world size that was not asked for)."""


class Stopped(UserError):  # noqa: N818  (nothing is wrong)
    """A signal asked the work to stop, and what was done is saved: run again to go on. Exit code 75
    (EX_TEMPFAIL, "try again")."""

    exit_code = 75
