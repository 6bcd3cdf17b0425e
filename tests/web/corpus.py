"""Raw requests, right and wrong ones mixed, and what becomes of each connection.

`ROWS` of test_bad_input are single requests; here they also come behind a hit in the same packet,
which has to be answered and counted whatever follows it. The rest is what HTTP leaves to its
letter: versions, spaces, chunks, lengths, heads and what may come behind an answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.web.test_bad_input import NO_HTTP, ROWS, Bad, head

SITE = "/v1/sites/corpus"
HIT = f"POST {SITE}/hits HTTP/1.1\r\nHost: counter\r\n\r\n".encode()
READ = f"GET {SITE}/counts HTTP/1.1\r\nHost: counter\r\n\r\n".encode()
HIT_WITH_BODY = (
    f"POST {SITE}/hits HTTP/1.1\r\nHost: counter\r\nContent-Length: 13\r\n\r\n".encode()
    + b'{"path":"/a"}'
)
FIRST = f"POST {SITE}/hits HTTP/1.1".encode()
CHUNKED = b"Transfer-Encoding: chunked"
OPEN, CLOSED = True, False


@dataclass(frozen=True, slots=True)
class Exchange:
    """What is sent, in packets, and what comes of it."""

    why: str
    packets: tuple[bytes, ...]
    statuses: tuple[int, ...]
    is_open: bool
    n_counted: int = 0
    to: str = "open"
    is_head: bool = False


def closes(bad: Bad) -> bool:
    """Return whether a row of `ROWS` ends its connection."""
    return bad.code == "bad_request" or b"websocket" in bad.raw or bad.raw.startswith(b"CONNECT")


def single() -> Iterator[Exchange]:
    """Send the rows alone, and behind a hit in the same packet."""
    for bad in ROWS:
        is_head, is_open = bad.method == "HEAD", not closes(bad)
        yield Exchange(bad.why, (bad.raw,), (bad.status,), is_open, 0, bad.to, is_head)
        if bad.to == "open":
            both, statuses = (HIT + bad.raw,), (200, bad.status)
            yield Exchange(f"a hit, then {bad.why}", both, statuses, is_open, 1, "open", is_head)


def in_parts() -> Iterator[Exchange]:
    """Send what is no HTTP cut in two, behind a hit with a body."""
    for bad in NO_HTTP:
        for at in (1, 5, len(bad.raw) // 2):
            packets = (HIT_WITH_BODY + bad.raw[:at], bad.raw[at:])
            yield Exchange(f"a hit, then {bad.why}, cut at {at}", packets, (200, 400), CLOSED, 1)


def refused(why: str, *packets: bytes, status: int = 400) -> Iterator[Exchange]:
    """Send one request that is refused, alone and behind two hits."""
    yield Exchange(why, packets, (status,), CLOSED)
    behind = (HIT + HIT_WITH_BODY + packets[0], *packets[1:])
    yield Exchange(f"two hits, then {why}", behind, (200, 200, status), CLOSED, 2)


def letters() -> Iterator[Exchange]:
    """Bend the first line."""
    for version in ("0.9", "1.2", "1.9", "2.0", "3.0", "1", "01.1", "1.10", "11", "1,1", "1.1 "):
        line = f"POST {SITE}/hits HTTP/{version}".encode()
        yield from refused(f"version {version!r}", head(first=line))
        yield from refused(f"version {version!r} in two packets", line[:-1], head(first=line[-1:]))
    for name in ("http/1.1", "RTSP/1.0", "ICE/1.0", "HTTPS/1.1", "HTTP 1.1", ""):
        line = f"POST {SITE}/hits {name}".encode()
        yield from refused(f"protocol {name!r}", head(first=line))
    yield from refused("no version at all", f"GET {SITE}/counts\r\n\r\n".encode())
    for spaces in (b"  ", b"   ", b"\t", b" \t", b"\t "):
        target = f"{SITE}/hits".encode()
        for line in (
            b"POST" + spaces + target + b" HTTP/1.1",
            b"POST " + target + spaces + b"HTTP/1.1",
        ):
            yield from refused(f"spaces {line!r}", head(first=line))
            at = line.index(spaces) + 1
            yield from refused(f"spaces {line!r} in two packets", line[:at], head(first=line[at:]))
    yield from refused("a space before the method", b" " + head(first=FIRST))
    yield from refused("a space behind the version", head(first=FIRST + b" "))


def targets() -> Iterator[Exchange]:
    """Name the target in full, as to a proxy."""

    def ask(target: str, status: int, method: str = "GET") -> Exchange:
        raw = head(first=f"{method} {target} HTTP/1.1".encode())
        return Exchange(f"{method} {target}", (raw,), (status,), OPEN)

    for scheme in ("http", "https", "HTTP", "Https"):
        yield ask(f"{scheme}://counter", 200)
        yield ask(f"{scheme}://counter/", 200)
        yield ask(f"{scheme}://counter/healthz", 200)
        yield ask(f"{scheme}://counter:80{SITE}/counts?lang=en", 200)
        yield ask(f"{scheme}://counter?lang=en", 200)
        yield ask(f"{scheme}://counter?x={SITE}/counts", 400)
        yield ask(f"{scheme}://counter?{SITE}/hits", 405, "POST")
        yield ask(f"{scheme}://counter/{SITE}/hits", 404, "POST")
    yield ask(f"ftp://counter{SITE}/hits", 404, "POST")
    yield ask(f"/http://counter{SITE}/hits", 404, "POST")


def chunks() -> Iterator[Exchange]:
    """Send chunks that are none, at once and in a later packet, and some that are."""
    begin = head(CHUNKED, first=FIRST)
    for size in (
        b"z",
        b"",
        b"-1",
        b"+2",
        b"0x2",
        b" 2",
        b"2 ",
        b"2\t",
        b"2\n{}",
        b"2;\n",
        b"f" * 17,
    ):
        bad = size + b"\r\n{}\r\n0\r\n\r\n"
        yield from refused(f"chunk size {size!r}", begin + bad)
        yield from refused(f"chunk size {size!r} in a later packet", begin, bad)
        yield from refused(f"chunk size {size!r} after a chunk", begin + b"1\r\n{\r\n", bad)
        yield from refused(
            f"chunk size {size!r} after a cut chunk", begin + b"1\r\n{", b"\r\n" + bad
        )
    for bad in (b"2\r\n{}X\r\n0\r\n\r\n", b"2\r\n{}\n0\r\n\r\n", b"2\r\n{}0\r\n\r\n"):
        yield from refused(f"chunk end {bad!r}", begin + bad)
        yield from refused(f"chunk end {bad!r} in a later packet", begin, bad)
    right = (b"0\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n", b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n")
    named = (
        b"2;a=b\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\nX-Trailer: 1\r\n\r\n",
        b"002\r\n{}\r\n0\r\n\r\n",
    )
    for body in (*right, *named):
        yield Exchange(f"chunks {body!r}", (begin + body + READ,), (200, 200), OPEN, 1)
        yield Exchange(f"chunks {body!r} apart", (begin, body, READ), (200, 200), OPEN, 1)
        yield Exchange(f"chunks {body!r} cut", (begin + body[:1], body[1:]), (200,), OPEN, 1)


def heads() -> Iterator[Exchange]:
    """Send heads and trailers of all sizes."""
    line = b"X-%d: " + b"a" * 990
    for n_kb in (1, 8, 16, 30, 31):
        raw = head(*(line % n for n in range(n_kb)), first=FIRST)
        yield Exchange(f"a head of {n_kb} kB", (raw + READ,), (200, 200), OPEN, 1)
        yield Exchange(f"a head of {n_kb} kB cut", (raw[:-9], raw[-9:] + READ), (200, 200), OPEN, 1)
    blank = b"\r\n\r\n" * 300
    yield from refused("blank lines", blank + READ, status=431)
    yield from refused("blank lines in parts", *[b"\r\n\r\n"] * 130, status=431)
    chunks = head(CHUNKED, first=FIRST) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(blank), blank)
    yield from refused("a chunk of blank lines", chunks, status=431)
    yield Exchange("a blank line first", (b"\r\n" + HIT + b"\r\n\r\n" + HIT,), (200, 200), OPEN, 2)
    for n_kb in (40, 60, 100):
        raw = head(*(line % n for n in range(n_kb)), first=FIRST)
        yield from refused(f"a head of {n_kb} kB", raw, status=431)
        parts = [raw[at : at + 3000] for at in range(0, len(raw), 3000)]
        yield from refused(f"a head of {n_kb} kB in parts", *parts, status=431)
        begin = head(CHUNKED, first=FIRST) + b"2\r\n{}\r\n0\r\n"
        trailers = [line % n + b"\r\n" for n in range(n_kb)]
        yield from refused(f"trailers of {n_kb} kB", begin, *trailers, b"\r\n", status=431)
    yield Exchange("empty lines before", (b"\r\n\r\n" + HIT + b"\r\n" + READ,), (200, 200), OPEN, 1)


def lengths_behind() -> Iterator[Exchange]:
    """Send behind a hit what tells its own length, as a head tells that of its body."""
    noise = b"noise\nContent-Length: 26\r\n"
    yield Exchange("a hit, then a length", (HIT, HIT + noise), (200, 200, 400), CLOSED, 2)
    n = len(head(b"Content-Length: 99", first=FIRST))
    packets = (HIT, HIT + head(b"Content-Length: %d" % n, first=FIRST), b"{}".ljust(n) + HIT)
    yield Exchange("a body as long as its head", packets, (200,) * 4, OPEN, 4)


def ends() -> Iterator[Exchange]:
    """Ask for more behind what is the last of its connection."""
    for host in (b"counter:443", b"[::1]:443"):
        raw = b"CONNECT %b HTTP/1.1\r\nHost: counter\r\n\r\n" % host
        yield Exchange(f"CONNECT {host!r}", (raw + HIT,), (404,), CLOSED)
        yield Exchange(f"a hit, CONNECT {host!r}", (HIT + raw + HIT,), (200, 404), CLOSED, 1)
        yield Exchange(f"CONNECT {host!r}, a hit later", (raw, HIT), (404,), CLOSED)
    for protocol in (b"websocket", b"tcp", b"h2c", b"TLS/1.0", b"HTTP/2.0", b"irc"):
        upgrade = (b"Connection: Upgrade", b"Upgrade: " + protocol)
        raw = head(*upgrade, first=FIRST)
        name = protocol.decode()
        yield Exchange(f"{name}", (raw,), (200,), CLOSED, 1)
        yield Exchange(f"{name}, then a hit", (raw + HIT,), (200,), CLOSED, 1)
        yield Exchange(f"{name}, then noise", (raw + b"\x81\x05hello",), (200,), CLOSED, 1)
        yield Exchange(f"two hits with {name}", (HIT + raw + HIT,), (200, 200), CLOSED, 2)
        body = head(*upgrade, b"Content-Length: 2", first=FIRST)
        yield Exchange(f"{name} with a body", (body + b"{}" + HIT,), (200,), CLOSED, 1)
        yield Exchange(f"{name} with a later body", (body, b"{}" + HIT), (200,), CLOSED, 1)
    last = head(b"Connection: close", first=FIRST)
    yield Exchange("the last hit", (last,), (200,), CLOSED, 1)
    yield Exchange("the last hit, and one more", (HIT + last + HIT,), (200, 200), CLOSED, 2)
    old = f"POST {SITE}/hits HTTP/1.0\r\n\r\n".encode()
    yield Exchange("a hit of HTTP/1.0", (old,), (200,), CLOSED, 1)


def many() -> Iterator[Exchange]:
    """Ask for much at once."""
    for n in (32, 100):
        yield Exchange(f"{n} hits at once", (HIT * n,), (200,) * n, OPEN, n)
        statuses = (200,) * n + (400,)
        yield Exchange(f"{n} hits, then noise", (HIT * n + b"noise",), statuses, CLOSED, n)
        halves = (HIT * n)[: 9 - n * len(HIT) // 2], (HIT * n)[9 - n * len(HIT) // 2 :]
        yield Exchange(f"{n} hits in two packets", halves, (200,) * n, OPEN, n)


PARTS = (single, in_parts, letters, targets, chunks, heads, lengths_behind, ends, many)
EXCHANGES = [exchange for part in PARTS for exchange in part()]
