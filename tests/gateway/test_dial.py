"""Opening, lending and taking back connections."""

import asyncio
import ssl

import pytest

from gateway.config import GatewayLimits
from gateway.dial import Dialer, DialError, Place, translate_connect, translate_handshake
from gateway.heads import Limits
from gateway.pool import OPEN
from gateway.relay import AppConnection
from gateway.sockets import bind, describe
from gateway.tasks import Tasks
from tests.support.gateway import APP_ID, SERVER_NAME, GatewayLab, echo, get


async def test_without_a_leaf_nothing_is_dialled() -> None:
    """Before the gateway has an identity it speaks to no app."""
    async with Tasks() as tasks:
        dialer = Dialer(GatewayLimits(), Limits(), tasks)
        with pytest.raises(DialError, match="no certificate of its own"):
            await dialer.dial(Place("a", "127.0.0.1:1", "a", APP_ID), lambda *_: None)


async def test_cancelled_attempt_gives_its_place_back(lab: GatewayLab) -> None:
    """Cancelled at its first step or in mid-handshake, an attempt leaves the pool as it was."""
    listening = bind("127.0.0.1", 0)  # connects, and never shakes hands
    app = await lab.serve(echo)
    upstream = lab.site.upstreams["hello/1"]
    upstream.address = describe(listening)
    dialer, called = lab.site.dialer, list[object]()
    for pause_s in (None, 0, 0.05):
        assert dialer.take(upstream) is OPEN
        attempt = dialer.open(upstream, called.append, called.append)
        if pause_s is not None:
            await asyncio.sleep(pause_s)
        attempt.cancel()
        await asyncio.wait([attempt])
        await asyncio.sleep(0)
        assert "upstreams=0" in repr(dialer)
    assert (called, app.connections) == ([], 0)
    listening.close()


async def test_taken_connection_comes_back_once(lab: GatewayLab) -> None:
    """What was lent is in the pool again after its exchange, and expires when unused."""
    app = await lab.serve(echo)
    await lab.ask(get())
    dialer = lab.site.dialer
    assert "idle=1, leased=0" in repr(dialer.pool)
    taken = dialer.take(lab.site.upstreams["hello/1"])
    assert isinstance(taken, AppConnection)
    assert "idle=0, leased=1" in repr(dialer.pool)
    taken.close()
    assert "upstreams=0" in repr(dialer.pool)
    await lab.ask(get())
    dialer.expire(lab.site.now() + 1000)
    assert "upstreams=0" in repr(dialer.pool)
    await lab.settle(lambda: app.open == 0)


async def test_probe_and_traffic_see_the_same_peer(lab: GatewayLab) -> None:
    """`dial` checks the identity whoever calls it."""
    app = await lab.serve(echo)
    address = f"127.0.0.1:{app.port}"
    wrong = Place("x", address, SERVER_NAME, APP_ID + "1")
    with pytest.raises(DialError) as refused:
        await lab.site.dialer.dial(wrong, lambda *_: None)
    assert refused.value.reason == "upstream_identity"
    right = await lab.site.dialer.dial(Place("x", address, SERVER_NAME, APP_ID), lambda *_: None)
    right.close()


@pytest.mark.parametrize(
    ("error", "reason", "text"),
    [
        (ConnectionRefusedError(), "upstream_unreachable", "refused"),
        (FileNotFoundError(), "upstream_unreachable", "refused"),
        (TimeoutError(), "upstream_unreachable", "timed out"),
        (OSError("no route"), "upstream_unreachable", "no route"),
    ],
)
def test_says_why_an_address_cannot_be_reached(error: Exception, reason: str, text: str) -> None:
    """Each way not to connect has its words."""
    said = translate_connect(error)
    assert (said.reason, text in str(said)) == (reason, True)


@pytest.mark.parametrize(
    ("error", "reason", "text"),
    [
        (ssl.SSLCertVerificationError(1, "x"), "upstream_identity", "certificate"),
        (ssl.SSLError(1, "bad record"), "upstream_tls", "TLS failed"),
        (ConnectionAbortedError(), "upstream_tls", "timed out"),
        (ConnectionResetError(), "upstream_tls", "ended during"),
    ],
)
def test_says_why_a_handshake_failed(error: Exception, reason: str, text: str) -> None:
    """A peer that is somebody else is told from one that cannot do TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        error.verify_message = "self-signed"
    said = translate_handshake(error)
    assert (said.reason, text in str(said)) == (reason, True)
