"""Clients that ask and never read, or only connect, may not fill our memory or our files."""

import re
import select
import socket
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import pytest

from hitcounter.process.serving import SPARE_FILES
from hitcounter.web.answering import MAX_REPEATS
from hitcounter.web.heads import LONG_HEAD_BYTES, MAX_WAITING_BYTES
from hitcounter.web.routes import Router
from hitcounter.web.timeouts import KEEPALIVE_S
from tests import conftest
from tests.conftest import RunningService, StartService
from tests.support.floods import flood_from_everywhere
from tests.support.stores import frozen_store
from tests.support.wire import OWN, Connection, ask, exchange, request

MAX_SENT_BYTES = 16 << 20  # more than the buffers of two sockets
METRICS = "/metrics"  # which operations answer
LARGE = ("/", "/widget.js", "/openapi.yaml", METRICS)
# Thousands of these fill the buffers of a socket.
SMALL = (
    *("/v1/sites/demo/counts", "/v1/sites/demo/badge.svg", "/v1/sites/demo/pixel.gif"),
    "/nothing",
)
N_FILES, N_CLIENTS = 128, 400
SEND_TIMEOUT_S, PATIENCE_S = 1.0, 300.0


def send_until_dropped(service: RunningService, target: str) -> int:
    """Pipeline requests and read no answer; return how many bytes were taken before the end."""
    asked = request("GET", target, None, OWN) * 500
    port = service.operations_port if target == METRICS else service.port
    sent = 0
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        client.connect(("127.0.0.1", port))
        client.setblocking(False)
        while select.select([], [client], [], PATIENCE_S)[1]:
            try:
                sent += client.send(asked[sent % len(asked) :])
            except ConnectionError:
                return sent
    raise AssertionError(f"{target}: held back after {sent} bytes, and never dropped")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "targets", [LARGE, pytest.param(SMALL, marks=pytest.mark.slow)], ids=["large", "small"]
)
def test_clients_that_never_read_are_held_back_then_dropped_and_nobody_else_is(
    start_service: StartService, targets: tuple[str, ...]
) -> None:
    service = start_service(send_timeout_s=SEND_TIMEOUT_S, store_timeout_s=30, operations_port=0)
    with ThreadPoolExecutor(len(targets)) as pool:
        sent = [pool.submit(send_until_dropped, service, target) for target in targets]
        while not all(future.done() for future in sent):
            assert ask(service.port, "GET", "/v1/sites/demo/counts").status == 200
            wait(sent, timeout=0.5)
    assert max(future.result() for future in sent) < MAX_SENT_BYTES


# One character that is wide makes all of a header wide.
WIDE = {f"X-{n}": f"\U0001f600{'a' * 7000}" for n in range(4)}


