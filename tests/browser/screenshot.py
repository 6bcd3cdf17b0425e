"""Draw docs/images/block.png anew: `.venv/bin/python -m tests.browser.screenshot`.

It shows the numbers of a real page of 19 April 2019, by a real service in a real browser.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

from tests.browser import chromium
from tests.conftest import start

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "block.png"
# One less than the page showed, as taking the picture is a hit.
BASELINE = (
    *("baseline", "demo", "--today", "1128", "--yesterday", "5318", "--month", "179276"),
    *("--year", "970734", "--total", "1619937"),
)
# The width of a sidebar; no background, so that the corners stay round on any page.
SIDEBAR = "body { background: none; } hit-counter { width: 17rem; }"


async def draw(url: str, path: str) -> None:
    """Take the picture of the block on the front page."""
    async with async_playwright() as playwright:
        browser = await chromium.launch(playwright, path)
        page = await browser.new_page(user_agent=chromium.USER_AGENT, device_scale_factor=2)
        await page.goto(url)
        block = page.get_by_role("region", name="Số lượt truy cập")
        await block.wait_for()
        await page.add_style_tag(content=SIDEBAR)
        await block.screenshot(path=PICTURE, omit_background=True)
        await browser.close()


def main() -> None:
    """Run the service, then the browser."""
    path = chromium.find()
    if path is None:
        sys.exit("no chromium on the PATH")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hitcounter-") as directory:
        service = start(Path(directory), {})
        try:
            service.run(*BASELINE)
            asyncio.run(draw(service.url, path))
        finally:
            service.stop()


if __name__ == "__main__":
    main()
