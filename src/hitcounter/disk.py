"""What was written reaches the disk itself, also where the system's own sync stops at its cache."""

import fcntl
import os
from pathlib import Path

# On macOS `fsync` leaves data in the cache of the drive; this is what SQLite's fullfsync does.
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


def sync(fd: int) -> None:
    """Make what was written to a file outlive a power loss."""
    if _FULL_SYNC is None:
        os.fsync(fd)
    else:
        fcntl.fcntl(fd, _FULL_SYNC)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory outlive a power loss."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        sync(fd)
    finally:
        os.close(fd)


def replace(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all, for its owner only."""
    written = path.with_name(f"{path.name}.new")
    fd = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        # Where room is short, the system takes a part, and a file object does not leave it at that.
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            sync(fd)
    except OSError:
        written.unlink(missing_ok=True)
        raise
    written.replace(path)
    sync_directory(path.parent)
