"""The system's Chromium with a home of its own that trusts one root and nothing else of ours.

Invariants: no flag or option that ignores certificate errors; a fresh home per browser; what a page
logs, breaks or asks of other hosts is written down.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, sync_playwright

CHROMIUM = "/usr/bin/chromium"
ADDRESSES = Path("/proc/net/if_inet6")
TENTATIVE = 0x40
NETWORK_QUIET_S, NETWORK_WAIT_S = 2.5, 30.0
QUIET = (
    "--no-sandbox",  # root has no user namespace sandbox to enter
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@dataclass
class Witness:
    """What a page did that nobody sees: console errors, exceptions, requests to strangers.

    `waiting` are the addresses that were asked for and have neither been answered nor failed.
    """

    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)

    def watch(self, page: Page) -> None:
        """Begin to take notes."""
        page.on("console", self._note_console)
        page.on("pageerror", self._note_exception)
        page.on("request", self._note_request)
        page.on("requestfinished", lambda request: self.waiting.discard(request.url))
        page.on("requestfailed", lambda request: self.waiting.discard(request.url))

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _note_exception(self, error: Error) -> None:
        self.errors.append(str(error))

    def _note_request(self, request: Request) -> None:
        self.waiting.add(request.url)
        host = urlsplit(request.url).hostname
        if host and not host.endswith(".localhost"):
            self.strangers.append(request.url)


def trust_root(home: Path, root_pem: bytes) -> None:
    """Make the certificate database of `home` and put the root into it."""
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    pem = home / "root.pem"
    pem.write_bytes(root_pem)
    certutil = ("certutil", "-d", f"sql:{database}")
    for words in (("-N", "--empty-password"), ("-A", "-t", "C,,", "-n", "test", "-i", str(pem))):
        subprocess.run(
            (*certutil, *words), check=True, capture_output=True, stdin=subprocess.DEVNULL
        )


def await_quiet_network() -> None:
    """Wait until no address of this host is still coming or going.

    A bridge of a container that was just started gets its addresses a second or two later, and a
    browser on the same host then breaks off what it is loading (ERR_NETWORK_CHANGED).
    """
    ends = time.monotonic() + NETWORK_WAIT_S
    before, since = "", time.monotonic()
    while time.monotonic() < ends:
        now = ADDRESSES.read_text()
        is_tentative = any(int(line.split()[4], 16) & TENTATIVE for line in now.splitlines())
        if now != before or is_tentative:
            before, since = now, time.monotonic()
        if time.monotonic() - since > NETWORK_QUIET_S:
            return
        time.sleep(0.1)


@contextlib.contextmanager
def open_browser(home: Path, root_pem: bytes) -> Iterator[Browser]:
    """A headless Chromium that trusts `root_pem`; `home` must be empty."""
    trust_root(home, root_pem)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=list(QUIET),
            env={**os.environ, "HOME": str(home)},
        )
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def open_page(
    browser: Browser, witness: Witness, scheme: Literal["dark", "light"] = "light"
) -> Iterator[Page]:
    """A tab in a visitor's own session, watched by `witness`."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1100, "height": 1160})
    try:
        page = context.new_page()
        witness.watch(page)
        yield page
    except Exception as error:
        error.add_note(f"what nobody saw: {witness}")
        raise
    finally:
        context.close()
