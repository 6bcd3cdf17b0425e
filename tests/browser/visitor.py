"""A Chromium that nobody drives, for what a driven one does not do: prerendering.

Its pages drive themselves, and say what happens by asking their web site for notes.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.browser import chromium


@contextmanager
def visiting(path: str, profile: Path, url: str) -> Iterator[None]:
    """Open a page in a fresh browser, and end the browser afterwards."""
    command = [
        *(path, "--headless=new", f"--user-data-dir={profile}"),
        "--remote-debugging-port=0",  # without it, those of 2020 end when the page is loaded
        *(f"--user-agent={chromium.USER_AGENT}", *chromium.ARGUMENTS, url),
    ]
    quiet = subprocess.DEVNULL
    # Debian starts it by a script that stays: both are one group, which ends as one.
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
