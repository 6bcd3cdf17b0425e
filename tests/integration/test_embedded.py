"""Our own store, and those of others: what was acknowledged is there again, whatever ended."""

import asyncio
import fcntl
import os
import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunningService, StartService, run_command
from tests.support.disks import fill, small_disk
from tests.support.load import (
    Connection,
    Tally,
    Target,
    ask,
    counted,
    declared,
    expect_between,
    expect_exact,
    send,
    settled,
    zone_at_noon,
)
from tests.support.processes import is_running, signal_all
from tests.support.servers import (
    PROGRAMS,
    StoreServer,
    certify,
    config_of,
    debian_program,
    named_program,
    store_server,
)
from tests.support.stores import frozen_store
from tests.support.waiting import comes_true, eventually, until

DEMO = Target("demo")
HITS = [Target(f"site{n % 7}.example.vn", f"/{n % 20}") for n in range(6_000)]
N_CONNECTIONS = 16
N_CLIENTS = 4


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    """Name each kind of server program that we run."""
    return named_program(request.param)


async def count_some(service: RunningService, n: int) -> None:
    """Count hits on one site; each connection may find the store slow when the site is new."""
    tally = Tally()
    while tally.n_acked < n:
        await send(service.port, tally, [DEMO] * (n - tally.n_acked), N_CLIENTS)
        assert (tally.unanswered, tally.refused.keys() - {"store_unavailable"}) == ({}, set())
        assert tally.refused.total() <= N_CLIENTS, tally


async def test_counts_are_there_after_a_restart(start_service: StartService, program: str) -> None:
    zone = zone_at_noon()
    service = start_service(store_binary=program, timezone=zone)
    await count_some(service, 50)
    assert await asyncio.to_thread(service.stop) == 0
    service = start_service(store_binary=program, timezone=zone)
    await count_some(service, 1)
    assert await counted(service.port, [DEMO]) == {DEMO: 51}


@pytest.mark.slow
async def test_no_hit_is_refused_or_lost_when_the_store_is_killed(
    start_service: StartService, program: str, tmp_path: Path
) -> None:
    sites = declared(tmp_path / "sites.toml", [DEMO, *HITS])
    settings = {"workers": 2, "kept_window_s": 1, "timezone": zone_at_noon()}
    service = start_service(store_binary=program, config=sites, **settings)
    await count_some(service, 100)
    tally = Tally()
    sending = asyncio.create_task(send(service.port, tally, HITS, N_CONNECTIONS))
    reading = asyncio.create_task(read_while(service, sending))
    for n_acked in (500, 3_000):
        await acknowledged(tally, n_acked)
        signal_all(service.store_pids(), signal.SIGKILL)
        await acknowledged(tally, n_acked + 1_000)
    await sending
    assert await reading <= {"fresh", "stale"}
    assert (tally.refused, tally.unanswered) == ({}, {})
    assert service.log.count("our own store ended with -9; starting it again") == 2
    await settled(service)
    await expect_exact(service.port, tally)


@pytest.fixture
def store_disk(tmp_path: Path) -> Iterator[Path]:
    """Keep the files of a store on a disk of its own with little room."""
    with small_disk(tmp_path / "data" / "store", "1m") as path:
        yield path


@pytest.mark.slow
async def test_a_store_whose_disk_is_full_is_started_ever_more_seldom_and_loses_nothing(
    start_service: StartService, store_disk: Path
) -> None:
    service, tally = start_service(timezone=zone_at_noon()), Tally()
    await send(service.port, tally, HITS[:20], 1)
    fill(store_disk / "full")
    await send(service.port, tally, HITS[:400], 1)
    again = re.compile("our own store ended with 1; starting it again: (.*)")
    await comes_true(lambda: len(again.findall(service.log)) >= 4, "it was started four times")
    assert set(again.findall(service.log)) == {f"there is no room left for {store_disk}"}
    (store_disk / "full").unlink()
    await settled(service)
    assert tally.states.keys() == {"counted", "stored"}
    await expect_exact(service.port, tally)


