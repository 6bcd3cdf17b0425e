"""Acknowledged hits on local disk while the store is away: one SQLite file per writer.

An append is one transaction, synced before it returns: after a crash all of it is there, or
nothing. SQLite's lock on a file is also the sign of life of its writer: whoever gets the lock owns
the writer's records, and only an owner removes the file. Files hold sites, days, paths and numbers,
never who asked.

What was appended last lies in SQLite's write-ahead log beside the file until the file is closed.
So a file says that it needs its log, and one that says so and has none lacks hits: it is set aside.
Entries say the opposite, but in the log: that reaches the file only together with all of them, even
if it is another program that closes it, such as an older version of ours. Neither a missing log nor
a file's age ever lets us delete what may hold a hit.
"""

import asyncio
import errno
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from hitcounter import disk
from hitcounter.errors import JournalBrokenError, JournalError, StartError
from hitcounter.exactly_once import journal_format
from hitcounter.exactly_once.records import Entry

log = logging.getLogger(__name__)

SUFFIX = ".journal"
ASIDE_SUFFIX = ".aside"
_REMOVED_SUFFIX = ".removed"  # of a file that nobody needs, until its log is gone too
_WAL = "-wal"
_SPARE = "-wal-kept"  # the log, while we close the file that still needs it
_ROLLBACK = "-journal"  # which SQLite keeps beside a file until it has the former
# What a file says of itself in its `application_id`; those of version 0.1 say 0, and open ones of
# format 1 the first: older versions, which change that when they close a file, know no other.
_NEEDS_LOG_1, _WHOLE, _NEEDS_LOG = 0x68630001, 0x68630002, 0x68630003
# A clock that was wrong for a while wrote further from now than an outage lasts.
ODD_AGE_S = 30 * 24 * 3600
MAX_AHEAD_S = 60.0
MAX_DISK_SHARE = 0.1  # of what is free when a file is made
_PAGE_BYTES = 4096
_LEAST_PAGES = 16
_UNUSED_FOR_S = 60.0
# The lock mode comes before all else: then the write-ahead log needs no shared memory.
_EXCLUSIVE = "PRAGMA locking_mode = EXCLUSIVE"
# Where a sync ends in the cache of the drive, as on macOS, the journal goes further.
_FULL_SYNC = ("PRAGMA fullfsync = 1", "PRAGMA checkpoint_fullfsync = 1")
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
        self._mark = _NEEDS_LOG
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
        await self._run(_close, self._path, self._connection)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[..., Result], *args: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    def _append(self, entries: Sequence[Entry]) -> int:
        packed = journal_format.packed(entries)
        # A log that we fold says that the file needs it: what is written next is not in the file.
        is_full = self._log_bytes >= _MAX_LOG_BYTES
        mark = _NEEDS_LOG if is_full else _WHOLE
        try:
            self._path.stat()  # what is written to a file that is gone is lost
        except OSError as error:
            raise _not_written(error) from error
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            if mark != self._mark:
                self._connection.execute(f"PRAGMA application_id = {mark}")
            row = (time.time(), packed)
            self._connection.execute("INSERT INTO log (written_at, entries) VALUES (?, ?)", row)
        except sqlite3.Error as error:
            self._roll_back()
            raise _not_written(error) from error
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            if _code(error) == sqlite3.SQLITE_FULL:
                raise _not_written(error) from error
            raise JournalBrokenError(f"cannot sync the journal {self.name}: {error}") from error
        self._mark = mark
        self._log_bytes += len(packed) + 2 * _PAGE_BYTES
        if is_full:
            self._fold()
        return self._size_bytes()

    def _fold(self) -> None:
        with suppress(sqlite3.Error):  # what is in the log is safe there, too
            if _folds(self._connection):
                self._log_bytes = 0

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _sums(self) -> list[Entry]:
        rows = (packed for (packed,) in self._connection.execute("SELECT entries FROM log"))
        if self._format == 1:
            return journal_format.sums_1(self._lane, rows)
        return journal_format.sums(rows)

    def _size_bytes(self) -> int:
        files = (self._path, _beside(self._path, _WAL))
        with suppress(OSError):  # a number for the metrics is not worth a hit
            self._known_bytes = sum(file.stat().st_size for file in files if file.exists())
        return self._known_bytes

    def _remove(self) -> None:
        try:
            _discard(self._path)
        except OSError as error:  # whoever adopts it finds that the store holds all of it
            log.error("cannot remove the journal %s: %s", self._path, error)
        with suppress(sqlite3.Error):  # a full disk; there is nothing to save
            self._connection.close()


