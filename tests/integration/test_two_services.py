"""Two services on one store behind nginx, with the configuration of the documents."""

import asyncio
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import RunningService, StartService
from tests.integration.load import (
    Tally,
    Target,
    by_site,
    counted,
    more,
    until,
    visiting,
    zone_at_noon,
)
from tests.integration.servers import free_port, mortal_store, program

DOCUMENT = Path(__file__).parents[2] / "docs" / "operating.md"
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
