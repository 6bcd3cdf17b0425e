"""What the runbook tells an operator to type, typed as it stands there."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PROGRAM, StartService
from tests.support.load import Tally, Target, expect_exact, send, settled, zone_at_noon

RUNBOOK = Path(__file__).parents[2] / "docs" / "operating.md"
TARGETS = [Target(f"site{n}.example.vn", "/trang") for n in range(3)]

pytestmark = pytest.mark.slow


def blocks(heading: str) -> list[str]:
    """Find what a section says to type."""
    _, _, rest = RUNBOOK.read_text("utf-8").partition(f"\n## {heading}\n")
    section, _, _ = rest.partition("\n## ")
    return re.findall("```sh\n(.+?)```", section, re.DOTALL)


def type_in(directory: Path, lines: str, code: int = 0) -> str:
    """Type some lines in a directory; return what they print, on either stream."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HITCOUNTER_")}
    path = f"{PROGRAM.parent}:{os.environ['PATH']}"
    typed = subprocess.run(
        ["sh", "-ec", lines],
        cwd=directory,
        env=environment | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert typed.returncode == code, typed.stdout
    return typed.stdout


async def test_a_backup_brings_all_numbers_back(
    start_service: StartService, tmp_path: Path
) -> None:
    back_up, restore = blocks("Backup and restore")
    settings = {"data_dir": tmp_path / "data", "timezone": zone_at_noon()}
    service = start_service(**settings)
    tally = Tally()
    await send(service.port, tally, TARGETS * 20, 4)
    type_in(tmp_path, back_up)
    assert service.stop() == 0
    listed = type_in(tmp_path, restore)
    for target in TARGETS:
        assert re.search(rf"^{target.site}\s+20\s+1\s", listed, re.MULTILINE)
    await expect_exact(start_service(**settings).port, tally)


async def test_on_another_host_all_is_counted_also_what_waits_in_a_journal(
    start_service: StartService, tmp_path: Path
) -> None:
    (moving,) = blocks("Moving to another host")
    pack, unpack = moving.split("\n", 1)
    old, new = tmp_path / "old", tmp_path / "new"
    new.mkdir()
    zone = zone_at_noon()
    service = start_service(data_dir=old / "data", timezone=zone, store_timeout_s=1)
    tally = Tally()
    await send(service.port, tally, TARGETS * 5, 4)
    for pid in service.store_pids():
        os.kill(pid, signal.SIGSTOP)  # until the service ends, which kills it
    await send(service.port, tally, TARGETS * 5, 4)
    service.stop()
    assert tally.states["stored"] > 0
    type_in(old, pack)
    shutil.move(old / "counter.tar", new)
    type_in(new, unpack)
    moved = start_service(data_dir=new / "data", timezone=zone)
    await settled(moved)
    await expect_exact(moved.port, tally)


async def test_a_damaged_log_is_read_and_left_out_of_a_copy_and_stays_as_it_is(
    start_service: StartService, tmp_path: Path
) -> None:
    set_aside, look, see, cut, set_numbers, put_an_export_in = blocks("A damaged log of the store")
    settings = {"data_dir": tmp_path / "data", "timezone": zone_at_noon()}
    service = start_service(**settings)
    await send(service.port, Tally(), [Target("demo")] * 3, 1)
    (tmp_path / "numbers.ndjson").write_text(service.run("export").stdout)
    assert service.stop() == 0
    log = tmp_path / "data/store/appendonlydir/appendonly.aof.1.incr.aof"
    whole = log.read_bytes()
    last_hit = whole.rindex(b":site:demo:total")
    broken_at = whole.rindex(b"\r\n*", 0, last_hit) + 2  # where its command begins
    damaged = whole[:broken_at] + b"?" + whole[broken_at + 1 :]
    log.write_bytes(damaged)
    type_in(tmp_path, set_aside)
    assert f"of which {broken_at} of {len(whole)} bytes are whole" in type_in(tmp_path, look, 1)
    assert "hc:{0}:site:demo:total" in type_in(tmp_path, see.replace("6133", f"{broken_at + 1}"))
    shown = type_in(tmp_path, cut.replace("6132", f"{broken_at}"))
    assert re.search("^Tổng truy cập: [0-9]$", shown, re.MULTILINE)
    type_in(tmp_path, set_numbers)
    assert "Tổng truy cập: 1.619.939" in type_in(tmp_path, "hitcounter show demo")
    aside = tmp_path / "store.damaged" / log.relative_to(tmp_path / "data/store")
    assert aside.read_bytes() == damaged
    type_in(tmp_path, put_an_export_in)
    assert "Tổng truy cập: 3" in type_in(tmp_path, "hitcounter show demo")
