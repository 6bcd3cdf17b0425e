"""A store that holds its values in memory: the meaning of commit.lua, and what a crash leaves.

Every write is one step of the store's history. A power loss leaves a prefix of it, in which the
synced steps are: that is the only thing that a log on disk promises.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple, Self

from hitcounter.errors import StoreRefusesError

Values = dict[str, int]


class Reply(NamedTuple):
    """What the store answers: a watermark, values of now, who holds each id, notes, what moved."""

    watermark: int = 0
    values: Values = {}  # noqa: RUF012 -- nobody writes to it
    holders: tuple[str, ...] = ()
    notes: tuple[tuple[str, bytes], ...] = ()
    moved: tuple[int, ...] = ()


class Commit(NamedTuple):
    """A chunk on its way; of the pages, by the number of a site's stored pages and its limit."""

    key: str
    expect: int
    last: int
    counters: Mapping[str, int]
    pages: Mapping[tuple[str, int], Mapping[str, int]]


class Watermark(NamedTuple):
    """A question for a watermark."""

    key: str


class Claim(NamedTuple):
    """Ids of hits that a holder, `writer:record`, wants to count; `key` is his watermark."""

    key: str
    holder: str
    ids: tuple[str, ...]


class Forget(NamedTuple):
    """The wish that a watermark be deleted some day."""

    key: str


class Read(NamedTuple):
    """A question for the values of now."""

    key: str  # the first of `names`
    names: tuple[str, ...]


class Note(NamedTuple):
    """A note of some name that is left beside the counters."""

    key: str
    name: str
    text: bytes


class Notes(NamedTuple):
    """A question for the notes beside the counters."""

    key: str


class Scan(NamedTuple):
    """A question for the keys that are like a pattern."""

    key: str
    pattern: str


class Move(NamedTuple):
    """The keys and arguments of move.lua; `key` is the first of `names`."""

    key: str
    names: tuple[str, ...]
    n_pages: int
    tombstone: int | str


Request = Commit | Watermark | Claim | Forget | Read | Note | Notes | Scan | Move


class _Step(NamedTuple):
    """A write: when it was, and what it changed, claimed or noted."""

    at_s: float
    before: Mapping[str, int | None] = {}
    ids: Sequence[str] = ()
    note: tuple[tuple[str, str], bytes | None] | None = None


