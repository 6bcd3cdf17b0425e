"""The front page: the live block in all themes, and what to copy for the options of a query.

Pure text building. From outside come the name of a site and our own address, both checked; what
gets into the page is escaped besides.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from importlib import resources
from typing import NamedTuple
from urllib.parse import urlencode

from hitcounter.block import LANGUAGES, LINE_KEYS, STYLES, THEMES
from hitcounter.config import Config
from hitcounter.errors import Refusal
from hitcounter.filter_lists import listed_word, listed_word_of_site
from hitcounter.site import Site
from hitcounter.web import badge, hit_request
from hitcounter.web.badge import Look
from hitcounter.web.scripts import Script

# A line that should be shown is a field of its own, so that the form works without a script.
FIELDS = ("site", "lang", "theme", "style", "title", "icons", "accent", *LINE_KEYS)
DEMO = "demo"

_TEMPLATE = resources.files("hitcounter.pages").joinpath("static", "index.html").read_text("utf-8")
_STYLE = _TEMPLATE.partition("<style>")[2].partition("</style>")[0]
_STYLE_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()
# The page runs only our own scripts, and shows nothing from elsewhere.
CSP = (
    f"default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'sha256-{_STYLE_HASH}';"
    " img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
_CAPTIONS = {
    "page": "theo trang",
    "auto": "theo máy",
    "light": "sáng",
    "dark": "tối",
    "plain": "không kiểu dáng",
}
_STYLE_CAPTIONS = {"list": "danh sách", "line": "một dòng"}
_EXAMPLE = "/tin-tuc/1"
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_FITTING = 'style="max-width:100%;height:auto"'
# In a page that a script has parsed, a lazy image of a <noscript> is never asked for.
_LAZY, _EAGER = 'loading="lazy"', 'loading="eager"'
# Without it, browsers tell an image of another origin not which page it is on.
_REFERRED = 'referrerpolicy="no-referrer-when-downgrade"'
# A reader of feeds or mails is no page of the site.
_PIXEL = f'width="1" height="1" alt="" {_EAGER} referrerpolicy="no-referrer"'


class Choice(NamedTuple):
    """What the page is about; `counts` says whether a view of it is a hit of the site."""

    site: Site
    look: Look
    counts: bool

    @property
    def lang(self) -> str:
        """Name the language of the block."""
        return self.look.lang or self.site.lang


def first_site(config: Config) -> str:
    """Name the site that is shown unless another is chosen: `demo` wherever it is counted."""
    return DEMO if config.is_open or DEMO in config.sites else next(iter(config.sites))


def chosen_look(fields: Mapping[str, str]) -> Look:
    """Check the looks that a query chooses; all lines where it names none."""
    lines = [key for key in LINE_KEYS if hit_request.switch(fields, key, "1")]
    style = fields.get("style", STYLES[0])
    if style not in STYLES:
        raise Refusal("bad_query", f"style is one of {', '.join(STYLES)}")
    chosen = {name: fields[name] for name in ("lang", "theme", "icons") if name in fields}
    written = {name: fields[name] for name in ("title", "accent") if fields.get(name)}
    shown = {"lines": ",".join(lines)} if lines else {}
    return badge.look(chosen | written | shown)._replace(style=style)


def page(choice: Choice, server: str, pinned: Script) -> str:
    """Write the page for who finds us at `server`, an origin or a path of one."""
    texts = {name: escape(text) for name, text in _snippets(choice, server, pinned).items()}
    listed = listed_word(f"{server}/") or listed_word_of_site(choice.site.name)
    parts = {
        "server": escape(server),
        "listed": escape(listed),
        "unlisted": "" if listed else "hidden",
        "site": escape(choice.site.name),
        "badge_measures": _measures(choice),
        "samples": "".join(_sample(choice, theme) for theme in THEMES),
        "languages": _options({tag: words.name for tag, words in LANGUAGES.items()}, choice.lang),
        "themes": _options({key: f"{key} – {_CAPTIONS[key]}" for key in THEMES}, choice.look.theme),
        "styles": _options(_STYLE_CAPTIONS, choice.look.style),
        "title": escape(choice.look.title or ""),
        "usual_title": escape(LANGUAGES[choice.lang].title),
        "accent": escape(choice.look.accent),
        "iconless": "" if choice.look.has_icons else " checked",
        "lines": "".join(_box(key, choice) for key in LINE_KEYS),
        "badge_url": escape(_badge_url(choice)),
        "badge_image": _image(choice, "", _LAZY),
        "counts": escape(f"v1/sites/{choice.site.name}/counts?lang={choice.lang}"),
    }
    return _PLACE.sub(lambda place: (parts | texts)[place[1]], _TEMPLATE)


def _snippets(choice: Choice, server: str, pinned: Script) -> dict[str, str]:
    """Write what is there to be copied, as HTML that is XML as well."""
    address = f"{server}/"
    counting = _image(choice, address, _FITTING, _LAZY, _REFERRED, count="1", path=_EXAMPLE)
    pixel = f"{address}v1/sites/{choice.site.name}/pixel.gif?path={_EXAMPLE}"
    place = f"<hit-counter{_attributes('', choice, server=server)}></hit-counter>\n"
    integrity = f'integrity="{pinned.integrity}" crossorigin="anonymous"'
    data = _attributes("data-", choice, hitcounter="block", server=server)
    return {
        "tag": f'{place}<script async="" src="{address}widget.js"></script>',
        "pinned_tag": f'{place}<script async="" src="{server}{pinned.path}" {integrity}></script>',
        "div": f"<div{data}></div>",
        "badge": _image(choice, address, _FITTING, _EAGER, path=_EXAMPLE),
        "noscript": f"<noscript>{counting}</noscript>",
        "pixel": f'<img src="{pixel}" {_PIXEL} />',
        "placeholder": 'Số lượt xem: <b data-hitcounter="page"></b>',
    }


def _attributes(prefix: str, choice: Choice, **first: str) -> str:
    """Write the attributes of a place, without those that say what goes without saying."""
    named = first | {"site": choice.site.name} | _differences(choice)
    own = {"title": "data-title", "style": "data-style"}  # the others of that name are HTML's
    return "".join(
        f' {own.get(name, prefix + name)}="{escape(value)}"' for name, value in named.items()
    )


def _differences(choice: Choice) -> dict[str, str]:
    """Name the options that differ from what a block of the site looks like without any."""
    look = choice.look
    usual = {"lang": choice.site.lang, "lines": ",".join(LINE_KEYS)}
    usual |= {"theme": THEMES[0], "style": STYLES[0]}
    chosen = {"lang": choice.lang, "lines": ",".join(look.lines), "theme": look.theme}
    chosen |= {"style": look.style, "title": look.title or "", "accent": look.accent}
    chosen |= {"icons": "" if look.has_icons else "off"}
    return {name: value for name, value in chosen.items() if value != usual.get(name, "")}


def _image(choice: Choice, address: str, *attributes: str, **more: str) -> str:
    """Write the tag of a badge."""
    url = escape(address + _badge_url(choice, **more))
    tail = "".join(f" {attribute}" for attribute in (_measures(choice), *attributes))
    return f'<img src="{url}"{tail} />'


def _badge_url(choice: Choice, **more: str) -> str:
    """Write the address of a badge, from where we are."""
    differences = _differences(choice._replace(look=choice.look._replace(style=STYLES[0])))
    query = urlencode(differences | more, safe=",/")
    return f"v1/sites/{choice.site.name}/badge.svg" + (f"?{query}" if query else "")


def _measures(choice: Choice) -> str:
    width, height = badge.size(choice.look, choice.lang)
    title = choice.look.title or LANGUAGES[choice.lang].title
    return f'width="{width}" height="{height}" alt="{escape(title)}"'


def _sample(choice: Choice, theme: str) -> str:
    """Write a live block in one theme; at most the first of them counts."""
    sample = choice._replace(look=choice.look._replace(theme=theme))
    counts = choice.counts and theme == THEMES[0]
    count = "" if counts else ' count="false"'
    image = _image(sample, "", _LAZY, **({"count": "1"} if counts else {}))
    return (
        f"<figure><figcaption>{theme} – {_CAPTIONS[theme]}</figcaption>"
        f"<hit-counter{_attributes('', sample)}{count}></hit-counter>"
        f"<noscript>{image}</noscript></figure>\n"
    )


def _options(texts: Mapping[str, str], chosen: str) -> str:
    return "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>'
        f"{escape(text)}</option>"
        for value, text in texts.items()
    )


def _box(key: str, choice: Choice) -> str:
    label = escape(LANGUAGES[choice.lang].labels[key])
    checked = " checked" if key in choice.look.lines else ""
    return f'<label><input type="checkbox" name="{key}" value="1"{checked}> {label}</label>\n'
