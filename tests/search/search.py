"""Breadth-first through all that can happen: a story of what goes wrong is a shortest one."""

from array import array
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

from hitcounter.exactly_once import increments
from tests.search.model import ONE_SITE, Rules, World, Wrong, beginning, check, is_quiet


@dataclass(frozen=True, slots=True)
class Found:
    """What a search went through, and the first thing that is wrong, with the steps to it."""

    n_states: int
    wrong: str = ""
    story: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Tell the story."""
        steps = [f"{n:3}  {step}" for n, step in enumerate(self.story, 1)]
        return "\n".join([f"{self.wrong or 'all is well'} ({self.n_states:,} states)", *steps])


def search(
    n_writers: int,
    n_hits: int,
    n_faults: int,
    rules: Rules | None = None,
    seen: Callable[[int], object] = bool,
    *,
    has_others: bool = False,
) -> Found:
    """Go through every state that some writers, hits for each of them, and faults lead to.

    `seen` hears of every new state. With `has_others`, robots and a correction come too.
    """
    first = beginning(n_writers, n_hits, n_faults, has_others=has_others)
    with _one_site_per_record():
        return _Search(rules or Rules(), seen).run(first)


@contextmanager
def _one_site_per_record() -> Iterator[None]:
    with mock.patch.object(increments, "CUT", ONE_SITE):
        yield


class _Search:
    def __init__(self, rules: Rules, seen: Callable[[int], object]) -> None:
        self._rules = rules
        self._seen = seen
        self._ids: dict[int, int] = {}  # by the hash of a state: the states themselves are large
        self._parents = array("l")
        self._edges: list[array[int]] = []
        self._quiet: list[int] = []

    def run(self, first: World) -> Found:
        self._add(first, -1)
        ahead = deque([first])
        while ahead:
            world = ahead.popleft()
            here, step = len(self._edges), ""
            self._edges.append(array("l"))
            try:
                for step, after in self._rules.steps(world):  # noqa: B007 -- the last one is told
                    known = self._ids.get(hash(after))
                    if known is None:
                        known = self._add(after, here)
                        check(after)
                        ahead.append(after)
                    self._edges[here].append(known)
            except (Wrong, AssertionError) as wrong:
                return self._found(first, here, f"{wrong or 'the code itself objects'}", step)
        return self._stuck(first) or Found(len(self._ids))

    def _add(self, world: World, parent: int) -> int:
        number = self._ids[hash(world)] = len(self._ids)
        self._parents.append(parent)
        self._seen(1)
        if is_quiet(world):
            self._quiet.append(number)
        return number

    def _found(self, first: World, at: int, wrong: str, last: str) -> Found:
        return Found(len(self._ids), wrong, (*self._story(first, at), last))

    def _story(self, world: World, at: int) -> Iterator[str]:
        """Walk again to a state, and tell the steps."""
        way = [at]
        while self._parents[way[-1]] >= 0:
            way.append(self._parents[way[-1]])
        for number in reversed(way[:-1]):
            name, world = next(
                step for step in self._rules.steps(world) if self._ids[hash(step[1])] == number
            )
            yield name

    def _stuck(self, first: World) -> Found | None:
        """Find a state from which no quiet one can be reached."""
        before: list[list[int]] = [[] for _ in self._edges]
        for number, following in enumerate(self._edges):
            for each in following:
                before[each].append(number)
        reached, ahead = set(self._quiet), list(self._quiet)
        while ahead:
            for number in before[ahead.pop()]:
                if number not in reached:
                    reached.add(number)
                    ahead.append(number)
        stuck = next((number for number in range(len(before)) if number not in reached), None)
        return None if stuck is None else self._found(first, stuck, "it never comes to rest", "")
