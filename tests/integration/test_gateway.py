"""The gateway as a process: with the real PKI process, real sockets and a real TLS client.

Invariants: certificates come from the PKI; visitors trust its root alone.
"""

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway import GatewayClient, GatewayError, RouteEntry, TableDocument, UpstreamEntry
from gateway.tls import load_pair
from pki import PkiClient, load_or_create_master_key, make_key_and_csr
from tests.support.agent import DAY, Authority
from tests.support.gateway import Reply, get, read_head, read_reply
from tests.support.ports import find_free_ports

ROOT = Path(__file__).parents[2]
HOST = "hello.localhost"
START_S = 20


class Processes:
    """The PKI and the gateway, started as `lockgate up` starts them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "run"
        self.https, self.http = find_free_ports(2)
        self.config = folder / "lockgate.yaml"
        self.started: list[subprocess.Popen[str]] = []
        (folder / "state").mkdir(mode=0o711)
        load_or_create_master_key(folder / "state" / "master.key")
        self.write_config()

    def write_config(self, **gateway: object) -> None:
        """The configuration of both, JSON being YAML."""
        listen = {"https": f"127.0.0.1:{self.https}", "http": f"127.0.0.1:{self.http}"}
        section = {"uid": os.getuid(), **listen, **gateway}
        shared = {"state_dir": str(self.folder / "state"), "run_dir": str(self.run)}
        pki = {"uid": section["uid"] + 1 if section["uid"] != os.getuid() else os.getuid()}
        self.config.write_text(json.dumps({**shared, "pki": pki, "gateway": section}))

    def build_argv(self, module: str) -> list[str]:
        """The command line of a process."""
        return [sys.executable, "-m", module, "--config", str(self.config)]

    def start(self, module: str, *, ready: bool = True) -> subprocess.Popen[str]:
        """Start a process and wait for its `ready`."""
        process = subprocess.Popen(
            self.build_argv(module),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        said = []
        while ready and (line := read_line(process)) != f"{module}: ready\n":
            said.append(line)
            assert line, f"{module} ended with {process.wait()}: {said}"
        return process

    def stop(self) -> None:
        """End what still runs."""
        for process in reversed(self.started):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            assert process.stderr is not None
            process.stderr.close()


def read_line(process: subprocess.Popen[str]) -> str:
    """The next line of standard error."""
    assert process.stderr is not None
    return process.stderr.readline()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Nothing is running yet."""
    processes = Processes(tmp_path)
    yield processes
    processes.stop()


class App:
    """An agent's door on a free port, with a leaf from the PKI, in front of a small app."""

    def __init__(self) -> None:
        self.server: asyncio.Server | None = None
        self.requests = 0

    async def start(self, pki: PkiClient, generation: int = 1, pause_s: float = 0) -> None:
        pair = make_key_and_csr()
        leaf = await pki.issue_app("hello", generation, pair.csr_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=(await pki.fetch_bundle()).decode())
        load_pair(context, leaf.chain_pem, pair.key_pem)
        self.pause_s = pause_s
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=context)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await read_head(reader)
                self.requests += 1
                await asyncio.sleep(self.pause_s)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head) + head)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def build_entry(self, generation: int = 1) -> UpstreamEntry:
        assert self.server is not None
        return UpstreamEntry(
            name=f"hello/{generation}",
            app="hello",
            address=f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}",
            server_name="hello.apps.lockgate.internal",
            spiffe_id=f"spiffe://lockgate.internal/app/hello/{generation}",
        )


@pytest.fixture
async def pki(processes: Processes) -> AsyncIterator[PkiClient]:
    """The PKI process, with the app registered."""
    processes.start("pki")
    async with PkiClient(processes.run / "pki.sock") as client:
        await client.register_app("hello", 1, [HOST])
        yield client


@pytest.fixture
async def app(pki: PkiClient) -> AsyncIterator[App]:
    """Generation 1 of the app."""
    app = App()
    await app.start(pki)
    yield app
    assert app.server is not None
    app.server.close()


