"""The local disk with its journals, in memory: what a crash leaves there, and who may open what.

A file belongs to the worker that made or adopted it, until that one closes it or ends. An append
takes time; a worker that dies meanwhile leaves it written or not. What the files hold is what the
real journals would hold: packed and summed up by their code.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hitcounter.errors import JournalBrokenError, JournalError
from hitcounter.exactly_once import increments
from hitcounter.exactly_once.increments import CutRule, cut
from hitcounter.exactly_once.journal import Journal
from hitcounter.exactly_once.journal_format import packed, sums
from hitcounter.exactly_once.journals import Journals
from hitcounter.exactly_once.records import Entry
from hitcounter.store import keys
from tests.simulation.events import Events

ACCESS_S = 0.004
SLOW_ACCESS_S = 0.3


class Owner(Protocol):
    """A worker, as the disk knows it."""

    # The last of its own records that a file of its has held, by the key of their watermark.
    covered: Counter[str]

    @property
    def is_closing(self) -> bool:
        """Tell whether it is about to end."""

    def may_die(self) -> bool:
        """Tell whether its promise would outlive it."""

    def leaves_nothing_behind(self) -> None:
        """Note that it ends without bringing its last records to a journal."""


@dataclass(slots=True, eq=False)
class File:
    """A journal on the disk."""

    name: str
    writer: str
    owner: Owner | None
    rule: CutRule
    rows: list[bytes] = field(default_factory=list)
    writing: Sequence[Entry] = ()
    is_adopted: bool = False
    is_left: bool = False  # by a writer that could not remove it

    def last_numbers(self) -> Counter[str]:
        """Tell the last record that is in here, by the key of its watermark."""
        return Counter(
            {
                keys.watermark_key(lane, self.writer): number + len(cut(pageviews, self.rule)) - 1
                for number, pageviews, lane in sums(self.rows)
            }
        )


class Disk:
    """All journals of a host, and what goes wrong with them."""

    def __init__(self, faults: Counter[str], chance: random.Random, events: Events) -> None:
        """Start empty; `faults` counts the faults of now by name."""
        self.files: dict[str, File] = {}
        self.breaks = 0  # how many of the next appends end with nobody knowing how
        self.faults = faults
        self.chance = chance
        self.events = events

    async def access(self) -> None:
        """Take the time that a disk takes."""
        longest_s = SLOW_ACCESS_S if self.faults["slow_disk"] else ACCESS_S
        await asyncio.sleep(longest_s * self.chance.random())

    def of(self, owner: Owner) -> list[File]:
        """List the files of a worker."""
        return [file for file in self.files.values() if file.owner is owner]

    def release(self, owner: Owner) -> None:
        """Take a worker's files from it, because it has ended."""
        for file in self.of(owner):
            if file.writing:
                is_written = self.chance.random() < 0.5
                self.events.note(f"killed: amid an append, {'' if is_written else 'not '}written")
                if is_written:
                    file.rows.append(packed(file.writing))
                file.writing = ()
            file.owner = None

    def fault(self, owner: Owner) -> str:
        """Name what goes wrong with a write of now, if anything.

        Nothing does if the promise would break with it: the store has lost its last seconds, and
        this worker is the only one that still knows them.
        """
        name = "fill_disk" if self.faults["fill_disk"] else ""
        name = "fail_disk" if self.faults["fail_disk"] else name
        if name and owner.is_closing:
            if not owner.may_die():
                return ""
            owner.leaves_nothing_behind()
        return name

    def check(self, owner: Owner) -> None:
        """Raise what goes wrong with a write of now."""
        name = self.fault(owner)
        if name:
            code = {"fill_disk": "journal_full", "fail_disk": "journal_failed"}[name]
            self.events.note(code.replace("_", " "))
            raise JournalError(code, "the journal does not take it")


