"""Drive a contender with wrk, and hold what it counted against what was sent.

Every answered hit is counted and nothing is counted that was not sent; any failed, refused or
unanswered request makes the run an error, so no figure can come from a service that miscounts.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from bench.processes import BenchError, on_cores

SCRIPT = Path(__file__).with_name("hits.lua")
ERRORS = ("connect", "read", "write", "timeout", "status")
GRACE_S = 30


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk does in one run."""

    seconds: int
    sites: int = 100
    pages: int = 10  # of each site
    connections: int = 64
    think_ms: float = 0.0
    addresses: int = 0  # of visitors, whom a proxy names
    agent: str = ""  # of a robot, and not a browser's
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What wrk saw in one run."""

    sent: int
    answered: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float

    @property
    def rate(self) -> float:
        """Return the answers per second."""
        return self.answered / self.seconds


def require_wrk() -> None:
    """Fail with a clear line where the bench cannot run."""
    if sys.platform != "linux":
        raise BenchError("the bench pins processes to cores, which needs Linux")
    if not shutil.which("wrk"):
        raise BenchError("wrk is missing; install it: apt-get install wrk")


def drive(url: str, load: Load, cores: frozenset[int]) -> Outcome:
    """Run wrk against `url` and return what it saw, if every request was answered."""
    options = {"-t": len(cores), "-c": load.connections, "-d": f"{load.seconds}s", "-s": SCRIPT}
    flags = [str(part) for option in options.items() for part in option]
    of_script = [str(load.sites), str(load.pages), f"{load.think_ms:.3f}", str(load.addresses)]
    of_script += [load.agent] if load.agent else []
    command = ["wrk", *flags, url, "--", *of_script]
    with on_cores(cores):
        wrk = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output, _ = wrk.communicate(timeout=load.seconds + GRACE_S)
    except subprocess.TimeoutExpired:
        raise BenchError(f"wrk did not end {GRACE_S} s after its time was over") from None
    finally:
        wrk.kill()
        wrk.wait()
    return outcome(output, load)


def outcome(output: str, load: Load) -> Outcome:
    """Read the line that hits.lua prints; refuse a run in which anything went wrong."""
    line = output.strip().rpartition("\n")[2]
    if not line.startswith("{"):
        raise BenchError(f"wrk failed:\n{output}")
    seen: dict[str, float] = json.loads(line)
    if load.is_refused:
        seen["status"] = 0
    failed = {name: count for name in ERRORS if (count := seen.pop(name))}
    if failed:
        raise BenchError(f"requests failed: {failed}")
    result = Outcome(int(seen.pop("sent")), int(seen.pop("answered")), **seen)
    # wrk reconnects without a word when the server hangs up; such a request shows only here.
    if not 0 <= result.sent - result.answered <= load.connections + 1:
        raise BenchError(f"{result.sent} requests sent, only {result.answered} answered")
    return result


@dataclass(slots=True)
class Tally:
    """All that was sent to and answered by one service since its start."""

    sent: int = 0
    answered: int = 0
    sites: int = 0

    def add(self, load: Load, result: Outcome) -> None:
        """Add one run."""
        self.sites = max(self.sites, load.sites)
        self.sent += result.sent
        self.answered += result.answered

    def check(self, counted: int) -> None:
        """Refuse a count that no correct service could give."""
        if not self.answered <= counted <= self.sent:
            raise BenchError(f"counted {counted}, but {self.answered} answered, {self.sent} sent")


def counted_total(url: str, sites: int) -> int:
    """Sum the totals that the service gives for all sites of hits.lua."""
    address = urlsplit(url)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=GRACE_S)
    try:
        return sum(site_total(connection, f"site{n}.example.vn") for n in range(1, sites + 1))
    finally:
        connection.close()


def site_total(connection: HTTPConnection, site: str) -> int:
    """Ask for the total of one site; an unknown site has none."""
    connection.request("GET", f"/v1/sites/{site}/counts")
    answer = connection.getresponse()
    body = answer.read()
    if answer.status == 404:
        return 0
    if answer.status != 200:
        raise BenchError(f"the counts of {site} were answered with {answer.status}: {body!r}")
    return int(json.loads(body)["total"])
