"""How the block looks in its page, by measured boxes: narrow columns, titles, accents, styles."""

import random
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser import sidebars
from tests.browser.pages import Pages, document, tag
from tests.conftest import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

ARTICLE = "/tin-tuc/1"
WIDTHS_PX = (140, 160, 180, 240, 320)
SEVEN_DIGITS = (1130, 5318, 179_278, 970_736, 1_619_939)
NINE_DIGITS = (11_290, 15_318, 1_792_770, 97_073_500, 123_619_943)
TITLE = "Số lượt truy cập"
# Of each block and each of its rows: where the number ends, and what is seen of the label.
ROWS = """() => [...document.querySelectorAll("hit-counter")].map((host) =>
  [...host.shadowRoot.querySelectorAll("li")].map((row) => {
    const box = (part) => {
      const range = document.createRange();
      range.selectNodeContents(row.querySelector(`[part=${part}]`));
      return range.getBoundingClientRect();
    };
    const label = box("label"), number = box("number"), { right } = row.getBoundingClientRect();
    const words = row.querySelector("[part=label] > span");
    const icon = row.querySelector("svg");
    const is_below = number.top >= label.bottom - 1;
    return { is_below, is_at_edge: Math.abs(number.right - right) < 1,
      is_short: getComputedStyle(words).fontSize === "0px",
      has_icon: !!icon && icon.getBoundingClientRect().width > 0,
      is_apart: is_below || label.right <= number.left };
  }))"""
STYLE_OF = "(block, name) => getComputedStyle(block)[name]"
HOSTILE = (
    *("<", ">", '"', "'", "&", ";", "}", "{", "/*", "*/", ":", "(", ")", "#", " ", "\\", "\n"),
    *("<img src=x onerror=alert(1)>", "</style>", "<script>alert(1)</script>", "url(//x.invalid/)"),
    *("red", "c8102e", "#fff", "line", "dark", "off", "today", "expression(", "javascript:"),
)
ATTRIBUTES = ("theme", "data-style", "data-title", "icons", "accent", "lines", "query", "lang-x")
INSIDE = """(host) => {
  const root = host.shadowRoot || host;
  const section = root.querySelector("section");
  return { names: [...root.querySelectorAll("*")].map((e) => e.localName),
    attributes: [...root.querySelectorAll("*")].flatMap((e) => e.getAttributeNames()),
    style: section.getAttribute("style") || "", sheets: root.adoptedStyleSheets?.length ?? 0 };
}"""


def _baseline(service: RunningService, numbers: tuple[int, ...]) -> None:
    keys = ("today", "yesterday", "month", "year", "total")
    options = [f"--{key}={number}" for key, number in zip(keys, numbers, strict=True)]
    service.run("baseline", service.site, *options)


def _columns(service: RunningService, attributes: str, font: str) -> str:
    place = f'<hit-counter site="{service.site}" count="false" {attributes}></hit-counter>'
    columns = "".join(f'<div style="width:{width}px">{place}</div>' for width in WIDTHS_PX)
    script = f'<script async src="{service.url}/widget.js"></script>'
    return f'<div style="font:{font}">{columns}</div>{script}'


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["vi", "en"])
@pytest.mark.parametrize("font", ["16px Liberation Sans", "14px DejaVu Sans"])
@pytest.mark.parametrize("numbers", [SEVEN_DIGITS, NINE_DIGITS])
async def test_narrow_columns_change_all_rows_alike_and_numbers_keep_one_right_edge(
    service: RunningService,
    page: Page,
    pages: Pages,
    numbers: tuple[int, ...],
    font: str,
    lang: str,
) -> None:
    _baseline(service, numbers)
    body = _columns(service, f'lang="{lang}"', font)
    await page.goto(pages.put(ARTICLE, document(body)))
    await expect(page.get_by_role("listitem")).to_have_count(5 * len(WIDTHS_PX))
    blocks = await page.evaluate(ROWS)
    for rows in blocks:
        assert all(row == rows[0] for row in rows)
        assert rows[0]["is_at_edge"]
        assert rows[0]["is_apart"]
        assert not rows[0]["is_below"]
    assert [rows[0]["is_short"] for rows in blocks[:2]] == [True, True]
    assert [rows[0]["is_short"] for rows in blocks[3:]] == [False, False]
    assert [rows[0]["has_icon"] for rows in blocks] == [False, False, False, *[True] * 2][:5]


