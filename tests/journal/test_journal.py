"""The journal on real files: what returned is there, what failed is not, and only one has it."""

import asyncio
import datetime as dt
import os
import random
import shutil
import sqlite3
import stat
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitcounter.errors import JournalBrokenError, JournalError, StartError
from hitcounter.exactly_once.increments import Pageviews
from hitcounter.exactly_once.journal import Journal
from hitcounter.exactly_once.journal_file import PAGE_BYTES, discard, locked
from hitcounter.exactly_once.journals import Journals, unreadable
from hitcounter.exactly_once.records import Entry
from hitcounter.store.keys import bucket_key, page_keys, site_keys
from tests.journal.conftest import Errors
from tests.journal.disk import broken_log, free_bytes, full_log, read_only
from tests.journal.entries import (
    DAY,
    DEMO,
    LIMIT,
    MAX_BYTES,
    Sums,
    entry,
    flat,
    found,
    found_in_one,
    names,
    whole,
)
from tests.journal.injection import injected
from tests.journal.owner import DONE, WRITER, owner_of, read
from tests.speeds import examples
from tests.support.waiting import until

FILE = f"0-{WRITER}-0.journal"
THREE = [whole(1), whole(2), whole(3)]


async def made(directory: Path, max_bytes: int = MAX_BYTES) -> Journal:
    """Make the journal of a writer."""
    return await Journals(directory, max_bytes).create(WRITER)


async def closed(directory: Path, *entries: Entry, name: str = FILE) -> Path:
    """Leave a journal behind that was closed; give its path."""
    journal = await made(directory)
    for each in entries:
        await journal.append([each])
    await journal.close()
    return (directory / FILE).rename(directory / name)


@pytest.fixture
def left(directory: Path) -> Path:
    """Leave a journal of three entries behind, as a killed worker does; give its path."""
    with owner_of(directory) as owner:
        assert owner.ask("create", WRITER) == DONE
        assert [owner.ask("append", number, 3) for number in (1, 2, 3)] == [DONE] * 3
    return directory / FILE


async def test_a_sync_goes_to_the_disk_itself_where_the_system_stops_before(
    left: Path,
) -> None:
    journals = Journals(left.parent, MAX_BYTES)
    (adopted,) = await journals.orphans()
    for journal in (adopted, await journals.create("other")):
        for pragma in ("fullfsync", "checkpoint_fullfsync"):
            read = journal._connection.execute(f"PRAGMA {pragma}")
            assert read.fetchone() == (1,)
        await journal.close()


# What is written and read

days = st.dates(min_value=dt.date(1970, 1, 2), max_value=dt.date(2200, 1, 1))
site_names = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,62}", fullmatch=True)
odd_paths = st.sampled_from(["/{0}:page:demo:/", "/a:b:", "/{}", "/tin-tức/ü", "/a\0b\n", "/😀"])
long_paths = st.sampled_from(["/" + "a" * 511, "/" + "ư" * 255, "/" + "😀" * 127])
paths = odd_paths | long_paths | st.text(max_size=20).map("/".__add__)
numbers_of_hits = st.integers(min_value=1, max_value=2**53)
sites = st.builds(lambda name, day: site_keys(0, name, day.isoformat()), site_names, days)
pages = st.builds(page_keys, st.just(0), site_names, paths, st.integers(0, 10**9))
pageviews = st.builds(
    Pageviews,
    st.dictionaries(sites, numbers_of_hits, max_size=4),
    st.dictionaries(pages, numbers_of_hits, max_size=4),
)
record_numbers = st.integers(min_value=1, max_value=5) | st.integers(min_value=1, max_value=2**53)
appends = st.lists(
    st.lists(st.builds(Entry, record_numbers, pageviews, st.just(0)), max_size=4), max_size=4
)


def summed(entries: list[Entry]) -> Sums:
    """Sum up entries by number, as whoever reads a journal should find them."""
    totals: dict[int, Counter[str]] = {}
    for each in entries:
        for number, counters in flat([each]).items():
            totals[number] = totals.get(number, Counter()) + Counter(counters)
    return {number: dict(counters) for number, counters in totals.items()}


