"""Nothing that is kept says who came: no address, and nothing of a browser."""

import re
import socket
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import RunningService, StartService
from tests.support.stores import frozen_store
from tests.support.waiting import until
from tests.support.wire import ask

ADDRESSES = ("198.51.100.77", "2001:db8:77:88:99:aa:bb:cc")
AGENTS = {"person": "Mozilla/5.0 (X11; Zebrafish) Gecko", "robot": "Quagga-crawler/7"}
JOURNALED = re.compile(rb"^hitcounter_journal_bytes [1-9]", re.MULTILINE)
LANGUAGE = "xx-Okapi"
WORDS = [
    *(b"198.51.100", b"2001:db8:77", b"Zebrafish", b"Quagga", b"Okapi", b"no-cookies-here"),
    socket.inet_pton(socket.AF_INET, ADDRESSES[0]),
    socket.inet_pton(socket.AF_INET6, ADDRESSES[1])[:8],
]


def hit(service: RunningService, path: str, address: str, agent: str, body: str = "") -> int:
    """Send a hit that says much of who sends it; give the status of the answer."""
    headers = {
        "X-Forwarded-For": f"1.2.3.4, {address}",
        "User-Agent": agent,
        "Accept-Language": LANGUAGE,
        "Cookie": "no-cookies-here=1",
    }
    answer = ask(service.port, "POST", f"/v1/sites/{path}", body.encode(), headers)
    assert "set-cookie" not in answer.headers
    assert not any(word in answer.body for word in WORDS)
    return answer.status


def metrics(service: RunningService) -> bytes:
    """Scrape a service."""
    return ask(service.operations_port, "GET", "/metrics", headers={"Host": "127.0.0.1"}).body


def kept(service: RunningService) -> Iterator[tuple[str, bytes]]:
    """Read all that a service has written, also what it has packed."""
    yield "log", service.log.encode()
    for path in service.data_dir.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()
    for path in service.data_dir.glob("journal/*.journal"):
        yield f"rows of {path}", unpacked(path)


def unpacked(path: Path) -> bytes:
    """Read the rows of a journal, on a copy: it belongs to its writer."""
    copy = path.with_name(f"copy of {path.name}.db")
    for suffix in ("", "-wal"):
        copy.with_name(copy.name + suffix).write_bytes(
            path.with_name(path.name + suffix).read_bytes()
        )
    with closing(sqlite3.connect(copy)) as file:
        rows = file.execute("SELECT entries FROM log").fetchall()
    assert rows
    return b"".join(zlib.decompress(row) for (row,) in rows)


@pytest.mark.slow
@pytest.mark.parametrize("trusted", ["127.0.0.1", ""])
def test_nothing_that_is_kept_says_who_came(start_service: StartService, trusted: str) -> None:
    given = {"store_timeout_s": 1} | ({"trusted_proxies": trusted} if trusted else {})
    service = start_service(limits="on", count_robots="false", operations_port=0, **given)
    for address in ADDRESSES:
        for agent in AGENTS.values():
            assert hit(service, "demo/hits", address, agent, '{"path": "/x"}') == 200
            assert hit(service, "demo/hits", address, agent, "{") == 400
            assert hit(service, "Bad/hits", address, agent) == 400
            assert hit(service, "demo/nothing", address, agent) == 404
        for _ in range(310):  # beyond its limit, where it has one
            assert hit(service, "demo/hits", address, AGENTS["person"]) == 200
    with frozen_store(service):
        for address in ADDRESSES:
            for agent in AGENTS.values():
                assert hit(service, "demo/hits", address, agent) == 200
        until(lambda: JOURNALED.search(metrics(service)), "hits are in the journal")
        found = list(kept(service))
    assert {name.partition(" ")[0] for name, _ in found} >= {"log", "rows"}
    found += [("metrics", metrics(service))]
    assert [(name, word) for name, text in found for word in WORDS if word in text] == []
