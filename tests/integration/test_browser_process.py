"""A real browser uses the demo app on the embedded process engine."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.fixtures import Site
from tests.support.hello_page import check_whole_visit

pytestmark = [pytest.mark.browser]


def test_visitor_uses_the_demo_app(
    process_hello: Site, process_browser: Browser, tmp_path: Path
) -> None:
    """Page, slider, 20 MB upload, two tabs: all work and the console stays empty."""
    check_whole_visit(process_browser, process_hello.lockgate.url("hello"), tmp_path, "process")
