"""How connections are taken up, on the event loop that serves, with real sockets."""

import asyncio
import os
import resource
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from hitcounter.web.acceptor import Acceptor
from hitcounter.web.answering import Terms
from hitcounter.web.request import Request
from hitcounter.web.responses import Response
from hitcounter.web.server import MAX_BEYOND, Server

BACKLOG = 128
N_PLACES = 8
LONG_S = 60.0


def connected(listener: socket.socket) -> socket.socket:
    """Connect, which the system does before anybody takes the connection up."""
    return socket.create_connection(listener.getsockname())


class TakingUp(asyncio.Protocol):
    """An acceptor, and the protocol of all whom it takes up."""

    def __init__(self) -> None:
        self.transports: list[asyncio.BaseTransport] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.acceptor = Acceptor(self.listener, lambda: self, lambda: BACKLOG)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember one that was taken up."""
        self.transports.append(transport)

    async def end(self) -> None:
        """Take up nobody any more, and leave those who were."""
        await self.acceptor.close()
        for transport in self.transports:
            transport.close()

    async def rounds_until(self, n_taken_up: int) -> int:
        """Count the rounds of the loop until so many are taken up."""
        n_rounds = 0
        while len(self.transports) < n_taken_up:
            await asyncio.sleep(0)
            n_rounds += 1
        return n_rounds


def test_a_newcomer_does_not_wait_a_round_for_each_of_those_before_it() -> None:
    async def run() -> None:
        taking_up = TakingUp()
        with ExitStack() as clients:
            for _ in range(96):
                clients.enter_context(connected(taking_up.listener))
            taking_up.acceptor.start(BACKLOG)
            assert await taking_up.rounds_until(96) <= 12
            await taking_up.end()

    uvloop.run(run())


def test_who_is_being_taken_up_when_others_take_over_is_served() -> None:
    async def run() -> None:
        taking_up = TakingUp()
        with connected(taking_up.listener):
            taking_up.acceptor.start(BACKLOG)
            while not taking_up.acceptor._taking_up:
                await asyncio.sleep(0)
            await taking_up.end()
            assert len(taking_up.transports) == 1

    uvloop.run(run())


@contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open none for a while."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_process_without_a_free_file_takes_up_whoever_waits_when_it_has_one() -> None:
    async def run() -> None:
        taking_up = TakingUp()
        with connected(taking_up.listener):
            with no_more_files():
                taking_up.acceptor.start(BACKLOG)
                while taking_up.acceptor._pause is None:
                    await asyncio.sleep(0)
            await taking_up.rounds_until(1)
            await taking_up.end()

    uvloop.run(run())


def n_sockets() -> int:
    """Return how many sockets this process has open."""
    return sum(file.is_socket() for file in Path("/dev/fd").iterdir())


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_newcomers_for_whom_others_make_room_leave_files_for_others(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    async def take_up() -> None:
        n_refused = n_most = 0

        def note() -> None:
            nonlocal n_refused
            n_refused += 1

        server = Server(nobody_asks, Terms(LONG_S, LONG_S), N_PLACES, note)
        listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        acceptor = Acceptor(listener, server, server.room)
        acceptor.start(BACKLOG)
        await asyncio.sleep(0)
        with ExitStack() as clients:
            for _ in range(96):
                clients.enter_context(connected(listener))
            n_before = n_sockets()
            while n_refused < 96 - N_PLACES:
                n_most = max(n_most, n_sockets())
                await asyncio.sleep(0)
            await acceptor.close()
        while server.room() < N_PLACES + MAX_BEYOND:
            await asyncio.sleep(0)
        assert n_most - n_before <= N_PLACES + MAX_BEYOND

    run(take_up())


async def nobody_asks(request: Request) -> Response:
    """Answer nothing."""
    raise AssertionError(request)
