"""The visitor's side of HTTP/1.1, over real TLS."""

import asyncio

import pytest

from tests.gateway.conftest import OpenLab
from tests.support.gateway import GatewayLab, answer, echo, get, read_head


async def test_serves_a_request(lab: GatewayLab) -> None:
    """A request reaches the app and its answer the visitor."""
    await lab.serve(echo)
    reply = await lab.ask(get("/x?y=1"))
    assert (reply.status, reply.body.split(b"\r\n")[0]) == (200, b"GET /x?y=1 HTTP/1.1")


async def test_keeps_connections_on_both_sides(lab: GatewayLab) -> None:
    """A second request uses the same connections, the visitor's and the app's."""
    app = await lab.serve(echo)
    visit = await lab.connect()
    for number in range(5):
        await visit.send(get(f"/{number}"))
        assert (await visit.read()).status == 200
    assert app.connections == 1
    visit.abort()


async def test_takes_a_head_byte_by_byte(lab: GatewayLab) -> None:
    """However a head is cut, it is the same request."""
    await lab.serve(echo)
    visit = await lab.connect()
    for byte in get("/slow"):
        await visit.send(bytes([byte]))
    assert (await visit.read()).body.startswith(b"GET /slow ")
    visit.abort()


async def test_answers_pipelined_requests_in_order(lab: GatewayLab) -> None:
    """Requests sent at once are answered one after the other."""
    await lab.serve(echo)
    visit = await lab.connect()
    await visit.send(b"".join(get(f"/{n}") for n in range(20)))
    for number in range(20):
        assert (await visit.read()).body.startswith(b"GET /%d " % number)
    visit.abort()


async def test_answers_many_refusals_in_one_packet(lab: GatewayLab) -> None:
    """A thousand pipelined requests that end at once do not nest."""
    lab.publish(None)
    visit = await lab.connect()
    sender = asyncio.ensure_future(visit.send(get("/") * 999))
    for _ in range(999):
        assert (await visit.read()).status == 503
    await sender
    visit.abort()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET  / HTTP/1.1\r\nHost: hello.localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: hello.localhost\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: hello.localhost\nX: y\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: hello.localhost\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40000 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\n", 414),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
    ],
)
async def test_refuses_what_it_cannot_read(
    lab: GatewayLab, request_bytes: bytes, status: int
) -> None:
    """A malformed head is answered once, then the connection ends and nothing reaches the app."""
    app = await lab.serve(echo)
    visit = await lab.connect()
    await visit.send(request_bytes + get("/smuggled"))
    reply = await visit.read()
    assert (reply.status, reply.headers["connection"]) == (status, "close")
    assert await visit.ends() == b""
    assert app.connections == 0


async def test_ends_a_connection_whose_head_is_late(start_lab: OpenLab) -> None:
    """A head has to be whole within its time, however steadily it comes."""
    async with start_lab(request_head="200ms") as lab:
        visit = await lab.connect()
        await visit.send(b"GET / HT")
        await asyncio.sleep(0.25)
        lab.site.sweep(lab.site.now())
        assert (await visit.read()).status == 408
        visit.abort()


async def test_ends_an_idle_connection_silently(start_lab: OpenLab) -> None:
    """A connection that is kept alive for nothing is closed without an answer."""
    async with start_lab(keep_alive="100ms") as lab:
        await lab.serve(echo)
        visit = await lab.connect()
        await visit.send(get())
        await visit.read()
        await asyncio.sleep(0.15)
        lab.site.sweep(lab.site.now())
        assert await visit.ends() == b""


async def test_ends_after_as_many_requests_as_allowed(start_lab: OpenLab) -> None:
    """The last request that is allowed says that the connection ends."""
    async with start_lab(keep_alive_requests=2) as lab:
        await lab.serve(echo)
        visit = await lab.connect()
        await visit.send(get())
        assert "connection" not in (await visit.read()).headers
        await visit.send(get())
        assert (await visit.read()).headers["connection"] == "close"
        assert await visit.ends() == b""


async def test_forwards_a_body_of_known_length(lab: GatewayLab) -> None:
    """An upload arrives byte for byte under its length."""
    got: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await read_head(reader))
        got.append(await reader.readexactly(300000))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    await lab.serve(script)
    body = bytes(range(256)) * 1171 + b"x" * 224
    head = b"PUT /f HTTP/1.1\r\nHost: hello.localhost\r\nContent-Length: 300000\r\n\r\n"
    reply = await lab.ask(head + body)
    assert reply.status == 204
    assert (b"content-length: 300000" in got[0], got[1] == body) == (True, True)


