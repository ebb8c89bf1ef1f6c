"""Takes the pictures in docs/screenshots, light and dark, of a running Falsify whose digits demo has a leaderboard and
an open campaign.

``python scripts/screenshots.py ADDRESS NAME PASSWORD``; needs the packages of requirements-dev.txt and Chromium.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "screenshots"
PAGES = {
    "home": "/",
    "competition": "/competitions/1/",
    "exhibits": "/competitions/1/exhibits/",
    "corpus": "/corpora/1/",
    "models": "/models/",
    "campaign": "/campaigns/1/",
    "admin-launch": "/admin/competition/competition/add/",
}


def log_in(page: Page, address: str, name: str, password: str) -> None:
    page.goto(f"{address}/accounts/login/")
    page.fill("input[name=login]", name)
    page.fill("input[name=password]", password)
    page.locator("main form button[type=submit]").click()
    page.wait_for_url(f"{address}/")


def annotate(page: Page, address: str, scheme: str) -> None:
    """The labelling page with a picture on it, where something is left to label."""
    page.goto(f"{address}/label/")
    campaign = page.locator("main a:text-matches('^(Start|Go on)$')").first
    page.goto(address + (campaign.get_attribute("href") or ""))
    agree = page.locator("#agree")
    if agree.count():
        agree.check()
        page.click("main form button.btn-primary")
    if not page.locator("#start-button").count():
        sys.exit("Nothing is left to label: start another round of the demo for a picture of the labelling page.")
    page.click("#start-button")
    page.locator("#stage img").first.wait_for()
    page.screenshot(path=FOLDER / f"annotate-{scheme}.png")


def main(address: str, name: str, password: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
            page = context.new_page()
            log_in(page, address, name, password)
            for title, path in PAGES.items():
                page.goto(address + path)
                page.wait_for_timeout(800)  # charts draw themselves
                page.screenshot(path=FOLDER / f"{title}-{scheme}.png")
            annotate(page, address, scheme)
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
