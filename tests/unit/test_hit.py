"""What a hit says of where it comes from, and which page it names."""

import pytest

from hitcounter.hit import NO_PAGE, Hit, Page, named_page


@pytest.mark.parametrize(
    ("origin", "referer", "source"),
    [
        ("https://a.vn", "https://b.vn/x", "https://a.vn"),
        (None, "https://user@b.vn:8443/x?y", "https://b.vn:8443"),
        (None, "https://[", ""),
        (None, "/x", ""),
        (None, None, ""),
    ],
)
def test_a_hit_comes_from_its_origin_else_from_that_of_its_referer(
    origin: str | None, referer: str | None, source: str
) -> None:
    assert Hit("demo", None, None, 0, referer, origin).source == source


def test_a_page_has_a_path_or_a_reason_why_it_has_no_name() -> None:
    assert named_page(None) is NO_PAGE
    assert named_page("/bai/5?id=2&x=3", ("id",)) == Page("/bai/5%3Fid=2")
    assert named_page("/%E9") == Page(None, "not_utf8")
