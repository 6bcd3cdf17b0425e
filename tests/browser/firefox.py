"""Debian's Firefox, driven by the part of WebDriver BiDi that the tests need.

It speaks the protocol by itself, without a driver program between.
"""

import asyncio
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

END_TIMEOUT_S = 20
LISTENING = b"WebDriver BiDi listening on "
# It asks nobody for anything, and keeps pages for the Back button as a visitor's does.
PREFERENCES = {
    "app.update.enabled": "false",
    "browser.shell.checkDefaultBrowser": "false",
    "datareporting.policy.dataSubmissionEnabled": "false",
    "intl.accept_languages": '"vi"',
    "network.captive-portal-service.enabled": "false",
    "network.connectivity-service.enabled": "false",
    "remote.active-protocols": "1",
    "services.settings.server": '""',
}


class Refused(Exception):
    """Firefox has answered a command with an error."""


def find() -> str | None:
    """Give the path of the installed Firefox."""
    return shutil.which("firefox-esr")


class Firefox:
    """A running Firefox with one tab, which can be changed for an empty one."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        """Take over the connection to a Firefox that was started."""
        self._socket = socket
        self._ids = count(1)
        self._context = ""

    async def command(self, method: str, **parameters: Any) -> Any:
        """Send a command and return its result, passing over the events before it."""
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json()
            if message.get("id") == number:
                if message["type"] == "error":
                    raise Refused(f"{method}: {message['message']}")
                return message["result"]

    async def open_tab(self) -> None:
        """Leave the tab, and open one without a history."""
        before = self._context
        self._context = (await self.command("browsingContext.create", type="tab"))["context"]
        if before:
            await self.command("browsingContext.close", context=before)

    async def goto(self, url: str, wait: str = "complete") -> None:
        """Open a page, and wait until it is loaded."""
        method, context = "browsingContext.navigate", self._context
        await self.command(method, context=context, url=url, wait=wait)

    async def traverse(self, steps: int) -> None:
        """Press the Back button, or Forward."""
        await self.command("browsingContext.traverseHistory", context=self._context, delta=steps)

    async def evaluate(self, expression: str) -> Any:
        """Evaluate an expression in the page; return what a promise of it becomes."""
        result = await self.command(
            "script.evaluate",
            expression=expression,
            target={"context": self._context},
            awaitPromise=True,
        )
        if result["type"] == "exception":
            raise Refused(result["exceptionDetails"]["text"])
        return result["result"].get("value")

    async def screenshot(self) -> bytes:
        """Take a picture of what is in sight, as PNG."""
        shot = await self.command("browsingContext.captureScreenshot", context=self._context)
        return b64decode(shot["data"])

    async def becomes(self, expression: str, value: Any) -> None:
        """Wait until an expression has a value in the page."""
        while (seen := await self.evaluate(expression)) != value:
            await asyncio.sleep(0.02)
        assert seen == value


async def _listening(process: Process) -> str:
    assert process.stderr is not None
    async for line in process.stderr:
        if line.startswith(LISTENING):
            return line.removeprefix(LISTENING).decode().strip()
    raise AssertionError("Firefox ended before it listened")


async def _end(process: Process, drained: "asyncio.Task[bytes]") -> None:
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), END_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
    await drained


@asynccontextmanager
async def running(path: str, profile: Path) -> AsyncIterator[Firefox]:
    """Start a headless Firefox with a fresh profile, and end it afterwards."""
    lines = [f'user_pref("{name}", {value});\n' for name, value in PREFERENCES.items()]
    (profile / "user.js").write_text("".join(lines))
    command = (path, "--headless", "--profile", str(profile), "--remote-debugging-port", "0")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=DEVNULL, stderr=PIPE, env=os.environ | {"HOME": str(profile)}
    )
    assert process.stderr is not None
    drained = None
    try:
        url = await _listening(process)
        drained = asyncio.create_task(process.stderr.read())
        async with ClientSession() as session, session.ws_connect(f"{url}/session") as socket:
            firefox = Firefox(socket)
            await firefox.command("session.new", capabilities={})
            await firefox.open_tab()
            yield firefox
    finally:
        await _end(process, drained or asyncio.create_task(process.stderr.read()))
