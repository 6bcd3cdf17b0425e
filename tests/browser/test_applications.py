"""Pages that change without being loaded anew, by the libraries and frameworks that do it.

Each change of page counts one view, and after each there is exactly one block, at its place.
"""

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser import packages
from tests.browser.counted import Counted, Traffic, counted
from tests.browser.editor import SNIPPETS, Faults, bare_tag, place, shows_once
from tests.browser.pages import Pages, document
from tests.conftest import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAMES = ("a", "b", "c")
LINKS = "<nav>" + "".join(f'<a id="to-{n}" href="/{n}">{n}</a>' for n in NAMES) + "</nav>"
# What a library needs: its scripts, what starts it, and the element whose content it changes.
LIBRARIES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "turbo": (("@hotwired/turbo/dist/turbo.es2017-umd.js",), "", "<div>"),
    "htmx": (("htmx.org/dist/htmx.min.js",), "", '<div hx-boost="true">'),
    "swup": (
        ("swup/dist/Swup.umd.js",),
        "<script>new Swup({ animationSelector: false })</script>",
        '<div id="swup">',
    ),
    "jquery-pjax": (
        ("jquery-3/dist/jquery.min.js", "jquery-pjax/jquery.pjax.js"),
        "<script>$(document).pjax('a', '#pjax', { fragment: '#pjax' })</script>",
        '<div id="pjax">',
    ),
}
# jquery-pjax takes out what has the address of a script that is there already: such a tag is gone.
KEPT = [
    (lib, kind) for lib in LIBRARIES for kind in SNIPPETS if (lib, kind) != ("jquery-pjax", "tag")
]
VIEWS = (4, {"/a": 2, "/b": 2})


def put_scripts(pages: Pages, names: tuple[str, ...]) -> str:
    """Publish scripts of packages, and write what loads them."""
    for n, name in enumerate(names):
        pages.put(f"/library-{n}.js", packages.shipped(name), "text/javascript")
    return "".join(f'<script src="/library-{n}.js"></script>' for n in range(len(names)))


def publish(pages: Pages, library: str, snippet: str) -> str:
    """Put three pages on the web site that a library changes between; return the first."""
    scripts, start, container = LIBRARIES[library]
    head = put_scripts(pages, scripts)
    for name in NAMES:
        sidebar = f'<aside id="sidebar">{snippet}</aside>'
        body = f"{container}{LINKS}<h2>{name}</h2>{sidebar}</div>{start}"
        pages.put(f"/{name}", document(body, head=head))
    return f"{pages.url}/a"


def fill_in(text: str, service: RunningService) -> str:
    """Write the address of the counter and the name of the site into a built page."""
    return text.replace("COUNTER", service.url).replace("SITE", service.site)


async def walk(page: Page, start: str) -> None:
    """Open a page, go to another, back and forward again; check the block each time."""
    await page.goto(start)
    await shows_once(page, 1)
    await page.evaluate("window.marker = 'the same document'")
    await page.click("#to-b")
    await shows_once(page, 2)
    for n, step in ((3, "back"), (4, "forward")):
        await page.evaluate(f"history.{step}()")
        await shows_once(page, n)
    assert await page.evaluate("window.marker") == "the same document"


async def settled_views(page: Page, service: RunningService, traffic: Traffic) -> Counted:
    """Read the store when no change of address can still become a view."""
    await page.evaluate("new Promise((resolve) => setTimeout(resolve, 1200))")
    await traffic.settled()
    return counted(service)


@pytest.mark.slow
@pytest.mark.parametrize(("library", "kind"), KEPT)
async def test_a_library_that_changes_pages_counts_one_view_for_each(
    service: RunningService,
    page: Page,
    pages: Pages,
    traffic: Traffic,
    faults: Faults,
    library: str,
    kind: str,
) -> None:
    await walk(page, publish(pages, library, SNIPPETS[kind](service)))
    assert await settled_views(page, service, traffic) == VIEWS
    assert faults.seen == []


