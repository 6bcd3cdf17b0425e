"""The upper bound: aiohttp answering the same requests and doing nothing."""

from aiohttp import web

from bench.serving import run, serve


async def handler(_request: web.Request) -> web.Response:
    """Answer nothing."""
    return web.Response()


def application() -> web.Application:
    """Make the application with its one route."""
    app = web.Application()
    app.router.add_post("/v1/sites/{site}/hits", handler)
    return app


if __name__ == "__main__":
    run(serve(application()))
