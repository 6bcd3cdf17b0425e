"""A directory is opened by whoever can read it, whatever else is installed, or else left alone."""

import asyncio
import json
from pathlib import Path

import pytest

from hitcounter.errors import StartError
from hitcounter.store.programs import MARK, Origin, Program, choose, mark
from tests.conftest import StartService, run_command
from tests.support.load import ask, zone_at_noon
from tests.support.servers import debian_program, packaged_program, store_server

VALKEY_9 = Program(Path("/valkey9"), Origin("valkey", (9, 1, 2)))
VALKEY_8 = Program(Path("/valkey8"), Origin("valkey", (8, 1, 1)))
REDIS_7_0 = Program(Path("/redis70"), Origin("redis", (7, 0, 15)))
REDIS_7_2 = Program(Path("/redis72"), Origin("redis", (7, 2, 4)))
REDIS_8 = Program(Path("/redis8"), Origin("redis", (8, 2, 0)))
UNKNOWN = Program(Path("/unknown"), None)
ALL = [VALKEY_9, VALKEY_8, REDIS_7_0, REDIS_7_2, REDIS_8]
KINDS = ("base.rdb", "incr.aof")
MANIFEST = "".join(f"file appendonly.aof.4.{kind} seq 4 type {kind[0]}\n" for kind in KINDS)


def with_base(directory: Path, head: bytes) -> Path:
    """Lay out the files of a server whose base file begins with some bytes."""
    (directory / "appendonlydir").mkdir(parents=True)
    (directory / "appendonlydir" / "appendonly.aof.manifest").write_text(MANIFEST)
    (directory / "appendonlydir" / "appendonly.aof.4.base.rdb").write_bytes(head + b"\xfa\x00\xff")
    return directory


@pytest.mark.parametrize(
    ("head", "able"),
    [
        (b"VALKEY080\xfa\x0avalkey-ver\x059.1.2", [VALKEY_9]),
        (b"VALKEY080", [VALKEY_9]),
        (b"VALKEY081\xfa\x0avalkey-ver\x069.10.0", []),
        (b"REDIS0011\xfa\x0avalkey-ver\x058.1.1", [VALKEY_8, VALKEY_9]),
        (b"REDIS0010\xfa\x09redis-ver\x067.0.15", [REDIS_7_0, *ALL]),
        (b"REDIS0010", [REDIS_7_0, *ALL]),
        (b"REDIS0011\xfa\x09redis-ver\x057.2.4", [REDIS_7_2, REDIS_8, VALKEY_9, VALKEY_8]),
        (b"REDIS0011", [REDIS_7_2, REDIS_8, VALKEY_9, VALKEY_8]),
        (b"REDIS0012\xfa\x09redis-ver\x057.4.1", [REDIS_8]),
        (b"REDIS0012\xfa\x09redis-ver\x067.0.15", [REDIS_8]),
        (b"REDIS0012", [REDIS_8]),
        (b"", [VALKEY_9, *ALL, UNKNOWN]),
        (b"no such word", [VALKEY_9, *ALL, UNKNOWN]),
    ],
)
def test_an_unmarked_directory_is_judged_by_the_first_bytes_of_its_base_file(
    tmp_path: Path, head: bytes, able: list[Program]
) -> None:
    files = with_base(tmp_path, head)
    for program in [*ALL, UNKNOWN]:
        if program in able:
            assert choose([program], files) is program
        else:
            with pytest.raises(StartError, match=f"was written by .* but {program.path} is "):
                choose([program], files)
    if able:
        assert choose(ALL, files) is able[0]


def test_a_new_directory_is_for_the_first_program(tmp_path: Path) -> None:
    for files in (tmp_path, tmp_path / "missing"):
        assert choose(ALL, files) is VALKEY_9
    with pytest.raises(StartError, match="no server for our own store"):
        choose([], tmp_path)


def test_what_a_directory_was_opened_by_last_opens_it_again(tmp_path: Path) -> None:
    files = with_base(tmp_path, b"REDIS0010\xfa\x09redis-ver\x067.0.15")
    for program in (REDIS_7_0, REDIS_7_2, VALKEY_8):
        mark(files, program)
        assert choose(ALL, files) is program
    for program in (REDIS_7_0, REDIS_8):
        with pytest.raises(StartError, match=r"written by valkey 8\.1\.1 .* needs Valkey 8\.1 or"):
            choose([program], files)
    assert choose([REDIS_8, VALKEY_9], files) is VALKEY_9
    assert [path.name for path in tmp_path.iterdir()] == ["appendonlydir", MARK]


def test_a_last_number_of_the_version_forbids_nothing(tmp_path: Path) -> None:
    mark(tmp_path, VALKEY_9)
    older = Program(Path("/older"), Origin("valkey", (9, 1, 0)))
    assert choose([older], tmp_path) is older
    mark(tmp_path, older)
    assert json.loads((tmp_path / MARK).read_text())["version"] == "9.1.0"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"[]",
        b"{}",
        b'{"format": 1}',
        b'{"format": 1, "family": "keydb", "version": "6.3", "files": ""}',
        b'{"format": 1, "family": "valkey", "version": "new", "files": ""}',
        b'{"format": 1, "family": "valkey", "version": "%s.1", "files": ""}' % (b"9" * 9_999),
        b"[" * 99_999,
    ],
)
def test_a_mark_that_says_nothing_is_written_anew(tmp_path: Path, content: bytes) -> None:
    files = with_base(tmp_path, b"VALKEY080")
    (files / MARK).write_bytes(content)
    (files / f"{MARK}.new").write_bytes(content)  # as of one who was killed
    assert choose(ALL, files) is VALKEY_9
    mark(files, VALKEY_9)
    assert json.loads((files / MARK).read_text()) == {
        "family": "valkey",
        "version": "9.1.2",
        "files": "VALKEY080",
        "format": 1,
    }


