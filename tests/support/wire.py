"""HTTP as bytes on a socket: what no client library would send can be sent."""

import json
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from types import TracebackType
from typing import Any, Self

ANSWER_TIMEOUT_S = 20.0
OWN = {"Host": "127.0.0.1"}  # a name by which operations may be asked
BODYLESS = (100, 204, 304)


@dataclass(frozen=True, slots=True)
class Answer:
    """One response; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Read the body."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Give the code of an error; empty where there is no body."""
        return str(self.json["error"]["code"]) if self.body and self.status >= 400 else ""


class Connection:
    """One connection to a service."""

    def __init__(
        self, port: int, timeout_s: float = ANSWER_TIMEOUT_S, source: str | None = None
    ) -> None:
        """Connect, from one of this host's addresses."""
        address = source and (source, 0)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s, address)
        self._incoming = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        """Close it at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self._incoming.close()
        self.socket.close()

    def send(self, raw: bytes) -> None:
        """Send bytes; a service that has answered and closed already need not read them."""
        with suppress(ConnectionError):
            self.socket.sendall(raw)

    def receive(self, method: str = "GET") -> Answer | None:
        """Read the answer to a method; None where the connection ends instead."""
        try:
            line = self._incoming.readline()
        except ConnectionResetError:
            line = b""
        if not line:
            return None
        status, headers = read_head(line + b"".join(takewhile(b"\r\n".__ne__, self._incoming)))
        length = 0 if method == "HEAD" or status in BODYLESS else int(headers["content-length"])
        return Answer(status, headers, self._incoming.read(length))


def read_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Return the status of an answer, and its headers, none of which may come twice."""
    first, *lines = head.decode().rstrip().split("\r\n")
    headers: dict[str, str] = {}
    for name, _, value in (line.partition(":") for line in lines):
        assert name.lower() not in headers, f"{name} twice"
        headers[name.lower()] = value.strip()
    return int(first.split()[1]), headers


def request(
    method: str,
    target: str | bytes,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Write a request as browsers send it."""
    fields = {"Host": "counter", **(headers or {})}
    if body is not None:
        fields["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    target = target.encode() if isinstance(target, str) else target
    return b"%s %s HTTP/1.1\r\n%s\r\n%s" % (method.encode(), target, head.encode(), body or b"")


def exchange(port: int, raw: bytes, method: str = "GET") -> Answer | None:
    """Send bytes on a new connection; give the first answer, if there is one."""
    with Connection(port) as connection:
        connection.send(raw)
        return connection.receive(method)


def ask(
    port: int,
    method: str,
    target: str | bytes,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Ask one question on a new connection."""
    answer = exchange(port, request(method, target, body, headers), method)
    assert answer is not None
    return answer
