"""A Chromium that nobody drives, for what a driven one does not do: prerendering.

Its pages drive themselves, and say what happens by asking their web site for notes.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.browser import chromium

END_TIMEOUT_S = 20


@contextmanager
def visiting(path: str, profile: Path, url: str) -> Iterator[None]:
    """Open a page in a fresh browser, and end the browser afterwards."""
    command = [
        *(path, "--headless=new", f"--user-data-dir={profile}"),
        "--remote-debugging-port=0",  # without it, those of 2020 end when the page is loaded
        *(f"--user-agent={chromium.USER_AGENT}", *chromium.ARGUMENTS, url),
    ]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
