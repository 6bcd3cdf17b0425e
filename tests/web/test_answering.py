"""Whose answer leaves when, on the event loops that serve, with real sockets."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakSet

import pytest
import uvloop

from hitcounter.web import answering
from hitcounter.web.acceptor import Acceptor
from hitcounter.web.answering import Handle, Terms
from hitcounter.web.request import Request
from hitcounter.web.responses import Response, json_answer, response
from hitcounter.web.sending import Sending
from hitcounter.web.server import Server
from tests.support.wire import request

BACKLOG = 8
LONG_S = 60.0
N_IN_A_PACKET = 20
Run = Callable[[Coroutine[Any, Any, None]], None]
on_each_loop = pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])


@asynccontextmanager
async def serving(
    handle: Handle, refused: Callable[[], None] = lambda: None, n_places: int = BACKLOG
) -> AsyncIterator[Callable[[], socket.socket]]:
    """Let `handle` answer; give what connects to it."""
    server = Server(handle, Terms(LONG_S, LONG_S), n_places, refused)
    listener = socket.create_server(("127.0.0.1", 0))
    acceptor = Acceptor(listener, server, server.room)
    acceptor.start(BACKLOG)
    try:
        yield lambda: socket.create_connection(listener.getsockname())
    finally:
        await acceptor.close()
        await server.shutdown()


async def first_of(client: socket.socket) -> bytes:
    """Give what comes first of an answer."""
    client.setblocking(False)
    return await asyncio.get_running_loop().sock_recv(client, 4096)


def noting(asked: list[str]) -> Handle:
    """Answer, and note what was asked."""

    async def note(request: Request) -> Response:
        asked.append(request.raw_path)
        return json_answer({})

    return note


@on_each_loop
def test_who_asks_much_in_a_packet_leaves_others_their_turn(run: Run) -> None:
    turns: list[str] = []

    async def ask() -> None:
        async with serving(noting(turns)) as connect:
            with connect() as first, connect() as second:
                for client, name in ((first, "/first"), (second, "/second")):
                    client.sendall(request("GET", name) * N_IN_A_PACKET)
                while len(turns) < 2 * N_IN_A_PACKET:
                    await asyncio.sleep(0)

    run(ask())
    assert len({*turns[:N_IN_A_PACKET]}) == len({*turns[N_IN_A_PACKET:]}) == 2


@on_each_loop
@pytest.mark.parametrize("hangs_up_first", [True, False])
def test_who_hangs_up_half_before_the_answer_leaves_gets_it(
    run: Run, *, hangs_up_first: bool
) -> None:
    async def ask() -> None:
        async def hang_up(_request: Request) -> Response:
            client.shutdown(socket.SHUT_WR)
            return json_answer({})

        async with serving(hang_up) as connect:
            with connect() as client:
                client.sendall(request("GET", "/"))
                if hangs_up_first:
                    client.shutdown(socket.SHUT_WR)
                assert await first_of(client) != b""

    run(ask())


@on_each_loop
def test_who_asks_when_they_have_to_make_room_is_not_counted_unanswered(run: Run) -> None:
    asked: list[str] = []

    async def ask() -> None:
        def ask_again() -> None:
            first.sendall(request("GET", "/first"))

        async with serving(noting(asked), ask_again, 1) as connect:
            with connect() as first:
                first.sendall(request("GET", "/before"))
                await first_of(first)
                with connect() as second:
                    second.sendall(request("GET", "/second"))
                    await first_of(second)

    run(ask())
    assert asked == ["/before", "/second"]


@on_each_loop
@pytest.mark.parametrize(
    ("asked", "n_bytes"),
    [
        (request("GET", "/") * N_IN_A_PACKET, 1),
        (request("GET", "/") * N_IN_A_PACKET, 16 << 20),  # more than the buffers of two sockets
        (request("POST", "/", None, {"Content-Length": "9"}), 1),
    ],
    ids=["with others in the queue", "unread", "within a body"],
)
def test_nothing_is_kept_of_who_leaves(
    monkeypatch: pytest.MonkeyPatch, run: Run, asked: bytes, n_bytes: int
) -> None:
    monkeypatch.setattr(answering, "LINGERING_S", 2 * LONG_S)
    connections = WeakSet[Sending]()

    async def ask() -> None:
        async def answer(request: Request) -> Response:
            connections.add(request.connection)
            return response(bytes(n_bytes), {})

        async with serving(answer) as connect:
            with connect() as client:
                client.sendall(asked)
                await first_of(client)
            while any(connection.transport for connection in connections):
                await asyncio.sleep(0)
            for _ in range(N_IN_A_PACKET):  # rounds in which its task ends
                await asyncio.sleep(0)
            assert not connections

    gc.disable()  # as it comes late, where thousands leave
    try:
        run(ask())
    finally:
        gc.enable()
