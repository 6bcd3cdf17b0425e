"""The block as a picture: what it says, when it counts, and that nobody can write into it."""

import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote, urlencode
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from hitcounter import config
from hitcounter.block import LANGUAGES, LINE_KEYS, THEMES, Language, Wording, line_texts
from hitcounter.config import Config
from hitcounter.counting.numbers import FRESH, Numbers
from hitcounter.errors import Refusal
from hitcounter.hit import NO_PAGE
from hitcounter.period import day_of
from hitcounter.store.client import N_LANES
from hitcounter.store.keys import lane_of, site_keys
from hitcounter.web import badge, hit_request
from hitcounter.web.badge import Look
from hitcounter.web.responses import numbers_answer
from tests.conftest import RunningService, StartService
from tests.speeds import examples
from tests.support.acceptance import BASELINE, LINES, ONE_MORE, SHOWN
from tests.support.stores import frozen_store, keyspace
from tests.support.waiting import until
from tests.support.wire import OWN, Answer, ask

# One process starts the services that these share.
pytestmark = pytest.mark.xdist_group("badge")

DECLARED = """
[sites."news.example.vn"]
[sites.english]
lang = "en"
[sites.journal]
origins = ["https://journal.example.vn"]
"""
PREFETCHES = ({"Sec-Purpose": "prefetch;prerender"}, {"Purpose": "prefetch"}, {"X-Moz": "prefetch"})
SVG = "{http://www.w3.org/2000/svg}"
# All that a badge is made of.
ELEMENTS = {"svg", "title", "desc", "style", "rect", "path", "text", "tspan"}
ATTRIBUTES = {
    *("width", "height", "viewBox", "role", "lang", "data-state", "class"),
    *("x", "y", "rx", "d", "transform"),
}


@pytest.fixture(scope="module")
def declared(start_shared: StartService) -> RunningService:
    """Start a service with declared sites."""
    return start_shared(DECLARED)


