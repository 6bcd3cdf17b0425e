"""Journals that the service may not read: it refuses to start, or says that hits are missing."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hitcounter.exactly_once.journals import Journals
from tests import conftest
from tests.conftest import PROGRAM, StartService, run_command
from tests.journal.entries import MAX_BYTES, entry
from tests.support.load import ask, metric
from tests.support.waiting import comes_true

WITHOUT = "--bounding-set=-dac_override,-dac_read_search"


@pytest.fixture
def bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let permissions bind the service, also where root runs it."""
    if os.geteuid():
        return
    setpriv = shutil.which("setpriv")
    if setpriv is None or subprocess.run([setpriv, WITHOUT, "true"], check=False).returncode:
        pytest.skip("root cannot be bound by permissions here")
    program = tmp_path / "hitcounter"
    program.write_text(f'#!/bin/sh\nexec {setpriv} {WITHOUT} {PROGRAM} "$@"\n')
    program.chmod(0o700)
    monkeypatch.setattr(conftest, "PROGRAM", program)


@pytest.fixture
async def journal(tmp_path: Path) -> Path:
    """Leave a journal behind, as a service does that ends; give its path."""
    directory = tmp_path / "data" / "journal"
    journals = Journals(directory, MAX_BYTES)
    journals.prepare()
    left = await journals.create("9f")
    await left.append([entry(1, "/a")])
    await left.close()
    return directory / left.name


@pytest.mark.slow
@pytest.mark.usefixtures("bound")
@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_a_directory_that_cannot_be_listed_or_written_is_refused(journal: Path, mode: int) -> None:
    directory = journal.parent
    directory.chmod(mode)
    for command in ("serve", "check"):
        done = run_command(command, data_dir=str(directory.parent), port="0")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(f"hitcounter: cannot list {directory} and")
    directory.chmod(0o700)


@pytest.mark.slow
@pytest.mark.usefixtures("bound")
async def test_a_file_that_cannot_be_read_is_said_everywhere_until_it_can(
    start_service: StartService, journal: Path
) -> None:
    journal.chmod(0o000)
    service = await asyncio.to_thread(start_service, operations_port=0)
    await comes_true(lambda: f"{journal} cannot be read" in service.log, "the log says it")
    assert await metric(service, "hitcounter_journals_unread") == 1
    (warning,) = (await ask(service.operations_port, "GET", "/readyz")).json["warnings"]
    assert warning.startswith("1 of what is in data_dir/journal cannot be read")
    checked = service.run("check").stdout
    assert f"journal: {journal} cannot be read by this user" in checked
    assert "warning: 1 of what is in data_dir/journal cannot be read by the service" in checked
    journal.chmod(0o600)
    done = f"the store holds all of the journal {journal.name}"
    await comes_true(lambda: done in service.log, "it is replayed")
    assert service.log.count("cannot be read") == 1
    assert await metric(service, "hitcounter_journals_unread") == 0
    assert (await ask(service.operations_port, "GET", "/readyz")).json["warnings"] == []
    numbers = (await ask(service.port, "GET", "/v1/sites/demo/counts")).json
    assert numbers["total"] == 1
