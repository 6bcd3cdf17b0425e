"""The dashboard for Grafana names what there is, and each of its panels can be read."""

import itertools
import re
from typing import Any

from tests.support.dashboard import DASHBOARD, VARIABLES, panels
from tests.test_documentation import rows

OF_HISTOGRAMS = re.compile("_(bucket|sum|count)$")


def test_every_metric_of_a_panel_is_documented() -> None:
    documented = {re.sub("[`{].*", "", row[0].strip("`")) for row in rows("metrics.md")}
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    queries += [about["query"]["query"] for about in VARIABLES.values() if about["type"] == "query"]
    named = {name for query in queries for name in re.findall(r"\bhitcounter_\w+", query)}
    assert {OF_HISTOGRAMS.sub("", name) for name in named} <= documented
    assert len(named) > 20


def test_every_panel_says_what_it_shows_in_which_unit() -> None:
    for panel in panels():
        assert panel["title"]
        assert re.fullmatch(r"[A-Z].*\.", panel["description"])
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(target["legendFormat"] for target in panel["targets"])
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    titles = [panel["title"] for panel in panels()]
    assert len(titles) == len(set(titles))


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    closed = [row for row in DASHBOARD["panels"] if row.get("collapsed")]
    everything = [*DASHBOARD["panels"], *(panel for row in closed for panel in row["panels"])]
    ids = [panel["id"] for panel in everything]
    assert len(ids) == len(set(ids))
    for shown in (DASHBOARD["panels"], *(row["panels"] for row in closed)):
        places = [panel["gridPos"] for panel in shown]
        assert all(place["x"] + place["w"] <= 24 for place in places)
        assert not any(overlap(a, b) for a, b in itertools.combinations(places, 2))


def overlap(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Return whether two places have a field in common."""
    return all(
        a[start] < b[start] + b[size] and b[start] < a[start] + a[size]
        for start, size in (("x", "w"), ("y", "h"))
    )
