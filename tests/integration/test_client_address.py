"""Whose hit it is behind proxies that append to what the client forges."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunningService
from tests.integration.proxies import OURS, knowing, plain

ANOTHER = "127.0.0.10"
FORGED = f"{OURS}, {ANOTHER}, 127.0.0.1"
WAYS = {
    "nginx": """location / {
        proxy_pass http://127.0.0.1:8080/;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }""",
    "haproxy": """option forwardfor
    server counter 127.0.0.1:8080""",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Start a service that knows its proxy, and one visitor."""
    with knowing(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.mark.parametrize("way", WAYS)
def test_a_proxy_tells_its_client_apart(service: RunningService, way: str, tmp_path: Path) -> None:
    text = WAYS[way].replace(":8080", f":{service.port}")
    with plain(way, text, tmp_path) as port:
        for headers in ({}, {"X-Forwarded-For": FORGED}, {"X-Forwarded-For": f"{ANOTHER}, x"}):
            assert state_of_hit(port, OURS, headers) == "own"
            assert state_of_hit(port, ANOTHER, headers) == "counted"


def state_of_hit(port: int, source: str, headers: dict[str, str]) -> str:
    """Send a hit to a proxy from an address; give the state of the answer."""
    client = http.client.HTTPConnection("127.0.0.1", port, 10, (source, 0))
    client.request("POST", "/v1/sites/demo/hits", None, headers)
    answer = json.load(client.getresponse())
    client.close()
    return str(answer["state"])
