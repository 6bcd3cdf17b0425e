"""The block: complete in every language, and numbers that read back."""

import re
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitcounter import block
from hitcounter.block import LANGUAGES, LINE_KEYS, THEMES, Language, line_texts, number_text
from tests.support.acceptance import LINES, SHOWN

languages = st.sampled_from(sorted(LANGUAGES))
numbers = st.lists(
    st.integers(min_value=0, max_value=2**53), min_size=len(LINE_KEYS), max_size=len(LINE_KEYS)
)
NUMBERS = [999, 1234, 12345, 1234567, 1234567890]
# How languages group, and what Intl.NumberFormat writes.
OTHER_LANGUAGES = [
    ("fr", "\u202f", 4, 3, ["999", "1 234", "12 345", "1 234 567", "1 234 567 890"]),
    ("es", ".", 5, 3, ["999", "1234", "12.345", "1.234.567", "1.234.567.890"]),
    ("hi", ",", 4, 2, ["999", "1,234", "12,345", "12,34,567", "1,23,45,67,890"]),
    ("pt-PT", "\u00a0", 5, 3, ["999", "1234", "12 345", "1 234 567", "1 234 567 890"]),
]


def test_the_block_of_a_real_page_reads_to_the_letter() -> None:
    words = LANGUAGES["vi"]
    texts = line_texts([*SHOWN.values()], "vi")
    assert words.title == "Số lượt truy cập"
    lines = [f"{words.labels[key]}: {text}" for key, text in zip(LINE_KEYS, texts, strict=True)]
    assert lines == LINES


def test_english_groups_with_a_comma() -> None:
    assert line_texts([0, 999, 1000, 999999, 1000000], "en") == [
        "0",
        "999",
        "1,000",
        "999,999",
        "1,000,000",
    ]


@pytest.mark.parametrize("lang", sorted(LANGUAGES))
def test_a_language_has_words_for_everything_and_its_lines_in_order(lang: str) -> None:
    words = LANGUAGES[lang]
    assert tuple(words.labels) == tuple(words.short_labels) == LINE_KEYS
    assert all([words.name, words.title, *words.labels.values(), *words.short_labels.values()])
    for long, short in zip(words.labels.values(), words.short_labels.values(), strict=True):
        assert len(short) <= len(long)
    assert re.fullmatch(r"[^\d\w]", words.separator)
    assert re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", lang)


def test_the_theme_that_follows_the_page_is_the_default() -> None:
    assert THEMES[0] == "page"


@given(numbers, languages)
def test_numbers_are_grouped_by_threes_and_read_back(values: list[int], lang: str) -> None:
    separator = LANGUAGES[lang].separator
    texts = line_texts(values, lang)
    assert [int(text.replace(separator, "")) for text in texts] == values
    assert [number_text(value, lang) for value in values] == texts
    for text in texts:
        first, *groups = text.split(separator)
        assert 1 <= len(first) <= 3
        assert all(len(group) == 3 for group in groups)


@pytest.mark.parametrize(("tag", "separator", "fewest", "upper", "expected"), OTHER_LANGUAGES)
def test_a_language_that_a_translator_adds_is_written_as_browsers_write_it(
    tag: str,
    separator: str,
    fewest: int,
    upper: int,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = dict.fromkeys(LINE_KEYS, "…")
    monkeypatch.setitem(
        cast("dict[str, Language]", LANGUAGES),
        tag,
        Language("…", "…", labels, labels, separator, fewest, upper),
    )
    assert line_texts(NUMBERS, tag) == [text.replace(" ", separator) for text in expected]


@given(st.integers(min_value=0, max_value=2**63), st.integers(4, 6), st.integers(1, 4))
def test_however_a_language_groups_the_digits_stay_the_same(
    number: int, fewest_digits: int, upper_group: int
) -> None:
    language = Language("…", "…", {}, {}, ".", fewest_digits, upper_group)
    text = block._number_text(number, language)
    assert text.replace(".", "") == str(number)
    first, *groups = text.split(".")
    assert first
    assert all(len(group) == upper_group for group in groups[:-1])
    assert ("." in text) == (number >= 10 ** (fewest_digits - 1))