class Journals:
    """The directory of all writers' files on this host."""

    unread: frozenset[str] = frozenset()  # what could not be read when we looked last

    def __init__(self, directory: Path, max_bytes: int) -> None:
        """Let a file grow to `max_bytes`, or to less where little of the disk is free."""
        self._directory = directory
        self._max_bytes = max_bytes
        self._known: set[str] = set()  # files of ours

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
        path = self._directory / f"0-{writer}-{len(self._known)}{SUFFIX}"
        self._known.add(path.name)
        try:
            return Journal(path, _made(path, self._fitting_bytes()))
        except (sqlite3.Error, OSError) as error:
            # It holds nothing yet. The file goes last: a log without one would be set aside.
            for file in (_beside(path, _WAL), _beside(path, _ROLLBACK), path):
                with suppress(OSError):
                    file.unlink(missing_ok=True)
            raise _not_written(error) from error

    def _fitting_bytes(self) -> int:
        free_bytes = shutil.disk_usage(self._directory).free
        return min(self._max_bytes, int(free_bytes * MAX_DISK_SHARE))

    def _orphans(self) -> list[Journal]:
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
        if path.suffix == _REMOVED_SUFFIX:
            with suppress(OSError):
                _clear(path)
        elif path.name.endswith((SUFFIX + _WAL, SUFFIX + _ROLLBACK)):
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
    files = (path, _beside(path, _WAL))
    return not all(os.access(file, os.R_OK | os.W_OK) for file in files if file.exists())


def _discard(path: Path) -> None:
    """Remove a file that we have locked: whoever opened it before finds it gone when he gets it."""
    _clear(path.rename(path.with_suffix(_REMOVED_SUFFIX)))


def _clear(removed: Path) -> None:
    """Remove a file that nobody needs; its log goes first, so a log never lies there alone."""
    _beside(removed.with_suffix(SUFFIX), _WAL).unlink(missing_ok=True)
    removed.unlink(missing_ok=True)


def _sweep_log(path: Path) -> None:
    """Remove a log that nobody needs; set aside one that holds hits, and whose file was taken."""
    journal = path.with_name(path.name.removesuffix(_WAL).removesuffix(_ROLLBACK))
    if journal.exists() or journal.with_suffix(_REMOVED_SUFFIX).exists():
        return
    if path.stat().st_size > 0 and path.name.endswith(_WAL):
        aside = path.rename(_beside(path, ASIDE_SUFFIX))
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
    connection = _locked(path)
    try:
        if path.exists() and _is_replayed(path, connection):
            return Journal(path, connection)
    except (sqlite3.Error, OSError, ValueError):
        _close(path, connection)
        raise
    connection.close()
    return None


def _is_replayed(path: Path, connection: sqlite3.Connection) -> bool:
    """Tell whether a file that we have locked is to be replayed; clear another away."""
    if _lacks_log(path, connection):
        aside = path.rename(path.with_suffix(ASIDE_SUFFIX))
        log.error(
            "the write-ahead log of %s is missing: set aside as %s, its hits are not counted; bring"
            " the log beside it, and rename it back",
            path,
            aside,
        )
        return False
    written_at = _last_written_at(connection)
    if written_at is None:  # its writer had no time to write
        _discard(path)
        return False
    _report_clock(path, written_at - time.time())
    return True


