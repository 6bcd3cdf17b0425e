"""The block on pages that make it hard: policies, hostile styles, small screens, old browsers."""

import gzip
from importlib import resources
from itertools import pairwise
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser import chromium
from tests.browser.counted import Traffic, counted
from tests.browser.pages import Pages, document, tag
from tests.browser.relay import Relay
from tests.conftest import RunningService
from tests.support.acceptance import SHOWN

pytestmark = pytest.mark.asyncio(loop_scope="session")

ARTICLE = "/tin-tuc/1"
LARGEST = {
    "today": 444_444_444_444,
    "yesterday": 444_444_444_444,
    "month": 888_888_888_888,
    "year": 888_888_888_888,
    "total": 999_999_999_999,
}
USUAL = SHOWN
THEMES = ("page", "auto", "light", "dark", "plain")
STYLED = ("auto", "light", "dark")
SOME_LINES = "<p>Một đoạn văn ngắn.</p>" * 8
VIOLATIONS = """addEventListener("securitypolicyviolation", (event) => {
  (window.violations ??= []).push(`${event.violatedDirective} ${event.blockedURI}`);
});"""
HOSTILE = {
    "unset": "* { all: unset !important }",
    "hidden in every way": """* {
      all: unset !important; color: #fff !important; background: #fff !important; opacity: 1;
      font: 2px/0 fantasy !important; letter-spacing: -9px !important;
      text-indent: -99em !important; text-transform: uppercase !important;
      white-space: nowrap !important; word-spacing: 9em;
      visibility: hidden !important; text-align: center !important; text-shadow: 0 0 9px red;
    }
    hit-counter, hit-counter * { display: inline !important; position: static; float: none }""",
    "of the web of 1999": """
      body { font: bold italic 11px/1 Tahoma; text-align: center; color: #ff0; background: navy }
      h2, ul, li, span, section, svg {
        font-size: 60px; color: red; background: red; width: 9px; margin: 99px; padding: 99px;
        border: 9px solid red; float: right; display: inline-block }""",
}
# What of each line is on the screen: boxes of label and number, size and style of the text.
LINES = """() => [...document.querySelector("hit-counter").shadowRoot.querySelectorAll("li")]
  .map((line) => {
    const range = document.createRange();
    range.selectNodeContents(line.querySelector("[part=number]"));
    const box = (element) => {
      const { left, right, top, bottom } = element.getBoundingClientRect();
      return { left, right, top, bottom };
    };
    const css = getComputedStyle(line);
    return { line: box(line), label: box(line.querySelector("[part=label]")), number: box(range),
      size_px: parseFloat(css.fontSize),
      style: [css.visibility, css.letterSpacing, css.textIndent, css.textTransform] };
  })"""
SHIFTS = """() => {
  window.shifts = [];
  new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map((e) => e.value)))
    .observe({ type: "layout-shift" });
}"""
POSITION = "document.querySelector('#after').getBoundingClientRect().top"
FRAMES = "new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => r(0))))"


async def lines(page: Page) -> Any:
    """Measure the lines of the block."""
    await expect(page.get_by_role("region").first).to_be_visible()
    return await page.evaluate(LINES)


def assert_legible(measured: Any, width: float) -> None:
    """Check that labels and numbers stand in rows, apart from each other and inside the screen."""
    for line, following in pairwise(measured):
        assert line["line"]["bottom"] <= following["line"]["top"]
    for line in measured:
        label, number = line["label"], line["number"]
        is_same_row = number["top"] < label["bottom"]
        if is_same_row:
            assert label["right"] < number["left"] or number["right"] < label["left"]
        assert min(label["left"], number["left"]) >= 0
        assert max(label["right"], number["right"]) <= width
        assert line["size_px"] >= 14
        assert line["style"] == ["visible", "normal", "0px", "none"]


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["", "; require-trusted-types-for 'script'"])
@pytest.mark.parametrize("theme", THEMES)
async def test_a_strict_content_security_policy_that_names_the_counter_is_enough(
    service: RunningService, page: Page, pages: Pages, theme: str, extra: str
) -> None:
    pages.headers["Content-Security-Policy"] = (
        f"default-src 'self'; script-src {service.url}; connect-src {service.url}{extra}"
    )
    await page.add_init_script(VIOLATIONS)
    await page.goto(pages.put(ARTICLE, document(tag(service, f'data-theme="{theme}"'))))
    line = page.get_by_role("listitem").first
    await expect(line).to_have_text("Trong ngày: 1")
    await expect(line).to_have_css("text-align-last", "auto" if theme == "plain" else "justify")
    assert await page.evaluate("window.violations ?? []") == []
    assert [m.text for m in await page.console_messages() if "olicy" in m.text] == []


