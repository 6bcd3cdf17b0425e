"""How much memory there is: the machine's, or less where a container or a unit has a limit."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# By what a group is named to be of, which the second version does not.
_FILES = {"": "memory.max", "memory": "memory.limit_in_bytes"}


def half_bytes(root: Path = Path("/")) -> int:
    """Return half of it: the rest is for copies of the store, for workers and for others."""
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine_bytes, *_limits(root)]) // 2


def _limits(root: Path) -> Iterator[int]:
    """Yield the limits of our control group, under the second and the first version of them.

    https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    groups = root / "sys/fs/cgroup"
    files = [groups / kind / name for kind, name in _FILES.items()]
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, kind, path = line.split(":", 2)
            if kind in _FILES:
                files.append(groups / kind / path.lstrip("/") / _FILES[kind])
    for file in files:
        with suppress(OSError, ValueError):  # not there, or `max`
            yield int(file.read_text())
