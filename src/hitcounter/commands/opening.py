"""Opens the store that a command is about, and says which one that is.

The client of the store is imported when it is needed: `serve` starts faster without it.
"""

import argparse
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hitcounter.config import Config
from hitcounter.errors import CommandError

if TYPE_CHECKING:
    from hitcounter.store.client import Store

COMMAND_TIMEOUT_S = 10.0
LOADING_TIMEOUT_S = 60.0


def opened(settings: Config) -> AbstractAsyncContextManager["Store"]:
    """Open the store; raise `CommandError` where there is none."""
    _expect_store(settings)
    return reached(settings, create=False)


def opened_or_made(
    settings: Config, args: argparse.Namespace
) -> AbstractAsyncContextManager["Store"]:
    """Open the store, or make it where the settings say; raise where that is a guess.

    A directory that nobody named is the one of the service only if both run in the same place.
    """
    if not args.new and "data_dir" not in settings.given:
        _expect_store(settings, ": give the --config or --data-dir of the service, or --new")
    return reached(settings, create=True)


@asynccontextmanager
async def reached(settings: Config, *, create: bool) -> AsyncIterator["Store"]:
    """Open the configured store, or that of `data_dir`: the running one, or one run for as long."""
    from hitcounter.store.client import Store
    from hitcounter.store.embedded import borrowed
    from hitcounter.store.inspection import Inspection

    address = borrowed(settings.data_dir, settings.store_binary)
    async with nullcontext(settings.redis_url) if settings.redis_url else address as url:
        store = Store(url, COMMAND_TIMEOUT_S)
        try:
            wait_s = 0 if settings.redis_url else LOADING_TIMEOUT_S
            await Inspection(store).check(wait_s, create=create)
            yield store
        finally:
            await store.close()


def has_store(settings: Config) -> bool:
    """Return whether there is a store to open, or one is configured."""
    from hitcounter.store import embedded

    return bool(settings.redis_url) or embedded.has_store(settings.data_dir)


def _expect_store(settings: Config, advice: str = "") -> None:
    """Raise `CommandError` where a store would first have to be made."""
    if not settings.redis_url and not settings.data_dir.is_dir():
        raise CommandError(
            f"data_dir: there is no directory {settings.data_dir.absolute()}{advice}"
        )
    if not has_store(settings):
        raise CommandError(f"data_dir: there is no store in {settings.data_dir.absolute()}{advice}")


def place(settings: Config) -> str:
    """Name the store, without what is secret in its URL."""
    if not settings.redis_url:
        return f"our own in {settings.data_dir.absolute()}"
    parts = urlsplit(settings.redis_url)
    path = parts.path if parts.scheme == "unix" or re.fullmatch(r"/\d*", parts.path) else ""
    db = re.search(r"\bdb=\d+", parts.query)
    query = f"?{db[0]}" if db else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}{query}"
