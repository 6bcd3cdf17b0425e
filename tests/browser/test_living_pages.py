"""Pages that live: other scripts write, move and replace what is ours, and change the address."""

import asyncio
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.counted import Traffic, counted
from tests.browser.editor import Faults
from tests.browser.pages import Pages, document, tag
from tests.browser.relay import Relay
from tests.browser.test_counting import PRERENDERING
from tests.browser.test_failing import Console
from tests.browser.visitor import visiting
from tests.conftest import RunningService
from tests.speeds import first_is_quick
from tests.support.waiting import comes_true

pytestmark = pytest.mark.asyncio(loop_scope="session")

ARTICLE = "/tin-tuc/1"
NUMBER = "<p>Tổng: <b data-hitcounter=total>…</b></p>"
VIEWS = "<p>Số lượt xem: <b data-hitcounter=page>…</b></p>"
STANDS = "new Promise((resolve) => setTimeout(resolve, 1300))"  # longer than an address must stand
OBSERVER = """<script>
new MutationObserver((records) => {{
  window.rounds = (window.rounds ?? 0) + 1;
  for (const place of document.querySelectorAll("{0}")) {{ {1} }}
}}).observe(document, {{ childList: true, subtree: true, characterData: true, attributes: true }});
</script>"""
HOSTILE = {
    "formats our number": (
        "[data-hitcounter]",
        "if (!/^(…|1,6)/.test(place.textContent)) place.textContent = '1,6 triệu'",
    ),
    "sets it back": ("[data-hitcounter]", "if (place.textContent !== '…') place.textContent = '…'"),
    "empties it": ("[data-hitcounter]", "if (place.firstChild) place.textContent = ''"),
    "puts a copy in its place": (
        "[data-hitcounter]",
        "if (place.textContent !== '…') { const copy = place.cloneNode();"
        " copy.textContent = '…'; place.replaceWith(copy) }",
    ),
    "puts a copy of the block in its place": (
        "hit-counter[data-state]",
        "const copy = place.cloneNode(); copy.removeAttribute('data-state');"
        " place.replaceWith(copy)",
    ),
    "takes the block away": ("hit-counter", "place.remove()"),
    "takes attributes away": ("hit-counter[data-state]", "place.removeAttribute('data-state')"),
}


def element(service: RunningService, attributes: str = "") -> str:
    """Write the place that a site's editor pastes, without the tag."""
    return f'<hit-counter server="{service.url}" site="{service.site}" {attributes}></hit-counter>'


def bare(service: RunningService) -> str:
    """Write the tag that only loads the program."""
    return f'<script async="" src="{service.url}/widget.js"></script>'


def snippet(service: RunningService, attributes: str = "") -> str:
    """Write place and tag."""
    return element(service, attributes) + bare(service)


async def shows(page: Page, number: int, n_blocks: int = 1) -> None:
    """Wait until every block of the page shows a total."""
    blocks = page.locator("hit-counter, [data-hitcounter=block]")
    await expect(blocks).to_have_count(n_blocks)
    for n in range(n_blocks):
        last = blocks.nth(n).get_by_role("listitem").last
        await expect(last).to_have_text(f"Tổng truy cập: {number}")


@pytest_asyncio.fixture(loop_scope="session")
async def console(page: Page) -> Console:
    """Watch the console of the page."""
    return Console(page)


@pytest.mark.parametrize("kind", first_is_quick(HOSTILE))
async def test_the_tab_lives_whatever_another_script_does_about_what_we_write(
    service: RunningService, page: Page, pages: Pages, console: Console, kind: str
) -> None:
    body = OBSERVER.format(*HOSTILE[kind]) + NUMBER + tag(service)
    await page.goto(pages.put(ARTICLE, document(body)))
    await comes_true(lambda: counted(service).total, "the hit is counted")
    await asyncio.wait_for(page.evaluate(STANDS), 20)
    first = await page.evaluate("window.rounds ?? 0")
    await asyncio.wait_for(page.evaluate(STANDS), 20)
    assert await page.evaluate("window.rounds ?? 0") - first < 300
    assert await page.locator("hit-counter").count() <= 1
    assert counted(service).total == 1
    assert console.lines == []


