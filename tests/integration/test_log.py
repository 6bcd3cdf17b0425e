"""The log: one line for each event, which says when, how bad and where, and never who came."""

import json
import os
import re
import signal
from datetime import datetime

import pytest

from tests.conftest import RunningService, StartService, run_command
from tests.integration.test_privacy import ADDRESSES, AGENTS, WORDS, hit
from tests.support.stores import frozen_store
from tests.support.waiting import until

TEXT = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d (INFO|WARNING|ERROR) "
    r"(supervisor|worker \d+): \S.*"
)
PATH = "/quetzal"  # of visitors, which no line may name


@pytest.mark.slow
def test_every_line_for_machines_is_an_object_and_says_nothing_of_visitors(
    start_service: StartService,
) -> None:
    service = start_service(
        log_format="json", trusted_proxies="127.0.0.1", limits="on", store_timeout_s=1
    )
    live_through_much(service)
    another = run_command("serve", **service.settings)
    assert another.returncode == 1
    lines = [json.loads(line) for line in (service.log + another.stderr).splitlines()]
    assert {line["process"] for line in lines} == {"supervisor", "worker 0", "worker 1"}
    assert {line["level"] for line in lines} == {"INFO", "WARNING", "ERROR", "CRITICAL"}
    for line in lines:
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
        assert line["logger"].startswith("hitcounter")
        assert line["message"].isprintable()
    assert lines[-1]["level"] == "CRITICAL"


@pytest.mark.slow
def test_every_line_for_people_has_its_time_with_the_zone(start_service: StartService) -> None:
    service = start_service(trusted_proxies="127.0.0.1", limits="on", store_timeout_s=1)
    live_through_much(service)
    assert [line for line in service.log.splitlines() if not TEXT.fullmatch(line)] == []


def live_through_much(service: RunningService) -> None:
    """Have hits of all kinds, also in an outage, a worker that is killed, and a reload."""
    for agent in AGENTS.values():
        assert hit(service, "demo/hits", ADDRESSES[0], agent, f'{{"path": "{PATH}"}}') == 200
        assert hit(service, "demo/hits", ADDRESSES[1], agent, f'{{"path": "{PATH}') == 400
        assert hit(service, f"demo{PATH}", ADDRESSES[1], agent) == 404
    with frozen_store(service):
        hit(service, "demo/hits", ADDRESSES[0], AGENTS["person"], f'{{"path": "{PATH}"}}')
        until(lambda: "the store is away" in service.log, "the log tells of the outage")
    until(lambda: "the store answers again" in service.log, "the log tells of its end")
    (worker,) = service.worker_pids()
    os.kill(worker, signal.SIGKILL)
    until(lambda: "starting it again" in service.log, "the log tells of the worker")
    until(lambda: service.worker_pids() not in ([], [worker]), "there is another worker")
    service.process.send_signal(signal.SIGHUP)
    until(lambda: "replaced all workers" in service.log, "the settings are read again")
    log = service.log.encode()
    assert [word for word in (*WORDS, PATH[1:].encode()) if word in log] == []
