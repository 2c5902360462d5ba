"""Nobody speaks for the gateway, nothing leaks through headers, pages or the log.

Over real TLS on both sides, with a witness for an app.
"""

import asyncio
import json
import re

import pytest

from tests.security.conftest import Connect
from tests.security.smuggling_vectors import CHUNKED, HANDSHAKE, HOST, KEY, H, get, ok
from tests.support.gateway import GatewayLab, Reply
from tests.support.recorder import Recorder

CANARY = b"canary-5f1c"

SPOOFED = [
    *(b"X-Forwarded-For", b"x-forwarded-for", b"X-FORWARDED-FOR", b"X-Forwarded-Host"),
    *(b"X-Forwarded-Proto", b"X-Forwarded-Port", b"X-Forwarded-Server", b"X-Forwarded-Scheme"),
    *(b"X-Forwarded-Prefix", b"X-Forwarded-Path", b"X-Forwarded-User", b"X-Forwarded-Email"),
    *(b"X-Forwarded-Groups", b"X-Forwarded-Access-Token", b"X-Forwarded-Client-Cert"),
    *(b"X-Forwarded-Tls-Client-Cert", b"X-Forwarded", b"Forwarded", b"FORWARDED", b"Via"),
    *(b"X_Forwarded_For", b"X-Forwarded_For", b"X_FORWARDED-FOR", b"X.Forwarded.For"),
    *(b"X~Forwarded~For", b"x-forwarded.for", b"X_Real_IP", b"Remote_User", b"For_warded"),
    *(b"X-Real-IP", b"X-Client-IP", b"X-Cluster-Client-IP", b"True-Client-IP", b"Client-IP"),
    *(b"CF-Connecting-IP", b"Fastly-Client-IP", b"X-Original-Forwarded-For", b"X-Original-Host"),
    *(b"X-Original-URL", b"X-Rewrite-URL", b"X-Host", b"X-Scheme", b"Front-End-Https"),
    *(b"Remote-User", b"REMOTE-USER", b"Remote-Groups", b"Remote-Email", b"X-Remote-User"),
    *(b"X-Auth-Request-User", b"X-Auth-Request-Email", b"X-Authenticated-User", b"X-WebAuth-User"),
    *(b"Ssl-Client-Verify", b"Ssl-Client-S-Dn", b"X-SSL-Client-Cert", b"Client-Cert"),
    *(b"Client-Cert-Chain", b"X-Client-Cert", b"X-Envoy-External-Address", b"X-Envoy-Internal"),
    *(b"X-Request-ID", b"X-Lockgate-User", b"Proxy", b"Proxy-Authorization", b"Proxy-Connection"),
    *(b"Keep-Alive", b"TE", b"Trailer", b"HTTP2-Settings"),
]

PRIVATE = [
    *(b"/_stcore/metrics", b"/_stcore/metrics?families=active_sessions", b"/_stcore/metrics/"),
    *(b"/_STCORE/METRICS", b"//_stcore/metrics", b"/_stcore//metrics", b"/./_stcore/metrics"),
    *(b"/x/../_stcore/metrics", b"/_stcore/x/../metrics", b"/_stcore;x/metrics;y"),
    *(b"/%5fstcore/metrics", b"/_stcore%2fmetrics", b"/_stcore/%6Detrics", b"/%255fstcore/metrics"),
    *(b"/_stcore/metrics%00", b"/_stcore/metrics%20", b"/_stcore%5cmetrics", b"/a/_stcore/metrics"),
    *(b"/_stcore/agent", b"/_stcore/agent/mcp", b"/_stcore/agent/interact", b"/_stcore%2Fagent/x"),
    b"https://hello.localhost/_stcore/metrics",
]


