"""The files in which workers keep what they measure, for operations to read.

Two living processes never share an id. What a dead one counted stays; what it measured goes.

The files are memory-mapped, and a page that the disk has no room for would kill the worker that
touches it. So a worker reserves all that its metrics can need before it maps a file; where that
cannot be, its metrics stay in its memory, and it counts.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

from prometheus_client import values
from prometheus_client.multiprocess import mark_process_dead

log = logging.getLogger(__name__)

# How the workers' gauges become one: their sum, their least, or one for all.
Mode = Literal["livesum", "livemin", "livemax", "max"]

_NEW = ".new"  # of a file that is not whole yet
_FILE_BYTES = 1 << 16
_SERIES_BYTES = 400  # of one series at most: its name, help and labels


def keep_values(directory: Path, worker_id: int, n_series: int) -> None:
    """Choose where values live: in files that others can read, else in memory."""
    sizes = {f"gauge_{mode}": _FILE_BYTES for mode in get_args(Mode)} | {
        "histogram": _FILE_BYTES,
        "counter": _FILE_BYTES + n_series * _SERIES_BYTES,
        "gauge_max": _FILE_BYTES + n_series * _SERIES_BYTES,
    }
    files = {directory / f"{kind}_{worker_id}.db": n_bytes for kind, n_bytes in sizes.items()}
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        for file, n_bytes in files.items():
            _reserve(file, n_bytes)
    except OSError as error:
        log.error("nobody can read the metrics of this worker: %s: %s", directory, error.strerror)
        for file in files:
            with suppress(OSError):
                file.unlink(missing_ok=True)
                file.with_suffix(_NEW).unlink(missing_ok=True)
        values.ValueClass = values.MutexValue
        return
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: worker_id)  # type: ignore[no-untyped-call]


def _reserve(path: Path, n_bytes: int) -> None:
    """Let a file have so many bytes, all of them on the disk, before anybody reads it."""
    written = path if path.exists() else path.with_suffix(_NEW)
    with written.open("ab") as file:
        file.write(bytes(max(0, n_bytes - file.tell())))
    written.rename(path)


def forget_gauges(directory: Path, worker_id: int) -> None:
    """Take the gauges of a worker that has ended out of the answer."""
    with suppress(OSError):  # somebody else did
        mark_process_dead(worker_id, str(directory))  # type: ignore[no-untyped-call]
