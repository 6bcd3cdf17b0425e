"""Checks what a service has: its settings, its store and what that promises, its journals.

What that needs is imported when it runs: `serve` starts faster without it.
"""

import argparse
import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from hitcounter import filter_lists, streams
from hitcounter.commands import opening
from hitcounter.config import Config
from hitcounter.errors import CommandError, one_line

LIVE_TIMEOUT_S = 2.0
_MET_BY_SERVICE = {
    "hitcounter_unnamed_proxy_hits_total": (
        "hits came through a proxy of a private address that trusted_proxies did not name, since"
        " the service started: their visitors cannot be told apart"
    ),
    "hitcounter_journals_unread": (
        "of what is in data_dir/journal cannot be read by the service, and its hits are missing:"
        " the log says why"
    ),
}


async def check_service(settings: Config, args: argparse.Namespace) -> None:
    """Say what settings, store and journals are, or only whether the service answers."""
    if args.live:
        await _check_live(settings)
        return
    try:
        await _check_all(settings)
    finally:
        streams.flush()  # also what was found before something failed


async def _check_all(settings: Config) -> None:
    print(f"settings: {settings.config or 'environment and defaults'}")
    if settings.is_open:
        print(f"sites: open to any name, up to {settings.max_sites}")
    else:
        print(f"sites: {len(settings.sites)} declared")
    for line in filter_lists.warnings(settings):
        print(f"warning: {line}")
    has_store = opening.has_store(settings)
    if not has_store:
        _tell_of_no_store(settings)
    _check_journals(settings.data_dir)
    _check_running(settings.data_dir)
    # Last, as it fails where the store is away: what waits for it is to be seen then, too.
    if has_store:
        await _check_store(settings)


def _tell_of_no_store(settings: Config) -> None:
    from hitcounter.store.programs import choose, find

    if settings.data_dir.exists() and not settings.data_dir.is_dir():
        raise CommandError(f"data_dir: {settings.data_dir.absolute()} is not a directory")
    program = choose(find(settings.store_binary), settings.data_dir / "store")
    print(f"store: no store yet in {settings.data_dir.absolute()}; serve makes it: {program}")


async def _check_store(settings: Config) -> None:
    """Say what the store is and promises; raise `CommandError` where it takes no hit."""
    from hitcounter.store.inspection import Inspection

    async with opening.reached(settings, create=False) as store:
        facts = await Inspection(store).rehearsed(is_open=settings.is_open, create=False)
    print(f"store: {facts.name}, {opening.place(settings)}")
    print(f"promise: level {facts.level}, {facts.promise}")
    for line in facts.warnings:
        print(f"warning: {line}")
    if facts.hit_refusal:
        raise CommandError(f"hits would go to the journal: {facts.hit_refusal}")


def _check_journals(data_dir: Path) -> None:
    """Say which journals lie there; raise `StartError` where nobody can look."""
    from hitcounter.exactly_once.journal_file import SUFFIX
    from hitcounter.exactly_once.journals import ASIDE_SUFFIX, check_access, unreadable

    journals = data_dir / "journal"
    for directory in (data_dir, journals):
        if directory.exists():
            check_access(directory)
    for path in sorted(journals.glob(f"*{SUFFIX}")):
        if unreadable(path):
            print(f"journal: {path} cannot be read by this user; its hits are not counted")
        else:
            print(f"journal: {path} holds what the store may lack; a service will replay it")
    for path in sorted(journals.glob(f"*{ASIDE_SUFFIX}")):
        print(f"journal: {path} is set aside; its hits are not counted")


def _check_running(data_dir: Path) -> None:
    """Say what the service here has met, such as an unnamed proxy, and which workers hang."""
    from hitcounter.operations.collector import of_all_workers
    from hitcounter.operations.readiness import hanging
    from hitcounter.store.data_dir_lock import is_owned

    for directory in data_dir.glob("metrics-*"):
        for name, meaning in _MET_BY_SERVICE.items():
            if n := of_all_workers(directory, ()).get_sample_value(name):
                print(f"warning: {n:.0f} {meaning}")
        # The workers of a service that was killed left theirs, and do nothing for good.
        for line in hanging(directory) if is_owned(data_dir) else ():
            print(f"warning: {line}")


async def _check_live(settings: Config) -> None:
    """Ask the running service whether it serves, where it says that it does.

    So this holds for any port and host, wherever they are set.
    """
    from hitcounter.store.data_dir_lock import noted_address

    address = urlsplit(noted_address(settings.data_dir))
    if not address.hostname:
        raise CommandError(f"no service serves from {settings.data_dir.absolute()}")
    try:
        async with asyncio.timeout(LIVE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(f"GET /healthz HTTP/1.0\r\nHost: {address.netloc}\r\n\r\n".encode())
            status = (await reader.readline()).decode(errors="replace").strip()
            writer.close()
    except (OSError, TimeoutError) as error:
        reason = one_line(error) or "no answer in time"
        raise CommandError(f"{address.geturl()} does not answer: {reason}") from None
    if " 200 " not in f"{status} ":
        raise CommandError(f"{address.geturl()} answers {status!r}")
    print(f"{address.geturl()} answers")