@pytest.mark.slow
async def test_what_the_page_makes_of_a_number_stays_until_ours_changes(
    service: RunningService, page: Page, pages: Pages
) -> None:
    await page.goto(pages.put(ARTICLE, document(NUMBER + tag(service))))
    number = page.locator("b")
    await expect(number).to_have_text("1")
    for text in ("một", "<i>m</i><i>ột</i>"):
        await number.evaluate("(b, text) => { b.innerHTML = text }", text)
        await page.evaluate(STANDS)
        await expect(number).to_have_text("một")
    await page.evaluate("history.pushState(0, '', '/tin-tuc/2')")
    await expect(number).to_have_text("2")


@pytest.mark.parametrize("text", first_is_quick(["", "…"]))
async def test_a_number_that_was_emptied_or_set_back_is_written_again(
    service: RunningService, page: Page, pages: Pages, text: str
) -> None:
    await page.goto(pages.put(ARTICLE, document(NUMBER + tag(service))))
    number = page.locator("b")
    await expect(number).to_have_text("1")
    await number.evaluate("(b, text) => { b.firstChild.data = text }", text)
    await expect(number).to_have_text("1")


# What pages do to the tag and its block; however often, one block stands there.
REPLACINGS = {
    "the block is taken away": "document.querySelector('hit-counter').remove()",
    "a copy of the page is shown again": """const main = document.querySelector("main");
      main.replaceWith(main.cloneNode(true))""",
    "the page is written anew": """const main = document.querySelector("main");
      main.innerHTML = main.innerHTML""",
    "a block comes back beside its copy": """const block = document.querySelector("hit-counter");
      window.other ??= block;
      if (window.other === block) block.replaceWith(block.cloneNode(true));
      else block.after(window.other)""",
    "the script runs again in its place": """const old = document.querySelector("main script");
      const again = document.createElement("script");
      again.src = old.src; again.dataset.site = old.dataset.site;
      old.replaceWith(again)""",
}


OF_ELEMENTS = "parentNode parentElement matches closest getRootNode getAttribute localName host"


async def test_fields_of_a_form_that_are_named_as_what_elements_can_do_change_nothing(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, faults: Faults
) -> None:
    fields = "".join(f"<input name={name}>" for name in OF_ELEMENTS.split())
    body = f"<form>{fields}{NUMBER}{element(service)}{tag(service)}</form>"
    await page.goto(pages.put(ARTICLE, document(body)))
    # Playwright's locators stumble over such a form.
    await page.wait_for_function("document.querySelector('b').textContent === '1'")
    await page.wait_for_function("document.querySelectorAll('[data-state=counted]').length === 2")
    await page.evaluate("document.forms[0].setAttribute('class', 'seen')")
    await page.evaluate(STANDS)
    await traffic.settled()
    assert counted(service) == (1, {ARTICLE: 1})
    assert faults.seen == []


