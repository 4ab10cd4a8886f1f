"""Running a function against the test vectors, and naming what is wrong with it."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from dalib.conformance import files
from dalib.conformance import reference as ref
from dalib.conformance.call import Answer, call, names
from dalib.conformance.catalogue import BEHAVIOUR, KINDS, SCORES, SOLVED, Kind, merged, reductions
from dalib.conformance.files import Vector
from dalib.conformance.laws import LAWS, Law, judge
from dalib.conformance.report import Finding, Report
from dalib.errors import ConfigError, Stopped
from dalib.functions import CallError, find, ready, told

TOLERANCE = {"double": 1e-9, "single": 1e-5}
"""Of values, relative to the larger of 1 and what is expected; ten times as much of gradients,
relative to the largest of an image."""
GRADIENT = ("int_zero", "no_gradient", "nan_gradient")
"""Behaviour of losses alone."""
LOOSE = 1e-5
"""What "precision" means: right to this, and not to the tolerance."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One call: of a vector, in one precision. Either there is an answer, or it raised."""

    vector: Vector
    dtype: str
    answer: Answer | None = None
    raised: Exception | None = None


def kinds() -> tuple[str, ...]:
    """What can be checked."""
    return (*KINDS, *SCORES, *LAWS)


def kind_of(name: str, metric: str | None = None) -> Kind:
    """A kind by its name, and by the name of the metric where it is one.

    Raises `ConfigError` for an unknown one, with those that there are.
    """
    if name not in kinds():
        raise ConfigError(f"unknown kind {name!r}; there are {', '.join(kinds())}")
    if name in LAWS:
        raise ConfigError(f"{name} has no vectors: it is held against a law")
    if name not in SCORES:
        if metric is not None:
            raise ConfigError(f"metric: {metric!r} says nothing to the kind {name!r}")
        return KINDS[name]
    if metric not in ref.METRICS:
        raise ConfigError(f"metric: {metric!r} is none of {', '.join(ref.METRICS)}")
    return SCORES[name](metric)


def check(
    function: Callable | str,
    kind: str,
    *,
    metric: str | None = None,
    names: Mapping[str, str] | None = None,
    numpy: bool = False,
    skip: Iterable[str] = (),
    tolerance: float | None = None,
    dtypes: Sequence[str] = ("float64", "float32"),
    device: str = "cpu",
) -> Report:
    """Whether somebody's function computes what the paper says, and if not, what is wrong with it.

        report = check(my_loss, kind="affine_invariant")
        assert report, report

    Args:
        function: called by keyword with the arguments of its kind; or "module:function", or
            "path/to/file.py:function".
        kind: of `kinds`.
        metric: which, of the kind "metric". None is for functions that return a dict: every metric
            in it that is known is checked.
        names: argument of the kind -> what the function calls it.
        numpy: it takes NumPy arrays. Gradients are then not asked for.
        skip: vectors to leave out.
        tolerance: relative, of values; 1e-9 by default, and at least 1e-5 where maps are given in
            float32, or results have no more digits than that.
        dtypes: in which maps are given, the decisive one first.
        device: where tensors lie.

    Raises:
        ConfigError: a kind, metric or vector that is not known.
        CallError: the function cannot be called like its kind, raises on an ordinary vector, or
            returns what is no answer.
    """
    if kind not in kinds():
        raise ConfigError(f"unknown kind {kind!r}; there are {', '.join(kinds())}")
    _check_device(device)
    subject = function if isinstance(function, str) else _name(function)
    file = None
    if isinstance(function, str):
        named = find(function)
        called, file = named.function, named.file
    else:
        called = ready(function)
    if kind in LAWS:
        _no_options(kind, metric, names, skip, tolerance)
        return Report.joined(subject, kind, [judge(called, LAWS[kind])])
    options = {
        "numpy": numpy,
        "names": names,
        "skip": tuple(skip),
        "tolerance": tolerance,
        "dtypes": tuple(dtypes),
        "device": device,
        "file": file,
    }
    _check_options(kind, metric, options)
    if kind in SCORES and metric is None:
        reports = [
            _check(called, SCORES[kind](name), files.read(kind, name), metric=name, **options)
            for name in _metrics(called, kind, options)
        ]
        return Report.joined(subject, kind, reports)
    found = kind_of(kind, metric)
    vectors = files.read(kind, metric)
    return Report.joined(subject, kind, [_check(called, found, vectors, metric=metric, **options)])


