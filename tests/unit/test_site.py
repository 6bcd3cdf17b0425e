"""Sites and pages: one page has one name, and no name can do harm."""

import json
import unicodedata
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from hitcounter.errors import Refusal, UnnamedPage
from hitcounter.site import (
    MAX_PATH_BYTES,
    MAX_RAW_PATH,
    Site,
    host_name,
    one_origin,
    origin_host,
    page_path,
    referred_path,
    site_in_path,
    site_name,
)
from tests.query_cases import CASES, NAMES

# Arbitrary text hardly ever looks like an address; what has a meaning in one comes often.
MEANINGFUL = ["/", "//", "%", "%2", "%25", "%2F", "%3F", "?", "#", "%C3%AA", "%CC%87", "+", "\\"]
MEANINGFUL += ["index.html", "/index.htm", "e\u0302\u0323", "\u1ec7", "\u0307", "..", "a", "3F"]
paths = st.lists(st.sampled_from(MEANINGFUL) | st.text(max_size=3)).map(
    lambda parts: "/" + "".join(parts)
)


def page_path_or_none(text: str) -> str | None:
    try:
        return page_path(text)
    except Refusal:
        return None


def site(name: str = "www.example.vn", origins: tuple[str, ...] = ()) -> Site:
    return Site(name, ZoneInfo("Asia/Ho_Chi_Minh"), "vi", frozenset(origins), 100)


@given(st.text() | paths)
@example("/%3F\u0307")
@example("/index.html/index.htm/")
def test_the_path_of_an_answer_asked_for_again_is_the_same_page(text: str) -> None:
    path = page_path_or_none(text)
    assume(path is not None)
    assert path is not None
    assert page_path(path) == path
    assert page_path(quote(path, safe="/%")) == path


@given(st.text() | paths)
def test_a_path_that_passes_is_safe_everywhere(text: str) -> None:
    path = page_path_or_none(text)
    assume(path is not None)
    assert path is not None
    assert path.startswith("/")
    assert len(path.encode()) <= MAX_PATH_BYTES
    assert not any(unicodedata.category(c)[0] == "C" for c in path)
    assert not {"\u2028", "\u2029", "?", "#"} & set(path)
    assert "//" not in path
    assert path == "/" or not path.endswith(("/", "/index.html", "/index.htm"))
    assert unicodedata.is_normalized("NFC", unquote(path))
    assert json.loads(json.dumps(path)) == path


@pytest.mark.parametrize(
    ("spellings", "path"),
    [
        (["/", "//", "/index.html", "/index.htm", "/?a=1", "/#top", "/index.html/"], "/"),
        (["/a", "/a/", "/a//", "//a", "/a?b", "/a#b", "/a/index.html", "/%61"], "/a"),
        (["/a/index.html/index.htm", "/a/index.html//?x#y", "/a/%69ndex.htm"], "/a"),
        (["/tin-tuc/1", "/tin%2Dtuc/1", "/tin-tuc%2F1", "//tin-tuc///1/"], "/tin-tuc/1"),
        (["/vi\u1ec7t", "/vie\u0323\u0302t", "/vie\u0302\u0323t", "/vi%E1%BB%87t"], "/vi\u1ec7t"),
        (["/a b", "/a%20b"], "/a b"),
        (["/100%", "/100%25"], "/100%25"),
        (["/what%3F", "/what%3f"], "/what%3F"),
        (["/c%23"], "/c%23"),
        (["/%2541"], "/%2541"),
    ],
)  # fmt: skip
def test_spellings_of_one_page_are_one_page(spellings: list[str], path: str) -> None:
    assert {page_path(spelling) for spelling in spellings} == {path}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/a", "/A"),
        ("/a", "/b"),
        ("/a+b", "/a b"),
        ("/index.html", "/index.php"),
        ("/myindex.html", "/"),
        ("/index.html.vn", "/"),
        ("/%41", "/%2541"),
        ("/a", "/a/."),
        ("/việt", "/viet"),
    ],
)
def test_other_pages_stay_apart(one: str, other: str) -> None:
    assert page_path(one) != page_path(other)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "starts with /"),
        ("a", "starts with /"),
        ("?/a", "starts with /"),
        ("https://www.example.vn/a", "starts with /"),
        ("/%ED%A0%80", "control characters or surrogates"),
        ("/a\0b", "control characters or surrogates"),
        ("/a%00b", "control characters or surrogates"),
        ("/a%0d%0ab", "control characters or surrogates"),
        ("/a\x85b", "control characters or surrogates"),
        ("/a\ud800b", "control characters or surrogates"),
        ("/\u202e%ff%00", "control characters or surrogates"),
        ("/%00" + "a" * MAX_RAW_PATH, "control characters or surrogates"),
    ],
)
def test_a_path_that_no_page_has_is_refused(path: str, reason: str) -> None:
    with pytest.raises(Refusal, match=reason) as refused:
        page_path(path)
    assert refused.value.code == "bad_path"
    assert type(refused.value) is Refusal


