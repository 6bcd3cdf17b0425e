"""The corpus of requests against the service itself, and through nginx and HAProxy."""

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import RunningService, StartService
from tests.support.servers import free_port, program
from tests.support.waiting import until
from tests.support.wire import Connection, ask, request
from tests.web.corpus import EXCHANGES, Exchange
from tests.web.test_bad_input import DECLARED

pytestmark = pytest.mark.xdist_group("corpus")
CLOCK = request("GET", "/healthz")
LAST = request("GET", "/healthz", None, {"Connection": "close"})
PROXY_TIMEOUT_S = 2.0
Services = Mapping[str, RunningService]


@pytest.fixture(scope="module")
def services(start_shared: StartService) -> Iterator[Services]:
    """Start an open service and one with a declared site."""
    services = {"open": start_shared(), "declared": start_shared(DECLARED)}
    yield services
    for service in services.values():
        assert len(service.log.splitlines()) <= 20
        assert "ERROR" not in service.log


def total(port: int, site: str = "corpus") -> int:
    """Read how many hits were counted."""
    return int(ask(port, "GET", f"/v1/sites/{site}/counts").json["total"])


def test_the_corpus_is_large_and_no_two_have_one_name() -> None:
    names = [exchange.why for exchange in EXCHANGES]
    assert len(set(names)) == len(names) >= 500


@pytest.mark.slow
def test_every_request_of_the_corpus_gets_its_answer_and_only_what_was_answered_counts(
    services: Services,
) -> None:
    wrong: list[str] = []
    ask(services["open"].port, "POST", "/v1/sites/corpus/hits")
    before = total(services["open"].port)
    for exchange in EXCHANGES:
        port = services[exchange.to].port
        with Connection(port) as clock:
            seen = what_comes(port, exchange, clock)
        if seen != (exchange.statuses, exchange.is_open):
            wrong.append(f"{exchange.why}: {seen}")
        now = total(services["open"].port)
        if now - before != exchange.n_counted:
            wrong.append(f"{exchange.why}: {now - before} counted")
        before = now
    assert wrong == []


def what_comes(port: int, exchange: Exchange, clock: Connection) -> tuple[tuple[int, ...], bool]:
    """Send packet by packet; return the statuses, and whether one more question is answered.

    A worker that has answered on `clock` has read what was sent before.
    """
    with Connection(port) as connection:
        for packet in exchange.packets:
            connection.send(packet)
            clock.send(CLOCK)
            clock.receive()
        statuses: list[int] = []
        for expected in exchange.statuses:
            answer = connection.receive("HEAD" if exchange.is_head and expected != 200 else "GET")
            if answer is None:
                return tuple(statuses), False
            statuses.append(answer.status)
        connection.send(CLOCK)
        answer = connection.receive()
        return tuple(statuses), answer is not None and answer.status == 200


NGINX = """
    pid {directory}/pid;
    error_log {directory}/error.log;
    events {{ worker_connections 256; }}
    http {{
        access_log off; {places}
        client_body_timeout 300ms;
        client_header_timeout 300ms;
        upstream hitcounter {{ server 127.0.0.1:{port}; keepalive 4; }}
        server {{
            listen 127.0.0.1:{listen};
            location / {{
                proxy_pass http://hitcounter;
                proxy_http_version 1.1;
                proxy_set_header Connection "";
            }}
        }}
    }}
"""
HAPROXY = """
global
    stats socket {directory}/pid
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    timeout http-request 300ms
    http-reuse always
frontend public
    bind 127.0.0.1:{listen}
    default_backend hitcounter
backend hitcounter
    server one 127.0.0.1:{port}
"""


def nginx(directory: Path) -> list[str | Path]:
    """Return the command that runs nginx in a directory."""
    return [program("nginx"), "-p", directory, "-c", directory / "proxy", "-g", "daemon off;"]


def haproxy(directory: Path) -> list[str | Path]:
    """Return the command that runs HAProxy."""
    return [program("haproxy"), "-db", "-f", directory / "proxy"]


@contextmanager
def proxy(
    command: Callable[[Path], list[str | Path]], text: str, port: int, directory: Path
) -> Iterator[int]:
    """Run a proxy before a service; give its port."""
    listen, names = free_port(), ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = " ".join(f"{name}_temp_path {directory / name}_;" for name in names)
    config = text.format(directory=directory, listen=listen, port=port, places=places)
    (directory / "proxy").write_text(config)
    process = subprocess.Popen(command(directory))
    try:
        until((directory / "pid").exists, "the proxy serves")
        yield listen
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("command", "text"), [(nginx, NGINX), (haproxy, HAPROXY)], ids=["nginx", "haproxy"]
)
def test_behind_a_proxy_nobody_gets_the_answer_of_another(
    services: Services,
    tmp_path: Path,
    command: Callable[[Path], list[str | Path]],
    text: str,
) -> None:
    service = services["open"]
    ask(service.port, "POST", "/v1/sites/corpus/hits")
    before = total(service.port)
    wrong = []
    with proxy(command, text, service.port, tmp_path) as port:
        for n, exchange in enumerate(e for e in EXCHANGES if e.to == "open"):
            statuses = through(port, exchange)
            answer = ask(port, "GET", f"/v1/sites/victim/counts?path=/{n}")
            now = total(service.port)
            # The proxy mends some requests, and refuses others on its own account.
            n_answered = sum(status < 400 for status in statuses)
            if answer.json.get("page", {}).get("path") != f"/{n}" or now - before > n_answered:
                wrong.append(f"{exchange.why}: {statuses}, {now - before} counted, {answer}")
            before = now
    assert wrong == []


def through(port: int, exchange: Exchange) -> list[int]:
    """Send all packets and a last question; return the statuses until the connection ends."""
    raw = b""
    with Connection(port) as connection:
        for packet in (*exchange.packets, LAST):
            connection.send(packet)
        connection.socket.settimeout(PROXY_TIMEOUT_S)
        with suppress(TimeoutError, ConnectionError):
            while part := connection.socket.recv(65536):
                raw += part
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d+) ", raw)]
