"""Requests that nobody should send, and what they get.

Whatever comes, the answer is the right 4xx in the form of all errors, readable from any page; it
counts nothing, stores nothing (the whole store is compared), and fills no log.
"""

import gzip
import json
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from hitcounter.web.hit_request import MAX_BODY_BYTES
from tests.conftest import RunningService, StartService
from tests.support.stores import keyspace
from tests.support.wire import Answer, Connection, ask, exchange, request

# One process starts the services that these share.
pytestmark = pytest.mark.xdist_group("bad_input")

DECLARED = """
[sites."news.example.vn"]
origins = ["https://news.example.vn", "www.news.example.vn"]
"""
NEWS = "/v1/sites/news.example.vn"
NEW = "/v1/sites/new.example.vn"  # never counted: not even its name may get into the store
JSON = {"Content-Type": "application/json"}
CHUNKED = b"Transfer-Encoding: chunked"
IN_CHUNKS = b"400\r\n%s\r\n400\r\n%s\r\n1\r\n}\r\n0\r\n\r\n" % (b"{" + b" " * 1023, b" " * 1024)


@dataclass(frozen=True, slots=True)
class Bad:
    """A bad request; `to` names the service that gets it, `method` how to read the answer."""

    why: str
    raw: bytes
    status: int
    code: str
    to: str = "open"
    method: str = "GET"


def hit_with(why: str, body: bytes, code: str, status: int = 400, **headers: str) -> Bad:
    """Send a hit with a bad body."""
    named = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    return Bad(why, request("POST", f"{NEW}/hits", body, named), status, code)


def hit_compressed(encoding: str, body: bytes) -> Bad:
    """Send a hit with a body that would have to be unpacked."""
    why = f"{len(body)} bytes of {encoding}"
    return hit_with(why, body, "bad_content_type", 415, Content_Encoding=encoding)


def hit_on_page(why: str, path: str) -> Bad:
    """Send a hit with a bad path, which is `path` in JSON or an escape of it."""
    return hit_with(why, b'{"path": "%s"}' % path.encode(), "bad_path")


def ask_for(
    why: str,
    target: str | bytes,
    status: int,
    code: str,
    *,
    method: str = "GET",
    to: str = "open",
    headers: Mapping[str, str] | None = None,
) -> Bad:
    """Ask for a bad address."""
    return Bad(why, request(method, target, None, headers), status, code, to, method)


def named(why: str, name: str) -> list[Bad]:
    """Hit and read a site with a bad name."""
    return [
        ask_for(f"hit a name {why}", f"/v1/sites/{name}/hits", 400, "bad_site", method="POST"),
        ask_for(f"read a name {why}", f"/v1/sites/{name}/counts", 400, "bad_site"),
    ]


def raw(why: str, data: bytes) -> Bad:
    """Send bytes that are no request."""
    return Bad(why, data, 400, "bad_request")


def head(*lines: bytes, first: bytes = b"POST " + NEW.encode() + b"/hits HTTP/1.1") -> bytes:
    """Write the head of a hit, line by line."""
    return b"\r\n".join((first, b"Host: counter", *lines, b"", b""))


NAMES = [
    *named("in upper case", "NEW"),
    *named("with one capital", "nEw"),
    *named("of 64 characters", "a" * 64),
    *named("of 4,000 characters", "a" * 4000),
    *named("that is empty", ""),
    *named("that is a dot", "."),
    *named("of two dots", ".."),
    *named("that starts with a hyphen", "-new"),
    *named("with an underscore", "new_site"),
    *named("with a hash tag", "{0}"),
    *named("with a hash tag inside", "a{meta}b"),
    *named("with a colon", "a:page"),
    *named("with an asterisk", "a*"),
    *named("with a bracket", "[a]"),
    *named("with an encoded letter", "%61bc"),
    *named("with an encoded NUL", "a%00"),
    *named("with an encoded newline", "a%0d%0aSET%20x%201"),
    *named("with an encoded slash", "a%2fb"),
    *named("with an encoded direction override", "a%e2%80%ae"),
    *named("of Vietnamese words", "th%E1%BB%91ng%20k%C3%AA"),
    *named("in Vietnamese that is too long", "%C3%AA" * 64),
    *named("in Vietnamese with a slash", "th%E1%BB%91ng%2fk%C3%AA"),
    *named("in Vietnamese with a direction override", "th%E1%BB%91ng%e2%80%aek%C3%AA"),
    *named("that is not UTF-8", "a%ff%fe"),
    ask_for("a name in raw UTF-8", "/v1/sites/kê/counts", 400, "bad_request"),
    ask_for("a name in raw bytes", b"/v1/sites/a\xff/counts", 400, "bad_request"),
    *named("that is a script", "<script>"),
    *named("with an apostrophe", "a'--"),
    ask_for("a pixel of a bad name", "/v1/sites/NEW/pixel.gif", 400, "bad_site"),
    Bad("HEAD of a bad name", request("HEAD", "/v1/sites/NEW/counts"), 400, "", method="HEAD"),
]

