"""The SQLite file below a journal: made, locked, closed and removed so that no crash costs a hit.

What was appended last lies in SQLite's write-ahead log beside the file until the file is closed.
So a file says that it needs its log, and one that says so and has none lacks hits. Entries say the
opposite, but in the log: that reaches the file only together with all of them, even if it is
another program that closes it, such as an older version of ours.
"""

import errno
import sqlite3
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from hitcounter import disk
from hitcounter.errors import JournalError
from hitcounter.exactly_once import journal_format

SUFFIX = ".journal"
REMOVED_SUFFIX = ".removed"  # of a file that nobody needs, until its log is gone too
WAL = "-wal"
_SPARE = "-wal-kept"  # the log, while we close the file that still needs it
ROLLBACK = "-journal"  # which SQLite keeps beside a file until it has the former
# What a file says of itself in its `application_id`; those of version 0.1 say 0, and open ones of
# format 1 the first: older versions, which change that when they close a file, know no other.
_NEEDS_LOG_1, WHOLE, NEEDS_LOG = 0x68630001, 0x68630002, 0x68630003
PAGE_BYTES = 4096
_LEAST_PAGES = 16
# The lock mode comes before all else: then the write-ahead log needs no shared memory.
_EXCLUSIVE = "PRAGMA locking_mode = EXCLUSIVE"
# Where a sync ends in the cache of the drive, as on macOS, the journal goes further.
_FULL_SYNC = ("PRAGMA fullfsync = 1", "PRAGMA checkpoint_fullfsync = 1")


def discard(path: Path) -> None:
    """Remove a file that we have locked: what opened it before finds it gone."""
    clear(path.rename(path.with_suffix(REMOVED_SUFFIX)))


def clear(removed: Path) -> None:
    """Remove a file that nobody needs; its log goes first, so a log never lies there alone."""
    beside(removed.with_suffix(SUFFIX), WAL).unlink(missing_ok=True)
    removed.unlink(missing_ok=True)


def lacks_log(path: Path, connection: sqlite3.Connection) -> bool:
    """Return whether hits may be missing in a file that we have locked.

    An empty log was made by our lock: that of a writer holds the tables at least. Of the files of
    version 0.1 only those without a table are in doubt: one that was closed has it. Whose writer
    died before the file could have a log lacks none.
    """
    log_path = beside(path, WAL)
    if log_path.exists() and log_path.stat().st_size > 0:
        return False
    mark, has_tables = pragma(connection, "application_id"), pragma(connection, "user_version")
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    needs_log = mark in (_NEEDS_LOG_1, NEEDS_LOG) if has_tables else mark == 0
    return mode == "wal" and needs_log


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a file in a mode of SQLite, locked from its first use on."""
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


def made(path: Path, max_bytes: int) -> sqlite3.Connection:
    """Make a file, locked, that grows to about `max_bytes` besides its log."""
    connection = connect(path, "rwc")
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute(f"PRAGMA application_id = {NEEDS_LOG}")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise sqlite3.OperationalError(f"it has no write-ahead log, but {mode}")
        connection.execute("PRAGMA synchronous = FULL")
        max_pages = max(_LEAST_PAGES, max_bytes // PAGE_BYTES)
        connection.execute(f"PRAGMA max_page_count = {max_pages}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # which would fold any mark
        connection.execute("BEGIN IMMEDIATE")
        journal_format.declare(connection)
        connection.execute("COMMIT")
        is_folded = folds(connection)
        assert is_folded, "from now on the file itself says that it needs its log"
        disk.sync_directory(path.parent)
    except (sqlite3.Error, OSError):
        connection.close()
        raise
    return connection


def folds(connection: sqlite3.Connection) -> bool:
    """Bring the write-ahead log into the file; return whether all of it is there."""
    is_busy, n_pages, n_folded = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
    return not is_busy and n_pages == n_folded


def close(path: Path, connection: sqlite3.Connection) -> None:
    """Close a file, which brings its log into it, and let it say that it needs no log any more.

    SQLite then removes the log; where the file cannot say so, we keep it.
    """
    log_path, spare = beside(path, WAL), beside(path, _SPARE)
    try:
        needs_log = pragma(connection, "application_id") in (_NEEDS_LOG_1, NEEDS_LOG)
        # Once folded, the log is written anew from its beginning, which takes no room.
        if needs_log and not lacks_log(path, connection) and folds(connection):
            connection.execute(f"PRAGMA application_id = {WHOLE}")
    except (sqlite3.Error, OSError):
        with suppress(OSError):
            spare.hardlink_to(log_path)
    with suppress(sqlite3.Error):
        connection.close()
    with suppress(OSError):
        spare.replace(log_path)
    with suppress(OSError):  # two names of one file are not replaced by each other
        spare.unlink(missing_ok=True)


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Read a number that SQLite keeps."""
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a file that belongs to another."""
    return path.with_name(path.name + suffix)


def locked(path: Path) -> sqlite3.Connection:
    """Open a file and lock it; raise `BlockingIOError` if its writer lives."""
    connection = connect(path, "rw")
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if code_of(error) == sqlite3.SQLITE_BUSY:
            connection.close()
            raise BlockingIOError from error
        close(path, connection)
        raise
    return connection


def code_of(error: Exception) -> int:
    """Return the primary result code of SQLite."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def not_written(error: sqlite3.Error | OSError) -> JournalError:
    """Say that nothing was written; the cause is for the log alone, as it names paths."""
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if is_full or code_of(error) == sqlite3.SQLITE_FULL:
        return JournalError("journal_full", "the store is away and the journal is full")
    return JournalError("journal_failed", "the store is away and the journal fails")
