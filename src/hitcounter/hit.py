"""What one request to count says: read once, and passed on whole."""

from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from hitcounter.client_address import NOBODY, Client
from hitcounter.errors import UnnamedPage
from hitcounter.site import page_path

# Why a hit does not count, though nothing is wrong with it.
PREFETCH = "prefetch"  # a browser prepares for a visit that may never happen
HEAD = "head"  # which asks only what GET would answer
OWN = "own"  # it comes from where the site is made
LIMITED = "limited"  # whoever sends it has sent as many as one can mean
ROBOT = "robot"  # nobody came: a program did


class Page(NamedTuple):
    """The page that a request is about: its path, or the reason why it has no name."""

    path: str | None = None
    reason: str | None = None


NO_PAGE = Page()


class Hit(msgspec.Struct, frozen=True, gc=False):
    """One hit.

    `site` and `path` are as they came, the latter None where the request names no page; `at` is
    when it arrived, in epoch seconds. `uncounted` says why it does not count, or nothing. `agent`
    is what the client calls itself: empty where it says less than a browser, None if nobody asked.
    With it, `languages` tell visitors apart who have one address.
    """

    site: str
    path: str | None
    id: str | None
    at: float
    referer: str | None = None
    origin: str | None = None
    uncounted: str = ""
    client: Client = NOBODY
    agent: str | None = None
    languages: str = ""

    @property
    def source(self) -> str:
        """Return the origin that it comes from; empty where the browser does not tell."""
        return self.origin or _origin_of(self.referer or "")


def named_page(path: str | None, query: tuple[str, ...] = ()) -> Page:
    """Return the page that a path names; `query` are the parameters that its site counts by.

    Raise `Refusal` where no page has such a path.
    """
    if path is None:
        return NO_PAGE
    try:
        return Page(page_path(path, query))
    except UnnamedPage as unnamed:
        return Page(reason=unnamed.reason)


def _origin_of(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""
