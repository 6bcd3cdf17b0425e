"""The block in a real browser, on pages of another origin than the counter's."""

from collections.abc import Sequence
from importlib import resources
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.pages import Pages
from tests.conftest import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

ARTICLE = "/tin-tuc/1"
# A page saved on 19 April 2019 showed these numbers.
SAVED = ["1.129", "5.318", "179.277", "970.735", "1.619.938"]
BASELINE = (
    *("baseline", "demo", "--today", "1129", "--yesterday", "5318", "--month", "179277"),
    *("--year", "970735", "--total", "1619938", "--page", f"{ARTICLE}=210"),
)
ONE_MORE = """\
- region "Số lượt truy cập":
  - heading "Số lượt truy cập" [level=2]
  - list:
    - listitem: "Trong ngày: 1.130"
    - listitem: "Hôm qua: 5.318"
    - listitem: "Trong tháng: 179.278"
    - listitem: "Trong năm: 970.736"
    - listitem: "Tổng truy cập: 1.619.939\""""
OWN_MARKUP = "".join(
    f"<p>{key}: <b data-hitcounter={key}>?</b></p>"
    for key in ("today", "yesterday", "month", "year", "total", "page", "tomorrow")
)


def tag(service_url: str, attributes: str = "") -> str:
    return f'<script async src="{service_url}/widget.js" data-site="demo" {attributes}></script>'


def document(body: str, head: str = "") -> str:
    return f'<!doctype html><html lang="vi"><head>{head}<title>Tin tức</title></head><body>{body}'


async def counts(page: Page, service_url: str, path: str = ARTICLE) -> dict[str, Any]:
    answer = await page.request.get(f"{service_url}/v1/sites/demo/counts", params={"path": path})
    assert answer.ok
    numbers: dict[str, Any] = await answer.json()
    return numbers


def texts(numbers: dict[str, Any]) -> Sequence[str]:
    return [line["text"] for line in numbers["widget"]["lines"]]


async def test_one_more_hit_shows_the_numbers_of_the_saved_page_plus_one(
    service: RunningService, page: Page, pages: Pages
) -> None:
    service.run(*BASELINE)
    before = await counts(page, service.url)
    assert texts(before) == SAVED
    assert before["page"] == {"path": ARTICLE, "total": 210}

    views = "<p>Số lượt xem: <span data-hitcounter=page></span></p>"
    await page.goto(pages.put(ARTICLE, document(tag(service.url) + views)))
    block = page.get_by_role("region")
    await expect(block).to_be_visible()

    # No icon name leaks: neither to a screen reader nor into the text that is seen and copied.
    assert await block.aria_snapshot() == ONE_MORE
    title, *lines = (await block.inner_text()).splitlines()
    assert title == "Số lượt truy cập"
    assert [line.partition(": ")[2] for line in lines] == [
        *("1.130", "5.318", "179.278", "970.736", "1.619.939")
    ]
    await expect(page.get_by_text("Số lượt xem: 211", exact=True)).to_be_visible()

    after = await counts(page, service.url)
    assert [after[key] for key in ("today", "yesterday", "month", "year", "total")] == [
        *(1130, 5318, 179278, 970736, 1619939)
    ]
    assert after["page"] == {"path": ARTICLE, "total": 211}


async def test_two_tags_of_a_site_draw_two_blocks_and_count_one_hit(
    service: RunningService, page: Page, pages: Pages
) -> None:
    body = f"<aside>{tag(service.url)}</aside><footer>{tag(service.url)}</footer>"
    await page.goto(pages.put(ARTICLE, document(body)))
    for place in ("aside", "footer"):
        block = page.locator(place).get_by_role("region")
        await expect(block.get_by_role("listitem").last).to_have_text("Tổng truy cập: 1")
    assert (await counts(page, service.url))["total"] == 1


async def test_every_view_of_a_page_counts_one_hit(
    service: RunningService, page: Page, pages: Pages
) -> None:
    url = pages.put(ARTICLE, document(tag(service.url)))
    for views in (1, 2):
        await page.goto(url)
        total = page.get_by_role("listitem").last
        await expect(total).to_have_text(f"Tổng truy cập: {views}")
    assert (await counts(page, service.url))["page"]["total"] == 2


async def test_english_is_asked_for_by_the_tag(
    service: RunningService, page: Page, pages: Pages
) -> None:
    service.run(*BASELINE)
    body = tag(service.url, 'data-lang="en"') + OWN_MARKUP
    await page.goto(pages.put("/en/news", document(body)))
    block = page.get_by_role("region", name="Visits")
    await expect(block.get_by_role("listitem").last).to_have_text("Total: 1,619,939")
    await expect(block).to_have_attribute("lang", "en")
    await expect(page.get_by_text("month: 179,278", exact=True)).to_be_visible()


