"""One browser for all tests; a fresh profile and a fresh web site for each."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.browser import chromium
from tests.browser.counted import Traffic
from tests.browser.editor import Faults
from tests.browser.pages import Pages, serving
from tests.browser.relay import Relay, relaying
from tests.conftest import RunningService, start

_NUMBERS = count(1)
expect.set_options(timeout=60_000)  # a script that gets no answer tries again for some seconds


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Find Chromium."""
    return _required(chromium.find())


def _required(path: str | None) -> str:
    """Skip where a browser is missing, except that CI must not pass without it."""
    missing = chromium.missing_library()
    if path is not None and missing is None:
        return path
    reason = "no chromium on the PATH" if path is None else f"Playwright needs {missing}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium_path: str) -> AsyncIterator[Browser]:
    """Run the one browser of the test session."""
    async with _running(chromium_path) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """Open an empty page with a fresh profile."""
    context = await _visitor(browser)
    yield await context.new_page()
    await context.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def whole_browser() -> AsyncIterator[Browser]:
    """Run the browser that visitors have: the shell forgets pages, and moves the mouse itself."""
    async with _running(_required(chromium.find_whole())) as browser:
        yield browser


@asynccontextmanager
async def _running(path: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await chromium.launch(playwright, path)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page_of_whole_browser(whole_browser: Browser) -> AsyncIterator[Page]:
    """Open an empty page with a fresh profile in the whole browser."""
    context = await _visitor(whole_browser)
    yield await context.new_page()
    await context.close()


async def _visitor(browser: Browser) -> BrowserContext:
    return await browser.new_context(user_agent=chromium.USER_AGENT, locale="vi-VN")


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Run one open service for all tests that neither stop nor configure it."""
    running = start(tmp_path_factory.mktemp("service"), {})
    yield running
    running.stop()
    assert running.process.stdout is not None
    running.process.stdout.close()


@pytest.fixture
def service(shared_service: RunningService) -> RunningService:
    """Give each test a site of its own on the shared service."""
    return replace(shared_service, site=f"demo-{next(_NUMBERS)}")


@pytest_asyncio.fixture(loop_scope="session")
async def traffic(page: Page) -> Traffic:
    """Watch what the visitor's pages ask the counter."""
    return Traffic(page.context)


@pytest_asyncio.fixture(loop_scope="session")
async def faults(page: Page) -> Faults:
    """Watch what goes wrong in the visitor's page."""
    return Faults(page)


@pytest_asyncio.fixture(loop_scope="session")
async def relay(service: RunningService) -> AsyncIterator[Relay]:
    """Run a relay before the service, which can lose answers."""
    async with relaying(service.port, service.site) as running:
        yield running


@pytest.fixture
def pages() -> Iterator[Pages]:
    """Serve a web site on another origin than the counter's."""
    with serving() as site:
        yield site
