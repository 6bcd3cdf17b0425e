"""Many waiting questions, one read on its way to the store.

While a read travels, questions gather for the next; so each is answered with what the store held
after it was asked, and a client that was told of its hit never reads an older number.
"""

import asyncio
from collections.abc import Mapping, Sequence

from hitcounter.store.client import Store, parse_count

Values = Mapping[str, bytes | None]


class BatchedReader:
    """Reads counters for all who ask at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._gathered: dict[str, None] = {}
        self._last: asyncio.Task[Values] | None = None
        self._next: asyncio.Task[Values] | None = None

    async def read(self, names: Sequence[str]) -> dict[str, int | None]:
        """Read counters by name, all at one moment; None where nothing was counted yet.

        Raise `CounterError` where one of them holds no integer, and `StoreError`.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._read_after(self._last))
        self._gathered.update(dict.fromkeys(names))
        values = await asyncio.shield(self._next)  # others wait for it too
        return {name: parse_count(name, values[name]) for name in names}

    async def _read_after(self, last: "asyncio.Task[Values] | None") -> Values:
        if last is not None:
            await asyncio.wait([last])
        names, self._gathered = list(self._gathered), {}
        self._last, self._next = self._next, None
        return await self._store.read_raw(names)
