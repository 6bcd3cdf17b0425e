"""Two services on one store: behind nginx as in the documents, and of two versions."""

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import RunningService, StartService
from tests.support import load, wire
from tests.support.load import (
    Tally,
    Target,
    by_site,
    counted,
    expect_exact,
    more,
    send,
    settled,
    visiting,
    zone_at_noon,
)
from tests.support.servers import free_port, mortal_store, program
from tests.support.waiting import comes_true, until

WHEEL = Path(__file__).parent / "older" / "hitcounter-0.1.0-py3-none-any.whl"
DOCUMENT = Path(__file__).parents[2] / "docs" / "operating.md"
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", "Accept-Language": "vi"}
ROBOT = BROWSER | {"User-Agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://google.com/bot)"}
LOUD = Target("loud.example.vn")
SITES = [Target(f"site{n}.example.vn", "/") for n in range(5)]


def configuration(ports: list[int], listen: int, directory: Path) -> str:
    """Read nginx' configuration from the document, with the ports of this test."""
    found = re.findall("```nginx\n(.+?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    (text,) = (each for each in found if "upstream hitcounter" in each)
    for documented, port in zip((8080, 8081), ports, strict=True):
        assert f"127.0.0.1:{documented} " in text
        text = text.replace(f"127.0.0.1:{documented} ", f"127.0.0.1:{port} ")
    text = text.replace("listen 80;", f"listen 127.0.0.1:{listen};")
    places = "".join(
        f"{name}_temp_path {directory / name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
        pid {directory / "pid"};
        error_log {directory / "error.log"};
        events {{ worker_connections 256; }}
        http {{ access_log off; {places} {text} }}
    """


@contextmanager
def nginx(ports: list[int], directory: Path) -> Iterator[int]:
    """Run nginx before two services; give its port."""
    path, listen = program("nginx"), free_port()
    directory.mkdir()
    config = directory / "nginx.conf"
    config.write_text(configuration(ports, listen, directory))
    process = subprocess.Popen([path, "-p", directory, "-c", config, "-g", "daemon off;"])
    try:
        until((directory / "pid").exists, "nginx serves")
        yield listen
    finally:
        process.terminate()
        process.wait()


@contextmanager
def version_0_1(store_url: str, zone: str, directory: Path) -> Iterator[int]:
    """Run the first version, from its wheel, on the libraries of now; give its port."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HITCOUNTER_")}
    settings = {"data-dir": directory, "port": 0, "redis-url": store_url, "timezone": zone}
    flags = [f"--{name}={value}" for name, value in settings.items()]
    with (directory.parent / "0.1.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from hitcounter.cli import main; main()", "serve", *flags],
            env=environment | {"PYTHONPATH": str(WHEEL)},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().strip().rpartition(":")[2])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def uncounted(port: int) -> Counter[str]:
    """Send hits of a robot, and more of one visitor than count; tell what became of all."""
    hits = [(SITES[0].site, ROBOT)] * 20
    hits += [(LOUD.site, BROWSER | {"X-Forwarded-For": "198.51.100.7"})] * 400
    states: Counter[str] = Counter()
    with wire.Connection(port) as connection:
        for site, headers in hits:
            connection.send(wire.request("POST", f"/v1/sites/{site}/hits", b"", headers))
            answer = connection.receive()
            assert answer is not None
            states[answer.json["state"]] += 1
    return states


@pytest.mark.slow
async def test_an_older_and_a_newer_one_count_together_and_the_newer_takes_over(
    start_service: StartService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "JSON", load.JSON | BROWSER)
    zone, left, tally = zone_at_noon(), tmp_path / "left", Tally()
    async with mortal_store(tmp_path / "store") as store:
        settings = {"redis_url": store.url, "timezone": zone}
        told = {"count_robots": "false", "limits": "on", "trusted_proxies": "127.0.0.1"}
        newer = start_service(data_dir=tmp_path / "newer", **told, **settings)
        with version_0_1(store.url, zone, left) as port:
            async with (
                visiting(port, tally, SITES, n_clients=4),
                visiting(newer.port, tally, SITES, n_clients=4),
            ):
                await more(tally, "counted", 300)
                states = await asyncio.to_thread(uncounted, newer.port)
                await store.kill()
                await more(tally, "stored", 200)
                await store.start()
                await more(tally, "counted", 300)
                await store.kill()
                await more(tally, "stored", 200)
        assert list((left / "journal").glob("*.journal")), "it was killed with hits in its journal"
        await store.start()
        start_service(data_dir=left, **settings)
        await comes_true(
            lambda: not list((left / "journal").glob("*.journal")), "its journal is replayed"
        )
        acked, sent = by_site(tally.acked), by_site(tally.sent)
        found = await counted(newer.port, sent)
        uncertain = by_site(tally.unanswered + tally.unknown)
        assert all(acked[s] <= found[s] <= acked[s] + uncertain.get(s, 0) for s in acked)
        assert states == {"robot": 20, "counted": states["counted"], "limited": states["limited"]}
        assert (await counted(newer.port, [LOUD]))[LOUD] == states["counted"] < 400
        assert newer.stop() == 0
        assert store.ask("GET", f"hc:{{0}}:site:{SITES[0].site}:robots:total") == b"20"


@pytest.mark.slow
async def test_after_an_end_in_order_an_older_one_counts_on_with_exact_numbers(
    start_service: StartService, tmp_path: Path
) -> None:
    zone, data_dir, tally = zone_at_noon(), tmp_path / "data", Tally()
    async with mortal_store(tmp_path / "store") as store:
        newer = start_service(data_dir=data_dir, redis_url=store.url, timezone=zone)
        await send(newer.port, tally, SITES * 20, 4)
        await store.kill()
        await send(newer.port, tally, SITES * 4, 4)
        await store.start()
        await settled(newer)
        assert newer.stop() == 0
        assert not list((data_dir / "journal").glob("*.journal"))
        with version_0_1(store.url, zone, data_dir) as port:
            await send(port, tally, SITES * 20, 4)
            await expect_exact(port, tally)


@pytest.mark.slow
async def test_restarted_one_after_the_other_they_refuse_and_lose_nothing(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        ports = [free_port(), free_port()]
        settings = {"redis_url": store.url, "timezone": zone_at_noon()}

        def start(n: int) -> RunningService:
            return start_service(data_dir=tmp_path / f"data{n}", port=ports[n], **settings)

        services, tally = [start(n) for n in range(2)], Tally()
        with nginx(ports, tmp_path / "nginx") as port:
            async with visiting(port, tally, SITES, n_clients=8):
                await more(tally, "counted", 300)
                for n, service in enumerate(services):
                    assert await asyncio.to_thread(service.stop) == 0
                    await asyncio.to_thread(start, n)
                    await more(tally, "counted", 300)
        assert (tally.refused, tally.unanswered) == ({}, {})
        assert await counted(ports[0], by_site(tally.sent)) == by_site(tally.acked)
