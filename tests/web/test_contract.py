"""What counts, under which page, and what the answers say: over real HTTP, to the real store."""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from unicodedata import normalize
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from hitcounter.site import site_name
from hitcounter.web.hit_request import MAX_BODY_BYTES
from tests.conftest import RunningService, StartService
from tests.support.acceptance import BASELINE
from tests.support.stores import keyspace
from tests.support.wire import OWN, Answer, Connection, ask, exchange, request

# One process starts the services that these share.
pytestmark = pytest.mark.xdist_group("contract")

DECLARED = """
[sites."news.example.vn"]

[sites."www.union.example.vn"]
lang = "en"

[sites.journal]
origins = ["https://journal.example.vn", "www.journal.example.org"]

[sites.small]
max_pages = 3

[sites.pageless]
max_pages = 0
"""
PREFETCHES = (
    {"Sec-Purpose": "prefetch"},
    {"Sec-Purpose": "prefetch;prerender"},
    {"Sec-Purpose": "prefetch;anonymous-client-ip"},
    {"Purpose": "prefetch"},
    {"X-Moz": "prefetch"},
    {"Sec-Purpose": "Prefetch"},
    {"Purpose": "PREFETCH"},
)
LINE_KEYS = ["today", "yesterday", "month", "year", "total"]


def noon() -> str:
    """Name a time zone where it is about noon, so that no day ends while a test runs."""
    return f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"


@pytest.fixture(scope="module")
def anyone(start_shared: StartService) -> RunningService:
    """Start an open service."""
    return start_shared(timezone=noon(), operations_port=0)


@pytest.fixture(scope="module")
def declared(start_shared: StartService) -> RunningService:
    """Start a service with declared sites."""
    return start_shared(DECLARED, operations_port=0)


