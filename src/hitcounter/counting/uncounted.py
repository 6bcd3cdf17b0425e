"""Why a hit does not count, though nothing is wrong with it."""

import logging
import time

from hitcounter.client_address import Client
from hitcounter.config import Config
from hitcounter.counting.sites import SiteState
from hitcounter.hit import LIMITED, OWN, ROBOT, Hit
from hitcounter.limits import Limits
from hitcounter.metrics import Metrics
from hitcounter.robots import Robots

log = logging.getLogger(__name__)

_DAY_S = 86_400.0
_UNNAMED = (
    "hits come through a proxy of a private address that trusted_proxies does not name: their"
    " visitors cannot be told apart, and nothing bounds how much each of them adds to a site"
)


class Rules:
    """What a service does not count."""

    def __init__(self, config: Config, limits: Limits | None, metrics: Metrics) -> None:
        """Know the robots of a service, and its limits if there are any."""
        self._robots = Robots(config.robot_words)
        self._limits = limits
        self._metrics = metrics
        self._says_unnamed_at_s = 0.0

    def measure(self) -> None:
        """Tell the metrics how full the limits are."""
        if self._limits is not None:
            self._metrics.limits_fill.set(self._limits.fill)

    def admits(self, client: Client) -> bool:
        """Take one request of what an address can mean; return whether it asks no more."""
        if self._limits is None or not client.is_visitor:
            return True
        return self._limits.take_request(client)

    def refuses(self, client: Client) -> bool:
        """Return whether an address still asks for more than it can mean; take nothing."""
        return self._limits is not None and self._limits.refuses(client)

    def reason(self, hit: Hit, site: SiteState) -> str:
        """Return why a hit of a site does not count; nothing where it does."""
        if hit.client.is_unnamed_proxy:
            self._note_unnamed_proxy()
        if site.site.own and hit.client.is_visitor and hit.client.address in site.own:
            return OWN
        if self._limits is not None and hit.client.is_visitor:
            agent = f"{hit.agent}\0{hit.languages}"
            if not self._limits.take_hit(site.site.name, hit.client, agent):
                return LIMITED
        is_robot = hit.agent is not None and self._robots.has(hit.agent)
        return ROBOT if is_robot and not site.site.count_robots else ""

    def may_begin_site(self, client: Client) -> bool:
        """Return whether an address may begin another site."""
        return self._limits is None or self._limits.take_site(client)

    def _note_unnamed_proxy(self) -> None:
        self._metrics.unnamed_proxy_hits.inc()
        now_s = time.monotonic()
        if now_s >= self._says_unnamed_at_s:
            log.warning(_UNNAMED)
            self._says_unnamed_at_s = now_s + _DAY_S
