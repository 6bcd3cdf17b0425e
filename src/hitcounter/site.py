"""Sites and pages: what may be counted, and under which name.

A name that passes here is safe everywhere: as a part of a key, in a log line and in a page.
`page_path` is idempotent: the path that an answer shows, asked for again, is the same page.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

from hitcounter.client_address import Network
from hitcounter.errors import Refusal, UnnamedPage

MAX_PATH_BYTES = 512
MAX_RAW_PATH = 4 * MAX_PATH_BYTES  # percent-encoding takes three characters per byte

MAX_HOST, MAX_LABEL = 253, 63
MAX_ORIGIN = MAX_HOST + len("https://.:65535")

_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f.]*:[0-9a-f:.]*\]")
_ORIGIN = re.compile(
    r"((?P<scheme>https?)://)?(?P<host>\[[^\]]*\]|[^/?#@:\[\]\s]+)(:(?P<port>[0-9]{1,5}))?",
    re.IGNORECASE,
)
_USUAL_PORTS = {"http": 80, "https": 443}
_SITE_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_INDEX_FILES = re.compile(r"(?:/index\.html?)+\Z")
_SLASHES = re.compile(r"/{2,}")
# How bytes that are no UTF-8 stay in a text until somebody looks.
UNDECODED = "surrogateescape"
_UNDECODED = re.compile(r"[\udc80-\udcff]")
# Control characters and surrogates, also those that somebody encoded byte by byte.
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udc7f\udd00-\udfff]|\udced[\udca0-\udcbf]")
# Format, private-use and unassigned characters; Cf holds the bidirectional controls.
_INVISIBLE_CATEGORIES = frozenset({"Cf", "Co", "Cn", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Site:
    """One counted web site."""

    name: str
    timezone: ZoneInfo
    lang: str
    origins: frozenset[str]
    max_pages: int
    query: tuple[str, ...] = ()  # the parameters that are part of a page's address
    count_robots: bool = False
    own: tuple[Network, ...] = ()  # from where its editors look at it
    aliases: tuple[str, ...] = ()  # names that it had before, or of sites that went into it

    def owns(self, host: str) -> bool:
        """Return whether a host is this site's own, with or without www."""
        bare = host_name(host).removeprefix("www.")
        names = self.name, *self.aliases, *map(origin_host, self.origins)
        return any(bare == name.removeprefix("www.") for name in names)

    def admits(self, text: str) -> bool:
        """Return whether a page of this origin may count; a site without `origins` admits all."""
        origin = one_origin(text)
        return not self.origins or origin in self.origins or origin_host(origin) in self.origins


def host_name(text: str) -> str:
    """Return the one spelling of a host name or address; empty where it is none.

    Folds case, drops a dot at the end, and writes the name in ASCII, as browsers do (IDNA).
    """
    # Too long is not remembered: who sends it must not fill the memory.
    return _host_name(text) if len(text) <= MAX_HOST + 1 else ""


@lru_cache(maxsize=2048)
def _host_name(text: str) -> str:
    host = text.lower() if text.isascii() else _in_ascii(text)
    host = host.removesuffix(".")
    return host if len(host) <= MAX_HOST and _HOST.fullmatch(host) else ""


def _in_ascii(name: str) -> str:
    """Write a name as browsers do (UTS 46): folded, composed, each label in punycode."""
    # Letter by letter, as browsers know no form of a letter for the end of a word.
    folded = "".join(map(str.lower, unicodedata.normalize("NFKC", name)))
    labels = unicodedata.normalize("NFC", folded).replace("\u3002", ".").split(".")
    return ".".join(map(_label_in_ascii, labels))


def _label_in_ascii(label: str) -> str:
    """Write a label in punycode; leave it as it is where it can be in no name."""
    # Encoding takes time with the square of the length.
    if label.isascii() or len(label) > MAX_LABEL:
        return label
    kinds = [unicodedata.category(character)[0] for character in label]
    if kinds[0] == "M" or not {"C", "Z"}.isdisjoint(kinds):
        return label
    encoded = "xn--" + label.encode("punycode").decode()
    return encoded if len(encoded) <= MAX_LABEL else label


def one_origin(text: str) -> str:
    """Return the one spelling of `https://host[:port]` or a bare host; empty where it is neither.

    The port that goes without saying is left out.
    """
    return _one_origin(text) if len(text) <= MAX_ORIGIN else ""


