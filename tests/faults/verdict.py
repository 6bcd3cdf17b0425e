"""What is counted, held against what the clients know, site by site and page by page.

    acknowledged <= counted <= acknowledged + those whose outcome the client cannot know

The last are the hits that got no answer, or the refusal that says so. Every other refused hit
must not be counted. Day, month, year and total must be equal.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.support.load import KEPT_EQUAL, Connection, Tally, Target, Unanswered, by_site
from tests.support.wire import Answer

FRESH = {"fresh", "counted"}


@dataclass(slots=True)
class Reading:
    """What a service says is counted for sites and pages; all of it, only if it is fresh."""

    totals: dict[Target, int] = field(default_factory=dict)
    skewed: dict[Target, list[int]] = field(default_factory=dict)
    is_fresh: bool = True

    def note(self, target: Target, answer: Answer) -> None:
        """Take the numbers of one answer."""
        if answer.status != 200 or answer.json["state"] not in FRESH:
            self.is_fresh = False
            return
        numbers = [answer.json[key] for key in KEPT_EQUAL]
        if len(set(numbers)) > 1:
            self.skewed[target] = numbers
        self.totals[target] = answer.json["page"]["total"] if target.path else numbers[-1]


async def read(port: int, targets: Iterable[Target]) -> Reading:
    """Ask a service for the numbers of sites and pages."""
    reading, connection = Reading(), Connection(port)
    try:
        for target in targets:
            query = f"?path={target.path}" if target.path else ""
            answer = await connection.ask("GET", f"/v1/sites/{target.site}/counts{query}")
            reading.note(target, answer)
    except (Unanswered, ConnectionError):  # a worker that was told to end has ended just now
        reading.is_fresh = False
    finally:
        connection.close()
    return reading


@dataclass(frozen=True, slots=True)
class Difference:
    """A site or page whose number breaks the promise."""

    target: Target
    acked: int
    counted: int
    unsure: int

    @property
    def n_lost(self) -> int:
        """Count the acknowledged hits that are missing."""
        return max(0, self.acked - self.counted)

    @property
    def n_doubled(self) -> int:
        """Count what is counted twice, or was refused."""
        return max(0, self.counted - self.acked - self.unsure)


def targets_of(tally: Tally) -> Iterable[Target]:
    """List the sites and pages that hits were sent to."""
    return [*by_site(tally.sent), *tally.sent]


def differences(tally: Tally, reading: Reading) -> list[Difference]:
    """List the sites and pages whose numbers break the promise."""
    acked = tally.acked + by_site(tally.acked)
    unsure = tally.unanswered + by_site(tally.unanswered)
    all_numbers = (
        Difference(target, acked[target], reading.totals.get(target, 0), unsure[target])
        for target in targets_of(tally)
    )
    return [each for each in all_numbers if each.n_lost or each.n_doubled]


def is_complete(tally: Tally, reading: Reading) -> bool:
    """Tell whether nothing is missing, as it may be while something waits somewhere."""
    return reading.is_fresh and not any(each.n_lost for each in differences(tally, reading))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one schedule; it has a report if anything went wrong.

    Its system is broken if it did not start, or left a process.
    """

    seed: int
    n_faults: int
    n_sent: int = 0
    n_acked: int = 0
    n_stored: int = 0
    n_refused: int = 0
    n_lost: int = 0
    n_doubled: int = 0
    n_skewed: int = 0
    n_journals: int = 0
    n_broken: int = 0
    report: str = ""
