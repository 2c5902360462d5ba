"""`python -m pki` as a supervisor and an operator use it."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pki import PkiClient, load_or_create_master_key, make_key_and_csr, verify_journal
from pki.errors import PkiError

ME = os.geteuid()
CSR = make_key_and_csr().csr_pem


class Site:
    """A configuration, its processes, and a client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "lockgate.yaml"
        self.processes: list[subprocess.Popen[str]] = []
        self.configure("")

    def configure(self, more: str) -> None:
        """Write the file."""
        text = f"state_dir: {self.folder}/state\nrun_dir: {self.folder}/run\n{more}"
        self.config.write_text(text)

    def spawn(self, *arguments: str, fds: tuple[int, ...] = ()) -> subprocess.Popen[str]:
        """Start a process without waiting."""
        argv = [sys.executable, "-m", "pki", "--config", str(self.config), *arguments]
        process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, pass_fds=fds)
        self.processes.append(process)
        return process

    def start(self, *arguments: str, fds: tuple[int, ...] = ()) -> subprocess.Popen[str]:
        """Start a process and wait until it says that it is ready."""
        if not arguments:
            load_or_create_master_key(self.folder / "state" / "master.key")
        process = self.spawn(*arguments, fds=fds)
        line = process.stderr.readline()
        assert line == "pki: ready\n", line + process.stderr.read()
        return process

    def fail(self, *arguments: str, fds: tuple[int, ...] = ()) -> tuple[int, str]:
        """Run a process that cannot start: its exit code and what it says."""
        process = self.spawn(*arguments, fds=fds)
        text = process.communicate(timeout=20)[1]
        return process.returncode, text

    def ask(self, call: object) -> object:
        """Ask over the socket."""

        async def talk() -> object:
            async with PkiClient(self.folder / "run" / "pki.sock") as client:
                return await call(client)

        return asyncio.run(talk())

    def close(self) -> None:
        """End what a failed test left."""
        for process in self.processes:
            process.kill()
            process.wait()
            process.stderr.close()
        shutil.rmtree(self.folder)


@pytest.fixture
def site() -> Iterator[Site]:
    """A directory that the PKI's uid can enter, and short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="pki-", dir="/tmp"))
    folder.chmod(0o755)
    site = Site(folder)
    yield site
    site.close()


def write_key(key: bytes) -> int:
    """A pipe that brings a key."""
    reader, writer = os.pipe()
    os.write(writer, key)
    os.close(writer)
    return reader


def test_it_serves_until_sigterm(site: Site) -> None:
    """Ready is said when the socket answers; SIGTERM ends it at once, with 0 and nothing said."""
    process = site.start()
    assert b"BEGIN CERTIFICATE" in site.ask(lambda client: client.fetch_bundle())
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 0
    assert process.stderr.read() == ""


def test_it_ends_with_its_parent(site: Site) -> None:
    """When nobody holds the other end of the pipe any more, it stops as by SIGTERM."""
    load_or_create_master_key(site.folder / "state" / "master.key")
    reader, writer = os.pipe()
    process = site.start("--parent-fd", str(reader), fds=(reader,))
    os.close(reader)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.3)
    os.close(writer)
    assert process.wait(timeout=5) == 0


def test_the_key_on_the_pipe_is_the_one_that_seals(site: Site) -> None:
    """The same key opens after a restart, another one does not, and one line says so."""
    for _ in range(2):
        reader = write_key(b"k" * 32)
        process = site.start("--seal-fd", str(reader), fds=(reader,))
        os.close(reader)
        process.terminate()
        process.wait(timeout=5)
    reader = write_key(b"x" * 32)
    code, text = site.fail("--seal-fd", str(reader), fds=(reader,))
    os.close(reader)
    assert code == 1
    assert text == "pki: the sealed bytes do not open: another key, name or content\n"


def test_nothing_is_forgotten_by_a_kill(site: Site) -> None:
    """After SIGKILL in the middle of its work the next start knows every leaf and the same root."""
    process = site.start()
    if ME == 0:
        site.ask(lambda client: client.register_app("hello", 1, ["hello.localhost"]))
        issue = lambda client: client.issue_app("hello", 1, CSR)  # noqa: E731
    else:
        issue = lambda client: client.issue_gateway(CSR)  # noqa: E731
    roots = site.ask(lambda client: client.fetch_bundle())
    for _ in range(3):
        site.ask(issue)
    process.kill()
    process.wait()
    site.start()
    assert site.ask(lambda client: client.fetch_bundle()) == roots
    assert site.ask(lambda client: client.fetch_status())["leaves"] == 3
    assert verify_journal(site.folder / "state" / "pki" / "journal.jsonl").seq >= 6


def test_a_second_one_is_refused(site: Site) -> None:
    """Two processes never serve one socket, and the first goes on."""
    site.start()
    code, text = site.fail()
    assert (code, text) == (1, f"pki: {site.folder}/run/pki.sock is served by another pki\n")
    assert site.ask(lambda client: client.fetch_bundle())


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        (
            "pki: {uuid: 1}\n",
            2,
            "lockgate.yaml:3: pki.uuid: there is no such key (did you mean uid?)",
        ),
        ("pki: {leaf_lifetime: 12}\n", 2, "lockgate.yaml:3: pki.leaf_lifetime: 12 has no unit"),
        ("", 1, "there is no key to unseal with: no --seal-fd is given, and "),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(
    site: Site, more: str, code: int, text: str
) -> None:
    """Bad configuration is 2, anything else 1, and never a traceback."""
    site.configure(more)
    found = site.fail()
    assert found[0] == code
    assert text in found[1]
    assert found[1].count("\n") == 1


def test_its_process_is_hardened(site: Site) -> None:
    """No core file, no new privileges; as root it has given root up with every capability."""
    process = site.start()
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert status["NoNewPrivs"] == "1"
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    assert limits.split("Max core file size")[1].split()[:2] == ["0", "0"]
    # The kernel gives /proc of a process that is not dumpable to root.
    assert Path(f"/proc/{process.pid}/environ").stat().st_uid == 0
    if ME == 0:
        assert status["Uid"].split() == ["64051"] * 4
        assert status["CapEff"] == status["CapPrm"] == "0" * 16
        assert status["Groups"].strip() == ""


@pytest.mark.skipif(ME != 0, reason="an ordinary user plays every part")
def test_root_is_the_runner_and_no_gateway(site: Site) -> None:
    """Beside a gateway of its own uid, root may register but not serve visitors."""
    site.start()
    site.ask(lambda client: client.register_app("hello", 1, ["hello.localhost"]))
    with pytest.raises(PkiError, match="uid 0 may not issue visitor"):
        site.ask(lambda client: client.issue_visitor("hello.localhost", CSR))


@pytest.mark.skipif(ME != 0, reason="only root can choose the gateway's uid")
def test_the_gateways_uid_is_configuration(site: Site) -> None:
    """The uid that `gateway.uid` names may ask for visitors' leaves."""
    site.configure("gateway: {uid: 0}\n")
    site.start()
    site.ask(lambda client: client.register_app("hello", 1, ["hello.localhost"]))
    assert site.ask(lambda client: client.issue_visitor("hello.localhost", CSR))
