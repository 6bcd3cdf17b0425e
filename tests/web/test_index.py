"""The front page and the addresses of the script: what is shown, and that nobody else writes it."""

import gzip
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256, sha384
from html import unescape
from html.parser import HTMLParser
from itertools import takewhile
from typing import cast
from urllib.parse import parse_qs, urlencode, urlsplit
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitcounter.block import LANGUAGES, LINE_KEYS, STYLES, THEMES, Language
from hitcounter.config import Config
from hitcounter.pages import front_page
from hitcounter.pages.front_page import Choice
from hitcounter.web.badge import Look
from hitcounter.web.responses import accepts_gzip
from hitcounter.web.scripts import CURRENT
from tests.conftest import RunningService, StartService
from tests.support.stores import keyspace
from tests.support.wire import Answer, ask, exchange

# One process starts the services that these share.
pytestmark = pytest.mark.xdist_group("index")

DECLARED = """
[sites."news.example.vn"]
[sites.english]
lang = "en"
"""
WITH_DEMO = f"{DECLARED}\n[sites.demo]\n"
WITH_DEMO_ELSEWHERE = f'{DECLARED}\n[sites.demo]\norigins = ["https://demo.example.vn"]\n'
Attributes = Mapping[str, str]

WRITTEN = ("title", "accent")  # into the form


class Page(HTMLParser):
    """The elements of the page, the texts to copy, and what is for browsers without scripts."""

    def __init__(self, text: str) -> None:
        """Read a page."""
        super().__init__()
        self.elements: list[tuple[str, Attributes]] = []
        self.snippets: list[str] = []
        self.fallbacks: list[Attributes] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag in ("pre", "noscript"):
            self._open.append(tag)
        if tag == "pre":
            self.snippets.append("")
        if tag == "img" and "noscript" in self._open:
            self.fallbacks.append(attributes)

    def handle_endtag(self, tag: str) -> None:
        """Leave an element."""
        if tag in self._open:
            self._open.remove(tag)

    def handle_data(self, data: str) -> None:
        """Note what can be copied."""
        if "pre" in self._open:
            self.snippets[-1] += data

    def all(self, tag: str) -> list[Attributes]:
        """List the elements of a name."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def samples(self) -> list[Attributes]:
        """List the places of the live blocks."""
        return self.all("hit-counter")

    @property
    def chosen(self) -> dict[str, str]:
        """Say what the form says."""
        options = [each["value"] for each in self.all("option") if "selected" in each]
        inputs = self.all("input")
        boxes = {each["name"]: each["value"] for each in inputs if "checked" in each}
        (site,) = (each["value"] for each in inputs if each["name"] == "site")
        lang, theme, style = options
        texts = {each["name"]: each["value"] for each in inputs if each["name"] in WRITTEN}
        chosen = {"site": site, "lang": lang, "theme": theme, "style": style} | boxes | texts
        return {name: value for name, value in chosen.items() if value}


@pytest.fixture(scope="module")
def declared(start_shared: StartService) -> RunningService:
    """Start a service with declared sites, and no demo among them."""
    return start_shared(DECLARED)


def front(service: RunningService, query: str = "", **headers: str) -> Page:
    """Open the front page."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = ask(service.port, "GET", f"/{query}", None, named)
    assert answer.status == 200, answer
    return Page(answer.body.decode())


def counting(page: Page) -> list[Attributes]:
    """List the places of the live blocks that count, and the pictures that count in their place."""
    places = [sample for sample in page.samples if sample.get("count") != "false"]
    pictures = [image for image in page.fallbacks if "count" in query_of(image["src"])]
    return [*places, *pictures]


def query_of(url: str) -> dict[str, str]:
    """Read the query of an address."""
    return {name: value for name, [value] in parse_qs(urlsplit(url).query).items()}


# Which site


