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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from hitcounter.block import LANGUAGES
from hitcounter.errors import BadRequest, ConfigError
from hitcounter.site import Site, host_name, one_origin, origin_host, site_name
from hitcounter.store import url as store_url

ENV_PREFIX = "HITCOUNTER_"

# What a container platform tells of the other services, among them one that is called hitcounter.
_SERVICE_LINK = re.compile(
    r"(.+_)?SERVICE_HOST|(.+_)?SERVICE_PORT(_.+)?|(.+_)?PORT_[0-9]+_(TCP|UDP|SCTP)(_.+)?"
)
_ZONE = re.compile(r"(%[A-Za-z0-9_.-]+)?")  # which network a link-local address is in
_SURROGATE = re.compile("[\ud800-\udfff]")
_PARAMETER = re.compile(r"[A-Za-z0-9_.\[\]-]{1,32}")
_MAX_PARAMETERS = 8
_PORT_LINK = re.compile(r"(.+_)?PORT")

Network = IPv4Network | IPv6Network
Parser = Callable[[str, Any], Any]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{name}: {value!r} is not text")
    if _SURROGATE.search(value):  # a byte of the command line or the environment
        raise ConfigError(f"{name}: {value!r} is not UTF-8")
    return value


def _filled(name: str, value: Any) -> str:
    text = _text(name, value)
    if not text.strip():
        raise ConfigError(f"{name}: is empty; without it, the default holds")
    return text


def _path(name: str, value: Any) -> Path:
    text = _filled(name, value)
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{name}: {text!r}: {error}") from None
    if "\0" in text:
        raise ConfigError(f"{name}: {text!r} is not a path")
    return path


def _host(name: str, value: Any) -> str:
    text = _filled(name, value)
    address, percent, zone = text.removeprefix("[").removesuffix("]").partition("%")
    host = host_name(address) or host_name(f"[{address}]").strip("[]")
    try:
        host.encode("idna")  # as Python does when it looks the name up
    except UnicodeError:
        host = ""
    if not host or not _ZONE.fullmatch(percent + zone):
        raise ConfigError(f"{name}: {text!r} is not a host name or an address")
    return f"{host}{percent}{zone}"


def _whole(least: int, most: int = 10**9) -> Parser:
    def parse(name: str, value: Any) -> int:
        try:
            number = value if type(value) is int else int(_text(name, value))
        except ValueError:
            raise ConfigError(f"{name}: {value!r} is not a whole number") from None
        if not least <= number <= most:
            raise ConfigError(f"{name}: {number} is not between {least} and {most}")
        return number

    return parse


_port = _whole(0, 65535)


def _port_or_off(name: str, value: Any) -> int | None:
    return None if value == "off" else int(_port(name, value))


def _seconds(name: str, value: Any) -> float:
    try:
        seconds = float(value) if type(value) in (int, float) else float(_text(name, value))
    except (ValueError, OverflowError):
        raise ConfigError(f"{name}: {value!r} is not a number of seconds") from None
    if not 0 < seconds <= 3600:
        raise ConfigError(f"{name}: {value!r} is not between 0 and 3600 seconds")
    return seconds


def _zone(name: str, value: Any) -> ZoneInfo:
    try:
        return ZoneInfo(_text(name, value))
    except (KeyError, ValueError, OSError):
        if not available_timezones():
            raise ConfigError(f"{name}: this machine knows no time zones: install tzdata") from None
        raise ConfigError(f"{name}: {value!r} is not an IANA time zone") from None


def _lang(name: str, value: Any) -> str:
    lang = _text(name, value)
    if lang not in LANGUAGES:
        raise ConfigError(f"{name}: {lang!r} is not one of {', '.join(LANGUAGES)}")
    return lang


def _list(name: str, value: Any) -> list[str]:
    items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ConfigError(f"{name}: {value!r} is not a list of texts")
    return [item for item in items if item]


def _hosts(name: str, value: Any) -> tuple[str, ...]:
    return tuple(_host(name, item) for item in _list(name, value))