class SimulatedJournal(Journal):
    """A file that is ours."""

    def __init__(self, disk: Disk, file: File, owner: Owner) -> None:
        """Own a file."""
        self.name = file.name
        self.writer = file.writer
        self.rule = file.rule
        self._disk = disk
        self._file = file
        self._owner = owner

    async def append(self, entries: Sequence[Entry]) -> int:
        """Write entries, or not, after some time."""
        self._file.writing = entries
        self._disk.events.note("append begins", by=self._owner)
        await self._disk.access()
        self._file.writing = ()
        self._disk.check(self._owner)
        # The thread of a real journal packs them at any time until now.
        row = packed(entries)
        self._break(row)
        self._file.rows.append(row)
        self._disk.events.tell("journaled", self.name, [entry.number for entry in entries])
        return sum(map(len, self._file.rows))

    def _break(self, row: bytes) -> None:
        disk = self._disk
        if disk.breaks and self._owner.may_die():
            disk.breaks -= 1
            is_written = disk.chance.random() < 0.5
            disk.events.note(f"journal broken: {'' if is_written else 'not '}written")
            if is_written:
                self._file.rows.append(row)
            self._owner.leaves_nothing_behind()
            raise JournalBrokenError("nobody knows what the journal holds")

    async def sums(self) -> list[Entry]:
        """Read the file."""
        await self._disk.access()
        entries = sums(self._file.rows)
        if any(len({site.date for site in entry.pageviews.sites}) > 1 for entry in entries):
            self._disk.events.note("hits of two days in one entry")
        if not entries:
            self._disk.events.note("journal with nothing but a trial of it", self.name)
        elif len(cut(entries[-1].pageviews, self.rule)) > 1:
            self._disk.events.note("journal cut into several records", self.name)
        return entries

    async def remove(self) -> None:
        """Remove the file; what does not go can be adopted."""
        file, disk = self._file, self._disk
        if disk.chance.random() < 0.5:
            await disk.access()
        if file.is_adopted:
            disk.events.note("adoption done", self.name, by=self._owner)
        else:
            self._owner.covered |= file.last_numbers()
            disk.events.note("journal removed by its writer", self.name, by=self._owner)
        if disk.faults["keep_files"] and not file.is_adopted:
            file.is_left = True
            disk.events.note("journal not removed", self.name)
        else:
            disk.files.pop(file.name, None)
        if disk.chance.random() < 0.5:
            await disk.access()
        file.owner = None

    async def close(self) -> None:
        """Leave the file to others, unless it is not ours any more."""
        if self._file.owner is self._owner:
            self._file.owner = None


class SimulatedJournals(Journals):
    """The directory, as one worker sees it."""

    def __init__(self, disk: Disk, owner: Owner) -> None:
        """Work for one worker."""
        self._disk = disk
        self._owner = owner
        self._known = set()

    async def create(self, writer: str) -> Journal:
        """Make a file, after some time."""
        disk = self._disk
        await disk.access()
        disk.check(self._owner)
        name = f"0-{writer}-{len(self._known)}.journal"
        assert name not in disk.files
        event = "journal created again" if self._known else "journal created"
        disk.events.note(event, name, by=self._owner)
        self._known.add(name)
        disk.files[name] = File(name, writer, self._owner, increments.CUT)
        return SimulatedJournal(disk, disk.files[name], self._owner)

    async def orphans(self) -> list[Journal]:
        """Take the files without an owner; remove those that hold nothing."""
        files = [self._disk.files[name] for name in sorted(self._disk.files)]
        free = [file for file in files if self._is_free(file)]
        for file in [file for file in free if not file.rows]:
            del self._disk.files[file.name]
        return [self._adopt(file) for file in free if file.rows]

    def _is_free(self, file: File) -> bool:
        return file.owner is None and file.name not in self._known

    def _adopt(self, file: File) -> Journal:
        events = self._disk.events
        event = "adopted again" if file.is_adopted else "adopted"
        events.note(event, file.name, by=self._owner)
        if file.is_left:
            events.note("adopted while its writer lives")
        self._known.add(file.name)
        file.owner, file.is_adopted = self._owner, True
        return SimulatedJournal(self._disk, file, self._owner)