@lru_cache(maxsize=2048)
def _one_origin(text: str) -> str:
    match = _ORIGIN.fullmatch(text)
    host = host_name(match["host"]) if match else ""
    if not match or not host:
        return ""
    scheme, port = (match["scheme"] or "").lower(), match["port"]
    said_port = "" if port is None or int(port) == _USUAL_PORTS.get(scheme) else f":{int(port)}"
    return f"{scheme}://{host}{said_port}" if scheme else f"{host}{said_port}"


def origin_host(origin: str) -> str:
    """Return the host of what `one_origin` gives."""
    match = _ORIGIN.fullmatch(origin)
    return match["host"] if match else ""


def site_name(text: str) -> str:
    """Check the name of a site, and return its one spelling: a name in its own script in punycode.

    Raise `Refusal` where no site can have it.
    """
    name = text if text.isascii() else host_name(text)
    if _SITE_NAME.fullmatch(name) is None:
        raise Refusal(
            "bad_site",
            "a site name is 1 to 63 of a-z, 0-9, dot and hyphen, and starts with a letter or digit"
            " (in another script: as punycode)",
        )
    return name


def site_in_path(raw: str) -> str:
    """Return the name of a site that a path names in its own script, as percent-encoded UTF-8.

    Whatever else it holds stays as it is, for `site_name` to refuse.
    """
    if "%" not in raw:
        return raw
    try:
        text = unquote(raw, errors="strict")
        return raw if text.isascii() else site_name(text)
    except (UnicodeError, Refusal):
        return raw


def page_path(text: str, query: tuple[str, ...] = ()) -> str:
    """Normalise the path of a page, so that one page has one counter.

    Of its query stay the parameters that are named in `query`, in that order; the rest and the
    fragment are dropped. Decodes percent-encoding, composes Unicode (NFC), folds repeated slashes
    and drops a trailing slash or index.html. What would read differently if decoded again (`%`,
    `?`, `#`) stays encoded.

    Raises Refusal where no page has such a path, and UnnamedPage where one may have it but its
    counter could have no name.
    """
    # Long ones are not remembered: who sends them must not fill the memory.
    is_short = len(text) <= MAX_PATH_BYTES
    return _page_path(text, query) if is_short else _page_path.__wrapped__(text, query)


@lru_cache(maxsize=2048)
def _page_path(text: str, query: tuple[str, ...]) -> str:
    if not text.startswith("/"):
        raise Refusal("bad_path", "the path of a page starts with /")
    raw, _, parameters = text.partition("#")[0].partition("?")
    path = _normalised(raw)
    kept = _kept(parameters, query) if query else ""
    return _normalised(f"{path}%3F{kept}") if kept else path


def _kept(parameters: str, names: Sequence[str]) -> str:
    values: dict[str, str] = {}
    for parameter in parameters.split("&"):
        name, _, value = parameter.partition("=")
        values.setdefault(name, value.replace("+", "%20"))  # of several the first counts
    return "&".join(f"{name}={values[name]}" for name in names if values.get(name))


def _normalised(raw: str) -> str:
    path = _decoded(raw)
    if any(unicodedata.category(character) in _INVISIBLE_CATEGORIES for character in path):
        raise UnnamedPage(
            reason="invisible", message="the path of a page has no invisible characters"
        )
    path = _INDEX_FILES.sub("", _SLASHES.sub("/", path).rstrip("/")) or "/"
    path = path.replace("%", "%25").replace("?", "%3F").replace("#", "%23")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise _too_long()
    return path


def _decoded(raw: str) -> str:
    path = unquote(raw, errors=UNDECODED)
    if _NO_TEXT.search(path):
        raise Refusal("bad_path", "the path of a page has no control characters or surrogates")
    # Before the work that grows with the square of the length.
    if len(raw) > MAX_RAW_PATH:
        raise _too_long()
    if _UNDECODED.search(path):
        raise UnnamedPage(reason="not_utf8", message="the path of a page is UTF-8")
    return unicodedata.normalize("NFC", path)


def _too_long() -> UnnamedPage:
    return UnnamedPage(
        reason="too_long", message=f"the path of a page has at most {MAX_PATH_BYTES} bytes"
    )


def referred_path(referer: str, site: Site) -> str | None:
    """Return the page that a Referer names, if it is one of the site's own.

    A bare `/` is what browsers send across origins when they hide the page, so it names none. Nor
    does a path that no page can have: the browser chose it, and the hit is still the site's.
    """
    try:
        parts = urlsplit(referer)
        path = page_path(f"{parts.path or '/'}?{parts.query}", site.query)
        is_hidden = parts.path in ("", "/") and path == "/"
        return None if is_hidden or not site.owns(parts.hostname or "") else path
    except (ValueError, Refusal):
        return None
