"""The totals of many pages at once, and pages whose address is a query."""

import select
from contextlib import ExitStack
from urllib.parse import urlencode

import pytest

from tests.conftest import RunningService, StartService
from tests.support.stores import keyspace
from tests.support.wire import Answer, Connection, ask, request

# One process starts the service that these share.
pytestmark = pytest.mark.xdist_group("pages")

DECLARED = """
[sites."news.example.vn"]
max_pages = 3
[sites.php]
origins = ["https://php.example.vn"]
query = ["nv", "op", "id"]
"""

LIST = "/v1/sites/news.example.vn/pages?" + "&".join(f"path=/bai-viet-{n}" for n in range(100))


@pytest.fixture(scope="module")
def service(start_shared: StartService) -> RunningService:
    """Start a service with declared sites."""
    return start_shared(DECLARED)


def pages(service: RunningService, site: str, *paths: str, **more: str) -> Answer:
    """Ask for the totals of pages."""
    query = urlencode([*(("path", path) for path in paths), *more.items()])
    return ask(service.port, "GET", f"/v1/sites/{site}/pages?{query}")


def hit(service: RunningService, site: str, path: str | None = None, **headers: str) -> Answer:
    """Count a hit."""
    body = b"" if path is None else f'{{"path": "{path}"}}'.encode()
    return ask(service.port, "POST", f"/v1/sites/{site}/hits", body, headers)


def test_one_request_brings_the_totals_of_a_list_in_its_order_and_counts_nothing(
    service: RunningService,
) -> None:
    for path, n in (("/bai/1", 3), ("/bai/2", 1)):
        for _ in range(n):
            assert hit(service, "news.example.vn", path).status == 200
    asked = ["/bai/2", "/bai/1/", "/bai/none", "/bai/1#top", "/b%C3%A0i", "/a\u200db"]
    answer = pages(service, "news.example.vn", *asked, lang="en")
    assert answer.status == 200
    assert answer.json == {
        "site": "news.example.vn",
        "state": "fresh",
        "lang": "en",
        "pages": [
            {"path": "/bai/2", "total": 1, "text": "1"},
            {"path": "/bai/1", "total": 3, "text": "3"},
            {"path": "/bai/none", "total": 0, "text": "0"},
            {"path": "/bai/1", "total": 3, "text": "3"},
            {"path": "/bài", "total": 0, "text": "0"},
            {"path": None, "total": None, "reason": "invisible"},
        ],
    }
    unnamed = pages(service, "news.example.vn", "/a\u200db").json["pages"]
    assert unnamed == [{"path": None, "total": None, "reason": "invisible"}]
    assert hit(service, "news.example.vn", "/bai/3").status == 200  # as many as it stores
    full = pages(service, "news.example.vn", "/bai/4", "/bai/3").json["pages"]
    assert full == [{"path": "/bai/4", "total": None}, {"path": "/bai/3", "total": 1, "text": "1"}]
    before = keyspace(service)
    pages(service, "news.example.vn", "/bai/1", "/bai/5")
    assert keyspace(service) == before


def test_a_hundred_pages_fit_and_what_is_no_list_is_refused(service: RunningService) -> None:
    many = [f"/bai-viet-{n}" for n in range(100)]
    assert len(pages(service, "news.example.vn", *many).json["pages"]) == 100
    assert pages(service, "news.example.vn", *many, lang="vi").status == 200
    for answer in (
        pages(service, "news.example.vn", *many, "/one-more"),
        pages(service, "news.example.vn"),
        pages(service, "news.example.vn", lang="vi"),
        pages(service, "news.example.vn", "/a", other="1"),
    ):
        assert (answer.status, answer.code) == (400, "bad_query")
    assert pages(service, "news.example.vn", "no-slash").code == "bad_path"
    assert pages(service, "news.example.vn", "/a", lang="xx").code == "bad_lang"
    assert pages(service, "other.example.vn", "/a").code == "unknown_site"


def test_parameters_that_a_site_names_are_part_of_its_pages_wherever_a_page_is_named(
    service: RunningService,
) -> None:
    page = "/index.php%3Fnv=news&id=1"
    referer = "https://php.example.vn/index.php?id=1&x=2&nv=news#top"
    own = {"Referer": referer, "Origin": "https://php.example.vn"}
    said = hit(service, "php", "/index.php?id=1&utm_source=a&nv=news&id=7")
    assert said.json["page"] == {"path": page, "total": 1}
    assert hit(service, "php", page).json["page"] == {"path": page, "total": 2}
    assert hit(service, "php", **own).json["page"] == {"path": page, "total": 3}
    for picture in ("pixel.gif", "badge.svg?count=1"):
        ask(service.port, "GET", f"/v1/sites/php/{picture}", None, {"Referer": referer})
    assert pages(service, "php", page, "/index.php?nv=news&id=1", "/index.php?id=1").json[
        "pages"
    ] == [
        {"path": page, "total": 5, "text": "5"},
        {"path": page, "total": 5, "text": "5"},
        {"path": "/index.php%3Fid=1", "total": 0, "text": "0"},
    ]
    # The front page of such a site is a page where its query says which; a bare / hides one.
    shown = hit(service, "php", Referer="https://php.example.vn/?nv=about")
    assert shown.json["page"]["path"] == "/%3Fnv=about"
    assert "page" not in hit(service, "php", Referer="https://php.example.vn/?x=1").json
    # Other sites have none.
    assert hit(service, "news.example.vn", "/bai/1?nv=news").json["page"]["path"] == "/bai/1"


@pytest.mark.parametrize("target", ["/", LIST], ids=["front page", "list"])
def test_a_hit_passes_between_answers_that_take_long(service: RunningService, target: str) -> None:
    with ExitStack() as stack:
        asking = [stack.enter_context(Connection(service.port)) for _ in range(100)]
        hitting = stack.enter_context(Connection(service.port))
        for connection in (*asking, hitting):  # taken up by the service, each of them
            connection.send(request("GET", "/healthz"))
            assert connection.receive()
        for connection in asking:
            connection.send(request("GET", target))
        hitting.send(request("POST", "/v1/sites/news.example.vn/hits"))
        assert hitting.receive("POST")
        answered, _, _ = select.select([each.socket for each in asking], [], [], 0)
        assert len(answered) < len(asking)
        answers = [connection.receive() for connection in asking]
    assert {answer.status for answer in answers if answer} == {200}