def build_table(version: int, *entries: UpstreamEntry) -> TableDocument:
    """One route, to the last of the entries."""
    upstream = entries[-1].name if entries else None
    route = RouteEntry(hosts=(HOST,), app="hello", upstream=upstream, state="failed")
    return TableDocument(version=version, routes=(route,), upstreams=entries[-1:])


async def visit(
    processes: Processes, root: bytes, request: bytes | None = None, name: str = HOST
) -> tuple[Reply, asyncio.StreamWriter]:
    """One request by a client that trusts only `root` and checks the name."""
    context = ssl.create_default_context(cadata=root.decode())
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", processes.https, ssl=context, server_hostname=name
    )
    writer.write(request or get(host=f"{HOST}:{processes.https}"))
    return await read_reply(reader, b"GET"), writer


async def test_serves_with_certificates_of_the_pki(
    processes: Processes, pki: PkiClient, app: App
) -> None:
    """A client that trusts our root alone reaches the app through both doors."""
    gateway = processes.start("gateway")
    root = await pki.fetch_bundle()
    async with GatewayClient(processes.run / "gateway.sock") as control:
        report = await control.probe(app.build_entry(), HOST)
        assert (report.ok, report.status) == (True, 200)
        await control.put_table(build_table(1, app.build_entry()))
        reply, writer = await visit(processes, root)
        writer.close()
        status = await control.fetch_status()
    assert (reply.status, b"x-forwarded-for: 127.0.0.1" in reply.body) == (200, True)
    assert reply.headers["strict-transport-security"]
    assert (status.pid, status.https) == (gateway.pid, (f"127.0.0.1:{processes.https}",))
    line = json.loads(read_line(gateway))
    assert (line["app"], line["status"]) == ("hello", 200)


async def test_redirects_plain_http(processes: Processes, pki: PkiClient) -> None:
    """Plain HTTP leads to the TLS port, for a host that is one, and to nothing else."""
    processes.start("gateway")
    for host, status in [(HOST, 308), ("a,b", 400), ("u@h", 400)]:
        reader, writer = await asyncio.open_connection("127.0.0.1", processes.http)
        writer.write(get("/a?b=c", host=host))
        reply = await read_reply(reader, b"GET")
        writer.close()
        assert reply.status == status
        if status == 308:
            assert reply.headers["location"] == f"https://{HOST}:{processes.https}/a?b=c"


async def test_says_that_an_app_is_down(processes: Processes, pki: PkiClient, app: App) -> None:
    """A host whose app is not there, and a host that nobody has, get their pages over TLS."""
    processes.start("gateway")
    root = await pki.fetch_bundle()
    async with GatewayClient(processes.run / "gateway.sock") as control:
        await control.put_table(build_table(1))
        reply, writer = await visit(processes, root)
        writer.close()
        assert (reply.status, b"<!doctype html>" in reply.body) == (503, True)
        assert app.server is not None
        entry = app.build_entry()
        app.server.close()
        await control.put_table(build_table(2, entry))
        reply, writer = await visit(processes, root)
        writer.close()
        assert reply.status == 502


async def test_refuses_an_older_generation(processes: Processes, pki: PkiClient, app: App) -> None:
    """An address at which another generation answers is not served."""
    processes.start("gateway")
    root = await pki.fetch_bundle()
    wanted = app.build_entry().model_copy(
        update={"name": "hello/2", "spiffe_id": "spiffe://lockgate.internal/app/hello/2"}
    )
    async with GatewayClient(processes.run / "gateway.sock") as control:
        report = await control.probe(wanted, HOST)
        assert report.reason.startswith("upstream_identity")
        await control.put_table(build_table(1, wanted))
    reply, writer = await visit(processes, root)
    writer.close()
    assert (reply.status, app.requests) == (502, 0)


async def test_table_with_a_host_that_the_pki_does_not_know(
    processes: Processes, pki: PkiClient, app: App
) -> None:
    """A table is refused as a whole when a host of it cannot have a certificate."""
    processes.start("gateway")
    route = RouteEntry(hosts=("nobody.localhost",), app="hello")
    async with GatewayClient(processes.run / "gateway.sock") as control:
        with pytest.raises(GatewayError, match="certificates"):
            await control.put_table(TableDocument(version=1, routes=(route,)))
        assert (await control.fetch_status()).table_version == 0


