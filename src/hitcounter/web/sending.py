"""Answers of one round of the loop leave together, at its end.

A write wakes whoever waits for it, if that is a program on the same machine and asleep; to wake it
takes longer than the write. Of many writes in a row only the first one has to.
"""

from aiohttp.web_protocol import RequestHandler


class Sending(RequestHandler):
    """A connection whose answers wait for the end of a round, and leave before anything else."""

    peer = ""  # the address of the other end, if its socket has one
    _unsent = b""

    def send_soon(self, data: bytes) -> None:
        """Send this behind what waits already."""
        if not self._unsent:
            self._loop.call_soon(self.send)
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
