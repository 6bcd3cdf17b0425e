"""Every error that hitcounter raises on purpose.

    HitcounterError
    ├── ConfigError          a setting is wrong; the service does not start
    ├── StartError           the surroundings are wrong: port, directory, server binary
    ├── CommandError         a command was asked for something that cannot be done
    ├── StoreError           the store gave no answer: what was asked may or may not be done
    │   ├── StoreRefusesError    the store answered that it does not do what it was asked
    │   │   └── StoreFullError       it has no memory left for that
    │   └── UnknownScriptError   it lacks a script that we named
    ├── CounterError         a counter holds something that is no integer
    ├── StoreUnfitError      the store answers, but cannot keep our promise
    │   └── StoreForbidsError    the store's user may not do what a hit needs
    ├── JournalError         the journal did not take what it was given; has a `code`
    ├── JournalBrokenError   nobody knows what the journal holds; its writer must end
    └── Refusal              a request is refused, and counts nothing; has a `code` of `STATUSES`
        ├── UnnamedPage          where a hit names such a page, it counts for the site alone
        ├── MethodNotAllowed     has the methods that are allowed
        └── Unavailable          come back after `retry_after_s`

`web.responses` turns refusals into responses, `cli` turns the others into one line and an exit
code; nobody else needs to catch them.

What the surroundings lack arrives as an error of Python's own (`SURROUNDINGS`): wherever a process
ends because of one, `one_line` says what it is.
"""

# A full disk, a limit, a permission; a library that is not there; a name that is no UTF-8.
SURROUNDINGS = (OSError, ImportError, UnicodeError)

# The status of an answer, by the code of its error.
STATUSES = {
    "bad_request": 400,
    "bad_site": 400,
    "bad_path": 400,
    "bad_query": 400,
    "bad_lang": 400,
    "bad_json": 400,
    "foreign_origin": 403,
    "not_found": 404,
    "unknown_site": 404,
    "too_many_sites": 404,
    "method_not_allowed": 405,
    "slow_body": 408,
    "too_large": 413,
    "bad_content_type": 415,
    "foreign_host": 421,
    "flood": 429,
    "head_too_large": 431,
    "internal": 500,
    "overloaded": 503,
    "unsettled": 503,
    "outcome_unknown": 503,
    "store_unavailable": 503,
    "store_unfit": 503,
    "journal_full": 503,
    "journal_failed": 503,
}


class HitcounterError(Exception):
    """The root of all errors raised on purpose."""


class ConfigError(HitcounterError):
    """A setting is wrong."""


class StartError(HitcounterError):
    """The surroundings do not let the service start."""


class CommandError(HitcounterError):
    """A command was asked for something that cannot be done."""


class StoreError(HitcounterError):
    """The store gave no answer: what it was asked to do may or may not be done."""


class StoreRefusesError(StoreError):
    """The store answered that it does not do what it was asked; `is_forbidden` if it never will."""

    def __init__(self, message: str, *, is_forbidden: bool) -> None:
        """Carry whether rights are missing, and not memory or a disk."""
        super().__init__(message)
        self.is_forbidden = is_forbidden


class StoreFullError(StoreRefusesError):
    """The store has no memory left for what it was asked."""


class UnknownScriptError(StoreError):
    """The store does not have a script that was named by its digest."""


class CounterError(HitcounterError):
    """A counter holds something that is no integer: somebody else wrote it."""


class StoreUnfitError(HitcounterError):
    """The store answers, but cannot keep the promise."""


class StoreForbidsError(StoreUnfitError):
    """The store's user may not do what a hit needs."""


class JournalError(HitcounterError):
    """The journal did not take what it was given."""

    def __init__(self, code: str, message: str) -> None:
        """Carry a `code` for machines and a `message` for people."""
        super().__init__(message)
        self.code = code


class JournalBrokenError(HitcounterError):
    """Nobody knows whether the journal holds what it was given last: its writer must end."""


class Refusal(HitcounterError):
    """A request is refused; it counted nothing."""

    def __init__(self, code: str, message: str) -> None:
        """Carry a `code` for machines, one of `STATUSES`, and a `message` for people."""
        super().__init__(message)
        self.code = code


class UnnamedPage(Refusal):
    """A page may have this path, but no counter can have its name."""

    def __init__(self, *, reason: str, message: str) -> None:
        """Carry the `reason` for machines: `too_long`, `invisible` or `not_utf8`."""
        super().__init__("bad_path", message)
        self.reason = reason


class MethodNotAllowed(Refusal):
    """The address is right, the method is not."""

    def __init__(self, allowed: str) -> None:
        """Carry the methods that are `allowed`, as a header lists them."""
        super().__init__("method_not_allowed", f"use one of {allowed}")
        self.allowed = allowed


class Unavailable(Refusal):
    """The service cannot count or read now; ask again after `retry_after_s`."""

    retry_after_s = 2


def one_line(error: Exception) -> str:
    """Say in one line what went wrong."""
    text = str(error)
    if isinstance(error, ImportError):
        text = f"this Python cannot load {error.name}: {error}"
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(text.split())
