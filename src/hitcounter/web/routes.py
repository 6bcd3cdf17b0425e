"""Who answers what: one table of routes, and the way from an address to a row of it."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache, partial
from typing import NamedTuple

from hitcounter.counting.counter import Counter
from hitcounter.site import site_in_path
from hitcounter.web import health, hits, scripts
from hitcounter.web.hit_request import Target
from hitcounter.web.request import Request
from hitcounter.web.responses import Response

MAX_REMEMBERED = 256  # characters of a target


def _always(_target: Target) -> bool:
    return True


def _if_asked(target: Target) -> bool:
    return "count=1" in target.query.split("&")


Handler = Callable[[Counter, Request, Target], Awaitable[Response]]


def in_turn(handler: Handler) -> Handler:
    """Let a handler that takes as long as many hits answer one request at a time.

    Then hits pass between them, however many clients ask, and only one is in memory. Whoever leaves
    has no turn: or else who asks and leaves, over and over, keeps it from all others.
    """

    async def answer(counter: Counter, request: Request, target: Target) -> Response:
        request.is_given_up_when_left = True
        async with counter.turn:
            await asyncio.sleep(0)  # the loop goes round once for each, also where nothing waits
            return await handler(counter, request, target)

    return answer


class Route(NamedTuple):
    """Who answers, to which method, and whether a target asks there to count a hit."""

    method: str
    handler: Handler
    is_counting: Callable[[Target], bool] = lambda _target: False

    @property
    def allowed(self) -> str:
        """List the methods for the headers that tell them."""
        return "GET, HEAD, OPTIONS" if self.method == "GET" else f"{self.method}, OPTIONS"


Routes = Mapping[str, Route]

# Below /v1/sites/{site}/
SITE_ROUTES: Routes = {
    "hits": Route("POST", hits.hits, _always),
    "counts": Route("GET", hits.counts),
    "pages": Route("GET", in_turn(hits.pages)),
    "pixel.gif": Route("GET", hits.pixel, _always),
    "badge.svg": Route("GET", hits.badge, _if_asked),
}
ROUTES: Routes = {
    "/widget.js": Route("GET", partial(scripts.serve, scripts.CURRENT, scripts.AN_HOUR)),
    **{
        path: Route("GET", partial(scripts.serve, script, scripts.FOR_EVER))
        for path, script in scripts.PINNED.items()
    },
    "/openapi.yaml": Route("GET", scripts.openapi),
    "/healthz": Route("GET", health.healthz),
    "/readyz": Route("GET", health.readyz),
}

_AUTHORITY = re.compile(r"\Ahttps?://[^/?#]*(?:/|(?=\?)|\Z)", re.IGNORECASE)
_SITE_PATH = re.compile(r"/v1/sites/([^/?]*)/([^/?]*)(?:\?(.*))?", re.DOTALL)


class Router:
    """Finds the row of an address, in our table and in one that whoever serves adds."""

    def __init__(self, more: Routes) -> None:
        """Know `more` routes than those of counting and embedding."""
        self._routes = {**ROUTES, **more}
        self._remembered = lru_cache(maxsize=2048)(self._found)

    def find(self, raw_path: str) -> tuple[Route | None, Target]:
        """Return who answers, and what is asked for; None where nobody does."""
        # Long ones are not remembered: who sends them must not fill the memory.
        is_short = len(raw_path) <= MAX_REMEMBERED
        return self._remembered(raw_path) if is_short else self._found(raw_path)

    def _found(self, raw_path: str) -> tuple[Route | None, Target]:
        if not raw_path.startswith("/"):  # as a proxy may ask
            raw_path = _AUTHORITY.sub("/", raw_path, count=1)
        match = _SITE_PATH.fullmatch(raw_path)
        if match:
            return SITE_ROUTES.get(match[2]), Target(site_in_path(match[1]), match[3] or "")
        path, _, query = raw_path.partition("?")
        return self._routes.get(path), Target("", query)
