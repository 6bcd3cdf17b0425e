"""What a journal's rows say comes back, of people and of robots."""

from hitcounter.exactly_once import journal_format
from hitcounter.exactly_once.increments import Pageviews
from hitcounter.exactly_once.records import Entry
from hitcounter.store import keys

DAY = "2019-04-19"


def test_robots_are_kept_apart_and_added_up() -> None:
    people, robots = keys.site_keys(3, "demo", DAY), keys.robot_keys(3, "demo", DAY)
    page = keys.page_keys(3, "demo", "/x", 10)
    rows = []
    for n in (1, 2):
        pageviews = Pageviews()
        for _ in range(n):
            pageviews.add(people, page)
            pageviews.add(robots, None)
            pageviews.add(robots, None)
        rows.append(journal_format.packed([Entry(7, pageviews, 3)]))
    (entry,) = journal_format.sums(rows)
    assert (entry.number, entry.lane) == (7, 3)
    counted = entry.pageviews.by_key()
    assert counted == {
        "hc:{3}:site:demo:2019-04-18": 0,
        **{f"hc:{{3}}:site:demo:{name}": 3 for name in ("2019-04-19", "2019-04", "2019", "total")},
        "hc:{3}:page:demo:/x": 3,
        **{
            f"hc:{{3}}:site:demo:robots:{name}": 6
            for name in ("2019-04-19", "2019-04", "2019", "total")
        },
    }
