"""Debian's Chromium, driven headless, looking like a visitor's browser."""

import shutil
from ctypes.util import find_library

from playwright.async_api import Browser, Playwright

# Headless Chromium names itself, and robots are not counted.
USER_AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36"
)
REBOUND = "rebound.example"  # a name that its owner points at this machine
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1",
)


# The same engine without windows: a page takes a quarter of the time that the whole browser needs.
SHELL, WHOLE = "chromium-headless-shell", "chromium"


def find() -> str | None:
    """Give the path of the installed Chromium that costs least."""
    return shutil.which(SHELL) or find_whole()


def find_whole() -> str | None:
    """Give the path of the browser that visitors have, which keeps pages for the Back button."""
    return shutil.which(WHOLE)


def missing_library() -> str | None:
    """Name the library that Playwright's driver links and a small Debian lacks."""
    return None if find_library("atomic") else "libatomic.so.1 (Debian: libatomic1)"


async def launch(playwright: Playwright, path: str) -> Browser:
    """Start a headless Chromium, which keeps pages for the Back button if it can."""
    return await playwright.chromium.launch(
        executable_path=path,
        args=list(ARGUMENTS),
        ignore_default_args=["--disable-back-forward-cache"],
    )
