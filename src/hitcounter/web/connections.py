"""Who holds how many connections, and which of them makes room for a newcomer.

An address may hold as many as there are, as a whole office can sit behind one. When all are taken,
the address that holds most gives up the one that has waited longest without a request.
"""

from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import NamedTuple

from hitcounter.client_address import Client, packed
from hitcounter.web.protocol import Connection

# So many are looked at before a newcomer is turned away: busy ones are never ended.
TRIES = 64
_SPARE_ENTRIES = 64


class _Entry(NamedTuple):
    """When a connection was idle at the earliest; `number` decides between equals."""

    at: float
    number: int
    connection: Connection


def origin_of(host: str) -> bytes:
    """Return what counts as one address, as it does for hits."""
    return Client(packed(host) or b"", is_visitor=True).network


class Connections:
    """The open connections by address, and the addresses by how many they hold."""

    def __init__(self) -> None:
        self._address_of: dict[Connection, bytes] = {}
        self._queues: dict[bytes, list[_Entry]] = {}
        self._n_open: dict[bytes, int] = {}
        self._holding: dict[int, dict[bytes, None]] = {}  # the addresses that hold so many
        self._number = count()

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._address_of)

    def add(self, connection: Connection, address: bytes, now: float) -> None:
        """Take in a connection that was opened now."""
        self._address_of[connection] = address
        self._count(address, 1)
        queue = self._queues.setdefault(address, [])
        heappush(queue, _Entry(now, next(self._number), connection))
        if len(queue) > 2 * self._n_open[address] + _SPARE_ENTRIES:  # most of them are gone
            queue[:] = [entry for entry in queue if entry.connection in self._address_of]
            heapify(queue)

    def remove(self, connection: Connection) -> None:
        """Forget a connection, if it is known."""
        address = self._address_of.pop(connection, None)
        if address is not None:
            self._count(address, -1)

    def take_longest_idle(self, now: float) -> Connection | None:
        """Remove and return one of the address that holds most; None if too many are busy."""
        tries = TRIES
        for n_open in sorted(self._holding, reverse=True):
            for address in self._holding[n_open]:
                queue = self._queues[address]
                n_looks = min(tries, len(queue))
                connection = self._longest_idle(queue, n_looks, now)
                if connection is not None:
                    self.remove(connection)
                    return connection
                tries -= n_looks
                if not tries:
                    return None
        return None

    def _longest_idle(self, queue: list[_Entry], n_looks: int, now: float) -> Connection | None:
        """Look at the first of a queue, and put where they belong those that have asked since.

        Where all of them have, the longest idle of these will do: one who asks on every connection
        now and then keeps nobody out.
        """
        moved = []
        for _ in range(n_looks):
            first = queue[0]
            idle_since = first.connection.idle_since
            if first.connection not in self._address_of:
                heappop(queue)
            elif idle_since is None:
                heapreplace(queue, _Entry(now, next(self._number), first.connection))
            elif idle_since <= first.at:
                heappop(queue)
                return first.connection
            else:
                moved.append(_Entry(idle_since, next(self._number), first.connection))
                heapreplace(queue, moved[-1])
        return min(moved).connection if moved else None

    def _count(self, address: bytes, step: int) -> None:
        n_before = self._n_open.pop(address, 0)
        n_open = n_before + step
        if n_before:
            del self._holding[n_before][address]
            if not self._holding[n_before]:
                del self._holding[n_before]
        if n_open:
            self._n_open[address] = n_open
            self._holding.setdefault(n_open, {})[address] = None
        else:
            del self._queues[address]
