"""Serve an aiohttp application, or less, on the loop that the service uses, in one process."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from typing import Any

from aiohttp import web

try:
    import uvloop
except ImportError:  # the service then runs on the standard loop too
    LOOP = "asyncio"
    new_event_loop = asyncio.new_event_loop
else:
    LOOP = f"uvloop {version('uvloop')}"
    new_event_loop = uvloop.new_event_loop


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` on the loop that the service uses."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main)


async def serve(app: web.Application) -> None:
    """Serve `app` until SIGTERM."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    assert runner.server is not None
    await serve_protocol(runner.server)
    await runner.cleanup()


async def serve_protocol(make_protocol: Callable[[], asyncio.Protocol]) -> None:
    """Serve on a free loopback port, print its address, and end on SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(make_protocol, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    server.close()
