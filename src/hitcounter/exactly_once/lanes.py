"""What a writer does next for one part of the sites, decided without I/O and without a clock.

Whoever has the store and the journal at hand (`Writer`, `Adoption`, a search of all that may
happen) asks a lane what to do, does it, and tells what came of it:

    number_next, next_chunk  -> on_answer or on_error       what the store is asked
    next_append              -> on_appended or on_refused   while it does not answer

Both may be on their way at once, one of each. Invariants: nothing gets a number while an append is
on its way or the store does not answer, so whoever reads the journal makes the same records; what
a chunk has carried is never refused as not counted.
"""

from collections import Counter
from collections.abc import Iterator

from hitcounter.exactly_once.records import Chunk, Entry, Record, RecordLog
from hitcounter.store import keys
from hitcounter.store.keys import SiteKeys


class Lane:
    """The records of one writer for the sites of a lane, and where they stand."""

    def __init__(self, number: int, records: RecordLog) -> None:
        self.number = number
        self.records = records
        self.is_answered = True  # whether the store answered what it was asked last
        self.is_away = False  # until the store holds again all that waits here
        self._appending: Record | None = None

    @property
    def needs_journal(self) -> bool:
        """Return whether the journal holds, or is about to hold, what may be needed again."""
        return self._appending is not None or self.records.needs_journal

    @property
    def can_go_on(self) -> bool:
        """Return whether there is more to ask the store for at once."""
        return self._appending is None and self.records.is_pressing

    def has_sent(self, site: SiteKeys) -> bool:
        """Return whether hits of a site are on their way: the store may hold them or not."""
        return any(site in record.pageviews.sites for record in self.records.pending)

    def sent(self, site: SiteKeys) -> dict[str, int]:
        """Return, by counter, what is on its way for a site, not answered and in no journal."""
        gains: Counter[str] = Counter()
        its_pages = keys.pages_key(self.number, site.site)
        for record in self.records.pending:
            added = record.pageviews
            if record.waiters and site in added.sites:
                gains.update(dict.fromkeys(site.counted, added.sites[site]))
                gains.update({p.key: n for p, n in added.pages.items() if p.count_key == its_pages})
        return gains

    def number_next(self) -> list[Record]:
        """Number what can leave now; return the records that got a number."""
        if not self.is_answered or self._appending is not None:
            return []
        return self.records.number_next()

    def next_chunk(self) -> Chunk | None:
        """Return what to ask the store for; None to ask for the watermark only."""
        return self.records.next_chunk()

    def on_answer(
        self, watermark: int, asked_at_s: float, answered_at_s: float
    ) -> tuple[list[Record], int]:
        """Believe the store; return the records that it confirms, and how many are lost."""
        self.is_answered = True
        return self.records.confirm(watermark, asked_at_s, answered_at_s)

    def on_error(self) -> None:
        """Note that nobody knows what the store did."""
        self.is_answered = False
        self.is_away = True

    def has_returned(self) -> bool:
        """Return whether the store holds, since now, all that waited."""
        if not self.is_away or not self.is_answered or self._appending is not None:
            return False
        self.is_away = not self.records.has_caught_up
        return not self.is_away

    def next_append(self) -> list[Entry]:
        """Take what no chunk has carried; return that, and all else that the journal lacks."""
        self._appending = self.records.take_unsent()
        entries = self.records.to_journal(self._appending.pageviews)
        return [entry._replace(lane=self.number) for entry in entries]

    def on_appended(self) -> list[Record]:
        """Hold what was taken; return the records whose hits the journal holds."""
        taken = self._taken()
        self.records.journaled(taken.pageviews)
        return [*self.records.pending, taken]

    def on_refused(self) -> tuple[Record, list[Record]]:
        """Let go of what was taken; return it, and the records of which nobody knows."""
        return self._taken(), list(self.records.pending)

    def abandon(self) -> list[Record]:
        """Let go of all that is not answered yet; return it: nobody knows of any of it."""
        taken, self._appending = self._appending or Record(), None
        return [*self.records.pending, taken, self.records.take_unsent()]

    def _taken(self) -> Record:
        assert self._appending is not None, "there is no append on its way"
        taken, self._appending = self._appending, None
        return taken


class Lanes:
    """All lanes of a writer, by number."""

    def __init__(self, n: int, kept_window_s: float) -> None:
        self._lanes = [Lane(number, RecordLog(kept_window_s)) for number in range(n)]

    def __iter__(self) -> Iterator[Lane]:
        """Go through all lanes."""
        return iter(self._lanes)

    def of(self, site: str) -> Lane:
        """Return the lane of a site."""
        return self._lanes[keys.lane_of(site, len(self._lanes))]

    @property
    def is_away(self) -> bool:
        """Return whether hits wait that the store does not hold, as it was away."""
        return any(lane.is_away for lane in self._lanes)
