"""The scripts that run in the store, by their names in `lua/`."""

from collections.abc import Sequence
from hashlib import sha1
from importlib import resources
from typing import Any

from hitcounter.errors import StoreError


class Script:
    """The text of a script, and the digest that the store knows it by."""

    def __init__(self, name: str) -> None:
        """Read a script of the package."""
        self.text = resources.files("hitcounter.store").joinpath("lua", name).read_text("utf-8")
        self.sha = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


COMMIT = Script("commit.lua")
REPLACE = Script("replace.lua")
ADMIT = Script("admit.lua")
CLAIM = Script("claim.lua")
TAKE = Script("take.lua")
MOVE = Script("move.lua")
SWEEP = Script("sweep.lua")
OF_HITS = (COMMIT, REPLACE, ADMIT, CLAIM)


def reply_of(replies: Sequence[Any]) -> Any:
    """Return the only reply; raise the error that stands for it."""
    (reply,) = replies
    if isinstance(reply, StoreError):
        raise reply
    return reply
