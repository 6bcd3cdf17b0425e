"""Writes the rules of Prometheus from their template, to standard output.

`python deploy/prometheus/render.py >deploy/prometheus/rules.yml` writes what is deployed. The
template names durations, so that a test can have the same rules with seconds for hours.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from string import Template

# Where docs/operating.md is for you: every alert leads to its section there.
RUNBOOK = "file:/opt/hitcounter/docs/operating.md"
DURATIONS = {
    "step": "30s",
    "step_s": "30",
    "rate": "5m",
    "budget_page": "1h",
    "budget_later_short": "30m",
    "budget_later": "6h",
    "budget_ticket_short": "2h",
    "budget_ticket": "1d",
    "budget_month": "3d",
    "store_away": "1m",
    "unscraped": "2m",
    "stuck": "1m",
    "settled": "5m",
    "slow": "10m",
    "restarts": "15m",
    "loss": "1d",
    "journal_trend": "30m",
    "journal_ahead": "4h",
    "journal_ahead_s": "14400",
    "silent_step": "1h",
    "silent": "1d",
    "silent_before": "14d",
}
HEAD = "# Written by render.py from rules.yml.template: change that, and run it again.\n"


class Rules(Template):
    """A text with names as @{name}: Prometheus has its own use for dollars and braces."""

    delimiter = "@"


def render(durations: Mapping[str, str]) -> str:
    """Return the rules with these durations."""
    template = Path(__file__).with_name("rules.yml.template").read_text("utf-8")
    return HEAD + Rules(template).substitute(durations, runbook=RUNBOOK)


if __name__ == "__main__":
    sys.stdout.write(render(DURATIONS))
