"""Our own private store: a Redis or Valkey server on a unix socket in the data directory.

It writes every commit to disk before it answers (`appendfsync always`). The lock on the directory
is held by this process and by the server alike, so nobody starts a second server on the same
files while either lives; the server dies with us, however we die.
"""

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self
from urllib.parse import quote

from hitcounter.errors import StartError
from hitcounter.store import programs
from hitcounter.store.data_dir_lock import InUseError, lock
from hitcounter.store.log import StoreLog
from hitcounter.store.programs import Program

log = logging.getLogger(__name__)

START_TIMEOUT_S = 300.0  # a large store takes its time to load
STOP_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 5.0  # of a server that runs: even while it loads, it says so
_POLL_S = 0.005
_RESTART_AFTER_S = 0.2
_RESTART_AFTER_MOST_S = 5.0
_SERVED_S = 10.0
_MAX_SOCKET_PATH_BYTES = 107
_PR_SET_PDEATHSIG = 1


class EmbeddedStore:
    """The server of one data directory, and the lock on it."""

    def __init__(self, data_dir: Path, lock_fd: int, program: Program) -> None:
        """Own a locked directory; `start` starts the server."""
        self._data_dir = data_dir
        # Absolute: the server changes into the directory before it opens its log there.
        self._files = data_dir.resolve() / "store"
        self.max_bytes = 0  # none: a command may run on a store that is full
        self._lock_fd = lock_fd
        self._program = program
        self._log = StoreLog(self._files)
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    async def locked(cls, data_dir: Path, configured: str) -> Self:
        """Lock a data directory; raise `StartError` if another process owns it.

        Raise it also where no program here can open what is in the directory.
        """
        found = programs.find(configured)
        socket_path(data_dir)
        lock_fd = await lock(data_dir)
        try:
            return cls(data_dir, lock_fd, programs.choose(found, data_dir.resolve() / "store"))
        except StartError:
            os.close(lock_fd)
            raise

    async def start(self) -> None:
        """Start the server, and wait until it has loaded its data."""
        self._files.mkdir(mode=0o700, exist_ok=True)
        programs.mark(self._files, self._program)  # it may write its files anew at any time
        socket = socket_path(self._data_dir)
        socket.unlink(missing_ok=True)
        self._log = StoreLog(self._files)
        try:
            self._process = await asyncio.create_subprocess_exec(
                self._program.path,
                *_options(socket, self._log.path, self.max_bytes),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # ^C is for us; the server goes last
                pass_fds=[self._lock_fd],
                preexec_fn=_dies_with(os.getpid()),
            )
        except OSError as error:
            raise StartError(f"cannot run {self._program.path}: {error.strerror}") from None
        if not await self._is_connected(socket):
            raise StartError(
                f"our own store ({self._program.path}) does not start: {self._log.last_words()}"
            )
        self._log.report_cut()
        programs.mark(self._files, self._program)  # now a new directory has a format

    async def _is_connected(self, socket: Path) -> bool:
        """Wait for the server; return whether it serves, or else has ended."""
        assert self._process is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while self._process.returncode is None:
                    if (await _answer(socket)).startswith(b"+PONG"):
                        return True
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            await self.stop()
        return False

    async def run(self) -> None:
        """Start the server again whenever it ends, until cancelled."""
        wait_s = _RESTART_AFTER_S
        while True:
            assert self._process is not None
            started_at_s = time.monotonic()
            code = await self._process.wait()
            # Whoever was killed has written nothing of it.
            why = f": {self._log.last_words()}" if code > 0 else ""
            log.error("our own store ended with %s; starting it again%s", code, why)
            if time.monotonic() - started_at_s > _SERVED_S:
                wait_s = _RESTART_AFTER_S
            wait_s = await self._start_again(wait_s)

    async def _start_again(self, wait_s: float) -> float:
        """Start the server until it serves; return how long to wait should it end soon.

        That is longer each time: one that cannot write its first log ends as often as we start it.
        """
        while True:
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _RESTART_AFTER_MOST_S)
            try:
                await self.start()
            except (StartError, OSError) as error:
                log.error("%s", error)
            else:
                return wait_s

    async def stop(self) -> None:
        """End the server; what it acknowledged is on disk already."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def unlock(self) -> None:
        """Release the lock."""
        os.close(self._lock_fd)


def url(data_dir: Path) -> str:
    """Return the address of the store of a data directory."""
    return f"unix://{quote(str(socket_path(data_dir)))}"


def socket_path(data_dir: Path) -> Path:
    """Return the path of the store's socket; raise `StartError` where it is too long for one."""
    path = data_dir.resolve() / "store.sock"
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH_BYTES:
        raise StartError(
            f"data_dir: {path} is too long for a socket, which takes {_MAX_SOCKET_PATH_BYTES} bytes"
        )
    return path


def has_store(data_dir: Path) -> bool:
    """Return whether a directory holds a store of ours."""
    return (data_dir / "store").is_dir()


@asynccontextmanager
async def borrowed(data_dir: Path, configured: str) -> AsyncIterator[str]:
    """Yield the URL of a directory's store: the running one, or one run for as long."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            is_running = await _answer(socket_path(data_dir)) != b""
    except TimeoutError:
        raise StartError(f"the store in {data_dir.absolute()} runs, and does not answer") from None
    if is_running:
        yield url(data_dir)
        return
    try:
        store = await EmbeddedStore.locked(data_dir, configured)
    except InUseError as error:
        raise StartError(f"{error}, and its store does not answer: its log says why") from None
    try:
        await store.start()
        yield url(data_dir)
    finally:
        await store.stop()
        store.unlock()


async def _answer(socket: Path) -> bytes:
    """Ask a server whether it is there: +PONG, or an error while it loads; empty if it is not."""
    try:
        reader, connection = await asyncio.open_unix_connection(str(socket))
        connection.write(b"PING\r\n")
        answer = await reader.readline()
    except OSError:
        return b""
    connection.close()
    return answer


def _options(socket: Path, log_path: Path, max_bytes: int) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(log_path.parent),
        "logfile": str(log_path),
        "loglevel": "notice",
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory": str(max_bytes),
        "maxmemory-policy": "noeviction",
        "lazyfree-lazy-expire": "yes",  # freeing many ids at once would stall all hits
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def _dies_with(parent: int) -> Callable[[], None] | None:
    """Make a child end when its parent does, on Linux; elsewhere it survives a kill -9."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def arm() -> None:
        # Nothing milder: until the server has handlers of its own, ours would swallow it, and what
        # the server acknowledged is on disk already.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return arm
