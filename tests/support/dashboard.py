"""The dashboard for Grafana, read as Grafana reads it."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent.parent.parent / "deploy/grafana/hitcounter.json"
DASHBOARD: dict[str, Any] = json.loads(PATH.read_text("utf-8"))
VARIABLES = {about["name"]: about for about in DASHBOARD["templating"]["list"]}

_SPECIAL = re.compile(r"[$^*{}\[\]+?.()|\\]")


def panels() -> Iterator[dict[str, Any]]:
    """Yield all panels, also those in rows that are closed, but not the rows themselves."""
    for panel in DASHBOARD["panels"]:
        yield from panel["panels"] if panel["type"] == "row" else [panel]


def selected(values: Iterable[str]) -> str:
    """Write what was chosen of a variable as Grafana does for Prometheus."""
    escaped = [_SPECIAL.sub(r"\\\\\g<0>", value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def filled(text: str, **variables: str) -> str:
    """Put values in the place of variables; none may be left."""
    text = re.sub(r"\$(\w+)", lambda found: variables[found[1]], text)
    assert "$" not in text
    return text