def described(kind: str, metric: str | None = None) -> str:
    """How a function of a kind is called, what it is tried on, and which faults are known: text."""
    if kind in LAWS:
        return _law_described(kind, LAWS[kind])
    found = kind_of(kind, metric or (ref.METRICS[0] if kind in SCORES else None))
    of = f" ({metric or 'one of ' + ', '.join(ref.METRICS)})" if kind in SCORES else ""
    lines = [
        f"{kind}{of}: {found.about if metric or not of else 'depth metrics'}",
        "",
        "called by keyword with",
    ]
    for name, words in found.arguments.items():
        may = f"; may be missing: {found.optional[name]}" if name in found.optional else ""
        lines.append(f"  {name:14}{words}{may}")
    lines += ["returns", f"  {found.returns}"]
    if found.open:
        lines.append("left open by the paper; any of these conforms, if it is the same everywhere")
        lines += [f"  {option:14}{'; '.join(c)}" for option, c in found.open.items()]
    lines += ["", "vectors"]
    vectors = files.read(kind, metric or (ref.METRICS[0] if kind in SCORES else None))
    lines += [f"  {v.name:18}{v.about}" for v in vectors]
    lines += ["", f"known faults{' of ' + ref.METRICS[0] if of and not metric else ''}"]
    faults = dict(found.faults) | {
        n: f for n, f in BEHAVIOUR.items() if found.gradient or n not in GRADIENT
    }
    width = max(map(len, faults)) + 2
    return "\n".join(lines + [f"  {n:{width}}{f.words}" for n, f in faults.items()])


def _law_described(name: str, law: Law) -> str:
    width = max(map(len, (*law.faults, *law.arguments))) + 2
    return "\n".join(
        [
            f"{name}: {law.about}",
            "",
            "called by keyword with",
            *(f"  {n:{width}}{words}" for n, words in law.arguments.items()),
            "returns",
            f"  {law.returns}",
            "",
            "known faults",
            *(f"  {n:{width}}{fault.words}" for n, fault in law.faults.items()),
        ]
    )


def _name(function: object) -> str:
    own = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '?')}:{own}"


def _check_options(kind: str, metric: str | None, options: Mapping) -> None:
    if kind not in SCORES or metric is not None:
        kind_of(kind, metric)
    known = [v.name for v in files.read(kind, ref.METRICS[0] if kind in SCORES else None)]
    unknown = [name for name in options["skip"] if name not in known]
    if unknown:
        raise ConfigError(f"skip: no vector {', '.join(unknown)}; this kind has {', '.join(known)}")
    if len(set(options["skip"])) == len(known):
        raise ConfigError("skip: nothing is left to check")
    tolerance = options["tolerance"]
    if tolerance is not None and not 0 < tolerance < 1:
        raise ConfigError(f"tolerance: {tolerance} must lie between 0 and 1")
    wrong = set(options["dtypes"]) - {"float64", "float32"}
    if wrong or not options["dtypes"]:
        raise ConfigError(f"dtypes: {options['dtypes']} must be of float64 and float32")


def _no_options(kind: str, *given: object) -> None:
    if any(given):
        raise ConfigError(f"{kind} takes no metric, names, skip or tolerance")


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device: {device!r} cannot be used: {error}") from None


