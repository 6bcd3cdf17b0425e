"""Which promise can this store keep?

Level A: every acknowledged hit is on the store's disk before the answer (`appendfsync always`).
Level B: on its disk within a second (`everysec`); the kept window covers that second unless the
worker dies in it too. None: the store keeps its numbers in memory only. Unknown: it does not tell,
and what is not told is never assumed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

OLDEST_REDIS = (7, 0)
MAX_CLOCK_SKEW_S = 2.0
# The levels, as a metric tells them: unknown is the least, and never looks better than it is.
PROMISES: Mapping[str, int] = {"unknown": -1, "none": 0, "B": 1, "A": 2}


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What the store says of itself; None where it does not say it.

    `clock_skew_s` is how far its clock is ahead of ours. `refusals` are its words, by the question
    that it refused; `hit_refusal` what it said to a hit, or nothing if it took it.
    """

    server: str
    version: tuple[int, ...] | None
    maxmemory_policy: str | None
    appendonly: bool | None
    appendfsync: str | None
    role: str | None
    lanes: int
    clock_skew_s: float | None = 0.0
    refusals: Mapping[str, str] = field(default_factory=dict)
    hit_refusal: str = ""

    @property
    def name(self) -> str:
        """Name the server and its version for people."""
        version = "of unknown version" if self.version is None else ".".join(map(str, self.version))
        return f"{self.server} {version}"


def faults(facts: StoreFacts, lanes: int) -> list[str]:
    """List what makes the store unfit for exact counts; empty for a fit one."""
    found = []
    if facts.server == "redis" and facts.version is not None and facts.version < OLDEST_REDIS:
        found.append(f"{facts.name} is too old: counts need Redis 7.0 or newer, or Valkey")
    if facts.maxmemory_policy not in ("noeviction", None):
        found.append(
            f"maxmemory-policy is {facts.maxmemory_policy}, which deletes counters when memory is"
            " short: set it to noeviction"
        )
    if facts.role not in ("master", None):
        found.append(f"the store is a {facts.role}: give the address of the master")
    if facts.lanes != lanes:
        found.append(f"the store was set up with {facts.lanes} lanes, not {lanes}")
    return found


def warnings(facts: StoreFacts) -> list[str]:
    """List what an operator should mend, or look at, though it costs no hit."""
    found = []
    if facts.hit_refusal:
        found.append(f"the store takes no hits now, they go to the journal: {facts.hit_refusal}")
    for name, need in _NEEDS.items():
        if getattr(facts, name) is None:
            found.append(
                f"the store does not tell its {name} ({_why(facts, 'INFO', name)}): {need}"
            )
    if facts.clock_skew_s is None:
        found.append(
            f"the store does not tell its time ({_why(facts, 'TIME', 'it')}): set its clock and"
            " ours by NTP"
        )
    elif abs(facts.clock_skew_s) > MAX_CLOCK_SKEW_S:
        where = "ahead of" if facts.clock_skew_s > 0 else "behind"
        found.append(
            f"the store's clock is {abs(facts.clock_skew_s):.0f} s {where} ours, and ours decides"
            " on which day a hit counts: set both by NTP"
        )
    return found


# What is only right if it is one of a few things.
_NEEDS = {
    "version": "make sure that it is Redis 7.0 or newer, or Valkey",
    "maxmemory_policy": "make sure that it is noeviction, as others delete counters",
    "role": "make sure that it is a master",
}


def _why(facts: StoreFacts, question: str, name: str) -> str:
    refusal = facts.refusals.get(question)
    return f"{question} lacks {name}" if refusal is None else f"{question} is refused: {refusal}"


def level(facts: StoreFacts) -> str:
    """Name the promise that the store's persistence allows: A, B, none or unknown."""
    if facts.appendonly is False:
        return "none"
    if facts.appendonly is None or facts.appendfsync is None:
        return "unknown"
    return {"always": "A", "everysec": "B"}.get(facts.appendfsync, "none")


def promise(facts: StoreFacts) -> str:
    """Say in one sentence what the level means."""
    if level(facts) == "unknown":
        asked = (
            ("INFO", "aof_enabled") if facts.appendonly is None else ("CONFIG GET", "appendfsync")
        )
        return (
            "nobody can tell what a crash of the store loses, as it does not say how it keeps its"
            f" data ({_why(facts, *asked)})"
        )
    return {
        "A": "an acknowledged hit is on the store's disk (appendfsync always)",
        "B": "an acknowledged hit is on the store's disk within a second (appendfsync everysec)",
        "none": "a crash of the store can lose hits: set appendonly yes and appendfsync always",
    }[level(facts)]