@pytest.mark.slow
async def test_a_tag_that_pjax_takes_out_of_the_page_counts_on_and_draws_no_block(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, faults: Faults
) -> None:
    await page.goto(publish(pages, "jquery-pjax", SNIPPETS["tag"](service)))
    await shows_once(page, 1)
    await page.click("#to-b")
    await expect(page.get_by_role("heading", name="b", exact=True)).to_be_visible()
    await expect(page.get_by_role("region")).to_have_count(0)
    assert await settled_views(page, service, traffic) == (2, {"/a": 1, "/b": 1})
    assert faults.seen == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", SNIPPETS)
async def test_the_router_of_astro_counts_one_view_for_each_page(
    service: RunningService,
    page: Page,
    pages: Pages,
    traffic: Traffic,
    faults: Faults,
    kind: str,
) -> None:
    site = packages.built("astro")
    for path in site.rglob("*.js"):
        pages.put(f"/{path.relative_to(site)}", path.read_text("utf-8"), "text/javascript")
    for name in NAMES:
        html = (site / f"{kind}-{name}" / "index.html").read_text("utf-8")
        pages.put(f"/{kind}-{name}", fill_in(html, service))
    await walk(page, f"{pages.url}/{kind}-a")
    views = {f"/{kind}-a": 2, f"/{kind}-b": 2}
    assert await settled_views(page, service, traffic) == (4, views)
    assert faults.seen == []


FALLBACK = (
    '<noscript><img src="{}/v1/sites/{}/badge.svg?count=1" loading="lazy" alt=""/></noscript>'
)


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
async def test_the_image_for_visitors_without_scripts_is_not_asked_for_beside_the_script(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, library: str
) -> None:
    fallback = FALLBACK.format(service.url, service.site)
    await page.goto(publish(pages, library, SNIPPETS["element"](service) + fallback))
    await shows_once(page, 1)
    await page.click("#to-b")
    await shows_once(page, 2)
    assert await settled_views(page, service, traffic) == (2, {"/a": 1, "/b": 1})
    assert [line for line in traffic.asked if "badge" in line] == []


