"""Whose hit it is behind real proxies, whatever the client forges."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import RunningService, start
from tests.integration.proxies import below_a_path

OURS, ANOTHER = "127.0.0.9", "127.0.0.10"
FORGED = f"{OURS}, {ANOTHER}, 127.0.0.1"
APPENDING = """location / {
    proxy_pass http://127.0.0.1:8080/;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
}"""
WAYS = {
    "nginx, appending": ("nginx", APPENDING),
    "nginx, replacing": ("nginx", APPENDING.replace("proxy_add_x_forwarded_for", "remote_addr")),
    "haproxy": ("haproxy", "option forwardfor"),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Start a service that knows its proxy, and one visitor."""
    directory = tmp_path_factory.mktemp("service")
    config = directory / "hitcounter.toml"
    config.write_text(f'[sites.demo]\nown = ["{OURS}"]\n')
    running = start(directory, {"config": config, "trusted_proxies": "127.0.0.1"})
    yield running
    running.stop()
    assert running.process.stdout is not None
    running.process.stdout.close()


@pytest.mark.parametrize(
    "way",
    [pytest.param("nginx, replacing", marks=pytest.mark.slow), "nginx, appending", "haproxy"],
)
def test_a_proxy_tells_its_client_apart(service: RunningService, way: str, tmp_path: Path) -> None:
    language, snippet = WAYS[way]
    with below_a_path(language, snippet, service.port, tmp_path) as url:
        for headers in ({}, {"X-Forwarded-For": FORGED}, {"X-Forwarded-For": f"{ANOTHER}, x"}):
            assert state_of_hit(url, OURS, headers) == "own"
            assert state_of_hit(url, ANOTHER, headers) == "counted"


def state_of_hit(url: str, address: str, headers: dict[str, str]) -> str:
    """Send a hit to a proxy from an address; give the state of the answer."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    client = http.client.HTTPConnection(parts.hostname, parts.port, 10, (address, 0))
    client.request("POST", "/v1/sites/demo/hits", None, headers)
    answer = json.load(client.getresponse())
    client.close()
    return str(answer["state"])
