"""Processes that a test has started, or that its service has."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def signal_all(pids: Iterable[int], number: int) -> None:
    """Send a signal to processes that may have ended already."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
