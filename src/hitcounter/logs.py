"""Log lines on standard error: one event, one line, whatever a visitor put into it.

For people, the trace of an error of ours follows its line; for machines, each line is one object.
"""

import json
import logging
import re
import sys
from collections import Counter
from datetime import datetime

# Control characters, line separators, and characters that turn the writing direction.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
# Of one kind: enough to see what is wrong, and a disk is not filled by what goes wrong at each hit.
LINES_A_MINUTE = 30


def set_up(process: str, log_format: str) -> None:
    """Log what is worth a line, under the name of this process, as `text` or `json`."""
    logging.basicConfig(level=logging.INFO, handlers=[handler(process, log_format)])
    # Aborted requests are the client's affair; what we fail at is logged by web.app.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)


def handler(process: str, log_format: str) -> logging.Handler:
    """Make what writes the lines of a process."""
    handler = logging.StreamHandler(sys.stderr)
    kind = _Json if log_format == "json" else _Text
    handler.setFormatter(kind(f"%(asctime)s %(levelname)s {process}: %(message)s", process))
    handler.addFilter(_printable)
    handler.addFilter(_RateLimit())
    return handler


def tell(level: int, line: str) -> None:
    """Say a line to whoever started us; where that is a machine, as a line of the log."""
    if any(isinstance(handler.formatter, _Json) for handler in logging.getLogger().handlers):
        logging.getLogger(__name__).log(level, "%s", line)
    else:
        print(f"hitcounter: {line}", file=sys.stderr, flush=True)  # noqa: T201


class _Text(logging.Formatter):
    def __init__(self, line: str, process: str) -> None:
        super().__init__(line)
        self._process = process

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002
        """Tell the zone of the time as well; `logging` calls it by this name."""
        return datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")


class _Json(_Text):
    def format(self, record: logging.LogRecord) -> str:
        """Write one object, with the trace in it."""
        line = {
            "time": self.formatTime(record).replace(" ", "T"),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _RateLimit(logging.Filter):
    """Lets so many lines of one place in the code pass in each minute, and says what is missing."""

    def __init__(self) -> None:
        super().__init__()
        self._minute = 0
        self._n_lines: Counter[tuple[str, int]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is written; the last one of a minute says that more are not."""
        place, minute = (record.pathname, record.lineno), int(record.created // 60)
        if minute != self._minute:
            self._minute, self._n_lines = minute, Counter()
        self._n_lines[place] += 1
        if self._n_lines[place] == LINES_A_MINUTE:
            record.msg += " (more lines of this kind are left out for the rest of this minute)"
        return self._n_lines[place] <= LINES_A_MINUTE


def _printable(record: logging.LogRecord) -> bool:
    record.msg = _UNPRINTABLE.sub("?", record.getMessage())
    record.args = None
    return True
