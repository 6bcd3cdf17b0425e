"""The lock on a data directory: one owner at a time, who says in it where they serve."""

import asyncio
import fcntl
import os
from pathlib import Path

from hitcounter.errors import StartError

LOCK_TIMEOUT_S = 5.0
_POLL_S = 0.005


class InUseError(StartError):
    """Another process owns a data directory."""


async def lock(data_dir: Path) -> int:
    """Lock a data directory until the file descriptor is closed.

    Raise `InUseError` if another process owns it, `StartError` if nobody can.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(data_dir, error) from None
    try:
        # A predecessor that was killed leaves a server that takes a moment to follow it.
        async with asyncio.timeout(LOCK_TIMEOUT_S):
            while not _locks(lock_fd):
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        owner = os.pread(lock_fd, 32, 0).decode(errors="replace").partition("\n")[0]
        os.close(lock_fd)
        raise InUseError(f"data_dir: {data_dir.absolute()} is in use by process {owner}") from None
    try:
        os.ftruncate(lock_fd, 0)
        os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        os.close(lock_fd)
        raise _unwritable(data_dir, error) from None
    return lock_fd


def is_owned(data_dir: Path) -> bool:
    """Return whether a service runs on a data directory."""
    try:
        with (data_dir / "lock").open("rb") as lock_file:
            fcntl.flock(lock_file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def note_address(data_dir: Path, address: str) -> None:
    """Write where the owner of a data directory serves into its lock, behind the process."""
    with (data_dir / "lock").open("a", encoding="utf-8") as lock_file:
        lock_file.write(f"{address}\n")


def noted_address(data_dir: Path) -> str:
    """Read where the service of a data directory serves; empty before it does."""
    try:
        lines = (data_dir / "lock").read_text("utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return ""
    return lines[1] if len(lines) > 1 else ""


def _unwritable(data_dir: Path, error: OSError) -> StartError:
    return StartError(f"data_dir: cannot write to {data_dir.absolute()}: {error.strerror}")


def _locks(lock_fd: int) -> bool:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
