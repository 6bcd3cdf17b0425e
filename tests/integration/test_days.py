"""What operations write down where a day begins."""

import asyncio
from pathlib import Path

import pytest

from hitcounter.config import Config
from hitcounter.operations import days
from tests.support.disks import fill, small_disk
from tests.support.waiting import comes_true


@pytest.mark.slow
async def test_what_a_full_disk_refuses_is_written_down_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "metrics", "1m") as directory:
        fill(directory / "fill")
        noting = asyncio.create_task(days.note(directory, [Config().site("demo")]))
        await asyncio.sleep(0)
        assert days.read(directory) == {}
        (directory / "fill").unlink()
        await comes_true(lambda: "demo" in days.read(directory), "the day is written down")
        noting.cancel()
        await asyncio.wait([noting])