async def acknowledged(tally: Tally, n: int) -> None:
    """Wait until so many hits are acknowledged."""

    async def reached() -> bool:
        return tally.n_acked >= n

    await eventually(reached, f"{n} hits are acknowledged")


async def read_while(service: RunningService, sending: "asyncio.Task[None]") -> set[str]:
    """Read a site of 100 pageviews over and over: never another number."""
    connection, seen = Connection(service.port), set()
    while not sending.done():
        answer = await connection.ask("GET", "/v1/sites/demo/counts")
        assert (answer.status, answer.json["total"]) == (200, 100)
        seen.add(answer.json["state"])
    connection.close()
    return seen


@pytest.mark.slow
async def test_a_service_starts_at_once_where_another_was_killed(
    start_service: StartService,
) -> None:
    zone = zone_at_noon()
    service = start_service(workers=2, timezone=zone)
    tally = Tally()
    sending = asyncio.create_task(send(service.port, tally, HITS, N_CONNECTIONS))
    await acknowledged(tally, 1_000)
    service.process.send_signal(signal.SIGKILL)
    again = await asyncio.to_thread(
        start_service, workers=2, timezone=zone, port=service.port, data_dir=service.data_dir
    )
    await asyncio.gather(sending, return_exceptions=True)
    await count_some(again, 100)
    await expect_between(again.port, tally)


@pytest.mark.slow
async def test_even_a_store_that_hangs_ends_with_its_service(
    service: RunningService,
) -> None:
    await count_some(service, 10)
    pids = service.store_pids()
    assert not is_free(service.data_dir)
    signal_all(pids, signal.SIGSTOP)
    service.stop(signal.SIGKILL)
    until(lambda: is_free(service.data_dir), "the store has ended")
    until(lambda: not any(map(is_running, pids)), "its process is gone")


def is_free(data_dir: Path) -> bool:
    """Tell whether nobody holds the lock of a directory."""
    with (data_dir / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.slow
async def test_a_command_waits_for_no_store_that_hangs(start_service: StartService) -> None:
    service = start_service(store_timeout_s=1)
    hit = service.port, "POST", "/v1/sites/demo/hits"
    assert (await ask(*hit)).json["state"] == "counted"
    with frozen_store(service):
        assert (await ask(*hit)).json["state"] == "stored"
        assert "holds what the store may lack" in service.run("check", check=False).stdout
        for command in ("check", "sites"):
            result = service.run(command, check=False)
            assert result.returncode == 1
            assert result.stderr == (
                f"hitcounter: the store in {service.data_dir} runs, and does not answer\n"
            )


@pytest.mark.slow
def test_a_command_says_that_the_store_of_a_running_service_is_gone(
    start_service: StartService,
) -> None:
    service = start_service()
    (manifest,) = service.data_dir.glob("store/appendonlydir/*.manifest")
    manifest.write_text("damaged")  # so that the service cannot start its store again
    signal_all(service.store_pids(), signal.SIGKILL)
    until(lambda: "our own store ended with -9" in service.log, "the store has ended")
    assert service.run("check", check=False).stderr == (
        f"hitcounter: data_dir: {service.data_dir} is in use by process {service.process.pid},"
        " and its store does not answer: its log says why\n"
    )


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_first_start_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data", "1m") as disk:
        fill(disk / "full")
        result = run_command("serve", port="0", data_dir=str(disk))
    refusal = f"hitcounter: data_dir: cannot write to {disk}: No space left on device\n"
    assert (result.returncode, result.stderr) == (1, refusal)


@pytest.mark.slow
def test_a_second_service_on_the_same_directory_is_refused(service: RunningService) -> None:
    result = run_command("serve", port="0", data_dir=str(service.data_dir))
    owner = f"data_dir: {service.data_dir} is in use by process {service.process.pid}"
    assert (result.returncode, result.stderr) == (1, f"hitcounter: {owner}\n")
    assert asyncio.run(ask(service.port, "POST", "/v1/sites/demo/hits")).status == 200


@pytest.mark.slow
def test_the_store_writes_every_commit_to_disk_and_is_for_us_alone(
    start_service: StartService, program: str
) -> None:
    service = start_service(store_binary=program, operations_port=0)
    socket = service.data_dir / "store.sock"
    expected = {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "save": "",
        "port": "0",
    }
    assert {name: config_of(socket, name) for name in expected} == expected
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    assert int(config_of(socket, "maxmemory")) == half  # by default
    paths = (service.data_dir, service.data_dir / "store", socket)
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o700] * 3
    ready = asyncio.run(ask(service.operations_port, "GET", "/readyz")).json
    assert (ready["status"], ready["level"]) == ("ready", "A")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "store_binary: {path} is not a program"),
        (b"\x7fELF, but not really", "cannot run {path}: Exec format error"),
        (b"#!/bin/sh\nexit 1\n", "our own store ({path}) does not start: it left no log"),
    ],
)
def test_a_program_that_is_no_server_is_one_clear_line(
    tmp_path: Path, content: bytes | None, fault: str
) -> None:
    path = tmp_path / "program"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o700)
    settings = {"data_dir": str(tmp_path / "data"), "store_binary": str(path)}
    result = run_command("serve", port="0", **settings)
    assert (result.returncode, result.stderr) == (1, f"hitcounter: {fault.format(path=path)}\n")