@pytest.mark.slow
async def test_pjax_that_gives_up_and_loads_the_page_counts_one_view(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    await page.goto(publish(pages, "jquery-pjax", SNIPPETS["element"](service)))
    await shows_once(page, 1)
    await page.evaluate("window.marker = 'the first document'")

    async def answer_late(route: Route) -> None:
        if route.request.headers.get("x-pjax"):
            return  # after its own 650 ms it asks for the page instead
        await route.continue_()

    await page.route("**/b*", answer_late)
    await page.click("#to-b")
    await page.wait_for_function("!window.marker && document.readyState === 'complete'")
    await shows_once(page, 2)
    assert await settled_views(page, service, traffic) == (2, {"/a": 1, "/b": 1})


@pytest.mark.slow
@pytest.mark.parametrize("root", ["client", "root", "document"])
@pytest.mark.parametrize("version", ["18", "19"])
async def test_react_keeps_the_block_and_finds_its_own_markup(
    service: RunningService,
    page: Page,
    pages: Pages,
    traffic: Traffic,
    faults: Faults,
    version: str,
    root: str,
) -> None:
    script = packages.built(f"react-{version}.js").read_text("utf-8")
    pages.put("/application.js", fill_in(script, service), "text/javascript")
    await walk(page, put_application(pages, service, root, version))
    assert await settled_views(page, service, traffic) == VIEWS
    assert faults.seen == []


def put_application(pages: Pages, service: RunningService, root: str, version: str) -> str:
    """Publish what the server sends: an empty root, a rendered one, or all of it rendered."""
    if root == "document":
        html = packages.built(f"document-{version}.html").read_text("utf-8")
        return pages.put("/a", fill_in(html, service))
    rendered = packages.built(f"root-{version}.html").read_text("utf-8") if root == "root" else ""
    body = (
        f'<div id="root">{fill_in(rendered, service)}</div><script src="/application.js"></script>'
    )
    return pages.put("/a", document(body, head=bare_tag(service)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", SNIPPETS)
@pytest.mark.parametrize("version", ["18", "19"])
async def test_a_snippet_beside_the_root_is_none_of_reacts_business(
    service: RunningService,
    page: Page,
    pages: Pages,
    traffic: Traffic,
    faults: Faults,
    version: str,
    kind: str,
) -> None:
    script = packages.built(f"react-{version}.js").read_text("utf-8")
    # This application draws no block of its own.
    pages.put("/application.js", script.replace("hit-counter", "span"), "text/javascript")
    rendered = packages.built(f"root-{version}.html").read_text("utf-8")
    aside = f'<aside id="beside">{SNIPPETS[kind](service)}</aside>'
    root = rendered.replace("hit-counter", "span")
    body = f'<div id="root">{root}</div>{aside}<script src="/application.js"></script>'
    await page.goto(pages.put("/a", document(body)))
    await shows_once(page, 1, "#beside")
    await page.click("#to-b")
    await shows_once(page, 2, "#beside")
    assert await settled_views(page, service, traffic) == (2, {"/a": 1, "/b": 1})
    assert faults.seen == []


@pytest.mark.slow
async def test_a_tag_in_what_a_server_rendered_waits_until_react_has_found_its_markup(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, faults: Faults
) -> None:
    # As Next.js names its root; React 19 takes such a tag into the head, where it draws nothing.
    script = packages.built("react-18.js").read_text("utf-8")
    pages.put("/application.js", fill_in(script, service), "text/javascript")
    rendered = fill_in(packages.built("tag-18.html").read_text("utf-8"), service)
    body = f'<div id="__next">{rendered}</div><script src="/application.js"></script>'
    await walk(page, pages.put("/a", document(body)))
    assert await settled_views(page, service, traffic) == VIEWS
    assert faults.seen == []


@pytest.mark.slow
async def test_react_router_counts_one_view_for_each_path(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic, faults: Faults
) -> None:
    start = put_router(pages, service, bare_tag(service))
    await walk(page, start)
    assert await settled_views(page, service, traffic) == VIEWS
    assert faults.seen == []


@pytest.mark.slow
async def test_a_route_that_leads_on_to_another_is_one_view(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    await page.goto(put_router(pages, service, bare_tag(service)))
    await shows_once(page, 1)
    await page.click("#to-moved")
    await shows_once(page, 2)
    assert await settled_views(page, service, traffic) == (2, {"/a": 1, "/c": 1})


@pytest.mark.slow
async def test_a_page_that_changes_its_own_address_when_it_is_opened_is_one_view(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    put_router(pages, service, bare_tag(service))
    await page.goto(pages.put("/moved", pages.bodies["/a"][0]))
    await shows_once(page, 1)
    assert (await settled_views(page, service, traffic)).total == 1
    await page.click("#to-b")
    await shows_once(page, 2)


@pytest.mark.slow
async def test_a_router_of_fragments_counts_where_the_editor_says_so(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    start = put_router(pages, service, bare_tag(service).replace("async", 'data-hash="true" async'))
    await walk(page, f"{start}#/a")
    assert (await settled_views(page, service, traffic)).total == 4


@pytest.mark.slow
async def test_a_router_of_fragments_counts_its_page_once_where_the_editor_says_nothing(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    await page.goto(put_router(pages, service, bare_tag(service)) + "#/a")
    await shows_once(page, 1)
    await page.click("#to-b")
    await expect(page.locator("#root h1")).to_have_text("/b")
    assert await settled_views(page, service, traffic) == (1, {"/a": 1})
    await shows_once(page, 1)


def put_router(pages: Pages, service: RunningService, snippet: str) -> str:
    """Publish the application with React Router under all of its paths; return the first."""
    script = packages.built("router.js").read_text("utf-8")
    pages.put("/router.js", fill_in(script, service), "text/javascript")
    body = '<div id="root"></div><script src="/router.js"></script>'
    for name in NAMES:
        pages.put(f"/{name}", document(body, head=snippet))
    return f"{pages.url}/a"


VUE = """<script>
const links = ["a", "b", "c"].map((n) => ({ n, to: "/" + n }));
const Page = {
  data: () => ({ links }),
  template: document.querySelector("template").innerHTML,
};
const router = VueRouter.createRouter({
  history: VueRouter.createWebHistory(),
  routes: [{ path: "/:name", component: { template: "<h2>{{ $route.path }}</h2>" } }],
});
const app = CREATE(Page);
app.config.compilerOptions.isCustomElement = (name) => name === "hit-counter";
app.use(router);
router.isReady().then(() => app.mount("#app"));
</script>"""
VUE_SCRIPTS = ("vue/dist/vue.global.prod.js", "vue-router/dist/vue-router.global.prod.js")


@pytest.mark.slow
@pytest.mark.parametrize("is_hydrated", [False, True])
async def test_vue_and_its_router_keep_the_block(
    service: RunningService,
    page: Page,
    pages: Pages,
    traffic: Traffic,
    faults: Faults,
    is_hydrated: bool,
) -> None:
    sidebar = f'<aside id="sidebar">{place(service)}</aside>'
    link = '<router-link v-for="l in links" :id="`to-${l.n}`" :to="l.to">{{ l.n }}</router-link>'
    template = f"<nav>{link}</nav><router-view></router-view>"
    # As its server renderer writes it.
    links = (f'<a href="/{n}" class="" id="to-{n}">{n}</a>' for n in NAMES)
    rendered = f"<!--[--><nav><!--[-->{''.join(links)}<!--]--></nav><h2>/a</h2>{sidebar}<!--]-->"
    start = VUE.replace("CREATE", f"Vue.create{'SSR' if is_hydrated else ''}App")
    root = f'<div id="app">{rendered if is_hydrated else ""}</div>'
    body = f"{root}<template>{template}{sidebar}</template>{start}"
    head = put_scripts(pages, VUE_SCRIPTS) + bare_tag(service)
    await walk(page, pages.put("/a", document(body, head=head)))
    assert await settled_views(page, service, traffic) == VIEWS
    assert faults.seen == []


MORPHS = {
    "idiomorph": (("idiomorph/dist/idiomorph.min.js",), "Idiomorph.morph(document.body, html)"),
    "morphdom": (("morphdom/dist/morphdom-umd.js",), "morphdom(document.body, html)"),
    "turbo": (
        ("@hotwired/turbo/dist/turbo.es2017-umd.js",),
        "Turbo.visit(location.href, { action: 'replace' })",
    ),
}
REFRESH = """async () => {
  const text = await (await fetch(location.href)).text();
  const html = new DOMParser().parseFromString(text, "text/html").body.outerHTML;
  const done = new Promise((resolve) => addEventListener("turbo:load", resolve, { once: true }));
  CODE;
  if (window.Turbo) await done;
}"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", SNIPPETS)
@pytest.mark.parametrize("library", MORPHS)
async def test_a_refresh_that_morphs_the_page_keeps_the_block_and_counts_nothing(
    service: RunningService,
    page: Page,
    pages: Pages,
    traffic: Traffic,
    faults: Faults,
    library: str,
    kind: str,
) -> None:
    scripts, code = MORPHS[library]
    head = put_scripts(pages, scripts) + '<meta name="turbo-refresh-method" content="morph">'
    number = '<p>Lượt xem: <b data-hitcounter="page">…</b></p>'
    sidebar = f'<aside id="sidebar">{SNIPPETS[kind](service)}{number}</aside>'
    await page.goto(pages.put("/a", document(f"<h2>1</h2>{sidebar}", head=head)))
    await shows_once(page, 1)
    for n in range(2, 5):
        pages.put("/a", document(f"<h2>{n}</h2>{sidebar}", head=head))
        await page.evaluate(REFRESH.replace("CODE", code))
        await expect(page.locator("main > h2")).to_have_text(str(n))
        await shows_once(page, 1)
        await expect(page.locator("b")).to_have_text("1")
    assert await settled_views(page, service, traffic) == (1, {"/a": 1})
    assert faults.seen == []


@pytest.mark.slow
async def test_a_page_whose_markup_was_saved_with_the_block_in_it_has_one_block(
    service: RunningService, page: Page, pages: Pages, traffic: Traffic
) -> None:
    sidebar = f'<aside id="sidebar">{SNIPPETS["tag"](service)}</aside>'
    await page.goto(pages.put("/a", document(sidebar)))
    await shows_once(page, 1)
    # As a prerendering service or a browser's history of an application writes it down.
    serialised = await page.evaluate("document.documentElement.outerHTML")
    for n in (2, 3):
        await page.goto(pages.put("/b", f"<!doctype html>{serialised}"))
        await shows_once(page, n)
        serialised = await page.evaluate("document.documentElement.outerHTML")
    await traffic.settled()
    assert counted(service) == (3, {"/a": 1, "/b": 2})