def hit(
    service: RunningService,
    site: str,
    path: str | None = None,
    query: str = "",
    **headers: str,
) -> Any:
    """Count one hit; give the answer's JSON."""
    body = None if path is None else json.dumps({"path": path}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = ask(service.port, "POST", f"/v1/sites/{site}/hits{query}", body, named)
    assert answer.status == 200, answer
    return answer.json


def pixel(
    service: RunningService, site: str, query: str = "", method: str = "GET", **headers: str
) -> Answer:
    """Ask for the picture."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(service.port, method, f"/v1/sites/{site}/pixel.gif{query}", None, named)


def counts(service: RunningService, site: str, **fields: str) -> Any:
    """Read the numbers."""
    answer = ask(service.port, "GET", f"/v1/sites/{site}/counts?{urlencode(fields)}")
    assert answer.status == 200, answer
    return answer.json


def total(service: RunningService, site: str) -> int:
    """Read how often a site was counted."""
    return int(counts(service, site)["total"])


def numbers(content: Mapping[str, Any]) -> list[int]:
    """Give the five numbers of an answer."""
    return [content[key] for key in LINE_KEYS]


def concurrently(n: int, question: Callable[[int], Any]) -> list[Any]:
    """Ask `n` questions at once; give the answers."""
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(question, range(n)))


# What counts


@pytest.mark.slow
def test_the_answer_of_a_hit_contains_the_hit(anyone: RunningService, site: str) -> None:
    assert numbers(hit(anyone, site)) == [1, 0, 1, 1, 1]
    assert numbers(hit(anyone, site)) == [2, 0, 2, 2, 2]
    assert numbers(counts(anyone, site)) == [2, 0, 2, 2, 2]


@pytest.mark.slow
def test_one_hit_more_than_the_numbers_carried_over_answers_the_whole_block(
    anyone: RunningService, site: str
) -> None:
    anyone.run("baseline", site, *BASELINE, "--page", "/tin-tuc/1=210")
    answer = hit(anyone, site, "/tin-tuc/1")
    assert answer == {
        "site": site,
        "timezone": noon(),
        "date": answer["date"],
        "today": 1130,
        "yesterday": 5318,
        "month": 179278,
        "year": 970736,
        "total": 1619939,
        "page": {"path": "/tin-tuc/1", "total": 211},
        "state": "counted",
        "widget": {
            "lang": "vi",
            "title": "Số lượt truy cập",
            "lines": [
                {"key": "today", "label": "Trong ngày", "value": 1130, "text": "1.130"},
                {"key": "yesterday", "label": "Hôm qua", "value": 5318, "text": "5.318"},
                {"key": "month", "label": "Trong tháng", "value": 179278, "text": "179.278"},
                {"key": "year", "label": "Trong năm", "value": 970736, "text": "970.736"},
                {"key": "total", "label": "Tổng truy cập", "value": 1619939, "text": "1.619.939"},
            ],
        },
    }
    assert list(answer) == [
        *("site", "timezone", "date", "today", "yesterday", "month", "year", "total"),
        *("page", "state", "widget"),
    ]
    read = counts(anyone, site, path="/tin-tuc/1")
    assert read == answer | {"state": "fresh"}


def test_a_picture_is_a_gif_of_one_pixel_and_counts(anyone: RunningService, site: str) -> None:
    answer = pixel(anyone, site, "?path=/feed")
    assert answer.headers["content-type"] == "image/gif"
    assert "no-store" in answer.headers["cache-control"]
    assert answer.body[:10] == b"GIF89a\x01\x00\x01\x00"
    assert answer.body[-1:] == b";"
    read = counts(anyone, site, path="/feed")
    assert (read["total"], read["page"]["total"]) == (1, 1)


def test_reading_and_asking_what_one_may_never_count(anyone: RunningService, site: str) -> None:
    hit(anyone, site)
    before = keyspace(anyone)
    for method, what in (
        ("GET", "counts"),
        ("HEAD", "counts"),
        ("OPTIONS", "counts"),
        ("OPTIONS", "hits"),
        ("OPTIONS", "pixel.gif"),
        ("HEAD", "pixel.gif"),
    ):
        # Neither of a counted site, nor by making one known.
        for name in (site, f"new-{site}"):
            answer = ask(anyone.port, method, f"/v1/sites/{name}/{what}")
            assert answer.status == (204 if method == "OPTIONS" else 200)
            assert bool(answer.body) == (method == "GET")
    assert keyspace(anyone) == before


def test_head_answers_the_headers_of_get(anyone: RunningService, site: str) -> None:
    for target in (f"/v1/sites/{site}/counts", f"/v1/sites/{site}/pixel.gif", "/", "/healthz"):
        got, headed = (ask(anyone.port, method, target) for method in ("GET", "HEAD"))
        ignored = {"date"}
        assert got.headers.keys() == headed.headers.keys()
        assert {k: v for k, v in got.headers.items() if k not in ignored} == {
            k: v for k, v in headed.headers.items() if k not in ignored
        }


@pytest.mark.parametrize("headers", PREFETCHES, ids=lambda headers: str(*headers.items()))
def test_a_prefetch_is_answered_as_a_visit_and_not_counted(
    anyone: RunningService, site: str, headers: Mapping[str, str]
) -> None:
    hit(anyone, site, "/a")
    before = keyspace(anyone)
    named = {name.replace("-", "_"): value for name, value in headers.items()}
    assert hit(anyone, site, "/a", **named) == counts(anyone, site, path="/a")
    assert pixel(anyone, site, "?path=/a", **named).status == 200
    # A new site does not become known by that either.
    assert hit(anyone, f"new-{site}", "/a", **named)["total"] == 0
    assert pixel(anyone, f"new-{site}", **named).status == 200
    assert keyspace(anyone) == before


def test_a_visit_with_a_purpose_of_its_own_counts(anyone: RunningService, site: str) -> None:
    hit(anyone, site, Purpose="preview")
    hit(anyone, site, Sec_Purpose="")
    assert total(anyone, site) == 2


# The body


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"path": "/a"}', "application/json"),
        (b'{"path": "/a"}', "application/json; charset=utf-8"),
        (b'{"path": "/a"}', "text/plain;charset=UTF-8"),
        (b'{"path": "/a"}', "TEXT/PLAIN"),
        (b'{"path": "/a"}', None),
        (b' {"path":\n"\\u002fa"} ', "application/json"),
    ],
)
def test_json_is_accepted_as_such_and_as_text(
    anyone: RunningService, site: str, body: bytes, kind: str | None
) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = ask(anyone.port, "POST", f"/v1/sites/{site}/hits", body, headers)
    assert answer.json["page"] == {"path": "/a", "total": 1}


@pytest.mark.parametrize("body", [None, b"", b"{}", b'{"path": null}'])
def test_a_hit_without_a_page_counts_for_the_site_alone(
    anyone: RunningService, site: str, body: bytes | None
) -> None:
    answer = ask(anyone.port, "POST", f"/v1/sites/{site}/hits", body)
    assert answer.json["total"] == 1
    assert "page" not in answer.json


def test_an_id_is_that_of_one_hit_of_one_site(anyone: RunningService, site: str) -> None:
    body = json.dumps({"path": "/a", "id": "12345678"}).encode()
    for name in (site, f"other-{site}"):
        for _ in range(3):
            answer = ask(anyone.port, "POST", f"/v1/sites/{name}/hits", body).json
            assert (answer["state"], answer["total"], answer["page"]["total"]) == ("counted", 1, 1)


def test_a_body_in_chunks_is_a_body(anyone: RunningService, site: str) -> None:
    head = request("POST", f"/v1/sites/{site}/hits", None, {"Transfer-Encoding": "chunked"})
    answer = exchange(anyone.port, head + b'8\r\n{"path":\r\n5\r\n"/a"}\r\n0\r\n\r\n')
    assert answer is not None
    assert answer.json["page"] == {"path": "/a", "total": 1}


def test_a_client_that_asks_before_it_sends_the_body_is_told_to_go_on(
    anyone: RunningService, site: str
) -> None:
    headers = {"Expect": "100-continue", "Content-Length": "13"}
    with Connection(anyone.port) as connection:
        connection.send(request("POST", f"/v1/sites/{site}/hits", None, headers))
        go_on = connection.receive()
        assert go_on is not None
        assert go_on.status == 100
        connection.send(b'{"path":"/a"}')
        answer = connection.receive()
        assert answer is not None
        assert answer.json["page"] == {"path": "/a", "total": 1}


# The page that a hit comes from


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "referer", "path"),
    [
        ("news.example.vn", "https://news.example.vn/tin-tuc/1", "/tin-tuc/1"),
        ("news.example.vn", "http://news.example.vn:8080/tin-tuc/1?x=1#y", "/tin-tuc/1"),
        ("news.example.vn", "https://www.news.example.vn/tin-tuc/1", "/tin-tuc/1"),
        ("news.example.vn", "https://NEWS.example.vn/tin-tuc/1", "/tin-tuc/1"),
        ("news.example.vn", "https://news.example.vn/tin-t%E1%BB%A9c/", "/tin-tức"),
        ("www.union.example.vn", "https://www.union.example.vn/a", "/a"),
        ("www.union.example.vn", "https://union.example.vn/a", "/a"),
        ("journal", "https://journal.example.vn/a", "/a"),
        ("journal", "https://journal.example.org/a", None),  # not where it may count from
        ("journal", "https://www.journal.example.org/a", "/a"),
        # Browsers that hide the page from other origins send its origin alone.
        ("news.example.vn", "https://news.example.vn/", None),
        ("news.example.vn", "https://news.example.vn", None),
        ("news.example.vn", "https://evil.example/tin-tuc/1", None),
        ("news.example.vn", "https://evil.example/news.example.vn/1", None),
        ("news.example.vn", "https://news.example.vn.evil.example/1", None),
        ("news.example.vn", "https://news.example.vn@evil.example/1", None),
        ("news.example.vn", "https://m.news.example.vn/1", None),
        ("news.example.vn", "/tin-tuc/1", None),
        ("news.example.vn", "about:blank", None),
        ("news.example.vn", "https://[news.example.vn/1", None),
        ("small", "https://small.example.vn/1", None),
        # No page can have these paths, which the visitor did not choose; the site still counts.
        ("news.example.vn", "https://news.example.vn/%ff", None),
        ("news.example.vn", "https://news.example.vn/a%00", None),
        ("news.example.vn", f"https://news.example.vn/{'a' * 600}", None),
    ],
)
def test_the_page_is_that_of_the_referer_where_it_is_the_sites_own(
    declared: RunningService, name: str, referer: str, path: str | None
) -> None:
    if name == "journal" and path is None:
        # It may not even count.
        assert pixel(declared, name, Referer=referer).code == "foreign_origin"
        return
    before = counts(declared, name, path=path or "/none")
    answer = hit(declared, name, Referer=referer)
    assert answer["total"] == before["total"] + 1
    assert answer.get("page", {}).get("path") == path
    assert pixel(declared, name, Referer=referer).status == 200
    after = counts(declared, name, path=path or "/none")
    assert after["total"] == before["total"] + 2
    assert after["page"]["total"] == before["page"]["total"] + (2 if path else 0)


def test_a_page_that_is_named_wins_over_the_referer(anyone: RunningService, site: str) -> None:
    referer = f"https://{site}/referring"
    assert hit(anyone, site, "/named", Referer=referer)["page"]["path"] == "/named"
    pixel(anyone, site, "?path=/named", Referer=referer)
    assert counts(anyone, site, path="/named")["page"]["total"] == 2
    assert counts(anyone, site, path="/referring")["page"]["total"] == 0


# One page, one counter


ONE_PAGE = (
    "/tin-tức/bài 1",
    "/tin-tức/bài 1/",
    "/tin-tức/bài 1//",
    "//tin-tức///bài 1",
    "/tin-tức/bài 1/index.html",
    "/tin-tức/bài 1/index.htm",
    "/tin-tức/bài 1/index.html/",
    "/tin-tức/bài 1?page=2",
    "/tin-tức/bài 1#top",
    "/tin-tức/bài 1/?utm_source=x#top",
    "/tin-t%E1%BB%A9c/b%C3%A0i%201",
    "/tin-t%e1%bb%a9c/b%c3%a0i%201",
    "/tin-tứ%63/bài%201",
    "/tin-tu\u031b\u0301c/ba\u0300i 1",  # decomposed, as files of some systems are named
    "/tin-tu%CC%9B%CC%81c/ba%CC%80i%201",
    "/tin-tức%2Fbài 1",
)


def test_all_spellings_of_a_page_count_as_one(anyone: RunningService, site: str) -> None:
    for n, spelling in enumerate(ONE_PAGE, 1):
        assert hit(anyone, site, spelling)["page"] == {"path": ONE_PAGE[0], "total": n}
    for spelling in ONE_PAGE:
        expected = {"path": ONE_PAGE[0], "total": len(ONE_PAGE)}
        assert counts(anyone, site, path=spelling)["page"] == expected


def test_the_first_page_has_one_counter_too(anyone: RunningService, site: str) -> None:
    for n, spelling in enumerate(("/", "//", "/index.html", "/index.htm", "/?a", "/#a"), 1):
        assert hit(anyone, site, spelling)["page"] == {"path": "/", "total": n}


def test_pages_that_differ_have_counters_of_their_own(anyone: RunningService, site: str) -> None:
    paths = ["/a", "/A", "/a/b", "/a b", "/a+b", "/a%252Fb", "/a%3Fb", "/a%23b", "/á", "/index"]
    for path in paths:
        page = hit(anyone, site, path)["page"]
        assert page["total"] == 1
        assert counts(anyone, site, path=page["path"])["page"] == page
    assert total(anyone, site) == len(paths)


UNNAMED = {
    "/bi%E1%BB%83u-t%C6%B0%E1%BB%A3ng/%F0%9F%91%A9%E2%80%8D%F0%9F%9A%80": "invisible",  # an emoji
    "/so%C2%ADft": "invisible",
    "/caf%E9": "not_utf8",
    f"/{'a' * 600}": "too_long",
    f"/{'a' * 7000}": "too_long",
}


def test_a_page_that_cannot_be_named_counts_for_its_site(anyone: RunningService, site: str) -> None:
    """Whoever writes addresses so has visitors all the same."""
    n_hits = 0
    referer = f"https://{site}/referring"
    for path, reason in UNNAMED.items():
        page = {"path": None, "total": None, "reason": reason}
        badge = ask(anyone.port, "GET", f"/v1/sites/{site}/badge.svg?count=1&path={path}")
        pixel(anyone, site, f"?path={path}", Referer=referer)
        assert (badge.status, total(anyone, site)) == (200, n_hits + 2)
        read = ask(anyone.port, "GET", f"/v1/sites/{site}/counts?path={path}").json
        assert (read["page"], read["total"]) == (page, n_hits + 2)
        n_hits += 2
        if len(path) < MAX_BODY_BYTES:
            n_hits += 1
            counted = hit(anyone, site, path, Referer=referer)
            assert (counted["page"], counted["total"]) == (page, n_hits)
    assert counts(anyone, site, path="/referring")["page"]["total"] == 0


PIECES = ("/", "%", "25", "2F", "%2f", "%61", "?", "#", ".", "index.html", "a", "\u0301", "ộ")


@given(text=st.text(max_size=40) | st.lists(st.sampled_from(PIECES)).map("".join))
def test_an_answered_path_asked_for_again_is_the_same_page(
    anyone: RunningService, text: str
) -> None:
    asked = quote(f"/{text}", safe="", errors="surrogatepass")
    answer = ask(anyone.port, "GET", f"/v1/sites/demo/counts?path={asked}")
    if answer.status == 400:
        assert answer.code in ("bad_path", "bad_query")
        return
    page = answer.json["page"]
    if page["path"] is None:
        assert page.keys() == {"path", "total", "reason"}
        return
    assert counts(anyone, "demo", path=page["path"])["page"] == page


# The language


@pytest.mark.slow
def test_the_block_is_in_the_language_that_is_asked_for_else_in_the_sites(
    declared: RunningService,
) -> None:
    vietnamese, english = "news.example.vn", "www.union.example.vn"
    for name, query, lang in (
        (vietnamese, "", "vi"),
        (vietnamese, "?lang=en", "en"),
        (vietnamese, "?lang=vi", "vi"),
        (english, "", "en"),
        (english, "?lang=vi", "vi"),
    ):
        for widget in (
            hit(declared, name, query=query)["widget"],
            ask(declared.port, "GET", f"/v1/sites/{name}/counts{query}").json["widget"],
        ):
            words = {"vi": ("Số lượt truy cập", "Trong ngày"), "en": ("Page views", "Today")}
            assert (widget["title"], widget["lines"][0]["label"]) == words[lang]
            assert widget["lang"] == lang
            assert [line["key"] for line in widget["lines"]] == LINE_KEYS


def test_lines_have_short_labels_where_they_are_asked_for(
    anyone: RunningService, site: str
) -> None:
    base = f"/v1/sites/{site}"
    for query, short in (
        ("?labels=both", ["Hôm nay", "Hôm qua", "Tháng", "Năm", "Tổng"]),
        ("?lang=en&labels=both", ["Today", "Yesterday", "Month", "Year", "Total"]),
    ):
        for widget in (
            hit(anyone, site, query=query)["widget"],
            ask(anyone.port, "GET", f"{base}/counts{query}").json["widget"],
        ):
            assert [line["short"] for line in widget["lines"]] == short
            assert [line["key"] for line in widget["lines"]] == LINE_KEYS
    assert all("short" not in line for line in hit(anyone, site)["widget"]["lines"])
    for method, name in (("POST", "hits"), ("GET", "counts")):
        for query in ("labels=short", "labels=", "labels=both&labels=both", "label=both"):
            refused = ask(anyone.port, method, f"{base}/{name}?{query}")
            assert (refused.status, refused.code) == (400, "bad_query")
    assert counts(anyone, site)["total"] == 3


# Other origins


@pytest.mark.slow
def test_every_status_can_be_read_from_any_page_and_by_no_one_in_particular(
    anyone: RunningService, declared: RunningService, start_shared: StartService
) -> None:
    away = start_shared("[sites.demo]\n", redis_url="unix:///nonexistent", store_timeout_s=0.2)
    headers = {"Origin": "https://page.example", "Cookie": "a=b", "Authorization": "Basic YTpi"}
    for service, method, target, body, status in (
        (anyone, "POST", "/v1/sites/demo/hits", b"", 200),
        (anyone, "GET", "/v1/sites/demo/counts", None, 200),
        (anyone, "GET", "/v1/sites/demo/pixel.gif", None, 200),
        (anyone, "GET", "/", None, 200),
        (anyone, "GET", "/metrics", None, 404),
        (anyone, "OPTIONS", "/v1/sites/demo/hits", None, 204),
        (anyone, "POST", "/v1/sites/demo/hits", b"{", 400),
        (anyone, "GET", "/" + "a" * 10_000, None, 400),
        (declared, "POST", "/v1/sites/journal/hits", b"", 403),
        (declared, "POST", "/v1/sites/demo/hits", b"", 404),
        (anyone, "GET", "/nothing", None, 404),
        (anyone, "PUT", "/v1/sites/demo/hits", None, 405),
        (anyone, "POST", "/v1/sites/demo/hits", b" " * 3000, 413),
        (away, "GET", "/v1/sites/demo/counts", None, 503),
        (away, "POST", "/v1/sites/demo/hits", b"", 503),
        (away, "GET", "/readyz", None, 503),
    ):
        answer = ask(service.port, method, target, body, headers)
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        assert not answer.headers.keys() & {
            *("access-control-allow-credentials", "set-cookie", "www-authenticate", "location")
        }
        if status == 503:
            assert int(answer.headers["retry-after"]) > 0
            assert list(answer.json) == ["error"]


@pytest.mark.parametrize("what", ["hits", "counts", "pixel.gif", "badge.svg"])
@pytest.mark.parametrize(
    ("wanted", "allowed"),
    [
        ("content-type", "content-type"),
        # As monitors of a page add them to all that it asks.
        ("traceparent,baggage,x-requested-with", "traceparent,baggage,x-requested-with"),
        ("X-A , x-b\t,x-c", "X-A , x-b\t,x-c"),
        ("x-a\r\nAccess-Control-Request-Headers: x-b", "x-a,x-b"),
        ("", "Content-Type"),
        ("a b", "Content-Type"),
        ("a,,b", "Content-Type"),
        ("a:b", "Content-Type"),
        ("<script>", "Content-Type"),
        ("ộ", "Content-Type"),
        (f"{'a' * 1000},{'b' * 1000}", "Content-Type"),
        (f"{'a,' * 4000}!@", "Content-Type"),
    ],
)
def test_a_preflight_allows_whatever_headers_a_page_adds(
    anyone: RunningService, what: str, wanted: str, allowed: str
) -> None:
    headers = {
        "Origin": "https://page.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": wanted,
    }
    answer = ask(anyone.port, "OPTIONS", f"/v1/sites/demo/{what}", None, headers)
    assert answer.status == 204
    methods = "POST, OPTIONS" if what == "hits" else "GET, HEAD, OPTIONS"
    assert answer.headers["access-control-allow-methods"] == methods
    assert answer.headers["access-control-allow-headers"] == allowed
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    assert int(answer.headers["access-control-max-age"]) >= 3600


# Names in their own script


def test_a_site_in_its_own_script_is_its_punycode(anyone: RunningService, site: str) -> None:
    name = f"hộinôngdân.{site}"
    encoded = site_name(name)
    for n, spelling in enumerate(
        (quote(name), quote(name).lower(), quote(name.upper()), quote(normalize("NFD", name))), 1
    ):
        answer = hit(anyone, spelling, "/a")
        assert (answer["site"], answer["total"], answer["page"]["total"]) == (encoded, n, n)
    referer = f"https://{encoded}/b"
    assert pixel(anyone, quote(name), Referer=referer).status == 200
    badge = ask(anyone.port, "GET", f"/v1/sites/{quote(name)}/badge.svg?count=1&path=/b")
    assert badge.status == 200
    assert counts(anyone, quote(name), path="/b") == counts(anyone, encoded, path="/b")
    assert counts(anyone, encoded, path="/b")["page"]["total"] == 2
    anyone.run("baseline", name.upper(), "--total", "10", "--year", "9")
    assert (total(anyone, encoded), numbers(counts(anyone, encoded))[3]) == (10, 9)


@pytest.mark.slow
def test_a_site_is_declared_in_its_own_script(start_shared: StartService) -> None:
    service = start_shared('[sites."hộinôngdân.vn"]\norigins = ["https://hộinôngdân.vn"]\n')
    name = "xn--hinngdn-uwa2n1471a.vn"
    assert hit(service, quote("hộinôngdân.vn"), Origin=f"https://{name}")["site"] == name
    assert hit(service, name, Referer=f"https://{name}/")["total"] == 2
    assert ask(service.port, "POST", f"/v1/sites/{quote('hội.vn')}/hits").code == "unknown_site"


# What others add to an address


ADDED = ("_=1764398", "ver=6.4", "utm_source=feed&utm_source=mail", "x=%ff", "a&" * 40, "=", "lang")


@pytest.mark.parametrize("added", ADDED)
def test_what_is_added_to_the_address_of_a_picture_changes_nothing(
    anyone: RunningService, site: str, added: str
) -> None:
    assert pixel(anyone, site, f"?{added}&path=/a").status == 200
    field = added if added != "lang" else "x"
    for query in (f"count=1&path=/a&{field}", f"{field}&lang=en&path=/a"):
        badge = ask(anyone.port, "GET", f"/v1/sites/{site}/badge.svg?{query}")
        assert badge.status == 200
    assert b"Page views" in badge.body
    read = counts(anyone, site, path="/a")
    assert (read["total"], read["page"]["total"]) == (2, 2)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://journal.example.vn"},
        {"Origin": "https://www.journal.example.org"},
        {"Origin": "http://www.journal.example.org:8080"},  # declared as a host: any of its origins
        {"Referer": "https://journal.example.vn/a"},
        {"Referer": "https://journal.example.vn/"},
        {"Origin": "https://journal.example.vn", "Referer": "https://evil.example/"},
    ],
)
def test_a_site_with_origins_counts_what_comes_from_them_and_what_comes_from_no_page(
    declared: RunningService, headers: Mapping[str, str]
) -> None:
    before = total(declared, "journal")
    hit(declared, "journal", **headers)
    assert pixel(declared, "journal", **headers).status == 200
    assert total(declared, "journal") == before + 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://journal.example.vn"},
        {"Origin": "null"},
        {"Origin": "https://evil.example", "Referer": "https://journal.example.vn/"},
        {"Referer": "https://evil.example/a"},
    ],
)
def test_a_site_with_origins_refuses_foreign_pages_but_lets_anyone_read(
    declared: RunningService, headers: Mapping[str, str]
) -> None:
    hit(declared, "journal")
    before = keyspace(declared)
    for method, what in (("POST", "hits"), ("GET", "pixel.gif"), ("HEAD", "pixel.gif")):
        answer = ask(declared.port, method, f"/v1/sites/journal/{what}", None, headers)
        assert answer.status == 403
    assert ask(declared.port, "GET", "/v1/sites/journal/counts", None, headers).status == 200
    assert keyspace(declared) == before


# How many sites and pages


def test_declared_sites_are_all_that_there_are(declared: RunningService) -> None:
    hit(declared, "news.example.vn")
    before = keyspace(declared)
    for method, what in (("POST", "hits"), ("GET", "counts"), ("GET", "pixel.gif")):
        answer = ask(declared.port, method, f"/v1/sites/other.example.vn/{what}")
        assert (answer.status, answer.code) == (404, "unknown_site")
    assert keyspace(declared) == before


@pytest.mark.slow
def test_an_open_service_counts_as_many_sites_as_it_may(start_shared: StartService) -> None:
    service = start_shared(max_sites=3)

    def first_hit(n: int) -> Answer:
        return ask(service.port, "POST", f"/v1/sites/site-{n}/hits")

    answers = concurrently(12, first_hit)
    refused = [answer.code for answer in answers if answer.status != 200]
    assert refused == ["too_many_sites"] * 9
    before = keyspace(service)
    known = {n for n, answer in enumerate(answers) if answer.status == 200}
    unknown = set(range(12)) - known
    for n in unknown:
        assert (first_hit(n).status, pixel(service, f"site-{n}").status) == (404, 404)
        # Reading promises nothing: nobody visited it yet.
        assert numbers(counts(service, f"site-{n}")) == [0, 0, 0, 0, 0]
    assert keyspace(service) == before
    assert len(before[b"hc:{meta}:sites"]) > 0
    assert "WARNING supervisor: no site is declared: any name is counted, up to 3" in service.log
    assert service.log.count("new sites are refused: no more than max_sites, 3, are accepted") == 1
    for n in known:
        assert first_hit(n).json["total"] == 2


def test_a_site_stores_as_many_pages_as_it_may_and_counts_on(declared: RunningService) -> None:
    refused_before = metric(declared, "hitcounter_pages_refused_total", site="small")
    before = total(declared, "small")
    answers = concurrently(20, lambda n: hit(declared, "small", f"/{n}"))
    assert total(declared, "small") == before + 20
    stored = [answer["page"]["path"] for answer in answers if answer["page"]["total"] == 1]
    refused = [answer["page"]["path"] for answer in answers if answer["page"]["total"] is None]
    assert (len(stored), len(refused)) == (3, 17)
    pages = {name for name in keyspace(declared) if b":page:small:" in name}
    assert pages == {f"hc:{{0}}:page:small:{path}".encode() for path in stored}

    assert hit(declared, "small", stored[0])["page"]["total"] == 2
    assert hit(declared, "small", refused[0])["page"]["total"] is None
    assert pixel(declared, "small", f"?path={refused[1]}").status == 200
    refused_now = metric(declared, "hitcounter_pages_refused_total", site="small")
    assert refused_now - refused_before == 19
    assert total(declared, "small") == before + 23


def test_a_site_without_pages_counts(declared: RunningService) -> None:
    before = total(declared, "pageless")
    answer = hit(declared, "pageless", "/a")
    assert answer["page"] == {"path": "/a", "total": None}
    assert answer["total"] == before + 1


# Connections


def test_a_connection_serves_one_question_after_another(anyone: RunningService, site: str) -> None:
    with Connection(anyone.port) as connection:
        for n in range(1, 4):
            connection.send(request("POST", f"/v1/sites/{site}/hits", b'{"path": "/a"}'))
            answer = connection.receive()
            assert answer is not None
            assert answer.json["page"]["total"] == n
            connection.send(request("POST", f"/v1/sites/{site}/hits", b"{"))
            refused = connection.receive()
            assert refused is not None
            assert refused.code == "bad_json"


def test_questions_sent_at_once_are_answered_in_their_order(
    anyone: RunningService, site: str
) -> None:
    asked = request("POST", f"/v1/sites/{site}/hits", b'{"path": "/a"}')
    refused = request("GET", "/nothing")
    with Connection(anyone.port) as connection:
        connection.send((asked + refused) * 20)
        for n in range(1, 21):
            answers = connection.receive(), connection.receive()
            assert all(answers)
            hit_answer, refused_answer = answers
            assert hit_answer is not None
            assert refused_answer is not None
            assert (hit_answer.json["total"], refused_answer.status) == (n, 404)


def test_a_connection_that_shall_close_closes(anyone: RunningService, site: str) -> None:
    with Connection(anyone.port) as connection:
        connection.send(request("POST", f"/v1/sites/{site}/hits", None, {"Connection": "close"}))
        answer = connection.receive()
        assert answer is not None
        assert answer.headers["connection"] == "close"
        assert connection.receive() is None


# Metrics


def metric(service: RunningService, name: str, **labels: str) -> float:
    """Read one number; 0 where nothing was counted yet."""
    return sum(
        float(sample.value)
        for sample in samples(service)
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def samples(service: RunningService) -> list[Any]:
    """Read all metrics."""
    text = ask(service.operations_port, "GET", "/metrics", None, OWN).body.decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def test_metrics_count_what_was_refused_by_its_code(declared: RunningService) -> None:
    def refused() -> float:
        labels = {"site": "journal", "result": "foreign_origin"}
        return metric(declared, "hitcounter_hits_total", **labels)

    before = refused()
    ask(declared.port, "POST", "/v1/sites/journal/hits", None, {"Origin": "https://evil.example"})
    assert refused() == before + 1


def test_no_label_of_a_metric_is_chosen_by_a_visitor(
    anyone: RunningService, declared: RunningService
) -> None:
    for service in (anyone, declared):
        for name in ("visitor-made.example.vn", "VISITOR-MADE", "visitor-made%22%7D"):
            for method in ("POST", "PUT", "VISITOR"):
                ask(
                    service.port,
                    method,
                    f"/v1/sites/{name}/hits?visitor-made=visitor-made",
                    b'{"path": "/visitor-made"}',
                    {"User-Agent": "visitor-made", "Referer": "https://visitor-made/visitor-made"},
                )
                ask(service.port, method, f"/visitor-made/{name}")
        labels = [value for sample in samples(service) for value in sample.labels.values()]
        assert "(other)" in labels
        assert not [value for value in labels if "visitor" in value.lower()]


def test_metrics_do_not_depend_on_what_a_scraper_accepts(anyone: RunningService) -> None:
    for accept in (
        "application/openmetrics-text; version=1.0.0",
        "application/openmetrics-text; version=x",
        "text/plain; version=1.x; escaping=x",
        "*/*",
        ",;=",
    ):
        answer = ask(
            anyone.operations_port, "GET", "/metrics?name[]=x", None, OWN | {"Accept": accept}
        )
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_a_body_that_nobody_reads_is_passed_over_or_ends_the_connection(
    declared: RunningService,
) -> None:
    head = b"POST /nothing HTTP/1.1\r\nHost: dem.example.vn\r\nContent-Length: 9000\r\n\r\n"
    with Connection(declared.port) as connection:
        for _ in range(2):
            connection.send(head)
            assert (answer := connection.receive()) is not None
            assert answer.status == 404
            connection.send(b"x" * 9000)
        connection.send(head)
        assert (answer := connection.receive()) is not None
        assert answer.status == 404
        assert connection.receive() is None