UNNAMED = [
    ("/%ff", "not_utf8"),
    ("/%C3", "not_utf8"),
    ("/%c0%af", "not_utf8"),
    ("/caf%E9", "not_utf8"),
    ("/caf\udce9", "not_utf8"),
    ("/a\u202eb", "invisible"),
    ("/a%E2%80%AEb", "invisible"),
    ("/a\u2066b", "invisible"),
    ("/a\u2028b", "invisible"),
    ("/a\u2029b", "invisible"),
    ("/a\ufeffb", "invisible"),
    ("/a\ue000b", "invisible"),
    ("/a\u0378b", "invisible"),
    ("/a\u200db", "invisible"),
    ("/a\u00adb", "invisible"),
    ("/" + "a" * 600, "too_long"),
    ("/" + "ộ" * 171, "too_long"),
    ("/" + "%C3" * 700, "too_long"),
]


@pytest.mark.parametrize(("path", "reason"), UNNAMED)
def test_a_page_that_cannot_be_named_has_a_reason(path: str, reason: str) -> None:
    with pytest.raises(UnnamedPage) as unnamed:
        page_path(path)
    assert (unnamed.value.code, unnamed.value.reason) == ("bad_path", reason)


def test_a_path_that_would_shrink_to_fit_is_refused_before_the_work() -> None:
    with pytest.raises(Refusal, match="at most 512 bytes"):
        page_path("/index.html" * MAX_PATH_BYTES)
    assert page_path("/" * (4 * MAX_PATH_BYTES)) == "/"


@pytest.mark.parametrize(("character", "n_bytes"), [("a", 1), ("ê", 2), ("ệ", 3), ("%3F", 3)])
def test_a_path_has_at_most_512_bytes(character: str, n_bytes: int) -> None:
    fits = (
        "/" + "a" * ((MAX_PATH_BYTES - 1) % n_bytes) + character * ((MAX_PATH_BYTES - 1) // n_bytes)
    )
    assert len(page_path(fits).encode()) == MAX_PATH_BYTES
    with pytest.raises(Refusal, match="at most 512 bytes"):
        page_path(fits + "a")


@pytest.mark.parametrize(
    "name", ["demo", "a", "0", "lhhkhkt.example.vn", "xn--vit-8ma.vn", "a" * 63]
)
def test_a_host_name_is_the_name_of_a_site(name: str) -> None:
    assert site_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "A", "Demo", ".demo", "-demo", "a" * 64, "a_b", "a:b", "a/b", "a b", "demo\n"],
)
def test_other_names_of_sites_are_refused(name: str) -> None:
    with pytest.raises(Refusal, match="a site name is") as refused:
        site_name(name)
    assert refused.value.code == "bad_site"


@pytest.mark.parametrize(
    ("name", "punycode"),
    [
        ("hộinôngdân.vn", "xn--hinngdn-uwa2n1471a.vn"),
        ("HỘINÔNGDÂN.VN", "xn--hinngdn-uwa2n1471a.vn"),
        (unicodedata.normalize("NFD", "hộinôngdân.vn"), "xn--hinngdn-uwa2n1471a.vn"),
        ("báo.hộinôngdân.vn.", "xn--bo-mia.xn--hinngdn-uwa2n1471a.vn"),
        ("việt", "xn--vit-5kz"),
        ("ｗｗｗ.đếm.vn", "www.xn--m-kia809t.vn"),
        ("faß.example", "xn--fa-hia.example"),  # not as Python's own codec writes it
        ("ΑΣ.example", "xn--mxa0b.example"),
        ("日本語。jp", "xn--wgv71a119e.jp"),
        ("☃.example", "xn--n3h.example"),
    ],
)
def test_a_name_in_its_own_script_is_its_punycode(name: str, punycode: str) -> None:
    assert site_name(name) == site_in_path(quote(name)) == site_name(punycode) == punycode


