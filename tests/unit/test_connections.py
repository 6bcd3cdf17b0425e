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
    is_idle: bool = True
    waits_since: int = 0
    line: Any = None

    def wait(self, now: int = 0) -> None:
        """Begin to wait for the client."""
        self.is_idle, self.waits_since = True, now
        self.line.move_to_end(self)


def table(*clients: tuple[str, Client]) -> Any:
    """Open connections in this order, from these addresses."""
    open_: Any = Connections()
    for address, client in clients:
        open_.add(client, address)
    return open_


def test_the_address_that_holds_most_gives_up_its_longest_idle() -> None:
    few, one, two, three = (Client(name) for name in ("few", "one", "two", "three"))
    open_ = table(("a", few), ("b", one), ("b", two), ("b", three))
    one.wait()
    assert [open_.take_longest_idle() for _ in range(5)] == [two, three, few, one, None]
    assert len(open_) == 0


def test_the_busy_stay_and_others_make_room() -> None:
    busy = [("proxy", Client(f"{n}", is_idle=False)) for n in range(TRIES // 2)]
    idle = Client("idle")
    open_ = table(("a", idle), *busy)
    assert open_.take_longest_idle() is idle
    assert open_.take_longest_idle() is None
    busy[7][1].wait()
    assert open_.take_longest_idle() is busy[7][1]
    assert len(open_) == len(busy) - 1


def test_one_who_asks_on_all_of_them_now_and_then_keeps_nobody_out() -> None:
    clients = [Client(f"{n}") for n in range(2 * TRIES)]
    open_ = table(*(("a", client) for client in clients))
    for client in reversed(clients):
        client.wait()
    assert open_.take_longest_idle() is clients[-1]


def test_not_too_many_are_looked_at() -> None:
    many, idle = [Client(f"{n}", is_idle=False) for n in range(2 * TRIES)], Client("idle")
    open_ = table(*(("a", client) for client in (*many, idle)))
    assert [open_.take_longest_idle() for _ in range(3)] == [None, None, idle]


def test_any_history_gives_what_a_search_of_all_gives() -> None:
    draw = Random(1)
    open_: Any = Connections()
    clients = dict[Client, str]()
    for now in range(1, 600):
        if draw.random() < 0.6 or not clients:
            client = Client(f"{now}", waits_since=now)
            clients[client] = draw.choice("aaaabbcdef")
            open_.add(client, clients[client])
        elif draw.random() < 0.5:
            draw.choice(list(clients)).wait(now)
        elif draw.random() < 0.6:
            gone = draw.choice(list(clients))
            del clients[gone]
            open_.remove(gone)
        else:
            taken = open_.take_longest_idle()
            held = list(clients.values())
            address = clients.pop(taken)
            assert held.count(address) == max(map(held.count, held))
            others = [c.waits_since for c, held_by in clients.items() if held_by == address]
            assert all(taken.waits_since <= at for at in others)
        assert len(open_) == len(clients)


def test_connections_that_were_closed_leave_nothing() -> None:
    open_: Any = Connections()
    stays = Client("stays")
    open_.add(stays, "a")
    for n in range(100):
        client = Client(f"{n}")
        open_.add(client, "a")
        open_.remove(client)
        open_.remove(client)
    assert list(open_._lines["a"]) == [stays]
    open_.remove(stays)
    assert (open_._lines, open_._holding, open_._address_of) == ({}, {}, {})


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
