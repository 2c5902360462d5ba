"""The demo app as a visitor sees it: what to press, and what must then stand on the page.

Invariants: looks and presses only; waits for what it expects, never for a fixed time.
"""

import hashlib
import os
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import Witness, await_quiet_network, open_page

UPLOAD_BYTES = 20 * 1024 * 1024
IMAGES = Path(__file__).parents[2] / "docs" / "images"
SCREENSHOTS_WANTED = "LOCKGATE_SCREENSHOTS"
# a slow machine needs a while for Streamlit's first script run
PATIENCE_MS = 60_000


def open_hello(page: Page, url: str) -> None:
    """Load the app and wait until its script has run."""
    await_quiet_network()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    response = page.goto(url)
    assert response is not None
    assert response.status == 200
    expect(page.get_by_role("heading", name="Hello from Lockgate")).to_be_visible()
    expect(metrics(page)).to_have_count(3)


def metrics(page: Page) -> Locator:
    """The three computed figures."""
    return page.locator("[data-testid=stMetricValue]")


def check_slider(page: Page) -> None:
    """One step of the slider changes all results to what the formula says."""
    expect(metrics(page)).to_have_text(["720 m³", "6 min 31 s", "1.84 m³/s"])
    page.get_by_role("slider", name="Rise of the chamber (m)").focus()
    page.keyboard.press("ArrowRight")
    expect(metrics(page)).to_have_text(["840 m³", "7 min 02 s", "1.99 m³/s"])


def check_upload(page: Page, folder: Path) -> None:
    """20 MB go up and the page shows their size and SHA-256."""
    content = os.urandom(UPLOAD_BYTES)
    (folder / "manifest.bin").write_bytes(content)
    page.locator("input[type=file]").set_input_files(folder / "manifest.bin")
    expect(page.get_by_text(f"{UPLOAD_BYTES:,} bytes")).to_be_visible()
    expect(page.get_by_text(hashlib.sha256(content).hexdigest())).to_be_visible()


def check_tabs(page: Page, witness: Witness) -> None:
    """Two tabs of one visitor count their boats apart."""
    other = page.context.new_page()
    witness.watch(other)
    open_hello(other, page.url)
    for tab, boats in ((page, 2), (other, 1)):
        for count in range(1, boats + 1):
            tab.get_by_role("button", name="A boat passes").click()
            expect(tab.get_by_text(f"Boats in this tab: {count}")).to_be_visible()
    expect(page.get_by_text("Boats in this tab: 2")).to_be_visible()
    other.close()


def check_whole_visit(browser: Browser, url: str, folder: Path, picture: str) -> None:
    """A whole visit without one console error and without one request to a stranger."""
    witness = Witness()
    with open_page(browser, witness) as page:
        open_hello(page, url)
        check_slider(page)
        check_upload(page, folder)
        check_tabs(page, witness)
        take_picture(page, f"{picture}-light")
    with open_page(browser, witness, "dark") as page:
        open_hello(page, url)
        take_picture(page, f"{picture}-dark")
    assert witness.errors == []
    assert witness.strangers == []


def take_picture(page: Page, name: str) -> None:
    """For the README, when the environment asks for it."""
    if os.environ.get(SCREENSHOTS_WANTED):
        page.wait_for_load_state("networkidle")
        page.mouse.move(0, 0)
        page.wait_for_timeout(1500)  # the chart's and the toolbar's animations
        page.screenshot(path=IMAGES / f"{name}.png")
