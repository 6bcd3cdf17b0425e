"""The address of a store: what it may say, and that nothing of it is repeated.

A password with a character that ends a part of a URL moves pieces of it into the host, the path
or the options, from where they would get into messages. So a part that has no business there is
an error, and no error quotes any part.
"""

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

SCHEMES = ("redis", "rediss", "unix")
_TLS_OPTIONS = frozenset(
    {"ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile"}
)
# A path can say who asks only behind it.
_OPTIONS = {"rediss": _TLS_OPTIONS, "unix": frozenset({"username", "password"})}
FORM = "not a URL like redis://host:6379/0, rediss://… or unix:///path"
_ENCODE = (
    "in a user name, a password or a path, write @ / ? # and spaces as %40 %2F %3F %23 %20"
    " (percent-encoding)"
)
_UNENCODED = re.compile(r"[\x00-\x20\x7f#]")
_DATABASE = re.compile("/?[0-9]{0,9}")


def fault(url: str) -> str | None:
    """Say what is wrong with the URL of a store, without any part of it; an empty one is right."""
    if not url:
        return None
    if not url.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        return FORM
    if _UNENCODED.search(url) or _is_torn(url):
        return _ENCODE
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return FORM
    return _fault_of_place(parts, port) or _fault_of_user(parts) or _fault_of_options(parts)


def _is_torn(url: str) -> bool:
    """Return whether the user's part seems to go on behind a character that ended it."""
    authority, slash, rest = url.partition("://")[2].partition("/")
    authority, mark, options = authority.partition("?")
    return authority.count("@") > 1 or "@" in f"{mark}{options}{slash}{rest}"


def _fault_of_place(parts: SplitResult, port: int | None) -> str | None:
    if parts.scheme == "unix":
        is_local = not parts.netloc.rpartition("@")[2]
        return None if is_local and len(parts.path) > 1 else FORM
    if not parts.hostname or port == 0:
        return FORM
    if not _DATABASE.fullmatch(parts.path):
        return "the path behind the host is the number of a database, like /0"
    return None


def _fault_of_user(parts: SplitResult) -> str | None:
    if parts.username and parts.password is None:
        return "a user has a password: user:password@host, or :password@host without a user"
    return None


def _fault_of_options(parts: SplitResult) -> str | None:
    allowed = {"db"} | _OPTIONS.get(parts.scheme, frozenset())
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        pairs = [("", "")]
    options = dict(pairs)
    if len(options) < len(pairs) or not options.keys() <= allowed:
        return f"the options behind ? may be, once each: {', '.join(sorted(allowed))}"
    if "db" in options and (parts.path.strip("/") and parts.scheme != "unix"):
        return "the database is named twice"
    if not re.fullmatch("[0-9]{1,9}", options.get("db", "0")):
        return "db is the number of a database"
    if options.get("ssl_cert_reqs", "required") not in ("none", "optional", "required"):
        return "ssl_cert_reqs is none, optional or required"
    return None
