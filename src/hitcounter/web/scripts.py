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

from aiohttp import hdrs, web

from hitcounter.counting.counter import Counter
from hitcounter.web import hit_request
from hitcounter.web.hit_request import Target
from hitcounter.web.responses import COMMON_HEADERS, accepts_gzip, no_store

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


async def openapi(_counter: Counter, _request: web.BaseRequest, _target: Target) -> web.Response:
    """Serve the description of the HTTP contract."""
    return web.Response(body=_OPENAPI, headers=no_store("application/yaml"))


async def serve(
    script: Script, cache: str, _counter: Counter, request: web.BaseRequest, _target: Target
) -> web.Response:
    """Serve a script, unless the client has it; a query means nothing."""
    headers = COMMON_HEADERS | {
        "Cache-Control": cache,
        "ETag": f'W/"{script.version}"',  # weak, as proxies pack and unpack
        "Vary": "Accept-Encoding",
    }
    if hit_request.holds(request.headers, script.version):
        return web.Response(status=304, headers=headers)
    headers |= {"Content-Type": JAVASCRIPT}
    if accepts_gzip(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ()))):
        return web.Response(body=script.gzipped, headers=headers | {"Content-Encoding": "gzip"})
    return web.Response(body=script.content, headers=headers)
