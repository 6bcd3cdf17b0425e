"""Answers of one round of the loop leave together, at its end.

A write wakes whoever waits for it, if that is a program on the same machine and asleep; to wake it
takes longer than the write. Of many writes in a row only the first one has to.
"""

import asyncio
from typing import Any

from aiohttp import web


class Outbox:
    """The connections of a server that have something to send."""

    def __init__(self) -> None:
        self._connections: list[Sending] = []

    def add(self, connection: "Sending") -> None:
        """Let a connection send when all that can be answered now is answered."""
        if not self._connections:
            asyncio.get_running_loop().call_soon(self._send)
        self._connections.append(connection)

    def _send(self) -> None:
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.send()


class Sending(web.RequestHandler):
    """A connection whose answers wait for the end of a round, and leave before anything else."""

    def __init__(self, server: web.Server, outbox: Outbox, **options: Any) -> None:
        """Share the outbox with the other connections of a server."""
        super().__init__(server, **options)
        self._outbox = outbox
        self._unsent = b""

    def send_soon(self, data: bytes) -> None:
        """Send this behind what waits already."""
        if not self._unsent:
            self._outbox.add(self)
        self._unsent += data

    def send(self) -> None:
        """Send what waits."""
        data, self._unsent = self._unsent, b""
        if data and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def eof_received(self) -> None:
        """Send what waits to a client that asks no more, before the transport closes."""
        self.send()

    def force_close(self) -> None:
        """Close the connection when all that was answered is sent."""
        self.send()
        super().force_close()