def _metrics(function: Callable, name: str, options: Mapping) -> list[str]:
    """The known names in the dict that a function returns."""
    kind = SCORES[name](ref.METRICS[0])
    called = names(function, kind, options["names"])
    vector = files.read(name, ref.METRICS[0])[0]
    seen: list[str] = []

    def spy(**given: object) -> object:
        result = function(**given)
        if not isinstance(result, Mapping):
            raise CallError(
                f"{type(result).__name__} came back: say which metric it is "
                f"(--metric, of {', '.join(ref.METRICS)})"
            )
        seen.extend(map(str, result))
        return np.zeros(len(vector.inputs["pred"]))

    _call(spy, vector, called, kind, options["dtypes"][0], options, None)
    known = [name for name in ref.METRICS if name in seen]
    if not known:
        raise CallError(
            f"the dict that came back has {', '.join(seen) or 'nothing'}, and none of "
            f"{', '.join(ref.METRICS)}"
        )
    return known


def _call(
    function: Callable,
    vector: Vector,
    called: Mapping[str, str],
    kind: Kind,
    dtype: str,
    options: Mapping,
    metric: str | None,
) -> Answer:
    """`call`, with an exception of the function itself told as a `CallError`."""
    try:
        return call(
            function,
            vector.inputs,
            called,
            kind,
            numpy=options["numpy"],
            dtype=dtype,
            device=options["device"],
            with_gradient=True,
            metric=metric,
        )
    except Stopped:  # this process is asked to end; the function is not to blame
        raise
    except CallError as error:
        raise CallError(f"vector {vector.name}: {error}") from None
    except (Exception, SystemExit) as error:
        raise CallError(
            f"the function raises {told(error, file=options['file'])}, on the vector {vector.name} "
            f"({vector.about}), given {dtype}"
        ) from error


# trying ------------------------------------------------------------------------------------------


def _check(
    function: Callable,
    kind: Kind,
    vectors: Sequence[Vector],
    *,
    metric: str | None,
    **options: object,
) -> Report:
    """One kind, or one metric."""
    called = names(function, kind, options["names"])
    left_out = {
        v.name: why for v in vectors if (why := _left_out(v, called, kind, options["skip"]))
    }
    used = [v for v in vectors if v.name not in left_out]
    if not used:
        raise CallError(f"no vector is left to check: {left_out}")
    notes = []
    dtypes = list(options["dtypes"])
    try:
        first = _call(function, used[0], called, kind, dtypes[0], options, metric)
    except CallError as error:
        if len(dtypes) == 1 or "raises" not in str(error):
            raise
        first = _call(function, used[0], called, kind, dtypes[1], options, metric)
        notes.append(
            f"{dtypes[0]} is refused ({told(error.__cause__ or error)}): {dtypes[1]} alone"
        )
        dtypes = dtypes[1:]
    again = _call(function, used[0], called, kind, dtypes[0], options, metric)
    trials = [
        _try(function, v, called, kind, dtype, options, metric) for dtype in dtypes for v in used
    ]
    judge = Judge(kind, trials, metric=metric or "", tolerance=options["tolerance"])
    findings = list(judge.findings())
    if not np.array_equal(first.values, again.values, equal_nan=True):
        findings.append(_behaviour("not_deterministic", trials[0]))
    if not judge.open_failures and len(kind.conventions()) > 1:
        notes.append(f"of what the paper leaves open, it has: {judge.convention}")
    if not kind.gradient or options["numpy"]:
        notes += ["gradients are not checked of NumPy functions"] if kind.gradient else []
    notes += judge.notes
    return Report(
        findings=findings,
        passed=[v.name for v in used if v.name not in judge.failed],
        failed=list(judge.failed),
        left_out=left_out,
        notes=notes,
        metric=metric or "",
    )


def _left_out(
    vector: Vector, called: Mapping[str, str], kind: Kind, skip: Sequence[str]
) -> str | None:
    if vector.name in skip:
        return "as asked"
    if "valid" in kind.optional and "valid" not in called and not vector.inputs["valid"].all():
        return "the function takes no valid"
    if "margin" in kind.optional and "margin" not in called and vector.inputs["margin"] != 0.85:
        return "the function takes no margin"
    cap = vector.inputs.get("max_depth", 80)
    if "max_depth" in kind.optional and "max_depth" not in called and cap != 80:
        return "the function takes no max_depth"
    return None


