"""Limits over real HTTP, for visitors whom a proxy that is named tells apart."""

import json
import re
import signal
from typing import Any

import pytest

from tests.conftest import RunningService, StartService
from tests.support.floods import flood_from_everywhere
from tests.support.stores import frozen_store, store_of
from tests.support.wire import OWN, Answer, Connection, ask, request

pytestmark = pytest.mark.xdist_group("limits")

BURST, NEW_PAGES, NEW_SITES, FLOOD = 300, 100, 5, 1_000
SLACK = 40  # what flows in while a slow machine sends


@pytest.fixture(scope="module")
def service(start_shared: StartService) -> RunningService:
    """Start an open service with two workers behind a proxy, with all limits."""
    return start_shared(
        limits="on", trusted_proxies="127.0.0.1", operations_port=0, workers=2, body_timeout_s=0.1
    )


def send(connection: Connection, site: str, forwarded: str, **body: str) -> Answer:
    """Send a hit for a client of the proxy."""
    raw = json.dumps(body).encode()
    head = f"POST /v1/sites/{site}/hits HTTP/1.1\r\nHost: a\r\nAccept-Language: vi\r\n"
    head += f"User-Agent: Mozilla/5.0 (X11)\r\nX-Forwarded-For: {forwarded}\r\n"
    connection.send(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
    answer = connection.receive("POST")
    assert answer is not None
    return answer


def hit(service: RunningService, site: str, forwarded: str, **body: str) -> Any:
    """Send one hit; give the answer's JSON."""
    with Connection(service.port) as connection:
        return send(connection, site, forwarded, **body).json


def counts(service: RunningService, site: str, page: str = "") -> Any:
    """Read the numbers."""
    return ask(service.port, "GET", f"/v1/sites/{site}/counts?path=/{page}").json


def test_who_sends_too_many_hits_is_limited_wherever_they_claim_to_be(
    service: RunningService,
) -> None:
    with Connection(service.port) as first, Connection(service.port) as second:
        for n in range(BURST // 2 + SLACK):
            send(first, "flat", f"203.0.113.{n % 250}, 198.51.100.1")
            answer = send(second, "flat", f"203.0.113.{n % 250}\r\nX-Forwarded-For: 198.51.100.1")
        assert answer.json["state"] == "limited"
        assert answer.headers["retry-after"] == "60"
        assert BURST <= answer.json["total"] <= BURST + SLACK
        assert counts(service, "flat")["total"] <= BURST + SLACK
        assert send(first, "flat", "198.51.100.2").json["state"] == "counted"
        # A retry of a hit that was counted is answered as it was.
        assert send(second, "ids", "198.51.100.3", id="a-random-id").json["state"] == "counted"
        for _ in range(BURST + SLACK):
            answer = send(first, "ids", "198.51.100.3", id="a-random-id")
        assert (answer.json["state"], answer.json["total"]) == ("counted", 1)
    shown = ask(service.operations_port, "GET", "/metrics", headers=OWN).body.decode()
    assert 'hitcounter_hits_total{result="limited",site="(other)"}' in shown


def test_a_flood_is_answered_before_its_body(service: RunningService) -> None:
    before = flood_hits(service)
    floods: list[Answer] = []
    with Connection(service.port) as connection:
        while len(floods) < 20:
            answer = send(connection, "flood", "198.51.100.4")
            floods += [answer] if answer.status == 429 else []
        assert send(connection, "calm", "198.51.100.14").json["state"] == "counted"
    # Each is refused before a request is made of it.
    for answer in floods:
        assert (answer.code, answer.headers["retry-after"]) == ("flood", "2")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.body == floods[0].body
    assert flood_hits(service) == before + len(floods)
    for _ in range(20):
        with Connection(service.port) as connection:
            send(connection, "calm", "198.51.100.14")
            send(connection, "flood", "198.51.100.4\r\nConnection: Upgrade\r\nUpgrade: tcp")
            assert connection.receive() is None  # what comes then is no HTTP


def test_all_hits_of_a_flood_in_a_packet_are_refused_also_before_a_body(
    start_service: StartService,
) -> None:
    service = start_service(limits="on")
    flood_from_everywhere(service.process.pid)  # which lets nobody in meanwhile
    head = "POST /v1/sites/flood/hits HTTP/1.1\r\nHost: a\r\n"
    with Connection(service.port) as connection:
        whole, unfinished = (f"{head}Content-Length: {n}\r\n\r\n".encode() for n in (0, 20))
        connection.send(whole * FLOOD + unfinished)
        answers = [connection.receive("POST") for _ in range(FLOOD + 1)]
    assert {answer and answer.status for answer in answers} == {429}


def test_a_flood_that_repeats_itself_is_over_when_it_is(start_service: StartService) -> None:
    """Its packets are known again, on any connection, and count once they may."""
    service = start_service(limits="on", operations_port=0)
    first, other = (request("POST", "/v1/sites/flood/hits", body) for body in (b"", b"{}"))
    flood_from_everywhere(service.process.pid)
    with Connection(service.port) as connection:
        for _ in range(3):
            packets = first, other, first + other, first[:9], first[9:]
            assert statuses(connection, *packets) == [429] * 5
    flood_from_everywhere(service.process.pid, for_s=0)
    with Connection(service.port) as connection:
        assert statuses(connection, first, other, first) == [200] * 3
    flood_from_everywhere(service.process.pid)
    with Connection(service.port) as connection:
        assert statuses(connection, other, other) == [429] * 2
    assert counts(service, "flood")["total"] == 3
    assert flood_hits(service) == 17


def test_who_sends_what_a_flood_sends_is_not_taken_for_it(start_service: StartService) -> None:
    service = start_service(limits="on")
    packet = request("POST", "/v1/sites/flood/hits", b"{}")
    with Connection(service.port) as flooding, Connection(service.port, source="127.0.0.2") as calm:
        while statuses(flooding, packet) == [200]:
            pass
        assert 429 in statuses(flooding, *[packet] * 20)
        assert statuses(calm, packet) == [200]


@pytest.mark.slow
def test_a_flood_that_repeats_itself_keeps_its_turn_its_deadlines_and_its_end(
    start_service: StartService,
) -> None:
    service = start_service(limits="on", head_timeout_s=0.5, operations_port=0)
    packet = request("POST", "/v1/sites/flood/hits", b"{}")
    flood_from_everywhere(service.process.pid)
    with Connection(service.port) as connection:
        assert statuses(connection, packet, packet) == [429] * 2  # the second is remembered
    with Connection(service.port) as connection:
        with frozen_store(service):
            for raw in (request("GET", "/v1/sites/flood/counts"), packet):
                connection.send(raw)
                assert ask(service.port, "GET", "/healthz").status == 200  # so that it is read
        answers = [connection.receive() for _ in range(2)]
        assert [answer and answer.status for answer in answers] == [200, 429]
    with Connection(service.port) as idle:
        assert statuses(idle, packet) == [429]
        with Connection(service.port) as silent:
            assert silent.receive() is None  # when idle would end too, if it had no longer
        assert statuses(idle, packet) == [429]
        idle.send(packet[:9])
        assert idle.receive() is None
    n_refused = 5
    with Connection(service.port) as connection:
        service.process.send_signal(signal.SIGHUP)
        ending = ""
        while ending != "close":
            connection.send(packet)
            answer = connection.receive()
            assert answer is not None
            assert answer.status == 429
            ending = answer.headers["connection"]
            n_refused += 1
        assert connection.receive() is None
    assert flood_hits(service) == n_refused


def statuses(connection: Connection, *packets: bytes) -> list[int]:
    """Send packets, one after the other; give the status of each answer."""
    found: list[int] = []
    for packet in packets:
        connection.send(packet)
        for _ in range(packet.count(b"\r\n\r\n")):
            answer = connection.receive("POST")
            found += [answer.status] if answer else []
    return found


def flood_hits(service: RunningService) -> float:
    """Read how many hits of a flood were refused."""
    shown = ask(service.operations_port, "GET", "/metrics", headers=OWN).body.decode()
    found = re.search(r'hitcounter_hits_total\{result="flood",site="\(other\)"\} (\S+)', shown)
    return float(found[1]) if found else 0.0


def test_invented_pages_leave_room_for_real_ones(service: RunningService) -> None:
    """Squatting: from one address, whose other hits still count for the site."""
    assert hit(service, "pages", "198.51.100.5", path="/real")["page"]["total"] == 1
    with Connection(service.port) as connection:
        for n in range(NEW_PAGES + SLACK):
            counts(service, "pages", f"invented-{n}")  # a look at it first changes nothing
            answer = send(connection, "pages", "198.51.100.6", path=f"/invented-{n}").json
        assert (answer["state"], answer["page"]["total"]) == ("counted", None)
        assert answer["total"] == 1 + NEW_PAGES + SLACK
        answer = send(connection, "pages", "198.51.100.6", path="/real").json
        assert answer["page"]["total"] == 2
        assert send(connection, "pages", "198.51.100.7", path="/new").json["page"]["total"] == 1
    with store_of(service) as redis:
        assert NEW_PAGES + 2 <= int(redis.get("hc:{0}:pages:pages") or 0) <= NEW_PAGES + 5


def test_invented_sites_leave_room_for_real_ones(service: RunningService) -> None:
    answers = [hit(service, f"invented-{n}", "198.51.100.8") for n in range(NEW_SITES + 3)]
    assert [answer["state"] for answer in answers] == ["counted"] * NEW_SITES + ["limited"] * 3
    assert answers[-1]["total"] == 0
    assert hit(service, "invented-0", "198.51.100.8")["state"] == "counted"
    assert hit(service, "honest", "198.51.100.9")["state"] == "counted"
    with store_of(service) as redis:
        assert not redis.sismember("hc:{meta}:sites", f"invented-{NEW_SITES}")


def test_the_visits_of_a_site_to_itself_count_apart(start_shared: StartService) -> None:
    toml = '[sites.demo]\nown = ["198.51.100.0/24", "2001:db8::/32"]\n[sites.other]\n'
    service = start_shared(toml, trusted_proxies="127.0.0.1", operations_port=0)
    states = {
        forwarded: hit(service, "demo", forwarded, path="/x")["state"]
        for forwarded in ("198.51.100.1", "2001:db8::1", "198.51.100.1, 203.0.113.1", "::1")
    }
    assert [*states.values()] == ["own", "own", "counted", "counted"]
    assert hit(service, "other", "198.51.100.1")["state"] == "counted"
    with Connection(service.port) as connection:  # of the proxy, for one visitor after the other
        own = [send(connection, "demo", "198.51.100.1") for _ in range(2)]
        head = "POST /v1/sites/demo/hits HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: "
        connection.send(f"{head}203.0.113.1\r\n\r\n{head}::1\r\n\r\n".encode())
        others = [connection.receive("POST") for _ in range(2)]
    found = [answer and answer.json["state"] for answer in (*own, *others)]
    assert found == ["own", "own", "counted", "counted"]
    assert counts(service, "demo", "x")["page"]["total"] == 2
    shown = ask(service.operations_port, "GET", "/metrics", headers=OWN).body.decode()
    assert 'hitcounter_hits_total{result="own",site="demo"} 4.0' in shown


def test_a_proxy_that_nobody_named_takes_limits_away_and_is_reported(
    start_shared: StartService,
) -> None:
    service = start_shared(limits="on", operations_port=0)
    with Connection(service.port) as connection:
        for _ in range(BURST + SLACK):
            answer = send(connection, "demo", "198.51.100.1", path="/x")
        assert answer.json["total"] == BURST + SLACK
        sites = [send(connection, f"site-{n}", "198.51.100.1").json for n in range(NEW_SITES + 2)]
    assert sites[-1]["state"] == "limited"
    assert service.log.count("trusted_proxies does not name") == 1
    assert "198.51" not in service.log
    shown = ask(service.operations_port, "GET", "/metrics", headers=OWN).body.decode()
    assert f"hitcounter_unnamed_proxy_hits_total {BURST + SLACK + NEW_SITES + 2:.1f}" in shown
    checked = service.run("check").stdout
    assert f"warning: {BURST + SLACK + NEW_SITES + 2} hits came through a proxy" in checked
