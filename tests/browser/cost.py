"""Measure what the tag costs the main thread: `.venv/bin/python -m tests.browser.cost`.

The time in the script, and in what it calls, is told by V8's profiler. The time for styles and
layout is what an article with the tag takes more than the same article without it. All are medians
of many views; once as fast as the machine is, and once slowed down as developers' tools imitate a
cheap phone.
"""

import asyncio
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from playwright.async_api import Browser, async_playwright

from tests.browser import chromium
from tests.browser.pages import Pages, document, serving, tag
from tests.conftest import RunningService, start

VIEWS = 40
SLOWER = (1, 6)
ARTICLE = "<p>Một đoạn văn của bài viết, như trang nào cũng có.</p>" * 200
SCRIPT = "/widget.js"
HITS = "**/hits?*"
IDLE = "new Promise((r) => requestAnimationFrame(() => requestIdleCallback(() => r(0))))"
LAYOUT = ("LayoutDuration", "RecalcStyleDuration")
SAMPLE_EVERY_US = 50


def script_ms(profile: dict[str, Any]) -> float:
    """Sum up the samples in the script and in what it called."""
    ours: set[int] = set()
    for node in profile["nodes"]:  # parents come before their children
        if node["id"] in ours or node["callFrame"]["url"].endswith(SCRIPT):
            ours.update((node["id"], *node.get("children", ())))
    samples = zip(profile["samples"], profile["timeDeltas"], strict=True)
    return float(sum(delta_us for node, delta_us in samples if node in ours)) / 1000


async def view(browser: Browser, url: str, slower: int, has_tag: bool) -> tuple[float, float]:
    """Open a page in a fresh profile; tell the milliseconds in the script, and for layout."""
    context = await browser.new_context(user_agent=chromium.USER_AGENT)
    page = await context.new_page()
    session = await context.new_cdp_session(page)
    await session.send("Emulation.setCPUThrottlingRate", {"rate": slower})
    await session.send("Performance.enable")
    await session.send("Profiler.enable")
    await session.send("Profiler.setSamplingInterval", {"interval": SAMPLE_EVERY_US})
    await session.send("Profiler.start")
    if has_tag:
        async with page.expect_response(HITS) as answered:
            await page.goto(url)
        await (await answered.value).finished()
    else:
        await page.goto(url)
    await page.evaluate(IDLE)
    profile = (await session.send("Profiler.stop"))["profile"]
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    await context.close()
    layout_s = sum(metric["value"] for metric in metrics if metric["name"] in LAYOUT)
    return script_ms(profile), layout_s * 1000


def medians(views: Iterable[tuple[float, float]]) -> list[float]:
    """Give the medians of both times."""
    return [median(times) for times in zip(*views, strict=True)]


async def measure(service: RunningService, pages: Pages, path: str) -> None:
    """Open both pages in turn, and tell what the tag costs."""
    with_tag = pages.put("/with", document(tag(service) + ARTICLE))
    without = pages.put("/without", document(ARTICLE))
    async with async_playwright() as playwright:
        browser = await chromium.launch(playwright, path)
        for slower in SLOWER:
            views: dict[str, list[tuple[float, float]]] = {with_tag: [], without: []}
            for _ in range(VIEWS):
                for url, times in views.items():
                    times.append(await view(browser, url, slower, has_tag=url == with_tag))
            (script, layout), (_, base) = medians(views[with_tag]), medians(views[without])
            costs = f"script {script:.1f} ms, styles and layout {layout - base:.1f} ms"
            sys.stdout.write(f"slowed down {slower}x: {costs}\n")
        await browser.close()


def main() -> None:
    """Run the service, the web site, then the browser."""
    path = chromium.find()
    if path is None:
        sys.exit("no chromium on the PATH")
    with tempfile.TemporaryDirectory(prefix="hitcounter-") as directory, serving() as pages:
        service = start(Path(directory), {})
        try:
            asyncio.run(measure(service, pages, path))
        finally:
            service.stop()


if __name__ == "__main__":
    main()
