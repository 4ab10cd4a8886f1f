"""Two results beside each other: paired differences over the images that both have, and a refusal
where a difference would mean nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dalib.errors import ConfigError
from dalib.evaluation.intervals import Estimate, differences
from dalib.evaluation.set_results import Rules, SetResult, higher_is_better, summed_alike
from dalib.evaluation.tables import blocks, label, many, signed

LEAST = 6
"""Units from which on a difference may be called one. With fewer, all of them may lie on one side
by chance more often than once in twenty: 2 / 2^5 is 0.06."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Differences on one data set.

    Attributes:
        differences: metric -> mean of this minus the other over the images that both have.
        images: how many both have scored.
        only: images that only one of the two has scored.
        over: what intervals are over.
    """

    differences: dict[str, Estimate]
    images: int
    only: int
    over: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two results beside each other.

    Attributes:
        this, other: what was evaluated.
        other_maps: the hash of the other's maps.
        sets: data set -> differences.
        left_out: data sets that only one of the two has.
        other_code: the library's version and hash that the other was made by; "" for the same.
    """

    this: str
    other: str
    other_maps: str
    sets: dict[str, Paired]
    left_out: tuple[str, ...] = ()
    other_code: str = ""

    def summary(self) -> dict[str, Any]:
        """For JSON: data set -> metric -> the mean difference with its interval."""
        return {
            "this": self.this,
            "other": self.other,
            "other_maps": self.other_maps,
            "left_out": list(self.left_out),
            "other_code": self.other_code,
            "datasets": {name: plain(each.differences) for name, each in self.sets.items()},
        }

    def __str__(self) -> str:
        lines = [f"differences: {self.this} minus {self.other}, on the same images"]
        for name, each in self.sets.items():
            alone = f"; {each.only} that only one of the two has are left out" if each.only else ""
            lines.append(f"{name}: {many(each.images, 'image')}{alone}; intervals over {each.over}")
            for metric in [m for block in blocks(each.differences) for m in block]:
                found = each.differences[metric]
                lines.append(f"  {label(metric):<14}{signed(found)}  {_verdict(metric, found)}")
        if self.left_out:
            lines.append(f"not compared, for only one has them: {', '.join(self.left_out)}")
        if self.other_code:
            lines.append(
                f"note: the other was made by other code of this library ({self.other_code}), which "
                "may change a number, too"
            )
        return "\n".join(lines)


def paired(this: SetResult, other: SetResult) -> Paired:
    refuse_unlike(this.name, this.rules, other.rules)
    places = {image: place for place, image in enumerate(other.images)}
    both = [(k, places[image]) for k, image in enumerate(this.images) if image in places]
    if not both:
        raise ConfigError(f"--against: {this.name}: the two results share no image")
    changed = [this.images[k] for k, j in both if this.truths[k] != other.truths[j]]
    if changed:
        raise ConfigError(
            f"--against: {this.name}: {len(changed)} images have another ground truth there, such "
            f"as {changed[0]}; evaluate both on the same data"
        )
    here, there = (list(places) for places in zip(*both, strict=True))
    sequences = [this.sequences[k] for k in here]
    mine, theirs = _taken(this.values, here), _taken(other.values, there)
    beside = _taken(this.fitted, here), _taken(other.fitted, there)
    found = {}
    for names, mean, weights in summed_alike(this.mean, mine, beside[0]):
        found |= differences(
            {name: mine[name] for name in names},
            theirs,
            sequences,
            mean=mean,
            beside=(weights, {**beside[1], **weights} if mean == "pixels" else weights),
        )
    return Paired(
        differences=found,
        images=sum(this.counts[k] > 0 for k in here),
        only=len(this.images) + len(other.images) - 2 * len(both),
        over="sequences" if this.in_sequences else "images",
    )


def refuse_unlike(name: str, mine: Rules, theirs: Rules) -> None:
    """A `ConfigError` where a data set is measured by other rules here than there."""
    for what, here, there in (
        ("alignment", mine.alignment, theirs.alignment),
        ("protocol", f"{mine.protocol} ({mine.hash})", f"{theirs.protocol} ({theirs.hash})"),
        ("fit per", mine.per, theirs.per),
    ):
        if here != there:
            raise ConfigError(
                f"--against: {name}: another {what}, {here} here and {there} there; numbers by "
                "different rules have no difference"
            )


def shared_sets(mine: Iterable[str], theirs: Iterable[str]) -> list[str]:
    """The data sets that two results have in common; a `ConfigError` where there is none."""
    mine, theirs = list(mine), list(theirs)
    found = [name for name in mine if name in theirs]
    if not found:
        raise ConfigError(
            "--against: the two results share no data set: "
            f"{', '.join(mine)} here, {', '.join(theirs)} there"
        )
    return found


def _taken(columns: Mapping[str, Sequence[float]], places: Sequence[int]) -> dict[str, list[float]]:
    return {name: [column[k] for k in places] for name, column in columns.items()}


def _verdict(metric: str, found: Estimate) -> str:
    """Which of the two is better, where the interval says so."""
    if found.units < LEAST:
        return "too few to say"
    if not found.leaves_out(0):
        return "unclear" if found.low < found.high else "the same"
    better = (found.mean > 0) == higher_is_better(metric)
    return "better" if better else "worse"


def plain(found: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    return {metric: asdict(estimate) for metric, estimate in found.items()}
