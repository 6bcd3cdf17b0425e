"""Every snippet of the docs, pasted into a page of another origin as it stands there."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser import chromium
from tests.browser.counted import Traffic, counted
from tests.browser.pages import Pages, document
from tests.conftest import RunningService, start
from tests.support.waiting import comes_true

ROOT = Path(__file__).parents[2]
TEXTS = [(ROOT / "docs" / name).read_text("utf-8") for name in ("embedding.md", "nhung-ma.md")]
README = (ROOT / "README.md").read_text("utf-8")
COUNTER = "https://dem.example.vn"
ARTICLE = "/tin-tuc/1"
VIOLATIONS = """addEventListener("securitypolicyviolation", (event) => {
  (window.violations ??= []).push(`${event.violatedDirective} ${event.blockedURI}`);
});"""
BAO, LHH = "bao.example.vn", "lhh.example.vn"


def snippets(language: str) -> dict[str, str]:
    """Find the snippets in a language, by their headings."""
    found: dict[str, str] = {}
    for section in "".join(TEXTS).split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        for n, match in enumerate(re.findall(rf"```{language}\n(.*?)```", body, re.DOTALL)):
            found[heading + (f" ({n + 1})" if n else "")] = match
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a snippet shows: the lines of its blocks in order, and its single numbers."""

    blocks: Sequence[list[str]] = ()
    numbers: Sequence[str] = ()
    title: str = "Số lượt truy cập"


TODAY, MONTH, YEAR = "Trong ngày: 1", "Trong tháng: 1", "Trong năm: 1"
YESTERDAY, TOTAL = "Hôm qua: 0", "Tổng truy cập: 1"
FIVE = [TODAY, YESTERDAY, MONTH, YEAR, TOTAL]
NONE = [re.sub(r"\d", "0", line) for line in FIVE]
OUTCOMES = {
    "Place and tag": Outcome([FIVE]),
    "Place and tag (2)": Outcome([FIVE]),
    "Content management systems": Outcome([[TODAY, MONTH, TOTAL]]),
    "The tag alone": Outcome([FIVE]),
    "The tag alone (2)": Outcome([FIVE]),
    "Numbers in your own markup": Outcome(numbers=["1", "1", "0", "1", "1", "1"]),
    "Numbers in your own markup (2)": Outcome([FIVE], ["0", "0"]),
    "Numbers in your own markup (3)": Outcome(numbers=["1"]),
    "Applications that change the page themselves": Outcome(),
    "Visitors without scripts": Outcome([FIVE]),
    "Pages where no script can stand": Outcome(),
    "Feeds and mails": Outcome(),
    "Several sites on a page": Outcome(
        [FIVE, NONE, ["Trong tháng: 7", "Tổng truy cập: 70"]], ["70"]
    ),
    "A page that never moves": Outcome([FIVE]),
    "Events for your own scripts": Outcome([FIVE]),
    "Hai thẻ": Outcome([FIVE]),
    "Trình soạn thảo xóa thẻ lạ": Outcome([FIVE]),
    "Số lượt xem của bài": Outcome([FIVE], ["1"]),
    "Chọn dòng, ngôn ngữ, giao diện": Outcome([[TODAY, MONTH, TOTAL]]),
    "Người đọc tắt script": Outcome([FIVE]),
}
SNIPPETS = snippets("html")
SITES = [f"demo-{n}" for n in range(2 * len(OUTCOMES))]


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Start a service that knows which host is its sites' own."""
    directory = tmp_path_factory.mktemp("service")
    config = directory / "hitcounter.toml"
    sites = "".join(f'[sites.{name}]\norigins = ["127.0.0.1"]\n' for name in SITES)
    config.write_text(f'{sites}[sites."{LHH}"]\n[sites."{BAO}"]\n')
    running = start(directory, {"config": config})
    running.run("baseline", BAO, "--month", "7", "--year", "7", "--total", "70")
    yield running
    running.stop()
    assert running.process.stdout is not None
    running.process.stdout.close()


@pytest.fixture(scope="module")
def sites() -> Iterator[str]:
    """Name sites that no other test uses."""
    return iter(SITES)


@pytest.fixture
def service(documented: RunningService, sites: Iterator[str]) -> RunningService:
    """Give each test a site of its own."""
    return replace(documented, site=next(sites))


def put_in(service: RunningService, text: str) -> str:
    """Write a page with what a text says to paste, for this service and its site."""
    return document(re.sub(r"\bdemo\b", service.site, text.replace(COUNTER, service.url)))


def publish(pages: Pages, service: RunningService, heading: str) -> str:
    """Put a page with a snippet on the web site."""
    return pages.put(ARTICLE, put_in(service, SNIPPETS[heading]))


