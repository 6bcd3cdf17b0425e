"""What tests of the journal need: a directory, a disk that is full, faults of system calls."""

import logging
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from hitcounter.exactly_once.journals import Journals
from hitcounter.metrics import Metrics
from hitcounter.store.client import Store
from tests.journal.cutting import Cutter, cutter
from tests.journal.injection import can_inject
from tests.support.servers import StoreServer, connected, store_server

SMALL_DISK = "1m"
TIMEOUT_S = 20.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the collector close what is cut amid its opening, which no client notices."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for what in ("transport", "<socket.socket.*/way"):
                ignored = f"ignore:unclosed {what}:ResourceWarning"
                item.add_marker(pytest.mark.filterwarnings(ignored))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Make a directory for journals."""
    path = tmp_path / "journal"
    Journals(path, 0).prepare()
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk that is soon full, which only root may."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def needs_injection() -> None:
    """Skip where no system call can be made to fail."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if not can_inject():
        pytest.skip("strace is not allowed to trace here")


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> "Errors":
    """Collect what is logged as an error."""
    caplog.set_level(logging.INFO)
    return Errors(caplog)


class Errors:
    """The error lines of a test so far."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        """Look at what pytest has captured."""
        self.caplog = caplog

    def __call__(self) -> list[str]:
        """Give the lines."""
        records = self.caplog.records
        return [record.getMessage() for record in records if record.levelno >= logging.ERROR]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoreServer]:
    """Run a store that holds nothing."""
    with store_server(tmp_path / "store") as running:
        yield running


@pytest.fixture
async def way(server: StoreServer, tmp_path: Path) -> AsyncIterator[Cutter]:
    """Lead to the store by a way that can be cut."""
    async with cutter(tmp_path / "way", server.socket_path) as opened:
        yield opened


@pytest.fixture
async def far_store(way: Cutter) -> AsyncIterator[Store]:
    """Talk to the store by that way."""
    store = Store(way.url, TIMEOUT_S)
    yield store
    await store.close()


@pytest.fixture
def raw(server: StoreServer) -> Iterator[Any]:
    """Look at the store past our own code."""
    with connected(server.socket_path) as redis:
        yield redis


@pytest.fixture
def metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Metrics:
    """Count into a directory of this test."""
    path = tmp_path / "metrics"
    path.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(path))  # it is set anew, and taken back
    return Metrics(path, 0, ["demo"])
