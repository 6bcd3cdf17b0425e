"""What happens to a simulated service, and when: drawn from a seed, and nothing else.

Every schedule draws the few kinds of faults that it has, so that some go deep into what a few
kinds do to each other. Reactions are faults that wait for an event instead of a time: they hit
the short moments that a drawn time would miss.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

# They last for a while, and heal.
LASTING = (
    "lose_replies",
    "strand_requests",
    "drop_requests",
    "slow_down",
    "refuse",
    "stall",
    "kill_store",
    "lose_power",
    "run_out_of_memory",
    "load",
    "fill_disk",
    "fail_disk",
    "slow_disk",
    "keep_files",
)
SUDDEN = (
    "cut",
    "break_journal",
    "kill_worker",
    "kill_all_workers",
    "close_worker",
    "replace_worker",
)
# A store that answers only after its disk has synced is no replica that lags behind.
EVERYSEC_ONLY = ("fail_over", "split")
FAULTS = (*LASTING, *SUDDEN, *EVERYSEC_ONLY)

# What the others are most dangerous together with.
DEADLY = ("kill_worker", "close_worker", "lose_power", "kill_store", "strand_requests")

REACTED_TO = (
    "acknowledged as stored",
    *("append begins", "closes", "ids claimed", "starts") * 3,  # which are over soon
    "commit late: applied",
    "commit already applied",
    "reply lost",
    "fell: of a writer",
    "fell: of an adopted journal",
    "commit again after a fall",
    "journal created",
    "journal cut into several records",
    "journal removed by its writer",
    "journal not removed",
    "adopted",
    "adopted journal confirmed",
    "adoption done",
    "closed",
    "killed",
    "store is back",
)

# When a correction has read what there is, and leaves its note, and when a merge moves
# counters; and what goes wrong then.
CORRECTS = "corrects"
MERGES = "merges"
CUTTING = ("lose_replies", "strand_requests", "strand_requests", "lose_power")

DATES = ("2026-07-14", "2026-10-31", "2026-12-31")
N_SITES, N_PAGES = 4, 3


@dataclass(frozen=True, slots=True)
class Limits:
    """The sizes that divide hits into records and chunks; small ones divide a few hits already."""

    record_hits: int = 256
    cut_keys: int = 2_900
    chunk_keys: int = 3_000


SMALL = Limits(record_hits=4, cut_keys=29, chunk_keys=40)  # a record has at most 7 keys per hit


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and for how long; `pick`, from 0 to 1, chooses whom it hits, and how."""

    name: str
    for_s: float
    pick: float


@dataclass(frozen=True, slots=True)
class Reaction:
    """A fault that follows the `nth` time that something happens, and hits whoever did it."""

    event: str
    nth: int
    after_s: float
    fault: Fault


@dataclass(frozen=True, slots=True)
class Hit:
    """A hit that arrives at one of the workers that live then."""

    at_s: float
    site: int
    page: int | None
    pick: float
    id: str | None


@dataclass(frozen=True, slots=True)
class RobotHit:
    """A hit of a robot, which nobody waits for."""

    at_s: float
    site: int
    pick: float


@dataclass(frozen=True, slots=True)
class Correction:
    """Pageviews that somebody takes back, by a command that is sent once or more.

    `times` tell when, and how soon it is killed each time if it still runs.
    """

    site: int
    page: int | None
    minus: int
    times: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Merge:
    """A site that goes into another, by a command that is sent once or more, as a correction is.

    From some time on its name is an alias of the other, for one worker after the other.
    """

    old: int
    new: int
    aliased_at_s: float
    times: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """All that a seed decides, but for the chances of single questions."""

    seed: int
    is_always: bool  # appendfsync; else everysec
    n_workers: int
    n_lanes: int
    kept_window_s: float
    timeout_s: float
    date: str
    midnight_at_s: float
    limits: Limits
    faults: tuple[tuple[float, Fault], ...]
    reactions: tuple[Reaction, ...]
    hits: tuple[Hit, ...]
    robots: tuple[RobotHit, ...]
    corrections: tuple[Correction, ...]
    merge: Merge | None
    end_s: float
    restarts: bool  # all of the service, in the end

    @property
    def lag_s(self) -> float:
        """Tell for how long a store may not have synced what it answered: not the kept window."""
        return 0.4 * self.kept_window_s


def schedule_of(seed: int) -> Schedule:
    """Draw the schedule of a seed."""
    draw = random.Random(seed)
    is_always = draw.random() < 0.3
    names = draw.sample((*LASTING, *SUDDEN) if is_always else FAULTS, draw.randint(1, 5))
    names += draw.sample(DEADLY, draw.randint(1, 3))
    faults, at_s = [], -0.3
    for _ in range(draw.randint(2, 7)):
        at_s += draw.uniform(0.0, 0.8)
        faults.append((max(0.0, at_s), _fault(draw, names)))
    end_s = max(0.0, at_s) + draw.uniform(0.3, 1.5)
    midnights_s = (draw.uniform(0.0, end_s), draw.choice(faults)[0] + draw.uniform(0.0, 0.3))
    return Schedule(
        seed=seed,
        is_always=is_always,
        n_workers=draw.choice((2, 2, 3)),
        n_lanes=(1, 8)[seed % 2],
        kept_window_s=draw.choice((0.5, 1.0)),
        timeout_s=draw.choice((0.1, 0.25)),
        date=draw.choice(DATES),
        midnight_at_s=draw.choice(midnights_s),
        limits=draw.choice((Limits(), SMALL)),
        faults=tuple(faults),
        reactions=(
            *(_reaction(draw, names) for _ in range(draw.randint(0, 4))),
            *(_cut_off(random.Random(f"{seed} {nth}"), CORRECTS, nth) for nth in (1, 2)),
            *(_cut_off(random.Random(f"{seed} {nth}"), MERGES, nth) for nth in (1, 2, 3)),
        ),
        hits=tuple(_hits(draw, faults, end_s)),
        robots=tuple(_robots(random.Random(f"{seed} robots"), end_s)),
        corrections=tuple(_corrections(seed, faults, end_s)),
        merge=_merge(seed, faults, end_s),
        end_s=end_s,
        restarts=draw.random() < 0.3,
    )


