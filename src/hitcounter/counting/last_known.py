"""What was known last, and what waits on top of it: the answers while the store is away."""

from collections.abc import Mapping

from hitcounter.counting.numbers import Numbers
from hitcounter.counting.sites import Question
from hitcounter.store.keys import PageKeys

MAX_KNOWN_PAGES = 8_192
NOTHING: Mapping[str, int] = {}


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

    def page_total(self, page: PageKeys, sent: Mapping[str, int] = NOTHING) -> int | None:
        """Return the total of a page, with what was `sent`; None where it is not known."""
        total = self._page_totals.get(page.key)
        return None if total is None else total + self._on_top(page.key, sent)

    def numbers(
        self, known: Numbers, question: Question, state: str, sent: Mapping[str, int] = NOTHING
    ) -> Numbers:
        """Return what is known of a site, what waits and was `sent`, as of a question's day."""
        values = known.values
        if known.names is not question.names or self._waiting or sent:
            on_day = known.on(question.names)
            values = [n + self._on_top(key, sent) for key, n in on_day.items()]
        total = None if question.keys is None else self.page_total(question.keys, sent)
        return Numbers(known.site, question.names, values, state, question.page, total, known.at)

    def _on_top(self, key: str, sent: Mapping[str, int]) -> int:
        return self._waiting.get(key, 0) + sent.get(key, 0)
