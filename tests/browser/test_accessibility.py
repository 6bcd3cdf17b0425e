"""The block for people who see little, hear it, use the keyboard, or are disturbed by motion."""

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.pages import Pages, document, tag
from tests.conftest import RunningService
from tests.speeds import first_is_quick

pytestmark = pytest.mark.asyncio(loop_scope="session")

AXE = Path(__file__).parent / "javascript" / "node_modules" / "axe-core" / "axe.min.js"
ARTICLE = "/tin-tuc/1"
THEMES = ("page", "auto", "light", "dark", "plain")
DARK_PAGE = "<style>body { color: #eee; background: #111 }</style>"
REPORT = """async () => {
  const { violations, incomplete, passes } = await axe.run({ resultTypes: ["violations"] });
  const told = (rules) => rules.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]);
  const passed = passes.map(({ id }) => id);
  return { violations: told(violations), incomplete: told(incomplete), passed };
}"""


@pytest.fixture(scope="session")
def axe() -> str:
    """Read axe-core; where it was not installed, skip, except that CI must not pass without it."""
    if AXE.exists():
        return AXE.read_text("utf-8")
    reason = "axe-core is not installed: sh tests/browser/javascript/check.sh"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


async def findings(page: Page, axe: str) -> Any:
    """Run axe-core as a debugger does, past the policy of the page."""
    await page.evaluate(axe)
    return await page.evaluate(REPORT)


@pytest.mark.parametrize("scheme", first_is_quick(["light", "dark"]))
@pytest.mark.parametrize("theme", first_is_quick(THEMES))
async def test_axe_finds_nothing(
    service: RunningService, page: Page, pages: Pages, axe: str, theme: str, scheme: Any
) -> None:
    await page.emulate_media(color_scheme=scheme)
    head = DARK_PAGE if scheme == "dark" else ""
    body = tag(service, f'data-theme="{theme}"')
    await page.goto(pages.put(ARTICLE, document(body, head=head)))
    await expect(page.get_by_role("region")).to_be_visible()
    found = await findings(page, axe)
    assert found["violations"] == []
    assert found["incomplete"] == []
    assert {"color-contrast", "listitem", "heading-order", "region"} <= set(found["passed"])


@pytest.mark.slow
@pytest.mark.parametrize("colours", ["none", "active"])
@pytest.mark.parametrize("lang", ["vi", "en"])
async def test_axe_finds_nothing_in_any_style_at_200_percent(
    service: RunningService, page: Page, pages: Pages, axe: str, lang: str, colours: Any
) -> None:
    await page.emulate_media(forced_colors=colours, reduced_motion="reduce")
    looks = [(theme, style) for theme in THEMES for style in ("list", "line")]
    blocks = [
        tag(service, f'data-theme="{theme}" data-style="{style}" data-accent="#c8102e"')
        for theme, style in looks
    ]
    column = f'<div style="zoom: 2; width: 150px">{"".join(blocks)}</div>'
    attributes = f'lang="{lang}"'
    await page.goto(pages.put(ARTICLE, document(column, attributes=attributes)))
    await page.evaluate(
        "lang => document.querySelectorAll('hit-counter').forEach((e) => (e.lang = lang))", lang
    )
    await expect(page.locator(f"hit-counter section[lang={lang}]")).to_have_count(len(looks))
    found = await findings(page, axe)
    assert found["violations"] == []
    assert "color-contrast" in found["passed"]


@pytest.mark.slow
async def test_axe_finds_nothing_on_a_page_with_many_blocks(
    service: RunningService, page: Page, pages: Pages, axe: str
) -> None:
    blocks = [tag(service, f'data-theme="{theme}"') for theme in THEMES]
    english = tag(service, 'data-lang="en"')
    await page.goto(pages.put(ARTICLE, document("".join([*blocks, english]))))
    regions = page.get_by_role("region")
    await expect(regions).to_have_count(6)
    await expect(page.get_by_role("listitem")).to_have_count(30)
    names = [await region.get_attribute("aria-label") for region in await regions.all()]
    assert len(set(names)) == 6
    assert (await findings(page, axe))["violations"] == []