PAGES = [
    hit_on_page("a page without its slash", "tin-tuc"),
    hit_on_page("an empty page", ""),
    hit_on_page("a page with its host", "https://new.example.vn/tin-tuc"),
    hit_on_page("a page with a NUL", r"/\u0000"),
    hit_on_page("a page with a newline", r"/a\nb"),
    hit_on_page("a page with an escape", r"/\u001b[2J"),
    hit_on_page("a page with a C1 control", r"/\u0085"),
    hit_on_page("a page with an encoded NUL", "/%00"),
    hit_on_page("a page with an encoded newline", "/a%0Ab"),
    hit_on_page("a page with an encoded surrogate", "/%ed%a0%80"),
    hit_with("a page with a lone high surrogate", rb'{"path": "/\ud800"}', "bad_json"),
    hit_with("a page with a lone low surrogate", rb'{"path": "/\udc00"}', "bad_json"),
    hit_with("a page of 10 kB", b'{"path": "/%s"}' % (b"a" * 10_000), "too_large", 413),
    ask_for("read an empty page", f"{NEW}/counts?path=", 400, "bad_path"),
    ask_for("read a page without its slash", f"{NEW}/counts?path=tin-tuc", 400, "bad_path"),
    ask_for("read a page with a NUL", f"{NEW}/counts?path=/%00", 400, "bad_path"),
    ask_for("read a page encoded twice", f"{NEW}/counts?path=/%2500", 400, "bad_path"),
    ask_for("read a page of 10 kB", f"{NEW}/counts?path=/{'a' * 10_000}", 400, "bad_request"),
    ask_for("an address of 7 kB", f"/{'a' * 7000}", 404, "not_found"),
    ask_for("an address of 10 kB", f"/{'a' * 10_000}", 400, "bad_request"),
    ask_for("read a page in raw bytes", NEW.encode() + b"/counts?path=/\xff", 400, "bad_request"),
]

