"""The commands, as an operator runs them: beside a running service, without one, on any store.

What is refused changes nothing and says why in one line.
"""

import asyncio
import datetime as dt
import hashlib
import json
import os
import pty
import random
import re
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from redis import Redis

from hitcounter.errors import CommandError
from hitcounter.store.keys import CounterName
from hitcounter.transfer.export import read_export
from tests.conftest import PROGRAM, RunningService, StartService, run_command
from tests.support.acceptance import LINES
from tests.support.acceptance import SHOWN as ACCEPTANCE
from tests.support.load import Tally, Target, ask, counted, send, zone_at_noon
from tests.support.servers import StoreServer, connected, packaged_program, store_server

BLOCK = "\n".join(["Số lượt truy cập", *LINES, ""])

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def flags(numbers: dict[str, int]) -> list[str]:
    """Write numbers as the flags of a baseline."""
    return [part for key, n in numbers.items() for part in (f"--{key}", str(n))]


def said(result: "subprocess.CompletedProcess[str]", code: int = 1) -> str:
    """Expect of a failed command one clear line and the right exit code; give the line."""
    assert (result.returncode, result.stdout) == (code, "")
    line = result.stderr
    assert line.startswith("hitcounter: ")
    assert line.count("\n") == 1
    return line.removeprefix("hitcounter: ").rstrip()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    """Run one store for the tests of this file that name their own site."""
    with store_server(tmp_path_factory.mktemp("store")) as server:
        yield server


@pytest.fixture(scope="module")
def carried(store: StoreServer) -> StoreServer:
    """Have the numbers of an old counter in the store."""
    assert on(store, "baseline", "demo", *flags(ACCEPTANCE)).returncode == 0
    return store


@pytest.fixture(
    params=[
        pytest.param("embedded", marks=pytest.mark.slow),
        pytest.param("redis_url", marks=pytest.mark.slow),
        "service",
    ]
)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    """Run commands where the store may be: our own at rest, an operator's, a running service's."""
    zone = {"timezone": zone_at_noon()}
    if request.param == "redis_url":
        with store_server(tmp_path / "redis") as server:
            yield lambda *args: run_command(*args, redis_url=server.tcp_url, **zone)
    elif request.param == "embedded":
        yield lambda *args: run_command(*args, data_dir=str(tmp_path / "data"), **zone)
    else:
        service: RunningService = request.getfixturevalue("start_service")(**zone)
        yield lambda *args: service.run(*args, check=False)


def test_the_numbers_of_the_old_counter_are_carried_over(run: Run, tmp_path: Path) -> None:
    carried = run("baseline", "demo", *flags(ACCEPTANCE), "--page", "/tin-tuc/1=210")
    assert carried.returncode == 0
    assert re.fullmatch(r"store: (our own in|redis://127\.0\.0\.1:\d+/0).*\n", carried.stderr)
    assert "Today: 0 -> 1129\n" in carried.stdout
    assert "/tin-tuc/1: 210\n" in carried.stdout
    assert run("show", "demo").stdout == BLOCK
    exported = run("export").stdout
    assert sealed_counts(exported)["demo", "/tin-tuc/1"] == 210
    file = tmp_path / "export.ndjson"
    file.write_text(exported)
    assert run("import", str(file)).stdout == "1 sites read, 0 numbers raised\n"
    assert run("check").stdout.endswith(
        "promise: level A, an acknowledged hit is on the store's disk (appendfsync always)\n"
    )


def sealed_counts(exported: str) -> dict[tuple[str, str], int]:
    """Read the counters of an export, by site and by bucket or path."""
    counters = [json.loads(line) for line in exported.splitlines()[1:-1]]
    return {(c["site"], c.get("page") or c["bucket"]): c["count"] for c in counters}


