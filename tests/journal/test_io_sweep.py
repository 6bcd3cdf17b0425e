"""Every system call of the journal fails once, and from then on, one after the other.

An owner in a process of its own works while strace lets its n-th call fail, for n = 1, 2, 3 … until
there are no more. Whatever happens, an append that returned is there for whoever reads the file
next, one that was refused is not, and one of which nobody knows is there as a whole or not at all.
"""

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.journal.conftest import Errors
from tests.journal.entries import Sums, flat, found_in_one, names, whole
from tests.journal.injection import CALLS, KILL, Faults
from tests.journal.owner import (
    DONE,
    NOBODY_KNOWS,
    NOT_WRITTEN,
    WRITER,
    Owner,
    owner_of,
    read,
)

pytestmark = [pytest.mark.usefixtures("needs_injection"), pytest.mark.timeout(300)]

FILE = f"0-{WRITER}-0.journal"
# The second takes more than a page of the file, so its commit takes several writes.
N_PAGES = {1: 3, 2: 100, 3: 3}
ALL = flat(whole(number, n_pages) for number, n_pages in N_PAGES.items())
# Four such entries are more than the log takes before it is folded into the file.
MANY_PAGES = 20_000
MANY = flat(whole(number, MANY_PAGES) for number in range(1, 6))

ON_FULL_DISKS = ("open", "write", "sync")
FAULTS = [(calls, "EIO") for calls in CALLS] + [(calls, "ENOSPC") for calls in ON_FULL_DISKS]

each_fault = pytest.mark.parametrize(("calls", "error"), FAULTS)
once_and_lasting = pytest.mark.parametrize("lasting", ["", "+"], ids=["once", "lasting"])


def append_all(owner: Owner, n_pages_of: Mapping[int, int] = N_PAGES) -> dict[int, str]:
    """Append until nobody knows what is there: then a writer ends."""
    answers = {}
    for number, n_pages in n_pages_of.items():
        answers[number] = owner.ask("append", number, n_pages)
        if answers[number].startswith(NOBODY_KNOWS):
            break
    return answers


def expect_truth(answers: dict[int, str], sums: Sums, written: Sums = ALL) -> None:
    """Expect that what was said of each entry is so, and that whatever is there is whole."""
    assert sums == {number: written[number] for number in sums}
    for number, answer in answers.items():
        assert answer == DONE or answer.startswith((NOT_WRITTEN, NOBODY_KNOWS))
        assert answer != DONE or number in sums, f"{number} was written and is gone"
        assert not answer.startswith(NOT_WRITTEN) or number not in sums, f"{number} was refused"


@pytest.mark.slow
@once_and_lasting
@each_fault
def test_what_was_written_while_calls_fail_is_there(
    tmp_path: Path, calls: str, error: str, lasting: str
) -> None:
    faults = Faults(tmp_path, calls, error, lasting)
    for fault in faults:
        with owner_of(fault.directory) as owner:
            assert owner.ask("create", WRITER) == DONE
            with fault.strike(owner.fork.pid):
                answers = append_all(owner)
                owner.kill()
        expect_truth(answers, asyncio.run(found_in_one(fault.directory)))
    assert faults.n_struck >= len(N_PAGES) or calls not in ("write", "sync")


@pytest.mark.slow
@pytest.mark.parametrize(("calls", "step"), [("write", 397), ("sync", 1)])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_what_was_written_while_the_log_is_folded_into_the_file_is_there(
    tmp_path: Path, calls: str, step: int, error: str
) -> None:
    faults = Faults(tmp_path, calls, error, step=step)
    for fault in faults:
        with owner_of(fault.directory) as owner:
            owner.ask("create", WRITER)
            answers = append_all(owner, dict.fromkeys((1, 2, 3), MANY_PAGES))
            with fault.strike(owner.fork.pid):
                answers |= append_all(owner, dict.fromkeys((4, 5), MANY_PAGES))
                owner.kill()
        assert answers[1] == answers[2] == answers[3] == DONE
        expect_truth(answers, asyncio.run(found_in_one(fault.directory)), MANY)
    assert faults.n_struck >= 3


