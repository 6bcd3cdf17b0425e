"""Why a hit does not count, though nothing is wrong with it."""

from hitcounter.config import Config
from hitcounter.counting.sites import SiteState
from hitcounter.hit import ROBOT, Hit
from hitcounter.robots import Robots


class Rules:
    """What a service does not count."""

    def __init__(self, config: Config) -> None:
        """Know the robots of a service."""
        self._robots = Robots(config.robot_words)

    def reason(self, hit: Hit, site: SiteState) -> str:
        """Return why a hit of a site does not count; nothing where it does."""
        is_robot = hit.agent is not None and self._robots.has(hit.agent)
        return ROBOT if is_robot and not site.site.count_robots else ""
