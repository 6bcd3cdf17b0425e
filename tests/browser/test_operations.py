"""No page that an operator has open may read what operations answer on the same machine."""

import pytest
from playwright.async_api import Page

from tests.browser.chromium import REBOUND
from tests.browser.pages import Pages, document
from tests.conftest import StartService

pytestmark = pytest.mark.asyncio(loop_scope="session")
READ = "url => fetch(url).then(answer => answer.text(), error => error.name)"
EMBED = """url => new Promise(done => {
  const script = document.createElement("script");
  Object.assign(script, {src: url, onload: () => done("loaded"), onerror: () => done("failed")});
  document.head.append(script);
})"""


async def test_no_page_of_another_origin_reads_what_operations_answer(
    start_service: StartService, page: Page, pages: Pages
) -> None:
    service = start_service(operations_port=0)
    metrics = f"{service.operations_url}/metrics"
    await page.goto(metrics)
    assert "hitcounter_store_up" in await page.evaluate(READ, metrics)  # here it can be read
    for other in (pages.put("/", document("")), service.url):
        await page.goto(other)
        for path in ("/metrics", "/readyz", "/nothing"):
            assert await page.evaluate(READ, service.operations_url + path) == "TypeError"
        assert await page.evaluate(EMBED, metrics) == "failed"
    answer = await page.goto(f"http://{REBOUND}:{service.operations_port}/metrics")
    assert answer is not None
    assert answer.status == 421
    assert "hitcounter_" not in await page.evaluate(READ, "/metrics")