def fields_of(request: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values of a request as the app got it."""
    lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


async def ask(connect: Connect, raw: bytes) -> Reply:
    """One request on a connection of its own."""
    visit = await connect()
    await visit.send(raw)
    return await visit.read(raw.partition(b" ")[0])


@pytest.mark.parametrize("name", SPOOFED)
async def test_spoofed_field_does_not_reach_the_app(
    connect: Connect, app: Recorder, name: bytes
) -> None:
    """Alone or twice, the visitor's value is gone; what is ours is there once, and is ours."""
    spoof = name + b": " + CANARY + b"\r\n"
    assert (await ask(connect, get(spoof + b"X-A: 1\r\n" + spoof))).status == 200
    fields = fields_of(app.whole[0])
    assert CANARY not in app.received[0]
    assert [value for key, value in fields if key == b"x-forwarded-for"] == [b"127.0.0.1"]
    assert [value for key, value in fields if key == b"x-forwarded-proto"] == [b"https"]
    assert [value for key, value in fields if key == b"x-forwarded-host"] == [HOST]
    assert [key for key, _ in fields].count(b"forwarded") == 1
    assert (b"x-a", b"1") in fields


async def test_spoofed_fields_do_not_hide_in_trailers(connect: Connect, app: Recorder) -> None:
    """No trailer reaches the app, whatever it is called."""
    names = [name for name in SPOOFED if name not in {b"Proxy-Connection", b"Trailer", b"TE"}]
    trailers = b"".join(name + b": " + CANARY + b"\r\n" for name in names)
    raw = b"POST /a HTTP/1.1\r\n" + H + CHUNKED + b"\r\n3\r\nabc\r\n0\r\n" + trailers + b"\r\n"
    assert (await ask(connect, raw)).status == 200
    assert CANARY not in app.received[0]
    assert app.received[0].endswith(b"\r\n0\r\n\r\n")


async def test_spoofed_fields_do_not_pass_with_a_handshake(connect: Connect, app: Recorder) -> None:
    """An upgrade is stripped like any other request (and is still an upgrade)."""
    spoofs = b"".join(name + b": " + CANARY + b"\r\n" for name in SPOOFED)
    await ask(connect, get(HANDSHAKE + spoofs))
    assert CANARY not in app.received[0]
    assert (b"upgrade", b"websocket") in fields_of(app.whole[0])


async def test_nominated_field_does_not_reach_the_app(connect: Connect, app: Recorder) -> None:
    """What Connection names stays on this hop, in each of its spellings."""
    fields = b"Connection: X-Hop, close\r\nx-hop: %b\r\nX-HOP: %b\r\n" % (CANARY, CANARY)
    assert (await ask(connect, get(fields))).status == 200
    assert CANARY not in app.received[0]
    assert b"connection" not in dict(fields_of(app.whole[0]))


async def test_what_apps_need_passes_untouched(connect: Connect, app: Recorder) -> None:
    """Host, cookies line by line, protocols in order, tokens and large heads arrive as sent."""
    lines = [
        b"Cookie: a=1; b=2",
        b"X-XSRFToken: 2|ab|cd",
        b"Cookie: c=3",
        b"Authorization: Basic YTpi",
        b"Sec-WebSocket-Protocol: streamlit, 2|ab|cd|12, 0b9c",
        b"Origin: https://hello.localhost:8443",
        b"X-Text: caf\xe9",
        b"Cookie: d=" + b"x" * 28000,
    ]
    raw = b"GET /?a=%2F..%2f&b=+ HTTP/1.1\r\nHost: Hello.Localhost:8443\r\n"
    raw += HANDSHAKE + b"\r\n".join(lines) + b"\r\n\r\n"
    assert (await ask(connect, raw)).status == 200
    assert app.received[0].startswith(
        b"GET /?a=%2F..%2f&b=+ HTTP/1.1\r\nhost: Hello.Localhost:8443\r\n"
    )
    sent = [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in lines)]
    names = {name for name, _ in sent}
    assert [entry for entry in fields_of(app.whole[0]) if entry[0] in names] == sent