def test_an_open_service_shows_demo_in_all_themes_and_one_block_counts(
    anyone: RunningService,
) -> None:
    page = front(anyone)
    assert [sample.get("theme", "page") for sample in page.samples] == list(THEMES)
    assert {sample["site"] for sample in page.samples} == {"demo"}
    # With scripts it is the first, and without them the picture in its place.
    assert counting(page) == [page.samples[0], page.fallbacks[0]]
    assert page.snippets[0] == (
        '<hit-counter server="http://counter" site="demo"></hit-counter>\n'
        '<script async="" src="http://counter/widget.js"></script>'
    )


@pytest.mark.slow
def test_where_demo_is_not_counted_the_first_site_is_shown_and_not_counted(
    declared: RunningService,
) -> None:
    page = front(declared)
    assert {sample["site"] for sample in page.samples} == {"news.example.vn"}
    assert counting(page) == []
    counts = next(link["href"] for link in page.all("a") if "/counts" in link["href"])
    assert ask(declared.port, "GET", f"/{counts}").status == 200


@pytest.mark.slow
def test_where_demo_is_declared_it_is_shown_and_counted_if_it_may_be_from_here(
    start_shared: StartService,
) -> None:
    page = front(start_shared(WITH_DEMO))
    assert page.samples[0]["site"] == "demo"
    assert len(counting(page)) == 2
    page = front(start_shared(WITH_DEMO_ELSEWHERE))
    assert page.samples[0]["site"] == "demo"
    assert counting(page) == []


def test_a_view_of_the_page_of_any_other_site_counts_nothing_and_makes_no_site_known(
    anyone: RunningService,
) -> None:
    before = keyspace(anyone)
    assert counting(front(anyone, "?site=new.example.vn")) == []
    assert ask(anyone.port, "HEAD", "/?site=new.example.vn").status == 200
    assert keyspace(anyone) == before


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("site=DEMO", 400, "bad_site"),
        ("site=", 400, "bad_site"),
        ("site=%3Cscript%3E", 400, "bad_site"),
        ("lang=fr", 400, "bad_lang"),
        ("theme=blue", 400, "bad_query"),
        ("today=0", 400, "bad_query"),
        ("total=", 400, "bad_query"),
        ("today=1&today=1", 400, "bad_query"),
        ("lines=today", 400, "bad_query"),
        ("week=1", 400, "bad_query"),
        ("site=other.example.vn", 404, "unknown_site"),
    ],
)
def test_what_cannot_be_chosen_is_refused_as_json(
    declared: RunningService, query: str, status: int, code: str
) -> None:
    answer = ask(declared.port, "GET", f"/?{query}")
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["content-type"] == "application/json"


# What is there to copy


def test_what_is_chosen_is_in_every_tag_and_in_the_form(anyone: RunningService) -> None:
    query = {"site": "www.example.vn", "lang": "en", "theme": "dark", "style": "list"}
    query |= {"today": "1", "total": "1"}
    page = front(anyone, f"?{urlencode(query)}", Host="dem.example.vn:8443")
    server, options = "http://dem.example.vn:8443", "?lang=en&amp;lines=today,total&amp;theme=dark"
    attributes = 'site="www.example.vn" lang="en" lines="today,total" theme="dark"'
    tag, div, _, badge, noscript, pixel, *_, pinned = page.snippets
    place = f'<hit-counter server="{server}" {attributes}></hit-counter>\n'
    assert tag == f'{place}<script async="" src="{server}/widget.js"></script>'
    assert pinned.startswith(f'{place}<script async="" src="{server}/widget-')
    assert pinned.endswith(' crossorigin="anonymous"></script>')
    attributes = re.sub(r"(\w+)=", r"data-\1=", attributes)
    assert div == f'<div data-hitcounter="block" data-server="{server}" {attributes}></div>'
    picture = f'<img src="{server}/v1/sites/www.example.vn/badge.svg{options}'
    assert badge.startswith(f'{picture}&amp;path=/tin-tuc/1" width="')
    assert badge.endswith(' alt="Page views" style="max-width:100%;height:auto" loading="eager" />')
    assert noscript.startswith(f"<noscript>{picture}&amp;count=1")
    assert ' loading="lazy" ' in noscript
    assert f"{server}/v1/sites/www.example.vn/pixel.gif?path=/" in pixel
    assert page.chosen == query


