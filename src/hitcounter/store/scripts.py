"""The scripts that run in the store, by their names in `lua/`."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib import resources
from typing import Any, Self

from hitcounter.errors import StoreError


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


def reply_of(replies: Sequence[Any]) -> Any:
    """Return the only reply; raise the error that stands for it."""
    (reply,) = replies
    if isinstance(reply, StoreError):
        raise reply
    return reply
