"""Take a screenshot of the top of a report.

    python tools/screenshot.py runs/mine/report.html docs/report.png

`make browser` installs Chromium and Playwright, which are needed.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1280, 1780  # pixels


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="the report, an HTML file")
    parser.add_argument("image", type=Path, help="the image to write")
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        # The sandbox refuses to run as root, as in containers.
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(arguments.report.resolve().as_uri())
        page.screenshot(path=arguments.image)
        browser.close()


if __name__ == "__main__":
    main()
