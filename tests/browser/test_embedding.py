"""Every snippet of the docs, pasted into a page of another origin as it stands there."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser import chromium
from tests.browser.counted import Traffic, counted
from tests.browser.pages import Pages, document
from tests.conftest import RunningService, StartService
from tests.integration.load import comes_true

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "embedding.md").read_text("utf-8")
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
    for section in TEXT.split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        for n, match in enumerate(re.findall(rf"```{language}\n(.*?)```", body, re.DOTALL)):
            found[heading + (f" ({n + 1})" if n else "")] = match
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a snippet shows: the lines of its blocks in order, the texts of its places."""

    blocks: Sequence[list[str]] = ()
    places: Sequence[str] = ()
    title: str = "Số lượt truy cập"


TODAY, MONTH, YEAR = "Trong ngày: 1", "Trong tháng: 1", "Trong năm: 1"
YESTERDAY, TOTAL = "Hôm qua: 0", "Tổng truy cập: 1"
FIVE = [TODAY, YESTERDAY, MONTH, YEAR, TOTAL]
NONE = [re.sub(r"\d", "0", line) for line in FIVE]
OUTCOMES = {
    "The tag": Outcome([FIVE]),
    "The sidebar of a content management system": Outcome([[TODAY, MONTH, TOTAL]]),
    "The sidebar of a content management system (2)": Outcome([FIVE]),
    "An element instead of a tag": Outcome([["Today: 1", "Total: 1"]], title="Visits"),
    "Your own markup": Outcome([FIVE], ["1", "1", "0", "1", "1", "1"]),
    "Single-page applications": Outcome([FIVE]),
    "Visitors without scripts": Outcome([FIVE]),
    "Feeds and mails": Outcome(),
    "Several sites on a page": Outcome(
        [FIVE, NONE, ["Trong tháng: 7", "Tổng truy cập: 70"]], ["70"]
    ),
    "A page that never moves": Outcome([FIVE]),
}
SNIPPETS = snippets("html")


@pytest.fixture
def service(start_service: StartService, tmp_path: Path, pages: Pages) -> RunningService:
    """Start a service that knows which origin is the site's own."""
    config = tmp_path / "hitcounter.toml"
    config.write_text(
        f'[sites.demo]\norigins = ["{pages.url}"]\n[sites."{LHH}"]\n[sites."{BAO}"]\n'
    )
    service = start_service(config=config)
    service.run("baseline", BAO, "--month", "7", "--year", "7", "--total", "70")
    return service


def publish(pages: Pages, service: RunningService, heading: str) -> str:
    """Put a page with a snippet on the web site."""
    return pages.put(ARTICLE, document(SNIPPETS[heading].replace(COUNTER, service.url)))


def test_every_snippet_is_run() -> None:
    assert SNIPPETS.keys() == OUTCOMES.keys()
    assert snippets("http").keys() == {"Content security policy"}


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("heading", OUTCOMES)
async def test_a_snippet_does_what_the_text_says(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, heading: str
) -> None:
    outcome = OUTCOMES[heading]
    await page.goto(publish(pages, service, heading))
    blocks = page.locator("hit-counter")
    await expect(blocks).to_have_count(len(outcome.blocks))
    for n, lines in enumerate(outcome.blocks):
        region = blocks.nth(n).get_by_role("region", name=outcome.title)
        await expect(region.get_by_role("listitem")).to_have_text(lines)
    await expect(page.locator("[data-hitcounter]")).to_have_text(outcome.places)
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
    await page.goto(pages.put(ARTICLE, document("".join(found).replace(COUNTER, service.url))))
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
    await page.goto(publish(pages, service, "Single-page applications"))
    regions = page.get_by_role("region")
    await expect(regions).to_have_count(1)
    for n, path in ((2, "/tin-tuc/2"), (3, "/tin-tuc/3")):
        await page.evaluate("path => show(path)", path)
        await expect(regions).to_have_count(2)
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
    both = SNIPPETS["The tag"] + SNIPPETS["Feeds and mails"]
    await page.goto(pages.put(ARTICLE, document(both.replace(COUNTER, service.url))))
    await expect(page.get_by_role("region")).to_be_visible()
    await comes_true(lambda: counted(service).total == 2, "script and pixel have counted")
    assert await page.evaluate("window.violations ?? []") == []
