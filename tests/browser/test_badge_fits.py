"""The badge in a real browser: no text meets another, in any language and with any usual font."""

from itertools import combinations
from typing import Any

import pytest
from playwright.async_api import Page

from hitcounter.block import LANGUAGES, LINE_KEYS, THEMES
from hitcounter.config import Config
from hitcounter.counting.numbers import FRESH, Numbers
from hitcounter.hit import NO_PAGE
from hitcounter.period import day_of
from hitcounter.store.client import N_LANES
from hitcounter.store.keys import lane_of, site_keys
from hitcounter.web.badge import Look, draw

pytestmark = pytest.mark.asyncio(loop_scope="session")

# DejaVu Sans is among the widest that a system may have as its own; its bold cut is wider still.
FONTS = ("system-ui", "Arial", "bold 14px DejaVu Sans")
LARGE = (1_619_938, 999_999_999_999, 2**63)
LEAST_GAP_PX = 6
BOXES = """() => {
  const frame = document.querySelector("svg").getBoundingClientRect();
  const box = (element) => {
    const { left, right, top, bottom } = element.getBoundingClientRect();
    return { left: left - frame.left, right: right - frame.left, top: top - frame.top,
             bottom: bottom - frame.top };
  };
  return { width: frame.width, height: frame.height,
           boxes: [...document.querySelectorAll("text:first-of-type, tspan")].map(box) };
}"""
# As WCAG 2 reckons it.
CONTRASTS = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/\\d+/g).map((n) => n / 255)
      .map((n) => (n <= 0.03928 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const fill = (selector) => {
    const element = document.querySelector(selector);
    return element && light(getComputedStyle(element).fill);
  };
  const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const page = matchMedia("(prefers-color-scheme: dark)").matches ? 0 : 1;
  const paper = fill(".paper") ?? page;
  return ["text", "tspan", ".number"].map((selector) => ratio(fill(selector), paper));
}"""


def badge(lang: str, value: int, theme: str = "light") -> str:
    """Draw a badge without a service."""
    site = Config().site("demo")
    names = site_keys(lane_of(site.name, N_LANES), site.name, day_of(0, site.timezone).date)
    numbers = Numbers(site, names, [value] * len(LINE_KEYS), FRESH, NO_PAGE, None, 0)
    return draw(numbers, Look(lang, LINE_KEYS, theme))


def overlap(a: dict[str, float], b: dict[str, float]) -> bool:
    """Tell whether two boxes in one row come too close."""
    is_same_row = a["top"] < b["bottom"] - 1 and b["top"] < a["bottom"] - 1
    return is_same_row and a["left"] < b["right"] + LEAST_GAP_PX and b["left"] < a["right"]


@pytest.mark.slow
@pytest.mark.parametrize("font", FONTS)
@pytest.mark.parametrize("value", LARGE)
@pytest.mark.parametrize("lang", sorted(LANGUAGES))
async def test_no_text_meets_another_or_the_edge(
    page: Page, lang: str, value: int, font: str
) -> None:
    await page.set_content(badge(lang, value))
    rule = f"font: {font}" if " " in font else f"font-family: {font}"
    await page.add_style_tag(content=f"text {{ {rule} !important; }}")
    drawn: dict[str, Any] = await page.evaluate(BOXES)
    boxes = drawn["boxes"]
    assert len(boxes) == 1 + 2 * len(LINE_KEYS)
    assert [pair for pair in combinations(boxes, 2) if overlap(*pair)] == []
    assert min(box["left"] for box in boxes) > 8
    assert max(box["right"] for box in boxes) < drawn["width"] - 8
    assert max(box["bottom"] for box in boxes) < drawn["height"]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("theme", THEMES)
async def test_every_text_stands_out(page: Page, theme: str, scheme: str) -> None:
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await page.set_content(badge("vi", 1_619_938, theme))
    assert min(await page.evaluate(CONTRASTS)) >= 4.5


@pytest.mark.slow
async def test_it_is_one_image_with_a_name_and_a_description(page: Page) -> None:
    await page.set_content(badge("vi", 1_619_938))
    image = page.get_by_role("img", name="Số lượt truy cập")
    assert await image.count() == 1
    session = await page.context.new_cdp_session(page)
    tree = await session.send("Accessibility.getFullAXTree")
    (node,) = [each for each in tree["nodes"] if each["role"]["value"] == "image"]
    assert node["description"]["value"].startswith("Trong ngày: 1.619.938; Hôm qua: 1.619.938;")
