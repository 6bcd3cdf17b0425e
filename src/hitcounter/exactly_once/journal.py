"""Acknowledged hits on local disk while the store is away: one file per writer.

An append is one transaction, synced before it returns: after a crash all of it is there, or
nothing. Files hold sites, days, paths and numbers, never who asked.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from hitcounter.errors import JournalBrokenError
from hitcounter.exactly_once import journal_file, journal_format
from hitcounter.exactly_once.journal_file import NEEDS_LOG, PAGE_BYTES, WAL, WHOLE
from hitcounter.exactly_once.records import Entry

log = logging.getLogger(__name__)

_MAX_LOG_BYTES = 4 << 20  # about; then the log is brought into the file, and begins anew

Result = TypeVar("Result")


class Journal:
    """The file of one writer, locked by us; a thread of its own does all work on it."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Own a file that is open and locked; raise `ValueError` where no writer is named so."""
        self.name = path.name
        lane, self.writer, _ = path.stem.split("-")
        self._lane = int(lane)  # of a file of format 1
        self._format, self.rule = journal_format.read_head(connection)
        self._path = path
        self._connection = connection
        self._known_bytes = 0
        self._log_bytes = 0  # about
        self._mark = NEEDS_LOG
        self._thread = ThreadPoolExecutor(1, "journal")

    async def append(self, entries: Sequence[Entry]) -> int:
        """Write entries in one transaction and sync them; return the bytes on disk by now.

        Raise `JournalError` if none of them is written, `JournalBrokenError` if nobody can tell.
        """
        return await self._run(self._append, entries)

    async def sums(self) -> list[Entry]:
        """Read all entries, summed up by lane and number."""
        return await self._run(self._sums)

    async def remove(self) -> None:
        """Remove the file: nothing in it is needed any more."""
        await self._run(self._remove)
        self._thread.shutdown(wait=False)

    async def close(self) -> None:
        """Close the file and leave it to whoever adopts it."""
        await self._run(journal_file.close, self._path, self._connection)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[..., Result], *args: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    def _append(self, entries: Sequence[Entry]) -> int:
        packed = journal_format.packed(entries)
        # A log that we fold says that the file needs it: what is written next is not in the file.
        is_full = self._log_bytes >= _MAX_LOG_BYTES
        mark = NEEDS_LOG if is_full else WHOLE
        try:
            self._path.stat()  # what is written to a file that is gone is lost
            self._connection.execute("BEGIN IMMEDIATE")
            if mark != self._mark:
                self._connection.execute(f"PRAGMA application_id = {mark}")
            row = (time.time(), packed)
            self._connection.execute("INSERT INTO log (written_at, entries) VALUES (?, ?)", row)
        except (OSError, sqlite3.Error) as error:
            self._roll_back()
            raise journal_file.not_written(error) from error
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            if journal_file.code_of(error) == sqlite3.SQLITE_FULL:
                raise journal_file.not_written(error) from error
            raise JournalBrokenError(f"cannot sync the journal {self.name}: {error}") from error
        self._mark = mark
        self._log_bytes += len(packed) + 2 * PAGE_BYTES
        if is_full:
            self._log_bytes = 0
            with suppress(sqlite3.Error):  # what is in the log is safe there, too
                journal_file.folds(self._connection)
        return self._size_bytes()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _sums(self) -> list[Entry]:
        rows = (packed for (packed,) in self._connection.execute("SELECT entries FROM log"))
        return journal_format.sums(rows, self._format, self._lane)

    def _size_bytes(self) -> int:
        files = (self._path, journal_file.beside(self._path, WAL))
        with suppress(OSError):  # a number for the metrics is not worth a hit
            self._known_bytes = sum(file.stat().st_size for file in files if file.exists())
        return self._known_bytes

    def _remove(self) -> None:
        try:
            journal_file.discard(self._path)
        except OSError as error:  # whoever adopts it finds that the store holds all of it
            log.error("cannot remove the journal %s: %s", self._path, error)
        with suppress(sqlite3.Error):  # a full disk; there is nothing to save
            self._connection.close()
