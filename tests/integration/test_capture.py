"""What crosses the app's bridge during a visit is TLS and nothing else."""

import socket
from pathlib import Path

import pytest

from tests.support.capture import Capture, capture_packets
from tests.support.containers import Container, find_container
from tests.support.fixtures import Site
from tests.support.repos import PROBE_APP, build_probe_spec, make_repo
from tests.support.scan import Canaries

pytestmark = [pytest.mark.docker, pytest.mark.root]

UPLOAD_BYTES = 300_000


def speak_plainly(container: Container, canary: str) -> None:
    """Plaintext to the agent's port: the control that the capture must hold."""
    with socket.create_connection((container.address, 8443), timeout=5) as raw:
        raw.sendall(canary.encode())
        raw.recv(100)


def visit_with_canaries(site: Site, app: str, canaries: Canaries) -> None:
    """Canaries in every part of a visit, both ways."""
    host = f"{app}.localhost"
    secret_headers = {"X-Canary": canaries.plant("header"), "Cookie": canaries.plant("cookie")}
    target = f"/?q={canaries.plant('query')}"
    page = site.visitor.request(host, target, headers=secret_headers)
    assert canaries.plant("page") in page.text
    canary = canaries.plant("upload").encode()
    body = canary * (UPLOAD_BYTES // len(canary) + 1)
    assert site.visitor.tell(app, "/hash", body)["size"] == len(body)
    with site.visitor.open_websocket(host) as socket_:
        socket_.send(canaries.plant("websocket"))
        assert socket_.recv(timeout=10) == canaries.plant("websocket")


def count_records(capture: Capture) -> int:
    """TLS 1.3 application data records: type 23, legacy version 3.3 (RFC 8446 §5.2)."""
    return capture.path.read_bytes().count(b"\x17\x03\x03")


def test_no_plaintext_crosses_the_bridge(docker_site: Site, tmp_path: Path) -> None:
    """Page, query, header, cookie, upload and WebSocket leave no canary; the control is seen."""
    canaries, control = Canaries(), Canaries()
    repo = make_repo(tmp_path / "repo", PROBE_APP)
    repo.commit({"page.txt": canaries.plant("page")})
    docker_site.lockgate.deploy(build_probe_spec("captured", repo))
    container = find_container(docker_site.lockgate.root, "captured")
    with capture_packets(container.bridge, tmp_path / "visit.pcap") as capture:
        visit_with_canaries(docker_site, "captured", canaries)
        speak_plainly(container, control.plant("control"))
    assert capture.has(control.plant("control").encode())
    assert capture.count_bytes() > UPLOAD_BYTES
    assert count_records(capture) > 10
    assert not [needle for needle in canaries.build_needles() if capture.has(needle)]
