"""A store whose log is torn at any byte, and that is started twice after that, holds whole commits.

The second start matters: what a server leaves of a torn script in its log can come to life when
more is written behind it. The control shows that: scripts with several writes end up in halves.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hitcounter.exactly_once.increments import Pageviews
from hitcounter.exactly_once.records import Chunk
from hitcounter.store import keys
from hitcounter.store.client import Store
from tests.support.commits import commit
from tests.support.commits import watermark as watermark_of
from tests.support.servers import (
    PROGRAMS,
    StoreServer,
    connected,
    debian_program,
    named_program,
    store_server,
)

N_CUTS = 150
N_PARTS = 5
N_RECORDS = 12
TIMEOUT_S = 20.0
SITES = [keys.site_keys(0, name, "2019-04-19") for name in ("demo", "news", "union")]
COUNTED = [key for site in SITES for key in site.counted]
# As many would write it: one command per counter.
SEVERAL_WRITES = "for i = 1, #KEYS do redis.call('INCRBY', KEYS[i], 1) end"

Fill = Callable[[StoreServer], Any]


async def fill(server: StoreServer) -> None:
    """Commit what the store lacks of the records of one writer, each a hit for all sites."""
    store = Store(server.unix_url, TIMEOUT_S)
    line = store.connect("w")
    for last in range(await watermark_of(line) + 1, N_RECORDS + 1):
        pageviews = Pageviews(dict.fromkeys(SITES, 1))
        assert (await commit(line, Chunk(last - 1, last, pageviews)))[0] == last
    await line.close()
    await store.close()


def contents(server: StoreServer) -> list[int]:
    """Read all counters."""
    with connected(server.socket_path) as redis:
        return [int(value or 0) for value in redis.mget(COUNTED)]


def torn(filled: Path, program: str, draw: random.Random, copy: Path) -> Path:
    """Copy the files of a server, and tear its log at a random byte."""
    shutil.copytree(filled, copy, ignore=shutil.ignore_patterns("socket", "log"))
    (log,) = (copy / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(log.read_bytes()[: draw.randrange(log.stat().st_size)])
    return copy


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    """Name each kind of server program that we run."""
    return named_program(request.param)


@pytest.mark.parametrize(
    "part", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, N_PARTS))]
)
async def test_a_torn_log_never_holds_half_a_commit(
    program: str, tmp_path: Path, part: int
) -> None:
    with store_server(tmp_path / "whole", program=program) as server:
        await fill(server)
    draw = random.Random(part)
    n_forgotten = set()
    for number in range(N_CUTS // N_PARTS):
        copy = torn(tmp_path / "whole", program, draw, tmp_path / f"torn{number}")
        with store_server(copy, program=program) as server:
            found = contents(server)
            assert len(set(found)) == 1, found
            n_forgotten.add(N_RECORDS - found[0])
            await fill(server)
            server.process.kill()
        with store_server(copy, program=program) as server:
            assert contents(server) == [N_RECORDS] * len(COUNTED)
    assert len(n_forgotten) > N_RECORDS / 2


@pytest.mark.slow
def test_the_same_cuts_leave_halves_of_scripts_with_several_writes(tmp_path: Path) -> None:
    program = debian_program()
    with store_server(tmp_path / "whole", program=program) as server:
        add_all(server, N_RECORDS)
    draw = random.Random(0)
    uneven = 0
    for number in range(N_CUTS // N_PARTS):
        copy = torn(tmp_path / "whole", program, draw, tmp_path / f"torn{number}")
        with store_server(copy, program=program) as server:
            add_all(server, 1)
            server.process.kill()
        with store_server(copy, program=program) as server:
            uneven += len(set(contents(server))) > 1
    assert uneven > 0


def add_all(server: StoreServer, times: int) -> None:
    """Count hits for all sites by a script with several writes."""
    with connected(server.socket_path) as redis:
        for _ in range(times):
            redis.eval(SEVERAL_WRITES, len(COUNTED), *COUNTED)
