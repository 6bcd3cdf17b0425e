"""Prometheus and its Alertmanager, on a port that the system picks, and what Prometheus knows."""

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.waiting import until

LISTENING = re.compile(r'msg="Listening on" address=(127\.0\.0\.1:[0-9]+)')


@contextmanager
def listening(command: list[str], log: Path) -> Iterator[str]:
    """Run one of them, and give its URL."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--web.listen-address=127.0.0.1:0"], stdout=output, stderr=output
        )
    try:
        yield f"http://{_address(process, log)}"
    finally:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    def has_decided() -> bool:
        return LISTENING.search(log.read_text()) is not None or process.poll() is not None

    until(has_decided, "it listens or ends")
    found = LISTENING.search(log.read_text())
    assert found is not None, f"it does not listen:\n{log.read_text()}"
    return found[1]


def asked(url: str, question: str) -> list[dict[str, Any]]:
    """Ask a Prometheus once; one that is not ready yet knows nothing."""
    query = urllib.parse.urlencode({"query": question})
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=10) as response:
            found: list[dict[str, Any]] = json.loads(response.read())["data"]["result"]
    except urllib.error.HTTPError as error:
        error.close()
        return []
    return found
