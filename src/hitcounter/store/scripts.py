"""The scripts that run in the store, by their names in `lua/`."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib import resources
from typing import Any, Self

from hitcounter.errors import UnknownScriptError


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
SWEEP = Script.read("sweep.lua")
OF_HITS = (COMMIT, REPLACE, ADMIT, CLAIM)

Ask = Callable[..., Awaitable[Any]]


async def run(ask: Ask, script: Script, names: Sequence[str], args: Iterable[Any]) -> Any:
    """Run a script through whoever asks for us; send its text to a store that lacks it."""
    try:
        return await ask("EVALSHA", script.sha, len(names), *names, *args)
    except UnknownScriptError:
        return await ask("EVAL", script.text, len(names), *names, *args)
