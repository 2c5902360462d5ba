"""Nothing that can be read in two ways gets through the gateway, in either direction.

Over real TLS on both sides. Each vector is sent whole and, where it is short, byte by byte; after
it comes a request that must never be answered.
"""

import asyncio
import contextlib
import re

import pytest

from tests.security.conftest import Connect
from tests.security.smuggling_vectors import (
    ANSWERS,
    BODIES,
    HANDSHAKE,
    HARMLESS,
    HEADS,
    HOST,
    H,
    get,
    ok,
)
from tests.support.gateway import GatewayLab, Visit
from tests.support.recorder import Recorder

NEXT = b"GET /next HTTP/1.1\r\n" + H + b"\r\n"
SPLIT_BYTES = 700
Vector = tuple[str, int, bytes]


async def send(visit: Visit, raw: bytes, way: str) -> None:
    """At once, or each byte in a record and a turn of the loop of its own."""
    if way == "whole":
        await visit.send(raw)
        return
    for code in raw:
        await visit.send(bytes([code]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def read_all(visit: Visit) -> bytes:
    """All that came until the connection ended, in whatever way it did."""
    pieces: list[bytes] = []
    with contextlib.suppress(ConnectionError):
        while piece := await visit.reader.read(65536):
            pieces.append(piece)
    return b"".join(pieces)


def statuses(raw: bytes) -> list[int]:
    """Of the answers in these bytes."""
    return [int(status) for status in re.findall(rb"(?:^|[^\r])HTTP/1\.1 (\d{3}) ", raw)]


def choose(vectors: list[Vector], way: str) -> list[Vector]:
    """All of them whole, the short ones in pieces."""
    return [vector for vector in vectors if way == "whole" or len(vector[2]) <= SPLIT_BYTES]


async def attack(connect: Connect, vectors: list[Vector], way: str) -> None:
    """Each on a connection of its own, all at once: a refused visitor is listened to a while.

    Every one is answered once, with its status, and told that the connection ends, which it does.
    """

    async def visit_once(raw: bytes) -> bytes:
        visit = await connect()
        reading = asyncio.ensure_future(read_all(visit))
        with contextlib.suppress(ConnectionError):  # it may hang up before the last byte
            await send(visit, raw, way)
            await visit.send(NEXT)
        return await asyncio.wait_for(reading, 10)

    answers = await asyncio.gather(*(visit_once(raw) for _, _, raw in vectors))
    seen = {name: statuses(raw) for (name, *_), raw in zip(vectors, answers, strict=True)}
    assert seen == {name: [status] for name, status, _ in vectors}
    assert all(b"connection: close\r\n" in raw for raw in answers)


@pytest.mark.parametrize("way", ["whole", "split"])
@pytest.mark.parametrize("group", HEADS)
async def test_heads_are_refused(connect: Connect, app: Recorder, group: str, way: str) -> None:
    """Not a byte of a bad head, or of what follows it, reaches the app."""
    await attack(connect, choose(HEADS[group], way), way)
    assert app.received == []


@pytest.mark.parametrize("way", ["whole", "split"])
async def test_bodies_are_refused(
    lab: GatewayLab, connect: Connect, app: Recorder, way: str
) -> None:
    """The app may have seen the head, but the request never becomes whole and the rest is lost."""
    await attack(connect, choose(BODIES, way), way)
    await lab.settle(lambda: app.ended == len(app.received))
    assert app.whole == []
    assert b"/next" not in b"".join(app.received)


@pytest.mark.parametrize(
    ("raw", "targets", "way"),
    [
        pytest.param(raw, targets, way, id=f"{name}-{way}")
        for name, raw, targets in HARMLESS
        for way in ("whole", "split")
    ],
)
async def test_odd_request_stays_in_step(
    connect: Connect, app: Recorder, raw: bytes, targets: list[bytes], way: str
) -> None:
    """What is odd but clear is read by the app exactly as by the gateway."""
    visit = await connect()
    await send(visit, raw + NEXT, way)
    for _ in [*targets, NEXT]:
        assert (await visit.read()).status == 200
    assert app.targets == [*targets, b"/next"]
    assert b"".join(app.received) == b"".join(app.whole)


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 8])
async def test_end_of_a_chunked_body_may_be_cut_anywhere(
    connect: Connect, app: Recorder, cut: int
) -> None:
    """Wherever a read ends near the last chunk, the next request begins right behind it."""
    raw = b"POST /a HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    visit = await connect()
    for piece in (raw[:-cut], raw[-cut:] + NEXT):
        await visit.send(piece)
        await asyncio.sleep(0.01)
    assert [(await visit.read()).status for _ in range(2)] == [200, 200]
    assert app.targets == [b"/a", b"/next"]


