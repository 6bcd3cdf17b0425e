"""Serve an aiohttp application the way the service does: same loop, no access log, one process."""

import asyncio
import signal
import socket
from collections.abc import Coroutine
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
    """Serve `app` on a free loopback port, print the port, and end on SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    await web.SockSite(runner, listener).start()
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await stop.wait()
    await runner.cleanup()
