"""A page whose script rewrites, removes, clones and puts back our elements without end.

Whatever it does, the tab answers, the view counts once, and at the end each place has one block.
"""

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, expect

from tests.browser import chromium
from tests.browser.counted import Counted, counted
from tests.browser.editor import Faults, bare_tag, place, tag_alone
from tests.browser.pages import Pages, document
from tests.conftest import RunningService
from tests.support.waiting import comes_true

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCRIPT = Path(__file__).with_name("hostile.js").read_text("utf-8")
N_BLOCKS = 3
N_AT_ONCE = 10
PATIENCE_MS = 200_000


def hostile_page(service: RunningService, seed: int, duration_s: float) -> str:
    """Write a page with each form of a place, and the script that is after them."""
    parameters = f"{{ seed: {seed}, duration_ms: {duration_s * 1000:.0f} }}"
    attributes = f'data-server="{service.url}" data-site="{service.site}"'
    forms = (
        place(service),
        tag_alone(service),
        f'<div data-hitcounter="block" {attributes}></div>',
        f'<b data-hitcounter="total" {attributes}>…</b>',
    )
    slots = "".join(f'<div class="slot">{form}</div>' for form in forms)
    start = f"<script>window.hostile = {parameters}</script><script src='/hostile.js'></script>"
    return document(slots, head=bare_tag(service)).replace("</body>", f"{start}</body>")


async def visit(context: BrowserContext, url: str) -> list[str]:
    """Stay on a hostile page to its end; return what was thrown."""
    page = await context.new_page()
    faults = Faults(page)
    await page.goto(url, timeout=PATIENCE_MS)
    await page.wait_for_function("window.ended", timeout=PATIENCE_MS)
    regions = page.get_by_role("region")
    await expect(regions).to_have_count(N_BLOCKS)
    for slot in (await page.locator(".slot").all())[:N_BLOCKS]:
        await expect(slot.get_by_role("region")).to_have_count(1)
    await page.close()
    return faults.seen


async def assert_survived(
    browser: Browser, pages: Pages, service: RunningService, seeds: range, duration_s: float
) -> None:
    """Visit a hostile page for each seed, many at once."""
    pages.put("/hostile.js", SCRIPT, "text/javascript")
    context = await browser.new_context(user_agent=chromium.USER_AGENT)
    at_once = asyncio.Semaphore(N_AT_ONCE)

    async def visit_in_turn(url: str) -> list[str]:
        async with at_once:
            return await visit(context, url)

    sites = {seed: f"{service.site}-{seed}" for seed in seeds}
    urls = {
        seed: pages.put(
            f"/{seed}",
            hostile_page(service, seed, duration_s).replace(f'"{service.site}"', f'"{site}"'),
        )
        for seed, site in sites.items()
    }
    thrown = await asyncio.gather(*(visit_in_turn(url) for url in urls.values()))
    await context.close()
    assert dict(zip(seeds, thrown, strict=True)) == {seed: [] for seed in seeds}
    for seed, site in sites.items():
        await comes_true(lambda site=site: counted(service, site).total, f"{site} is counted")  # type: ignore[misc]
        assert counted(service, site) == Counted(1, {f"/{seed}": 1})


async def test_a_hostile_page_keeps_its_view_and_its_blocks(
    service: RunningService, browser: Browser, pages: Pages
) -> None:
    await assert_survived(browser, pages, service, range(1, 4), 2)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_fifty_hostile_pages_keep_their_views_and_their_blocks(
    service: RunningService, browser: Browser, pages: Pages
) -> None:
    await assert_survived(browser, pages, service, range(50), 10)
