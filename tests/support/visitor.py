"""A visitor without a browser: one TLS connection per request, nothing hidden.

Invariants: trusts the given roots only; connects to 127.0.0.1 whatever the name; standard library
and `websockets` only.
"""

import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlencode

from websockets.sync.client import ClientConnection, connect

TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that was read to its end; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def read_json(self) -> Any:
        """The body as JSON; a status other than 200 fails the test."""
        assert self.status == 200, f"{self.status}: {self.text[:400]}"
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Visits the gateway on `port`, trusting `root_pem`."""

    port: int
    root_pem: bytes

    def build_context(self, *, is_name_checked: bool = True) -> ssl.SSLContext:
        """Certificates are checked against our root only, and names unless a test asks else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = is_name_checked
        context.load_verify_locations(cadata=self.root_pem.decode())
        return context

    def request(
        self,
        name: str,
        path: str = "/",
        *,
        method: str = "GET",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        sni: str | None = None,
        is_name_checked: bool = True,
    ) -> Answer:
        """One request to host `name`; `sni` differs from it only when a test asks for that."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)
        context = self.build_context(is_name_checked=is_name_checked)
        with context.wrap_socket(raw, server_hostname=sni or name) as tls:
            return exchange(tls, f"{name}:{self.port}", path, method, body, headers or {})

    def ask(self, app: str, question: str, /, **query: object) -> Any:
        """A question to a probe app."""
        target = f"{question}?{urlencode(query)}" if query else question
        return self.request(f"{app}.localhost", target).read_json()

    def tell(self, app: str, question: str, body: bytes, /, **query: object) -> Any:
        """An upload to a probe app."""
        target = f"{question}?{urlencode(query)}" if query else question
        return self.request(f"{app}.localhost", target, method="POST", body=body).read_json()

    def open_websocket(self, name: str, path: str = "/ws") -> ClientConnection:
        """A WebSocket to host `name`; use it as a context."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)
        return connect(
            f"wss://{name}:{self.port}{path}",
            sock=raw,
            ssl=self.build_context(),
            server_hostname=name,
            ping_interval=None,
            proxy=None,
        )


def exchange(
    connection: socket.socket,
    authority: str,
    path: str,
    method: str,
    body: bytes,
    headers: Mapping[str, str],
) -> Answer:
    """Write one HTTP/1.1 request, read one response."""
    fields = {"Host": authority, "Connection": "close", **headers}
    if body or method in {"POST", "PUT"}:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {value}" for key, value in fields.items())]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    response = HTTPResponse(connection, method=method)
    response.begin()
    answer = Answer(
        response.status,
        {key.lower(): value for key, value in response.getheaders()},
        response.read(),
    )
    response.close()
    return answer


def visit_plain(port: int, name: str, path: str = "/") -> Answer:
    """One request without TLS, to the port that redirects."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as raw:
        return exchange(raw, f"{name}:{port}", path, "GET", b"", {})
