"""Real git servers for tests: HTTPS with a token through git's own backend, SSH through sshd.

Invariants: listen on 127.0.0.1 only, on free ports; everything they write lies in the given folder;
they end with their context.
"""

import base64
import hashlib
import http.server
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.support.ports import find_free_ports
from tests.support.repos import make_repo


@dataclass(frozen=True, slots=True)
class HttpsServer:
    """Where the repository is and which commit is its newest."""

    url: str
    commit: str


@dataclass(frozen=True, slots=True)
class SshServer:
    """Where the repository is, and keys: the right ones, and others."""

    url: str
    commit: str
    deploy_key: str
    other_key: str
    host_key: str
    other_host_key: str
    fingerprint: str
    other_fingerprint: str


def make_private_repo(folder: Path) -> tuple[Path, str]:
    """A bare repository `private.git` in `folder`, and its commit."""
    repo = make_repo(folder / "work")
    commit = repo.commit({"app.py": "print('private')\n"})
    bare = folder / "private.git"
    repo.git("clone", "--quiet", "--bare", str(repo.path), str(bare))
    return bare, commit


def build_handler(folder: Path, token: str) -> type[http.server.BaseHTTPRequestHandler]:
    """Basic authentication in front of `git http-backend` (CGI)."""

    class Backend(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.serve()

        def do_POST(self) -> None:
            self.serve()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def serve(self) -> None:
            path, _, query = self.path.partition("?")
            if path.startswith("/moved.git"):
                self.answer(301, ("Location", f"/private.git{path[10:]}?{query}"))
            elif not self.is_known():
                self.answer(401, ("WWW-Authenticate", 'Basic realm="git"'))
            else:
                self.run_backend(path, query)

        def is_known(self) -> bool:
            _, _, basic = self.headers.get("Authorization", "").partition("Basic ")
            return base64.b64decode(basic).decode().rpartition(":")[2] == token

        def answer(self, status: int, header: tuple[str, str]) -> None:
            self.send_response(status)
            self.send_header(*header)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def run_backend(self, path: str, query: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            env = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            argv = ("git", "http-backend")
            done = subprocess.run(argv, input=body, env=env, capture_output=True, check=True)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            lines = [line.partition(": ") for line in head.decode().splitlines()]
            fields = {name: value for name, _, value in lines}
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Backend


@contextmanager
def open_https(folder: Path, token: str) -> Iterator[HttpsServer]:
    """Serve a private repository from a folder that git's user can pass through.

    Git trusts the server meanwhile (`GIT_SSL_CAINFO`).
    """
    _, commit = make_private_repo(folder)
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    root = folder / "root.pem"
    authority.cert_pem.write_to_path(str(root))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), build_handler(folder, token))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    before = os.environ.get("GIT_SSL_CAINFO")
    os.environ["GIT_SSL_CAINFO"] = str(root)
    try:
        yield HttpsServer(f"https://127.0.0.1:{server.server_address[1]}/private.git", commit)
    finally:
        os.environ.pop("GIT_SSL_CAINFO")
        if before is not None:
            os.environ["GIT_SSL_CAINFO"] = before
        server.shutdown()
        thread.join()
        server.server_close()


def make_key(path: Path) -> tuple[str, str]:
    """(private, public) of a fresh key at `path`."""
    argv = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path))
    subprocess.run(argv, check=True)
    public = path.with_name(f"{path.name}.pub").read_text()
    return path.read_text(), " ".join(public.split()[:2])


def build_fingerprint(public: str) -> str:
    """`SHA256:…` as ssh shows it."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


@contextmanager
def open_ssh(folder: Path) -> Iterator[SshServer]:
    """An sshd of our own whose only user may do nothing but read the repository."""
    bare, commit = make_private_repo(folder)
    _, host_key = make_key(folder / "host")
    _, other_host_key = make_key(folder / "other_host")
    deploy_key, deploy_public = make_key(folder / "deploy")
    other_key, _ = make_key(folder / "other")
    command = f"git -c safe.directory='*' upload-pack {bare}"
    allowed = folder / "authorized"
    allowed.write_text(f'restrict,command="{command}" {deploy_public}\n')
    (port,) = find_free_ports(1)
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {allowed}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "MaxStartups 100\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    log = (folder / "sshd.log").open("wb")
    argv = ("/usr/sbin/sshd", "-D", "-e", "-f", str(config))
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_for_listener(folder / "sshd.log", process)
        yield SshServer(
            url=f"ssh://root@127.0.0.1:{port}{bare}",
            commit=commit,
            deploy_key=deploy_key,
            other_key=other_key,
            host_key=host_key,
            other_host_key=other_host_key,
            fingerprint=build_fingerprint(host_key),
            other_fingerprint=build_fingerprint(other_host_key),
        )
    finally:
        process.terminate()
        process.wait()
        log.close()


def wait_for_listener(log: Path, process: subprocess.Popen[bytes]) -> None:
    """Until sshd says that it listens."""
    for _ in range(100):
        if b"Server listening" in log.read_bytes():
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(log.read_text())
