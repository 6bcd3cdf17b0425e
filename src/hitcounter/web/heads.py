"""Requests as bytes: where a head ends, whether the parser understood it, how much may wait."""

from aiohttp.http_parser import RawRequestMessage

from hitcounter.errors import Refusal

MAX_HEAD_BYTES = 32 << 10
LONG_HEAD_BYTES = 2 << 10  # which takes several times as much when it is parsed
END_OF_HEAD = b"\r\n\r\n"
N_TAIL = len(END_OF_HEAD) - 1
_LENGTH = b"\nContent-Length: %d\r\n"
_TOO_LONG = f"the head of a request, or what trails it, has at most {MAX_HEAD_BYTES} bytes"

# Bytes that wait in all connections, for their end or their answer; parsed they take up to five
# times as much. Beyond them, connections that hold more than a few end.
MAX_WAITING_BYTES = 8 << 20
_FEW_BYTES = 4 << 10


def refusal(status: int) -> Refusal:
    """Return what to answer where no request was understood."""
    if status == 431:
        return Refusal("head_too_large", _TOO_LONG)
    return Refusal("bad_request", "this is not a request we understand")


class Waiting:
    """How many bytes of requests wait in all connections of a server."""

    n_bytes = 0

    def is_too_much(self, n_bytes: int) -> bool:
        """Return whether a connection that holds so many of them has to end."""
        return self.n_bytes > MAX_WAITING_BYTES and n_bytes > _FEW_BYTES


def end_of_head(data: bytes, at: int, tail: bytes) -> int:
    """Return where the head ends that begins there, or in the `tail` of what came before."""
    seam = tail + data[at : at + N_TAIL]
    end = seam.find(END_OF_HEAD)
    if end >= 0:
        return at + end + len(END_OF_HEAD) - len(tail)
    end = data.find(END_OF_HEAD, at)
    return len(data) if end < 0 else end + len(END_OF_HEAD)


def tail_of(data: bytes) -> bytes:
    """Return what may be the begin of the end of a head."""
    return b"" if data.endswith(END_OF_HEAD) else data[-N_TAIL:]


def is_whole(data: bytes) -> bool:
    """Return whether a packet is one request: whatever is wrong in it is wrong with this one."""
    end = data.find(END_OF_HEAD) + len(END_OF_HEAD)
    n_behind = len(data) - end
    if n_behind < 0 or len(data) > LONG_HEAD_BYTES:
        return False
    return not n_behind or data.find(_LENGTH % n_behind, 0, end) >= 0


def has_line_of(message: RawRequestMessage, head: bytes) -> bool:
    """Return whether a head begins as the parser has understood it."""
    end = len(message.method) + 1 + len(message.path)
    # Each space before it is a single one, or it would stand elsewhere.
    return head[end : end + 8] == b" HTTP/1." or head.lstrip(b"\r\n")[end : end + 8] == b" HTTP/1."
