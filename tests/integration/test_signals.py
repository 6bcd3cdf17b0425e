"""Signals from the first line of the program to its last: harmless, or the end at once."""

import asyncio
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import PROGRAM, STOP_TIMEOUT_S, RunningService, StartService
from tests.support.load import ask, zone_at_noon
from tests.support.processes import is_running
from tests.support.servers import connected, packaged_program
from tests.support.waiting import until

ENDS = [signal.SIGTERM, signal.SIGINT]
LOADING = "Loading RDB produced by"
ITS_FIRST_PROCESS = """
import os, signal, subprocess
from hitcounter.process import init
from tests.support.waiting import until
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
init.go_on_in_a_child()
assert os.getpid() > os.getppid() == 1
orphan = subprocess.check_output(["sh", "-c", "sleep 0.1 >/dev/null & echo $!"], text=True)
until(lambda: not os.path.exists(f"/proc/{int(orphan)}"), "the orphan is reaped")
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
os.kill(1, signal.SIGTERM)
signal.pause()
"""


@contextmanager
def starting(tmp_path: Path, **settings: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a service that may never serve."""
    given = {"data_dir": str(tmp_path / "data"), "port": "0", "operations_port": "off"} | settings
    flags = [part for k, v in given.items() for part in (f"--{k.replace('_', '-')}", v)]
    with subprocess.Popen(
        [str(PROGRAM), "serve", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for the end of a service; give its exit code and what it said."""
    output, errors = process.communicate(timeout=STOP_TIMEOUT_S)
    return process.returncode, output, errors


def has_open(process: "subprocess.Popen[str]", path: Path) -> bool:
    """Return whether a process has opened a file."""
    assert process.poll() is None
    for file in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if file.readlink() == path:
                return True
    return False


@pytest.fixture
def settings_pipe(tmp_path: Path) -> Path:
    """Make a settings file that keeps its reader waiting until somebody writes to it."""
    path = tmp_path / "hitcounter.toml"
    os.mkfifo(path)
    return path


@pytest.mark.slow
def test_a_hang_up_before_the_settings_are_read_is_a_reload_once_it_serves(
    tmp_path: Path, settings_pipe: Path
) -> None:
    with starting(tmp_path, config=str(settings_pipe)) as process:
        with settings_pipe.open("w") as settings:  # now it reads
            process.send_signal(signal.SIGHUP)
            settings.write("[sites.first]\n")
        until(lambda: not has_open(process, settings_pipe), "it has read")
        settings_pipe.write_text("[sites.second]\n")  # which waits until it reads again
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("hitcounter is serving on ")
        while "replaced all workers" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0


@pytest.mark.parametrize("number", ENDS)
def test_an_end_before_anything_is_started_is_at_once(
    tmp_path: Path, settings_pipe: Path, number: int
) -> None:
    with (
        starting(tmp_path, config=str(settings_pipe)) as process,
        settings_pipe.open("w"),  # now it reads
    ):
        process.send_signal(number)
        assert ended(process) == (0, "", "")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("number", ENDS)
def test_an_end_while_somebody_else_has_the_directory_is_at_once(
    tmp_path: Path, number: int
) -> None:
    lock = tmp_path / "data" / "lock"
    lock.parent.mkdir()
    with lock.open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        with starting(tmp_path) as process:
            until(partial(has_open, process, lock), "it waits for the lock")
            process.send_signal(number)
            assert ended(process) == (0, "", "")


@pytest.mark.slow
def test_an_end_while_the_store_loads_is_at_once_and_takes_the_store_along(
    start_service: StartService, tmp_path: Path
) -> None:
    zone = zone_at_noon()
    service = start_service(timezone=zone)
    assert hit(service) == 1
    write_base(service)
    service.stop()
    store_log = service.data_dir / "store" / "store.log"
    n_loaded = store_log.read_text().count(LOADING)
    slow = tmp_path / "slow"  # a minute for each key
    slow.write_text(f'#!/bin/sh\nexec {packaged_program()} "$@" --key-load-delay 60000000\n')
    slow.chmod(0o700)
    with starting(tmp_path, store_binary=str(slow)) as process:
        until(lambda: store_log.read_text().count(LOADING) > n_loaded, "the store loads")
        (store,) = children(process.pid)
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (0, "", "")
        assert not is_running(store)
    assert hit(start_service(timezone=zone)) == 2


def hit(service: RunningService) -> int:
    """Count one hit; give the total."""
    total = asyncio.run(ask(service.port, "POST", "/v1/sites/demo/hits")).json["total"]
    assert isinstance(total, int)
    return total


def write_base(service: RunningService) -> None:
    """Have all that a store knows written into its base file."""
    with connected(service.data_dir / "store.sock") as redis:
        redis.bgrewriteaof()
        bases = service.data_dir / "store" / "appendonlydir"
        until(lambda: not list(bases.glob("*.1.base.*")), "the base file is written")


def children(pid: int) -> list[int]:
    """List the processes that a process has started."""
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
def test_a_hang_up_of_a_worker_that_has_only_begun_ends_nothing(
    start_service: StartService,
) -> None:
    service = start_service(workers=1)
    old = service.worker_pids()
    os.kill(old[0], signal.SIGKILL)
    until(lambda: set(service.worker_pids()) - set(old), "another worker is started")
    (new,) = set(service.worker_pids()) - set(old)
    os.kill(new, signal.SIGHUP)
    until(lambda: not is_running(new), "it left when it served")
    assert service.process.poll() is None
    assert hit(service) == 1
    assert service.log.count("ended with 0; starting it again") == 1


def test_whatever_comes_during_the_end_changes_nothing(start_service: StartService) -> None:
    service = start_service()
    pids = [*service.worker_pids(), *service.store_pids()]
    service.process.send_signal(signal.SIGTERM)
    while service.process.poll() is None:
        for number in (signal.SIGHUP, *ENDS):
            service.process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):  # or the signals leave it no time to end
            service.process.wait(0.002)
    assert service.process.returncode == 0
    assert not any(map(is_running, pids))
    assert "ERROR" not in service.log


@pytest.mark.slow
def test_the_end_of_a_service_that_has_failed_is_not_cut_short(start_service: StartService) -> None:
    service = start_service(workers=2)
    hangs, killed = service.worker_pids()
    journal = service.data_dir / "journal"
    journal.rename(service.data_dir / "aside")
    journal.touch()  # so no other worker can start
    os.kill(hangs, signal.SIGSTOP)
    os.kill(killed, signal.SIGKILL)

    def is_told_to_end() -> bool:
        status = Path(f"/proc/{hangs}/status").read_text()
        (pending,) = re.findall(r"^ShdPnd:\s+(\w+)$", status, re.MULTILINE)
        return bool(int(pending, 16) & 1 << signal.SIGTERM - 1)

    until(is_told_to_end, "the service is ending")
    assert service.stop() == 1
    assert not is_running(hangs)


def test_the_first_process_of_a_container_reaps_passes_signals_on_and_ends_as_its_child() -> None:
    container = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*container, "true"]).returncode != 0:
        pytest.skip("this machine gives no processes of one's own")
    command = [*container, sys.executable, "-c", ITS_FIRST_PROCESS]
    assert subprocess.run(command, timeout=STOP_TIMEOUT_S).returncode == 7
