"""Clients that know what became of each hit.

A hit ends in one of three ways: acknowledged, refused, or unanswered because its connection was
closed. Nothing is ever sent twice, so an unanswered hit is seen and never hidden by a retry.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

from hitcounter.operations.collector import of_all_workers
from tests.conftest import RunningService
from tests.support.waiting import DEADLINE_S, POLL_S, comes_true, eventually
from tests.support.wire import OWN, Answer, read_head, request

JSON = OWN | {"Content-Type": "application/json"}
KEPT_EQUAL = ("today", "month", "year", "total")


class Target(NamedTuple):
    """What a hit counts for."""

    site: str
    path: str | None = None


class Unanswered(Exception):
    """The connection was closed, and not a byte of an answer came."""


class Connection:
    """One keep-alive connection, opened when it is needed, and again where the server closed it."""

    def __init__(self, port: int) -> None:
        """Prepare to connect to a service on the loopback."""
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.opened = 0

    async def ask(self, method: str, target: str, body: bytes = b"") -> Answer:
        """Send one request and read its answer; raise `Unanswered` if there is none."""
        reader, writer = await self._open()
        try:
            async with asyncio.timeout(DEADLINE_S):
                writer.write(request(method, target, body, JSON))
                answer = await self._read(reader)
        except BaseException:
            self.close()
            raise
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    async def _read(self, reader: asyncio.StreamReader) -> Answer:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise AssertionError(f"half an answer: {error.partial!r}") from None
            raise Unanswered from None
        except ConnectionError:
            raise Unanswered from None
        status, headers = read_head(head)
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(status, headers, content)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is not None and self._reader.at_eof():
            self.close()  # before anything was sent on it: nothing is lost
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            self.opened += 1
        return self._reader, self._writer

    async def ended(self) -> None:
        """Wait until the server has closed the connection, and hang up."""
        assert self._reader is not None
        await comes_true(self._reader.at_eof, "the server closes the connection")
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None


async def ask(port: int, method: str, target: str, body: bytes = b"") -> Answer:
    """Ask once, on a connection of its own."""
    connection = Connection(port)
    try:
        return await connection.ask(method, target, body)
    finally:
        connection.close()


@dataclass(slots=True)
class Tally:
    """What became of all hits so far."""

    sent: Counter[Target] = field(default_factory=Counter)
    acked: Counter[Target] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[Target] = field(default_factory=Counter)
    unknown: Counter[Target] = field(default_factory=Counter)  # refused, but may be counted
    states: Counter[str] = field(default_factory=Counter)
    on_day: Counter[tuple[str, str]] = field(default_factory=Counter)  # by site and date
    highest: dict[str, int] = field(default_factory=dict)
    equal: tuple[str, ...] = KEPT_EQUAL  # the lines of a new site that are the same

    async def hit(self, connection: Connection, target: Target) -> Answer | None:
        """Send one hit and note what became of it; None if there was no answer."""
        body = b"" if target.path is None else json.dumps({"path": target.path}).encode()
        self.sent[target] += 1
        try:
            answer = await connection.ask("POST", f"/v1/sites/{target.site}/hits", body)
        except Unanswered:
            self.unanswered[target] += 1
            return None
        if answer.status == 200:
            self._acknowledged(target, answer.json)
        else:
            assert answer.status == 503, answer
            assert int(answer.headers["retry-after"]) > 0
            self.refused[answer.code] += 1
            self.unknown[target] += answer.code == "outcome_unknown"
        return answer

    def _acknowledged(self, target: Target, numbers: Mapping[str, Any]) -> None:
        self.acked[target] += 1
        self.states[numbers["state"]] += 1
        self.on_day[target.site, numbers["date"]] += 1
        assert len({numbers[key] for key in self.equal}) == 1, numbers
        self.highest[target.site] = max(self.highest.get(target.site, 0), numbers["total"])
        if target.path is not None:
            assert numbers["page"]["path"] == target.path
            total = numbers["page"]["total"]
            is_new_page = total is None and numbers["state"] == "stored"
            assert is_new_page or 0 < total <= numbers["total"], numbers

    @property
    def n_acked(self) -> int:
        """Count the acknowledged hits."""
        return self.acked.total()


async def send(port: int, tally: Tally, targets: Iterable[Target], n_connections: int) -> None:
    """Send hits on some keep-alive connections, on each one after the other."""
    shared = iter(targets)
    async with asyncio.TaskGroup() as group:
        for _ in range(n_connections):
            group.create_task(_send_from(port, tally, shared))


async def _send_from(port: int, tally: Tally, targets: Iterator[Target]) -> None:
    connection = Connection(port)
    try:
        for target in targets:
            await tally.hit(connection, target)
    finally:
        connection.close()


def declared(path: Path, targets: Iterable[Target]) -> Path:
    """Write a configuration that declares the sites of targets, so that all workers know them."""
    sites = sorted({target.site for target in targets})
    path.write_text("".join(f'[sites."{site}"]\n' for site in sites))
    return path


@asynccontextmanager
async def visiting(
    port: int, tally: Tally, targets: Sequence[Target], *, n_clients: int = 16, per_s: float = 0.0
) -> AsyncIterator[None]:
    """Send hits from some clients all the time, or `per_s` of them in a second.

    Where nobody listens they come again; at the end they wait for their last answers.
    """
    is_over, shared = asyncio.Event(), cycle(targets)
    every_s = n_clients / per_s if per_s else 0.0
    async with asyncio.TaskGroup() as group:
        for _ in range(n_clients):
            group.create_task(_visit(Connection(port), tally, shared, every_s, is_over))
        try:
            yield
        finally:
            is_over.set()


async def _visit(
    connection: Connection,
    tally: Tally,
    targets: Iterator[Target],
    every_s: float,
    is_over: asyncio.Event,
) -> None:
    next_at_s = time.monotonic()
    try:
        while not is_over.is_set():
            target = next(targets)
            try:
                await tally.hit(connection, target)
            except ConnectionError:  # nobody listens: nothing was sent
                tally.sent[target] -= 1
                await asyncio.sleep(POLL_S)
            next_at_s += every_s
            await asyncio.sleep(max(0.0, next_at_s - time.monotonic()))
    finally:
        connection.close()


async def more(tally: Tally, state: str, n: int) -> None:
    """Wait until so many more hits are answered with a state."""
    enough = tally.states[state] + n

    async def are_answered() -> bool:
        return tally.states[state] >= enough

    await eventually(are_answered, f"{n} more hits are {state}: {tally.states} {tally.refused}")


async def metric(service: RunningService, name: str) -> float:
    """Read a metric that has no labels, where operations read it: so their process need not run."""
    (directory,) = service.data_dir.glob("metrics-*")
    value = of_all_workers(directory, ()).get_sample_value(name)
    assert value is not None
    return value


async def settled(service: RunningService) -> None:
    """Wait until no journal is left and every worker's hits are in the store."""

    async def is_settled() -> bool:
        return not journals(service.data_dir) and await metric(service, "hitcounter_store_up") == 1

    await eventually(is_settled, "no journal is left")


