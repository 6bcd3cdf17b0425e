"""Draw contact sheets of the block: `make screenshots`, to be looked at.

Two for each theme, with all styles, languages and widths: on white for visitors who prefer light,
and on black for those who prefer dark; and one for each place in which blocks stand on real pages.
"""

import asyncio
import sys
import tempfile
from itertools import product
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from hitcounter.block import LANGUAGES, THEMES
from tests.browser import chromium, sidebars
from tests.browser.pages import Pages, document, serving
from tests.conftest import RunningService, start

WIDTHS_PX = (140, 160, 180, 240, 320)
STYLES = ("list", "line")
PAPERS = {"light": "color:#161c2d;background:#fff", "dark": "color:#e8ebf4;background:#11151f"}
BASELINES = {
    "seven": (1130, 5318, 179_278, 970_736, 1_619_939),
    "nine": (11_290, 15_318, 1_792_770, 97_073_500, 123_619_943),
}
HEAD = """<style>body { font: 14px/1.5 "Noto Sans", "Liberation Sans", sans-serif; margin: 0 }
  h1 { font-size: 14px; margin: 0; padding: 8px } main > div { padding: 8px }
  .row { display: flex; gap: 20px; align-items: start; margin: 8px 0 } .row > * { flex: none }
  .w { outline: 1px dashed #8888 }</style>"""
READY = "() => [...document.querySelectorAll('hit-counter')].every((e) => e.dataset.state)"


def carry_over(service: RunningService) -> None:
    """Give the service the numbers that the sheets show."""
    keys = ("today", "yesterday", "month", "year", "total")
    for site, numbers in BASELINES.items():
        options = [f"--{key}={number}" for key, number in zip(keys, numbers, strict=True)]
        service.run("baseline", site, *options)


def themed(service: RunningService, theme: str, scheme: str) -> str:
    """Write a page with everything in one theme."""
    rows = []
    for lang, style, site in product(LANGUAGES, STYLES, BASELINES):
        look = f'theme="{theme}" lang="{lang}" data-style="{style}"'
        place = f'<hit-counter site="{site}" count="false" {look}></hit-counter>'
        columns = "".join(f'<div class="w" style="width:{px}px">{place}</div>' for px in WIDTHS_PX)
        rows.append(f'<div style="{PAPERS[scheme]}"><div class="row">{columns}</div></div>')
    script = f'<script async src="{service.url}/widget.js"></script>'
    return document("".join(rows) + script, head=HEAD)


def surrounded(service: RunningService, name: str) -> str:
    """Write a page with the block in the styles of another."""
    title = ' data-title=""' if name in sidebars.TITLED_BOXES else ""
    place = f'<hit-counter site="seven" count="false"{title}></hit-counter>'
    head, body = sidebars.surrounded(name, place)
    script = f'<script async src="{service.url}/widget.js"></script>'
    return document(body + script, head=head)


async def draw(browser: Browser, url: str, path: Path, scheme: str, width: int = 1180) -> None:
    """Take a picture of a page when all its blocks have numbers."""
    page = await browser.new_page(
        user_agent=chromium.USER_AGENT,
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": 300},
    )
    await page.goto(url)
    await page.wait_for_function(READY)
    await page.screenshot(path=path, full_page=True)
    await page.close()


async def draw_all(service: RunningService, pages: Pages, directory: Path, path: str) -> None:
    """Draw all sheets."""
    async with async_playwright() as playwright:
        browser = await chromium.launch(playwright, path)
        for theme, scheme in product(THEMES, PAPERS):
            url = pages.put(f"/{theme}-{scheme}", themed(service, theme, scheme))
            await draw(browser, url, directory / f"{theme}-{scheme}.png", scheme)
        for n, name in enumerate(sidebars.NAMES):
            url = pages.put(f"/{n}", surrounded(service, name))
            file = f"in-{name.replace(' ', '-')}.png"
            await draw(browser, url, directory / file, "dark", 960)
        await browser.close()


def main() -> None:
    """Run the service and a web site, then the browser."""
    path = chromium.find()
    if path is None:
        sys.exit("no chromium on the PATH")
    sheets = Path(sys.argv[1])
    sheets.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hitcounter-") as directory, serving() as pages:
        service = start(Path(directory), {})
        try:
            carry_over(service)
            asyncio.run(draw_all(service, pages, sheets, path))
        finally:
            service.stop()


if __name__ == "__main__":
    main()
