"""The block that people see: its lines, their labels and how numbers are written.

A translator adds one entry to `LANGUAGES`; nothing else names a language. What is written here is
what a browser's `Intl.NumberFormat` writes for the same language.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

LINE_KEYS = ("today", "yesterday", "month", "year", "total")
# `page` has the ink and paper of where it stands; `auto` is light or dark as the visitor likes it;
# `plain` has no styles of ours at all.
THEMES = ("page", "auto", "light", "dark", "plain")
STYLES = ("list", "line")


@dataclass(frozen=True, slots=True)
class Language:
    """The words of the block in one language, and how it groups the digits 0 to 9.

    Most languages group by threes from four digits on, and need only their separator. Numbers of
    less than `fewest_digits` are not grouped: 5 in Spanish, which writes 1234 and 12.345. The
    groups above the thousands have `upper_group` digits: 2 in Hindi, which writes 12,34,567.
    """

    name: str
    title: str
    labels: Mapping[str, str]
    short_labels: Mapping[str, str]  # where room is short: all lines change alike
    separator: str
    fewest_digits: int = 4
    upper_group: int = 3


class Wording(NamedTuple):
    """In which words a block is answered: in the site's language if `lang` is None."""

    lang: str | None = None
    has_short: bool = False  # the short labels too


def _of_lines(*words: str) -> Mapping[str, str]:
    """Give each line its word, in the order of `LINE_KEYS`."""
    return dict(zip(LINE_KEYS, words, strict=True))


# By language tag (BCP 47); the first is the default of the configuration.
LANGUAGES: Mapping[str, Language] = {
    "vi": Language(
        name="Tiếng Việt",
        title="Số lượt truy cập",
        labels=_of_lines("Trong ngày", "Hôm qua", "Trong tháng", "Trong năm", "Tổng truy cập"),
        short_labels=_of_lines("Hôm nay", "Hôm qua", "Tháng", "Năm", "Tổng"),
        separator=".",
    ),
    "en": Language(
        name="English",
        title="Page views",
        labels=_of_lines("Today", "Yesterday", "This month", "This year", "Total"),
        short_labels=_of_lines("Today", "Yesterday", "Month", "Year", "Total"),
        separator=",",
    ),
}


_LINES = "\n".join(["{:,}"] * len(LINE_KEYS))


def line_texts(numbers: Sequence[int], lang: str) -> list[str]:
    """Write the numbers of the lines with the thousands separator of a language: 1.619.938."""
    language = LANGUAGES[lang]
    if language.fewest_digits > 4 or language.upper_group != 3:
        return [_number_text(number, language) for number in numbers]
    return _LINES.format(*numbers).replace(",", language.separator).split("\n")


def number_text(number: int, lang: str) -> str:
    """Write a number as people read it in a language."""
    return _number_text(number, LANGUAGES[lang])


def _number_text(number: int, language: Language) -> str:
    digits = str(number)
    if len(digits) < language.fewest_digits:
        return digits
    thousands, size = digits[:-3], language.upper_group
    starts = range(len(thousands) % size - size, len(thousands), size)
    groups = [thousands[max(0, start) : start + size] for start in starts]
    return language.separator.join([*filter(None, groups), digits[-3:]])
