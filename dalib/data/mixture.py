"""Labelled and unlabelled images at 1:2, as a function from the step to the batch.

Nothing here has state: batch number k is computed from (seed, k) alone, so that training resumes at
any step, any number of loader workers gives the same batches, and a process takes its slice of the
same global batch.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from dalib.config import RunConfig
from dalib.data.files import digest
from dalib.data.schema import Source, fit
from dalib.errors import ConfigError, DataError, UserError


class Concat(Source):
    """Several sources one after the other, without re-sampling. A single one keeps its size and its
    way to read batches."""

    def __init__(self, *sources: Source):
        self.sources = sources
        self.height, self.width = (
            getattr(sources[0], k, None) if len(sources) == 1 else None for k in ("height", "width")
        )
        self.ends = np.cumsum([len(s) for s in sources])
        self.fingerprint = (
            sources[0].fingerprint if len(sources) == 1 else digest(s.fingerprint for s in sources)
        )

    def __len__(self) -> int:
        return int(self.ends[-1])

    def _sample(self, index: int) -> dict:
        k = int(np.searchsorted(self.ends, index, side="right"))
        return self.sources[k][int(index - (self.ends[k - 1] if k else 0))]

    def get_batch(self, indices: np.ndarray) -> dict:
        """Samples of a single source, as it stacks them."""
        return self.sources[0].get_batch(indices)


def mix(*words: int | np.ndarray) -> np.ndarray:
    """A 64-bit hash of integers, element by element: the finaliser of SplitMix64, chained over the
    words."""
    state = np.uint64(0)
    with np.errstate(over="ignore"):
        for word in words:
            state = state + np.asarray(word).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


def uniform(*words: int | np.ndarray) -> np.ndarray:
    """A number in 0..1 for each tuple of integers."""
    return (mix(*words) >> np.uint64(11)).astype(np.float64) / 2**53


def shuffled(positions: np.ndarray, count: int, *, key: int) -> np.ndarray:
    """Where an endless shuffled reading of `count` items stands at each position, epoch after
    epoch.

    A Feistel network over the next power of four, walked until it lands inside, permutes each epoch
    without storing it: 60 million items cost no more memory than 60.
    """
    epoch, index = np.divmod(np.asarray(positions, dtype=np.int64), count)
    half = np.uint64(max(1, (max(count - 1, 1).bit_length() + 1) // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    value, todo = index.astype(np.uint64), np.ones(index.shape, bool)
    while todo.any():
        left, right = value >> half, value & low
        for turn in range(6):
            left, right = right, left ^ (mix(key, epoch, turn, right) & low)
        value = np.where(todo, (left << half) | right, value)
        todo = value >= count
    return value.astype(np.int64)


def fetch(
    source: Source, indices: np.ndarray, *, height: int, width: int, crop: np.ndarray | None = None
) -> dict:
    """Samples of a source as one batch at one size.

    Args:
        source: read through `get_batch` where it has a `height` and `width` and they fit, sample by
            sample otherwise.
        indices: which samples.
        crop: (b, 2) in 0..1, where the crop lies along the free room (top to bottom, left to
            right); the centre by default.
    """
    if (getattr(source, "height", None), getattr(source, "width", None)) == (height, width):
        return source.get_batch(indices)
    crop = np.full((len(indices), 2), 0.5) if crop is None else crop
    samples = [
        fit(source[int(i)], height=height, width=width, position=tuple(c))
        for i, c in zip(indices, crop, strict=True)
    ]
    keys = [k for k in ("image", "disparity", "valid", "semantics") if all(k in s for s in samples)]
    return {k: torch.stack([s[k] for s in samples]) for k in keys} | {
        "domain": [s["domain"] for s in samples]
    }


def pool_crop(indices: np.ndarray) -> np.ndarray:
    """The crop of each unlabelled image: fixed by its index, so that its pseudo label shows the
    same pixels."""
    return np.stack([uniform(1, indices), uniform(2, indices)], 1)


def check_shares(config: RunConfig, world: int) -> None:
    """Raise `ConfigError` where so many processes cannot share a run's batches evenly, CutMix pairs
    unbroken."""
    pair = 2 if "cutmix" in config.perturb else 1
    for name, size, unit in (
        ("batch", config.batch, 1),
        ("batch x unlabelled_ratio", config.batch * config.unlabelled_ratio, pair),
    ):
        if size % (world * unit):
            raise ConfigError(
                f"{name}: {size} images cannot be shared evenly by {world} processes"
                + (" in CutMix pairs" if unit == 2 else "")
            )


class Mixture(torch.utils.data.Dataset):
    """Step to batch.

    Args:
        config: batch size, ratio, seed, size.
        labelled: the labelled source.
        unlabelled: the unlabelled source, or None for labelled-only training.
        pool: indices of the unlabelled images to read; all by default.
        pseudo: its pseudo labels, by index (`dalib.training.pseudo.Labels`), or None where a
            teacher labels each batch in training (`pool_flip` tells it which images are mirrored)
            and where an oracle does.
        rank, world: this process and how many there are; each takes its slice of the global batch.
    """

    def __init__(
        self,
        *,
        config: RunConfig,
        labelled: Source,
        unlabelled: Source | None = None,
        pool: np.ndarray | None = None,
        pseudo=None,
        rank: int = 0,
        world: int = 1,
    ):
        self.config, self.labelled, self.unlabelled, self.pseudo = (
            config,
            labelled,
            unlabelled,
            pseudo,
        )
        self.pool = pool
        self.rank, self.world = rank, world
        check_shares(config, world)

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        batch = self._stream(self.labelled, step, self.config.batch, stream=0)
        if self.unlabelled is not None:
            more = self._stream(
                self.unlabelled, step, self.config.batch * self.config.unlabelled_ratio, stream=1
            )
            batch |= {f"pool_{k}": v for k, v in more.items()}
        return batch

    def _stream(self, source: Source, step: int, size: int, *, stream: int) -> dict[str, Tensor]:
        c, share = self.config, size // self.world
        positions = step * size + self.rank * share + np.arange(share)
        pool = self.pool if stream else None
        indices = shuffled(
            positions, len(source) if pool is None else len(pool), key=2 * c.seed + stream
        )
        indices = indices if pool is None else pool[indices]
        crop = (
            pool_crop(indices)
            if stream
            else np.stack([uniform(c.seed, k, positions) for k in (3, 4)], 1)
        )
        batch = fetch(source, indices, height=c.height, width=c.width, crop=crop)
        keys = ["image", "disparity", "valid"]
        if stream and self.pseudo is not None:
            batch["disparity"] = self.pseudo.get_batch(indices)
            batch["valid"] = torch.isfinite(batch["disparity"])
        elif stream and c.labelling != "oracle":
            keys = ["image"]
        elif "disparity" not in batch:
            where = "unlabelled, labelling: oracle" if stream else "labelled"
            raise DataError(
                f"{where}: no ground truth in {set(batch['domain'])}; photographs alone belong "
                "under unlabelled, and to a teacher"
            )
        if stream and c.segmentation_weight:
            if "semantics" not in batch:
                raise DataError(
                    "unlabelled, segmentation_weight: no classes in "
                    f"{set(batch['domain'])}; set it to 0"
                )
            keys.append("semantics")
        flip = torch.from_numpy(uniform(c.seed, 5 + stream, positions) < 0.5)
        flipped = {
            k: torch.where(flip.view(-1, *[1] * (batch[k].ndim - 1)), batch[k].flip(-1), batch[k])
            for k in keys
        }
        return flipped | {
            "flip": flip,
            "index": torch.from_numpy(indices),
            "position": torch.from_numpy(positions),
        }


def batches(loader: Iterable[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """What a loader gives. A `UserError` of a loader process has its own message again, not that
    process's traceback."""
    try:
        yield from loader
    except UserError as error:
        kind = type(error)
        *_, message = str(error).rpartition(f"{kind.__module__}.{kind.__qualname__}: ")
        raise kind(message.strip()) from None
