"""A process of its own that works on journals as it is told, to be killed or failed by a test.

    python -m tests.journal.owner DIRECTORY MAX_BYTES

One line in, one line out: `create WRITER`, `append NUMBER PAGES`, `adopt`, `sums`, `remove`,
`close`. What cannot be done is answered by the name of the error.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hitcounter.errors import HitcounterError
from hitcounter.journal import Journal, Journals
from tests.journal.entries import MAX_BYTES, Sums, flat, whole

WRITER = "00ff"
ROOT = Path(__file__).parents[2]
DONE = "done"
NOT_WRITTEN = "JournalError"
NOBODY_KNOWS = "JournalBrokenError"


class _Orders:
    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._journals = Journals(directory, max_bytes)
        self._owned: list[Journal] = []

    async def create(self, writer: str) -> str:
        self._owned = [await self._journals.create(0, writer)]
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

    process: "subprocess.Popen[str]"

    def tell(self, *words: object) -> None:
        """Give an order, and do not wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        """Read the next answer; nothing if it died before."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, *words: object) -> str:
        """Give an order; return the answer."""
        self.tell(*words)
        return self.answer()

    def kill(self) -> None:
        """Kill it, as the kernel does when memory is short."""
        self.process.kill()
        self.process.wait()


def read(answer: str) -> Sums:
    """Read what an owner tells of its journal."""
    return {int(number): sums for number, sums in json.loads(answer).items()}


@contextmanager
def owner_of(directory: Path, max_bytes: int = MAX_BYTES) -> Iterator[Owner]:
    """Run an owner of journals in a directory; it is killed at the end if it still runs."""
    command = [sys.executable, "-m", "tests.journal.owner", str(directory), str(max_bytes)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Owner(process)
        finally:
            process.kill()


def main() -> None:
    """Do what the lines on standard input say."""
    orders = _Orders(Path(sys.argv[1]), int(sys.argv[2]))
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            order, *words = line.split()
            try:
                answer = runner.run(getattr(orders, order)(*words))
            except HitcounterError as error:
                answer = f"{type(error).__name__} {getattr(error, 'code', '')}"
            except Exception as error:
                answer = f"unexpected {type(error).__name__}: {error}"
            print(answer, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
