"""The proxies of web sites, with what the documents say for them."""

import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

from tests.support.servers import free_port, program
from tests.support.waiting import until

DOCUMENT = Path(__file__).parents[2] / "docs" / "operating.md"
NGINX = """
    pid $directory/pid;
    error_log $directory/error.log;
    events { worker_connections 256; }
    http {
        access_log off;
        client_body_temp_path $directory/body; proxy_temp_path $directory/proxy_;
        fastcgi_temp_path $directory/f; uwsgi_temp_path $directory/u; scgi_temp_path $directory/s;
        server { listen 127.0.0.1:$listen; $snippet }
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
    Listen 127.0.0.1:$listen
    <VirtualHost 127.0.0.1:$listen>
    $snippet
    </VirtualHost>
"""
CADDY = """{
    admin off
    auto_https off
}
http://127.0.0.1:$listen {
    $snippet
}
"""
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend site
    bind 127.0.0.1:$listen
    default_backend counter
backend counter
    $snippet
    server counter 127.0.0.1:$counter
"""


def _nginx(config: Path) -> list[str | Path]:
    return [program("nginx"), "-p", config.parent, "-c", config, "-g", "daemon off;"]


def _apache(config: Path) -> list[str | Path]:
    return [program("apache2"), "-D", "FOREGROUND", "-f", config]


def _caddy(config: Path) -> list[str | Path]:
    return [program("caddy"), "run", "--config", config, "--adapter", "caddyfile"]


def _haproxy(config: Path) -> list[str | Path]:
    return [program("haproxy"), "-f", config, "-db"]


# By the name of the snippet's language in the document.
PROXIES: dict[str, tuple[Callable[[Path], list[str | Path]], str]] = {
    "nginx": (_nginx, NGINX),
    "apache": (_apache, APACHE),
    "caddyfile": (_caddy, CADDY),
    "haproxy": (_haproxy, HAPROXY),
}


def documented(language: str) -> str:
    """Read what the document says for a proxy that leads a path to the service."""
    found = re.findall(f"```{language}\n(.+?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    (snippet,) = (each for each in found if "X-Forwarded-Prefix" in each)
    assert "127.0.0.1:8080" in snippet
    return str(snippet)


@contextmanager
def below_a_path(language: str, snippet: str, port: int, directory: Path) -> Iterator[str]:
    """Run a proxy that leads `/dem/` to a service; give the address of its host."""
    command, text = PROXIES[language]
    listen, config = free_port(), directory / "config"
    values = {
        "directory": directory,
        "listen": listen,
        "counter": port,
        "modules": "/usr/lib/apache2/modules",
        "snippet": snippet.replace("127.0.0.1:8080", f"127.0.0.1:{port}"),
    }
    config.write_text(Template(text).substitute(values))
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            command(config), env=os.environ | {"HOME": str(directory)}, stdout=log, stderr=log
        )
    try:
        until(lambda: _listens(listen), f"{language} serves")
        yield f"http://127.0.0.1:{listen}"
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True
