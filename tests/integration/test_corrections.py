"""What should not have been counted is taken back, once, beside a running service."""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hitcounter.config import Config
from hitcounter.errors import CommandError, StoreRefusesError
from hitcounter.store import keys, scripts
from hitcounter.store.client import Store
from hitcounter.store.corrections import Correction, made, note
from hitcounter.store.writer_connection import Commit
from hitcounter.transfer import corrections
from tests.conftest import RunningService, StartService
from tests.faults.proxy import Proxy
from tests.support.servers import StoreServer, connected, store_server
from tests.support.wire import ask

DATE, SITE = "2019-04-19", Config().site("demo")
BUCKETS = (DATE, "2019-04", "2019", "total")
MISTAKE = Correction(DATE, 40, "/x", "a loop", at=1.0, writer="9f")


def hit(service: RunningService) -> Any:
    """Count one hit of a page."""
    return ask(service.port, "POST", "/v1/sites/demo/hits", b'{"path":"/x"}').json


@pytest.mark.slow
def test_a_spike_is_taken_back_while_hits_come(service: RunningService) -> None:
    date = [hit(service) for _ in range(20)][-1]["date"]
    command = ["correct", "demo", "--date", date, "--minus", "15", "--page", "/x"]
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(lambda: [hit(service) for _ in range(100)])
        done = service.run(*command, "--because", "vòng lặp của máy chủ cũ")
        coming.result()
    assert done.stdout == f"15 pageviews of {date} taken back\n"
    answer = hit(service)
    lines = ("today", "month", "year", "total")
    assert [answer[key] for key in lines] == [106] * 4
    assert answer["page"]["total"] == 106
    shown = service.run("show", "demo").stdout
    assert f"corrected on {date}: -15 of /x on {date}: vòng lặp của máy chủ cũ\n" in shown
    before = [answer[key] for key in lines]
    for wrong, said in (
        ({"--minus": "200"}, f"nothing was changed: {date} has 106 pageviews"),
        ({"--date": "2019-04-19"}, "nothing was changed: 2019-04-19 has 0 pageviews"),
        ({"--page": "/y"}, "nothing was changed: /y has 0 pageviews"),
        ({"--date": "2019-04"}, "'2019-04' is not a day like 2019-04-19"),
        ({"--minus": "0"}, "'0' takes nothing back"),
        ({"--date": "0001-01-01"}, "'0001-01-01' is not a day like 2019-04-19"),
        ({"--because": " "}, "' ' is not a reason: one line of up to 300 characters"),
    ):
        options = dict(zip(command[2::2], command[3::2], strict=True)) | {"--because": "x"} | wrong
        failed = service.run("correct", "demo", *sum(options.items(), ()), check=False)
        assert failed.returncode != 0
        assert said in failed.stderr
    answer = ask(service.port, "GET", "/v1/sites/demo/counts").json
    assert [answer[key] for key in lines] == before
    assert service.run("show", "demo").stdout.count("corrected") == 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoreServer]:
    """Run a server that holds 100 pageviews."""
    with store_server(tmp_path / "store") as server, connected(server.socket_path) as raw:
        raw.mset({f"hc:{{0}}:site:demo:{bucket}": 100 for bucket in BUCKETS})
        raw.mset({"hc:{0}:page:demo:/x": 100, "hc:{0}:pages:demo": 1})
        yield server


async def test_a_correction_is_made_once_however_often_it_is_sent(server: StoreServer) -> None:
    store = Store(server.unix_url, 10)
    await corrections.correct(store, SITE, MISTAKE)
    with pytest.raises(CommandError, match="was taken back on 1970-01-01 already"):
        await corrections.correct(store, SITE, MISTAKE)
    names = [keys.bucket_key(0, "demo", bucket) for bucket in BUCKETS]
    assert await store.read([*names, "hc:{0}:page:demo:/x", "hc:{0}:pages:demo"]) == [60] * 5 + [1]
    assert await made(store, "demo") == [MISTAKE]
    with pytest.raises(CommandError, match="2019-04-19 has 60 pageviews"):
        await corrections.correct(
            store, SITE, msgspec.structs.replace(MISTAKE, minus=61, writer="a0")
        )
    await store.take("demo", [*names], removed_ms=1)
    await store.close()


