"""The corpus of requests against the service itself, and through nginx and HAProxy."""

from collections.abc import Iterator, Mapping

import pytest

from tests.conftest import RunningService, StartService
from tests.web.corpus import EXCHANGES, Exchange
from tests.web.test_bad_input import DECLARED
from tests.web.wire import Connection, ask, request

pytestmark = pytest.mark.xdist_group("corpus")
CLOCK = request("GET", "/healthz")
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
