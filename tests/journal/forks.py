"""Processes that a test starts by hundreds, forked from one that has imported what they need.

To start Python anew and import everything takes each of them a good half second.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

PRELOADED = ["tests.journal.owner", "tests.journal.worker"]

Work = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Fork:
    """A running process, and the way to talk to it."""

    process: BaseProcess
    connection: "Connection[str, str]"

    @property
    def pid(self) -> int:
        """Give the id of the process."""
        assert self.process.pid is not None
        return self.process.pid

    def tell(self, line: str) -> None:
        """Say something, and do not wait for the answer."""
        self.connection.send(line)

    def answer(self) -> str:
        """Wait for what it says next; nothing if it died before."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionError):
            return ""

    def end(self) -> None:
        """Wait until it has ended by itself."""
        self.process.join()

    def kill(self) -> None:
        """Kill it, as the kernel does when memory is short."""
        self.process.kill()
        self.process.join()


@contextmanager
def forked(work: Work, *args: str) -> Iterator[Fork]:
    """Run a function of a preloaded module; its process is killed at the end if it still runs.

    `work` gets the other end of the connection, and the arguments.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, *args))
    process.start()
    theirs.close()
    fork = Fork(process, ours)
    try:
        yield fork
    finally:
        fork.kill()
        ours.close()
        process.close()
