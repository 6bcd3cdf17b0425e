"""Which promise can this store keep?

Level A: every acknowledged hit is on the store's disk before the answer (`appendfsync always`).
Level B: on its disk within a second (`everysec`); the kept window covers that second unless the
worker dies in it too. None: the store keeps its numbers in memory only. Unknown: it does not tell,
and what is not told is never assumed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

OLDEST_REDIS = (7, 0)
FORMAT, OLDEST_READER = 1, "0.1"  # of what we write to a store, and which version of ours reads it
MAX_CLOCK_SKEW_S = 2.0
# The levels, as a metric tells them: unknown is the least, and never looks better than it is.
PROMISES: Mapping[str, int] = {"unknown": -1, "none": 0, "B": 1, "A": 2}
ANY_PROMISE = min(PROMISES.values())

# What is only right if it is one of a few things.
_NEEDS = {
    "version": "make sure that it is Redis 7.0 or newer, or Valkey",
    "maxmemory_policy": "make sure that it is noeviction, as others delete counters",
    "role": "make sure that it is a master",
}


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What the store says of itself; None where it does not say it.

    `format` is that of what it holds, and `reader` the oldest version of ours that reads it.
    `clock_skew_s` is how far its clock is ahead of ours. Memory is 0 where it does not tell, and so
    is its limit where it has none. `refusals` are its words, by the question
    that it refused; `hit_refusal` what it said to a hit, or nothing if it took it.
    """

    server: str
    version: tuple[int, ...] | None
    maxmemory_policy: str | None
    appendonly: bool | None
    appendfsync: str | None
    role: str | None
    lanes: int
    format: int = FORMAT
    reader: str = OLDEST_READER
    clock_skew_s: float | None = 0.0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    refusals: Mapping[str, str] = field(default_factory=dict)
    hit_refusal: str = ""

    @property
    def name(self) -> str:
        """Name the server and its version for people."""
        version = "of unknown version" if self.version is None else ".".join(map(str, self.version))
        return f"{self.server} {version}"

    @property
    def level(self) -> str:
        """Name the promise that the store's persistence allows: A, B, none or unknown."""
        if self.appendonly is False:
            return "none"
        if self.appendonly is None or self.appendfsync is None:
            return "unknown"
        return {"always": "A", "everysec": "B"}.get(self.appendfsync, "none")

    @property
    def promise(self) -> str:
        """Say in one sentence what the level means."""
        if self.level == "unknown":
            asked = (
                ("INFO", "aof_enabled")
                if self.appendonly is None
                else ("CONFIG GET", "appendfsync")
            )
            return (
                "nobody can tell what a crash of the store loses, as it does not say how it keeps"
                f" its data ({self._why(*asked)})"
            )
        return {
            "A": "an acknowledged hit is on the store's disk (appendfsync always)",
            "B": "an acknowledged hit is on the store's disk within a second"
            " (appendfsync everysec)",
            "none": "a crash of the store can lose hits: set appendonly yes and appendfsync always",
        }[self.level]

    def faults(self, lanes: int) -> list[str]:
        """List what makes the store unfit for exact counts; empty for a fit one."""
        found = []
        if self.server == "redis" and self.version is not None and self.version < OLDEST_REDIS:
            found.append(f"{self.name} is too old: counts need Redis 7.0 or newer, or Valkey")
        if self.maxmemory_policy not in ("noeviction", None):
            found.append(
                f"maxmemory-policy is {self.maxmemory_policy}, which deletes counters when memory"
                " is short: set it to noeviction"
            )
        if self.role not in ("master", None):
            found.append(f"the store is a {self.role}: give the address of the master")
        if self.format > FORMAT:
            found.append(
                f"the store holds format {self.format}, and this program reads {FORMAT}: use"
                f" hitcounter {self.reader} or newer"
            )
        if self.lanes != lanes:
            found.append(f"the store was set up with {self.lanes} lanes, not {lanes}")
        return found

    @property
    def warnings(self) -> list[str]:
        """List what an operator should mend, or look at, though it costs no hit."""
        found = []
        if self.hit_refusal:
            found.append(f"the store takes no hits now, they go to the journal: {self.hit_refusal}")
        for name, need in _NEEDS.items():
            if getattr(self, name) is None:
                found.append(
                    f"the store does not tell its {name} ({self._why('INFO', name)}): {need}"
                )
        if self.clock_skew_s is None:
            found.append(
                f"the store does not tell its time ({self._why('TIME', 'it')}): set its clock and"
                " ours by NTP"
            )
        elif abs(self.clock_skew_s) > MAX_CLOCK_SKEW_S:
            where = "ahead of" if self.clock_skew_s > 0 else "behind"
            found.append(
                f"the store's clock is {abs(self.clock_skew_s):.0f} s {where} ours, and ours"
                " decides on which day a hit counts: set both by NTP"
            )
        return found

    def _why(self, question: str, name: str) -> str:
        refusal = self.refusals.get(question)
        return (
            f"{question} lacks {name}" if refusal is None else f"{question} is refused: {refusal}"
        )
