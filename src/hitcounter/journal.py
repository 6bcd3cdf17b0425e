"""Acknowledged hits on local disk while the store is away: one SQLite file per writer.

An append is one transaction, synced before it returns: after a crash all of it is there, or
nothing. SQLite's lock on a file is also the sign of life of its writer: whoever gets the lock owns
the writer's records, and only an owner removes the file. Files hold names of counters and numbers,
never who asked.
"""

import asyncio
import errno
import logging
import shutil
import sqlite3
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from hitcounter import disk, keys
from hitcounter.errors import JournalBrokenError, JournalError, StartError
from hitcounter.stream import Entry, Pageviews

log = logging.getLogger(__name__)

FORMAT = 1
SUFFIX = ".journal"
ASIDE_SUFFIX = ".aside"
_WAL = "-wal"
_LOGS = (_WAL, "-journal")  # which SQLite keeps beside a file; the latter until it has the former
MAX_AGE_S = 30 * 24 * 3600
MAX_DISK_SHARE = 0.1  # of what is free when a file is made
_PAGE_BYTES = 4096
_LEAST_PAGES = 16
_UNUSED_FOR_S = 60.0
# The lock mode comes before all else: then the write-ahead log needs no shared memory.
_EXCLUSIVE = "PRAGMA locking_mode = EXCLUSIVE"
# Where a sync ends in the cache of the drive, as on macOS, the journal goes further.
_FULL_SYNC = ("PRAGMA fullfsync = 1", "PRAGMA checkpoint_fullfsync = 1")
_TABLE = (
    "CREATE TABLE log (id INTEGER PRIMARY KEY, written_at REAL NOT NULL, entries BLOB NOT NULL)"
)

Result = TypeVar("Result")
# Per entry: its number, [key of the day, n] of every site, [key, limit, n] of every page.
_Row = list[tuple[int, list[tuple[str, int]], list[tuple[str, int, int]]]]

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Row).decode


class Journal:
    """The file of one writer, locked by us; a thread of its own does all work on it."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Own a file that is open and locked."""
        self.name = path.name
        lane, self.writer, _ = path.stem.split("-")
        self.lane = int(lane)
        self._path = path
        self._connection = connection
        self._known_bytes = 0
        self._thread = ThreadPoolExecutor(1, "journal")

    async def append(self, entries: Sequence[Entry]) -> int:
        """Write entries in one transaction and sync them; return the bytes on disk by now.

        Raise `JournalError` if none of them is written, `JournalBrokenError` if nobody can tell.
        """
        return await self._run(self._append, entries)

    async def sums(self) -> list[Entry]:
        """Read all entries, summed up by their number."""
        return await self._run(self._sums)

    async def remove(self) -> None:
        """Remove the file: nothing in it is needed any more."""
        await self._run(self._remove)
        self._thread.shutdown(wait=False)

    async def close(self) -> None:
        """Close the file and leave it to whoever adopts it."""
        await self._run(self._connection.close)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[..., Result], *args: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    def _append(self, entries: Sequence[Entry]) -> int:
        row = (time.time(), _packed(entries))
        try:
            self._path.stat()  # what is written to a file that is gone is lost
        except OSError as error:
            raise _not_written(error) from error
        try:
            self._connection.execute("BEGIN IMMEDIATE")
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
        return self._size_bytes()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _sums(self) -> list[Entry]:
        rows = self._connection.execute("SELECT entries FROM log")
        return list(_sums(self.lane, (packed for (packed,) in rows)))

    def _size_bytes(self) -> int:
        files = (self._path, self._path.with_name(self.name + _WAL))
        with suppress(OSError):  # a number for the metrics is not worth a hit
            self._known_bytes = sum(file.stat().st_size for file in files if file.exists())
        return self._known_bytes

    def _remove(self) -> None:
        try:
            # Unlinked while locked: whoever opened it before finds it gone once he has the lock.
            self._path.unlink()
        except OSError as error:  # whoever adopts it finds that the store holds all of it
            log.error("cannot remove the journal %s: %s", self._path, error)
        with suppress(sqlite3.Error):  # a full disk; there is nothing to save
            self._connection.close()
        with suppress(OSError):
            self._path.with_name(self.name + _WAL).unlink(missing_ok=True)


