"""Pages that stand elsewhere than they were made: on a disk, at a translator's.

A saved copy shows numbers at most. What it asks is read from the socket.
"""

from importlib import resources
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.browser.counted import Traffic, counted
from tests.browser.editor import SNIPPETS, Faults, shows_once
from tests.browser.pages import Pages, document
from tests.browser.relay import Relay
from tests.conftest import RunningService, StartService

pytestmark = pytest.mark.asyncio(loop_scope="session")

OWNER = "Nguyen"  # what nobody may learn from a path on a disk
NUMBERS = '<p>Lượt xem: <b data-hitcounter="page">…</b></p>'


def saved(snippet: str) -> str:
    """Write a page as a browser saves it."""
    return document(f'<aside id="sidebar">{snippet}</aside>{NUMBERS}')


def assert_only_read(relay: Relay, service: RunningService) -> None:
    """Check that whatever came from a saved copy was a read without a path."""
    for request in relay.received:
        assert request.startswith(b"GET ")
        assert OWNER.encode() not in request
        assert b"path=" not in request.partition(b"\r\n")[0]
    assert counted(service) == (0, {})


@pytest.mark.parametrize("kind", SNIPPETS)
async def test_a_page_that_is_opened_from_a_disk_counts_nothing_and_tells_no_path(
    service: RunningService,
    page: Page,
    relay: Relay,
    traffic: Traffic,
    faults: Faults,
    tmp_path: Path,
    kind: str,
) -> None:
    folder = tmp_path / f"{OWNER} Van A"
    folder.mkdir()
    (folder / "trang.html").write_text(saved(SNIPPETS[kind](relay)))
    await page.goto((folder / "trang.html").as_uri(), wait_until="load")
    await page.wait_for_load_state("networkidle")
    await page.evaluate("history.replaceState(null, '', '#b')")
    await traffic.settled()
    assert_only_read(relay, service)
    assert faults.seen == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", SNIPPETS)
async def test_a_page_that_was_saved_with_its_scripts_counts_nothing_and_tells_no_path(
    service: RunningService,
    page: Page,
    relay: Relay,
    traffic: Traffic,
    faults: Faults,
    tmp_path: Path,
    kind: str,
) -> None:
    folder = tmp_path / f"{OWNER} Van A"
    folder.mkdir()
    script = resources.files("hitcounter.web").joinpath("static", "widget.js").read_text("utf-8")
    (folder / "widget.js").write_text(script)
    html = saved(SNIPPETS[kind](relay)).replace(f"{relay.url}/widget.js", "widget.js")
    (folder / "trang.html").write_text(html)
    await page.goto((folder / "trang.html").as_uri(), wait_until="load")
    await page.wait_for_load_state("networkidle")
    await traffic.settled()
    assert_only_read(relay, service)
    assert faults.seen == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", SNIPPETS)
@pytest.mark.parametrize("scheme", ["blob", "about"])
async def test_a_page_without_an_address_of_the_web_counts_nothing(
    service: RunningService,
    page: Page,
    pages: Pages,
    relay: Relay,
    traffic: Traffic,
    faults: Faults,
    scheme: str,
    kind: str,
) -> None:
    html = saved(SNIPPETS[kind](relay))
    if scheme == "blob":
        await page.goto(pages.put(f"/{OWNER}", document("")))
        make = "html => URL.createObjectURL(new Blob([html], { type: 'text/html' }))"
        url = await page.evaluate(make, html)
        async with page.context.expect_page() as opening:
            await page.evaluate("url => { open(url) }", url)
        await (await opening.value).wait_for_load_state("networkidle")
    else:
        await page.set_content(html)
    await page.wait_for_load_state("networkidle")
    await traffic.settled()
    assert_only_read(relay, service)
    assert faults.seen == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", SNIPPETS)
async def test_a_page_at_a_translator_s_shows_the_numbers_that_it_may_not_count(
    start_service: StartService,
    page: Page,
    pages: Pages,
    traffic: Traffic,
    faults: Faults,
    tmp_path: Path,
    kind: str,
) -> None:
    config = tmp_path / "hitcounter.toml"
    config.write_text('[sites.demo]\norigins = ["https://www.example.vn"]\n')
    service = start_service(config=config)
    service.run("baseline", "demo", "--total", "7")
    url = pages.put(
        "/tin-tuc/1", document(f'<aside id="sidebar">{SNIPPETS[kind](service)}</aside>')
    )
    await page.goto(url)
    await shows_once(page, 7)
    await traffic.settled()
    assert counted(service).total == 7
    assert [line.partition(" ")[0] for line in traffic.asked] == ["POST", "GET"]
