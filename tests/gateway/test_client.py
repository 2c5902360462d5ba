"""The client's own edges; its calls are tested with the control socket in test_control."""

from pathlib import Path

import pytest
from aiohttp import web

from gateway import GatewayClient, GatewayError


async def serve(path: Path, text: str) -> web.AppRunner:
    """A server that answers anything with `text`."""

    async def respond(_: web.Request) -> web.Response:
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get("/{any}", respond)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, path).start()
    return runner


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"pid": "x"}'])
async def test_answer_that_makes_no_sense_is_an_error(tmp_path: Path, text: str) -> None:
    """What another program says on the socket is never taken for a status."""
    runner = await serve(tmp_path / "g.sock", text)
    async with GatewayClient(tmp_path / "g.sock") as client:
        with pytest.raises(GatewayError, match="makes no sense"):
            await client.fetch_status()
    await runner.cleanup()


async def test_can_be_closed_twice_and_used_again(tmp_path: Path) -> None:
    """Close lets go of the connection only."""
    runner = await serve(tmp_path / "g.sock", '{"upstreams": []}')
    client = GatewayClient(tmp_path / "g.sock")
    assert await client.fetch_upstreams() == ()
    await client.close()
    await client.close()
    assert await client.fetch_upstreams() == ()
    await client.close()
    assert "g.sock" in repr(client)
    await runner.cleanup()
