"""A real browser uses the demo app on the Docker engine, trusting only Lockgate's root."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.fixtures import Site
from tests.support.hello_page import check_whole_visit

pytestmark = [pytest.mark.docker, pytest.mark.root, pytest.mark.browser]


def test_visitor_uses_the_demo_app(
    docker_hello: Site, docker_browser: Browser, tmp_path: Path
) -> None:
    """Page, slider, 20 MB upload, two tabs: all work and the console stays empty."""
    check_whole_visit(docker_browser, docker_hello.lockgate.url("hello"), tmp_path, "hello")
