"""A browser that nobody looks at: what it calls itself is all that tells it apart."""

import pytest
from playwright.async_api import Browser, expect

from tests.browser import chromium
from tests.browser.counted import counted
from tests.browser.pages import Pages, document, tag
from tests.conftest import StartService

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_headless_browser_is_a_robot_by_its_own_name_and_counts_under_another(
    start_service: StartService, browser: Browser, pages: Pages
) -> None:
    service = start_service(count_robots="false", limits="on")
    url = pages.put("/tin-tuc/1", document(tag(service)))
    for agent, state in ((chromium.USER_AGENT, "counted"), (None, "robot")):
        context = await browser.new_context(user_agent=agent, locale="vi-VN")
        page = await context.new_page()
        await page.goto(url)
        await expect(page.locator("[data-state]").first).to_have_attribute("data-state", state)
        total = page.get_by_role("region").first.get_by_role("listitem").last
        await expect(total).to_have_text("Tổng truy cập: 1")
        await context.close()
    assert counted(service) == (1, {"/tin-tuc/1": 1})
