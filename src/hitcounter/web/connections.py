"""Who holds how many connections, and which of them makes room for a newcomer.

An address may hold as many as there are, as a whole office can sit behind one. When all are taken,
the address that holds most gives up the one that has waited longest without a request.
"""

from collections import OrderedDict
from itertools import islice

from hitcounter.client_address import Client, packed
from hitcounter.web.protocol import Connection

# So many are looked at before a newcomer is turned away: busy ones are never ended.
TRIES = 64


def origin_of(host: str) -> bytes:
    """Return what counts as one address, as it does for hits."""
    return Client(packed(host) or b"", is_visitor=True).network


class Connections:
    """The open connections by address, and the addresses by how many they hold.

    Those of an address stand in a line: the one first that has waited longest for its client.
    """

    def __init__(self) -> None:
        self._address_of: dict[Connection, bytes] = {}
        self._lines: dict[bytes, OrderedDict[Connection, None]] = {}
        self._holding: dict[int, dict[bytes, None]] = {}  # the addresses that hold so many

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._address_of)

    def add(self, connection: Connection, address: bytes) -> None:
        """Take in a connection that was opened now."""
        line = self._lines.setdefault(address, OrderedDict())
        line[connection] = None
        connection.line = line
        self._address_of[connection] = address
        self._count(address, len(line) - 1, len(line))

    def remove(self, connection: Connection) -> None:
        """Forget a connection, if it is known."""
        address = self._address_of.pop(connection, None)
        if address is not None:
            connection.line = None
            line = self._lines[address]
            del line[connection]
            self._count(address, len(line) + 1, len(line))

    def take_longest_idle(self) -> Connection | None:
        """Remove and return one of the address that holds most; None if too many are busy."""
        tries = TRIES
        for n_open in sorted(self._holding, reverse=True):
            for address in self._holding[n_open]:
                line = self._lines[address]
                for connection in tuple(islice(line, tries)):
                    if connection.is_idle:
                        self.remove(connection)
                        return connection
                    line.move_to_end(connection)  # where it will be when it is idle
                    tries -= 1
                if not tries:
                    return None
        return None

    def _count(self, address: bytes, n_before: int, n_open: int) -> None:
        if n_before:
            del self._holding[n_before][address]
            if not self._holding[n_before]:
                del self._holding[n_before]
        if n_open:
            self._holding.setdefault(n_open, {})[address] = None
        else:
            del self._lines[address]
