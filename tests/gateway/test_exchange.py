"""One request from head to log line, whatever either side does in between."""

import asyncio
import ssl
import time
from pathlib import Path

import pytest

from gateway import RouteEntry, TableDocument
from tests.gateway.conftest import OpenLab
from tests.support.agent import Authority
from tests.support.gateway import (
    APP_ID,
    HOST,
    AppUnderTest,
    GatewayLab,
    answer,
    echo,
    get,
    read_head,
)

UPLOAD = b"POST / HTTP/1.1\r\nHost: hello.localhost\r\nContent-Length: 100000000\r\n\r\n"


async def check_clean(lab: GatewayLab, app: AppUnderTest) -> None:
    """Nothing is in flight, no connection is leased, and the next visitor is served."""
    await lab.settle()
    await lab.settle(lambda: app.open == 0)
    await lab.settle(lambda: "leased=0, opening=0" in repr(lab.site.dialer.pool))
    app.script = echo
    assert (await lab.ask(get("/after"))).status == 200


@pytest.mark.parametrize(
    ("sni", "host", "status"),
    [
        (HOST, HOST, 200),
        (HOST, "HELLO.localhost.", 200),
        (HOST, f"{HOST}:8443", 200),
        (HOST, "other.localhost", 421),
        ("other.localhost", HOST, 421),
        (None, HOST, 421),
        ("nobody.localhost", "nobody.localhost", 404),
        (None, "127.0.0.1", 404),
    ],
)
async def test_serves_only_the_name_the_connection_is_for(
    lab: GatewayLab, sni: str | None, host: str, status: int
) -> None:
    """Host and SNI have to agree, and an unknown name gets a page that says so."""
    app = await lab.serve(echo, hosts=(HOST, "other.localhost"))
    visit = await lab.connect(sni)
    await visit.send(get(host=host))
    assert (await visit.read()).status == status
    assert app.connections == (1 if status == 200 else 0)
    visit.abort()


@pytest.mark.parametrize(
    ("state", "word"), [("failed", "app_failed"), ("asleep", "app_asleep"), ("healthy", "app_unav")]
)
async def test_says_why_an_app_is_not_there(lab: GatewayLab, state: str, word: str) -> None:
    """Without an upstream the visitor reads the app's state and why, and the log has a word."""
    lab.publish(None, state=state, reason="the wheels came off")
    reply = await lab.ask(get("/", "Accept: text/html"))
    assert (reply.status, b"the wheels came off" in reply.body) == (503, True)
    assert "retry-after" in reply.headers
    assert lab.read_log()[-1]["reason"].startswith(word)


async def test_says_that_an_app_cannot_be_reached(lab: GatewayLab) -> None:
    """A refused connection is a 502 and leaves no place taken in the pool."""
    app = await lab.serve(echo)
    await app.stop()
    reply = await lab.ask(get())
    assert (reply.status, lab.read_log()[-1]["reason"]) == (502, "upstream_unreachable")
    assert "opening=0" in repr(lab.site.dialer.pool)


@pytest.mark.parametrize(
    ("uris", "dns"),
    [
        (("spiffe://lockgate.internal/app/hello/2",), "hello.apps.lockgate.internal"),
        (("spiffe://lockgate.internal/app/hello/10",), "hello.apps.lockgate.internal"),
        (("spiffe://lockgate.internal/app/other/1",), "hello.apps.lockgate.internal"),
        (("spiffe://lockgate.internal/app/Hello/1",), "hello.apps.lockgate.internal"),
        ((APP_ID, "spiffe://lockgate.internal/app/x/1"), "hello.apps.lockgate.internal"),
        ((), "hello.apps.lockgate.internal"),
        ((APP_ID,), "other.apps.lockgate.internal"),
    ],
)
async def test_says_nothing_to_a_peer_that_is_somebody_else(
    lab: GatewayLab, uris: tuple[str, ...], dns: str
) -> None:
    """A peer without exactly the upstream's identity gets no byte, and the visitor a 502."""
    heard: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1))

    context = lab.build_app_context(dns=dns)
    leaf = lab.authority.issue(*uris, dns=dns)
    path = lab.folder / "other.pem"
    path.write_bytes(leaf[1] + leaf[0])
    context.load_cert_chain(path)
    lab.publish(await lab.start_app(script, context))
    reply = await lab.ask(get())
    await asyncio.sleep(0.02)
    assert (reply.status, lab.read_log()[-1]["reason"]) == (502, "upstream_identity")
    assert b"".join(heard) == b""