def _networks(name: str, value: Any) -> tuple[Network, ...]:
    try:
        return tuple(_network(item) for item in _list(name, value))
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None


def _network(text: str) -> Network:
    """Read a network; one of IPv4 addresses that are written as IPv6 ones is one of IPv4."""
    network = ip_network(text)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < 96:
        return network
    return ip_network((mapped, network.prefixlen - 96))


def _origins(name: str, value: Any) -> frozenset[str]:
    origins = {text: one_origin(text) for text in _list(name, value)}
    for text, origin in origins.items():
        # A host alone stands for every scheme and port.
        if not origin or ("://" not in origin and origin != origin_host(origin)):
            raise ConfigError(f"{name}: {text!r} is not like https://www.example.vn or a host")
    return frozenset(origins.values())


def _parameters(name: str, value: Any) -> tuple[str, ...]:
    parameters = _list(name, value)
    for text in parameters:
        if not _PARAMETER.fullmatch(text):
            raise ConfigError(f"{name}: {text!r} is not the name of a parameter, like id")
    if not len(set(parameters)) == len(parameters) <= _MAX_PARAMETERS:
        raise ConfigError(f"{name}: at most {_MAX_PARAMETERS} parameters, each once")
    return tuple(parameters)


def _redis_url(name: str, value: Any) -> str:
    fault = store_url.fault(value) if isinstance(value, str) else store_url.FORM
    if fault:  # the URL may carry a password, so nothing of it is repeated
        raise ConfigError(f"{name}: {fault}")
    return str(value)


