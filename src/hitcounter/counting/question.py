"""What is asked about one site at one moment."""

import msgspec

from hitcounter.counting.sites import SiteState
from hitcounter.hit import Page
from hitcounter.store.keys import PageKeys, SiteKeys


class Question(msgspec.Struct, frozen=True, gc=False):
    """A site, the counters of its day, and a page with its own, if there is one."""

    site: SiteState
    names: SiteKeys
    page: Page
    keys: PageKeys | None
    at: float  # epoch seconds

    @classmethod
    def about(cls, site: SiteState, page: Page, at: float) -> "Question":
        """Ask about a site, and a page of it, as of an instant."""
        keys = None if page.path is None else site.page_keys(page.path)
        return cls(site, site.keys_at(at), page, keys, at)
