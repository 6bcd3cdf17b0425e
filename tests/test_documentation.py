"""The documentation names what there is: every setting, every metric, every result of a hit."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import hitcounter
from hitcounter import config, errors
from hitcounter.config import SETTINGS, Config
from hitcounter.errors import STATUSES, MethodNotAllowed
from hitcounter.metrics import JOURNALING, READY, STATES
from hitcounter.outcomes import RESULTS, RESULTS_OF_OTHERS

SRC = Path(hitcounter.__file__).parent
DOCS = Path(__file__).parent.parent / "docs"
# Prometheus' own clients name a counter with this ending, whatever it is declared as.
ENDINGS = {"_counter": "_total"}
# What can become of a hit: no error, or one that a request to a counting endpoint may meet.
NOT_OF_A_HIT = {"not_found", "foreign_host", "store_unfit"}
OUTCOMES = {"counted", "stored", "prefetch", "repeat", "robot", "own", "limited"} | (
    STATUSES.keys() - NOT_OF_A_HIT
)


def rows(document: str) -> list[list[str]]:
    """Read the rows of all tables of a document, cell by cell."""
    lines = (DOCS / document).read_text("utf-8").splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]


def shown(default: Any) -> str:
    """Write a default as the documentation does."""
    if default in ("", (), None):
        return "empty"
    return f"`{default.key if isinstance(default, ZoneInfo) else default}`"


def calls(path: Path) -> Iterator[tuple[str, str]]:
    """List the calls with a text as their first argument: the function's name, and the text."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Name):
            text = node.args[0]
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield node.func.id, text.value


def metrics() -> set[str]:
    """Name every declared metric as it is exposed."""
    declared = [call for call in calls(SRC / "metrics.py") if call[1].startswith("hitcounter_")]
    return {name + ENDINGS.get(function, "") for function, name in declared}


def test_every_setting_is_documented_with_its_default() -> None:
    documented = [row[:2] for row in rows("settings.md")][: len(SETTINGS)]
    assert documented == [[f"`{name}`", shown(getattr(Config(), name))] for name in SETTINGS]


def test_every_setting_of_a_site_is_documented() -> None:
    documented = [row[0].strip("`") for row in rows("settings.md")][len(SETTINGS) :]
    assert set(documented) == config._SITE_KEYS


def test_every_metric_is_documented_under_the_name_that_is_exposed() -> None:
    documented = [re.sub("[`{].*", "", row[0].strip("`")) for row in rows("metrics.md")]
    assert {name for name in documented if name.startswith("hitcounter_")} == metrics()
    assert len(metrics()) > 5


def test_every_result_of_a_hit_is_documented() -> None:
    documented = {name for row in rows("metrics.md") for name in re.findall("`([a-z_]+)`", row[0])}
    assert documented - metrics() == OUTCOMES == {*RESULTS, *RESULTS_OF_OTHERS}


def test_every_code_of_an_error_has_a_status_and_is_used() -> None:
    classes = (kind for kind in vars(errors).values() if isinstance(kind, type))
    refusals = {kind.__name__ for kind in classes if issubclass(kind, errors.Refusal)}
    names = refusals | {"JournalError", "error_answer"}
    found = {text for path in SRC.rglob("*.py") for name, text in calls(path) if name in names}
    states = {*STATES} - {READY, JOURNALING}
    assert found | states | {MethodNotAllowed("GET").code} == STATUSES.keys()


@pytest.mark.parametrize("document", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_link_between_documents_leads_somewhere(document: str) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (DOCS / document).read_text("utf-8"))
    assert [link for link in links if not (DOCS / link).exists()] == []
