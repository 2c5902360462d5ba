"""Several apps on one port: who is served by which name, and who is not."""

import os
import signal
from pathlib import Path

import pytest

from tests.support.containers import find_container
from tests.support.fixtures import Site
from tests.support.repos import PROBE_APP, build_probe_spec, make_repo
from tests.support.visitor import visit_plain

pytestmark = [pytest.mark.docker, pytest.mark.root]


@pytest.fixture(scope="module")
def site(docker_site: Site, session_dir: Path) -> Site:
    """Two apps, one of them with two names."""
    for name, hosts in (("left", ["left.localhost", "port.localhost"]), ("right", None)):
        repo = make_repo(session_dir / name, PROBE_APP)
        repo.commit({"page.txt": f"this is {name}"})
        more = {"hosts": hosts} if hosts else {}
        docker_site.lockgate.deploy(build_probe_spec(name, repo, **more))
    return docker_site


@pytest.mark.parametrize(
    ("host", "app"),
    [("left.localhost", "left"), ("port.localhost", "left"), ("right.localhost", "right")],
)
def test_each_name_reaches_its_app(site: Site, host: str, app: str) -> None:
    """One port serves several apps, told apart by host name."""
    assert site.visitor.request(host).text == f"this is {app}"


def test_host_that_is_not_the_sni_is_misdirected(site: Site) -> None:
    """A request for one app over a connection opened for another is 421 and reaches neither."""
    answer = site.visitor.request("right.localhost", sni="left.localhost")
    assert answer.status == 421
    assert "this is" not in answer.text


def test_unknown_host_is_a_clear_404(site: Site) -> None:
    """A name that no app has gets a page that says so and names no app."""
    answer = site.visitor.request("nobody.localhost", is_name_checked=False)
    assert answer.status == 404
    assert "<html" in answer.text.lower()
    assert "this is" not in answer.text


def test_plain_http_only_redirects(site: Site) -> None:
    """Port 80's stand-in answers with the https address and serves nothing itself."""
    answer = visit_plain(site.lockgate.http_port, "left.localhost", "/some/path?q=1")
    assert answer.status in {301, 308}
    assert answer.headers["location"] == site.lockgate.url("left", "/some/path?q=1")
    assert "this is" not in answer.text


def test_app_that_is_down_is_a_clear_page(site: Site) -> None:
    """While an app is down its visitors get 502 or 503 with a page; its neighbour goes on."""
    site.lockgate.deploy(
        build_probe_spec("falls", make_repo(site.lockgate.root / "falls", PROBE_APP))
    )
    container = find_container(site.lockgate.root, "falls")
    os.kill(container.pid, signal.SIGKILL)
    answer = site.visitor.request("falls.localhost")
    assert answer.status in {502, 503}
    assert "<html" in answer.text.lower()
    assert site.visitor.request("right.localhost").text == "this is right"


def test_strict_transport_is_announced(site: Site) -> None:
    """Answers over TLS tell the browser to stay there."""
    assert "max-age=" in site.visitor.request("left.localhost").headers["strict-transport-security"]
