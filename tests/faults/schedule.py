"""What goes wrong in a schedule, and when: drawn from its seed, and nothing else.

Seeds with the same `seed % N_SETTINGS` share a setting, so one running service can go through
all of them. A setting allows only what the promise covers:

- *always* (level A): everything may die at any moment, also all at once.
- *everysec* (level B) promises nothing if the store loses its unsynced end and the worker that
  acknowledged it dies without a word in the same seconds. A killed store can lose what it had not
  written yet, so where workers are killed the store is only stopped or told to end, and where the
  store loses power workers are only stopped or told to end.
"""

import random
from dataclasses import dataclass

N_SETTINGS = 12
N_SITES = 3
MIN_FAULTS, MAX_FAULTS = 3, 8
LONGEST_GAP_S = 0.4

NETWORK = (
    "lose_replies",
    "lose_some_replies",
    "stall",
    "hold_requests",
    "hold_replies",
    "cut_by_reset",
    "cut_by_end",
    "refuse",
    "strand_writes",
)
GENTLE = (
    "stop_store",
    "end_store",
    "stop_worker",
    "end_worker",
    "stop_supervisor",
    "kill_supervisor",  # whose workers notice, and end as if they were told to
    "end_service",
)
WORKER_DEATHS = ("kill_worker", "kill_all_workers")
STORE_DEATHS = ("kill_store", "cut_power_of_store")
EVERYTHING_DIES = ("cut_power_of_all",)
FAULTS = (*NETWORK, *GENTLE, *WORKER_DEATHS, *STORE_DEATHS, *EVERYTHING_DIES)


@dataclass(frozen=True, slots=True)
class Kind:
    """How the store syncs its log, and which faults the promise covers then."""

    name: str
    appendfsync: str
    kept_window_s: float
    faults: tuple[str, ...]


# A kept window only has to outlast what a store can forget, which without power loss is nothing.
# What a kind is about comes more often than the rest.
KINDS = (
    Kind("always", "always", 0.5, FAULTS),
    Kind("everysec, workers die", "everysec", 0.5, (*NETWORK, *GENTLE, *3 * WORKER_DEATHS)),
    Kind("everysec, the store dies", "everysec", 2.5, (*NETWORK, *GENTLE, *4 * STORE_DEATHS)),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a service runs with: the kind, the store's program, and whether sites are declared."""

    kind: Kind
    program: str
    is_open: bool

    def __str__(self) -> str:
        """Name it for a report."""
        sites = "any site" if self.is_open else "declared sites"
        return f"{self.kind.name}; {self.program}; {sites}"


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong `at_s` after the start, and for how long; `pick` chooses whom it hits."""

    name: str
    at_s: float
    for_s: float
    pick: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """The faults of one seed; later ones may begin before earlier ones end."""

    seed: int
    faults: tuple[Fault, ...]

    @property
    def sites(self) -> list[str]:
        """Name the sites that are counted in this schedule and in no other."""
        return [f"s{self.seed}-{n}.example.vn" for n in range(N_SITES)]


def setting_of(seed: int, programs: list[str]) -> Setting:
    """Choose the setting of a seed, given the store programs of this machine."""
    number = seed % N_SETTINGS
    kind, rest = KINDS[number % len(KINDS)], number // len(KINDS)
    return Setting(kind, programs[rest % len(programs)], is_open=rest // 2 == 0)


def schedule_of(seed: int) -> Schedule:
    """Draw the faults of a seed."""
    draw = random.Random(seed)
    names = KINDS[seed % N_SETTINGS % len(KINDS)].faults
    faults, at_s = [], 0.1
    for _ in range(draw.randint(MIN_FAULTS, MAX_FAULTS)):
        at_s += draw.uniform(0, LONGEST_GAP_S)
        for_s = draw.choice((0.05, 0.2, 0.5, 0.9)) * draw.uniform(0.8, 1.2)
        faults.append(Fault(draw.choice(names), at_s, for_s, draw.randrange(1_000)))
    return Schedule(seed, tuple(faults))
