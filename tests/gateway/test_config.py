"""The gateway's section of the configuration file."""

from pathlib import Path

import pytest

from gateway import GatewayConfig
from gateway.config import parse_listen
from pki import ConfigError, load_section


def load(tmp_path: Path, text: str) -> GatewayConfig:
    """The section as the processes load it."""
    path = tmp_path / "lockgate.yaml"
    path.write_text(text)
    return load_section(path, "gateway", GatewayConfig)


def test_defaults_are_those_of_the_facts() -> None:
    """Without a file the documented limits hold."""
    limits = GatewayConfig().limits
    assert (limits.tls_handshake, limits.request_head, limits.connect) == (10, 10, 2)
    assert (limits.keep_alive, limits.keep_alive_requests, limits.tunnel_idle) == (60, 1000, 3600)
    assert (limits.window_bytes, limits.head_bytes, limits.fields) == (262144, 32768, 100)


def test_reads_units_and_shared_keys(tmp_path: Path) -> None:
    """Sizes and times are written with units, directories come from the top of the file."""
    config = load(
        tmp_path,
        "run_dir: /tmp/r\nstate_dir: /tmp/s\ngateway:\n  https: '127.0.0.1:9'\n  http: null\n"
        "  limits: {body_bytes: 200MiB, response_head: 10m}\n",
    )
    assert (config.socket_path, config.http) == (Path("/tmp/r/gateway.sock"), None)
    assert (config.limits.body_bytes, config.limits.response_head) == (200 * 2**20, 600)


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("gateway:\n  httpz: a\n", "gateway.httpz", 2),
        ("gateway:\n  https: nowhere\n", "gateway.https", 2),
        ("gateway:\n  https: 'a:70000'\n", "gateway.https", 2),
        ("gateway:\n  limits:\n    body_bytes: 12\n", "gateway.limits.body_bytes", 3),
        ("gateway:\n  limits:\n    keep_alive_requests: 0\n", "limits.keep_alive_requests", 3),
        ("gateway:\n  certificates:\n    - cert: /a\n", "gateway.certificates", 3),
    ],
)
def test_names_the_key_and_the_line(tmp_path: Path, text: str, key: str, line: int) -> None:
    """What is wrong is said with its place."""
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, text)
    assert key in refused.value.key
    assert refused.value.line == line


def test_certificates_need_at_least_one_pair(tmp_path: Path) -> None:
    """An empty list would serve nobody."""
    with pytest.raises(ConfigError, match="at least one pair"):
        load(tmp_path, "gateway:\n  certificates: []\n")


def test_hash_follows_every_setting() -> None:
    """Two configurations that differ anywhere have different hashes."""
    assert GatewayConfig().build_hash() == GatewayConfig().build_hash()
    assert GatewayConfig().build_hash() != GatewayConfig(hsts=False).build_hash()


def test_parses_listen_addresses() -> None:
    """IPv6 addresses are written in brackets."""
    assert parse_listen("[::1]:8443") == ("::1", 8443)
    assert parse_listen("0.0.0.0:1") == ("0.0.0.0", 1)
