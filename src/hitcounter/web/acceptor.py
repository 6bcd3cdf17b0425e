"""Takes up new connections, several in each round of the event loop.

libuv takes up one a round (libuv/libuv#3696). A thousand busy clients make a round last a tenth of
a second, and a newcomer would wait for one round for each of those that came before it.
"""

import asyncio
import socket
from collections.abc import Callable

AT_ONCE = 16
# The system has no file or memory left for another connection: it may have later.
_PAUSE_S = 0.1


class Acceptor:
    """Gives each new connection of a listener a protocol."""

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        room: Callable[[], int],
    ) -> None:
        """Take the listener, which `close` closes; `room` tells how many protocols may be made."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._make_protocol = make_protocol
        self._room = room
        self._taking_up: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None

    def start(self, backlog: int) -> None:
        """Listen; raise `OSError` where that cannot be."""
        self._listener.listen(backlog)
        self._listener.setblocking(False)
        self._resume()

    async def close(self) -> None:
        """Leave new connections to others; those that are taken up are open afterwards."""
        self._loop.remove_reader(self._listener)
        if self._pause is not None:
            self._pause.cancel()
        await asyncio.gather(*self._taking_up)
        self._listener.close()

    def _resume(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(min(AT_ONCE, self._room() - len(self._taking_up))):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):  # none is left, or it has gone
                return
            except OSError:
                self._loop.remove_reader(self._listener)
                self._pause = self._loop.call_later(_PAUSE_S, self._resume)
                return
            task = self._loop.create_task(self._take_up(connection))
            self._taking_up.add(task)
            task.add_done_callback(self._taking_up.discard)

    async def _take_up(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, connection)
        except OSError:  # it has gone
            connection.close()
