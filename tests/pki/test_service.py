"""The Unix socket with real peers."""

import asyncio
import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pki.client import PkiClient
from pki.config import PkiConfig
from pki.errors import PkiError
from pki.keys import make_key_and_csr
from pki.office import Office
from pki.roles import Roles
from pki.service import Service, open_listener

ME = os.geteuid()
CSR = make_key_and_csr().csr_pem
OTHER_PYTHON = shutil.which("python3", path="/usr/bin:/bin")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short directory that other uids can enter."""
    path = Path(tempfile.mkdtemp(prefix="pki-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@asynccontextmanager
async def serve(folder: Path, roles: Roles) -> AsyncIterator[Path]:
    """The service on a socket in the folder, stopped at the end."""
    (folder / "pki").mkdir(mode=0o700)
    config = PkiConfig(
        trust_domain="lockgate.internal",
        state_dir=folder,
        run_dir=folder,
        uid=ME,
        runner_uid=roles.runner_uid,
        gateway_uid=roles.gateway_uid,
    )
    office = Office(config, bytes(32), roles, lambda: datetime.now(UTC))
    stop, ready = asyncio.Event(), asyncio.Event()
    with open_listener(config.socket_path) as listener:
        async with asyncio.TaskGroup() as group:
            group.create_task(Service(office).run(listener, stop, ready.set))
            try:
                async with asyncio.timeout(10):
                    await ready.wait()
                yield config.socket_path
            finally:
                stop.set()
    office.close()


async def test_every_call_of_the_client(folder: Path) -> None:
    """The owner registers, gets every kind of leaf, reads bundle and status, and forgets."""
    async with serve(folder, Roles(ME, ME, ME)) as path, PkiClient(path) as client:
        await client.register_app("hello", 3, ["hello.localhost"])
        app = await client.issue_app("hello", 3, CSR)
        gateway = await client.issue_gateway(CSR)
        visitor = await client.issue_visitor("hello.localhost", CSR)
        assert len({app.serial, gateway.serial, visitor.serial}) == 3
        assert app.chain_pem.count(b"BEGIN CERTIFICATE") == 2
        assert app.not_before < datetime.now(UTC) < app.not_after
        assert (await client.fetch_bundle()).count(b"BEGIN CERTIFICATE") == 1
        assert (await client.fetch_status())["leaves"] == 3
        assert await client.forget_app("hello", 3) == [app.serial, visitor.serial]
        assert await client.forget_app("hello") == []


@pytest.mark.parametrize(
    ("roles", "may_register", "may_serve"),
    [
        (Roles(1, ME, 2), True, False),
        (Roles(1, 2, ME), False, True),
        (Roles(1, 2, 3), False, False),
    ],
    ids=["runner", "gateway", "stranger"],
)
async def test_the_kernel_says_who_asks(
    folder: Path, roles: Roles, may_register: bool, may_serve: bool
) -> None:
    """The same calls over the same socket are answered by the role of the caller's uid."""

    async def is_allowed(call: object) -> bool:
        try:
            await call
        except PkiError as error:
            return (error.reason, error.status) != ("denied", 403)
        return True

    async with serve(folder, roles) as path, PkiClient(path) as client:
        assert await is_allowed(client.register_app("hello", 1, [])) is may_register
        assert await is_allowed(client.issue_gateway(CSR)) is may_serve
        assert await is_allowed(client.fetch_bundle())
    text = (folder / "pki" / "journal.jsonl").read_text()
    assert f'"uid":{ME},"pid":{os.getpid()}' in text


@pytest.mark.skipif(ME != 0 or OTHER_PYTHON is None, reason="only root can become another uid")
async def test_another_uid_can_connect_but_only_read_roots(folder: Path) -> None:
    """The socket is open to all, and a real process of another uid gets the roots and a 403."""
    script = (
        "import socket,sys\n"
        "for path in ('/bundle', '/status'):\n"
        " s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        " s.sendall(f'GET {path} HTTP/1.1\\r\\nHost: pki\\r\\n\\r\\n'.encode())\n"
        " print(s.recv(12).decode())\n"
    )
    async with serve(folder, Roles(0, 0, 0)) as path:
        done = await asyncio.to_thread(
            subprocess.run,
            [OTHER_PYTHON, "-I", "-c", script, str(path)],
            capture_output=True,
            text=True,
            timeout=20,
            user=65534,
            check=True,
        )
    assert done.stdout.splitlines() == ["HTTP/1.1 200", "HTTP/1.1 403"]
    last = json.loads((folder / "pki" / "journal.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["uid"], last["reason"]) == ("refused", 65534, "denied")


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("/register", {"app": "a", "generation": "1", "hosts": []}, 400, "bad_request"),
        ("/register", {"app": "a", "generation": 1, "hosts": [], "x": 1}, 400, "bad_request"),
        ("/register", {"app": "A", "generation": 1, "hosts": []}, 400, "bad_identity"),
        ("/leaf/gateway", {"csr": "junk"}, 400, "bad_csr"),
        ("/leaf/gateway", {"csr": "\ud800"}, 400, "bad_request"),
        ("/leaf/visitor", {"host": "a.example", "csr": "junk"}, 404, "unknown_name"),
        ("/nowhere", {}, 404, "protocol"),
        ("/leaf/gateway", {"csr": "x" * 300_000}, 413, "protocol"),
    ],
)
async def test_bad_requests_are_refused_with_a_reason(
    folder: Path, path: str, body: object, status: int, reason: str
) -> None:
    """Each mistake is answered by a status and a word, and the service goes on."""
    async with serve(folder, Roles(ME, ME, ME)) as socket_path, PkiClient(socket_path) as client:
        with pytest.raises(PkiError) as caught:
            await client._ask("POST", path, body)
        assert (caught.value.status, caught.value.reason) == (status, reason)
        assert await client.fetch_bundle()


async def test_many_at_once_are_all_answered(folder: Path) -> None:
    """A host that starts a hundred apps at once gets a hundred different leaves."""
    async with serve(folder, Roles(ME, ME, ME)) as path, PkiClient(path) as client:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(client.issue_gateway(CSR)) for _ in range(100)]
        assert len({task.result().serial for task in tasks}) == 100


async def test_a_full_journal_is_an_answer(folder: Path) -> None:
    """When the journal cannot be written the peer gets an error, not a leaf."""
    async with serve(folder, Roles(ME, ME, ME)) as path, PkiClient(path) as client:
        descriptors = [
            int(fd)
            for fd in os.listdir("/proc/self/fd")
            if os.path.realpath(f"/proc/self/fd/{fd}") == str(folder / "pki/journal.jsonl")
        ]
        spare, full = os.dup(descriptors[0]), os.open("/dev/full", os.O_RDWR)
        os.dup2(full, descriptors[0])
        with pytest.raises(PkiError, match="cannot be written") as caught:
            await client.issue_gateway(CSR)
        os.dup2(spare, descriptors[0])
        os.close(spare)
        os.close(full)
        assert caught.value.reason == "bad_journal"
        assert await client.issue_gateway(CSR)


def test_a_stale_socket_is_replaced(folder: Path) -> None:
    """A socket left by a killed process does not keep the next from starting."""
    path = folder / "pki.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with open_listener(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666


def test_a_live_socket_is_not_taken(folder: Path) -> None:
    """A second service does not take the first one's place."""
    path = folder / "pki.sock"
    with open_listener(path):
        before = path.stat().st_ino
        with pytest.raises(PkiError, match="served by another pki"):
            open_listener(path)
        assert path.stat().st_ino == before
