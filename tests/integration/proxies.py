"""The proxies of web sites: with the files of `deploy/proxies`, or with a few lines of a test."""

import os
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from socket import create_connection
from string import Template
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.conftest import RunningService, start
from tests.support.servers import certify, free_port, program
from tests.support.waiting import until
from tests.support.wire import ANSWER_TIMEOUT_S, Answer

OURS = "127.0.0.9"  # a visitor that the service knows
DEPLOYED = Path(__file__).parents[2] / "deploy" / "proxies"
# The site keeps all it can for a minute, whatever an answer says.
NGINX = """
    pid $directory/pid;
    error_log $directory/error.log;
    events { worker_connections 256; }
    http {
        access_log off;
        client_body_temp_path $directory/body; proxy_temp_path $directory/proxy_;
        fastcgi_temp_path $directory/f; uwsgi_temp_path $directory/u; scgi_temp_path $directory/s;
        proxy_cache_path $directory/cache keys_zone=site:1m;
        proxy_cache site; proxy_cache_valid any 1m; proxy_ignore_headers Cache-Control Expires;
        $text
    }
"""
APACHE = """
    DefaultRuntimeDir $directory
    PidFile $directory/pid
    ErrorLog $directory/error.log
    ServerName 127.0.0.1
    User www-data
    Group www-data
    LoadModule mpm_event_module $modules/mod_mpm_event.so
    LoadModule authz_core_module $modules/mod_authz_core.so
    LoadModule alias_module $modules/mod_alias.so
    LoadModule headers_module $modules/mod_headers.so
    LoadModule proxy_module $modules/mod_proxy.so
    LoadModule proxy_http_module $modules/mod_proxy_http.so
    LoadModule socache_shmcb_module $modules/mod_socache_shmcb.so
    LoadModule ssl_module $modules/mod_ssl.so
    Listen 127.0.0.1:$listen
    $text
"""
PLAIN = {
    "nginx": "server { listen 127.0.0.1:$listen; proxy_cache off; $text }",
    "haproxy": """
global
    stats socket $directory/admin level admin
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend site
    bind 127.0.0.1:$listen
    default_backend counter
backend counter
    $text
""",
}


def _nginx(config: Path) -> list[str | Path]:
    return [program("nginx"), "-p", config.parent, "-c", config, "-g", "daemon off;"]


def _apache(config: Path) -> list[str | Path]:
    return [program("apache2"), "-D", "FOREGROUND", "-f", config]


def _caddy(config: Path) -> list[str | Path]:
    return [program("caddy"), "run", "--config", config, "--adapter", "caddyfile"]


def _haproxy(config: Path) -> list[str | Path]:
    return [program("haproxy"), "-f", config, "-db"]


class Proxy(NamedTuple):
    """A program, its file, what stands around that, and how it names its ports."""

    command: Callable[[Path], list[str | Path]]
    file: str
    around: str
    ports: Mapping[str, str]


PROXIES = {
    "nginx": Proxy(_nginx, "nginx.conf", NGINX, {"listen 443": "listen 127.0.0.1:$listen"}),
    "apache": Proxy(_apache, "apache.conf", APACHE, {"*:443": "127.0.0.1:$listen"}),
    "caddy": Proxy(
        _caddy,
        "Caddyfile",
        "$text",
        {"http_port 80": "http_port $other", "https_port 443": "https_port $listen"},
    ),
    "haproxy": Proxy(_haproxy, "haproxy.cfg", "$text", {"bind :443": "bind 127.0.0.1:$listen"}),
}


class Site(NamedTuple):
    """Where a proxy leads to the counter, and who vouches for it."""

    below_a_path: str
    at_the_root: str
    trust: ssl.SSLContext


class Visitor(HTTPSConnection):
    """A visitor's connection to a host that is on this machine."""

    def __init__(self, url: str, trust: ssl.SSLContext, source: str = "127.0.0.1") -> None:
        """Prepare to connect from an address."""
        parts = urlsplit(url)
        super().__init__(parts.netloc, context=trust)
        self._path, self._trust, self._source = parts.path, trust, (source, 0)

    def connect(self) -> None:
        """Connect to this machine, by the name of the host."""
        line = create_connection(("127.0.0.1", self.port), ANSWER_TIMEOUT_S, self._source)
        self.sock = self._trust.wrap_socket(line, server_hostname=self.host)

    def send_hit(self, method: str, path: str) -> None:
        """Send a request, and wait for nothing."""
        self.request(method, self._path + path)

    def ask(
        self, method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Ask below the path of the address, and read the answer."""
        self.request(method, self._path + path, body or None, headers or {})
        return self.answer()

    def answer(self) -> Answer:
        """Read an answer."""
        answer = self.getresponse()
        got = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, got, answer.read())


@contextmanager
def deployed(name: str, port: int, directory: Path) -> Iterator[Site]:
    """Run a proxy as it is deployed, but for ports and certificate, before a service."""
    proxy, listen = PROXIES[name], free_port()
    certificate, key = certify(directory, "DNS:www.example.vn,DNS:dem.example.vn")
    (directory / "cert-and-key.pem").write_text(certificate.read_text() + key.read_text())
    text = (DEPLOYED / proxy.file).read_text("utf-8")
    ours = {"127.0.0.1:8080": f"127.0.0.1:{port}", "/etc/ssl/hitcounter": str(directory)}
    for documented, value in {**proxy.ports, **ours}.items():
        assert documented in text
        value = Template(value).safe_substitute(listen=listen, other=free_port())
        text = text.replace(documented, value)
    with _running(name, text, listen, directory):
        hosts = f"https://www.example.vn:{listen}/dem", f"https://dem.example.vn:{listen}"
        yield Site(*hosts, ssl.create_default_context(cafile=certificate))


@contextmanager
def plain(name: str, text: str, directory: Path) -> Iterator[int]:
    """Run nginx or HAProxy with a few lines of a test; give its port."""
    listen = free_port()
    text = Template(PLAIN[name]).substitute(listen=listen, directory=directory, text=text)
    with _running(name, text, listen, directory):
        yield listen


@contextmanager
def _running(name: str, text: str, listen: int, directory: Path) -> Iterator[None]:
    proxy, config, admin = PROXIES[name], directory / "config", free_port()
    values = {"directory": directory, "listen": listen, "modules": "/usr/lib/apache2/modules"}
    config.write_text(Template(proxy.around).substitute(values, text=text))
    environment = os.environ | {"HOME": str(directory), "CADDY_ADMIN": f"127.0.0.1:{admin}"}
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(proxy.command(config), env=environment, stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or _listens(listen), f"{name} serves")
        assert process.poll() is None, (directory / "log").read_text()
        yield
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    try:
        create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def knowing(directory: Path) -> Iterator[RunningService]:
    """Run a service that knows its proxy, and one visitor."""
    config = directory / "hitcounter.toml"
    config.write_text(f'[sites.demo]\nown = ["{OURS}"]\n')
    running = start(directory, {"config": config, "trusted_proxies": "127.0.0.1"})
    yield running
    running.stop()
    assert running.process.stdout is not None
    running.process.stdout.close()
