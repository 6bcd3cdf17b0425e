"""The service below a path of a site's own host, behind each proxy as it is deployed."""

import re
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from pathlib import Path
from urllib.parse import quote, urljoin

import pytest
import yaml  # type: ignore[import-untyped]

from hitcounter.web.scripts import CURRENT
from tests.conftest import RunningService, start
from tests.integration.proxies import PROXIES, Site, Visitor, deployed
from tests.support.wire import Answer

pytestmark = pytest.mark.xdist_group("below a path")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Start a service that believes the proxies of this machine."""
    running = start(tmp_path_factory.mktemp("service"), {"trusted_proxies": "127.0.0.1"})
    yield running
    running.stop()
    assert running.process.stdout is not None
    running.process.stdout.close()


@pytest.fixture(
    params=[
        name if name == "nginx" else pytest.param(name, marks=pytest.mark.slow) for name in PROXIES
    ]
)
def site(request: pytest.FixtureRequest, service: RunningService, tmp_path: Path) -> Iterator[Site]:
    """Run a proxy."""
    with deployed(request.param, service.port, tmp_path) as site:
        yield site


def test_all_is_found_below_the_path_and_says_so(site: Site) -> None:
    host = site.below_a_path.removesuffix("/dem")

    def get(address: str, method: str = "GET", **headers: str) -> Answer:
        assert address.startswith(host)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(Visitor(host, site.trust)) as visitor:
            return visitor.ask(method, address.removeprefix(host), headers=named)

    redirect = get(f"{host}/dem")
    base = urljoin(f"{host}/dem", redirect.headers["location"])
    assert (redirect.status // 100, base) == (3, f"{host}/dem/")

    # Every address of the front page leads to us, and what is copied names where it was found.
    front = get(base)
    text = front.body.decode()
    links = re.findall(r' (?:src|href|data-badge)="([^"#][^"]*)"', text)
    addresses = {urljoin(base, unescape(link)) for link in links if not link.startswith("data:")}
    assert len(addresses) > 6
    for address in addresses:
        assert address.startswith(base)
        assert get(address).status == 200
    copied = unescape("".join(re.findall("<code>(.*?)</code>", text, re.DOTALL)))
    assert set(re.findall(r'https?://[^"/]+/?\w*', copied)) == {f"{host}/dem"}
    assert f'server="{host}/dem"' in copied
    assert '<form action="./"' in text

    # The script, under both addresses, and to who has it already.
    for path in ("widget.js", CURRENT.path[1:]):
        script = get(f"{base}{path}?ver=1", Accept_Encoding="gzip")
        assert script.headers["content-encoding"] == "gzip"
        held = {"If_None_Match": script.headers["etag"], "Accept_Encoding": "gzip"}
        assert get(f"{base}{path}", **held).status == 304

    # What counts, also of a site in its own script; and what a browser asks before.
    name = f"hội{host.rpartition(':')[2]}.vn"
    sites = urljoin(base, f"v1/sites/{quote(name)}/")
    assert get(f"{sites}hits", "POST").json["total"] == 1
    assert get(f"{sites}pixel.gif?path={quote('/tin-tức/1 2')}").status == 200
    assert get(f"{sites}badge.svg?count=1&path=/a&utm_source=x").status == 200
    read = get(f"{sites}counts?path={quote('/tin-tức/1 2', safe='')}").json
    assert (read["total"], read["page"]) == (3, {"path": "/tin-tức/1 2", "total": 1})
    preflight = get(f"{sites}hits", "OPTIONS", Access_Control_Request_Headers="traceparent")
    assert preflight.headers["access-control-allow-headers"] == "traceparent"
    assert get(f"{sites}hits?x=1", "POST").code == "bad_query"

    description = yaml.safe_load(get(f"{base}openapi.yaml").body)
    (server,) = description["servers"]
    assert urljoin(f"{base}openapi.yaml", server["url"]) == base