def _lacks_log(path: Path, connection: sqlite3.Connection) -> bool:
    """Return whether hits may be missing in a file that we have locked.

    An empty log was made by our lock: that of a writer holds the tables at least. Of the files of
    version 0.1 only those without a table are in doubt: one that was closed has it. Whose writer
    died before the file could have a log lacks none.
    """
    log_path = _beside(path, _WAL)
    if log_path.exists() and log_path.stat().st_size > 0:
        return False
    mark, has_tables = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    needs_log = mark in (_NEEDS_LOG_1, _NEEDS_LOG) if has_tables else mark == 0
    return mode == "wal" and needs_log


def _last_written_at(connection: sqlite3.Connection) -> float | None:
    """Tell when an entry was written last; raise `ValueError` for a file of another format."""
    if _pragma(connection, "user_version") == 0:  # its writer had no time to make the tables
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


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute(_EXCLUSIVE)
    for pragma in _FULL_SYNC:
        connection.execute(pragma)
    return connection


def _made(path: Path, max_bytes: int) -> sqlite3.Connection:
    connection = _connect(path, "rwc")
    try:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute(f"PRAGMA application_id = {_NEEDS_LOG}")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise sqlite3.OperationalError(f"it has no write-ahead log, but {mode}")
        connection.execute("PRAGMA synchronous = FULL")
        max_pages = max(_LEAST_PAGES, max_bytes // _PAGE_BYTES)
        connection.execute(f"PRAGMA max_page_count = {max_pages}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # which would fold any mark
        connection.execute("BEGIN IMMEDIATE")
        journal_format.declare(connection)
        connection.execute("COMMIT")
        is_folded = _folds(connection)
        assert is_folded, "from now on the file itself says that it needs its log"
        disk.sync_directory(path.parent)
    except (sqlite3.Error, OSError):
        connection.close()
        raise
    return connection


def _folds(connection: sqlite3.Connection) -> bool:
    """Bring the write-ahead log into the file; return whether all of it is there."""
    is_busy, n_pages, n_folded = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
    return not is_busy and n_pages == n_folded


def _close(path: Path, connection: sqlite3.Connection) -> None:
    """Close a file, which brings its log into it, and let it say that it needs no log any more.

    SQLite then removes the log; where the file cannot say so, we keep it.
    """
    log_path, spare = _beside(path, _WAL), _beside(path, _SPARE)
    try:
        needs_log = _pragma(connection, "application_id") in (_NEEDS_LOG_1, _NEEDS_LOG)
        # Once folded, the log is written anew from its beginning, which takes no room.
        if needs_log and not _lacks_log(path, connection) and _folds(connection):
            connection.execute(f"PRAGMA application_id = {_WHOLE}")
    except (sqlite3.Error, OSError):
        with suppress(OSError):
            spare.hardlink_to(log_path)
    with suppress(sqlite3.Error):
        connection.close()
    with suppress(OSError):
        spare.replace(log_path)
    with suppress(OSError):  # two names of one file are not replaced by each other
        spare.unlink(missing_ok=True)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _locked(path: Path) -> sqlite3.Connection:
    """Open a file and lock it; raise `BlockingIOError` if its writer lives."""
    connection = _connect(path, "rw")
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if _code(error) == sqlite3.SQLITE_BUSY:
            connection.close()
            raise BlockingIOError from error
        _close(path, connection)
        raise
    return connection


def _sweep(path: Path) -> None:
    """Remove a file that its writer had no time to lock."""
    if time.time() - path.stat().st_mtime > _UNUSED_FOR_S:
        path.unlink()


def _code(error: Exception) -> int:
    """Give the primary result code of SQLite."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _not_written(error: sqlite3.Error | OSError) -> JournalError:
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if is_full or _code(error) == sqlite3.SQLITE_FULL:
        return JournalError("journal_full", "the store is away and the journal is full")
    return JournalError("journal_failed", f"the store is away and the journal fails: {error}")
