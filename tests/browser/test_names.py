"""Names in their own script: we write them as the visitor's browser does."""

import unicodedata

import pytest
from playwright.async_api import Page

from hitcounter.errors import Refusal
from hitcounter.site import site_name

NAMES = (
    *("hộinôngdân.vn", "HỘINÔNGDÂN.VN", unicodedata.normalize("NFD", "Hộinôngdân.vn"), "đếm.vn"),
    *("www.báo-điện-tử.vn", "ｗｗｗ.đếm.vn", "faß.example", "ẞ.example", "ΑΣ.example", "İ.example"),
    *("日本語。jp", "ℌội.vn", "пример.рф", "مثال.example", "☃.example", "ộ-.vn", "xn--vit-5kz.vn"),
    *("hội nông.vn", "hội/nông.vn", "\u0309i.vn", "hội\u202e.vn", "hộ\u200di.vn", "ộ" * 64),
)
HOSTNAMES = """names => names.map((name) => {
  try { return new URL(`https://${name}/`).host } catch { return "" }
})"""


def ours(name: str) -> str:
    """Write a name as we do; nothing where we refuse it."""
    try:
        return site_name(name)
    except Refusal:
        return ""


@pytest.mark.asyncio(loop_scope="session")
async def test_every_name_that_we_take_is_what_the_browser_makes_of_it(page: Page) -> None:
    theirs = await page.evaluate(HOSTNAMES, list(NAMES))
    assert [
        name for name, host in zip(NAMES, theirs, strict=True) if ours(name) not in ("", host)
    ] == []
    assert [name for name in NAMES if not ours(name)] == list(NAMES[-6:])
