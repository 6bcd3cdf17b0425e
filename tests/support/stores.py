"""A look into the embedded store of a service, past the service; and stores that end."""

import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

from redis import Redis

from hitcounter.errors import StoreError
from hitcounter.store.client import Answer, Store
from tests.conftest import RunningService

SEVERAL = 6  # questions, which a command asks at least
REHEARSED = re.compile(rb":probe|:ids:-")
Keyspace = Mapping[bytes | str, Any]


@contextmanager
def store_of(service: RunningService) -> Iterator[Redis]:
    """Talk to the embedded store of a service."""
    redis = Redis(unix_socket_path=str(service.data_dir / "store.sock"))
    try:
        yield redis
    finally:
        redis.close()


def keyspace(service: RunningService) -> Keyspace:
    """Copy everything that the store of a service holds, but what rehearsals leave for a minute."""
    with store_of(service) as redis:
        names = [name for name in redis.scan_iter() if not REHEARSED.search(name)]
        pipeline = redis.pipeline()
        for name in names:
            pipeline.dump(name)
        return dict(zip(names, pipeline.execute(), strict=True))


@contextmanager
def frozen_store(service: RunningService) -> Iterator[None]:
    """Stop the store of a service, as a machine that hangs would, and let it go on at the end."""
    pids = service.store_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


class EndingStore(Store):
    """A store whose answers end at one of the questions, which it still does or not."""

    n_left = 0
    is_last_done = False

    async def ask(self, question: Callable[[Any], Awaitable[Answer]]) -> Answer:
        """Ask, as long as there are answers."""
        self.n_left -= 1
        if self.n_left == 0 and self.is_last_done:
            await super().ask(question)
        if self.n_left <= 0:
            raise StoreError("cut off")
        return await super().ask(question)


async def endings(url: str) -> AsyncIterator[tuple[str, EndingStore]]:
    """Give stores that are cut off at one question after the other, done or not, each by a name.

    The last ones answer all that they are asked.
    """
    for n in count(1):
        for is_last_done in (False, True):
            store = EndingStore(url, 10)
            store.n_left, store.is_last_done = n, is_last_done
            yield f"{n}-{is_last_done}", store
            await store.close()
        if store.n_left > 0:
            assert n > SEVERAL
            return
