"""Disks that are full, read-only or broken, as the kernel shows them to a process."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = Path("/dev/full")


def free_bytes(directory: Path) -> int:
    """Tell how much of a disk is free."""
    return shutil.disk_usage(directory).free


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Let nothing be written to a disk, as the kernel does where a disk fails."""
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


@contextmanager
def full_log(path: Path) -> Iterator[None]:
    """Let there be no room for what is written to the log of a journal in this process."""
    with _log_goes_to(path, FULL, os.O_RDWR):
        yield


@contextmanager
def broken_log(path: Path) -> Iterator[None]:
    """Let every write to the log of a journal in this process fail."""
    with _log_goes_to(path, path.with_name(f"{path.name}-wal"), os.O_RDONLY):
        yield


@contextmanager
def _log_goes_to(path: Path, file: Path, flags: int) -> Iterator[None]:
    (fd,) = _descriptors_of(path.with_name(f"{path.name}-wal"))
    held, other = os.dup(fd), os.open(file, flags)
    os.dup2(other, fd)
    os.close(other)
    try:
        yield
    finally:
        os.dup2(held, fd)
        os.close(held)


def _descriptors_of(path: Path) -> list[int]:
    links = Path("/proc/self/fd").iterdir()
    return [int(link.name) for link in links if link.is_symlink() and link.readlink() == path]
