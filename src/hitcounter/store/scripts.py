"""The scripts that run in the store, by their names in `lua/`."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib import resources
from typing import Any, Self

from hitcounter.errors import StoreError, UnknownScriptError


@dataclass(frozen=True, slots=True)
class Script:
    """The text of a script, and the digest that the store knows it by."""

    text: str
    sha: str

    @classmethod
    def read(cls, name: str) -> Self:
        """Read a script of the package."""
        text = resources.files("hitcounter.store").joinpath("lua", name).read_text("utf-8")
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


COMMIT = Script.read("commit.lua")
REPLACE = Script.read("replace.lua")
ADMIT = Script.read("admit.lua")
CLAIM = Script.read("claim.lua")
TAKE = Script.read("take.lua")
MOVE = Script.read("move.lua")
SWEEP = Script.read("sweep.lua")
OF_HITS = (COMMIT, REPLACE, ADMIT, CLAIM)

Run = tuple[Sequence[str], Sequence[Any]]  # the keys and the arguments of a script
# Takes commands, and gives a reply for each, or the `StoreError` that stands for it.
Ask = Callable[[Sequence[Sequence[Any]]], Awaitable[list[Any]]]


async def run(ask: Ask, script: Script, runs: Sequence[Run]) -> list[Any]:
    """Run a script once or more through whoever asks for us; give a reply, or an error, for each.

    A store that lacks the script is sent its text.
    """
    known_by = ("EVALSHA", script.sha)
    replies = await ask([(*known_by, len(names), *names, *args) for names, args in runs])
    lacking = [n for n, reply in enumerate(replies) if isinstance(reply, UnknownScriptError)]
    if lacking:
        again = [("EVAL", script.text, len(runs[n][0]), *runs[n][0], *runs[n][1]) for n in lacking]
        for n, reply in zip(lacking, await ask(again), strict=True):
            replies[n] = reply
    return replies


def reply_of(replies: Sequence[Any]) -> Any:
    """Return the only reply; raise the error that stands for it."""
    (reply,) = replies
    if isinstance(reply, StoreError):
        raise reply
    return reply
