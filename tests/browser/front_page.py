"""Draw the pictures of the README anew: `make screenshots`.

They show the numbers of a real page of 19 April 2019, by a real service in a real browser.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

from tests.browser import chromium
from tests.conftest import RunningService, start

PICTURES = Path(__file__).parents[2] / "docs" / "images"
# One less than the page showed, as opening the front page is a hit.
BASELINE = (
    *("baseline", "demo", "--today", "1128", "--yesterday", "5318", "--month", "179276"),
    *("--year", "970734", "--total", "1619937"),
)
# What the pictures name, instead of a port that the system picked; a copy button needs https.
ADDRESS = "http://dem.example.vn"
SHOWN = "#json:not([hidden])"
# The width of a sidebar; no background, so that the corners stay round on any page.
SIDEBAR = "html, body { background: none !important; } #samples { width: 17rem; }"
# As the widget does it, since the page allows no other styles.
ADD_STYLE = """css => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  document.adoptedStyleSheets.push(sheet);
}"""


async def open_page(
    browser: Browser, service: RunningService, scheme: str, width: int, height: int
) -> Page:
    """Open the front page, which counts one hit."""
    service.run(*BASELINE)
    page = await browser.new_page(
        user_agent=chromium.USER_AGENT,
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": height},
        device_scale_factor=2,
    )
    await page.goto(ADDRESS)
    await page.wait_for_selector(SHOWN)
    return page


async def draw(service: RunningService, path: str) -> None:
    """Take all pictures."""
    arguments = (
        *chromium.ARGUMENTS,
        f"--host-resolver-rules=MAP dem.example.vn 127.0.0.1:{service.port}",
        f"--unsafely-treat-insecure-origin-as-secure={ADDRESS}",
    )
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(arguments))
        for scheme, name in (("light", "block"), ("dark", "block-dark")):
            page = await open_page(browser, service, scheme, 640, 800)
            await page.evaluate(ADD_STYLE, SIDEBAR)
            block = page.locator("hit-counter[theme=auto]").get_by_role("region")
            await block.screenshot(path=PICTURES / f"{name}.png", omit_background=True)
        page = await open_page(browser, service, "light", 800, 1200)
        await page.screenshot(path=PICTURES / "front-page.png")
        page = await open_page(browser, service, "dark", 320, 640)
        await page.screenshot(path=PICTURES / "front-page-phone.png")
        badge = await page.request.get(f"{service.url}/v1/sites/demo/badge.svg")
        (PICTURES / "badge.svg").write_bytes(await badge.body())
        await browser.close()


def main() -> None:
    """Run the service, then the browser."""
    path = chromium.find()
    if path is None:
        sys.exit("no chromium on the PATH")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hitcounter-") as directory:
        service = start(Path(directory), {})
        try:
            asyncio.run(draw(service, path))
        finally:
            service.stop()


if __name__ == "__main__":
    main()
