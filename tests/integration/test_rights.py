"""A store that refuses questions, or what a hit needs: who is told, and what goes on."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hitcounter.errors import StoreForbidsError, StoreUnfitError
from hitcounter.store import keys
from hitcounter.store.client import Store
from hitcounter.store.durability import StoreFacts
from hitcounter.store.inspection import Inspection
from tests.conftest import RunningService, StartService, run_command
from tests.speeds import first_is_quick
from tests.support.load import ask, journals, metric, settled
from tests.support.servers import (
    MortalStore,
    StoreServer,
    connected,
    debian_program,
    mortal_store,
    packaged_program,
    store_server,
)
from tests.support.waiting import comes_true
from tests.support.wire import Answer

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"
HITS = "/v1/sites/demo/hits"
ALL_RIGHTS = ("~hc:*", "+@all")
TIMEOUT_S = 20.0


@pytest.fixture(params=first_is_quick(["packaged", "debian"]))
def program(request: pytest.FixtureRequest) -> str:
    """Name each kind of server program that we run."""
    return packaged_program() if request.param == "packaged" else debian_program()


def documented() -> tuple[str, list[str]]:
    """Read the name and the rules of the user that the documentation makes."""
    _, _, name, *rules = re.findall("^ACL SETUSER .*$", OPERATING.read_text(), re.M)[0].split()
    return name, rules


def url_of(server: StoreServer | MortalStore, user: str, password: str) -> str:
    """Give the address of a store for a user."""
    return f"unix://{user}:{password}@{server.socket_path}"


async def counted(service: RunningService, id_: str = "") -> Answer:
    """Count a hit, with an id if one is given."""
    body = b'{"path": "/a"}' if not id_ else b'{"path": "/a", "id": "%s"}' % id_.encode()
    return await ask(service.port, "POST", HITS, body)


async def replaced(service: RunningService) -> None:
    """Replace all workers."""
    n = service.log.count("replaced all workers")
    service.process.send_signal(signal.SIGHUP)
    await comes_true(lambda: service.log.count("replaced all workers") > n, "it is reloaded")


@pytest.mark.slow
async def test_the_documented_user_can_do_all_that_the_service_and_its_commands_do(
    start_service: StartService, tmp_path: Path, program: str
) -> None:
    user, rules = documented()
    async with mortal_store(tmp_path / "store", program=program) as store:
        store.ask("ACL", "SETUSER", user, *rules)
        url = url_of(store, user, "choose-a-password")
        service = start_service(
            redis_url=url, store_timeout_s=0.3, kept_window_s=0.5, operations_port=0
        )
        ids = [f"6f1c2e0a-0000-4000-8000-{n:012}" for n in range(3)]
        for id_ in (ids[0], ids[0], ids[1]):
            assert (await counted(service, id_)).json["state"] == "counted"
        store.signal(signal.SIGSTOP)
        assert (await counted(service, ids[2])).json["state"] == "stored"
        store.signal(signal.SIGCONT)
        await settled(service)
        await replaced(service)
        numbers = (await counted(service)).json
        assert (numbers["state"], numbers["total"], numbers["page"]["total"]) == ("counted", 4, 4)
        ready = (await ask(service.operations_port, "GET", "/readyz")).json
        assert (ready["status"], ready["level"], ready["warnings"]) == ("ready", "A", [])
        service.run("baseline", "old", "--total", "7")
        (tmp_path / "export").write_text(service.run("export").stdout)
        assert service.run("import", str(tmp_path / "export")).stdout == (
            "2 sites read, 0 numbers raised\n"
        )
        assert "promise: level A" in service.run("check").stdout
        date = numbers["date"]
        service.run("correct", "demo", "--date", date, "--minus", "1", "--because", "a test")
        assert f"-1 on {date}: a test" in service.run("show", "demo").stdout
        store.ask("ACL", "SETUSER", user, "+del", "+srem")
        service.run("merge", "old", "into", "demo")
        assert await asyncio.to_thread(service.stop) == 0
        with connected(store.socket_path) as raw:
            refused = {entry["object"] for entry in raw.acl_log()}
        assert refused <= {"client|setinfo"}  # how the client library introduces itself


@pytest.mark.slow
async def test_a_store_that_answers_no_questions_counts_and_promises_nothing_known(
    start_service: StartService, tmp_path: Path, program: str
) -> None:
    async with mortal_store(tmp_path / "store", program=program) as store:
        store.ask("ACL", "SETUSER", "u", "reset", "on", ">word", *ALL_RIGHTS, "-@dangerous")
        service = start_service(redis_url=url_of(store, "u", "word"), operations_port=0)
        assert (await counted(service)).json["state"] == "counted"
        await replaced(service)
        assert (await counted(service)).json["total"] == 2
        assert await metric(service, "hitcounter_store_up") == 1
        assert await metric(service, "hitcounter_store_promise") == -1
        ready = (await ask(service.operations_port, "GET", "/readyz")).json
        assert (ready["status"], ready["level"]) == ("ready", "unknown")
        assert re.search("INFO is refused: .* no permissions .*info", ready["promise"])
        assert [warning.split()[6] for warning in ready["warnings"]] == [
            "version",
            "maxmemory_policy",
            "role",
        ]
        said = service.run("check").stdout
        assert ready["promise"] in said
        assert all(warning in said and warning in service.log for warning in ready["warnings"])
        assert await asyncio.to_thread(service.stop) == 0


@asynccontextmanager
async def hiding(server: StoreServer, *fields: bytes) -> AsyncIterator[str]:
    """Lead to a server whose INFO lacks some fields; give the address."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            for field in fields:  # under another name of the same length
                data = data.replace(b"\n%b:" % field, b"\n%b:" % field.upper())
            writer.write(data)
        writer.close()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        store_reader, store_writer = await asyncio.open_unix_connection(str(server.socket_path))
        await asyncio.gather(pump(reader, store_writer), pump(store_reader, writer))

    async with await asyncio.start_server(carry, "127.0.0.1", 0) as relay:
        yield f"redis://127.0.0.1:{relay.sockets[0].getsockname()[1]}/0"


