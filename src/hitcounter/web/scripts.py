"""The scripts to embed: the current one, and under its hash every one that was ever published.

Pages and caches hold addresses and copies for years, so what was published once is served for
ever. A published script never changes; browsers may keep it, and check it by `integrity`.
"""

import gzip
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256, sha384
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

from aiohttp import hdrs

from hitcounter.counting.counter import Counter
from hitcounter.web import hit_request
from hitcounter.web.hit_request import Target
from hitcounter.web.request import Request
from hitcounter.web.responses import COMMON_HEADERS, Response, accepts_gzip, no_store, response

JAVASCRIPT = "text/javascript; charset=utf-8"
AN_HOUR = "public, max-age=3600"
FOR_EVER = "public, max-age=31536000, immutable"

_FILES = resources.files("hitcounter.web") / "static"


class Script(NamedTuple):
    """One version of the script, prepared to be sent, and what browsers check it with."""

    version: str
    content: bytes
    gzipped: bytes
    integrity: str

    @property
    def path(self) -> str:
        """Return the address that never has another content."""
        return f"/widget-{self.version}.js"


def _prepared(file: Traversable) -> Script:
    content = file.read_bytes()
    digest = b64encode(sha384(content).digest()).decode()
    version = sha256(content).hexdigest()[:12]
    return Script(version, content, gzip.compress(content, mtime=0), f"sha384-{digest}")


_OPENAPI = (_FILES / "openapi.yaml").read_bytes()

CURRENT = _prepared(_FILES / "widget.js")
_PUBLISHED = map(_prepared, (_FILES / "published").iterdir())
PINNED: Mapping[str, Script] = {script.path: script for script in (*_PUBLISHED, CURRENT)}


async def openapi(_counter: Counter, _request: Request, _target: Target) -> Response:
    """Serve the description of the HTTP contract."""
    return response(_OPENAPI, no_store("application/yaml"))


async def serve(
    script: Script, cache: str, _counter: Counter, request: Request, _target: Target
) -> Response:
    """Serve a script, unless the client has it; a query means nothing."""
    headers = COMMON_HEADERS | {
        "Cache-Control": cache,
        "ETag": f'W/"{script.version}"',  # weak, as proxies pack and unpack
        "Vary": "Accept-Encoding",
    }
    if hit_request.holds(request.headers, script.version):
        return response(None, headers, 304)
    headers |= {"Content-Type": JAVASCRIPT}
    if accepts_gzip(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ()))):
        return response(script.gzipped, headers | {"Content-Encoding": "gzip"})
    return response(script.content, headers)