@pytest.mark.slow
async def test_the_next_hit_counts_on_from_the_baseline(start_service: StartService) -> None:
    service = start_service(timezone=zone_at_noon())
    service.run("baseline", "demo", *flags(ACCEPTANCE), "--page", "/tin-tuc/1=210")
    hits = "/v1/sites/demo/hits"
    numbers = (await ask(service.port, "POST", hits, b'{"path": "/tin-tuc/1"}')).json
    expected = ACCEPTANCE | {"today": 1130, "month": 179278, "year": 970736, "total": 1619939}
    assert {key: numbers[key] for key in ACCEPTANCE} == expected
    assert numbers["page"] == {"path": "/tin-tuc/1", "total": 211}
    texts = [line["text"] for line in numbers["widget"]["lines"]]
    assert texts == ["1.130", "5.318", "179.278", "970.736", "1.619.939"]


def on(store: StoreServer, *args: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a command on the store of this file."""
    return run_command(*args, redis_url=store.unix_url, timezone=zone_at_noon(), **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"today": 179278, "yesterday": 0}, "the days of this month (179278) … month (179277)"),
        ({"month": 970736}, "month (970736) … year (970735)"),
        ({"year": 1619939}, "year (1619939) … total (1619938)"),
        ({"total": 970734}, "year (970735) … total (970734)"),
        ({"page": 1619939}, "page /tin-tuc/1 (1619939) … total (1619938)"),
    ],
)
def test_numbers_that_contradict_each_other_change_nothing(
    carried: StoreServer, changed: dict[str, int], fault: str
) -> None:
    before = content(carried)
    pages = ["--page", f"/tin-tuc/1={changed['page']}"] if "page" in changed else []
    alone = {key: n for key, n in changed.items() if key != "page"}
    for given in (alone, ACCEPTANCE | alone):
        line = said(on(carried, "baseline", "demo", *flags(given), *pages))
        assert line == f"nothing was changed: {fault.replace('…', 'cannot be more than')}"
    assert content(carried) == before


def content(store: StoreServer) -> dict[bytes, bytes]:
    """Read all counters of a store."""
    with connected(store.socket_path) as redis:
        names = sorted(redis.keys("hc:{0}:*"))
        return dict(zip(names, redis.mget(names), strict=True))


@pytest.mark.slow
def test_today_and_yesterday_fit_into_the_month_that_holds_both(store: StoreServer) -> None:
    numbers = {"today": 60, "yesterday": 60, "month": 100, "year": 1000, "total": 1000}
    result = on(store, "baseline", "two-days", *flags(numbers))
    is_first = dt.datetime.now(ZoneInfo(zone_at_noon())).day == 1
    assert result.returncode == (0 if is_first else 1)


NO_COUNT = "is not a count: up to 15 digits alone, like 1619938"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "fault"),
    [
        (["--today", "-1"], f"argument --today: '-1' {NO_COUNT}"),
        (["--today", "many"], f"argument --today: 'many' {NO_COUNT}"),
        (["--total", "1.129"], f"argument --total: '1.129' {NO_COUNT}"),
        (["--total", "٣"], f"argument --total: '٣' {NO_COUNT}"),
        (["--total", "1" * 16], f"argument --total: '{'1' * 16}' {NO_COUNT}"),
        (["--page", "/x"], "argument --page: '/x' is not like /path=210"),
        (["--page", "x=1"], "argument --page: 'x': the path of a page starts with /"),
        (["--page", "/x=-1"], f"argument --page: '-1' {NO_COUNT}"),
        (["--totals", "1"], "unrecognized arguments: --totals 1"),
    ],
)
def test_what_is_no_number_is_refused_as_a_wrong_command_line(args: list[str], fault: str) -> None:
    assert said(run_command("baseline", "demo", *args), code=2) == fault


def test_a_partial_baseline_keeps_the_other_lines(store: StoreServer) -> None:
    on(store, "baseline", "partial", *flags(ACCEPTANCE))
    assert on(store, "baseline", "partial", "--yesterday", "6000", "--total", "2000000").stdout == (
        "Today: 1129 -> 1129\n"
        "Yesterday: 5318 -> 6000\n"
        "This month: 179277 -> 179277\n"
        "This year: 970735 -> 970735\n"
        "Total: 1619938 -> 2000000\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (["show", "Demo"], "'Demo': a site name is 1 to 63 of a-z, 0-9, dot and hyphen,"),
        (["baseline", "demo"], "nothing to set: give --today"),
        (["import", "missing"], "cannot read missing: No such file or directory"),
        (["import", "/"], "cannot read /: Is a directory"),
        (["show", "demo"], "data_dir: there is no directory"),
        (["export"], "data_dir: there is no directory"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(
    tmp_path: Path, command: list[str], fault: str
) -> None:
    data_dir = tmp_path / "data"
    assert said(run_command(*command, data_dir=str(data_dir))).startswith(fault)
    assert not data_dir.exists()


@pytest.mark.slow
def test_no_store_is_made_where_nobody_said_it_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("import.ndjson").write_text(sealed([HEAD, GOOD]))
    advice = ": give the --config or --data-dir of the service, or --new"
    lack = f"data_dir: there is no directory {tmp_path / 'data'}"
    writing = (["baseline", "demo", "--total", "1"], ["import", "import.ndjson"])
    for command in writing:
        assert said(run_command(*command)) == lack + advice
    assert not Path("data").exists()
    Path("data").mkdir()
    for command in (*writing, ["show", "demo"], ["export"]):
        assert said(run_command(*command)).startswith(lack.replace("directory", "store in"))
    assert list(Path("data").iterdir()) == []
    assert "Total: 0 -> 1\n" in run_command(*writing[0], "--new").stdout
    assert run_command(*writing[1]).stdout == "1 sites read, 1 numbers raised\n"
    Path("told.toml").write_text("data_dir = 'told'")
    assert run_command(*writing[1], config="told.toml").returncode == 0


def test_check_makes_nothing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for settings in ({}, {"data_dir": "told"}):
        result = run_command("check", **settings)
        place = tmp_path / settings.get("data_dir", "data")
        assert (result.returncode, result.stderr) == (0, "")
        line = f"store: no store yet in {place}; serve makes it: {packaged_program()} is valkey "
        assert line in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_every_command_names_its_store_and_no_reader_leaves_anything_in_it(tmp_path: Path) -> None:
    with store_server(tmp_path / "store", "--requirepass", "s3cret") as server:
        tcp = server.tcp_url.replace("//", "//user:s3cret@").replace("user", "default")
        unix = server.unix_url.replace("//", "//default:s3cret@") + "?db=3"
        for url, shown in ((tcp, server.tcp_url), (unix, f"{server.unix_url}?db=3")):
            for command in (["show", "demo"], ["export"]):
                assert run_command(*command, redis_url=url).stderr == f"store: {shown}\n"
            assert re.search(f"^store: .*, {re.escape(shown)}$", checked(url), re.MULTILINE)
        with Redis.from_url(tcp) as redis:
            # The rehearsal of `check` leaves what expires, and nothing else.
            assert all(db["keys"] == db["expires"] for db in redis.info("keyspace").values())
        named = run_command("baseline", "demo", "--total", "1", redis_url=tcp)
        assert named.stderr == f"store: {server.tcp_url}\n"


def checked(url: str) -> str:
    """Check a store; give what is said."""
    return run_command("check", redis_url=url).stdout


def test_a_store_that_is_away_is_one_clear_line(tmp_path: Path) -> None:
    url = f"unix://{tmp_path / 'socket'}"
    for command in (["show", "demo"], ["check"]):
        result = run_command(*command, redis_url=url)
        assert result.returncode == 1
        assert result.stderr.startswith("hitcounter: the store does not answer: Error 2 connecting")
        assert result.stderr.count("\n") == 1


def test_a_site_that_is_not_declared_is_refused(store: StoreServer, tmp_path: Path) -> None:
    config = tmp_path / "hitcounter.toml"
    config.write_text("[sites.declared]\n")
    for command in (["show", "other"], ["baseline", "other", "--total", "1"]):
        line = said(on(store, *command, config=str(config)))
        assert line == f"the site other is not declared in {config}"


LISTED = "the site hitcounter.example.vn has 'hitcounter.', which block lists block: "


def test_check_warns_of_a_name_that_lists_block(tmp_path: Path) -> None:
    config = tmp_path / "hitcounter.toml"
    config.write_text('[sites."hitcounter.example.vn"]\n[sites.demo]\n')
    result = run_command("check", config=str(config), data_dir=str(tmp_path / "data"))
    (warning,) = re.findall("^warning: (.*)", result.stdout, re.MULTILINE)
    assert warning.startswith(LISTED)


@pytest.mark.slow
def test_commands_take_a_site_in_its_own_script_and_name_its_punycode(
    start_service: StartService, tmp_path: Path
) -> None:
    config = tmp_path / "hitcounter.toml"
    config.write_text('[sites."hitcounter.example.vn"]\n[sites."hộinôngdân.vn"]\n', "utf-8")
    service = start_service(config=config)
    assert LISTED in service.log
    name, punycode = "HộiNôngDân.vn", "xn--hinngdn-uwa2n1471a.vn"
    service.run("baseline", name, "--total", "10", "--page", "/a=2")
    assert service.run("show", name).stdout == service.run("show", punycode).stdout
    listed = service.run("sites").stdout
    assert listed.startswith(f"{punycode}\t10\t1\t")
    exported = service.run("export").stdout
    assert f'"site":"{punycode}"' in exported
    gone = tmp_path / "gone.ndjson"
    assert "1 pages" in service.run("prune", name, "--page", "/a", f"--export-to={gone}").stdout
    assert f'"site":"{punycode}"' in gone.read_text()
    lines = [HEAD, f'{{"site":"{name}","bucket":"total","count":20}}']
    (tmp_path / "other.ndjson").write_text(sealed(lines), "utf-8")
    assert "1 numbers raised" in service.run("import", str(tmp_path / "other.ndjson")).stdout
    assert ": 20" in service.run("show", punycode).stdout
    service.run("remove", name, f"--export-to={tmp_path / 'removed.ndjson'}")
    assert service.run("sites").stdout == ""


@pytest.mark.slow
def test_check_names_what_the_store_lacks(tmp_path: Path) -> None:
    with store_server(tmp_path / "store", "--appendonly", "no") as server:
        checked = run_command("check", redis_url=server.unix_url)
        assert (checked.returncode, checked.stderr) == (0, "")
        assert "promise: level none, a crash of the store can lose hits" in checked.stdout
    with store_server(tmp_path / "store", "--maxmemory-policy", "allkeys-lru") as server:
        result = run_command("check", redis_url=server.unix_url)
        assert result.returncode == 1
        assert result.stderr.startswith("hitcounter: maxmemory-policy is allkeys-lru")


def sealed(lines: list[Any]) -> str:
    """Write a file with a checksum that fits, whatever its lines say."""
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text + json.dumps({"counters": len(lines) - 1, "sha256": digest}) + "\n"


HEAD = {"format": "hitcounter-export", "version": 1}
GOOD = {"site": "demo", "bucket": "total", "count": 1619938}
NO_EXPORT = "line 1: not the hitcounter-export format"
NO_COUNTER = "line 3 is not a counter of a site"
CUT = "the file is cut or changed: its last line is not its checksum"
NO_COUNTERS: list[Any] = [
    GOOD | {"site": "Demo"},
    GOOD | {"site": "demo:x"},
    GOOD | {"site": 5},
    GOOD | {"bucket": "2019-02-30"},
    GOOD | {"bucket": "today"},
    GOOD | {"bucket": 2019},
    GOOD | {"page": "tin-tuc"},
    GOOD | {"page": "/a//b"},
    GOOD | {"page": "/\u202e"},
    GOOD | {"page": 5},
    GOOD | {"page": ["/"]},
    GOOD | {"page": None},
    GOOD | {"count": -1},
    GOOD | {"count": 10**15},
    GOOD | {"count": 10**30},
    GOOD | {"count": 1.0},
    GOOD | {"count": True},
    GOOD | {"count": "1"},
    GOOD | {"count": None},
    {"site": "demo", "count": 1},
    {"site": "demo", "bucket": "total"},
    {},
    [],
    None,
]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("", "line 1 is not JSON", id="empty"),
        pytest.param("GIF89a", "line 1 is not JSON", id="another kind of file"),
        pytest.param("\n".join(sealed([HEAD, GOOD]).splitlines()[:-1]), CUT, id="last line gone"),
        pytest.param(sealed([HEAD, GOOD])[:-9], "line 3 is not JSON", id="last line cut"),
        pytest.param(sealed([HEAD, GOOD]).replace("61", "16", 1), CUT, id="a number changed"),
        pytest.param(sealed([HEAD, GOOD, "{site"]), "line 3 is not JSON", id="bad JSON"),
        pytest.param(sealed([HEAD, GOOD, "[" * 99_999]), "line 3 is not JSON", id="deep JSON"),
        pytest.param(sealed([HEAD, GOOD, "9" * 5_000]), "line 3 is not JSON", id="long number"),
        pytest.param(
            sealed([HEAD | {"version": 2, "zone": "UTC"}, {"visits": 1}]) + "other seal\n",
            "line 1: the hitcounter-export format, version 2; this program reads version 1 and"
            " older: use a newer hitcounter",
            id="a later version",
        ),
        *(
            pytest.param(sealed(lines), NO_EXPORT, id=json.dumps(lines))
            for lines in (
                [],
                [GOOD],
                [[HEAD]],
                [HEAD | {"format": "other"}],
                [HEAD | {"version": True}],
                [HEAD | {"version": 0}],
                [HEAD | {"version": "2"}],
                [{"format": "hitcounter-export"}],
            )
        ),
        *(
            pytest.param(sealed([HEAD, GOOD, line]), NO_COUNTER, id=json.dumps(line))
            for line in NO_COUNTERS
        ),
    ],
)
def test_a_file_with_a_fault_is_refused_as_a_whole(text: str, fault: str) -> None:
    with pytest.raises(CommandError) as refusal:
        read_export(text)
    assert str(refusal.value) == fault


def test_an_older_version_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hitcounter.transfer.export.VERSION", 2)
    total = CounterName("demo", False, "total")
    assert read_export(sealed([HEAD, GOOD])) == {"demo": {total: GOOD["count"]}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (sealed([HEAD, GOOD, GOOD | {"page": 5}]).encode(), f"{{file}}: {NO_COUNTER}"),
        (sealed([HEAD, GOOD]).encode()[:-1] + b"\xff", "{file} is not UTF-8 text"),
        (sealed([HEAD, GOOD]).encode()[:60], "{file}: line 2 is not JSON"),
    ],
)
def test_nothing_of_a_file_with_a_fault_is_written(
    tmp_path: Path, content: bytes, fault: str
) -> None:
    file, data_dir = tmp_path / "file", tmp_path / "data"
    file.write_bytes(content)
    result = run_command("import", str(file), data_dir=str(data_dir))
    assert said(result) == fault.format(file=file)
    assert not data_dir.exists()


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    good = sealed([HEAD, GOOD, {"site": "demo", "page": "/đường/1", "count": 210}]).encode()
    assert read_export(good.decode())
    file = tmp_path / "file"
    for place in range(len(good)):
        bit = 1 << random.Random(place).randrange(8)
        file.write_bytes(good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :])
        with pytest.raises((CommandError, UnicodeDecodeError)):
            read_export(file.read_text("utf-8"))


@pytest.mark.slow
def test_an_export_into_a_new_place_gives_the_same_numbers(
    start_service: StartService, tmp_path: Path
) -> None:
    zone, tally = zone_at_noon(), Tally()
    service = start_service(timezone=zone, workers=2)
    targets = [Target(f"site{n % 5}", f"/trang/{n % 20}") for n in range(1_000)]
    asyncio.run(send(service.port, tally, targets, 8))
    service.run("baseline", "demo", *flags(ACCEPTANCE), "--page", "/tin tức/1=210")
    exported = service.run("export").stdout
    assert {
        target: sealed_counts(exported)[target.site, target.path or ""] for target in tally.acked
    } == tally.acked
    file = tmp_path / "export.ndjson"
    file.write_text(exported)
    again = start_service(timezone=zone, data_dir=tmp_path / "other")
    assert again.run("import", str(file)).stdout == "6 sites read, 46 numbers raised\n"
    assert again.run("export").stdout == exported
    assert again.run("import", str(file)).stdout == "6 sites read, 0 numbers raised\n"
    assert again.run("show", "demo").stdout == BLOCK
    assert asyncio.run(counted(again.port, tally.acked)) == tally.acked


@pytest.mark.slow
async def test_an_import_beside_running_hits_never_lowers_a_number(
    start_service: StartService, tmp_path: Path
) -> None:
    service = start_service(timezone=zone_at_noon(), workers=2)
    demo, other, tally = Target("demo", "/a"), Target("other", "/a"), Tally()
    await send(service.port, tally, [demo, other] * 100, 8)
    file = tmp_path / "export.ndjson"
    file.write_text(service.run("export").stdout)
    done = asyncio.Event()
    sending = asyncio.create_task(send(service.port, tally, until_done([demo, other], done), 16))
    for _ in range(3):
        imported = await asyncio.to_thread(service.run, "import", str(file))
        assert imported.stdout == "2 sites read, 0 numbers raised\n"
    done.set()
    await sending
    assert (tally.refused, tally.unanswered) == ({}, {})
    assert await counted(service.port, [demo, other]) == tally.acked


def until_done(targets: list[Target], done: asyncio.Event) -> Iterator[Target]:
    """Go through targets until it is enough."""
    while not done.is_set():
        yield from targets


@pytest.mark.slow
async def test_hits_count_on_from_numbers_that_are_raised_beside_them(
    start_service: StartService, tmp_path: Path
) -> None:
    zone = zone_at_noon()
    service = start_service(timezone=zone)
    today = dt.datetime.now(ZoneInfo(zone)).date().isoformat()
    buckets = [today, today[:7], today[:4], "total"]
    file = tmp_path / "export.ndjson"
    raised = [{"site": "demo", "bucket": bucket, "count": 1_000_000} for bucket in buckets]
    file.write_text(sealed([HEAD, *raised]))
    tally, done = Tally(), asyncio.Event()
    sending = asyncio.create_task(send(service.port, tally, until_done([Target("demo")], done), 8))
    imported = await asyncio.to_thread(service.run, "import", str(file))
    assert imported.stdout == "1 sites read, 4 numbers raised\n"
    n_before, later = tally.n_acked, Tally()
    done.set()
    await sending
    await send(service.port, later, [Target("demo")] * 100, 1)
    total = (await counted(service.port, [Target("demo")]))[Target("demo")]
    assert 1_000_000 + tally.n_acked - n_before + 100 <= total <= 1_000_000 + tally.n_acked + 100


@pytest.mark.slow
def test_more_sites_than_may_be_are_refused_before_any_is_written(tmp_path: Path) -> None:
    file = tmp_path / "export.ndjson"
    file.write_text(sealed([HEAD, *(GOOD | {"site": f"site{n}"} for n in range(3))]))
    settings = {"data_dir": str(tmp_path / "data"), "max_sites": "2"}
    line = said(run_command("import", str(file), **settings))
    assert line == "nothing was changed: more than max_sites (2)"
    assert sealed_counts(run_command("export", **settings).stdout) == {}


@pytest.mark.slow
def test_ten_thousand_pages_go_out_and_in(store: StoreServer, tmp_path: Path) -> None:
    pages = [{"site": "large", "page": f"/bài/{n}", "count": n} for n in range(1, 10_001)]
    file = tmp_path / "export.ndjson"
    file.write_text(sealed([HEAD, {"site": "large", "bucket": "total", "count": 10**8}, *pages]))
    assert on(store, "import", str(file)).stdout == "1 sites read, 10001 numbers raised\n"
    assert on(store, "import", str(file)).stdout == "1 sites read, 0 numbers raised\n"
    exported = sealed_counts(on(store, "export").stdout)
    assert {("large", page["page"]): page["count"] for page in pages}.items() <= exported.items()


@pytest.mark.slow
def test_a_bar_shows_the_progress_on_a_terminal_only(store: StoreServer, tmp_path: Path) -> None:
    file = tmp_path / "export.ndjson"
    file.write_text(sealed([HEAD, GOOD]))
    for command in (["import", str(file)], ["export"]):
        plain = on(store, *command)
        assert (plain.returncode, plain.stderr) == (0, f"store: {store.unix_url}\n")
        shown = seen_on_a_terminal(*command, "--redis-url", store.unix_url)
        assert re.search(r"(\d+)/\1 .* sites/s", shown)


def seen_on_a_terminal(*command: str) -> str:
    """Run a command whose standard error is a terminal; give what that shows."""
    ours, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (25, 80))
    with subprocess.Popen(
        [PROGRAM, *command], stdout=subprocess.DEVNULL, stderr=terminal
    ) as process:
        os.close(terminal)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # how Linux tells that the other end is closed
            pass
        finally:
            os.close(ours)
    assert process.returncode == 0
    return shown.decode()


def test_an_export_that_nobody_reads_to_its_end_is_quiet_and_no_success(
    carried: StoreServer,
) -> None:
    command = [str(PROGRAM), "export", "--redis-url", carried.unix_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-16"])
def test_whatever_the_locale_an_export_can_be_imported(
    tmp_path: Path, store: StoreServer, encoding: str
) -> None:
    on(store, "baseline", "locale", "--total", "9", "--page", "/việt/café=3")
    environ = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUNBUFFERED": "1"}

    def run(*args: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        command = [str(PROGRAM), *args, "--redis-url", store.unix_url]
        return subprocess.run(command, input=given, env=environ, capture_output=True, timeout=60)

    exported = run("export")
    assert exported.returncode == 0, exported.stderr
    assert '"/việt/café"'.encode() in exported.stdout
    imported = run("import", "-", given=exported.stdout)
    assert imported.returncode == 0, imported.stderr
    shown = run("show", "locale")
    assert shown.returncode == 0, shown.stderr
    assert ": 9" in shown.stdout.decode(encoding)


def test_a_file_that_went_through_an_editor_of_windows_is_the_same_file(store: StoreServer) -> None:
    lines = sealed([HEAD, GOOD | {"site": "windows"}]).replace("\n", "\r\n")
    result = subprocess.run(
        [PROGRAM, "import", "-", "--redis-url", store.unix_url],
        input=b"\xef\xbb\xbf" + lines.encode(),
        capture_output=True,
        timeout=60,
    )
    assert result.stdout.endswith(b" 1 numbers raised\n")


def test_only_a_newline_ends_a_line_of_an_export() -> None:
    text = json.dumps(GOOD | {"page": "/a\u2028b\x85c"}, ensure_ascii=False)
    with pytest.raises(CommandError, match="line 3 is not a counter"):
        read_export(sealed([HEAD, GOOD, text]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"hc:{0}:page:demo:/a\xff", 1),
        (b"hc:{0}:page:demo:no-slash", 1),
        (b"hc:{0}:site:demo:someday", 1),
        (b"hc:{0}:site:demo:2019", 10**15),
        (b"hc:{zero}:site:demo:total", 1),
    ],
)
def test_what_could_not_be_imported_is_not_exported(tmp_path: Path, key: bytes, value: int) -> None:
    with store_server(tmp_path / "store") as server:
        with connected(server.socket_path) as redis:
            redis.set(key, value)
        line = said(run_command("export", redis_url=server.unix_url))
    assert (
        "an import would refuse the counter 'hc:{0}:" in line
        or "which is no counter of ours" in line
    )
