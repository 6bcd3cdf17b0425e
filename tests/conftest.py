"""The real service, started for a test and ended after it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import speeds

PROGRAM = Path(sys.executable).with_name("hitcounter")
UV = Path(sys.executable).with_name("uv")
START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 30


def pytest_report_header() -> str:
    """Say how much is done of what can be done more often."""
    return speeds.amounts()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests for which all other processes would wait at the end."""
    items.sort(key=lambda item: item.path.name != "test_corpus.py")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was done that `make test` leaves out."""
    done = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
    ]
    if slow := speeds.slow_by_layer(done):
        terminalreporter.write_line(f"slow tests, which `make test` leaves out: {slow}")


@dataclass
class RunningService:
    """A real `hitcounter serve`, and the commands that go with it."""

    process: "subprocess.Popen[str]"
    url: str
    data_dir: Path
    settings: dict[str, str]
    log_path: Path
    operations_url: str = ""  # empty where they are off
    site: str = "demo"

    @property
    def site_url(self) -> str:
        """Give the address below which the site of the test is counted."""
        return f"{self.url}/v1/sites/{self.site}"

    @property
    def operations_port(self) -> int:
        """Give the port of operations that the system picked."""
        assert self.operations_url, "start the service with operations_port=0"
        return int(self.operations_url.rpartition(":")[2])

    @property
    def port(self) -> int:
        """Give the port that the system picked."""
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        """Read what the service has logged."""
        return self.log_path.read_text()

    def run(self, *args: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a hitcounter command with the settings of this service."""
        result = run_command(*args, **self.settings)
        if check and result.returncode != 0:
            raise AssertionError(f"{args}: {result.stderr}")
        return result

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the service by a signal; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def worker_pids(self) -> list[int]:
        """List the processes that serve."""
        return self.pids_of("hitcounter.process.worker")

    def store_pids(self) -> list[int]:
        """List the processes of the embedded store."""
        return self.pids_of("store.sock")

    def pids_of(self, words: str) -> list[int]:
        """List the processes with these words in their command line."""
        return [pid for pid, line in _children(self.process.pid) if words in line]


def _children(parent: int) -> Iterator[tuple[int, str]]:
    pids = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for pid in map(int, pids):
        try:
            yield pid, Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):  # it ended before, or between, these lines
            continue


def _environment() -> dict[str, str]:
    """Give an environment of ours, where a test does not ask for another.

    Without operations, as their process takes as long to start as a worker; without what tells
    people from tests, which are programs and send many hits; and with patience for a store on a
    machine that is busy with other tests.
    """
    ours = {k: v for k, v in os.environ.items() if not k.startswith("HITCOUNTER_")}
    return ours | {
        "HITCOUNTER_OPERATIONS_PORT": "off",
        "HITCOUNTER_COUNT_ROBOTS": "true",
        "HITCOUNTER_LIMITS": "off",
        "HITCOUNTER_STORE_TIMEOUT_S": "8",
    }


def _flags(settings: dict[str, str]) -> list[str]:
    return [part for k, v in settings.items() for part in (f"--{k.replace('_', '-')}", v)]


def run_command(*args: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a hitcounter command to its end."""
    command = [str(PROGRAM), *args, *_flags(settings)]
    return subprocess.run(
        command, env=_environment(), capture_output=True, text=True, timeout=60, check=False
    )


def start(tmp_path: Path, settings: dict[str, Any]) -> RunningService:
    """Start `hitcounter serve` and wait until it says that it serves."""
    given = {"data_dir": str(tmp_path / "data"), "port": "0"}
    given |= {name: str(value) for name, value in settings.items()}
    log_path = tmp_path / "service.log"
    with log_path.open("a") as log:
        process = subprocess.Popen(
            [str(PROGRAM), "serve", *_flags(given)],
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        second = (
            process.stdout.readline()
            if line and given.get("operations_port", "off") != "off"
            else ""
        )
    except BaseException:  # a time limit, or ^C
        process.kill()
        process.wait()
        raise
    if not line:
        process.wait()
        process.stdout.close()
        raise AssertionError(f"the service did not start: {log_path.read_text()}")
    url, operations_url = line.split()[-1], second.rpartition(" ")[2].strip()
    return RunningService(process, url, Path(given["data_dir"]), given, log_path, operations_url)


StartService = Callable[..., RunningService]


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[StartService]:
    """Start services in this test's own directory; all of them end with the test."""
    started: list[RunningService] = []

    def _start(**settings: Any) -> RunningService:
        service = start(tmp_path, settings)
        started.append(service)
        return service

    yield _start
    for service in started:
        service.stop()
        assert service.process.stdout is not None
        service.process.stdout.close()


@pytest.fixture
def service(start_service: StartService) -> RunningService:
    """Start an open service with one worker and its own store."""
    return start_service()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where no package can be had, except that CI must not pass without."""
    target = tmp_path_factory.mktemp("probe")
    command = [str(UV), "pip", "install", "--no-cache", "--target", str(target), "iniconfig"]
    if not UV.exists() or subprocess.run(command, capture_output=True).returncode:
        reason = "no package registry can be reached"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
