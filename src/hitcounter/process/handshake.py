"""What a supervisor says to its workers and to the process of operations, and they to it.

A job goes through their standard input, behind the version of the program that wrote it: a
worker that was installed later would read the settings of another version wrongly.
"""

import gc
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from hitcounter import __version__
from hitcounter.config import Config
from hitcounter.errors import StartError, one_line

READY = "ready"
OPERATIONS = -1  # in the place of a worker's id
# The exit code of a worker that failed before it served: starting it again would not help.
FAILED_TO_START = 3

TERMINATE_SIGNAL = signal.SIGTERM
# To a worker whose successor serves already: its clients may take their time to leave.
DRAIN_SIGNAL = signal.SIGHUP


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to serve, or the process of operations."""

    worker_id: int
    config: Config
    store_url: str
    listener_fd: int
    metrics_dir: Path
    limits_fd: int
    # Somebody serves already: better no successor than one that begins without the store.
    is_successor: bool = False
    is_restart: bool = False  # in the place of one that ended

    @property
    def name(self) -> str:
        """Name the process for the log."""
        return "operations" if self.worker_id == OPERATIONS else f"worker {self.worker_id}"

    @property
    def module(self) -> str:
        """Name where the process begins."""
        kind = "operations" if self.worker_id == OPERATIONS else "worker"
        return f"hitcounter.process.{kind}_start"


def write_job(job: Job) -> bytes:
    """Write what a worker is to find on its standard input."""
    return f"{__version__}\n".encode() + pickle.dumps(job)


def read_job(stdin: BinaryIO) -> Job:
    """Read what the supervisor wrote; raise `StartError` if that is of another version."""
    version = stdin.readline().decode().strip()
    if version != __version__:
        raise StartError(
            f"hitcounter {__version__} is installed, but {version} runs: restart the service"
        )
    job: Job = pickle.load(stdin)  # noqa: S301 -- from our own supervisor
    return job


def refuse(error: Exception) -> NoReturn:
    """Say in one line why this worker cannot serve, and end."""
    # Bytes: the supervisor reads UTF-8, whatever the locale.
    sys.stdout.buffer.write(f"{one_line(error)}\n".encode(errors="backslashreplace"))
    sys.stdout.buffer.flush()
    sys.exit(FAILED_TO_START)


@contextmanager
def loading() -> Iterator[None]:
    """Load modules; one that cannot be loaded is why this process cannot serve."""
    gc.disable()  # an eighth of the time to load them, and nothing of it is garbage
    try:
        with _no_authorities():
            yield
    except ImportError as error:
        refuse(error)
    finally:
        gc.enable()


@contextmanager
def _no_authorities() -> Iterator[None]:
    """Let nobody find the certificates of authorities.

    aiohttp reads all of them as it is loaded, for a client that nobody here makes: 45 ms, and 2 MB
    of each process.
    """
    names = "SSL_CERT_FILE", "SSL_CERT_DIR"
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ |= dict.fromkeys(names, os.devnull)
    yield
    for name in names:
        del os.environ[name]
    os.environ |= before


def kill_self_after(seconds: float) -> None:
    """Let the kernel end this process after so many seconds, whatever Python does by then."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # whoever started us may have ignored it
    signal.setitimer(signal.ITIMER_REAL, seconds)
