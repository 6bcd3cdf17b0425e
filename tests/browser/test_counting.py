"""How many hits a visitor's browser sends; the counters in the store are the witness."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.counted import Traffic, counted
from tests.browser.pages import Pages, document, tag
from tests.browser.relay import Fault, Relay
from tests.browser.visitor import visiting
from tests.conftest import RunningService
from tests.support.waiting import comes_true

pytestmark = pytest.mark.asyncio(loop_scope="session")

ARTICLE = "/tin-tuc/1"
VIEWS = "<p>Số lượt xem: <b data-hitcounter=page>?</b></p>"
WIDGET = "/widget.js"
# Whatever a page of another kind does after it was loaded.
NAVIGATIONS = {
    "pushState": "history.pushState(null, '', '/tin-tuc/2')",
    "replaceState": "history.replaceState(null, '', '/tin-tuc/2?trang=1')",
    "a captured pushState": "History.prototype.pushState.call(history, null, '', '/tin-tuc/2');"
    " dispatchEvent(new PopStateEvent('popstate'))",
}
# What replaces the address before then is a redirect.
IS_LOADED = """performance.timing.loadEventEnd
    && Date.now() > performance.timing.loadEventEnd + 1000"""
SAME_PAGE = {
    "a fragment": "location.hash = 'binh-luan'",
    "pushState of a fragment": "history.pushState({}, '', '#binh-luan')",
    "pushState of a query": "history.pushState({}, '', '?trang=2')",
    "replaceState of the state": "history.replaceState({ y: 120 }, '')",
    "a slash at the end": f"history.replaceState(null, '', '{ARTICLE}/')",
}


def total(page: Page) -> Locator:
    """Find the last line of the first block."""
    return page.get_by_role("region").first.get_by_role("listitem").last


async def shows(page: Page, number: int) -> None:
    """Wait until the block shows a total."""
    await expect(total(page)).to_have_text(f"Tổng truy cập: {number}")


async def test_every_view_of_a_page_counts_one_hit(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    url = pages.put(ARTICLE, document(tag(service)))
    for views in (1, 2, 3):
        await page.goto(url)
        await shows(page, views)
    assert traffic.asked == ["POST hits?labels=both"] * 3
    assert counted(service) == (3, {ARTICLE: 3})


@pytest.mark.slow
async def test_a_visitor_who_leaves_at_once_is_counted(
    service: RunningService, page: Page, pages: Pages
) -> None:
    pages.put("/gioi-thieu", document(""))
    leaving = tag(service).replace("async ", "async onload=\"location = '/gioi-thieu'\" ")
    await page.goto(pages.put(ARTICLE, document(leaving)))
    await page.wait_for_url("**/gioi-thieu")
    await comes_true(lambda: counted(service).total, "the hit is counted")
    assert counted(service) == (1, {ARTICLE: 1})


@pytest.mark.slow
async def test_tags_elements_and_placeholders_of_a_page_count_one_hit_together(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    element = f'<hit-counter site="{service.site}" theme="dark"></hit-counter>'
    body = f"{tag(service)}{VIEWS}{element}{tag(service)}{VIEWS}{element}"
    await page.goto(pages.put(ARTICLE, document(body, head=tag(service))))
    regions = page.get_by_role("region")
    await expect(regions).to_have_count(4)
    for n in range(4):
        line = regions.nth(n).get_by_role("listitem").last
        await expect(line).to_have_text("Tổng truy cập: 1")
    await expect(page.locator("[data-hitcounter]")).to_have_text(["1", "1"])
    await traffic.settled()
    assert traffic.asked == ["POST hits?labels=both"]
    assert counted(service) == (1, {ARTICLE: 1})


@pytest.mark.slow
async def test_the_script_under_both_of_its_addresses_counts_one_hit(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    front_page = await (await page.request.get(service.url)).text()
    pinned = re.search(r"/widget-[0-9a-f]+\.js", front_page)
    assert pinned is not None
    plain = tag(service)
    body = plain + plain.replace(WIDGET, pinned[0]) + plain.replace(WIDGET, f"{WIDGET}?v=2")
    await page.goto(pages.put(ARTICLE, document(body)))
    await expect(page.get_by_role("region")).to_have_count(3)
    await traffic.settled()
    assert traffic.hits == 1
    assert counted(service).total == 1


@pytest.mark.slow
async def test_a_script_that_is_added_later_joins_the_view_that_was_counted(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    await page.goto(pages.put(ARTICLE, document(tag(service))))
    await shows(page, 1)
    await page.evaluate(
        """([src, site]) => {
          const script = document.createElement("script");
          script.dataset.site = site;
          script.src = src;
          document.querySelector("main").append(script);
        }""",
        [f"{service.url}{WIDGET}", service.site],
    )
    second = page.get_by_role("region").nth(1)
    await expect(second.get_by_role("listitem").last).to_have_text("Tổng truy cập: 1")
    assert traffic.asked == ["POST hits?labels=both"]
    assert counted(service).total == 1


async def test_showing_only_counts_nothing(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    service.run("baseline", service.site, "--total", "1619938", "--page", f"{ARTICLE}=210")
    attributes = 'data-count="false"'
    await page.goto(pages.put(ARTICLE, document(tag(service, attributes) + VIEWS)))
    await expect(total(page)).to_have_text("Tổng truy cập: 1.619.938")
    await expect(page.locator("[data-hitcounter]")).to_have_text("210")
    await expect(page.locator("hit-counter")).to_have_attribute("data-state", "fresh")
    await traffic.settled()
    assert traffic.asked == [f"GET counts?labels=both&path={ARTICLE.replace('/', '%2F')}"]
    assert counted(service) == (1619938, {ARTICLE: 210})


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, -1])
async def test_a_block_that_only_shows_never_falls_behind_one_that_counts(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, order: int
) -> None:
    tags = [tag(service, 'data-count="false"'), tag(service)]
    await page.goto(pages.put(ARTICLE, document("".join(tags[::order]))))
    for n in range(2):
        line = page.get_by_role("region").nth(n).get_by_role("listitem").last
        await expect(line).to_have_text("Tổng truy cập: 1")
    await traffic.settled()
    assert traffic.hits == 1
    assert counted(service).total == 1


@pytest.mark.slow
async def test_two_languages_of_a_site_count_one_hit_and_show_the_same_numbers(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    body = tag(service) + tag(service, 'data-lang="en"')
    await page.goto(pages.put(ARTICLE, document(body)))
    await shows(page, 1)
    english = page.get_by_role("region", name="Page views").get_by_role("listitem").last
    await expect(english).to_have_text("Total: 1")
    assert traffic.hits == 1
    assert counted(service).total == 1


@pytest.mark.slow
async def test_two_sites_on_a_page_count_one_hit_each(
    service: RunningService, page: Page, pages: Pages, relay: Relay, traffic: Traffic
) -> None:
    named = f'<b data-hitcounter="total" data-site="{relay.site}"></b>'
    places = f'{named} <i data-hitcounter="total"></i>'
    other = tag(replace(relay, site=f"{relay.site}-other"), 'data-page="/khac"')
    await page.goto(pages.put(ARTICLE, document(tag(relay) + other + places)))
    await expect(page.get_by_role("region")).to_have_count(2)
    await expect(page.locator("b, i")).to_have_text(["1", "1"])
    await traffic.settled()
    # Ids are claimed per lane, not per site: one for both would count one of them only.
    assert len({body["id"] for body in relay.bodies}) == 2
    assert counted(service) == (1, {ARTICLE: 1})
    assert counted(service, f"{service.site}-other") == (1, {"/khac": 1})


@pytest.mark.slow
async def test_a_tag_can_name_the_page(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    body = tag(service, 'data-page="/trang chủ & hơn"')
    await page.goto(pages.put(ARTICLE, document(body)))
    await shows(page, 1)
    assert counted(service) == (1, {"/trang chủ & hơn": 1})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("canonical", "counted_page"),
    [
        ("/bai-viet", "/bai-viet"),
        ("{site}/bai-viet?utm_source=x#y", "/bai-viet"),
        ("//www.{host}/bai-viet", "/bai-viet"),
        ("https://example.org/bai-viet", ARTICLE),
        ("http://[", ARTICLE),
        ("", ARTICLE),
    ],
)
async def test_the_canonical_link_of_the_same_site_names_the_page(
    service: RunningService, page: Page, pages: Pages, canonical: str, counted_page: str
) -> None:
    href = canonical.format(site=pages.url, host=pages.url.partition("//")[2])
    link = f'<link rel="canonical" href="{href}">'
    # The script runs before the parser gets to the link.
    slow = '<script>document.write("<!-- " + "x".repeat(1e6) + " -->")</script>'
    head = tag(service) + slow + link
    await page.goto(pages.put(ARTICLE, document(VIEWS, head=head)))
    await expect(page.locator("[data-hitcounter]")).to_have_text("1")
    assert counted(service) == (1, {counted_page: 1})


@pytest.mark.slow
async def test_a_script_that_runs_before_the_head_is_read_waits_for_the_canonical_link(
    service: RunningService, page: Page, pages: Pages
) -> None:
    # As when it comes from the cache: without async it certainly runs before what follows.
    head = tag(service).replace("async ", "") + '<link rel="canonical" href="/bai-viet">'
    await page.goto(pages.put(ARTICLE, document(VIEWS, head=head)))
    await expect(page.locator("[data-hitcounter]")).to_have_text("1")
    assert counted(service) == (1, {"/bai-viet": 1})


@pytest.mark.slow
@pytest.mark.parametrize("navigation", NAVIGATIONS)
async def test_a_navigation_within_the_page_counts_the_new_path_once(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, navigation: str
) -> None:
    body = tag(service) + tag(service) + VIEWS
    link = f'<link rel="canonical" href="{ARTICLE}">'
    await page.goto(pages.put(ARTICLE, document(body, head=link)))
    await shows(page, 1)
    await page.wait_for_function(IS_LOADED)
    await page.evaluate(NAVIGATIONS[navigation])
    await shows(page, 2)
    await expect(page.locator("[data-hitcounter]")).to_have_text("1")
    await traffic.settled()
    assert traffic.hits == 2
    assert counted(service) == (2, {ARTICLE: 1, "/tin-tuc/2": 1})


@pytest.mark.slow
async def test_going_back_and_forth_within_the_page_counts_each_time(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    await page.goto(pages.put(ARTICLE, document(tag(service))))
    await shows(page, 1)
    await page.evaluate(NAVIGATIONS["pushState"])
    await shows(page, 2)
    for n, step in ((3, "back"), (4, "forward")):
        await page.evaluate(f"history.{step}()")
        await shows(page, n)
    await traffic.settled()
    assert counted(service) == (4, {ARTICLE: 2, "/tin-tuc/2": 2})


@pytest.mark.slow
async def test_of_paths_that_follow_each_other_at_once_the_last_counts(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    await page.goto(pages.put(ARTICLE, document(tag(service) + VIEWS)))
    await shows(page, 1)
    await page.evaluate("for (const path of ['/a', '/b', '/c']) history.pushState(0, '', path)")
    await shows(page, 2)
    await expect(page.locator("[data-hitcounter]")).to_have_text("1")
    await traffic.settled()
    assert counted(service) == (2, {ARTICLE: 1, "/c": 1})


@pytest.mark.slow
@pytest.mark.parametrize("change", SAME_PAGE)
async def test_a_change_of_the_address_that_is_no_other_page_counts_nothing(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, change: str
) -> None:
    await page.goto(pages.put(ARTICLE, document(tag(service))))
    await shows(page, 1)
    await page.evaluate(SAME_PAGE[change])
    # As a Back button does where the change made an entry; elsewhere it would leave the page.
    await page.evaluate("dispatchEvent(new PopStateEvent('popstate'))")
    await page.evaluate("new Promise(requestAnimationFrame)")
    await traffic.settled()
    assert traffic.hits == 1
    assert counted(service) == (1, {ARTICLE: 1})


@pytest.mark.slow
async def test_a_page_that_changes_its_address_still_gets_what_it_asked_for(
    service: RunningService, page: Page, pages: Pages
) -> None:
    await page.goto(pages.put(ARTICLE, document(tag(service))))
    await shows(page, 1)
    states = await page.evaluate(
        """() => {
          history.pushState({ n: 1 }, "", "/a?b#c");
          const pushed = [history.state, history.length, location.href];
          let failure;
          try { history.pushState(null, "", "https://example.org/"); } catch (e) { failure = e; }
          return [...pushed, failure.name];
        }"""
    )
    assert states == [{"n": 1}, 3, f"{pages.url}/a?b#c", "SecurityError"]


@pytest.mark.slow
async def test_an_element_that_a_framework_takes_away_and_brings_back_counts_nothing(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    element = f'<hit-counter site="{service.site}"></hit-counter>'
    script = f'<script async src="{service.url}{WIDGET}"></script>'
    await page.goto(pages.put(ARTICLE, document(element, head=script)))
    await shows(page, 1)
    await page.evaluate(
        """site => {
          const block = document.querySelector("hit-counter");
          block.remove();
          document.body.append(block, document.createElement("p"));
          const other = document.createElement("hit-counter");
          other.setAttribute("site", site);
          document.body.append(other);
        }""",
        service.site,
    )
    await expect(page.get_by_role("region")).to_have_count(2)
    await traffic.settled()
    assert traffic.hits == 1
    await page.evaluate("document.querySelector('hit-counter').remove()")
    await page.evaluate(NAVIGATIONS["pushState"])
    await shows(page, 2)
    assert counted(service) == (2, {ARTICLE: 1, "/tin-tuc/2": 1})


@pytest.mark.slow
async def test_a_page_that_the_back_button_brings_back_counts_once_each_time(
    service: RunningService, page_of_whole_browser: Page, pages: Pages
) -> None:
    page, traffic = page_of_whole_browser, Traffic(page_of_whole_browser.context)
    url = pages.put(ARTICLE, document(tag(service) + tag(service) + VIEWS))
    await page.goto(url)
    await shows(page, 1)
    await page.evaluate("window.marker = 'the same document'")
    for views in (2, 3):
        await page.goto(pages.put("/gioi-thieu", document("")))
        await page.evaluate("history.back()")
        await page.wait_for_url(url, wait_until="commit")
        await shows(page, views)
        await expect(page.locator("[data-hitcounter]")).to_have_text(str(views))
        assert await page.evaluate("window.marker") == "the same document"
        await traffic.settled()
        assert counted(service) == (views, {ARTICLE: views})


PRERENDERING = """<script type="speculationrules">
{"prerender": [{"urls": ["/tin-tuc/1"], "eagerness": "immediate"}]}
</script>
<script>
(async () => {
  for (;;) {
    const answer = await fetch("/next");
    if (answer.status === 200) location.href = await answer.text();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
})();
</script>"""
PRERENDERED = """<script>
const note = (text) => fetch("/note/" + encodeURIComponent(text));
addEventListener("load", async () => {
  await fetch("%s/v1/sites/%s/counts");  // after what the script may have sent
  note("prerendering " + document.prerendering);
});
document.addEventListener("prerenderingchange", () => {
  const watch = setInterval(() => {
    const block = document.querySelector("hit-counter");
    if (!block.dataset.state) return;
    clearInterval(watch);
    note(block.shadowRoot.querySelector("li:last-child").textContent);
  }, 20);
});
</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("is_visited", [True, False])
async def test_a_page_that_is_rendered_in_advance_counts_when_it_is_shown(
    service: RunningService,
    pages: Pages,
    relay: Relay,
    chromium_path: str,
    tmp_path: Path,
    is_visited: bool,
) -> None:
    start = pages.put("/", document(PRERENDERING))
    pages.put(ARTICLE, document(tag(relay) + PRERENDERED % (relay.url, relay.site)))
    pages.put("/gioi-thieu", document("<script>fetch('/note/elsewhere')</script>"))
    with visiting(chromium_path, tmp_path / "profile", start):
        await comes_true(lambda: "/note/prerendering%20true" in pages.asked, "it is rendered")
        assert relay.asked == [f"GET /v1/sites/{relay.site}/counts"]
        assert counted(service) == (0, {})
        pages.put("/next", ARTICLE if is_visited else "/gioi-thieu", "text/plain")
        shown = "T%E1%BB%95ng%20truy%20c%E1%BA%ADp%3A%201" if is_visited else "elsewhere"
        await comes_true(lambda: f"/note/{shown}" in pages.asked, "the other page is shown")
    assert counted(service) == ((1, {ARTICLE: 1}) if is_visited else (0, {}))


@pytest.mark.slow
async def test_what_is_fetched_in_advance_counts_nothing(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    url = pages.put(ARTICLE, document(tag(service)))
    head = (
        f'<link rel="prefetch" href="{ARTICLE}">'
        f'<link rel="preload" as="script" href="{service.url}{WIDGET}">'
        f'<link rel="prefetch" href="{service.site_url}/pixel.gif">'
    )
    await page.goto(pages.put("/", document("", head=head)))
    await comes_true(lambda: ARTICLE in pages.asked, "the page is fetched in advance")
    await comes_true(lambda: traffic.asked, "the pixel is fetched in advance")
    await traffic.settled()
    assert counted(service) == (0, {})
    await page.goto(url)
    await shows(page, 1)
    assert counted(service) == (1, {ARTICLE: 1})


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [["lose"], ["halve"], ["hang"], ["gateway"], ["lose", "gateway"], ["halve", "lose"]],
    ids="+".join,
)
async def test_a_lost_answer_is_asked_for_again_and_the_hit_counts_once(
    service: RunningService,
    page: Page,
    pages: Pages,
    relay: Relay,
    faults: list[Fault],
) -> None:
    relay.faults = faults.copy()
    await page.goto(pages.put(ARTICLE, document(tag(relay) + VIEWS)))
    await shows(page, 1)
    await expect(page.locator("[data-hitcounter]")).to_have_text("1")
    assert relay.faults == []
    assert len(relay.bodies) == len(faults) + 1
    assert [body["id"] for body in relay.bodies] == [relay.bodies[0]["id"]] * len(relay.bodies)
    assert counted(service) == (1, {ARTICLE: 1})


@pytest.mark.slow
async def test_a_new_view_has_a_new_id_though_an_answer_was_lost(
    service: RunningService, page: Page, pages: Pages, relay: Relay
) -> None:
    relay.faults = ["lose"]
    await page.goto(pages.put(ARTICLE, document(tag(relay))))
    await comes_true(lambda: relay.bodies and not relay.faults, "the answer is lost")
    await page.evaluate(NAVIGATIONS["pushState"])
    await shows(page, 2)
    await comes_true(lambda: len(relay.bodies) >= 3, "the first hit is sent again")
    await page.wait_for_function("document.querySelector('hit-counter').dataset.state")
    first, second = {body["id"] for body in relay.bodies}
    assert re.fullmatch("[0-9-]{8,64}", first)
    assert re.fullmatch("[0-9-]{8,64}", second)
    assert counted(service) == (2, {ARTICLE: 1, "/tin-tuc/2": 1})


@pytest.mark.slow
async def test_an_application_may_throw_the_block_away_and_counts_on(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    await page.goto(pages.put(ARTICLE, document(f"<div>{tag(service)}</div>{VIEWS}")))
    await shows(page, 1)
    await page.locator("div").evaluate("root => { root.innerHTML = '' }")
    await page.evaluate(NAVIGATIONS["pushState"])
    await comes_true(lambda: counted(service).total == 2, "the other view is counted")
    await expect(page.locator("[data-hitcounter]")).to_have_text("1")
    await traffic.settled()
    assert counted(service) == (2, {ARTICLE: 1, "/tin-tuc/2": 1})


@pytest.mark.slow
async def test_an_answer_that_comes_too_late_is_not_shown_for_another_page(
    service: RunningService, page: Page, pages: Pages, relay: Relay, traffic: Traffic
) -> None:
    service.run("baseline", service.site, "--total", "210", "--page", f"{ARTICLE}=210")
    relay.faults = ["hold"]
    await page.goto(pages.put(ARTICLE, document(tag(relay) + VIEWS)))
    await comes_true(lambda: counted(service).total == 211, "the first view is counted")
    await page.evaluate(NAVIGATIONS["pushState"])
    await shows(page, 212)
    relay.released.set()
    await traffic.settled()
    await page.evaluate("new Promise(requestAnimationFrame)")
    await shows(page, 212)
    await expect(page.locator("[data-hitcounter]")).to_have_text("1")
    assert counted(service) == (212, {ARTICLE: 211, "/tin-tuc/2": 1})


@pytest.mark.slow
async def test_answers_that_stay_away_are_asked_for_three_times_and_the_hit_counts_once(
    service: RunningService, page: Page, pages: Pages, relay: Relay, traffic: Traffic
) -> None:
    relay.faults = ["gateway"] * 3
    async with page.expect_console_message(lambda message: message.type == "warning"):
        await page.goto(pages.put(ARTICLE, document(tag(relay))))
    await traffic.settled()
    assert len(relay.bodies) == 3
    assert counted(service) == (1, {ARTICLE: 1})
