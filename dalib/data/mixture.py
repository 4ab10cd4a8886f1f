"""Labelled and unlabelled images at 1:2, as a function from the step to the batch.

`Batch` states what a batch holds, `dalib.data.streams` what is random in it. Nothing here has
state: batch number k is computed from (seed, k) alone, so that training resumes at
any step, any number of loader workers gives the same batches, and a process takes its slice of the
same global batch.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from dalib.config import RunConfig
from dalib.data.files import digest
from dalib.data.schema import Part, Source, in_metres, resize_and_crop, without_metres
from dalib.data.streams import Order, Stream, order_key
from dalib.errors import ConfigError, DataError, UserError


class Batch(TypedDict, total=False):
    """What `Mixture` gives for a step, and `dalib.training.step` takes.

    b labelled images where the run has some, and p = b * `unlabelled_ratio` unlabelled ones where
    it has a pool; both are this process's share. What belongs to unlabelled images has `pool_`
    before its name.

    - `image`, `pool_image`: 0..255, cropped and perhaps mirrored, not perturbed.
    - `disparity`, `valid`: ground truth, and where there is any, its sky as `RunConfig.sky` says;
      `semantics` instead, the class of each pixel, where the task is segmentation.
    - `pool_disparity`, `pool_valid`: the pseudo label of each unlabelled image in 0..1, mirrored
      with it, and where it is finite; an oracle's are the source's own. Absent where a teacher
      labels in training: `label_now` adds them.
    - `pool_seen`: the unlabelled images at the size at which the teacher sees them, never mirrored;
      there where a teacher labels in training and its size is another.
    - `pool_semantics`: class of each pixel; there with `segmentation_weight` alone.
    - `flip`, `pool_flip`: which images are mirrored; their maps are, too.
    - `index`, `pool_index`: which samples of the source they are.
    - `read`, `pool_read`: which samples were read for them: the same, save where a damaged image
      was replaced. There where the source replaces (`dalib.data.damaged`).
    - `position`, `pool_position`: how many images this reading has given before, over all
      processes: with the seed, the key of everything that is random about an image.
    """

    image: UInt8[Tensor, "b 3 h w"]
    disparity: Float[Tensor, "b h w"]
    valid: Bool[Tensor, "b h w"]
    semantics: UInt8[Tensor, "b h w"]
    flip: Bool[Tensor, " b"]
    index: Int[Tensor, " b"]
    position: Int[Tensor, " b"]
    read: Int[Tensor, " b"]
    pool_image: UInt8[Tensor, "p 3 h w"]
    pool_seen: UInt8[Tensor, "p 3 h2 w2"]
    pool_disparity: Float[Tensor, "p h w"]
    pool_valid: Bool[Tensor, "p h w"]
    pool_semantics: UInt8[Tensor, "p h w"]
    pool_flip: Bool[Tensor, " p"]
    pool_index: Int[Tensor, " p"]
    pool_position: Int[Tensor, " p"]
    pool_read: Int[Tensor, " p"]


class Concat(Source):
    """Several sources one after the other. A single one keeps its size and its way to read batches.

    Args:
        sources: in this order.
        weights: how many times an epoch reads each sample of each of them (`Epoch`); by default
            once. No sample stands here more than once for it, and the fingerprint is the same.
    """

    def __init__(self, *sources: Source, weights: Sequence[int] | None = None):
        self.sources = sources
        weights = [1] * len(sources) if weights is None else weights
        self.parts = tuple(
            Part(count=len(s), weight=w, fingerprint=s.fingerprint)
            for s, w in zip(sources, weights, strict=True)
        )
        self.ends = np.cumsum([len(s) for s in sources])
        if len(sources) == 1:
            (only,) = sources
            self.height = getattr(only, "height", None)
            self.width = getattr(only, "width", None)
            self.fingerprint = only.fingerprint
        else:
            self.height = self.width = None
            self.fingerprint = digest(s.fingerprint for s in sources)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def _sample(self, index: int) -> dict:
        source, place = self._whose(index)
        return source[place]

    @property
    def reads_alike(self) -> bool:
        """Whether all of its sources do, see `Source.reads_alike`."""
        return all(source.reads_alike for source in self.sources)

    def sample_for(self, index: int, *, height: int, width: int) -> dict:
        """The sample, as its own source reads it for such a size."""
        source, place = self._whose(index)
        return source.sample_for(place, height=height, width=width)

    def _whose(self, index: int) -> tuple[Source, int]:
        """The source that a sample comes from, and its place there."""
        k = int(np.searchsorted(self.ends, index, side="right"))
        first = self.ends[k - 1] if k else 0
        return self.sources[k], int(index - first)

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
    return _permuted(index, count, key, epoch)


def _permuted(index: np.ndarray, count: int, *words: int | np.ndarray) -> np.ndarray:
    """Where a permutation of `count` items, one for each tuple of words, takes each index."""
    half = np.uint64(max(1, (max(count - 1, 1).bit_length() + 1) // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    value = index.astype(np.uint64)
    todo = np.ones(index.shape, bool)
    while todo.any():
        left = value >> half
        right = value & low
        for turn in range(6):
            scrambled = left ^ (mix(*words, turn, right) & low)
            left = right
            right = scrambled
        value = np.where(todo, (left << half) | right, value)
        todo = value >= count
    return value.astype(np.int64)


class Epoch:
    """Which samples an epoch of a source reads: each as often as the weight of its part says.

    An epoch has as many places as it has readings. Those of a part come one after the other, all of
    its samples in their order and then all of them again, so that neighbours stay neighbours
    (`shuffled_in_blocks`) and the readings of one sample lie apart. With weights of 1 a place is an
    index.

    Args:
        source: with `parts` where it was made of several, see `Concat`.
        chosen: indices of the samples to read; all by default.
    """

    def __init__(self, source: Source, chosen: Int[np.ndarray, " m"] | None = None):
        self.chosen = chosen
        whole = len(source) if chosen is None else len(chosen)
        parts = getattr(source, "parts", ())
        counts = np.array([part.count for part in parts], np.int64)
        weights = np.array([part.weight for part in parts], np.int64)
        if (weights == 1).all():  # as one part, in whatever order was chosen
            counts = np.array([whole], np.int64)
            weights = np.ones(1, np.int64)
        elif chosen is not None:
            part_of = np.searchsorted(np.cumsum(counts), chosen, side="right")
            self.chosen = chosen[np.argsort(part_of, kind="stable")]
            counts = np.bincount(part_of, minlength=len(counts))
        self.counts = counts
        self.firsts = np.cumsum(counts) - counts
        self.ends = np.cumsum(counts * weights)
        self.begins = self.ends - counts * weights

    def __len__(self) -> int:
        return int(self.ends[-1])

    def at(self, places: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
        """The indices of the samples that are read at these places, each from 0 to len - 1."""
        part = np.searchsorted(self.ends, places, side="right")
        indices = self.firsts[part] + (places - self.begins[part]) % self.counts[part]
        return indices if self.chosen is None else self.chosen[indices]


WINDOW = 8
"""Blocks that are read at once, see `shuffled_in_blocks`: few enough for a disk to hold their
neighbourhood ready, enough for a batch to be mixed."""


def shuffled_in_blocks(positions: np.ndarray, count: int, *, block: int, key: int) -> np.ndarray:
    """As `shuffled`, for disks that are slow to jump: `block` neighbours stay near one another.

    In each epoch the items, as a ring, are cut into blocks of `block` neighbours, the first at a
    place of that epoch's own, so that the cuts move. The blocks are shuffled, taken `WINDOW` at a
    time, and the items of such a window shuffled. Every epoch gives each item once; nothing is
    stored.

    Args:
        positions: of the endless reading.
        count: how many items there are.
        block: neighbours in a block; with `block * WINDOW >= count` all are in one window.
        key: of this order.
    """
    epoch, place = np.divmod(np.asarray(positions, dtype=np.int64), count)
    offset = (mix(key, 1, epoch) % np.uint64(count)).astype(np.int64)

    # within its window; the epoch's last one may be shorter
    window, inside = np.divmod(place, block * WINDOW)
    last = count // (block * WINDOW)
    for size, chosen in (
        (block * WINDOW, window < last),
        (count - last * block * WINDOW, window == last),
    ):
        if chosen.any():
            words = key, 2, epoch[chosen], window[chosen]
            inside[chosen] = _permuted(inside[chosen], size, *words)

    # the window's blocks; what is left of the ring comes last, and is no whole block
    rank, inside = np.divmod(window * block * WINDOW + inside, block)
    whole = rank < count // block
    if whole.any():
        rank[whole] = _permuted(rank[whole], count // block, key, 3, epoch[whole])
    return (rank * block + inside + offset) % count


def fetch(
    source: Source,
    indices: np.ndarray,
    *,
    height: int,
    width: int,
    crop: np.ndarray | Callable[[np.ndarray], np.ndarray] | None = None,
    kept: dict[int, dict] | None = None,
) -> dict:
    """Samples of a source as one batch at one size.

    Args:
        source: read through `get_batch` where it has a `height` and `width` and they fit, sample by
            sample otherwise.
        indices: which samples.
        crop: (b, 2) in 0..1, where the crop lies along the free room (top to bottom, left to
            right); the centre by default. A function gives it for the samples that were read,
            which are others than `indices` where damaged ones were replaced.
        kept: samples by index that are not read again, to which those that are read are added: for
            a second size of the same images, of a source that reads them alike for each
            (`Source.reads_alike`).

    Returns:
        The keys of a sample, stacked; with `read` (b,), which samples they are, where the source
        says so; with `relative`, the domains of those whose labels are not in metres, where there are
        such.
    """
    own_size = getattr(source, "height", None), getattr(source, "width", None)
    if own_size == (height, width):
        return source.get_batch(indices)
    kept = {} if kept is None else kept
    for i in indices:
        if int(i) not in kept:
            kept[int(i)] = source.sample_for(int(i), height=height, width=width)
    whole = [kept[int(i)] for i in indices]
    read = np.array([s.get("read", i) for s, i in zip(whole, indices, strict=True)], np.int64)
    if callable(crop):
        crop = crop(read)
    if crop is None:
        crop = np.full((len(indices), 2), 0.5)
    samples = [
        resize_and_crop(s, height=height, width=width, position=tuple(c))
        for s, c in zip(whole, crop, strict=True)
    ]
    keys = [k for k in ("image", "disparity", "valid", "semantics") if all(k in s for s in samples)]
    batch = {k: torch.stack([s[k] for s in samples]) for k in keys}
    if any("read" in s for s in samples):
        batch["read"] = torch.from_numpy(read)
    relative = [s["domain"] for s in samples if not in_metres(s)]
    if relative:
        batch["relative"] = relative
    return batch | {"domain": [s["domain"] for s in samples]}


def pool_crop(indices: np.ndarray) -> np.ndarray:
    """The crop of each unlabelled image: fixed by its index, so that its pseudo label shows the
    same pixels."""
    top = uniform(Stream.POOL_CROP_TOP, indices)
    left = uniform(Stream.POOL_CROP_LEFT, indices)
    return np.stack([top, left], 1)


def labelled_crop(seed: int, positions: np.ndarray) -> np.ndarray:
    """The crop of each labelled image: another one each time that it is read."""
    top = uniform(seed, Stream.LABELLED_CROP_TOP, positions)
    left = uniform(seed, Stream.LABELLED_CROP_LEFT, positions)
    return np.stack([top, left], 1)


def check_shares(config: RunConfig, world: int) -> None:
    """Raise `ConfigError` where so many processes, and the `accumulate` parts of each, cannot share
    a run's batches evenly, CutMix pairs unbroken."""
    pair = 2 if config.pairs else 1
    parts = config.accumulate
    for name, size, unit in (
        ("batch", config.labelled_batch, 1),
        ("batch x unlabelled_ratio", config.pool_batch, pair),
    ):
        if size % (world * parts * unit):
            raise ConfigError(
                f"{name}: {size} images cannot be shared evenly by {world} processes"
                + (f" in {parts} parts each (accumulate)" if parts > 1 else "")
                + (" in CutMix pairs" if unit == 2 else "")
            )


