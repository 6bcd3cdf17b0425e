"""An event loop whose time is ours: instead of waiting, it jumps to the next timer.

So a minute of a schedule takes milliseconds, and two runs of one seed are the same to the last
step: nothing depends on the machine, on threads or on the real clock.
"""

import asyncio
import selectors


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that starts at 0 s, and never waits."""

    def __init__(self) -> None:
        """Start at 0 s."""
        self.now_s = 0.0
        super().__init__(_Leap(self))

    def time(self) -> float:
        """Tell the seconds since the start."""
        return self.now_s


class _Leap(selectors.SelectSelector):
    """Where a loop would wait for sockets or the next timer, the time of that timer comes."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and no timer will wake anybody")
        self._loop.now_s += timeout
        return []
