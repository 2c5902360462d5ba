"""A hosted app of the tests: standard library only, tells what it sees from inside its container.

Started as `python app.py PORT`. Everything it says is JSON, except `/` and the WebSocket `/ws`.
"""

import base64
import contextlib
import errno
import hashlib
import json
import os
import resource
import socket
import struct
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

Answer = dict[str, object]
WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


def describe_process(query: dict[str, str]) -> Answer:
    """The kernel's view of a process (`pid`, default this one): uids, capabilities, seccomp."""
    pid = query.get("pid", "self")
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.split() for key, _, value in (line.partition(":\t") for line in lines)}


def describe_limits(query: dict[str, str]) -> Answer:
    """Resource limits that matter: core dumps and the like, as (soft, hard)."""
    return {"core": resource.getrlimit(resource.RLIMIT_CORE)}


def read_env(query: dict[str, str]) -> Answer:
    """One variable, or the names of all."""
    name = query.get("name")
    return {"value": os.environ.get(name)} if name else {"names": sorted(os.environ)}


def read_file(query: dict[str, str]) -> Answer:
    """The beginning of a file as text."""
    with open(query["path"], "rb") as file:
        return {"text": file.read(1 << 20).decode("utf-8", "replace")}


def list_folder(query: dict[str, str]) -> Answer:
    """Names in a directory."""
    return {"names": sorted(os.listdir(query["path"]))}


def stat_path(query: dict[str, str]) -> Answer:
    """Owner, mode and filesystem type number of a path."""
    found = os.stat(query["path"])
    space = os.statvfs(query["path"])
    size = space.f_blocks * space.f_frsize
    return {"uid": found.st_uid, "mode": found.st_mode & 0o7777, "size_bytes": size}


def try_connect(query: dict[str, str]) -> Answer:
    """Whether a TCP connection to `host`:`port` opens."""
    with socket.create_connection((query["host"], int(query["port"])), timeout=2):
        return {"connected": True}


def try_fork(query: dict[str, str]) -> Answer:
    """Start up to `count` children that sleep; say how many the limits allowed."""
    pids: list[int] = []
    with contextlib.suppress(OSError):
        for _ in range(int(query["count"])):
            pid = os.fork()
            if pid == 0:
                time.sleep(30)
                os._exit(0)
            pids.append(pid)
    for pid in pids:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return {"started": len(pids)}


def try_signal(query: dict[str, str]) -> Answer:
    """Send a signal to a process."""
    os.kill(int(query["pid"]), int(query["signal"]))
    return {"sent": True}


def try_setuid(query: dict[str, str]) -> Answer:
    """Become another uid, in a child."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(int(query["uid"]))
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"error": errno.errorcode.get(code)} if code else {"became": int(query["uid"])}


def stop(query: dict[str, str]) -> Answer:
    """End the process at once."""
    os._exit(int(query.get("code", "1")))


QUESTIONS: dict[str, Callable[[dict[str, str]], Answer]] = {
    "/process": describe_process,
    "/limits": describe_limits,
    "/env": read_env,
    "/file": read_file,
    "/folder": list_folder,
    "/stat": stat_path,
    "/connect": try_connect,
    "/fork": try_fork,
    "/signal": try_signal,
    "/setuid": try_setuid,
    "/exit": stop,
}


def hash_body(query: dict[str, str], body: bytes) -> Answer:
    """Size and SHA-256 of an upload."""
    return {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def write_body(query: dict[str, str], body: bytes) -> Answer:
    """Put the body into a file and onto the disk."""
    with open(query["path"], "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    return {"written": len(body)}


def print_body(query: dict[str, str], body: bytes) -> Answer:
    """One line of the app's own log."""
    print(body.decode(), flush=True)
    return {"printed": len(body)}


UPLOADS: dict[str, Callable[[dict[str, str], bytes], Answer]] = {
    "/hash": hash_body,
    "/write": write_body,
    "/print": print_body,
}


class Visit(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, query = self.split_target()
        if path == "/ws":
            return self.serve_websocket()
        if path in QUESTIONS:
            return self.answer(lambda: QUESTIONS[path](query))
        page = Path(__file__).with_name("page.txt")
        return self.send(200, "text/plain; charset=utf-8", page.read_bytes())

    def do_POST(self) -> None:
        path, query = self.split_target()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(lambda: UPLOADS[path](query, body))

    def split_target(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        return parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()}

    def answer(self, ask: Callable[[], Answer]) -> None:
        """JSON of the answer; a refusal of the kernel is an answer too."""
        try:
            found = ask()
        except OSError as error:
            found = {"error": errno.errorcode.get(error.errno or 0, type(error).__name__)}
        self.send(200, "application/json", json.dumps(found).encode())

    def send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve_websocket(self) -> None:
        """Echo every message until the visitor closes (RFC 6455; short messages)."""
        key = self.headers["Sec-WebSocket-Key"] + WEBSOCKET_GUID
        accept = base64.b64encode(hashlib.sha1(key.encode(), usedforsecurity=False).digest())
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept.decode())
        self.end_headers()
        self.close_connection = True
        while (frame := self.read_frame()) is not None:
            opcode, payload = frame
            self.wfile.write(build_frame(opcode, payload))
            if opcode == 8:
                return

    def read_frame(self) -> tuple[int, bytes] | None:
        head = self.rfile.read(2)
        if len(head) < 2:
            return None
        length = head[1] & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self.rfile.read(2))
        mask = self.rfile.read(4)
        masked = self.rfile.read(length)
        return head[0] & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked))

    def log_message(self, format: str, *args: object) -> None:
        """Silence: what this app prints is decided by the tests."""


def build_frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked frame of at most 65535 bytes."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size)
    return bytes([0x80 | opcode]) + length + payload


def main() -> None:
    """Serve on loopback."""
    print("probe app starts", flush=True)
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Visit).serve_forever()


main()
