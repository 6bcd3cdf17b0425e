"""A process of its own that works on journals as it is told, to be killed or failed by a test.

One line in, one line out: `create WRITER`, `append NUMBER PAGES`, `adopt`, `sums`, `remove`,
`close`. What cannot be done is answered by the name of the error.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from hitcounter.errors import HitcounterError
from hitcounter.exactly_once.journal import Journal
from hitcounter.exactly_once.journals import Journals
from tests.journal.entries import MAX_BYTES, Sums, flat, whole
from tests.journal.forks import Fork, forked

WRITER = "00ff"
DONE = "done"
NOT_WRITTEN = "JournalError"
NOBODY_KNOWS = "JournalBrokenError"


class _Signals:
    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._journals = Journals(directory, max_bytes)
        self._owned: list[Journal] = []

    async def create(self, writer: str) -> str:
        self._owned = [await self._journals.create(writer)]
        return DONE

    async def append(self, number: str, n_pages: str) -> str:
        await self._owned[0].append([whole(int(number), int(n_pages))])
        return DONE

    async def adopt(self) -> str:
        self._owned += await self._journals.orphans()
        return " ".join(journal.name for journal in self._owned)

    async def sums(self) -> str:
        return json.dumps(flat(await self._owned[0].sums()))

    async def remove(self) -> str:
        await self._owned.pop().remove()
        return DONE

    async def close(self) -> str:
        await self._owned.pop().close()
        return DONE


@dataclass(frozen=True, slots=True)
class Owner:
    """A running owner, to be told what to do."""

    fork: Fork

    def tell(self, *words: object) -> None:
        """Give an order, and do not wait for the answer."""
        self.fork.tell(" ".join(map(str, words)))

    def answer(self) -> str:
        """Read the next answer; nothing if it died before."""
        return self.fork.answer()

    def ask(self, *words: object) -> str:
        """Give an order; return the answer."""
        self.tell(*words)
        return self.answer()

    def kill(self) -> None:
        """Kill it, as the kernel does when memory is short."""
        self.fork.kill()


def read(answer: str) -> Sums:
    """Read what an owner tells of its journal."""
    return {int(number): sums for number, sums in json.loads(answer).items()}


@contextmanager
def owner_of(directory: Path, max_bytes: int = MAX_BYTES) -> Iterator[Owner]:
    """Run an owner of journals in a directory; it is killed at the end if it still runs."""
    with forked(obey, str(directory), str(max_bytes)) as fork:
        yield Owner(fork)


def obey(connection: "Connection[str, str]", directory: str, max_bytes: str) -> None:
    """Do what the lines say that come, until no more can come."""
    orders = _Signals(Path(directory), int(max_bytes))
    with asyncio.Runner() as runner:
        while True:
            try:
                order, *words = connection.recv().split()
            except EOFError:
                return
            try:
                answer = runner.run(getattr(orders, order)(*words))
            except HitcounterError as error:
                answer = f"{type(error).__name__} {getattr(error, 'code', '')}".strip()
            except Exception as error:
                answer = f"unexpected {type(error).__name__}: {error}"
            connection.send(answer)
