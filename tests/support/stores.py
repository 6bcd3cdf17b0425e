"""A look into the embedded store of a service, past the service."""

import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from redis import Redis

from tests.conftest import RunningService

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