def _try(
    function: Callable,
    vector: Vector,
    called: Mapping[str, str],
    kind: Kind,
    dtype: str,
    options: Mapping,
    metric: str | None,
) -> Trial:
    try:
        answer = _call(function, vector, called, kind, dtype, options, metric)
    except CallError as error:
        if error.__cause__ is None:
            raise
        return Trial(vector=vector, dtype=dtype, raised=error.__cause__)
    return Trial(vector=vector, dtype=dtype, answer=answer)


def _behaviour(name: str, trial: Trial, **more: object) -> Finding:
    fault = BEHAVIOUR.get(name) or SOLVED[name]
    return Finding.of(name, fault, vector=trial.vector, dtype=trial.dtype, **more)


# judging -----------------------------------------------------------------------------------------


_TWINS: dict[tuple, Array] = {}
"""What faulty twins give, computed once: kind, vector, options -> values."""


class Judge:
    """What many trials say.

    Args:
        kind: of the function.
        trials: all of them, those of the decisive precision first.
        metric: its name, of a metric.
        tolerance: instead of `TOLERANCE`.
    """

    def __init__(
        self, kind: Kind, trials: Sequence[Trial], *, metric: str, tolerance: float | None
    ):
        self.kind, self.trials, self.metric = kind, trials, metric
        self.notes: list[str] = []
        self.single = {
            dtype: all(t.answer.single for t in trials if t.dtype == dtype and t.answer)
            for dtype in {t.dtype for t in trials}
        }
        self.asked = tolerance
        self.decisive = [t for t in trials if t.dtype == trials[0].dtype]
        self.conventions = kind.conventions()
        failures = {c: [t for t in trials if self._wrong(t, c)] for c in self.conventions}
        self.convention = min(failures, key=lambda c: len(failures[c]))
        self.open_failures = failures[self.convention]
        self.failed = dict.fromkeys(t.vector.name for t in self.open_failures)

    def tolerance(self, trial: Trial) -> float:
        """Of a trial's values."""
        own = self.asked or TOLERANCE["double"]
        if self.single[trial.dtype] or trial.dtype == "float32":
            own = max(own, TOLERANCE["single"])
        return own * trial.vector.tolerance

    # one trial

    def _wrong(self, trial: Trial, convention: str) -> str:
        """Why a trial fails under a convention, or nothing."""
        if trial.answer is None:
            return "" if self._may_raise(trial) else "raised"
        if not self._agrees(trial, trial.vector.expected[convention]):
            return "value"
        if trial.answer.wrote:
            return "wrote"
        if not self.kind.gradient or not (trial.answer.attached or trial.answer.plain):
            return "" if trial.answer.attached else "detached"
        if trial.answer.plain:
            return "detached"
        if trial.answer.gradient is None:
            return ""
        if not np.isfinite(trial.answer.gradient).all():
            return "nan_gradient"
        slopes = trial.vector.gradient
        slope = slopes.get(convention, slopes.get(""))
        return "" if slope is None or self._slope_agrees(trial, slope) else "gradient"

    def _may_raise(self, trial: Trial) -> bool:
        """Without a valid pixel an evaluation may refuse in words."""
        is_empty = "empty" in trial.vector.tags
        return is_empty and not self.kind.gradient and isinstance(trial.raised, ValueError)

    def _agrees(
        self, trial: Trial, values: Array, *, reduction: str = "", options: Mapping | None = None
    ) -> bool:
        tolerance = self.tolerance(trial)
        if options is not None:  # a twin need not be computed as carefully as what is right
            tolerance *= 1000 if "offset" in trial.vector.tags else 10
        got = trial.answer.values
        if self.kind.values_form == "pair":
            return any(
                _near(*_maps(trial, one), tolerance)
                for one in _fitted(trial.vector.inputs, values, trial.answer.kind, options or {})
            )
        if trial.answer.kind == "number":
            choices = reductions(
                values, self.kind.counts(trial.vector.inputs), how=reduction, name=self.metric
            )
            return any(_near(got, np.array(one), tolerance) for one in choices)
        return not reduction and _near(got, values, tolerance)

    def _slope_agrees(self, trial: Trial, slope: Array) -> bool:
        tolerance = 10 * self.tolerance(trial)
        got = trial.answer.gradient
        shares = [1.0]
        if trial.answer.kind == "number":
            shares = [1 / len(got), 1 / max((self.kind.counts(trial.vector.inputs) > 0).sum(), 1)]
        size = abs(slope).reshape(len(slope), -1).max(1).reshape(-1, *[1] * (slope.ndim - 1))
        return any((abs(got - s * slope) <= s * tolerance * size + 1e-300).all() for s in shares)

    # all trials

    def findings(self) -> Iterator[Finding]:
        """What is wrong, named."""
        if not self.open_failures:
            self._accepted()
            return
        why = [(t, self._wrong(t, self.convention)) for t in self.open_failures]
        by = {reason: [t for t, r in why if r == reason] for _, reason in why}
        values = [t for t in by.get("value", ()) if t.dtype == self.trials[0].dtype]
        other = [t for t in by.get("value", ()) if t.dtype != self.trials[0].dtype]
        if values:
            yield from self._explain(values)
        elif other:
            yield from self._float32(other)
        if "wrote" in by:
            yield _behaviour("writes_input", by["wrote"][0])
        if "raised" in by:
            first = by["raised"][0]
            told = f"{type(first.raised).__name__}: {first.raised}"
            yield _behaviour("raises", first, got=told)
        if "detached" in by:
            detached = {t.vector.name for t in by["detached"]}
            everywhere = len(detached) == len({t.vector.name for t in self.trials})
            name = "no_gradient" if everywhere else "int_zero"
            yield _behaviour(name, by["detached"][0], got=by["detached"][0].answer.values)
        if "nan_gradient" in by:
            yield _behaviour("nan_gradient", by["nan_gradient"][0])
        if "gradient" in by and not values:
            yield self._explain_gradient(by["gradient"])

    def _accepted(self) -> None:
        raised = [t for t in self.trials if t.answer is None]
        if raised:
            self.notes.append(
                f"it refuses a batch with an image without valid pixels "
                f"({type(raised[0].raised).__name__}), which is accepted"
            )

    def _explain(self, wrong: Sequence[Trial]) -> Iterator[Finding]:
        # 1: one fault, or two, that give exactly what came back
        order = sorted(self.decisive, key=lambda t: t not in wrong)
        for count in (1, 2):
            found = list(self._explaining(order, count))
            if found:
                yield self._named(found, wrong)
                return

        # 2: digits
        if all(_close(self, t, LOOSE) for t in wrong):
            yield _behaviour("precision", wrong[0], **self._numbers(wrong[0]))
            return
        if all("cancels" in t.vector.tags for t in wrong) and self.kind.values_form == "pair":
            yield _behaviour("unguarded", wrong[0], **self._numbers(wrong[0]))
            return

        # 3: a factor
        factor = self._factor()
        if factor is not None:
            yield Finding(
                name="factor",
                words=f"every result is {factor:.6g} times what is expected",
                mend="look for a weight, a unit, or a mean over too many or too few",
                vector=wrong[0].vector.name,
                about=wrong[0].vector.about,
                dtype=wrong[0].dtype,
                **self._numbers(wrong[0]),
            )
            return

        # 4: nothing that is known
        closest, explained = self._closest(wrong)
        hint = _common([t.vector for t in wrong], [t.vector for t in self.decisive])
        if closest and explained > len(wrong) / 2:
            words = self.kind.faults[closest].words
            hint += f"; nearest comes {closest} ({words}), with {explained} of {len(wrong)}"
        yield Finding(
            name="unexplained",
            words=f"no known fault, nor two of them, explains what came back; {hint}",
            mend="compare the intermediate values of this vector by hand",
            vector=wrong[0].vector.name,
            about=wrong[0].vector.about,
            dtype=wrong[0].dtype,
            **self._numbers(wrong[0]),
        )

    def _factor(self) -> float | None:
        """By which every decisive result differs, if there is one."""
        answered = [t for t in self.decisive if t.answer is not None]
        if self.kind.values_form == "pair" or not answered:
            return None
        got = np.concatenate([np.ravel(t.answer.values) for t in answered])
        wanted = np.concatenate([np.ravel(self._wanted(t)) for t in answered])
        finite = np.isfinite(wanted)
        got, wanted = got[finite], wanted[finite]
        if not np.isfinite(got).all() or not wanted.any():
            return None
        factor = float((got * wanted).sum() / (wanted**2).sum())
        near = abs(got - factor * wanted) <= 1e-5 * np.maximum(1, abs(factor * wanted))
        return factor if factor and near.all() else None

    def _numbers(self, trial: Trial) -> dict:
        return {"got": trial.answer.values, "expected": self._wanted(trial)}

    def _wanted(self, trial: Trial) -> Array:
        values = trial.vector.expected[self.convention]
        if trial.answer.kind == "number":
            return np.array(reductions(values, self.kind.counts(trial.vector.inputs))[0])
        if trial.answer.kind == "map":
            return ref.aligned(trial.vector.inputs["pred"], *values)
        return values

    def _float32(self, wrong: Sequence[Trial]) -> Iterator[Finding]:
        name = "unguarded" if self.kind.values_form == "pair" else "cancels"
        yield _behaviour(name, wrong[0], **self._numbers(wrong[0]))

    def _hypotheses(self, count: int) -> Iterator[tuple[tuple[str, ...], dict, str]]:
        """Faults, their options, and their reduction."""
        single = [
            (name, dict(change), fault.reduction)
            for name, fault in self.kind.faults.items()
            for change in fault.changes or (({},) if fault.reduction else ())
            if set(change) != {"detach"}
        ]
        if count == 1:
            yield from (((name,), change, how) for name, change, how in single)
            return
        for (a, one, how), (b, two, other) in itertools.combinations(single, 2):
            if a != b and not (how and other) and not one.keys() & two.keys():
                yield (a, b), one | two, how or other

    def _explaining(
        self, order: Sequence[Trial], count: int
    ) -> Iterator[tuple[tuple[str, ...], dict, str]]:
        """Hypotheses that give what came back in every trial."""
        answered = [t for t in order if t.answer is not None]
        for faults, change, how in self._hypotheses(count):
            # of two faults at once, under the convention that fits best alone
            own = self.conventions if count == 1 else {"": self.conventions[self.convention]}
            for chosen in own.values():
                options = merged(chosen, change)
                if all(self._matches(t, options, how) for t in answered):
                    yield faults, options, how
                    break

    def _matches(self, trial: Trial, options: Mapping, how: str) -> bool:
        key = (self.kind.about, trial.vector.name, repr(sorted(options.items())))
        if key not in _TWINS:
            _TWINS[key] = np.real(self.kind.values(trial.vector.inputs, options))
        values = _TWINS[key]
        return self._agrees(trial, values, reduction=how, options=options)

    def _named(self, found: list, wrong: Sequence[Trial]) -> Finding:
        faults, _, _ = found[0]
        kinds_ = [self.kind.faults[name] for name in faults]
        others = [" and ".join(other) for other, _, _ in found[1:] if other != faults]
        # the vector on which fewest other faults give the same is the plainest
        return Finding(
            name=" and ".join(faults),
            words="; and ".join(f.words for f in kinds_),
            mend="; ".join(f.mend for f in kinds_),
            seen=", ".join(filter(None, (f.seen for f in kinds_))),
            vector=wrong[0].vector.name,
            about=wrong[0].vector.about,
            dtype=wrong[0].dtype,
            alike=list(dict.fromkeys(others))[:5],
            **self._numbers(wrong[0]),
        )

    def _closest(self, wrong: Sequence[Trial]) -> tuple[str, int]:
        """The fault that explains most of the failing trials, and how many."""
        best, most = "", 0
        for (name,), change, how in self._hypotheses(1):
            for chosen in self.conventions.values():
                count = sum(self._matches(t, merged(chosen, change), how) for t in wrong)
                if count > most:
                    best, most = name, count
        return best, most

    def _explain_gradient(self, wrong: Sequence[Trial]) -> Finding:
        inputs = self.kind.gradient
        chosen = self.conventions[self.convention]
        for name, fault in self.kind.faults.items():
            for change in fault.changes:
                if "detach" in change and all(
                    self._slope_agrees(
                        t,
                        ref.gradient(
                            lambda x, t=t, o=change: self.kind.values(
                                t.vector.inputs | {inputs: x}, chosen | o
                            ),
                            t.vector.inputs[inputs],
                        ),
                    )
                    for t in wrong
                ):
                    return Finding.of(name, fault, vector=wrong[0].vector, dtype=wrong[0].dtype)
        slope = wrong[0].vector.gradient
        return Finding(
            name="gradient",
            words="the value is right and its gradient is not; "
            + _common(
                [t.vector for t in wrong], [t.vector for t in self.decisive if t.vector.gradient]
            ),
            mend="look for parts that are detached, or computed without gradient",
            vector=wrong[0].vector.name,
            about=wrong[0].vector.about,
            dtype=wrong[0].dtype,
            got=wrong[0].answer.gradient[0].ravel()[:6],
            expected=slope.get(self.convention, slope.get(""))[0].ravel()[:6],
        )