def test_a_directory_that_cannot_hold_data_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    result = run_command("serve", port="0", data_dir=str(file))
    fault = f"data_dir: cannot write to {file}: File exists"
    assert (result.returncode, result.stderr) == (1, f"hitcounter: {fault}\n")


@pytest.mark.slow
async def test_a_store_of_an_operator_counts_as_ours_does(
    start_service: StartService, tmp_path: Path
) -> None:
    with store_server(tmp_path / "store", "--requirepass", "s3cret/#") as store:
        tcp, unix = store.tcp_url, f"{store.unix_url}?password=s3cret%2F%23"
        await counts_on(start_service, tcp.replace("//", "//:s3cret%2F%23@"), 0)
        await counts_on(start_service, unix, 50)
    assert not (tmp_path / "data" / "store.sock").exists()


async def counts_on(start_service: StartService, url: str, before: int) -> None:
    """Count fifty hits on a store that holds some already."""
    service = start_service(redis_url=url, timezone=zone_at_noon(), operations_port=0)
    assert (await ask(service.operations_port, "GET", "/readyz")).json["level"] == "A"
    assert await counted(service.port, [DEMO]) == {DEMO: before}
    await count_some(service, 50)
    assert await counted(service.port, [DEMO]) == {DEMO: before + 50}
    assert await asyncio.to_thread(service.stop) == 0


@pytest.fixture
def tls_store(tmp_path: Path) -> Iterator[StoreServer]:
    """Run a server that speaks TLS only, if one on this machine can."""
    certificate, key = certify(tmp_path)
    options = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    authority = ["--tls-auth-clients", "no", "--tls-ca-cert-file", str(certificate)]
    with store_server(
        tmp_path / "store", *options, *authority, program=debian_program(), is_tls=True
    ) as store:
        yield store


@pytest.mark.slow
async def test_a_store_behind_tls_counts_if_its_certificate_is_vouched_for(
    start_service: StartService,
    tls_store: StoreServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = tls_store.tcp_url.replace("redis://", "rediss://")
    await counts_on(start_service, f"{url}?ssl_ca_certs={tmp_path / 'cert.pem'}", 0)
    await counts_on(start_service, f"{url}?ssl_cert_reqs=none", 50)
    stranger = start_service(redis_url=url)
    refused = await ask(stranger.port, "POST", "/v1/sites/demo/hits")
    assert (refused.status, refused.code) == (503, "store_unavailable")
    assert "certificate verify failed" in stranger.log
    assert await asyncio.to_thread(stranger.stop) == 0
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))  # of the system's authorities
    await counts_on(start_service, url, 100)