@pytest.mark.slow
async def test_a_block_of_four_points_and_one_of_forty_are_read_alike(
    service: RunningService, page: Page, pages: Pages
) -> None:
    small, large = "font-size: 4px", "font-size: 40px"
    body = f'<div style="{small}">{tag(service)}</div><div style="{large}">{tag(service)}'
    await page.goto(pages.put(ARTICLE, document(body)))
    blocks = page.get_by_role("region")
    await expect(blocks).to_have_count(2)
    await expect(blocks.first).to_have_css("font-size", "14px")
    await expect(blocks.last).to_have_css("font-size", "40px")


@pytest.mark.slow
async def test_icons_are_hidden_and_have_no_text(
    service: RunningService, page: Page, pages: Pages
) -> None:
    await page.goto(pages.put(ARTICLE, document(tag(service))))
    icons = page.locator("hit-counter svg")
    await expect(icons).to_have_count(5)
    for icon in await icons.all():
        await expect(icon).to_have_attribute("aria-hidden", "true")
        assert await icon.text_content() == ""
    await expect(page.get_by_role("img")).to_have_count(0)


@pytest.mark.slow
async def test_the_keyboard_passes_by(service: RunningService, page: Page, pages: Pages) -> None:
    links = '<a href="#a" id="a">Trước</a>{}<a href="#b" id="b">Sau</a>'
    await page.goto(pages.put(ARTICLE, document(links.format(tag(service)))))
    await expect(page.get_by_role("region")).to_be_visible()
    for name in ("a", "b"):
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.id") == name


@pytest.mark.slow
async def test_new_numbers_are_not_announced(
    service: RunningService, page: Page, pages: Pages
) -> None:
    body = tag(service) + "<b data-hitcounter=total></b>"
    await page.goto(pages.put(ARTICLE, document(body)))
    await expect(page.locator("b")).to_have_text("1")
    await page.evaluate("history.pushState(null, '', '/tin-tuc/2')")
    await expect(page.locator("b")).to_have_text("2")
    session = await page.context.new_cdp_session(page)
    tree = await session.send("Accessibility.getFullAXTree")
    live = [p for node in tree["nodes"] for p in node.get("properties", []) if p["name"] == "live"]
    assert live == []


@pytest.mark.slow
@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
async def test_nothing_is_animated(
    service: RunningService, page: Page, pages: Pages, motion: Any
) -> None:
    await page.emulate_media(reduced_motion=motion)
    await page.goto(pages.put(ARTICLE, document(tag(service))))
    await expect(page.get_by_role("region")).to_be_visible()
    moving = """() => [...document.querySelector("hit-counter").shadowRoot.querySelectorAll("*")]
      .map((e) => [getComputedStyle(e).transitionDuration, getComputedStyle(e).animationName])
      .filter(([duration, animation]) => duration !== "0s" || animation !== "none")"""
    assert await page.evaluate(moving) == []
    assert await page.evaluate("document.getAnimations().length") == 0


@pytest.mark.slow
async def test_forced_colours_are_kept(service: RunningService, page: Page, pages: Pages) -> None:
    await page.emulate_media(forced_colors="active")
    await page.goto(pages.put(ARTICLE, document(tag(service))))
    block = page.get_by_role("region")
    await expect(block).to_be_visible()
    colours = "block => ['color', 'backgroundColor'].map(name => getComputedStyle(block)[name])"
    text, paper = await block.evaluate(colours)
    assert text != paper


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
async def test_axe_finds_nothing_on_the_front_page(
    service: RunningService, page: Page, axe: str, width: int, scheme: Any
) -> None:
    await page.emulate_media(color_scheme=scheme)
    await page.set_viewport_size({"width": width, "height": 640})
    await page.goto(service.url)
    await page.wait_for_selector("#json:not([hidden])")
    assert (await findings(page, axe))["violations"] == []