@pytest.mark.parametrize(
    "origin",
    [
        *(b"https://evil.test", b"https://hello.localhost.evil.test", b"https://xhello.localhost"),
        *(b"http://hello.localhost", b"https://hello.localhost:444", b"null", b""),
        *(b"https://hello.localhost@evil.test", b"https://hello.localhost/", b"file://"),
        b"https://hello.localhost\r\nOrigin: https://evil.test",
    ],
)
async def test_page_of_another_site_opens_no_socket(
    connect: Connect, app: Recorder, origin: bytes
) -> None:
    """A WebSocket is opened for the app's own pages only, cookies or not."""
    reply = await ask(connect, get(HANDSHAKE + b"Origin: " + origin + b"\r\n"))
    assert reply.status == 403
    assert app.received == []


async def test_request_ids_are_ours_and_differ(connect: Connect, app: Recorder) -> None:
    """Each request has an id that no visitor chose."""
    for _ in range(3):
        await ask(connect, get(b"X-Request-ID: " + CANARY + b"\r\n"))
    ids = {dict(fields_of(request))[b"x-request-id"] for request in app.whole}
    assert len(ids) == 3
    assert all(re.fullmatch(rb"[A-Za-z0-9_-]{8,64}", value) for value in ids)


async def test_answer_is_hardened(connect: Connect, app: Recorder) -> None:
    """Cookies are Secure and host-only on lines of their own; policies are added once."""
    app.answer = ok(
        b"Set-Cookie: a=1; Path=/; SameSite=Lax\r\n"
        b"Set-Cookie: b=2; Domain=localhost; secure\r\n"
        b"set-cookie: secure=1\r\n"
        b'Server: uvicorn\r\nX-Request-ID: theirs\r\nAlt-Svc: h3=":443"\r\n'
        b"Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"
        b"Referrer-Policy: no-referrer\r\nContent-Length: 2\r\n"
    )
    reply = await ask(connect, get(b""))
    names = [name for name, _ in reply.fields]
    assert [value for name, value in reply.fields if name == "set-cookie"] == [
        "a=1; Path=/; SameSite=Lax; Secure",
        "b=2; secure",
        "secure=1; Secure",
    ]
    assert reply.headers["server"] == "lockgate"
    assert reply.headers["strict-transport-security"] == "max-age=31536000"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.headers["date"].endswith(" GMT")
    assert len(set(names)) == len(names) - 2
    gone = {"x-request-id", "alt-svc", "keep-alive", "proxy-authenticate", "x-hop", "connection"}
    assert not gone & set(names)


async def test_trailers_of_an_answer_do_not_reach_the_visitor(
    connect: Connect, app: Recorder
) -> None:
    """An app cannot add fields behind its body."""
    trailers = b"2\r\nok\r\n0\r\nSet-Cookie: a=" + CANARY + b"\r\n\r\n"
    app.answer = ok(CHUNKED, trailers)
    visit = await connect()
    await visit.send(get(b"Connection: close\r\n"))
    answered = await visit.ends()
    assert answered.endswith(b"\r\n2\r\nok\r\n0\r\n\r\n")
    assert CANARY not in answered


@pytest.mark.parametrize("target", PRIVATE)
async def test_private_path_is_not_there(connect: Connect, app: Recorder, target: bytes) -> None:
    """Metrics and the agent interface look like any page that is not there, in any spelling."""
    reply = await ask(connect, get(b"", b"GET " + target + b" HTTP/1.1"))
    assert reply.status == 404
    assert b"stcore" not in reply.body.lower()
    assert app.received == []


@pytest.mark.parametrize("target", [b"/_stcore/health", b"/_stcore/host-config", b"/metrics"])
async def test_public_path_is_there(connect: Connect, app: Recorder, target: bytes) -> None:
    """What visitors need is not shut off with it."""
    assert (await ask(connect, get(b"", b"GET " + target + b" HTTP/1.1"))).status == 200
    assert app.targets == [target]


