"""The block in a real browser, on pages of another origin than the counter's."""

import random
from collections.abc import Sequence
from importlib import resources
from typing import Any

import pytest
from playwright.async_api import Page, expect

from hitcounter.block import LANGUAGES, LINE_KEYS, line_texts
from tests.browser.counted import Traffic, counted
from tests.browser.pages import Pages, document, tag
from tests.conftest import RunningService
from tests.support import acceptance
from tests.support.acceptance import ONE_MORE

pytestmark = pytest.mark.asyncio(loop_scope="session")

ARTICLE = "/tin-tuc/1"
SAVED = [line.rpartition(" ")[2] for line in acceptance.LINES]
BASELINE = (*acceptance.BASELINE, "--page", f"{ARTICLE}=210")
# Parts of a text, and boxes without a role.
UNSPOKEN = ("InlineTextBox", "generic")
KEYS = (*LINE_KEYS, "page", "tomorrow")
OWN_MARKUP = "".join(f"<p>{key}: <b data-hitcounter={key}>?</b></p>" for key in KEYS)
OWN_TEXTS = ["1.130", "5.318", "179.278", "970.736", "1.619.939", "211", "?"]
DEFINED = "customElements.whenDefined('hit-counter').then(() => 0)"
ELEMENT = '<hit-counter site="{}" {}></hit-counter>'


async def counts(page: Page, service: RunningService, path: str = ARTICLE) -> dict[str, Any]:
    """Read the numbers."""
    answer = await page.request.get(f"{service.site_url}/counts", params={"path": path})
    assert answer.ok
    numbers: dict[str, Any] = await answer.json()
    return numbers


def texts(numbers: dict[str, Any]) -> Sequence[str]:
    """List the numbers as people write them."""
    return [line["text"] for line in numbers["widget"]["lines"]]


async def read_aloud(page: Page) -> list[tuple[str, str]]:
    """List what the accessibility tree holds inside of regions: roles and names in order."""
    session = await page.context.new_cdp_session(page)
    tree = await session.send("Accessibility.getFullAXTree")
    by_id = {node["nodeId"]: node for node in tree["nodes"]}

    def walk(node: dict[str, Any]) -> list[tuple[str, str]]:
        name = node.get("name", {}).get("value", "")
        here = [] if node["ignored"] else [(node["role"]["value"], name)]
        return here + [
            pair for key in node["childIds"] if key in by_id for pair in walk(by_id[key])
        ]

    regions = [node for node in by_id.values() if node["role"]["value"] == "region"]
    return [pair for region in regions for pair in walk(region)]


