"""The counting rules in another browser than Chromium."""

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from tests.browser import firefox as program
from tests.browser.counted import counted
from tests.browser.editor import SNIPPETS, Snippet
from tests.browser.firefox import Firefox
from tests.browser.pages import Pages, document
from tests.conftest import RunningService
from tests.support.waiting import comes_true

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

ARTICLE = "/tin-tuc/1"
# The last line of each block that is drawn in the sidebar.
LINES = """[...document.querySelectorAll("#sidebar hit-counter, #sidebar div[data-hitcounter]")]
  .map((block) => (block.shadowRoot ?? block).querySelector("section li:last-child")?.textContent)
  .filter(Boolean).join("|")"""

BLOCK = "(document.querySelector('hit-counter, aside div').shadowRoot)"
INK = f"getComputedStyle({BLOCK}.querySelector('h2')).color"
EDGES = f"""new Set([...{BLOCK}.querySelectorAll("[part=number]")]
  .map((number) => Math.round(number.getBoundingClientRect().right))).size"""


@pytest_asyncio.fixture(loop_scope="session")
async def firefox(tmp_path: Path) -> AsyncIterator[Firefox]:
    """Run Firefox; where there is none, skip, except that CI must not pass without it."""
    path = program.find()
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no firefox-esr on the PATH")
        pytest.skip("no firefox-esr on the PATH")
    async with program.running(path, tmp_path) as running:
        yield running


def article(snippet: str) -> str:
    """Write a page with a snippet in its sidebar."""
    return document(f'<aside id="sidebar">{snippet}</aside>')


async def shows_once(firefox: Firefox, number: int) -> None:
    """Wait until one block stands in the sidebar and shows this total."""
    await firefox.becomes(LINES, f"Tổng truy cập: {number}")


async def each_page_that_is_opened_counts_once_and_has_its_block(
    service: RunningService, firefox: Firefox, pages: Pages, snippet: Snippet
) -> None:
    url = pages.put(ARTICLE, article(snippet(service)))
    for views in (1, 2):
        await firefox.goto(url)
        await shows_once(firefox, views)
    assert counted(service) == (2, {ARTICLE: 2})


async def changes_of_the_address_count_once_each(
    service: RunningService, firefox: Firefox, pages: Pages, snippet: Snippet
) -> None:
    await firefox.goto(pages.put(ARTICLE, article(snippet(service))))
    await shows_once(firefox, 1)
    await firefox.evaluate("history.pushState(null, '', '/tin-tuc/2')")
    await shows_once(firefox, 2)
    await firefox.traverse(-1)
    await shows_once(firefox, 3)
    await firefox.evaluate("history.replaceState(null, '', '/tin-tuc/3')")
    await shows_once(firefox, 4)
    assert counted(service) == (4, {ARTICLE: 2, "/tin-tuc/2": 1, "/tin-tuc/3": 1})


async def a_page_that_the_back_button_brings_back_counts_once(
    service: RunningService, firefox: Firefox, pages: Pages, snippet: Snippet
) -> None:
    await firefox.goto(pages.put(ARTICLE, article(snippet(service))))
    await shows_once(firefox, 1)
    await firefox.evaluate("window.marker = 'the same document'")
    await firefox.goto(pages.put("/gioi-thieu", document("")))
    await firefox.traverse(-1)
    await shows_once(firefox, 2)
    assert await firefox.evaluate("window.marker") == "the same document"
    assert counted(service) == (2, {ARTICLE: 2})


async def the_image_counts_where_scripts_do_not_run_and_only_there(
    service: RunningService, firefox: Firefox, pages: Pages, snippet: Snippet
) -> None:
    image = f"{service.url}/v1/sites/{service.site}/badge.svg?count=1&amp;path={ARTICLE}"
    fallback = f'<noscript><img src="{image}" loading="lazy" alt="Số lượt"/></noscript>'
    url = pages.put(ARTICLE, article(snippet(service) + fallback))
    await firefox.goto(url)
    await shows_once(firefox, 1)
    # A sandbox without scripts is a page whose visitor does not allow them.
    pages.headers["Content-Security-Policy"] = "sandbox"
    await firefox.goto(url)
    await comes_true(lambda: counted(service).total == 2, "the image counts")
    assert counted(service) == (2, {ARTICLE: 2})
    del pages.headers["Content-Security-Policy"]


async def the_block_is_drawn_in_its_page(
    service: RunningService, firefox: Firefox, pages: Pages, snippet: Snippet
) -> None:
    style = "width:240px;padding:8px;color:rgb(255, 250, 240);background:#8c1220"
    body = f'<aside id="sidebar" style="{style}">{snippet(service)}</aside>'
    await firefox.goto(pages.put(ARTICLE, document(body)))
    await shows_once(firefox, 1)
    assert await firefox.evaluate(INK) == "rgb(255, 250, 240)"
    assert await firefox.evaluate(EDGES) == 1  # one for all numbers
    drawn = await firefox.screenshot()
    await firefox.evaluate(f"{BLOCK}.host.style.opacity = 0")
    empty = await firefox.screenshot()
    assert drawn.startswith(b"\x89PNG")
    assert len(drawn) > len(empty)


RULES = (
    each_page_that_is_opened_counts_once_and_has_its_block,
    changes_of_the_address_count_once_each,
    a_page_that_the_back_button_brings_back_counts_once,
    the_image_counts_where_scripts_do_not_run_and_only_there,
)


async def test_firefox_keeps_the_rules(
    service: RunningService, firefox: Firefox, pages: Pages
) -> None:
    # One after the other: it takes longer to start than all of them.
    for rule in RULES:
        for kind, snippet in SNIPPETS.items():
            await firefox.open_tab()
            own = replace(service, site=f"{service.site}-{RULES.index(rule)}-{kind}")
            await rule(own, firefox, pages, snippet)
    await the_block_is_drawn_in_its_page(service, firefox, pages, SNIPPETS["element"])
