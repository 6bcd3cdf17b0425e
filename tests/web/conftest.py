"""Services that the tests of one module share."""

from collections.abc import Iterator
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