@settings(max_examples=examples(60))
@given(appends)
def test_what_is_appended_is_read_back_as_sums_by_number(written: list[list[Entry]]) -> None:
    async def appended_and_read(directory: Path) -> tuple[list[Entry], list[Entry]]:
        journal = await made(directory)
        for entries in written:
            await journal.append(entries)
        mine = await journal.sums()
        await journal.close()
        theirs = []
        for successor in await Journals(directory, MAX_BYTES).orphans():
            theirs += await successor.sums()
            await successor.remove()
        return mine, theirs

    with tempfile.TemporaryDirectory() as path:
        mine, theirs = asyncio.run(appended_and_read(Path(path)))
        assert names(Path(path)) == set()
    expected = summed([each for entries in written for each in entries])
    assert [each.number for each in mine] == sorted(expected)
    assert flat(mine) == flat(theirs) == expected


async def test_sums_name_all_that_the_commit_of_a_record_needs(directory: Path) -> None:
    journal = await made(directory)
    await journal.append([entry(1, "/a", "/a")])
    ((_, pageviews, _),) = await journal.sums()
    ((site, n_site),), ((page, n_page),) = pageviews.sites.items(), pageviews.pages.items()
    assert (site.shown, site.counted, n_site) == (DEMO.shown, DEMO.counted, 2)
    assert (page.count_key, page.limit, n_page) == ("hc:{0}:pages:demo", LIMIT, 2)
    await journal.close()


async def test_a_file_holds_sites_days_paths_and_numbers_and_nothing_else(directory: Path) -> None:
    path = await closed(directory, entry(7, "/tin-tuc/1", "/tin-tuc/1"))
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (2,)
        assert file.execute("SELECT * FROM head").fetchall() == [(2_900, 5, 2, "pageviews robots")]
        ((_, written_at, packed),) = file.execute("SELECT * FROM log").fetchall()
    assert 0 <= time.time() - written_at < 3600
    sites, pages = [["demo", "2019-04-19", 2]], [["demo", "/tin-tuc/1", LIMIT, 2]]
    assert msgspec.msgpack.decode(zlib.decompress(packed)) == [[0, 7, sites, pages, {}]]


async def test_an_append_tells_how_much_of_the_disk_is_taken(directory: Path) -> None:
    journal = await made(directory)
    for number in range(1, 4):
        n_bytes = await journal.append([whole(number)])
        assert n_bytes == sum(path.stat().st_size for path in directory.iterdir())
    await journal.close()


async def test_a_journal_knows_its_writer_and_the_lanes_of_its_entries(directory: Path) -> None:
    journal = await Journals(directory, MAX_BYTES).create("9f")
    for lane in (7, 0, 7):
        await journal.append([Entry(1, Pageviews({site_keys(lane, "demo", DAY): 1}), lane)])
    await journal.close()
    (successor,) = await Journals(directory, MAX_BYTES).orphans()
    assert (successor.writer, successor.name) == ("9f", journal.name)
    sums = await successor.sums()
    totals = [bucket_key(lane, "demo", "total") for lane in (0, 7)]
    assert [(each.lane, each.number) for each in sums] == [(0, 1), (7, 1)]
    assert [each.pageviews.counters()[total] for each, total in zip(sums, totals, strict=True)] == [
        1,
        2,
    ]
    await successor.close()


async def test_a_name_is_never_used_again(directory: Path) -> None:
    journals, seen = Journals(directory, MAX_BYTES), set()
    for _ in range(3):
        journal = await journals.create(WRITER)
        seen.add(journal.name)
        await journal.remove()
    assert len(seen) == 3


# The directory


def test_the_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "data" / "journal"
    for _ in range(2):
        Journals(directory, MAX_BYTES).prepare()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(StartError, match=f"cannot make {tmp_path}/data/journal: "):
        Journals(tmp_path / "data" / "journal", MAX_BYTES).prepare()