def test_a_mark_of_a_newer_hitcounter_is_left_to_it(tmp_path: Path) -> None:
    (tmp_path / MARK).write_text('{"format": 2, "family": ["valkey"]}')
    with pytest.raises(StartError, match=f"{MARK} is of a newer hitcounter"):
        choose(ALL, tmp_path)


def test_a_mark_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=f"cannot write .*{MARK}: No such file"):
        mark(tmp_path / "missing", VALKEY_9)
    (tmp_path / MARK).mkdir()
    with pytest.raises(StartError, match=f"cannot read .*{MARK}: Is a directory"):
        choose(ALL, tmp_path)


def snapshot(data_dir: Path) -> dict[Path, bytes]:
    """Read all files that hold what a store knows."""
    files = sorted((data_dir / "store" / "appendonlydir").iterdir())
    return {path: path.read_bytes() for path in files}


def refused(data_dir: Path, command: str = "serve", **settings: str) -> str:
    """Run a command that must not open a directory; give the line that says why."""
    before = snapshot(data_dir)
    result = run_command(command, data_dir=str(data_dir), port="0", **settings)
    assert result.returncode == 1
    assert result.stderr.startswith("hitcounter: ")
    assert result.stderr.count("\n") == 1
    assert "--fix" not in result.stderr
    assert snapshot(data_dir) == before
    return result.stderr


def hit(service_port: int) -> int:
    """Count one hit; give the total."""
    total = asyncio.run(ask(service_port, "POST", "/v1/sites/demo/hits")).json["total"]
    assert isinstance(total, int)
    return total


def test_what_is_installed_later_changes_nothing_for_a_directory(
    start_service: StartService, tmp_path: Path
) -> None:
    later = debian_program()
    zone, data_dir = zone_at_noon(), tmp_path / "data"
    service = start_service(timezone=zone)
    assert hit(service.port) == 1
    service.stop()
    marked = json.loads((data_dir / "store" / MARK).read_text())
    assert (marked["family"], marked["files"][:6]) == ("valkey", "VALKEY")
    line = refused(data_dir, store_binary=later)
    assert "VALKEY" in line
    assert "needs Valkey " in line
    service = start_service(timezone=zone)
    assert hit(service.port) == 2


@pytest.mark.slow
def test_the_files_of_redis_are_its_own_until_valkey_has_them(
    start_service: StartService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis, zone, store = debian_program(), zone_at_noon(), tmp_path / "data" / "store"
    service = start_service(timezone=zone, store_binary=redis)
    assert hit(service.port) == 1
    service.stop()
    (store / MARK).unlink()  # as 0.1 left it
    service = start_service(timezone=zone)
    assert hit(service.port) == 2
    service.stop()
    assert json.loads((store / MARK).read_text())["family"] == "redis"
    monkeypatch.setenv("PATH", str(tmp_path))
    service = start_service(timezone=zone)
    assert hit(service.port) == 3
    service.stop()
    assert json.loads((store / MARK).read_text())["family"] == "valkey"
    assert "valkey" in refused(tmp_path / "data", store_binary=redis)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["packaged", "debian"])
def test_a_damaged_log_stops_the_service_and_is_left_as_it_is(tmp_path: Path, kind: str) -> None:
    program = packaged_program() if kind == "packaged" else debian_program()
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with store_server(data_dir / "store", program=program) as server:
        url = server.unix_url
        for n in range(3):
            run_command("baseline", "demo", "--total", str(n + 1), redis_url=url)
    (log,) = (data_dir / "store" / "appendonlydir").glob("*.incr.aof")
    whole = log.read_bytes()
    broken_at = whole.rindex(b"\r\n*") + 2  # where the last command begins
    log.write_bytes(whole[:broken_at] + b"?" + whole[broken_at + 1 :])
    for command in ("serve", "check"):
        line = refused(data_dir, command, store_binary=program)
        assert f"{log.name}, of which {broken_at} of {len(whole)} bytes are whole" in line
        assert f"nothing in {log.parent} was changed" in line
        assert 'see "A damaged log of the store" in docs/operating.md' in line
    with log.open("r+b") as file:  # as the document says
        file.truncate(broken_at)
    shown = run_command("show", "demo", data_dir=str(data_dir), store_binary=program).stdout
    assert shown.endswith(": 2\n")


def test_a_program_that_is_too_old_is_refused_before_it_opens_anything(tmp_path: Path) -> None:
    program = tmp_path / "old"
    program.write_text("#!/bin/sh\necho Redis server v=6.0.16 sha=0\n")
    program.chmod(0o700)
    data_dir = tmp_path / "data"
    result = run_command("serve", data_dir=str(data_dir), port="0", store_binary=str(program))
    fault = f"store_binary: {program} is redis 6.0.16, and exact counts need Redis 7.0 or Valkey"
    assert (result.returncode, result.stderr) == (1, f"hitcounter: {fault}\n")
    assert not data_dir.exists()
