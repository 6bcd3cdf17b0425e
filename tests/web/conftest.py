"""Services that the tests of one module share."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.conftest import RunningService, StartService, start


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartService]:
    """Start services, each in a directory of its own; all of them end with the module.

    `toml` is the text of a configuration file.
    """
    started: list[RunningService] = []

    def _start(toml: str = "", **settings: Any) -> RunningService:
        directory = tmp_path_factory.mktemp("service")
        if toml:
            settings["config"] = directory / "hitcounter.toml"
            settings["config"].write_text(toml)
        service = start(directory, settings)
        started.append(service)
        return service

    yield _start
    for service in started:
        service.process.terminate()  # all at once, so that they end side by side
    for service in started:
        service.stop()
        assert service.process.stdout is not None
        service.process.stdout.close()


@pytest.fixture(scope="module")
def anyone(start_shared: StartService) -> RunningService:
    """Start an open service."""
    return start_shared()


@pytest.fixture(scope="module")
def names() -> Iterator[str]:
    """Make names of sites that no other test uses."""
    return (f"site-{n}.example.vn" for n in count())


@pytest.fixture
def site(names: Iterator[str]) -> str:
    """Name a site that was never counted."""
    return next(names)
