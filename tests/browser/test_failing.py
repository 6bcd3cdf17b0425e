"""When something fails: the last numbers of the service or nothing, and one line in the console."""

from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.counted import Traffic, counted
from tests.browser.pages import Pages, document, tag
from tests.browser.relay import Relay
from tests.conftest import RunningService, StartService
from tests.support.servers import MortalStore, mortal_store
from tests.support.waiting import comes_true

pytestmark = pytest.mark.asyncio(loop_scope="session")

ARTICLE = "/tin-tuc/1"
ATTEMPTS = 4  # three that count, then one that only reads
OWN_MARKUP = "<p>Tổng: <b data-hitcounter=total>?</b>, trang này: <b data-hitcounter=page>?</b></p>"
# Whatever could move: also what comes after, what is spaced by gaps, and what counts its children.
SURROUNDINGS = """<style>
  main { display: flex; flex-direction: column; gap: 20px; }
  main > p:last-child { color: rgb(1, 2, 3); }
</style><p>Trước</p><!--here--><p>Sau</p>"""
TALL = "<style>body { min-height: 5000px }</style>"
BOXES = """() => [...document.querySelectorAll("p")].map((element) => {
  const { x, y, width, height } = element.getBoundingClientRect();
  return [x, y, width, height, getComputedStyle(element).color];
})"""


async def read_past(page: Page, n_blocks: int) -> None:
    """Read on until blocks without an answer are above, where they go, and come back."""
    await page.evaluate("scrollTo(0, 4000)")
    await expect(page.locator("hit-counter[hidden]")).to_have_count(n_blocks)
    await page.evaluate("scrollTo(0, 0)")


class Console:
    """What the script, rather than the browser, wrote into the console."""

    def __init__(self, page: Page) -> None:
        """Watch a page."""
        self.lines: list[str] = []
        page.on("console", lambda line: self._note(line.text))
        page.on("pageerror", lambda error: self.lines.append(str(error)))

    def _note(self, text: str) -> None:
        if not text.startswith("Failed to load resource"):
            self.lines.append(text)


@pytest_asyncio.fixture(loop_scope="session")
async def console(page: Page) -> Console:
    """Watch the console of the page."""
    return Console(page)


@pytest.mark.slow
async def test_a_page_is_left_alone_when_nobody_answers(
    service: RunningService, page: Page, pages: Pages, relay: Relay, console: Console
) -> None:
    await page.goto(pages.put("/without", document(SURROUNDINGS + OWN_MARKUP, head=TALL)))
    before = await page.evaluate(BOXES)
    body = tag(relay) + tag(relay, 'data-theme="plain"')
    page_of = SURROUNDINGS.replace("<!--here-->", body) + OWN_MARKUP
    relay.faults = ["lose"] * ATTEMPTS
    await page.goto(pages.put(ARTICLE, document(page_of, head=TALL)))
    await page.wait_for_selector("hit-counter", state="attached")
    reserved = await page.evaluate(BOXES)
    await comes_true(lambda: console.lines, "the script gives up")
    assert console.lines == [f"hitcounter: {relay.url}/v1/sites/{relay.site}/hits?labels=both 0"]
    await expect(page.get_by_role("region")).to_have_count(0)
    assert await page.evaluate(BOXES) == reserved  # in sight, nothing moves
    await read_past(page, 2)
    assert await page.evaluate(BOXES) == before
    assert set(await page.locator("b").all_inner_texts()) == {"?"}
    await expect(page.get_by_role("region")).to_have_count(0)