async def test_one_more_hit_shows_the_numbers_of_the_saved_page_plus_one(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    service.run("baseline", service.site, *BASELINE)
    before = await counts(page, service)
    assert texts(before) == SAVED
    assert before["page"] == {"path": ARTICLE, "total": 210}

    views = "<p>Số lượt xem: <span data-hitcounter=page></span></p>"
    await page.goto(pages.put(ARTICLE, document(tag(service) + views)))
    block = page.get_by_role("region")
    await expect(block).to_be_visible()
    assert await block.aria_snapshot() == "\n".join(
        (
            '- region "Số lượt truy cập":',
            '  - heading "Số lượt truy cập" [level=2]',
            "  - list:",
            *(f'    - listitem: "{line}"' for line in ONE_MORE),
        )
    )
    # As it is seen and copied: one line each, and no name of an icon.
    assert (await block.inner_text()).splitlines() == [
        "Số lượt truy cập",
        *ONE_MORE,
    ]
    await expect(page.get_by_text("Số lượt xem: 211", exact=True)).to_be_visible()

    assert traffic.asked == ["POST hits?labels=both"]
    after = await counts(page, service)
    assert [after[key] for key in LINE_KEYS] == [1130, 5318, 179278, 970736, 1619939]
    assert after["page"] == {"path": ARTICLE, "total": 211}
    assert counted(service) == (1619939, {ARTICLE: 211})


@pytest.mark.slow
async def test_the_accessibility_tree_reads_title_labels_and_numbers_in_order(
    service: RunningService, page: Page, pages: Pages
) -> None:
    service.run("baseline", service.site, *BASELINE)
    await page.goto(pages.put(ARTICLE, document(tag(service))))
    await expect(page.get_by_role("region")).to_be_visible()
    spoken = [pair for pair in await read_aloud(page) if pair[0] not in UNSPOKEN]
    title = "Số lượt truy cập"
    assert spoken[:4] == [
        ("region", title),
        ("heading", title),
        ("StaticText", title),
        ("list", ""),
    ]
    rest = spoken[4:]
    assert {role for role, _ in rest} == {"listitem", "StaticText"}
    lines = "".join("\n" if role == "listitem" else text for role, text in rest).split("\n")[1:]
    assert [" ".join(line.split()) for line in lines] == ONE_MORE


@pytest.mark.slow
async def test_english_is_asked_for_by_the_tag(
    service: RunningService, page: Page, pages: Pages
) -> None:
    service.run("baseline", service.site, *BASELINE)
    body = tag(service, 'data-lang="en"') + OWN_MARKUP
    await page.goto(pages.put("/en/news", document(body)))
    block = page.get_by_role("region", name="Page views")
    await expect(block.get_by_role("listitem").last).to_have_text("Total: 1,619,939")
    await expect(block).to_have_attribute("lang", "en")
    await expect(page.get_by_text("month: 179,278", exact=True)).to_be_visible()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ("today,total", [0, 4]),
        ("total, today", [4, 0]),
        (" year  month ", [3, 2]),
        ("total,tomorrow,constructor,,<b>", [4]),
        ("", [0, 1, 2, 3, 4]),
    ],
)
async def test_the_tag_chooses_lines_and_their_order(
    service: RunningService, page: Page, pages: Pages, lines: str, shown: list[int]
) -> None:
    service.run("baseline", service.site, *BASELINE)
    await page.goto(pages.put(ARTICLE, document(tag(service, f'data-lines="{lines}"'))))
    await expect(page.get_by_role("listitem")).to_have_text([ONE_MORE[n] for n in shown])


@pytest.mark.slow
@pytest.mark.parametrize("place", ["head", "before", "after"])
async def test_the_block_is_drawn_where_the_tag_says(
    service: RunningService, page: Page, pages: Pages, place: str
) -> None:
    script = tag(service, 'data-target="aside > .so-lieu"')
    aside = '<aside><p>Thống kê</p><div class="so-lieu"></div></aside>'
    body = {"head": aside, "before": script + "<p>x</p>" * 1000 + aside, "after": aside + script}
    head = script if place == "head" else ""
    await page.goto(pages.put(ARTICLE, document(body[place], head=head)))
    await expect(page.locator(".so-lieu").get_by_role("listitem")).to_have_count(5)
    await expect(page.locator("hit-counter")).to_have_count(1)
    await expect(page.get_by_role("region", name="Số lượt truy cập", exact=True)).to_be_visible()
    assert counted(service).total == 1


@pytest.mark.slow
@pytest.mark.parametrize("target", ["#nowhere", "#1", "<b>"])
async def test_a_hit_is_counted_though_its_target_is_not_there(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, target: str
) -> None:
    script = tag(service, f'data-target="{target}"')
    await page.goto(pages.put(ARTICLE, document(script + OWN_MARKUP)))
    await expect(page.locator("[data-hitcounter=total]")).to_have_text("1")
    await expect(page.locator("hit-counter")).to_have_count(0)
    assert counted(service).total == 1


