"""The image is run, hit, stopped, killed and run again; and it takes over what older ones left."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import hitcounter
from tests.image.container import (
    BUILT,
    DEPLOY,
    SERVICE,
    TMP,
    Container,
    described,
    new_volume,
    running,
)
from tests.support.acceptance import BASELINE, ONE_MORE
from tests.support.load import Tally, Target, expect_exact, journals, more, visiting, zone_at_noon
from tests.support.servers import debian_program, mortal_store
from tests.support.waiting import comes_true, until

OLDER = sorted((Path(__file__).parents[1] / "integration/older").glob("*.whl"))
SITES = [Target(f"site{n}.example.vn", "/") for n in range(5)]
HIT = """
import http.client
connection = http.client.HTTPConnection("127.0.0.1", 8080)
browser = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64)", "Accept-Language": "vi"}
connection.request("POST", "/v1/sites/demo/hits", None, browser)
assert connection.getresponse().status == 200
"""
OLDER_PROGRAM = """
import os
import hitcounter, hitcounter.cli
if hitcounter.__version__ == "0.1.0":  # it did not know these
    for name in ("OPERATIONS_HOST", "OPERATIONS_PORT", "COUNT_ROBOTS", "LIMITS"):
        del os.environ[f"HITCOUNTER_{name}"]
print(hitcounter.__version__, flush=True)
hitcounter.cli.main()
"""

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _image() -> None:
    """Skip where there is no image to run, or nobody who may; CI has to have both."""
    if os.geteuid() != 0 or not (BUILT / "image.json").exists():
        reason = "it takes root, and an image that `make image` has built"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


@contextmanager
def as_composed(directory: Path, volume: Path) -> Iterator[Container]:
    """Run the image as the compose file does, but with a store of its own."""
    settings = SERVICE["environment"] | {"HITCOUNTER_REDIS_URL": ""}
    settings["HITCOUNTER_TIMEZONE"] = zone_at_noon()
    mounts = {"/etc/hitcounter.toml": DEPLOY / "hitcounter.toml"}
    with running(directory, volume, settings, mounts, is_alone=True) as container:
        assert container.line() == "hitcounter is serving on http://0.0.0.0:8080"
        yield container


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    """Run the image on a new volume."""
    with as_composed(tmp_path, new_volume(tmp_path / "volume")) as container:
        yield container


def test_it_says_what_it_is_and_nothing_of_who_built_it() -> None:
    name, labels = "org.opencontainers.image.", described()["Labels"]
    assert labels[f"{name}version"] == hitcounter.__version__
    assert labels[f"{name}description"] == str(hitcounter.__doc__).rstrip(".")
    assert len(labels[f"{name}revision"].removesuffix("-dirty")) == 40
    ways = ("PIP_", "UV_", "SSL_", "REQUESTS_", "http")  # to the registries
    assert [each for each in described()["Env"] if each.startswith(ways)] == []


def test_it_may_nothing_and_writes_only_to_its_volume(container: Container) -> None:
    lines = container.run("cat", "/proc/1/status").stdout.splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert status["Uid"] == status["Gid"] == ["10001"] * 4
    assert {int(status[f"Cap{kind}"][0], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert status["NoNewPrivs"] == ["1"]
    assert "Read-only file system" in container.run("touch", "/venv/new").stderr


def test_its_health_is_seen(container: Container) -> None:
    assert container.is_healthy()
    container.signal("STOP", "--all")
    assert not container.is_healthy()
    container.signal("CONT", "--all")
    until(container.is_healthy, "it is well again")


def test_its_first_process_passes_signals_on_and_reaps_orphans(
    container: Container, tmp_path: Path
) -> None:
    container.signal("HUP")
    until(lambda: "new settings hold" in (tmp_path / "log").read_text(), "it has read them")
    orphan = container.run("sh", "-c", "sleep 0.1 >/dev/null & echo $!").stdout.strip()
    assert int(orphan) > 1
    until(lambda: container.run("test", "-e", f"/proc/{orphan}").returncode == 1, "it is reaped")


def test_it_ends_in_order_and_counts_on_from_its_volume_also_when_killed(
    container: Container, tmp_path: Path
) -> None:
    assert container.run("hitcounter", "baseline", "demo", *BASELINE).returncode == 0
    assert container.stop() == 0
    with as_composed(tmp_path, tmp_path / "volume") as successor:
        assert successor.run("python", "-c", HIT).returncode == 0
        assert successor.kill() == 128 + signal.SIGKILL
    with as_composed(tmp_path, tmp_path / "volume") as successor:
        assert successor.run("hitcounter", "show", "demo").stdout.splitlines()[1:6] == ONE_MORE


@contextmanager
def on_this_machine(directory: Path, wheel: Path | None = None) -> Iterator[Container]:
    """Run the image, or an older release in it, on the store and the volume of a directory."""
    settings = {
        "HITCOUNTER_HOST": "127.0.0.1",
        "HITCOUNTER_PORT": "0",
        "HITCOUNTER_OPERATIONS_PORT": "off",
        "HITCOUNTER_COUNT_ROBOTS": "true",
        "HITCOUNTER_LIMITS": "off",
        "HITCOUNTER_REDIS_URL": f"unix://{TMP}/store/socket",
        "HITCOUNTER_TIMEZONE": zone_at_noon(),
    }
    mounts, command = {f"{TMP}/store": directory / "store"}, []
    if wheel:
        settings["PYTHONPATH"], command = f"{TMP}/whl", ["python", "-c", OLDER_PROGRAM, "serve"]
        mounts[f"{TMP}/whl"] = wheel
    with running(directory, directory / "volume", settings, mounts, *command) as container:
        assert not wheel or f"-{container.line()}-" in wheel.name
        yield container


@pytest.mark.parametrize("wheel", [None, *OLDER], ids=lambda wheel: wheel and wheel.name[11:16])
async def test_who_was_killed_while_the_store_was_away_is_taken_over(
    wheel: Path | None, tmp_path: Path
) -> None:
    volume, tally = new_volume(tmp_path / "volume"), Tally()
    options = ("--unixsocketperm", "777", "--maxmemory-policy", "noeviction")
    async with mortal_store(tmp_path / "store", *options, program=debian_program()) as store:
        with on_this_machine(tmp_path, wheel) as killed:
            async with visiting(killed.port(), tally, SITES, n_clients=8):
                await more(tally, "counted", 300)
                await store.kill()
                await more(tally, "stored", 200)
                assert await asyncio.to_thread(killed.kill) == 128 + signal.SIGKILL
        assert journals(volume)
        with on_this_machine(tmp_path) as container:
            port = container.port()
            await store.start()
            await comes_true(lambda: not journals(volume), "the journal is replayed")
            await expect_exact(port, tally)
            assert await asyncio.to_thread(container.stop) == 0