HIDDEN = [b"aof_enabled", b"maxmemory_policy", b"role", b"redis_version", b"valkey_version"]


@pytest.mark.slow
@pytest.mark.parametrize("field", HIDDEN[:3])
async def test_what_info_lacks_is_not_assumed(tmp_path: Path, field: bytes) -> None:
    with store_server(tmp_path / "store") as server:
        async with hiding(server, field) as url:
            checked = await asyncio.to_thread(run_command, "check", redis_url=url)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert f"INFO lacks {field.decode()}" in checked.stdout
    assert ("promise: level unknown" in checked.stdout) == (field == b"aof_enabled")


@pytest.mark.slow
async def test_a_service_counts_on_a_store_that_tells_nothing(
    start_service: StartService, tmp_path: Path
) -> None:
    with store_server(tmp_path / "store") as server:
        async with hiding(server, *HIDDEN) as url:
            service = await asyncio.to_thread(start_service, redis_url=url, operations_port=0)
            assert (await counted(service)).json["state"] == "counted"
            ready = (await ask(service.operations_port, "GET", "/readyz")).json
            assert ready["level"] == "unknown"
            assert "INFO lacks version" in ready["warnings"][0]
            assert await asyncio.to_thread(service.stop) == 0


# What a hit needs


@pytest.fixture
def server(tmp_path: Path, program: str) -> Any:
    """Run a store."""
    with store_server(tmp_path / "store", program=program) as running:
        yield running


async def test_each_right_that_a_hit_needs_is_named_where_it_is_missing(
    server: StoreServer,
) -> None:
    _, rules = documented()
    told = {"+info", "+time", "+config|get", "+scan", "+hgetall"}
    rights = [rule for rule in rules if rule.startswith("+") and rule not in told]
    rules = ["reset", "on", ">word", *rules[rules.index("~hc:*") :]]
    with connected(server.socket_path) as raw:
        for right in rights:
            missing = f"-{right[1:]}"
            raw.execute_command("ACL", "SETUSER", "u", *rules, missing)
            raw.delete(keys.LANES_KEY)
            with pytest.raises(StoreForbidsError, match=re.escape(f"needs the right {right},")):
                await rehearsed(server)
        for keys_ in ("~other:*", "%R~hc:*"):
            raw.execute_command("ACL", "SETUSER", "u", "reset", "on", ">word", keys_, "+@all")
            with pytest.raises(StoreForbidsError, match=r"needs the right ~hc:\*,"):
                await rehearsed(server)


async def rehearsed(server: StoreServer) -> None:
    """Do once what a hit does."""
    store = Store(url_of(server, "u", "word"), TIMEOUT_S)
    try:
        await Inspection(store).rehearsed(is_open=True)
    finally:
        await store.close()


async def test_what_a_rehearsal_leaves_is_no_counter_and_no_site_and_expires(
    server: StoreServer,
) -> None:
    store = Store(server.unix_url, TIMEOUT_S)
    inspection = Inspection(store)
    with connected(server.socket_path) as raw:
        await inspection.rehearsed(is_open=True)
        left = sorted(raw.keys())
        assert len(left) == 7
        for_good = [name.decode() for name in left if raw.ttl(name) == -1]
        assert for_good == [keys.FORMAT_KEY, keys.LANES_KEY, keys.ROBOTS_KEY]
        assert [name async for name in store.counter_keys()] == []
        assert await store.sites() == set()
        await inspection.rehearsed(is_open=True)  # at once: not again
        assert sorted(raw.keys()) == left
    await store.close()


