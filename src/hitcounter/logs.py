"""Log lines on standard error: one event, one line, whatever a visitor put into it."""

import logging
import re
import sys

# Control characters, line separators, and characters that turn the writing direction.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def set_up(process: str) -> None:
    """Log what is worth a line, under the name of this process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {process}: %(message)s"))
    handler.addFilter(_printable)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # Aborted requests are the client's affair; what we fail at is logged by web.app.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)


def _printable(record: logging.LogRecord) -> bool:
    record.msg = _UNPRINTABLE.sub("?", record.getMessage())
    record.args = None
    return True
