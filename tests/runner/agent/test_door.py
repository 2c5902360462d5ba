"""The door's own manners: caps, an app that is away, words for the log. Attacks: tests/security."""

import resource
import socket
import ssl
import time

import pytest

from runner.agent.door import describe_failure
from tests.support.agent import wait_until


def test_an_app_that_does_not_listen_is_a_closed_connection(build_agent):
    """The gateway learns at once that nobody answers, and nobody was refused."""
    agent = build_agent(argv=["/bin/sh", "-c", "echo up; sleep 60"]).start()
    begin = time.monotonic()
    assert not try_to_echo(agent)
    assert time.monotonic() - begin < 2
    assert "refused" not in agent.log()


def test_an_app_that_comes_later_is_served(build_agent):
    """The door stands before the app does."""
    agent = build_agent()
    argv = agent.settings["argv"]
    agent.configure(argv=["/bin/sh", "-c", 'sleep 0.5; exec "$@"', "sh", *argv])
    agent.start(is_up=False)

    def is_answered() -> bool:
        try:
            return agent.ask("tell") != b""
        except OSError:
            return False

    wait_until(is_answered)


def test_a_look_at_the_port_is_not_logged(agent):
    """A connection that says nothing is a probe, not an attack."""
    for _ in range(5):
        socket.create_connection(("127.0.0.1", agent.port), 5).close()
    agent.tell()
    assert "refused" not in agent.log()


def test_connections_are_capped_by_the_files_there_are(build_agent):
    """With few files the surplus is closed and told, and a place that comes free is used."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    agent = build_agent()
    agent.start(prefix=("sh", "-c", 'ulimit -n 104; exec "$@"', "sh"))  # 20 connections
    assert (soft, hard) == resource.getrlimit(resource.RLIMIT_NOFILE)
    open_ones = [agent.connect() for _ in range(20)]
    for tls in open_ones:
        tls.sendall(b"echo\nx")
        assert tls.recv(1) == b"x"
    with pytest.raises(OSError, match=r"EOF|reset|timed out"):
        agent.connect()
    wait_until(lambda: "20 connections are open" in agent.log())
    for tls in open_ones:
        tls.close()
    wait_until(lambda: try_to_echo(agent))


def try_to_echo(agent) -> bool:
    """Is a new connection served?"""
    try:
        with agent.connect() as tls:
            tls.sendall(b"echo\nx")
            return tls.recv(1) == b"x"
    except OSError:
        return False


def test_last_bytes_of_an_app_that_ends_arrive(build_agent):
    """An answer written just before the app's end reaches the gateway, and so does its end."""
    script = (
        "import socket, os;"
        "listener = socket.create_server(('127.0.0.1', {port})); print('up', flush=True);"
        "sock, _ = listener.accept(); sock.recv(10); sock.sendall(b'z' * 1000000); os._exit(3)"
    )
    agent = build_agent()
    argv = agent.settings["argv"][:4]
    agent.configure(argv=[*argv, "-c", script.format(port=agent.app_port)]).start()
    with agent.connect() as tls:
        tls.sendall(b"give")
        got = 0
        while piece := tls.recv(65536):
            got += len(piece)
    assert got == 1_000_000
    assert agent.wait() == 3


def test_failures_are_in_openssls_words():
    """A verification failure says which, any other its reason."""
    error = ssl.SSLError(1, "text")
    error.reason = "UNSUPPORTED_PROTOCOL"
    assert describe_failure(error) == "unsupported protocol"
    error.reason = None
    assert "text" in describe_failure(error)
    verification = ssl.SSLCertVerificationError(1, "text")
    verification.verify_message = "certificate has expired"
    assert describe_failure(verification) == "certificate has expired"
