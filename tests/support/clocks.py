"""Clocks that a test sets: one for code in its own process, one for whole processes."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import libfaketime, packaged_program


def server_of_tomorrow(path: Path) -> str:
    """Make a server program that believes that it is a day later."""
    environment = f"LD_PRELOAD={libfaketime()} FAKETIME=+1d FAKETIME_DONT_FAKE_MONOTONIC=1"
    path.write_text(f'#!/bin/sh\n{environment} exec {packaged_program()} "$@"\n')
    path.chmod(0o700)
    return str(path)


class Clock:
    """A clock that shows what the test sets."""

    def __init__(self) -> None:
        """Start at the epoch."""
        self._shown_s = [0.0]

    def __call__(self) -> float:
        """Read the clock; of several instants, the next one each time, and the last for good."""
        return self._shown_s.pop(0) if len(self._shown_s) > 1 else self._shown_s[0]

    def set(self, *instants: str) -> None:
        """Set the clock to instants like 2019-04-19 16:59:59, in UTC."""
        times = [dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC) for text in instants]
        self._shown_s = [time.timestamp() for time in times]


class TurnedClock:
    """A clock that stands still until a test turns it."""

    def __init__(self) -> None:
        """Begin long after the machine did."""
        self.now_s = 1e6

    def __call__(self) -> float:
        """Tell the time."""
        return self.now_s


@dataclass(frozen=True, slots=True)
class FakeClock:
    """The clock of processes that run with libfaketime; it stands still between two settings."""

    path: Path

    def set(self, instant: str) -> None:
        """Set the clock to an instant in UTC."""
        new = self.path.with_suffix(".new")
        new.write_text(f"{instant}\n")
        new.rename(self.path)

    def environment(self) -> dict[str, str]:
        """Give what a process needs to read this clock; time that passes is not faked."""
        return {
            "LD_PRELOAD": str(libfaketime()),
            "FAKETIME_TIMESTAMP_FILE": str(self.path),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "TZ": "UTC",
        }