@pytest.mark.slow
@once_and_lasting
@each_fault
def test_a_journal_is_made_whole_with_its_log_while_calls_fail_or_not_at_all(
    tmp_path: Path, calls: str, error: str, lasting: str
) -> None:
    faults = Faults(tmp_path, calls, error, lasting)
    for fault in faults:
        answers = {}
        with owner_of(fault.directory) as owner:
            with fault.strike(owner.fork.pid):
                made = owner.ask("create", WRITER)
            files = names(fault.directory)
            if made == DONE:
                answers = append_all(owner)
        assert (made, files) == (DONE, {FILE, f"{FILE}-wal"}) or made.startswith(NOT_WRITTEN)
        assert made == DONE or files == set() or (calls, lasting) == ("unlink", "+")
        assert set(answers.values()) <= {DONE}
        expect_truth(answers, asyncio.run(found_in_one(fault.directory)))


@pytest.mark.slow
@pytest.mark.parametrize("order", ["create", "remove", "close", "adopt"])
@pytest.mark.parametrize("calls", ["open", "write", "sync", "truncate", "unlink", "rename"])
def test_whoever_is_killed_at_any_call_leaves_what_was_written_or_nothing_and_no_doubt(
    tmp_path: Path, left: Path, errors: Errors, calls: str, order: str
) -> None:
    for fault in Faults(tmp_path, calls, KILL):
        if order == "adopt":
            shutil.copytree(left, fault.directory, dirs_exist_ok=True)
        with owner_of(fault.directory) as owner:
            if order in ("remove", "close"):
                owner.ask("create", WRITER)
                append_all(owner)
            with fault.strike(owner.fork.pid):
                owner.ask(order, WRITER) if order == "create" else owner.ask(order)
                owner.kill()
        sums = asyncio.run(found_in_one(fault.directory))
        assert sums == {} if order == "create" else sums == ALL or (order == "remove" and not sums)
        assert not any(name.endswith(".aside") for name in names(fault.directory))
    assert errors() == []


@pytest.fixture(scope="session")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Leave a journal behind, as a killed worker does; give its directory."""
    directory = tmp_path_factory.mktemp("left")
    with owner_of(directory) as owner:
        assert owner.ask("create", WRITER) == DONE
        assert set(append_all(owner).values()) == {DONE}
    return directory


@pytest.mark.slow
@once_and_lasting
@each_fault
def test_a_journal_that_is_adopted_while_calls_fail_is_read_rightly_or_stays(
    tmp_path: Path, left: Path, calls: str, error: str, lasting: str
) -> None:
    faults = Faults(tmp_path, calls, error, lasting)
    for fault in faults:
        shutil.copytree(left, fault.directory, dirs_exist_ok=True)
        with owner_of(fault.directory) as adopter, fault.strike(adopter.fork.pid):
            adopter.ask("adopt")
            sums = adopter.ask("sums")
            is_read = sums.startswith("{")
            removed = adopter.ask("remove") if is_read else ""
        assert not is_read or (read(sums), removed) == (ALL, DONE)
        remaining = asyncio.run(found_in_one(fault.directory))
        assert remaining == ALL or (is_read and remaining == {})


@pytest.mark.slow
@pytest.mark.parametrize("calls", ["open", "read", "lock"])
def test_a_journal_that_cannot_be_adopted_now_is_adopted_later(
    tmp_path: Path, left: Path, calls: str
) -> None:
    faults = Faults(tmp_path, calls, "EIO")
    for fault in faults:
        shutil.copytree(left, fault.directory, dirs_exist_ok=True)
        with owner_of(fault.directory) as adopter:
            with fault.strike(adopter.fork.pid):
                adopter.ask("adopt")
            assert adopter.ask("adopt") == FILE
