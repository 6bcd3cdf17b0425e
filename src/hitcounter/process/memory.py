"""How much memory there is: the machine's, or less where a container or a unit has a limit."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def half_bytes(root: Path = Path("/")) -> int:
    """Return half of it: the rest is for copies of the store, for workers and for others."""
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine_bytes, *_limits(root)]) // 2


def _limits(root: Path) -> Iterator[int]:
    """Yield the limits of our control group, under the second and the first version of them.

    https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    groups = root / "sys/fs/cgroup"
    files = [groups / "memory.max", groups / "memory/memory.limit_in_bytes"]
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            where = groups if not kinds else groups / kinds
            name = "memory.max" if not kinds else "memory.limit_in_bytes"
            if kinds in ("", "memory"):
                files.append(where / path.lstrip("/") / name)
    for file in files:
        with suppress(OSError, ValueError):  # not there, or `max`
            yield int(file.read_text())