async def test_rewrites_a_chunked_body_and_goes_on(lab: GatewayLab) -> None:
    """Chunks are framed anew, trailers and extensions stay out, and the next request counts."""
    got: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            got.append(await read_head(reader))
            if got[-1].startswith(b"POST"):
                got.append(await reader.readuntil(b"0\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    await lab.serve(script)
    visit = await lab.connect()
    await visit.send(
        b"POST / HTTP/1.1\r\nHost: hello.localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5;a=b\r\nhe\r\n\r\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n" + get("/next")
    )
    assert [(await visit.read()).status for _ in range(2)] == [200, 200]
    assert got[1] == b"5\r\nhe\r\n\r\r\n0\r\n\r\n"
    assert got[2].startswith(b"GET /next ")
    assert b"6.6.6.6" not in b"".join(got)
    visit.abort()


async def test_chunked_body_cut_anywhere(lab: GatewayLab) -> None:
    """The end of a chunked body is found wherever the bytes are cut."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_head(reader)
            await reader.readuntil(b"0\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    await lab.serve(script)
    visit = await lab.connect()
    head = b"POST / HTTP/1.1\r\nHost: hello.localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"4\r\n\r\n\r\n\r\n0\r\nA: b\r\n\r\n"
    for cut in range(1, len(body)):
        await visit.send(head + body[:cut])
        await asyncio.sleep(0.002)
        await visit.send(body[cut:])
        assert (await visit.read()).status == 200
    visit.abort()


async def test_says_continue_only_when_the_app_is_there(lab: GatewayLab) -> None:
    """100 is said once, before the body comes, and Expect is not passed on."""
    heads: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_head(reader))
        await reader.readexactly(2)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    await lab.serve(script)
    visit = await lab.connect()
    await visit.send(
        b"POST / HTTP/1.1\r\nHost: hello.localhost\r\nContent-Length: 2\r\n"
        b"Expect: 100-continue\r\n\r\n"
    )
    assert (await visit.read()).status == 100
    await visit.send(b"hi")
    assert (await visit.read()).status == 200
    assert b"expect" not in heads[0].lower()
    visit.abort()


async def test_refuses_a_body_that_is_too_large(lab: GatewayLab) -> None:
    """A stated length over the app's limit is refused before the app hears of it."""
    app = await lab.serve(echo, max_body_bytes=10)
    reply = await lab.ask(b"POST / HTTP/1.1\r\nHost: hello.localhost\r\nContent-Length: 11\r\n\r\n")
    assert (reply.status, app.connections) == (413, 0)


async def test_refuses_a_chunked_body_that_grows_too_large(lab: GatewayLab) -> None:
    """A body without a stated length is counted as it comes, and its exchange ended."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    app = await lab.serve(script, max_body_bytes=10)
    reply = await lab.ask(
        b"POST / HTTP/1.1\r\nHost: hello.localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"b\r\nhello world\r\n"
    )
    assert reply.status == 413
    await lab.settle()
    await lab.settle(lambda: app.open == 0)


async def test_refuses_bad_chunks_in_mid_upload(lab: GatewayLab) -> None:
    """A chunk that is malformed ends both connections, whatever had been forwarded."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    app = await lab.serve(script)
    reply = await lab.ask(
        b"POST / HTTP/1.1\r\nHost: hello.localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\nzz\r\n"
    )
    assert reply.status == 400
    await lab.settle(lambda: app.open == 0)


@pytest.mark.parametrize(
    ("method", "response", "status"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304),
    ],
)
async def test_knows_answers_without_a_body(
    lab: GatewayLab, method: str, response: bytes, status: int
) -> None:
    """HEAD, 204 and 304 end with their head, and both connections serve on."""
    app = await lab.serve(answer(response))
    visit = await lab.connect()
    for _ in range(3):
        await visit.send(get("/", method=method))
        reply = await visit.read(method.encode())
        assert (reply.status, reply.body) == (status, b"")
    assert app.connections == 1
    visit.abort()


async def test_http10_visitor_gets_a_body_without_chunks(lab: GatewayLab) -> None:
    """To HTTP/1.0 a chunked answer is sent plain and ended by the connection."""
    await lab.serve(
        answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    )
    visit = await lab.connect()
    await visit.send(b"GET / HTTP/1.0\r\nHost: hello.localhost\r\n\r\n")
    reply = await visit.read()
    assert ("transfer-encoding" in reply.headers, reply.body) == (False, b"hello")


async def test_early_answer_reaches_a_visitor_who_still_sends(lab: GatewayLab) -> None:
    """An app that answers before the upload is over is heard, then both connections end."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        await asyncio.sleep(5)

    app = await lab.serve(script)
    visit = await lab.connect()
    await visit.send(
        b"POST / HTTP/1.1\r\nHost: hello.localhost\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000
    )
    reply = await visit.read()
    assert (reply.status, reply.body, reply.headers["connection"]) == (403, b"no", "close")
    await visit.send(b"x" * 200000)
    await lab.settle()
    await lab.settle(lambda: app.open == 0)
    visit.abort()


async def test_visitor_gone_before_the_answer(lab: GatewayLab) -> None:
    """When a visitor leaves, the app's connection is closed and nothing is in flight."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.read()

    app = await lab.serve(script)
    visit = await lab.connect()
    await visit.send(get())
    await lab.settle(lambda: app.open == 1)
    visit.abort()
    await lab.settle()
    await lab.settle(lambda: app.open == 0)
    assert lab.read_log()[-1]["reason"] == "visitor_closed"