async def test_a_strict_content_security_policy_that_names_the_counter_is_enough(
    service: RunningService, page: Page, pages: Pages
) -> None:
    pages.headers["Content-Security-Policy"] = (
        f"default-src 'self'; script-src {service.url}; connect-src {service.url}"
    )
    await page.goto(pages.put(ARTICLE, document(tag(service.url))))
    line = page.get_by_role("listitem").first
    await expect(line).to_have_text("Trong ngày: 1")
    await expect(line).to_have_css("text-align-last", "justify")
    said = [message.text for message in await page.console_messages()]
    assert [text for text in said if "Policy" in text] == []


async def test_own_markup_is_filled_and_a_tag_in_the_head_draws_no_block(
    service: RunningService, page: Page, pages: Pages
) -> None:
    service.run(*BASELINE)
    await page.goto(pages.put(ARTICLE, document(OWN_MARKUP, head=tag(service.url))))
    await expect(page.locator("[data-hitcounter=page]")).to_have_text("211")
    assert (await page.inner_text("body")).split("\n\n") == [
        "today: 1.130",
        "yesterday: 5.318",
        "month: 179.278",
        "year: 970.736",
        "total: 1.619.939",
        "page: 211",
        "tomorrow: ?",
    ]
    await expect(page.get_by_role("region")).to_have_count(0)


async def test_a_page_is_left_alone_when_the_service_is_down(
    service: RunningService, page: Page, pages: Pages
) -> None:
    service.stop()
    await page.goto(pages.put(ARTICLE, document(tag(service.url) + OWN_MARKUP)))
    assert set(await page.locator("b").all_inner_texts()) == {"?"}
    await expect(page.locator("body > *")).to_have_count(8)


@pytest.mark.parametrize("answer", ["", "{}", "null", "<p>502 Bad Gateway</p>"])
async def test_an_answer_without_numbers_draws_nothing_and_says_so_once(
    answer: str, page: Page, pages: Pages
) -> None:
    # This web site is no counter, as when a proxy or a captive portal answers in our place.
    script = resources.files("hitcounter.web").joinpath("static", "widget.js").read_text("utf-8")
    pages.put("/widget.js", script, "text/javascript")
    pages.post_answer = answer
    url = pages.put(ARTICLE, document(tag(pages.url) + OWN_MARKUP))
    async with page.expect_console_message(lambda message: message.type == "warning") as warning:
        await page.goto(url)
    assert (await warning.value).text.startswith("hitcounter: nothing drawn: ")
    assert set(await page.locator("b").all_inner_texts()) == {"?"}
    await expect(page.locator("body > *")).to_have_count(8)


async def test_a_refused_hit_draws_nothing_and_names_the_status(
    service: RunningService, page: Page, pages: Pages
) -> None:
    url = pages.put(ARTICLE, document(tag(service.url, 'data-lang="xx"')))
    async with page.expect_console_message(lambda message: message.type == "warning") as warning:
        await page.goto(url)
    assert (await warning.value).text == "hitcounter: nothing drawn: the service answered 400"
    await expect(page.get_by_role("region")).to_have_count(0)


async def test_a_prerendered_page_counts_when_it_is_shown(
    service: RunningService, page: Page, pages: Pages
) -> None:
    # Chromium prerenders nothing while it is driven, so the document only says that it is.
    await page.add_init_script(
        "Object.defineProperty(document, 'prerendering', { value: true, writable: true })"
    )
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.method))
    await page.goto(pages.put(ARTICLE, document(tag(service.url))))
    assert asked == ["GET", "GET"]
    await page.evaluate(
        "document.prerendering = false; document.dispatchEvent(new Event('prerenderingchange'))"
    )
    await expect(page.get_by_role("listitem").last).to_have_text("Tổng truy cập: 1")


async def test_a_visitor_keeps_nothing_and_the_page_gets_no_globals(
    service: RunningService, page: Page, pages: Pages
) -> None:
    names = "Object.getOwnPropertyNames(window).sort()"
    await page.goto(pages.put("/plain", document("")))
    before = await page.evaluate(names)
    await page.goto(pages.put(ARTICLE, document(tag(service.url))))
    await expect(page.get_by_role("region")).to_be_visible()
    assert await page.evaluate(names) == before
    assert await page.context.storage_state(indexed_db=True) == {"cookies": [], "origins": []}


async def test_the_front_page_counts_shows_the_demo_and_asks_nobody_else(
    service: RunningService, page: Page
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(service.url)
    block = page.get_by_role("region", name="Số lượt truy cập")
    await expect(block.get_by_role("listitem").last).to_have_text("Tổng truy cập: 1")
    await expect(page.locator("pre").first).to_have_text(
        f'<script async src="{service.url}/widget.js" data-site="demo"></script>'
    )
    assert {url.startswith(service.url) for url in asked} == {True}
    assert await page.console_messages() == []
    assert (await counts(page, service.url, "/"))["page"]["total"] == 1
