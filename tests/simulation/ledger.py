"""What was sent and answered, held against what is counted.

For every counter: acknowledged <= counted <= received, less what was refused as not counted, and
what was taken back; a site that goes into another is one with it. The days, months and years of a
site add up to its total. An answer with values contains its hit, and nothing that nobody sent. Hits
with one id are one hit: whoever is told so can rely on the other, and no two of them are counted
while the workers that they came to never missed the store. A correction takes away once what it
says, however often it is sent.
"""

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, Self

from hitcounter.errors import Unavailable
from hitcounter.exactly_once.hit_ids import DuplicateHit
from hitcounter.exactly_once.writer import Writer
from hitcounter.store import keys
from hitcounter.store.keys import PageKeys, SiteKeys
from hitcounter.store.writer_connection import Values
from tests.simulation.events import Events
from tests.simulation.schedule import N_PAGES, N_SITES

SITES = [f"s{n}" for n in range(N_SITES)]
UNKNOWN = "outcome_unknown"
NOT_COUNTED = {"journal_full", "journal_failed", "store_unavailable", "unsettled"}
_NOT_MADE = {"refused", "not sent"}  # of corrections


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """A hit that was sent, and what it adds to."""

    site: SiteKeys
    page: PageKeys | None
    id: str | None
    counters: tuple[str, ...]

    @classmethod
    def of(cls, site: SiteKeys, page: PageKeys | None, id_: str | None) -> Self:
        """Tell what a hit adds to."""
        return cls(site, page, id_, site.counted if page is None else (*site.counted, page.key))


@dataclass(slots=True, eq=False)
class Taken:
    """A correction: what it takes from which counters, and what became of it each time."""

    number: int
    site: int
    date: str
    page: str | None
    minus: int
    counters: tuple[str, ...]
    outcomes: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Merged:
    """A site that goes into another, and what became of it each time."""

    old: str
    new: str
    n_lanes: int
    outcomes: list[str] = field(default_factory=list)

    def renamed(self, key: str) -> str:
        """Name the counter that takes over what one counts."""
        if not _is_counter(key):
            return key
        counter = keys.counter_of(key)
        if counter.site != self.old:
            return key
        key_of = keys.page_key if counter.is_page else keys.bucket_key
        return key_of(keys.lane_of(self.new, self.n_lanes), self.new, counter.name)

    def united(self, counted: Mapping[str, int]) -> Counter[str]:
        """Count for the new site what the old one has."""
        sums: Counter[str] = Counter()
        for key, n in counted.items():
            sums[self.renamed(key)] += n
        return sums


