"""What the client must do when the service does not."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pki.client import PkiClient
from pki.errors import PkiError


@asynccontextmanager
async def answer(path: Path, reply: bytes) -> AsyncIterator[list[bytes]]:
    """A server that reads one request and says the same to all."""
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(65536))
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(talk, str(path))
    async with server:
        yield seen


def build_reply(status: int, body: bytes) -> bytes:
    """One HTTP answer."""
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


async def test_no_service_is_an_error_that_names_the_socket(tmp_path: Path) -> None:
    """Before the service is up a caller may branch on `unreachable` and try again."""
    path = tmp_path / "pki.sock"
    async with PkiClient(path) as client:
        with pytest.raises(PkiError, match=str(path)) as caught:
            await client.fetch_bundle()
        assert caught.value.reason == "unreachable"
        async with answer(path, build_reply(200, b"roots")):
            assert await client.fetch_bundle() == b"roots"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"", "unreachable"),
        (b"junk\r\n\r\n", "unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", "unreachable"),
        (build_reply(200, b"junk"), "protocol"),
        (build_reply(200, b"{}"), "protocol"),
        (build_reply(500, b"oops"), "protocol"),
        (build_reply(403, b'{"reason":"denied","message":"no"}'), "denied"),
    ],
    ids=["closed", "junk", "cut", "no json", "empty", "no reason", "refused"],
)
async def test_every_failure_is_one_kind_of_error(
    tmp_path: Path, reply: bytes, reason: str
) -> None:
    """Whatever comes back instead of a leaf is a PkiError with a reason."""
    async with answer(tmp_path / "s", reply), PkiClient(tmp_path / "s") as client:
        with pytest.raises(PkiError) as caught:
            await client.issue_gateway(b"csr")
    assert caught.value.reason == reason


async def test_names_cannot_escape_into_the_path(tmp_path: Path) -> None:
    """A name travels in the body: it never changes what is asked."""
    reply = build_reply(200, b'{"serials":[]}')
    async with answer(tmp_path / "s", reply) as seen, PkiClient(tmp_path / "s") as client:
        await client.forget_app("../../status?x", None)
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /forget HTTP/1.1\r\n")
    assert json.loads(body)["app"] == "../../status?x"


async def test_a_closed_client_can_be_asked_again(tmp_path: Path) -> None:
    """Closing is idempotent and says so; the next question opens a connection."""
    async with answer(tmp_path / "s", build_reply(200, b"roots")):
        client = PkiClient(tmp_path / "s")
        assert "closed" in repr(client)
        await client.fetch_bundle()
        assert "open" in repr(client)
        await client.close()
        await client.close()
        assert "closed" in repr(client)
        assert await client.fetch_bundle() == b"roots"
        await client.close()
