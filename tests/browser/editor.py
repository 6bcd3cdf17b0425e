"""What a site's editor pastes, in both forms, and what a visitor then sees of it."""

from collections.abc import Callable

from playwright.async_api import Locator, Page, expect

from tests.browser.pages import Counter

Snippet = Callable[[Counter], str]


def place(counter: Counter, attributes: str = "") -> str:
    """Write the place of a block, which says for itself where its counter is."""
    return f'<hit-counter server="{counter.url}" site="{counter.site}" {attributes}></hit-counter>'


def bare_tag(counter: Counter) -> str:
    """Write the tag that loads the program and says nothing."""
    return f'<script async="" src="{counter.url}/widget.js"></script>'


def element(counter: Counter) -> str:
    """Write the snippet that everybody is given: a place and a bare tag."""
    return place(counter) + bare_tag(counter)


def tag_alone(counter: Counter) -> str:
    """Write the short form: a tag that draws where it stands."""
    return f'<script async="" src="{counter.url}/widget.js" data-site="{counter.site}"></script>'


SNIPPETS: dict[str, Snippet] = {"element": element, "tag": tag_alone}


def blocks(page: Page) -> Locator:
    """Find the blocks that are drawn, in whichever tree."""
    return page.get_by_role("region")


async def shows_once(page: Page, number: int, where: str = "#sidebar") -> None:
    """Wait until exactly one block is on the page, stands in its place and shows this total."""
    line = page.locator(where).get_by_role("region").get_by_role("listitem").last
    await expect(line).to_have_text(f"Tổng truy cập: {number}")
    await expect(blocks(page)).to_have_count(1)


# What the browser itself writes about requests that failed.
_OF_REQUESTS = ("Failed to load resource", "Access to ")


class Faults:
    """What went wrong in a page: errors that nobody caught, and those in the console."""

    def __init__(self, page: Page) -> None:
        """Watch a page, before it is opened."""
        self.seen: list[str] = []
        page.on("pageerror", lambda error: self.seen.append(str(error)))
        page.on("console", lambda line: self._note(line.type, line.text))

    def _note(self, kind: str, text: str) -> None:
        if kind == "error" and not text.startswith(_OF_REQUESTS):
            self.seen.append(text)