BODIES = [
    hit_with("JSON that does not end", b"{", "bad_json"),
    hit_with("JSON that ends twice", b"{} {}", "bad_json"),
    hit_with("JSON with a last comma", b'{"path": "/a",}', "bad_json"),
    hit_with("JSON with apostrophes", b"{'path': '/a'}", "bad_json"),
    hit_with("only spaces", b"   ", "bad_json"),
    hit_with("a word", b"undefined", "bad_json"),
    hit_with("null", b"null", "bad_json"),
    hit_with("true", b"true", "bad_json"),
    hit_with("a number", b"1", "bad_json"),
    hit_with("a number beyond all", b"1" * 2000, "bad_json"),
    hit_with("NaN", b"NaN", "bad_json"),
    hit_with("a list", b"[]", "bad_json"),
    hit_with("a text", b'"/a"', "bad_json"),
    hit_with("a path that is a number", b'{"path": 1}', "bad_json"),
    hit_with("a path that is false", b'{"path": false}', "bad_json"),
    hit_with("a path that is a list", b'{"path": ["/a"]}', "bad_json"),
    hit_with("a path that is an object", b'{"path": {"/a": 1}}', "bad_json"),
    hit_with("an id of 7 characters", b'{"id": "1234567"}', "bad_json"),
    hit_with("an id of 65 characters", b'{"id": "%s"}' % (b"a" * 65), "bad_json"),
    hit_with("an id with a space", b'{"id": "1234 5678"}', "bad_json"),
    hit_with("an id with a newline at its end", rb'{"id": "12345678\n"}', "bad_json"),
    hit_with("an id that is a number", b'{"id": 12345678}', "bad_json"),
    hit_with("JSON with an unknown field", b'{"path": "/a", "count": 1000}', "bad_json"),
    hit_with("JSON with a field in upper case", b'{"Path": "/a"}', "bad_json"),
    hit_with("a field of 2,000 characters", b'{"%s": 1}' % (b"a" * 2000), "bad_json"),
    hit_with("a field of unprintable characters", rb'{"\u202e\u0000\u200b": 1}', "bad_json"),
    hit_with("a field of JavaScript", b'{"__proto__": {}}', "bad_json"),
    hit_with("lists 1,000 deep", b'{"path": %s}' % (b"[" * 1000 + b"]" * 1000), "bad_json"),
    hit_with("objects 400 deep", b'{"a":' * 400, "bad_json"),
    hit_with("text that is not UTF-8", b'{"path": "/\xff"}', "bad_json"),
    hit_with("text in UTF-16", '{"path": "/a"}'.encode("utf-16"), "bad_json"),
    hit_with("a byte order mark", b'\xef\xbb\xbf{"path": "/a"}', "bad_json"),
    hit_with("a NUL byte in a text", b'{"path": "/\0"}', "bad_json"),
    hit_with("a body of NUL bytes", b"\0" * 100, "bad_json"),
    hit_with("a newline in a text", b'{"path": "/\n"}', "bad_json"),
    hit_with("an escape that is none", rb'{"path": "/\x41"}', "bad_json"),
    hit_with("one byte too many", b"{}" + b" " * (MAX_BODY_BYTES - 1), "too_large", 413),
    hit_with("1 MB", b" " * 1_000_000, "too_large", 413),
    Bad("one byte too many in chunks", head(CHUNKED) + IN_CHUNKS, 413, "too_large"),
    *(
        hit_with(f"JSON as {kind}", b"{}", "bad_content_type", 415, Content_Type=kind)
        for kind in (
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/octet-stream",
            "application/jsonp",
            "application/json-seq",
            "application/json, text/plain",
            "text/html",
        )
    ),
    hit_compressed("gzip", gzip.compress(b"{}")),
    hit_compressed("gzip", gzip.compress(b" " * 1_000_000)),
    hit_compressed("gzip", b"{}"),
    hit_compressed("br, br", b"{}"),
    hit_with("5 kB that wait to be wanted", b" " * 5000, "too_large", 413, Expect="100-continue"),
]

QUERIES = [
    ask_for("an unknown language", f"{NEW}/hits?lang=fr", 400, "bad_lang", method="POST"),
    ask_for("an empty language", f"{NEW}/hits?lang=", 400, "bad_lang", method="POST"),
    ask_for("a language in upper case", f"{NEW}/counts?lang=VI", 400, "bad_lang"),
    ask_for("a language of 4 kB", f"{NEW}/counts?lang={'v' * 4000}", 400, "bad_lang"),
    ask_for("a language with a NUL", f"{NEW}/counts?lang=vi%00", 400, "bad_lang"),
    ask_for("two languages", f"{NEW}/counts?lang=vi&lang=en", 400, "bad_query"),
    ask_for("one language twice", f"{NEW}/hits?lang=vi&lang=vi", 400, "bad_query", method="POST"),
    ask_for("two pages", f"{NEW}/pixel.gif?path=/a&path=/b", 400, "bad_query"),
    ask_for("an unknown field", f"{NEW}/counts?x=1", 400, "bad_query"),
    ask_for("a field in upper case", f"{NEW}/counts?LANG=vi", 400, "bad_query"),
    ask_for("a field without a name", f"{NEW}/counts?=1", 400, "bad_query"),
    ask_for("a page of a hit in its query", f"{NEW}/hits?path=/a", 400, "bad_query", method="POST"),
    ask_for("a number of hits", f"{NEW}/badge.svg?count=1000", 400, "bad_query"),
    ask_for("an added field", f"{NEW}/counts?utm_source=x", 400, "bad_query"),
    ask_for("65 fields of a picture", f"{NEW}/pixel.gif?{'a&' * 65}", 400, "bad_query"),
    ask_for("an unknown period", f"{NEW}/counts?period=week", 400, "bad_query"),
    ask_for("a query that is not UTF-8", f"{NEW}/counts?lang=%ff", 400, "bad_lang"),
    ask_for("nine fields", f"{NEW}/counts?{'&'.join('abcdefghi')}", 400, "bad_query"),
    ask_for("1,000 fields", f"{NEW}/counts?{'a=1&' * 1000}", 400, "bad_query"),
]