@pytest.mark.parametrize(
    "name",
    [
        "hội nông dân",
        "hội/nông",
        "hội_nông",
        "hội?",
        "hội@a.vn",
        "\u0309i.vn",  # a mark without its letter
        "hộ\u200di.vn",
        "hội\u202e.vn",
        "hội\ud800.vn",
        "\U0010fffd.vn",
        "ộ" * 60,
        "ộ." * 40,
        ".hội",
    ],
)
def test_other_names_in_another_script_are_refused(name: str) -> None:
    with pytest.raises(Refusal, match="a site name is"):
        site_name(name)
    raw = quote(name, errors="surrogatepass")
    assert site_in_path(raw) == raw


@pytest.mark.parametrize(
    "raw", ["demo", "%61bc", "%", "%ff", "h%E1%BB%99%2", "a%2fb", "h%e1%bb%99%ff"]
)
def test_what_else_a_path_encodes_stays_for_the_check_to_refuse(raw: str) -> None:
    assert site_in_path(raw) == raw


@given(st.text())
def test_a_name_that_passes_can_be_a_part_of_a_key(text: str) -> None:
    try:
        name = site_name(text)
    except Refusal:
        return
    assert not set(name) & set(':{}/ \n"')
    assert name == name.lower()
    assert name.isascii()
    assert site_name(name) == name


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://www.example.vn", "www.example.vn"),
        ("http://www.example.vn:8080", "www.example.vn"),
        ("www.example.vn", "www.example.vn"),
        ("null", "null"),
        ("", ""),
    ],
)
def test_the_host_of_an_origin_is_found(origin: str, host: str) -> None:
    assert origin_host(origin) == host


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("WWW.Example.VN", "www.example.vn"),
        ("example.vn.", "example.vn"),
        ("việt.vn", "xn--vit-5kz.vn"),
        ("VIỆT.VN", "xn--vit-5kz.vn"),
        ("vie\u0323\u0302t.vn", "xn--vit-5kz.vn"),
        ("XN--Vit-5KZ.vn", "xn--vit-5kz.vn"),
        ("10.0.0.1", "10.0.0.1"),
        ("[::1]", "[::1]"),
        ("", ""),
        (".", ""),
        ("a b", ""),
        ("ê" * 64, ""),
        ("\udcff", ""),
        ("a" * 254, ""),
        ("<b>", ""),
    ],
)
def test_the_spellings_of_one_host_are_one_host(text: str, host: str) -> None:
    assert host_name(text) == host


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://WWW.Example.vn:443", "https://www.example.vn"),
        ("http://example.vn.:80", "http://example.vn"),
        ("http://example.vn:443", "http://example.vn:443"),
        ("https://việt.vn:8443", "https://xn--vit-5kz.vn:8443"),
        ("HTTP://[::1]:80", "http://[::1]"),
        ("example.vn", "example.vn"),
        ("null", "null"),
        ("chrome-extension://abc", ""),
        ("https://", ""),
        ("https://[::g]", ""),
        ("https://user@example.vn", ""),
        ("https://example.vn/", ""),
        ('https://"><script>', ""),
    ],
)
def test_the_spellings_of_one_origin_are_one_origin(text: str, origin: str) -> None:
    assert one_origin(text) == origin


def test_a_site_knows_its_hosts_in_every_spelling() -> None:
    site_ = site("xn--vit-5kz.vn", ("https://tin.xn--vit-5kz.vn",))
    for host in ("VIỆT.vn", "www.việt.vn.", "XN--VIT-5KZ.VN", "tin.việt.vn"):
        assert site_.owns(host)
    for origin in ("https://TIN.xn--vit-5kz.vn:443", "https://tin.việt.vn."):
        assert site_.admits(origin)
    assert not site_.admits("https://tin.việt.vn:8443")
    assert referred_path("https://VIỆT.vn.:443/a", site_) == "/a"