class Mixture(torch.utils.data.Dataset):
    """Step to `Batch`.

    Args:
        config: batch size, ratio, seed, size.
        labelled: the labelled source, or None for training on pseudo labels alone.
        unlabelled: the unlabelled source, or None for labelled-only training.
        pool: indices of the unlabelled images to read; all by default.
        pseudo: its pseudo labels, by index (`dalib.training.pseudo.Labels`), or None where a
            teacher labels each batch in training (`pool_flip` tells it which images are mirrored)
            and where an oracle does.
        seen: height and width of the images that this teacher takes; the student's by default.
        rank, world: this process and how many there are; each takes its slice of the global batch.
    """

    def __init__(
        self,
        *,
        config: RunConfig,
        labelled: Source | None,
        unlabelled: Source | None = None,
        pool: np.ndarray | None = None,
        pseudo=None,
        seen: tuple[int, int] | None = None,
        rank: int = 0,
        world: int = 1,
    ):
        self.config = config
        self.labelled = labelled
        self.unlabelled = unlabelled
        self.pool = pool
        self.epochs = {
            order: Epoch(source, chosen)
            for order, source, chosen in (
                (Order.LABELLED, labelled, None),
                (Order.POOL, unlabelled, pool),
            )
            if source is not None
        }
        self.pseudo = pseudo
        own_size = tuple(config.size.values())
        self.seen = None if seen == own_size else seen
        self.rank = rank
        self.world = world
        check_shares(config, world)

    def __len__(self) -> int:
        return self.config.steps

    @property
    def images(self) -> int:
        """Images of a step, over all processes."""
        labelled = 0 if self.labelled is None else self.config.batch
        return labelled + (0 if self.unlabelled is None else self.config.pool_batch)

    def __getitem__(self, step: int) -> Batch:
        batch = {} if self.labelled is None else self._labelled_half(step)
        if self.unlabelled is not None:
            pool = self._unlabelled_half(step)
            batch |= {f"pool_{k}": v for k, v in pool.items()}
        return batch

    def _labelled_half(self, step: int) -> dict[str, Tensor]:
        """Labelled images in shuffled order, each time with another crop; their labels are the
        source's."""
        config = self.config
        positions = self._positions(step, config.batch)
        indices = self._order(positions, Order.LABELLED)
        crop = labelled_crop(config.seed, positions)
        batch = fetch(self.labelled, indices, crop=crop, **config.size)
        if "semantics" in config.labelled_brings:
            _check_classes(batch, where="labelled, task")
        else:
            _check_truth(batch, where="labelled")
        if config.needs_metres and batch.get("relative"):
            raise DataError(f"labelled: {without_metres(batch['relative'])}")
        maps = with_sky({k: batch[k] for k in ("image", *config.labelled_brings)}, config.sky)
        flip = _coin(config.seed, Stream.LABELLED_FLIP, positions)
        return _mirrored(maps, flip) | _whereabouts(indices, positions, batch)

    def _unlabelled_half(self, step: int) -> dict[str, Tensor]:
        """Unlabelled images (of `pool` where there is one) in shuffled order, each always with the
        same crop; their labels are pseudo labels, an oracle's, or still to come."""
        config = self.config
        positions = self._positions(step, config.pool_batch)
        indices = self._order(positions, Order.POOL)
        # the teacher's size is read of the same pictures where that gives the same
        kept = {} if self.seen is not None and self.unlabelled.reads_alike else None
        batch = fetch(self.unlabelled, indices, crop=pool_crop, kept=kept, **config.size)
        maps = {"image": batch["image"]}
        if self.pseudo is not None:
            # an image that takes the place of a damaged one brings its own label and crop
            read = batch["read"].numpy() if "read" in batch else indices
            maps["disparity"] = self.pseudo.get_batch(read)
            maps["valid"] = torch.isfinite(maps["disparity"])
        elif "disparity" in config.pool_brings:
            _check_truth(batch, where="unlabelled, labelling: oracle")
            maps |= with_sky({k: batch[k] for k in ("disparity", "valid")}, config.sky)
        if "semantics" in config.pool_brings:
            _check_classes(batch, where="unlabelled, segmentation_weight", instead="; set it to 0")
            maps["semantics"] = batch["semantics"]
        flip = _coin(config.seed, Stream.POOL_FLIP, positions)
        half = _mirrored(maps, flip) | _whereabouts(indices, positions, batch)
        if self.seen is not None:
            rows, columns = self.seen
            size = {"height": rows, "width": columns}
            seen = fetch(self.unlabelled, indices, crop=pool_crop, kept=kept, **size)
            half["seen"] = seen["image"]
        return half

    def _order(self, positions: np.ndarray, order: Order) -> np.ndarray:
        """Which samples are read at these positions of the endless reading."""
        epoch = self.epochs[order]
        key = order_key(self.config.seed, order)
        block = self.config.shuffle_block
        if block:
            return epoch.at(shuffled_in_blocks(positions, len(epoch), block=block, key=key))
        return epoch.at(shuffled(positions, len(epoch), key=key))

    def _positions(self, step: int, size: int) -> np.ndarray:
        """Which images of an endless reading, `size` a step, are this process's in this step."""
        share = size // self.world
        return step * size + self.rank * share + np.arange(share)


