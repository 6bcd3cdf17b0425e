"""Prometheus and Alertmanager as they are deployed, with seconds for minutes, and who is told."""

import json
import re
import runpy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.conftest import RunningService
from tests.support.prometheus import listening
from tests.support.servers import program
from tests.support.waiting import comes_true

DEPLOY = Path(__file__).parents[2] / "deploy"
A_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
WHERE = {"critical": "/page", "warning": "/ticket", "none": "/alive"}


def shortened(duration: str) -> str:
    """Let a minute be a second."""
    if duration.isdigit():
        return str(int(duration) / 60)
    return f"{int(duration[:-1]) * A_UNIT_MS[duration[-1]] // 60}ms"


class Webhook:
    """Who is told, and what they were told."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}  # what was said last: firing, if any of a name still does
        self.wrong: list[Any] = []  # what came elsewhere than it should, or says nothing useful

    def hear(self, path: str, message: dict[str, Any]) -> None:
        """Note what Alertmanager sends."""
        for alert in message["alerts"]:
            name, texts = alert["labels"]["alertname"], alert["annotations"]
            is_clear = not re.search("<error|<no value|{{", " ".join(texts.values()))
            is_led = texts["runbook_url"].endswith(f"operating.md#{name.lower()}")
            if not (WHERE[alert["labels"]["severity"]] == path and is_clear and is_led):
                self.wrong.append((path, alert))
            self.told[name] = message["status"]

    async def hears(self, status: str, *names: str) -> None:
        """Wait until it is told of alerts."""

        def is_told() -> bool:
            return {self.told.get(name) for name in names} == {status}

        await comes_true(is_told, f"{', '.join(names)}: {status}; {self.told}")


@contextmanager
def webhook() -> Iterator[tuple[Webhook, str]]:
    """Listen to what Alertmanager sends; give the address too."""
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.hear(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hook, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def alertmanager(directory: Path, url: str) -> Iterator[str]:
    """Run Alertmanager as it is deployed, but for the receivers' address and its patience."""
    text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
    config = yaml.safe_load(text.replace("https://alerts.example.vn", url))
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "100ms", "group_interval": "500ms"}
    path = directory / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    command = [program("prometheus-alertmanager"), f"--config.file={path}"]
    more = [f"--storage.path={directory / 'alertmanager'}", "--cluster.listen-address="]
    with listening([*command, *more], directory / "alertmanager.log") as running:
        yield running


@contextmanager
def prometheus(
    directory: Path, service: RunningService, alerts_to: str, others: Mapping[str, str]
) -> Iterator[str]:
    """Run Prometheus with the rules that are deployed: seconds for minutes, but for `others`.

    Give its URL.
    """
    rendering = runpy.run_path(str(DEPLOY / "prometheus" / "render.py"))
    durations = {name: shortened(each) for name, each in rendering["DURATIONS"].items()}
    (directory / "rules.yml").write_text(rendering["render"]({**durations, **others}))
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(config["global"], "500ms")
    (scrape,), (to,) = config["scrape_configs"], config["alerting"]["alertmanagers"]
    scrape["static_configs"][0]["targets"] = [f"127.0.0.1:{service.operations_port}"]
    to["static_configs"][0]["targets"] = [alerts_to.removeprefix("http://")]
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    command = [program("prometheus"), f"--config.file={path}"]
    # It takes seconds to find Alertmanager, and what is told before is told again after this time.
    more = [f"--storage.tsdb.path={directory / 'tsdb'}", "--rules.alert.resend-delay=1s"]
    with listening([*command, *more], directory / "prometheus.log") as running:
        yield running
