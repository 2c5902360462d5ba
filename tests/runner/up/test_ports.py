"""What binding the visitors' ports must hold."""

import os
import socket
from pathlib import Path

import pytest

from runner.errors import StartError
from runner.up.ports import find_holder, is_free, open_listener


def find_port(listener: socket.socket) -> int:
    """The number that the kernel picked."""
    return int(listener.getsockname()[1])


def test_a_listener_accepts() -> None:
    """Bound and listening, so that connections wait while the gateway starts."""
    with open_listener("127.0.0.1:0", "gateway.https") as listener:
        address = ("127.0.0.1", find_port(listener))
        socket.create_connection(address, timeout=5).close()


def test_a_taken_port_names_address_key_and_holder() -> None:
    """The operator sees what to stop or which key to change."""
    with open_listener("127.0.0.1:0", "x") as holder:
        address = f"127.0.0.1:{find_port(holder)}"
        assert not is_free(address)
        with pytest.raises(StartError) as caught:
            open_listener(address, "gateway.https")
    said = str(caught.value)
    assert said.startswith(f"gateway.https: {address} is taken by ")
    assert f"(pid {os.getpid()})" in said
    assert "set gateway.https to a free address" in said
    assert is_free(address)


def test_a_port_is_never_shared() -> None:
    """A second listener with SO_REUSEPORT does not get in beside ours."""
    with open_listener("127.0.0.1:0", "x") as listener, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", find_port(listener)))


@pytest.mark.parametrize(
    ("address", "said"), [("192.0.2.1:8443", "one of its own"), ("nowhere.invalid:1", "no address")]
)
def test_a_foreign_address_is_explained(address: str, said: str) -> None:
    """It is not an address of this machine."""
    with pytest.raises(StartError, match=said):
        open_listener(address, "gateway.https")


def test_ipv6_is_taken_in_brackets() -> None:
    """`[::1]:0`."""
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with open_listener("[::1]:0", "gateway.https") as listener:
        assert listener.family == socket.AF_INET6


def test_an_unknown_holder_is_left_out(tmp_path: Path) -> None:
    """Where /proc tells nothing, nothing is made up."""
    assert find_holder(1, tmp_path) == ""