def badge_of(
    service: RunningService, site: str, query: str = "", method: str = "GET", **headers: str
) -> Answer:
    """Ask for a badge."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(service.port, method, f"/v1/sites/{site}/badge.svg{query}", None, named)


def texts(svg: bytes | str) -> list[str]:
    """Read the texts of a badge, as they are copied: its title, then its lines."""
    root = Xml.fromstring(svg)  # noqa: S314 -- ours, and well-formed is what is tested
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


def lines(answer: Answer) -> list[str]:
    """Read the lines of an answered badge."""
    assert answer.status == 200, answer
    return texts(answer.body)[1:]


def counts(service: RunningService, site: str, **fields: str) -> Any:
    """Read the numbers."""
    answer = ask(service.port, "GET", f"/v1/sites/{site}/counts?{urlencode(fields)}")
    assert answer.status == 200, answer
    return answer.json


# What it says


@pytest.mark.slow
def test_it_says_what_the_block_of_a_real_page_says_and_with_count_one_more(
    anyone: RunningService, site: str
) -> None:
    anyone.run("baseline", site, *BASELINE)
    for _ in range(2):
        assert lines(badge_of(anyone, site)) == LINES
    assert lines(badge_of(anyone, site, "?count=1")) == ONE_MORE
    assert lines(badge_of(anyone, site)) == ONE_MORE
    root = Xml.fromstring(badge_of(anyone, site).body)  # noqa: S314
    assert texts(badge_of(anyone, site).body)[0] == "Số lượt truy cập"
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "Số lượt truy cập"
    assert root.findtext(f"{SVG}desc") == "; ".join(ONE_MORE)
    assert (root.get("lang"), root.get("data-state")) == ("vi", "fresh")


@pytest.mark.slow
def test_language_lines_and_theme_are_those_asked_for(anyone: RunningService, site: str) -> None:
    anyone.run("baseline", site, *BASELINE)
    answer = badge_of(anyone, site, "?lang=en&lines=total,yesterday&theme=dark")
    assert texts(answer.body) == ["Page views", "Total: 1,619,938", "Yesterday: 5,318"]
    styles = {theme: badge_of(anyone, site, f"?theme={theme}").body for theme in THEMES}
    assert styles["page"] == styles["auto"]
    assert len(set(styles.values())) == len(THEMES) - 1
    assert badge_of(anyone, site).body == styles["auto"]
    assert b"prefers-color-scheme" not in styles["light"] + styles["dark"]
    assert b"<rect" not in styles["plain"]
    assert lines(badge_of(anyone, site, "?lines=month%2Ctoday")) == [LINES[2], LINES[0]]


@pytest.mark.parametrize("theme", THEMES)
def test_title_icons_and_colours_are_those_asked_for(theme: str) -> None:
    looks = {"theme": theme, "title": "Lượt xem <&>", "icons": "off", "lines": "today,total"}
    svg = badge.draw(numbers([1] * 5), badge.look(looks))
    assert texts(svg) == ["Lượt xem <&>", "Trong ngày: 1", "Tổng truy cập: 1"]
    assert "icon" not in svg.partition("</style>")[2]
    coloured = badge.draw(
        numbers([1] * 5), badge.look(looks | {"accent": "C8102E", "color": "#fff"})
    )
    assert ("svg{color:#fff}" in coloured) == (theme == "plain")
    assert "#C8102E 75%" in coloured
    untitled = badge.draw(numbers([1] * 5), badge.look(looks | {"title": ""}))
    assert texts(untitled) == texts(svg)[1:]
    assert size(untitled)[1] < size(svg)[1]
    root = Xml.fromstring(untitled)  # noqa: S314
    assert root.findtext(f"{SVG}title") == "Số lượt truy cập"  # for whoever does not see it


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("title", "x" * 61),
        ("title", "a\nb"),
        ("icons", "on"),
        ("accent", "red"),
        ("accent", "fff}text{fill:red"),
        ("accent", ""),
        ("color", "#12345"),
    ],
)
def test_a_look_that_is_none_is_refused(name: str, value: str) -> None:
    with pytest.raises(Refusal, match=name):
        badge.look({name: value})


def test_without_a_language_it_is_in_the_sites(declared: RunningService) -> None:
    assert texts(badge_of(declared, "english").body)[0] == "Page views"
    assert texts(badge_of(declared, "english", "?lang=vi").body)[0] == "Số lượt truy cập"


def test_it_keeps_its_size_while_the_numbers_grow() -> None:
    sizes = {size(drawn([n] * 5)) for n in (0, 1_619_938, 999_999_999_999)}
    assert len(sizes) == 1
    assert size(drawn([10**15] * 5)) > sizes.pop()
    assert size(drawn([0] * 5, lines=("total",)))[1] < size(drawn([0] * 5))[1]


def test_its_headers_let_anybody_show_it_and_nobody_keep_it(
    anyone: RunningService, site: str
) -> None:
    for method in ("GET", "HEAD"):
        answer = badge_of(anyone, site, method=method)
        assert bool(answer.body) == (method == "GET")
        expected = {
            "content-type": "image/svg+xml; charset=utf-8",
            "cache-control": "no-cache, no-store, must-revalidate, max-age=0",
            "expires": "0",
            "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
            "x-content-type-options": "nosniff",
            "access-control-allow-origin": "*",
            "cross-origin-resource-policy": "cross-origin",
        }
        assert expected.items() <= answer.headers.items()
        assert "etag" not in answer.headers


# When it counts


def test_it_counts_nothing_unless_asked_and_never_for_head_or_a_prefetch(
    anyone: RunningService, site: str
) -> None:
    ask(anyone.port, "POST", f"/v1/sites/{site}/hits")
    before = keyspace(anyone)
    for name in (site, f"new-{site}"):  # nor does a new site become known
        for query in ("", "?path=/a", "?lang=en&theme=plain"):
            assert badge_of(anyone, name, query).status == 200
        for query in ("", "?count=1", "?count=1&path=/a"):
            assert badge_of(anyone, name, query, "HEAD").status == 200
            assert badge_of(anyone, name, query, "OPTIONS").status == 204
        for headers in PREFETCHES:
            named = {key.replace("-", "_"): value for key, value in headers.items()}
            assert badge_of(anyone, name, "?count=1&path=/a", **named).status == 200
    assert keyspace(anyone) == before


def test_with_count_it_counts_for_the_page_in_path_else_for_that_of_the_referer(
    declared: RunningService,
) -> None:
    name, referer = "news.example.vn", "https://news.example.vn/tin-tuc/2"
    badge_of(declared, name, "?count=1&path=/tin-tuc/1/", Referer=referer)
    badge_of(declared, name, "?count=1", Referer=referer)
    badge_of(declared, name, "?count=1", Referer="https://other.example/tin-tuc/3")
    read = {path: counts(declared, name, path=f"/tin-tuc/{path}") for path in (1, 2, 3)}
    assert [read[n]["page"]["total"] for n in (1, 2, 3)] == [1, 1, 0]
    assert read[1]["total"] == 3


def test_a_page_of_another_site_may_show_it_and_not_count(declared: RunningService) -> None:
    foreign = {"Referer": "https://evil.example/"}
    assert badge_of(declared, "journal", **foreign).status == 200
    for method in ("GET", "HEAD"):
        assert badge_of(declared, "journal", "?count=1", method, **foreign).status == 403
    assert counts(declared, "journal")["total"] == 0
    own = {"Referer": "https://journal.example.vn/a"}
    assert badge_of(declared, "journal", "?count=1", **own).status == 200
    assert counts(declared, "journal")["total"] == 1


def hits_by_result(service: RunningService) -> Mapping[str, float]:
    """Read what became of the hits."""
    text = ask(service.operations_port, "GET", "/metrics", None, OWN).body.decode()
    samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
    found: dict[str, float] = {}
    for sample in samples:
        if sample.name == "hitcounter_hits_total" and sample.value:
            found[sample.labels["result"]] = found.get(sample.labels["result"], 0) + sample.value
    return found


@pytest.mark.slow
def test_only_a_badge_that_was_asked_to_count_is_a_hit_in_the_metrics(
    start_service: StartService,
) -> None:
    service = start_service(operations_port=0)
    for query in ("", "?lines=week", "?lang=fr&path=/a"):
        badge_of(service, "demo", query)
    assert hits_by_result(service) == {}
    for query in ("?count=1", "?lines=week&count=1", "?count=1&lang=fr", "?count=1&path=a"):
        badge_of(service, "demo", query)
    badge_of(service, "demo", "?count=1", Purpose="prefetch")
    assert hits_by_result(service) == {
        **dict.fromkeys(("counted", "bad_query", "bad_lang", "bad_path", "prefetch"), 1)
    }


# While the store is away


@pytest.mark.slow
def test_while_the_store_is_away_it_shows_the_last_known_numbers_and_still_counts(
    start_service: StartService,
) -> None:
    service = start_service(store_timeout_s=0.3)
    service.run("baseline", "demo", *BASELINE)
    assert lines(badge_of(service, "demo", "?count=1")) == ONE_MORE
    with frozen_store(service):
        stale = badge_of(service, "demo")
        assert lines(stale) == ONE_MORE
        assert b'data-state="stale"' in stale.body
        stored = badge_of(service, "demo", "?count=1&lines=today,yesterday")
        assert lines(stored) == ["Trong ngày: 1.131", "Hôm qua: 5.318"]
        assert b'data-state="stored"' in stored.body
        unknown = badge_of(service, "other")
        assert (unknown.status, unknown.code) == (503, "store_unavailable")
        assert int(unknown.headers["retry-after"]) > 0
    wait_until_total(service, "demo", 1_619_940)
    assert lines(badge_of(service, "demo"))[-1] == "Tổng truy cập: 1.619.940"


def wait_until_total(service: RunningService, site: str, total: int) -> None:
    """Wait until the store has all hits again."""

    def has_all() -> bool:
        read = counts(service, site)
        return (read["state"], read["total"]) == ("fresh", total)

    until(has_all, f"the total of {site} is {total}")


# Bad input

BAD_QUERIES = [
    ("lang=fr", "bad_lang"),
    ("lang=", "bad_lang"),
    ("lang=VI", "bad_lang"),
    ("lang=vi%00", "bad_lang"),
    ("lang=%3Cscript%3E", "bad_lang"),
    ("lang=vi&lang=vi", "bad_query"),
    ("lines=", "bad_query"),
    ("lines=,", "bad_query"),
    ("lines=today,", "bad_query"),
    ("lines=today,today", "bad_query"),
    ("lines=today%20total", "bad_query"),
    ("lines=Today", "bad_query"),
    ("lines=page", "bad_query"),
    ("lines=today&lines=total", "bad_query"),
    ("lines=%3C/text%3E%3Cscript%3Ealert(1)%3C/script%3E", "bad_query"),
    ("theme=", "bad_query"),
    ("theme=blue", "bad_query"),
    ("theme=DARK", "bad_query"),
    ("theme=%7D%3C/style%3E%3Cscript%3E", "bad_query"),
    ("theme=dark&theme=light", "bad_query"),
    ("count=", "bad_query"),
    ("count=0", "bad_query"),
    ("count=2", "bad_query"),
    ("count=01", "bad_query"),
    ("count=true", "bad_query"),
    ("count=1000", "bad_query"),
    ("count=1&count=1", "bad_query"),
    ("path=", "bad_path"),
    ("path=tin-tuc", "bad_path"),
    ("path=/%00", "bad_path"),
    ("count=1&path=/%E2%80%AE%00", "bad_path"),
    ("color=red", "bad_query"),
    ("title=a%0Ab", "bad_query"),
    ("icons=1", "bad_query"),
    ("accent=%23c0", "bad_query"),
    ("&".join(map("f{}".format, range(65))), "bad_query"),
    ("lang=%ff", "bad_lang"),
]
# What caches, shops and social networks add.
ADDED = ["COUNT=1", "label=Visits", "style=flat", "callback=alert", "=1", "utm_source=x&ver=2&_=3"]
OTHER_BAD_TARGETS = [
    ("/v1/sites/demo/counts?theme=dark", "bad_query"),
    ("/v1/sites/demo/counts?count=1", "bad_query"),
]


@pytest.mark.slow
@pytest.mark.parametrize("query", [f"?{bad}&count=1" for bad, _ in BAD_QUERIES])
def test_a_bad_query_beside_count_counts_nothing(anyone: RunningService, query: str) -> None:
    before = keyspace(anyone)
    assert badge_of(anyone, "never.example.vn", query).status == 400
    assert keyspace(anyone) == before


@pytest.mark.parametrize(
    ("target", "code"),
    [(f"/v1/sites/demo/badge.svg?{bad}", code) for bad, code in BAD_QUERIES] + OTHER_BAD_TARGETS,
)
def test_anything_that_is_not_on_the_list_is_refused_as_json(
    anyone: RunningService, target: str, code: str
) -> None:
    answer = ask(anyone.port, "GET", target)
    assert (answer.status, answer.code) == (400, code)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert len(answer.body) < 300


# Nobody can write into it


def numbers(values: list[int], name: str = "demo") -> Numbers:
    """Give the numbers of a site."""
    site = Config().site(name)
    date = day_of(0, site.timezone).date
    names = site_keys(lane_of(name, N_LANES), name, date)
    return Numbers(site, names, values, FRESH, NO_PAGE, None, 0)


def drawn(values: list[int], **look: Any) -> str:
    """Draw a badge without a service."""
    return badge.draw(numbers(values), Look(**look))


def size(svg: str) -> tuple[int, int]:
    """Give width and height of a badge."""
    root = Xml.fromstring(svg)  # noqa: S314
    return int(root.get("width", "")), int(root.get("height", ""))


def check_svg(svg: bytes | str, title: str | None = None) -> None:
    """Check that a badge has nothing in it but what badges are made of; "" is to have no title."""
    root = Xml.fromstring(svg)  # noqa: S314 -- raises if it is not well-formed
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= ELEMENTS
    assert {name for element in root.iter() for name in element.attrib} <= ATTRIBUTES
    words = {label for words in LANGUAGES.values() for label in words.labels.values()}
    titles = {words.title for words in LANGUAGES.values()}
    assert "<" not in str(root.findtext(f"{SVG}style"))
    rows = texts(svg)
    if title != "":
        assert rows.pop(0) in titles or title is not None
    for row in rows:
        label, _, number = row.partition(": ")
        assert label in words
        assert re.fullmatch(r"[0-9]{1,3}([.,][0-9]{3})*", number)


values = st.lists(st.integers(min_value=0, max_value=2**63), min_size=5, max_size=5)
looks = st.builds(
    Look,
    lang=st.none() | st.sampled_from(sorted(LANGUAGES)),
    lines=st.permutations(LINE_KEYS).flatmap(
        lambda keys: st.integers(1, len(keys)).map(lambda n: keys[:n])
    ),
    theme=st.sampled_from(THEMES),
    has_icons=st.booleans(),
    accent=st.sampled_from(("", "c8102e")),
    title=st.just(None),
    color=st.just(""),
)


@given(values, looks)
def test_every_badge_is_well_formed_and_says_all_and_only_its_numbers(
    values: list[int], look: Look
) -> None:
    svg = badge.draw(numbers(values), look)
    check_svg(svg)
    written = line_texts(values, look.lang or "vi")
    expected = [written[LINE_KEYS.index(key)] for key in look.lines]
    assert [row.partition(": ")[2] for row in texts(svg)[1:]] == expected


MARKUP = (
    *("<script>alert(1)</script>", "</text><a href='javascript:alert(1)'>", "&#60;svg onload=x>"),
    *('"><image href="//evil.example/x"/>', "]]>", "<!--", "<!DOCTYPE svg [<!ENTITY x 'y'>]>"),
    *("\0", "\u202e", "{{tag}}", "%s", "{0}", "\\u003cscript\\u003e"),
    *("vi", "en", "today", "total", "dark"),
)
pieces = st.lists(st.sampled_from(MARKUP)).map("".join)
wild = st.text(max_size=40) | st.sampled_from(MARKUP) | pieces
names_of_fields = st.sampled_from((*badge.LOOK_FIELDS, "path", "label", "title", "style"))
fields = st.dictionaries(names_of_fields | wild, wild, max_size=5)


@settings(max_examples=examples(300))
@given(fields)
@example({"lang": "vi", "lines": "today", "theme": "dark"})
def test_no_query_gets_anything_into_a_look(given_fields: dict[str, str]) -> None:
    try:
        look = badge.look(given_fields)
    except Refusal:
        return
    assert look.lang is None or look.lang in LANGUAGES
    assert set(look.lines) <= set(LINE_KEYS)
    assert look.theme in THEMES
    assert re.fullmatch("([0-9A-Fa-f]{3}){0,2}", look.accent)
    assert re.fullmatch("([0-9A-Fa-f]{3}){0,2}", look.color)
    assert look.title is None or len(look.title) <= badge.MAX_TITLE


@settings(max_examples=examples(150))
@given(given_fields=fields, name=st.just("demo") | wild, referer=wild)
@example(given_fields={"title": ""}, name="demo", referer="")
def test_no_request_gets_markup_into_an_answer(
    anyone: RunningService, given_fields: dict[str, str], name: str, referer: str
) -> None:
    query = urlencode(given_fields, errors="surrogatepass")
    target = f"/v1/sites/{quote(name, safe='', errors='surrogatepass')}/badge.svg?{query}"
    headers = {"Referer": quote(referer, safe="<>'\"&/:", errors="surrogatepass")}
    answer = ask(anyone.port, "GET", target, None, headers)
    if answer.status == 200:
        check_svg(answer.body, given_fields.get("title"))
    else:
        assert answer.status in (400, 404)
        assert answer.headers["content-type"] == "application/json"
        assert list(answer.json) == ["error"]


@pytest.mark.parametrize("added", ADDED)
def test_fields_that_others_add_change_nothing(anyone: RunningService, added: str) -> None:
    usual = badge_of(anyone, "never.example.vn").body
    assert badge_of(anyone, "never.example.vn", f"?{added}").body == usual


# Languages


def test_a_language_is_added_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {"today": "Hoy", "yesterday": "Ayer", "month": "Mes", "year": "Año", "total": "Total"}
    spanish = Language("Español", "Visitas <&>", labels, labels, ".", fewest_digits=5)
    monkeypatch.setitem(cast("dict[str, Language]", LANGUAGES), "es", spanish)
    assert hit_request.language({"lang": "es"}) == "es"
    configured = config.load({"lang": "es"}, {})
    assert configured.site("demo").lang == "es"
    given_numbers = numbers([*SHOWN.values()])
    svg = badge.draw(given_numbers, badge.look({"lang": "es"}))
    assert texts(svg) == [
        "Visitas <&>",
        *("Hoy: 1129", "Ayer: 5318", "Mes: 179.277", "Año: 970.735", "Total: 1.619.938"),
    ]
    body = numbers_answer(given_numbers, Wording("es")).body
    assert body is not None
    assert b'"lang":"es","title":"Visitas <&>"' in body
