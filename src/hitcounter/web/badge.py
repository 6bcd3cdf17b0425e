"""The block as a picture, for places without scripts: lines of real text in an SVG.

A query chooses among the words, lines and colours that are written here and in `block`; of its own
it brings colours of three or six hexadecimal digits, and a title, which is bounded and escaped.
Fonts differ between machines, so widths are reckoned for a wide one, and for a number of twelve
digits: the picture keeps its size as the numbers grow.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import ceil
from typing import NamedTuple

from hitcounter.block import LANGUAGES, LINE_KEYS, STYLES, THEMES, line_texts, number_text
from hitcounter.counting.numbers import Numbers
from hitcounter.errors import Refusal
from hitcounter.web import hit_request
from hitcounter.web.responses import PICTURE_HEADERS

# Proxies of mail clients and of code hosts keep pictures unless told in every dialect not to. With
# nothing kept there is nothing to compare, so no ETag.
BADGE_HEADERS = PICTURE_HEADERS | {
    "Content-Type": "image/svg+xml; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}
LOOK_FIELDS = ("lang", "lines", "theme", "title", "icons", "accent", "color")
MAX_TITLE = 60  # characters

_LARGEST = 999_999_999_999
_FONT_PX, _TITLE_PX, _ROW_PX, _PADDING_PX, _GAP_PX = 14, 36, 27, 14, 16
_ICON_PX, _ABOVE_TOTAL_PX = 24, 8
_COLOUR = re.compile(r"#?([0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})")
# On a grid of 12, drawn with a pen; the same as the widget's.
_ICONS = {
    "today": "M6 1a5 5 0 1 0 .1 0M6 3v3h2",
    "yesterday": "M2 2v3h3M2 5a4 4 0 1 1 1 4",
    "month": "M1 3h10v8H1zM1 5h10M4 1v3M8 1v3",
    "year": "M2 11V7M6 11V4M10 11V1",
    "total": "M10 3V1H2l4 5-4 5h8V9",
}
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
fill:currentColor;font-variant-numeric:tabular-nums}
.title{font-weight:600}
.number{font-weight:600;text-anchor:end}
.icon{fill:none;stroke-width:1.2}
@media (forced-colors:active){text{fill:CanvasText}.paper{fill:Canvas}.icon{stroke:CanvasText}}
"""
_SURFACE = (
    "svg{{color:{}}}\n.paper{{fill:{}}}\n.paper,.rule{{stroke:{}}}\n.icon{{stroke:{}}}\n".format
)
_LIGHT = _SURFACE("#161c2d", "#fff", "#dbe0ea", "#2d4296")
_DARK = _SURFACE("#e8ebf4", "#11151f", "#2e364a", "#aab9ff")
# Mixed with ink, so that one value serves light and dark; browsers before 2023 do not mix.
_ACCENT = ".icon{{stroke:#{0};stroke:color-mix(in srgb,#{0} 75%,currentColor)}}\n"
_WHEN_DARK = "@media (prefers-color-scheme:dark){{\n{}}}\n"
_PLAIN = "svg{{color:#{0}}}\n.icon,.rule{{stroke:currentColor}}\n"
_AUTO = _LIGHT + _WHEN_DARK.format(_DARK)
_COLOURS = {
    "page": _AUTO,  # a picture cannot see its page
    "auto": _AUTO,
    "light": _LIGHT,
    "dark": _DARK,
    # A picture cannot know what it lies on: this stands out from white and from black.
    "plain": _PLAIN.format("767676"),
}


class Look(NamedTuple):
    """How a block should look: in the site's language if `lang` is None."""

    lang: str | None = None
    lines: Sequence[str] = LINE_KEYS
    theme: str = THEMES[0]
    title: str | None = None  # the language's own if None, and none if empty
    has_icons: bool = True
    accent: str = ""  # hexadecimal digits, or the theme's own
    color: str = ""
    style: str = STYLES[0]  # of the script's block; a picture is always a list


class Row(NamedTuple):
    """A line of the block as people read it."""

    key: str
    label: str
    number: str


def look(fields: Mapping[str, str]) -> Look:
    """Check what a query says about the looks."""
    theme = fields.get("theme", THEMES[0])
    if theme not in THEMES:
        raise Refusal("bad_query", f"theme is one of {', '.join(THEMES)}")
    return Look(
        hit_request.language(fields),
        _lines(fields.get("lines")),
        theme,
        _title(fields.get("title")),
        not hit_request.switch(fields, "icons", "off"),
        _colour("accent", fields),
        _colour("color", fields),
    )