def _fault(draw: random.Random, names: list[str]) -> Fault:
    for_s = draw.choice((0.03, 0.15, 0.4, 1.0)) * draw.uniform(0.8, 1.2)
    return Fault(draw.choice(names), for_s, draw.random())


def _reaction(draw: random.Random, names: list[str]) -> Reaction:
    after_s = draw.choice((0.0, 0.002, 0.02, 0.2, 0.6)) * draw.uniform(0.5, 1.5)
    fault = _fault(draw, [*names, *DEADLY])
    return Reaction(draw.choice(REACTED_TO), draw.choice((1, 1, 1, 2, 3)), after_s, fault)


def _cut_off(draw: random.Random, event: str, nth: int) -> Reaction:
    """Draw what happens to a command."""
    fault = Fault(draw.choice(CUTTING), 0.3 * draw.random(), draw.random())
    return Reaction(event, nth, draw.uniform(0.002, 0.008), fault)


def _hits(draw: random.Random, faults: list[tuple[float, Fault]], end_s: float) -> list[Hit]:
    """Draw hits at any time, some of them in a burst, and some while something goes wrong."""
    burst_s = draw.uniform(0.0, end_s)
    hits: list[Hit] = []
    for _ in range(draw.randint(15, 50)):
        chance = draw.random()
        at_s = draw.uniform(0.0, end_s)
        if chance < 0.2:
            at_s = burst_s + draw.choice((0.0, 0.01)) * draw.random()
        elif chance < 0.6:
            begin_s, fault = draw.choice(faults)
            at_s = begin_s + fault.for_s * draw.random()
        site = min(draw.randrange(2 * N_SITES), N_SITES) % N_SITES  # one of them is hot
        page = draw.choice((None, *range(N_PAGES)))
        id_ = f"{len(hits)}" if draw.random() < 0.2 else None
        hits.append(Hit(at_s, site, page, draw.random(), id_))
        if id_ is not None and draw.random() < 0.6:  # the same hit again, maybe elsewhere
            again_at_s = at_s + draw.choice((0.0, 0.1, 1.0)) * draw.random()
            hits.append(Hit(again_at_s, site, page, draw.random(), id_))
    return sorted(hits, key=lambda hit: hit.at_s)


def _robots(draw: random.Random, end_s: float) -> Iterator[RobotHit]:
    for _ in range(draw.randint(0, 12)):
        yield RobotHit(draw.uniform(0.0, end_s), draw.randrange(N_SITES), draw.random())


def _corrections(
    seed: int, faults: list[tuple[float, Fault]], end_s: float
) -> Iterator[Correction]:
    """Draw corrections at about the same moment, often of the same numbers, that are sent again.

    They may be cut off anywhere, mostly while something goes wrong.
    """
    if seed % 5 > 1:  # so seeds that failed before there were any are what they were
        return
    draw = random.Random(f"{seed} corrections")
    moment_s = draw.choice((faults[-1][0], draw.uniform(0.4, 1.0) * end_s))
    site = draw.choice((0, 0, 0, *range(N_SITES)))  # most hits are of the first
    for _ in range(draw.randint(1, 3)):
        times = tuple(_times(draw, max(0.0, moment_s + draw.uniform(-0.02, 0.0)), 0.01))
        page = draw.choice((*(None,) * 6, *range(N_PAGES)))
        yield Correction(site, page, draw.randint(1, 3), times)


def _times(draw: random.Random, at_s: float, takes_s: float) -> Iterator[tuple[float, float]]:
    """Draw when a command that takes some time is sent, and how soon it is killed."""
    for _ in range(draw.randint(1, 3)):
        somewhere_s, in_the_end_s = 2 * takes_s * draw.random(), takes_s * draw.uniform(0.8, 1.4)
        yield at_s, draw.choice((somewhere_s, in_the_end_s, 5.0))
        at_s += draw.choice((0.0, 2 * takes_s, 0.5)) * draw.random()


def _merge(seed: int, faults: list[tuple[float, Fault]], end_s: float) -> Merge | None:
    """Draw a site that goes into another, at any moment."""
    if seed % 10 != 9:  # as above
        return None
    draw = random.Random(f"{seed} merge")
    old, new = draw.sample(range(N_SITES), 2)
    moment_s = draw.choice((faults[-1][0], draw.random() * end_s, draw.random() * end_s))
    aliased_at_s = moment_s + draw.choice((-0.2, 0.0, 0.2, 9.0))
    return Merge(old, new, aliased_at_s, tuple(_times(draw, moment_s, 0.06)))