@pytest.mark.slow
async def test_the_block_is_drawn_when_its_target_comes_and_again_when_it_comes_back(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    script = tag(service, 'data-target=".so-lieu"')
    await page.goto(pages.put(ARTICLE, document(OWN_MARKUP, head=script)))
    await expect(page.locator("[data-hitcounter=total]")).to_have_text("1")
    for _ in range(2):
        await page.locator("main").evaluate("main => { main.innerHTML = '<i class=so-lieu></i>' }")
        await expect(page.locator(".so-lieu").get_by_role("listitem")).to_have_count(5)
        await expect(page.locator("hit-counter")).to_have_count(1)
    await traffic.settled()
    assert counted(service).total == 1


@pytest.mark.slow
async def test_blocks_are_numbered_as_they_stand_in_the_page(
    service: RunningService, page: Page, pages: Pages
) -> None:
    block = f'<hit-counter site="{service.site}"></hit-counter>'
    await page.goto(pages.put(ARTICLE, document(tag(service) + block + block)))
    regions = page.get_by_role("region")
    await expect(regions.last).to_contain_text("Tổng truy cập: 1")
    title = "Số lượt truy cập"
    for n, name in enumerate((title, f"{title} 2", f"{title} 3")):
        await expect(regions.nth(n)).to_have_accessible_name(name)


@pytest.mark.slow
async def test_a_place_with_another_name_keeps_its_text(
    service: RunningService, page: Page, pages: Pages
) -> None:
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    names = ("visits", "site", "widget", "constructor", "__proto__", "")
    places = "".join(f'<b data-hitcounter="{name}">…</b>' for name in names)
    await page.goto(pages.put(ARTICLE, document(places + tag(service))))
    await expect(page.get_by_role("region")).to_be_visible()
    await expect(page.locator("b")).to_have_text(["…"] * len(names))
    assert faults == []


@pytest.mark.slow
async def test_own_markup_is_filled_and_a_tag_in_the_head_draws_no_block(
    service: RunningService, page: Page, pages: Pages
) -> None:
    service.run("baseline", service.site, *BASELINE)
    await page.goto(pages.put(ARTICLE, document(OWN_MARKUP, head=tag(service))))
    await expect(page.locator("b")).to_have_text(OWN_TEXTS)
    await expect(page.locator("hit-counter")).to_have_count(0)


@pytest.mark.slow
async def test_own_markup_that_comes_later_is_filled_too(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    service.run("baseline", service.site, *BASELINE)
    await page.goto(pages.put(ARTICLE, document("", head=tag(service))))
    await page.evaluate(DEFINED)
    await traffic.settled()
    await page.evaluate("html => { document.querySelector('main').innerHTML = html; }", OWN_MARKUP)
    await expect(page.locator("b")).to_have_text(OWN_TEXTS)
    assert traffic.asked == ["POST hits?labels=both"]


@pytest.mark.slow
async def test_the_element_takes_the_attributes_of_the_tag_without_their_prefix(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    service.run("baseline", service.site, *BASELINE)
    attributes = 'lang="en" lines="total,page" theme="dark" page="/khac" count="false"'
    script = f'<script async src="{service.url}/widget.js"></script>'
    await page.goto(
        pages.put(ARTICLE, document(ELEMENT.format(service.site, attributes), head=script))
    )
    block = page.get_by_role("region", name="Page views")
    await expect(block.get_by_role("listitem")).to_have_text(["Total: 1,619,938"])
    await expect(block).to_have_css("background-color", "rgb(17, 21, 31)")
    assert traffic.asked == ["GET counts?labels=both&lang=en&path=%2Fkhac"]
    assert counted(service).total == 1619938


@pytest.mark.slow
async def test_an_element_takes_what_it_does_not_say_from_the_tag(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    script = tag(service, 'data-lang="en" data-lines="total"')
    await page.goto(pages.put(ARTICLE, document("<hit-counter></hit-counter>", head=script)))
    await expect(page.get_by_role("region", name="Page views", exact=True)).to_have_count(1)
    await expect(page.get_by_role("listitem")).to_have_text(["Total: 1"])
    assert traffic.asked == ["POST hits?labels=both&lang=en"]


@pytest.mark.slow
async def test_without_a_site_nothing_is_asked_and_the_page_stays_as_it_is(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    body = f'<script async src="{service.url}/widget.js"></script><hit-counter></hit-counter>'
    await page.goto(pages.put(ARTICLE, document(body)))
    await page.evaluate(DEFINED)
    await traffic.settled()
    assert traffic.asked == []
    assert await page.locator("hit-counter").evaluate_all("all => all.map(e => e.outerHTML)") == [
        "<hit-counter></hit-counter>"
    ]


@pytest.mark.slow
async def test_a_visitor_keeps_nothing_and_the_page_gets_no_globals(
    service: RunningService, page: Page, pages: Pages
) -> None:
    names = "[window, document].map(object => Object.getOwnPropertyNames(object).sort())"
    await page.goto(pages.put("/plain", document("")))
    before = await page.evaluate(names)
    await page.goto(pages.put(ARTICLE, document(tag(service))))
    await expect(page.get_by_role("region")).to_be_visible()
    assert await page.evaluate(names) == before
    assert await page.context.storage_state(indexed_db=True) == {"cookies": [], "origins": []}
    assert await page.evaluate("caches.keys()") == []


@pytest.mark.slow
async def test_the_browser_writes_any_number_as_the_service_does(page: Page) -> None:
    drawn = random.Random(20190419)
    numbers = [0, 999, 1000, 2**53 - 1] + [drawn.randrange(10 ** (n % 16 + 1)) for n in range(400)]
    for lang in LANGUAGES:
        written = await page.evaluate(
            "([lang, numbers]) => numbers.map(n => new Intl.NumberFormat(lang).format(n))",
            [lang, numbers],
        )
        shown = [line_texts([number] * 5, lang)[0] for number in numbers]
        assert written == shown


@pytest.mark.slow
@pytest.mark.parametrize("lang", sorted(LANGUAGES))
async def test_a_line_of_the_block_and_its_placeholder_read_the_same(
    service: RunningService, page: Page, pages: Pages, lang: str
) -> None:
    drawn = random.Random(1619938)
    total, year, month, today = sorted((drawn.randrange(10**12) for _ in range(4)), reverse=True)
    lines = {"today": today, "yesterday": 5318, "month": month, "year": year, "total": total}
    options = [part for key, n in lines.items() for part in (f"--{key}", str(n))]
    service.run("baseline", service.site, *options)
    body = tag(service, f'data-lang="{lang}" data-count="false"')
    await page.goto(pages.put(ARTICLE, document(body + OWN_MARKUP)))
    items = page.get_by_role("listitem")
    await expect(items).to_have_count(5)
    block = [text.rpartition(": ")[2] for text in await items.all_text_contents()]
    assert block == [line_texts([n] * 5, lang)[0] for n in lines.values()]
    for nth, text in enumerate(block):  # written when the document is read, in a round of its own
        await expect(page.locator("b").nth(nth)).to_have_text(text)


async def test_no_text_of_an_answer_becomes_markup(page: Page, pages: Pages) -> None:
    # This web site is the counter, and hostile.
    script = resources.files("hitcounter.web").joinpath("static", "widget.js").read_text("utf-8")
    pages.put("/widget.js", script, "text/javascript")
    evil = "<img src=x onerror=alert(1)>"
    line = f'{{"key": "today", "label": "{evil}", "value": 1, "text": "{evil}"}}'
    widget = f'{{"lang": "\\"{evil}", "title": "{evil}", "lines": [{line}]}}'
    pages.post_answer = f'{{"site": "{evil}", "state": "{evil}", "widget": {widget}}}'
    await page.goto(pages.put(ARTICLE, document(tag(pages, 'data-theme="plain"'))))
    await expect(page.get_by_role("heading", name=evil)).to_have_count(1)
    await expect(page.locator("img")).to_have_count(0)