def _title(text: str | None) -> str | None:
    if text is not None and (len(text) > MAX_TITLE or not text.isprintable()):
        raise Refusal("bad_query", f"title has at most {MAX_TITLE} printable characters")
    return text


def _colour(name: str, fields: Mapping[str, str]) -> str:
    text = fields.get(name)
    match = _COLOUR.fullmatch(text or "")
    if text is not None and match is None:
        raise Refusal("bad_query", f"{name} is three or six hexadecimal digits")
    return match[1] if match else ""


def _lines(text: str | None) -> Sequence[str]:
    if text is None:
        return LINE_KEYS
    lines = text.split(",")
    if len(set(lines)) < len(lines) or not set(lines) <= set(LINE_KEYS):
        raise Refusal("bad_query", f"lines is some of {','.join(LINE_KEYS)}, each once")
    return lines


def draw(numbers: Numbers, look: Look) -> str:
    """Write the numbers of a site as an SVG."""
    lang = look.lang or numbers.site.lang
    language = LANGUAGES[lang]
    texts = dict(zip(LINE_KEYS, line_texts(numbers.values, lang), strict=True))
    rows = [Row(key, f"{language.labels[key]}:", texts[key]) for key in look.lines]
    title = language.title if look.title is None else look.title
    width, height = size(look, lang, [row.number for row in rows])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" role="img" lang="{escape(lang)}"'
        f' data-state="{numbers.state}">',
        f"<title>{escape(title or language.title)}</title>",
        f"<desc>{escape('; '.join(f'{row.label} {row.number}' for row in rows))}</desc>",
        f"<style>{_colours(look)}{_STYLE}</style>",
        *([] if look.theme == "plain" else [_frame(width, height)]),
        *(_heading(width, title) if title else ()),
        *_rows(width, rows, look),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _colours(look: Look) -> str:
    css = _COLOURS[look.theme]
    if look.color and look.theme == "plain":
        css = _PLAIN.format(look.color)
    return css + (_ACCENT.format(look.accent) if look.accent else "")


def size(look: Look, lang: str, numbers: Sequence[str] = ()) -> tuple[int, int]:
    """Return a picture's width and height in pixels; only numbers beyond twelve digits widen it."""
    language = LANGUAGES[lang]
    title = language.title if look.title is None else look.title
    label = max(_width_px(f"{language.labels[key]}:") for key in look.lines)
    number = max(_width_px(text) for text in (number_text(_LARGEST, lang), *numbers))
    inner = max(_ICON_PX * look.has_icons + label + _GAP_PX + number, _width_px(title))
    return inner + 2 * _PADDING_PX, _top_px(len(look.lines), look) + _PADDING_PX // 2


def _top_px(n: int, look: Look) -> int:
    """Return where the line stands that has `n` before it; above a total there is a rule."""
    title_px = _PADDING_PX // 2 if look.title == "" else _TITLE_PX
    is_below_rule = "total" in look.lines[1 : n + 1]
    return title_px + n * _ROW_PX + _ABOVE_TOTAL_PX * is_below_rule


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


def _frame(width: int, height: int) -> str:
    return f'<rect class="paper" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="7"/>'


def _heading(width: int, title: str) -> list[str]:
    return [
        f'<text class="title" x="{_PADDING_PX}" y="23">{escape(title)}</text>',
        _rule(width, _TITLE_PX),
    ]


def _rule(width: int, y: int) -> str:
    return f'<path class="rule" d="M{_PADDING_PX} {y - 0.5}H{width - _PADDING_PX}"/>'


def _rows(width: int, rows: Sequence[Row], look: Look) -> Iterator[str]:
    """Write each line as one text, so that it is also copied and read as one."""
    left_px = _PADDING_PX + _ICON_PX * look.has_icons
    for n, row in enumerate(rows):
        top_px = _top_px(n, look)
        if row.key == "total" and n > 0:
            yield _rule(width, top_px - _ABOVE_TOTAL_PX // 2 + 2)
        if look.has_icons:
            place = f"translate({_PADDING_PX} {top_px + 9})"
            yield f'<path class="icon" transform="{place}" d="{_ICONS[row.key]}"/>'
        yield (
            f'<text y="{top_px + 21}"><tspan x="{left_px}">{escape(row.label)}</tspan>'
            f' <tspan class="number" x="{width - _PADDING_PX}">{escape(row.number)}</tspan></text>'
        )