@pytest.mark.slow
async def test_who_may_not_count_is_told_so_before_anything_is_served(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        url = url_of(store, "u", "word")
        store.ask("ACL", "SETUSER", "u", "reset", "on", ">word", *ALL_RIGHTS, "-@scripting")
        checked = await asyncio.to_thread(run_command, "check", redis_url=url)
        assert checked.returncode == 1
        assert re.fullmatch(r"hitcounter: .*'eval' .*needs the right \+eval, .*\n", checked.stderr)
        given = {"redis_url": url, "data_dir": str(tmp_path / "data"), "port": "0"}
        served = await asyncio.to_thread(run_command, "serve", **given)
        assert (served.returncode, served.stdout) == (1, "")
        assert served.stderr.splitlines()[-1] == checked.stderr.rstrip()
        store.ask("ACL", "SETUSER", "u", "+@scripting")
        service = await asyncio.to_thread(
            start_service, redis_url=url, watch_every_s=0.1, operations_port=0
        )
        assert (await counted(service)).json["state"] == "counted"
        store.ask("ACL", "SETUSER", "u", "-@scripting")
        unfit = "ERROR worker 0: the store is not fit"
        await comes_true(lambda: unfit in service.log, "it is said")
        assert (await ask(service.operations_port, "GET", "/readyz")).json["status"] == "journaling"
        assert (await counted(service)).json["state"] == "stored"
        store.ask("ACL", "SETUSER", "u", "+@scripting")
        await settled(service)
        assert (await counted(service)).json["total"] == 3
        assert journals(service.data_dir) == []
        assert await asyncio.to_thread(service.stop) == 0


@pytest.mark.slow
async def test_a_store_that_is_full_fails_check_and_serves_to_the_journal(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        config = tmp_path / "sites.toml"
        config.write_text("[sites.demo]\n")
        given = {"redis_url": store.url, "config": str(config)}
        for command in (["baseline", "demo", "--total", "0"], ["check"]):
            assert (await asyncio.to_thread(run_command, *command, **given)).returncode == 0
        store.ask("CONFIG", "SET", "maxmemory", 1)
        service = await asyncio.to_thread(start_service, **given, operations_port=0)
        assert "hits would go to the journal: " in service.run("check", check=False).stderr
        assert await metric(service, "hitcounter_store_up") == 0
        assert (
            "maxmemory"
            in (await ask(service.operations_port, "GET", "/readyz")).json["warnings"][0]
        )
        assert (await counted(service)).json["state"] == "stored"
        assert await metric(service, "hitcounter_store_full") == 1
        store.ask("CONFIG", "SET", "maxmemory", 0)
        await settled(service)
        assert await metric(service, "hitcounter_store_full") == 0
        assert await asyncio.to_thread(service.stop) == 0


async def test_what_is_no_number_of_lanes_and_no_format_is_named_and_a_newer_format_refused(
    tmp_path: Path,
) -> None:
    with store_server(tmp_path / "store") as running, connected(running.socket_path) as raw:

        async def check() -> str:
            done = await asyncio.to_thread(run_command, "check", redis_url=running.unix_url)
            return done.stderr

        raw.set(keys.LANES_KEY, "many")
        assert await check() == f"hitcounter: {keys.LANES_KEY} does not hold a number of lanes\n"
        raw.set(keys.LANES_KEY, 1)
        for odd in ("new", "2", "2 \x1b[2J", "0.7 2"):
            raw.set(keys.FORMAT_KEY, odd)
            with pytest.raises(StoreUnfitError, match="does not hold a format and a version"):
                await checked(running)
        raw.set(keys.FORMAT_KEY, "2 0.7")
        assert await check() == (
            "hitcounter: the store holds format 2, and this program reads 1:"
            " use hitcounter 0.7 or newer\n"
        )


async def checked(server: StoreServer, *, create: bool = True) -> StoreFacts:
    """Check a store as commands and workers do."""
    store = Store(server.unix_url, TIMEOUT_S)
    try:
        return await Inspection(store).check(create=create)
    finally:
        await store.close()


async def test_a_new_store_is_told_its_format_and_an_older_one_is_left_as_it_is(
    tmp_path: Path,
) -> None:
    with store_server(tmp_path / "store") as server, connected(server.socket_path) as raw:
        assert (await checked(server, create=False)).format == 1
        assert raw.keys() == []
        raw.set(keys.LANES_KEY, 1)  # as an older version does
        assert (await checked(server)).format == 1
        assert raw.keys() == [keys.LANES_KEY.encode()]
        raw.delete(keys.LANES_KEY)
        for _ in range(2):
            assert (await checked(server)).format == 1
            assert raw.mget(keys.FORMAT_KEY, keys.LANES_KEY) == [b"1 0.1", b"1"]
