"""System calls that fail when a test wants: strace attaches to a running process and tampers."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

from hitcounter.exactly_once.journals import Journals
from tests.journal.owner import WRITER
from tests.support.waiting import until

CALLS = {
    "open": "?open,?openat",
    "read": "?read,?pread64",
    "write": "?write,?pwrite64",
    "sync": "?fsync,?fdatasync",
    "lock": "?fcntl,?fcntl64",
    "truncate": "?truncate,?ftruncate",
    "unlink": "?unlink,?unlinkat",
    "rename": "?rename,?renameat,?renameat2",
    "look": "?stat,?lstat,?fstat,?newfstatat,?statx,?statfs,?access",
    "list": "?getdents,?getdents64",
}
PARTS = ("", "-wal", "-journal")
KILL = "KILL"
UNTRACED = "TracerPid:\t0\n"


@contextmanager
def injected(pid: int, paths: Sequence[Path], what: str, log_path: Path) -> Iterator[None]:
    """Tamper with a process' calls on some files, until it ends or the test goes on.

    `what` is as in `strace -e inject=…`, like `?pwrite64:error=EIO:when=3`.
    """
    calls, _, _ = what.partition(":")
    about = [part for path in paths for part in ("-P", str(path))]
    command = ["strace", "-f", "-qq", "-p", str(pid), "-o", str(log_path), *about]
    tracing = [*command, "-e", f"trace={calls}", "-e", f"inject={what}"]
    with subprocess.Popen(tracing, stderr=subprocess.PIPE) as strace:
        try:
            until(lambda: strace.poll() is not None or is_traced(pid), "strace is attached")
            assert strace.poll() is None, "strace could not attach"
            yield
        finally:
            strace.terminate()


@dataclass(frozen=True, slots=True)
class Fault:
    """What is to fail while somebody works in a directory."""

    directory: Path
    what: str

    @contextmanager
    def strike(self, pid: int, writer: str = WRITER) -> Iterator[None]:
        """Let it happen to a process that works on the journals of a writer."""
        # One that has to begin again makes another file.
        names = [f"0-{writer}-{n}.journal{part}" for n in range(4) for part in PARTS]
        names.append(f"0-{writer}-0.removed")
        paths = [self.directory, *(self.directory / name for name in names)]
        with injected(pid, paths, self.what, self._log_path):
            yield

    @property
    def has_struck(self) -> bool:
        """Tell whether there was such a call."""
        return "(INJECTED)" in self._log_path.read_text()

    @property
    def _log_path(self) -> Path:
        return self.directory.with_suffix(".strace")


class Faults:
    """The n-th call fails, in a new directory each time, until there are no more."""

    def __init__(
        self, tmp_path: Path, calls: str, error: str, lasting: str = "", step: int = 1
    ) -> None:
        """Let calls of a kind fail with an error; `lasting` is a plus sign, or nothing.

        Every one of them, or one of so many as `step` says. Who gets the error KILL is killed.
        """
        self._tmp_path = tmp_path
        effect = "signal" if error == KILL else "error"
        self._what = f"{CALLS[calls]}:{effect}={error}:when=%d{lasting}"
        self._step = step
        self.n_struck = 0

    def __iter__(self) -> Iterator[Fault]:
        """Give one fault after the other."""
        for n in count(1, self._step):
            fault = self.of_call(n)
            yield fault
            if not fault.has_struck:
                return
            self.n_struck += 1

    def of_call(self, n: int) -> Fault:
        """Give the fault of the n-th call."""
        directory = self._tmp_path / str(n)
        Journals(directory, 0).prepare()
        return Fault(directory, self._what % n)


def is_traced(pid: int) -> bool:
    """Tell whether all threads of a process are traced."""
    return not any(map(_is_untraced, Path(f"/proc/{pid}/task").glob("*/status")))


def _is_untraced(status: Path) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
        return UNTRACED in status.read_text()
    return False


@cache
def can_inject() -> bool:
    """Try whether we may trace another process."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim:
        command = ["strace", "-qq", "-p", str(victim.pid), "-e", "trace=none"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as strace:
            until(lambda: strace.poll() is not None or is_traced(victim.pid), "strace has tried")
            allowed = strace.poll() is None
            strace.terminate()
        victim.kill()
    return allowed
