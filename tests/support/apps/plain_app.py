"""An app for the agent's tests: the first line of a connection says what it does with the rest.

Invariants: standard library only; every connection leaves a line in the file `touched` beside the
port file, before a byte is read, so that an empty file proves that nobody came in.
"""

import hashlib
import json
import os
import random
import socket
import sys
import threading
import time

PIECE = 65536


def read_line(sock):
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            break
        line += byte
    return line.decode().split()


def read_all(sock):
    digest, count = hashlib.sha256(), 0
    while piece := sock.recv(PIECE):
        digest.update(piece)
        count += len(piece)
    return f"{count} {digest.hexdigest()}\n".encode()


def echo(sock):
    while piece := sock.recv(PIECE):
        sock.sendall(piece)


def ping(sock, size):
    """Answers every 1 KiB with `size` bytes: the shape of keep-alive requests."""
    answer = b"a" * int(size)
    got = 0
    while piece := sock.recv(PIECE):
        got += len(piece)
        while got >= 1024:
            got -= 1024
            sock.sendall(answer)


def digest(sock):
    sock.sendall(read_all(sock))


def send(sock, count):
    """Sends, ends its side, then tells on a second connection's file what it heard after that."""
    content = random.Random(7).randbytes(int(count))
    sock.sendall(content)
    sock.shutdown(socket.SHUT_WR)
    heard = read_all(sock)
    with open("heard", "wb") as file:
        file.write(heard)


def early(sock):
    """Answers an upload before its end and closes with bytes unread, so the kernel sends RST."""
    sock.recv(10)
    sock.sendall(b"413 too large\n")
    time.sleep(0.2)


def mute(sock):
    time.sleep(60)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def watch_end(sock):
    """Notes how the other side ended."""
    try:
        while sock.recv(PIECE):
            pass
        end = "end"
    except ConnectionResetError:
        end = "reset"
    with open("ended", "w") as file:
        file.write(end)


def tell(sock):
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    told = {
        "env": dict(os.environ),
        "status": status,
        "cwd": os.getcwd(),
        "umask": os.umask(0o077),
        "fds": sorted(os.listdir("/proc/self/fd")),
        "ids": [os.getpid(), os.getpgrp(), os.getsid(0)],
    }
    sock.sendall(json.dumps(told).encode())


def attempt(sock, *paths):
    """Tries to open files; sends what came of it."""
    told = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                file.read(1)
            told.append("read")
        except OSError as error:
            told.append(type(error).__name__)
    sock.sendall(json.dumps(told).encode())


def serve(sock):
    with sock:
        words = read_line(sock)
        if words:
            COMMANDS[words[0]](sock, *words[1:])


COMMANDS = {
    function.__name__: function
    for function in (echo, ping, digest, send, early, mute, reset, watch_end, tell, attempt)
}


def main():
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=512)
    with open("touched", "a") as file:
        print("up", flush=True)
        while True:
            sock, _ = listener.accept()
            file.write("connection\n")
            file.flush()
            threading.Thread(target=serve, args=(sock,), daemon=True).start()


if __name__ == "__main__":
    main()
