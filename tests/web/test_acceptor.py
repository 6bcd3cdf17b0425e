"""How connections are taken up, on the event loop that serves, with real sockets."""

import asyncio
import os
import resource
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvloop

from hitcounter.web.acceptor import Acceptor

BACKLOG = 128


def connected(listener: socket.socket) -> socket.socket:
    """Connect, which the system does before anybody takes the connection up."""
    return socket.create_connection(listener.getsockname())


class Full(asyncio.Protocol):
    """A server without a place for anybody, which notes the highest file that it had."""

    def __init__(self, ends_after_s: float = 0.0) -> None:
        self.n_made = self.highest = 0
        self._ends_after_s = ends_after_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """End a connection some rounds later, or whenever its loop comes to that."""
        self.n_made += 1
        self.highest = max(self.highest, transport.get_extra_info("socket").fileno())
        loop = asyncio.get_running_loop()
        if self._ends_after_s:
            loop.call_later(self._ends_after_s, transport.close)
        else:
            loop.call_soon(transport.close)


class TakingUp(asyncio.Protocol):
    """An acceptor, and the protocol of all whom it takes up."""

    def __init__(self) -> None:
        self.transports: list[asyncio.BaseTransport] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.acceptor = Acceptor(self.listener, lambda: self)

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
def files(n_more: int) -> Iterator[int]:
    """Let this process open no more for a while; give the limit."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + n_more, limits[1]))
    try:
        yield free + n_more
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_process_without_a_free_file_takes_up_whoever_waits_when_it_has_one() -> None:
    async def run() -> None:
        taking_up = TakingUp()
        with connected(taking_up.listener):
            with files(0):
                taking_up.acceptor.start(BACKLOG)
                while taking_up.acceptor._pause is None:
                    await asyncio.sleep(0)
            await taking_up.rounds_until(1)
            await taking_up.end()

    uvloop.run(run())


@pytest.mark.parametrize(("ends_after_s", "n_left"), [(0.0, 16), (0.005, 11)])
@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_newcomers_for_whom_there_is_no_place_leave_files_for_others(
    run: Callable[[Coroutine[Any, Any, None]], None], ends_after_s: float, n_left: int
) -> None:
    async def take_up() -> None:
        full = Full(ends_after_s)
        listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        with ExitStack() as clients:
            for _ in range(96):
                clients.enter_context(connected(listener))
            with files(48) as limit:
                acceptor = Acceptor(listener, lambda: full)
                acceptor.start(BACKLOG)
                while full.n_made < 96:
                    await asyncio.sleep(0)
                await acceptor.close()
        assert full.highest < limit - n_left

    run(take_up())