def test_how_the_block_looks_can_be_chosen(anyone: RunningService) -> None:
    query = {"site": "demo", "lang": "vi", "theme": "page", "style": "line", "icons": "off"}
    query |= {"title": 'Số "<lượt>"', "accent": "c8102e", "today": "1", "total": "1"}
    page = front(anyone, f"?{urlencode(query)}")
    assert page.chosen == query
    sample = page.samples[0]
    assert (sample["data-style"], sample["icons"], sample["accent"]) == ("line", "off", "c8102e")
    assert sample["data-title"] == query["title"]
    (div,) = Page(page.snippets[1]).all("div")
    assert div["data-title"] == query["title"]
    (image,) = Page(page.snippets[3]).all("img")
    assert image["alt"] == query["title"]
    named = {"title": query["title"], "lines": "today,total", "accent": "c8102e", "icons": "off"}
    assert query_of(image["src"]) == named | {"path": "/tin-tuc/1"}
    for refused in ("style=dots", "icons=on", "accent=red", f"title={'x' * 61}"):
        answer = ask(anyone.port, "GET", f"/?{refused}")
        assert (answer.status, answer.code) == (400, "bad_query")


def test_an_empty_field_of_the_form_says_nothing(anyone: RunningService) -> None:
    assert front(anyone, "?title=&accent=").snippets == front(anyone).snippets


def test_what_is_copied_is_xml_too(anyone: RunningService) -> None:
    for snippet in front(anyone, "?theme=dark&lang=en").snippets:
        ElementTree.fromstring(f"<body>{snippet}</body>")  # noqa: S314 -- it is ours


def test_a_site_can_be_chosen_in_its_own_script(anyone: RunningService) -> None:
    page = front(anyone, f"?{urlencode({'site': 'Hộinôngdân.vn'})}")
    assert page.chosen["site"] == page.samples[0]["site"] == "xn--hinngdn-uwa2n1471a.vn"


def test_a_name_that_lists_block_is_warned_of(anyone: RunningService) -> None:
    def warning(host: str, query: str = "") -> str:
        (note,) = (
            each for each in front(anyone, query, Host=host).all("p") if each.get("id") == "listed"
        )
        return str(note["id"]) if "hidden" not in note else ""

    assert warning("dem.example.vn") == warning("www.example.vn", "?site=hoi.example.vn") == ""
    assert warning("hitcounter.example.vn") == warning("Counter.example.vn:8080") == "listed"
    assert warning("dem.example.vn", "?site=hitcounter.example.vn") == "listed"


def test_a_tag_says_nothing_that_goes_without_saying(declared: RunningService) -> None:
    def tag(query: str) -> str:
        place = front(declared, f"?{query}").snippets[0].partition("></hit-counter>")[0]
        return place.partition(" site=")[2]

    assert tag("site=english") == tag("site=english&lang=en&theme=page") == '"english"'
    assert tag("site=english&lang=vi") == '"english" lang="vi"'
    assert tag("site=english&" + "&".join(f"{key}=1" for key in LINE_KEYS)) == '"english"'
    assert front(declared, "?site=english").chosen["lang"] == "en"


def test_every_copied_picture_is_answered_in_the_size_that_its_tag_says(
    anyone: RunningService,
) -> None:
    for query in ("", "?lang=en", "?theme=plain&today=1", "?lang=en&month=1&total=1"):
        (image,) = (each for each in Page(front(anyone, query).snippets[3]).all("img"))
        answer = ask(anyone.port, "GET", image["src"].removeprefix("http://counter"))
        assert answer.status == 200
        size = f'width="{image["width"]}" height="{image["height"]}"'
        assert size.encode() in answer.body


