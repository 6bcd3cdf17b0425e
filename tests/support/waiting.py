"""What tests wait for: a state that comes, by a deadline that no slow machine reaches."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Found = TypeVar("Found")

DEADLINE_S = 60.0
POLL_S = 0.005


def until(condition: Callable[[], object], what: str) -> None:
    """Poll until a condition holds; fail after the deadline."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < give_up_at, f"waited in vain until {what}"
        time.sleep(POLL_S)


async def eventually(condition: Callable[[], Awaitable[Found | None]], what: str) -> Found:
    """Poll until an asynchronous condition holds, and return it; fail after the deadline."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not (found := await condition()):
        assert time.monotonic() < give_up_at, f"waited in vain until {what}"
        await asyncio.sleep(POLL_S)
    return found


async def comes_true(condition: Callable[[], object], what: str) -> None:
    """Poll until a condition holds, while clients go on; fail after the deadline."""

    async def holds() -> object:
        return condition()

    await eventually(holds, what)
