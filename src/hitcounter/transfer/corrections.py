"""Takes back what should not have been counted.

A correction is the only record of a writer of its own, whose id follows from what it says. So a
command that was cut off can be repeated as it stands: it is made once.
"""

import datetime as dt
from hashlib import blake2b

from hitcounter.errors import CommandError, StoreError, StoreRefusesError
from hitcounter.site import Site
from hitcounter.store import keys
from hitcounter.store.client import Store
from hitcounter.store.corrections import Correction, made, note
from hitcounter.store.writer_connection import Commit

_ATTEMPTS = 5


def writer_of(site: str, *said: object) -> str:
    """Name the writer of a correction that says this of a site."""
    return blake2b("\0".join(map(str, (site, *said))).encode(), digest_size=8).hexdigest()


async def correct(store: Store, site: Site, correction: Correction) -> None:
    """Take pageviews from day, month, year, total and page together; never more than there are.

    Raise `CommandError` where that cannot be, or was done already.
    """
    for each in await made(store, site.name):
        if each.writer == correction.writer:
            done_on = dt.datetime.fromtimestamp(each.at, site.timezone).date()
            raise CommandError(
                f"nothing was changed: this was taken back on {done_on} already; if it is to be"
                " taken back once more, give another reason"
            )
    lane, n, page = store.lane_of(site.name), correction.minus, correction.page
    counted = dict.fromkeys(keys.site_keys(lane, site.name, correction.date).counted, -n)
    key = keys.page_key(lane, site.name, page or "")
    pages = {(keys.pages_key(lane, site.name), 0): {key: -n}} if page else {}
    names = [*counted, key] if page else [*counted]
    for name, value in zip(names, await store.read(names), strict=True):
        if (value or 0) < n:
            seen = f"{keys.counter_of(name).name} has {value or 0} pageviews"
            raise CommandError(f"nothing was changed: {seen}")
    await note(store, site.name, correction)
    await _commit(store, Commit(lane, 0, 1, counted, pages), correction.writer)


async def _commit(store: Store, commit: Commit, writer: str) -> None:
    """Send it until the store answers; it is applied once."""
    connection = store.connect(writer)
    try:
        for attempt in range(_ATTEMPTS):
            (answer,) = await connection.ask([commit])
            if not isinstance(answer, StoreError):
                return
            # Later, what was not answered before may have been done, or be done yet.
            if attempt == 0 and isinstance(answer, StoreRefusesError):
                raise CommandError(f"nothing was changed: {answer}")
        raise CommandError(
            f"{answer}; whether this was taken back is not known: send it again, it is made once"
        )
    finally:
        await connection.close()