def test_a_directory_that_cannot_be_written_is_refused_and_its_files_are_said_to_be_unreadable(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if os.geteuid():
        directory = tmp_path
        no_access: AbstractContextManager[None] = unwritable(directory)
    else:  # whom only a disk refuses
        directory = request.getfixturevalue("small_disk")
        no_access = read_only(directory)
    file = directory / FILE
    file.touch()
    assert not unreadable(file)
    journals = Journals(directory, MAX_BYTES)
    journals.prepare()
    with no_access:
        with pytest.raises(StartError, match=f"cannot list {directory} and write to it: make it"):
            journals.prepare()
        assert unreadable(file) or os.geteuid()


@contextmanager
def unwritable(directory: Path) -> Iterator[None]:
    """Take the right to write to a directory."""
    directory.chmod(0o500)
    yield
    directory.chmod(0o700)


async def test_without_its_directory_nothing_is_written_and_nothing_found(tmp_path: Path) -> None:
    journals = Journals(tmp_path / "nowhere", MAX_BYTES)
    with pytest.raises(JournalError) as refused:
        await journals.create(WRITER)
    assert refused.value.code == "journal_failed"
    assert isinstance(refused.value.__cause__, FileNotFoundError)
    assert await journals.orphans() == []


async def test_without_its_log_a_journal_is_not_made(directory: Path) -> None:
    in_the_way = directory / f"{FILE}-wal"
    in_the_way.mkdir()
    with pytest.raises(JournalError, match=r"the journal fails$") as refused:
        await made(directory)
    assert refused.value.code == "journal_failed"
    assert names(directory) == {in_the_way.name}


async def test_a_journal_that_would_be_without_a_log_is_not_made(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SQLite goes on without one also after some errors of the disk: see the sweep of its calls.
    without = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    monkeypatch.setattr("hitcounter.exactly_once.journal_file.connect", lambda *_: without)
    with pytest.raises(JournalError) as refused:
        await made(directory)
    assert refused.value.code == "journal_failed"
    assert "no write-ahead log, but memory" in str(refused.value.__cause__)
    assert names(directory) == set()


async def test_a_directory_that_vanishes_takes_the_journal_along_and_disturbs_nobody(
    directory: Path, errors: Errors
) -> None:
    journals = Journals(directory, MAX_BYTES)
    journal = await journals.create(WRITER)
    await journal.append([whole(1)])
    shutil.rmtree(directory)
    await journal.remove()
    assert await journals.orphans() == []
    assert "cannot remove the journal" in errors()[0]
    journals.prepare()
    again = await journals.create(WRITER)
    await again.append([whole(1)])
    await again.close()


async def test_where_nothing_can_be_written_no_journal_is_made_or_lost(
    small_disk: Path, errors: Errors
) -> None:
    await closed(small_disk, *THREE)
    with read_only(small_disk):
        with pytest.raises(JournalError) as refused:
            await made(small_disk)
        assert refused.value.code == "journal_failed"
        assert await found(small_disk) == {}
    assert "cannot be read" in errors()[0]
    assert await found_in_one(small_disk) == flat(THREE)


async def test_a_log_without_its_file_is_no_matter_where_nothing_can_be_removed(
    small_disk: Path,
) -> None:
    await closed(small_disk, *THREE)
    (small_disk / "0-aa-0.journal-wal").touch()
    with read_only(small_disk):
        assert await found(small_disk) == {}
    assert await found_in_one(small_disk) == flat(THREE)


async def test_what_is_written_to_a_file_that_is_gone_is_not_acknowledged(directory: Path) -> None:
    journal = await made(directory)
    await journal.append([whole(1)])
    shutil.rmtree(directory)
    with pytest.raises((JournalError, JournalBrokenError)):
        await journal.append([whole(2)])
    await journal.close()


# Who owns a file


def test_nobody_else_gets_a_journal_while_its_owner_lives(directory: Path) -> None:
    with owner_of(directory) as owner, owner_of(directory) as other:
        owner.ask("create", WRITER)
        assert other.ask("adopt") == ""
        assert owner.ask("append", 1, 3) == DONE
        assert other.ask("adopt") == ""
        assert asyncio.run(found(directory)) == {}
        owner.kill()
        assert other.ask("adopt") == FILE
        assert asyncio.run(found(directory)) == {}
        assert read(other.ask("sums")) == flat([whole(1)])
        assert other.ask("remove") == DONE
    assert names(directory) == set()


def test_a_journal_that_its_owner_closed_is_adopted(directory: Path) -> None:
    with owner_of(directory) as owner, owner_of(directory) as other:
        owner.ask("create", WRITER)
        owner.ask("append", 1, 3)
        owner.ask("close")
        assert owner.ask("adopt") == ""  # it was its own
        assert other.ask("adopt") == FILE


@pytest.mark.parametrize("seed", range(5))
def test_all_that_was_acknowledged_is_there_after_a_kill(directory: Path, seed: int) -> None:
    with owner_of(directory) as owner:
        owner.ask("create", WRITER)
        for number in range(1, 200):
            owner.tell("append", number, 20)
        n_read = random.Random(seed).randint(0, 150)
        answers = [owner.answer() for _ in range(n_read)]
        owner.kill()
        while answer := owner.answer():  # those that it gave before it was killed
            answers.append(answer)
    assert set(answers) <= {DONE}
    sums = asyncio.run(found_in_one(directory))
    assert len(answers) <= len(sums) <= len(answers) + 1
    assert sums == flat(whole(number, 20) for number in range(1, len(sums) + 1))


def test_whatever_a_power_loss_leaves_of_the_log_holds_whole_appends(
    left: Path, tmp_path: Path
) -> None:
    wal = left.with_name(f"{FILE}-wal")
    n_bytes, ends = wal.stat().st_size, set()
    draw = random.Random(0)
    for cut in [0, 31, 32, n_bytes - 1, n_bytes, *(draw.randrange(n_bytes) for _ in range(40))]:
        copy = tmp_path / f"cut-{cut}"
        shutil.copytree(left.parent, copy, dirs_exist_ok=True)
        os.truncate(copy / wal.name, cut)
        sums = asyncio.run(found_in_one(copy))
        assert sums == flat(THREE[: len(sums)])
        ends.add(len(sums))
    assert ends == {0, 1, 2, 3}


@pytest.mark.slow
def test_what_was_folded_into_the_file_is_found_beside_what_is_in_its_log(directory: Path) -> None:
    with owner_of(directory) as owner:
        owner.ask("create", WRITER)
        for number in range(1, 5):  # a log of a thousand pages is folded into its file
            assert owner.ask("append", number, 20_000) == DONE
        assert (directory / FILE).stat().st_size > 1 << 20
        assert owner.ask("append", 5, 3) == DONE
    sums = asyncio.run(found_in_one(directory))
    assert sums == flat([*(whole(number, 20_000) for number in range(1, 5)), whole(5)])


async def test_a_file_that_is_removed_while_we_lock_it_is_not_adopted(
    left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked_late(path: Path) -> sqlite3.Connection:
        connection = locked(path)
        discard(path)  # as an owner does, who still held the lock when we opened the file
        return connection

    monkeypatch.setattr("hitcounter.exactly_once.journal_file.locked", locked_late)
    assert await found(left.parent) == {}
    assert await found(left.parent) == {}
    assert names(left.parent) == set()


@pytest.mark.slow
@pytest.mark.usefixtures("needs_injection")
def test_a_file_that_was_removed_between_opening_and_locking_is_not_adopted(
    left: Path, tmp_path: Path
) -> None:
    slow = "?fcntl,?fcntl64:delay_enter=2000000:when=1"
    with owner_of(left.parent) as adopter:
        pid = adopter.fork.pid
        with injected(pid, [left], slow, tmp_path / "strace"):
            adopter.tell("adopt")
            until(lambda: is_open(pid, left), "the file is open")
            for path in left.parent.iterdir():
                path.unlink()
            assert adopter.answer() == ""
    assert names(left.parent) == set()


def is_open(pid: int, path: Path) -> bool:
    """Tell whether a process has a file open."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            if link.readlink() == path:
                return True
    return False


# What nobody needs


async def test_a_removed_journal_leaves_nothing(directory: Path) -> None:
    journal = await made(directory)
    for number in range(1, 6):
        await journal.append([whole(number, 2_000)])
    assert names(directory) == {FILE, f"{FILE}-wal"}
    await journal.remove()
    assert names(directory) == set()


async def test_a_file_that_its_writer_had_no_time_to_lock_goes_after_a_while(
    directory: Path,
) -> None:
    path = directory / FILE
    path.touch()
    assert await found(directory) == {}
    assert path.exists()
    os.utime(path, (0, time.time() - 61))
    assert await found(directory) == {}
    assert not path.exists()


async def test_a_journal_in_which_nothing_was_written_goes_and_leaves_nothing(
    directory: Path,
) -> None:
    await closed(directory)
    assert await found(directory) == {}
    assert names(directory) == set()


def test_a_journal_whose_writer_was_killed_before_it_wrote_leaves_nothing(directory: Path) -> None:
    with owner_of(directory) as owner:
        owner.ask("create", WRITER)
    assert asyncio.run(found(directory)) == {}
    assert names(directory) == set()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_half_made_file_goes(directory: Path, errors: Errors, steps: int) -> None:
    with closing(sqlite3.connect(directory / FILE)) as file:
        for pragma in MAKING[:steps]:
            file.execute(f"PRAGMA {pragma}")
    assert asyncio.run(found(directory)) == {}
    assert names(directory) == set()
    assert errors() == []


def test_a_file_whose_making_was_rolled_back_goes(directory: Path, errors: Errors) -> None:
    with closing(sqlite3.connect(directory / FILE, isolation_level=None)) as file:
        file.execute("BEGIN IMMEDIATE")
        file.execute("COMMIT")
    assert (directory / FILE).stat().st_size > 0
    assert asyncio.run(found(directory)) == {}
    assert names(directory) == set()
    assert errors() == []


MAKING = [f"application_id = {0x68630001}", "locking_mode = EXCLUSIVE", "journal_mode = WAL"]


def test_what_a_writer_that_was_killed_left_of_a_removal_goes(left: Path, errors: Errors) -> None:
    left.rename(left.with_suffix(".removed"))
    assert asyncio.run(found(left.parent)) == {}
    assert names(left.parent) == set()
    assert errors() == []


def test_an_empty_log_without_its_file_goes(directory: Path) -> None:
    for log in ("-wal", "-journal"):
        (directory / f"{FILE}{log}").touch()
    assert asyncio.run(found(directory)) == {}
    assert names(directory) == set()


# What was written last is in the log


def aside_in(path: Path, errors: Errors) -> str:
    """Expect that a file was set aside with one error, and is adopted no more; give its name."""
    held = path.read_bytes()
    journals = Journals(path.parent, MAX_BYTES)
    for _ in range(2):
        assert asyncio.run(journals.orphans()) == []
    (line,) = errors()
    (name,) = names(path.parent)
    assert name == f"{path.name}.aside"
    assert str(path.parent / name) in line
    assert (path.parent / name).read_bytes() == held
    errors.caplog.clear()
    return name


def test_a_file_without_the_log_of_its_killed_writer_is_set_aside_until_the_log_is_back(
    left: Path, tmp_path: Path, errors: Errors
) -> None:
    log = left.with_name(f"{FILE}-wal")
    log.rename(tmp_path / log.name)
    name = aside_in(left, errors)
    (tmp_path / log.name).rename(log)
    (left.parent / name).rename(left)
    assert asyncio.run(found_in_one(left.parent)) == flat(THREE)


@pytest.mark.slow
def test_a_part_of_what_was_written_is_not_taken_for_all(directory: Path, errors: Errors) -> None:
    with owner_of(directory) as owner:
        owner.ask("create", WRITER)
        for number in range(1, 6):  # of which a part is folded into the file
            assert owner.ask("append", number, 20_000) == DONE
    (directory / f"{FILE}-wal").unlink()
    aside_in(directory / FILE, errors)


def test_a_log_without_its_file_is_set_aside_until_the_file_is_back(
    left: Path, tmp_path: Path, errors: Errors
) -> None:
    left.rename(tmp_path / FILE)
    log = left.with_name(f"{FILE}-wal")
    name = aside_in(log, errors)
    (tmp_path / FILE).rename(left)
    (left.parent / name).rename(log)
    assert asyncio.run(found_in_one(left.parent)) == flat(THREE)


def test_a_killed_writers_file_that_was_adopted_and_left_needs_no_log(
    left: Path, errors: Errors
) -> None:
    for _ in range(2):
        assert asyncio.run(found_in_one(left.parent)) == flat(THREE)
        assert names(left.parent) == {FILE}
    assert errors() == []


def test_a_killed_writers_file_that_another_program_closed_needs_no_log(
    left: Path, errors: Errors
) -> None:
    with closing(sqlite3.connect(left, isolation_level=None)) as file:
        # So do older versions of ours, before they say that they cannot read it.
        file.execute("PRAGMA locking_mode = EXCLUSIVE")
        file.execute("BEGIN IMMEDIATE")
        file.execute("COMMIT")
    assert names(left.parent) == {FILE}
    assert asyncio.run(found_in_one(left.parent)) == flat(THREE)
    assert errors() == []


async def test_a_log_that_has_grown_is_brought_into_the_file_and_nothing_is_missing(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: Errors
) -> None:
    monkeypatch.setattr("hitcounter.exactly_once.journal._MAX_LOG_BYTES", 1)  # every second time
    journal = await made(directory)
    for number in range(1, 6):
        await journal.append([whole(number)])
        killed = tmp_path / f"killed{number}"
        shutil.copytree(directory, killed)
        expected = flat(whole(each) for each in range(1, number + 1))
        assert await found_in_one(killed) == expected
    assert (directory / FILE).stat().st_size > PAGE_BYTES
    await journal.close()
    assert await found_in_one(directory) == expected
    assert errors() == []


def packed_by_0_1(number: int, pageviews: Pageviews) -> bytes:
    """Pack an entry as version 0.1 did."""
    sites = [(site.today, n) for site, n in pageviews.sites.items()]
    pages = [(page.key, page.limit, n) for page, n in pageviews.pages.items()]
    return zlib.compress(msgspec.msgpack.encode([(number, sites, pages)]))


def left_by_0_1(path: Path, *entries: Entry) -> "sqlite3.Connection":
    """Write a file as version 0.1 did; return its open connection."""
    file = sqlite3.connect(path, isolation_level=None)
    for statement in (
        "PRAGMA locking_mode = EXCLUSIVE",
        "PRAGMA journal_mode = WAL",
        "BEGIN IMMEDIATE",
        "CREATE TABLE log (id INTEGER PRIMARY KEY, written_at REAL NOT NULL, entries BLOB)",
        "PRAGMA user_version = 1",
        "COMMIT",
    ):
        file.execute(statement)
    for each in entries:
        row = (time.time(), packed_by_0_1(each.number, each.pageviews))
        file.execute("INSERT INTO log (written_at, entries) VALUES (?, ?)", row)
    return file


def test_what_version_0_1_left_is_replayed_whether_it_was_killed_or_ended(
    directory: Path, tmp_path: Path, errors: Errors
) -> None:
    with closing(left_by_0_1(tmp_path / FILE, *THREE)):
        for log in ("", "-wal"):
            shutil.copy(tmp_path / f"{FILE}{log}", directory / f"{FILE}{log}")
        assert asyncio.run(found_in_one(directory)) == flat(THREE)
    shutil.rmtree(directory)
    Journals(directory, 0).prepare()
    shutil.copy(tmp_path / FILE, directory / FILE)
    assert asyncio.run(found_in_one(directory)) == flat(THREE)
    assert errors() == []


def test_a_file_of_version_0_1_that_may_lack_its_log_is_set_aside(
    directory: Path, tmp_path: Path, errors: Errors
) -> None:
    with closing(left_by_0_1(tmp_path / FILE, *THREE)):
        shutil.copy(tmp_path / FILE, directory / FILE)
    aside_in(directory / FILE, errors)


# What cannot be replayed


@pytest.fixture
def aged(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time go on, as far as anybody asks for it."""

    def go_on(seconds: float) -> None:
        now_s = time.time() + seconds
        monkeypatch.setattr("hitcounter.exactly_once.journals.time.time", lambda: now_s)

    return go_on


DAY_S = 24 * 3600


@pytest.mark.parametrize(
    ("days", "words"),
    [(29, ""), (45, "before now"), (56 * 365, "before now"), (-1, "after now")],
)
async def test_a_journal_is_replayed_whatever_the_clock_says_which_is_reported_if_it_is_odd(
    left: Path, aged: Callable[[float], None], errors: Errors, days: int, words: str
) -> None:
    aged(days * DAY_S)
    journals = Journals(left.parent, MAX_BYTES)
    adopted = [journal for _ in range(3) for journal in await journals.orphans()]
    assert [flat(await journal.sums()) for journal in adopted] == [flat(THREE)]
    await adopted[0].close()
    assert names(left.parent) == {FILE}
    assert [words in line and "was the clock wrong?" in line for line in errors()] == [True] * bool(
        words
    )


async def test_a_file_of_a_newer_format_is_left_alone_with_one_error(
    directory: Path, errors: Errors
) -> None:
    path = await closed(directory, *THREE)
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 3")
    held = path.read_bytes()
    journals = Journals(directory, MAX_BYTES)
    for _ in range(3):
        assert await journals.orphans() == []
    (line,) = errors()
    assert "it is of format 3, and this program reads 1 to 2: use a newer version" in line
    assert str(path) in line
    assert path.read_bytes() == held


async def test_a_file_with_increments_that_we_do_not_count_is_left_alone_with_one_error(
    directory: Path, errors: Errors
) -> None:
    path = await closed(directory, *THREE)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE head SET kinds = 'visits pageviews visitors'")
    held = path.read_bytes()
    journals = Journals(directory, MAX_BYTES)
    for _ in range(3):
        assert await journals.orphans() == []
        assert journals.unread == {FILE}
    (line,) = errors()
    assert "it holds visitors, visits, which this program does not count: use a newer ver" in line
    assert path.read_bytes() == held


async def test_an_entry_with_an_increment_that_its_file_does_not_name_is_not_read(
    directory: Path,
) -> None:
    journal = await made(directory)
    row = zlib.compress(msgspec.msgpack.encode([(0, 1, [], [], {"visits": [["demo", 1]]})]))
    journal._connection.execute("INSERT INTO log (written_at, entries) VALUES (0, ?)", [row])
    with pytest.raises(ValueError, match="it holds visits, which this program does not count"):
        await journal.sums()
    await journal.close()


def spoil(path: Path, what: str) -> None:
    """Spoil a file."""
    content = bytearray(path.read_bytes())
    noise = random.Random(what).randbytes(len(content))
    first = {"all": 0, "header": 16, "schema": 100, "table": 4096}[what]
    content[first : first + 3000] = noise[first : first + 3000]
    path.write_bytes(content)


@pytest.mark.parametrize("what", ["all", "header", "schema", "table"])
async def test_a_spoilt_file_is_reported_once_and_stays_and_stops_no_other(
    directory: Path, errors: Errors, what: str
) -> None:
    spoilt = await closed(directory, *THREE, name="0-aa-0.journal")
    spoil(spoilt, what)
    await closed(directory, *THREE)
    journals = Journals(directory, MAX_BYTES)
    adopted = [journal for _ in range(3) for journal in await journals.orphans()]
    assert [journal.name for journal in adopted] == [FILE]
    assert flat(await adopted[0].sums()) == flat(THREE)
    await adopted[0].close()
    (line,) = errors()
    assert f"{spoilt} cannot be read, its hits are missing" in line
    assert spoilt.exists()


@pytest.mark.parametrize("name", ["x.journal", "0-aa.journal", "a-b-c.journal", "0-a-b-c.journal"])
async def test_a_file_with_a_name_that_is_not_ours_is_reported_and_stays(
    directory: Path, errors: Errors, name: str
) -> None:
    path = await closed(directory, *THREE, name=name)
    journals = Journals(directory, MAX_BYTES)
    for _ in range(2):
        assert await journals.orphans() == []
        assert journals.unread == {name}
    (line,) = errors()
    assert str(path) in line
    assert path.exists()


# Disks that are full or broken


async def test_a_journal_takes_what_fits_into_its_bound_and_keeps_what_it_has(
    directory: Path,
) -> None:
    journal, written = await made(directory, max_bytes=0), list[Entry]()

    async def fill() -> None:
        for number in range(1, 100):
            await journal.append([whole(number, 60)])
            written.append(whole(number, 60))

    for _ in range(2):
        with pytest.raises(JournalError, match="the journal is full") as refused:
            await fill()
        assert refused.value.code == "journal_full"
    assert 1 < len(written) < 50
    await journal.append([entry(101, "/small")])
    expected = flat([*written, entry(101, "/small")])
    assert flat(await journal.sums()) == expected
    await journal.close()
    assert await found_in_one(directory) == expected


async def test_a_full_disk_loses_nothing_and_can_be_replayed_and_cleaned(
    small_disk: Path, errors: Errors
) -> None:
    with owner_of(small_disk) as owner:
        owner.ask("create", WRITER)
        n_written = 0
        while (answer := owner.ask("append", n_written + 1, 3)) == DONE:
            n_written += 1
        assert answer == "JournalError journal_full"
        assert n_written > 10
        (small_disk / "others").write_bytes(bytes(free_bytes(small_disk)))
        for _ in range(20):
            assert owner.ask("append", n_written + 1, 3) == "JournalError journal_full"
    sums = await found_in_one(small_disk)
    assert sums == flat(whole(number) for number in range(1, n_written + 1))
    (journal,) = await Journals(small_disk, MAX_BYTES).orphans()
    await journal.remove()
    assert names(small_disk) == {"others"}
    assert errors() == []


async def test_on_a_full_disk_no_journal_can_be_made_and_nothing_is_left_of_the_attempt(
    small_disk: Path,
) -> None:
    (small_disk / "others").write_bytes(bytes(free_bytes(small_disk)))
    journals = Journals(small_disk, MAX_BYTES)
    for _ in range(3):
        with pytest.raises(JournalError) as refused:
            await journals.create(WRITER)
        assert refused.value.code == "journal_full"
    assert names(small_disk) == {"others"}
    (small_disk / "others").unlink()
    journal = await journals.create(WRITER)
    await journal.append([whole(1)])
    await journal.remove()


async def test_the_bound_of_a_journal_is_known_before_it_is_made_and_falls_with_the_room_for_it(
    small_disk: Path,
) -> None:
    journals = Journals(small_disk, MAX_BYTES)
    await journals.orphans()
    bound = journals.limit_bytes
    assert bound == min(MAX_BYTES, free_bytes(small_disk) // 10)
    journal = await journals.create(WRITER)
    await journal.append([whole(1)])
    await journals.orphans()
    assert journals.limit_bytes == bound
    (small_disk / "others").write_bytes(bytes(free_bytes(small_disk)))
    await journals.orphans()
    assert journals.limit_bytes == (small_disk / journal.name).stat().st_size
    await journal.remove()
    await journals.orphans()
    assert journals.limit_bytes == free_bytes(small_disk) // 10


async def test_what_did_not_fit_on_the_disk_fits_when_there_is_room_again(
    small_disk: Path,
) -> None:
    others = small_disk / "others"
    journal = await made(small_disk)
    await journal.append([whole(1)])
    others.write_bytes(bytes(free_bytes(small_disk)))
    with pytest.raises(JournalError):
        await journal.append([whole(2, 60)])
    others.unlink()
    await journal.append([whole(3)])
    assert flat(await journal.sums()) == flat([whole(1), whole(3)])
    await journal.close()


async def test_a_commit_for_which_there_is_no_room_is_not_there(directory: Path) -> None:
    journal = await made(directory)
    await journal.append([whole(1)])
    with full_log(directory / FILE), pytest.raises(JournalError, match="the journal is full"):
        await journal.append([whole(2)])
    await journal.append([whole(3)])
    assert flat(await journal.sums()) == flat([whole(1), whole(3)])
    await journal.close()


async def test_an_insert_that_fails_is_not_there_and_bars_no_other(directory: Path) -> None:
    journal = await made(directory)
    await journal.append([whole(1)])
    journal._connection.execute("ALTER TABLE log RENAME TO lost")
    for _ in range(2):
        with pytest.raises(JournalError, match=r"the journal fails$") as refused:
            await journal.append([whole(2)])
        assert refused.value.code == "journal_failed"
        assert "no such table" in str(refused.value.__cause__)
    journal._connection.execute("ALTER TABLE lost RENAME TO log")
    await journal.append([whole(3)])
    assert flat(await journal.sums()) == flat([whole(1), whole(3)])
    await journal.close()


async def test_after_a_commit_that_fails_nobody_knows(directory: Path) -> None:
    journal = await made(directory)
    await journal.append([whole(1)])
    broken = broken_log(directory / FILE)
    with broken, pytest.raises(JournalBrokenError, match=f"cannot sync the journal {FILE}: "):
        await journal.append([whole(2)])
    await journal.close()
    assert (await found_in_one(directory)).keys() >= {1}