def with_sky(maps: dict[str, Tensor], sky: str) -> dict[str, Tensor]:
    """Ground truth with its sky, valid pixels of disparity 0, as a run learns it.

    Args:
        maps: `disparity` and `valid` (b, h, w), where there are any; the rest stays as it is.
        sky: one of `RunConfig.sky`'s: as it is (zero), not valid (ignore), or at the smallest
            disparity above 0 among the valid pixels of its image, where there is one (farthest).
    """
    if sky == "zero" or "disparity" not in maps:
        return maps
    disparity, valid = maps["disparity"], maps["valid"]
    is_sky = valid & (disparity == 0)
    if sky == "ignore":
        return maps | {"valid": valid & ~is_sky}
    near = valid & (disparity > 0)
    farthest = disparity.masked_fill(~near, torch.inf).amin((1, 2), keepdim=True)  # (b, 1, 1)
    farthest = torch.where(farthest.isfinite(), farthest, 0)
    return maps | {"disparity": torch.where(is_sky, farthest, disparity)}


def _check_truth(batch: dict, *, where: str) -> None:
    if "disparity" not in batch:
        raise DataError(
            f"{where}: no ground truth in {set(batch['domain'])}; photographs alone belong "
            "under unlabelled, and to a teacher"
        )


def _check_classes(batch: dict, *, where: str, instead: str = "") -> None:
    if "semantics" not in batch:
        raise DataError(f"{where}: no classes in {set(batch['domain'])}{instead}")


