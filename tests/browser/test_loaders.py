"""The snippets on pages that optimisers, loaders and editors have been at, and on strange ones.

Where the tag alone cannot count, nothing throws; a place and a bare tag count once, in the place.
"""

import re
from importlib import resources
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser import loaders, packages
from tests.browser.counted import Traffic, counted
from tests.browser.editor import (
    SNIPPETS,
    Faults,
    bare_tag,
    blocks,
    element,
    place,
    shows_once,
    tag_alone,
)
from tests.browser.pages import Pages, document
from tests.conftest import RunningService
from tests.support.waiting import comes_true

pytestmark = pytest.mark.asyncio(loop_scope="session")

DOCUMENT = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text("utf-8")
ARTICLE = "/tin-tuc/1"
OTHERS = "<script src='/menu.js'></script>"


def widget() -> str:
    """Read the script that is served."""
    script = resources.files("hitcounter.web").joinpath("static", "widget.js")
    return script.read_text("utf-8")


def with_sidebar(snippet: str, after: str = "") -> str:
    """Write the body of a page with a sidebar, and something below it."""
    return f'<aside id="sidebar">{snippet}</aside><p>Văn bản</p>{after}'


async def assert_counted(
    service: RunningService, traffic: Traffic, views: int = 1, path: str = ARTICLE
) -> None:
    """Check what the store holds when all is answered."""
    await comes_true(lambda: counted(service).total >= views, "the view is counted")
    await traffic.settled()
    assert counted(service) == (views, {path: views})


@pytest.mark.slow
@pytest.mark.parametrize("kind", SNIPPETS)
@pytest.mark.parametrize("loader", loaders.IN_PLACE)
async def test_a_loader_that_keeps_scripts_in_their_place(
    service: RunningService,
    page: Page,
    pages: Pages,
    traffic: Traffic,
    faults: Faults,
    loader: str,
    kind: str,
) -> None:
    body = loaders.IN_PLACE[loader](with_sidebar(SNIPPETS[kind](service)))
    await page.goto(pages.put(ARTICLE, document(body)))
    await shows_once(page, 1)
    await assert_counted(service, traffic)
    assert faults.seen == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", SNIPPETS)
@pytest.mark.parametrize("loader", loaders.DELAYED)
async def test_a_loader_that_waits_for_the_visitor_counts_when_they_do_something(
    service: RunningService,
    page_of_whole_browser: Page,
    pages: Pages,
    loader: str,
    kind: str,
) -> None:
    page = page_of_whole_browser
    traffic, faults = Traffic(page.context), Faults(page)
    body = loaders.DELAYED[loader](with_sidebar(SNIPPETS[kind](service)))
    await page.goto(pages.put(ARTICLE, document(body)))
    assert counted(service).total == 0
    assert traffic.asked == []
    await page.mouse.move(100, 100)
    await shows_once(page, 1)
    await assert_counted(service, traffic)
    assert faults.seen == []


@pytest.mark.slow
@pytest.mark.parametrize("loader", loaders.WITH_OPT_OUT)
async def test_a_tag_that_opts_out_of_all_loaders_counts_at_once_where_it_stands(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, loader: str
) -> None:
    (attributes,) = re.findall(r'widget\.js" (data-cfasync="false".*?)></script>', DOCUMENT, re.S)
    tag = (
        f'<script async="" src="{service.url}/widget.js" {attributes} data-show="inline"></script>'
    )
    body = loaders.WITH_OPT_OUT[loader](with_sidebar(place(service) + tag))
    assert tag in body.partition("<p>")[0]
    await page.goto(pages.put(ARTICLE, document(body)))
    await shows_once(page, 1)
    await assert_counted(service, traffic)


async def test_scripts_that_move_to_the_end_leave_the_block_in_its_place(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, faults: Faults
) -> None:
    body = loaders.moves_scripts(OTHERS + with_sidebar(element(service)) + OTHERS)
    await page.goto(pages.put(ARTICLE, document(body)))
    await shows_once(page, 1)
    await assert_counted(service, traffic)
    assert faults.seen == []


