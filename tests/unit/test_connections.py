"""Who makes room for a newcomer."""

from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from hitcounter.web.connections import TRIES, Connections, origin_of


@dataclass(eq=False)
class Client:
    """A connection, as far as the table asks."""

    name: str
    idle_since: float | None = 0.0


def table(*clients: tuple[str, Client]) -> Any:
    """Open connections in this order, one each second, from these addresses."""
    open_ = Connections()
    for now, (address, client) in enumerate(clients):
        if client.idle_since == 0:
            client.idle_since = float(now)
        open_.add(client, address, float(now))  # type: ignore[arg-type]
    return open_


def test_the_address_that_holds_most_gives_up_its_longest_idle() -> None:
    few, one, two, three = (Client(name) for name in ("few", "one", "two", "three"))
    open_ = table(("a", few), ("b", one), ("b", two), ("b", three))
    one.idle_since = 9.0
    assert [open_.take_longest_idle(10.0) for _ in range(5)] == [two, three, few, one, None]
    assert len(open_) == 0


def test_the_busy_stay_and_others_make_room() -> None:
    busy = [("proxy", Client(f"{n}", None)) for n in range(TRIES // 2)]
    idle = Client("idle")
    open_ = table(("a", idle), *busy)
    assert open_.take_longest_idle(99.0) is idle
    assert open_.take_longest_idle(99.0) is None
    busy[7][1].idle_since = 98.0
    assert open_.take_longest_idle(100.0) is busy[7][1]
    assert len(open_) == len(busy) - 1


def test_one_who_asks_on_all_of_them_now_and_then_keeps_nobody_out() -> None:
    clients = [Client(f"{n}", 50.0 + n) for n in range(2 * TRIES)]
    open_ = table(*(("a", client) for client in clients))
    assert open_.take_longest_idle(999.0) in clients[:TRIES]


def test_not_too_many_are_looked_at() -> None:
    open_ = table(("a", Client("idle")), *((("b"), Client(f"{n}", None)) for n in range(2 * TRIES)))
    assert open_.take_longest_idle(999.0) is None


def test_any_history_gives_what_a_search_of_all_gives() -> None:
    draw = Random(1)
    open_, clients = Connections(), dict[Client, str]()
    for now in range(1, 600):
        if draw.random() < 0.6 or not clients:
            client = Client(f"{now}", float(now))
            clients[client] = draw.choice("aaaabbcdef")
            open_.add(client, clients[client], float(now))  # type: ignore[arg-type]
        elif draw.random() < 0.5:
            draw.choice(list(clients)).idle_since = float(now)
        elif draw.random() < 0.6:
            gone = draw.choice(list(clients))
            del clients[gone]
            open_.remove(gone)  # type: ignore[arg-type]
        else:
            taken = taken_from(open_, float(now))
            held = list(clients.values())
            address = clients.pop(taken)
            assert held.count(address) == max(map(held.count, held))
            others = [c.idle_since or 0 for c, held_by in clients.items() if held_by == address]
            assert taken.idle_since is not None
            assert all(taken.idle_since <= at for at in others)
        assert len(open_) == len(clients)


def taken_from(open_: Connections, now: float) -> Client:
    """Take one out, as soon as those that were looked at are in their places."""
    looks = (open_.take_longest_idle(now) for _ in range(50))
    return next(filter(None, looks))  # type: ignore[return-value]


def test_connections_that_were_closed_leave_nothing() -> None:
    open_: Any = Connections()
    stays = Client("stays", 1.0)
    open_.add(stays, "a", 0.0)
    for n in range(10_000):
        client = Client(f"{n}", float(n))
        open_.add(client, "a", float(n))
        open_.remove(client)
        open_.remove(client)
    assert len(open_._queues["a"]) < 200
    open_.remove(stays)
    assert (open_._queues, open_._n_open, open_._holding) == ({}, {}, {})


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("192.0.2.1", b"\xc0\x00\x02\x01"),
        ("::ffff:192.0.2.1", b"\xc0\x00\x02\x01"),
        ("2001:db8:1:2:3:4:5:6", b"\x20\x01\x0d\xb8\x00\x01\x00\x02"),
        ("fe80::1%eth0", b"\xfe\x80\x00\x00\x00\x00\x00\x00"),
        ("", b""),
    ],
)
def test_one_household_is_one_address(host: str, origin: bytes) -> None:
    assert origin_of(host) == origin
