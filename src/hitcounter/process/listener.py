"""The sockets that others serve on: bound once, by their supervisor."""

import asyncio
import errno
import socket
import time

from hitcounter.config import Config
from hitcounter.errors import StartError

LISTEN_TIMEOUT_S = 5.0
OPERATIONS_BACKLOG = 128
HINT = "host and port say where"
_POLL_S = 0.005
_ANY = {"0.0.0.0", "::"}  # noqa: S104 -- to compare with


async def listen_for_operations(config: Config) -> socket.socket | None:
    """Bind and listen where operations are served; None where they are off.

    Nobody else could answer, so whoever asks waits until their process serves, or serves again.
    """
    if config.operations_port is None:
        return None
    # The first of both does not listen yet, so the system would let the second have its port.
    if config.port == config.operations_port != 0 and (
        config.host == config.operations_host or {config.host, config.operations_host} & _ANY
    ):
        raise StartError(f"port and operations_port are both {config.port}: give another, or off")
    hint = "operations_host and operations_port say where, or off"
    return await listen(config.operations_host, config.operations_port, hint, OPERATIONS_BACKLOG)


async def listen(
    host: str, port: int, hint: str = HINT, backlog: int | None = None
) -> socket.socket:
    """Bind; a predecessor that was killed leaves workers that take a moment to follow it.

    One that had only begun to start notices when it has loaded its modules.
    """
    give_up_at_s = time.monotonic() + LISTEN_TIMEOUT_S
    while True:
        try:
            return await _bound(host, port, backlog)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= give_up_at_s:
                reason = f"cannot listen on {host} port {port}: {error.strerror}; {hint}"
                raise StartError(reason) from None
        await asyncio.sleep(_POLL_S)


async def _bound(host: str, port: int, backlog: int | None) -> socket.socket:
    # In a thread: whoever waits for a name server must still hear a signal.
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # `::` takes IPv4 too, whatever the system is set to
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        if backlog is not None:
            listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    # Without a backlog, bound only: until a worker serves, a client is refused and tries elsewhere.
    return listener


def address(listener: socket.socket) -> str:
    """Return the URL of a listener."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
