"""The standard streams: what we write there is written, or an error says that it is not.

Whoever starts us may have closed them, put a full disk behind them, or a terminal that cannot show
Vietnamese.
"""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hitcounter.errors import CommandError


def prepare() -> None:
    """Make all three usable; call this before anything is opened.

    The first file or socket that we open would take the place of a stream that is closed.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # It gets the lowest number that is free, and is there for workers as well.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 -- for good
    if sys.stdout is not None:
        # Buffered even under PYTHONUNBUFFERED: only a buffer writes all bytes or fails. What the
        # terminal cannot show is written as on standard error.
        encoding = sys.stdout.encoding
        sys.stdout = open(1, "w", encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115


def require_output() -> None:
    """Raise `CommandError` if nobody can see what a command says."""
    if sys.stdout is None:
        raise CommandError("standard output is closed")


@contextmanager
def output() -> Iterator[BinaryIO]:
    """Yield standard output for bytes; raise `CommandError` unless all of them were taken."""
    with _written():
        yield sys.stdout.buffer
        sys.stdout.flush()
        if stat.S_ISREG(os.fstat(1).st_mode):
            os.fsync(1)  # some file systems have no room only when they write


def flush() -> None:
    """Write what waits in memory; raise `CommandError` where that fails."""
    with _written():
        if sys.stdout is not None:
            sys.stdout.flush()


@contextmanager
def _written() -> Iterator[None]:
    """Raise `CommandError` where something cannot be written, unless its reader left early."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"cannot write to standard output: {error.strerror}") from None


def abandon_output() -> None:
    """Let Python end without another attempt to write what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def read_input() -> bytes:
    """Read all of standard input."""
    if sys.stdin is None:
        raise CommandError("standard input is closed")
    return sys.stdin.buffer.read()
