"""What operations answer: the metrics, and in detail whether hits can be counted.

Anything that a browser on this machine opens can send requests here. None of them may read an
answer: no header admits another origin, and a name that somebody else points at us is refused.
"""

import asyncio
import gzip
from collections.abc import Mapping
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from hitcounter.config import Config
from hitcounter.counting.readiness import Shared
from hitcounter.errors import MethodNotAllowed, Refusal, Unavailable
from hitcounter.operations.collector import of_all_workers
from hitcounter.operations.readiness import asked
from hitcounter.site import one_origin, origin_host
from hitcounter.web.request import Request
from hitcounter.web.responses import (
    Response,
    accepts_gzip,
    json_answer,
    no_store,
    refusal_answer,
    response,
)

if TYPE_CHECKING:
    from hitcounter.store.client import Store
    from hitcounter.store.inspection import Inspection

_METHODS = ("GET", "HEAD")
_GZIP_LEVEL = 6  # 9 takes five times as long, and saves nothing
_STORE_TIMEOUT_S = 2.0  # no hit waits for it


def private_refusal(refusal: Refusal) -> Response:
    """Answer a refusal, as all answers here."""
    return refusal_answer(refusal, JSON_HEADERS)


def _private(content_type: str) -> dict[str, str]:
    """Return headers that keep an answer from pages of other origins, which may read others."""
    headers = no_store(content_type) | {"Cross-Origin-Resource-Policy": "same-origin"}
    return {name: headers[name] for name in headers if not name.startswith("Access-Control-")}


JSON_HEADERS = _private("application/json")
METRICS_HEADERS = _private(CONTENT_TYPE_PLAIN_0_0_4)


class App:
    """Answers for all workers of a service; asks the store on a connection of its own."""

    def __init__(self, config: Config, store_url: str, metrics_dir: Path) -> None:
        """Answer from what the workers write into `metrics_dir`."""
        self._config = config
        self._store_url = store_url
        self._store: Store | None = None
        self._metrics_dir = metrics_dir
        self._names = {config.operations_host, "localhost", *config.operations_hosts}
        # Whoever comes while metrics are put together may miss what happened since: they share the
        # next ones. So a flood costs one core of this process, and little memory.
        self._metrics = Shared(self._put_together, kept_s=0.0)
        self._readiness = Shared(self._ask_readiness)
        self._routes = {"/metrics": self._answer_metrics, "/readyz": self._answer_readyz}

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        try:
            return await self._answer(request)
        except Refusal as refusal:
            return private_refusal(refusal)

    async def _answer(self, request: Request) -> Response:
        transport = request.connection.transport
        assert transport is not None
        host = request.headers.get(hdrs.HOST, "")
        if not is_ours(host, transport.get_extra_info("sockname")[0], self._names):
            raise Refusal(
                "foreign_host", "this is no name of operations; operations_hosts may add it"
            )
        handler = self._routes.get(request.raw_path.partition("?")[0])
        if handler is None:
            raise Refusal("not_found", "here are /metrics and /readyz, and no more")
        if request.method not in _METHODS:
            raise MethodNotAllowed(", ".join(_METHODS))
        return await handler(request)

    async def _answer_metrics(self, request: Request) -> Response:
        """Answer the metrics of all workers, in the one format that every Prometheus reads."""
        # The client library's own handler negotiates, and fails on what some write as a version.
        body, headers = await self._metrics.answer(), METRICS_HEADERS
        if accepts_gzip(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ()))):
            body = await asyncio.to_thread(gzip.compress, body, _GZIP_LEVEL)
            headers = headers | {"Content-Encoding": "gzip"}
        return response(body, headers)

    async def _put_together(self) -> bytes:
        registry = of_all_workers(self._metrics_dir, self._config.sites)
        return await asyncio.to_thread(generate_latest, registry)

    async def _answer_readyz(self, _request: Request) -> Response:
        """Answer whether hits can be counted, and which promise the store keeps."""
        found = await self._readiness.answer()
        if isinstance(found, Unavailable):
            raise found
        return json_answer(found, headers=JSON_HEADERS)

    async def _ask_readiness(self) -> Mapping[str, Any] | Unavailable:
        return await asked(self._inspection, self._metrics_dir, is_open=self._config.is_open)

    @cached_property
    def _inspection(self) -> "Inspection":
        # Loaded here, as most only scrape metrics: the store's client takes 8 MB.
        from hitcounter.store.client import Store
        from hitcounter.store.inspection import Inspection

        self._store = Store(self._store_url, _STORE_TIMEOUT_S)
        return Inspection(self._store)

    async def close(self) -> None:
        """Leave the store."""
        if self._store is not None:
            await self._store.close()


def is_ours(host: str, address: str, names: set[str]) -> bool:
    """Return whether a `Host` names the listener that took a connection at `address`."""
    name = origin_host(one_origin(host)).strip("[]")
    try:
        asked, local = ip_address(name), ip_address(address.partition("%")[0])
    except ValueError:
        return name in names
    mapped = getattr(local, "ipv4_mapped", None)
    return asked.is_loopback or asked in (local, mapped) or name in names