def test_our_address_is_that_of_the_visitor(start_shared: StartService) -> None:
    service = start_shared(trusted_proxies="127.0.0.1")
    for headers, origin in (
        ({"Host": "a.example.vn"}, "http://a.example.vn"),
        ({"Host": "[::1]:8080"}, "http://[::1]:8080"),
        ({"Host": "a.example.vn", "X_Forwarded_Proto": "https"}, "https://a.example.vn"),
        ({"Host": "a.example.vn", "X_Forwarded_Proto": "gopher"}, "http://a.example.vn"),
        ({"Host": '"><script>'}, "http://?"),
    ):
        assert f'src="{origin}/widget.js"' in front(service, **headers).snippets[0]
    for prefix, path in (
        ("/dem", "/dem"),
        ("/dem/", "/dem"),
        ("/a/dem-1, /b", "/a/dem-1"),
        ("/", ""),
        ("dem", ""),
        ("//evil.example", ""),
        ("/../dem", ""),
        ('/"><script>', ""),
        ("/" + "a" * 300, ""),
    ):
        page = front(service, Host="a.example.vn", X_Forwarded_Prefix=prefix)
        assert f'src="http://a.example.vn{path}/widget.js"' in page.snippets[0]
        assert page.all("main") == [{"data-server": f"http://a.example.vn{path}"}]


def test_a_stranger_cannot_say_where_we_are(anyone: RunningService) -> None:
    page = front(anyone, Host="a.example.vn", X_Forwarded_Prefix="/dem", X_Forwarded_Proto="https")
    assert 'src="http://a.example.vn/widget.js"' in page.snippets[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("header", "scheme"),
    [
        ("X-Forwarded-Proto: https,http", "https"),
        ("X-Forwarded-Proto: HTTPS , http", "https"),
        ("X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http", "https"),
        ("X-Forwarded-Proto: , https", "https"),
        ("X-Forwarded-Proto: http, https", "http"),
        ("X-Forwarded-Proto: gopher, https", "http"),
    ],
)
@pytest.mark.parametrize("trusted", ["127.0.0.1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
def test_the_first_proxy_says_what_the_visitor_speaks(
    behind_proxies: Callable[[str, str], RunningService],
    trusted: str,
    host: str,
    header: str,
    scheme: str,
) -> None:
    service = behind_proxies(host, trusted)
    raw = f"GET / HTTP/1.1\r\nHost: a.example.vn\r\n{header}\r\n\r\n".encode()
    answer = exchange(service.port, raw)
    assert answer is not None
    assert f'"{scheme}://a.example.vn/widget.js"' in unescape(answer.body.decode())


@pytest.fixture(scope="module")
def behind_proxies(start_shared: StartService) -> Callable[[str, str], RunningService]:
    """Start a service on a host that believes a proxy, once for each."""
    return cache(lambda host, trusted: start_shared(host=host, trusted_proxies=trusted))


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("A.Example.VN:80", "http://a.example.vn"),
        ("a.example.vn.", "http://a.example.vn"),
        ("việt.vn", "http://xn--vit-5kz.vn"),
        ("a.example.vn:443", "http://a.example.vn:443"),
        ("[::1]:80", "http://[::1]"),
        ("a b", "http://?"),
        ("\udcff", "http://?"),
    ],
)
def test_our_address_has_one_spelling(anyone: RunningService, host: str, shown: str) -> None:
    raw = b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode(errors="surrogateescape")
    answer = exchange(anyone.port, raw)
    assert answer is not None
    assert f'"{shown}/widget.js"' in unescape(answer.body.decode())


# Nobody else writes it