@pytest.mark.slow
async def test_in_the_narrowest_column_all_labels_stand_above_their_numbers(
    service: RunningService, page: Page, pages: Pages
) -> None:
    _baseline(service, SEVEN_DIGITS)
    style = "width:150px;font:20px Liberation Sans"
    await page.goto(pages.put(ARTICLE, document(f'<div style="{style}">{tag(service)}</div>')))
    await expect(page.get_by_role("listitem")).to_have_count(5)
    [rows] = await page.evaluate(ROWS)
    assert all(row == rows[0] for row in rows)
    assert rows[0]["is_below"]
    assert rows[0]["is_at_edge"]


@pytest.mark.slow
async def test_the_default_is_written_in_the_ink_of_the_page(
    service: RunningService, page: Page, pages: Pages
) -> None:
    await page.emulate_media(color_scheme="dark")
    style = "color:rgb(255, 250, 240);background:#8c1220;font:17px/1.5 Liberation Serif"
    await page.goto(pages.put(ARTICLE, document(f'<div style="{style}">{tag(service)}</div>')))
    block = page.get_by_role("region")
    await expect(block).to_have_css("color", "rgb(255, 250, 240)")
    await expect(block).to_have_css("background-color", "rgba(0, 0, 0, 0)")
    await expect(block).to_have_css("font-size", "17px")
    await expect(block).to_have_css("border-top-width", "0px")
    line = await page.get_by_role("heading", level=2).evaluate(STYLE_OF, "borderBottomColor")
    assert line.replace("srgb ", "").endswith("/ 0.22)")
    total, year = page.locator("[part~=row-total]"), page.locator("[part~=row-year]")
    await expect(total).to_have_css("border-top-width", "1px")
    await expect(year).to_have_css("border-top-width", "0px")


@pytest.mark.slow
async def test_a_title_of_ones_own_or_none_and_no_icons(
    service: RunningService, page: Page, pages: Pages
) -> None:
    place = '<hit-counter title="x" style="color:red" count="false" {}></hit-counter>'
    places = 'data-title="Thống kê" data-icons="off"', 'data-title=""', ""
    body = tag(service, 'data-block="off"') + "".join(map(place.format, places))
    await page.goto(pages.put(ARTICLE, document(body)))
    regions = page.get_by_role("region")
    await expect(regions).to_have_count(3)
    await expect(regions.nth(0)).to_have_accessible_name("Thống kê")
    await expect(regions.nth(1)).to_have_accessible_name(f"{TITLE} 2")
    await expect(page.get_by_role("heading", level=2)).to_have_text(["Thống kê", TITLE])
    assert [await regions.nth(n).locator("svg").count() for n in range(3)] == [0, 5, 5]


@pytest.mark.slow
async def test_an_accent_paints_icons_and_variables_the_rest(
    service: RunningService, page: Page, pages: Pages
) -> None:
    variables = "--hitcounter-text:rgb(1, 2, 3);--hitcounter-background:rgb(4, 5, 6)"
    head = f"<style>hit-counter {{ {variables};--hitcounter-padding:7px }}</style>"
    colours = ('data-accent="#c8102e"', 'data-accent="C8102E"', 'data-accent="red;}"', "")
    body = "".join(tag(service, colour) for colour in colours)
    await page.goto(pages.put(ARTICLE, document(body, head=head)))
    regions = page.get_by_role("region")
    await expect(regions).to_have_count(4)
    icons = [regions.nth(n).locator("svg").first for n in range(4)]
    strokes = [await icon.evaluate(STYLE_OF, "stroke") for icon in icons]
    assert strokes[0] == strokes[1] != strokes[2] == strokes[3]
    for name, value in (("color", "rgb(1, 2, 3)"), ("background-color", "rgb(4, 5, 6)")):
        await expect(regions.first).to_have_css(name, value)
    await expect(regions.first).to_have_css("padding-left", "7px")
    await expect(regions.first.locator("[part=number]").first).to_have_css("color", "rgb(1, 2, 3)")