def _near(got: Array, wanted: Array, tolerance: float) -> bool:
    """To a relative tolerance of the larger of 1 and what is wanted; where no number is wanted, none
    may come."""
    finite = np.isfinite(wanted)
    if not np.array_equal(np.isfinite(got), finite):
        return False
    got, wanted = got[finite], wanted[finite]
    return bool((abs(got - wanted) <= tolerance * np.maximum(1, abs(wanted))).all())


def _fitted(inputs: Mapping, pair: Array, form: str, options: Mapping) -> list[Array]:
    """The maps that a scale and a shift may mean. Of a fit in another space, also what comes of it
    there."""
    pred = inputs["pred"]
    found = [ref.aligned(pred, *pair)]
    if form == "map":
        with np.errstate(all="ignore"):
            if options.get("space") == "depth":
                found.append(1 / found[0])
            if options.get("space") == "both_depth":
                found = [ref.aligned(1 / pred, *pair)]
                found.append(1 / found[0])
            if options.get("space") == "log":
                found = [np.exp(ref.aligned(np.log(pred), *pair))]
    return found


def _maps(trial: Trial, wanted: Array) -> tuple[Array, Array]:
    """What came back and what is wanted, at valid pixels of images that have a defined value;
    relative to the largest of each image."""
    inputs = trial.vector.inputs
    got = trial.answer.values
    if trial.answer.kind == "pair":
        got = ref.aligned(inputs["pred"], *got)
    used = inputs["valid"].copy()
    used[list(trial.vector.undefined)] = False
    with np.errstate(all="ignore"):
        size = np.nanmax(
            np.where(used & np.isfinite(wanted), abs(wanted), 0), (1, 2), keepdims=True
        )
    size = np.maximum(size, 1)
    return (got / size)[used], (wanted / size)[used]


def _close(judge: Judge, trial: Trial, tolerance: float) -> bool:
    values = trial.vector.expected[judge.convention]
    loose = Judge.__new__(Judge)
    loose.__dict__ |= judge.__dict__ | {"asked": tolerance}
    return loose._agrees(trial, values)


def _common(wrong: Sequence[Vector], tried: Sequence[Vector]) -> str:
    """What the vectors that fail have in common."""
    failing = {v.name for v in wrong}
    passing = [v for v in tried if v.name not in failing]
    if not passing:
        return "every vector fails"
    shared = set.intersection(*(set(v.tags) for v in wrong))
    only = sorted(t for t in shared if not any(t in v.tags for v in passing))
    told = ", ".join(sorted(failing))
    if only:
        return f"those fail that have: {', '.join(only)} ({told})"
    if shared:
        return f"all that fail have: {', '.join(sorted(shared))} ({told})"
    return f"failing: {told}"
