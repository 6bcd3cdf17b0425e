"""What the surroundings lack: each command says so in one line, and leaves nothing half done."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import PROGRAM, run_command
from tests.integration.servers import StoreServer, store_server

# A stand-in for the command itself.
IT = '"$0" "$@"'
EVERY = ("serve", "check", "show", "baseline", "export", "import")
COMMANDS: Mapping[str, list[str]] = {
    "serve": ["serve", "--port", "0"],
    "check": ["check"],
    "show": ["show", "demo"],
    "baseline": ["baseline", "demo", "--total", "8", "--page", "/caf\u00e9=3"],
    "export": ["export"],
    "import": ["import", "numbers.ndjson"],
}
# The store that the tests of the embedded one start takes no part in what is tested there.
AWAY = {"redis_url": "unix:///nowhere/socket"}
OWN = {"redis_url": ""}


@dataclass(frozen=True)
class Lack:
    """One thing that is not there, and what is said about it."""

    said: str
    shell: str = IT
    environ: Mapping[str, str | bytes] = field(default_factory=dict)
    without: str = ""  # a module that Python cannot load
    settings: Mapping[str, str | bytes] = field(default_factory=dict)
    commands: tuple[str, ...] = EVERY
    code: int = 1


TALKING = ("check", "show", "baseline", "export", "import")
LACKS = {
    "a disk under the output": Lack(
        "cannot write to standard output: No space left on device",
        shell=f"{IT} >/dev/full",
        commands=TALKING,
    ),
    "a disk, and no buffer": Lack(
        "cannot write to standard output: No space left on device",
        shell=f"{IT} >/dev/full",
        environ={"PYTHONUNBUFFERED": "1"},
        commands=TALKING,
    ),
    "standard output": Lack("standard output is closed", shell=f"{IT} >&-", commands=TALKING),
    "standard input": Lack(
        "standard input is closed", shell='"$0" import - <&-', commands=EVERY[5:]
    ),
    "files": Lack("Too many open files", shell=f"ulimit -n 6; {IT}"),
    "files of visitors": Lack(
        "a worker may open only 40 files", shell=f"ulimit -n 40; {IT}", commands=("serve",)
    ),
    "sqlite3": Lack("cannot load sqlite3", without="sqlite3", commands=("serve", "check")),
    "hiredis": Lack("cannot load hiredis", without="hiredis"),
    "msgspec": Lack("cannot load msgspec", without="msgspec"),
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
    "UTF-8 in a flag": Lack("unrecognized", shell='"$0" "$@" "$(printf "\\377")"', code=2),
    "a directory": Lack(
        "data_dir: cannot write to /etc/passwd: File exists",
        settings={"data_dir": "/etc/passwd"} | OWN,
        commands=("serve", "check", "baseline", "import"),
    ),
    "a file system to write to": Lack(
        "data_dir: cannot write to /proc/hitcounter",
        settings={"data_dir": "/proc/hitcounter"} | OWN,
        commands=("serve", "check", "baseline", "import"),
    ),
    "a place for the store": Lack(
        "data/store: File exists",
        shell=f"mkdir data; touch data/store; {IT}",
        settings=OWN,
    ),
    "a place for the socket": Lack(
        "data/store.sock: Is a directory",
        shell=f"mkdir -p data/store.sock; {IT}",
        settings=OWN,
    ),
    "a place for the journal": Lack(
        "data/journal: File exists",
        shell=f"mkdir data; touch data/journal; {IT}",
        commands=("serve",),
    ),
    "room in files": Lack("File too large", shell=f"ulimit -f 0; {IT}", settings=OWN),
    "a store": Lack("the store does not answer", settings=AWAY, commands=TALKING),
}
CASES = [(lack, command) for lack, case in LACKS.items() for command in case.commands]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    """Run one store, which holds the number 7."""
    with store_server(tmp_path_factory.mktemp("store")) as server:
        assert run_command("baseline", "demo", "--total", "7", redis_url=server.unix_url)
        yield server


def run(lack: Lack, command: str, directory: Path, url: str) -> "subprocess.CompletedProcess[str]":
    """Run a command where something is lacking."""
    settings = {"data_dir": "data", "redis_url": url} | lack.settings
    given = {f"HITCOUNTER_{name.upper()}": value for name, value in settings.items()}
    environ = {k: v for k, v in os.environ.items() if not k.startswith("HITCOUNTER_")}
    if lack.without:
        path = directory / "sitecustomize.py"
        path.write_text(f"import sys; sys.modules[{lack.without!r}] = None")
        environ["PYTHONPATH"] = str(directory)
    return subprocess.run(
        ["sh", "-c", lack.shell, PROGRAM, *COMMANDS[command]],
        env=environ | lack.environ | given,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(("lack", "command"), CASES)
def test_what_the_surroundings_lack_is_one_line(
    tmp_path: Path, store: StoreServer, lack: str, command: str
) -> None:
    exported = run_command("export", redis_url=store.unix_url).stdout
    (tmp_path / "numbers.ndjson").write_text(exported, "utf-8")
    case = LACKS[lack]
    result = run(case, command, tmp_path, store.unix_url)
    assert result.stderr.startswith("hitcounter: ")
    assert result.stderr.count("\n") == 1
    assert case.said in result.stderr
    assert (result.returncode, result.stdout) == (case.code, "")
