"""The block as a picture, for places without scripts: lines of real text in an SVG.

Nothing that a visitor sends is ever written into it: a query only chooses among the words, lines
and colours that are written here and in `block`. Fonts differ between machines, so widths are
reckoned for a wide one, and for a number of twelve digits: the picture keeps its size as the
numbers grow.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from html import escape
from math import ceil
from typing import NamedTuple

from hitcounter.block import LANGUAGES, LINE_KEYS, THEMES, line_texts
from hitcounter.errors import BadRequest
from hitcounter.service import Numbers
from hitcounter.web import requests
from hitcounter.web.answers import PICTURE_HEADERS

# Proxies of mail clients and of code hosts keep pictures unless told in every dialect not to. With
# nothing kept there is nothing to compare, so no ETag.
BADGE_HEADERS = PICTURE_HEADERS | {
    "Content-Type": "image/svg+xml; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}
LOOK_FIELDS = ("lang", "lines", "theme")

_LARGEST = 999_999_999_999
_FONT_PX, _TITLE_PX, _ROW_PX, _PADDING_PX, _GAP_PX = 14, 36, 27, 14, 16
# Of DejaVu Sans Bold, one of the widest, rounded up: these, other Latin letters, all others.
_WIDTHS_EM = {
    character: width
    for width, characters in (
        (0.40, " \u00a0\u202f'’.,:;/\\|ijlIJ"),
        (0.53, '!"()*-[]_`frt'),
        (0.88, "#&+<=>^~"),
        (1.10, "%@MWmw"),
    )
    for character in characters
}
_LATIN_EM, _LATIN_CAPITAL_EM, _OTHER_EM, _HORN_EM = 0.72, 0.88, 1.10, 0.10
_HORN = "\u031b"  # of Ơ and Ư; all other marks stand above or below their letter
_STYLE = """
text{font:14px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",Arial,sans-serif;\
font-variant-numeric:tabular-nums}
.title{font-weight:600}
.number{text-anchor:end}
.paper,.rule{stroke:#888;stroke-opacity:.5}
"""
# What the block has from the browser's own light and dark.
_LIGHT = "text{fill:#000}\n.paper{fill:#fff}\n"
_DARK = "text{fill:#fff}\n.paper{fill:#121212}\n"
_WHEN_DARK = "@media (prefers-color-scheme:dark){{\n{}}}\n"
_COLOURS = {
    "auto": _LIGHT + _WHEN_DARK.format(_DARK),
    "light": _LIGHT,
    "dark": _DARK,
    # A picture cannot know what it lies on: this stands out from white and from black.
    "plain": "text{fill:#767676}\n",
}


class Look(NamedTuple):
    """How a block shall look: in the site's language if `lang` is None."""

    lang: str | None = None
    lines: Sequence[str] = LINE_KEYS
    theme: str = THEMES[0]


class Row(NamedTuple):
    """A line of the block as people read it."""

    label: str
    number: str


def look(fields: Mapping[str, str]) -> Look:
    """Check what a query says about the looks."""
    theme = fields.get("theme", THEMES[0])
    if theme not in THEMES:
        raise BadRequest("bad_query", f"theme is one of {', '.join(THEMES)}")
    return Look(requests.language(fields), _lines(fields.get("lines")), theme)


def _lines(text: str | None) -> Sequence[str]:
    if text is None:
        return LINE_KEYS
    lines = text.split(",")
    if len(set(lines)) < len(lines) or not set(lines) <= set(LINE_KEYS):
        raise BadRequest("bad_query", f"lines is some of {','.join(LINE_KEYS)}, each once")
    return lines


def wants_count(fields: Mapping[str, str]) -> bool:
    """Tell whether a query asks to count the hit."""
    count = fields.get("count")
    if count not in (None, "1"):
        raise BadRequest("bad_query", "count is 1, or not there")
    return count is not None


def draw(numbers: Numbers, look: Look) -> str:
    """Write the numbers of a site as an SVG."""
    lang = look.lang or numbers.site.lang
    language = LANGUAGES[lang]
    texts = dict(zip(LINE_KEYS, line_texts(numbers.values, lang), strict=True))
    rows = [Row(f"{language.labels[key]}:", texts[key]) for key in look.lines]
    width, height = size(lang, look.lines, [row.number for row in rows])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" role="img" lang="{escape(lang)}"'
        f' data-state="{numbers.state}">',
        f"<title>{escape(language.title)}</title>",
        f"<desc>{escape('; '.join(f'{label} {number}' for label, number in rows))}</desc>",
        f"<style>{_STYLE}{_COLOURS[look.theme]}</style>",
        *([] if look.theme == "plain" else _frame(width, height)),
        *_text(width, language.title, rows),
        "</svg>\n",
    ]
    return "\n".join(parts)


def size(lang: str, lines: Sequence[str], numbers: Sequence[str] = ()) -> tuple[int, int]:
    """Give width and height of a picture in pixels; only numbers beyond twelve digits widen it."""
    language = LANGUAGES[lang]
    largest = line_texts([_LARGEST] * len(LINE_KEYS), lang)[0]
    label = max(_width_px(f"{language.labels[key]}:") for key in lines)
    number = max(_width_px(text) for text in (largest, *numbers))
    inner = max(label + _GAP_PX + number, _width_px(language.title))
    return inner + 2 * _PADDING_PX, _TITLE_PX + len(lines) * _ROW_PX + _PADDING_PX // 2


def _width_px(text: str) -> int:
    return ceil(_FONT_PX * sum(map(_width_em, unicodedata.normalize("NFD", text))))


def _width_em(character: str) -> float:
    if unicodedata.category(character) == "Mn":
        return _HORN_EM if character == _HORN else 0.0
    if character in _WIDTHS_EM:
        return _WIDTHS_EM[character]
    if character >= "\u0250":
        return _OTHER_EM
    return _LATIN_CAPITAL_EM if character.isupper() else _LATIN_EM


def _frame(width: int, height: int) -> list[str]:
    return [
        f'<rect class="paper" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="7"/>',
        f'<path class="rule" d="M0 {_TITLE_PX - 0.5}H{width}"/>',
    ]


def _text(width: int, title: str, rows: Sequence[Row]) -> list[str]:
    """Write each line as one text, so that it is also copied and read as one."""
    texts = [f'<text class="title" x="{_PADDING_PX}" y="23">{escape(title)}</text>']
    for n, (label, number) in enumerate(rows):
        texts.append(
            f'<text y="{_TITLE_PX + n * _ROW_PX + 21}">'
            f'<tspan x="{_PADDING_PX}">{escape(label)}</tspan>'
            f' <tspan class="number" x="{width - _PADDING_PX}">{escape(number)}</tspan></text>'
        )
    return texts