@pytest.mark.slow
async def test_one_line_has_short_labels_and_breaks_between_pairs_only(
    service: RunningService, page: Page, pages: Pages
) -> None:
    _baseline(service, SEVEN_DIGITS)
    place = (
        f'<hit-counter site="{service.site}" count="false" data-style="line" data-title=""'
        ' lines="today,total"></hit-counter>'
    )
    columns = "".join(f'<div style="width:{width}px">{place}</div>' for width in (150, 320))
    script = f'<script async src="{service.url}/widget.js"></script>'
    font = "font:14px Liberation Sans"
    await page.goto(pages.put(ARTICLE, document(f'<div style="{font}">{columns}</div>{script}')))
    items = page.get_by_role("listitem")
    await expect(items).to_have_text(["Hôm nay: 1.130", "Tổng: 1.619.939"] * 2)
    boxes = [await item.bounding_box() for item in await items.all()]
    tops = [box["y"] for box in boxes if box]
    heights = {box["height"] for box in boxes if box}
    assert tops[0] < tops[1]
    assert tops[2] == tops[3]
    assert len(heights) == 1


BOXES = """(host) => {
  const box = (element) => element.getBoundingClientRect().toJSON();
  const rows = [...host.shadowRoot.querySelectorAll("li")];
  const size = parseFloat(getComputedStyle(rows[0]).fontSize);
  return { place: box(host.parentElement), size, ink: getComputedStyle(rows[0]).color,
    around: getComputedStyle(host.parentElement).color, page: document.documentElement.scrollWidth,
    rows: rows.map(box), numbers: rows.map((row) => box(row.querySelector("[part=number]"))) };
}"""


@pytest.mark.slow
@pytest.mark.parametrize("name", sidebars.NAMES)
async def test_in_the_styles_of_other_pages_all_rows_are_alike(
    service: RunningService, page: Page, pages: Pages, name: str
) -> None:
    _baseline(service, NINE_DIGITS)
    await page.set_viewport_size({"width": 960, "height": 700})
    place = f'<hit-counter site="{service.site}" count="false"></hit-counter>'
    head, body = sidebars.surrounded(name, place)
    script = f'<script async src="{service.url}/widget.js"></script>'
    await page.goto(pages.put(ARTICLE, document(body + script, head=head)))
    await expect(page.get_by_role("listitem").last).to_contain_text("123.619.943")
    found = await page.locator("hit-counter").evaluate(BOXES)
    assert found["ink"] == found["around"]
    assert found["page"] == 960
    right = found["rows"][0]["right"]
    assert right <= found["place"]["right"] + 1
    assert all(abs(number["right"] - right) < 1 for number in found["numbers"])
    heights = [round(row["height"] / found["size"], 1) for row in found["rows"][:-1]]
    assert len(set(heights)) == 1
    assert heights[0] in (1.9, 3.4)  # all labels beside their numbers, or all above


@pytest.mark.slow
async def test_no_value_of_an_attribute_becomes_markup_style_or_script(
    service: RunningService, page: Page, pages: Pages
) -> None:
    dialogs: list[str] = []
    asked: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    body = f'<hit-counter site="{service.site}"></hit-counter>{tag(service, "data-block=off")}'
    await page.goto(pages.put(ARTICLE, document(body)))
    await expect(page.get_by_role("region")).to_be_visible()
    drawn = random.Random(20190419)
    allowed = {"section", "h2", "ul", "li", "svg", "path", "span", "data"}
    for _ in range(60):
        values = {name: "".join(drawn.choices(HOSTILE, k=3)) for name in ATTRIBUTES}
        inside = await _inside(page, values)
        assert set(inside["names"]) <= allowed
        assert not [name for name in inside["attributes"] if name.startswith("on")]
        style = inside["style"].partition(":")[2].strip(" ;").lower()
        assert style in ("", "#c8102e", "#fff")
    assert dialogs == []
    assert [url for url in asked if "x.invalid" in url] == []


async def _inside(page: Page, values: dict[str, str]) -> Any:
    """Set attributes of the block, and look into it when it was drawn again."""
    host = page.locator("hit-counter")
    await host.evaluate(
        """(host, values) => new Promise((resolve) => {
          new MutationObserver((_, observer) => { observer.disconnect(); resolve(); })
            .observe(host.shadowRoot, { childList: true });
          for (const name in values) host.setAttribute(name, values[name]);
        })""",
        values,
    )
    return await host.evaluate(INSIDE)
