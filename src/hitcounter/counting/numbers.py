"""The numbers of a site, as they are answered."""

from collections.abc import Sequence

import msgspec

from hitcounter.errors import Unavailable
from hitcounter.hit import Page
from hitcounter.site import Site
from hitcounter.store.keys import SiteKeys

FRESH = "fresh"
STALE = "stale"


class Numbers(msgspec.Struct, frozen=True, gc=False):
    """The numbers of a site in the order of `block.LINE_KEYS`, and of one page if asked for.

    A page has no total if its site stores as many as it may, or if the store is away and nobody
    asked for the page lately. `at` is when the store was asked, in epoch seconds; `age_s` tells how
    long ago that was, where the numbers are stale. `removed_ms` is the tombstone beside them, or 0.
    """

    site: Site
    names: SiteKeys
    values: Sequence[int]
    state: str
    page: Page
    page_total: int | None
    at: float
    age_s: int | None = None
    removed_ms: int = 0

    def on(self, names: SiteKeys) -> dict[str, int]:
        """Return them by key as they are on the same day or a later one without more hits."""
        known = dict(zip(self.names.shown, self.values, strict=True))
        return {key: known.get(key, 0) for key in names.shown}


def away() -> Unavailable:
    """Refuse what only the store could answer."""
    return Unavailable("store_unavailable", "the store does not answer; nothing was counted")


def flood() -> Unavailable:
    """Refuse an address that asks for more than it can mean."""
    return Unavailable("flood", "too much comes from this address; nothing was counted")
