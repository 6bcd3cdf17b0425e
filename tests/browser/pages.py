"""A web site on an origin of its own, which embeds the counter as real sites do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

POLL_S = 0.01  # how soon the site notices that it has to end


@dataclass(slots=True)
class Pages:
    """The pages of a running web site, by path."""

    url: str
    site: str = "demo"  # where it is taken for the counter
    bodies: dict[str, tuple[str, str]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    post_answer: str = ""
    asked: list[str] = field(default_factory=list)

    def put(self, path: str, body: str, content_type: str = "text/html") -> str:
        """Publish a page and return its URL."""
        self.bodies[path] = (body, content_type)
        return self.url + path


class _Site(ThreadingHTTPServer):
    daemon_threads = True
    pages: Pages


class _Handler(BaseHTTPRequestHandler):
    server: _Site

    def do_GET(self) -> None:
        pages = self.server.pages
        pages.asked.append(self.path)
        body = pages.bodies.get(self.path) or pages.bodies.get(self.path.partition("?")[0])
        if body:
            self._answer(*body)
        else:  # also what a page asks only to be noted here
            self.send_response(HTTPStatus.NO_CONTENT)
            self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(self.server.pages.post_answer, "application/json")

    def _answer(self, body: str, content_type: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{content_type}; charset=utf-8")
        for name, value in self.server.pages.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keep quiet."""


@contextmanager
def serving() -> Iterator[Pages]:
    """Serve a web site on a loopback port that the system picks."""
    with _Site(("127.0.0.1", 0), _Handler) as site:
        site.pages = Pages(f"http://127.0.0.1:{site.server_port}")
        thread = threading.Thread(target=site.serve_forever, args=(POLL_S,))
        thread.start()
        try:
            yield site.pages
        finally:
            site.shutdown()
            thread.join()


class Counter(Protocol):
    """Whatever a page takes for the counter, and the site that it counts there."""

    @property
    def url(self) -> str:
        """Give its address."""

    @property
    def site(self) -> str:
        """Give the name of the site."""


def tag(counter: Counter, attributes: str = "") -> str:
    """Write the tag that a site's editor pastes, for the site of the counter or another."""
    if "data-site=" not in attributes:
        attributes = f'data-site="{counter.site}" {attributes}'.rstrip()
    return f'<script async src="{counter.url}/widget.js" {attributes}></script>'


def document(body: str, head: str = "", attributes: str = 'lang="vi"') -> str:
    """Write a page of a site."""
    return (
        f"<!doctype html><html {attributes}><head>{head}<title>Tin tức</title></head>"
        f"<body><main><h1>Tin tức</h1>{body}</main></body></html>"
    )