def memory_kb(pid: int) -> int:
    """Read how much memory a process holds."""
    (held,) = re.findall(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(held)


def test_what_comes_behind_no_request_is_not_kept_while_an_answer_waits(
    start_service: StartService,
) -> None:
    service = start_service(store_timeout_s=30)
    (worker,) = service.worker_pids()
    hit = request("POST", "/v1/sites/demo/hits")
    assert exchange(service.port, hit) is not None
    before = memory_kb(worker)
    with Connection(service.port) as client:
        with frozen_store(service):
            client.send(hit + b"no request\r\n\r\n")
            for _ in range(64):
                client.send(bytes(1 << 20))
            assert memory_kb(worker) < before + (16 << 10)
        assert [client.receive() is not None for _ in range(3)] == [True, True, False]
    assert ask(service.port, "GET", "/v1/sites/demo/counts").json["total"] == 2


def test_long_heads_wait_in_the_kernel_for_the_answers_before_them(
    start_service: StartService,
) -> None:
    service = start_service(store_timeout_s=30)
    (worker,) = service.worker_pids()
    hit = request("POST", "/v1/sites/demo/hits")
    long = request("GET", "/healthz", None, WIDE)
    assert exchange(service.port, hit) is not None
    before = memory_kb(worker)
    with ExitStack() as stack:
        clients = [stack.enter_context(Connection(service.port)) for _ in range(20)]
        senders = ThreadPoolExecutor(len(clients))
        with frozen_store(service):
            sent = [senders.submit(client.send, hit + long * 40) for client in clients]
            wait(sent, timeout=2)
            for _ in range(50):  # in each of these turns the worker reads of all
                assert ask(service.port, "GET", "/healthz").status == 200
            assert memory_kb(worker) < before + (32 << 10)
        for client in clients:
            answers = [client.receive() for _ in range(41)]
            assert [answer and answer.status for answer in answers] == [200] * 41
        senders.shutdown()


@pytest.mark.parametrize("cut", [3, 1], ids=["heads", "bodies"])
def test_many_that_begin_something_long_and_never_end_it_make_room_for_the_others(
    start_service: StartService, cut: int
) -> None:
    service = start_service()
    (worker,) = service.worker_pids()
    long = request("POST", "/v1/sites/demo/hits", b"{}" if cut == 1 else None, WIDE)
    assert exchange(service.port, long) is not None
    before = memory_kb(worker)
    with ExitStack() as stack:
        for _ in range(800):
            stack.enter_context(Connection(service.port)).send(long[:-cut])
        for _ in range(20):
            assert ask(service.port, "POST", "/v1/sites/demo/hits").status == 200
        assert memory_kb(worker) < before + (64 << 10)
    assert ask(service.port, "GET", "/v1/sites/demo/counts").json["total"] == 21
    answer = exchange(service.port, long)
    assert answer is not None
    assert answer.json["total"] == 22
    assert "ERROR" not in service.log


@pytest.fixture(params=["uvloop", "asyncio"])
def few_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Let each process of a service open few files, and the tests as many as before."""
    program = tmp_path / "hitcounter"
    program.write_text(f'#!/bin/sh\nulimit -n {N_FILES}\nexec {conftest.PROGRAM} "$@"\n')
    program.chmod(0o700)
    monkeypatch.setattr(conftest, "PROGRAM", program)
    if request.param == "asyncio":
        (tmp_path / "uvloop.py").write_text("raise ImportError('not here')\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def is_open(client: socket.socket) -> bool:
    """Tell whether a connection on which nothing is asked still stands."""
    try:
        return select.select([client], [], [], 0)[0] == [] or client.recv(1) != b""
    except ConnectionError:
        return False


def n_refused(service: RunningService) -> int:
    """Read how many connections made room."""
    text = ask(service.operations_port, "GET", METRICS, None, OWN).body.decode()
    (value,) = re.findall(r"^hitcounter_connections_refused_total (.+)$", text, re.MULTILINE)
    return int(float(value))


@pytest.mark.usefixtures("few_files")
def test_idle_clients_make_room_for_newcomers_the_longest_idle_first(
    start_service: StartService,
) -> None:
    service = start_service(operations_port=0, head_timeout_s=60)
    workers, log = service.worker_pids(), service.log
    n_places = N_FILES - SPARE_FILES
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            for _ in range(N_CLIENTS)
        ]
        for _ in range(20):
            assert ask(service.port, "POST", "/v1/sites/demo/hits").status == 200
        for client in clients[: N_CLIENTS - n_places]:
            assert select.select([client], [], [], PATIENCE_S)[0]
            assert not is_open(client)
        assert all(map(is_open, clients[N_CLIENTS - n_places + 30 :]))
        for _ in range(N_FILES):  # operations have as few files
            operations = ("127.0.0.1", service.operations_port)
            stack.enter_context(socket.create_connection(operations))
        assert n_refused(service) >= N_CLIENTS - n_places
    assert service.worker_pids() == workers
    assert service.log == log


@pytest.mark.slow
def test_who_has_asked_since_has_not_waited_longest(start_service: StartService) -> None:
    service = start_service(max_connections=2)
    with ExitStack() as stack:
        asks, idle = (stack.enter_context(Connection(service.port)) for _ in range(2))
        for connection in (idle, asks):
            connection.send(request("GET", "/healthz"))
            assert connection.receive()
        newcomer = stack.enter_context(Connection(service.port))
        assert idle.receive() is None
        for connection in (asks, newcomer):
            connection.send(request("GET", "/healthz"))
            assert connection.receive()


def test_who_leaves_keeps_the_turn_of_long_answers_from_nobody(
    start_service: StartService,
) -> None:
    service = start_service(store_timeout_s=300)
    with frozen_store(service):
        for _ in range(2):  # one who has the turn, and one who waits for it
            with Connection(service.port) as client:
                client.send(request("GET", "/v1/sites/demo/pages?path=/"))
                assert ask(service.port, "GET", "/healthz").status == 200
        assert ask(service.port, "GET", "/").status == 200
    assert ask(service.port, "GET", "/v1/sites/demo/pages?path=/").status == 200


HEAD_TIMEOUT_S = 0.5


def test_an_unfinished_head_has_its_time_and_an_idle_connection_a_longer_one(
    start_service: StartService,
) -> None:
    service = start_service(head_timeout_s=HEAD_TIMEOUT_S)
    hit = request("POST", "/v1/sites/demo/hits")
    with ExitStack() as stack:
        idle, silent, begun, busy = [
            stack.enter_context(Connection(service.port)) for _ in range(4)
        ]
        for client in (idle, busy):
            client.send(hit)
            assert client.receive() is not None
        begun.send(hit[:-3])
        busy.send(hit + hit[:9])
        busy.send(hit[9:-3])
        assert [client.receive() for client in (silent, begun)] == [None, None]
        last = busy.receive()
        assert last is not None
        assert busy.receive() is None
        idle.send(hit)
        answer = idle.receive()
        assert answer is not None
        assert answer.json["total"] == 4
    assert KEEPALIVE_S > 60  # for which nginx keeps a connection that it may use again


def test_long_targets_are_not_remembered() -> None:
    router = Router({})
    router.find("/short")
    n_remembered = router._remembered.cache_info().currsize
    assert router.find(f"/v1/sites/demo/counts?path=/{'a' * 7000}")[0] is not None
    assert router._remembered.cache_info().currsize == n_remembered


@pytest.mark.slow
def test_a_flood_of_requests_that_differ_is_not_remembered_for_ever(
    start_service: StartService,
) -> None:
    service = start_service(limits="on")
    (worker,) = service.worker_pids()
    flood_from_everywhere(service.process.pid)
    before = memory_kb(worker)
    hits = f"/v1/sites/demo/hits?{'a' * (LONG_HEAD_BYTES - 200)}"
    with Connection(service.port) as client:
        for n in range(8 * MAX_REPEATS):
            client.send(request("POST", f"{hits}{n}"))
            answer = client.receive()
            assert answer is not None
            assert answer.status == 429
    assert memory_kb(worker) < before + (16 << 10)


def test_idle_clients_that_sent_long_heads_share_a_bound(start_service: StartService) -> None:
    """Their heads stay in memory until the next request, or the end of the connection."""
    service = start_service()
    headers = {f"X-{n}": "a" * 7_000 for n in range(4)}
    long = request("GET", "/healthz", headers=headers)
    n_clients = 2 * MAX_WAITING_BYTES // len(long)
    with ExitStack() as stack:
        clients = [stack.enter_context(Connection(service.port)) for _ in range(n_clients)]
        n_answered = 0
        for client in clients:
            client.send(long)
            n_answered += client.receive() is not None
        assert n_clients // 3 < n_answered < 2 * n_clients // 3
        assert ask(service.port, "GET", "/healthz").status == 200
