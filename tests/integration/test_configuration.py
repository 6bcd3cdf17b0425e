"""Wrong settings and unfit surroundings: one clear line, an exit code, and nothing left running."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hitcounter import __version__
from hitcounter.config import SETTINGS
from hitcounter.store.keys import LANES_KEY
from tests.conftest import PROGRAM, START_TIMEOUT_S, STOP_TIMEOUT_S, StartService, run_command
from tests.support.servers import connected, store_server
from tests.support.waiting import until

MARK = "STARTED_BY_TEST"
HIDDEN = "hunter2"
COMMANDS = (
    ["serve"],
    ["check"],
    ["show", "demo"],
    ["baseline", "demo", "--total", "1"],
    ["export"],
)


def environment(mark: str, more: dict[str, str]) -> dict[str, str]:
    """Give processes an environment by which all their descendants can be found."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HITCOUNTER_")}
    return inherited | {MARK: mark, "HITCOUNTER_OPERATIONS_PORT": "off"} | more


def is_marked(pid: str, mark: str) -> bool:
    try:
        return f"{MARK}={mark}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it has ended
        return False


def running(mark: str) -> list[str]:
    """List the processes that were started under a mark."""
    pids = [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in pids if is_marked(pid, mark)]


def refusal(*args: str, code: int, environ: dict[str, str] | None = None) -> str:
    """Run a command that must fail; return the one line that says why."""
    mark = uuid.uuid4().hex
    result = subprocess.run(
        [PROGRAM, *args],
        env=environment(mark, environ or {}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    until(lambda: not running(mark), "nothing is left running")
    assert result.stderr.startswith("hitcounter: ")
    assert result.stderr.count("\n") == 1
    assert result.returncode == code
    assert "serving" not in result.stdout
    return result.stderr


@contextmanager
def serving(
    *args: str, cwd: Path, environ: dict[str, str] | None = None
) -> Iterator[tuple[str, str]]:
    """Run `hitcounter serve` in a directory; give the line that it says, and its address."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [PROGRAM, "serve", *args],
        env=environment(mark, environ or {}),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield line, line.split()[-1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_TIMEOUT_S) == 0
        assert process.stdout.read() == ""
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    until(lambda: not running(mark), "nothing is left running")


def fetch(url: str) -> Any:
    """Get the JSON of a successful answer."""
    with urllib.request.urlopen(url, timeout=START_TIMEOUT_S) as response:
        return json.load(response)


def written(tmp_path: Path, toml: str) -> str:
    """Write a configuration file."""
    path = tmp_path / "hitcounter.toml"
    path.write_text(toml, "utf-8")
    return str(path)


# Settings


@pytest.mark.slow
@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("prot = 80", "unknown setting 'prot'"),
        ("port = ", "hitcounter.toml is not TOML"),
        ("port = 'http'", "port: 'http' is not a whole number"),
        ("timezone = 'GMT+7'", "timezone: 'GMT+7' is not an IANA time zone"),
        ("lang = ['vi']", "lang: ['vi'] is not text"),
        (f"redis_url = 'http://:{HIDDEN}@localhost'", "redis_url: not a URL like"),
        (f"redis_url = ['redis://:{HIDDEN}@localhost']", "redis_url: not a URL like"),
        ("kept_window_s = true", "kept_window_s: True is not text"),
        ("[sites.Demo]", "sites.'Demo': a site name is"),
        ("[sites.demo]\nprot = 80", "sites.'demo': unknown setting 'prot'"),
        ("[sites.demo]\norigins = ['https://demo/']", "sites.'demo'.origins: 'https://demo/'"),
    ],
)
def test_a_wrong_file_is_one_line_on_standard_error(tmp_path: Path, toml: str, said: str) -> None:
    line = refusal("serve", "--config", written(tmp_path, toml), code=2)
    assert said in line
    assert HIDDEN not in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"HITCOUNTER_PROT": "80"}, "unknown setting 'prot'"),
        ({"HITCOUNTER_SITES": "demo"}, "unknown setting 'sites'"),
        ({"HITCOUNTER_PORT": "-1"}, "port: -1 is not between 0 and 65535"),
        ({"HITCOUNTER_TIMEZONE": "Hanoi"}, "timezone: 'Hanoi' is not an IANA time zone"),
        ({"HITCOUNTER_REDIS_URL": f"redis://:{HIDDEN}@h:port"}, "redis_url: not a URL like"),
        ({"HITCOUNTER_CONFIG": "/nowhere/hitcounter.toml"}, "cannot read /nowhere/hitcounter.toml"),
    ],
)
def test_a_wrong_environment_is_one_line_on_standard_error(
    environ: dict[str, str], said: str
) -> None:
    line = refusal("serve", code=2, environ=environ)
    assert said in line
    assert HIDDEN not in line


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
def test_every_command_refuses_a_wrong_setting(command: list[str]) -> None:
    assert "lang: 'fr'" in refusal(*command, "--lang", "fr", code=2)


@pytest.mark.parametrize("flag", ["--prot", "--worker"])  # the latter is no short --workers
def test_an_unknown_flag_is_one_line_on_standard_error(flag: str) -> None:
    line = refusal("serve", flag, "80", code=2)
    assert line == f"hitcounter: unrecognized arguments: {flag} 80\n"


def test_help_names_every_setting_and_command() -> None:
    result = run_command("serve", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert all(f"--{name.replace('_', '-')} …" in result.stdout for name in SETTINGS)
    overview = run_command("--help").stdout
    assert all(command[0] in overview for command in (*COMMANDS, ["import"]))


def test_the_version_is_that_of_the_package() -> None:
    assert run_command("--version").stdout == f"{__version__}\n"


# Surroundings


@pytest.mark.slow
def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = refusal("serve", "--port", str(port), code=1)
    reason = f"cannot listen on 127.0.0.1 port {port}: Address already in use"
    assert line == f"hitcounter: {reason}; host and port say where\n"


@pytest.mark.parametrize("host", ["192.0.2.1", "host.invalid"])
def test_an_address_that_is_not_ours_is_named(host: str) -> None:
    assert f"cannot listen on {host} port 0: " in refusal(
        "serve", "--host", host, "--port=0", code=1
    )


@pytest.mark.slow
def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for data_dir in (file, file / "data"):
        line = refusal("serve", "--port=0", "--data-dir", str(data_dir), code=1)
        assert f"data_dir: cannot write to {data_dir}: " in line


def test_a_data_directory_whose_socket_would_have_too_long_a_name_is_named(tmp_path: Path) -> None:
    data_dir = tmp_path / ("x" * 100)
    line = refusal("serve", "--port=0", "--data-dir", str(data_dir), code=1)
    assert f"data_dir: {data_dir}/store.sock is too long" in line


@pytest.mark.slow
def test_a_data_directory_in_use_is_left_to_its_service(start_service: StartService) -> None:
    service = start_service()
    line = refusal("serve", "--port=0", "--data-dir", str(service.data_dir), code=1)
    assert f"{service.data_dir} is in use by process {service.process.pid}\n" in line
    assert fetch(f"{service.url}/readyz")["status"] == "ready"


@pytest.mark.parametrize(
    "program",
    [
        "/nowhere/valkey-server",
        pytest.param("/etc/passwd", marks=pytest.mark.slow),
        pytest.param("no-such-program", marks=pytest.mark.slow),
    ],
)
def test_a_server_program_that_is_missing_is_named(tmp_path: Path, program: str) -> None:
    data_dir = str(tmp_path / "data")
    for command in (["serve", "--port=0"], ["check"]):
        line = refusal(*command, "--data-dir", data_dir, "--store-binary", program, code=1)
        assert line == f"hitcounter: store_binary: {program} is not a program\n"


def test_a_server_program_that_is_no_server_is_named(tmp_path: Path) -> None:
    arguments = ["--port=0", f"--data-dir={tmp_path}/data", "--store-binary=false"]
    line = refusal("serve", *arguments, code=1)
    assert "our own store (" in line
    assert "does not start" in line


@pytest.mark.parametrize(
    "policy", ["allkeys-lru", pytest.param("volatile-ttl", marks=pytest.mark.slow)]
)
def test_a_store_that_may_delete_counters_is_refused(tmp_path: Path, policy: str) -> None:
    with store_server(tmp_path / "store", "--maxmemory-policy", policy) as server:
        for url in (server.tcp_url, server.unix_url):
            line = refusal("serve", "--port=0", "--workers=2", "--redis-url", url, code=1)
            assert f"maxmemory-policy is {policy}" in line
            assert "noeviction" in line


@pytest.mark.slow
def test_a_replica_is_refused(tmp_path: Path) -> None:
    with store_server(tmp_path / "master") as master:
        replicaof = f"127.0.0.1 {master.port}"
        with store_server(tmp_path / "replica", "--replicaof", replicaof) as replica:
            line = refusal("serve", "--port=0", "--redis-url", replica.tcp_url, code=1)
            assert "the store is a slave: give the address of the master" in line
            assert "slave" in refusal("check", "--redis-url", replica.tcp_url, code=1)


@pytest.mark.slow
def test_a_store_that_was_set_up_with_other_lanes_is_refused(tmp_path: Path) -> None:
    with store_server(tmp_path / "store") as server:
        with connected(server.socket_path) as redis:
            redis.set(LANES_KEY, 64)
        line = refusal("serve", "--port=0", "--redis-url", server.unix_url, code=1)
        assert "the store was set up with 64 lanes, not 1" in line


@pytest.mark.slow
def test_commands_name_a_store_that_is_away() -> None:
    url = f"redis://:{HIDDEN}@127.0.0.1:1"
    for command in COMMANDS[1:]:
        line = refusal(*command, "--redis-url", url, code=1)
        assert "the store does not answer" in line
        assert HIDDEN not in line


# What is right


@pytest.mark.slow
def test_with_port_0_the_system_chooses_and_one_line_says_which(tmp_path: Path) -> None:
    with serving("--port=0", cwd=tmp_path) as (line, url):
        assert line == f"hitcounter is serving on {url}\n"
        assert url.startswith("http://127.0.0.1:")
        assert fetch(f"{url}/healthz") == {"status": "ok"}


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])  # noqa: S104 -- a test's own
def test_the_health_check_finds_the_service_wherever_it_serves(tmp_path: Path, host: str) -> None:
    config = written(tmp_path, f"host = '{host}'")
    data_dir = ["--data-dir", str(tmp_path / "data")]
    assert "no service serves from" in refusal("check", "--live", *data_dir, code=1)
    with serving("--port=0", "--config", config, *data_dir, cwd=tmp_path) as (_, url):
        checked = run_command("check", "--live", *data_dir)
        assert (checked.returncode, checked.stdout) == (0, f"{url} answers\n")
        port = url.rpartition(":")[2]
        for loopback in ["127.0.0.1", "[::1]"][: 2 if host == "::" else 1]:
            assert fetch(f"http://{loopback}:{port}/healthz") == {"status": "ok"}
    assert "does not answer" in refusal("check", "--live", *data_dir, code=1)


BOTH_FAMILIES = """
import asyncio
import socket
from pathlib import Path
from hitcounter.process.listener import listen
Path("/proc/sys/net/ipv6/bindv6only").write_text("1")
with asyncio.run(listen("::", 0)) as listener:
    listener.listen()
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, listener.getsockname()[1])).close()
"""


def test_all_ipv6_addresses_are_all_ipv4_ones_too_whatever_the_system_is_set_to() -> None:
    network = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && "$@"', "-"]
    if shutil.which("unshare") is None or subprocess.run([*network, "true"]).returncode != 0:
        pytest.skip("this machine gives no network of one's own")
    result = subprocess.run([*network, sys.executable, "-c", BOTH_FAMILIES], timeout=60)
    assert result.returncode == 0


def test_the_image_asks_for_its_health_by_no_setting_of_its_own() -> None:
    dockerfile = (Path(__file__).parents[2] / "Dockerfile").read_text("utf-8")
    assert 'CMD ["hitcounter", "check", "--live"]' in dockerfile
    assert "HITCOUNTER_PORT" not in dockerfile


def test_a_service_named_hitcounter_does_not_stop_its_own_pods(tmp_path: Path) -> None:
    environ = {
        "HITCOUNTER_SERVICE_HOST": "10.0.0.1",
        "HITCOUNTER_SERVICE_PORT_HTTP": "8080",
        "HITCOUNTER_PORT": "tcp://10.0.0.1:8080",
        "HITCOUNTER_PORT_8080_TCP_ADDR": "10.0.0.1",
    }
    result = subprocess.run(
        [PROGRAM, "baseline", "demo", "--total=1", "--new"],
        env=environment("", environ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0
    passed_over = f"hitcounter: passed over, as no settings: {', '.join(sorted(environ))}"
    assert result.stderr.splitlines() == [passed_over, f"store: our own in {tmp_path / 'data'}"]


@pytest.mark.slow
def test_nothing_is_loaded_from_the_working_directory(tmp_path: Path) -> None:
    for name in ("secrets", "http", "socket", "aiohttp", "hitcounter", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the working directory')")
    with serving("--port=0", "--data-dir=.", cwd=tmp_path) as (_, url):
        assert fetch(f"{url}/healthz") == {"status": "ok"}
        live = [str(PROGRAM), "check", "--live", "--data-dir=."]
        assert subprocess.run(live, cwd=tmp_path, check=False).returncode == 0


@pytest.mark.slow
def test_without_settings_everything_lies_in_the_directory_data(tmp_path: Path) -> None:
    with serving("--port=0", cwd=tmp_path) as (_, url):
        assert fetch(f"{url}/readyz")["status"] == "ready"
        assert (tmp_path / "data" / "store.sock").is_socket()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.slow
def test_what_lies_in_the_working_directory_is_not_taken_for_a_library(tmp_path: Path) -> None:
    for library in ("aiohttp", "redis", "queue"):
        (tmp_path / f"{library}.py").write_text("raise SystemExit('not the library')\n")
    with serving("--port=0", cwd=tmp_path) as (_, url):
        assert fetch(f"{url}/healthz") == {"status": "ok"}


@pytest.mark.slow
def test_the_environment_wins_over_the_file_and_a_flag_over_both(tmp_path: Path) -> None:
    config = written(tmp_path, "port = 1\nlang = 'en'\ntimezone = 'UTC'\nhost = '192.0.2.1'")
    environ = {
        "HITCOUNTER_CONFIG": config,
        "HITCOUNTER_PORT": "2",
        "HITCOUNTER_HOST": "127.0.0.1",
        "HITCOUNTER_TIMEZONE": "Europe/Berlin",
    }
    with serving("--port=0", cwd=tmp_path, environ=environ) as (_, url):
        answer = fetch(f"{url}/v1/sites/demo/counts")
    assert (answer["timezone"], answer["widget"]["lang"]) == ("Europe/Berlin", "en")


@pytest.mark.slow
def test_only_declared_sites_are_counted_each_by_its_own_settings(tmp_path: Path) -> None:
    config = written(
        tmp_path, "timezone = 'UTC'\n[sites.a]\nlang = 'en'\n[sites.b]\ntimezone = 'Asia/Tokyo'"
    )
    with serving("--port=0", "--config", config, cwd=tmp_path) as (_, url):
        a, b = (fetch(f"{url}/v1/sites/{name}/counts") for name in "ab")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(f"{url}/v1/sites/c/counts")
    assert (a["timezone"], a["widget"]["lang"]) == ("UTC", "en")
    assert (b["timezone"], b["widget"]["lang"]) == ("Asia/Tokyo", "vi")