class Journals:
    """The directory of all writers' files on this host."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        """Let a file grow to `max_bytes`, or to less where little of the disk is free."""
        self._directory = directory
        self._max_bytes = max_bytes
        self._known: set[str] = set()  # files of ours
        self._reported: set[str] = set()  # files that could not be read

    def prepare(self) -> None:
        """Make the directory; raise `StartError` where that cannot be."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(f"cannot make {self._directory}: {error.strerror}") from None

    async def create(self, lane: int, writer: str) -> Journal:
        """Make the file of a writer; raise `JournalError` if that cannot be."""
        return await asyncio.to_thread(self._create, lane, writer)

    async def orphans(self) -> list[Journal]:
        """Lock and return the files of writers that are gone."""
        return await asyncio.to_thread(lambda: list(self._orphans()))

    def _create(self, lane: int, writer: str) -> Journal:
        # A name is never used again: who opened a file that is gone must not find another there.
        path = self._directory / f"{lane}-{writer}-{len(self._known)}{SUFFIX}"
        self._known.add(path.name)
        try:
            connection = _made(path, self._fitting_bytes())
            disk.sync_directory(self._directory)
        except (sqlite3.Error, OSError) as error:
            for file in (path, *(path.with_name(path.name + log) for log in _LOGS)):
                with suppress(OSError):
                    file.unlink(missing_ok=True)  # it holds nothing yet
            raise _not_written(error) from error
        return Journal(path, connection)

    def _fitting_bytes(self) -> int:
        free_bytes = shutil.disk_usage(self._directory).free
        return min(self._max_bytes, int(free_bytes * MAX_DISK_SHARE))

    def _orphans(self) -> Iterator[Journal]:
        self._sweep_logs()
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            if path.name in self._known:
                continue
            try:
                if path.stat().st_size == 0:
                    _sweep(path)
                elif (connection := _adopted(path)) is not None:
                    self._known.add(path.name)
                    yield Journal(path, connection)
            except (FileNotFoundError, BlockingIOError):
                continue
            except (sqlite3.Error, OSError, ValueError) as error:
                if path.name not in self._reported:
                    log.error(
                        "the journal %s cannot be read, its hits are missing: %s", path, error
                    )
                self._reported.add(path.name)

    def _sweep_logs(self) -> None:
        """Remove what is left where somebody died while he made or removed a file."""
        for suffix in _LOGS:
            for file in self._directory.glob(f"*{SUFFIX}{suffix}"):
                with suppress(OSError):
                    if not file.with_name(file.name.removesuffix(suffix)).exists():
                        file.unlink(missing_ok=True)


def _adopted(path: Path) -> sqlite3.Connection | None:
    """Lock a file that holds something to replay, and clear another away."""
    connection = _locked(path)
    written_at = None
    try:
        if path.exists():  # else its owner removed it between our opening and our lock
            written_at = _last_written_at(connection)
        if written_at is not None and time.time() - written_at <= MAX_AGE_S:
            return connection
    except (sqlite3.Error, ValueError):
        connection.close()
        raise
    connection.close()  # which brings the write-ahead log into the file
    if written_at is None:  # its writer had no time to write
        path.unlink(missing_ok=True)
    else:
        aside = path.with_suffix(ASIDE_SUFFIX)
        if path.with_name(path.name + _WAL).exists():
            raise OSError("it is too old, and there is no room to set it aside")
        path.rename(aside)
        log.error("a journal is older than 30 days: set aside as %s, not counted", aside)
    return None


def _last_written_at(connection: sqlite3.Connection) -> float | None:
    """Tell when an entry was written last; raise `ValueError` for a file of another format."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:  # its writer had no time to make the table
        return None
    if version != FORMAT:
        raise ValueError(f"it is of format {version}, and this program reads {FORMAT}")
    (written_at,) = connection.execute("SELECT max(written_at) FROM log").fetchone()
    return None if written_at is None else float(written_at)


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
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise sqlite3.OperationalError(f"it has no write-ahead log, but {mode}")
        connection.execute("PRAGMA synchronous = FULL")
        max_pages = max(_LEAST_PAGES, max_bytes // _PAGE_BYTES)
        connection.execute(f"PRAGMA max_page_count = {max_pages}")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _locked(path: Path) -> sqlite3.Connection:
    """Open a file and lock it; raise `BlockingIOError` if its writer lives."""
    connection = _connect(path, "rw")
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        connection.close()
        if _code(error) == sqlite3.SQLITE_BUSY:
            raise BlockingIOError from error
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


def _packed(entries: Iterable[Entry]) -> bytes:
    rows = [
        (
            number,
            [(site.today, n) for site, n in pageviews.sites.items()],
            [(page.key, page.limit, n) for page, n in pageviews.pages.items()],
        )
        for number, pageviews in entries
    ]
    return zlib.compress(_pack(rows), 1)


def _sums(lane: int, packed: Iterable[bytes]) -> Iterator[Entry]:
    """Unpack rows and sum up the entries of each number, in the order of the numbers."""
    by_number: dict[int, tuple[Counter[str], Counter[tuple[str, int]]]] = {}
    for row in packed:
        for number, n_by_site, n_by_page in _unpack(zlib.decompress(row)):
            sites, pages = by_number.setdefault(number, (Counter(), Counter()))
            for key, n in n_by_site:
                sites[key] += n
            for key, limit, n in n_by_page:
                pages[key, limit] += n
    for number, (sites, pages) in sorted(by_number.items()):
        by_site = {keys.site_keys_of(lane, key): n for key, n in sites.items()}
        by_page = {keys.page_keys_of(lane, *page): n for page, n in pages.items()}
        yield Entry(number, Pageviews(by_site, by_page))
