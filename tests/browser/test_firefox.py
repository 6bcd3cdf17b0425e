"""The counting rules in another browser than Chromium."""

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.browser import firefox as program
from tests.browser.counted import counted
from tests.browser.editor import SNIPPETS, element
from tests.browser.firefox import Firefox
from tests.browser.pages import Pages, document
from tests.conftest import RunningService
from tests.integration.load import comes_true

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.slow,
    pytest.mark.xdist_group("firefox"),  # one of them is enough
]

ARTICLE = "/tin-tuc/1"
# The last line of each block that is drawn in the sidebar.
LINES = """[...document.querySelectorAll("#sidebar hit-counter, #sidebar div[data-hitcounter]")]
  .map((block) => (block.shadowRoot ?? block).querySelector("section li:last-child")?.textContent)
  .filter(Boolean).join("|")"""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running_firefox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Firefox]:
    """Run one Firefox; where there is none, skip, except that CI must not pass without it."""
    path = program.find()
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no firefox-esr on the PATH")
        pytest.skip("no firefox-esr on the PATH")
    async with program.running(path, tmp_path_factory.mktemp("firefox")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def firefox(running_firefox: Firefox) -> Firefox:
    """Open a tab for the test."""
    await running_firefox.open_tab()
    return running_firefox


def article(snippet: str) -> str:
    """Write a page with a snippet in its sidebar."""
    return document(f'<aside id="sidebar">{snippet}</aside>')


async def shows_once(firefox: Firefox, number: int) -> None:
    """Wait until one block stands in the sidebar and shows this total."""
    await firefox.becomes(LINES, f"Tổng truy cập: {number}")


@pytest.mark.parametrize("kind", SNIPPETS)
async def test_each_page_that_is_opened_counts_once_and_has_its_block(
    service: RunningService, firefox: Firefox, pages: Pages, kind: str
) -> None:
    url = pages.put(ARTICLE, article(SNIPPETS[kind](service)))
    for views in (1, 2):
        await firefox.goto(url)
        await shows_once(firefox, views)
    assert counted(service) == (2, {ARTICLE: 2})


@pytest.mark.parametrize("kind", SNIPPETS)
async def test_changes_of_the_address_count_once_each(
    service: RunningService, firefox: Firefox, pages: Pages, kind: str
) -> None:
    await firefox.goto(pages.put(ARTICLE, article(SNIPPETS[kind](service))))
    await shows_once(firefox, 1)
    await firefox.evaluate("history.pushState(null, '', '/tin-tuc/2')")
    await shows_once(firefox, 2)
    await firefox.traverse(-1)
    await shows_once(firefox, 3)
    await firefox.evaluate("history.replaceState(null, '', '/tin-tuc/3')")
    await shows_once(firefox, 4)
    assert counted(service) == (4, {ARTICLE: 2, "/tin-tuc/2": 1, "/tin-tuc/3": 1})


async def test_a_page_that_the_back_button_brings_back_counts_once(
    service: RunningService, firefox: Firefox, pages: Pages
) -> None:
    await firefox.goto(pages.put(ARTICLE, article(element(service))))
    await shows_once(firefox, 1)
    await firefox.evaluate("window.marker = 'the same document'")
    await firefox.goto(pages.put("/gioi-thieu", document("")))
    await firefox.traverse(-1)
    await shows_once(firefox, 2)
    assert await firefox.evaluate("window.marker") == "the same document"
    assert counted(service) == (2, {ARTICLE: 2})


async def test_the_image_counts_where_scripts_do_not_run_and_only_there(
    service: RunningService, firefox: Firefox, pages: Pages
) -> None:
    image = f"{service.url}/v1/sites/{service.site}/badge.svg?count=1&amp;path={ARTICLE}"
    fallback = f'<noscript><img src="{image}" loading="lazy" alt="Số lượt"/></noscript>'
    url = pages.put(ARTICLE, article(element(service) + fallback))
    await firefox.goto(url)
    await shows_once(firefox, 1)
    # A sandbox without scripts is a page whose visitor does not allow them.
    pages.headers["Content-Security-Policy"] = "sandbox"
    await firefox.goto(url)
    await comes_true(lambda: counted(service).total == 2, "the image counts")
    assert counted(service) == (2, {ARTICLE: 2})
