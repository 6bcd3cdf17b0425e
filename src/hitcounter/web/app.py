"""The application: who answers a request; and every refusal, also of broken ones, in one form."""

from functools import partial

from hitcounter.client_address import Client
from hitcounter.counting.counter import Counter
from hitcounter.errors import MethodNotAllowed, Refusal
from hitcounter.web import hit_request, proxies
from hitcounter.web.answering import Repeat
from hitcounter.web.hit_request import Target
from hitcounter.web.request import Request
from hitcounter.web.responses import Response, flood_answer, preflight_answer, refusal_answer
from hitcounter.web.routes import Route, Router, Routes

_NOTHING = "there is nothing here; openapi.yaml says what there is"
_METRICS = "metrics are for operators, where operations_host and operations_port say"


class App:
    """Finds who answers a request, and turns refusals into answers."""

    def __init__(self, counter: Counter, routes: Routes) -> None:
        """Answer by a counter, at `routes` beside those of `web.routes`.

        Once `is_draining`, every answer is the last of its connection.
        """
        self.is_draining = False
        self._counter = counter
        self._router = Router(routes)

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        route, target = self._router.find(request.raw_path)
        try:
            if route is not None and request.method == route.method:
                response = await route.handler(self._counter, request, target)
            else:
                response = await self._other_answer(route, request, target)
        except Refusal as refusal:
            self._note(route, target, refusal.code)
            response = refusal_answer(refusal)
        except ConnectionError:  # the client has left
            raise
        except Exception:  # a fault of ours, which `answering` answers
            self._note(route, target, "internal")
            raise
        if self.is_draining:
            response.is_last = True
        return response

    def at_once(self, request: Request) -> Repeat | None:
        """Return how to answer a hit of a flood, of which nothing else is read.

        Of one that is none, the `client` is noted. Where this looks at nothing, as where the
        connection ends, `handle` refuses floods.
        """
        if request.is_last:
            return None
        route, target = self._router.find(request.raw_path)
        if route is None or request.method != route.method or not route.is_counting(target):
            return None
        client = proxies.client(request, self._counter.clients)
        if self._counter.rules.admits(client):
            request.client = client
            return None
        return partial(self._flood_answer, client, route, target)

    def _flood_answer(self, client: Client, route: Route, target: Target) -> bytes | None:
        """Answer a hit of a flood; None where it is over, or the connection has to end."""
        if self.is_draining or not self._counter.rules.refuses(client):
            return None
        self._note(route, target, "flood")
        return flood_answer(int(self._counter.clock()))

    def _note(self, route: Route | None, target: Target, code: str) -> None:
        if route is not None and route.is_counting(target):
            self._counter.metrics.not_counted(target.site, code)

    async def _other_answer(
        self, route: Route | None, request: Request, target: Target
    ) -> Response:
        if route is None:
            is_metrics = request.raw_path.partition("?")[0] == "/metrics"
            raise Refusal("not_found", _METRICS if is_metrics else _NOTHING)
        if request.method == "HEAD" and route.method == "GET":
            return await route.handler(self._counter, request, target)
        if request.method == "OPTIONS":
            return preflight_answer(route.allowed, hit_request.wanted_headers(request.headers))
        raise MethodNotAllowed(route.allowed)
