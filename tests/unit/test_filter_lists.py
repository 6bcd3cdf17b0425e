"""Which names are taken for what they are not, and that no document of ours has one."""

import re
from pathlib import Path

import pytest

from hitcounter.config import Config
from hitcounter.filter_lists import listed_word, listed_word_of_site, warnings
from hitcounter.pages import index
from hitcounter.web.routes import ROUTES, SITE_ROUTES

ROOT = Path(__file__).parents[2]
SUFFIXES = {".md", ".html", ".js", ".yaml", ".toml", ".service", ".conf", ".sh"}
FILES = [
    *ROOT.glob("*.md"),
    *(
        path
        for folder in ("docs", "deploy", "src/hitcounter/web/static")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in SUFFIXES
    ),
]
# An address is a URL, or the path in an attribute of a page or in a rule of a proxy.
ADDRESS = re.compile(
    r"""https?://[^\s"'<>`)]+|(?<==")/[^"]+"""
    r"""|(?:(?<=location )|(?<=path )|(?<=redir )|(?<=ProxyPass ))/\S*"""
)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("https://hitcounter.example.vn/", "hitcounter."),
        ("https://HitCounter.example.vn/", "hitcounter."),
        ("https://example.vn/hitcounter/widget.js", "hitcounter/"),
        ("https://example.vn/hitcounter.js", "hitcounter."),
        ("https://hit-counter.example.vn/", "hit-counter."),
        ("https://example.vn/hit_counter.php", "hit_counter"),
        ("https://example.vn/hitcount/", "hitcount/"),
        ("https://example.vn/webcounter/", "webcounter/"),
        ("https://counter.example.vn/", "counter."),
        ("https://count2.example.vn/", "count2."),
        ("http://stats.example.vn:8080/", "stats."),
        ("http://analytics-1.example.vn/", "analytics-"),
        ("http://pixel.example.vn/", "pixel."),
        ("https://dem.example.vn/", ""),
        ("https://www.example.vn/dem/", ""),
        ("https://truycap.example.vn/", ""),
        ("https://state.example.vn/", ""),
        ("https://country.example.vn/", ""),
        ("https://www.counter.example.vn/", ""),
        ("https://hitcounter-vn.example/", ""),
        ("https://my-hitcounter.example.vn/", ""),
        ("http://127.0.0.1:8080/", ""),
    ],
)
def test_what_lists_block_of_an_address_is_found(url: str, word: str) -> None:
    assert listed_word(url).lower() == word


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("hitcounter.example.vn", "hitcounter."),
        ("hit-counter.example.vn", "hit-counter."),
        ("hitcounter", "hitcounter/"),
        ("webcounter", "webcounter/"),
        ("demo", ""),
        ("counter.example.vn", ""),  # no address of ours is called so
        ("www.hitcounter.example.vn", ""),
    ],
)
def test_what_lists_block_of_the_addresses_of_a_site_is_found(name: str, word: str) -> None:
    assert listed_word_of_site(name) == word


def test_the_settings_of_a_service_are_warned_of_by_name() -> None:
    config = Config(host="hitcounter.example.vn")
    sites = {name: config.site(name) for name in ("demo", "hitcounter.vn")}
    host, site = warnings(Config(host=config.host, sites=sites))
    assert host.startswith("the host hitcounter.example.vn has 'hitcounter.', ")
    assert site.startswith("the site hitcounter.vn has 'hitcounter.', ")
    assert warnings(Config()) == []


def addresses(path: Path) -> list[str]:
    """List the addresses that a file names."""
    return ADDRESS.findall(path.read_text("utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_address_of_ours_is_one_that_lists_block(path: Path) -> None:
    assert [address for address in addresses(path) if listed_word(address)] == []
    # The package of that name on the index is a stranger's.
    assert not re.search(
        r"(pip|pipx|uv) .*install hitcounter|uvx hitcounter", path.read_text("utf-8")
    )


def test_the_files_have_addresses_of_ours() -> None:
    found = [address for path in FILES for address in addresses(path)]
    assert sum("dem.example.vn" in address for address in found) > 10


def test_no_endpoint_is_called_as_those_that_lists_block() -> None:
    paths = [*ROUTES, *index.ROUTES, *(f"/v1/sites/demo/{name}" for name in SITE_ROUTES)]
    assert [path for path in paths if listed_word(path)] == []
    assert not re.search("collect|pageview|track|/hits/", " ".join(paths))
    assert [path for path in paths if path.endswith(".gif")] == ["/v1/sites/demo/pixel.gif"]
