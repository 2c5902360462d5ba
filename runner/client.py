"""The runner's socket as its callers see it: the command line, the supervisor process, tests.

**Invariants**: one call, one answer or one `RunnerError`; nothing is retried; leaving a stream
closes its connection, which is how an operation learns that its caller is gone.
"""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import aiohttp

from runner.errors import BusyError, RefusedError, RunnerError, UnknownAppError, UnreachableError
from runner.events import AppStatus, Json
from runner.spec.model import AppSpec

_KINDS: dict[int, type[RunnerError]] = {
    kind.status: kind for kind in (UnknownAppError, BusyError, RefusedError, UnreachableError)
}
LINE_LIMIT_BYTES = 2**20


class RunnerClient:
    """Talks to a running `lockgate up`; usable as an async context."""

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(socket_path)),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0),
            read_bufsize=LINE_LIMIT_BYTES,
        )

    def __repr__(self) -> str:
        return f"<RunnerClient {self._path}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connection."""
        await self._session.close()

    async def fetch_facts(self) -> Json:
        """See `RunnerFacts.to_json`."""
        return await self._ask("GET", "/facts")

    async def fetch_status(self, app: str | None = None) -> list[AppStatus]:
        """One app or all; raises `UnknownAppError`."""
        answer = await self._ask("GET", f"/apps/{app}" if app else "/apps")
        return [AppStatus.parse_json(entry) for entry in answer["apps"]]

    async def fetch_plan(self, spec: AppSpec) -> list[Json]:
        """Steps as `{"verb", "subject", "detail"}`; empty = nothing to do."""
        answer = await self._ask("POST", "/plan", content=spec.model_dump_json().encode())
        return list(answer["steps"])

    def deploy(self, spec: AppSpec) -> AsyncIterator[Json]:
        """Events up to the result."""
        return self._stream("POST", "/deploy", content=spec.model_dump_json().encode())

    def remove(self, app: str) -> AsyncIterator[Json]:
        """Events up to the result."""
        return self._stream("POST", f"/apps/{app}/remove")

    def restart(self, app: str) -> AsyncIterator[Json]:
        """Events up to the result."""
        return self._stream("POST", f"/apps/{app}/restart")

    def logs(
        self,
        app: str,
        *,
        generation: int | None = None,
        lines: int = 100,
        follow: bool = False,
        build: bool = False,
    ) -> AsyncIterator[Json]:
        """`line` events up to the result; endless with `follow`."""
        query = f"lines={lines}&follow={follow:d}&build={build:d}&generation={generation or 0}"
        return self._stream("GET", f"/apps/{app}/logs?{query}")

    async def set_secret(self, app: str, name: str, value: str) -> None:
        """Seal `value` under `name`."""
        await self._ask("PUT", f"/apps/{app}/secrets/{name}", content=value.encode())

    async def list_secrets(self, app: str) -> list[str]:
        """Names only."""
        return list((await self._ask("GET", f"/apps/{app}/secrets"))["secrets"])

    async def remove_secret(self, app: str, name: str) -> None:
        """Forget one."""
        await self._ask("DELETE", f"/apps/{app}/secrets/{name}")

    async def fetch_checks(self) -> list[Json]:
        """See `Check.to_json`."""
        return list((await self._ask("GET", "/doctor"))["checks"])

    async def stop(self) -> None:
        """Stop every app, close every volume; answers when done."""
        await self._ask("POST", "/stop")

    async def _ask(self, method: str, path: str, *, content: bytes | None = None) -> Json:
        try:
            async with self._session.request(method, f"http://runner{path}", data=content) as said:
                answer = await said.json()
        except aiohttp.ClientConnectorError as error:
            raise self._build_unreachable(error) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._build_cut(error) from None
        check_result({"ok": said.status == 200, **answer})
        return dict(answer)

    async def _stream(
        self, method: str, path: str, *, content: bytes | None = None
    ) -> AsyncIterator[Json]:
        is_over = False
        try:
            async with self._session.request(method, f"http://runner{path}", data=content) as said:
                if said.status != 200:
                    check_result({"ok": False, **await said.json()})
                async for line in said.content:
                    event = json.loads(line)
                    is_over = event["event"] == "result"
                    yield event
        except aiohttp.ClientConnectorError as error:
            raise self._build_unreachable(error) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._build_cut(error) from None
        if not is_over:
            raise self._build_cut("the answer ended early")

    def _build_unreachable(self, error: OSError) -> RunnerError:
        if isinstance(error, PermissionError) or _is_hidden(self._path):
            return UnreachableError(
                f"not allowed to open {self._path}: run this as the user that runs `lockgate up`"
            )
        return UnreachableError(
            f"lockgate up is not running: nothing answers on {self._path}; start it with "
            "`lockgate up`, or name its configuration with --config"
        )

    def _build_cut(self, error: object) -> RunnerError:
        said = str(error) or type(error).__name__
        return UnreachableError(f"the connection to {self._path} broke ({said})")


def _is_hidden(path: Path) -> bool:
    """Whether permissions, not absence, keep us from the socket."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(path, os.W_OK)


def check_result(answer: Json) -> None:
    """Raise the `RunnerError` that an answer or a result event tells of, if it does."""
    if answer.get("ok", True):
        return
    kind = _KINDS.get(answer.get("status", 0), RunnerError)
    raise kind(
        str(answer.get("error") or "refused without a reason"),
        log_tail=tuple(answer.get("log_tail", ())),
        log_path=str(answer.get("log_path", "")),
    )
