"""The built image, run as deploy/compose.yaml runs it, by what container engines do that with.

What runs, as whom, how its health is asked and how it is stopped says the image; what it may do,
the compose file. It takes root, but no engine and no daemon.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.support.servers import program

DEPLOY = Path(__file__).parents[2] / "deploy"
BUILT = DEPLOY.parent / "build" / "image"
SERVICE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]["hitcounter"]
(TMP,) = SERVICE["tmpfs"]  # the one place where a container of it can be given something more


def described() -> Any:
    """Read what the image says of itself."""
    return json.loads((BUILT / "image.json").read_text("utf-8"))["Docker"]["config"]


@dataclass(frozen=True, slots=True)
class Container:
    """A running container, and what an engine does with it."""

    runtime: Sequence[str]
    name: str
    process: "subprocess.Popen[str]"

    def line(self) -> str:
        """Wait for the next line that it writes to standard output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def port(self) -> int:
        """Wait until it says where it serves."""
        return int(self.line().rpartition(":")[2])

    def run(
        self, *command: str, timeout_s: float | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in it, as its user, to the end."""
        return subprocess.run(
            [*self.runtime, "exec", self.name, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def is_healthy(self) -> bool:
        """Ask for its health as the image says."""
        check = described()["Healthcheck"]
        try:
            return self.run(*check["Test"][1:], timeout_s=check["Timeout"] / 1e9).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def signal(self, name: str, *options: str) -> None:
        """Send a signal to its first process or, with `--all`, to every one."""
        subprocess.run([*self.runtime, "kill", *options, self.name, name], check=True)

    def stop(self) -> int:
        """Stop it as an engine does: it is killed after its grace. Give the exit code."""
        self.signal(described()["StopSignal"])
        try:
            return self.process.wait(float(SERVICE["stop_grace_period"].removesuffix("s")))
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """Kill all that runs in it; give the exit code."""
        self.signal("KILL")
        return self.process.wait()


def new_volume(path: Path) -> Path:
    """Make a volume: it takes the owner of the directory that it covers."""
    (covered,) = described()["Volumes"]
    owner = (BUILT / "rootfs" / covered.lstrip("/")).stat()
    path.mkdir(mode=0o750)
    os.chown(path, owner.st_uid, owner.st_gid)
    return path


@contextmanager
def running(
    directory: Path,
    volume: Path,
    settings: Mapping[str, str],
    mounts: Mapping[str, Path],
    *command: str,
    is_alone: bool = False,
) -> Iterator[Container]:
    """Run the image on a volume, or another command in it; it is killed at the end.

    What is alone has a network of its own, on which nobody else is.
    """
    bundle = directory / f"bundle{len([*directory.glob('bundle*')])}"
    bundle.mkdir()
    name = f"hitcounter-{os.getpid()}-{bundle.name}"
    runtime = [program("runc"), "--root", str(directory / "runc")]
    subprocess.run([*runtime, "spec", "--bundle", bundle], check=True)
    path = bundle / "config.json"
    specification = json.loads(path.read_text("utf-8"))
    _describe(specification, settings, command)
    _restrict(specification)
    _mount(specification, volume, mounts)
    if not is_alone:
        specification["linux"]["namespaces"].remove({"type": "network"})
    path.write_text(json.dumps(specification))
    with (directory / "log").open("a") as log:
        process = subprocess.Popen(
            [*runtime, "run", "--bundle", bundle, name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    with process:
        try:
            yield Container(runtime, name, process)
        finally:
            subprocess.run([*runtime, "delete", "--force", name], check=True)


def _describe(specification: Any, settings: Mapping[str, str], command: Sequence[str]) -> None:
    """Take from the image what is run, as whom, where, and in which environment."""
    image = described()
    uid, gid = map(int, image["User"].split(":"))
    specification["root"] = {"path": str(BUILT / "rootfs"), "readonly": SERVICE["read_only"]}
    specification["process"] |= {
        "terminal": False,
        "user": {"uid": uid, "gid": gid},
        "args": [*(command or image["Entrypoint"] + image["Cmd"])],
        "env": [*image["Env"], *(f"{name}={value}" for name, value in settings.items())],
        "cwd": image["WorkingDir"],
    }


def _restrict(specification: Any) -> None:
    """Allow what the compose file allows."""
    assert SERVICE["cap_drop"] == ["ALL"]
    assert SERVICE["security_opt"] == ["no-new-privileges:true"]
    specification["process"] |= {"capabilities": {}, "noNewPrivileges": True, "rlimits": []}
    specification["linux"]["resources"] |= {
        "memory": {"limit": int(SERVICE["mem_limit"].removesuffix("m")) << 20},
        "pids": {"limit": SERVICE["pids_limit"]},
    }


def _mount(specification: Any, volume: Path, mounts: Mapping[str, Path]) -> None:
    """Mount what the compose file has in memory, the image's volume, and more."""
    (covered,) = described()["Volumes"]
    options = ["nosuid", "nodev", "noexec", "mode=1777"]
    specification["mounts"] += [
        {"destination": TMP, "type": "tmpfs", "source": "tmpfs", "options": options},
        *(
            {"destination": destination, "source": str(source), "options": ["rbind"]}
            for destination, source in {covered: volume, **mounts}.items()
        ),
    ]
