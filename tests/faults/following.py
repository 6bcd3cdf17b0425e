"""Real workers, followed: every event of theirs is one that the model of `tests.search` allows.

A lane of ours is told the same as each lane of theirs, and must say the same: which records leave,
which are confirmed, what goes to the journal. Around it is what the model has of a store and a
journal: a watermark is the end of a chunk that somebody sent, an adopted journal holds what was
appended, and none goes while it may be needed. Hits are told by their number only.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hitcounter.exactly_once import increments
from hitcounter.exactly_once.increments import Pageviews
from hitcounter.exactly_once.lanes import Lane
from hitcounter.exactly_once.records import Entry, Record, RecordLog
from hitcounter.store import keys

Sizes = Sequence[tuple[int, int]]  # numbers of records, each with how many hits it has

_SITE = keys.site_keys(0, "s", "2026-11-29")


@dataclass(slots=True)
class Written:
    """What is known of a writer, whoever speaks for it: its records, what was sent, its journal."""

    records: dict[int, int] = field(default_factory=dict)
    ends: set[int] = field(default_factory=lambda: {0})  # of the chunks that were sent
    journal: dict[int, int] = field(default_factory=dict)  # hits by number
    appending: dict[int, int] = field(default_factory=dict)
    removing: dict[int, int] = field(default_factory=dict)  # what is in one that may be gone


@dataclass(slots=True)
class Speaker:
    """One lane of a process, and ours that follows it."""

    pid: int
    writer: str
    lane: Lane
    known: Written


class Follower:
    """Takes the events of all processes in their order."""

    def __init__(self, kept_window_s: float, *, is_always: bool) -> None:
        """Know the kept window, and whether the store syncs before it answers."""
        self.n_events = 0
        self._kept_window_s = kept_window_s
        self._is_always = is_always
        self._speakers: dict[tuple[int, int], Speaker] = {}
        self._writers: dict[str, Written] = {}

    def follow(self, events: Iterable[list[Any]]) -> Iterator[str]:
        """Take events; tell which of them the model does not allow."""
        for _, pid, serial, what, *details in sorted(events):
            self.n_events += 1
            try:
                if what in ("writer", "adopts"):
                    self._meet(pid, serial, *details)
                elif what == "removes":
                    self._removes(pid, *details)
                elif what == "removed":
                    self._writers[details[0]].removing = {}
                else:
                    act: Callable[..., None] = getattr(self, f"_{what}")
                    act(self._speakers[pid, serial], *details)
            except AssertionError as error:
                yield f"process {pid}, lane {serial}: {what} {details}: {error}"

    def _meet(self, pid: int, serial: int, writer: str, pending: Sizes | None = None) -> None:
        known = self._writers.setdefault(writer, Written())
        records = RecordLog(self._kept_window_s)
        if pending is not None:
            entries = [Entry(number, _hits(n)) for number, n in pending]
            records = RecordLog.restored(self._kept_window_s, entries, increments.CUT)
        self._speakers[pid, serial] = Speaker(pid, writer, Lane(0, records), known)
        is_right = pending is None or _is_of(pending, known)
        _expect(is_right, f"the journal holds {known.journal}")

    def _numbers(self, speaker: Speaker, numbered: Sizes) -> None:
        records = speaker.lane.records
        for _, n in numbered:
            _add(records, n)
        found = [(record.number, _size(record.pageviews)) for record in speaker.lane.number_next()]
        _expect(found == [*map(tuple, numbered)], f"the model numbers {found}")

    def _asks(self, speaker: Speaker, expect: int, last: int, pending: Sizes) -> None:
        records = speaker.lane.records.pending
        _expect([record.number for record in records] == [number for number, _ in pending], "gap")
        for record, (number, n) in zip(records, pending, strict=True):
            record.pageviews = _hits(n)  # some may have been taken out as repeated before they left
            if number <= last:
                was = speaker.known.records.setdefault(number, n)
                _expect(was == n, f"record {number} had {was} hits")
        chunk = speaker.lane.next_chunk()
        found = (chunk.expect, chunk.last) if chunk else (-1, 0)
        _expect(found == (expect, last), f"the model asks {found}")
        if chunk:
            speaker.known.ends.add(last)

    def _hears(
        self,
        speaker: Speaker,
        watermark: int,
        asked_at_s: float,
        answered_at_s: float,
        confirmed: Sizes,
        n_lost: int,
    ) -> None:
        _expect(watermark in speaker.known.ends, f"chunks end at {sorted(speaker.known.ends)[-9:]}")
        records, lost = speaker.lane.on_answer(watermark, asked_at_s, answered_at_s)
        found = [record.number for record in records]
        _expect(found == [number for number, _ in confirmed], f"the model confirms {found}")
        _expect(lost == n_lost == 0, f"{n_lost} records are lost")

    def _errs(self, speaker: Speaker) -> None:
        speaker.lane.on_error()

    def _returns(self, speaker: Speaker, has_returned: bool) -> None:
        found = speaker.lane.has_returned()
        _expect(found == has_returned, f"the model says {found}")

    def _takes(self, speaker: Speaker, n_taken: int, entries: Sizes) -> None:
        if n_taken:
            _add(speaker.lane.records, n_taken)
        found = [(each.number, _size(each.pageviews)) for each in speaker.lane.next_append()]
        _expect(
            [number for number, _ in found] == [number for number, _ in entries],
            f"the model appends {found}",
        )
        speaker.known.appending = dict(entries)

    def _appended(self, speaker: Speaker, _: int) -> None:
        speaker.lane.on_appended()
        known = speaker.known
        known.journal = _with(known.journal, known.appending)
        known.appending = {}

    def _refused(self, speaker: Speaker) -> None:
        speaker.lane.on_refused()  # where nobody can tell, it may be written all the same

    def _removes(self, pid: int, writer: str) -> None:
        known = self._writers[writer]
        for speaker in self._speakers.values():
            if (speaker.pid, speaker.writer) != (pid, writer):
                continue
            records = speaker.lane.records
            is_safe = records.is_idle and (self._is_always or not records.kept)
            _expect(is_safe or not speaker.lane.needs_journal, "it is needed yet")
        known.removing, known.journal, known.appending = known.journal, {}, {}


def events_of(path: Path) -> list[list[Any]]:
    """Read what workers have told; a line that a killed one began to write is left out."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("]")]


def _expect(holds: bool, why: str) -> None:
    assert holds, why


def _is_of(pending: Sizes, known: Written) -> bool:
    """Return whether records are those of a journal, as far as whoever was killed had come.

    Its last append may be there or not, and so may one that was about to be removed.
    """
    found = dict(pending)
    return found in (known.journal, _with(known.journal, known.appending), known.removing)


def _with(journal: dict[int, int], appended: dict[int, int]) -> dict[int, int]:
    return dict(Counter(journal) + Counter(appended))


def _hits(n: int) -> Pageviews:
    return Pageviews({_SITE: n}) if n else Pageviews()


def _size(pageviews: Pageviews) -> int:
    return sum(pageviews.sites.values())


def _add(records: RecordLog, n: int) -> None:
    records.open = Record(pageviews=_hits(n))
    records.close_record()