@pytest.mark.slow
async def test_a_tag_alone_that_moves_to_the_end_counts_and_draws_there(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    body = loaders.moves_scripts(with_sidebar(tag_alone(service)))
    await page.goto(pages.put(ARTICLE, document(body)))
    await shows_once(page, 1, "main")
    await expect(page.locator("#sidebar").get_by_role("region")).to_have_count(0)
    await assert_counted(service, traffic)


@pytest.mark.slow
async def test_a_bare_tag_of_the_head_that_moves_to_the_end_draws_nothing_there(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    body = loaders.moves_scripts(bare_tag(service) + with_sidebar(place(service)))
    await page.goto(pages.put(ARTICLE, document(body)))
    await shows_once(page, 1)
    await assert_counted(service, traffic)


@pytest.mark.slow
async def test_two_sites_whose_tags_become_one_are_both_counted_and_drawn(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    other = f"{service.site}-other"
    second = element(service).replace(f'site="{service.site}"', f'site="{other}"')
    body = with_sidebar(element(service), f'<footer id="footer">{second}</footer>')
    await page.goto(pages.put(ARTICLE, document(loaders.moves_scripts(body))))
    for where in ("#sidebar", "#footer"):
        line = page.locator(where).get_by_role("region").get_by_role("listitem").last
        await expect(line).to_have_text("Tổng truy cập: 1")
    await expect(blocks(page)).to_have_count(2)
    await traffic.settled()
    assert counted(service) == counted(service, other) == (1, {ARTICLE: 1})


@pytest.mark.slow
async def test_the_form_that_editors_keep_is_drawn_and_counts(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, faults: Faults
) -> None:
    kept = f'<div data-hitcounter="block" data-server="{service.url}" data-site="{service.site}">'
    text = loaders.editor_filter(f'{element(service)}{kept}</div><b data-hitcounter="total">…</b>')
    body = loaders.moves_scripts(with_sidebar(text) + bare_tag(service))
    await page.goto(pages.put(ARTICLE, document(body)))
    await shows_once(page, 1)
    await expect(page.locator("b")).to_have_text("1")
    await assert_counted(service, traffic)
    assert faults.seen == []


@pytest.mark.slow
@pytest.mark.parametrize("copy", loaders.COPIES)
async def test_a_copy_of_the_script_counts_where_the_place_says(
    service: RunningService,
    page: Page,
    pages: Pages,
    traffic: Traffic,
    faults: Faults,
    copy: str,
) -> None:
    script = loaders.COPIES[copy](pages, widget())
    await page.goto(pages.put(ARTICLE, document(with_sidebar(place(service) + script))))
    await shows_once(page, 1)
    await assert_counted(service, traffic)
    assert faults.seen == []


@pytest.mark.slow
async def test_a_copy_that_keeps_the_attributes_of_a_tag_counts_where_it_says(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    attributes = f'data-server="{service.url}" data-site="{service.site}"'
    script = loaders.rehosted(pages, widget()).replace("<script", f"<script {attributes}")
    await page.goto(pages.put(ARTICLE, document(with_sidebar(script))))
    await shows_once(page, 1)
    await assert_counted(service, traffic)


@pytest.mark.slow
@pytest.mark.parametrize("copy", loaders.COPIES)
async def test_a_copy_without_a_word_of_where_the_counter_is_harms_nothing(
    service: RunningService,
    page: Page,
    pages: Pages,
    traffic: Traffic,
    faults: Faults,
    copy: str,
) -> None:
    script = loaders.COPIES[copy](pages, widget())
    silent = place(service).replace(f'server="{service.url}"', "")
    body = with_sidebar(silent + script + "<script>onload = () => fetch('/loaded')</script>")
    await page.goto(pages.put(ARTICLE, document(body)))
    await comes_true(lambda: "/loaded" in pages.asked, "the page is loaded")
    await traffic.settled()
    assert counted(service).total == 0
    assert faults.seen == []


@pytest.mark.slow
async def test_a_module_counts_where_the_place_says(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, faults: Faults
) -> None:
    module = f'<script type="module" src="{service.url}/widget.js"></script>'
    await page.goto(pages.put(ARTICLE, document(with_sidebar(place(service) + module))))
    await shows_once(page, 1)
    await assert_counted(service, traffic)
    assert faults.seen == []


@pytest.mark.slow
async def test_a_manager_of_tags_that_drops_our_attributes_loads_what_the_place_needs(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, faults: Faults
) -> None:
    manager = f"""<script>
      // As a custom HTML tag of Google Tag Manager: made anew, with nothing of ours.
      addEventListener("DOMContentLoaded", () => {{
        const script = document.createElement("script");
        script.src = "{service.url}/widget.js";
        document.body.append(script);
      }});
    </script>"""
    await page.goto(pages.put(ARTICLE, document(with_sidebar(place(service)), head=manager)))
    await shows_once(page, 1)
    await assert_counted(service, traffic)
    assert faults.seen == []


JQUERY = {
    "html": '$("#sidebar").html($("#kept").text())',
    "append": '$("#sidebar").append($("#kept").text())',
    "load": '$("#sidebar").load("/khoi.html")',
}


@pytest.mark.slow
@pytest.mark.parametrize("method", JQUERY)
@pytest.mark.parametrize("version", ["jquery-1", "jquery-2", "jquery-3"])
async def test_a_snippet_that_jquery_puts_into_the_page_counts(
    service: RunningService,
    page: Page,
    pages: Pages,
    traffic: Traffic,
    faults: Faults,
    version: str,
    method: str,
) -> None:
    pages.put("/jquery.js", packages.shipped(f"{version}/dist/jquery.min.js"), "text/javascript")
    pages.put("/khoi.html", element(service))
    kept = element(service).replace("</script", "<\\/script")
    start = f"<script>$(() => {{ {JQUERY[method]} }})</script>"
    if method != "load":
        start = start.replace('$("#kept").text()', f"`{kept}`")
    head = '<script src="/jquery.js"></script>'
    await page.goto(pages.put(ARTICLE, document(with_sidebar("", start), head=head)))
    await shows_once(page, 1)
    await assert_counted(service, traffic)
    assert faults.seen == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", SNIPPETS)
async def test_another_element_of_our_name_costs_no_view(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, kind: str
) -> None:
    foreign = """<script>
      customElements.define("hit-counter", class extends HTMLElement {});
    </script>"""
    thrown: list[str] = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    body = with_sidebar(SNIPPETS[kind](service))
    async with page.expect_console_message(lambda line: "hitcounter" in line.text):
        await page.goto(pages.put(ARTICLE, document(body, head=foreign)))
    await assert_counted(service, traffic)
    assert thrown == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["relative", "element", "tag"])
async def test_a_counter_below_a_path_of_the_page_s_own_host(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, kind: str
) -> None:
    async def forward(route: Route) -> None:
        url = route.request.url.replace(f"{pages.url}/dem", service.url)
        await route.fulfill(response=await route.fetch(url=url))

    await page.route(f"{pages.url}/dem/**", forward)
    if kind == "relative":
        snippet = (
            f'<hit-counter server="/dem/" site="{service.site}"></hit-counter>'
            '<script async="" src="/dem/widget.js"></script>'
        )
    else:
        snippet = SNIPPETS[kind](service).replace(service.url, f"{pages.url}/dem")
    await page.goto(pages.put(ARTICLE, document(with_sidebar(snippet))))
    await shows_once(page, 1)
    await assert_counted(service, traffic)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SNIPPETS)
@pytest.mark.parametrize("query", ["?ver=6.5", "?_=1732864980123", "?v=2&amp;utm_source=x"])
async def test_what_caches_and_libraries_add_to_the_address_of_the_script_is_passed_over(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, query: str, kind: str
) -> None:
    snippet = SNIPPETS[kind](service).replace("/widget.js", f"/widget.js{query}")
    await page.goto(pages.put(ARTICLE, document(with_sidebar(snippet))))
    await shows_once(page, 1)
    await assert_counted(service, traffic)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SNIPPETS)
async def test_the_snippet_twice_counts_once_and_draws_two(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, kind: str
) -> None:
    body = with_sidebar(SNIPPETS[kind](service) * 2)
    await page.goto(pages.put(ARTICLE, document(body)))
    lines = page.locator("#sidebar").get_by_role("region").get_by_role("listitem")
    await expect(lines).to_have_count(10)
    await expect(lines.last).to_have_text("Tổng truy cập: 1")
    await assert_counted(service, traffic)


@pytest.mark.slow
async def test_a_script_that_runs_again_after_consent_joins_the_program_that_is_there(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, faults: Faults
) -> None:
    await page.goto(pages.put(ARTICLE, document(with_sidebar(tag_alone(service)))))
    await shows_once(page, 1)
    for _ in range(2):
        await page.evaluate(
            """() => new Promise((resolve) => {
              const old = document.querySelector("#sidebar script");
              const script = document.createElement("script");
              for (const { name, value } of old.attributes) script.setAttribute(name, value);
              script.onload = resolve;
              old.replaceWith(script);
            })"""
        )
        await shows_once(page, 1)
    await assert_counted(service, traffic)
    assert faults.seen == []


@pytest.mark.slow
async def test_headers_that_a_monitor_adds_cost_no_view(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, faults: Faults
) -> None:
    monitor = """<script>
      const original = fetch;
      window.fetch = (input, options = {}) => original(input, { ...options, headers: {
        ...options.headers, traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        baggage: "k=v", "X-Requested-With": "XMLHttpRequest", "X-Own": "1" } });
    </script>"""
    body = with_sidebar(element(service))
    await page.goto(pages.put(ARTICLE, document(body, head=monitor)))
    await shows_once(page, 1)
    await assert_counted(service, traffic)
    assert faults.seen == []


@pytest.mark.slow
async def test_places_and_tags_in_a_shadow_tree(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, faults: Faults
) -> None:
    shadow = f"""<div id="sidebar"><template shadowrootmode="open">{element(service)}
      <b data-hitcounter="total">…</b></template></div>"""
    await page.goto(pages.put(ARTICLE, document(shadow)))
    await shows_once(page, 1)
    await expect(page.locator("b")).to_have_text("1")
    await assert_counted(service, traffic)
    assert faults.seen == []


@pytest.mark.slow
async def test_a_change_of_the_address_by_the_navigation_api_counts(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    intercept = """<script>
      navigation.addEventListener("navigate", (event) => {
        if (event.canIntercept) event.intercept({ handler: async () => {} });
      });
    </script>"""
    body = with_sidebar(element(service), '<a id="to" href="/tin-tuc/2">Tin</a>')
    await page.goto(pages.put(ARTICLE, document(body, head=intercept)))
    await shows_once(page, 1)
    await page.click("#to")
    await shows_once(page, 2)
    await traffic.settled()
    assert counted(service) == (2, {ARTICLE: 1, "/tin-tuc/2": 1})


@pytest.mark.slow
async def test_a_place_in_a_frame_without_an_address_counts_under_its_parent_s(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    inner = element(service).replace('"', "&quot;").replace("<", "&lt;")
    await page.goto(pages.put(ARTICLE, document(f'<iframe srcdoc="{inner}"></iframe>')))
    frame = page.frame_locator("iframe")
    await expect(frame.get_by_role("listitem").last).to_have_text("Tổng truy cập: 1")
    await assert_counted(service, traffic)


@pytest.mark.slow
async def test_a_picture_that_counts_is_asked_for_below_the_fold_too(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    picture = f"{service.url}/v1/sites/{service.site}/badge.svg?count=1&amp;path={ARTICLE}"
    image = f'<img loading="eager" src="{picture}&amp;ver=6.5" alt=""/>'
    body = f'<div style="height: 9000px"></div>{image}'
    await page.goto(pages.put(ARTICLE, document(body)))
    await assert_counted(service, traffic)


WORKER = """<script>
  const worker = new Worker("/worker.js");
  worker.onmessage = ({ data }) => fetch("/ended?" + data);
</script>"""


@pytest.mark.slow
async def test_a_worker_without_a_document_gets_one_line_in_the_console(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    lines: list[str] = []
    page.on("console", lambda line: lines.append(line.text))
    # As Partytown does with scripts of others, where it gives them no document.
    code = f'importScripts("{service.url}/widget.js")'
    pages.put(
        "/worker.js",
        f"try {{ {code}; postMessage('whole') }} catch (e) {{ postMessage(e) }}",
        "text/javascript",
    )
    await page.goto(pages.put(ARTICLE, document(WORKER)))
    await comes_true(lambda: "/ended?whole" in pages.asked, "the script has ended")
    await comes_true(lambda: lines, "the script has said something")
    await traffic.settled()
    assert len(lines) == 1
    assert lines[0].startswith("hitcounter: ")
    assert counted(service).total == 0


ARCHIVE = """<script>
  // As the replay of a web archive: whatever is asked for is asked of the archive.
  const original = fetch;
  window.fetch = (url, options) => original("/web/20261129mp_/" + url, options);
</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", SNIPPETS)
async def test_a_page_in_a_web_archive_asks_the_archive(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, kind: str
) -> None:
    saved = f"/web/20261129js_/{service.url}/widget.js"
    pages.put(saved, widget(), "text/javascript")
    body = with_sidebar(SNIPPETS[kind](service).replace(f"{service.url}/widget.js", saved))
    await page.goto(pages.put(f"/web/20261129/{ARTICLE}", document(body, head=ARCHIVE)))
    await traffic.settled()
    await page.wait_for_load_state("networkidle")
    assert counted(service).total == 0
