"""What the store says where it does not do what it was asked, in errors of ours."""

import re

from redis.exceptions import NoPermissionError, NoScriptError, OutOfMemoryError, ResponseError

from hitcounter.errors import (
    StoreError,
    StoreForbidsError,
    StoreFullError,
    StoreRefusesError,
    UnknownScriptError,
)
from hitcounter.store import keys, scripts

# How servers say that something is never done for us, rather than not now.
_FORBIDDEN = re.compile(r"^unknown command|ACL failure|can't (run this command|access)")
_COMMAND = re.compile(r"'([\w|]+)'")
_SCRIPT_LINE = re.compile(r"script: (\w{40}), on @user_script:(\d+)")
_CALL = re.compile(r"redis\.call\('(\w+)'")


def no_answer(error: Exception) -> StoreError:
    """Translate what a client raised, which is anything: some leak AttributeError and the like."""
    translated = _translated(error)
    translated.__cause__ = error  # also where it is not raised, but stands for a reply
    return translated


def _translated(error: Exception) -> StoreError:
    if isinstance(error, TimeoutError):
        return StoreError("the store does not answer in time")
    if isinstance(error, NoScriptError):
        return UnknownScriptError("the store does not have a script that we named")
    if isinstance(error, OutOfMemoryError):
        return StoreFullError(
            f"the store is full, raise its store_max_mb or maxmemory: {error}", is_forbidden=False
        )
    if isinstance(error, ResponseError):
        return StoreRefusesError(f"the store refuses: {error}", is_forbidden=_is_forbidden(error))
    return StoreError(f"the store does not answer: {error or type(error).__name__}")


def _is_forbidden(error: ResponseError) -> bool:
    return isinstance(error, NoPermissionError) or _FORBIDDEN.search(str(error)) is not None


def forbidden(error: StoreRefusesError) -> StoreForbidsError:
    """Name the right that is missing; older servers tell only the line of a script."""
    text = str(error)
    named = _COMMAND.search(text)
    if (place := _SCRIPT_LINE.search(text)) and named is None:
        (script,) = [each for each in scripts.OF_HITS if each.sha == place[1]]
        named = _CALL.search(script.text.splitlines()[int(place[2]) - 1])
    right = f"+{named[1].lower()}" if named else f"~{keys.PATTERN}"
    return StoreForbidsError(f"{text}; a hit needs the right {right}, see docs/operating.md")