@pytest.mark.parametrize(
    ("name", "origins", "host", "expected"),
    [
        ("example.vn", (), "example.vn", True),
        ("example.vn", (), "www.example.vn", True),
        ("www.example.vn", (), "example.vn", True),
        ("example.vn", (), "en.example.vn", False),
        ("example.vn", (), "notexample.vn", False),
        ("example.vn", (), "example.vn.evil.com", False),
        ("example.vn", (), "", False),
        ("demo", ("https://www.example.vn",), "example.vn", True),
        ("demo", ("example.vn", "http://en.example.vn:8080"), "en.example.vn", True),
        ("demo", ("https://www.example.vn",), "evil.com", False),
    ],
)
def test_a_site_owns_its_name_and_the_hosts_of_its_origins(
    name: str, origins: tuple[str, ...], host: str, expected: bool
) -> None:
    assert site(name, origins).owns(host) is expected


@pytest.mark.parametrize(
    ("origins", "origin", "expected"),
    [
        ((), "https://anybody.example", True),
        (("https://www.example.vn",), "https://www.example.vn", True),
        (("https://www.example.vn",), "http://www.example.vn", False),
        (("https://www.example.vn",), "https://www.example.vn:8443", False),
        (("www.example.vn",), "http://www.example.vn:8080", True),
        (("www.example.vn",), "https://evil.com", False),
        (("www.example.vn",), "https://www.example.vn.evil.com", False),
        (("www.example.vn",), "null", False),
    ],
)
def test_a_site_with_origins_admits_no_other(
    origins: tuple[str, ...], origin: str, expected: bool
) -> None:
    assert site(origins=origins).admits(origin) is expected


@pytest.mark.parametrize(
    ("referer", "path"),
    [
        ("https://www.example.vn/tin-tuc/1?id=2#top", "/tin-tuc/1"),
        ("https://example.vn/tin-tuc/1", "/tin-tuc/1"),
        ("http://EXAMPLE.vn:8080/a/index.html", "/a"),
        ("https://www.example.vn/", None),
        ("https://www.example.vn", None),
        ("https://evil.com/tin-tuc/1", None),
        ("https://www.example.vn@evil.com/a", None),
        ("/tin-tuc/1", None),
        ("", None),
        ("http://[/a", None),
        ("https://www.example.vn/%ff", None),
        ("https://www.example.vn/" + "a" * MAX_PATH_BYTES, None),
    ],
)
def test_a_referer_names_a_page_only_of_the_site_itself(referer: str, path: str | None) -> None:
    assert referred_path(referer, site()) == path


@given(st.text() | paths.map(lambda path: "https://www.example.vn" + path))
def test_no_referer_is_an_error(referer: str) -> None:
    path = referred_path(referer, site())
    assert path is None or page_path(path) == path


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("/a?id=1", "/a%3Fid=1"),
        ("/a/?x=2&id=1&nv=b", "/a%3Fnv=b&id=1"),
        ("/index.html?id=1#top", "/%3Fid=1"),
        ("/a?id=&nv", "/a"),
        ("/a?id=1&id=2", "/a%3Fid=1"),
        ("/a?id=x+y", "/a%3Fid=x y"),
        ("/a?id=x%20y", "/a%3Fid=x y"),
        ("/a?ID=1&op=2", "/a"),
        ("/a?id=%2525", "/a%3Fid=%2525"),
        ("/a?id=1?nv=2", "/a%3Fid=1%3Fnv=2"),
    ],
)
def test_parameters_of_a_page_stay_in_their_order_and_all_others_go(text: str, page: str) -> None:
    assert page_path(text, ("nv", "id")) == page
    assert page_path(page, ("nv", "id")) == page
    assert page_path(page) == page


@given(st.text(max_size=80).map("/a?id={}".format))
def test_a_page_with_parameters_asked_for_again_is_the_same_page(text: str) -> None:
    try:
        page = page_path(text, ("id",))
    except (Refusal, UnnamedPage):
        return
    assert page_path(page, ("id",)) == page


@pytest.mark.parametrize(("search", "kept"), CASES.items())
def test_a_query_names_a_page_by_the_first_of_each_parameter(search: str, kept: str) -> None:
    expected = f"/bai%3F{kept}" if kept else "/bai"
    assert page_path(f"/bai{search}", NAMES) == expected
    assert page_path(expected) == expected