WILD = st.text(max_size=30) | st.sampled_from(
    ('"><script>alert(1)</script>', "'onload=alert(1)", "{{tag}}", "javascript:alert(1)", "demo")
)
QUERIES = st.dictionaries(st.sampled_from((*front_page.FIELDS, "x")) | WILD, WILD, max_size=4)
VALID = st.fixed_dictionaries(
    {},
    optional={
        "site": st.from_regex("[a-z0-9][a-z0-9.-]{0,62}", fullmatch=True),
        "lang": st.sampled_from(sorted(LANGUAGES)),
        "theme": st.sampled_from(THEMES),
        "style": st.sampled_from(STYLES),
        "title": WILD,
        **dict.fromkeys(LINE_KEYS, st.just("1")),
    },
)


@given(fields=QUERIES | VALID, host=WILD, proto=WILD)
def test_no_request_gets_anything_into_the_page(
    anyone: RunningService, fields: dict[str, str], host: str, proto: str
) -> None:
    query = urlencode(fields, errors="surrogatepass")
    printable = {
        name: "".join(takewhile(lambda c: " " <= c <= "~", value)).strip()
        for name, value in (("Host", host), ("X-Forwarded-Proto", proto))
    }
    answer = ask(anyone.port, "GET", f"/?{query}", None, printable)
    if answer.status == 200:
        check_page(answer)
    else:
        assert answer.status == 400
        assert list(answer.json) == ["error"]


def check_page(answer: Answer) -> None:
    """Check that nothing in a page is from elsewhere, and that it runs no script but ours."""
    page = Page(answer.body.decode())
    usual = Page(USUAL)
    assert {name for name, _ in page.elements} == {name for name, _ in usual.elements}
    for name, attributes in page.elements:
        assert not [attribute for attribute in attributes if attribute.startswith("on")]
        for attribute in ("src", "href", "action", "data-badge"):
            # Below whatever path we are.
            url = attributes.get(attribute, "./")
            assert re.match(r"\./\Z|[a-z0-9]+[./](?!/)|readyz\Z|#|data:,\Z", url), (name, url)
    assert {script["src"] for script in page.all("script")} == {"widget.js", "index.js"}
    assert "{{" not in answer.body.decode()


USUAL = front_page.page(
    Choice(Config().site("demo"), Look(), counts=True), "http://counter", CURRENT
)


def test_the_page_is_served_with_a_policy_that_allows_only_what_is_ours(
    anyone: RunningService,
) -> None:
    answer = ask(anyone.port, "GET", "/")
    check_page(answer)
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    styles = re.findall("<style>(.*?)</style>", answer.body.decode(), re.DOTALL)
    hashes = [b64encode(sha256(style.encode()).digest()).decode() for style in styles]
    assert f"style-src 'sha256-{hashes[0]}';" in policy
    assert len(hashes) == 1
    assert ' style="' not in answer.body.decode()


def test_every_link_of_the_page_leads_somewhere(anyone: RunningService) -> None:
    page = front(anyone)
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for link in page.all("a"):
        if link["href"].startswith("#"):
            assert link["href"][1:] in ids
        else:
            assert ask(anyone.port, "GET", f"/{link['href']}").status == 200
    assert (
        ask(anyone.port, "GET", "/index.js").headers["content-type"].startswith("text/javascript")
    )


def test_a_language_that_is_added_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = dict.fromkeys(LINE_KEYS, "<i>")
    words = Language("Español", "Visitas <&>", labels, labels, ".")
    monkeypatch.setitem(cast("dict[str, Language]", LANGUAGES), "es", words)
    choice = Choice(Config().site("demo"), Look("es"), counts=True)
    page = Page(front_page.page(choice, "http://counter", CURRENT))
    assert page.chosen["lang"] == "es"
    assert page.fallbacks[0]["alt"] == "Visitas <&>"
    assert page.all("i") == []


# The addresses of the script