async def test_a_note_on_what_was_not_made_is_not_shown(server: StoreServer) -> None:
    store = Store(server.unix_url, 10)
    await note(store, "demo", MISTAKE)
    assert await made(store, "demo") == []
    await store.close()


async def test_a_page_that_went_meanwhile_goes_down_with_its_site_or_neither_does(
    server: StoreServer,
) -> None:
    store = Store(server.unix_url, 10)
    connection, total = store.connect("9f"), keys.bucket_key(0, "demo", "total")
    pages = {(keys.pages_key(0, "demo"), 0): {keys.page_key(0, "demo", "/gone"): -1}}
    (refusal,) = await connection.ask([Commit(0, 0, 1, {total: -1}, pages)])
    assert isinstance(refusal, StoreRefusesError)
    assert "/gone has less than is to be taken from it" in str(refusal)
    assert await store.read([total, keys.watermark_key(0, "9f")]) == [100, None]
    await connection.close()
    await store.close()


class LosesOneReply(Proxy):
    """Loses the first reply to a write, and goes on with something else then."""

    def __init__(self, path: Path, then: Callable[[], object]) -> None:
        """Lead to a store."""
        super().__init__(path)
        self._then = then

    def is_lost(self) -> bool:
        """Lose a reply."""
        is_lost = super().is_lost()
        if is_lost:
            self.loses = 0.0
            self._then()
        return is_lost


async def test_what_may_be_done_is_never_called_refused(server: StoreServer) -> None:
    with connected(server.socket_path) as raw:
        raw.script_load(scripts.COMMIT.text)
        proxy = LosesOneReply(server.socket_path, lambda: raw.config_set("maxmemory", 1))
        await proxy.heal()
        proxy.loses = 1.0
        store = Store(f"redis://127.0.0.1:{proxy.port}", 10)
        with pytest.raises(
            CommandError, match=r"is full.*whether this was taken back is not known"
        ):
            await corrections.correct(store, SITE, MISTAKE)
        raw.config_set("maxmemory", 0)
        with pytest.raises(CommandError, match="was taken back on 1970-01-01 already"):
            await corrections.correct(store, SITE, MISTAKE)
        names = [keys.bucket_key(0, "demo", bucket) for bucket in BUCKETS]
        assert await store.read(names) == [60] * 4
        await store.close()
        await proxy.close()


async def test_two_corrections_at_once_take_no_more_than_there_is(server: StoreServer) -> None:
    store = Store(server.unix_url, 10)
    mistakes = [msgspec.structs.replace(MISTAKE, minus=70, writer=f"w{n}") for n in range(4)]
    asked = [corrections.correct(store, SITE, mistake) for mistake in mistakes]
    refused = [each for each in await asyncio.gather(*asked, return_exceptions=True) if each]
    assert len(refused) == 3
    assert all("nothing was changed" in str(each) for each in refused)
    assert await store.read([keys.bucket_key(0, "demo", bucket) for bucket in BUCKETS]) == [30] * 4
    assert len(await made(store, "demo")) == 1
    await store.close()


@pytest.mark.slow
def test_commands_name_pages_as_their_site_does(
    start_service: StartService, tmp_path: Path
) -> None:
    config = tmp_path / "hitcounter.toml"
    config.write_text('[sites.demo]\nquery = ["id"]\n')
    service = start_service(config=config)
    page = {"path": "/?x=1&id=5"}
    for _ in range(3):
        answer = ask(service.port, "POST", "/v1/sites/demo/hits", json.dumps(page).encode()).json
    assert answer["page"] == {"path": "/%3Fid=5", "total": 3}
    takes = ["correct", "demo", "--date", answer["date"], "--minus", "1", "--because", "x"]
    service.run(*takes, "--page", "/?id=5")
    shown = service.run("prune", "demo", "--page", "/?id=5", "--dry-run").stdout
    assert shown == "2\t/%3Fid=5\n"
    assert "/%3Fid=6: 2\n" in service.run("baseline", "demo", "--page", "/?id=6=2").stdout
