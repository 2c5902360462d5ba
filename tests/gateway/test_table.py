"""What may cross the control socket."""

import pytest
from pydantic import ValidationError

from gateway import RouteEntry, UpstreamEntry
from gateway.table import ProbeRequest

GOOD = {
    "name": "hello/3",
    "app": "hello",
    "address": "10.201.0.2:8443",
    "server_name": "hello.apps.lockgate.internal",
    "spiffe_id": "spiffe://lockgate.internal/app/hello/3",
}


@pytest.mark.parametrize("address", ["10.0.0.1:1", "[::1]:8443", "unix:/run/a.sock", "name:65535"])
def test_takes_addresses(address: str) -> None:
    """Host and port, or a Unix socket's path."""
    assert UpstreamEntry.model_validate(GOOD | {"address": address}).address == address


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("address", "10.0.0.1"),
        ("address", "unix:relative"),
        ("address", "a b:1"),
        ("address", "unix:/" + "a" * 200),
        ("spiffe_id", "https://lockgate.internal/app/hello/3"),
        ("spiffe_id", "spiffe://lockgate.internal"),
        ("spiffe_id", "spiffe://lockgate.internal/a/"),
        ("server_name", "Hello.test"),
        ("name", ""),
        ("extra", "x"),
    ],
)
def test_refuses_what_is_no_upstream(key: str, value: str) -> None:
    """A value outside its grammar never gets in."""
    with pytest.raises(ValidationError):
        UpstreamEntry.model_validate(GOOD | {key: value})


@pytest.mark.parametrize(
    "host", ["A.test", "a..b", "-a", "a.", "*", "*a.test", "a b", "a" * 64, ""]
)
def test_refuses_hosts_outside_their_grammar(host: str) -> None:
    """Hosts are lower-case names, or a wildcard in front of one."""
    with pytest.raises(ValidationError):
        RouteEntry(hosts=(host,), app="hello")


def test_takes_wildcards() -> None:
    """A wildcard stands in front of a name."""
    assert RouteEntry(hosts=("*.apps.test",), app="hello").hosts == ("*.apps.test",)


@pytest.mark.parametrize("path", ["", "x", "/a b", "/a\r\nX: y", "/\x00"])
def test_probe_path_cannot_break_out(path: str) -> None:
    """A probe's path is one target and nothing else."""
    with pytest.raises(ValidationError):
        ProbeRequest.model_validate({"upstream": GOOD, "host": "a.test", "path": path})