def test_the_pinned_tag_names_and_checks_the_script_as_it_is(anyone: RunningService) -> None:
    (tag,) = Page(front(anyone).snippets[-1]).all("script")
    etag = f'W/"{sha256(CURRENT.content).hexdigest()[:12]}"'
    pinned = ask(anyone.port, "GET", tag["src"].removeprefix("http://counter"))
    current = ask(anyone.port, "GET", "/widget.js")
    assert pinned.body == current.body
    assert f"/widget-{sha256(pinned.body).hexdigest()[:12]}.js" in tag["src"]
    digest = b64encode(sha384(pinned.body).digest()).decode()
    assert (tag["integrity"], tag["crossorigin"]) == (f"sha384-{digest}", "anonymous")
    assert pinned.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert current.headers["cache-control"] == "public, max-age=3600"
    for answer in (pinned, current):
        assert answer.headers["etag"] == etag
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"


@pytest.mark.parametrize(
    ("held", "is_held"),
    [
        ('W/"{}"', True),
        ('"{}"', True),
        ('"other", W/"{}"', True),
        ('"{}-gzip"', True),  # as Apache writes it when it compresses
        ("*", True),
        ('W/"000000000000"', False),
        ('""', False),
    ],
)
@pytest.mark.parametrize("path", ["/widget.js", CURRENT.path])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_has_the_script_gets_no_second_one(
    anyone: RunningService, held: str, is_held: bool, path: str, method: str
) -> None:
    headers = {"If-None-Match": held.format(CURRENT.version), "Accept-Encoding": "gzip"}
    answer = ask(anyone.port, method, path, headers=headers)
    assert answer.status == (304 if is_held else 200)
    for name in ("etag", "cache-control", "vary", "access-control-allow-origin"):
        assert answer.headers[name] == ask(anyone.port, method, path).headers[name]


def test_the_script_is_compressed_for_who_accepts_it(anyone: RunningService) -> None:
    plain, small = (
        ask(anyone.port, "GET", "/widget.js", headers={"Accept-Encoding": accepted})
        for accepted in ("br", "br, gzip")
    )
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert len(small.body) <= 6000
    assert gzip.decompress(small.body) == plain.body


@pytest.mark.parametrize(
    ("accepted", "is_small"),
    [
        ("gzip", True),
        ("GZIP;q=0.5", True),
        ("x-gzip", True),
        ("*", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("identity;q=0.5, gzip", True),
        ("gzip;Q=1", True),
        ("", False),
        ("br", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*, gzip;q=0", False),
        ("*;q=0", False),
        ("identity, gzip;q=0.5", False),
        ("notgzip", False),
    ],
)
def test_what_a_client_accepts_is_read_by_its_grammar(accepted: str, is_small: bool) -> None:
    assert accepts_gzip(accepted) is is_small


def test_who_refuses_gzip_gets_none(anyone: RunningService) -> None:
    plain = ask(
        anyone.port, "GET", "/widget.js", headers={"Accept-Encoding": "gzip;q=0, deflate;q=0"}
    )
    assert "content-encoding" not in plain.headers


@pytest.mark.parametrize("path", ["widget-000000000000.js", "widget-.js", "widget-", "widget"])
def test_another_version_is_not_found_and_not_another_content(
    anyone: RunningService, path: str
) -> None:
    answer = ask(anyone.port, "GET", f"/{path}")
    assert (answer.status, answer.code) == (404, "not_found")
    assert answer.headers["cache-control"] == "no-store"


def test_what_content_management_systems_add_to_the_address_changes_nothing(
    anyone: RunningService,
) -> None:
    script = ask(anyone.port, "GET", "/widget.js")
    for query in (
        "?ver=6.4.3",
        "?v=%3Cscript%3E",
        "?v=&v=",
        "?_=1764398",
        "?" + "a&" * 500,
        "?%ff",
    ):
        for path in ("/widget.js", CURRENT.path):
            assert ask(anyone.port, "GET", f"{path}{query}").body == script.body