EVIL = b"<script>alert(1)</script>"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (get(b"", b"GET /_stcore/metrics/" + EVIL + b"?" + EVIL + b" HTTP/1.1"), 404),
        (b"GET / HTTP/1.1\r\nHost: " + EVIL + b"\r\n\r\n", 400),
        (b"GET /#" + EVIL + b" HTTP/1.1\r\n" + H + b"\r\n", 400),
        (b"<script> / HTTP/1.1\r\n" + H + b"\r\n", 501),
        (get(b"Expect: " + EVIL + b"\r\n"), 417),
        (get(b"Connection: " + EVIL + b"\r\n"), 400),
    ],
)
async def test_pages_reflect_nothing_and_are_locked_down(
    connect: Connect, app: Recorder, raw: bytes, status: int
) -> None:
    """A page of ours holds nothing of the request and may run and fetch nothing."""
    reply = await ask(connect, raw)
    assert reply.status == status
    assert b"script" not in reply.body.lower()
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["strict-transport-security"].startswith("max-age=")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert app.received == []


async def test_programs_are_answered_in_json(connect: Connect, app: Recorder) -> None:
    """Who asks for JSON gets problem details; HEAD gets the head alone."""
    path = b"GET /_stcore/metrics HTTP/1.1"
    reply = await ask(connect, get(b"Accept: application/json\r\n", path))
    assert reply.headers["content-type"] == "application/problem+json"
    assert json.loads(reply.body)["reason"] == "private_path"
    head = await ask(connect, get(b"", path.replace(b"GET", b"HEAD")))
    assert (head.status, head.body) == (404, b"")
    assert int(head.headers["content-length"]) > 0


async def test_state_of_an_app_is_told_without_markup(lab: GatewayLab, connect: Connect) -> None:
    """The reason of a failed app is shown as text."""
    lab.publish(None, state="failed", reason="exit code 1 <script>")
    reply = await ask(connect, get(b""))
    assert reply.status == 503
    assert b"exit code 1 &lt;script&gt;" in reply.body
    assert "retry-after" in reply.headers


async def test_log_holds_no_secret_of_a_request(
    lab: GatewayLab, connect: Connect, app: Recorder
) -> None:
    """Neither query nor cookie, credential, protocol, other field, body nor answer is written."""
    fields = (
        b"Cookie: a=%b\r\nAuthorization: Bearer %b\r\nReferer: https://x.test/%b\r\n"
        b"User-Agent: %b\r\nSec-WebSocket-Protocol: streamlit, %b\r\nX-Forwarded-For: %b\r\n"
    ) % ((CANARY,) * 6)
    app.answer = ok(b"Set-Cookie: a=" + CANARY + b"\r\nContent-Length: 11\r\n", CANARY)
    first = b"POST /page?token=" + CANARY + b" HTTP/1.1"
    await ask(connect, get(fields + b"Content-Length: 11\r\n", first) + CANARY)
    await ask(connect, get(fields, b"GET /a#" + CANARY + b" HTTP/1.1"))
    await ask(connect, get(fields + HANDSHAKE, b"GET /ws?" + CANARY + b" HTTP/1.1"))
    await lab.settle()
    lines = lab.read_log()
    assert [line["status"] for line in lines] == [200, 400, 200]
    assert CANARY.decode() not in (lab.folder / "access.log").read_text()
    assert KEY.decode() not in (lab.folder / "access.log").read_text()


async def test_log_cannot_be_forged(lab: GatewayLab, connect: Connect, app: Recorder) -> None:
    """However a path is written, it is one JSON line, without a control byte."""
    for path in (b'/"},{"status":200', b"/%0a%0d%1b[31m", b"/\x7f", b"/\\n"):
        await ask(connect, get(b"", b"GET " + path + b" HTTP/1.1"))
    await asyncio.sleep(0)
    assert [line["status"] for line in lab.read_log()] == [200, 200, 400, 400]
    text = (lab.folder / "access.log").read_bytes()
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", text)


def test_there_are_enough_vectors() -> None:
    """The tables did not lose their rows."""
    assert len(set(SPOOFED)) == len(SPOOFED) >= 60
    assert len(set(PRIVATE)) == len(PRIVATE) >= 20
