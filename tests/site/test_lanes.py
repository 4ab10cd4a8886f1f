"""Work side by side: what may meet and what may not, what a failure stops."""

import threading
import time

import pytest

from dabook.site import lanes


class Work:
    """Keeps what began and what ran beside what; a piece of `meets` waits until its partner runs
    too."""

    def __init__(self, *, fails=(), meets=()):
        self.fails, self.begun, self.beside, self.now, self.lock = (
            fails,
            [],
            set(),
            set(),
            threading.Lock(),
        )
        self.meeting = dict.fromkeys(meets, threading.Barrier(2, timeout=20))

    def __call__(self, name):
        with self.lock:
            self.begun.append(name)
            self.now.add(name)
            self.beside |= {frozenset((name, other)) for other in self.now - {name}}
        if name in self.meeting:
            self.meeting[name].wait()
        if name in self.fails:
            raise ValueError(name)
        time.sleep(0.02)
        with self.lock:
            self.now.remove(name)


def test_two_run_at_once():
    """Each waits for the other: one after the other they would never end."""
    work = Work(meets=("a", "b"))
    lanes.run("abc", work, lambda name: set())
    assert work.beside >= {frozenset("ab")}
    assert sorted(work.begun) == ["a", "b", "c"]


def test_no_more_than_the_lanes():
    work = Work()
    lanes.run("abcdef", work, lambda name: set(), lanes=1)
    assert work.begun == list("abcdef")
    assert not work.beside


def test_what_claims_the_same_runs_one_after_the_other_in_order():
    claims = {"a": {1}, "b": set(), "c": {1, 2}, "d": {2}, "e": set()}
    work = Work()
    lanes.run("abcde", work, claims.__getitem__)
    assert not work.beside & {frozenset("ac"), frozenset("cd")}
    assert [n for n in work.begun if n in "acd"] == ["a", "c", "d"], (
        "d claims nothing of a's, but c stands before it"
    )


def test_claims_shrink_as_others_finish():
    """b and c want what a makes; once it is there, they run side by side."""
    work = Work(meets=("b", "c"))
    made = set()

    def do(name):
        work(name)
        made.update({"a": {1, 2}}.get(name, ()))

    wanted = {"a": {1, 2}, "b": {1, 3}, "c": {1, 4}}
    lanes.run("abc", do, lambda name: wanted[name] - made)
    assert work.begun[0] == "a"
    assert work.beside == {frozenset("bc")}


def test_those_with_claims_go_first():
    work = Work()
    lanes.run("abc", work, lambda name: {"c": {1}}.get(name, set()), lanes=1)
    assert work.begun == ["c", "a", "b"]


@pytest.mark.parametrize("broken", ["a", "b"])
def test_a_failure_lets_the_other_lane_finish_and_begins_nothing_new(broken):
    work = Work(fails=(broken,), meets=("a", "b"))
    with pytest.raises(ValueError, match=broken):
        lanes.run("abcd", work, lambda name: set())
    assert sorted(work.begun) == ["a", "b"]
    assert work.now == {broken}, "the other went on to its end"
