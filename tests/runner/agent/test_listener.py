"""The socket of the door."""

import socket
import stat

import pytest

from runner.agent.listener import open_listener
from tests.support.ports import find_free_ports


@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", socket.AF_INET), ("[::1]", socket.AF_INET6)]
)
def test_tcp(host, family):
    """IPv4 and IPv6 addresses are bound as written."""
    (port,) = find_free_ports(1)
    with open_listener(f"{host}:{port}") as listener:
        assert listener.family == family
        assert listener.getsockname()[:2] == (host.strip("[]"), port)
        assert not listener.getblocking()
        assert not listener.get_inheritable()
        socket.create_connection(listener.getsockname()[:2], 5).close()


def test_unix_replaces_a_stale_socket(tmp_path):
    """What an agent before us left behind is no obstacle, and everybody may knock."""
    path = tmp_path / "agent.sock"
    open_listener(f"unix:{path}").close()
    with open_listener(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o666


def test_a_taken_port_is_an_error():
    """Nobody shares the door."""
    (port,) = find_free_ports(1)
    with open_listener(f"127.0.0.1:{port}"), pytest.raises(OSError, match="in use"):
        open_listener(f"127.0.0.1:{port}")
