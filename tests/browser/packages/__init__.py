"""Pages made with other people's programs, as installed by install.sh from their packages."""

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
BUILT = MODULES / "built"


def need() -> None:
    """Skip where the packages were not installed, except that CI must not pass without them."""
    if (BUILT / "complete").exists():
        return
    reason = "pages of other people are not installed: sh tests/browser/packages/install.sh"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def shipped(name: str) -> str:
    """Read a script as its package ships it."""
    need()
    return (MODULES / name).read_text("utf-8")


def built(name: str) -> Path:
    """Find what was made from packages for the tests."""
    need()
    return BUILT / name