async def test_trusts_our_roots_only(lab: GatewayLab) -> None:
    """The right name under another authority is nobody."""
    app = await lab.start_app(echo, lab.build_app_context(authority=Authority()))
    lab.publish(app)
    reply = await lab.ask(get())
    assert (reply.status, lab.read_log()[-1]["reason"]) == (502, "upstream_identity")


async def test_speaks_tls13_to_apps_only(lab: GatewayLab) -> None:
    """An app that knows TLS 1.2 at best is not spoken to."""
    context = lab.build_app_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    app = await lab.start_app(echo, context)
    lab.publish(app)
    reply = await lab.ask(get())
    assert (reply.status, lab.read_log()[-1]["reason"]) == (502, "upstream_tls")


async def test_reaches_an_app_by_a_unix_socket(lab: GatewayLab, tmp_path: Path) -> None:
    """An upstream's address may be a path, with the same TLS on it."""
    app = AppUnderTest(echo, lab.build_app_context())
    await app.start(tmp_path / "app.sock")
    lab.apps.append(app)
    lab.version += 1
    entry = lab.build_entry(f"unix:{tmp_path}/app.sock")
    route = RouteEntry(hosts=(HOST,), app="hello", upstream=entry.name)
    lab.site.publish(TableDocument(version=1, routes=(route,), upstreams=(entry,)))
    assert (await lab.ask(get())).status == 200


@pytest.mark.parametrize("kept", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_app_that_hangs_up_unheard(lab: GatewayLab, kept: bytes) -> None:
    """An app that closes before its head is whole is a 502, and is not asked twice."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(kept)

    app = await lab.serve(script)
    reply = await lab.ask(get())
    assert (reply.status, lab.read_log()[-1]["reason"]) == (502, "upstream_closed")
    assert app.connections == 1
    await check_clean(lab, app)


async def test_repeats_a_request_on_a_stale_connection(lab: GatewayLab) -> None:
    """A pooled connection that the app closes just then costs the visitor of a GET nothing."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head) + head)
        await read_head(reader)
        writer.transport.abort()

    app = await lab.serve(script)
    visit = await lab.connect()
    for number in range(6):
        await visit.send(get(f"/{number}"))
        assert (await visit.read()).body.startswith(b"GET /%d" % number)
    assert app.connections == 6
    visit.abort()


async def test_never_repeats_what_may_have_been_done(lab: GatewayLab) -> None:
    """A POST on a connection that ends unanswered is a 502: it may have had its effect."""
    posts: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        posts.append(await read_head(reader))
        writer.transport.abort()

    await lab.serve(script)
    visit = await lab.connect()
    await visit.send(get())
    await visit.read()
    await visit.send(get(method="POST"))
    assert (await visit.read()).status == 502
    assert len(posts) == 1
    visit.abort()


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
async def test_never_completes_a_body_that_was_cut(lab: GatewayLab, head: bytes) -> None:
    """An app that dies in mid-body leaves the visitor with an answer that is visibly cut."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(head + b"half")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    app = await lab.serve(script)
    reply = await lab.ask(get())
    assert (reply.status, reply.is_whole, reply.body) == (200, False, b"half")
    assert lab.read_log()[-1]["reason"] == "upstream_closed"
    await check_clean(lab, app)


async def test_body_that_ends_with_its_connection(lab: GatewayLab) -> None:
    """A body without a length is whole when the app says goodbye."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")

    app = await lab.serve(script)
    reply = await lab.ask(get())
    assert (reply.is_whole, reply.body) == (True, b"all of it")
    await check_clean(lab, app)


async def test_visitor_gone_in_mid_upload(lab: GatewayLab) -> None:
    """A visitor who leaves while sending ends the app's exchange."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        app.received += len(await reader.readexactly(1000))
        await reader.read(-1)

    app = await lab.serve(script)
    visit = await lab.connect()
    await visit.send(UPLOAD + b"x" * 5000)
    await lab.settle(lambda: app.received > 0)
    visit.abort()
    await check_clean(lab, app)


async def test_visitor_gone_in_mid_download(lab: GatewayLab) -> None:
    """A visitor who leaves while reading ends the app's exchange."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    app = await lab.serve(script)
    visit = await lab.connect()
    await visit.send(get())
    await visit.reader.readexactly(200000)
    visit.abort()
    await check_clean(lab, app)


