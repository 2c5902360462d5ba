"""What a probe asks; what it reports is tested with the control socket in test_control."""

from gateway.probe import probe
from gateway.table import ProbeRequest
from tests.support.gateway import HOST, GatewayLab, echo


async def test_asks_as_a_visitor_would(lab: GatewayLab) -> None:
    """The app sees the host, the path and the forwarded lines that traffic has."""
    app = await lab.start_app(echo)
    seen: list[bytes] = []

    async def script(reader, writer) -> None:  # type: ignore[no-untyped-def]
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    app.script = script
    request = ProbeRequest(
        upstream=lab.build_entry(f"127.0.0.1:{app.port}"), host=HOST, path="/_stcore/health"
    )
    report = await probe(lab.site.dialer, request, 8443)
    assert report.ok
    assert seen[0].startswith(b"GET /_stcore/health HTTP/1.1\r\nhost: hello.localhost:8443\r\n")
    assert b"x-forwarded-proto: https" in seen[0]


async def test_is_never_pooled(lab: GatewayLab) -> None:
    """A probe's connection is its own, and ends with it."""
    app = await lab.start_app(echo)
    request = ProbeRequest(upstream=lab.build_entry(f"127.0.0.1:{app.port}"), host=HOST)
    for _ in range(2):
        assert (await probe(lab.site.dialer, request, 443)).ok
    await lab.settle(lambda: app.open == 0)
    assert (app.connections, "upstreams=0" in repr(lab.site.dialer)) == (2, True)
