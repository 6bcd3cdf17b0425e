"""Names that the lists of blockers and of DNS filters block, though they mean others.

Nothing here slips past a list: a name that is taken for what we are not is warned of, so that
somebody chooses another.
"""

import re

from hitcounter.config import Config

# EasyPrivacy has the first ones, for whole addresses; the DNS lists of Pi-hole the begins of hosts.
_LISTED = re.compile(
    r"/(hitcounter[./]|hit-counter\.|hit_counter|hitcount/|webcounter/)"
    r"|\Ahttps?://((?:analytics?|count(?:ers?)?[0-9]*|pixels?|stat(?:s|istics)?[0-9]*)[_.-])",
    re.IGNORECASE,
)


def listed_word(url: str) -> str:
    """Return what lists block of a URL; nothing if they let it pass."""
    match = _LISTED.search(url)
    return (match[1] or match[2]) if match else ""


def listed_word_of_site(name: str) -> str:
    """Return what lists block of the URLs of a site."""
    return listed_word(f"/v1/sites/{name}/")


def warnings(config: Config) -> list[str]:
    """Say of the address and the sites of a service which ones lists block."""
    words = {f"host {config.host}": listed_word(f"http://{config.host}/")}
    words |= {f"site {name}": listed_word_of_site(name) for name in config.sites}
    return [
        f"the {what} has {word!r}, which block lists block: visitors who use them would not be"
        " counted; choose another name"
        for what, word in words.items()
        if word
    ]
