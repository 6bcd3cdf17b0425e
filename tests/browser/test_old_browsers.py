"""Browsers of 2019 and 2020, and today's without what those lack: they count, and show the numbers.

Nobody drives the old ones: their pages drive themselves, and ask their web site for notes.
"""

from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.async_api import Page

from tests.browser import packages
from tests.browser.counted import Traffic, counted
from tests.browser.editor import SNIPPETS, Faults, shows_once
from tests.browser.pages import Pages, document
from tests.browser.visitor import visiting
from tests.conftest import RunningService
from tests.support.waiting import comes_true

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

ARTICLE = "/tin-tuc/1"
# Notes each total that the block shows, and goes on to another page after the first.
NOTES = """<script>
  function note(text) { fetch("/note/" + encodeURIComponent(text)); }
  window.onerror = function (message) { note("error: " + message); };
  window.onunhandledrejection = function (event) { note("error: " + event.reason); };
  var noted = "";
  setInterval(function () {
    var line = [].map.call(document.querySelectorAll("#sidebar hit-counter"), function (block) {
      var last = (block.shadowRoot || block).querySelector("section li:last-child");
      return last ? last.textContent : "";
    }).filter(String).join("|");
    if (!/[0-9]/.test(line) || line === noted) return;
    if (!noted) history.pushState(null, "", "/tin-tuc/2");
    noted = line;
    note(line);
  }, 50);
</script>"""
# What each browser lacks, of what scripts of today are tempted to use.
LACKS = {
    "Chromium 74": [
        "Element.prototype.replaceChildren",
        "Document.prototype.replaceChildren",
        "DocumentFragment.prototype.replaceChildren",
        "String.prototype.replaceAll",
        "String.prototype.at",
        "Array.prototype.at",
        "Array.prototype.findLast",
        "Object.hasOwn",
        "Promise.allSettled",
        "Promise.any",
        "AbortSignal.timeout",
        "AbortSignal.any",
        "structuredClone",
        "WeakRef",
        "FinalizationRegistry",
        "navigation",
        "crypto.randomUUID",
        "Element.prototype.checkVisibility",
    ],
    "Safari 12.1": [
        "Element.prototype.replaceChildren",
        "DocumentFragment.prototype.replaceChildren",
        "Document.prototype.adoptedStyleSheets",
        "ShadowRoot.prototype.adoptedStyleSheets",
        "CSSStyleSheet.prototype.replaceSync",
        "CSSStyleSheet.prototype.replace",
        "AbortSignal.timeout",
        "requestIdleCallback",
        "ResizeObserver",
        "PointerEvent",
        "navigation",
    ],
    "no custom elements": ["customElements", "Element.prototype.attachShadow", "navigation"],
}


def without(names: list[str]) -> str:
    """Write what makes a browser lack something."""
    return "".join(f"try {{ delete {name}; }} catch {{}}" for name in names)


@pytest.mark.parametrize("kind", SNIPPETS)
@pytest.mark.parametrize("version", ["74", "83"])
async def test_an_old_chromium_counts_and_draws(
    service: RunningService, pages: Pages, tmp_path: Path, version: str, kind: str
) -> None:
    path = str(packages.built(f"chromium-{version}"))
    body = f'{NOTES}<aside id="sidebar">{SNIPPETS[kind](service)}</aside>'
    url = pages.put(ARTICLE, document(body))
    with visiting(path, tmp_path / "profile", url):
        for n in (1, 2):
            shown = "/note/" + quote(f"Tổng truy cập: {n}")
            await comes_true(lambda shown=shown: shown in pages.asked, f"{n} is shown")  # type: ignore[misc]
    assert counted(service) == (2, {ARTICLE: 1, "/tin-tuc/2": 1})
    assert [path for path in pages.asked if path.startswith("/note/error")] == []


@pytest.mark.parametrize("kind", SNIPPETS)
@pytest.mark.parametrize("browser_of_old", LACKS)
async def test_what_old_browsers_lack_costs_no_view(
    service: RunningService,
    page: Page,
    pages: Pages,
    traffic: Traffic,
    faults: Faults,
    browser_of_old: str,
    kind: str,
) -> None:
    await page.add_init_script(without(LACKS[browser_of_old]))
    body = f'<aside id="sidebar">{SNIPPETS[kind](service)}</aside>'
    await page.goto(pages.put(ARTICLE, document(body)))
    if "customElements" not in LACKS[browser_of_old]:
        await shows_once(page, 1)
    await comes_true(lambda: counted(service).total, "the view is counted")
    await traffic.settled()
    await page.evaluate("history.pushState(null, '', '/tin-tuc/2')")
    await comes_true(lambda: counted(service).total == 2, "the second view is counted")
    await traffic.settled()
    assert counted(service) == (2, {ARTICLE: 1, "/tin-tuc/2": 1})
    assert faults.seen == []
