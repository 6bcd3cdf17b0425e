"""The front page in a real browser: on a phone, without scripts, and while somebody chooses."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from hitcounter.block import THEMES
from tests.browser import chromium
from tests.browser.pages import Pages
from tests.conftest import RunningService, StartService
from tests.integration.proxies import plain

pytestmark = pytest.mark.asyncio(loop_scope="session")

SHOWN = "#json:not([hidden])"


@pytest_asyncio.fixture(loop_scope="session")
async def scriptless(browser: Browser) -> AsyncIterator[Page]:
    """Open an empty page in a browser that runs no scripts."""
    context = await browser.new_context(
        user_agent=chromium.USER_AGENT, locale="vi-VN", java_script_enabled=False
    )
    yield await context.new_page()
    await context.close()


@pytest.fixture
def service(start_service: StartService) -> RunningService:
    """Start a service: looking at its front page counts, and what is read here counts from 0."""
    return start_service()


async def counts(page: Page, service: RunningService, site: str = "demo") -> Any:
    """Read the numbers."""
    answer = await page.request.get(f"{service.url}/v1/sites/{site}/counts")
    assert answer.ok
    return await answer.json()


async def test_it_shows_all_live_blocks_counts_one_hit_and_asks_nobody_else(
    service: RunningService, page: Page
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(service.url)
    await page.wait_for_selector(SHOWN)
    blocks = page.get_by_role("region", name="Số lượt truy cập")
    await expect(blocks).to_have_count(len(THEMES))
    for n in range(len(THEMES)):
        await expect(blocks.nth(n).get_by_role("listitem").last).to_contain_text("Tổng truy cập: 1")
    badge = page.locator("img[data-badge]")
    await expect(badge).to_be_visible()
    assert await badge.evaluate("image => image.decode().then(() => image.naturalWidth > 0)")
    shown = json.loads(await page.locator("#json").inner_text())
    read = await counts(page, service)
    assert shown == read
    assert read["total"] == 1
    assert [url for url in asked if not url.startswith(service.url)] == []
    # Also not one line about what our policy forbids.
    assert [message.text for message in await page.console_messages()] == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 375, 1280])
async def test_it_fits_any_screen(service: RunningService, page: Page, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 640})
    await page.goto(service.url)
    await page.wait_for_selector(SHOWN)
    await page.locator("summary").click()
    assert await page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.slow
async def test_what_is_chosen_is_shown_at_once_and_counts_nothing(
    service: RunningService, page: Page
) -> None:
    await page.goto(service.url)
    await page.wait_for_selector(SHOWN)
    opened: list[str] = []
    page.on("framenavigated", lambda frame: opened.append(frame.url))
    tag = page.locator("#tags pre").first
    await page.get_by_label("Ngôn ngữ").select_option("en")
    await expect(tag).to_contain_text(' lang="en"></hit-counter>')
    await page.get_by_label("Hôm qua").uncheck()
    await page.get_by_label("Giao diện").select_option("dark")
    await expect(tag).to_contain_text('lines="today,month,year,total" theme="dark">')
    await expect(page.get_by_role("region", name="Page views")).to_have_count(len(THEMES))
    await expect(page.locator("#json")).to_contain_text('"Page views"')
    await expect(page.locator("img[data-badge]")).to_have_attribute("alt", "Page views")
    # A name that nobody counts: it is shown, and does not become known.
    await page.get_by_label("Trang web").fill("www.example.vn")
    await page.get_by_label("Trang web").press("Enter")
    await expect(tag).to_contain_text(' site="www.example.vn"')
    await expect(page.locator("#pinned pre")).to_contain_text(' site="www.example.vn"')
    await expect(page.locator("#json")).to_contain_text('"site": "www.example.vn"')
    assert opened == []
    assert (await counts(page, service))["total"] == 1
    assert (await counts(page, service, "www.example.vn"))["total"] == 0


@pytest.mark.slow
async def test_an_address_is_taken_for_its_site_and_what_is_copied_is_what_was_chosen_last(
    service: RunningService, page: Page
) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto(service.url)
    await page.wait_for_selector(SHOWN)
    field, snippet = page.get_by_label("Trang web"), page.locator("#tags .snippet").first
    await field.fill("https://WWW.Example.VN/tin-tuc?id=5")
    await snippet.get_by_role("button").click()
    await expect(snippet.get_by_role("button")).to_have_text("Đã chép")
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert ' site="www.example.vn"' in copied
    assert copied == await snippet.locator("pre").text_content()
    assert await field.input_value() == "www.example.vn"
    await field.fill("")
    await field.press_sequentially("Demo")  # and shown while it is written
    await expect(snippet.locator("pre")).to_contain_text(' site="demo"')


@pytest.mark.slow
async def test_a_site_that_cannot_be_chosen_is_told_in_words(
    service: RunningService, page: Page
) -> None:
    await page.goto(service.url)
    await page.wait_for_selector(SHOWN)
    await page.get_by_label("Trang web").fill("Không hợp lệ")
    await page.get_by_label("Trang web").press("Enter")
    assert not await page.get_by_label("Trang web").evaluate("field => field.checkValidity()")
    service.stop()
    await page.get_by_label("Trang web").fill("www.example.vn")
    await page.get_by_label("Trang web").press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("Máy chủ chưa trả lời")
    await expect(page.locator("#tags pre").first).to_contain_text(' site="demo"')


@pytest.mark.slow
async def test_without_scripts_it_shows_pictures_counts_one_hit_and_the_button_works(
    service: RunningService, scriptless: Page
) -> None:
    await scriptless.goto(service.url)
    pictures = scriptless.locator("figure img")
    await expect(pictures).to_have_count(len(THEMES))
    for picture in await pictures.all():
        await expect(picture).to_be_visible()
    assert (await counts(scriptless, service))["total"] == 1
    await scriptless.get_by_label("Ngôn ngữ").select_option("en")
    await scriptless.get_by_label("Hôm qua").uncheck()
    await scriptless.get_by_role("button", name="Tạo thẻ").click()
    tag = scriptless.locator("#tags pre").first
    await expect(tag).to_contain_text(' lang="en" lines="today,month,year,total">')
    await expect(scriptless.get_by_label("Yesterday")).not_to_be_checked()
    assert (await counts(scriptless, service))["total"] == 2


@pytest.mark.slow
async def test_the_pinned_tag_works_on_a_page_of_another_origin(
    service: RunningService, page: Page, pages: Pages
) -> None:
    await page.goto(f"{service.url}/?site=www.example.vn")
    tag = await page.locator("#pinned pre").text_content()
    assert tag is not None
    assert "integrity=" in tag
    pages.headers["Content-Security-Policy"] = (
        f"default-src 'self'; script-src {service.url}; connect-src {service.url}"
    )
    await page.goto(pages.put("/tin-tuc/1", f"<!doctype html><title>Tin</title><body>{tag}"))
    total = page.get_by_role("region").get_by_role("listitem").last
    await expect(total).to_contain_text("Tổng truy cập: 1")
    assert (await counts(page, service, "www.example.vn"))["total"] == 1


@pytest.mark.slow
async def test_below_a_path_it_works_and_names_where_it_was_found_whatever_a_proxy_says(
    service: RunningService, page: Page, tmp_path: Path
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    silent = "proxy_set_header Host $http_host;"
    below = f"location /dem/ {{ proxy_pass {service.url}/; {silent} }}"
    with plain("nginx", below, tmp_path) as port:
        host = f"http://127.0.0.1:{port}"
        await page.goto(f"{host}/dem/?site=www.example.vn")
        await page.wait_for_selector(SHOWN)
        place = f'<hit-counter server="{host}/dem" site="www.example.vn"></hit-counter>'
        for snippet in ("#tags pre", "#pinned pre"):
            await expect(page.locator(snippet).first).to_contain_text(place)
        await page.get_by_label("Ngôn ngữ").select_option("en")
        await expect(page.get_by_role("region", name="Page views")).to_have_count(len(THEMES))
        await expect(page.locator("#tags pre").first).to_contain_text(f'src="{host}/dem/widget.js"')
        await expect(page.locator("#pictures pre").first).to_contain_text(f'"{host}/dem/v1/sites/')
        await expect(page.locator("#json")).to_contain_text('"Page views"')
        assert [url for url in asked if not url.startswith((f"{host}/dem/", "data:"))] == []
