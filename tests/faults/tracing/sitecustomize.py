"""Lets every worker that starts with this directory in its PYTHONPATH tell what its lanes do.

Each event is one line of JSON in the file that `LANE_TRACE` names: when (ns), by which process, in
which of its lanes (-1 for a file), what, and with what. `tests.faults.following` reads them.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any


def trace(path: str) -> None:
    """Tell from now on what happens, in a file that other processes write to as well."""
    from hitcounter.exactly_once.adoption import Adoption
    from hitcounter.exactly_once.increments import Pageviews
    from hitcounter.exactly_once.journal import Journal
    from hitcounter.exactly_once.lanes import Lane
    from hitcounter.exactly_once.writer import Writer

    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    serials: dict[Lane, int] = {}

    def note(lane: int, what: str, *details: Any) -> None:
        event = (time.monotonic_ns(), os.getpid(), lane, what, *details)
        os.write(file, json.dumps(event).encode() + b"\n")

    def serial(lane: Lane) -> int:
        return serials.setdefault(lane, len(serials))

    def after(owner: type, name: str, tell: Callable[..., None]) -> None:
        """Let a method tell what it was given and what it returns."""
        method = getattr(owner, name)

        def traced(self: Any, *args: Any, **options: Any) -> Any:
            result = method(self, *args, **options)
            tell(self, result, *args)
            return result

        setattr(owner, name, traced)

    def size(pageviews: Pageviews) -> int:
        return sum(pageviews.sites.values())

    def sizes(records: Any) -> list[tuple[int, int]]:
        return [(record.number, size(record.pageviews)) for record in records]

    def begins(writer: Writer, *_: Any) -> None:
        for lane in writer.lanes:
            note(serial(lane), "writer", writer.id)

    def numbers(lane: Lane, records: Any) -> None:
        note(serial(lane), "numbers", sizes(records))

    def asks(lane: Lane, chunk: Any) -> None:
        asked = (chunk.expect, chunk.last) if chunk else (-1, 0)
        note(serial(lane), "asks", *asked, sizes(lane.records.pending))

    def hears(lane: Lane, result: Any, *answer: float) -> None:
        note(serial(lane), "hears", *answer, sizes(result[0]), result[1])

    def takes(lane: Lane, entries: Any) -> None:
        taken = lane._appending
        note(serial(lane), "takes", size(taken.pageviews) if taken else 0, sizes(entries))

    after(Writer, "__init__", begins)
    after(Lane, "number_next", numbers)
    after(Lane, "next_chunk", asks)
    after(Lane, "on_answer", hears)
    after(Lane, "on_error", lambda lane, _: note(serial(lane), "errs"))
    after(Lane, "has_returned", lambda lane, has: note(serial(lane), "returns", has))
    after(Lane, "next_append", takes)
    after(Lane, "on_appended", lambda lane, records: note(serial(lane), "appended", len(records)))
    after(Lane, "on_refused", lambda lane, _: note(serial(lane), "refused"))
    remove, deliver = Journal.remove, Adoption._deliver

    async def removed(self: Journal) -> None:
        note(-1, "removes", self.writer)
        await remove(self)
        note(-1, "removed", self.writer)

    async def delivered(self: Adoption, connection: Any, lanes: Any) -> None:
        for lane in lanes:
            note(serial(lane), "adopts", connection._writer, sizes(lane.records.pending))
        await deliver(self, connection, lanes)

    Journal.remove = removed  # type: ignore[method-assign]
    Adoption._deliver = delivered  # type: ignore[method-assign]


if "hitcounter.process.worker_start" in sys.orig_argv and "LANE_TRACE" in os.environ:
    trace(os.environ["LANE_TRACE"])
