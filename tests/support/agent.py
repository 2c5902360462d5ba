"""A real agent in front of a real app, and an authority that issues good and bad certificates.

Invariants: the agent is the program itself, started as an engine starts it; nothing is patched.
"""

import contextlib
import datetime
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runner.agent.child import find_descendants
from tests.support.ports import find_free_ports

ROOT = Path(__file__).parents[2]
PLAIN_APP = Path(__file__).parent / "apps" / "plain_app.py"
GATEWAY = "spiffe://lockgate.internal/gateway/main"
APP = "spiffe://lockgate.internal/app/hello/3"
APP_DNS = "hello.apps.lockgate.internal"
DAY = datetime.timedelta(days=1)


class Authority:
    """A root and an intermediate; leaves are PEM chains with their key."""

    def __init__(self) -> None:
        self._root_key, self.root = _make_ca("root", None, None, 1)
        self._key, self._issuer = _make_ca("issuer", self._root_key, self.root, 0)
        self.root_pem = self.root.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        *uris: str,
        dns: str = "main.gateway.lockgate.internal",
        start: datetime.timedelta = -DAY,
        end: datetime.timedelta = DAY,
        usages: Sequence[x509.ObjectIdentifier] = (
            ExtendedKeyUsageOID.CLIENT_AUTH,
            ExtendedKeyUsageOID.SERVER_AUTH,
        ),
    ) -> tuple[bytes, bytes]:
        """Chain (leaf, intermediate) and key; `start` and `end` count from now."""
        now = datetime.datetime.now(datetime.UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(dns), *(x509.UniformResourceIdentifier(uri) for uri in uris)]
        builder = _start(dns, self._issuer.subject, key, now + start, now + end)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        builder = builder.add_extension(_usage(digital_signature=True), critical=True)
        leaf = _sign(builder, self._key, self._issuer)
        pem = serialization.Encoding.PEM
        chain = leaf.public_bytes(pem) + self._issuer.public_bytes(pem)
        return chain, _dump_key(key)


def _make_ca(name, key, issuer, path_length):
    own = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _start(name, issuer.subject if issuer else subject, own, now - 9 * DAY, now + 9 * DAY)
    builder = builder.add_extension(x509.BasicConstraints(True, path_length), critical=True)
    builder = builder.add_extension(_usage(key_cert_sign=True), critical=True)
    return own, _sign(builder, key or own, issuer)


def _start(name, issuer, key, start, end):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(issuer, subject, key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(start).not_valid_after(end)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return builder.add_extension(identifier, critical=False)


def _sign(builder, key, issuer):
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256())


def _usage(**on):
    names = "digital_signature content_commitment key_encipherment data_encipherment"
    names += " key_agreement key_cert_sign crl_sign encipher_only decipher_only"
    return x509.KeyUsage(**{name: on.get(name, False) for name in names.split()})


