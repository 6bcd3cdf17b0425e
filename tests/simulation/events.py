"""What happened in a schedule: how often, and, for a report, when."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from tests.simulation.schedule import Reaction

# What 1,000 schedules go through at the least; without one of them, the simulation is tame.
EXPECTED = (
    "acknowledged as counted",
    "acknowledged as stored",
    "refused: journal_full",
    "refused: journal_failed",
    "refused: outcome_unknown",
    "hung up",
    "robots came",
    "robots counted",
    "correction: made",
    "correction: made before",
    "correction: refused",
    "correction: not sent",
    "correction: unanswered",
    "correction: killed",
    "correction: made by who was not answered",
    "correction: lost, and sent again",
    "merge: made",
    "merge: refused",
    "merge: not sent",
    "merge: killed",
    "hits of two days in one chunk",
    "hits of two days in one entry",
    "commit applied",
    "commit already applied",
    "commit again after a fall",
    "commit late: applied",
    "commit late: refused",
    "commit died with the store",
    "commit answered by an error",
    "connection refused",
    "reply lost",
    "fell: of a writer",
    "fell: of an adopted journal",
    "power lost: commits forgotten",
    "power lost: nothing forgotten",
    "power lost: while a journal is replayed",
    "power lost: while a living writer has a journal",
    "split",
    "watermark deleted",
    "journal created",
    "journal created again",
    "journal removed by its writer",
    "journal not removed",
    "journal full",
    "journal failed",
    "journal broken: written",
    "journal broken: not written",
    "journal cut into several records",
    "adopted",
    "adopted again",
    "adopted while its writer lives",
    "adopted journal confirmed",
    "adoption done",
    "killed",
    "killed: with a chunk on its way",
    "killed: amid an append, written",
    "killed: amid an append, not written",
    "killed: amid an adoption",
    "killed: while it closes",
    "killed: with a journal",
    "closed",
    "closed: without a journal",
    "closed: with a journal",
    "closed: out of time",
    "hung up: its worker ends",
    "acknowledged as the same hit",
    "ids claimed",
    "id is counted",
    "id is unsettled",
    "id that is counted once at most",
    "refused: unsettled",
    "death put off",
)


class Events:
    """Counts events, and has the reactions that wait for them."""

    def __init__(
        self,
        reactions: Iterable[Reaction],
        react: Callable[[Reaction, object], None],
        *,
        is_logging: bool,
    ) -> None:
        """Write down what happens only if somebody will read it."""
        self.counts: Counter[str] = Counter()
        self.log: list[str] = []
        self._is_logging = is_logging
        self._reactions = {(each.event, each.nth): each for each in reactions}
        self._react = react

    def note(self, event: str, *details: object, by: object = None) -> None:
        """Note an event, and which worker did it."""
        self.counts[event] += 1
        reaction = self._reactions.get((event, self.counts[event]))
        if reaction is not None:
            self._react(reaction, by)
        self.tell(event, *details)

    def react_no_longer(self) -> None:
        """Let nothing follow what happens from now on."""
        self._reactions = {}

    def tell(self, *details: object) -> None:
        """Write down what is only of interest to whoever reads the log."""
        if self._is_logging:
            at_s = asyncio.get_running_loop().time()
            self.log.append(f"{at_s:9.4f} {' '.join(map(str, details))}")
