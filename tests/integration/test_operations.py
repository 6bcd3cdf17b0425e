"""Operations have a process and a listener of their own, and nothing there touches the counting."""

import asyncio
import os
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.conftest import RunningService, StartService, run_command
from tests.support.load import ask
from tests.support.processes import signal_all
from tests.support.stores import frozen_store, store_of
from tests.support.waiting import comes_true, eventually
from tests.support.wire import Answer, Connection, exchange, request
from tests.support.wire import ask as ask_at

NAME = "dem.example.vn"
HITS = "/v1/sites/demo/hits"
OWN_NAMES = (
    *("127.0.0.1", "localhost:9180", "LOCALHOST.", "127.8.9.1:1", "[::1]:9180", "[0:0::1]"),
    *(NAME, f"{NAME.upper()}.:9180"),
)
FOREIGN_NAMES = (
    *("", "evil.example", "evil.example:9180", "127.0.0.1.evil.example", f"{NAME}.evil.example"),
    *("localhost.evil.example", "192.0.2.1", "[::2]", "0x7f.1", "@127.0.0.1", "127.0.0.1:x", "a b"),
)


def look(service: RunningService, target: str, host: str = "127.0.0.1", **more: str) -> Answer:
    """Ask operations, by a name of theirs or another."""
    return ask_at(service.operations_port, "GET", target, None, {"Host": host} | more)


async def hit(service: RunningService) -> str:
    """Count one hit; return what became of it."""
    answer = await ask(service.port, "POST", HITS)
    return str(answer.json["state"]) if answer.status == 200 else answer.code


def operations_pid(service: RunningService) -> int:
    """Find the process."""
    (pid,) = service.pids_of("hitcounter.process.operations_start")
    return pid


async def test_operations_are_for_those_who_know_them_by_name_and_for_no_page(
    start_service: StartService,
) -> None:
    service = start_service(operations_port=0, operations_hosts=NAME)
    for host in OWN_NAMES:
        assert look(service, "/metrics", host).status == 200, host
    for host in FOREIGN_NAMES:
        refused = look(service, "/metrics", host)
        assert (refused.status, refused.code) == (421, "foreign_host"), host
        assert "operations_hosts" in refused.json["error"]["message"]
    page = {"Origin": "https://page.example"}
    port = service.operations_port
    for answer, status in (
        (look(service, "/metrics", **page), 200),
        (look(service, "/metrics?name[]=x", **{"Accept-Encoding": "gzip"}), 200),
        (look(service, "/readyz", **page), 200),
        (look(service, "/", **page), 404),
        (look(service, "/metrics", "evil.example", **page), 421),
        (ask_at(port, "OPTIONS", "/metrics", None, {"Host": "127.0.0.1"} | page), 405),
        (exchange(port, request("GET", "/metrics", None, page)[:-4] + b"\r\nx\r\n\r\n"), 400),
    ):
        assert answer is not None
        assert answer.status == status
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert service.worker_pids() == service.pids_of("worker")


@pytest.mark.slow
async def test_operations_say_in_detail_what_becomes_of_hits_and_everybody_else_in_one_word(
    start_service: StartService,
) -> None:
    service = start_service(operations_port=0, store_timeout_s=0.3)
    public = await ask(service.port, "GET", "/readyz")
    assert (public.status, public.json) == (200, {"status": "ready"})
    ready = look(service, "/readyz").json
    assert (ready["status"], ready["level"], ready["warnings"]) == ("ready", "A", [])
    assert await hit(service) == "counted"
    journals = service.data_dir / "journal"
    journals.rmdir()
    journals.touch()
    with frozen_store(service):
        # by whether this hit finds the store away, or the writer did before it
        assert await hit(service) in ("outcome_unknown", "journal_failed")
        await eventually(lambda: are_said(service, 503, "journal_failed"), "hits are refused")
        refused = await ask(service.port, "POST", HITS)
        told = "the store is away and the journal fails"
        assert refused.json["error"]["message"] == f"{told}; the hit was not counted"
        assert (
            f"{told}: unable to open" in service.log
        )  # which names paths, and is not for visitors
        journals.unlink()
        journals.mkdir()
        assert await hit(service) == "stored"
        await eventually(lambda: are_said(service, 200, "journaling"), "hits are journaled")
    await eventually(lambda: are_said(service, 200, "ready"), "the store is back")


async def are_said(service: RunningService, status: int, word: str) -> bool:
    """Return whether operations and the worker say the same of hits."""
    answers = [
        await ask(port, "GET", "/readyz") for port in (service.operations_port, service.port)
    ]
    words = [a.json["status"] if a.status == 200 else a.code for a in answers]
    return {(a.status, w) for a, w in zip(answers, words, strict=True)} == {(status, word)}