@pytest.mark.slow
@pytest.mark.parametrize("theme", STYLED)
@pytest.mark.parametrize("style", HOSTILE)
async def test_the_styles_of_a_page_do_not_reach_the_block(
    service: RunningService, page: Page, pages: Pages, style: str, theme: str
) -> None:
    head = f"<style>{HOSTILE[style]}</style>"
    await page.goto(pages.put(ARTICLE, document(tag(service, f"data-theme={theme}"), head)))
    assert_legible(await lines(page), 1280)
    block = page.get_by_role("region")
    paper = "rgb(17, 21, 31)" if theme == "dark" else "rgb(255, 255, 255)"
    await expect(block).to_have_css("background-color", paper)
    await expect(block).to_have_css("display", "flow-root")


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["vi", "en"])
@pytest.mark.parametrize("width", [320, 240])
async def test_the_largest_numbers_fit_a_small_screen(
    service: RunningService, page: Page, pages: Pages, width: int, lang: str
) -> None:
    service.run("baseline", service.site, *(f"--{key}={number}" for key, number in LARGEST.items()))
    await page.set_viewport_size({"width": width, "height": 640})
    body = tag(service, f'data-count="false" data-lang="{lang}"')
    await page.goto(pages.put(ARTICLE, document(body)))
    assert_legible(await lines(page), width)
    assert await page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.slow
async def test_a_page_that_reads_from_right_to_left_keeps_labels_before_their_colon(
    service: RunningService, page: Page, pages: Pages
) -> None:
    body = tag(service) + tag(service, 'data-theme="plain"')
    await page.goto(pages.put(ARTICLE, document(body, attributes='lang="ar" dir="rtl"')))
    measured = await lines(page)
    assert_legible(measured, 1280)
    assert all(line["label"]["right"] < line["number"]["left"] for line in measured)
    for region in await page.get_by_role("region").all():
        await expect(region).to_have_css("direction", "ltr")
    box = await page.locator("hit-counter").first.get_by_role("region").bounding_box()
    assert box is not None
    assert box["x"] > 1280 / 2  # where this page begins its lines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theme", "scheme", "paper"),
    [
        ("auto", "light", "rgb(255, 255, 255)"),
        ("auto", "dark", "rgb(17, 21, 31)"),
        ("light", "dark", "rgb(255, 255, 255)"),
        ("dark", "light", "rgb(17, 21, 31)"),
        ("plain", "dark", "rgba(0, 0, 0, 0)"),
        ("page", "dark", "rgba(0, 0, 0, 0)"),
        ("unknown", "dark", "rgba(0, 0, 0, 0)"),
    ],
)
async def test_a_theme_is_kept_and_auto_is_what_the_visitor_prefers(
    service: RunningService, page: Page, pages: Pages, theme: str, scheme: Any, paper: str
) -> None:
    await page.emulate_media(color_scheme=scheme)
    await page.goto(pages.put(ARTICLE, document(tag(service, f'data-theme="{theme}"'))))
    await expect(page.get_by_role("region")).to_have_css("background-color", paper)


