"""The report in headless Chromium: silent, alone, on a desk and on a phone, and past an accessibility audit.

`make browser` installs what this needs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from run_folders import make_run

from polygen_stream.report.compare import write_comparison
from polygen_stream.report.report import write_report

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def pages(request, tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    folders = [make_run(root / name, seed=i, score=0.5 + 0.1 * i) for i, name in enumerate(("one", "two"))]
    given = request.config.getoption("--report", default=None)
    more = [given.resolve()] if given else []
    return [write_report(folders[0]), write_comparison(folders, root / "comparison.html"), *more]


@pytest.fixture(scope="module")
def browser():
    assert CHROMIUM, "Chromium is not installed: make browser"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # The sandbox refuses to run as root, as containers do.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize("width", [1280, 360])
def test_pages_load_without_errors_requests_or_barriers(browser, pages, width):
    from axe_playwright_python.sync_playwright import Axe

    for file in pages:
        page = browser.new_page(viewport={"width": width, "height": 800}, bypass_csp=True)  # the audit is a script
        noise, requests = [], []
        page.on("console", lambda message, noise=noise: noise.append(message.text))
        page.on("pageerror", lambda error, noise=noise: noise.append(str(error)))
        page.on("request", lambda request, requests=requests: requests.append(request.url))
        page.goto(file.as_uri())
        assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
        assert file.stat().st_size < 10e6
        plots = page.locator("figure > img")
        assert plots.count() >= 8
        broken = page.evaluate("[...document.images].filter(i => !(i.complete && i.naturalWidth)).map(i => i.alt)")
        assert broken == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert noise == []
        page.close()


def test_the_keyboard_reaches_links_and_wide_tables(browser, pages):
    page = browser.new_page(viewport={"width": 360, "height": 800})
    page.goto(pages[0].as_uri())
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim().split('\\n')[0]"))
    assert reached[:5] == ["Scores", "Pictures", "Training", "Generators", "Neighbours"]
    assert "never" in reached[5] or "neither" in reached[5], "the table of scores scrolls by keyboard"
    page.close()