async def test_redeploy_moves_new_requests_and_keeps_the_old(
    processes: Processes, pki: PkiClient, app: App
) -> None:
    """With a new table, what is under way finishes on the old generation."""
    processes.start("gateway")
    root = await pki.fetch_bundle()
    await pki.register_app("hello", 2, [HOST])
    newer = App()
    await newer.start(pki, 2)
    app.pause_s = 0.3
    async with GatewayClient(processes.run / "gateway.sock") as control:
        await control.put_table(build_table(1, app.build_entry()))
        slow = asyncio.ensure_future(visit(processes, root))
        while not app.requests:
            await asyncio.sleep(0.01)
        await control.put_table(build_table(2, newer.build_entry(2)))
        reply, writer = await visit(processes, root)
        writer.close()
        assert (reply.status, newer.requests) == (200, 1)
        reply, writer = await slow
        writer.close()
        assert (reply.status, app.requests) == (200, 1)
        assert [r.name for r in await control.fetch_upstreams()] == ["hello/2"]
    assert newer.server is not None
    newer.server.close()


async def test_sigterm_lets_answers_finish(processes: Processes, pki: PkiClient, app: App) -> None:
    """A stop refuses new connections, finishes what is under way and exits with 0."""
    gateway = processes.start("gateway")
    root = await pki.fetch_bundle()
    app.pause_s = 0.5
    async with GatewayClient(processes.run / "gateway.sock") as control:
        await control.put_table(build_table(1, app.build_entry()))
        slow = asyncio.ensure_future(visit(processes, root))
        while not app.requests:
            await asyncio.sleep(0.01)
        gateway.send_signal(signal.SIGTERM)
        reply, writer = await slow
        writer.close()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert await asyncio.to_thread(gateway.wait, 5) == 0
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", processes.https)
    assert not (processes.run / "gateway.sock").exists()


async def test_waits_for_the_pki(processes: Processes) -> None:
    """A gateway that starts first says what it waits for, and is ready once the PKI is."""
    gateway = processes.start("gateway", ready=False)
    assert "waiting for a certificate of its own" in await asyncio.to_thread(read_line, gateway)
    processes.start("pki")
    while (line := await asyncio.to_thread(read_line, gateway)) != "gateway: ready\n":
        assert line


async def test_stop_while_it_waits(processes: Processes) -> None:
    """SIGTERM is obeyed before the PKI was ever reached."""
    gateway = processes.start("gateway", ready=False)
    assert "waiting" in await asyncio.to_thread(read_line, gateway)
    gateway.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(gateway.wait, 5) == 0


async def test_outlives_its_parent(processes: Processes, pki: PkiClient) -> None:
    """A gateway whose parent is killed serves on."""
    script = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-m', 'gateway', '--config', sys.argv[1]])\n"
        "print(p.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(processes.config)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    try:
        async with GatewayClient(processes.run / "gateway.sock") as control:
            await await_status(control)
            parent.kill()
            parent.wait()
            assert (await control.fetch_status()).pid == pid
    finally:
        parent.stdout.close()
        os.kill(pid, signal.SIGTERM)