@pytest.mark.slow
async def test_plain_has_no_styles_of_ours_and_takes_those_of_the_page(
    service: RunningService, page: Page, pages: Pages
) -> None:
    style = "<style>.sidebar li { color: rgb(1, 2, 3) } .sidebar h2 { font-size: 13px }</style>"
    body = f'<div class="sidebar">{tag(service, "data-theme=plain")}</div>'
    await page.goto(pages.put(ARTICLE, document(body, head=style)))
    await expect(page.get_by_role("listitem").first).to_have_css("color", "rgb(1, 2, 3)")
    await expect(page.get_by_role("heading", level=2)).to_have_css("font-size", "13px")
    assert await page.locator("hit-counter").evaluate("block => block.shadowRoot") is None
    assert await page.locator("hit-counter [style]").count() == 0
    assert await page.locator("svg").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("chosen", ["today,yesterday,month,year,total", "total"])
async def test_nothing_moves_when_the_numbers_come_or_change(
    page: Page, pages: Pages, relay: Relay, theme: str, chosen: str
) -> None:
    relay.faults = ["hold"]
    attributes = f'data-theme="{theme}" data-lines="{chosen}"'
    body = f'{tag(relay, attributes)}<div id="after">{SOME_LINES}</div>'
    # Without one, a line grows with the font that has its letters: plain has no styles of ours.
    head = "<style>body { line-height: 1.5 }</style>" if theme == "plain" else ""
    await page.goto(pages.put(ARTICLE, document(body, head=head)))
    await page.wait_for_selector("hit-counter", state="attached")
    await expect(page.get_by_role("region")).to_have_count(0)
    assert "Tổng" not in await page.locator("body").inner_text()
    await page.evaluate(FRAMES)
    reserved = await page.evaluate(POSITION)
    await page.evaluate(SHIFTS)
    relay.released.set()
    await expect(page.get_by_role("listitem").last).to_have_text("Tổng truy cập: 1")
    assert await page.evaluate(POSITION) == reserved
    await page.evaluate("history.pushState(null, '', '/tin-tuc/2')")
    await expect(page.get_by_role("listitem").last).to_have_text("Tổng truy cập: 2")
    await page.evaluate(FRAMES)
    assert await page.evaluate(POSITION) == reserved
    assert await page.evaluate("window.shifts") == []


@pytest.mark.slow
async def test_a_block_without_an_answer_goes_only_where_that_moves_nothing(
    page: Page, pages: Pages, relay: Relay
) -> None:
    relay.faults = ["gateway"] * 4
    far = '<div style="height: 3000px"></div>'
    place = f'<hit-counter server="{relay.url}" site="{relay.site}"></hit-counter>'
    body = f'{tag(relay)}<div id="after">{SOME_LINES}</div>{far}{place}'
    await page.goto(pages.put(ARTICLE, document(body)))
    await page.wait_for_selector("hit-counter", state="attached")
    reserved = await page.evaluate(POSITION)
    await page.evaluate(SHIFTS)
    await expect(page.locator("hit-counter").last).to_be_hidden()
    await expect(page.locator("hit-counter").last).to_have_attribute("hidden", "")
    assert await page.evaluate(POSITION) == reserved
    assert await page.evaluate("window.shifts") == []


@pytest.mark.slow
async def test_a_block_above_the_screen_goes_without_moving_what_is_read(
    page: Page, pages: Pages, relay: Relay
) -> None:
    relay.faults = ["gateway"] * 4
    body = f'{tag(relay)}{SOME_LINES * 20}<div id="after">Đang đọc</div>{SOME_LINES * 20}'
    await page.goto(pages.put(ARTICLE, document(body)))
    await page.wait_for_selector("hit-counter", state="attached")
    await page.evaluate("document.querySelector('#after').scrollIntoView()")
    read, height = await page.evaluate(f"[{POSITION}, document.body.clientHeight]")
    await page.evaluate(SHIFTS)
    await expect(page.locator("hit-counter")).to_have_attribute("hidden", "")
    await page.evaluate(FRAMES)
    assert await page.evaluate("document.body.clientHeight") < height
    assert abs(await page.evaluate(POSITION) - read) < 1
    assert await page.evaluate("window.shifts") == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [200, 220, 260])
