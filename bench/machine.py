"""What the figures were measured on."""

import os
import platform
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

from bench.contenders import Cores
from bench.serving import LOOP
from hitcounter.store.programs import find

SYNCS = 200


def describe(cores: Cores, scratch: Path) -> dict[str, str]:
    """Return the facts that a figure depends on."""
    return {
        "cpu": f"{cpu_model()}, {os.cpu_count()} cores",
        "pinned": cores.describe(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "hitcounter": version("hitcounter"),
        "aiohttp": version("aiohttp"),
        "loop": LOOP,
        "redis-py": version("redis"),
        "hiredis": version("hiredis"),
        "server": server_version(),
        "fdatasync": f"{fdatasync_ms(scratch):.2f} ms",
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def cpu_model() -> str:
    """Return the name that the processor gives itself."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def server_version() -> str:
    """Return the name and version of the store's program."""
    program = find("")[0].path
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    words = [word.removeprefix("v=") for word in told.split() if word.startswith("v=")]
    return f"{program.name} {words[0] if words else told.strip()}"


def fdatasync_ms(scratch: Path) -> float:
    """Return the median time to bring a write to the disk: no durable store answers faster."""
    times_s = []
    with (scratch / "sync").open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(b"x" * 1000)
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times_s.append(time.perf_counter() - begin)
    return statistics.median(times_s) * 1000
