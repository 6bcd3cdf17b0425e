"""The journals of all writers on this host, and which of them nobody writes any more.

SQLite's lock on a file is the sign of life of its writer: what gets the lock owns the writer's
records, and only an owner removes the file. Neither a missing log nor a file's age ever lets us
delete what may hold a hit: it is set aside.
"""

import asyncio
import logging
import os
import shutil
import sqlite3
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

from hitcounter.errors import StartError
from hitcounter.exactly_once import journal_file, journal_format
from hitcounter.exactly_once.journal import Journal
from hitcounter.exactly_once.journal_file import REMOVED_SUFFIX, ROLLBACK, SUFFIX, WAL

log = logging.getLogger(__name__)

ASIDE_SUFFIX = ".aside"
# A clock that was wrong for a while wrote further from now than an outage lasts.
ODD_AGE_S = 30 * 24 * 3600
MAX_AHEAD_S = 60.0
MAX_DISK_SHARE = 0.1  # of what is free when a file is made
_UNUSED_FOR_S = 60.0


class Journals:
    """The directory of all writers' files on this host."""

    # When we looked last: what could not be read, and how far the file of our writer could grow.
    unread: frozenset[str] = frozenset()
    limit_bytes = 0

    def __init__(self, directory: Path, max_bytes: int) -> None:
        """Let a file grow to `max_bytes`, or to less where little of the disk is free."""
        self._directory = directory
        self._max_bytes = max_bytes
        self._numbers = count()
        self._known: set[str] = set()  # files of ours
        self._made: tuple[Path, int] | None = None  # the last one, and its bound

    def prepare(self) -> None:
        """Make the directory; raise `StartError` where that cannot be, or where it is of no use."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(f"cannot make {self._directory}: {error.strerror}") from None
        check_access(self._directory)

    async def create(self, writer: str) -> Journal:
        """Make the file of a writer; raise `JournalError` if that cannot be."""
        return await asyncio.to_thread(self._create, writer)

    async def orphans(self) -> list[Journal]:
        """Lock and return the files of writers that are gone.

        Raise `OSError` where the directory cannot be listed.
        """
        return await asyncio.to_thread(self._orphans)

    def _create(self, writer: str) -> Journal:
        # A name is never used again: who opened a file that is gone must not find another there.
        # Older versions, which know the place of the writer in it, name a lane first.
        path = self._directory / f"0-{writer}-{next(self._numbers)}{SUFFIX}"
        self._known.add(path.name)
        try:
            most_bytes = self._fitting_bytes()
            journal = Journal(path, journal_file.made(path, most_bytes))
            self._made = path, most_bytes
            return journal
        except (sqlite3.Error, OSError) as error:
            # It holds nothing yet. The file goes last: a log without one would be set aside.
            for file in (journal_file.beside(path, WAL), journal_file.beside(path, ROLLBACK), path):
                with suppress(OSError):
                    file.unlink(missing_ok=True)
            self._known.discard(path.name)
            raise journal_file.not_written(error) from error

    def _fitting_bytes(self) -> int:
        free_bytes = shutil.disk_usage(self._directory).free
        return min(self._max_bytes, int(free_bytes * MAX_DISK_SHARE))

    def _measure(self) -> None:
        with suppress(OSError):  # a number for the metrics is worth no error
            self.limit_bytes = self._fitting_bytes()
            if self._made is not None and self._made[0].exists():
                path, most_bytes = self._made
                here_bytes = path.stat().st_size + shutil.disk_usage(path).free
                self.limit_bytes = min(most_bytes, here_bytes)

    def _orphans(self) -> list[Journal]:
        self._measure()
        found, unread = [], set()
        for path in self._files():
            try:
                if (journal := self._taken(path)) is not None:
                    found.append(journal)
            except (FileNotFoundError, BlockingIOError):
                continue
            except (sqlite3.Error, OSError, ValueError) as error:
                unread.add(path.name)
                if path.name not in self.unread:
                    log.error("%s cannot be read, its hits are missing: %s", path, error)
        self.unread = frozenset(unread)
        return found

    def _files(self) -> list[Path]:
        try:
            return sorted(self._directory.iterdir())
        except FileNotFoundError:
            return []
        except OSError:
            self.unread = frozenset([self._directory.name])
            raise

    def _taken(self, path: Path) -> Journal | None:
        """Own a file of a writer that is gone, or clear away what nobody needs."""
        if path.suffix == REMOVED_SUFFIX:
            with suppress(OSError):
                journal_file.clear(path)
        elif path.name.endswith((SUFFIX + WAL, SUFFIX + ROLLBACK)):
            _sweep_log(path)
        elif path.suffix == SUFFIX and path.name not in self._known:
            if path.stat().st_size == 0:
                _sweep(path)
            elif (journal := _adopted(path)) is not None:
                self._known.add(path.name)
                return journal
        return None


def check_access(directory: Path) -> None:
    """Raise `StartError` if what a directory holds can be neither listed nor changed by us."""
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise StartError(
            f"cannot list {directory} and write to it: make it writable, and give all of it to the"
            " user that the service runs as"
        )


def unreadable(path: Path) -> bool:
    """Return whether a journal, or its log, cannot be read and written by us."""
    files = (path, journal_file.beside(path, WAL))
    return not all(os.access(file, os.R_OK | os.W_OK) for file in files if file.exists())


def _sweep_log(path: Path) -> None:
    """Remove a log that nobody needs; set aside one that holds hits, and whose file was taken."""
    journal = path.with_name(path.name.removesuffix(WAL).removesuffix(ROLLBACK))
    if journal.exists() or journal.with_suffix(REMOVED_SUFFIX).exists():
        return
    if path.stat().st_size > 0 and path.name.endswith(WAL):
        aside = path.rename(journal_file.beside(path, ASIDE_SUFFIX))
        log.error(
            "%s is not there, but its write-ahead log is: set aside as %s, its hits are missing;"
            " bring the file back, and rename the log",
            journal,
            aside,
        )
    else:
        with suppress(OSError):
            path.unlink()


def _adopted(path: Path) -> Journal | None:
    """Lock a file that holds something to replay, and clear another away."""
    connection = journal_file.locked(path)
    try:
        if path.exists() and _is_replayed(path, connection):
            return Journal(path, connection)
    except (sqlite3.Error, OSError, ValueError):
        journal_file.close(path, connection)
        raise
    connection.close()
    return None


def _is_replayed(path: Path, connection: sqlite3.Connection) -> bool:
    """Return whether a file that we have locked is to be replayed; clear another away."""
    if journal_file.lacks_log(path, connection):
        aside = path.rename(journal_file.beside(path, ASIDE_SUFFIX))
        log.error(
            "the write-ahead log of %s is missing: set aside as %s, its hits are not counted; bring"
            " the log beside it, and rename it back",
            path,
            aside,
        )
        return False
    written_at = _last_written_at(connection)
    if written_at is None:  # its writer had no time to write
        journal_file.discard(path)
        return False
    _report_clock(path, written_at - time.time())
    return True


def _last_written_at(connection: sqlite3.Connection) -> float | None:
    """Tell when an entry was written last; raise `ValueError` for a file of another format."""
    if journal_file.pragma(connection, "user_version") == 0:  # it had no time to make the tables
        return None
    journal_format.read_head(connection)
    (written_at,) = connection.execute("SELECT max(written_at) FROM log").fetchone()
    return None if written_at is None else float(written_at)


def _report_clock(path: Path, ahead_s: float) -> None:
    if ahead_s > MAX_AHEAD_S or ahead_s < -ODD_AGE_S:
        log.error(
            "%s was written %.0f s %s now: was the clock wrong? Its hits count on the days of then",
            path,
            abs(ahead_s),
            "after" if ahead_s > 0 else "before",
        )


def _sweep(path: Path) -> None:
    """Remove a file that its writer had no time to lock."""
    if time.time() - path.stat().st_mtime > _UNUSED_FOR_S:
        path.unlink()
