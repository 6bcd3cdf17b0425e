"""Packets that are answered again without a parse, which takes longer than to refuse them.

Whoever sends a flood repeats itself: the same bytes from the same address are the same request.
"""

from collections.abc import Callable

MAX_PACKETS = 1024  # 2 MB: a packet that is one request, as a whole, is short

# Returns what to send; None once another look at the request is due.
Repeat = Callable[[], bytes | None]


class Repeats:
    """What the connections of a server may answer again."""

    def __init__(self) -> None:
        """Know nothing."""
        self._known: dict[tuple[str, bytes], Repeat] = {}

    def keep(self, peer: str, packet: bytes, repeat: Repeat) -> None:
        """Keep how to answer a packet of an address; for the newest, all others make room."""
        if len(self._known) >= MAX_PACKETS:
            self._known.clear()
        self._known[peer, packet] = repeat

    def answer(self, peer: str, packet: bytes) -> bytes | None:
        """Return the answer to a packet that came before, if it is the same still."""
        repeat = self._known.get((peer, packet))
        return None if repeat is None else repeat()