def _coin(seed: int, stream: Stream, positions: np.ndarray) -> Tensor:
    """True for about half of the images."""
    return torch.from_numpy(uniform(seed, stream, positions) < 0.5)


def _mirrored(maps: dict[str, Tensor], flip: Tensor) -> dict[str, Tensor]:
    """Maps (b, ..., w), mirrored left and right where `flip` (b,) says so, and `flip` itself."""
    result = {}
    for name, batch in maps.items():
        chosen = flip.view(-1, *[1] * (batch.ndim - 1))  # (b, 1, ..., 1)
        result[name] = torch.where(chosen, batch.flip(-1), batch)
    return result | {"flip": flip}


def _whereabouts(
    indices: np.ndarray, positions: np.ndarray, batch: dict[str, Tensor]
) -> dict[str, Tensor]:
    found = {"index": torch.from_numpy(indices), "position": torch.from_numpy(positions)}
    return found | {k: batch[k] for k in ("read",) if k in batch}


def batches(loader: Iterable[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """What a loader gives. A `UserError` of a loader process has its own message again, not that
    process's traceback."""
    try:
        yield from loader
    except UserError as error:
        kind = type(error)
        *_, message = str(error).rpartition(f"{kind.__module__}.{kind.__qualname__}: ")
        raise kind(message.strip()) from None