@pytest.mark.slow
async def test_a_place_of_a_site_that_nobody_can_write_takes_nothing_from_the_others(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    script = "<script>document.querySelector('b').dataset.site = 'x\\ud800'</script>"
    await page.goto(pages.put(ARTICLE, document(NUMBER + script + tag(service))))
    await shows(page, 1)
    await traffic.settled()
    assert counted(service) == (1, {ARTICLE: 1})


@pytest.mark.slow
async def test_a_hundred_blocks_are_drawn_and_count_once(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    await page.goto(pages.put(ARTICLE, document(element(service) * 100 + tag(service))))
    await expect(page.get_by_role("region")).to_have_count(101)
    await traffic.settled()
    assert counted(service) == (1, {ARTICLE: 1})


@pytest.mark.parametrize("kind", first_is_quick(REPLACINGS))
async def test_where_a_tag_stands_there_is_one_block(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, kind: str
) -> None:
    await page.goto(pages.put(ARTICLE, document(tag(service))))
    await shows(page, 1)
    for _ in range(3):
        await page.evaluate(REPLACINGS[kind])
        await page.evaluate(STANDS)
        await shows(page, 1)
    await traffic.settled()
    assert counted(service) == (1, {ARTICLE: 1})


@pytest.mark.slow
async def test_where_a_tag_has_gone_so_has_its_block(
    service: RunningService, page: Page, pages: Pages
) -> None:
    await page.goto(pages.put(ARTICLE, document(f"<div>{tag(service)}</div>")))
    await shows(page, 1)
    await page.locator("main script").evaluate("script => script.remove()")
    await expect(page.locator("hit-counter")).to_have_count(0)


@pytest.mark.slow
async def test_a_block_that_came_with_the_page_is_taken_over(
    service: RunningService, page: Page, pages: Pages
) -> None:
    await page.goto(pages.put(ARTICLE, document(tag(service) + tag(service, "data-theme=plain"))))
    await shows(page, 1, 2)
    await page.goto(pages.put("/copy", await page.content()))
    await shows(page, 2, 2)
    left = '<hit-counter data-state="counted"></hit-counter>'  # as earlier versions left it
    await page.goto(pages.put("/older", document(tag(service) + left)))
    await shows(page, 3)


@pytest.mark.slow
async def test_a_loader_may_take_its_tag_away_at_once(
    service: RunningService, page: Page, pages: Pages
) -> None:
    leaving = tag(service).replace("async ", 'async onload="this.remove()" ')
    foreign = "<i data-drawn>Của trang</i>"
    await page.goto(pages.put(ARTICLE, document(leaving + foreign)))
    await shows(page, 1)
    await page.evaluate("document.body.append('')")
    await page.evaluate(STANDS)
    await shows(page, 1)
    await expect(page.locator("i")).to_have_text("Của trang")


FORMS = {
    "element and tag": lambda service: snippet(service),
    "tag before element": lambda service: bare(service) + element(service),
    "div and tag": lambda service: (
        f'<div data-hitcounter="block" data-server="{service.url}" data-site="{service.site}">'
        f"</div>{bare(service)}"
    ),
    "module": lambda service: tag(service).replace("async", 'type="module"'),
    "open shadow root": lambda service: (
        f"<div id=host></div>{bare(service)}<script>document.querySelector('#host')"
        f".attachShadow({{ mode: 'open' }}).innerHTML = `{element(service)}`</script>"
    ),
    "server below a path and a slash": lambda service: snippet(service).replace(
        f'server="{service.url}"', f'server="{service.url}/"'
    ),
}


@pytest.mark.parametrize("form", first_is_quick(FORMS))
async def test_every_form_of_the_snippet_counts_once_and_draws_one_block(
    service: RunningService,
    page: Page,
    pages: Pages,
    traffic: Traffic,
    console: Console,
    form: str,
) -> None:
    await page.goto(pages.put(ARTICLE, document(FORMS[form](service))))
    await shows(page, 1)
    await traffic.settled()
    assert traffic.asked == ["POST hits?labels=both"]
    assert counted(service) == (1, {ARTICLE: 1})
    assert console.lines == []


@pytest.mark.slow
async def test_an_inlined_script_counts_where_the_place_names_the_server(
    service: RunningService, page: Page, pages: Pages, console: Console
) -> None:
    program = resources.files("hitcounter.web").joinpath("static", "widget.js").read_text("utf-8")
    inlined = f"<script>{program}</script>"
    await page.goto(pages.put(ARTICLE, document(element(service) + inlined + inlined)))
    await shows(page, 1)
    assert counted(service) == (1, {ARTICLE: 1})
    assert console.lines == []


@pytest.mark.slow
async def test_a_number_alone_counts_its_site_and_beside_a_block_that_does_not_count_it_does_not(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    alone = f'<b data-hitcounter="total" data-site="{service.site}">…</b>'
    await page.goto(pages.put(ARTICLE, document(alone + bare(service))))
    await expect(page.locator("b")).to_have_text("1")
    await page.goto(pages.put("/portal", document(alone + snippet(service, 'count="false"'))))
    await expect(page.locator("b")).to_have_text("1")
    await traffic.settled()
    assert counted(service) == (1, {ARTICLE: 1})


@pytest.mark.slow
async def test_a_number_may_be_of_another_page(
    service: RunningService, page: Page, pages: Pages
) -> None:
    await page.goto(pages.put("/khac", document(tag(service))))
    await shows(page, 1)
    places = VIEWS + '<i data-hitcounter="page" data-page="/khac"></i>'
    await page.goto(pages.put(ARTICLE, document(tag(service) + places)))
    await expect(page.locator("b, i")).to_have_text(["1", "1"])
    assert counted(service) == (2, {ARTICLE: 1, "/khac": 1})


@pytest.mark.slow
async def test_what_stands_in_a_place_is_shown_until_there_are_numbers_and_where_there_are_none(
    service: RunningService, page: Page, pages: Pages, relay: Relay
) -> None:
    place = f'<hit-counter server="{relay.url}" site="{service.site}"><i>Đang tải</i></hit-counter>'
    relay.faults = ["hold"]
    await page.goto(pages.put(ARTICLE, document(place + bare(service))))
    await comes_true(lambda: relay.bodies, "it is asked")
    await expect(page.get_by_text("Đang tải")).to_be_visible()
    relay.released.set()
    await shows(page, 1)
    await expect(page.get_by_text("Đang tải")).to_be_hidden()
    none = place.replace(service.site, "no site")
    await page.goto(pages.put(ARTICLE, document(none + bare(service))))
    await expect(page.locator("hit-counter")).to_have_attribute("data-state", "")
    await expect(page.get_by_text("Đang tải")).to_be_visible()


ROUTES = {
    "the last of several": "for (const p of ['/a', '/b', '/c']) history.pushState(0, '', p)",
    "Navigation API": """navigation.addEventListener("navigate", (event) => event.intercept());
      navigation.navigate("/c")""",
    "replaced after the load": "history.replaceState(0, '', '/c')",
}


@pytest.mark.parametrize("route", first_is_quick(ROUTES))
async def test_a_page_that_stands_counts_once(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, route: str
) -> None:
    await page.goto(pages.put(ARTICLE, document(tag(service) + VIEWS)))
    await shows(page, 1)
    await page.evaluate(STANDS)
    await page.evaluate(ROUTES[route])
    await shows(page, 2)
    await expect(page.locator("b")).to_have_text("1")
    await page.evaluate(STANDS)
    await traffic.settled()
    assert counted(service) == (2, {ARTICLE: 1, "/c": 1})


@pytest.mark.slow
async def test_an_address_that_is_taken_back_or_left_counts_nothing(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    await page.goto(pages.put(ARTICLE, document(tag(service) + VIEWS)))
    await shows(page, 1)
    await page.evaluate("history.pushState(0, '', '/b')")
    await expect(page.locator("b")).to_have_text("")
    await page.evaluate(f"history.replaceState(0, '', '{ARTICLE}')")
    await expect(page.locator("b")).to_have_text("1")
    await page.evaluate(STANDS)
    await page.evaluate("history.pushState(0, '', '/b')")
    await page.goto(pages.put("/c", document(tag(service))))
    await shows(page, 2)
    assert counted(service) == (2, {ARTICLE: 1, "/c": 1})


@pytest.mark.slow
async def test_a_redirect_by_the_page_itself_is_one_view(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    redirect = "<script>onload = () => history.replaceState(0, '', '/vi')</script>"
    await page.goto(pages.put(ARTICLE, document(tag(service) + redirect)))
    await shows(page, 1)
    await page.evaluate(STANDS)
    await page.evaluate("history.pushState(0, '', '/b')")
    await shows(page, 2)
    assert counted(service).total == 2


@pytest.mark.slow
@pytest.mark.parametrize("who", ["place", "tag"])
async def test_a_fragment_is_a_page_where_a_place_or_tag_says_so(
    service: RunningService, page: Page, pages: Pages, who: str
) -> None:
    place = element(service, 'hash=""' if who == "place" else "")
    loading = bare(service).replace("async", 'data-hash="" async' if who == "tag" else "async")
    await page.goto(pages.put("/app", document(place + VIEWS, head=loading)) + "#/")
    await shows(page, 1)
    await page.evaluate("location.hash = '#/tin/1?trang=2'")
    await shows(page, 2)
    await expect(page.locator("b")).to_have_text("1")
    assert counted(service) == (2, {"/app": 1, "/app%23/tin/1": 1})


@pytest.mark.slow
async def test_a_frame_that_the_page_wrote_counts_under_its_page(
    service: RunningService, page: Page, pages: Pages
) -> None:
    inside = snippet(service).replace('"', "&quot;")
    await page.goto(pages.put(ARTICLE, document(f'<iframe srcdoc="{inside}"></iframe>')))
    last = page.frame_locator("iframe").get_by_role("listitem").last
    await expect(last).to_have_text("Tổng truy cập: 1")
    assert counted(service) == (1, {ARTICLE: 1})


@pytest.mark.slow
async def test_a_saved_copy_counts_nothing_and_names_no_path(
    service: RunningService, page: Page, traffic: Traffic, tmp_path: Path
) -> None:
    saved = tmp_path / "Nguyễn Văn A.html"
    saved.write_text(document(snippet(service) + NUMBER), "utf-8")
    await page.goto(saved.as_uri())
    await shows(page, 0)
    await traffic.settled()
    assert traffic.asked == ["GET counts?labels=both"]
    assert counted(service).total == 0


EVENTS = """<script>
window.seen = [];
for (const type of ["counted", "shown", "failed"]) {
  addEventListener(`hitcounter:${type}`, ({ target, detail }) => {
    window.seen.push([type, target.localName, detail.total ?? detail.status]);
  });
}
</script>"""


@pytest.mark.slow
async def test_the_page_hears_of_what_was_counted_and_shown(
    service: RunningService, page: Page, pages: Pages
) -> None:
    body = EVENTS + element(service) + NUMBER + bare(service)
    await page.goto(pages.put(ARTICLE, document(body)))
    await expect(page.locator("b")).to_have_text("1")
    seen = await page.evaluate("window.seen")
    assert seen == [
        ["counted", "hit-counter", 1],
        ["shown", "hit-counter", 1],
        ["shown", "b", 1],
    ]


async def test_a_refused_hit_is_followed_by_one_read_and_shows_numbers(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, console: Console
) -> None:
    await page.route("**/hits?*", lambda route: route.fulfill(status=403, body="<p>challenge"))
    await page.goto(pages.put(ARTICLE, document(EVENTS + snippet(service))))
    await shows(page, 0)
    await expect(page.locator("hit-counter")).to_have_attribute("data-state", "fresh")
    await traffic.settled()
    assert [line.partition("?")[0] for line in traffic.asked] == ["POST hits", "GET counts"]
    assert len([line for line in console.lines if line.startswith("hitcounter")]) == 1


@pytest.mark.slow
async def test_an_element_of_another_script_is_told_and_the_place_gets_a_list(
    service: RunningService, page: Page, pages: Pages, console: Console
) -> None:
    foreign = "<script>customElements.define('hit-counter', class extends HTMLElement {})</script>"
    body = foreign + snippet(service) + bare(service) + tag(service)
    await page.goto(pages.put(ARTICLE, document(body)))
    await shows(page, 1, 2)
    assert len(console.lines) == 1
    assert counted(service) == (1, {ARTICLE: 1})


async def test_a_browser_that_skips_counts_nothing_until_it_is_asked_to_again(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    address = pages.put(ARTICLE, document(snippet(service) + NUMBER))
    await page.goto(address)
    await shows(page, 1)
    for opened in (f"{address}#hitcounter-skip", address):
        await page.goto("about:blank")
        await page.goto(opened)
        await shows(page, 1)
        await expect(page.locator("hit-counter")).to_have_attribute("data-state", "fresh")
    assert traffic.hits == 1
    for total, opened in enumerate((f"{address}#hitcounter-skip", address), 2):
        await page.goto("about:blank")
        await page.goto(opened)
        await shows(page, total)
    assert counted(service) == (3, {ARTICLE: 3})


@pytest.mark.slow
async def test_a_browser_that_keeps_nothing_counts(
    service: RunningService, page: Page, pages: Pages, console: Console
) -> None:
    throws = "{ get() { throw new DOMException('no', 'SecurityError') } }"
    await page.add_init_script(f"Object.defineProperty(window, 'localStorage', {throws})")
    await page.goto(pages.put(ARTICLE, document(snippet(service))) + "#hitcounter-skip")
    await shows(page, 1)
    assert counted(service) == (1, {ARTICLE: 1})
    assert console.lines == []


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["customElements", "navigation", "adoptedStyleSheets", "old"])
async def test_what_an_old_browser_lacks_costs_no_view(
    service: RunningService, page: Page, pages: Pages, console: Console, missing: str
) -> None:
    await page.add_init_script(
        {
            "customElements": "delete window.customElements",
            "navigation": "delete window.navigation",
            "adoptedStyleSheets": "delete window.CSSStyleSheet",
            "old": """delete Element.prototype.replaceChildren;
              delete Document.prototype.replaceChildren; delete AbortSignal.timeout;
              delete DocumentFragment.prototype.replaceChildren;
              delete window.requestIdleCallback""",
        }[missing]
    )
    await page.goto(pages.put(ARTICLE, document(snippet(service) + NUMBER)))
    await shows(page, 1)
    await page.evaluate("history.pushState(0, '', '/tin-tuc/2')")
    await shows(page, 2)
    await expect(page.locator("b")).to_have_text("2")
    assert counted(service) == (2, {ARTICLE: 1, "/tin-tuc/2": 1})
    assert console.lines == []


@pytest.mark.slow
async def test_a_name_in_its_own_script_is_asked_for_as_its_punycode(
    service: RunningService, page: Page, pages: Pages, relay: Relay
) -> None:
    name = "hộinôngdân.vn"
    place = f'<hit-counter server="{relay.url}" site="{name}"></hit-counter>'
    await page.goto(pages.put(ARTICLE, document(place + bare(service))))
    await shows(page, 1)
    assert counted(service, name.encode("idna").decode()).total == 1


@pytest.mark.slow
async def test_frameworks_find_what_the_server_wrote_until_they_took_over(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    slow = f'<img src="{pages.url}/slow" alt="">'
    body = f'<div id="__next">{NUMBER}{tag(service)}{element(service)}</div>{slow}'
    async with page.expect_request("**/slow"):
        released = asyncio.Event()
        await page.route("**/slow", lambda route: _fulfil(route, released))
        url = pages.put(ARTICLE, document(body))
        await page.goto(url, wait_until="commit")
    await comes_true(lambda: counted(service).total, "the hit does not wait")
    last = page.locator("hit-counter").get_by_role("listitem").last
    await expect(last).to_have_text("Tổng truy cập: 1")
    root = page.locator("#__next")
    written = re.sub(r"<hit-counter [^>]*>", "<hit-counter>", await root.inner_html())
    assert written == re.sub(r"<hit-counter [^>]*>", "<hit-counter>", await _parsed(page, body))
    assert "data-state" not in await root.inner_html()
    released.set()
    await shows(page, 1, 2)
    await expect(page.locator("b")).to_have_text("1")


async def _fulfil(route: Any, released: asyncio.Event) -> None:
    await released.wait()
    await route.fulfill(status=204)


async def _parsed(page: Page, body: str) -> Any:
    return await page.evaluate(
        """html => new DOMParser().parseFromString(html, "text/html")
             .querySelector("#__next").innerHTML""",
        body,
    )


@pytest.mark.slow
async def test_a_tag_without_a_block_counts_and_fills_numbers(
    service: RunningService, page: Page, pages: Pages
) -> None:
    await page.goto(pages.put(ARTICLE, document(NUMBER + tag(service, "data-block=off"))))
    await expect(page.locator("b")).to_have_text("1")
    await expect(page.locator("hit-counter")).to_have_count(0)


@pytest.mark.slow
async def test_a_program_that_runs_already_is_given_the_tag(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    earlier = """<script>customElements.define("hit-counter", class extends HTMLElement {
      static add(tag) { window.given = tag.dataset.site; }
    })</script>"""
    await page.goto(pages.put(ARTICLE, document(earlier + tag(service))))
    await page.wait_for_function("site => window.given === site", arg=service.site)
    await traffic.settled()
    assert traffic.asked == []


@pytest.mark.slow
async def test_an_earlier_program_that_comes_later_gives_its_tag_to_ours(
    service: RunningService, page: Page, pages: Pages
) -> None:
    await page.goto(pages.put(ARTICLE, document(tag(service))))
    await shows(page, 1)
    await page.evaluate(
        """() => {
          const tag = document.createElement("script");
          tag.type = "text/plain";  // its own program has run elsewhere
          Object.assign(tag.dataset, document.querySelector("main script").dataset);
          tag.src = document.querySelector("main script").src;
          document.querySelector("main").append(tag);
          customElements.get("hit-counter").add(tag);
        }"""
    )
    await shows(page, 1, 2)
    assert counted(service).total == 1


PREPARED_PICTURE = """<script>
document.addEventListener("prerenderingchange", () => fetch("/note/shown"));
addEventListener("load", () => fetch("/note/prerendering " + document.prerendering));
</script>"""


@pytest.mark.slow
async def test_a_picture_on_a_page_that_was_rendered_in_advance_counts_when_it_is_shown(
    service: RunningService, pages: Pages, chromium_path: str, tmp_path: Path
) -> None:
    url = f"{service.url}/v1/sites/{service.site}/pixel.gif?path={ARTICLE}"
    picture = f'<img src="{url}" alt="" loading="eager">'
    pages.put(ARTICLE, document(picture + bare(service) + PREPARED_PICTURE))
    start = pages.put("/", document(PRERENDERING))
    with visiting(chromium_path, tmp_path / "profile", start):
        await comes_true(lambda: "/note/prerendering%20true" in pages.asked, "it is rendered")
        assert counted(service).total == 0
        pages.put("/next", ARTICLE, "text/plain")
        await comes_true(lambda: counted(service).total, "the picture is asked for again")
    assert counted(service) == (1, {ARTICLE: 1})