async def test_nothing_moves_in_a_narrow_sidebar(
    service: RunningService, page: Page, pages: Pages, relay: Relay, width: int
) -> None:
    service.run("baseline", service.site, *(f"--{key}={number}" for key, number in USUAL.items()))
    relay.faults = ["hold"]
    sidebar = f'<div style="width: {width}px">{tag(relay)}</div><div id="after">Sau</div>'
    await page.goto(pages.put(ARTICLE, document(sidebar)))
    await page.wait_for_selector("hit-counter", state="attached")
    reserved = await page.evaluate(POSITION)
    relay.released.set()
    await expect(page.get_by_role("listitem").last).to_have_text("Tổng truy cập: 1.619.939")
    assert await page.evaluate(POSITION) == reserved
    # Icons are there as long as they leave the room to the numbers.
    assert await page.locator("svg").first.is_visible() == (width == 260)


@pytest.mark.slow
async def test_a_page_can_reserve_the_place_before_the_script_is_there(
    service: RunningService, page: Page, pages: Pages
) -> None:
    style = "<style>hit-counter { display: block; width: 15em; min-height: 13.25em }</style>"
    element = f'<hit-counter site="{service.site}"></hit-counter><div id="after">Sau</div>'
    await page.goto(pages.put(ARTICLE, document(element, head=style)))
    before = await page.evaluate(POSITION)
    await page.add_script_tag(url=f"{service.url}/widget.js")
    await expect(page.get_by_role("region")).to_be_visible()
    assert await page.evaluate(POSITION) == before
    box = await page.locator("hit-counter").bounding_box()
    assert box is not None
    assert box["width"] == 240


@pytest.mark.slow
async def test_an_old_browser_counts_once_and_shows_the_plain_block(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    # Safari before 16.4: no constructable style sheets, no time limits for requests.
    await page.add_init_script(
        """delete Document.prototype.adoptedStyleSheets;
        delete ShadowRoot.prototype.adoptedStyleSheets;
        delete window.CSSStyleSheet; delete AbortSignal.timeout; delete window.navigation;"""
    )
    await page.goto(pages.put(ARTICLE, document(tag(service))))
    await expect(page.get_by_role("listitem").last).to_have_text("Tổng truy cập: 1")
    await page.evaluate("history.pushState(null, '', '/tin-tuc/2')")
    await expect(page.get_by_role("listitem").last).to_have_text("Tổng truy cập: 2")
    assert counted(service) == (2, {ARTICLE: 1, "/tin-tuc/2": 1})


@pytest.mark.slow
async def test_a_visitor_without_scripts_is_counted_by_the_pixel(
    service: RunningService, browser: Browser, pages: Pages
) -> None:
    context = await browser.new_context(user_agent=chromium.USER_AGENT, java_script_enabled=False)
    page = await context.new_page()
    pixel = f'<img src="{service.site_url}/pixel.gif?path={ARTICLE}" alt="">'
    body = f"{tag(service)}<noscript>{pixel}</noscript>"
    await page.goto(pages.put(ARTICLE, document(body)))
    await context.close()
    assert counted(service) == (1, {ARTICLE: 1})


@pytest.mark.slow
async def test_a_visitor_with_scripts_is_not_counted_by_the_pixel_as_well(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    pixel = f'<noscript><img src="{service.site_url}/pixel.gif" alt=""></noscript>'
    await page.goto(pages.put(ARTICLE, document(tag(service) + pixel)))
    await expect(page.get_by_role("region")).to_be_visible()
    await traffic.settled()
    assert counted(service) == (1, {ARTICLE: 1})


@pytest.mark.slow
async def test_a_view_costs_one_request_for_the_script_and_one_for_count_and_numbers(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.method} {request.url}"))
    url = pages.put(ARTICLE, document(tag(service)))
    await page.goto(url)
    await expect(page.get_by_role("region")).to_be_visible()
    await traffic.settled()
    assert asked == [
        f"GET {url}",
        f"GET {service.url}/widget.js",
        f"POST {service.site_url}/hits?labels=both",
    ]


async def test_the_script_is_small() -> None:
    script = resources.files("hitcounter.web").joinpath("static", "widget.js").read_bytes()
    assert len(gzip.compress(script, 9)) <= 6000