async def test_visitor_gone_while_connecting(lab: GatewayLab) -> None:
    """A visitor who leaves before the app was reached leaves no attempt behind."""
    app = await lab.serve(echo)
    for _ in range(20):
        visit = await lab.connect()
        await visit.send(get())
        visit.abort()
    await check_clean(lab, app)


async def test_slow_visitor_makes_the_app_wait(lab: GatewayLab) -> None:
    """An answer is read no faster than it can be passed on: memory stays bounded."""
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(50):
            writer.write(b"x" * 1000000)
            await writer.drain()
            sent += 1000000

    app = await lab.serve(script)
    visit = await lab.connect()
    await visit.send(get())
    await asyncio.sleep(0.5)
    assert sent < 25_000_000
    reply = await visit.read()
    assert (reply.is_whole, len(reply.body), sent) == (True, 50_000_000, 50_000_000)
    visit.abort()
    await lab.settle()
    assert app.connections == 1


async def test_slow_app_makes_the_visitor_wait(lab: GatewayLab) -> None:
    """An upload is read no faster than the app takes it."""
    go_on = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await go_on.wait()
        app.received = len(await reader.readexactly(50_000_000))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    app = await lab.serve(script)
    visit = await lab.connect()
    visit.writer.write(UPLOAD.replace(b"100000000", b"50000000"))
    for _ in range(50):
        visit.writer.write(b"x" * 1_000_000)
    await asyncio.sleep(0.5)
    taken = [getattr(entry, "exchange", None) for entry in lab.site.waiting]
    assert [0 < exchange.bytes_in < 25_000_000 for exchange in taken if exchange] == [True]
    go_on.set()
    assert (await visit.read()).status == 200
    assert app.received == 50_000_000
    visit.abort()


async def test_flushes_what_the_app_says_at_once(lab: GatewayLab) -> None:
    """Server-sent events are not kept back for company."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
        )
        await reader.read()

    await lab.serve(script)
    visit = await lab.connect()
    started = time.monotonic()
    await visit.send(get())
    await visit.reader.readuntil(b"data: 1\n\n")
    assert time.monotonic() - started < 0.5
    visit.abort()


async def test_relays_early_hints_and_swallows_other_interim_answers(lab: GatewayLab) -> None:
    """103 reaches the visitor, 100 and 102 do not, and the final answer follows."""
    await lab.serve(
        answer(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n"
            b"Set-Cookie: a=b\r\n\r\nHTTP/1.1 102 P\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        )
    )
    visit = await lab.connect()
    await visit.send(get())
    hints = await visit.read()
    assert (hints.status, hints.headers) == (103, {"link": "</a>"})
    assert (await visit.read()).body == b"ok"
    visit.abort()


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "upstream_syntax"),
        (b"HTTP/1.1 200 OK\nX: y\n\n\r\n\r\n", "upstream_syntax"),
        (
            b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            "upstream_upgrade",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "upstream_"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n", "upstream_head_too_large"),
        (b"HTTP/1.1 100 C\r\n\r\n" * 9, "upstream_interim"),
    ],
)
async def test_refuses_what_an_app_may_not_say(
    lab: GatewayLab, response: bytes, reason: str
) -> None:
    """An answer that is not plain HTTP is a 502, and its connection is not used again."""
    app = await lab.serve(answer(response))
    reply = await lab.ask(get())
    assert (reply.status, lab.read_log()[-1]["reason"][: len(reason)]) == (502, reason)
    await check_clean(lab, app)


async def test_drops_what_an_app_says_beyond_its_answer(lab: GatewayLab) -> None:
    """Bytes after the answer are nobody's: the connection ends, the next request is safe."""
    app = await lab.serve(
        answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n")
    )
    visit = await lab.connect()
    for _ in range(2):
        await visit.send(get())
        assert (await visit.read()).body == b"ok"
    assert app.connections == 2
    visit.abort()


