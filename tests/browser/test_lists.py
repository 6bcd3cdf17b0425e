"""Lists of articles, and pages that are addressed by a query."""

from html import escape
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Page, expect

from hitcounter.site import page_path
from tests.browser.counted import Traffic, counted
from tests.browser.pages import Pages, document, tag
from tests.conftest import RunningService
from tests.query_cases import CASES, NAMES

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOME = "/trang-chu"
ROW = '<p>Bài {0} <b data-hitcounter="page" data-page="/bai/{0}">…</b></p>'


def _rows(first: int, last: int) -> str:
    return "".join(ROW.format(n) for n in range(first, last))


def _pages_asked(traffic: Traffic) -> list[str]:
    return [line for line in traffic.asked if line.startswith("GET pages?")]


async def test_a_list_of_articles_is_one_request_that_counts_nothing(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    totals = [1000 + n for n in range(30)]
    options = [part for n, total in enumerate(totals) for part in ("--page", f"/bai/{n}={total}")]
    service.run("baseline", service.site, "--total=90000", *options)
    await page.goto(pages.put(HOME, document(_rows(0, 20) + tag(service))))
    numbers = page.locator("b")
    await expect(numbers).to_have_text([f"1.{n:03}" for n in range(20)])
    assert len(_pages_asked(traffic)) == 1
    add = "html => document.querySelector('main').insertAdjacentHTML('beforeend', html)"
    await page.evaluate(add, _rows(20, 30))
    await expect(numbers).to_have_text([f"1.{n:03}" for n in range(30)])
    assert len(_pages_asked(traffic)) == 2
    assert _pages_asked(traffic)[1].count("path=") == 10
    assert traffic.hits == 1
    counts = counted(service)
    assert counts.total == 90_001
    assert counts.pages[HOME] == 1
    assert [counts.pages[f"/bai/{n}"] for n in range(30)] == totals


@pytest.mark.slow
async def test_long_lists_are_asked_for_in_pieces(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    slugs = [f"/bài-{n}-{'tiếng-việt-' * 4}" for n in range(130)]
    rows = "".join(f'<b data-hitcounter="page" data-page="{slug}">…</b>' for slug in slugs)
    script = tag(service, 'data-count="false" data-block="off"')
    await page.goto(pages.put(HOME, document(rows + script)))
    await expect(page.locator("b")).to_have_text(["0"] * len(slugs))
    asked = _pages_asked(traffic)
    sizes = [line.count("path=") for line in asked]
    assert sum(sizes) == len(slugs)
    assert max(sizes) <= 100
    assert max(map(len, asked)) <= 6000
    assert len(asked) < 10
    assert counted(service).total == 0


@pytest.mark.slow
async def test_a_list_alone_counts_nothing_and_keeps_its_texts_without_an_answer(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    place = '<b data-hitcounter="page" data-site="{}" data-page="{}">…</b>'
    places = place.format(service.site, "/bai/1") + place.format(service.site, "no-path")
    script = f'<script async src="{service.url}/widget.js"></script>'
    other = place.format("Không có", "/bai/1").replace("<b", "<i").replace("/b>", "/i>")
    await page.goto(pages.put(HOME, document(places.split("</b>")[0] + "</b>" + other + script)))
    await expect(page.locator("b")).to_have_text("0")
    await traffic.settled()
    await expect(page.locator("i")).to_have_text("…")
    assert traffic.hits == 0


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/index.php", "/", "/tin//bai/index.html"])
async def test_a_page_is_named_by_its_query_as_the_service_names_it(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, path: str
) -> None:
    pages.put(path, document(tag(service, f'data-query="{",".join(NAMES)}"')))
    expected: dict[str, int] = {}
    for search in CASES:
        await page.goto(pages.url + path + search)
        await expect(page.get_by_role("region")).to_be_visible()
        await traffic.settled()
        name = page_path(path + search, NAMES)
        expected[name] = expected.get(name, 0) + 1
    assert counted(service).pages == expected


async def test_a_list_names_pages_by_their_queries_as_the_service_does(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    named = [f"/bai{search}" for search in CASES]
    rows = "".join(f'<b data-hitcounter="page" data-page="{escape(each)}">…</b>' for each in named)
    options = f'data-query="{",".join(NAMES)}" data-count="false"'
    await page.goto(pages.put(HOME, document(rows + tag(service, options))))
    await expect(page.locator("b")).to_have_text(["0"] * len(named))
    (asked,) = _pages_asked(traffic)
    paths = [page_path(path) for path in parse_qs(urlsplit(asked).query)["path"]]
    assert paths == [page_path(each, NAMES) for each in named]


@pytest.mark.slow
async def test_a_list_without_an_answer_tells_each_of_its_places(
    service: RunningService, page: Page, pages: Pages
) -> None:
    await page.route("**/pages?*", lambda route: route.fulfill(status=404, json={"error": {}}))
    note = """<script>window.told = [];
      addEventListener("hitcounter:failed", ({ target, detail }) =>
        told.push([target.dataset.page, detail.status]));</script>"""
    await page.goto(pages.put(HOME, document(note + _rows(0, 3) + tag(service))))
    await expect(page.get_by_role("region")).to_be_visible()
    await page.wait_for_function("told.length === 3")
    assert await page.evaluate("told") == [[f"/bai/{n}", 404] for n in range(3)]
    await expect(page.locator("b")).to_have_text(["…"] * 3)


@pytest.mark.slow
async def test_another_parameter_is_the_same_page_and_one_that_names_it_is_not(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    number = '<b data-hitcounter="page"></b><i data-hitcounter="page" data-page="/?x=1&id=5"></i>'
    place = f'<hit-counter site="{service.site}" query="id"></hit-counter>'
    script = f'<script async src="{service.url}/widget.js"></script>'
    pages.put("/", document(place + number + script))
    await page.goto(f"{pages.url}/?id=5&page=1")
    await expect(page.locator("b, i")).to_have_text(["1", "1"])
    await page.evaluate("history.pushState(null, '', '/?page=2&id=5')")
    await page.evaluate("history.pushState(null, '', '/?page=2&id=6')")
    await expect(page.get_by_role("listitem").last).to_have_text("Tổng truy cập: 2")
    await traffic.settled()
    assert counted(service).pages == {"/%3Fid=5": 1, "/%3Fid=6": 1}
