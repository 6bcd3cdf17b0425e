"""The sites that commands name."""

from hitcounter.config import Config
from hitcounter.errors import CommandError, Refusal
from hitcounter.site import Site, site_name
from hitcounter.store.client import Store


def known_site(config: Config, name: str) -> Site:
    """Find a declared site, or any in an open service; raise `CommandError` for another."""
    name = known_name(name)
    if config.is_open:
        return config.site(name)
    for site in config.sites.values():
        if name in (site.name, *site.aliases):
            return site
    raise CommandError(f"the site {name} is not declared in {config.config}")


def known_name(name: str) -> str:
    """Return the one spelling of a site's name; raise `CommandError` where none can have it."""
    try:
        return site_name(name)
    except Refusal as error:
        raise CommandError(f"{name!r}: {error}") from None


async def admit(store: Store, config: Config, site: str) -> None:
    """Register a site; raise `CommandError` where there is no room for it."""
    if config.is_open and not await store.admit_site(site, config.max_sites):
        raise CommandError(f"{site} would be one more than max_sites ({config.max_sites})")