async def test_bytes_behind_a_handshake_wait_for_the_proof(
    lab: GatewayLab, connect: Connect, app: Recorder
) -> None:
    """Before a valid 101 nothing that follows a handshake reaches the app as a stream."""
    app.answer = ok(
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n",
        b"",
        b"HTTP/1.1 101 S",
    )
    visit = await connect()
    await visit.send(get(HANDSHAKE) + b"\x81\x85raw bytes")
    assert (await visit.read()).status == 502
    await lab.settle(lambda: app.ended == 1)
    assert b"raw bytes" not in b"".join(app.received)


async def test_connection_to_the_app_is_not_shared_after_an_abort(
    lab: GatewayLab, connect: Connect, app: Recorder
) -> None:
    """A visitor that leaves in the middle of a body takes the app's connection with it."""
    visit = await connect()
    await visit.send(b"POST /a HTTP/1.1\r\n" + H + b"Content-Length: 100\r\n\r\nGET /half")
    await lab.settle(lambda: len(app.received) == 1 and b"half" in app.received[0])
    visit.abort()
    await lab.settle(lambda: app.ended == 1)
    other = await connect()
    await other.send(NEXT)
    assert (await other.read()).status == 200
    assert app.targets == [b"/next"]


@pytest.mark.parametrize("answer", [pytest.param(raw, id=name) for name, raw in ANSWERS])
async def test_answer_is_refused(
    lab: GatewayLab, connect: Connect, app: Recorder, answer: bytes
) -> None:
    """A contradictory answer is a 502, and its connection serves nobody else."""
    app.answer, app.closes = answer, not answer.endswith(b"\n") and b"\r\n\r\n" not in answer
    visit = await connect()
    await visit.send(NEXT)
    reply = await visit.read()
    while reply.status == 103:
        reply = await visit.read()
    assert reply.status == 502
    assert b"smuggled" not in reply.body
    await lab.settle(lambda: app.ended == len(app.received))
    app.answer, app.closes = ok(b"Content-Length: 4\r\n", b"good"), False
    other = await connect()
    await other.send(NEXT)
    assert (await other.read()).body == b"good"


@pytest.mark.parametrize(
    ("method", "answer", "body"),
    [
        (
            b"GET",
            ok(b"Content-Length: 2\r\n", b"ok" + ok(b"Content-Length: 4\r\n", b"evil")),
            b"ok",
        ),
        (b"GET", ok(b"Transfer-Encoding: chunked\r\n", b"2\r\nok\r\n0\r\n\r\nevil"), b"ok"),
        (b"HEAD", ok(b"Content-Length: 4\r\n", b"evil"), b""),
        (b"HEAD", ok(b"Transfer-Encoding: chunked\r\n", b"4\r\nevil\r\n0\r\n\r\n"), b""),
        (b"GET", ok(b"Content-Length: 4\r\n", b"evil", b"HTTP/1.1 204 No Content"), b""),
        (b"GET", ok(b"Content-Length: 4\r\n", b"evil", b"HTTP/1.1 304 Not Modified"), b""),
    ],
)
async def test_bytes_beyond_an_answer_are_nobodys(
    lab: GatewayLab, connect: Connect, app: Recorder, method: bytes, answer: bytes, body: bytes
) -> None:
    """What an app sends beyond its answer reaches neither this visitor nor the next."""
    app.answer = answer
    visit = await connect()
    await visit.send(method + b" /a HTTP/1.1\r\n" + H + b"\r\n")
    reply = await visit.read(method)
    assert (reply.status in {200, 204, 304}, reply.body) == (True, body)
    await lab.settle(lambda: app.ended == 1)
    app.answer = ok(b"Content-Length: 4\r\n", b"good")
    await visit.send(NEXT)
    assert (await visit.read()).body == b"good"


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"Content-Length: 9\r\n", b"short"),
        ok(b"Transfer-Encoding: chunked\r\n", b"9\r\nshort"),
        ok(b"Transfer-Encoding: chunked\r\n", b"5\r\nshort\r\n"),
    ],
)
async def test_truncated_answer_is_never_completed(
    connect: Connect, app: Recorder, answer: bytes
) -> None:
    """An answer that the app cut short is seen to be cut by the visitor."""
    app.answer, app.closes = answer, True
    visit = await connect()
    await visit.send(NEXT)
    assert not (await visit.read()).is_whole


def test_there_are_enough_vectors() -> None:
    """The tables have no name twice and did not lose their rows."""
    heads = [vector for group in HEADS.values() for vector in group]
    names = [vector[0] for vector in (*heads, *BODIES, *HARMLESS)]
    assert len(set(names)) == len(names) >= 150
    assert len({name for name, _ in ANSWERS}) == len(ANSWERS) >= 30
    assert HOST == b"hello.localhost"
