"""What was known last, and what waits on top of it: the answers while the store is away."""

from collections.abc import Mapping

from hitcounter.counting.numbers import Numbers
from hitcounter.counting.sites import Question
from hitcounter.store.keys import PageKeys

MAX_KNOWN_PAGES = 8_192


class LastKnown:
    """The totals of the pages that were asked for lately; a site's numbers are its own."""

    def __init__(self, waiting: Mapping[str, int]) -> None:
        """Add what is `waiting`, by counter, to what is known."""
        self._waiting = waiting
        self._page_totals: dict[str, int] = {}

    def remember_page(self, page: PageKeys, total: int) -> None:
        """Remember the total of a page, and forget another if there are too many."""
        self._page_totals[page.key] = total
        if len(self._page_totals) > MAX_KNOWN_PAGES:
            del self._page_totals[next(iter(self._page_totals))]

    def forget_pages(self) -> None:
        """Forget all pages, some of which are gone; they come back with their next hits."""
        self._page_totals.clear()

    def page_total(self, page: PageKeys) -> int | None:
        """Return the total of a page; None where it is not known."""
        total = self._page_totals.get(page.key)
        return None if total is None else total + self._waiting.get(page.key, 0)

    def numbers(self, known: Numbers, question: Question, state: str) -> Numbers:
        """Return what is known of a site, and what waits, as of the day of a question."""
        values = known.values
        if known.names is not question.names or self._waiting:
            values = [n + self._waiting.get(key, 0) for key, n in known.on(question.names).items()]
        total = None if question.keys is None else self.page_total(question.keys)
        return Numbers(known.site, question.names, values, state, question.page, total, known.at)