class SimulatedStore:
    """The values of a store, and how it came to them."""

    def __init__(self) -> None:
        """Start empty."""
        self.values: Values = {}
        self.holders: dict[str, str] = {}  # by id
        self._notes: dict[tuple[str, str], bytes] = {}  # by key and name
        self.epoch = 0  # a connection lives in one
        self._expiring: list[str] = []
        self._history: list[_Step] = []
        self._n_synced = 0

    def fork(self) -> Self:
        """Make a replica that holds the same, and is asked instead of us from now."""
        other = type(self)()
        other.values = dict(self.values)
        other.holders = dict(self.holders)
        other._notes = dict(self._notes)
        other._expiring = list(self._expiring)
        other._history = list(self._history)
        other._n_synced = self._n_synced
        return other

    def watermark(self, key: str) -> int:
        """Read a watermark."""
        return self.values.get(key, 0)

    def answer(self, request: Request, at_s: float) -> Reply:
        """Do what is asked for; raise `StoreRefusesError` where that is not done."""
        match request:
            case Commit():
                return self.commit(request, at_s)
            case Claim():
                return self._claim(request, at_s)
            case Read():
                return Reply(values={k: self.values[k] for k in request.names if k in self.values})
            case Note():
                self._note(request, at_s)
            case Notes():
                found = [
                    (name, note) for (key, name), note in self._notes.items() if key == request.key
                ]
                return Reply(notes=tuple(found))
            case Scan():
                alike = {k: n for k, n in self.values.items() if fnmatchcase(k, request.pattern)}
                return Reply(values=alike)
            case Move():
                return Reply(moved=self.move(request, at_s))
            case Forget():
                self._expiring.append(request.key)
        return Reply(self.watermark(request.key))

    def _note(self, note: Note, at_s: float) -> None:
        name = note.key, note.name
        self._history.append(_Step(at_s, note=(name, self._notes.get(name))))
        self._notes[name] = note.text

    def _claim(self, claim: Claim, at_s: float) -> Reply:
        """Give the ids that are free to whoever asks."""
        free = [id_ for id_ in claim.ids if id_ not in self.holders]
        if free:
            self._history.append(_Step(at_s, ids=free))
            self.holders |= dict.fromkeys(free, claim.holder)
        return Reply(holders=tuple(self.holders[id_] for id_ in claim.ids))

    def expire(self) -> None:
        """Delete the watermarks that somebody wanted to be deleted."""
        for key in self._expiring:
            self.values.pop(key, None)

    def commit(self, commit: Commit, at_s: float) -> Reply:
        """Apply a chunk if the watermark is what it expects; answer with the values of now."""
        applies = self.watermark(commit.key) == commit.expect
        gains = dict(commit.counters)
        for (count_key, _), pages in commit.pages.items():
            gains[count_key] = sum(page not in self.values for page in pages)
            gains |= pages
        answered = {name: self.values.get(name, 0) + applies * n for name, n in gains.items()}
        if applies and any(n < 0 and answered[name] < 0 for name, n in gains.items()):
            raise StoreRefusesError("it has less than is to be taken from it", is_forbidden=False)
        if not applies:
            names = (page for pages in commit.pages.values() for page in pages)
            answered |= {page: -1 for page in names if page not in self.values}
        else:
            changed = {name: answered[name] for name, n in gains.items() if n}
            self.write({commit.key: commit.last} | changed, at_s)
        return Reply(self.watermark(commit.key), answered)

    def move(self, move: Move, at_s: float) -> tuple[int, ...]:
        """Add counters of a site to those of another, and delete them; return how much moved."""
        pages_key, to_pages_key, *names, removed_key = move.names
        pairs = list(zip(names[: len(names) // 2], names[len(names) // 2 :], strict=True))
        found = [(name, to) for name, to in pairs if name in self.values]
        pages = [(name, to) for name, to in pairs[: move.n_pages] if name in self.values]
        left = self.values.get(pages_key, 0) - len(pages)
        if move.tombstone and left > 0:
            return ()
        moved = tuple(self.values.get(name, 0) for name, _ in pairs)
        writes: dict[str, int | None] = dict.fromkeys(name for name, _ in found)
        writes |= {to: self.values.get(to, 0) + self.values[name] for name, to in found}
        if pages:
            held = self.values.get(to_pages_key, 0) + sum(to not in self.values for _, to in pages)
            writes |= {pages_key: left or None, to_pages_key: held}
        if move.tombstone:
            writes[removed_key] = int(move.tombstone)
        if writes:
            self.write(writes, at_s)
        return moved

    def write(self, writes: Mapping[str, int | None], at_s: float) -> None:
        """Make one step of history: all of it outlives a power loss, or nothing."""
        self._history.append(_Step(at_s, {name: self.values.get(name) for name in writes}))
        self._set(writes)

    def _set(self, values: Mapping[str, int | None]) -> None:
        """Set counters, and delete those that are None."""
        for key, value in values.items():
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value

    def _undo(self, step: "_Step") -> None:
        self._set(step.before)
        for id_ in step.ids:
            del self.holders[id_]
        if step.note is not None:
            name, text = step.note
            if text is None:
                del self._notes[name]
            else:
                self._notes[name] = text

    def sync(self) -> None:
        """Bring all to the disk."""
        self._n_synced = len(self._history)

    def lose_power(self, synced_until_s: float, pick: float) -> int:
        """Go back to a prefix with all that was written until then; return how much is lost."""
        n_steps = len(self._history)
        while self._n_synced < n_steps and self._history[self._n_synced].at_s <= synced_until_s:
            self._n_synced += 1
        # Half of the time all that can be lost is.
        n_kept = self._n_synced + int(max(0.0, 2 * pick - 1) * (n_steps - self._n_synced + 1))
        while len(self._history) > n_kept:
            self._undo(self._history.pop())
        self._n_synced = n_kept
        return n_steps - n_kept
