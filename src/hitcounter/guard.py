"""Which promise can this store keep?

Level A: every acknowledged hit is on the store's disk before the answer (`appendfsync always`).
Level B: on its disk within a second (`everysec`); the kept window covers that second unless the
worker dies in it too. None: the store keeps its numbers in memory only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

OLDEST_REDIS = (7, 0)
MAX_CLOCK_SKEW_S = 2.0
PROMISES: Mapping[str, int] = {"none": 0, "B": 1, "A": 2}  # the levels, as a metric tells them


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What the store says of itself; `appendfsync` is empty where it may not be asked.

    `clock_skew_s` is how far its clock is ahead of ours.
    """

    server: str
    version: tuple[int, ...]
    maxmemory_policy: str
    appendonly: bool
    appendfsync: str
    role: str
    lanes: int
    clock_skew_s: float = 0.0

    @property
    def name(self) -> str:
        """Name the server and its version for people."""
        return f"{self.server} {'.'.join(map(str, self.version))}"


def faults(facts: StoreFacts, lanes: int) -> list[str]:
    """List what makes the store unfit for exact counts; empty for a fit one."""
    found = []
    if facts.server == "redis" and facts.version < OLDEST_REDIS:
        found.append(f"{facts.name} is too old: counts need Redis 7.0 or newer, or Valkey")
    if facts.maxmemory_policy != "noeviction":
        found.append(
            f"maxmemory-policy is {facts.maxmemory_policy}, which deletes counters when memory is"
            " short: set it to noeviction"
        )
    if facts.role != "master":
        found.append(f"the store is a {facts.role}: give the address of the master")
    if facts.lanes != lanes:
        found.append(f"the store was set up with {facts.lanes} lanes, not {lanes}")
    return found


def warnings(facts: StoreFacts) -> list[str]:
    """List what an operator should mend though it costs no hit."""
    if abs(facts.clock_skew_s) <= MAX_CLOCK_SKEW_S:
        return []
    where = "ahead of" if facts.clock_skew_s > 0 else "behind"
    return [
        f"the store's clock is {abs(facts.clock_skew_s):.0f} s {where} ours, and ours decides on"
        " which day a hit counts: set both by NTP"
    ]


def level(facts: StoreFacts) -> str:
    """Name the promise that the store's persistence allows: A, B or none."""
    if not facts.appendonly:
        return "none"
    return {"always": "A", "everysec": "B"}.get(facts.appendfsync, "none")


def promise(facts: StoreFacts) -> str:
    """Say in one sentence what the level means."""
    if facts.appendonly and not facts.appendfsync:
        return "the store does not let us read appendfsync, so its promise is not known"
    return {
        "A": "an acknowledged hit is on the store's disk (appendfsync always)",
        "B": "an acknowledged hit is on the store's disk within a second (appendfsync everysec)",
        "none": "a crash of the store can lose hits: set appendonly yes and appendfsync always",
    }[level(facts)]
