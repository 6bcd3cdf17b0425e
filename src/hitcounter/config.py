"""The settings: one frozen `Config`, checked once, before anything starts.

One rule names every setting: the field `redis_url` is the TOML key `redis_url`, the environment
variable `HITCOUNTER_REDIS_URL` and the flag `--redis-url`. A flag wins over the environment, that
over the file, that over the default; an unknown name is an error.
"""

import argparse
import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hitcounter import setting_parsers as parse
from hitcounter.client_address import Network
from hitcounter.errors import ConfigError, Refusal
from hitcounter.setting_parsers import Parser
from hitcounter.site import Site, site_name

ENV_PREFIX = "HITCOUNTER_"

# What a container platform tells of the other services, among them one that is called hitcounter.
_SERVICE_LINK = re.compile(
    r"(.+_)?SERVICE_HOST|(.+_)?SERVICE_PORT(_.+)?|(.+_)?PORT_[0-9]+_(TCP|UDP|SCTP)(_.+)?"
)
_PORT_LINK = re.compile(r"(.+_)?PORT")


def _setting(default: Any, parser: Parser, doc: str) -> Any:
    return field(default=default, metadata={"parse": parser, "help": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of a service."""

    host: str = _setting("127.0.0.1", parse.host, "address to listen on")
    port: int = _setting(8080, parse.port, "port to listen on; 0 lets the system choose")
    operations_host: str = _setting(
        "127.0.0.1",
        parse.host,
        "address on which operations are served: /metrics, and /readyz in detail",
    )
    operations_port: int | None = _setting(
        9180, parse.port_or_off, "port of operations; 0 lets the system choose, off serves none"
    )
    operations_hosts: tuple[str, ...] = _setting(
        (), parse.hosts, "names by which operations may be asked, beside its own addresses"
    )
    workers: int = _setting(1, parse.whole(1, 256), "processes that serve requests")
    data_dir: Path = _setting(
        Path("data"), parse.path, "directory of everything that is kept on disk"
    )
    redis_url: str = _setting(
        "", parse.redis_url, "store: redis://, rediss:// or unix://; empty runs our own"
    )
    store_binary: str = _setting(
        "", parse.text, "server program of our own store; empty looks for one"
    )
    store_max_mb: int = _setting(
        0,
        parse.whole(0),
        "largest memory of our own store, in megabytes; 0 is half of the machine's",
    )
    timezone: ZoneInfo = field(
        # Not before it is needed: a machine may know no time zones.
        default_factory=lambda: parse.zone("timezone", "Asia/Ho_Chi_Minh"),
        metadata={"parse": parse.zone, "help": "zone of a site's days"},
    )
    lang: str = _setting("vi", parse.lang, "language of the block")
    max_sites: int = _setting(1_000, parse.whole(1), "sites that an open service accepts")
    max_pages: int = _setting(10_000, parse.whole(0), "pages that are stored per site")
    trusted_proxies: tuple[Network, ...] = _setting(
        (),
        parse.networks,
        "CIDRs of proxies, whose X-Forwarded headers are believed",
    )
    count_robots: bool = _setting(
        False, parse.boolean, "whether programs count as people do; true or false"
    )
    robot_words: tuple[str, ...] = _setting(
        (), parse.words, "more words by which robots call themselves"
    )
    limits: str = _setting(
        "on", parse.one_of("on", "off"), "how much one visitor may add; on or off"
    )
    promise_wanted: str = _setting(
        "B", parse.one_of("A", "B", "off"), "promise of the store below which operations are told"
    )
    kept_window_s: float = _setting(
        5.0, parse.seconds, "seconds for which confirmed hits can be sent again"
    )
    store_timeout_s: float = _setting(
        1.0, parse.seconds, "seconds after which the store counts as away"
    )
    max_connections: int = _setting(
        2_000, parse.whole(1), "connections that a worker keeps open, if its limit on files allows"
    )
    head_timeout_s: float = _setting(
        15.0, parse.seconds, "seconds that a client may take over the head of a request"
    )
    body_timeout_s: float = _setting(
        5.0, parse.seconds, "seconds that a client may take over a body"
    )
    send_timeout_s: float = _setting(
        10.0, parse.seconds, "seconds for which a client may leave its answers unread"
    )
    watch_every_s: float = _setting(60.0, parse.seconds, "seconds between two checks of the store")
    journal_max_mb: int = _setting(256, parse.whole(1), "largest journal of a worker, in megabytes")
    log_format: str = _setting(
        "text",
        parse.one_of("text", "json"),
        "lines of the log for people (text) or machines (json)",
    )
    config: Path | None = _setting(None, parse.path, "TOML file with these settings and [sites.…]")
    sites: Mapping[str, Site] = field(default_factory=dict)
    # What flags, environment or file named, whatever they said.
    given: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def is_open(self) -> bool:
        """Return whether any valid site name is accepted."""
        return not self.sites

    def site(self, name: str) -> Site:
        """Describe a site as it is declared, or else by the service's own settings."""
        about = self.timezone, self.lang, frozenset[str](), self.max_pages
        return self.sites.get(name) or Site(name, *about, count_robots=self.count_robots)


SETTINGS = {f.name: f for f in dataclasses.fields(Config) if f.metadata}
# What a site may say in place of the service, and what of itself alone.
_OF_BOTH = ("timezone", "lang", "max_pages", "count_robots")
_SITE_SETTINGS: dict[str, Parser] = {
    **{name: SETTINGS[name].metadata["parse"] for name in _OF_BOTH},
    "origins": parse.origins,
    "query": parse.parameters,
    "own": parse.networks,
    "aliases": parse.site_names,
}


def add_flags(group: argparse._ArgumentGroup) -> None:
    """Add one flag per setting to a command line."""
    for setting in SETTINGS.values():
        group.add_argument(
            "--" + setting.name.replace("_", "-"), metavar="…", help=setting.metadata["help"]
        )


def load(flags: Mapping[str, str | None], environ: Mapping[str, str] = os.environ) -> Config:
    """Read the settings from flags, environment and file, and check them."""
    given = _environment(environ) | {k: v for k, v in flags.items() if v is not None}
    name = given.pop("config", "")
    path = parse.path("config", name) if name else None
    tables = _read_toml(path) if path else {}
    sites = tables.pop("sites", {})
    values = {name: _parse(name, value) for name, value in (tables | given).items()}
    return _with_sites(Config(**values | {"config": path}, given=frozenset(values)), sites)


def service_links(environ: Mapping[str, str]) -> list[str]:
    """Name the variables that a container platform sets, and that are no settings of ours."""
    return sorted(f"{ENV_PREFIX}{name}" for name, value in _ours(environ) if _is_link(name, value))


def _environment(environ: Mapping[str, str]) -> dict[str, Any]:
    return {name.lower(): value for name, value in _ours(environ) if not _is_link(name, value)}


def _ours(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """List what has our prefix, without it."""
    ours = (pair for pair in environ.items() if pair[0].startswith(ENV_PREFIX))
    return [(name.removeprefix(ENV_PREFIX), value) for name, value in ours]


def _is_link(name: str, value: str) -> bool:
    is_address = value.startswith(("tcp://", "udp://")) and _PORT_LINK.fullmatch(name) is not None
    return is_address or _SERVICE_LINK.fullmatch(name) is not None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))  # Windows editors begin with a mark
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None


def _with_sites(config: Config, tables: Any) -> Config:
    if not isinstance(tables, dict):
        raise ConfigError('sites: declare each site as [sites."name"]')
    sites: dict[str, Site] = {}
    for name, table in tables.items():
        site = _site(config, name, table)
        if site.name in sites:
            raise ConfigError(f"sites.{name!r}: {site.name} is declared twice")
        sites[site.name] = site
    _require_plain_aliases(sites)
    return dataclasses.replace(config, sites=sites)


def _require_plain_aliases(sites: Mapping[str, Site]) -> None:
    """Raise `ConfigError` where a name could stand for more than one site."""
    site_of: dict[str, str] = {}
    for site in sites.values():
        for alias in site.aliases:
            where = f"sites.{site.name!r}.aliases: {alias}"
            if alias in sites:
                raise ConfigError(f"{where} is declared as a site itself: leave out one of both")
            if site_of.setdefault(alias, site.name) != site.name:
                raise ConfigError(f"{where} is an alias of {site_of[alias]} already")


def _site(config: Config, name: str, table: Any) -> Site:
    where = f"sites.{name!r}"
    try:
        spelled = site_name(name)
    except Refusal as error:
        raise ConfigError(f"{where}: {error}") from None
    if not isinstance(table, dict):
        raise ConfigError(f'{where}: declare the site as [sites."{name}"]')
    unknown = sorted(set(table) - _SITE_SETTINGS.keys())
    if unknown:
        is_name = isinstance(table[unknown[0]], dict)
        advice = ': dots in a name need quotes, like [sites."www.example.vn"]' if is_name else ""
        raise ConfigError(f"{where}: unknown setting {unknown[0]!r}{advice}")
    said = {key: _SITE_SETTINGS[key](f"{where}.{key}", value) for key, value in table.items()}
    return dataclasses.replace(config.site(spelled), **said)


def _parse(name: str, value: Any) -> Any:
    if name not in SETTINGS:
        raise ConfigError(f"unknown setting {name!r}")
    return SETTINGS[name].metadata["parse"](name, value)
