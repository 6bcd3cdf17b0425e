"""The proxies of `deploy/`, started as they are: who is counted, how often, what is closed."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest

from hitcounter.web.timeouts import KEEPALIVE_S
from tests.conftest import RunningService
from tests.integration.proxies import (
    DEPLOYED,
    OURS,
    PROXIES,
    Site,
    Visitor,
    deployed,
    knowing,
)
from tests.support.waiting import until
from tests.support.wire import Answer, ask

pytestmark = [pytest.mark.xdist_group("proxies"), pytest.mark.slow]

ANOTHER = "127.0.0.10"
HITS, PIXEL = "/v1/sites/demo/hits", "/v1/sites/demo/pixel.gif"
BADGE = "/v1/sites/demo/badge.svg"
COUNTING = [("POST", HITS), ("GET", PIXEL), ("GET", f"{BADGE}?count=1")]
SENT = [" ".join(each) for each in COUNTING]
# How each says for how long it keeps an idle connection to the counter.
IDLE = {
    "nginx": "keepalive_timeout ([0-9]+)s;",
    "apache": "ttl=([0-9]+)",
    "caddy": "keepalive ([0-9]+)s",
    "haproxy": "pool-purge-delay ([0-9]+)s",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Start a service that knows its proxy, and one visitor."""
    with knowing(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module", params=PROXIES)
def site(
    request: pytest.FixtureRequest,
    service: RunningService,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """Run a proxy before the service."""
    with deployed(request.param, service.port, tmp_path_factory.mktemp("proxy")) as site:
        yield site


def total(service: RunningService) -> int:
    """Read what is counted, past the proxy."""
    return int(ask(service.port, "GET", "/v1/sites/demo/counts").json["total"])


@pytest.mark.parametrize("place", ["below_a_path", "at_the_root"])
def test_a_visitor_is_counted_once_and_known_by_his_address(
    service: RunningService, site: Site, place: str
) -> None:
    ours, another = (Visitor(getattr(site, place), site.trust, a) for a in (OURS, ANOTHER))
    with closing(ours), closing(another):
        before = total(service)
        for forged in ({}, {"X-Forwarded-For": f"{OURS}, 127.0.0.1"}, {"X-Forwarded-For": ANOTHER}):
            assert ours.ask("POST", HITS, "{}", forged).json["state"] == "own"
            assert another.ask("POST", HITS, '{"path": "/a"}', forged).json["state"] == "counted"
        assert total(service) == before + 3
        # Asked for twice, a picture is counted twice, and shows what is counted now.
        shown = [another.ask(*COUNTING[2]).body for _ in range(2)]
        assert [another.ask("GET", PIXEL).status for _ in range(2)] == [200, 200]
        assert total(service) == before + 7
        assert shown[0] != shown[1]
        assert another.ask("GET", "/widget.js").body == ask(service.port, "GET", "/widget.js").body


@pytest.mark.parametrize("place", ["below_a_path", "at_the_root"])
def test_what_is_not_for_visitors_or_too_large_stops_here(
    service: RunningService, site: Site, place: str
) -> None:
    def visit(method: str, path: str, body: str = "", **headers: str) -> Answer:
        with closing(Visitor(getattr(site, place), site.trust)) as visitor:
            return visitor.ask(method, path, body, headers)

    before = total(service)
    for path in ("/metrics", "/readyz"):
        answer, direct = visit("GET", path), ask(service.port, "GET", path)
        assert (answer.status, answer.body) == (direct.status, direct.body)
    assert answer.json == {"status": "ready"}
    assert visit("POST", HITS, "x" * 20_000).status == 413
    assert outcome(lambda: visit("GET", PIXEL, Cookie="x" * 25_000)) in (0, 400, 431, 494)
    assert total(service) == before
    # What no proxy said for the front page is not the visitor's to say.
    said = visit("GET", "/", **{"X-Forwarded-Prefix": "/evil", "X-Forwarded-Proto": "http"})
    assert f'server="{getattr(site, place)}"' in said.body.decode().replace("&quot;", '"')


class Breaking(StreamRequestHandler):
    """Answers on a kept connection, but hangs up when it has read what counts."""

    def handle(self) -> None:
        """Note each request."""
        assert isinstance(self.server, Upstream)
        while head := b"".join(iter(self.rfile.readline, b"\r\n")):
            length = re.search(rb"(?i)content-length: (\d+)", head)
            self.rfile.read(int(length[1]) if length else 0)
            self.server.requests.append(request := head.split(b" HTTP/")[0].decode())
            if request in SENT:
                return
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class Upstream(ThreadingTCPServer):
    """What stands in the place of the counter."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Breaking)
        self.requests: list[str] = []


@contextmanager
def upstream() -> Iterator[Upstream]:
    """Run it."""
    with Upstream() as server:
        Thread(target=server.serve_forever).start()
        try:
            yield server
        finally:
            server.shutdown()


@pytest.mark.parametrize("name", PROXIES)
def test_what_counts_is_sent_once_where_the_connection_breaks(name: str, tmp_path: Path) -> None:
    with upstream() as server, deployed(name, server.server_address[1], tmp_path) as site:
        for place in (site.below_a_path, site.at_the_root):
            for is_reused in (False, True):
                server.requests.clear()
                for method, path in COUNTING:
                    with closing(Visitor(place, site.trust)) as visitor:
                        for before in ("/healthz", BADGE) if is_reused else ():
                            assert visitor.ask("GET", before).body == b"ok"
                        visitor.send_hit(method, path)
                        assert outcome(visitor.answer) != 200
                assert [each for each in server.requests if each in SENT] == SENT


def outcome(ask: Callable[[], Answer]) -> int:
    """Give the status of an answer; 0 where the connection ends instead."""
    try:
        return ask().status
    except OSError:
        return 0


def test_hits_whose_worker_is_killed_are_not_repeated(service: RunningService, site: Site) -> None:
    with ExitStack() as stack:
        visitors = [
            stack.enter_context(closing(Visitor(site.below_a_path, site.trust))) for _ in COUNTING
        ]
        for path in ("/healthz", BADGE):
            assert [each.ask("GET", path).status for each in visitors] == [200] * len(COUNTING)
        before, (worker,) = total(service), service.worker_pids()
        os.kill(worker, signal.SIGSTOP)
        for visitor, (method, path) in zip(visitors, COUNTING, strict=True):
            visitor.send_hit(method, path)
        until(lambda: n_unread(service.port) == len(COUNTING), "the hits have come")
        os.kill(worker, signal.SIGKILL)
        outcomes = [outcome(each.answer) for each in visitors]
    # What came on a connection of its own waits for the next worker, and is answered by it.
    assert total(service) - before == outcomes.count(200) < len(COUNTING)


def n_unread(port: int) -> int:
    """Count the connections to a port that hold what nobody has read."""
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(
        each[1].endswith(f":{port:04X}") and each[3] == "01" and each[4][-8:] != "00000000"
        for each in lines
    )


@pytest.mark.parametrize("name", PROXIES)
def test_the_proxy_ends_an_idle_connection_before_the_counter_does(name: str) -> None:
    text = (DEPLOYED / PROXIES[name].file).read_text("utf-8")
    (idle_s,) = set(re.findall(IDLE[name], text))
    assert int(idle_s) < KEEPALIVE_S
