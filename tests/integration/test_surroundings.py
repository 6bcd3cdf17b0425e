"""What the surroundings lack: each command says so in one line, and leaves nothing half done."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import PROGRAM, run_command
from tests.support.servers import StoreServer, store_server

# A stand-in for the command itself.
IT = '"$0" "$@"'
EVERY = ("serve", "check", "show", "baseline", "export", "import")
COMMANDS: Mapping[str, list[str]] = {
    "serve": ["serve", "--port", "0", "--operations-port", "0"],
    "check": ["check"],
    "show": ["show", "demo"],
    "baseline": ["baseline", "demo", "--total", "8", "--page", "/caf\u00e9=3"],
    "export": ["export"],
    "import": ["import", "numbers.ndjson"],
}
# The store that the tests of the embedded one start takes no part in what is tested there.
AWAY: dict[str, str | bytes] = {"redis_url": "unix:///nowhere/socket"}
OWN: dict[str, str | bytes] = {"redis_url": ""}


@dataclass(frozen=True)
class Lack:
    """One thing that is not there, and what is said about it."""

    said: str
    sh: str = IT
    environ: dict[str, str | bytes] = field(default_factory=dict)
    without: str = ""  # a module that Python cannot load
    settings: dict[str, str | bytes] = field(default_factory=dict)
    commands: tuple[str, ...] = EVERY
    code: int = 1
    checked: str = ""  # what `check` says before it meets that


SETTINGS = "settings: environment and defaults\nsites: open to any name, up to 1000\n"
MAKING = ("serve", "baseline", "import")
TALKING = ("check", "show", "baseline", "export", "import")
LACKS = {
    "a disk under the output": Lack(
        "cannot write to standard output: No space left on device",
        sh=f"{IT} >/dev/full",
        commands=TALKING,
    ),
    "a disk, and no buffer": Lack(
        "cannot write to standard output: No space left on device",
        sh=f"{IT} >/dev/full",
        environ={"PYTHONUNBUFFERED": "1"},
        commands=TALKING,
    ),
    "standard output": Lack("standard output is closed", sh=f"{IT} >&-", commands=TALKING),
    "standard input": Lack("standard input is closed", sh='"$0" import - <&-', commands=EVERY[5:]),
    "files": Lack("Too many open files", sh=f"ulimit -n 6; {IT}", checked=SETTINGS),
    "files of visitors": Lack(
        "a worker may open only 40 files", sh=f"ulimit -n 40; {IT}", commands=("serve",)
    ),
    "sqlite3": Lack(
        "cannot load sqlite3", without="sqlite3", commands=("serve", "check"), checked=SETTINGS
    ),
    "hiredis": Lack("cannot load hiredis", without="hiredis", checked=SETTINGS),
    "msgspec": Lack("cannot load msgspec", without="msgspec", checked=SETTINGS),
    "the C extension of aiohttp": Lack(
        "aiohttp is installed without its C extension",
        without="aiohttp._http_parser",
        commands=("serve",),
    ),
    "time zones": Lack(
        "this machine knows no time zones",
        without="tzdata",
        environ={"PYTHONTZPATH": ""},
        code=2,
    ),
    "a user": Lack(
        "data_dir: '~nobody-here/data'", settings={"data_dir": "~nobody-here/data"}, code=2
    ),
    "a name of a directory": Lack("data_dir: is empty", settings={"data_dir": ""}, code=2),
    "a host": Lack("host: is empty", settings={"host": ""}, code=2),
    "UTF-8 in a directory": Lack("is not UTF-8", settings={"data_dir": b"/tmp/\xff"}, code=2),
    "UTF-8 in a file's name": Lack("config: ", settings={"config": b"/tmp/\xff.toml"}, code=2),
    "UTF-8 in a flag": Lack("unrecognized", sh='"$0" "$@" "$(printf "\\377")"', code=2),
    "a directory": Lack(
        "data_dir: cannot write to /etc/passwd: File exists",
        settings={"data_dir": "/etc/passwd", **OWN},
        commands=("serve", "baseline", "import"),
    ),
    "a directory to look into": Lack(
        "data_dir: /etc/passwd is not a directory",
        settings={"data_dir": "/etc/passwd", **OWN},
        commands=("check",),
        checked=SETTINGS,
    ),
    "a file system to write to": Lack(
        "data_dir: cannot write to /proc/hitcounter",
        settings={"data_dir": "/proc/hitcounter", **OWN},
        commands=("serve", "baseline", "import"),
    ),
    "a place for the store": Lack(
        "data/store: File exists",
        sh=f"touch data/store; {IT}",
        settings=OWN,
        commands=MAKING,
    ),
    "a place for the socket": Lack(
        "data/store.sock: Is a directory",
        sh=f"mkdir -p data/store.sock; {IT}",
        settings=OWN,
        commands=MAKING,
    ),
    "a place for the journal": Lack(
        "data/journal: File exists",
        sh=f"touch data/journal; {IT}",
        commands=("serve",),
    ),
    "room in files": Lack("File too large", sh=f"ulimit -f 0; {IT}", settings=OWN, commands=MAKING),
    "a store": Lack("the store does not answer", settings=AWAY, commands=TALKING, checked=SETTINGS),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    """Run one store, which holds a number."""
    with store_server(tmp_path_factory.mktemp("store")) as server:
        run_command("baseline", "demo", "--total", "7", redis_url=server.unix_url)
        yield server


@pytest.fixture(scope="module")
def exported(store: StoreServer) -> str:
    """Export that number."""
    return run_command("export", redis_url=store.unix_url).stdout


def started(lack: Lack, command: str, directory: Path, url: str) -> "subprocess.Popen[str]":
    """Start a command where something is lacking."""
    settings = OWN | {"data_dir": "data", "redis_url": url} | lack.settings
    given = {f"HITCOUNTER_{name.upper()}": value for name, value in settings.items()}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HITCOUNTER_")}
    environ: dict[str, str | bytes] = {**inherited, **lack.environ, **given}
    if lack.without:
        path = directory / "sitecustomize.py"
        path.write_text(f"import sys; sys.modules[{lack.without!r}] = None")
        environ["PYTHONPATH"] = str(directory)
    return subprocess.Popen(
        ["sh", "-c", lack.sh, PROGRAM, *COMMANDS[command]],
        env=environ,
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", LACKS)
def test_what_the_surroundings_lack_is_one_line_of_every_command(
    tmp_path: Path, store: StoreServer, exported: str, name: str
) -> None:
    lack = LACKS[name]
    processes = {}
    for command in lack.commands:
        directory = tmp_path / command
        directory.mkdir()
        (directory / "numbers.ndjson").write_text(exported, "utf-8")
        (directory / "data").mkdir()
        processes[command] = started(lack, command, directory, store.unix_url)
    for command, process in processes.items():
        try:
            out, line = process.communicate(timeout=60)
        finally:
            process.kill()
        shown = lack.checked if command == "check" else ""
        assert (process.returncode, out) == (lack.code, shown), (command, line)
        assert line.startswith("hitcounter: "), (command, line)
        assert line.count("\n") == 1, (command, line)
        assert lack.said in line, (command, line)
