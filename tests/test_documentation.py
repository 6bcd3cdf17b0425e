"""The documentation names what there is: every setting, every metric, every result of a hit."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml  # type: ignore[import-untyped]

import hitcounter
from hitcounter import config, errors
from hitcounter.config import SETTINGS, Config
from hitcounter.errors import STATUSES, MethodNotAllowed
from hitcounter.metrics import JOURNALING, READY, STATES
from hitcounter.outcomes import RESULTS, RESULTS_OF_OTHERS

SRC = Path(hitcounter.__file__).parent
DOCS = Path(__file__).parent.parent / "docs"
PROMETHEUS = DOCS.parent / "deploy" / "prometheus"
PARTS = ["Visitors notice", "See it", "Do", "Over"]
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
    assert set(documented) == config._SITE_SETTINGS.keys()


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
    names = refusals | {"JournalError"}
    found = {text for path in SRC.rglob("*.py") for name, text in calls(path) if name in names}
    states = {*STATES} - {READY, JOURNALING}
    assert found | states | {MethodNotAllowed("GET").code} == STATUSES.keys()


@pytest.mark.parametrize("document", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_link_between_documents_leads_somewhere(document: str) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (DOCS / document).read_text("utf-8"))
    assert [link for link in links if not (DOCS / link).exists()] == []


def rules() -> list[dict[str, Any]]:
    """List the rules of Prometheus, those that record and those that alert."""
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """List the alerts by name, with what is recorded for them written out."""
    recorded = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
    found = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    for rule in found.values():
        for _ in recorded:  # what is recorded may be made from what is recorded
            for name, expr in recorded.items():
                rule["expr"] = rule["expr"].replace(name, expr)
    return found


def test_every_alert_leads_to_its_section_of_the_runbook_and_every_section_is_of_an_alert() -> None:
    runbook = (DOCS / "operating.md").read_text("utf-8")
    sections = re.findall(r"^### (Hitcounter\w+)\n\n(.*?)(?=^##|\Z)", runbook, re.M | re.S)
    assert {
        name: re.findall(r"^- \*\*([A-Z][a-z ]+)\*\*", text, re.M) for name, text in sections
    } == (dict.fromkeys(alerts(), PARTS))
    for name, rule in alerts().items():
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, name
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/operating.md#{name.lower()}")
        assert rule["labels"]["severity"] in ("critical", "warning", "none"), name


def test_every_metric_says_in_which_alerts_it_is_or_what_else_it_is_for() -> None:
    exprs = {name: set(re.findall(r"hitcounter_\w+", a["expr"])) for name, a in alerts().items()}
    for row in rows("metrics.md"):
        metric = re.sub("[`{].*", "", row[0].strip("`"))
        if not metric.startswith("hitcounter_"):
            continue
        is_named = set(re.findall(r"operating\.md#(hitcounter\w+)", row[-1]))
        if row[-1].startswith("Alert"):
            series = {metric, f"{metric}_bucket"}
            assert is_named == {name.lower() for name in exprs if exprs[name] & series}, metric
        else:
            assert not any(metric in expr for expr in exprs.values()), metric
            assert is_named <= {name.lower() for name in exprs}, metric
            assert len(row[-1]) > len("To look at."), metric


def test_the_budget_of_hits_is_spent_by_every_error_of_ours_and_by_no_other() -> None:
    (expr,) = (
        r["expr"] for r in rules() if r.get("record") == "job:hitcounter_hits_refused:rate5m"
    )
    (results,) = re.findall('result=~"([a-z_|]+)"', expr)
    assert set(results.split("|")) == {name for name in RESULTS if STATUSES.get(name, 0) >= 500}


def test_the_rule_tests_see_every_alert_silent_then_firing_then_over() -> None:
    files = [yaml.safe_load(path.read_text("utf-8")) for path in PROMETHEUS.glob("*.test.yml")]
    asked = [test.get("promql_expr_test", ()) for file in files for test in file["tests"]]
    for name in alerts().keys() - {"HitcounterWatchdog"}:
        question = f'"{name}",alertstate="firing"'
        courses = [
            [bool(a["exp_samples"]) for a in each if question in a["expr"]] for each in asked
        ]
        assert [
            c for c in courses if len(c) > 2 and [c[0], any(c), c[-1]] == [False, True, False]
        ], name