def _dump_key(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def build_client(
    trust: bytes, leaf: tuple[bytes, bytes] | None, folder: Path, **versions: ssl.TLSVersion
) -> ssl.SSLContext:
    """A gateway's context that trusts `trust` and shows `leaf`."""
    context = ssl.create_default_context(cadata=trust.decode())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    for name, version in versions.items():
        setattr(context, name, version)
    if leaf is not None:
        path = folder / f"client-{os.urandom(4).hex()}.pem"
        path.write_bytes(leaf[0] + leaf[1])
        context.load_cert_chain(path)
    return context


class AgentUnderTest:
    """An agent's folders, its process and ways to visit it; `close()` ends everything.

    `changes` are keys of agent.json that differ from the usual.
    """

    def __init__(self, folder: Path, authority: Authority, **changes: object) -> None:
        self.folder = folder
        self.authority = authority
        self.identity = folder / "identity"
        self.secrets = folder / "secrets"
        self.work = folder / "work"
        self.log_path = folder / "logs" / "app-3.log"
        for path in (self.identity, self.secrets, self.work, self.log_path.parent):
            path.mkdir(parents=True, exist_ok=True)
        self.port, self.app_port = find_free_ports(2)
        self.settings: dict[str, Any] = {
            "listen": f"127.0.0.1:{self.port}",
            "app_port": self.app_port,
            "argv": [sys.executable, "-I", "-S", "-B", str(PLAIN_APP), str(self.app_port)],
            "cwd": str(self.work),
            "env": {"PLAIN": "in the open"},
            "agent_uid": None,
            "app_uid": None,
            "identity_dir": str(self.identity),
            "secrets_dir": str(self.secrets),
            "log_path": str(self.log_path),
            "log_max_bytes": 1_000_000,
            "log_files": 2,
            "peer_prefix": "spiffe://lockgate.internal/gateway/",
            "home": str(folder / "home"),
            "grace_s": 5,
            "sandbox_argv": [],
            **changes,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.gateway = build_client(authority.root_pem, authority.issue(GATEWAY), folder)
        self.write_identity(*authority.issue(APP, dns=APP_DNS))

    def write_identity(self, chain: bytes, key: bytes) -> None:
        """A new pair, swapped in as the runner does: a new folder, then the link renamed."""
        swap(
            self.identity,
            {
                "tls.crt": chain,
                "tls.key": key,
                "ca.crt": self.authority.root_pem,
                "agent.json": json.dumps(self.settings).encode(),
            },
        )

    def configure(self, **changes: object) -> "AgentUnderTest":
        """Other keys of agent.json, before the start."""
        self.settings.update(changes)
        self.write_identity(*self.authority.issue(APP, dns=APP_DNS))
        return self

    def write_secrets(self, secrets: dict[str, str], toml: str = "") -> None:
        """The app's secrets, as the runner hands them over."""
        files = {"env.json": json.dumps(secrets).encode(), "secrets.toml": toml.encode()}
        swap(self.secrets, files)

    def start(
        self, prefix: Sequence[str] = (), python: str = sys.executable, is_up: bool = True
    ) -> "AgentUnderTest":
        """Run the agent, by default until its app listens."""
        program = [python, "-I", "-S", "-B", str(ROOT / "runner" / "agent")]
        self.process = subprocess.Popen(
            [*prefix, *program, str(self.identity / "agent.json")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"AGENT_OWN": "1"},
        )
        if is_up:
            wait_until(lambda: " up\n" in self.log() or self.process.poll() is not None)
            if self.process.poll() is not None:
                raise AssertionError(self.output() + self.log())
            wait_until(self.is_listening)
        return self

    def is_listening(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    def touched(self) -> int:
        """How many connections have reached the app."""
        path = self.work / "touched"
        return path.read_text().count("\n") if path.exists() else 0

    def connect(self, context: ssl.SSLContext | None = None, timeout: float = 20) -> ssl.SSLSocket:
        """A TLS connection as the gateway makes it."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout)
        return (context or self.gateway).wrap_socket(
            sock, server_hostname=APP_DNS, suppress_ragged_eofs=False
        )

    def ask(self, line: str, context: ssl.SSLContext | None = None) -> bytes:
        """Say a line to the app and read all that it answers."""
        with self.connect(context) as tls:
            tls.sendall(line.encode() + b"\n")
            return read_to_end(tls)

    def tell(self) -> dict:
        return json.loads(self.ask("tell"))

    def signal(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    def wait(self, timeout: float = 15) -> int:
        """The agent's exit code."""
        return self.process.wait(timeout)

    def output(self) -> str:
        """What the agent itself printed, after its end."""
        return self.process.stdout.read().decode()

    def close(self) -> None:
        """End the agent and all below it.

        A change of uid clears PR_SET_PDEATHSIG, so `unshare --kill-child` alone would leave them.
        """
        if self.process is not None:
            if self.process.poll() is None:
                for pid in (*find_descendants(self.process.pid), self.process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            self.process.wait()
            self.process.stdout.close()


def swap(folder: Path, files: dict[str, bytes]) -> None:
    """Write `files` as a whole: a fresh folder, then `..data` renamed onto it."""
    fresh = folder / f"..{os.urandom(6).hex()}"
    fresh.mkdir()
    for name, content in files.items():
        (fresh / name).write_bytes(content)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    old = (folder / "..data").resolve() if (folder / "..data").is_symlink() else None
    (folder / "..new").symlink_to(fresh.name)
    (folder / "..new").rename(folder / "..data")
    if old is not None:
        shutil.rmtree(old)


def wait_until(is_true: Callable[[], object], timeout: float = 15) -> None:
    """Poll; fails the test when it never becomes true."""
    deadline = time.monotonic() + timeout
    while not is_true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def read_to_end(tls: ssl.SSLSocket) -> bytes:
    """All bytes up to close_notify; raises `ssl.SSLEOFError` when the other side was cut off."""
    pieces = []
    while piece := tls.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def read_status(pid: int) -> dict[str, str]:
    """/proc/<pid>/status as text by name."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}


def find_children(pid: int) -> list[int]:
    """Pids whose parent is `pid`."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