def journals(data_dir: Path) -> list[str]:
    """List the files of the journal."""
    return sorted(path.name for path in data_dir.glob("journal/*"))


async def expect_exact(port: int, tally: Tally) -> None:
    """Expect every acknowledged hit in the store, once, and no other whose outcome is known."""
    least = tally.acked + by_site(tally.acked)
    unsure = tally.unanswered + tally.unknown
    unsure += by_site(unsure)
    found = await fresh(port, least)
    wrong = {
        target: (n, found[target], n + unsure[target])
        for target, n in least.items()
        if not n <= found[target] <= n + unsure[target]
    }
    assert wrong == {}


async def fresh(port: int, targets: Iterable[Target]) -> dict[Target, int]:
    """Read what the store holds for sites and pages; wait while the answers are stale."""
    connection, found = Connection(port), {}
    try:
        for target in targets:
            found[target] = await _fresh(connection, target)
    finally:
        connection.close()
    return found


async def _fresh(connection: Connection, target: Target) -> int:
    query = "" if target.path is None else f"?path={target.path}"

    async def is_fresh() -> Answer | None:
        answer = await connection.ask("GET", f"/v1/sites/{target.site}/counts{query}")
        return answer if answer.status == 200 and answer.json["state"] == "fresh" else None

    numbers = (await eventually(is_fresh, f"the numbers of {target} are fresh")).json
    return int(numbers["page"]["total"] if target.path else numbers["total"])


async def counted(port: int, targets: Iterable[Target]) -> dict[Target, int]:
    """Read what is counted for sites and pages; the four lines of a new site are equal."""
    connection = Connection(port)
    found = {}
    try:
        for target in targets:
            query = "" if target.path is None else f"?path={target.path}"
            answer = await connection.ask("GET", f"/v1/sites/{target.site}/counts{query}")
            assert answer.status == 200, answer
            numbers = answer.json
            assert len({numbers[key] for key in KEPT_EQUAL}) == 1, numbers
            found[target] = numbers["page"]["total"] if target.path else numbers["total"]
    finally:
        connection.close()
    return found


def by_site(hits: Mapping[Target, int]) -> Counter[Target]:
    """Sum hits on pages up to hits on sites."""
    sums: Counter[Target] = Counter()
    for target, n in hits.items():
        sums[Target(target.site)] += n
    return sums


async def expect_between(port: int, tally: Tally) -> None:
    """Hold the promise against the service: acknowledged <= counted <= sent, site by site."""
    acked, sent = by_site(tally.acked), by_site(tally.sent)
    for target, n in (await counted(port, sent)).items():
        assert acked[target] <= n <= sent[target], (target, acked[target], n, sent[target])


def zone_at_noon() -> str:
    """Name a zone where it is about noon now, so that no midnight comes in the way of a test."""
    offset = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-offset:+d}" if offset else "Etc/UTC"
