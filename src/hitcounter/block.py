"""The block that people see: its lines, their labels and how numbers are written.

A translator adds one entry to `LANGUAGES`; nothing else names a language.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LINE_KEYS = ("today", "yesterday", "month", "year", "total")


@dataclass(frozen=True, slots=True)
class Language:
    """The words of the block in one language, and its thousands separator."""

    title: str
    labels: Mapping[str, str]
    separator: str


LANGUAGES: Mapping[str, Language] = {
    "vi": Language(
        title="Số lượt truy cập",
        labels={
            "today": "Trong ngày",
            "yesterday": "Hôm qua",
            "month": "Trong tháng",
            "year": "Trong năm",
            "total": "Tổng truy cập",
        },
        separator=".",
    ),
    "en": Language(
        title="Visits",
        labels={
            "today": "Today",
            "yesterday": "Yesterday",
            "month": "This month",
            "year": "This year",
            "total": "Total",
        },
        separator=",",
    ),
}


_LINES = " ".join(["{:,}"] * len(LINE_KEYS))


def line_texts(numbers: Sequence[int], lang: str) -> list[str]:
    """Write the numbers of the lines with the thousands separator of a language: 1.619.938."""
    return _LINES.format(*numbers).replace(",", LANGUAGES[lang].separator).split(" ")