def test_every_snippet_is_run() -> None:
    assert SNIPPETS.keys() == OUTCOMES.keys()
    assert snippets("http").keys() == {"Content security policy"}


def test_every_snippet_is_xml() -> None:
    """Templates of Blogger and Odoo take nothing else."""
    for snippet in (*SNIPPETS.values(), *re.findall(r"```html\n(.*?)```", README, re.DOTALL)):
        ElementTree.fromstring(f"<body>{snippet}</body>")  # noqa: S314 -- it is ours


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("heading", OUTCOMES)
async def test_a_snippet_does_what_the_text_says(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, heading: str
) -> None:
    outcome = OUTCOMES[heading]
    await page.goto(publish(pages, service, heading))
    blocks = page.locator("hit-counter, [data-hitcounter=block]")
    await expect(blocks).to_have_count(len(outcome.blocks))
    for n, lines in enumerate(outcome.blocks):
        region = blocks.nth(n).get_by_role("region", name=outcome.title)
        await expect(region.get_by_role("listitem")).to_have_text(lines)
    numbers = page.locator("[data-hitcounter]:not([data-hitcounter=block])")
    await expect(numbers).to_have_text(outcome.numbers)
    await comes_true(lambda: counted(service).total, "the hit is counted")
    await traffic.settled()
    assert counted(service) == (1, {ARTICLE: 1})
    assert counted(service, LHH).total == 0
    assert counted(service, BAO).total == 70


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="session")
async def test_all_that_the_readme_has_on_one_page_is_one_block_and_counts_once(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    found = re.findall(r"```html\n(.*?)```", README, re.DOTALL)
    assert len(found) == 3
    await page.goto(pages.put(ARTICLE, put_in(service, "".join(found))))
    await expect(page.get_by_role("listitem")).to_have_text(FIVE)
    await expect(page.locator("[data-hitcounter]")).to_have_text(["1", "1"])
    await expect(page.get_by_role("img")).to_have_count(0)
    await traffic.settled()
    assert counted(service) == (1, {ARTICLE: 1})


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="session")
async def test_the_application_counts_each_path_and_fills_what_it_shows(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    await page.goto(publish(pages, service, "Applications that change the page themselves"))
    await comes_true(lambda: counted(service).total == 1, "the first view is counted")
    regions = page.get_by_role("region")
    await expect(regions).to_have_count(0)
    for n, path in ((2, "/tin-tuc/2"), (3, "/tin-tuc/3")):
        await page.evaluate("path => show(path)", path)
        await expect(regions).to_have_count(1)
        await expect(page.get_by_role("listitem").nth(-1)).to_have_text(f"Tổng truy cập: {n}")
        await expect(page.locator("b")).to_have_text("1")
    await traffic.settled()
    assert traffic.hits == 3
    assert counted(service) == (3, {ARTICLE: 1, "/tin-tuc/2": 1, "/tin-tuc/3": 1})


@pytest.mark.asyncio(loop_scope="session")
async def test_a_visitor_without_scripts_is_counted_once_and_sees_the_image(
    service: RunningService, browser: Browser, pages: Pages
) -> None:
    context = await browser.new_context(user_agent=chromium.USER_AGENT, java_script_enabled=False)
    page = await context.new_page()
    await page.goto(publish(pages, service, "Visitors without scripts"))
    image = page.get_by_role("img", name="Số lượt truy cập")
    await expect(image).to_be_visible()
    written, natural = await image.evaluate(
        """image => image.decode().then(() =>
          [[image.width, image.height], [image.naturalWidth, image.naturalHeight]])"""
    )
    assert written == natural
    await context.close()
    assert counted(service) == (1, {ARTICLE: 1})


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="session")
async def test_the_policy_admits_the_tag_and_the_images(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    name, _, policy = snippets("http")["Content security policy"].strip().partition(": ")
    pages.headers[name] = policy.replace(COUNTER, service.url)
    await page.add_init_script(VIOLATIONS)
    both = SNIPPETS["Place and tag"] + SNIPPETS["Feeds and mails"]
    await page.goto(pages.put(ARTICLE, put_in(service, both)))
    await expect(page.get_by_role("region")).to_be_visible()
    await comes_true(lambda: counted(service).total == 2, "script and pixel have counted")
    assert await page.evaluate("window.violations ?? []") == []


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="session")
async def test_a_page_hears_of_the_numbers(
    service: RunningService, page: Page, pages: Pages
) -> None:
    await page.goto(publish(pages, service, "Events for your own scripts"))
    await expect(page.locator("body")).to_have_attribute("data-views", "1")
