"""Save the top of a report as a picture.

    python tools/screenshot.py runs/mine/report.html docs/report.png

`make browser` installs what this needs.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1280, 1780  # pixels

if len(sys.argv) != 3:
    sys.exit(f"error: expected a report and a picture\n{__doc__}")
report, picture = map(Path, sys.argv[1:])
with sync_playwright() as playwright:
    # The sandbox refuses to run as root, as containers do.
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.goto(report.resolve().as_uri())
    page.screenshot(path=picture)
    browser.close()
