"""The memory of the limits of a service, as if every address had sent a flood."""

import time
from array import array
from pathlib import Path

from hitcounter.limits import FLOOD, KEY_BYTES, N_COLUMNS, N_ROWS


def flood_from_everywhere(supervisor: int, for_s: float = 3600) -> None:
    """Write into the memory of the limits that every address has sent a flood, for so long."""
    (memory,) = (
        file
        for file in Path(f"/proc/{supervisor}/fd").iterdir()
        if "memfd:hitcounter" in str(file.resolve())  # of which any may close meanwhile
    )
    with memory.open("r+b") as numbers:
        numbers.seek(KEY_BYTES)
        row = array("d", [0.0] * N_COLUMNS)
        row[FLOOD.column] = time.monotonic() + for_s
        (row * N_ROWS).tofile(numbers)
