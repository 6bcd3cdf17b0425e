"""A line of the log, for people and for machines."""

import json
import logging
import sys

import pytest

from hitcounter import logs


def test_a_kind_of_line_that_comes_too_often_is_left_out_for_the_rest_of_the_minute() -> None:
    handler = logs.handler("worker 3", "text")

    def lines_of(place: int, at_s: float) -> list[str]:
        record = logging.LogRecord("hitcounter", 40, "a.py", place, "fails: %s", ("x",), None)
        record.created = at_s
        return [handler.format(record)] if handler.filter(record) else []

    first = [line for n in range(1000) for line in lines_of(1, 120 + n / 100)]
    assert len(first) == logs.LINES_A_MINUTE
    assert [line for line in first if not line.endswith("fails: x")] == first[-1:]
    assert "are left out" in first[-1]
    assert len(lines_of(2, 130)) == 1
    assert [line.endswith("fails: x") for line in lines_of(1, 180)] == [True]


@pytest.fixture
def failed() -> logging.LogRecord:
    """Log an error with a trace of several lines."""
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        return logging.LogRecord(
            "hitcounter.web", 40, "", 1, "fails: %s", ("x\ny",), sys.exc_info()
        )


def test_a_trace_is_a_part_of_the_object_for_machines(failed: logging.LogRecord) -> None:
    handler = logs.handler("worker 3", "json")
    line = handler.format(failed) if handler.filter(failed) else ""
    assert "\n" not in line
    said = json.loads(line)
    assert said["exception"].startswith("Traceback")
    assert said["exception"].endswith("ValueError: one\ntwo")
    known = {key: said[key] for key in ("level", "process", "logger", "message")}
    assert known == {
        "level": "ERROR",
        "process": "worker 3",
        "logger": "hitcounter.web",
        "message": "fails: x?y",
    }


def test_a_trace_follows_the_line_for_people(failed: logging.LogRecord) -> None:
    handler = logs.handler("worker 3", "text")
    line, *trace = handler.format(failed).splitlines() if handler.filter(failed) else [""]
    assert line.endswith(" ERROR worker 3: fails: x?y")
    assert trace[0].startswith("Traceback")