@pytest.mark.slow
async def test_a_worker_that_hangs_is_named_until_it_goes_on(
    start_service: StartService, tmp_path: Path
) -> None:
    service = start_service(workers=2, operations_port=0)

    async def named() -> set[str]:
        warnings = (await ask(service.operations_port, "GET", "/readyz")).json["warnings"]
        return {worker for line in warnings for worker in re.findall("^worker ([0-3]) has", line)}

    async def is_named() -> bool:
        return len(await named()) == 1

    async def is_well() -> bool:
        return not await named()

    assert await is_well()
    hanging = service.worker_pids()[:1]
    signal_all(hanging, signal.SIGSTOP)
    await eventually(is_named, "the worker is named")
    left = tmp_path / "left"  # as by a service that was killed
    shutil.copytree(service.data_dir, left, ignore=shutil.ignore_patterns("store*"))
    for data_dir, is_served in ((service.data_dir, True), (left, False)):
        said = run_command("check", data_dir=str(data_dir)).stdout
        assert bool(re.search("^warning: worker [0-3] has", said, re.MULTILINE)) is is_served
    signal_all(hanging, signal.SIGCONT)
    await eventually(is_well, "it goes on")


async def test_a_flood_of_questions_about_readiness_asks_the_store_once_a_second(
    start_service: StartService,
) -> None:
    service = start_service()
    with store_of(service) as redis:
        before = redis.info("commandstats")["cmdstat_info"]["calls"]
        began_at_s = time.monotonic()
        answers = await asyncio.gather(*(ask(service.port, "GET", "/readyz") for _ in range(300)))
        n_seconds = time.monotonic() - began_at_s
        n_asked = redis.info("commandstats")["cmdstat_info"]["calls"] - before
    assert {answer.body.decode() for answer in answers} == {'{"status":"ready"}'}
    assert n_asked <= n_seconds + 3  # the two of ours, and perhaps one of the watch


@pytest.mark.slow
async def test_operations_that_die_are_started_again_and_nobody_is_refused_meanwhile(
    start_service: StartService,
) -> None:
    service = start_service(operations_port=0)
    assert look(service, "/metrics").status == 200
    pid, workers = operations_pid(service), service.worker_pids()
    os.kill(pid, signal.SIGSTOP)  # so that the next one has to answer
    asking = asyncio.create_task(asyncio.to_thread(look, service, "/metrics", "127.0.0.1"))
    os.kill(pid, signal.SIGKILL)
    await asyncio.wait([asking])
    assert look(service, "/metrics").status == 200
    assert operations_pid(service) != pid
    assert await hit(service) == "counted"
    assert service.worker_pids() == workers
    assert "WARNING supervisor: operations ended with -9; starting it again" in service.log
    pid = operations_pid(service)
    with Connection(service.operations_port) as earlier:
        assert look(service, "/metrics").status == 200  # so the earlier one is accepted
        service.process.send_signal(signal.SIGHUP)
        await comes_true(lambda: "replaced all workers" in service.log, "it is reloaded")
        earlier.send(request("GET", "/metrics", headers={"Host": "127.0.0.1"}))
        assert earlier.receive() is not None
    assert look(service, "/metrics").status == 200
    await comes_true(
        lambda: service.pids_of("hitcounter.process.operations_start") != [pid],
        "there is a new one",
    )
    assert await asyncio.to_thread(service.stop) == 0


@pytest.mark.slow
async def test_operations_that_cannot_start_never_end_the_counting(
    start_service: StartService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys; sys.modules['hitcounter.operations.app'] = None"
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    service = start_service(operations_port=0)
    said = "ERROR supervisor: this Python cannot load hitcounter.operations.app: "
    await comes_true(lambda: said in service.log, "it is said")
    assert await hit(service) == "counted"
    service.process.send_signal(signal.SIGHUP)
    kept = "ERROR supervisor: operations keep the settings that they had: "
    await comes_true(lambda: kept in service.log, "it is said of the reload too")
    assert await hit(service) == "counted"
    assert service.stop() == 0


@pytest.mark.slow
def test_a_port_of_operations_that_is_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        given = {"data_dir": str(tmp_path / "data"), "port": "0", "operations_port": port}
        result = run_command("serve", **given)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"hitcounter: cannot listen on 127.0.0.1 port {port}: Address already in use;"
        " operations_host and operations_port say where, or off\n"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 -- that is the case
def test_one_port_for_both_listeners_is_one_line(tmp_path: Path, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    given = {"data_dir": str(tmp_path / "data"), "host": host, "port": port}
    result = run_command("serve", **given, operations_port=port)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"hitcounter: port and operations_port are both {port}: give another, or off\n"
    )


def test_the_port_of_visitors_has_no_metrics_and_says_where_they_are(
    start_service: StartService,
) -> None:
    service = start_service()
    for method in ("GET", "PUT"):
        answer = ask_at(service.port, method, "/metrics?a=b")
        assert (answer.status, answer.code) == (404, "not_found")
        assert "operations_port" in answer.json["error"]["message"]
    assert service.pids_of("hitcounter.process.operations_start") == []
    assert service.stop() == 0
    assert service.process.stdout is not None
    assert service.process.stdout.read() == ""  # one line, and that was read
