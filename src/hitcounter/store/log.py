"""What the server of our own store wrote into its log since we started it.

It advises what would cut off all that lies behind a fault in its files. We pass on what it saw, not
what it advises.
"""

import logging
import os
import re
import shutil
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)

_READ_BYTES = 1 << 16
_LINE_BYTES = 32
_NO_ROOM_BYTES = 1 << 12
_PREFIX = re.compile(r"^\d+:\w .*? [-.*#] ")
# Its two pieces of advice on a fault in its files, and whatever else names their means.
_ADVICE = re.compile(r"[:.] (?:make a backup|You can: ).*|[^:.]*(?:--fix|aof-load-truncated).*")
_OF_FILES = re.compile(r"AOF|append.only|RDB", re.IGNORECASE)
_INCREMENTS = re.compile(r"\S+\.incr\.aof")
_SEE = 'see "A damaged log of the store" in docs/operating.md'
_CUT = re.compile(r"Truncating the AOF (\S+) at offset (\d+)")


class StoreLog:
    """The log of one start of the server."""

    def __init__(self, files: Path) -> None:
        """Leave out what is in the log by now."""
        self.path = files / "store.log"
        self._log_files = files / "appendonlydir"
        self._sizes = {path.name: path.stat().st_size for path in self._log_files.glob("*.aof")}
        self._begins_at = self.path.stat().st_size if self.path.exists() else 0

    def last_words(self) -> str:
        """Say in one line why the server ended, and where to read on if it is its files."""
        files = self.path.parent
        if files.is_dir() and shutil.disk_usage(files).free < _NO_ROOM_BYTES:
            return f"there is no room left for {files}"  # which its log may not tell: nor for that
        lines = [_PREFIX.sub("", line).strip() for line in self._lines()]
        words = next((line for line in reversed(lines) if line), "it left no log")
        words = _ADVICE.sub("", words)
        if _OF_FILES.search(words) is None:
            return words
        if (named := _INCREMENTS.search(words)) and (self._log_files / named[0]).is_file():
            n_whole, n_bytes = _whole(self._log_files / named[0])
            words += f", of which {n_whole} of {n_bytes} bytes are whole"
        return f"{words}; nothing in {self._log_files} was changed; {_SEE}"

    def report_cut(self) -> None:
        """Log a warning if the server cut off a torn end of its files."""
        for line in self._lines():
            if cut := _CUT.search(line):
                n_bytes = self._sizes.get(cut[1], 0) - int(cut[2])
                log.warning(
                    "%s was torn: the server cut off its last %d bytes, from byte %s on; %s",
                    *(self._log_files / cut[1], n_bytes, cut[2], _SEE),
                )

    def _lines(self) -> list[str]:
        try:
            with self.path.open("rb") as file:
                file.seek(max(self._begins_at, self.path.stat().st_size - _READ_BYTES))
                return file.read().decode(errors="replace").splitlines()
        except OSError:
            return []


def _whole(path: Path) -> tuple[int, int]:
    """Measure up to where a log consists of whole commands, and how long it is."""
    n_whole = 0
    with path.open("rb") as file:
        while _is_command(file):
            n_whole = file.tell()
    return n_whole, path.stat().st_size


def _is_command(file: BinaryIO) -> bool:
    """Read one command: how many parts, and each behind its length."""
    line = file.readline(_LINE_BYTES)
    if line.startswith(b"#"):  # a time stamp
        return line.endswith(b"\r\n")
    return _number(b"*", line) >= 0 and all(_is_part(file) for _ in range(_number(b"*", line)))


def _is_part(file: BinaryIO) -> bool:
    n_bytes = _number(b"$", file.readline(_LINE_BYTES))
    if n_bytes < 0:
        return False
    file.seek(n_bytes, os.SEEK_CUR)
    return file.read(2) == b"\r\n"


def _number(sign: bytes, line: bytes) -> int:
    """Read a line like *3; return -1 if it is no such line."""
    digits = line[1:].removesuffix(b"\r\n")
    is_number = line[:1] == sign and line.endswith(b"\r\n") and digits.isdigit()
    return int(digits) if is_number else -1
