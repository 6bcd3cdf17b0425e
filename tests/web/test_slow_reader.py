"""A client that asks and never reads may not fill our memory with answers."""

import select
import socket

from tests.conftest import RunningService
from tests.web.wire import ask

REQUEST = b"GET /v1/sites/demo/counts HTTP/1.1\r\nHost: x\r\n\r\n"
MAX_SENT_BYTES = 2 << 20  # more than the buffers of two sockets


def send_until_blocked(client: socket.socket) -> int:
    """Pipeline requests until nobody takes more of them; return how many bytes were taken."""
    sent, batch = 0, REQUEST * 500
    while sent < MAX_SENT_BYTES and select.select([], [client], [], 1)[1]:
        sent += client.send(batch[sent % len(REQUEST) :])
    return sent


def test_a_client_that_never_reads_is_held_back_and_nobody_else_is(
    service: RunningService,
) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        client.connect(("127.0.0.1", service.port))
        client.setblocking(False)
        assert send_until_blocked(client) < MAX_SENT_BYTES
        assert ask(service.port, "GET", "/v1/sites/demo/counts").status == 200
        assert service.stop() == 0
