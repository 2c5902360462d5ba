"""Asks an app one question by the way that traffic takes.

Invariants: the connection is opened, and its peer checked, by the same code as for visitors; it
is used once and never pooled; a failed probe is an answer, not an error.
"""

import asyncio

from gateway.dial import Dialer, DialError, Place
from gateway.errors import REFUSALS
from gateway.headers import build_request_head
from gateway.heads import Body, RequestHead, ResponseHead
from gateway.relay import AppConnection
from gateway.table import ProbeReport, ProbeRequest

_PEER = "127.0.0.1"


class _Question:
    """Implements `relay.Answers`: waits for the status of one answer."""

    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def response_interim(self, head: ResponseHead) -> None:
        """Not the answer yet."""

    def response_started(self, head: ResponseHead) -> None:
        """The answer: its status is all that is asked for."""
        if not self.status.done():
            self.status.set_result(head.status)

    def response_body(self, body: bytes) -> None:
        """Of no interest."""

    def response_flush(self) -> None:
        """Nothing is kept back."""

    def response_ended(self) -> None:
        """The status is known by now."""

    def response_upgraded(self, head: ResponseHead, leading: bytes) -> None:
        """Cannot be: no upgrade is asked for."""

    def response_failed(self, reason: str, is_untouched: bool) -> None:  # noqa: ARG002 - a probe never retries
        """No answer came."""
        if not self.status.done():
            self.status.set_exception(DialError(reason, REFUSALS[reason][1]))

    def request_paused(self, is_paused: bool) -> None:
        """There is no body that could wait."""


async def probe(dialer: Dialer, request: ProbeRequest, port: int) -> ProbeReport:
    """Ask once, within the request's time; 2xx and 3xx are ok."""
    try:
        async with asyncio.timeout(request.timeout_s):
            status = await _ask(dialer, request, port)
    except TimeoutError:
        return ProbeReport(ok=False, status=None, reason="upstream_timeout: no answer in time")
    except DialError as error:
        return ProbeReport(ok=False, status=None, reason=f"{error.reason}: {error}")
    is_ok = 200 <= status < 400
    return ProbeReport(ok=is_ok, status=status, reason="" if is_ok else f"answered {status}")


async def _ask(dialer: Dialer, request: ProbeRequest, port: int) -> int:
    upstream = request.upstream
    place = Place(upstream.name, upstream.address, upstream.server_name, upstream.spiffe_id)
    connection = await dialer.dial(place, _ignore)
    question = _Question()
    head = _build_head(request, port)
    try:
        connection.start(
            question, head, build_request_head(head, _PEER, "https", port, "lockgate-probe")
        )
        connection.end_request()
        return await question.status
    finally:
        connection.abandon()


def _build_head(request: ProbeRequest, port: int) -> RequestHead:
    authority = request.host if port == 443 else f"{request.host}:{port}"
    return RequestHead(
        method=b"GET",
        target=request.path.encode("ascii"),
        host=request.host,
        authority=authority.encode("ascii"),
        version=b"1.1",
        headers=((b"accept", b"*/*"), (b"user-agent", b"lockgate-probe")),
        body=Body.none,
        length=None,
        keep_alive=False,
    )


def _ignore(connection: AppConnection, is_reusable: bool) -> None:
    """A probe's connection belongs to no pool."""