def _setting(default: Any, parse: Parser, doc: str) -> Any:
    return field(default=default, metadata={"parse": parse, "help": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of a service."""

    host: str = _setting("127.0.0.1", _host, "address to listen on")
    port: int = _setting(8080, _port, "port to listen on; 0 lets the system choose")
    operations_host: str = _setting(
        "127.0.0.1",
        _host,
        "address on which operations are served: /metrics, and /readyz in detail",
    )
    operations_port: int | None = _setting(
        9180, _port_or_off, "port of operations; 0 lets the system choose, off serves none"
    )
    operations_hosts: tuple[str, ...] = _setting(
        (), _hosts, "names by which operations may be asked, beside its own addresses"
    )
    workers: int = _setting(1, _whole(1, 256), "processes that serve requests")
    data_dir: Path = _setting(Path("data"), _path, "directory of everything that is kept on disk")
    redis_url: str = _setting(
        "", _redis_url, "store: redis://, rediss:// or unix://; empty runs our own"
    )
    store_binary: str = _setting("", _text, "server program of our own store; empty looks for one")
    store_max_mb: int = _setting(
        0, _whole(0), "largest memory of our own store, in megabytes; 0 is half of the machine's"
    )
    timezone: ZoneInfo = field(
        # Not before it is needed: a machine may know no time zones.
        default_factory=lambda: _zone("timezone", "Asia/Ho_Chi_Minh"),
        metadata={"parse": _zone, "help": "zone of a site's days"},
    )
    lang: str = _setting("vi", _lang, "language of the block")
    max_sites: int = _setting(1_000, _whole(1), "sites that an open service accepts")
    max_pages: int = _setting(10_000, _whole(0), "pages that are stored per site")
    trusted_proxies: tuple[Network, ...] = _setting(
        (), _networks, "CIDRs whose X-Forwarded-Proto and X-Forwarded-Prefix are believed"
    )
    kept_window_s: float = _setting(
        5.0, _seconds, "seconds for which confirmed hits can be sent again"
    )
    store_timeout_s: float = _setting(1.0, _seconds, "seconds after which the store counts as away")
    max_connections: int = _setting(
        2_000, _whole(1), "connections that a worker keeps open, if its limit on files allows"
    )
    head_timeout_s: float = _setting(
        15.0, _seconds, "seconds that a client may take over the head of a request"
    )
    body_timeout_s: float = _setting(5.0, _seconds, "seconds that a client may take over a body")
    send_timeout_s: float = _setting(
        10.0, _seconds, "seconds for which a client may leave its answers unread"
    )
    watch_every_s: float = _setting(60.0, _seconds, "seconds between two checks of the store")
    journal_max_mb: int = _setting(256, _whole(1), "largest journal of a worker, in megabytes")
    config: Path | None = _setting(None, _path, "TOML file with these settings and [sites.…]")
    sites: Mapping[str, Site] = field(default_factory=dict)
    # What flags, environment or file named, whatever they said.
    given: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def is_open(self) -> bool:
        """Tell whether any valid site name is accepted."""
        return not self.sites

    def site(self, name: str) -> Site:
        """Describe a site that is not declared, by the service's own settings."""
        return Site(name, self.timezone, self.lang, frozenset(), self.max_pages)


SETTINGS = {f.name: f for f in dataclasses.fields(Config) if f.metadata}
_MAX_PAGES = SETTINGS["max_pages"].metadata["parse"]
_SITE_KEYS = {"timezone", "lang", "origins", "max_pages", "query"}


def add_flags(group: argparse._ArgumentGroup) -> None:
    """Give a command line one flag per setting."""
    for setting in SETTINGS.values():
        group.add_argument(
            "--" + setting.name.replace("_", "-"), metavar="…", help=setting.metadata["help"]
        )


def load(flags: Mapping[str, str | None], environ: Mapping[str, str] = os.environ) -> Config:
    """Read the settings from flags, environment and file, and check them."""
    given = _environment(environ) | {k: v for k, v in flags.items() if v is not None}
    name = given.pop("config", "")
    path = _path("config", name) if name else None
    tables = _read_toml(path) if path else {}
    sites = tables.pop("sites", {})
    values = {name: _parse(name, value) for name, value in (tables | given).items()}
    return _with_sites(Config(**values | {"config": path}, given=frozenset(values)), sites)


def service_links(environ: Mapping[str, str]) -> list[str]:
    """Name the variables that a container platform sets, and that are no settings of ours."""
    return sorted(
        name
        for name, value in environ.items()
        if name.startswith(ENV_PREFIX) and _is_link(name.removeprefix(ENV_PREFIX), value)
    )


def _is_link(name: str, value: str) -> bool:
    is_address = value.startswith(("tcp://", "udp://")) and _PORT_LINK.fullmatch(name) is not None
    return is_address or _SERVICE_LINK.fullmatch(name) is not None


def _environment(environ: Mapping[str, str]) -> dict[str, Any]:
    links = service_links(environ)
    return {
        name.removeprefix(ENV_PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(ENV_PREFIX) and name not in links
    }


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
    return dataclasses.replace(config, sites=sites)


def _site(config: Config, name: str, table: Any) -> Site:
    where = f"sites.{name!r}"
    try:
        spelled = site_name(name)
    except BadRequest as error:
        raise ConfigError(f"{where}: {error}") from None
    if not isinstance(table, dict):
        raise ConfigError(f'{where}: declare the site as [sites."{name}"]')
    unknown = sorted(set(table) - _SITE_KEYS)
    if unknown:
        raise ConfigError(f"{where}: unknown setting {unknown[0]!r}")
    return Site(
        name=spelled,
        timezone=_zone(f"{where}.timezone", table.get("timezone", config.timezone.key)),
        lang=_lang(f"{where}.lang", table.get("lang", config.lang)),
        origins=_origins(f"{where}.origins", table.get("origins", [])),
        max_pages=_MAX_PAGES(f"{where}.max_pages", table.get("max_pages", config.max_pages)),
        query=_parameters(f"{where}.query", table.get("query", [])),
    )


def _parse(name: str, value: Any) -> Any:
    if name not in SETTINGS:
        raise ConfigError(f"unknown setting {name!r}")
    return SETTINGS[name].metadata["parse"](name, value)
