"""Pages with a script that was published long ago: the new service counts them and fills them."""

import pytest
from playwright.async_api import Page, expect

from hitcounter.web.scripts import PINNED
from tests.browser.counted import Traffic, counted
from tests.browser.pages import Pages, document
from tests.conftest import RunningService
from tests.support.waiting import comes_true

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

ARTICLE = "/tin-tuc/1"
OPTIONS = 'crossorigin="anonymous" data-lang="en" data-lines="today,total" data-theme="dark"'


def pinned(service: RunningService, path: str, site: str) -> str:
    """Write the tag that the front page once showed for a script."""
    integrity = PINNED[path].integrity
    return (
        f'<script async src="{service.url}{path}" integrity="{integrity}" data-site="{site}"'
        f" {OPTIONS}></script>"
    )


@pytest.mark.parametrize("path", PINNED)
async def test_a_published_script_counts_once_and_draws(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, path: str
) -> None:
    body = pinned(service, path, service.site) + '<b data-hitcounter="page">…</b>'
    await page.goto(pages.put(ARTICLE, document(body)))
    region = page.get_by_role("region", name="Page views")
    await expect(region.get_by_role("listitem")).to_have_text(["Today: 1", "Total: 1"])
    await expect(page.locator("b")).to_have_text("1")
    await traffic.settled()
    assert traffic.hits == 1
    assert counted(service) == (1, {ARTICLE: 1})


@pytest.mark.parametrize("path", PINNED)
async def test_a_published_script_takes_a_refusal_for_the_last_word(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, path: str
) -> None:
    """They ask again after an answer that is no JSON: so all that we refuse is JSON."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    await page.goto(pages.put(ARTICLE, document(pinned(service, path, "Not-A-Site"))))
    await comes_true(lambda: any("hitcounter:" in text for text in said), "the script gives up")
    await traffic.settled()
    assert traffic.hits == 1