ADDRESSES = [
    ask_for("an unknown address", "/nothing", 404, "not_found"),
    ask_for("an older version", "/v0/sites/demo/counts", 404, "not_found"),
    ask_for("a site alone", NEW, 404, "not_found"),
    ask_for("a site with a slash", f"{NEW}/", 404, "not_found"),
    ask_for("hits with a slash", f"{NEW}/hits/", 404, "not_found", method="POST"),
    ask_for("hits in upper case", f"{NEW}/HITS", 404, "not_found", method="POST"),
    ask_for("hits with an encoded letter", f"{NEW}/%68its", 404, "not_found", method="POST"),
    ask_for("hits behind two dots", f"{NEW}/counts/../hits", 404, "not_found", method="POST"),
    ask_for("a period", f"{NEW}/counts/2019-04", 404, "not_found"),
    ask_for("a page of a site", f"{NEW}/tin-tuc/1", 404, "not_found"),
    ask_for("a site name with a slash", "/v1/sites/a/b/counts", 404, "not_found"),
    ask_for("a site name with a query", "/v1/sites/a?b/counts", 404, "not_found"),
    ask_for("the front page with two slashes", "//", 404, "not_found"),
    ask_for("health with a slash", "/healthz/", 404, "not_found"),
    ask_for("a file of the system", "/../../etc/passwd", 404, "not_found"),
    ask_for("an address that is not UTF-8", "/%ff", 404, "not_found"),
    ask_for("all of the server", "*", 404, "not_found", method="OPTIONS"),
    ask_for("a way through", "new.example.vn:443", 404, "not_found", method="CONNECT"),
    ask_for("GET of hits", f"{NEW}/hits", 405, "method_not_allowed"),
    ask_for("HEAD of hits", f"{NEW}/hits", 405, "", method="HEAD"),
    ask_for("PUT of hits", f"{NEW}/hits", 405, "method_not_allowed", method="PUT"),
    ask_for("DELETE of hits", f"{NEW}/hits", 405, "method_not_allowed", method="DELETE"),
    ask_for("PATCH of hits", f"{NEW}/hits", 405, "method_not_allowed", method="PATCH"),
    ask_for("TRACE of hits", f"{NEW}/hits", 405, "method_not_allowed", method="TRACE"),
    ask_for(
        "a web socket",
        f"{NEW}/hits",
        405,
        "method_not_allowed",
        headers={"Connection": "Upgrade", "Upgrade": "websocket"},
    ),
    ask_for("POST of counts", f"{NEW}/counts", 405, "method_not_allowed", method="POST"),
    ask_for("POST of a picture", f"{NEW}/pixel.gif", 405, "method_not_allowed", method="POST"),
    ask_for("POST of the front page", "/", 405, "method_not_allowed", method="POST"),
    ask_for("DELETE of the health", "/healthz", 405, "method_not_allowed", method="DELETE"),
]

FOREIGN_ORIGINS = (
    "https://evil.example",
    "null",
    "http://news.example.vn",  # the declared one has https
    "https://news.example.vn:8443",
    "https://news.example.vn.evil.example",
    "https://evil.example/https://news.example.vn",
    "https://www.news.example.vn@evil.example",
    "https://www.news.example.vn:x@evil.example",
    "https://evilwww.news.example.vn",
)
FOREIGN_PAGES = (
    "https://evil.example/",
    "https://evil.example/?https://news.example.vn/",
    "https://www.news.example.vn:x@evil.example/",
)


def from_afar(method: str, target: str, header: str, value: str) -> Bad:
    """Hit a declared site from a page that is not its own."""
    why = f"{method} {target} with {header}: {value}"
    return ask_for(
        why, target, 403, "foreign_origin", method=method, to="declared", headers={header: value}
    )


def unknown(method: str, what: str, **headers: str) -> Bad:
    """Ask for a site that is not declared where others are."""
    why = f"{method} {what} of an unknown site {headers or ''}"
    return ask_for(
        why, f"{NEW}/{what}", 404, "unknown_site", method=method, to="declared", headers=headers
    )


