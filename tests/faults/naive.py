"""The negative control: a service that counts the usual way, and must fail where ours holds.

A hit is one transaction of increments, sent by a client with its default retries, and is
acknowledged when that returns. Every retry after a lost reply counts the hit once more.
"""

import json
import sys
from datetime import datetime
from typing import Any

from aiohttp import web
from bench.naive import STORE, ZONE, increment
from redis.asyncio import Redis
from redis.exceptions import RedisError


async def post_hit(request: web.Request) -> web.Response:
    """Count one hit."""
    path = json.loads(await request.read())["path"]
    try:
        numbers = await increment(request.app[STORE], request.match_info["site"], path)
    except RedisError:
        return _unavailable()
    return web.json_response({"state": "counted", **numbers})


async def get_counts(request: web.Request) -> web.Response:
    """Read the numbers of a site, and of a page if asked for."""
    site, path = request.match_info["site"], request.query.get("path")
    now = datetime.now(ZONE)
    periods = (f"{now:%Y-%m-%d}", f"{now:%Y-%m}", f"{now:%Y}", "total", f"page:{path}")
    try:
        values = await request.app[STORE].mget([f"{site}:{period}" for period in periods])
    except RedisError:
        return _unavailable()
    *lines, page = [int(value or 0) for value in values]
    numbers: dict[str, Any] = dict(zip(("today", "month", "year", "total"), lines, strict=True))
    return web.json_response({"state": "fresh", **numbers, "page": {"path": path, "total": page}})


def _unavailable() -> web.Response:
    error = {"error": {"code": "store_unavailable", "message": "the store does not answer"}}
    return web.json_response(error, status=503, headers={"Retry-After": "2"})


def main(port: str, store_port: str) -> None:
    """Serve until SIGTERM."""
    app = web.Application()
    app[STORE] = Redis(port=int(store_port))
    app.add_routes(
        [
            web.post("/v1/sites/{site}/hits", post_hit),
            web.get("/v1/sites/{site}/counts", get_counts),
        ]
    )
    web.run_app(app, host="127.0.0.1", port=int(port), print=None, access_log=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
