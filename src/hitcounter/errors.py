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
    └── Refusal              a request is refused, and counts nothing
        ├── BadRequest       400, or another 4xx that carries its own status
        │   └── UnnamedPage      where a hit names such a page, it counts for the site alone
        ├── MethodNotAllowed 405
        ├── UnknownSite      404
        ├── ForeignOrigin    403
        └── Unavailable      503, come back after `retry_after_s`

`web.responses` turns refusals into responses, `cli` turns the others into one line and an exit
code; nobody else needs to catch them.

What the surroundings lack arrives as an error of Python's own (`SURROUNDINGS`): wherever a process
ends because of one, `one_line` says what it is.
"""

# A full disk, a limit, a permission; a library that is not there; a name that is no UTF-8.
SURROUNDINGS = (OSError, ImportError, UnicodeError)


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

    status = 400

    def __init__(self, code: str, message: str) -> None:
        """Carry a `code` for machines and a `message` for people."""
        super().__init__(message)
        self.code = code
        self.message = message


class BadRequest(Refusal):
    """The request itself is wrong."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        """Carry the 4xx `status` beside code and message."""
        super().__init__(code, message)
        self.status = status


class UnnamedPage(BadRequest):
    """A page may have this path, but no counter can have its name."""

    def __init__(self, *, reason: str, message: str) -> None:
        """Carry the `reason` for machines: `too_long`, `invisible` or `not_utf8`."""
        super().__init__("bad_path", message)
        self.reason = reason


class MethodNotAllowed(Refusal):
    """The address is right, the method is not."""

    status = 405

    def __init__(self, allowed: str) -> None:
        """Carry the methods that are `allowed`, as a header lists them."""
        super().__init__("method_not_allowed", f"use one of {allowed}")
        self.allowed = allowed


class UnknownSite(Refusal):
    """The site is not one that is counted here."""

    status = 404


class ForeignOrigin(Refusal):
    """A browser asks from a page that does not belong to the site."""

    status = 403


class Unavailable(Refusal):
    """The service cannot count or read now; ask again after `retry_after_s`."""

    status = 503
    retry_after_s = 2


def one_line(error: Exception) -> str:
    """Say in one line what went wrong."""
    text = str(error)
    if isinstance(error, ImportError):
        text = f"this Python cannot load {error.name}: {error}"
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(text.split())