@pytest.mark.slow
async def test_a_place_that_the_page_keeps_for_the_block_is_given_back(
    page: Page, pages: Pages, relay: Relay, console: Console
) -> None:
    style = (
        "<style>hit-counter { display: block; min-height: 200px; margin: 50px 0 }</style>" + TALL
    )
    await page.goto(pages.put("/without", document(SURROUNDINGS, head=style)))
    before = await page.evaluate(BOXES)
    relay.faults = ["lose"] * ATTEMPTS
    body = SURROUNDINGS.replace("<!--here-->", tag(relay))
    await page.goto(pages.put(ARTICLE, document(body, head=style)))
    await page.wait_for_selector("hit-counter", state="attached")
    reserved = await page.evaluate(BOXES)
    assert reserved != before
    await comes_true(lambda: console.lines, "the script gives up")
    assert await page.evaluate(BOXES) == reserved
    await read_past(page, 1)
    assert await page.evaluate(BOXES) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer", ["", "{}", "null", '{"widget": {}}', "<p>502 Bad Gateway</p>", '{"error": 1}']
)
async def test_an_answer_without_numbers_draws_nothing_and_says_so_once(
    answer: str, page: Page, pages: Pages, console: Console
) -> None:
    # This web site is no counter, as when a proxy or a captive portal answers in our place.
    script = resources.files("hitcounter.web").joinpath("static", "widget.js").read_text("utf-8")
    pages.put("/widget.js", script, "text/javascript")
    pages.post_answer = answer
    body = tag(pages) + tag(pages) + OWN_MARKUP
    await page.goto(pages.put(ARTICLE, document(body, head=TALL)))
    await comes_true(lambda: console.lines, "the script gives up")
    await read_past(page, 2)
    assert console.lines == [f"hitcounter: {pages.url}/v1/sites/demo/hits?labels=both 200"]
    assert set(await page.locator("b").all_inner_texts()) == {"?"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attributes", "status"),
    [
        ('data-lang="xx"', 400),
        ('data-site="Không hợp lệ"', 400),
        ('data-site="other"', 404),
        ('data-page="tin-tuc"', 400),
    ],
)
async def test_a_refused_hit_is_sent_once_draws_nothing_and_names_the_status(
    start_service: StartService,
    tmp_path: Path,
    page: Page,
    pages: Pages,
    traffic: Traffic,
    console: Console,
    attributes: str,
    status: int,
) -> None:
    config = tmp_path / "hitcounter.toml"
    config.write_text("[sites.demo]\n")
    service = start_service(config=config)
    await page.goto(pages.put(ARTICLE, document(tag(service, attributes) + OWN_MARKUP)))
    await comes_true(lambda: console.lines, "the script gives up")
    assert [line.rpartition(" ")[2] for line in console.lines] == [str(status)]
    await expect(page.locator("hit-counter[hidden]")).to_have_count(1)  # at once, also in sight
    await traffic.settled()
    assert traffic.hits == 1
    assert counted(service).total == 0


@pytest.mark.slow
async def test_the_numbers_of_the_last_view_stay_and_are_marked_when_the_next_gets_none(
    service: RunningService, page: Page, pages: Pages, relay: Relay, console: Console
) -> None:
    await page.goto(pages.put(ARTICLE, document(tag(relay) + OWN_MARKUP)))
    await expect(page.locator("b")).to_have_text(["1", "1"])
    await expect(page.locator("hit-counter")).to_have_attribute("data-state", "counted")
    relay.faults = ["lose"] * ATTEMPTS
    await page.evaluate("history.pushState(null, '', '/tin-tuc/2')")
    await comes_true(lambda: console.lines, "the script gives up")
    await expect(page.locator("hit-counter")).to_have_attribute("data-state", "stale")
    await expect(page.get_by_role("listitem").last).to_have_text("Tổng truy cập: 1")
    # The other page's own number is nobody's any more.
    await expect(page.locator("b")).to_have_text(["1", ""])
    assert len(console.lines) == 1
    await page.evaluate("history.pushState(null, '', '/tin-tuc/3')")
    await expect(page.get_by_role("listitem").last).to_have_text("Tổng truy cập: 3")
    await expect(page.locator("hit-counter")).to_have_attribute("data-state", "counted")
    await expect(page.locator("b")).to_have_text(["3", "1"])


@pytest.mark.slow
async def test_a_block_that_got_nothing_appears_when_a_later_view_is_answered(
    service: RunningService, page: Page, pages: Pages, relay: Relay, console: Console
) -> None:
    relay.faults = ["gateway"] * ATTEMPTS
    await page.goto(pages.put(ARTICLE, document(tag(relay))))
    await comes_true(lambda: console.lines, "the script gives up")
    await expect(page.get_by_role("region")).to_have_count(0)
    await page.evaluate("history.pushState(null, '', '/tin-tuc/2')")
    await expect(page.get_by_role("listitem").last).to_have_text("Tổng truy cập: 2")


@pytest_asyncio.fixture(loop_scope="session")
async def store(tmp_path: Path) -> AsyncIterator[MortalStore]:
    """Run a store that the test takes away."""
    async with mortal_store(tmp_path / "store") as running:
        yield running


@pytest.mark.slow
async def test_while_the_store_is_away_a_hit_is_shown_as_stored_and_a_read_as_stale(
    start_service: StartService,
    store: MortalStore,
    page: Page,
    pages: Pages,
    traffic: Traffic,
    console: Console,
) -> None:
    service = start_service(redis_url=store.url)
    url = pages.put(ARTICLE, document(tag(service) + OWN_MARKUP))
    await page.goto(url)
    await expect(page.locator("b")).to_have_text(["1", "1"])
    await store.kill()
    await page.goto(url)
    block = page.locator("hit-counter")
    await expect(block).to_have_attribute("data-state", "stored")
    await expect(page.get_by_role("listitem").last).to_have_text("Tổng truy cập: 2")
    await expect(page.locator("b")).to_have_text(["2", "2"])
    reader = document(tag(service, 'data-count="false"'))
    await page.goto(pages.put("/gioi-thieu", reader))
    await expect(block).to_have_attribute("data-state", "stale")
    await expect(page.get_by_role("listitem").last).to_have_text("Tổng truy cập: 2")
    await store.start()
    await comes_true(lambda: store.ask("GET", "hc:{0}:site:demo:total") == b"2", "both are counted")
    assert console.lines == []