class Client(Protocol):
    """The worker that a hit arrives at."""

    open: dict[Sent, "asyncio.Future[Any]"]  # the hits that wait for an answer
    is_dead: bool
    has_missed_store: bool

    @property
    def writer(self) -> Writer:
        """Give its writer."""

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Work on something, which ends with the worker."""


@dataclass(slots=True)
class _Same:
    """The hits with one id."""

    hits: list[Sent] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    n_acknowledged: int = 0
    n_refused: int = 0
    is_promised: bool = False  # that one of them is counted

    @property
    def common(self) -> list[str]:
        """List what all of them add to; around midnight, they may be of two days."""
        return [
            key for key in self.hits[0].counters if all(key in hit.counters for hit in self.hits)
        ]


class Ledger:
    """All hits of a schedule, by counter."""

    def __init__(self, events: Events) -> None:
        """Start with no hit."""
        self.received: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.corrections: list[Taken] = []
        self.merged: Merged | None = None
        self.taken_at_least: Counter[str] = Counter()  # by corrections
        self.taken_at_most: Counter[str] = Counter()
        self.problems: list[str] = []
        self._events = events
        self._same: dict[str, _Same] = {}

    def send(self, client: Client, sent: Sent) -> None:
        """Let a hit arrive, and see what becomes of it."""
        for key in sent.counters:
            self.received[key] += 1
        if sent.id is None:
            self._count(client, sent)
            return
        same = self._same.setdefault(sent.id, _Same())
        same.hits.append(sent)
        same.clients.append(client)
        waiting = client.start(self._count_once(client, sent, sent.id))
        client.open[sent] = waiting
        waiting.add_done_callback(partial(self._waited, client, sent))

    def send_robot(self, writer: Writer, robots: SiteKeys) -> None:
        """Let a robot come: it counts once at most, and nobody promises that it does."""
        self._events.note("robots came")
        for key in robots.counted:
            self.received[key] += 1
        writer.count_robot(writer.lanes.of(robots.site), robots)

    def correct(self, taken: Taken) -> None:
        """Let somebody take something back, from now on."""
        self.corrections.append(taken)
        for key in taken.counters:
            self.taken_at_most[key] += taken.minus

    def ended(self, doing: Taken | Merged, outcome: str) -> None:
        """Hear what became of a command."""
        name = "correction" if isinstance(doing, Taken) else "merge"
        self._events.note(f"{name}: {outcome}")
        doing.outcomes.append(outcome)

    async def _count_once(self, client: Client, sent: Sent, id_: str) -> None:
        """Do what the service does with the id of a hit."""
        if await client.writer.recent.is_repeat(id_):
            self._repeat(sent)
        else:
            self._count(client, sent)

    def _waited(self, client: Client, sent: Sent, waiting: "asyncio.Task[None]") -> None:
        if client.open.get(sent) is waiting:  # else it waits for its count now
            del client.open[sent]
        if not waiting.cancelled():
            waiting.result()

    def _count(self, client: Client, sent: Sent) -> None:
        try:
            lane = client.writer.lanes.of(sent.site.site)
            future = client.writer.count(lane, "", sent.site, sent.page, sent.id)
        except Unavailable as error:
            self._refuse(sent, error)
            return
        client.open[sent] = future
        future.add_done_callback(partial(self._answered, client, sent))

    def hang_up(self, client: Client, sent: Sent) -> None:
        """Let a client not wait for the answer."""
        self._events.note("hung up")
        client.open[sent].cancel()

    def _answered(
        self, client: Client, sent: Sent, future: "asyncio.Future[Values | None]"
    ) -> None:
        client.open.pop(sent)
        error = None if future.cancelled() else future.exception()
        if client.is_dead or future.cancelled():
            return
        if isinstance(error, Unavailable):
            self._refuse(sent, error)
        elif isinstance(error, DuplicateHit):
            self._repeat(sent)
        elif error is not None:
            self.problems.append(f"a hit was answered by {error!r}")
        else:
            self._acknowledge(sent, future.result())

    def _refuse(self, sent: Sent, error: Unavailable) -> None:
        self._events.note(f"refused: {error.code}")
        if error.code in NOT_COUNTED:
            self._not_counted(sent)
        elif error.code != UNKNOWN:
            self.problems.append(f"a hit was refused as {error.code}")

    def _repeat(self, sent: Sent) -> None:
        """Take a hit for one that is counted already."""
        self._events.note("acknowledged as the same hit")
        self._not_counted(sent)
        assert sent.id is not None
        self._same[sent.id].is_promised = True

    def _not_counted(self, sent: Sent) -> None:
        for key in sent.counters:
            self.refused[key] += 1
        if sent.id is not None:
            self._same[sent.id].n_refused += 1

    def _acknowledge(self, sent: Sent, values: Values | None) -> None:
        self._events.note(f"acknowledged as {'stored' if values is None else 'counted'}")
        if sent.id is not None:
            self._same[sent.id].n_acknowledged += 1
        for key in sent.counters:
            self.acknowledged[key] += 1
            least, most = self._bounds(key)
            if values is not None and not least <= values.get(key, 0) <= most:
                self.problems.append(
                    f"an answer says {key} = {values.get(key)} when {most} were received"
                )

    def _bounds(self, key: str) -> tuple[int, int]:
        """Tell what a counter that includes a hit may say."""
        least = max(0, 1 - self.taken_at_most[key])
        if self.merged is None:
            return least, self.received[key] - self.refused[key]
        # What was counted for the old site may be gone before the answer.
        is_old = self.merged.renamed(key) != key
        received, refused = map(self.merged.united, (self.received, self.refused))
        new_key = self.merged.renamed(key)
        return 0 if is_old else least, received[new_key] - refused[new_key]

    def check_merge(self, merged: Merged, counted: Mapping[str, int]) -> None:
        """Expect that nothing is left of a site that went into another, undisturbed at last."""
        left = [key for key in filter(_is_counter, counted) if merged.renamed(key) != key]
        # Robots wait for a chunk, and nobody for them.
        left = [key for key in left if not keys.counter_of(key).name.startswith(keys.ROBOTS)]
        if left or merged.outcomes[-1] not in ("made", "refused"):
            self.problems.append(f"the merge is {merged.outcomes[-1]}, and leaves {left}")

    def settle_ids(self, *, keeps_claims: bool) -> None:
        """Expect one hit of an id that somebody was told to be counted, and no two of others.

        A store that loses its last moments may have lost who claimed an id.
        """
        for id_, same in self._same.items():
            if same.is_promised and not same.n_acknowledged:
                self.acknowledged.update(same.common)
            if keeps_claims and not any(client.has_missed_store for client in same.clients):
                self._events.note("id that is counted once at most")
                self._expect_one(id_, same)

    def _expect_one(self, id_: str, same: _Same) -> None:
        if same.n_acknowledged > 1:
            self.problems.append(f"the hit {id_} is acknowledged {same.n_acknowledged} times")
        for _ in range(len(same.hits) - same.n_refused - 1):
            self.refused.update(same.common)

    def settle_corrections(self, *, keeps_commits: bool) -> None:
        """Expect each one once that is made when it is sent for the last time, undisturbed.

        A store that loses its last moments may have lost it before, and it was made again.
        """
        for taken in self.corrections:
            *before, last = taken.outcomes
            self._check_correction(taken, keeps_commits=keeps_commits)
            for key in taken.counters:
                if last.startswith("made"):
                    self.taken_at_least[key] += taken.minus
                elif _NOT_MADE.issuperset(before):
                    self.taken_at_most[key] -= taken.minus

    def _check_correction(self, taken: Taken, *, keeps_commits: bool) -> None:
        """Hold what its operator was told each time against the last time."""
        *before, last = taken.outcomes
        was_made = any(outcome.startswith("made") for outcome in before)
        if was_made and last != "made before":
            self._events.note("correction: lost, and sent again")
            if keeps_commits:
                self.problems.append(f"the correction {taken.number} was made, and then {last}")
        if last == "made before" and not was_made:
            self._events.note("correction: made by who was not answered")
            if _NOT_MADE.issuperset(before):
                self.problems.append(f"the correction {taken.number} was refused, and is made")
        if last not in ("made", "made before", "refused"):
            self.problems.append(f"the correction {taken.number} is {last} in the end")

    def differences(self, counted: Mapping[str, int]) -> tuple[int, int, int]:
        """Count what is lost, doubled and skewed; say where."""
        n_skewed = self._skew(counted)
        if self.merged is not None:
            counted = self.merged.united(counted)
            for sums in (self.received, self.acknowledged, self.refused):
                united = self.merged.united(sums)
                sums.clear()
                sums.update(united)
        n_lost = n_doubled = 0
        for key in dict.fromkeys([*self.received, *filter(_is_counter, counted)]):
            least = max(0, self.acknowledged[key] - self.taken_at_most[key])
            most = self.received[key] - self.refused[key] - self.taken_at_least[key]
            n = counted.get(key, 0)
            if not least <= n <= most:
                n_lost += max(0, least - n)
                n_doubled += max(0, n - most)
                self.problems.append(f"{key} is {n}, not {least} to {most}")
        return n_lost, n_doubled, n_skewed

    def _skew(self, counted: Mapping[str, int]) -> int:
        """Hold every sum against its parts."""
        n_skewed = 0
        for key, n in _sums(counted).items():
            if counted.get(key, 0) != n:
                n_skewed += abs(counted.get(key, 0) - n)
                self.problems.append(f"{key} is {counted.get(key)}, and its parts add up to {n}")
        return n_skewed


def site_keys_on(n_lanes: int, date: str, days_later: int) -> list[SiteKeys]:
    """Name the counters of all sites, as a worker does once a day."""
    day = dt.date.fromisoformat(date) + dt.timedelta(days=days_later)
    return [keys.site_keys(keys.lane_of(site, n_lanes), site, day.isoformat()) for site in SITES]


def robot_keys_on(n_lanes: int, date: str, days_later: int) -> list[SiteKeys]:
    """Name the counters of the robots of all sites."""
    day = dt.date.fromisoformat(date) + dt.timedelta(days=days_later)
    return [keys.robot_keys(keys.lane_of(site, n_lanes), site, day.isoformat()) for site in SITES]


def page_keys(n_lanes: int) -> list[list[PageKeys]]:
    """Name the counters of the pages of all sites."""
    lanes = [keys.lane_of(site, n_lanes) for site in SITES]
    return [
        [keys.page_keys(lane, site, f"/{n}", 1_000) for n in range(N_PAGES)]
        for lane, site in zip(lanes, SITES, strict=True)
    ]


def _is_counter(key: str) -> bool:
    return ":site:" in key or ":page:" in key


def _sums(counted: Mapping[str, int]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for key in filter(_is_counter, counted):
        counter, lane = keys.counter_of(key), int(key[len("hc:{") : key.index("}")])
        if counter.is_page:
            sums[keys.pages_key(lane, counter.site)] += 1
            continue
        who = keys.ROBOTS if counter.name.startswith(keys.ROBOTS) else ""
        day = counter.name.removeprefix(who)
        if len(day) == len("2026-12-31"):
            for bucket in (day[:7], day[:4], "total"):
                sums[keys.bucket_key(lane, counter.site, who + bucket)] += counted[key]
    return sums
