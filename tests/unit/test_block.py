"""The block: complete in every language, and numbers that read back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitcounter.block import LANGUAGES, LINE_KEYS, line_texts

languages = st.sampled_from(sorted(LANGUAGES))
numbers = st.lists(
    st.integers(min_value=0, max_value=2**53), min_size=len(LINE_KEYS), max_size=len(LINE_KEYS)
)


def test_the_block_of_a_real_page_reads_to_the_letter() -> None:
    words = LANGUAGES["vi"]
    texts = line_texts([1129, 5318, 179277, 970735, 1619938], "vi")
    assert words.title == "Số lượt truy cập"
    assert [f"{words.labels[key]}: {text}" for key, text in zip(LINE_KEYS, texts, strict=True)] == [
        "Trong ngày: 1.129",
        "Hôm qua: 5.318",
        "Trong tháng: 179.277",
        "Trong năm: 970.735",
        "Tổng truy cập: 1.619.938",
    ]


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
    assert tuple(words.labels) == LINE_KEYS
    assert all([words.title, *words.labels.values()])
    assert re.fullmatch(r"[^\d\s]", words.separator)


@given(numbers, languages)
def test_numbers_are_grouped_by_threes_and_read_back(values: list[int], lang: str) -> None:
    separator = LANGUAGES[lang].separator
    texts = line_texts(values, lang)
    assert [int(text.replace(separator, "")) for text in texts] == values
    for text in texts:
        first, *groups = text.split(separator)
        assert 1 <= len(first) <= 3
        assert all(len(group) == 3 for group in groups)
