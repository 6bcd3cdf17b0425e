"""The usual way: one transaction of increments for every hit, awaited before the answer.

It has the service's durability (`appendfsync always`) and the same numbers in the answer, and
lacks everything else.
"""

import json
import sys
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from aiohttp import web
from redis.asyncio import BlockingConnectionPool, Redis

from bench.serving import run, serve

CONNECTIONS = 64
ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
STORE = web.AppKey("STORE", Redis)


async def increment(store: Redis, site: str, path: str) -> dict[str, object]:
    """Count one hit of `path` and return the numbers."""
    now = datetime.now(ZONE)
    async with store.pipeline(transaction=True) as transaction:
        for period in (f"{now:%Y-%m-%d}", f"{now:%Y-%m}", f"{now:%Y}", "total", f"page:{path}"):
            transaction.incr(f"{site}:{period}")
        transaction.get(f"{site}:{now - timedelta(days=1):%Y-%m-%d}")
        today, month, year, total, page, yesterday = await transaction.execute()
    return {
        "site": site,
        "today": today,
        "yesterday": int(yesterday or 0),
        "month": month,
        "year": year,
        "total": total,
        "page": {"path": path, "total": page},
    }


async def handler(request: web.Request) -> web.Response:
    """Count the hit and answer the numbers."""
    path = json.loads(await request.read())["path"]
    site = request.match_info["site"]
    return web.json_response(await increment(request.app[STORE], site, path))


async def main(socket_path: str) -> None:
    """Serve until SIGTERM."""
    pool = BlockingConnectionPool.from_url(f"unix://{socket_path}", max_connections=CONNECTIONS)
    app = web.Application()
    app[STORE] = Redis(connection_pool=pool)
    app.router.add_post("/v1/sites/{site}/hits", handler)
    await serve(app)
    await pool.disconnect()


if __name__ == "__main__":
    run(main(sys.argv[1]))