async def await_status(control: GatewayClient) -> None:
    """Wait until the control socket answers."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            await control.fetch_status()
            return
        except GatewayError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_inherits_a_listening_socket(processes: Processes, pki: PkiClient, app: App) -> None:
    """A socket that the supervisor bound is served as it is."""
    root = await pki.fetch_bundle()
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        processes.https = bound.getsockname()[1]
        fd = bound.fileno()
        process = subprocess.Popen(
            [*processes.build_argv("gateway"), "--listen-fd-https", str(fd)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[fd],
        )
    processes.started.append(process)
    assert await asyncio.to_thread(read_line, process) == "gateway: ready\n"
    async with GatewayClient(processes.run / "gateway.sock") as control:
        await control.put_table(build_table(1, app.build_entry()))
    reply, writer = await visit(processes, root)
    writer.close()
    assert reply.status == 200


async def test_certificates_from_files(processes: Processes, pki: PkiClient, app: App) -> None:
    """The operator's own certificate is served for its names, and read again when it changes."""
    authority = Authority()
    cert, key = processes.folder / "own.crt", processes.folder / "own.key"
    chain_pem, key_pem = authority.issue(dns=HOST)
    cert.write_bytes(chain_pem)
    key.write_bytes(key_pem)
    processes.write_config(certificates=[{"cert": str(cert), "key": str(key)}])
    processes.start("gateway")
    async with GatewayClient(processes.run / "gateway.sock") as control:
        await control.put_table(build_table(1, app.build_entry()))
    reply, writer = await visit(processes, authority.root_pem)
    writer.close()
    assert reply.status == 200


@pytest.mark.parametrize("broken", ["missing", "garbage", "wrong key", "expired"])
async def test_names_the_certificate_file_that_is_wrong(
    processes: Processes, pki: PkiClient, broken: str
) -> None:
    """A file that cannot be served stops the start with its name and exit code 2."""
    authority = Authority()
    cert, key = processes.folder / "own.crt", processes.folder / "own.key"
    dates = {"start": -2 * DAY, "end": -DAY} if broken == "expired" else {}
    chain_pem, key_pem = authority.issue(dns=HOST, **dates)
    if broken != "missing":
        cert.write_bytes(b"garbage" if broken == "garbage" else chain_pem)
    key.write_bytes(authority.issue(dns=HOST)[1] if broken == "wrong key" else key_pem)
    processes.write_config(certificates=[{"cert": str(cert), "key": str(key)}])
    gateway = processes.start("gateway", ready=False)
    assert await asyncio.to_thread(gateway.wait, START_S) == 2
    assert str(cert) in read_line(gateway)


async def test_says_that_a_port_is_taken(processes: Processes) -> None:
    """A taken port is one line and exit code 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", processes.https))
        taken.listen()
        gateway = processes.start("gateway", ready=False)
        assert await asyncio.to_thread(gateway.wait, START_S) == 1
    assert read_line(gateway) == (
        f"gateway: cannot listen on 127.0.0.1:{processes.https}: Address already in use\n"
    )


async def test_second_gateway_does_not_take_over(processes: Processes, pki: PkiClient) -> None:
    """The control socket of a living gateway is not replaced."""
    processes.start("gateway")
    processes.https, processes.http = find_free_ports(2)
    processes.write_config()
    second = processes.start("gateway", ready=False)
    assert await asyncio.to_thread(second.wait, START_S) == 1
    assert "another gateway answers" in read_line(second)
    async with GatewayClient(processes.run / "gateway.sock") as control:
        assert (await control.fetch_status()).pid == processes.started[1].pid


async def test_bad_configuration_names_its_place(processes: Processes) -> None:
    """A key that does not exist is exit code 2 with file, line and key."""
    processes.config.write_text("gateway:\n  htps: x\n")
    gateway = processes.start("gateway", ready=False)
    assert await asyncio.to_thread(gateway.wait, START_S) == 2
    line = read_line(gateway)
    assert f"{processes.config}:2: gateway.htps" in line


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give root up")
async def test_gives_up_root(processes: Processes) -> None:
    """Started as root it serves as its own uid, without groups and capabilities."""
    processes.folder.chmod(0o755)
    for folder in processes.folder.parents:
        if folder.stat().st_uid == 0 and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    processes.write_config(uid=64052)
    processes.start("pki")
    gateway = processes.start("gateway")
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["64052"] * 4
    assert fields["Gid"].split() == ["64052"] * 4
    assert fields["Groups"].split() == []
    assert (int(fields["CapEff"], 16), fields["NoNewPrivs"]) == (0, "1")
    async with GatewayClient(processes.run / "gateway.sock") as control:
        assert (await control.fetch_status()).pid == gateway.pid