async def test_gives_up_on_an_app_that_does_not_answer(start_lab: OpenLab) -> None:
    """No head within its time is a 504, and the app's connection is closed."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    async with start_lab(response_head="100ms") as lab:
        app = await lab.serve(script)
        visit = await lab.connect()
        await visit.send(get())
        await asyncio.sleep(0.15)
        lab.site.sweep(lab.site.now())
        assert (await visit.read()).status == 504
        visit.abort()
        await check_clean(lab, app)


async def test_gives_up_on_an_upload_that_stops(start_lab: OpenLab) -> None:
    """A body that stops arriving is a 408."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    async with start_lab(request_body_idle="100ms") as lab:
        app = await lab.serve(script)
        visit = await lab.connect()
        await visit.send(UPLOAD + b"x")
        await lab.settle(lambda: app.open == 1)
        await asyncio.sleep(0.15)
        lab.site.sweep(lab.site.now())
        assert (await visit.read()).status == 408
        visit.abort()
        await check_clean(lab, app)


async def test_gives_up_on_an_upload_that_trickles(start_lab: OpenLab) -> None:
    """A body that never stops but is slower than its rate is a 408, too."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    async with start_lab(request_body_idle="300ms", request_body_rate="1KiB") as lab:
        app = await lab.serve(script)
        visit = await lab.connect()
        await visit.send(UPLOAD)
        for _ in range(20):
            await visit.send(b"x")
            await asyncio.sleep(0.03)
            lab.site.sweep(lab.site.now())
        assert (await visit.read()).status == 408
        visit.abort()
        await check_clean(lab, app)


async def test_blames_the_app_for_an_upload_that_it_does_not_read(start_lab: OpenLab) -> None:
    """When the app stops reading, the visitor's time does not run, the app's does: 504."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await asyncio.sleep(3)

    limits = {"request_body_idle": "100ms", "response_head": "600ms", "window_bytes": "64KiB"}
    async with start_lab(**limits) as lab:
        await lab.serve(script)
        visit = await lab.connect()
        visit.writer.write(UPLOAD + b"x" * 30_000_000)
        await asyncio.sleep(0.4)
        lab.site.sweep(lab.site.now())
        await asyncio.sleep(0.4)
        lab.site.sweep(lab.site.now())
        assert (await visit.read()).status == 504
        visit.abort()
        await lab.settle()


async def test_slow_reader_lives_and_dead_reader_does_not(start_lab: OpenLab) -> None:
    """A visitor who reads a little each time is waited for; one who reads nothing is cut."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 40000000\r\n\r\n")
        writer.write(b"x" * 40_000_000)
        await writer.drain()
        await reader.read(-1)

    async with start_lab(write_stall="300ms") as lab:
        app = await lab.serve(script)
        visit = await lab.connect()
        await visit.send(get())
        for _ in range(20):
            await visit.reader.readexactly(1_000_000)
            await asyncio.sleep(0.04)
            lab.site.sweep(lab.site.now())
        assert lab.site.report()[0].in_flight == 1
        for _ in range(3):
            await asyncio.sleep(0.35)
            lab.site.sweep(lab.site.now())
        await lab.settle()
        await lab.settle(lambda: app.open == 0)
        assert lab.read_log()[-1]["reason"] == "response_timeout"
        visit.abort()


async def test_cut_ends_an_answer_that_never_ends(lab: GatewayLab) -> None:
    """What the operator cuts is cut on both sides."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await reader.read(-1)

    app = await lab.serve(script)
    visit = await lab.connect()
    await visit.send(get())
    await visit.reader.readuntil(b"half")
    lab.site.cut("hello/1")
    assert await visit.ends() == b""
    await check_clean(lab, app)


async def test_logs_one_line_without_what_was_in_it(lab: GatewayLab) -> None:
    """The line holds counts and names; queries, headers, cookies and bodies stay out."""
    await lab.serve(echo)
    await lab.ask(get("/path?token=CANARY1", "Cookie: CANARY2", "X-Y: CANARY3"))
    lines = lab.read_log()
    assert len(lines) == 1
    line = lines[0]
    assert "CANARY" not in (lab.folder / "access.log").read_text()
    assert (line["path"], line["status"], line["app"], line["upstream"]) == (
        "/path",
        200,
        "hello",
        "hello/1",
    )
    assert line["bytes_out"] > 0
    assert line["peer_ip"] == "127.0.0.1"