STRANGERS = [
    unknown("POST", "hits"),
    unknown("GET", "counts"),
    unknown("GET", "pixel.gif"),
    unknown("GET", "pixel.gif", Purpose="prefetch"),
    *(from_afar("POST", f"{NEWS}/hits", "Origin", origin) for origin in FOREIGN_ORIGINS),
    *(from_afar("POST", f"{NEWS}/hits", "Referer", page) for page in FOREIGN_PAGES),
    *(from_afar("GET", f"{NEWS}/pixel.gif", "Referer", page) for page in FOREIGN_PAGES),
    *(from_afar("GET", f"{NEWS}/pixel.gif?path=/a", "Referer", page) for page in FOREIGN_PAGES),
]
NO_HTTP = [
    raw("two lengths", head(b"Content-Length: 2", b"Content-Length: 2") + b"{}"),
    raw("two lengths that differ", head(b"Content-Length: 2", b"Content-Length: 9") + b"{}"),
    raw("a length below zero", head(b"Content-Length: -2") + b"{}"),
    raw("a length with a sign", head(b"Content-Length: +2") + b"{}"),
    raw("a length that is no number", head(b"Content-Length: 0x2") + b"{}"),
    raw("a length beyond all numbers", head(b"Content-Length: " + b"9" * 30) + b"{}"),
    raw("length and chunks", head(b"Content-Length: 5", CHUNKED) + b"0\r\n\r\n"),
    raw("chunks and length", head(CHUNKED, b"Content-Length: 5") + b"0\r\n\r\n"),
    raw("chunks that are not last", head(b"Transfer-Encoding: chunked, gzip") + b"0\r\n\r\n"),
    raw("an unknown transfer", head(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n"),
    raw("a chunk without a size", head(CHUNKED) + b"z\r\n{}\r\n0\r\n\r\n"),
    raw("a chunk beyond its size", head(CHUNKED) + b"2\r\n{}{}\r\n0\r\n\r\n"),
    raw("a chunk beyond all sizes", head(CHUNKED) + b"f" * 17 + b"\r\n{}"),
    raw("a header in two lines", head(b"X-A: 1", b" 2")),
    raw("a header without a name", head(b": 1")),
    raw("a header with a space in its name", head(b"X A: 1")),
    raw("a header with a space after its name", head(b"Content-Length : 2") + b"{}"),
    raw("a header without a colon", head(b"X-A")),
    raw("a header with a NUL", head(b"X-A: \0")),
    raw("a header of 10 kB", head(b"X-A: " + b"a" * 10_000)),
    raw("a header name of 10 kB", head(b"a" * 10_000 + b": 1")),
    raw("500 headers", head(*(b"X-%d: 1" % i for i in range(500)))),
    raw("no host", f"POST {NEW}/hits HTTP/1.1\r\n\r\n".encode()),
    raw("two hosts", head(b"Host: other")),
    raw("lines without their return", f"POST {NEW}/hits HTTP/1.1\nHost: x\n\n".encode()),
    raw("a NUL in the address", head(first=b"GET /\0 HTTP/1.1")),
    raw("a method in lower case", head(first=b"post " + NEW.encode() + b"/hits HTTP/1.1")),
    raw("a method that is none", head(first=b"HIT / HTTP/1.1")),
    raw("no method", head(first=b"/ HTTP/1.1")),
    raw("no address", head(first=b"GET HTTP/1.1")),
    raw("a version of the future", head(first=b"GET / HTTP/9.9")),
    raw("another protocol", head(first=b"GET / ICY/1.0")),
    raw("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"),
    # These clients speak something else, and cannot read the answer that they get.
    raw("a TLS hello", bytes.fromhex("16030100c8010000c40303") + bytes(range(193))),
    raw("an SSH banner", b"SSH-2.0-OpenSSH_9.2\r\n"),
    raw("a Redis command", b"*1\r\n$8\r\nFLUSHALL\r\n"),
    raw("NUL bytes", b"\0" * 1000),
    raw("all bytes", bytes(range(256)) * 4),
]

ROWS = [*NAMES, *PAGES, *BODIES, *QUERIES, *ADDRESSES, *STRANGERS, *NO_HTTP]

Services = Mapping[str, RunningService]


@pytest.fixture(scope="module")
def services(start_shared: StartService) -> Iterator[Services]:
    """Start an open service and one with a declared site, both with something to lose."""
    services = {"open": start_shared(), "declared": start_shared(DECLARED)}
    for site, service in (("demo", services["open"]), ("news.example.vn", services["declared"])):
        hit = ask(service.port, "POST", f"/v1/sites/{site}/hits", b'{"path": "/tin-tuc/1"}')
        assert hit.status == 200
    yield services
    # Late lines too, of what we hung up on.
    for service in services.values():
        assert "ERROR" not in service.log


@pytest.mark.parametrize("bad", ROWS, ids=[row.why for row in ROWS])
def test_a_bad_request_gets_the_right_error_and_leaves_no_trace(
    services: Services, bad: Bad
) -> None:
    service = services[bad.to]
    before, log_before = keyspace(service), service.log
    answer = exchange(service.port, bad.raw, bad.method)
    assert answer is not None
    check_error(answer, bad.status, bad.code)
    assert keyspace(service) == before
    assert len(service.log.splitlines()) <= len(log_before.splitlines()) + 1


def check_error(answer: Answer, status: int, code: str) -> None:
    """Check the form that all errors have; to HEAD, without the body."""
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    if answer.body:
        message = answer.json["error"]["message"]
        assert answer.json == {"error": {"code": code, "message": message}}
        assert message
        assert len(answer.body) < 300
        assert json.dumps(message, ensure_ascii=False).isprintable()


def test_there_are_enough_rows_and_no_two_have_one_name() -> None:
    names = [row.why for row in ROWS]
    assert len(set(names)) == len(names) >= 60


BODY = head(b"Content-Length: 20")
WAITING = head(b"Content-Length: 20", b"Expect: 100-continue")
RESET = struct.pack("ii", 1, 0)
UNFINISHED = {
    "a body that never comes": BODY,
    "a body that stops": BODY + b'{"path":',
    "a body that is one byte short": head(b"Content-Length: 3") + b"{}",
    "a body that waits to be wanted, in vain": WAITING,
    "chunks that never come": head(CHUNKED),
    "chunks without the last": head(CHUNKED) + b"2\r\n{}\r\n",
    "a chunk that stops": head(CHUNKED) + b"14\r\n{",
}
TRICKLING = {
    "a body that trickles": (head(b"Content-Length: 2000"), b" "),
    "chunks that trickle": (head(CHUNKED), b"1\r\n \r\n"),
}
ABANDONED = (b"", b"\r\n\r\n", b"POST /v1/sites/new", head()[:-4], BODY, BODY + b"{", head(CHUNKED))


BODY_TIMEOUT_S = 0.5


def test_a_body_that_does_not_come_in_time_is_refused_and_whoever_leaves_leaves_no_trace(
    start_service: StartService,
) -> None:
    service = start_service(body_timeout_s=BODY_TIMEOUT_S)
    before, log_before = keyspace(service), service.log
    for raw in ABANDONED:
        leave(service.port, raw)
    for _ in range(50):
        with Connection(service.port) as reset:
            reset.send(WAITING)
            reset.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    slow = {why: (raw, b"") for why, raw in UNFINISHED.items()} | TRICKLING
    with ThreadPoolExecutor(len(slow)) as pool:
        answers = pool.map(lambda request: last_answer(service.port, *request), slow.values())
        for why, answer in zip(slow, answers, strict=True):
            assert answer is not None, why
            check_error(answer, 408, "slow_body")
    assert keyspace(service) == before
    assert service.stop() == 0
    assert service.log == log_before


def leave(port: int, raw: bytes) -> None:
    """Go away amid a request in the three ways that there are."""
    with Connection(port) as closed:
        closed.send(raw)
    with Connection(port) as reset:
        reset.send(raw)
        reset.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with Connection(port) as half_closed:
        half_closed.send(raw)
        half_closed.socket.shutdown(socket.SHUT_WR)
        assert half_closed.receive() is None


def last_answer(port: int, raw: bytes, drop: bytes) -> Answer | None:
    """Send a request, and then drop by drop for longer than the service waits."""
    last = None
    with Connection(port) as connection:
        connection.send(raw)
        end_at = time.monotonic() + 2 * BODY_TIMEOUT_S
        while drop and time.monotonic() < end_at:
            connection.send(drop)
            time.sleep(BODY_TIMEOUT_S / 10)  # this is the slowness that is tested
        while answer := connection.receive():
            last = answer
    return last
